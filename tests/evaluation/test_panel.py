"""A challenger that serves the latest users well and lost what it knew of others is caught on older times."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.case import Case, CaseLimits
from evaluation.gates.panel import Panel
from evaluation.judge import judge
from evaluation.report import Judgement
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet, is_panel
from models.learning.finetuning import finetune
from models.learning.training import last_position, learnable, train
from models.network.config import Recipe

ITEMS, EACH, STEP = 20, 8, 1_000_000
LIMITS = CaseLimits(min_users=30)


def names(count: int, panel: bool, prefix: str) -> list[str]:
    """The first ids of a prefix that do, or do not, belong to the panel."""
    found = np.array([f"{prefix}{place:05d}" for place in range(count * 15)])
    return found[is_panel(found) == panel][:count].tolist()


def people(users: list[str], cluster: str, start: int, rng: np.random.Generator) -> list[tuple]:
    """Each uses some items of the cluster, in the order of a walk around it: who used one uses the next."""
    rows = []
    for place, user in enumerate(users):
        first = int(rng.integers(ITEMS))
        for step in range(EACH):
            item = f"{cluster}{(first + step) % ITEMS:02d}"
            rows.append((user, item, "like", None, start + (place * EACH + step) * STEP))
    return rows


@pytest.fixture(scope="module")
def eras(make_training_set: Callable[..., TrainingSet]) -> tuple[TrainingSet, int, int]:
    """First people of two tastes come, of the panel too; later those of taste ``b`` alone. When two eras end."""
    rng = np.random.default_rng(0)
    first = people(names(70, False, "a"), "a", 0, rng) + people(names(60, True, "a"), "a", 0, rng)
    first += people(names(70, False, "b"), "b", 0, rng) + people(names(60, True, "b"), "b", 0, rng)
    late = max(row[4] for row in first) + STEP
    second = people(names(70, False, "c"), "b", late, rng)
    third = people(names(40, False, "d") + names(60, True, "d"), "b", late * 4, rng)
    rows = sorted(first, key=lambda row: row[4]) + second + third
    items = [f"{cluster}{place:02d}" for cluster in "ab" for place in range(ITEMS)]
    stream = make_training_set([(position, *row) for position, row in enumerate(rows, start=1)], items)
    return stream, stream.moment(len(first)), stream.moment(len(first) + len(second))


@pytest.fixture(scope="module")
def champion(eras, quick: Recipe, save: Callable[..., Path]) -> Path:
    stream, known, _ = eras
    trained = train(stream, quick, int(known * 0.85), known, seed=1)
    return save("champion", trained.hybrid, known)


@pytest.fixture(scope="module")
def save(eras, quick: Recipe, policy, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    stream = eras[0]
    folder = tmp_path_factory.mktemp("eras")

    def write(name: str, hybrid: Hybrid, upto: int) -> Path:
        lineage = {"trained_upto_time": upto, "holdout_after_time": upto}
        last = last_position(stream, upto)
        provenance = Provenance(quick.as_dict(), stream.window, last, last, seed=0, panel_users_trained=0, **lineage)
        golden = golden_batch(stream, upto, stream.catalogue)
        return save_bundle(folder / name, hybrid, stream.catalogue, policy, provenance, golden)

    return write


def verdicts(judgement: Judgement) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in judgement.verdicts}


def test_an_honest_fine_tune_has_forgotten_nothing(eras, champion: Path, quick: Recipe, save) -> None:
    stream, _, learned = eras
    tuned = finetune(Bundle.load(champion), stream, quick, learned, seed=2)
    found = judge(Case.load(stream, save("honest", tuned.hybrid, learned), champion, limits=LIMITS))
    assert verdicts(found)["no_forgetting"] == "pass"
    assert "120 users" in next(gate.note for gate in found.verdicts if gate.name == "no_forgetting")


def test_who_forgot_the_taste_of_those_who_did_not_come_lately_is_caught_there_alone(
    eras, champion: Path, quick: Recipe, save
) -> None:
    stream, known, learned = eras
    latest = learnable(stream, learned)
    latest = latest.select(latest.times > known)
    forgetful = train(latest, quick, int(known + (learned - known) * 0.85), learned, seed=2)
    found = judge(Case.load(stream, save("forgetful", forgetful.hybrid, learned), champion, limits=LIMITS))
    failed = {name for name, verdict in verdicts(found).items() if verdict == "fail"}
    assert failed - {"calibration"} == {"no_forgetting"}, "what has learned from few need not be calibrated"
    assert verdicts(found)["not_worse_than_champion"] == "pass"
    gate = next(gate for gate in found.verdicts if gate.name == "no_forgetting")
    assert gate.high < gate.limit == Panel().forgetting_change


def test_older_times_are_the_panels_and_end_where_the_champion_had_learned(eras, champion: Path) -> None:
    stream, known, learned = eras
    _, replay = Case.load(stream, champion, champion, after=learned).panel_replays(Panel().panel.earlier)
    events = replay.events
    assert events["position"].max() <= last_position(stream, known)
    assert is_panel(events["user_id"].unique()).all()
    assert len(events) == 120 * EACH
    assert list(Panel()(Case.load(stream, champion, after=learned))) == [], "without a champion nothing is forgotten"


def test_of_many_older_events_as_many_are_asked_of_each_the_latest(eras, champion: Path) -> None:
    stream, known, learned = eras
    _, replay = Case.load(stream, champion, champion, after=learned).panel_replays(120 * 3 + 5)
    events = replay.events
    assert set(events.groupby("user_id").size()) == {3}
    assert events["user_id"].nunique() == 120
    all_of = stream.positions[(stream.user_ids[stream.users] == events["user_id"][0]) & (stream.times <= known)]
    assert events[events["user_id"] == events["user_id"][0]]["position"].tolist() == np.sort(all_of)[-3:].tolist()


def test_few_of_the_panel_say_nothing(bundle_folder, planted) -> None:
    found = judge(Case.load(planted, bundle_folder, bundle_folder, limits=replace(LIMITS, min_users=10)))
    assert verdicts(found)["no_forgetting"] == "not_applicable"
