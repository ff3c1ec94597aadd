"""The parts of `python -m benchmarks offpolicy`: what they state, and that obp agrees."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attune.errors import ConfigError
from benchmarks import offpolicy_coverage, offpolicy_obp, offpolicy_open_bandit
from benchmarks.offpolicy_coverage import CLAIMS
from benchmarks.offpolicy_obp import obp_python, run_obp


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """An interpreter that has obp 0.4.1."""
    try:
        with obp_python() as found:
            yield found
    except ConfigError as error:
        pytest.skip(f"obp 0.4.1 cannot be installed here: {error}")


def test_every_claim_has_its_figures() -> None:
    figures = offpolicy_coverage.measure(seed=0, worlds=2)
    limited = [one for one in figures if one.limit is not None]
    assert len(limited) == sum(len(claim.covers) + len(claim.refuses) for claim in CLAIMS)
    assert all(one.name.startswith("3 ") for one in figures)
    assert len({one.name for one in figures}) == len(figures)


def test_a_difference_from_obp_keeps_its_digits() -> None:
    assert offpolicy_obp._small("x", 1.234567e-9).value == 1.23e-9
    assert not offpolicy_obp._small("x", 2e-6).holds


def test_draws_are_those_of_the_former_generator() -> None:
    places_RN = offpolicy_obp._as_obp_draws(7)(3, 10)
    former, values = np.random.RandomState(7), np.arange(10) * 2.5
    assert (values[places_RN] == np.stack([former.choice(values, size=10) for _ in range(3)])).all()


def test_an_interpreter_without_obp_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBP_PYTHON", sys.executable)
    with obp_python() as found, pytest.raises(ConfigError, match="OBP_PYTHON=") as caught:
        run_obp(found, "equal", "a", "b")
    assert "obp did not answer" in str(caught.value)


def test_the_sample_is_judged_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(offpolicy_open_bandit.FOLDER, str(tmp_path))
    with pytest.raises(ConfigError, match=r"bts_men\.parquet"):
        offpolicy_open_bandit.measure(0)
    rng = np.random.default_rng(0)
    for campaign in offpolicy_open_bandit.CAMPAIGNS:
        for policy, propensities_N in (("bts", rng.uniform(0.1, 0.4, 500)), ("random", np.full(500, 0.2))):
            columns = {"click": rng.integers(0, 2, 500), "propensity_score": propensities_N}
            pq.write_table(pa.table(columns), tmp_path / f"{policy}_{campaign}.parquet")
    figures = offpolicy_open_bandit.measure(0)
    assert len(figures) == 2 * 3
    assert all("truth 0." in one.note for one in figures if "error" in one.name)


@pytest.mark.skipif(
    offpolicy_open_bandit.FOLDER not in os.environ, reason=f"{offpolicy_open_bandit.FOLDER} names no Open Bandit sample"
)
def test_a_week_of_real_clicks_decides_nothing() -> None:
    assert all("refused" in one.note for one in offpolicy_open_bandit.measure(0) if "error" in one.name)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_obp_gives_the_same_values_and_intervals(python: Path, tmp_path: Path) -> None:
    figures = offpolicy_obp.differences(python, tmp_path, seed=0)
    assert len(figures) == 12
    assert all(one.holds for one in figures), [one for one in figures if not one.holds]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_obp_gives_the_same_values_on_its_own_real_log(python: Path, tmp_path: Path) -> None:
    figures = offpolicy_obp.open_bandit(python, tmp_path, runs=2)
    assert figures[0].holds, figures[0]
