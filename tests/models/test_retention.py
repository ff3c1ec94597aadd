"""Which versions are removed: never one that somebody needs, always one that nobody does."""

from hypothesis import given
from hypothesis import strategies as st

from attune.clock import DAY
from models.registry import expired

NOW = 1_000 * DAY
NAMES = [str(number) for number in range(1, 15)]


def row(version: str, run_id: str, age: int) -> dict:
    return {"version": version, "run_id": run_id, "created_at": NOW - age}


@st.composite
def histories(draw: st.DrawFn) -> list[dict]:
    """Versions with gaps in their numbers, at any age, some of which share a run."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return [row(name, draw(st.sampled_from("abcdefghij")), draw(st.integers(-DAY, 60 * DAY))) for name in names]


NAMED = st.sets(st.sampled_from(NAMES))


@given(histories(), NAMED, NAMED, st.integers(1, 40), st.integers(1, 8))
def test_what_goes_is_needed_by_nobody_and_what_stays_has_a_reason(versions, keep, aliased, days, latest) -> None:
    gone = expired(versions, keep | aliased, NOW, days, latest)
    newest = {one["version"] for one in sorted(versions, key=lambda one: int(one["version"]))[-latest:]}
    spared = keep | aliased | newest
    needed = {one["version"] for one in versions if one["version"] in spared or NOW - one["created_at"] <= days * DAY}
    runs = {one["run_id"] for one in versions if one["version"] in needed}
    assert gone == sorted(gone, key=int)
    assert set(gone) == {
        one["version"] for one in versions if one["version"] not in needed and one["run_id"] not in runs
    }


@given(histories(), NAMED, NAMED, st.integers(1, 40), st.integers(1, 8))
def test_once_removed_nothing_more_goes(versions, keep, aliased, days, latest) -> None:
    gone = expired(versions, keep | aliased, NOW, days, latest)
    left = [one for one in versions if one["version"] not in gone]
    assert expired(left, keep | aliased, NOW, days, latest) == []


def test_each_reason_to_stay_by_hand() -> None:
    old = [row(str(number), f"run {number}", (50 - number) * DAY) for number in range(1, 11)]
    assert expired(old, {"2", "3"}, NOW, 30, 4) == ["1", "4", "5", "6"]
    assert expired(old, set(), NOW, 44, 1) == ["1", "2", "3", "4", "5"]
    assert expired([], set(), NOW, 30, 4) == []
