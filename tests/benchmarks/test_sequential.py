"""Leave-one-out: which events teach, the order of equal times, inputs left out, and the judge's own figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from attune.errors import ConfigError
from benchmarks import command
from benchmarks.sequential import HELD, LeaveOneOut, measure, read
from models.history import HistoryBatch
from models.learning.dataset import histories
from models.network.config import RECIPES, Recipe

USERS, ITEMS, EVENTS = 40, 60, 14
JUDGE = Path(os.environ.get("ATTUNE_TEST_DATA", "absent")).parent / "bench" / "score.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users who go round a ring of items, from somewhere on; the file is shuffled, and half of the times are equal."""
    rng, rows = np.random.default_rng(0), []
    for user in range(1, USERS + 1):
        start = int(rng.integers(ITEMS))
        for place in range(EVENTS):
            rows.append((user, 100 + (start + place) % ITEMS, place, 1_000_000 + 60 * (place // 2), 1 + place % 5))
    frame = pd.DataFrame(rows, columns=["user_id", "movie_id", "seq_pos", "timestamp", "rating"]).sample(
        frac=1, random_state=0
    )
    frame["liked"] = (frame["rating"] >= 4).astype(int)
    frame.loc[frame.index[:10], "rating"] = np.nan
    root = tmp_path_factory.mktemp("sets") / "ring"
    root.mkdir()
    frame.to_parquet(root / "interactions.parquet")
    titles = pd.DataFrame({"movie_id": range(100, 100 + ITEMS), "genres": "A|B"})
    titles.assign(title=[f"Film ({1950 + place})" for place in range(ITEMS)]).to_csv(root / "movies.csv", index=False)
    return root


class Successor:
    """Knows the ring: the item after the latest one is first, then those that follow it."""

    name = "successor"

    def scores(self, batch: HistoryBatch) -> np.ndarray:
        ahead_BN = (np.arange(ITEMS) - batch.items_BL[:, -1:]) % ITEMS
        return -ahead_BN.astype(np.float32)


def test_the_last_two_events_of_each_user_teach_nothing(folder: Path) -> None:
    split = LeaveOneOut.of(*read(folder))
    assert len(split.learned) == USERS * (EVENTS - 2)
    for held, name in ((0, "test"), (1, "val")):
        assert HELD[name] == held
        asked = split.questions(held)
        known = histories(split.events, asked)
        assert (known.items_BL > 0).sum(axis=1).tolist() == [EVENTS - 1 - held] * USERS
        latest = known.items_BL[:, -1] - 1
        assert ((latest + 1) % ITEMS).tolist() == split.events.items[asked.rows.values].tolist()
        assert split.judge(split.lists(Successor(), held), held)["ndcg@10"] == 1.0


def test_the_time_of_the_question_is_told_or_not(folder: Path) -> None:
    for target_time in (True, False):
        split = LeaveOneOut.of(*read(folder), target_time=target_time)
        batch = split.asked(histories(split.events, split.questions(0)))
        pause = batch.now_B - batch.times_BL[:, -1]
        assert (pause > 0).all() if target_time else (pause == 0).all()
        (chosen_on,) = split.validation().batches
        assert ((chosen_on.batch.now_B > chosen_on.batch.times_BL[:, -1]) == target_time).all()


def test_what_is_left_out_says_the_same_of_everything(folder: Path) -> None:
    whole, bare = LeaveOneOut.of(*read(folder)), LeaveOneOut.of(*read(folder), ("ratings", "pauses", "genres", "years"))
    assert set(np.unique(whole.events.rewards)) > {0.0, 0.25, 0.5, 0.75, 1.0}  # and the means of those not told
    assert set(np.unique(bare.events.rewards)) == {1.0}
    assert whole.events.catalogue.genres[0] == ("A", "B")
    assert whole.events.catalogue.years[0] == 1950.0
    assert set(bare.events.catalogue.genres) == {()}
    assert set(bare.events.catalogue.years) == {None}
    assert set(np.diff(bare.events.times[bare.events.by_user].reshape(USERS, EVENTS)).ravel()) == {1_000_000}
    assert (whole.events.items[whole.events.by_user] == bare.events.items[bare.events.by_user]).all()


def test_so_many_users_as_are_asked_for_and_no_data_is_told(folder: Path, tmp_path: Path) -> None:
    assert read(folder, users=7)[0]["user_id"].nunique() == 7
    with pytest.raises(ConfigError, match="holds no interactions"):
        read(tmp_path)


@pytest.mark.skipif(not JUDGE.is_file(), reason="the judge's score.py is not at hand: set ATTUNE_TEST_DATA")
@pytest.mark.parametrize("held", ["test", "val"])
def test_the_figures_are_those_of_the_judge(folder: Path, tmp_path: Path, held: str) -> None:
    split = LeaveOneOut.of(*read(folder))
    noise = np.random.default_rng(1).normal(size=(ITEMS, ITEMS)) * 20

    class Blurred(Successor):
        def scores(self, batch: HistoryBatch) -> np.ndarray:
            return (super().scores(batch) + noise[batch.items_BL[:, -1] - 1]).astype(np.float32)

    lists = split.lists(Blurred(), HELD[held])
    lists.to_parquet(tmp_path / "lists.parquet")
    command = [sys.executable, str(JUDGE), str(tmp_path / "lists.parquet"), "--split", held, "--data", str(folder)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said.pop("split") == held
    figures = split.judge(lists, HELD[held])
    assert 0.1 < figures["hr@10"] < 0.9
    assert said.keys() == figures.keys()
    for name, value in said.items():
        assert figures[name] == pytest.approx(value, abs=1e-5), name


def test_the_benchmark_trains_judges_and_writes_the_lists(
    folder: Path, tmp_path: Path, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTUNE_TEST_DATA", str(folder.parent))
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "var"))
    monkeypatch.setitem(RECIPES, "quick", lambda: quick)
    own = ["--data", "ring", "--recipe", "quick", "--no-target-time", "--predictions", str(tmp_path / "lists")]
    out = tmp_path / "record.json"
    done = CliRunner().invoke(command.app, ["sequential", "--out", str(out), *own])
    assert done.exit_code == 0, done.output
    figures = {figure["name"]: figure["value"] for figure in json.loads(out.read_text())["figures"]}
    assert figures["item-knn, hr@10"] > 0.9
    assert {"hybrid, ndcg@10", "network, coverage@10", "validation NDCG@10 after epoch 1"} <= figures.keys()
    assert len(pd.read_parquet(tmp_path / "lists" / "hybrid.parquet")) == USERS * 20
    assert (tmp_path / "var" / "bench" / "sequential-ring.png").is_file()


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="choose one of mix, network, item-knn"):
        measure(part="itemknn")
    with pytest.raises(ConfigError, match="choose one of ratings, pauses, genres, years"):
        measure(without="rating")
    wrong = CliRunner().invoke(command.app, ["sequential", "--out", "none.json", "--dat", "ml-1m"])
    assert wrong.exit_code == 2
    assert "--data" in wrong.output
    with pytest.raises(ConfigError, match="--data x: choose the part with --only"):
        command.measure("serving", None, 0, ["--data", "x"])
