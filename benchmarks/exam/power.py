"""Good and bad challengers through the gates, counted: what the parts of `attune bench gates` have in common.

MovieLens-1M, users 1 to 2998, whose timestamps are original, so that an era's hold-out has some 500 users and 34,000
events or more. A challenger counts as bad when it harms everybody or a slice on the audit set, which no gate sees, or
is bad by construction; a fine-tune counts as good when it does no harm there. So each set plants a few more than are
counted: the first twenty count.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import replay_worlds
from benchmarks.exam.sitting import Result, Room, bad_ones, good_ones, told
from benchmarks.exam.stretches import Era, prepared
from benchmarks.record import Figure, at_least, just
from models.network.config import Recipe, tiny

COUNTED = 20
PLANTED_GOOD = 28
HISTORY = 50


@dataclass(frozen=True)
class Asked:
    """How many of twenty bad ones are to be refused, and of twenty good ones let through; None: it is only stated."""

    refused: int | None
    accepted: int | None


NO_LIMITS, ASKED = Asked(None, None), Asked(19, 16)


def recipe() -> Recipe:
    """``tiny``, with longer histories."""
    return replace(tiny(), network=replace(tiny().network, context=HISTORY))


def measure(name: str, era: Era, faults: str, seed: int, asked: Asked) -> list[Figure]:
    """Train a line of champions, then make and judge everybody."""
    with TemporaryDirectory(prefix="attune-gates-") as folder:
        room = Room(replay_worlds.movielens_1m, recipe(), era, Path(folder))
        prepared(room.world(), room.recipe, era, room.folder, seed)
        return figures(name, bad_ones(room, faults), good_ones(room, PLANTED_GOOD, seed), asked)


def figures(name: str, planted: Sequence[Result], tuned: Sequence[Result], asked: Asked) -> list[Figure]:
    """The counts, which gate caught how many, and each challenger."""
    bad = [one for one in planted if one.is_bad][:COUNTED]
    good = [one for one in tuned if not one.is_bad][:COUNTED]
    harmful = [one for one in tuned if one.is_bad]
    refused, accepted = [one for one in bad if not one.accepted], [one for one in good if one.accepted]
    caught = Counter(gate for one in bad for gate in one.by)
    alone = Counter(one.by[0] for one in bad if len(one.by) == 1)
    return [
        _counted(f"{name}: bad ones refused, of {len(bad)}", len(refused), asked.refused),
        _counted(f"{name}: good ones let through, of {len(good)}", len(accepted), asked.accepted),
        just(f"{name}: fine-tunes that do harm let through, of {len(harmful)}", sum(one.accepted for one in harmful)),
        *(
            just(f"{name}: bad ones caught by {gate}", count, f"{alone[gate]} of them by no other")
            for gate, count in caught.most_common()
        ),
        *(_told(name, "bad", one) for one in bad),
        *(_told(name, "good", one) for one in good),
        *(_told(name, _uncounted(one), one) for one in (*planted, *tuned) if one not in (*bad, *good)),
    ]


def _counted(name: str, count: int, limit: int | None) -> Figure:
    return just(name, count) if limit is None else at_least(name, count, limit)


def _uncounted(one: Result) -> str:
    """How one that is not counted is told."""
    return "not counted, bad" if one.is_bad else "not counted, without harm"


def _told(name: str, side: str, one: Result) -> Figure:
    """1 for a challenger that was let through."""
    why = f"refused by {', '.join(one.by)}" if one.by else "accepted"
    return just(f"{name}: {side}, {one.name}, let through", float(one.accepted), f"{why}; {told(one.audit)}")
