"""What the registry must keep: whatever a promotion, a gate or a roll-back of any endpoint may ask for."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from attune.event_log import prepare
from attune.promotions import Promotions
from attune.settings import Settings
from flows import retire
from models.training_job import report_file


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Promotions]:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    with closing(Promotions(url)) as promotions:
        yield promotions


def promote(table: Promotions, endpoint: str, version: str, action: str = "promote") -> None:
    with table.lease(endpoint, "test", 60) as lease:
        table.append(lease, version, action, "", "test")


def test_every_endpoints_champions_and_first_are_kept(table: Promotions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retire, "CHAMPIONS_KEPT", 2)
    for version in ("1", "2", "3", "4", "5"):
        promote(table, "default", version)
    promote(table, "shop", "9")
    assert {row.version for row in retire.needed(table)} == {"1", "4", "5", "9"}


def test_nothing_promoted_keeps_nothing(table: Promotions) -> None:
    assert retire.needed(table) == []


def test_logged_slates_cost_no_training_set_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five of each kind, all old, the slates the younger: the latest three of both stay."""
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "var"))
    settings = Settings()
    prepare(settings.log_url)
    names = [*(f"upto-{n}" for n in range(5)), *(f"slates-1-0-{n}" for n in range(5))]
    for place, name in enumerate(names):
        folder = settings.training_folder / name
        folder.mkdir(parents=True)
        moment = time.time() - 10 * retire.WORK_SECONDS + place
        os.utime(folder, (moment, moment))
    gone = retire.tidy_folders.fn(settings)
    assert (gone["training_sets"], gone["logged_slates"]) == (2, 2)
    left = {path.name for path in settings.training_folder.iterdir()}
    assert left == {*names[2:5], *names[7:]}


def test_a_report_costs_no_bundle_its_place_and_goes_with_its_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five bundles with a training report each, all old: the latest three stay, each with its report."""
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "var"))
    settings = Settings()
    prepare(settings.log_url)
    made = settings.bundles_folder / "made"
    for place in range(5):
        folder = made / f"tiny-{place}"
        folder.mkdir(parents=True)
        report_file(folder).write_text("{}")
        moment = time.time() - 10 * retire.WORK_SECONDS + place
        os.utime(folder, (moment, moment))
        os.utime(report_file(folder), (moment, moment))
    assert retire.tidy_folders.fn(settings)["bundles_made"] == 2
    kept = [made / f"tiny-{place}" for place in (2, 3, 4)]
    assert set(made.iterdir()) == {*kept, *map(report_file, kept)}
