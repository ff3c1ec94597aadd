"""A version that cannot be judged is refused with the reason and stands in nobody's way; over real servers."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from attune.errors import BundleError, EventLogError, VersionLost
from attune.promotions import Promotions
from attune.settings import Settings
from evaluation import judge
from flows import promote, resources
from infra.commands import versions
from infra.local_stack import Stack
from models.learning.dataset import TrainingSet
from models.ranking.policy import PlackettLuce
from models.registry import Registry


@pytest.fixture
def servers(settings: Settings) -> Iterator[Stack]:
    """MLflow and Prefect; the environment points at them, and so does Prefect, which read it when it was imported."""
    before = dict(os.environ)
    with Stack(settings) as stack:
        stack.start("prefect", "mlflow")
        stack.wait()
        told = {PREFECT_API_URL: os.environ["PREFECT_API_URL"], PREFECT_HOME: os.environ["PREFECT_HOME"]}
        with temporary_settings(told):
            yield stack
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def registered(settings: Settings, servers: Stack, training_folder, bundle_of) -> Registry:
    """Four versions of one bundle, the last the challenger; the artifacts of 1 are gone, those of 2 damaged."""
    registry = resources.registry(Settings())
    known = TrainingSet.load(training_folder())
    bundle = bundle_of(settings.var / "made", (0.0, 0.9, 0.1), PlackettLuce(0.1), known, last=200)
    for _ in range(4):
        registry.register(bundle, {"parameters": 1})
    registry.point_challenger("4")
    shutil.rmtree(artifacts(settings, registry, "1"))
    (items,) = artifacts(settings, registry, "2").rglob("items.json")
    items.write_text("{}")
    return registry


def artifacts(settings: Settings, registry: Registry, version: str) -> Path:
    (run_id,) = (row["run_id"] for row in registry.versions() if row["version"] == version)
    (folder,) = settings.mlflow_folder.rglob(f"{run_id}/artifacts/model")
    return folder


def tags(registry: Registry, version: str) -> dict[str, str]:
    return next(row["tags"] for row in registry.versions() if row["version"] == version)


def test_the_next_run_takes_the_next_version(
    settings: Settings, registered: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lost, damaged, and one whose measuring ends with a ValueError; then one that can be judged."""
    with pytest.raises(VersionLost, match="artifacts were removed or lost"):
        registered.download("1", tmp_path)
    with pytest.raises(BundleError, match=r"items\.json"):
        promote.fetch_challenger.fn(settings, "2")

    judge_case = judge.judge
    answers: list[Exception] = [EventLogError("the log is away"), ValueError("no such statistic")]

    def out_of_order(*arguments: Any, **named: Any) -> Any:
        if answers:
            raise answers.pop(0)
        return judge_case(*arguments, **named)

    monkeypatch.setattr(judge, "judge", out_of_order)
    for version, why in (("1", "removed or lost"), ("2", "items.json"), ("3", "no such statistic")):
        if version == "3":
            with pytest.raises(EventLogError):
                promote.promote()
            assert "judged" not in tags(registered, "3"), "nobody's fault: it is tried again"
        found = promote.promote()
        assert (found["version"], found["accepted"], found["promoted"]) == (version, False, False)
        assert why in found["cannot_be_judged"]
        told = tags(registered, version)
        assert told["cannot_be_judged"] == found["cannot_be_judged"]
        assert told["judged"].startswith("champion none, events to ")
    found = promote.promote()
    assert found["version"] == "4"
    assert "cannot_be_judged" not in found
    assert tags(registered, "4")["accepted"] == str(found["accepted"]).lower()
    listed = {one.version: one for one in versions.registered(registered, limit=9)}
    assert [listed[version].accepted for version in "123"] == [False] * 3
    assert "items.json" in str(listed["2"].cannot_be_judged)

    found = promote.promote(version="3", accept_undecided=True)
    assert "gates" in found, "it can be judged by now"
    assert "cannot_be_judged" not in tags(registered, "3")
    with pytest.raises(VersionLost, match="no version 99"):
        promote.promote(version="99")


@pytest.mark.long
def test_who_was_champion_and_is_lost_is_told_with_the_reason(settings: Settings, registered: Registry) -> None:
    """The first champion's artifacts are gone, the one of ten promotions ago is damaged; the champion is there."""
    with closing(Promotions(settings.log_url)) as table:
        for version in ("1", "2", *["4", "3"] * 5):
            with table.lease(settings.endpoint, "test", 60) as lease:
                table.append(lease, version, "promote", "", "test")
        found, lost = promote.fetch_rivals.fn(settings, table)
    assert found["champion"] is not None
    assert (found["anchor"], found["elder"]) == (None, None)
    assert lost["anchor"].startswith("the first champion, version 1, cannot be fetched any more: ")
    assert lost["elder"].startswith("the champion of ten promotions ago, version 2, cannot be fetched any more: ")
