"""The slates for an evaluation: what was logged comes back as it was, and what is left out is counted by its reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from attune.clock import DAY, HOUR
from attune.event_log import EventLog
from attune.events import CANDIDATES_LOGGED, Candidate, Feedback, Interaction, Shown, Slate
from features import logged_slates
from features.labels import labels
from features.lake import Lake
from features.logged_slates import REASONS, SLATES_SCHEMA, write_slates

NOW = 20_000 * DAY
"""What the log's clock says."""

POLICY = {"name": "plackett-luce", "temperature": 0.05, "candidates": 100, "seed": 2**53 - 1}


def slate(slate_id: str, *items: str, **other: Any) -> Slate:
    shown = [Shown(item, 1.0 / rank, 0.5 / rank) for rank, item in enumerate(items, start=1)]
    fields: dict[str, Any] = {
        "event_timestamp": NOW - 2 * DAY, "user_id": "u", "model_version": "3", "served_by": "champion",
        "policy": POLICY, "candidates": [Candidate(item, 0.25) for item in (*items, "other")],
        "context": {"k": 3, "degraded": [], "exclude": [], "request": {"k": "text"}}, "state_position": 7,
    }  # fmt: skip
    return Slate(**{"event_id": slate_id, "shown": shown, **fields, **other})


def react(number: int, slate_id: str, item: str, kind: str) -> Feedback:
    return Feedback(
        event_id=f"f{number}", event_timestamp=NOW - DAY, user_id="u", item_id=item, kind=kind, slate_id=slate_id
    )


@pytest.fixture
def written(log: EventLog, lake: Lake, tmp_path: Path) -> Callable[..., tuple[pd.DataFrame, dict[str, Any]]]:
    """Appends events and gives what is written for them: the frame and the counts."""

    def one(*events: Any, **asked: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
        log.append(list(events))
        lake.ingest(log)
        folder = tmp_path / "slates"
        write_slates(lake, folder, **({"version": "3", "after": 0} | asked))
        table = pq.read_table(folder / logged_slates.SLATES)
        assert table.schema.names == SLATES_SCHEMA.names
        return table.to_pandas(), json.loads((folder / logged_slates.COUNTS).read_text())

    return one


def test_a_slate_comes_back_with_the_rewards_of_its_items(written) -> None:
    frame, counts = written(
        slate("s1", "a", "b", "c"), react(1, "s1", "b", "like"), slate("s2", "d"), react(2, "s1", "c", "dislike"),
        react(3, "s2", "d", "click"), react(4, "s1", "b", "hide"),
    )  # fmt: skip
    assert frame["slate_id"].tolist() == ["s1", "s2"]
    first = frame.iloc[0]
    assert first["items"].tolist() == ["a", "b", "c"]
    assert first["propensities"].tolist() == [0.5, 0.25, 0.5 / 3]
    assert first["rewards"].tolist() == [0.5, 0.0, 0.0]
    assert frame.iloc[1]["rewards"].tolist() == [1.0]
    assert first["candidates"].tolist() == ["a", "b", "c", "other"]
    assert first["scores"].tolist() == [0.25] * 4
    assert (first["position"], first["state_position"], first["k"], first["event_timestamp"]) == (
        1,
        7,
        3,
        NOW - 2 * DAY,
    )
    assert {name: first["policy"][name] for name in POLICY} == POLICY
    assert (counts["rows"], sum(counts["left_out"].values())) == (2, 0)


LEFT_OUT: dict[str, Slate] = {
    logged_slates.OF_OTHERS: slate("x", "a", served_by="import", model_version="import"),
    logged_slates.EMPTY: slate("x"),
    logged_slates.ANOTHER_VERSION: slate("x", "a", model_version="2"),
    logged_slates.DEGRADED: slate("x", "a", context={"degraded": ["model"]}),
    logged_slates.NO_POLICY: slate("x", "a", policy={}),
    logged_slates.DETERMINISTIC: slate("x", "a", policy={"name": "greedy", "evaluable": False}),
    logged_slates.BUDGET_SPENT: slate("x", "a", policy=POLICY | {"budget": 20, "explored_before": 20}),
    logged_slates.CAPPED: slate("x", "a", context={"k": 3, "at_most": {"genres": 2}}),
    logged_slates.CUT_OFF: slate("x", "a", candidates=[Candidate(f"i{n}", 0.0) for n in range(CANDIDATES_LOGGED)]),
    logged_slates.NOT_DRAWN: slate("x", "a", shown=[Shown("a", 1.0, 0.0)]),
    logged_slates.UNSETTLED: slate("x", "a", event_timestamp=NOW - HOUR),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_what_is_left_out_is_counted_and_shifts_nobodys_rewards(written, reason: str) -> None:
    odd = LEFT_OUT[reason]
    frame, counts = written(slate("s1", "a"), odd, slate("s2", "a", "b"), react(1, "s2", "b", "like"))
    assert frame["slate_id"].tolist() == ["s1", "s2"]
    assert frame["rewards"].tolist()[1].tolist() == [0.5, 1.0]
    assert counts["left_out"] == dict.fromkeys(REASONS, 0) | {reason: 1}


@pytest.mark.parametrize(
    "limits", [{"budget": 20, "explored_before": 19}, {"budget": None, "explored_before": 50}, {"budget": 20}]
)
def test_a_slate_that_was_free_to_explore_stays(written, limits: dict[str, int | None]) -> None:
    frame, _ = written(slate("s1", "a", policy=POLICY | limits))
    assert frame["slate_id"].tolist() == ["s1"]


def test_every_reason_is_tested() -> None:
    assert set(LEFT_OUT) == set(REASONS) - {logged_slates.EARLIER}


def test_what_became_of_feedback_is_counted_beside_the_slates(written, act: Callable[..., Interaction]) -> None:
    """Three reactions find their item, one of them late and two at odds; two find none; one slate is ignored."""
    late = Feedback(
        event_id="late", event_timestamp=NOW - HOUR, user_id="u", item_id="a", kind="like", slate_id="s1"
    )  # fmt: skip
    _, counts = written(
        slate("s1", "a", "b"), slate("s2", "c"), late, react(1, "s1", "b", "like"), react(2, "s1", "b", "dislike"),
        react(3, "none", "b", "like"), react(4, "s1", "c", "like"), act("v", "d"),
    )  # fmt: skip
    told = {what: count for what, count in counts["feedback"].items() if count}
    assert told == {
        "shown": 3, "slates": 2, "slates without reaction": 1, "reactions": 3, "late reactions": 1, "contradicted": 1,
        "unknown slate": 1, "not on the slate": 1, "organic": 1,
    }  # fmt: skip


def test_only_the_window_and_only_the_latest_are_looked_at(written) -> None:
    events = [slate(f"s{n}", "a") for n in range(6)]
    frame, counts = written(*events, after=1, upto=5, most=3)
    assert frame["slate_id"].tolist() == ["s2", "s3", "s4"]
    assert counts["left_out"] == dict.fromkeys(REASONS, 0) | {logged_slates.EARLIER: 1}
    assert (counts["after"], counts["upto"]) == (1, 5)


def test_a_lake_without_slates_gives_an_empty_frame(written, act: Callable[..., Interaction]) -> None:
    frame, counts = written(act("u", "a"))
    assert len(frame) == counts["rows"] == 0
    assert list(frame.columns) == SLATES_SCHEMA.names


def test_many_slates_keep_their_own_rewards_over_files_and_stretches(
    written, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slates of random lengths, read in stretches of seven: each one's rewards are those that its labels say."""
    monkeypatch.setattr("features.labels._TOGETHER", 7)
    rng, events = np.random.default_rng(5), []
    for number in range(60):
        items = [f"i{n}" for n in rng.permutation(9)[: rng.integers(0, 5)]]
        events.append(slate(f"s{number}", *items))
        events += [react(10 * number + n, f"s{number}", item, "like") for n, item in enumerate(items[::2])]
    frame, counts = written(*events)
    told = labels(lake).frame.groupby("slate_id")["reward"].agg(list)
    assert len(frame) + counts["left_out"][logged_slates.EMPTY] == 60
    assert [one.tolist() for one in frame["rewards"]] == [told[name] for name in frame["slate_id"]]
