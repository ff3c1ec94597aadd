"""What feedback is worth at once on MovieLens-1M, users 1 to 2998: a part of `attune bench replay`.

Their timestamps are original. They are the latest to join (user id and time correlate at -0.95 over the whole set), so
this is a stream of newcomers; no other set of this size with true times is at hand.
"""

from dataclasses import replace

from benchmarks import replay_figures, replay_worlds
from benchmarks.record import Figure, at_least
from benchmarks.replay_run import replayed
from models.network.config import Recipe, small

WORLD = "ml-1m"
EPOCHS = 5
"""Of the recipe's thirty: the whole benchmark is to end within half an hour on two cores."""

HISTORY = 50
LIFT, LIFT_LOW = 1.3, 1.2


def recipe() -> Recipe:
    """``small`` with histories of 50 events, shortened, on one thread: two wait for each other on a busy machine."""
    return replace(small(), network=replace(small().network, context=HISTORY), epochs=EPOCHS, threads=1)


def measure(seed: int) -> list[Figure]:
    """Every arm, and how much live histories are worth."""
    found = replayed(replay_worlds.movielens_1m(), recipe(), seed)
    replay_figures.draw(WORLD, found.tallies)
    lift, best = replay_figures.lift(found), replay_figures.strongest(found)
    note = f"{replay_figures.between(lift)}; against {best}, the strongest of the frozen arms"
    return [
        at_least(f"{WORLD}, live over frozen, times HR@10, 10+ events before the cut", lift.value, LIFT, note),
        at_least(f"{WORLD}, the same, lower end of the interval", lift.low, LIFT_LOW),
        *replay_figures.alone(WORLD, found),
        *replay_figures.figures(WORLD, found),
    ]
