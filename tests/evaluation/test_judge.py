"""A challenger held against the gates on a planted world: a good one passes, its spoiled twin is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.columns import TRAIT_COLUMNS
from evaluation.case import Case, CaseLimits
from evaluation.hold_out import CachedHybrid, ReplayCache
from evaluation.judge import LIMITS_VERSION, judge
from evaluation.replay import replay_together
from evaluation.report import Judgement
from evaluation.simple_baselines import simple_baselines
from infra.demo import spoil
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.hybrid import normalised
from models.learning.dataset import BEFORE_ALL, groups, histories
from models.metrics import values
from models.ranking.policy import PlackettLuce

DECISIVE = CaseLimits(min_users=30)
TESTED = ("new_users", "genre_g0", "genre_g1", "genre_g2", "decade_1990", "decade_2000", "panel")
UNTESTED = ("light_users", "heavy_users", "long_tail_items")


def verdicts(judgement: Judgement) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in judgement.verdicts}


@pytest.fixture(scope="module")
def first(bundle_folder, planted) -> Judgement:
    return judge(Case.load(planted, bundle_folder, limits=DECISIVE))


def test_a_good_first_model_passes(first: Judgement) -> None:
    assert verdicts(first) == {
        "beats_popularity": "pass",
        "not_worse_than_champion": "not_applicable",
        "not_worse_than_anchor": "not_applicable",
        "not_worse_than_elder": "not_applicable",
        "dislikes": "not_applicable",
        "coverage": "pass",
        "calibration": "not_applicable",
        "latency": "pass",
        "exploration": "pass",
        "live_weight": "pass",
        "data_contract": "pass",
        "parity": "pass",
        "lineage": "pass",
    }
    assert first.accepted


def test_the_judgement_counts_every_event_of_the_hold_out(first: Judgement, planted, cut: int) -> None:
    held = first.hold_out
    assert (held["after_time"], held["upto_time"], held["late"]) == (cut, planted.times.max(), 0)
    assert held["events"] + held["repeated"] + held["unmarked"] == (planted.times > cut).sum()
    assert first.metrics["all"]["events"] == held["events"]
    assert set(first.baselines) == {"popularity", "network alone", "item-knn alone", "popularity alone"}


def test_a_spoiled_challenger_is_refused_by_name_and_its_twin_passes(bundle_folder, planted, tmp_path: Path) -> None:
    spoiled = spoil(bundle_folder, tmp_path / "spoiled")
    limits = CaseLimits()  # 64 users decide
    refused = judge(Case.load(planted, spoiled, limits=limits), accept_undecided=True)
    assert [gate.name for gate in refused.verdicts if gate.verdict == "fail"] == ["beats_popularity", "data_contract"]
    assert refused.decision == "refused"
    assert judge(Case.load(planted, bundle_folder, limits=limits)).accepted
    strict = replace(limits, min_users=100.0)  # 64 do not
    kept_out = judge(Case.load(planted, spoiled, limits=strict), accept_undecided=True)
    assert [gate.name for gate in kept_out.verdicts if gate.adverse] == ["beats_popularity"], "no option accepts that"
    twin = judge(Case.load(planted, bundle_folder, limits=strict), accept_undecided=True)
    assert twin.accepted
    assert replace(twin, accept_undecided=False).decision == "undecided"
    against = judge(Case.load(planted, spoiled, bundle_folder, bundle_folder, limits=limits))
    assert verdicts(against)["not_worse_than_champion"] == "fail"


def test_against_itself_a_model_is_not_worse(bundle_folder, planted) -> None:
    found = judge(Case.load(planted, bundle_folder, bundle_folder, bundle_folder, limits=DECISIVE))
    assert verdicts(found)["not_worse_than_champion"] == "pass"
    assert verdicts(found)["not_worse_than_anchor"] == "not_applicable"
    assert found.intervals["against champion, relative"]["ndcg@10"].value == 0.0


def test_against_the_champion_a_challenger_is_asked_who_loses_and_what_becomes_of_the_lists(
    bundle_folder, planted
) -> None:
    found = verdicts(judge(Case.load(planted, bundle_folder, bundle_folder, limits=DECISIVE)))
    harmless = {name for name in found if name.startswith("no_harm_to_")}
    assert harmless == {f"no_harm_to_{name}" for name in (*TESTED, *UNTESTED)}
    assert {found[f"no_harm_to_{name}"] for name in TESTED[:-1]} == {"pass"}
    assert {found[f"no_harm_to_{name}"] for name in ("panel", *UNTESTED)} == {"not_applicable"}, "too few users"
    assert [found[name] for name in ("diversity", "novelty", "memory")] == ["pass"] * 3


def test_a_worse_model_is_refused_by_champion_and_anchor(
    bundle_folder, planted, trained, policy, provenance, cut, tmp_path: Path
) -> None:
    worse = replace(trained, weights=(0.0, 0.0, 1.0))
    folder = save_bundle(
        tmp_path / "worse", worse, planted.catalogue, policy, provenance, golden_batch(planted, cut, planted.catalogue)
    )
    found = judge(Case.load(planted, folder, bundle_folder, bundle_folder, limits=DECISIVE, elder=bundle_folder))
    assert verdicts(found)["not_worse_than_champion"] == "fail"
    assert verdicts(found)["not_worse_than_elder"] == "not_applicable", "the same as the champion"
    assert {verdict for name, verdict in verdicts(found).items() if name.startswith("no_harm_to_genre")} == {"fail"}
    traits = [
        *(("user", user_id, "country", "AT" if place % 6 else "BE") for place, user_id in enumerate(planted.user_ids)),
        *(("item", item_id, "maker", "acme") for item_id in planted.catalogue.item_ids[::2]),
        *(("item", item_id, "sku", item_id) for item_id in planted.catalogue.item_ids),
    ]
    told = replace(planted, traits=pd.DataFrame(traits, columns=list(TRAIT_COLUMNS)))
    of_kinds = verdicts(judge(Case.load(told, folder, bundle_folder, limits=DECISIVE)))
    assert {name: of_kinds[name] for name in of_kinds if "harm_to_user" in name or "_item_" in name} == {
        "no_harm_to_user_country_AT": "fail",
        "no_harm_to_item_maker_acme": "fail",
    }
    assert of_kinds["no_harm_to_other_slices"] == "not_applicable", "there are few from BE"
    better = judge(Case.load(planted, bundle_folder, folder, folder, limits=DECISIVE))
    assert verdicts(better)["not_worse_than_champion"] == "pass"
    anchored = judge(Case.load(planted, folder, folder, bundle_folder, limits=DECISIVE))
    assert verdicts(anchored)["not_worse_than_champion"] == "pass"
    assert verdicts(anchored)["not_worse_than_anchor"] == "fail"


@pytest.mark.parametrize("fault", [{"panel_users_trained": 2}, {"trained_upto_time": 10**15}])
def test_a_model_that_saw_the_hold_out_or_the_panel_is_refused(
    planted, trained, policy, provenance: Provenance, cut, tmp_path: Path, fault: dict[str, int]
) -> None:
    golden = golden_batch(planted, cut, planted.catalogue)
    folder = save_bundle(tmp_path / "fault", trained, planted.catalogue, policy, replace(provenance, **fault), golden)
    found = judge(Case.load(planted, folder, after=cut, limits=DECISIVE))
    assert [gate.name for gate in found.verdicts if gate.verdict == "fail"] == ["lineage"]


def test_more_learned_than_declared_is_refused_where_promotion_judges(
    planted, trained, policy, provenance: Provenance, cut, write_training_set, tmp_path: Path
) -> None:
    """No moment is handed over here: the hold-out begins where the bundle says, what it saw was measured."""
    golden = golden_batch(planted, cut, planted.catalogue)
    data = write_training_set(planted, tmp_path / "set")
    found = {}
    first = int(planted.times[planted.times > cut].min())
    for seen in (cut, first):
        one = replace(provenance, trained_upto_time=seen)
        folder = save_bundle(tmp_path / f"upto-{seen}", trained, planted.catalogue, policy, one, golden)
        found[seen] = judge(Case.load(data, folder, limits=DECISIVE))
        assert found[seen].hold_out["after_time"] == cut
    assert found[cut].accepted
    assert [gate.name for gate in found[first].verdicts if gate.verdict == "fail"] == ["lineage"]


def test_tables_that_do_not_belong_together_fail_parity(
    bundle_folder, planted, trained, policy, provenance, cut, tmp_path
):
    class Drifting:
        """Scores at saving otherwise than it will when loaded."""

        def __getattr__(self, name: str) -> object:
            return getattr(trained, name)

        def scores(self, batch) -> np.ndarray:
            return trained.scores(batch) + np.float32(0.01)

    golden = golden_batch(planted, cut, planted.catalogue)
    folder = save_bundle(tmp_path / "drift", Drifting(), planted.catalogue, policy, provenance, golden)
    assert verdicts(judge(Case.load(planted, folder, limits=DECISIVE)))["parity"] == "fail"


def test_without_a_hold_out_nothing_is_decided(bundle_folder, planted) -> None:
    found = judge(Case.load(planted, bundle_folder, after=int(planted.times.max())))
    assert verdicts(found)["beats_popularity"] == "undecided"
    assert verdicts(found)["coverage"] == "undecided"
    assert found.hold_out["events"] == 0
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_judgement_as_json_and_for_people(first: Judgement) -> None:
    found = json.loads(json.dumps(first.as_dict(), allow_nan=False))
    assert found["accepted"] is True
    assert found["gates"][0]["name"] == "beats_popularity"
    assert found["limits"]["version"] == LIMITS_VERSION
    text = first.markdown()
    for gate in first.verdicts:
        assert f"| {gate.name} | {gate.verdict} |" in text
    assert "popularity" in first.summary()


def test_from_folders(bundle_folder, planted, write_training_set, tmp_path: Path) -> None:
    folder = write_training_set(planted, tmp_path / "set")
    found = judge(Case.load(folder, bundle_folder), accept_undecided=True)
    assert found.hold_out["events"] == 640 - found.hold_out["repeated"]
    assert found.accepted


def test_the_parts_are_asked_once_a_batch_and_the_hybrid_is_the_same(trained, planted) -> None:
    asked = groups(planted, BEFORE_ALL, int(planted.times.max()))
    batch = histories(planted, asked.select(np.arange(20)))
    hybrid = CachedHybrid(trained)
    parts = hybrid.parts
    np.testing.assert_array_equal(
        hybrid.scores(batch), trained.served(batch, trained.sources(batch, trained.states(batch)))
    )
    assert np.shares_memory(parts[1].scores(batch), parts[1].scores(batch))
    for part, own in zip(parts, trained.parts, strict=True):
        for at in (batch, histories(planted, asked.select(np.arange(20, 40)))):
            assert part.name == own.name
            np.testing.assert_allclose(part.scores(at), normalised(own.scores(at)), atol=1e-6)


def test_the_compared_are_replayed_once_for_many_challengers(
    bundle_folder, planted, trained, policy, provenance, cut, tmp_path: Path
) -> None:
    golden = golden_batch(planted, cut, planted.catalogue)
    worse = replace(trained, weights=(0.0, 0.0, 1.0))
    folder = save_bundle(tmp_path / "worse", worse, planted.catalogue, policy, provenance, golden)
    alone = judge(Case.load(planted, folder, bundle_folder, limits=DECISIVE))
    replayed: ReplayCache = {}
    first = judge(Case.load(planted, folder, bundle_folder, limits=DECISIVE, replay_cache=replayed))
    kept = dict(replayed)
    assert {who for who, *_ in kept} == {first.versions["champion"], "the best simple baseline"}
    again = judge(Case.load(planted, folder, bundle_folder, limits=DECISIVE, replay_cache=replayed))
    assert all(replayed[exam] is kept[exam] for exam in replayed.keys() | kept.keys())
    for found in (first, again):
        assert found.intervals == alone.intervals
        assert found.metrics == alone.metrics
        assert found.baselines == alone.baselines
    judge(Case.load(planted, folder, bundle_folder, after=cut + 5_000_000, limits=DECISIVE, replay_cache=replayed))
    assert len(replayed) == len(kept) + 2, "another hold-out is another exam; the older times are the same"


def test_what_a_mapping_holds_of_others_is_believed_of_the_challenger_never(bundle_folder, planted, cut) -> None:
    replayed: ReplayCache = {}
    found = judge(Case.load(planted, bundle_folder, bundle_folder, limits=DECISIVE, replay_cache=replayed))
    assert [who for who, *_ in replayed] == ["the best simple baseline"], "the champion is the challenger"
    assert found.baselines["champion"] == found.metrics


def test_who_has_no_history_is_judged_by_what_serving_shows_them(bundle_folder, planted, cut: int) -> None:
    """With the mix (a, b, 0) popularity answers newcomers alone; turned round it must be seen."""
    bundle = Bundle.load(bundle_folder)
    turned = replace(bundle.popularity, weights_N=1.0 - bundle.popularity.weights_N)
    honest = replace(bundle.hybrid, weights=(0.5, 0.5, 0.0))
    asked = groups(planted, cut, int(planted.times.max()))
    batch = histories(planted, asked, catalogue=bundle.catalogue)
    unknown_B = batch.items_BL[:, -1] == 0
    assert unknown_B.any()
    found = [CachedHybrid(one).scores(batch) for one in (honest, honest.with_others(turned))]
    assert (found[0][unknown_B] == bundle.popularity.weights_N).all()
    assert (found[1][unknown_B] == turned.weights_N).all()
    np.testing.assert_array_equal(found[0][~unknown_B], found[1][~unknown_B])


def test_the_challenger_does_not_choose_the_popularity_that_it_has_to_beat(
    bundle_folder, planted, cut: int, tmp_path
) -> None:
    bundle = Bundle.load(bundle_folder)
    easy = bundle.hybrid.with_others(replace(bundle.popularity, half_life_days=0.001))
    lineage = Provenance({}, planted.window, 960, 960, seed=0, panel_users_trained=0)
    golden = golden_batch(planted, cut, planted.catalogue)
    folder = save_bundle(tmp_path / "easy", easy, bundle.catalogue, PlackettLuce(), lineage, golden)
    found = [judge(Case.load(planted, one, limits=DECISIVE)).baselines["popularity"] for one in (bundle_folder, folder)]
    assert found[0] == found[1]
    baselines = simple_baselines(planted, cut, DECISIVE.half_lives, DECISIVE.trends)
    replays = replay_together(baselines, planted, cut, int(planted.times.max()))
    best = max(float(np.nanmean(values(one, "ndcg@10")[1])) for one in replays)
    assert found[0]["all"]["ndcg@10"] == pytest.approx(best)
