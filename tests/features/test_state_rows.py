from hypothesis import given, settings
from hypothesis import strategies as st

from attune.user_state import Recent, UserState
from features.feature_store import from_row, to_row

WORDS = st.text(min_size=1, max_size=5)
WHOLE = st.integers(-(2**62), 2**62)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
RECENT = st.builds(Recent, WORDS, WORDS, WORDS, st.none() | NUMBERS, WHOLE, WHOLE, st.booleans())
PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | WORDS
TIMES = st.tuples(st.none(), st.none()) | st.tuples(WHOLE, WHOLE)


@settings(max_examples=150, deadline=None)
@given(
    recent=st.lists(RECENT, max_size=4).map(tuple),
    seen=st.lists(WORDS, max_size=4).map(tuple),
    counts=st.dictionaries(st.tuples(WHOLE, WORDS), WHOLE, max_size=4),
    times=TIMES,
    attributes=st.dictionaries(WORDS, PLAIN | st.lists(PLAIN, max_size=3), max_size=3),
    as_none=st.booleans(),
)
def test_any_state_survives_its_row(recent, seen, counts, times, attributes, as_none) -> None:
    state = UserState("u", 7, recent, seen, counts, 3, *times, attributes)
    row = {name: None if as_none and value == [] else value for name, value in to_row(state).items()}
    assert from_row("u", row) == state
