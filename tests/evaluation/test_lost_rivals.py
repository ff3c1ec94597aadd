"""A former champion that cannot be fetched any more: nobody knows whether its quality is kept, and the gate says so."""

import pytest

from evaluation.case import Case, CaseLimits, Lost
from evaluation.judge import judge

DECISIVE = CaseLimits(min_users=30)
GONE = "the first champion, version 1, cannot be fetched any more: its artifacts are gone"


@pytest.mark.parametrize("name", ["anchor", "elder"])
def test_who_is_lost_is_undecided_with_the_reason_and_may_be_risked(bundle_folder, planted, name: str) -> None:
    found = {
        risk: judge(
            Case.load(planted, bundle_folder, bundle_folder, limits=DECISIVE, **{name: Lost(GONE)}),
            accept_undecided=risk,
        )
        for risk in (False, True)
    }
    (gate,) = (gate for gate in found[True].verdicts if gate.name == f"not_worse_than_{name}")
    assert (gate.verdict, gate.note, gate.adverse) == ("undecided", GONE, False)
    assert found[False].as_dict()["undecided"] == [gate.name]
    assert found[True].accepted
