"""Whatever was acknowledged is in the very next recommendation, whichever process took it and whichever answers.

The catalogue is no larger than a slate may be, so every item that the user has not reacted to is on every slate: an
item whose feedback was passed over would be seen at once.
"""

import random
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count

import pytest

from attune.event_log import EventLog
from attune.events import Interaction
from attune.settings import Settings
from features.feature_store import FeatureStore
from features.state_keeper import StateKeeper

ITEMS = [f"i{number}" for number in range(100)]
THREADS = 6
NAMES = count()


class Freshness:
    """Threads that react as one user through any of the processes, and ask the others after each reaction."""

    def __init__(self, processes: list) -> None:
        self._processes = processes
        self._chance = random.Random(7)
        self.acknowledged = 0

    def react(self, user_id: str, items: list[str]) -> None:
        """Like each of the items once, and look after each."""
        self._user_id, self._position = user_id, 0
        self._begun: set[str] = set()
        self._done: set[str] = set()
        self._left = iter(items)
        with ThreadPoolExecutor(THREADS) as pool:
            for one in [pool.submit(self._react) for _ in range(THREADS)]:
                one.result(300)
        assert self._done == set(items)

    def _react(self) -> None:
        senders = [process.sender() for process in self._processes]
        slate = self._answered(senders, "/v1/recommend", {"user_id": self._user_id, "k": 100})
        for item_id in self._left:
            assert item_id in {item["item_id"] for item in slate["items"]}, "nobody has reacted to it yet"
            self._begun.add(item_id)
            given = {"slate_id": slate["slate_id"], "user_id": self._user_id, "item_id": item_id, "kind": "like"}
            event_id = f"{self._user_id}-{item_id}"
            told = self._answered(senders, "/v1/feedback", {**given, "event_id": event_id})
            self._position = max(self._position, told["position"])
            self._done.add(item_id)
            self.acknowledged += 1
            slate = self._look(senders, told["position"])
        for sender in senders:
            sender.close()

    def _look(self, senders: list, position: int) -> dict:
        """The next slate: without anything that anybody was told is kept, with all that nobody has touched."""
        before = set(self._done)
        slate = self._answered(senders, "/v1/recommend", {"user_id": self._user_id, "k": 100})
        shown = {item["item_id"] for item in slate["items"]}
        assert slate["state_position"] >= position
        assert not shown & before, "an acknowledged reaction is not reflected"
        assert shown >= set(ITEMS) - self._begun
        return slate

    def _answered(self, senders: list, path: str, body: dict) -> dict:
        """Ask any process that is ready, and another one where it is gone."""
        start = self._chance.randrange(len(senders))
        for place in range(start, start + 1_000):
            if self._processes[place % len(senders)].ready:
                sent = senders[place % len(senders)].post(path, body)
                if sent.status:
                    assert sent.status == 200, sent.answer
                    return sent.answer
            time.sleep(0.01)
        raise AssertionError("no process answers")


@contextmanager
def keeping(settings: Settings, log: EventLog):
    """A state catalogue_reader at work on the feature store."""
    store, stop = FeatureStore(settings), threading.Event()
    thread = threading.Thread(target=StateKeeper(log, store, settings).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture
def started(endpoint_process, feature_store, request: pytest.FixtureRequest) -> Callable[[str, int], list]:
    """Endpoints on one log that knows the items, and on one feature store that knows nobody yet."""

    def start(database: str, number: int) -> list:
        named = database != "sqlite"
        url = request.getfixturevalue("postgres_database")(f"fresh_{next(NAMES)}") if named else ""
        processes = [endpoint_process(database_url=url) for _ in range(number)]
        with closing(EventLog(processes[0].settings.log_url)) as log:
            log.append(
                [
                    Interaction(event_id=item, event_timestamp=1, user_id="somebody", item_id=item, kind="click")
                    for item in ITEMS
                ]
            )
        shutil.copytree(feature_store.folder, processes[0].settings.feast_folder)
        for process in processes:
            process.start()
        return processes

    return start


DATABASES = [("sqlite", 1), ("postgresql", 2)]


@pytest.mark.parametrize(("database", "number"), DATABASES)
def test_what_was_acknowledged_is_in_the_next_slate_of_every_process(started, database: str, number: int) -> None:
    freshness = Freshness(started(database, number))
    freshness.react("u", ITEMS[:40])
    assert freshness.acknowledged == 40


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("database", "number"), [("sqlite", 1), ("postgresql", 4)])
def test_a_thousand_reactions_are_each_in_the_next_slate(started, database: str, number: int) -> None:
    """One of the processes is killed and started again meanwhile, and later Feast's folder goes."""
    processes = started(database, number)
    settings, freshness = processes[0].settings, Freshness(processes)
    with closing(EventLog(settings.log_url)) as log:
        with keeping(settings, log), ThreadPoolExecutor(1) as aside:
            for turn in range(4):
                freshness.react(f"kept-{turn}", ITEMS)
            restarted = aside.submit(restart, processes[-1])
            for turn in range(3):
                freshness.react(f"killed-{turn}", ITEMS)
            restarted.result(60)
        with ThreadPoolExecutor(1) as aside:
            removed = aside.submit(shutil.rmtree, settings.feast_folder)
            for turn in range(3):
                freshness.react(f"removed-{turn}", ITEMS)
            removed.result(60)
    assert freshness.acknowledged == 1_000


def restart(process) -> None:
    """Kill it in the midst of what is going on, and bring it back."""
    time.sleep(0.5)
    process.kill()
    time.sleep(0.5)
    process.start()
