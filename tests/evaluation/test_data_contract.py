"""A bundle that speaks of other things than the training set is refused by one gate, which says what is wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.columns import ITEM_STATS
from evaluation.case import Case, CaseLimits
from evaluation.gate import Verdict
from evaluation.hold_out import event_rows
from evaluation.judge import judge
from evaluation.replay import replay
from infra.demo import spoil
from models import bundle as bundles
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.catalogue import Catalogue
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet

LIMITS = CaseLimits(min_users=30)
CONTRACT = "data_contract"


@pytest.fixture
def write(planted, trained, policy, provenance, cut, tmp_path: Path) -> Callable[..., Path]:
    """Writes the trained model, or another, over the planted catalogue, or another."""

    def to(name: str, hybrid: Hybrid = trained, catalogue: Catalogue | None = None, **told: object) -> Path:
        catalogue = catalogue or planted.catalogue
        golden = golden_batch(planted, cut, planted.catalogue)
        return save_bundle(tmp_path / name, hybrid, catalogue, policy, replace(provenance, **told), golden)

    return to


def contract(folder: Path, training_set: TrainingSet, champion: Path | None = None) -> Verdict:
    judgement = judge(Case.load(training_set, folder, champion, limits=LIMITS))
    return next(gate for gate in judgement.verdicts if gate.name == CONTRACT)


def renamed(catalogue: Catalogue, count: int) -> Catalogue:
    titles = tuple("another" if place < count else title for place, title in enumerate(catalogue.titles))
    return replace(catalogue, titles=titles)


def test_an_honest_bundle_agrees(write, bundle_folder, planted) -> None:
    assert contract(bundle_folder, planted).verdict == "pass"
    assert contract(bundle_folder, planted, bundle_folder).measured == 0.0
    edited = write("edited", catalogue=renamed(planted.catalogue, 3))
    assert contract(edited, planted).verdict == "pass", "titles are put right now and then"


def test_ids_in_disorder_and_other_attributes_are_told(write, bundle_folder, planted, tmp_path: Path) -> None:
    shuffled = contract(spoil(bundle_folder, tmp_path / "shuffled"), planted, bundle_folder)
    assert shuffled.verdict == "fail"
    assert "of the items that both know have other genres" in shuffled.note
    assert "titles" not in shuffled.note, "ids and titles moved together"
    edited = contract(write("edited", catalogue=renamed(planted.catalogue, 4)), planted)
    assert (edited.verdict, edited.note) == ("fail", "7% of the items that both know have other titles")


def test_ids_in_disorder_without_attributes_are_told_by_how_much_items_are_used(write, planted, tmp_path: Path) -> None:
    stats_NF = np.full((len(planted.catalogue), len(ITEM_STATS)), np.nan, np.float32)
    stats_NF[:, 0] = np.bincount(planted.items, minlength=len(stats_NF))
    nothing = {"genres": ((),) * len(stats_NF), "years": (None,) * len(stats_NF)}
    bare = replace(planted, catalogue=replace(planted.catalogue, stats_NF=stats_NF, **nothing))
    earlier = replace(bare.catalogue, stats_NF=stats_NF // 2)
    sound = write("bare", catalogue=earlier)
    assert contract(sound, bare).verdict == "pass"
    shuffled = contract(spoil(sound, tmp_path / "shuffled"), bare)
    assert shuffled.verdict == "fail"
    assert "as much used are not those that were" in shuffled.note


@pytest.mark.parametrize("with_champion", [True, False])
def test_another_catalogue_is_told_by_the_targets_it_does_not_know(
    write, bundle_folder, planted, with_champion: bool
) -> None:
    catalogue = planted.catalogue
    foreign = replace(catalogue, item_ids=tuple(f"x-{item_id}" for item_id in catalogue.item_ids))
    found = contract(write("foreign", catalogue=foreign), planted, bundle_folder if with_champion else None)
    assert found.verdict == "fail"
    assert found.note.startswith("it does not know the items of 100.0% of the targets")


def test_of_the_targets_that_it_does_not_know_one_user_makes_up_no_more_than_the_cap(write, planted, cut: int) -> None:
    ids = planted.catalogue.item_ids
    lacking = replace(planted.catalogue, item_ids=(*(f"x-{item_id}" for item_id in ids[:20]), *ids[20:]))
    folder, limits = write("lacking", catalogue=lacking), replace(LIMITS, user_cap=1)
    came_often = (planted.users % 2 == 0) | (planted.positions % 5 == 0)
    uneven = planted.select((planted.times <= cut) | came_often)
    asked = replay(Bundle.load(folder).hybrid, uneven, cut, int(uneven.times.max()), catalogue=lacking)
    is_unknown_E = uneven.items[event_rows(asked, uneven)] < 20
    assert asked.unknown == is_unknown_E.sum(), "what a replay counts is what is weighed"
    expected = pd.Series(is_unknown_E).groupby(asked.events["user_id"]).mean().mean()
    assert f"{expected:.1%}" != f"{is_unknown_E.mean():.1%}"
    note = next(gate.note for gate in judge(Case.load(uneven, folder, limits=limits)).verdicts if gate.name == CONTRACT)
    assert note.startswith(f"it does not know the items of {expected:.1%} of the targets")


def test_what_it_learned_from_is_compared_by_name(
    write, planted, provenance: Provenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = contract(write("service", window={**planted.window, "feature_service": "training_v0"}), planted)
    assert other.note == "the feature service that it learned from is training_v0, the training set's training_v1"
    with monkeypatch.context() as patch:
        patch.setattr(bundles, "REWARD_TABLE_VERSION", 0)
        patch.setattr(bundles, "KINDS", dict.fromkeys(["impression", "click"]))
        patch.setattr(bundles, "ITEM_STATS", tuple(reversed(ITEM_STATS)))
        old = write("old")
    found = contract(old, planted)
    assert (found.verdict, found.measured) == ("fail", 3.0)
    for words in ("the reward table that it learned from is 0", "impression, click", "statistics of items"):
        assert words in found.note


def test_kinds_that_came_after_it_learned_are_no_fault(write, planted, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(bundles, "KINDS", dict.fromkeys(list(bundles.KINDS)[:5]))
        early = write("early")
    assert contract(early, planted).verdict == "pass"


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(write, planted, trained: Hybrid, value: float) -> None:
    weights_N = trained.popularity.weights_N.copy()
    weights_N[3] = value
    broken = trained.with_others(replace(trained.popularity, weights_N=weights_N))
    judgement = judge(Case.load(planted, write("broken", broken), limits=LIMITS))
    found = {gate.name: gate for gate in judgement.verdicts}
    assert found["data_contract"].note == "not every number is finite in popularity/weights_N"
    assert {found[name].verdict for name in ("data_contract", "latency", "parity")} == {"fail"}
    json.dumps(judgement.as_dict(), allow_nan=False)


def test_items_that_nobody_had_used_are_no_fault_of_a_first_model(bundle_folder, planted, cut: int) -> None:
    """One item in five is another from a position on: after the training, or already while it learned."""
    count = len(planted.catalogue)
    ids = tuple(f"new-{place}" for place in range(count))
    unknown_NF = np.full((count, len(ITEM_STATS)), np.nan, np.float32)
    more = Catalogue(ids, ids, ((),) * count, (None,) * count, unknown_NF)
    both = replace(planted, catalogue=planted.catalogue.extended(more))
    for start, verdict in ((cut, "pass"), (cut // 2, "fail")):
        is_other = (planted.times > start) & (planted.items % 5 == 0)
        found = contract(bundle_folder, replace(both, items=planted.items + count * is_other))
        assert found.verdict == verdict, found.note
