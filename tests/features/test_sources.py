import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.clock import SECOND
from attune.errors import DataContractError
from features.sources import frames, movielens, tabular
from features.sources.moments import moments

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
