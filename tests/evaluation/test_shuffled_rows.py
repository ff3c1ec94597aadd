"""A gain that came from the order of a file is named and blocks; one that came from taste stays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attune.clock import SECOND
from evaluation.case import Case, CaseLimits
from evaluation.gate import Verdict
from evaluation.gates.shuffled_rows import ShuffledRows, shuffled_rows
from models.baselines import ItemKnn, KnnChoice, Popularity
from models.bundle import Provenance, golden_batch, save_bundle
from models.learning.dataset import TrainingSet
from models.learning.training import last_position
from models.ranking.policy import PlackettLuce

LIMITS = CaseLimits(min_users=10, min_events=100)
ITEMS = [f"i{place:02d}" for place in range(60)]
CHOICE = KnnChoice(window=1, shrinkage=1.0, history=1, decay=1.0, slope=0.25, neighbours=60)


def by_user_and_release(taste: bool) -> list[tuple[str, str]]:
    """User after user, ten items each in the order of release; with ``taste`` of a third of the items, in any order."""
    random, rows = np.random.default_rng(2), []
    for user in range(260):
        if taste:
            chosen = [3 * place + user % 3 for place in random.permutation(20)[:10]]
        else:
            chosen = sorted(random.permutation(60)[:10])
        rows += [(f"u{user:03d}", ITEMS[place]) for place in chosen]
    return rows


@pytest.fixture
def verdicts(make_training_set: Callable, make_hybrid: Callable, tmp_path: Path) -> Callable[..., list[Verdict]]:
    def verdicts_of(taste: bool, doubts: tuple[str, ...] = ("ratings.csv",)) -> list[Verdict]:
        rows = by_user_and_release(taste)
        world = make_training_set(
            [(at, who, what, "like", None, at * SECOND) for at, (who, what) in enumerate(rows, 1)], ITEMS
        )
        after = 2_000 * SECOND
        hybrid = make_hybrid(world, after, (0.0, 1.0, 0.0))
        known = world.upto(after)
        hybrid = type(hybrid)(hybrid.network, (ItemKnn.fit(known, CHOICE), Popularity.fit(known, 30.0)), hybrid.weights)
        lineage = {"trained_upto_time": after, "holdout_after_time": after}
        last = last_position(world, after)
        provenance = Provenance({}, world.window, last, last, seed=0, panel_users_trained=0, **lineage)
        golden = golden_batch(world, after, world.catalogue)
        folder = save_bundle(tmp_path / "model", hybrid, world.catalogue, PlackettLuce(), provenance, golden)
        return list(ShuffledRows()(Case.load(world, folder, limits=LIMITS, orders_in_doubt=doubts)))

    return verdicts_of


def test_a_file_by_user_and_release_is_caught_with_both_figures(verdicts: Callable) -> None:
    (verdict,) = verdicts(taste=False)
    assert verdict.verdict == "fail", verdict
    assert (
        verdict.measured
        < verdict.limit
        == pytest.approx(0.25 * float(verdict.note.split("it is ")[1].split(",")[0]), abs=1e-4)
    )
    assert "import them again with --order row --order-is-real" in verdict.note
    assert "ratings.csv" in verdict.note


def test_a_gain_by_taste_stays(verdicts: Callable) -> None:
    (verdict,) = verdicts(taste=True)
    assert verdict.verdict == "pass", verdict
    assert verdict.measured > 2 * verdict.limit


def test_nobody_asks_about_an_order_that_was_vouched_for(verdicts: Callable) -> None:
    assert verdicts(taste=False, doubts=()) == []


def test_each_user_keeps_their_rows(planted: TrainingSet) -> None:
    chosen = planted.users % 2 == 0
    other = shuffled_rows(planted, chosen)
    assert (other.items[~chosen] == planted.items[~chosen]).all()
    assert (other.items[chosen] != planted.items[chosen]).any()
    for user in range(4):
        of = planted.users == user
        pairs = [sorted(zip(data.items[of], data.rewards[of], strict=True)) for data in (planted, other)]
        assert pairs[0] == pairs[1]
