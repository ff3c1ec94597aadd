"""Files whose rows are no interactions: matrices, lists within a user's row, several tables in an archive."""

import json
import math
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from attune.clock import Clock
from attune.errors import DataContractError
from attune.events import is_vector
from features.importer import admit_source, expected_report
from features.sources import tabular
from features.sources.frames import SourceFrames


def told(source: SourceFrames) -> list[tuple[object, ...]]:
    """Who did what, with which value."""
    rows = source.interactions
    return list(zip(rows["user_id"], rows["item_id"], rows["value"], strict=True))


def test_a_matrix_without_names_has_a_row_a_user_and_a_column_an_item(tmp_path: Path) -> None:
    (tmp_path / "jester.csv").write_text("2,-7.82,99,8.79\n1,99.00,4.08,99\n0,99,99,99\n3,9,1.5,-10\n")
    source = tabular.read(
        tmp_path / "jester.csv", columns=",value*", missing="99", kind="rating", order="none", scale="-10,10"
    )
    stars = [(user, item, round(value, 3)) for user, item, value in told(source)]
    assert stars == [
        ("1", "1", 1.436), ("1", "3", 4.758), ("2", "2", 3.816), ("4", "1", 4.8), ("4", "2", 3.3), ("4", "3", 1.0),
    ]  # fmt: skip
    assert any("6 of 12 cells hold a value" in note for note in source.understanding.notes)


def test_a_matrix_whose_first_line_cannot_be_read_is_turned_away(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('"2,1,5\n7,3,4\n8,2,1\n')
    source = tabular.read(tmp_path / "m.csv", columns="user_id,value*", kind="rating", order="none")
    assert told(source) == []
    assert len(source.rejected["interaction"]) == 3


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_matrix_with_names_keeps_users_and_items(tmp_path: Path, form: str) -> None:
    frame = pd.DataFrame({"userId": [7, 8], "m-1": [None, 1.0], "m-2": [3.0, None], "ts": [1_600_000_000] * 2})
    path = tmp_path / f"m.{form}"
    frame.to_csv(path, index=False) if form == "csv" else frame.to_parquet(path)
    source = tabular.read(path, wide=True, kind="rating", mapping="event_timestamp=ts")
    assert told(source) == [("7", "m-2", 3.0), ("8", "m-1", 1.0)]
    assert source.interactions["event_timestamp"].unique().tolist() == [1_600_000_000_000_000]
    with pytest.raises(DataContractError, match="wide table alone"):
        tabular.read(path, missing="99", kind="click", order="none")


USERS = [
    {"user_id": "u1", "items_count": 2, "items": [
        {"item_id": "10", "item_name": "A", "playtime_forever": 6}, {"item_id": "20", "playtime_forever": 0}]},
    {"user_id": "u2", "items_count": 0, "items": []},
    {"user_id": "u3", "items_count": 1, "items": [{"item_id": "10", "playtime_forever": 90}]},
]  # fmt: skip


@pytest.mark.parametrize("written", [json.dumps, repr])
def test_items_within_a_users_row_become_rows(tmp_path: Path, written) -> None:
    (tmp_path / "u.json").write_text("".join(f"{written(row)}\n" for row in USERS))
    source = tabular.read(
        tmp_path / "u.json", explode="items", kind="dwell", mapping="value=playtime_forever", order="none",
        value_unit="min",
    )  # fmt: skip
    assert told(source) == [("u1", "10", 360.0), ("u1", "20", 0.0), ("u3", "10", 5_400.0)]


def test_lists_in_parquet_and_in_text_become_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": ["a", "b"], "items": [row["items"] for row in USERS[::2]]})
    frame.to_parquet(tmp_path / "u.parquet")
    read = tabular.read(tmp_path / "u.parquet", explode="items", kind="view", order="none")
    assert [pair[:2] for pair in told(read)] == [("a", "10"), ("a", "20"), ("b", "10")]
    (tmp_path / "u.csv").write_text("user_id,item_id\na,N1 N2\nb,\nc,N3\n")
    with pytest.raises(DataContractError, match="--explode item_id makes a row of each id"):
        tabular.read(table(tmp_path, "user_id,item_id\na,N1 N2\nc,N3 N4\n"), kind="view", order="none")
    read = tabular.read(tmp_path / "u.csv", explode="item_id", kind="view", order="none")
    assert [pair[:2] for pair in told(read)] == [("a", "N1"), ("a", "N2"), ("c", "N3")]
    with pytest.raises(DataContractError, match="no column 'games' of lists; there are user_id, item_id"):
        tabular.read(tmp_path / "u.csv", explode="games", kind="view", order="none")


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_tables_in_an_archive_are_named(tmp_path: Path) -> None:
    path = tmp_path / "ml.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml/ratings-2.csv", "user_id,item_id,rating,timestamp\nv,2,4,1600000000\n")
        archive.writestr("ml/ratings-1.csv", "user_id,item_id,rating,timestamp\nu,1,5,1600000000\n")
        archive.writestr("ml/movies.csv", "item_id,title\n1,A\n2,B\n")
    source = tabular.read(f"{path}::ml/ratings*.csv", Path(f"{path}::ml/movies.csv"))
    assert told(source) == [("u", "1", 5.0), ("v", "2", 4.0)]
    assert source.items["attributes"].tolist() == [{"title": "A"}, {"title": "B"}]
    assert told(tabular.read(f"{tmp_path}/*.zip::*-2.csv")) == [("v", "2", 4.0)]
    with pytest.raises(DataContractError, match=r"it holds no x\.csv; there are ml/movies\.csv, ml/ratings-1\.csv"):
        tabular.read(f"{path}::x.csv")
    with pytest.raises(DataContractError, match=r"3 files in one archive .* name one.*ml\.zip::ml/movies\.csv"):
        tabular.read(path)
    with pytest.raises(DataContractError, match="not a readable zip file"):
        tabular.read(f"{table(tmp_path, 'a')}::x.csv")


def test_thousands_in_ids_have_one_spelling(tmp_path: Path) -> None:
    path = table(tmp_path, 'user_id,item_id\n"1,234",a\n"12,345,678","1,2"\n56,"1,234"\n')
    items = table(tmp_path, "item_id,title\n1234,A\n", "i.csv")
    source = tabular.read(path, items, kind="view", order="none")
    assert source.interactions["user_id"].tolist() == ["1234", "12345678", "56"]
    assert source.interactions["item_id"].tolist() == ["a", "1,2", "1,234"]
    assert any(
        "user_id: commas are taken for thousands: '1,234' is '1234'" in note for note in source.understanding.notes
    )
    path = table(tmp_path, 'user_id,item_id\nu,"1,234"\nv,"1234"\n')
    assert tabular.read(path, items, kind="view", order="none").interactions["item_id"].tolist() == ["1234", "1234"]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_vectors_have_one_length_and_are_finite(tmp_path: Path, form: str, clock: Clock) -> None:
    vectors = [[0.5, 1.0], [2.0, 3.0], [0.25], None, [1.0, math.nan], [0.0, -0.5]]
    items = pd.DataFrame({"item_id": list("abcdef"), "tags": [[1, 2]] * 6, "embedding": vectors})
    path = tmp_path / f"i.{form}"
    if form == "parquet":
        items.to_parquet(path)
    elif form == "jsonl":
        items.to_json(path, orient="records", lines=True)
    else:
        items.assign(embedding=[cell and json.dumps(cell) for cell in vectors]).to_csv(path, index=False)
    source = tabular.read(table(tmp_path, "user_id,item_id\nu,a\n"), path, kind="view", order="none")
    known = dict(zip(source.items["item_id"], source.items["attributes"], strict=True))
    assert {name: row.get("embedding") for name, row in known.items()} == {
        "a": [0.5, 1.0], "b": [2.0, 3.0], "d": None, "f": [0.0, -0.5],
    }  # fmt: skip
    assert known["a"]["tags"] == [1, 2]
    assert all(is_vector(row["embedding"]) for row in known.values() if "embedding" in row)
    assert not is_vector(known["a"]["tags"])
    expected = expected_report(admit_source(source, clock)).items
    assert (expected.rows_in, expected.accepted) == (6, 4)
    assert set(expected.reasons) == {
        "attributes.embedding: 1 numbers where most rows have 2", "attributes.embedding: not all are finite",
    }  # fmt: skip
    assert "items: embedding has vectors of 2 numbers" in source.understanding.notes
