"""Swaps while people ask and react: no request fails, no answer mixes two versions, nothing acknowledged is lost.

Each version is an edition of its own: it calls every item by another title and has items that no other has, so an
answer that took its items from one and their titles or its name from another shows.
"""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path

import httpx
import pytest

from attune.event_log import EventLog
from attune.events import Slate
from attune.promotions import Promotions
from attune.user_state import UserState, fold
from models.bundle import Bundle
from models.recommender import UNKNOWN_USER_STATS, Request, recommend

EDITIONS = 5
CLIENTS, USERS, K = 4, 8, 8
PAUSE_SECONDS = 0.02
REPLAYED = 60
"""Answers that are computed once more from the log, spread over all of them."""


@dataclass(frozen=True)
class Swap:
    """A promotion: when it was asked for, and when the endpoint said that it answers. Times are monotonic."""

    version: str
    promoted_at: float
    answers_at: float


@dataclass
class Client:
    """One connection over which users ask and react, until told to stop; some go and others come, as items run out."""

    process: object
    number: int
    stop: threading.Event
    slates: list = field(default_factory=list)
    reactions: list = field(default_factory=list)
    fences: list[int] = field(default_factory=list)
    failures: list = field(default_factory=list)

    def run(self) -> None:
        chance, sender = random.Random(self.number), self.process.sender()
        with httpx.Client(base_url=f"http://127.0.0.1:{self.process.port}", timeout=30.0) as reader:
            for turn in count():
                if self.stop.is_set():
                    break
                slate = sender.recommend(f"u{self.number}-{turn // USERS + chance.randrange(USERS)}", K)
                self._keep(self.slates, slate)
                if slate.status == 200:
                    item_id = chance.choice(slate.answer["items"])["item_id"]
                    self._keep(self.reactions, sender.feedback(slate.answer, item_id, "click"))
                self.fences.append(reader.get("/v1/model").json()["fence"])
                time.sleep(PAUSE_SECONDS)
        sender.close()

    def _keep(self, kept: list, sent) -> None:
        (kept if sent.status == 200 else self.failures).append(sent)


@pytest.fixture(scope="module")
def editions(tmp_path_factory, make_bundle) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("editions")
    weights = [(0.8, 0.2, 0.0), (0.1, 0.7, 0.2), (0.4, 0.4, 0.2), (0.6, 0.1, 0.3), (1.0, 0.0, 0.0)]
    names = [str(number) for number in range(1, EDITIONS + 1)]
    return {
        name: make_bundle(folder / name, int(name), mix, f"edition{name}")
        for name, mix in zip(names, weights, strict=True)
    }


@pytest.fixture
def process(endpoint_process, editions):
    """An endpoint process that finds every edition on disk; the first is its champion."""
    made = endpoint_process(champion_poll_seconds=0.05)
    folder = made.settings.bundles_folder
    folder.mkdir(parents=True)
    for name, path in editions.items():
        (folder / name).symlink_to(path)
    return made


def swap(process, promotions: Promotions, version: str, eventually) -> Swap:
    """Promote a version and wait until it answers."""
    begun = time.monotonic()
    with promotions.lease(process.settings.endpoint, "test", 10.0) as lease:
        fence = promotions.append(lease, version, "promote", "a test", "test").fence
    model = f"http://127.0.0.1:{process.port}/v1/model"
    with httpx.Client(timeout=30.0) as client:
        eventually(lambda: client.get(model).json()["fence"] == fence)
    return Swap(version, begun, time.monotonic())


def swapped_under_load(process, promotions: Promotions, swaps: int, eventually) -> tuple[list[Swap], list[Client]]:
    """So many swaps while all clients are at it; the swap before the first of them is the first of the list."""
    done = [swap(process, promotions, "1", eventually)]
    stop = threading.Event()
    clients = [Client(process, number, stop) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(one.run) for one in clients]
        try:
            for number in range(swaps):
                time.sleep(PAUSE_SECONDS)
                done.append(swap(process, promotions, str((number + 1) % EDITIONS + 1), eventually))
            time.sleep(0.2)
        finally:
            stop.set()
        for one in running:
            one.result()
    return done, clients


def could_answer(swaps: list[Swap], sent) -> set[str]:
    """The versions that could have been captured between the sending and the answer."""
    until = [one.answers_at for one in swaps[1:]] + [float("inf")]
    return {
        one.version
        for one, end in zip(swaps, until, strict=True)
        if one.promoted_at <= sent.answered_at and end >= sent.sent_at
    }


def assert_of_one_version(bundles: dict[str, Bundle], swaps: list[Swap], sent) -> None:
    """The answer names a version that was the champion, and items as that version alone has them."""
    answer = sent.answer
    version = answer["model_version"]
    assert version in could_answer(swaps, sent)
    catalogue = bundles[version].catalogue
    for item in answer["items"]:
        assert item["title"] == catalogue.titles[catalogue.index[item["item_id"]]]
        assert item["title"].endswith(f" in edition{version}")
    assert len({item["item_id"] for item in answer["items"]}) == len(answer["items"]) > 0
    assert "model" not in answer["degraded"]


def assert_logged_as_answered(log: EventLog, bundles: dict[str, Bundle], answer: dict, eventually) -> Slate:
    logged = eventually(lambda: log.slate(answer["slate_id"])).event
    catalogue = bundles[answer["model_version"]].catalogue
    assert logged.model_version == answer["model_version"]
    assert [one.item_id for one in logged.shown] == [one["item_id"] for one in answer["items"]]
    assert all(one.item_id in catalogue.index for one in logged.candidates)
    return logged


def assert_scores_are_its_versions(log: EventLog, bundle: Bundle, logged: Slate) -> None:
    """What that version's pipeline, alone, says for the state that the slate names."""
    events = [one for one in log.tail(logged.user_id, 0) if one.position <= logged.state_position]
    request = Request(k=K, now=logged.event_timestamp, seed=logged.policy["seed"])
    again = recommend(bundle, fold(UserState(logged.user_id), events), UNKNOWN_USER_STATS, request)
    scores = {one.item_id: one.score for one in again.candidates}
    assert scores == pytest.approx({one.item_id: one.score for one in logged.candidates}, abs=1e-4)
    assert logged.served_by == again.served_by


def assert_all_held(process, swaps: list[Swap], clients: list[Client], editions: dict[str, Path], eventually) -> None:
    bundles = {name: Bundle.load(path) for name, path in editions.items()}
    slates = [one for client in clients for one in client.slates]
    assert [one for client in clients for one in client.failures] == []
    for sent in slates:
        assert_of_one_version(bundles, swaps, sent)
    seen = {item["item_id"] for sent in slates for item in sent.answer["items"]}
    assert any(item_id.startswith("edition") for item_id in seen), "else no item told one version from another"
    for client in clients:
        assert all(before <= after for before, after in pairwise(client.fences))
    with closing(EventLog(process.settings.log_url)) as log:
        for place, sent in enumerate(slates):
            logged = assert_logged_as_answered(log, bundles, sent.answer, eventually)
            if place % max(len(slates) // REPLAYED, 1) == 0:
                assert_scores_are_its_versions(log, bundles[sent.answer["model_version"]], logged)
        sent = Counter(one.body["user_id"] for client in clients for one in client.reactions)
        assert {user_id: len(log.tail(user_id, 0)) for user_id in sent} == sent
    page = httpx.get(f"http://127.0.0.1:{process.port}/metrics").text
    assert f"attune_champion_swaps_total {len(swaps)}.0" in page
    assert "attune_champion_refused_total 0.0" in page


def proved(process, editions: dict[str, Path], swaps: int, eventually) -> None:
    process.start()
    with closing(Promotions(process.settings.log_url)) as promotions:
        done, clients = swapped_under_load(process, promotions, swaps, eventually)
    assert_all_held(process, done, clients, editions, eventually)
    versions = {sent.answer["model_version"] for client in clients for sent in client.slates}
    assert versions == set(editions)


def test_swaps_under_load_fail_no_request_and_mix_no_versions(process, editions, eventually) -> None:
    proved(process, editions, 6, eventually)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_swaps_under_load_fail_no_request_and_mix_no_versions(process, editions, eventually) -> None:
    proved(process, editions, 100, eventually)
