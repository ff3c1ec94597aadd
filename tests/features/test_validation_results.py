"""Which positions may be trained on: the newest verdict on each decides."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.errors import DataContractError
from features.validation_results import ValidationResult, ValidationResults

LAST = 12


@pytest.fixture
def verdicts(tmp_path: Path) -> ValidationResults:
    return ValidationResults(tmp_path / "validation")


def passed(after: int, upto: int) -> ValidationResult:
    return ValidationResult(after, upto, (), ())


def broken(after: int, upto: int, what: str = "value") -> ValidationResult:
    return ValidationResult(after, upto, (what,), ())


def test_nothing_was_judged_yet(verdicts: ValidationResults) -> None:
    assert verdicts.passed_upto() == 0
    with pytest.raises(DataContractError, match=r"positions 1 to 5 are not validated yet"):
        verdicts.demand(5)
    verdicts.demand(0)


def test_verdicts_without_a_gap_reach_the_last(verdicts: ValidationResults) -> None:
    for verdict in (passed(100, 200), passed(0, 100), passed(250, 300)):
        verdicts.record(verdict)
    assert verdicts.passed_upto() == 200
    verdicts.demand(200)
    with pytest.raises(DataContractError, match=r"positions 201 to 300 are not validated"):
        verdicts.demand(300)


def test_a_newer_broken_verdict_outdoes_older_ones_that_passed(verdicts: ValidationResults) -> None:
    for verdict in (passed(0, 100), passed(100, 200), broken(0, 200, "reward in range")):
        verdicts.record(verdict)
    assert verdicts.passed_upto() == 0
    with pytest.raises(DataContractError, match=r"positions 1 to 200 broke .*reward in range"):
        verdicts.demand(150)
    verdicts.record(passed(0, 150))
    assert verdicts.passed_upto() == 150
    with pytest.raises(DataContractError, match="positions 1 to 200 broke"):
        verdicts.demand(200)
    verdicts.record(passed(0, 200))
    verdicts.demand(200)


def test_a_batch_judged_again_replaces_its_verdict(verdicts: ValidationResults) -> None:
    first = verdicts.record(broken(0, 10))
    again = verdicts.record(passed(0, 10))
    assert (first.number, again.number) == (1, 2)
    assert verdicts.all() == [again]
    assert verdicts.passed_upto() == 10


spans = st.tuples(st.integers(0, LAST), st.integers(0, LAST)).filter(lambda span: span[0] < span[1])


@settings(deadline=None)
@given(st.lists(st.tuples(spans, st.booleans()), max_size=8))
def test_each_position_is_as_its_newest_verdict_says(judged: list[tuple[tuple[int, int], bool]]) -> None:
    holds: dict[int, bool] = {}
    with TemporaryDirectory() as folder:
        verdicts = ValidationResults(Path(folder))
        for (after, upto), ok in judged:
            verdicts.record(passed(after, upto) if ok else broken(after, upto))
            holds |= dict.fromkeys(range(after + 1, upto + 1), ok)
        reached = 0
        while holds.get(reached + 1):
            reached += 1
        assert verdicts.passed_upto() == reached
        for after, upto, verdict in verdicts.standing():
            said = None if verdict is None else verdict.ok
            assert {holds.get(position) for position in range(after + 1, upto + 1)} == {said}


def test_those_recorded_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    def record(after: int) -> ValidationResult:
        return ValidationResults(tmp_path).record(passed(after, after + 1))

    with ThreadPoolExecutor(4) as pool:
        recorded = list(pool.map(record, range(20)))
    assert sorted(verdict.number for verdict in recorded) == list(range(1, 21))
    assert ValidationResults(tmp_path).passed_upto() == 20


def test_verdicts_that_passed_become_one_and_nothing_changes(tmp_path: Path) -> None:
    verdicts = ValidationResults(tmp_path)
    for after in range(0, 50, 10):
        verdicts.record(ValidationResult(after, after + 10, (), ("old",)))
    verdicts.record(ValidationResult(50, 60, ("broken",), ()))
    verdicts.record(ValidationResult(60, 70, (), ()))
    assert verdicts.join() == 5
    assert verdicts.passed_upto() == 50
    assert [(one.after, one.upto, one.ok) for one in verdicts.all()] == [(0, 50, True), (50, 60, False), (60, 70, True)]
    assert verdicts.join() == 0
    with pytest.raises(DataContractError, match="positions 51 to 60"):
        verdicts.demand(70)
    verdicts.record(ValidationResult(50, 60, (), ()))
    assert verdicts.passed_upto() == 70
    assert verdicts.join() == 3
    assert verdicts.passed_upto() == 70
