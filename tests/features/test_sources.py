import datetime
import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.clock import SECOND
from attune.errors import DataContractError
from features.sources import frames, movielens, tabular
from features.sources.frames import moments

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
        (column(["31.0", "7.5"]), ["31.0", "7.5"]),
        (column(["007", "7"]), ["007", "7"]),
        (column([31.5, 2.0], float), ["31.5", "2"]),
        (column([b"ab", "c"]), ["ab", "c"]),
        (column(["31.0", "abc", "7.0"]), ["31", "abc", "7"]),
        (column(["31.0", "7"]), ["31.0", "7"]),
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
    source = tabular.read(table(tmp_path / name, text), mapping=MAP + ",kind=k", kinds="addtocart=cart")
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
        tmp_path / "a.csv", tmp_path / "i.csv", None, MAP, "item_id=movie,title=name,year=released,genres=tags",
        kind="view",
    )  # fmt: skip
    assert source.items["item_id"].tolist() == ["1", "2"]
    assert source.items["attributes"].tolist() == [
        {"title": "One", "year": 1999, "genres": ["A", "B"], "price": "3.5"}, {"genres": []}]  # fmt: skip


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
        (b"u,i,t\n1,1,1\n", {"mapping": "user_id=u,item_id=i"}, "event_timestamp: .* name it in the map"),
        (b"u,i,t\n1,1,1\n", {"mapping": "user_id=u,event_timestamp=t"}, "item_id: .* name it in the map"),
        (b"u,i,t\n1,1,1\n", {"mapping": "user_id"}, "not of the form NAME=COLUMN"),
        (b"u,i,t\n1,1,1\n", {"kind": None}, "says nowhere what its rows are"),
        (b"u,i,t\n1,1,1\n", {"kind": "lik"}, r"'lik' is unknown \(did you mean 'like'"),
        (b"u,i,t\n1,1,1\n", {"kinds": "a=lik"}, "'lik' is unknown"),
        (b"u,i,t\n1,1,1\n", {"order": "rows"}, "order: 'rows' is unknown"),
        (b"u,u,t\n1,1,1\n", {}, "stands twice"),
        (b"u,i,t,v\n1,1,1,1\n", {"mapping": MAP + ",value=v", "scale": "5,1"}, "not below"),
        (b"u,i,t,v\n1,1,1,1\n", {"mapping": MAP + ",value=v", "scale": "five"}, "LOW,HIGH"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes | None, arguments: dict, message: str) -> None:
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataContractError, match=message):
        tabular.read(path, **{"mapping": MAP, "kind": "view"} | arguments)


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
    source = tabular.read(table(tmp_path / "a.csv", "u,i,t\n1,2,3,\n4,5,6,\n"), mapping=MAP, kind="view")
    assert source.interactions["item_id"].tolist() == ["2", "5"]
    assert source.unreadable["interaction"] == ()


def test_a_surplus_cell_in_every_line_shifts_nothing(tmp_path: Path) -> None:
    source = tabular.read(table(tmp_path / "a.csv", "u,i,t\n1,2,3,x\n4,5,6,x\n"), mapping=MAP, kind="view")
    assert len(source.interactions) == 0
    assert [line.line for line in source.unreadable["interaction"]] == ["1,2,3,x", "4,5,6,x"]


def test_quoted_cells_may_hold_separators_and_lines(tmp_path: Path) -> None:
    text = 'u,i,t\n"a, b","c\nd",3\n"say ""hi""",e,4\n'
    rows = tabular.read(table(tmp_path / "a.csv", text), mapping=MAP, kind="view").interactions
    assert rows["user_id"].tolist() == ["a, b", 'say "hi"']
    assert rows["item_id"].tolist() == ["c\nd", "e"]


def test_an_open_quote_costs_its_own_line_alone(tmp_path: Path) -> None:
    text = 'u,i,t\n1,2,3\n4,"5,6\n7,8,9\n'
    source = tabular.read(table(tmp_path / "a.csv", text), mapping=MAP, kind="view")
    assert source.interactions["user_id"].tolist() == ["1", "7"]
    assert [line.line for line in source.unreadable["interaction"]] == ['4,"5,6']


def test_latin_letters_of_an_older_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("u,i,t\nzoë,1,2\n".encode("latin-1"))
    assert tabular.read(tmp_path / "a.csv", mapping=MAP, kind="view").interactions["user_id"].tolist() == ["zoë"]


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
        (column(["20170714", "20171399"]), [20170714 * SECOND, 20171399 * SECOND]),
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
    return tabular.read(path, **{"mapping": MAP, "kind": "view"} | options)


def test_a_ragged_record_goes_whole_and_tears_no_other(tmp_path: Path) -> None:
    text = 'u,i,t\n1,"good\nvery,good",3\n1,"x\ny",3,4,5\n1,2\n6,7,8\n'
    source = read(tmp_path / "a.csv", text)
    assert source.interactions["item_id"].tolist() == ["good\nvery,good", "7"]
    assert [(line.line, line.reason[:12]) for line in source.unreadable["interaction"]] == [
        ('1,"x\ny",3,4,5', "row: 5 cells"), ("1,2", "row: 2 cells")]  # fmt: skip
    assert len({line.rule for line in source.unreadable["interaction"]}) == 1


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
    (line,) = source.unreadable["interaction"]
    assert ("NUL" if bad == b"\0" else "not UTF-8") in line.reason
    line.line.encode()


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
    rows = tabular.read(tmp_path / "a.parquet", mapping=MAP, kind="view").interactions
    assert rows["user_id"].tolist() == ["7", "8"]
    assert rows["event_timestamp"].tolist() == [None, JULY * SECOND]
    frame.rename_axis("u").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataContractError, match="stands twice"):
        tabular.read(tmp_path / "a.parquet", mapping=MAP, kind="view")
    frame.iloc[::-1].to_parquet(tmp_path / "a.parquet")
    assert tabular.read(tmp_path / "a.parquet", mapping=MAP, kind="view").interactions["user_id"].tolist() == ["8", "7"]


def test_attributes_may_be_renamed(tmp_path: Path) -> None:
    table(tmp_path / "i.csv", "sku,item_id,cost,name,label\nA,1,5,One,x\n")
    table(tmp_path / "u.csv", "id,years\nU,31\n")
    maps = {"items_map": "item_id=sku,price=cost,title=name,headline=name", "users_map": "user_id=id,age=years"}
    source = read(tmp_path / "a.csv", "u,i,t\n1,1,1\n", items=tmp_path / "i.csv", users=tmp_path / "u.csv", **maps)
    assert source.items["item_id"].tolist() == ["A"]
    assert source.items["attributes"][0] == {"price": "5", "title": "One", "headline": "One", "label": "x"}
    assert (source.users["user_id"][0], source.users["attributes"][0]) == ("U", {"age": "31"})
    with pytest.raises(DataContractError, match="'the age' is no name"):
        read(tmp_path / "a.csv", "u,i,t\n1,1,1\n", users=tmp_path / "u.csv", users_map="user_id=id,the age=years")
