"""Runs `attune` in this process, makes a small dataset for it, and finds the processes of one test."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from attune.clock import HOUR, SECOND
from attune.columns import ITEM_STATS, USER_STATS
from attune.events import Interaction, Item
from infra import cli
from models.baselines import ItemKnn, KnnChoice, Popularity
from models.bundle import Provenance, golden_batch, save_bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.network.config import SequenceConfig
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender
from models.ranking.policy import PlackettLuce

MARK = "FAMILY_OF_TEST"


@pytest.fixture
def family() -> Callable[[str], list[str]]:
    """Gives the commands that still run with a mark in their environment: children, grandchildren, reapers."""

    def members(mark: str) -> list[str]:
        commands = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    commands.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return commands

    return members


@pytest.fixture
def attune(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run `attune ARGUMENTS` in this process under an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("ATTUNE_SERVING_PORT", "0")
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["attune", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


GROUPS, GROUP_ITEMS, PEOPLE = "abc", 8, 60
NOW = 1_600_000_000 * SECOND


@pytest.fixture(scope="session")
def clicks() -> list[Interaction]:
    """Sixty people, each of whom clicks on six items of one of the groups a, b and c."""
    random = np.random.default_rng(11)
    return [
        Interaction(
            event_id=f"e-{person}-{step}",
            event_timestamp=NOW + (person * 10 + step) * HOUR,
            user_id=f"p{person}",
            item_id=f"{GROUPS[person % 3]}-{number}",
            kind="click",
        )
        for person in range(PEOPLE)
        for step, number in enumerate(random.permutation(GROUP_ITEMS)[:6])
    ]


@pytest.fixture(scope="session")
def described() -> list[Item]:
    """The items of all groups with a title each."""
    names = [f"{group}-{number}" for group in GROUPS for number in range(GROUP_ITEMS)]
    return [
        Item(event_id=f"i-{name}", event_timestamp=0, item_id=name, attributes={"title": f"Title of {name}"})
        for name in names
    ]


@pytest.fixture(scope="session")
def make_bundle(clicks: list[Interaction], described: list[Item]) -> Callable[[Path, int], Path]:
    """Saves a bundle of real parts over these events; the network is left as the seed drew it."""
    events = pd.DataFrame([{name: getattr(click, name) for name in click.__struct_fields__} for click in clicks])
    events = events.assign(position=range(1, len(events) + 1), reward=1.0)
    events[[*USER_STATS, *ITEM_STATS]] = np.nan
    items = pd.DataFrame({"item_id": [item.item_id for item in described]})
    items = items.assign(title="Title of " + items.item_id, year=np.nan, genres=[[name[0]] for name in items.item_id])
    items[list(ITEM_STATS)] = np.nan
    window = {"feature_service": "training_v1", "digest": "0" * 64, "rows": len(events)}
    window |= {"first_position": 1, "last_position": len(events)}

    def make(folder: Path, seed: int) -> Path:
        training_set = TrainingSet.from_frames(events, items, window)
        torch.manual_seed(seed)
        attributes = ItemAttributes.of(training_set.catalogue)
        network = SequenceNetwork(SequenceConfig(width=16, blocks=1, heads=2, context=20), attributes)
        hybrid = Hybrid(
            SequenceRecommender(network, attributes.genre_names),
            (
                ItemKnn.fit(training_set, KnnChoice(50, 5.0, 20, 1.0, 0.5, 20)),
                Popularity.fit(training_set, 30.0),
            ),
            (0.1, 0.7, 0.2),
        )
        upto = len(events)
        provenance = Provenance({"name": "by hand"}, window, upto, upto, seed, 0)
        golden = golden_batch(training_set, int(training_set.times.max()), training_set.catalogue)
        return save_bundle(folder, hybrid, training_set.catalogue, PlackettLuce(0.1), provenance, golden)

    return make
