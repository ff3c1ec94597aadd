"""Our estimators beside those of the package obp 0.4.1, on identical inputs, draws and real data.

obp's dependencies do not fit ours, so it runs in an environment of its own: ``OBP_PYTHON`` names an interpreter that
has obp; else an environment is made in a temporary folder, which takes some minutes. ``OBP_REQUIREMENT`` is what pip
installs there in place of ``obp==0.4.1``: the path of a wheel, say.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from attune.errors import ConfigError
from benchmarks.offpolicy_worlds import draw_places, softmax
from benchmarks.record import Figure, just
from evaluation.intervals import Draw
from evaluation.offpolicy.estimate import OffPolicyLimits, estimate, terms_of
from evaluation.offpolicy.estimators import Weighting, bootstrap
from evaluation.offpolicy.logs import BanditLog

TOLERANCE = 1e-6
ROUNDS, ACTIONS, SWITCH = 3000, 8, 2.0
RUNS = 30
PUBLISHED = {
    "dm": (0.157, 0.110),
    "ips": (0.311, 0.311),
    "snips": (0.312, 0.335),
    "dr": (0.292, 0.315),
    "sndr": (0.302, 0.328),
    "switch-dr": (0.258, 0.161),
}
"""Relative errors on the campaign `all`, mean and standard deviation over 30 resampled logs.

Of a later version: it tuned the switch, which is 1 here, and the settings of its logistic model are not known.
"""
CLICK_LIMITS = OffPolicyLimits(half_width=0.001)
"""Clicks are rare: an interval of 0.02 to either side would say nothing of them."""

OBP = "obp==0.4.1"
NEEDS = (
    "numpy==1.23.5",  # the last with np.int
    "pandas==1.5.3",  # the last whose drop() takes an axis by place
    "scikit-learn==1.1.3",
    "scipy==1.9.3",
    "matplotlib==3.6.3",
    "seaborn==0.12.2",
    "mypy-extensions>=0.4.3",
    "pyyaml>=6",
    "tqdm>=4.41",
    "torch==2.13.0",
)
SCRIPT = Path(__file__).with_name("obp_side.py")


def measure(seed: int) -> list[Figure]:
    """Differences from obp, then the relative errors on Open Bandit. Raises ConfigError where obp cannot run."""
    with obp_python() as python, TemporaryDirectory(prefix="attune-obp-") as folder:
        return [*differences(python, Path(folder), seed), *open_bandit(python, Path(folder))]


def differences(python: Path, folder: Path, seed: int) -> list[Figure]:
    """The largest difference of each estimator on one log, and of the intervals from the same draws."""
    arrays = _arrays(np.random.default_rng(seed))
    given, out = folder / "given.npz", folder / "found.json"
    np.savez(given, switch=SWITCH, **arrays)
    run_obp(python, "equal", given, out)
    theirs: dict[str, Any] = json.loads(out.read_text())
    terms = terms_of(_log(arrays), Weighting(switch=SWITCH))
    apart = {name: abs(terms[name].value - value) for name, value in theirs["values"].items()}
    found = [_small(f"4 {name}: largest difference from obp", difference) for name, difference in apart.items()]
    ours = bootstrap(terms, replicates=theirs["draws"], draw=_as_obp_draws(theirs["seed"]))
    for name, (mean, low, high) in theirs["intervals"].items():
        drawn_R = ours.drawn[name]
        edges = np.array([drawn_R.mean(), *np.percentile(drawn_R, [2.5, 97.5])])
        difference = float(np.abs(edges - [mean, low, high]).max())
        found.append(_small(f"4 {name}: largest difference of the interval, same draws", difference))
    return found


def open_bandit(python: Path, folder: Path, runs: int = RUNS) -> list[Figure]:
    """Relative errors over resampled logs beside the published ones, and the verdicts on the log as it is."""
    out = folder / "open-bandit.npz"
    run_obp(python, "open-bandit", out, str(runs))
    with np.load(out) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    truth, theirs_RE = float(found.pop("truth")), found.pop("values")
    logs = [BanditLog(**{name: column[run] for name, column in found.items()}) for run in range(runs + 1)]
    ours_RE = np.array([[one.value for one in terms_of(log, Weighting(switch=1.0)).values()] for log in logs])
    errors_RE = np.abs(ours_RE[1:] - truth) / truth
    apart = float(np.abs(ours_RE - theirs_RE).max())
    figures = [_small("4 Open Bandit: largest difference from obp", apart, f"{runs + 1} logs of {len(logs[0]):,} rows")]
    for place, (name, (mean, spread)) in enumerate(PUBLISHED.items()):
        note = f"standard deviation {errors_RE[:, place].std(ddof=1):.3f}; published {mean:.3f} ({spread:.3f})"
        figures.append(just(f"4 Open Bandit: {name}, mean relative error", float(errors_RE[:, place].mean()), note))
    return [*figures, *_verdicts(logs[0], truth)]


def _verdicts(log: BanditLog, truth: float) -> list[Figure]:
    """What we say of the log itself: the value where it is decided, the reasons where it is not."""
    found = []
    for name, verdict in estimate(log, CLICK_LIMITS, Weighting(switch=1.0)).estimates.items():
        low, high = verdict.interval.low, verdict.interval.high
        note = f"[{low:.4f}, {high:.4f}], truth {truth:.4f}: {verdict.outcome}"
        note = "; ".join([note, *verdict.reasons])
        found.append(just(f"4 Open Bandit: {name}, value", verdict.interval.value, note))
    return found


def _arrays(rng: np.random.Generator) -> dict[str, Any]:
    """One log with both policies' whole distributions, as obp wants them."""
    logging_NA, chances_NA = (softmax(rng.normal(size=(ROUNDS, ACTIONS))) for _ in range(2))
    actions_N = draw_places(logging_NA, rng)
    return {
        "rewards_N": rng.integers(0, 2, ROUNDS).astype(np.float64),
        "actions_N": actions_N,
        "propensities_N": logging_NA[np.arange(ROUNDS), actions_N],
        "chances_NA": chances_NA,
        "predicted_NA": rng.random((ROUNDS, ACTIONS)),
    }


def _log(arrays: Mapping[str, np.ndarray]) -> BanditLog:
    """The same log as we take it."""
    rows_N, actions_N = np.arange(ROUNDS), arrays["actions_N"]
    return BanditLog(
        rewards_N=arrays["rewards_N"],
        propensities_N=arrays["propensities_N"],
        chances_N=arrays["chances_NA"][rows_N, actions_N],
        predicted_N=arrays["predicted_NA"][rows_N, actions_N],
        expected_N=(arrays["chances_NA"] * arrays["predicted_NA"]).sum(axis=1),
    )


def _as_obp_draws(seed: int) -> Draw:
    """obp draws with numpy's former generator, a replicate after the other."""
    former = np.random.RandomState(seed)
    return lambda rows, below: np.stack([former.randint(0, below, size=below) for _ in range(rows)])


def _small(name: str, difference: float, note: str = "") -> Figure:
    """A difference keeps its digits: rounding to four would make nothing of it."""
    return Figure(name, float(f"{difference:.3g}"), TOLERANCE, difference <= TOLERANCE, note)


@contextmanager
def obp_python() -> Iterator[Path]:
    """The interpreter to run obp with; what was made for it is gone afterwards.

    Raises ConfigError when it cannot be made.
    """
    named = os.environ.get("OBP_PYTHON")
    if named:
        yield Path(named)
        return
    with TemporaryDirectory(prefix="attune-obp-") as folder:
        yield _made(Path(folder))


def run_obp(python: Path, *arguments: str | Path) -> None:
    """Run our script under obp's interpreter. Raises ConfigError with its last words when it fails.

    Isolated: beside the script lie modules of ours named as some that it imports.
    """
    _run([python, "-I", SCRIPT, *arguments], "obp did not answer")


def _made(folder: Path) -> Path:
    interpreter = sys.executable if sys.version_info < (3, 12) else shutil.which("python3.11")
    if interpreter is None:
        raise ConfigError("obp needs Python 3.11\nname an interpreter that has obp 0.4.1: OBP_PYTHON=.../bin/python")
    _run([interpreter, "-m", "venv", folder], "no environment for obp could be made")
    python = folder / "bin" / "python"
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet"]
    _run([*install, *NEEDS], "what obp needs could not be installed")
    _run([*install, "--no-deps", os.environ.get("OBP_REQUIREMENT", OBP)], "obp could not be installed")
    return python


def _run(command: list[str | Path], wrong: str) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise ConfigError(f"{wrong}: {said}\nname an interpreter that has obp 0.4.1: OBP_PYTHON=.../bin/python")
