"""The flows' tasks as plain functions, on a folder of the test's own and without a server."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from attune.event_log import EventLog
from attune.events import Interaction
from attune.promotions import Promotion, Promotions
from attune.settings import Settings
from features.lake import Lake
from features.validation_results import ValidationResult, ValidationResults
from flows import promote, resources, train, validate
from models.bundle import MANIFEST
from models.network.config import AUTO, RECIPES
from models.ranking.policy_registry import DEFAULTS


@pytest.fixture
def promotions(settings: Settings) -> Iterator[Promotions]:
    with closing(Promotions(settings.log_url)) as table:
        yield table


def test_a_batch_ends_at_the_lakes_watermark(settings: Settings) -> None:
    with closing(EventLog(settings.log_url)) as log:
        log.append([
            Interaction(event_id=f"e{n}", event_timestamp=n, user_id="u", item_id="i", kind="view") for n in range(5)
        ])  # fmt: skip
        Lake(settings.lake_folder).ingest(log)
    assert validate.window.fn(settings, None, None) == (0, 5)
    assert validate.window.fn(settings, None, 500) == (0, 5)
    assert validate.window.fn(settings, -3, 2) == (0, 2)
    ValidationResults(settings.validation_folder).record(ValidationResult(0, 3, (), ()))
    assert validate.window.fn(settings, None, 4) == (3, 4)


class Judged:
    """Stands for a judgement that accepted."""

    def summary(self) -> str:
        return "all gates passed"


class Mirror:
    """Stands for the registry: keeps what it was told to project."""

    def __init__(self) -> None:
        self.projected: list[Promotion | None] = []

    def project(self, promotion: Promotion | None) -> list[str]:
        self.projected.append(promotion)
        return []


def test_promoting_the_champion_again_says_that_nothing_changed(
    promotions: Promotions, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mirror = Mirror()
    monkeypatch.setattr(resources, "registry", lambda _: mirror)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / MANIFEST).write_text("{}")
    changed = []
    for version in ("1", "2", "2"):
        with promotions.hold_lease(settings.endpoint, "test") as lease:
            changed.append(promote.append.fn(settings, promotions, lease, version, bundle, Judged()))
    assert changed == [True, True, False]
    standing = promotions.champion(settings.endpoint)
    assert standing is not None
    assert (standing.version, standing.previous) == ("2", "1")
    assert mirror.projected[1:] == [standing, standing], "the aliases follow all the same"


def test_the_flow_offers_every_policy_and_recipe() -> None:
    hints = get_type_hints(train.train.fn)
    assert get_args(hints["policy"]) == tuple(DEFAULTS)
    assert get_args(hints["recipe"]) == (AUTO, *RECIPES)
