"""The order in which events arrive decides nothing: not the split, not the model, not the judgement."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.clock import DAY, MINUTE
from attune.event_log import EventLog, prepare
from attune.events import Interaction, Item
from attune.settings import Settings
from evaluation.case import Case, CaseLimits
from evaluation.hold_out import event_rows
from evaluation.judge import judge
from evaluation.report import Judgement
from features import training_set
from features.feature_store import FeatureStore
from features.lake import Lake
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.learning.dataset import TrainingSet
from models.network.config import RECIPES, KnnGrid, Recipe, SequenceConfig
from models.training_job import finetune_bundle, report_file, train_bundle

START, PEOPLE, ITEMS = 19_000 * DAY, 60, 24
QUICK = Recipe(
    "quick",
    SequenceConfig(width=8, blocks=1, heads=1, context=8),
    epochs=1,
    finetune_epochs=1,
    negatives=8,
    knn=KnnGrid(windows=(10,), shrinkages=(1.0,), histories=(10,), decays=(1.0,), slopes=(0.5,)),
    popularity_days=(30.0,),
    mix_step=0.5,
)
LIMITS = CaseLimits(min_users=5, min_events=50)


def happened() -> list[Interaction]:
    """Everybody comes again and again over two months, and uses the items of one of two clusters; in order of time."""
    rng = np.random.default_rng(4)
    rows = [
        (int(rng.integers(60 * 24 * 60)) * MINUTE + person * 1_000_003, person, 2 * int(item) + person % 2)
        for person in range(PEOPLE)
        for item in rng.permutation(ITEMS // 2)
    ]
    return [
        Interaction(
            event_id=f"{person}-{item}",
            event_timestamp=START + moment,
            user_id=f"u{person:02d}",
            item_id=f"i{item:02d}",
            kind="like" if (person + item) % 5 else "view",
        )
        for moment, person, item in sorted(rows)
    ]


def reverse_halves(events: list[Interaction]) -> list[Interaction]:
    return events[len(events) // 2 :] + events[: len(events) // 2]


def shards(events: list[Interaction]) -> list[Interaction]:
    return sorted(events, key=lambda event: event.user_id)


class World:
    """A log with what arrived in it, and the training sets and bundles that are made of it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(var=folder)
        prepare(self.settings.log_url)
        titles = [Item(event_id=f"x{n}", event_timestamp=0, item_id=f"i{n:02d}", attributes={}) for n in range(ITEMS)]
        self.arrive(titles)

    def arrive(self, events: Iterable[Interaction | Item]) -> None:
        with closing(EventLog(self.settings.log_url, lambda: START + 100 * DAY)) as log:
            log.append(list(events))
            Lake(self.settings.lake_folder).ingest(log)

    def built(self) -> Path:
        lake, store = Lake(self.settings.lake_folder), FeatureStore(self.settings)
        store.apply()
        upto = lake.watermark()
        return training_set.build(lake, store, self.settings.training_folder / f"upto-{upto}", upto).folder

    def trained(self, folder: Path) -> Path:
        return train_bundle(folder, self.settings.bundles_folder, "quick", seed=1)


@pytest.fixture(autouse=True)
def quick_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "quick", lambda: QUICK)


@pytest.fixture
def world(tmp_path: Path) -> Callable[[str], World]:
    return lambda name: World(tmp_path / name)


def judged_events(case: Case) -> set[tuple[str, str, int]]:
    data = case.training_set
    rows = event_rows(case.replays["challenger"], data)
    ids = (data.catalogue.item_ids[item] for item in data.items[rows])
    return set(zip(data.user_ids[data.users[rows]], ids, data.times[rows].tolist(), strict=True))


def figures(judgement: Judgement) -> dict[str, object]:
    timed = ("latency", "not_slower_than_champion", "memory")
    gates = [replace(verdict, note="") for verdict in judgement.verdicts if verdict.name not in timed]
    return {"gates": gates, "metrics": judgement.metrics, "hold_out": judgement.hold_out, "rest": judgement.intervals}


def test_a_bulk_import_is_one_window_however_it_was_chunked(world: Callable[[str], World]) -> None:
    """In the order of time, the later half first, and user by user."""
    found = {}
    for order in (list, reverse_halves, shards):
        place = world(order.__name__)
        place.arrive(order(happened()))
        folder = place.built()
        bundle = place.trained(folder)
        case = Case.load(folder, bundle, limits=LIMITS)
        events = pd.read_parquet(folder / "events.parquet").drop(columns="position")
        found[order.__name__] = events, Bundle.load(bundle), case, judge(case)
    events, model, case, judgement = found.pop("list")
    assert len(judged_events(case)) > 50
    assert min(moment for *_, moment in judged_events(case)) > model.trained_upto_time
    assert [verdict.verdict for verdict in judgement.verdicts if verdict.name == "lineage"] == ["pass"]
    for other_events, other_model, other_case, other_judgement in found.values():
        pd.testing.assert_frame_equal(other_events, events)
        tensors = other_model.hybrid.tensors()
        for name, array in model.hybrid.tensors().items():
            np.testing.assert_array_equal(tensors[name], array, err_msg=name)
        assert other_model.hybrid.settings() == model.hybrid.settings()
        assert judged_events(other_case) == judged_events(case)
        assert figures(other_judgement) == figures(judgement)


def test_lineage_refuses_a_hold_out_by_position(world: Callable[[str], World], tmp_path: Path) -> None:
    """As bundles had it once: with users in shards nearly all that was judged happened before what was learned."""
    place = world("shards")
    place.arrive(shards(happened()))
    folder = place.built()
    data, model = TrainingSet.load(folder), Bundle.load(place.trained(folder))
    last = int(np.quantile(data.positions, 0.9))
    provenance = Provenance(QUICK.as_dict(), data.window, last, last, seed=1, panel_users_trained=0)
    golden = golden_batch(data, data.moment(last), model.catalogue)
    old = save_bundle(tmp_path / "old", model.hybrid, model.catalogue, model.policy, provenance, golden)
    after = int(data.times[data.positions > last].min()) - 1
    assert (data.times[data.positions > last] < data.moment(last)).mean() > 0.9
    by_position = judge(Case.load(folder, old, after=after, limits=LIMITS))
    assert [verdict.name for verdict in by_position.verdicts if verdict.name == "lineage"] == ["lineage"]
    assert "lineage" in [verdict.name for verdict in by_position.verdicts if verdict.verdict == "fail"]
    loaded = Case.load(folder, old, limits=LIMITS)
    assert loaded.after == data.moment(last), "what only positions are known of is judged after all that it learned"


def test_what_arrives_late_teaches_and_does_not_judge(world: Callable[[str], World]) -> None:
    place, events = world("late"), happened()
    backfill = [event for event in events if event.user_id < "u06"]  # dated over all the two months
    place.arrive(event for event in events if event.user_id >= "u06")
    first = place.built()
    bundle = place.trained(first)
    cut = Bundle.load(bundle).holdout_after_time
    before = Case.load(first, bundle, limits=LIMITS)
    assert "Late" not in judge(before).markdown()

    place.arrive(backfill)
    second = place.built()
    after = Case.load(second, bundle, limits=LIMITS)
    late = sum(event.event_timestamp <= cut for event in backfill)
    assert after.late == late > 40
    assert f"Late: {late} events arrived after newer ones were learned" in judge(after).markdown()
    own = {one for one in judged_events(after) if one[0] >= "u06"}
    assert own == judged_events(before)
    assert all(moment > cut for *_, moment in judged_events(after)), "of the backfill only what is newer judges"

    tuned = finetune_bundle(bundle, second, place.settings.bundles_folder, seed=1, hold_back=0.5)
    data, model = TrainingSet.load(second), Bundle.load(tuned)
    judgement = judge(Case.load(second, tuned, bundle, limits=LIMITS))
    assert judgement.hold_out["late"] == 0, "the next training has learned them"
    assert cut < model.trained_upto_time <= model.holdout_after_time < data.times.max()
    new = pd.read_json(report_file(tuned), typ="series")["new_events"]
    learned = (data.times <= model.holdout_after_time) & ((data.positions > before_upto(first)) | (data.times > cut))
    assert 0 < new <= learned.sum()
    assert new > ((data.times > cut) & (data.times <= model.holdout_after_time)).sum(), "late ones are among them"


def before_upto(folder: Path) -> int:
    return int(TrainingSet.load(folder).window["last_position"])
