"""attune's training beside RecTools' SASRec: targets a CPU second, and peak memory.

Both train on ids alone with full softmax, in one shape, batch and optimiser's rate, on one thread of one core, an epoch
of one after an epoch of the other; attune's sampled loss is the third. A target is an event that follows another of its
user: padding is none, nor is a first event, which attune learns too. Histories end after ``CONTEXT`` events, so that
both see every target once an epoch.

RecTools runs in an environment of its own: ``RECTOOLS_PYTHON`` names an interpreter that has it; else one is made in
``~/.cache/attune``, once, which takes some minutes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np

from attune.errors import AttuneError, ConfigError
from benchmarks import datasets
from benchmarks.record import Figure, at_least, at_most, just

RECTOOLS = "rectools[torch]==0.19.0"
SCRIPT = Path(__file__).with_name("rectools_side.py")
ATTUNE = ("-m", "benchmarks.training_side")

CONTEXT = 200
SHAPE = {"width": 128, "blocks": 2, "heads": 4, "context": CONTEXT, "dropout": 0.2}
RECIPE: dict[str, Any] = {"network": SHAPE, "batch": 32, "learning_rate": 1e-3, "loss": "full"}
HISTORIES = {"histories of up to 200 events": CONTEXT, "histories of up to 9 events": 9}
"""The worlds, and how many of each user's latest events they keep: those of a shop are short."""

Programs = dict[str, tuple[list[Any], dict[str, Any]]]
"""The command of each side, and the recipe that it is given."""

LEAST_TIMES, MOST_MEMORY = 2.5, 1.0
MIB = 2**20


class Side:
    """A process that trains when it is told."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._questions: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout
        self.seconds: list[float] = []

    def train(self, batches: int = 0) -> float:
        """Train on so many batches (0: an epoch); the CPU seconds. Raises AttuneError when the process ends."""
        self._questions.write(f"{batches}\n")
        self._questions.flush()
        self.seconds.append(float(self._answer()["cpu_seconds"]))
        return self.seconds[-1]

    def end(self) -> dict[str, Any]:
        """Its peak memory (``peak``, bytes) and its ``versions``; it is over then."""
        self._questions.close()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise AttuneError(
                f"a side of the benchmark ended with status {self._process.wait()}; see its messages above"
            )
        return dict(json.loads(line))


@contextmanager
def side(program: Sequence[str | Path], world: Path, recipe: dict[str, Any]) -> Iterator[Side]:
    """A side that runs on one thread, all sides on the same core."""
    core = min(os.sched_getaffinity(0))
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = ["taskset", "--cpu-list", str(core), *map(str, program), str(world), json.dumps(recipe)]
    environment = {**os.environ, **one_thread, "CUDA_VISIBLE_DEVICES": ""}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield Side(process)
        finally:
            process.kill()


def measure(seed: int, users: int = 400, rounds: int = 5) -> list[Figure]:
    """Both worlds, each of so many users of MovieLens-1M (of the demo's ratings where that is absent).

    Raises ConfigError where RecTools cannot run.
    """
    programs: Programs = {
        "RecTools": ([rectools_python(), "-I", SCRIPT], RECIPE),
        "attune": ([sys.executable, *ATTUNE], RECIPE),
        "attune, sampled": ([sys.executable, *ATTUNE], {**RECIPE, "loss": "sampled"}),
    }
    name, events = real_events()
    figures: list[Figure] = []
    for words, most in HISTORIES.items():
        world = latest(events, np.random.default_rng(seed), users, most)
        figures += compare(f"3 {name}, {words}", world, programs, rounds)
    return figures


def real_events() -> tuple[str, dict[str, Any]]:
    """The name of the ratings, and their events as the sides read them."""
    is_there = datasets.DATA in os.environ
    data = datasets.movielens_1m() if is_there else datasets.movielens_demo()
    events = {"users_E": data.users, "items_E": data.items, "times_E": data.times, "items": len(data.catalogue)}
    return "ML-1M" if is_there else "the demo's ratings", events


def latest(events: dict[str, Any], rng: np.random.Generator, users: int, most: int) -> dict[str, Any]:
    """The latest ``most`` events of each of some users, drawn among those that have more than one."""
    owners, counts = np.unique(events["users_E"], return_counts=True)
    several = owners[counts > 1]
    chosen = rng.choice(several, min(users, len(several)), replace=False)
    rows = np.flatnonzero(np.isin(events["users_E"], chosen))
    rows = rows[np.lexsort((events["times_E"][rows], events["users_E"][rows]))]
    owner = events["users_E"][rows]
    from_end = np.searchsorted(owner, owner, side="right") - np.arange(len(rows))
    rows = rows[from_end <= most]
    numbers = np.unique(events["users_E"][rows], return_inverse=True)[1]
    # a microsecond apart: events of one moment are predicted from one place by attune, one after another by SASRec
    times = np.arange(len(rows)) + 1_000_000_000
    return {"users_E": numbers, "items_E": events["items_E"][rows], "times_E": times, "items": events["items"]}


def compare(title: str, world: dict[str, Any], programs: Programs, rounds: int) -> list[Figure]:
    """Rates by the median over the rounds after a first one that warms up, and peaks, of each side and as ratios."""
    targets = len(world["users_E"]) - len(np.unique(world["users_E"]))
    with TemporaryDirectory(prefix="attune-training-") as folder, ExitStack() as stack:
        path = Path(folder) / "world.npz"
        np.savez(path, **world)
        sides = {name: stack.enter_context(side(program, path, recipe)) for name, (program, recipe) in programs.items()}
        for _ in range(1 + rounds):
            for one in sides.values():
                one.train()
        ends = {name: one.end() for name, one in sides.items()}
        rates = {name: targets / median(one.seconds[1:]) for name, one in sides.items()}
        spreads = {name: [targets / seconds for seconds in one.seconds[1:]] for name, one in sides.items()}
    figures = []
    for name, rate in rates.items():
        versions = ", ".join(f"{package} {number}" for package, number in ends[name]["versions"].items())
        note = f"{min(spreads[name]):.0f} to {max(spreads[name]):.0f} in {rounds} epochs of {targets:,}; {versions}"
        figures.append(just(f"{title}: {name}, targets a CPU second", rate, note))
        figures.append(just(f"{title}: {name}, peak memory, MiB", ends[name]["peak"] / MIB))
    if "RecTools" in rates:
        times, memory = rates["attune"] / rates["RecTools"], ends["attune"]["peak"] / ends["RecTools"]["peak"]
        figures.append(at_least(f"{title}: attune's rate over RecTools'", times, LEAST_TIMES))
        figures.append(at_most(f"{title}: attune's peak memory over RecTools'", memory, MOST_MEMORY))
    figures.append(just(f"{title}: sampled loss over full softmax", rates["attune, sampled"] / rates["attune"]))
    return figures


def rectools_python() -> Path:
    """The interpreter to run RecTools with, in an environment that is made once. Raises ConfigError where it cannot."""
    if named := os.environ.get("RECTOOLS_PYTHON"):
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attune"
    torch = f"torch=={version('torch')}"
    folder = cache / f"{RECTOOLS}-{torch}".replace("[torch]==", "-").replace("==", "-")
    python, whole = folder / "bin" / "python", folder / "whole"
    if whole.exists():
        return python
    for command in (
        [sys.executable, "-m", "venv", "--clear", folder],
        [python, "-m", "pip", "install", "--quiet", RECTOOLS, torch],
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise ConfigError(
                f"RecTools could not be installed: {said}\nname an interpreter: RECTOOLS_PYTHON=.../python"
            )
    whole.touch()
    return python
