"""A dislike is no hit: a challenger that ranks what people dislike is refused by name, however many it foresees."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.case import Case, CaseLimits, Evidence
from evaluation.gate import Verdict
from evaluation.gates.dislikes import Dislikes
from evaluation.intervals import Interval
from evaluation.judge import judge
from models.bundle import Provenance, golden_batch, save_bundle
from models.learning.dataset import TrainingSet
from models.metrics import summary

USERS, GROUP = 400, 12
LIMITS = CaseLimits()
LOVED, HATED, UNUSED = (np.arange(GROUP) + GROUP * place for place in range(3))


def people(kinds: tuple[str, str], make_training_set: Callable[..., TrainingSet]) -> TrainingSet:
    """400 users with six events each, each about another item; the last four of each are judged.

    Of the judged the first is about an item that everybody likes, the others about items that nobody does.
    """
    rng, rows = np.random.default_rng(0), []
    for user in range(USERS):
        good, bad = rng.permutation(LOVED), rng.permutation(HATED)
        met = [(good[0], 0), (bad[0], 1), (good[1], 0), *((item, 1) for item in bad[1:4])]
        rows += [(step >= 2, f"u{user}", f"i{item:02d}", kinds[side], user) for step, (item, side) in enumerate(met)]
    rows.sort(key=lambda row: row[0])
    stamped = [(place, *row[1:4], None, place * 1_000_000) for place, row in enumerate(rows, start=1)]
    return make_training_set(stamped, [f"i{item:02d}" for item in range(3 * GROUP)])


@pytest.fixture
def world(make_training_set) -> TrainingSet:
    return people(("like", "dislike"), make_training_set)


@pytest.fixture
def save(make_hybrid, policy, tmp_path: Path) -> Callable[..., Path]:
    def write(world: TrainingSet, name: str, *order: np.ndarray) -> Path:
        """A bundle that shows everybody the items in this order."""
        cut, last = world.moment(2 * USERS), 2 * USERS
        hybrid = make_hybrid(world, cut, (0.0, 0.0, 1.0))
        weights_N = np.zeros(len(world.catalogue), np.float32)
        weights_N[np.concatenate(order)] = np.linspace(1.0, 0.0, len(weights_N))
        hybrid = hybrid.with_others(replace(hybrid.others[-1], weights_N=weights_N))
        lineage = {"trained_upto_time": cut, "holdout_after_time": cut}
        provenance = Provenance({"name": name}, world.window, last, last, seed=0, panel_users_trained=0, **lineage)
        golden = golden_batch(world, cut, world.catalogue)
        return save_bundle(tmp_path / name, hybrid, world.catalogue, policy, provenance, golden)

    return write


def gates(world: TrainingSet, *folders: Path) -> dict[str, Verdict]:
    return {gate.name: gate for gate in judge(Case.load(world, *folders, limits=LIMITS)).verdicts}


def test_who_shows_400_people_what_they_dislike_is_refused_by_what_they_like(world, save) -> None:
    champion = save(world, "champion", UNUSED[:7], LOVED, HATED, UNUSED[7:])
    challenger = save(world, "challenger", HATED, UNUSED, LOVED)
    case = Case.load(world, challenger, champion, limits=LIMITS)
    ours, theirs = (summary(case.replays[name]) for name in ("challenger", "champion"))
    assert ours["all"]["ndcg@10"] > 3 * theirs["all"]["ndcg@10"], "by all targets it would have taken over"
    assert ours["all"]["ndcg@10"] > summary(case.replays["popularity"])["all"]["ndcg@10"]
    assert ours["positive"]["ndcg@10"] == 0 < theirs["positive"]["ndcg@10"]
    found = {gate.name: gate for gate in judge(case).verdicts}
    for name in ("beats_popularity", "not_worse_than_champion", "dislikes"):
        assert found[name].verdict == "fail"
    change = found["not_worse_than_champion"]
    assert change.measured == -1.0
    assert "relative change in ndcg@10 over liked targets against the champion" in change.note
    assert found["beats_popularity"].measured == pytest.approx(
        -summary(case.replays["popularity"])["positive"]["ndcg@10"]
    )
    assert "over disliked targets" in found["dislikes"].note
    assert found["no_harm_to_new_users"].verdict == "fail"


def test_who_shows_what_they_like_passes(world, save) -> None:
    champion = save(world, "champion", UNUSED[:7], LOVED, HATED, UNUSED[7:])
    found = gates(world, save(world, "challenger", LOVED, UNUSED, HATED), champion)
    assert [found[name].verdict for name in ("not_worse_than_champion", "dislikes")] == ["pass", "pass"]


def test_more_of_what_people_dislike_is_a_fault_where_liked_items_stand_as_they_did(world, save) -> None:
    champion = save(world, "champion", LOVED[:5], UNUSED, LOVED[5:], HATED)
    challenger = save(world, "challenger", LOVED[:5], HATED, LOVED[5:], UNUSED)
    found = gates(world, challenger, champion)
    assert found["not_worse_than_champion"].measured == 0.0
    assert {
        name
        for name in ("not_worse_than_champion", "dislikes", "no_harm_to_new_users")
        if found[name].verdict == "fail"
    } == {"dislikes"}
    assert "do not pay for it" in found["dislikes"].note


@pytest.mark.parametrize(
    ("kinds", "figure"), [(("click", "view"), "liked targets"), (("rated 3", "rated 3"), "all targets")]
)
def test_where_nobody_dislikes_or_likes_anything_that_is_said(make_training_set, save, kinds, figure) -> None:
    world = people(("click", "view"), make_training_set)
    if kinds[0] == "rated 3":
        world = replace(world, rewards=np.full_like(world.rewards, 0.5))
    found = gates(
        world, save(world, "one", HATED, UNUSED, LOVED), save(world, "other", UNUSED[:7], LOVED, HATED, UNUSED[7:])
    )
    assert (found["dislikes"].verdict, found["dislikes"].note) == ("not_applicable", "no target is disliked")
    assert found["not_worse_than_champion"].verdict == "pass", "it foresees more of what was used"
    assert f"ndcg@10 over {figure}" in found["not_worse_than_champion"].note


FIGURES = st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(sorted)


@given(FIGURES, FIGURES, st.integers(0, 1_000))
def test_only_clearly_more_that_nothing_pays_for_fails(more, gain, users: int) -> None:
    change, evidence = Interval(sum(more) / 2, *more), Evidence(users, 9 * users, float(users))
    gate = Dislikes().verdict(change, Interval(sum(gain) / 2, *gain), evidence)
    expected = "fail" if change.low > 0.1 and gain[0] <= 0 else "pass"
    assert gate.verdict == (expected if users >= 40 else "not_applicable")
