"""What feedback is worth at once, on MovieLens-1M (users 1 to 2998) and on the demo's ratings: figures and a picture.

The timestamps of users 1 to 2998 are original. They are the latest to join (user id and time correlate at -0.95 over
the whole set), so this is a stream of newcomers; no other set of this size with true times is at hand.
"""

import io
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture

from attune.settings import Settings
from benchmarks import datasets
from benchmarks.prequential import EVERYBODY, MEASURES, PARTS, SEGMENTS, SETTLED, Tally
from benchmarks.record import Figure, at_least, just
from benchmarks.replay_protocol import BOTH, FROZEN_ARMS, LIVE, PREFERENCE, PROFILE, ReplayResult, run
from evaluation.intervals import Interval
from models.network.config import small, tiny

LEAST_EQUAL = 0.99
"""Where the live item profile is in the mix: that of serving forgets what weighs less than a hundredth of an event."""

SMOOTHED = 10
"""So many windows are one point of the picture."""

EPOCHS = 5
"""Of the recipe's fourteen: the whole benchmark is to end within half an hour on two cores."""

HISTORY = 50
LIFT, LIFT_LOW = 1.3, 1.2


def measure_1m(seed: int) -> list[Figure]:
    """Every arm on MovieLens-1M, and how much live histories are worth.

    The recipe is ``small`` with histories of 50 events, shortened, on one thread: two wait for each other on a busy
    machine.
    """
    network = replace(small().network, context=HISTORY)
    recipe = replace(small(), network=network, epochs=EPOCHS, batch=16, negatives=1024, threads=1)
    result = run(datasets.movielens_1m(), recipe, seed)
    name, value, note = _headline("ml-1m", result)
    return [
        at_least(name, value.value, LIFT, note),
        at_least("ml-1m, the same, lower end of the interval", value.low, LIFT_LOW),
        *_all_figures("ml-1m", result),
    ]


def measure_demo(seed: int) -> list[Figure]:
    """Every arm on the demo's ratings with the demo's own recipe, without a limit."""
    result = run(datasets.movielens_demo(), tiny(), seed)
    name, value, note = _headline("demo", result)
    return [just(name, value.value, note), *_all_figures("demo", result)]


def _headline(world: str, result: ReplayResult) -> tuple[str, Interval, str]:
    """The name, the interval and the note of the figure that counts most."""
    value, best = lift(result), strongest(result)
    note = f"{between(value)}; against {best}, the strongest of the frozen arms"
    return f"{world}, live over frozen, times HR@10, 10+ events before the cut", value, note


def _all_figures(world: str, result: ReplayResult) -> list[Figure]:
    draw(world, result.tallies)
    return [*single_requests(world, result), *figures(world, result)]


def figures(world: str, result: ReplayResult) -> list[Figure]:
    """Each arm's measures, what it cost, and the lifts; names begin with the world's."""
    told = [figure for tally in result.tallies.values() for figure in _arm(world, tally)]
    told += lifts(world, result)
    told += [_lift(world, result, name, LIVE) for name in (PREFERENCE, PROFILE, BOTH)]
    told += [just(f"{world}, {step}, s", seconds) for step, seconds in result.seconds.items()]
    return told + _chosen(world, result)


def lift(result: ReplayResult, live: str = LIVE, frozen: str | None = None) -> Interval:
    """HR@10 of an arm over that of a frozen one (None: the strongest), for who had ten events before the cut."""
    return result.tallies[live].times(result.tallies[frozen or strongest(result)], "hr@10", SETTLED)


def strongest(result: ReplayResult) -> str:
    """The frozen arm that is hardest to beat, for who had ten events before the cut."""
    return max(FROZEN_ARMS, key=lambda name: result.tallies[name].interval("hr@10", SETTLED).value)


def lifts(world: str, result: ReplayResult) -> list[Figure]:
    """Every arm that is there both live and frozen: what being live is worth to it."""
    return [
        just(f"{world}, {live} over itself frozen, times HR@10, 10+ events before the cut", one.value, between(one))
        for frozen, live in FROZEN_ARMS.items()
        for one in (lift(result, live, frozen),)
    ]


def single_requests(world: str, result: ReplayResult) -> list[Figure]:
    """The share of the lists compared that were those of single requests."""
    return [
        at_least(
            f"{world}, lists equal to single requests, {name}, share",
            same / compared,
            LEAST_EQUAL if "profile" in name or name == BOTH else 1.0,
            f"of {compared}",
        )
        for name, (compared, same) in result.single_requests.items()
    ]


def between(interval: Interval) -> str:
    """An interval as a note says it."""
    return f"95 %: {interval.low:.4f} to {interval.high:.4f}"


def _arm(world: str, tally: Tally) -> list[Figure]:
    found = [
        just(
            f"{world}, {tally.name}, {measure}, {segment}, {part}",
            (mean := tally.interval(measure, segment, part)).value,
            f"{between(mean)}; {tally.events(segment, part)} events, {tally.users(segment, part)} users",
        )
        for segment in SEGMENTS
        for part in PARTS
        for measure in (MEASURES if segment == EVERYBODY else MEASURES[:2])
        if tally.events(segment, part)
    ]
    found += [
        just(f"{world}, {tally.name}, coverage, {EVERYBODY}, {part}", tally.coverage(part=part)) for part in PARTS
    ]
    each = 1_000 * tally.seconds / max(tally.groups, 1)
    found.append(just(f"{world}, {tally.name}, processor seconds", tally.seconds, f"{tally.groups} groups"))
    return [*found, just(f"{world}, {tally.name}, ms of processor a group", each)]


def _lift(world: str, result: ReplayResult, name: str, over: str) -> Figure:
    times = result.tallies[name].times(result.tallies[over], "hr@10")
    return just(f"{world}, {name} over {over}, times HR@10", times.value, between(times))


def _chosen(world: str, result: ReplayResult) -> list[Figure]:
    """What validation chose, with the objective of each beside that of live histories alone."""
    online = result.online
    best = {what: max(one["objective"] for one in online.tried if one["what"] == what) for what in _tried(result)}
    told = {
        "preference": f"step {online.preference.step:g}, weight {online.preference.weight:g}, "
        f"half-life {online.preference.half_life_days or 'none'}",
        "item profile": f"half-life {online.profile.half_life_days:g} days, prior {online.profile.prior:g}, "
        f"weight {online.profile.weight:g}",
        "popularity": f"half-life {online.popularity_days:g} days",
    }
    return [just(f"{world}, validation, {what}", objective, told.get(what, "")) for what, objective in best.items()]


def _tried(result: ReplayResult) -> list[str]:
    return list(dict.fromkeys(one["what"] for one in result.online.tried))


def picture(world: str, tallies: Mapping[str, Tally]) -> bytes:
    """A PNG: each measure of each arm as the stream went by, over the latest ``SMOOTHED`` windows."""
    drawn = Picture(figsize=(8.0, 11.0), dpi=100, layout="constrained")
    rows = drawn.subplots(len(MEASURES) + 1, 1, sharex=True)
    for tally in tallies.values():
        gone, lines = _rolling(tally)
        for axes, line in zip(rows, lines, strict=True):
            axes.plot(gone, line, "--" if tally.name in FROZEN_ARMS else "-", label=tally.name, linewidth=1.4)
    titles = ("HR@10", "NDCG@10", "novelty, bits", "diversity", "items shown, a window")
    for axes, title in zip(rows, titles, strict=True):
        axes.set(ylabel=title)
    rows[0].set(title=f"{world}: the arms as the stream goes by")
    drawn.legend(*rows[0].get_legend_handles_labels(), loc="outside upper center", frameon=False, ncols=3, fontsize=8)
    rows[-1].set(xlabel="targets since the cut")
    into = io.BytesIO()
    FigureCanvasAgg(drawn).print_png(into)
    return into.getvalue()


def draw(world: str, tallies: Mapping[str, Tally]) -> None:
    """Write the picture to ``var/bench``."""
    folder = Settings().var / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"replay-{world}.png").write_bytes(picture(world, tallies))


def _rolling(tally: Tally) -> tuple[np.ndarray, list[np.ndarray]]:
    """Targets gone by, and the mean of each measure over the latest windows; the last one counts items."""
    rows_WX = np.array(tally.rolling)
    span = min(SMOOTHED, len(rows_WX))
    running_WX = np.concatenate([np.zeros((1, rows_WX.shape[1])), np.cumsum(rows_WX, axis=0)])
    sums_WX = running_WX[span:] - running_WX[:-span]
    lines = [sums_WX[:, 1 + place] / sums_WX[:, 0] for place in range(len(MEASURES))]
    return running_WX[span:, 0], [*lines, sums_WX[:, -1] / span]
