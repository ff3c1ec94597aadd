"""A user's budget for exploration holds over many slates: at once, after a restart, in several processes."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attune.errors import EventLogError
from attune.settings import Settings
from models.ranking.exploration import Bounded
from models.ranking.policy import PlackettLuce

BUDGET = 12
CURIOUS = PlackettLuce(5.0, depth=20)


@pytest.fixture
def exploring(tmp_path: Path, make_bundle, run_endpoint, feature_store, eventually) -> Callable[..., Any]:
    """Runs an endpoint whose champion draws within a budget; again over the same folder, it is the same installation"""
    settings = Settings(var=tmp_path / "var", champion_poll_seconds=0.05)

    @contextmanager
    def run(days: float = 1.0) -> Iterator[Any]:
        folder = settings.bundles_folder / "1"
        if not folder.exists():
            folder.parent.mkdir(parents=True)
            make_bundle(folder, 1, (0.0, 0.5, 0.5), policy=Bounded(CURIOUS, BUDGET, days=days))
        with run_endpoint(settings, lambda: feature_store) as endpoint:
            if endpoint.promotions.champion("default") is None:
                endpoint.promote("1")
            eventually(lambda: endpoint.model_version() == "1")
            yield endpoint

    return run


def explored(slates: list[dict]) -> int:
    return sum(slate["policy"]["explored"] for slate in slates)


def logged(endpoint: Any, slates: list[dict]) -> list[dict]:
    """The slates, once the log has them all."""
    for slate in slates:
        endpoint.slate(slate["slate_id"])
    return slates


def test_many_slates_of_one_user_explore_as_much_as_the_budget_and_no_more(exploring) -> None:
    with exploring() as endpoint:
        slates = [endpoint.recommend("ada", k=5) for _ in range(30)]
        assert explored(slates) == BUDGET
        assert explored(slates[:2]) > 0
        before = 0
        for slate in slates:
            assert slate["policy"]["explored_before"] == before
            before += slate["policy"]["explored"]
        assert {item["propensity"] for item in slates[-1]["items"]} == {1.0}
        assert explored([endpoint.recommend("grace", k=5) for _ in range(10)]) == BUDGET, "everybody has a budget"


def test_a_user_who_asks_many_times_at_once_gets_no_more(exploring) -> None:
    with exploring() as endpoint, ThreadPoolExecutor(12) as pool:
        slates = list(pool.map(lambda _: endpoint.recommend("ada", k=5), range(60)))
        assert 0 < explored(slates) <= BUDGET
        slates += [endpoint.recommend("ada", k=5) for _ in range(10)]
        assert explored(slates) == BUDGET, "what was promised and not used is given back"


def test_a_restart_does_not_give_a_new_budget(exploring) -> None:
    with exploring() as endpoint:
        slates = logged(endpoint, [endpoint.recommend("ada", k=5)])
        assert 0 < explored(slates) < BUDGET
    with exploring() as endpoint:
        slates += [endpoint.recommend("ada", k=5) for _ in range(20)]
        assert explored(slates) == BUDGET
    with exploring() as endpoint:
        assert explored([endpoint.recommend("ada", k=5) for _ in range(5)]) == 0


def test_processes_share_a_budget_as_soon_as_slates_are_logged(exploring) -> None:
    with exploring() as one, exploring() as other:
        slates = []
        for _ in range(8):
            slates += logged(one, [one.recommend("ada", k=2)])
            slates += logged(other, [other.recommend("ada", k=2)])
        assert explored(slates) == BUDGET


def test_a_spent_budget_is_full_again_once_its_days_have_passed(exploring) -> None:
    with exploring(days=2.0 / 86_400) as endpoint:
        first = [endpoint.recommend("ada", k=20)]
        assert explored(first) == BUDGET
        assert explored([endpoint.recommend("ada", k=20)]) == 0
        time.sleep(2.1)
        assert explored([endpoint.recommend("ada", k=20)]) == BUDGET


def test_what_cannot_be_counted_is_not_spent(exploring, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> list[dict[str, int]]:
        raise EventLogError("the disk is gone")

    with exploring() as endpoint:
        assert explored([endpoint.recommend("ada", k=5)]) > 0
        monkeypatch.setattr(endpoint.components.explored, "_work", fails)
        assert explored([endpoint.recommend("grace", k=5) for _ in range(5)]) == 0


def test_without_a_budget_the_log_is_asked_for_nothing(endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(endpoint.components.explored, "_work", lambda questions: asked.append(questions) or [{}])
    slate = endpoint.recommend("nobody-counts-this-one", k=5)
    assert "explored" not in slate["policy"]
    assert asked == []
