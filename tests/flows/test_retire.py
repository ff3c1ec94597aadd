"""What the registry must keep: whatever a promotion, a gate or a roll-back of any endpoint may ask for."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from attune.event_log import prepare
from attune.promotions import Promotions
from flows import retire


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
