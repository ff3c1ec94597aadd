"""Which versions are removed: never one that somebody needs, always one that nobody does."""

from hypothesis import given
from hypothesis import strategies as st

from attune.clock import DAY
from models.registry import Aged, expired

NOW = 1_000 * DAY
NAMES = [str(number) for number in range(1, 15)]


@st.composite
def histories(draw: st.DrawFn) -> list[Aged]:
    """Versions with gaps in their numbers, at any age, some of which share a run."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return [Aged(name, draw(st.sampled_from("abcdefghij")), NOW - draw(st.integers(-DAY, 60 * DAY))) for name in names]


NAMED = st.sets(st.sampled_from(NAMES))


@given(histories(), NAMED, NAMED, st.integers(1, 40), st.integers(1, 8))
def test_what_goes_is_needed_by_nobody_and_what_stays_has_a_reason(versions, keep, aliased, days, latest) -> None:
    gone = expired(versions, keep, aliased, NOW, days, latest)
    newest = {one.version for one in sorted(versions, key=lambda one: int(one.version))[-latest:]}
    needed = {
        one.version for one in versions if one.version in keep | aliased | newest or NOW - one.created_at <= days * DAY
    }
    runs = {one.run for one in versions if one.version in needed}
    assert gone == sorted(gone, key=int)
    assert set(gone) == {one.version for one in versions if one.version not in needed and one.run not in runs}


@given(histories(), NAMED, NAMED, st.integers(1, 40), st.integers(1, 8))
def test_once_removed_nothing_more_goes(versions, keep, aliased, days, latest) -> None:
    gone = expired(versions, keep, aliased, NOW, days, latest)
    left = [one for one in versions if one.version not in gone]
    assert expired(left, keep, aliased, NOW, days, latest) == []


def test_each_reason_to_stay_by_hand() -> None:
    old = [Aged(str(number), f"run {number}", NOW - (50 - number) * DAY) for number in range(1, 11)]
    assert expired(old, {"2"}, {"3"}, NOW, 30, 4) == ["1", "4", "5", "6"]
    assert expired(old, set(), set(), NOW, 44, 1) == ["1", "2", "3", "4", "5"]
    assert expired([], set(), set(), NOW, 30, 4) == []
