"""What Thompson's weights are learned from: a champion's settled slates, with their reactions as they stood."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from attune.clock import DAY
from attune.event_log import EventLog
from attune.events import Feedback, Shown, Slate
from features.lake import Lake
from features.logged_slates import REACTIONS_SCHEMA, write_source_reactions

NOW = 20_000 * DAY
"""What the log's clock says."""

THOMPSON = {"name": "thompson", "sources": ["sequence", "live"], "features": [[0.5, 0.0], [0.25, -0.5]], "seed": 3}


def slate(slate_id: str, **other: Any) -> Slate:
    fields: dict[str, Any] = {
        "event_timestamp": NOW - 2 * DAY, "user_id": "u", "model_version": "3", "served_by": "champion",
        "policy": THOMPSON, "shown": [Shown("tea", 0.4, 0.5), Shown("cup", 0.3, 0.5)], "candidates": [],
        "context": {}, "state_position": 7,
    }  # fmt: skip
    return Slate(**{"event_id": slate_id, **fields, **other})


def react(slate_id: str, item: str, kind: str) -> Feedback:
    return Feedback(
        event_id=f"{slate_id}-{item}-{kind}", event_timestamp=NOW - DAY, user_id="u", item_id=item, kind=kind,
        slate_id=slate_id,
    )  # fmt: skip


@pytest.fixture
def written(log: EventLog, lake: Lake, tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """Appends events and gives what is written for them."""

    def one(*events: Any, upto: int | None = None, moment: int = 2 * NOW) -> pd.DataFrame:
        log.append(list(events))
        lake.ingest(log)
        path = write_source_reactions(lake, tmp_path / "set", lake.watermark() if upto is None else upto, moment)
        return pd.read_parquet(path)

    return one


def test_each_shown_item_has_what_the_sources_said_and_its_reward(written) -> None:
    frame = written(slate("s1"), slate("s2"), react("s1", "cup", "like"), react("s2", "tea", "dislike"))
    assert list(frame.columns) == REACTIONS_SCHEMA.names
    assert list(zip(frame["slate_id"], frame["rank"], frame["reward"], strict=True)) == [
        ("s1", 1, 0.5), ("s1", 2, 1.0), ("s2", 1, 0.0), ("s2", 2, 0.5)
    ]  # fmt: skip
    assert np.array(frame["features"].tolist()).tolist() == [*THOMPSON["features"], *THOMPSON["features"]]
    assert {tuple(one) for one in frame["sources"]} == {("sequence", "live")}
    assert set(frame["event_timestamp"]) == {NOW - 2 * DAY}


def test_a_slate_whose_window_ends_in_the_hold_out_teaches_nothing(written) -> None:
    """However its events arrived: a window of a day that ends after the moment may hold what is judged."""
    slates = slate("before", event_timestamp=NOW - 4 * DAY), slate("across", event_timestamp=NOW - 2 * DAY)
    frame = written(*slates, react("across", "cup", "like"), moment=NOW - 3 * DAY // 2)
    assert frame["slate_id"].tolist() == ["before", "before"]


def test_other_policies_fallbacks_and_slates_that_are_not_settled_teach_nothing(written) -> None:
    frame = written(
        slate("other policy", policy={"name": "plackett-luce", "seed": 2**53 - 1}),
        slate("fallback", served_by="popularity"),
        slate("no policy", policy={}),
        slate("open", event_timestamp=NOW - DAY // 2),
        slate("empty", shown=[], policy={**THOMPSON, "features": []}),
        react("open", "tea", "like"),
        slate("good"),
    )
    assert frame["slate_id"].tolist() == ["good", "good"]


def test_nothing_after_the_position_is_read(written) -> None:
    frame = written(slate("s1"), react("s1", "tea", "like"), react("s1", "cup", "like"), slate("s2"), upto=2)
    assert list(zip(frame["slate_id"], frame["reward"], strict=True)) == [("s1", 1.0), ("s1", 0.5)]


def test_without_slates_there_is_an_empty_file(written, act) -> None:
    frame = written(act("u", "tea"), slate("other", policy={"name": "greedy"}))
    assert list(frame.columns) == REACTIONS_SCHEMA.names
    assert len(frame) == 0
