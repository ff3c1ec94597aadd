"""kill -9 under load: what was acknowledged is in the log once and whole, and repeating the rest leaves each once."""

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

import pytest

from attune.clock import SECOND, to_iso
from attune.event_log import EventLog
from attune.events import AnyEvent, Feedback, Interaction, Slate

HAPPENED = 1_700_000_000 * SECOND
BATCH = 500
ITEMS = [f"i{number}" for number in range(60)]
SLATE_SECONDS = 0.05
"""Of a slate that was answered so long before a kill, the promise is that it is in the log."""

SCHEDULING_SECONDS = 0.45
"""How much later than that the writer may come to it where two cores carry the load, the tests and other programs."""


def row(event_id: str, user_id: str, item_id: str, kind: str = "view") -> dict:
    return {
        "event_id": event_id, "user_id": user_id, "item_id": item_id, "kind": kind,
        "event_timestamp": to_iso(HAPPENED),
    }  # fmt: skip


def expected(given: dict) -> AnyEvent:
    """The event that a row must become."""
    made = Feedback if "slate_id" in given else Interaction
    return made(**{**given, "event_timestamp": HAPPENED})


def rows_of(sent) -> list[dict]:
    return sent.body["events"] if sent.path == "/v1/events" else [sent.body]


@dataclass
class Found:
    """What the kills left, over all of them."""

    kills: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0
    written_unacknowledged: int = 0
    slates: int = 0
    slates_lost: int = 0
    ages: list[float] = field(default_factory=list)
    """Of each lost slate the seconds between its answer and the kill."""

    def __str__(self) -> str:
        oldest, late = max(self.ages, default=0.0), sum(age > SLATE_SECONDS for age in self.ages)
        return (
            f"{self.kills} kills: {self.acknowledged} events acknowledged, none lost, none twice; "
            f"{self.unacknowledged} not acknowledged, of which {self.written_unacknowledged} were written; "
            f"{self.slates} slates answered, {self.slates_lost} lost, the oldest {oldest * 1000:.1f} ms before the "
            f"kill, {late} of them more than 50 ms"
        )


class Rounds:
    """Load, kill, restart, look; over and over, on one log."""

    def __init__(self, process, seed: int) -> None:
        self.process = process
        self.log = EventLog(process.settings.log_url)
        self.chance = random.Random(seed)
        self.found = Found()
        self.seen: Counter[str] = Counter()
        self.after = self.log.head()

    def run(self, times: int) -> Found:
        self.process.start()
        for number in range(times):
            sent, killed_at = self._load_and_kill(number)
            self.process.start()
            self._check(sent, killed_at)
            self._repeat(sent)
        self._check_whole()
        return self.found

    def _load_and_kill(self, number: int) -> tuple[list, float]:
        senders = [self.process.sender() for _ in range(6)]
        work = [self._react, self._react, self._ask, self._single, self._batches]
        if number % 3 == 2:  # slates alone, which nothing else takes along to the disk
            work = [self._ask]
        with ThreadPoolExecutor(len(work)) as pool:
            running = [
                pool.submit(one, sender, f"{number}-{place}")
                for place, (one, sender) in enumerate(zip(work, senders, strict=False))
            ]
            time.sleep(self.chance.uniform(0.1, 1.0))
            if number % 2 == 0:  # with a slate of which nothing can have reached the disk
                senders[-1].recommend("last")
            killed_at = self.process.kill()
            for one in running:
                one.result(60)
        return [one for sender in senders for one in sender.sent], killed_at

    def _react(self, sender, name: str) -> None:
        """Slates, and feedback on three of their items each."""
        for turn in count():
            slate = sender.recommend(f"u{name}-{turn}")
            if not slate.status:
                return
            for place, item in enumerate(slate.answer["items"][:3]):
                given = row(f"f{name}-{turn}-{place}", slate.answer["user_id"], item["item_id"], "like")
                if not sender.post("/v1/feedback", {**given, "slate_id": slate.answer["slate_id"]}).status:
                    return

    def _ask(self, sender, name: str) -> None:
        while sender.recommend(f"v{name}").status:
            pass

    def _single(self, sender, name: str) -> None:
        for turn in count():
            if not sender.post("/v1/events", {"events": [row(f"s{name}-{turn}", f"w{name}", ITEMS[turn % 60])]}).status:
                return

    def _batches(self, sender, name: str) -> None:
        for turn in count():
            rows = [row(f"b{name}-{turn}-{one}", f"x{one % 50}", ITEMS[one % 60]) for one in range(BATCH)]
            if not sender.post("/v1/events", {"events": rows}).status:
                return

    def _news(self) -> list:
        """What the log has gained; positions without a gap, every id for the first time."""
        news = self.log.read(self.after, 10**9)
        assert [one.position for one in news] == list(range(self.after + 1, self.after + 1 + len(news)))
        self.after += len(news)
        self.seen.update(one.event.event_id for one in news)
        assert max(self.seen.values(), default=1) == 1
        return news

    def _check(self, sent: list, killed_at: float) -> None:
        news = {one.event.event_id: one for one in self._news()}
        self.found.kills += 1
        assert {one.status for one in sent} <= {0, 200}
        for one in sent:
            if one.path == "/v1/recommend":
                continue
            rows = rows_of(one)
            placed = [news[given["event_id"]] for given in rows if given["event_id"] in news]
            assert len(placed) == len(rows) or (not placed and not one.status), "a batch is whole or absent"
            assert [logged.event for logged in placed] == [expected(given) for given in rows[: len(placed)]]
            positions = [logged.position for logged in placed]
            assert positions == list(range(positions[0], positions[0] + len(rows))) if positions else True
            if one.status:
                assert one.answer["position"] == positions[-1]
                self.found.acknowledged += len(rows)
            else:
                self.found.unacknowledged += len(rows)
                self.found.written_unacknowledged += len(placed)
        self._check_slates(sent, news, killed_at)

    def _check_slates(self, sent: list, news: dict, killed_at: float) -> None:
        """Only the last of them may be missing, by the clock and by what was acknowledged after them."""
        durable_from = max((one.sent_at for one in sent if one.status and one.path != "/v1/recommend"), default=0.0)
        for one in sent:
            if one.path != "/v1/recommend" or not one.status:
                continue
            self.found.slates += 1
            shown = [item["item_id"] for item in one.answer["items"]]
            logged = news.get(one.answer["slate_id"])
            if logged is not None:
                assert isinstance(logged.event, Slate)
                assert [item.item_id for item in logged.event.shown] == shown
                continue
            self.found.slates_lost += 1
            self.found.ages.append(killed_at - one.answered_at)
            assert killed_at - one.answered_at < SLATE_SECONDS + SCHEDULING_SECONDS
            assert one.answered_at > durable_from, "what was acknowledged later was written with it"
            self._react_to_lost(one.answer)

    def _react_to_lost(self, slate: dict) -> None:
        """A slate that the log never saw is believed by its signature, and feedback on it is kept."""
        sender = self.process.sender()
        given = row(f"lost-{slate['slate_id']}", slate["user_id"], slate["items"][0]["item_id"], "like")
        kept = sender.post("/v1/feedback", {**given, "slate_id": slate["slate_id"]})
        assert (kept.status, kept.answer["status"]) == (200, "accepted")
        logged = self.log.find(given["event_id"])
        assert logged is not None
        assert logged.event == expected(kept.body)
        sender.close()

    def _repeat(self, sent: list) -> None:
        """Everything that was not acknowledged, and some that was: each is there once."""
        sender = self.process.sender()
        behaviour = [one for one in sent if one.path != "/v1/recommend"]
        again = [one for one in behaviour if not one.status] + behaviour[:3]
        for one in again:
            assert sender.post(one.path, one.body).status == 200
        self._news()
        for one in again:
            assert all(self.seen[given["event_id"]] == 1 for given in rows_of(one))
        sender.close()

    def _check_whole(self) -> None:
        path = self.process.settings.var / "log" / "events.db"
        self.process.kill()
        self.log.close()
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (self.after,)
        connection.close()


def rounds(endpoint_process: Callable, times: int, seed: int) -> Found:
    process = endpoint_process(lock_seconds=5.0)
    log = EventLog(process.settings.log_url)
    log.append([expected(row(f"known-{item}", "somebody", item)) for item in ITEMS])
    log.close()
    return Rounds(process, seed).run(times)


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(endpoint_process) -> None:
    found = rounds(endpoint_process, times=3, seed=1)
    assert found.acknowledged > 0
    assert found.slates > 0


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_fifty_kills_under_load_lose_nothing_that_was_acknowledged(endpoint_process) -> None:
    found = rounds(endpoint_process, times=50, seed=2)
    print(found)
    assert found.kills == 50
    assert found.slates_lost > 0, "the proof is of those too"
    assert sum(age > SLATE_SECONDS for age in found.ages) <= found.slates_lost / 4
