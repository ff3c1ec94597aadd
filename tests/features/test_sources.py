import bz2
import csv
import datetime
import gzip
import io
import lzma
import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pyarrow import feather

from attune.clock import SECOND, Clock
from attune.errors import DataContractError
from features.importer import admit_source, expected_report
from features.sources import delimited, frames, movielens, tabular
from features.sources.delimited import Layout
from features.sources.times import moments
from features.sources.values import scale_options

MAP = "user_id=u,item_id=i,event_timestamp=t"
JULY = 1_500_000_000
"""2017-07-14 02:40:00 UTC"""


def column(values: list, dtype: object = object) -> pd.Series:
    return pd.Series(values, dtype=dtype)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (column([31, None, 7.0], float), ["31", None, "7"]),
        (column([31, 7], "int64"), ["31", "7"]),
        (column([31, None], "Int64"), ["31", None]),
        (column(["31.0", None, "7.0"]), ["31", None, "7"]),
        (column(["31.0", "7.5"]), ["31", "7.5"]),
        (column(["007", "7"]), ["007", "7"]),
        (column([31.5, 2.0], float), ["31.5", "2"]),
        (column([b"ab", "c"]), ["ab", "c"]),
        (column(["31.0", "abc", "7.0"]), ["31", "abc", "7"]),
        (column(["31.0", "7", "1.10"]), ["31", "7", "1.10"]),
        (column(["Cafe\u0301", "Caf\u00e9"]), ["Caf\u00e9", "Caf\u00e9"]),
        (column([31.0, "abc", None]), ["31", "abc", None]),
        (column([" a", "b ", "  "]), ["a", "b", None]),
        (column(["a", pd.NA], "string"), ["a", None]),
        (column([["a"], np.array([1, 2]), {"a": 1}]), [["a"], [1, 2], {"a": 1}]),
    ],
)
def test_ids_become_text(given: pd.Series, expected: list) -> None:
    assert frames.ids(given).tolist() == expected


@pytest.mark.parametrize(
    "given",
    [
        column([JULY, JULY + 1], "int64"),
        column([str(JULY), str(JULY + 1)]),
        column([JULY * 1_000, (JULY + 1) * 1_000], "int64"),
        column([JULY * 1_000_000, (JULY + 1) * 1_000_000], "int64"),
        column([JULY * 10**9, (JULY + 1) * 10**9], "int64"),
        column([float(JULY), JULY + 1.0], float),
        column(["2017-07-14T02:40:00Z", "2017-07-14T04:40:01+02:00"]),
        column(["2017-07-14 02:40:00", "2017-07-14 02:40:01"]),
        column(["2017-07-14 02:40:00 UTC", "2017-07-14 02:40:01 UTC"]),
        column(["2017/07/14 02:40:00", "2017/07/14 02:40:01"]),
        column(pd.to_datetime([JULY, JULY + 1], unit="s"), "datetime64[ns]"),
        column(pd.to_datetime([JULY, JULY + 1], unit="s", utc=True), "datetime64[us, UTC]"),
        column(pd.to_datetime([JULY, JULY + 1], unit="s", utc=True).tz_convert("Asia/Tokyo"), None),
        column([pd.Timestamp(JULY, unit="s"), pd.Timestamp(JULY + 1, unit="s")]),
    ],
)
def test_times_of_any_form_become_microseconds(given: pd.Series) -> None:
    assert moments(given).tolist() == [JULY * SECOND, (JULY + 1) * SECOND]


def test_times_keep_microseconds_and_what_is_no_time() -> None:
    assert moments(column(["2017-07-14T02:40:00.123456", None, "soon"])).tolist() == [
        JULY * SECOND + 123_456, None, "soon"]  # fmt: skip
    assert moments(column([JULY + 0.5, None, np.inf], float)).tolist() == [JULY * SECOND + 500_000, None, np.inf]
    assert moments(column(["12", "soon", None]), unit="ms").tolist() == [12_000, "soon", None]
    assert moments(column([pd.Timestamp(JULY, unit="s"), pd.NaT], "datetime64[ns]")).tolist() == [
        JULY * SECOND, None]  # fmt: skip


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(DataContractError, match="unit: 'min' is not one of s, ms, us"):
        moments(column([1]), "min")


def test_lists_are_split_where_that_is_meant() -> None:
    assert frames.split_lists(column(["A|B", "Science Fiction", None])).tolist() == [
        ["A", "B"],
        ["Science Fiction"],
        [],
    ]
    assert frames.split_lists(column(["Film Noir", "Science Fiction"])).tolist() == [["Film Noir"], ["Science Fiction"]]
    words = column(["A B", "A C", "B C", "A", "B", "C", "A B C"])
    assert frames.split_lists(words).tolist()[0] == ["A", "B"]
    assert frames.split_lists(column([np.array(["A", "B"]), ["C"]])).tolist() == [["A", "B"], ["C"]]


def table(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_of_any_usual_form(tmp_path: Path, separator: str, name: str) -> None:
    text = "\ufeffu,i,t,k\n007,NA,5,addtocart\n8,null,6,purchase\n".replace(",", separator)
    source = tabular.read(table(tmp_path / name, text), mapping=MAP + ",kind=k", kinds="addtocart=cart", unit="s")
    rows = source.interactions
    assert rows["user_id"].tolist() == ["007", "8"]
    assert rows["item_id"].tolist() == ["NA", "null"]
    assert rows["kind"].tolist() == ["cart", "purchase"]
    assert rows["value"].tolist() == [None, None]
    assert rows["event_timestamp"].tolist() == [5 * SECOND, 6 * SECOND]


def test_parquet_with_nulls(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"u": [31.0, None], "i": [1, 2], "t": pd.to_datetime([JULY, JULY + 1], unit="s"), "r": [1, 10]}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    rows = tabular.read(tmp_path / "a.parquet", mapping=MAP + ",value=r", kind="rating", scale="1,10").interactions
    assert rows["user_id"].tolist() == ["31", None]
    assert rows["item_id"].tolist() == ["1", "2"]
    assert rows["value"].tolist() == [1.0, 5.0]


def test_items_keep_every_column(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", "u,i,t\n1,1,1\n")
    table(tmp_path / "i.csv", "movie,name,released,tags,price\n1,One,1999.0,A|B,3.5\n2,,,,\n")
    source = tabular.read(
        tmp_path / "a.csv", tmp_path / "i.csv", mapping=MAP, kind="view", unit="s",
        items_map="item_id=movie,title=name,year=released,genres=tags",
    )  # fmt: skip
    assert source.items["item_id"].tolist() == ["1", "2"]
    assert source.items["attributes"].tolist() == [
        {"title": "One", "year": 1999, "genres": ["A", "B"], "price": 3.5}, {"genres": []}]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, {}, "no such file"),
        (b"", {}, "is empty"),
        (b"u,i,t\n", {}, "no rows"),
        (b"\x00\x01\x02\x00binary", {}, "binary content"),
        (b"PAR1 but not really", {}, "not a readable Parquet file"),
        (b"\x1f\x8bnot gzip", {}, "not a readable gzip file"),
        (b"uid,i,t\n1,1,1\n", {}, r"no column 'u' \(did you mean 'uid'\?\); there are uid, i, t"),
        (b"u,i,t\n1,1,1\n", {"mapping": "usr_id=u"}, r"'usr_id' is no column of attune \(did you mean 'user_id'"),
        (b"u,i,t\n1,1,1\n", {"mapping": "user_id=u,item_id=i"}, "event_timestamp: .* --map event_timestamp="),
        (b"u,i,t\n1,1,1\n", {"mapping": "user_id=u,event_timestamp=t"}, "item_id: .* --map item_id=..."),
        (b"u,i,t\n1,1,1\n", {"mapping": "user_id"}, "not of the form NAME=COLUMN"),
        (b"u,i,t\n1,1,1\n", {"kind": None}, "says nowhere what its rows are"),
        (b"u,i,t\n1,1,1\n", {"kind": "lik"}, r"'lik' is unknown \(did you mean 'like'"),
        (b"u,i,t\n1,1,1\n", {"kinds": "a=lik"}, "'lik' is unknown"),
        (b"u,i,t\n1,1,1\n", {"order": "rows"}, "order: 'rows' is unknown"),
        (b"u,u,t\n1,1,1\n", {}, "stands twice"),
        (b"u,i,t,v\n1,1,1,1\n", {"mapping": MAP + ",value=v", "scale": "5,1", "kind": "rating"}, "not below"),
        (b"u,i,t,v\n1,1,1,1\n", {"mapping": MAP + ",value=v", "scale": "five", "kind": "rating"}, "LOW,HIGH"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes | None, arguments: dict, message: str) -> None:
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataContractError, match=message):
        tabular.read(path, **{"mapping": MAP, "kind": "view", "unit": "s"} | arguments)


def test_movielens_is_sorted_and_has_its_movies() -> None:
    source = movielens.read()
    assert len(source.interactions) == 100_004
    assert source.interactions["event_timestamp"].is_monotonic_increasing
    assert source.interactions["user_id"].nunique() == 671
    assert len(source.items) == 9_066
    assert source.items["attributes"][0] == {
        "title": "Toy Story", "year": 1995, "genres": ["Adventure", "Animation", "Children", "Comedy", "Fantasy"],
    }  # fmt: skip


def test_lines_that_end_in_a_separator_are_no_news(tmp_path: Path) -> None:
    source = tabular.read(table(tmp_path / "a.csv", "u,i,t\n1,2,3,\n4,5,6,\n"), mapping=MAP, kind="view", unit="s")
    assert source.interactions["item_id"].tolist() == ["2", "5"]
    assert source.rejected["interaction"] == ()


def test_a_surplus_cell_in_every_line_shifts_nothing(tmp_path: Path) -> None:
    source = tabular.read(table(tmp_path / "a.csv", "u,i,t\n1,2,3,x\n4,5,6,x\n"), mapping=MAP, kind="view", unit="s")
    assert len(source.interactions) == 0
    assert [row.row["line"] for row in source.rejected["interaction"]] == ["1,2,3,x", "4,5,6,x"]


def test_quoted_cells_may_hold_separators_and_lines(tmp_path: Path) -> None:
    text = 'u,i,t\n"a, b","c\nd",3\n"say ""hi""",e,4\n'
    rows = tabular.read(table(tmp_path / "a.csv", text), mapping=MAP, kind="view", unit="s").interactions
    assert rows["user_id"].tolist() == ["a, b", 'say "hi"']
    assert rows["item_id"].tolist() == ["c\nd", "e"]


def test_an_open_quote_costs_its_own_line_alone(tmp_path: Path) -> None:
    text = 'u,i,t\n1,2,3\n4,"5,6\n7,8,9\n'
    source = tabular.read(table(tmp_path / "a.csv", text), mapping=MAP, kind="view", unit="s")
    assert source.interactions["user_id"].tolist() == ["1", "7"]
    assert [row.row["line"] for row in source.rejected["interaction"]] == ['4,"5,6']


def test_latin_letters_of_an_older_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("u,i,t\nzoë,1,2\n".encode("latin-1"))
    assert tabular.read(tmp_path / "a.csv", mapping=MAP, kind="view", unit="s").interactions["user_id"].tolist() == [
        "zoë"
    ]


DAY_OF_JULY = 1_499_990_400
"""2017-07-14 00:00:00 UTC"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (column([None, JULY], "Int64"), [None, JULY * SECOND]),
        (column([None, "2017-07-14T02:40:00"], "string"), [None, JULY * SECOND]),
        (column([None, None], "Int64"), [None, None]),
        (column([*["2017-07-14 02:40:00"] * 5, "0"]), [*[JULY * SECOND] * 5, "0"]),
        (column([*["2017-07-14 02:40:00"] * 5, "-1", None]), [*[JULY * SECOND] * 5, "-1", None]),
        (column([pd.Timestamp(JULY, unit="s"), pd.Timestamp(JULY, unit="s"), 0]), [JULY * SECOND, JULY * SECOND, "0"]),
        (column([JULY, JULY, "2017-07-14"]), [JULY * SECOND, JULY * SECOND, "2017-07-14"]),
        (column([datetime.date(2017, 7, 14), None]), [DAY_OF_JULY * SECOND, None]),
        (column(["20170714", "20170714", None]), [DAY_OF_JULY * SECOND, DAY_OF_JULY * SECOND, None]),
        (column([20170714, 20170714], "int64"), [DAY_OF_JULY * SECOND] * 2),
        (column([20170714.0, np.nan], float), [DAY_OF_JULY * SECOND, None]),
        (column([Decimal(JULY), JULY]), [JULY * SECOND] * 2),
        (column([[1], {"a": 1}, True, b"x"]), [[1], {"a": 1}, "True", b"x"]),
        (column([10**400, JULY, JULY, "1e305"]), [str(10**400), *[JULY * SECOND] * 2, "1e305"]),
    ],
)
def test_a_column_of_times_has_one_form(given: pd.Series, expected: list) -> None:
    assert moments(given).tolist() == expected


def test_a_unit_makes_dates_of_eight_digits_numbers() -> None:
    assert moments(column(["20170714"]), "s").tolist() == [20170714 * SECOND]


def test_values_of_any_type_survive() -> None:
    given = column([1, "2", Decimal("2.5"), [1], None, True, 10**400, np.float32(4)])
    assert frames.numbers(given).tolist() == [1.0, 2.0, 2.5, [1], None, True, 10**400, 4.0]
    assert frames.numbers(column([1, None], "Int64")).tolist() == [1.0, None]


def read(path: Path, content: str | bytes, **options: object) -> frames.SourceFrames:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tabular.read(path, **{"mapping": MAP, "kind": "view", "unit": "s"} | options)


def test_a_ragged_record_goes_whole_and_tears_no_other(tmp_path: Path) -> None:
    text = 'u,i,t\n1,"good\nvery,good",3\n1,"x\ny",3,4,5\n1,2\n6,7,8\n'
    source = read(tmp_path / "a.csv", text)
    assert source.interactions["item_id"].tolist() == ["good\nvery,good", "7"]
    assert [(row.row["line"], row.reason[:12]) for row in source.rejected["interaction"]] == [
        ('1,"x\ny",3,4,5', "row: 5 cells"), ("1,2", "row: 2 cells")]  # fmt: skip
    assert len({row.rule for row in source.rejected["interaction"]}) == 1


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_lines_of_any_system(tmp_path: Path, end: str) -> None:
    assert read(tmp_path / "a.csv", f"u,i,t{end}1,2,3{end}{end}4,5,6").interactions["item_id"].tolist() == ["2", "5"]


def test_text_after_a_closed_quote_is_part_of_the_cell(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", 'u,i,t\n"a"b,2,3\n').interactions["user_id"].tolist() == ["ab"]


@pytest.mark.parametrize("bad", [b"\0", b"\xff"])
def test_a_bad_byte_far_down_costs_its_line_alone(tmp_path: Path, bad: bytes) -> None:
    lines = ["zo\u00eb,1,2".encode()] * 2_000 + [b"u" + bad + b"x,1,2"] + [b"y,1,2"] * 2_000
    source = read(tmp_path / "a.csv", b"u,i,t\n" + b"\n".join(lines))
    assert source.interactions["user_id"].value_counts().to_dict() == {"zo\u00eb": 2_000, "y": 2_000}
    (row,) = source.rejected["interaction"]
    assert ("NUL" if bad == b"\0" else "not UTF-8") in row.reason
    row.row["line"].encode()


def test_windows_letters_are_read_as_such(tmp_path: Path) -> None:
    rows = b"u,i,t\n" + b"\x84zo\xeb\x93,1,2\n" * 9 + b"y,1,2\n" * 9
    assert read(tmp_path / "a.csv", rows).interactions["user_id"][0] == "\u201ezo\u00eb\u201c"


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match=r"header line cannot be read .*UTF-8"):
        read(tmp_path / "a.csv", b"u,i,t,\xff\n" + b"1,2,3,4\n" * 200)


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    source = read(tmp_path / "a.csv", ",u,i,,t,,\n0,1,2,,3,,\n1,4,5,,6\n")
    assert source.interactions["event_timestamp"].tolist() == [3 * SECOND, 6 * SECOND]


def test_kinds_of_a_parquet_file_are_compared_as_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"u": [1, 2], "i": [1, 2], "t": [JULY, JULY], "whole": [1, 2], "float": [1.0, None]})
    frame["many"] = [["1"], ["2"]]
    frame.to_parquet(tmp_path / "a.parquet")

    def kinds(column: str) -> list:
        options = {"mapping": f"{MAP},kind={column}", "kinds": "1=view,2=cart"}
        return tabular.read(tmp_path / "a.parquet", **options).interactions["kind"].tolist()

    assert (kinds("whole"), kinds("float"), kinds("many")) == (["view", "cart"], ["view", None], [["1"], ["2"]])


def test_a_named_index_of_a_parquet_file_is_a_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"u": [7, 8], "i": [1, 2], "t": pd.array([None, JULY], dtype="Int64")})
    frame.set_index("u").to_parquet(tmp_path / "a.parquet")
    rows = tabular.read(tmp_path / "a.parquet", mapping=MAP, kind="view", unit="s").interactions
    assert rows["user_id"].tolist() == ["7", "8"]
    assert rows["event_timestamp"].tolist() == [None, JULY * SECOND]
    frame.rename_axis("u").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataContractError, match="stands twice"):
        tabular.read(tmp_path / "a.parquet", mapping=MAP, kind="view", unit="s")
    frame.iloc[::-1].to_parquet(tmp_path / "a.parquet")
    assert tabular.read(tmp_path / "a.parquet", mapping=MAP, kind="view", unit="s").interactions[
        "user_id"
    ].tolist() == ["8", "7"]


def test_attributes_may_be_renamed(tmp_path: Path) -> None:
    table(tmp_path / "i.csv", "sku,item_id,cost,name,label\nA,1,5,One,x\n")
    table(tmp_path / "u.csv", "id,years\nU,31\n")
    maps = {"items_map": "item_id=sku,price=cost,title=name,headline=name", "users_map": "user_id=id,age=years"}
    source = read(tmp_path / "a.csv", "u,i,t\n1,1,1\n", items=tmp_path / "i.csv", users=tmp_path / "u.csv", **maps)
    assert source.items["item_id"].tolist() == ["A"]
    assert source.items["attributes"][0] == {"price": 5, "title": "One", "headline": "One", "label": "x"}
    assert (source.users["user_id"][0], source.users["attributes"][0]) == ("U", {"age": 31})
    with pytest.raises(DataContractError, match="'the age' is no name"):
        read(tmp_path / "a.csv", "u,i,t\n1,1,1\n", users=tmp_path / "u.csv", users_map="user_id=id,the age=years")


def rows_of(source: frames.SourceFrames, *names: str) -> list[tuple]:
    return list(source.interactions[list(names)].itertuples(index=False, name=None))


USUAL = {"mapping": None, "kind": None, "unit": None}


@pytest.mark.parametrize(
    "text",
    [
        "1,1193,5,978300760\n1,661,3,978302109\n",
        "1::1193::5::978300760\n1::661::3::978302109\n",
        "A3SGXH7AUHU8GW\tB001E4KFG0\t5.0\t1303862400\nA1D87F6ZCVE5NK\tB00813GRG4\t1.0\t1346976000\n",
        "u1,i1,view,2014-04-07T10:51:09.277Z\nu1,i2,click,2014-04-07T10:54:09.868Z\n",
        "a9e25f54-8a3c-4d5e-9d1f-aa0000000001;b1\na9e25f54-8a3c-4d5e-9d1f-bb0000000002;c2\n",
    ],
)
def test_a_first_line_of_data_is_no_header(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataContractError, match=r"looks like data.*: --columns user_id,item_id,"):
        read(tmp_path / "a.csv", text, **USUAL)
    first = next(mark for mark in ("::", "\t", ";", ",") if mark in text)
    mapping = f"user_id={text.split(first)[0]}"
    for line, names in {
        "196\t242\t3\t881250949": "user_id,item_id,rating,event_timestamp",
        "0\t2010-10-19T23:55:27Z\t30.2\t-97.7\t22847": "user_id,event_timestamp,,,item_id",
        "1,22,5,Addtocart,1511544070": "user_id,item_id,,kind,event_timestamp",
    }.items():
        with pytest.raises(DataContractError, match=f": --columns {names}, say .or item_id first"):
            read(tmp_path / "a.txt", f"{line}\n{line}\n", kind="click")
    with pytest.raises(DataContractError, match=r"--columns names 2.*without the rest: user_id,item_id,,"):
        read(tmp_path / "a.txt", "1,2,3,4\n", columns="user_id,item_id")
    with pytest.raises(DataContractError, match=r"--map kind=event, or .*--kind click"):
        read(tmp_path / "a.txt", "u,i,event,t\n1,2,buy,3\n", mapping=MAP, kind=None)
    with pytest.raises(DataContractError, match=r"--map event_timestamp=date_added or read_at\."):
        read(tmp_path / "a.txt", "u,i,date_added,read_at\n1,2,3,4\n", mapping="user_id=u,item_id=i", kind="view")
    with pytest.raises(DataContractError, match="--kind watch --full-watch"):
        read(tmp_path / "a.txt", "u,i,t\n1,2,3\n", mapping=MAP, kind="listen")
    with pytest.raises(DataContractError, match="looks like data"):
        read(tmp_path / "a.csv", text, **USUAL | {"mapping": mapping})


def test_columns_name_a_file_without_a_header(tmp_path: Path) -> None:
    text = "1::1193::5::978300760\n1::661::3::978302109\n"
    source = read(tmp_path / "a.dat", text, **USUAL | {"columns": "user_id,item_id,rating,event_timestamp"})
    assert rows_of(source, "user_id", "item_id", "kind", "value") == [
        ("1", "1193", "rating", 5.0), ("1", "661", "rating", 3.0)]  # fmt: skip
    (tmp_path / "i.dat").write_bytes("1::Am\xe9lie (2001)::Comedy|Romance\n2::Heat (1995)::Crime\n".encode("latin-1"))
    options = {"columns": "user_id,item_id,,event_timestamp", "items": tmp_path / "i.dat", "kind": "view"}
    source = read(tmp_path / "a.dat", text, **USUAL | options | {"items_columns": "item_id,title,genres"})
    assert source.items["attributes"][0] == {"title": "Am\xe9lie (2001)", "genres": ["Comedy", "Romance"]}
    assert "items: read as Windows-1252, since it is not UTF-8; --encoding names another" in source.understanding.notes
    with pytest.raises(DataContractError, match="its first line names the columns"):
        read(tmp_path / "a.dat", "user_id,movieId\n1,2\n", **USUAL | {"columns": "user_id,item_id"})
    with pytest.raises(DataContractError, match="4 cells, --columns names 3"):
        read(tmp_path / "a.dat", text, **USUAL | {"columns": "user_id,item_id,value"})


@pytest.mark.parametrize("header", ["userId,movieId,rating,timestamp", "0,1,2,3", "user1,item,stars,2019"])
def test_names_with_digits_may_be_a_header(tmp_path: Path, header: str) -> None:
    user, item, stars, time = header.split(",")
    mapping = f"user_id={user},item_id={item},value={stars},event_timestamp={time}"
    if "2019" in header:
        mapping = mapping.replace(",event_timestamp=2019", "")
    options = {"mapping": mapping, "kind": "rating", "order": "row" if "2019" in header else None}
    assert len(read(tmp_path / "a.csv", f"{header}\n7,8,5,978300760\n7,9,4,978300761\n", **options).interactions) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"user": 7, "asin": "B01", "overall": 5.0, "unixReviewTime": 1400000000}\n'
        '{"overall": 4, "user": 9007199254740993, "asin": "B02", "unixReviewTime": 1400000001, "vote": null}\n',
        "{'user': 7, 'asin': 'B01', 'overall': 5.0, 'unixReviewTime': 1400000000, 'verified': True}\n"
        "{'user': 9007199254740993, 'asin': u'B02', 'overall': 4, 'unixReviewTime': 1400000001}\n",
        '[{"user": "7", "asin": "B01", "overall": "5.0", "unixReviewTime": 1400000000},'
        '{"user": 9007199254740993, "asin": "B02", "overall": 4, "unixReviewTime": 1400000001}]',
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_lines_of_json_are_rows(tmp_path: Path, text: str, suffix: str) -> None:
    path = table(tmp_path / f"a.json{suffix}", text)
    source = tabular.read(path)
    assert rows_of(source, "user_id", "item_id", "kind", "value", "event_timestamp") == [
        ("7", "B01", "rating", 5.0, 1_400_000_000 * SECOND),
        ("9007199254740993", "B02", "rating", 4.0, 1_400_000_001 * SECOND),
    ]
    assert "read as JSON lines" in " ".join(source.understanding.notes)


def test_a_broken_line_of_json_costs_itself(tmp_path: Path) -> None:
    source = read(tmp_path / "a.jsonl", '{"u": 1, "i": 2, "t": 3}\n{"u": 1, "i": \n\n{"u": 1, "i": NaN, "t": 3}\n')
    assert rows_of(source, "user_id", "item_id") == [("1", "2"), ("1", None)]
    assert [row.row for row in source.rejected["interaction"]] == [{"line": '{"u": 1, "i": '}]


def test_mappings_in_a_cell_become_columns(tmp_path: Path) -> None:
    (tmp_path / "i.json").write_text(
        '{"id": "a", "size": {"cm": 3, "of": {"x": true}}, "tags": [{"name": "p"}, {"name": "q"}], "v": [0.5, 1.0]}\n'
        '{"id": "b"}\n'
    )
    source = read(tmp_path / "a.csv", "u,i,t\n1,a,1\n", items=tmp_path / "i.json")
    expected = {"size.cm": 3, "size.of.x": True, "tags.name": ["p", "q"], "v": [0.5, 1]}
    assert source.items["attributes"].tolist() == [expected, {}]


RATED = "u,i,t,v\n1,a,1,0\n1,b,1,10\n1,c,1,11\n1,d,1,1\n1,e,1,-1\n"


def rated(path: Path, text: str = RATED, kind: str | None = "rating", **means: object) -> frames.SourceFrames:
    return read(path, text, mapping=MAP + ",value=v", kind=kind, **means)


def test_a_scale_is_a_contract(tmp_path: Path) -> None:
    source = rated(tmp_path / "a.csv", scale="1,10")
    assert rows_of(source, "item_id", "value") == [("b", 5.0), ("d", 1.0)]
    turned_away = source.rejected["interaction"]
    assert [(row.row["item_id"], row.row["value"]) for row in turned_away] == [("a", 0.0), ("c", 11.0), ("e", -1.0)]
    assert turned_away[0].reason == (
        "value: 0 is outside the scale 1 to 10; if it says that no rating was given: --zero implicit"
    )
    assert len({row.rule for row in turned_away}) == 1


def test_a_zero_may_say_that_no_rating_was_given(tmp_path: Path) -> None:
    source = rated(tmp_path / "a.csv", scale="1,10", zero="implicit")
    assert rows_of(source, "item_id", "kind", "value") == [
        ("a", "view", None), ("b", "rating", 5.0), ("d", "rating", 1.0), ("e", "view", None)]  # fmt: skip
    assert any("2 ratings of 0 or -1 are taken for no rating" in note for note in source.understanding.notes)


def test_a_scale_is_for_ratings_alone(tmp_path: Path) -> None:
    text = "u,i,t,v,kind\n1,a,1,10,rating\n1,b,1,0.5,watch\n1,c,1,30,dwell\n1,d,1,0.2,survey\n1,e,1,,click\n"
    assert rated(tmp_path / "a.csv", text, None, scale="0,10").interactions["value"].tolist() == [
        5.0,
        0.5,
        30,
        0.2,
        None,
    ]
    with pytest.raises(DataContractError, match="no row is a rating"):
        rated(tmp_path / "a.csv", "u,i,t,v\n1,b,1,0.5\n", "watch", scale="1,10")


def test_ratings_that_are_no_stars_are_refused_or_remarked(tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match=r"lie from 0 to 1.*--scale 0,1"):
        rated(tmp_path / "a.csv", "u,i,t,v\n1,a,1,0\n1,b,1,1\n")
    notes = rated(tmp_path / "a.csv").understanding.notes
    assert notes[-2:] == (
        "value: if -1 means that there is none: --scale 1,11 --zero implicit",
        "value: ratings run from -1 to 11; if that is their scale: --scale -1,11",
    )


@pytest.mark.parametrize(
    ("ratings", "options"),
    [
        ([0.5, 3, 5], []),
        ([0, 3, 4], ["--zero implicit", "--scale 0,5"]),
        ([-1, 4, 9], ["--scale 1,10 --zero implicit", "--scale -1,10"]),
        ([0, 0.5, 9.5], ["--scale 0.5,10 --zero implicit", "--scale 0,10"]),
        ([2, 10], ["--scale 1,10"]),
        ([1, 7], ["--scale 1,7"]),
        ([20, 96], ["--scale 1,100"]),
        ([-7.5, 0, 9.3], ["--scale -7.5,10"]),
    ],
)
def test_the_scale_that_is_named_is_a_known_one(ratings: list[float], options: list[str]) -> None:
    assert [text.split(": ")[1] for text in scale_options(ratings)] == options


@pytest.mark.parametrize(("cells", "kinds"), [("01", "0=impression,1=click"), (("False", "True"), "False=impression")])
def test_a_flag_makes_no_click_of_a_zero(tmp_path: Path, cells: tuple[str, str], kinds: str) -> None:
    text = f"u,i,t,v\n1,a,1,{cells[0]}\n1,b,1,{cells[1]}\n"
    with pytest.raises(DataContractError, match=f"1 of 2 rows have 0 or less.*--map kind=v --kinds {kinds}"):
        rated(tmp_path / "a.csv", text, "click")
    assert rated(tmp_path / "a.csv", text.replace(",a,1", ",a,1").replace(f",{cells[0]}\n", ",\n"), "click")
    assert len(rated(tmp_path / "a.csv", "u,i,t,v\n1,a,1,0\n1,b,1,2.5\n", "purchase").interactions) == 2


def test_shares_and_times_have_units(tmp_path: Path) -> None:
    watched = "u,i,t,v\n1,a,1,1.12\n1,b,1,0.5\n1,c,1,0.4\n1,d,1,\n"
    source = rated(tmp_path / "a.csv", watched, "watch")
    assert [row.reason for row in source.rejected["interaction"]] == [
        "value: 1.12 is outside 0 to 1; 'watch' is the share watched; --clip takes more than the whole for 1"
    ]
    assert rated(tmp_path / "a.csv", watched, "watch", clip=True, full_watch=True).interactions["value"].tolist() == [
        1.0, 0.5, 0.4, 1.0]  # fmt: skip
    percent = "u,i,t,v\n1,a,1,85\n1,b,1,50\n"
    with pytest.raises(DataContractError, match="most of the watched shares lie above 1"):
        rated(tmp_path / "a.csv", percent, "watch", clip=True)
    again = "u,i,t,v\n1,a,1,1.28\n1,b,1,0.5\n1,c,1,2\n"
    with pytest.raises(DataContractError, match="--clip takes them for 1"):
        rated(tmp_path / "a.csv", again, "watch")
    assert rated(tmp_path / "a.csv", again, "watch", clip=True).interactions["value"].tolist() == [1.0, 0.5, 1.0]
    assert rated(tmp_path / "a.csv", percent, "watch", value_unit="percent").interactions["value"].tolist() == [
        0.85,
        0.5,
    ]
    played = "u,i,t,v\n1,a,1,180000\n1,b,1,30000\n"
    with pytest.raises(DataContractError, match="--value-unit ms"):
        rated(tmp_path / "a.csv", played, "dwell")
    for unit, seconds in {"ms": 180.0, "s": 180_000.0, "min": 10_800_000.0}.items():
        assert rated(tmp_path / "a.csv", played, "dwell", value_unit=unit).interactions["value"][0] == seconds
    with pytest.raises(DataContractError, match="ms is for dwell alone"):
        rated(tmp_path / "a.csv", percent, "watch", value_unit="ms")


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (["Fri Jul 14 02:40:00 +0000 2017", "Fri Jul 14 04:40:01 +0200 2017"], {}),
        (["Fri, 14 Jul 2017 02:40:00 GMT", "Fri, 14 Jul 2017 02:40:01 +0000"], {}),
        (["2017-07-14 02:40:00,000", "2017-07-14 02:40:01,000"], {}),
        (["14-Jul-2017 02:40:00", "14-Jul-2017 02:40:01"], {}),
        (["14.07.2017 02:40:00", "14.07.2017 02:40:01"], {}),
        (["07/14/2017 02:40:00 AM", "07/14/2017 02:40:01 AM"], {}),
        (["20170714024000", "20170714024001"], {}),
        (["2017-07-14 04:40:00", "2017-07-14T02:40:01Z"], {"zone": "Europe/Berlin"}),
        (["14/07/17 02h40.00", "14/07/17 02h40.01"], {"form": "%d/%m/%y %Hh%M.%S"}),
        (pd.to_datetime([JULY + 7_200, JULY + 7_201], unit="s"), {"zone": "Europe/Berlin"}),
        ([17361 + 1 / 9, 17361 + 1 / 9 + 1 / 86_400], {"unit": "d"}),
        ([42930 + 1 / 9, 42930 + 1 / 9 + 1 / 86_400], {"unit": "excel"}),
        ([JULY * 10**9, (JULY + 1) * 10**9], {"unit": "ns"}),
    ],
)
def test_times_in_words_zones_and_days(given: list, options: dict) -> None:
    assert moments(pd.Series(given), **options).tolist() == [JULY * SECOND, (JULY + 1) * SECOND]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([17361, 17362], "days since 1970: --unit d"),
        (["42930", "42931"], "days of Excel: --unit excel"),
        ([2016, 2017], "years: --time-format %Y"),
        ([511, 829, 1231], "months and days, name their year: --time-format 2014%m%d"),
        ([5, 6, 7], "no year from 1990 to now; name their unit"),
        ([4_000_000_000, 4_000_000_001], "no year from 1990 to now"),
        (["03/04/2017", "05/06/2017"], r"two ways.*'%m/%d/%Y' or --time-format '%d/%m/%Y'"),
    ],
)
def test_a_doubtful_number_is_no_time(given: list, message: str) -> None:
    with pytest.raises(DataContractError, match=message):
        moments(pd.Series(given))


def test_the_form_and_the_zone_must_be_right() -> None:
    assert moments(column(["2017", None]), form="%Y").tolist() == [1_483_228_800 * SECOND, None]
    with pytest.raises(DataContractError, match="'2017-01' is not of the form '%Y'"):
        moments(column(["2017-01"]), form="%Y")
    with pytest.raises(DataContractError, match=r"'%m%d' has no year.*: --time-format 2014%m%d"):
        moments(column(["0714"]), form="%m%d")
    assert moments(column(["0714", None]), form="2017%m%d").tolist() == [1_499_990_400 * SECOND, None]
    assert moments(column([111, 1101]), form="2017%m%d").tolist() == [1_484_092_800 * SECOND, 1_509_494_400 * SECOND]
    said: list[str] = []
    times = column(["31/12/1985", "14/07/2017"])
    assert moments(times, form="%d/%m/%Y", say=said.append).tolist() == ["31/12/1985", 1_499_990_400 * SECOND]
    assert "1 times lie before 1990 and are turned away" in said[0]
    with pytest.raises(DataContractError, match="did you mean 'Europe/Berlin'"):
        moments(column(["2017-01-01"]), zone="Europe/Berlyn")


def test_the_hours_of_daylight_saving_are_said() -> None:
    said: list[str] = []
    local = column(["2023-10-29 02:30:00", "2023-03-26 02:30:00", "2023-07-01 12:00:00", None])
    assert moments(local, zone="Europe/Berlin", say=said.append).tolist() == [
        1_698_539_400 * SECOND, 1_679_794_200 * SECOND, 1_688_205_600 * SECOND, None]  # fmt: skip
    assert [" ".join(note.split()[1:3]) for note in said] == ["local times", "1 times", "1 times"]
    assert "the first" in said[1]
    assert "moved on by an hour" in said[2]


def test_both_doors_have_the_same_types(tmp_path: Path, clock: Clock) -> None:
    head = "item_id,title,year,price,available,retired,zip,brand_id\n"
    (tmp_path / "i.csv").write_text(head + "01,1984,1949,20,false,,007,7\n2,Emma,,3.5,true,true,12,8\n")
    items = read(tmp_path / "a.csv", "u,i,t\n1,01,1\n", items=tmp_path / "i.csv").items
    first = {
        "title": "1984",
        "year": 1949,
        "price": 20,
        "available": False,
        "zip": "007",
        "brand_id": "7",
        "genres": None,
    }
    assert items["item_id"].tolist() == ["01", "2"]
    assert items["attributes"][0] == frames.without_absent(first)
    assert items["attributes"][1] == {
        "title": "Emma", "price": 3.5, "available": True, "retired": True, "zip": "12", "brand_id": "8"}  # fmt: skip
    typed = pd.DataFrame(
        {"item_id": [1], "price": [Decimal("2.50")], "made": [datetime.date(2020, 1, 2)], "available": ["no"]}
    )
    typed.to_parquet(tmp_path / "i.parquet")
    source = read(tmp_path / "a.csv", "u,i,t\n1,1,1\n", items=tmp_path / "i.parquet")
    assert source.items["attributes"][0] == {"price": 2.5, "made": "2020-01-02", "available": "no"}
    assert expected_report(admit_source(source, clock)).items.reasons == {
        "attributes.available: expected true or false": 1
    }


@pytest.mark.parametrize("separator", ["::", "\t", ";", "|", ",", " "])
def test_separators_are_told_from_the_first_lines(tmp_path: Path, separator: str) -> None:
    text = "u,i,t,words\n1,a,1,x-y\n2,b,2,x-z\n".replace(",", separator)
    source = read(tmp_path / "a.dat", text.replace("-", ";" if separator in ("::", ",") else "-"))
    assert rows_of(source, "user_id", "item_id") == [("1", "a"), ("2", "b")]
    assert (separator == ",") == (not any("separated by" in note for note in source.understanding.notes))


def test_a_wrong_guess_of_the_separator_can_be_set_right(tmp_path: Path) -> None:
    source = read(tmp_path / "a.txt", "u,u/i/t\n1,2/3/4\n", separator="/", mapping={"user_id": "u,u", "item_id": "i",
                                                                                  "event_timestamp": "t"})  # fmt: skip
    assert rows_of(source, "user_id", "item_id") == [("1,2", "3")]
    assert len(read(tmp_path / "a.txt", "u\ti\tt\n1\t2\t3\n", separator="tab").interactions) == 1


TITLES = 'item_id\ttitle\tn\n1\t"Heroes"\t1\n2\t"Weird Al" Yankovic\t2\n3\t12" Disc\t3\n4\t"Open\t4\n5\tShut"\t5\n'


def titles(folder: Path, text: str, **options: object) -> list[str]:
    (folder / "i.tsv").write_text(text)
    source = read(folder / "a.csv", "u,i,t\n1,1,1\n", items=folder / "i.tsv", **options)
    assert source.rejected["item"] == ()
    return [known["title"] for known in source.items["attributes"]]


def test_quotes_in_titles_cost_no_row(tmp_path: Path) -> None:
    others = ['"Weird Al" Yankovic', '12" Disc', '"Open', 'Shut"']
    assert titles(tmp_path, TITLES) == ["Heroes", *others]
    assert titles(tmp_path, TITLES.replace("\t", "::")) == ["Heroes", *others]
    assert titles(tmp_path, TITLES.replace("\t", ";"), quote="none", separator=None) == ['"Heroes"', *others]
    assert titles(tmp_path, 'item_id\ttitle\n1\t"a\tb"\n2\t"c ""d""\ne"\n') == ["a\tb", 'c "d"\ne']
    assert titles(tmp_path, 'item_id;title\n1;"say \\"hi\\"; x"\n') == ['say "hi"; x']


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "cp1252"])
def test_encodings_are_found_and_said(tmp_path: Path, encoding: str) -> None:
    source = read(tmp_path / "a.csv", "u,i,t\nzo\u00eb,1,2\n".encode(encoding))
    assert source.interactions["user_id"].tolist() == ["zo\u00eb"]
    said = {"utf-8-sig": "", "cp1252": "Windows-1252"}.get(encoding, "UTF-16")
    assert said in " ".join(source.understanding.notes)


def zipped(content: bytes, *names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, lambda content: zipped(content, "x/", "x/a.csv", "__MACOSX/a.csv")],
)
def test_compressed_files_are_unpacked(tmp_path: Path, pack) -> None:
    assert read(tmp_path / "a", pack(b"u,i,t\n1,2,3\n")).interactions["item_id"].tolist() == ["2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(b"u,i,t\n1,2,3\n", "a.csv", "b.csv"), r"2 files in one archive \(a.csv, b.csv\); name one"),
        (zipped(b"", "xl/workbook.xml", "b"), "an Excel workbook"),
        (b"PK\x03\x04broken", "not a readable zip file"),
        (b"BZhbroken", "not a readable bz2 file"),
        (b"\xfd7zXZbroken", "not a readable lzma file"),
        (b"ARROW1 broken", "not a readable Arrow file"),
        (b'{"u": 1\n{"u": 2\n', "no line is a JSON object"),
        (b'[{"u": 1}', "not readable as a JSON array"),
        (b"\xff\xfea\x00\n", "not readable as UTF-16"),
    ],
)
def test_what_cannot_be_unpacked_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataContractError, match=message):
        read(tmp_path / "a", content)


def write_as(frame: pd.DataFrame, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".arrow":
        feather.write_feather(frame, str(path), compression="uncompressed")
    elif path.suffix == ".feather":
        frame.to_feather(path)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".json":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".parquet", ".json", ".csv"])
def test_ids_are_text_in_every_format(tmp_path: Path, suffix: str) -> None:
    big = 2**62 + 1
    frame = pd.DataFrame({"u": [12, None], "i": ["007", "7"], "t": [JULY, JULY], "big": [big, big + 1]})
    path = write_as(frame, tmp_path / f"a{suffix}")
    assert rows_of(tabular.read(path, mapping=MAP, kind="view"), "user_id", "item_id") == [("12", "007"), (None, "7")]
    swapped = tabular.read(path, mapping="user_id=big,item_id=u,event_timestamp=t", kind="view")
    assert rows_of(swapped, "user_id", "item_id") == [(str(big), "12"), (str(big + 1), None)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json"])
def test_several_files_are_one_table(tmp_path: Path, suffix: str) -> None:
    for name, users in {"b/2": [3.0, None], "b/1": [2, 2**60 + 1], "a": [1, 1]}.items():
        frame = pd.DataFrame({"u": users, "i": ["x", "y"], "t": JULY})
        write_as(frame, tmp_path / "parts" / f"{name}{suffix}")
    (tmp_path / "parts" / "_SUCCESS").touch()
    (tmp_path / "parts" / ".a.crc").touch()
    expected = ["1", "1", "2", str(2**60 + 1), "3", None]
    for paths in (
        tmp_path / "parts", str(tmp_path / "parts" / "**" / f"*{suffix}"),
        [tmp_path / "parts" / f"a{suffix}", tmp_path / "parts" / "b"],
    ):  # fmt: skip
        assert tabular.read(paths, mapping=MAP, kind="view").interactions["user_id"].tolist() == expected
    write_as(pd.DataFrame({"u": [1], "i": [1], "when": [1]}), tmp_path / "parts" / f"c{suffix}")
    with pytest.raises(DataContractError, match=r"its columns are not those of .* \(t, when\)"):
        tabular.read(tmp_path / "parts", mapping=MAP, kind="view")
    with pytest.raises(DataContractError, match="no such file"):
        tabular.read(str(tmp_path / "parts" / "*.none"), mapping=MAP, kind="view")


def test_columns_of_a_parquet_file_keep_their_meaning(tmp_path: Path) -> None:
    vectors = pa.array([[0.5, 1.0], [0.25, 2.0]], pa.list_(pa.float32(), 2))
    table = pa.table({
        "item_id": pa.array(["a", "b"]).dictionary_encode(),
        "brand": pa.array(["x", None]).dictionary_encode(),
        "genres": pa.array([["p", "q"], []]),
        "tags": pa.array([["p"], None]),
        "size": pa.array([{"cm": 3, "ok": True}, None]),
        "facts": pa.array([[("k", 1)], [("j", 2)]], pa.map_(pa.string(), pa.int64())),
        "vector": vectors,
    })  # fmt: skip
    pq.write_table(table, tmp_path / "i.parquet")
    items = read(tmp_path / "a.csv", "u,i,t\n1,a,1\n", items=tmp_path / "i.parquet").items
    assert items["attributes"].tolist() == [
        {"brand": "x", "genres": ["p", "q"], "tags": ["p"], "size.cm": 3, "size.ok": True, "facts.k": 1,
         "vector": [0.5, 1]},
        {"genres": [], "facts.j": 2, "vector": [0.25, 2]},
    ]  # fmt: skip


def test_one_spelling_for_one_id(tmp_path: Path) -> None:
    assert frames.ids(column(["12.0", "12", "0.5"])).tolist() == ["12", "12", "0.5"]
    (tmp_path / "i.csv").write_text("item_id,title\n7,x\n8,y\n")
    with pytest.raises(DataContractError, match="item_id: '007' in the interactions is '7' in its table"):
        read(tmp_path / "a.csv", "u,i,t\n1,007,1\n", items=tmp_path / "i.csv")


def test_usual_names_are_taken_where_there_is_one(tmp_path: Path) -> None:
    text = "reviewerID,asin,stars,unixReviewTime,helpful\nA,B,5,1400000000,1\n"
    source = read(tmp_path / "a.csv", text, **USUAL)
    assert rows_of(source, *frames.INTERACTION_COLUMNS) == [("A", "B", "rating", 5.0, 1_400_000_000 * SECOND)]
    assert source.understanding.columns["interaction"] == {
        "user_id": "reviewerID", "item_id": "asin", "event_timestamp": "unixReviewTime", "value": "stars"}  # fmt: skip
    assert rows_of(read(tmp_path / "a.csv", text, **USUAL | {"kind": "view"}), "value") == [(None,)]
    two = "userId,movieId,asin,ts\n1,2,3,1400000000\n"
    with pytest.raises(DataContractError, match=r"item_id: .* --map item_id=..."):
        read(tmp_path / "a.csv", two, **USUAL | {"kind": "view"})
    events = "visitorid,itemid,event,timestamp\n1,2,addtocart,1433221332117\n1,2,view,1433221332118\n"
    source = read(tmp_path / "a.csv", events, **USUAL | {"kinds": "addtocart=cart"})
    assert source.interactions["kind"].tolist() == ["cart", "view"]
    (tmp_path / "m.csv").write_text("id,name\n2,Two\n")
    items = read(tmp_path / "a.csv", events, **USUAL | {"kinds": "addtocart=cart", "items": tmp_path / "m.csv"}).items
    assert items["attributes"].tolist() == [{"title": "Two"}]


def test_comments_above_a_table_are_left_out(tmp_path: Path) -> None:
    text = "% bip weighted\n% 3 2 2\n1 7 5 978300760\n2 8 4 978300761\n"
    options = {"columns": "user_id,item_id,rating,event_timestamp"}
    source = read(tmp_path / "out.graph", text, **USUAL | options)
    assert rows_of(source, "user_id", "item_id", "value") == [("1", "7", 5.0), ("2", "8", 4.0)]
    assert "interactions: 2 lines above the table are left out" in source.understanding.notes
    assert rows_of(read(tmp_path / "a.tsv", "# of 2020\n#u\ti\tt\n1\t2\t3\n"), "user_id", "item_id") == [("1", "2")]


def test_what_tools_leave_in_files_is_no_row(tmp_path: Path) -> None:
    source = read(tmp_path / "a.csv", "sep=;\nu;i;t\n1;2,5;3\nu;i;t\n4;5;6\n")
    assert rows_of(source, "user_id", "item_id") == [("1", "2,5"), ("4", "5")]
    assert [row.reason for row in source.rejected["interaction"]] == ["row: the header again"]
    aligned = read(tmp_path / "a.txt", '"u"   "i" "t"\n"a b"  7   1\n"c"   10  2\n')
    assert rows_of(aligned, "user_id", "item_id") == [("a b", "7"), ("c", "10")]
    empty = rated(tmp_path / "a.csv", "u,i,t,v\n1,a,1,NULL\n1,b,1,2.5\n1,c,1,nan\n", "click")
    assert empty.interactions["value"].tolist() == [None, 2.5, None]


def test_parts_of_a_lake_are_one_table(tmp_path: Path) -> None:
    for day in ("2017-07-14", "2017-07-15"):
        write_as(pd.DataFrame({"u": [1], "i": [2]}), tmp_path / "lake" / f"t={day}" / "part-0.parquet")
    write_as(pd.DataFrame({"u": [], "i": []}), tmp_path / "lake" / "t=2017-07-16" / "part-0.parquet")
    (tmp_path / "lake" / "t=2017-07-16" / "part-1.parquet").touch()
    rows = tabular.read(tmp_path / "lake", mapping=MAP, kind="view").interactions
    assert rows["event_timestamp"].tolist() == [DAY_OF_JULY * SECOND, (DAY_OF_JULY + 86_400) * SECOND]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,250", "847", "2,412,000.5"], [1250.0, 847.0, 2_412_000.5]),
        (["1.204,5", "12,25", "7"], [1204.5, 12.25, 7.0]),
        (["0,125", "1,250"], [0.125, 1.25]),
    ],
)
def test_thousands_are_told_from_decimals(tmp_path: Path, cells: list[str], values: list[float]) -> None:
    text = "u;i;t;v\n" + "".join(f"{n};a;1;{cell}\n" for n, cell in enumerate(cells))
    assert rated(tmp_path / "a.csv", text, "dwell", value_unit="s").interactions["value"].tolist() == values


def test_a_column_called_hours_asks_for_its_unit(tmp_path: Path) -> None:
    for name, unit, seconds in (("hours", "h", 7200.0), ("play_min", "min", 120.0), ("dwell_ms", "ms", 0.002)):
        text, names = f"u,i,t,{name}\n1,a,1,2\n", f"{MAP},value={name}"
        with pytest.raises(DataContractError, match=f"--value-unit {unit} "):
            read(tmp_path / "a.csv", text, mapping=names, kind="dwell")
        source = read(tmp_path / "a.csv", text, mapping=names, kind="dwell", value_unit=unit)
        assert source.interactions["value"].tolist() == [seconds]
    assert read(tmp_path / "a.csv", "u,i,t,items\n1,a,1,2\n", mapping=f"{MAP},value=items", kind="dwell")


def test_ids_that_are_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match=r"'N27 N44' is a list of ids.*attune import impressions"):
        read(tmp_path / "a.csv", "u,i,t\n1,N27 N44,1\n2,N5 N44,1\n3,N44,1\n", mapping=MAP, kind="view")
    assert read(tmp_path / "a.csv", "u,i,t\n1,Dota 2,1\n2,The Ship,1\n", mapping=MAP, kind="view")


def test_categories_are_genres(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("item_id,categories\na,Food|Bars\n")
    source = read(tmp_path / "a.csv", "u,i,t\n1,a,1\n", mapping=MAP, kind="view", items=tmp_path / "i.csv")
    assert source.items["attributes"].tolist() == [{"genres": ["Food", "Bars"]}]


def test_titles_have_no_entities(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("item_id,title\na,Gintama&deg; &amp; more\n")
    source = read(tmp_path / "a.csv", "u,i,t\n1,a,1\n", mapping=MAP, kind="view", items=tmp_path / "i.csv")
    assert source.items["attributes"].tolist() == [{"title": "Gintama° & more"}]


def test_null_is_absent_in_a_csv(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user_id,city,age\n1,NULL,18\n2,\\N,NULL\n3,Bonn,nan\n")
    source = read(tmp_path / "a.csv", "u,i,t\n1,a,1\n", mapping=MAP, kind="view", users=tmp_path / "users.csv")
    assert source.users["attributes"].tolist() == [{"age": 18}, {}, {"city": "Bonn"}]


def test_a_folder_passes_over_what_is_no_table(tmp_path: Path) -> None:
    for name, text in {"a.csv": "u,i,t\n1,a,1\n", "README.txt": "Hello\n", ".x.csv": "?\n", "LICENSE": "Hi\n"}.items():
        (tmp_path / name).write_text(text)
    source = tabular.read(tmp_path, mapping=MAP, kind="view", unit="s")
    assert len(source.interactions) == 1
    assert "passed over, as no tables by their names: LICENSE, README.txt" in source.understanding.notes[0]


def test_decimal_commas_are_numbers(tmp_path: Path) -> None:
    source = rated(tmp_path / "a.csv", "u;i;t;v\n1;a;1;4,5\n1;b;1;3\n1;c;1;\n")
    assert source.interactions["value"].tolist() == [4.5, 3.0, None]


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("item_id,title\nфильм,ф\n")
    text = "u,i,t\nзоя,фильм,1\n".encode("cp1251")
    source = read(tmp_path / "a.csv", text, encoding="cp1251", items=tmp_path / "i.csv")
    assert rows_of(source, "user_id", "item_id") == [("зоя", "фильм")]
    assert source.items["attributes"][0] == {"title": "ф"}
    for wrong in ("utf-7x", "ascii"):
        with pytest.raises(DataContractError, match=f"not readable as {wrong}"):
            read(tmp_path / "a.csv", text, encoding=wrong)


def test_a_guessed_unit_takes_no_time_before_1990() -> None:
    said: list[str] = []
    mixed = [1_400_000_000_000, 1_400_000_000_001, 1_400_000_000, 0]
    for times in (column(mixed), column(mixed, "int64"), column([str(time) for time in mixed])):
        assert moments(times, say=said.append).tolist() == [
            1_400_000_000 * SECOND, 1_400_000_000 * SECOND + 1_000, "1400000000", "0"]  # fmt: skip
    assert "2 times lie before 1990 and are turned away; --unit ms takes them all" in said[1]
    assert moments(column(mixed), "ms").tolist()[3] == 0


def test_what_is_left_open_is_remarked(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("item_id,title\nx,x\n")
    open_values = "u,i,t,v\n1,a,1,0\n1,b,1,5\n1,c,1,4\n"
    (tmp_path / "r.csv").write_text(open_values)
    source = tabular.read(
        tmp_path / "r.csv", tmp_path / "i.csv", mapping=MAP + ",value=v", kind="rating", unit="s"
    )  # fmt: skip
    assert source.understanding.notes[-2:] == (
        "value: ratings run from 0 to 5; if that is their scale: --scale 0,5",
        "item_id: none of the 3 in the interactions is in the other table; is it mapped rightly?",
    )
    assert (
        "2 of 2 watches have none; --full-watch"
        in read(tmp_path / "a.csv", "u,i,t\n1,a,1\n2,a,1\n", kind="watch").understanding.notes[-1]
    )
    with pytest.raises(DataContractError, match=r"--kinds -1=dislike,0=impression,1=like"):
        rated(tmp_path / "a.csv", "u,i,t,v\n1,a,1,0\n1,b,1,-1\n1,b,1,1\n", "like")


def test_lists_that_a_csv_writes_are_lists(tmp_path: Path) -> None:
    text = (
        "id,genres,tags,note\n"
        "1,\"[{'id': 28, 'name': 'Action'}, {'id': 12, 'name': 'Fun'}]\",\"[\"\"a\"\", \"\"b c\"\"]\",[sic]\n"
        "2,[],,[no list\n"
    )
    (tmp_path / "i.csv").write_text(text)
    source = read(tmp_path / "a.csv", "u,i,t\n1,1,1\n", items=tmp_path / "i.csv")
    assert source.items["attributes"].tolist() == [
        {"genres.id": [28, 12], "genres": ["Action", "Fun"], "tags": ["a", "b c"], "note": "[sic]"},
        {"genres.id": [], "genres": [], "note": "[no list"},
    ]


def test_rows_of_no_kind_are_left_out(tmp_path: Path) -> None:
    text = "user_id,video_id,is_like,time_ms\n1,a,0,1400000000000\n1,b,1,1400000000001\n"
    source = read(tmp_path / "a.csv", text, **USUAL | {"mapping": "kind=is_like", "kinds": "1=like,0=none"})
    assert rows_of(source, "item_id", "kind", "value") == [("b", "like", None)]
    assert "interactions: 1 rows are left out, as --kinds says" in source.understanding.notes
    with pytest.raises(DataContractError, match="kind: 'none' is unknown"):
        read(tmp_path / "a.csv", text, kind="none", mapping="event_timestamp=time_ms")


def test_headings_and_lists_of_items_are_rows(tmp_path: Path) -> None:
    netflix = "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n2:\n885013,4,2005-10-19\n"
    source = read(tmp_path / "a.txt", netflix, **USUAL | {"columns": "item_id,user_id,rating,date"})
    assert rows_of(source, "item_id", "user_id", "value") == [
        ("1", "1488844", 3.0), ("1", "822109", 5.0), ("2", "885013", 4.0)]  # fmt: skip
    assert "lines such as '1:'" in source.understanding.notes[0]
    lists = "0 7 8 9\n1 7\n2\n3 9 8\n"
    source = read(tmp_path / "a.txt", lists, **USUAL | {"columns": "user_id,item_id*", "kind": "view", "order": "none"})
    assert rows_of(source, "user_id", "item_id") == [
        ("0", "7"), ("0", "8"), ("0", "9"), ("1", "7"), ("3", "9"), ("3", "8")]  # fmt: skip
    (tmp_path / "i.csv").write_text("1,Alien,1979\n2,Heat,1995\n")
    with pytest.raises(DataContractError, match="--items-columns item_id,title,year, say"):
        read(tmp_path / "a.csv", "u,i,t\n1,1,1\n", items=tmp_path / "i.csv")


@profile(max_examples=60, deadline=None)
@given(
    separator=st.sampled_from(",;|\t"),
    cells=st.lists(st.lists(st.text('ab1".:\\\n,;|', max_size=6), min_size=3, max_size=3), min_size=1, max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_csv_writes_is_read(separator: str, cells: list[list[str]], quoting: int) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, quoting=quoting).writerows([["id", "title", "text"], *cells])
    frame, rejected, _ = delimited.read(Path("a"), stream.getvalue(), Layout(separator=separator))
    assert rejected == []
    expected = [[None if cell in ("", "\\N") else cell for cell in row] for row in cells]
    assert frame.to_numpy(object).tolist() == expected
