"""Rolling back: to which version, under whose lease, and what happens when MLflow is away."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from attune.errors import ModelError, PromotionConflict
from attune.event_log import prepare
from attune.promotions import Promotion, Promotions
from models.rollback import rollback


class Mirror:
    """Stands for the registry: has these versions, keeps what it was told, and may be away."""

    def __init__(self, *versions: str) -> None:
        self.kept, self.away, self.projected = versions, False, list[str]()
        self.tags: dict[str, dict[str, str]] = {}

    def versions(self) -> list[dict[str, Any]]:
        self.answer()
        return [{"version": version, "tags": self.tags.get(version, {})} for version in self.kept]

    def project(self, promotion: Promotion | None) -> list[str]:
        self.answer()
        assert promotion is not None
        self.projected.append(promotion.version)
        return ["champion had been moved by hand to 9"] if promotion.version == "moved" else []

    def answer(self) -> None:
        if self.away:
            raise ModelError("MLflow does not answer")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Promotions]:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    with closing(Promotions(url)) as promotions:
        yield promotions


@pytest.fixture
def mirror() -> Mirror:
    return Mirror("1", "2", "3", "4", "moved")


@pytest.fixture
def promote(table: Promotions):
    """Promote versions one after the other."""

    def run(*versions: str) -> None:
        for version in versions:
            with table.lease("default", "test", 60) as lease:
                table.append(lease, version, "promote", "all gates passed", "tester")

    return run


@pytest.fixture
def back(table: Promotions, mirror: Mirror):
    """Roll back; gives the version that is champion then."""

    def run(version: str | None = None, say: Any = lambda line: None) -> str:
        return rollback(table, mirror, "default", version, "tester", say).version

    return run


def test_the_row_says_what_happened_and_the_aliases_follow(table, mirror, promote, back) -> None:
    promote("1", "2")
    assert back() == "1"
    row = table.champion("default")
    assert (row.version, row.previous, row.action, row.actor) == ("1", "2", "rollback", "tester")
    assert row.reason == "rolled back from version 2"
    assert mirror.projected == ["1"]


def test_twice_goes_two_back_and_never_returns_by_itself(promote, back) -> None:
    promote("1", "2", "3")
    assert [back(), back()] == ["2", "1"]
    with pytest.raises(ModelError, match=r"no champion before it.*2, 3.*attune promote"):
        back()


def test_a_named_version_must_have_been_champion(promote, back) -> None:
    promote("1", "2", "3")
    assert back("1") == "1"
    assert back("3") == "3"
    assert back() == "1", "version 3 came after version 1 this time"
    with pytest.raises(ModelError, match=r"version 4 was never champion.*1, 2, 3|attune promote 4"):
        back("4")


def test_a_promotion_after_a_rollback_goes_on_top(promote, back) -> None:
    promote("1", "2", "3")
    back()
    promote("4")
    assert [back(), back()] == ["2", "1"]


def test_the_champion_itself_stays_and_nothing_is_written(table, promote, back) -> None:
    promote("1", "2")
    assert back("2") == "2"
    assert len(table.history("default", 10)) == 2


def test_without_a_champion_there_is_nothing_to_go_back_to(back) -> None:
    with pytest.raises(ModelError, match="promote one"):
        back()
    with pytest.raises(ModelError, match="never had any"):
        back("1")


def test_when_mlflow_is_away_the_row_stands_and_it_is_said(table, mirror, promote, back) -> None:
    promote("1", "2")
    mirror.away = True
    said: list[str] = []
    assert back(say=said.append) == "1"
    assert table.champion("default").version == "1"
    assert len(said) == 2
    assert "aliases do not say so yet" in said[1]


def test_a_version_that_was_removed_is_refused(table, mirror, promote, back) -> None:
    promote("1", "2")
    mirror.kept = ("2",)
    with pytest.raises(ModelError, match="has it no more"):
        back()
    assert table.champion("default").version == "2"


def test_a_registry_that_gave_the_number_to_another_bundle_is_noticed(table, mirror, back) -> None:
    for version, digest in (("1", "a" * 64), ("2", "b" * 64)):
        with table.lease("default", "test", 60) as lease:
            table.append(lease, version, "promote", "all gates passed", "tester", digest)
    mirror.tags = {"1": {"bundle_digest": "c" * 64}}
    with pytest.raises(ModelError, match="gave its number to another"):
        back()
    mirror.tags = {"1": {"bundle_digest": "a" * 64}}
    assert back() == "1"
    assert table.champion("default").bundle_digest == "a" * 64


def test_what_somebody_moved_by_hand_is_said(promote, back) -> None:
    promote("moved", "2")
    said: list[str] = []
    back(say=said.append)
    assert said == ["champion had been moved by hand to 9"]


def test_a_promotion_that_is_being_judged_is_overtaken(table, promote, back) -> None:
    """Going back does not wait, and what was being judged cannot be promoted on top of it."""
    promote("1", "2")
    with table.lease("default", "somebody else", 60) as judging:
        assert back() == "1"
        with pytest.raises(PromotionConflict, match="tester"):
            table.append(judging, "3", "promote", "all gates passed", "somebody else")
    assert table.champion("default").version == "1"
