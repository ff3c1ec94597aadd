from collections.abc import Callable

from attune.clock import DAY
from attune.event_log import EventLog
from attune.events import Feedback, Interaction, Shown, Slate
from features.labels import labels
from features.lake import Lake


def slate(slate_id: str, user: str, *items: str, at: int = 0) -> Slate:
    shown = [Shown(item, 1.0 / rank, 0.5 / rank) for rank, item in enumerate(items, start=1)]
    return Slate(
        event_id=slate_id, event_timestamp=at, user_id=user, model_version="1", served_by="champion", policy={},
        shown=shown, candidates=[], context={}, state_position=0,
    )  # fmt: skip


def react(number: int, slate_id: str, user: str, item: str, kind: str, at: int = 1, retracts: str | None = None) -> (
    Feedback
):  # fmt: skip
    return Feedback(
        event_id=f"f{number}", event_timestamp=at, user_id=user, item_id=item, kind=kind, slate_id=slate_id,
        retracts=retracts,
    )  # fmt: skip


def test_every_shown_item_has_its_row(log: EventLog, lake: Lake, act: Callable[..., Interaction]) -> None:
    log.append([
        react(1, "early", "u", "b", "like"),
        slate("early", "u", "a", "b"),
        slate("ignored", "v", "a", "c", "d"),
        slate("changed", "u", "c", "d", "e"),
        react(2, "changed", "u", "c", "like"), react(3, "changed", "u", "c", "dislike"),
        react(4, "changed", "u", "d", "like"), react(5, "changed", "u", "d", "retract", retracts="f4"),
        react(6, "changed", "u", "e", "click", at=2 * DAY),
        react(7, "unknown", "u", "e", "click"), react(8, "ignored", "u", "a", "like"),
        act("u", "a", kind="like"),
    ])  # fmt: skip
    lake.ingest(log)
    found = labels(lake)
    rows = [tuple(row) for row in found.frame[["slate_id", "item_id", "rank", "kind", "reward", "late"]].to_numpy()]
    assert rows == [
        ("early", "a", 1, None, 0.5, False), ("early", "b", 2, "like", 1.0, False),
        ("ignored", "a", 1, None, 0.5, False), ("ignored", "c", 2, None, 0.5, False),
        ("ignored", "d", 3, None, 0.5, False),
        ("changed", "c", 1, "dislike", 0.0, False), ("changed", "d", 2, None, 0.5, False),
        ("changed", "e", 3, "click", 1.0, True),
    ]  # fmt: skip
    assert found.unmatched == 2
    assert found.frame["propensity"].tolist()[:2] == [0.5, 0.25]
    assert found.frame["score"].tolist()[:2] == [1.0, 0.5]
    assert set(labels(lake, after=2).frame["slate_id"]) == {"ignored", "changed"}
    assert labels(lake, upto=5).frame["kind"].tolist()[-3:] == ["like", None, None]


def test_no_slates_no_rows(lake: Lake) -> None:
    assert len(labels(lake).frame) == 0
