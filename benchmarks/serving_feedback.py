"""From an acknowledged reaction to the slate that reflects it, under a mixed load at a fixed rate."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import scipy.sparse as sp

from attune.client import Client
from attune.schemas import RecommendAnswer as Slate
from benchmarks import serving_load, serving_world
from benchmarks.record import Figure, at_most, just
from benchmarks.serving_world import KNN, Mix, Size
from models.baselines import ItemKnn
from models.network.config import WITHOUT_ONLINE

RATE, SECONDS, VISITORS = 50.0, 30.0, 8
USERS = 1_000
"""More than react in that time, so that everybody reacts once, to a history that is as it was planted."""

REFLECTED_MS = 50.0
GROUP, FIRST, SECOND = 10, 6, 4
WEIGHTS = (1e-6, 0.9, 0.1 - 1e-6)
PLANTED = "a like raises, a dislike lowers, all other items of the group: benchmarks/serving_feedback.py"


@dataclass
class Reactions:
    """What visitors saw: milliseconds from sending a reaction to holding the next slate, and what did not change."""

    groups: list[int]
    """Of each user, the group of items that a reaction is about."""
    milliseconds: list[float] = field(default_factory=list)
    behind: int = 0
    shown_again: int = 0
    unmoved: int = 0
    compared: int = 0
    users: count = field(default_factory=count)  # type: ignore[type-arg]
    turn: threading.Lock = field(default_factory=threading.Lock)

    def of_group(self, user: int, slate: Slate) -> dict[str, float]:
        """The scores of the slate's items that the user's reaction moves."""
        shown = {one.item_id: one.score for one in slate.items}
        return {name: score for name, score in shown.items() if int(name[1:]) // GROUP == self.groups[user]}


def measure(seed: int) -> list[Figure]:
    """4.4: a third of the requests are reactions; after each comes a slate of the same user, and one before it."""
    with TemporaryDirectory(prefix="attune-effect-") as folder:
        settings = serving_load.free_settings(Path(folder))
        size = Size(users=USERS)
        clicks = serving_world.build(settings, size, seed, planted_histories, planted_mix(size.items))
        reactions = Reactions(_groups(clicks, size))
        with serving_load.endpoint(settings):
            url = f"http://127.0.0.1:{settings.serving_port}"
            with ThreadPoolExecutor(VISITORS) as pool:
                list(pool.map(lambda number: _visit(url, reactions, random.Random(seed + number)), range(VISITORS)))
    milliseconds = np.array(reactions.milliseconds)
    p99, answered = float(np.percentile(milliseconds, 99)), len(milliseconds)
    median = float(np.median(milliseconds))
    return [
        at_most("4.4 ms from a reaction to the slate that reflects it, p99", p99, REFLECTED_MS),
        just("4.4 the same, median", median, f"{answered} reactions, {RATE:g} requests/s"),
        at_most("4.4 next slates that did not know the reaction", reactions.behind, 0),
        at_most("4.4 next slates that showed the item again", reactions.shown_again, 0),
        at_most("4.4 next slates whose scores did not move as planted", reactions.unmoved, 0, PLANTED),
        just("4.4 scores that were compared", reactions.compared),
    ]


def _groups(clicks: pd.DataFrame, size: Size) -> list[int]:
    """The second best group of u0, u1, ..."""
    by_user = clicks.groupby("user_id")["item_id"].agg(list)
    return [second_group([int(name[1:]) for name in by_user[f"u{user}"]], size.items) for user in range(size.users)]


def _visit(url: str, reactions: Reactions, chance: random.Random) -> None:
    """Slates and reactions in turn, at the visitor's share of the rate."""
    pause = 3.0 * VISITORS / RATE  # three requests a round
    deadline, due = time.monotonic() + SECONDS, time.monotonic() + chance.random() * pause
    with Client(url, timeout=30.0, retries=0) as client:
        while due < deadline:
            time.sleep(max(due - time.monotonic(), 0.0))
            due += pause
            _round(client, reactions, next(reactions.users) % len(reactions.groups), chance)


def _round(client: Client, reactions: Reactions, number: int, chance: random.Random) -> None:
    """A slate, a reaction to one of its items, the next slate, drawn from the same seed."""
    user, seed, kind = f"u{number}", chance.getrandbits(53), chance.choice(("like", "dislike"))
    slate = client.recommend(user, seed=seed)
    before = reactions.of_group(number, slate)
    if slate.slate_id is None or not before:
        return
    item = chance.choice(list(before))
    started = time.perf_counter()
    told = client.feedback(slate.slate_id, user, item, kind)
    after = client.recommend(user, seed=seed)
    seconds = time.perf_counter() - started
    scores = reactions.of_group(number, after)
    moved = [scores[name] - before[name] for name in scores.keys() & before.keys()]
    with reactions.turn:
        reactions.milliseconds.append(1_000 * seconds)
        reactions.behind += after.state_position < told.position
        reactions.shown_again += item in scores
        reactions.unmoved += not moved or not all(change > 0 if kind == "like" else change < 0 for change in moved)
        reactions.compared += len(moved)


def planted_histories(size: Size, random: np.random.Generator) -> np.ndarray:
    """Clicks (users, history) from which one knows beforehand whose scores a reaction moves, and which way.

    Half of the items stand in groups of ten, each item a neighbour of the other nine with the similarity 1; the others
    have no neighbours. Of a user's 50 clicks the latest ten are on six items of one group, A, and on four of another,
    B, mixed; those before are on items without neighbours, so nothing that moves a score leaves the 30 events that
    item-kNN reads. A click votes 1.5, so item-kNN gives 6 to an item of B that the user has not used, and 9 to one of
    A. Divided by its largest distance from the mean m (which is below 0.02 of 10,000 items) B stands at
    (6 - m) / (9 - m). A ``like`` in B makes that 7, a ``dislike`` 5; A keeps the largest distance, and m moves by less
    than 0.001: the rest of B goes up, or down, by about a ninth of the scale. The network is computed as ever, with a
    weight of a millionth, and nothing else is mixed in.
    """
    grouped = _items_in_groups(size.items)
    lonely_UH = random.integers(grouped, size.items, (size.users, size.history - FIRST - SECOND))
    latest_UH = np.empty((size.users, FIRST + SECOND), np.int64)
    for latest_H in latest_UH:
        a, b = random.choice(grouped // GROUP, 2, replace=False) * GROUP
        latest_H[:FIRST] = a + random.choice(GROUP, FIRST, replace=False)
        latest_H[FIRST:] = b + random.choice(GROUP, SECOND, replace=False)
    return np.concatenate([lonely_UH, random.permuted(latest_UH, axis=1)], axis=1)


def second_group(clicked: list[int], items: int) -> int:
    """The group, by number, that the user's clicks like second best."""
    numbers, clicks = np.unique(
        [item // GROUP for item in clicked if item < _items_in_groups(items)], return_counts=True
    )
    return int(numbers[clicks.argmin()])


def planted_mix(items: int) -> Mix:
    """The groups as item-kNN's table, and a network that says next to nothing."""
    of_group = np.ones((GROUP, GROUP), np.float32) - np.eye(GROUP, dtype=np.float32)
    groups = _items_in_groups(items) // GROUP
    lonely = sp.csr_matrix((items - groups * GROUP,) * 2, dtype=np.float32)
    table = sp.block_diag([*[of_group] * groups, lonely], format="csr", dtype=np.float32)
    table.eliminate_zeros()
    table.sort_indices()
    return Mix(WEIGHTS, ItemKnn(table, KNN), WITHOUT_ONLINE)


def _items_in_groups(items: int) -> int:
    """How many of the items stand in groups: the first half of them."""
    return items // 2 // GROUP * GROUP
