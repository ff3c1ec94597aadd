"""The power of the gates: how many bad challengers they refuse, and how many good ones they let through.

The stream is MovieLens-1M, users 1 to 2998, whose timestamps are original; a hold-out of a split has some 500 users and
34,000 events or more. A challenger counts as bad when it harms everybody or a slice on the audit set, which no gate
sees, or is bad by construction; a fine-tune counts as good when it does no harm there. So each set plants a few more
than are counted: the first twenty count.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import datasets
from benchmarks.gates_challengers import Challenger, honest_finetune
from benchmarks.gates_experiment import Experiment, Split, open_experiment, train_champions
from benchmarks.gates_faults import FAULTS
from benchmarks.record import Figure, at_least, just
from evaluation.case import Case, CaseLimits
from evaluation.gate import kept_out_by
from evaluation.gates.slices import Slices, slices
from evaluation.hold_out import CachedHybrid
from evaluation.intervals import Interval, paired
from evaluation.judge import judge
from evaluation.replay import replay
from models.bundle import Bundle
from models.learning.dataset import TrainingSet
from models.metrics import Evaluation
from models.network.config import Recipe, tiny

COUNTED = 20
GOOD_PLANTED = 28
HISTORY = 50
AUDITED = "ndcg@10"

HARM = "no_harm_to_"
"""The gates on slices, and that on the panel, are named so."""

KNOWN_SPLIT = Split(anchor=0.25, elder=0.35, champion=0.45, learned=0.55, judged=0.65, audited=0.75)
UNSEEN_SPLIT = Split(anchor=0.6, elder=0.7, champion=0.8, learned=0.9, judged=0.97, audited=1.0)


@dataclass(frozen=True)
class Limits:
    """How many of twenty bad ones are to be refused, and of twenty good ones let through; None: it is only stated."""

    refused: int | None
    accepted: int | None


NO_LIMITS, LIMITS = Limits(None, None), Limits(19, 16)


@dataclass(frozen=True)
class Audit:
    """The relative change of NDCG@10 against the champion over all targets and over the liked ones, which decide.

    ``harmed`` are the slices that lose as much as the gates call harm, but on the audit set. ``refusing`` are the
    changes of the slices for which a gate refused, each with its interval; None for one that the audit set lacks, or
    has too little of.
    """

    every: Interval
    liked: Interval
    harmed: tuple[str, ...] = ()
    refusing: tuple[tuple[str, Interval | None], ...] = ()

    @property
    def shows_harm(self) -> bool:
        """Whether the whole interval over liked targets lies below zero, or a slice is harmed."""
        return self.liked.high < 0 or bool(self.harmed)

    def __str__(self) -> str:
        """The changes in per cent."""
        parts = [f"audit {_in_per_cent(self.every)}, liked {_in_per_cent(self.liked)}"]
        parts += [f"harm to {name}" for name in self.harmed]
        parts += [f"the slice {name} {_in_per_cent(change) if change else 'not there'}"
                  for name, change in self.refusing]  # fmt: skip
        return ", ".join(parts)


@dataclass(frozen=True)
class Result:
    """A judged challenger: the gates that refused it, and its audit; one that is bad by construction has none."""

    name: str
    accepted: bool
    by: tuple[str, ...]
    audit: Audit | None

    @property
    def is_bad(self) -> bool:
        """Whether it is by construction, or the audit shows that it does harm."""
        return self.audit is None or self.audit.shows_harm


@dataclass(frozen=True)
class Setting:
    """What a worker process needs to open the experiment: how to read the stream, recipe, split, folder of bundles."""

    read: Callable[[], TrainingSet]
    recipe: Recipe
    split: Split
    folder: Path


def measure_known(seed: int) -> list[Figure]:
    """The faults that the gates' limits were tuned on: only stated, since the limits follow from them."""
    return _measure("known", KNOWN_SPLIT, seed, NO_LIMITS)


def measure_unseen(seed: int) -> list[Figure]:
    """Faults and a stretch of the stream that no limit was tuned on: 19 of 20 refused, 16 of 20 good ones accepted."""
    return _measure("unseen", UNSEEN_SPLIT, seed, LIMITS)


def _measure(name: str, split: Split, seed: int, limits: Limits) -> list[Figure]:
    """Train a line of champions, then make and judge every challenger, a process for each core."""
    recipe = replace(tiny(), network=replace(tiny().network, context=HISTORY))
    with TemporaryDirectory(prefix="attune-gates-") as folder:
        setting = Setting(datasets.movielens_1m, recipe, split, Path(folder))
        train_champions(setting.read(), recipe, split, setting.folder, seed)
        bad = _judge_all(setting, name, range(len(FAULTS[name])))
        good = _judge_all(setting, None, [seed + place for place in range(GOOD_PLANTED)])
        return figures(name, bad, good, limits)


def figures(name: str, planted: Sequence[Result], tuned: Sequence[Result], limits: Limits) -> list[Figure]:
    """The counts, which gate caught how many, and each challenger."""
    bad = [result for result in planted if result.is_bad][:COUNTED]
    good = [result for result in tuned if not result.is_bad][:COUNTED]
    harmful = [result for result in tuned if result.is_bad]
    refused, accepted = [one for one in bad if not one.accepted], [one for one in good if one.accepted]
    caught = Counter(gate for result in bad for gate in result.by)
    alone = Counter(result.by[0] for result in bad if len(result.by) == 1)
    uncounted = [result for result in (*planted, *tuned) if result not in (*bad, *good)]
    return [
        _count(f"{name}: bad ones refused, of {len(bad)}", len(refused), limits.refused),
        _count(f"{name}: good ones let through, of {len(good)}", len(accepted), limits.accepted),
        just(f"{name}: fine-tunes that do harm let through, of {len(harmful)}", sum(one.accepted for one in harmful)),
        *(
            just(f"{name}: bad ones caught by {gate}", count, f"{alone[gate]} of them by no other")
            for gate, count in caught.most_common()
        ),
        *(_challenger(name, "bad", result) for result in bad),
        *(_challenger(name, "good", result) for result in good),
        *(
            _challenger(name, f"not counted, {'bad' if result.is_bad else 'without harm'}", result)
            for result in uncounted
        ),
    ]


def _count(name: str, count: int, limit: int | None) -> Figure:
    return just(name, count) if limit is None else at_least(name, count, limit)


def _challenger(name: str, side: str, result: Result) -> Figure:
    """1 for a challenger that was let through."""
    why = f"kept out by {', '.join(result.by)}" if result.by else "accepted"
    note = f"{why}; {result.audit or 'bad by construction'}"
    return just(f"{name}: {side}, {result.name}, let through", float(result.accepted), note)


def _in_per_cent(change: Interval) -> str:
    return f"{change.value:+.1%} ({change.low:+.1%} to {change.high:+.1%})"


# Judging, in worker processes: training and judging use one thread each.


def _judge_all(setting: Setting, faults: str | None, places: Sequence[int]) -> list[Result]:
    """The faults of a set at these places, or honest fine-tunes with these seeds, judged side by side."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=_open, initargs=(setting,)) as pool:
        return list(pool.map(_judge_one, [faults] * len(places), places))


_experiment: list[Experiment] = []
"""The experiment of this process."""

_replayed: dict[tuple[str, str, int, int], Evaluation] = {}
"""The replays of the champions in this process, so that each is made once."""


def _open(setting: Setting) -> None:
    _experiment.append(open_experiment(setting.read(), setting.recipe, setting.split, setting.folder))


def _judge_one(faults: str | None, place: int) -> Result:
    challenger = FAULTS[faults][place] if faults else Challenger(f"fine-tune {place}", honest_finetune)
    return judge_challenger(_experiment[0], challenger, place)


def judge_challenger(experiment: Experiment, challenger: Challenger, seed: int) -> Result:
    """Make one challenger, hold it against the gates and audit it."""
    folder = experiment.folder / challenger.name.replace(" ", "_").replace(":", "")
    folder, champions = challenger.make(experiment, folder, seed), experiment.champions
    case = Case.load(
        experiment.stream,
        folder,
        champions["champion"],
        champions["anchor"],
        champions["elder"],
        after=experiment.learned,
        upto=experiment.judged,
        replay_cache=_replayed,
    )
    judgement = judge(case)
    refusing = tuple(verdict.name for verdict in kept_out_by(judgement.verdicts, accept_undecided=False))
    audit = None if challenger.by_construction else _audit(experiment, folder, refusing)
    return Result(challenger.name, judgement.accepted, refusing, audit)


def _audit(experiment: Experiment, folder: Path, by: Sequence[str]) -> Audit:
    """What the challenger, refused by these gates, changes against the champion after the hold-out."""
    challenger, gate, limits = _audit_replay(experiment, folder), Slices(), CaseLimits()
    key = ("audit of the champion", str(experiment.folder), experiment.judged, experiment.audited)
    if key not in _replayed:
        _replayed[key] = _audit_replay(experiment, experiment.champions["champion"])
    champion = _replayed[key]
    every, liked = (paired(challenger, champion, AUDITED, part).relative for part in ("all", "positive"))
    challenger, champion = challenger.of("positive"), champion.of("positive")
    masks = slices(challenger, experiment.stream, experiment.judged, gate.slices)
    lost = gate.harms(challenger, champion, masks, limits)
    named = [name.removeprefix(HARM) for name in by if name.startswith(HARM) and name != f"{HARM}panel"]
    alone = {
        name: gate.harms(challenger, champion, {name: masks[name]} if name in masks else {}, limits) for name in named
    }
    return Audit(
        every,
        liked,
        tuple(name for name, harm in lost.items() if harm.is_harmed),
        tuple((name, harm[name].change if harm else None) for name, harm in alone.items()),
    )


def _audit_replay(experiment: Experiment, folder: Path) -> Evaluation:
    bundle = Bundle.load(folder)
    stretch = (experiment.stream, experiment.judged, experiment.audited)
    return replay(CachedHybrid(bundle.hybrid), *stretch, catalogue=bundle.catalogue)
