"""No account makes up more of a mean than the cap; where nobody reaches it, a mean is the usual one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.intervals import by_user, capped_mean, counted

ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(-10, 10)), min_size=1, max_size=40)


@given(ROWS, st.integers(1, 50))
def test_a_user_counts_for_as_many_rows_as_there_are_and_no_more_than_the_cap(rows: list, cap: int) -> None:
    users_E, found_E = np.array([user for user, _ in rows], object), np.array([value for _, value in rows])
    counted_E = counted(users_E, cap)
    for user in set(users_E):
        assert counted_E[users_E == user].sum() == pytest.approx(min((users_E == user).sum(), cap))
    sums_SU, counts_U = by_user(users_E, found_E[None], cap)
    assert capped_mean(found_E, users_E, cap) == pytest.approx(sums_SU.sum() / counts_U.sum(), abs=1e-9)
    assert capped_mean(found_E, users_E, np.inf) == pytest.approx(found_E.mean(), abs=1e-9)


def test_of_nobody_there_is_no_mean() -> None:
    assert len(counted(np.zeros(0, object), 3.0)) == 0
    with pytest.raises(ZeroDivisionError):
        capped_mean(np.zeros(0), np.zeros(0, object), 3.0)
