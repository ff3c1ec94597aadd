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

from attune.client import Client
from attune.schemas import RecommendAnswer as Slate
from benchmarks import endpoint, planted, serving_world
from benchmarks.record import Figure, at_most, just

RATE, SECONDS, VISITORS = 50.0, 30.0, 8
USERS = 1_000
"""More than react in that time, so that everybody reacts once, to a history that is as it was planted."""

FELT_MS = 50.0
PLANTED = "a like raises, a dislike lowers, all other items of the group: benchmarks/planted.py"


@dataclass
class Felt:
    """What the visitors saw: milliseconds from sending a reaction to holding the next slate, and what was not felt."""

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
        return {name: score for name, score in shown.items() if int(name[1:]) // planted.GROUP == self.groups[user]}


def measure(seed: int) -> list[Figure]:
    """4.4: a third of the requests are reactions; after each comes a slate of the same user, and one before it."""
    with TemporaryDirectory(prefix="attune-effect-") as folder:
        settings = endpoint.free_settings(Path(folder))
        size = serving_world.Size(users=USERS)
        clicks = serving_world.build(settings, size, seed, planted.histories, planted.mixing(size.items))
        felt = Felt(_groups(clicks, size))
        with endpoint.endpoint(settings):
            url = f"http://127.0.0.1:{settings.serving_port}"
            with ThreadPoolExecutor(VISITORS) as pool:
                list(pool.map(lambda number: _visit(url, felt, random.Random(seed + number)), range(VISITORS)))
    milliseconds = np.array(felt.milliseconds)
    p99, reactions = float(np.percentile(milliseconds, 99)), len(milliseconds)
    median = float(np.median(milliseconds))
    return [
        at_most("4.4 ms from a reaction to the slate that reflects it, p99", p99, FELT_MS),
        just("4.4 the same, median", median, f"{reactions} reactions, {RATE:g} requests/s"),
        at_most("4.4 next slates that did not know the reaction", felt.behind, 0),
        at_most("4.4 next slates that showed the item again", felt.shown_again, 0),
        at_most("4.4 next slates whose scores did not move as planted", felt.unmoved, 0, PLANTED),
        just("4.4 scores that were compared", felt.compared),
    ]


def _groups(clicks: pd.DataFrame, size: serving_world.Size) -> list[int]:
    """The second best group of u0, u1, ..."""
    by_user = clicks.groupby("user_id")["item_id"].agg(list)
    return [
        planted.second_group([int(name[1:]) for name in by_user[f"u{user}"]], size.items) for user in range(size.users)
    ]


def _visit(url: str, felt: Felt, chance: random.Random) -> None:
    """Slates and reactions in turn, at the visitor's share of the rate."""
    pause = 3.0 * VISITORS / RATE  # three requests a round
    deadline, due = time.monotonic() + SECONDS, time.monotonic() + chance.random() * pause
    with Client(url, timeout=30.0, retries=0) as client:
        while due < deadline:
            time.sleep(max(due - time.monotonic(), 0.0))
            due += pause
            _round(client, felt, next(felt.users) % len(felt.groups), chance)


def _round(client: Client, felt: Felt, number: int, chance: random.Random) -> None:
    """A slate, a reaction to one of its items, the next slate, drawn from the same seed."""
    user, seed, kind = f"u{number}", chance.getrandbits(53), chance.choice(("like", "dislike"))
    slate = client.recommend(user, seed=seed)
    before = felt.of_group(number, slate)
    if slate.slate_id is None or not before:
        return
    item = chance.choice(list(before))
    started = time.perf_counter()
    told = client.feedback(slate.slate_id, user, item, kind)
    after = client.recommend(user, seed=seed)
    seconds = time.perf_counter() - started
    scores = felt.of_group(number, after)
    moved = [scores[name] - before[name] for name in scores.keys() & before.keys()]
    with felt.turn:
        felt.milliseconds.append(1_000 * seconds)
        felt.behind += after.state_position < told.position
        felt.shown_again += item in scores
        felt.unmoved += not moved or not all(change > 0 if kind == "like" else change < 0 for change in moved)
        felt.compared += len(moved)
