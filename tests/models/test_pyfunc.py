"""The bundle as a pyfunc: histories in, the best unseen items out."""

import json

import pandas as pd
import pytest

from attune.errors import BundleError, DataContractError
from models.pyfunc import BundleModel, _load_pyfunc, requirements

LIKED = [{"item_id": "c1-00", "kind": "like"}, {"item_id": "c1-01", "kind": "rating", "value": 5.0}]


@pytest.fixture(scope="module")
def model(bundle_folder) -> BundleModel:
    return _load_pyfunc(str(bundle_folder))


def test_best_unseen_items_of_each_history(model: BundleModel) -> None:
    frame = pd.DataFrame({"history": [json.dumps(LIKED), LIKED, "[]"]}, index=[5, 6, 7])
    answer = model.predict(frame)
    assert answer.index.tolist() == [5, 6, 7]
    rows = [json.loads(text) for text in answer["items"]]
    assert rows[0] == rows[1]
    assert len(rows[0]) == len(rows[2]) == 10
    assert all(row["item_id"].startswith("c1-") for row in rows[0][:5])
    assert not {"c1-00", "c1-01"} & {row["item_id"] for row in rows[0]}
    assert rows[2][0]["item_id"].startswith("c0-")
    assert rows[0][0]["title"] == f"Title {rows[0][0]['item_id']}"
    scores = [row["score"] for row in rows[0]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("history", ["not json", '[{"item_id": "x"}]', '[{"item_id": "x", "kind": "nod"}]', "[3]"])
def test_what_is_no_history_is_refused_with_its_row(model: BundleModel, history: str) -> None:
    with pytest.raises(DataContractError, match="row 1"):
        model.predict(pd.DataFrame({"history": ["[]", history]}))


def test_a_missing_column_is_named(model: BundleModel) -> None:
    with pytest.raises(DataContractError, match="history"):
        model.predict(pd.DataFrame({"user_id": ["u"]}))


def test_a_missing_folder_is_a_bundle_error(tmp_path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        _load_pyfunc(str(tmp_path / "nowhere"))


def test_the_requirements_are_exact_and_name_no_build() -> None:
    assert all("==" in line and "+" not in line for line in requirements())
    assert any(line.startswith("torch==") for line in requirements())
