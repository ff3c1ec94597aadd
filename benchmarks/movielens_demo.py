"""What feedback is worth at once on the demo's MovieLens: a part of `attune bench replay`, without a limit."""

from benchmarks import replay_figures, replay_worlds
from benchmarks.record import Figure, just
from benchmarks.replay_run import replayed
from models.network.config import tiny

WORLD = "demo"


def measure(seed: int) -> list[Figure]:
    """Every arm, with the demo's own recipe."""
    found = replayed(replay_worlds.movielens_demo(), tiny(), seed)
    replay_figures.draw(WORLD, found.tallies)
    lift, best = replay_figures.lift(found), replay_figures.strongest(found)
    note = f"{replay_figures.between(lift)}; against {best}, the strongest of the frozen arms"
    return [
        just(f"{WORLD}, live over frozen, times HR@10, 10+ events before the cut", lift.value, note),
        *replay_figures.alone(WORLD, found),
        *replay_figures.figures(WORLD, found),
    ]
