"""Challengers sit an exam: each is made, held against the gates, and shown to an audit that no gate sees."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from benchmarks.exam.planted import Planted, good
from benchmarks.exam.stretches import Era, Exam, opened
from evaluation.case import Case, CaseLimits
from evaluation.gate import refused_by
from evaluation.gates.slices import Slices, slices
from evaluation.intervals import Interval, paired
from evaluation.judge import judge
from evaluation.replay import RememberedHybrid, replay
from models.bundle import Bundle
from models.learning.dataset import TrainingSet
from models.metrics import Evaluation
from models.network.config import Recipe

AUDITED = "ndcg@10"

HARM = "no_harm_to_"
"""The gates on slices, and that on the panel, are named so."""

World = Callable[[], TrainingSet]


@dataclass(frozen=True)
class Audit:
    """The relative change of NDCG@10 against the champion over all targets and over the liked ones (reward above 0.5).

    ``harmed`` are the slices that lose so much as the gates would call harm: they ask the hold-out, this the audit set.
    ``refusing`` are the changes of the slices for which a gate refused: one at a time, whatever they are; None for one
    that the audit set lacks, or has too little of.
    """

    every: Interval
    liked: Interval
    harmed: tuple[str, ...] = ()
    refusing: tuple[tuple[str, Interval | None], ...] = ()

    @property
    def shows_harm(self) -> bool:
        """Whether a whole interval lies below zero, or a slice is harmed."""
        return min(self.every.high, self.liked.high) < 0 or bool(self.harmed)


@dataclass(frozen=True)
class Result:
    """What became of a challenger: the gates that refused it, and its audit. Who is bad by construction has none."""

    name: str
    accepted: bool
    by: tuple[str, ...]
    audit: Audit | None

    @property
    def is_bad(self) -> bool:
        """Whether it is by construction, or the audit shows that it does harm."""
        return self.audit is None or self.audit.shows_harm


@dataclass(frozen=True)
class Room:
    """Where an exam is sat: how its stream is had, its recipe, its era, the folder of its bundles."""

    world: World
    recipe: Recipe
    era: Era
    folder: Path


def good_ones(room: Room, count: int, seed: int) -> list[Result]:
    """Honest fine-tunes, judged."""
    return _side_by_side(room, None, [seed + place for place in range(count)])


def bad_ones(room: Room, module: str) -> list[Result]:
    """The faults of a module (its ``FAULTS``), judged."""
    return _side_by_side(room, module, range(len(import_module(module).FAULTS)))


def _side_by_side(room: Room, module: str | None, places: Sequence[int]) -> list[Result]:
    """A process for each core: training and judging are both of one thread here."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=_enter, initargs=(room,)) as pool:
        return list(pool.map(_sit, [module] * len(places), places))


_exam: list[Exam] = []
"""The exam of this process."""

_replayed: dict[tuple[str, str, int, int], Evaluation] = {}
"""What the champions answered here, so that they are asked once a process."""


def _enter(room: Room) -> None:
    _exam.append(opened(room.world(), room.recipe, room.era, room.folder))


def _sit(module: str | None, place: int) -> Result:
    exam = _exam[0]
    planted = Planted(f"fine-tune {place}", good) if module is None else import_module(module).FAULTS[place]
    return examined(exam, planted, place)


def examined(exam: Exam, planted: Planted, seed: int) -> Result:
    """One challenger, made and judged."""
    folder = planted.make(exam, exam.folder / planted.name.replace(" ", "_").replace(":", ""), seed)
    champions = exam.champions
    case = Case.load(
        exam.stream,
        folder,
        champions["champion"],
        champions["anchor"],
        champions["elder"],
        after=exam.learned,
        upto=exam.judged,
        replay_cache=_replayed,
    )
    judgement = judge(case)
    refusing = tuple(gate.name for gate in refused_by(judgement.verdicts, accept_undecided=False))
    audit = None if planted.by_construction else _audit(exam, folder, refusing)
    return Result(planted.name, judgement.accepted, refusing, audit)


def _audit(exam: Exam, folder: Path, by: Sequence[str]) -> Audit:
    """What the challenger, refused by these gates, changes against the champion after the hold-out."""
    found, harm_gate, limits = _audited(exam, folder), Slices(), CaseLimits()
    key = ("audit of the champion", str(exam.folder), exam.judged, exam.audited)
    if key not in _replayed:
        _replayed[key] = _audited(exam, exam.champions["champion"])
    every, liked = (paired(found, _replayed[key], AUDITED, part).relative for part in ("all", "positive"))
    masks = slices(found, exam.stream, exam.judged, harm_gate.slices)
    lost = harm_gate.harms(found, _replayed[key], masks, limits)
    named = [gate.removeprefix(HARM) for gate in by if gate.startswith(HARM) and gate != f"{HARM}panel"]
    alone = {
        name: harm_gate.harms(found, _replayed[key], {name: masks[name]} if name in masks else {}, limits)
        for name in named
    }
    return Audit(
        every,
        liked,
        tuple(name for name, one in lost.items() if one.is_harmed),
        tuple((name, one[name].change if one else None) for name, one in alone.items()),
    )


def _audited(exam: Exam, folder: Path) -> Evaluation:
    bundle = Bundle.load(folder)
    return replay(RememberedHybrid(bundle.hybrid), exam.stream, exam.judged, exam.audited, catalogue=bundle.catalogue)


def told(audit: Audit | None) -> str:
    """An audit in per cent, for a note."""
    if audit is None:
        return "bad by construction"
    said = [f"audit {_in_per_cent(audit.every)}, liked {_in_per_cent(audit.liked)}"]
    said += [f"harm to {name}" for name in audit.harmed]
    said += [f"the slice {name} {_in_per_cent(one) if one else 'not there'}" for name, one in audit.refusing]
    return ", ".join(said)


def _in_per_cent(one: Interval) -> str:
    return f"{one.value:+.1%} ({one.low:+.1%} to {one.high:+.1%})"
