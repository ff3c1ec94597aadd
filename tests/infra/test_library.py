"""attune in a notebook: what `Recommender` makes of frames, and what it says to bad ones."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import attune
from attune import Recommender
from attune.errors import AttuneError, BundleError, ConfigError, DataContractError
from infra import library
from models.bundle import Bundle
from models.network import config
from models.network.config import KnnGrid, Recipe, SequenceConfig

CLUSTERS, EACH, PEOPLE, USES = 4, 15, 120, 10


def quick() -> Recipe:
    grid = KnnGrid((20,), (5.0,), (10,), (1.0,), (0.5,))
    network = SequenceConfig(width=16, blocks=1, heads=1, context=16)
    return Recipe("quick", network, 1, knn=grid, popularity_days=(30.0,), mix_step=0.5, validation_groups=200)


def ratings(seed: int = 0) -> pd.DataFrame:
    """People of one cluster rate that cluster's items."""
    rng = np.random.default_rng(seed)
    rows = [
        (person, f"c{person % CLUSTERS}-{item:02d}", 5.0 if rng.random() < 0.8 else 2.0, 40_000 * person + 60 * step)
        for person in range(PEOPLE)
        for step, item in enumerate(rng.choice(EACH, USES, replace=False))
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "value", "event_timestamp"])
    return frame.assign(event_timestamp=pd.to_datetime(frame["event_timestamp"] + 1_600_000_000, unit="s"))


def films() -> pd.DataFrame:
    ids = [f"c{cluster}-{item:02d}" for cluster in range(CLUSTERS) for item in range(EACH)]
    return pd.DataFrame(
        {"item_id": ids, "title": [f"Film {item}" for item in ids], "genres": "Drama|War", "year": 1990}
    )


@pytest.fixture(scope="module", autouse=True)
def _quick_recipe() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.RECIPES, "tiny", quick)
        yield


@pytest.fixture(scope="module")
def model(_quick_recipe: None) -> Recommender:
    return Recommender.train(ratings(), films())


def test_importing_attune_loads_nothing_heavy() -> None:
    code = "import attune, sys; print(sorted({'torch', 'numpy', 'pandas', 'infra', 'models'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = (
        "from attune import Recommender; import sys; print(sorted({'mlflow', 'feast', 'prefect'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_attune_offers_the_name_and_no_other() -> None:
    assert attune.Recommender is library.Recommender
    with pytest.raises(AttributeError, match="Trainer"):
        attune.Trainer


def test_people_are_recommended_what_their_cluster_uses(model: Recommender) -> None:
    for person in (0, "1", 2.0, np.int64(3)):
        slate = model.recommend(person, k=5)
        assert [item[:2] for item in slate["item_id"]] == [f"c{int(person)}"] * 5
        assert slate["title"].tolist() == [f"Film {item}" for item in slate["item_id"]]
        assert slate["score"].is_monotonic_decreasing
        used = ratings().query("user_id == @person")["item_id"]
        assert not set(slate["item_id"]) & set(used)
    assert model.recommend(0).equals(model.recommend(0))


def test_a_history_is_answered_as_its_user_is(model: Recommender) -> None:
    slate = model.recommend(history=["c2-00", "c2-05", "c2-07"], k=5)
    assert {item[:2] for item in slate["item_id"]} == {"c2"}
    assert not {"c2-00", "c2-05", "c2-07"} & set(slate["item_id"])
    popular = [model.recommend(history=[], k=3)["item_id"].tolist() for _ in range(2)]
    assert popular[0] == popular[1]
    order = np.argsort(-model.bundle.popularity.weights_N, kind="stable")[:3]
    assert popular[0] == [model.bundle.catalogue.item_ids[place] for place in order]
    long = [f"c0-{place % EACH:02d}" for place in range(500)]
    assert len(model.recommend(history=long, k=100)) == CLUSTERS * EACH - EACH


def test_what_was_left_out_judges_the_model_and_popularity(model: Recommender) -> None:
    table = model.evaluate()
    assert table.index.tolist() == ["hybrid", "best simple baseline", *model.bundle.hybrid.names]
    assert table.loc["hybrid", "ndcg@10"] > 2 * table.loc["popularity", "ndcg@10"] > 0
    assert table.loc["popularity", "coverage@10"] < table.loc["hybrid", "coverage@10"] <= 1
    late = model.training_set.times > model.bundle.holdout_after_time
    liked = model.training_set.rewards[late] > 0.5
    assert table["events"].tolist() == [liked.sum()] * len(table)
    assert table.attrs["targets"] == "liked targets"


def test_what_is_saved_answers_as_before(model: Recommender, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "model")
    loaded = Recommender.load(str(folder))
    assert loaded.recommend(7).equals(model.recommend(7))
    assert loaded.evaluate().equals(model.evaluate())
    Bundle.load(folder / "bundle").verify_golden()
    with pytest.raises(BundleError, match="exists already: choose another"):
        model.save(folder)
    (folder / "bundle" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="altered or cut short"):
        Recommender.load(folder)
    with pytest.raises(DataContractError, match="is no training set"):
        Recommender.load(tmp_path / "nowhere")


def test_equal_seeds_give_equal_models_from_other_peoples_columns(model: Recommender) -> None:
    theirs = ratings().rename(columns={"user_id": "who", "item_id": "movieId", "value": "stars"})
    theirs = theirs.assign(
        stars=2 * theirs["stars"], event_timestamp=theirs["event_timestamp"].astype("int64") // 10**9
    )
    again = Recommender.train(theirs, films(), map="user_id=who", scale="2,10")
    assert np.allclose(again.training_set.rewards, np.where(ratings()["value"] == 5, 1.0, 0.25))
    same = Recommender.train(ratings().sample(frac=1.0, random_state=0), films())
    assert same.recommend(5).equals(model.recommend(5))


def test_without_items_and_with_one_kind_for_all() -> None:
    clicks = Recommender.train(ratings().drop(columns="value"), kind="click")
    assert (clicks.training_set.rewards == 1.0).all()
    assert clicks.recommend(1, k=2)["title"].tolist() == ["", ""]


def without(column: str) -> pd.DataFrame:
    return ratings().drop(columns=column)


def spoiled(column: str, value: object, row: int = 3) -> pd.DataFrame:
    frame = ratings().astype(object)
    frame.loc[row, column] = value
    return frame


BAD_FRAMES: list[tuple[Callable[[], object], str]] = [
    (lambda: Recommender.train(ratings().rename(columns={"user_id": "who"})), r"user_id: .* map='user_id=\.\.\.'.*who"),
    (lambda: Recommender.train(without("event_timestamp")), r"event_timestamp: .* map='event_timestamp=\.\.\.'"),
    (lambda: Recommender.train(without("value")), r"kind: .* kind='click'"),
    (lambda: Recommender.train(ratings(), films().drop(columns="item_id")), r"item_id: .* title, genres, year"),
    (lambda: Recommender.train(ratings().assign(value=range(PEOPLE * USES))), r"1,195 rows .*(\n.*)*scale='0,1199'"),
    (lambda: Recommender.train(spoiled("value", 9.0)), r"1 rows.*\n  row 3: value: 9.0 .*(\n.*)*index\[\[3\]\]"),
    (lambda: Recommender.train(spoiled("user_id", None)), r"row 3: user_id: absent"),
    (lambda: Recommender.train(spoiled("event_timestamp", "soon")), r"row 3: event_timestamp: 'soon' is not a time"),
    (lambda: Recommender.train(ratings().assign(event_timestamp=range(PEOPLE * USES))), r"unit='s'"),
    (lambda: Recommender.train(ratings().to_dict()), r"events: a dict is no DataFrame"),
    (lambda: Recommender.train(ratings(), ["c0-00"]), r"items: a list is no DataFrame"),
    (lambda: Recommender.train(ratings().head(0)), r"the frame has no rows"),
    (lambda: Recommender.train(ratings().head(5)), r"5 events are too few"),
]


@pytest.mark.parametrize(("train", "said"), BAD_FRAMES, ids=[said[:30] for _, said in BAD_FRAMES])
def test_a_bad_frame_is_refused_with_what_where_and_what_to_do(train: Callable[[], object], said: str) -> None:
    with pytest.raises(DataContractError, match=said) as caught:
        train()
    assert "--" not in str(caught.value)


def test_bad_questions_are_refused(model: Recommender) -> None:
    with pytest.raises(ConfigError, match="there is no recipe 'huge': choose one of"):
        Recommender.train(ratings(), recipe="huge")
    with pytest.raises(TypeError, match="colour"):
        Recommender.train(ratings(), colour="red")
    for ask, said in (
        (lambda: model.recommend("12O"), r"user '12O' has no events here.*history=\[\.\.\.\]"),
        (
            lambda: model.recommend(history=["c1-00", "c1-0"]),
            r"item 'c1-0' is not in the catalogue \(did you mean 'c1-",
        ),
        (lambda: model.recommend(history="c1-00"), r"give a list of item ids: history=\['c1-00'\]"),
        (lambda: model.recommend(), "name a user, or give a history"),
        (lambda: model.recommend(1, history=[]), "name a user, or give a history"),
    ):
        with pytest.raises(AttuneError, match=said):
            ask()
