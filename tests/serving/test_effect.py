"""From acknowledged feedback to the first slate that reflects it."""

import pytest
from prometheus_client import CollectorRegistry, Histogram

from serving import metrics
from serving.metrics import FeedbackEffect


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def measured(registry: CollectorRegistry, now: list[float]) -> FeedbackEffect:
    return FeedbackEffect(Histogram("effect", "a test", registry=registry), lambda: now[0])


def seen(registry: CollectorRegistry) -> tuple[float | None, float | None]:
    return registry.get_sample_value("effect_count"), registry.get_sample_value("effect_sum")


def test_the_first_slate_that_includes_it_ends_the_wait(measured, registry, now) -> None:
    measured.acknowledged("u", 7)
    now[0] += 1
    measured.acknowledged("u", 9)
    measured.shown("u", 6)
    measured.shown("v", 9)
    assert seen(registry) == (0, 0)
    now[0] += 1
    measured.shown("u", 9)
    measured.shown("u", 9)
    assert seen(registry) == (1, 2.0)


def test_who_comes_back_after_a_minute_is_not_counted(measured, registry, now) -> None:
    measured.acknowledged("u", 7)
    now[0] += metrics.EFFECT_SECONDS + 1
    measured.shown("u", 7)
    assert seen(registry) == (0, 0)


def test_memory_is_bounded(monkeypatch, registry) -> None:
    monkeypatch.setattr(metrics, "EFFECT_USERS", 10)
    measured = FeedbackEffect(Histogram("effect", "a test", registry=registry))
    for number in range(100):
        measured.acknowledged(f"u{number}", 1)
    assert len(measured._waiting) == 10


def test_the_endpoint_measures_it(endpoint) -> None:
    before = endpoint.metric("attune_feedback_effect_seconds_count")
    slate = endpoint.recommend("reacts")
    endpoint.feedback(slate, slate["items"][0]["item_id"])
    assert endpoint.metric("attune_feedback_effect_seconds_count") == before
    endpoint.recommend("reacts")
    endpoint.recommend("reacts")
    assert endpoint.metric("attune_feedback_effect_seconds_count") == before + 1
