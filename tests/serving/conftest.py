"""Real parts in a temporary folder: an event log, promotions, the feature store, small bundles, a running endpoint.

An endpoint runs in a thread of the test's process (``running``), or in a process of its own (``EndpointProcess``).
"""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import uvicorn

from attune.clock import HOUR, SECOND
from attune.columns import ITEM_STATS, USER_STATS
from attune.errors import ModelError
from attune.event_log import EventLog, prepare
from attune.events import Interaction, Slate
from attune.promotions import Promotions
from attune.settings import Settings
from features.feature_store import FeatureStore
from models.baselines import ItemKnn, KnnChoice, Popularity
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.history import HistoryBatch
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.network.config import SequenceConfig
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender
from models.ranking.policy import PlackettLuce, Policy
from serving.app import Backends, Components, create_app, listen

ROOT = Path(__file__).parents[2]
ENDPOINT = "default"
NOW = 1_600_000_000 * SECOND
POLICY = PlackettLuce(0.1)
PATIENCE_SECONDS = 20.0
"""For an answer, where a test is not about time: the machine may be busy."""


@pytest.fixture
def event_log(tmp_path: Path) -> Iterator[EventLog]:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    with closing(EventLog(url, lock_seconds=1.0)) as log:
        yield log


class Unreachable:
    """A registry that is down."""

    def __init__(self) -> None:
        self.asked = 0

    def download(self, version: str, folder: Path, bundle_digest: str | None = None) -> Path:
        self.asked += 1
        raise ModelError(f"version {version}: the registry stuck")


@dataclass
class Endpoint:
    """A running endpoint and the parts below it."""

    url: str
    client: httpx.Client
    settings: Settings
    backends: Backends
    components: Components
    promotions: Promotions

    @property
    def log(self) -> EventLog:
        return self.backends.event_log

    def recommend(self, user_id: str, **fields: Any) -> dict[str, Any]:
        reply = self.client.post("/v1/recommend", json={"user_id": user_id, **fields})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def feedback(self, slate: dict[str, Any], item_id: str, kind: str = "like", **fields: Any) -> httpx.Response:
        row = {"slate_id": slate["slate_id"], "user_id": slate["user_id"], "item_id": item_id, "kind": kind, **fields}
        return self.client.post("/v1/feedback", json=row)

    def event(self, user_id: str, item_id: str, kind: str = "click", **fields: Any) -> httpx.Response:
        row = {"user_id": user_id, "item_id": item_id, "kind": kind, **fields}
        return self.client.post("/v1/events", json={"events": [row]})

    def slate(self, slate_id: str) -> Slate:
        """The slate as the log has it, once it is there."""
        logged = wait_for(lambda: self.log.slate(slate_id))
        assert isinstance(logged.event, Slate)
        return logged.event

    def metric(self, name: str, **labels: str) -> float:
        return self.components.metrics.registry.get_sample_value(name, labels) or 0.0

    def promote(self, version: str, bundle_digest: str | None = None) -> None:
        with self.promotions.lease(ENDPOINT, "test", 10.0) as lease:
            self.promotions.append(lease, version, "promote", "a test", "test", bundle_digest)

    def model_version(self) -> str | None:
        return self.client.get("/v1/model").json()["version"]


def wait_for(found: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What ``found`` returns, once that is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = found()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("it did not come about in time")


@contextmanager
def running(settings: Settings, open_store: Callable[[], FeatureStore], downloads: Any = None) -> Iterator[Endpoint]:
    """An endpoint on a free port, in a thread of this process; ready when given."""
    prepare(settings.log_url)
    with (
        closing(EventLog(settings.log_url, lock_seconds=settings.lock_seconds)) as log,
        closing(Promotions(settings.log_url)) as promotions,
        listen("127.0.0.1", 0) as bound,
    ):
        backends = Backends(log, promotions, downloads or Unreachable(), open_store)
        app = create_app(settings, backends)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        url = "http://{}:{}".format(*bound.getsockname()[:2])
        with httpx.Client(base_url=url, timeout=30.0) as client:
            try:
                wait_for(lambda: server.started)
                wait_for(lambda: client.get("/readyz").status_code == 200)
                yield Endpoint(url, client, settings, backends, app.state.components, promotions)
            finally:
                server.should_exit = True
                thread.join(20.0)


TEMPLATE = """
import gc, json, os, signal, sys
from serving import app

gc.freeze()  # else the first full collection of each child copies every page: half a second
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(asked["environment"])
    output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.exit(app.main())
os.killpg(0, signal.SIGKILL)
"""


class Template:
    """A process that has imported the endpoint and forks one whenever asked: an import takes seconds, a fork none.

    What it forks runs ``serving.app.main`` as ``python -m serving.app`` does, and dies with it.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", TEMPLATE],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._said("ready")

    def fork(self, environment: dict[str, str], output: Path) -> int:
        """The id of a new endpoint process; what it says is added to the file ``output``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"environment": environment, "output": str(output)}) + "\n")
        self._process.stdin.flush()
        return int(self._said())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _said(self, expected: str = "") -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the template ended"
        assert expected in line
        return line


@dataclass
class Sent:
    """A request and what came of it; ``status`` is 0 where no answer came. Times are monotonic."""

    path: str
    body: dict[str, Any]
    sent_at: float
    status: int = 0
    answered_at: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.answered_at - self.sent_at


class Sender:
    """One connection, opened when it is needed; every request is kept in ``sent``. For one thread."""

    def __init__(self, port: int, seconds: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
        self.sent: list[Sent] = []

    def post(self, path: str, body: dict[str, Any]) -> Sent:
        """What came of it; a connection that breaks is no error here."""
        one = Sent(path, body, time.monotonic())
        self.sent.append(one)
        try:
            self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            reply = self._connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return one
        one.answered_at = time.monotonic()
        one.status, one.headers, one.answer = reply.status, dict(reply.headers), json.loads(content)
        return one

    def recommend(self, user_id: str, k: int = 10) -> Sent:
        return self.post("/v1/recommend", {"user_id": user_id, "k": k})

    def feedback(self, slate: dict[str, Any], item_id: str, kind: str = "like", **fields: Any) -> Sent:
        row = {"slate_id": slate["slate_id"], "user_id": slate["user_id"], "item_id": item_id, "kind": kind}
        return self.post("/v1/feedback", {**row, **fields})

    def close(self) -> None:
        self._connection.close()


@dataclass
class EndpointProcess:
    """An endpoint in a process of its own, at one address for all its lives."""

    template: Template
    settings: Settings
    pid: int = 0
    ready: bool = False

    @property
    def port(self) -> int:
        return self.settings.serving_port

    def start(self) -> None:
        """Start it; ready on return."""
        self.pid = self.template.fork(self.settings.as_environment(), self.settings.var / f"endpoint-{self.port}.log")
        wait_for(self._says_ready, 30.0)
        self.ready = True

    def kill(self) -> float:
        """kill -9; the (monotonic) moment at which it was sent."""
        os.kill(self.pid, signal.SIGKILL)
        moment = time.monotonic()
        self.ready = False
        wait_for(lambda: not psutil.pid_exists(self.pid))
        return moment

    def sender(self, seconds: float = 30.0) -> Sender:
        return Sender(self.port, seconds)

    def _says_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10.0)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def free_port() -> int:
    """A port below those that the system gives to clients, so that none of them takes it between two lives."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    made = Template()
    yield made
    made.close()


@pytest.fixture
def endpoint_process(template: Template, tmp_path: Path) -> Iterator[Callable[..., EndpointProcess]]:
    """Makes endpoints in processes of their own, over one folder and log; the settings are given by name."""
    made: list[EndpointProcess] = []

    def make(**fields: Any) -> EndpointProcess:
        settings = Settings(var=tmp_path / "var", serving_port=free_port(), **fields)
        settings.var.mkdir(exist_ok=True)
        prepare(settings.log_url)
        made.append(EndpointProcess(template, settings))
        return made[-1]

    yield make
    for process in made:
        if process.pid and psutil.pid_exists(process.pid):
            process.kill()


def planted(chance: np.random.Generator, edition: str = "") -> TrainingSet:
    """Sixty people, each of whom clicks on most items of one of the groups a, b and c.

    An edition calls the items by other titles, and has some more that nobody clicked on.
    """
    items = [f"{group}-{number}" for group in "abc" for number in range(8)]
    rows = [
        (f"p{person}", f"{'abc'[person % 3]}-{number}", NOW + (person * 10 + step) * HOUR)
        for person in range(60)
        for step, number in enumerate(chance.permutation(8)[:6])
    ]
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "event_timestamp"]).sort_values("event_timestamp")
    events = events.assign(position=range(1, len(events) + 1), kind="click", value=np.nan, reward=1.0)
    events["event_id"] = [f"e{position}" for position in events.position]
    genres = [[item[0]] for item in items]
    if edition:
        items += [f"{edition}-{number}" for number in range(4)]
        genres += [["a"]] * 4
    frame = pd.DataFrame(
        {"item_id": items, "title": [f"Title of {item}{edition and ' in '}{edition}" for item in items]}
    )
    frame = frame.assign(year=np.nan, genres=genres)
    events[[*USER_STATS, *ITEM_STATS]] = np.nan
    frame[list(ITEM_STATS)] = np.nan
    window = {"feature_service": "training_v1", "digest": "0" * 64, "rows": len(events)}
    return TrainingSet.from_frames(events, frame, window)


def made_bundle(
    folder: Path,
    seed: int,
    weights: tuple[float, float, float],
    edition: str = "",
    spoil: Callable[[ItemKnn], ItemKnn] = lambda knn: knn,
    policy: Policy = POLICY,
) -> Path:
    """A bundle of real parts over the planted world; the network is left as it was drawn."""
    training_set = planted(np.random.default_rng(11), edition)
    catalogue = training_set.catalogue
    torch.manual_seed(seed)
    attributes = ItemAttributes.of(catalogue)
    config = SequenceConfig(width=16, blocks=1, heads=2, context=20)
    hybrid = Hybrid(
        SequenceRecommender(SequenceNetwork(config, attributes), attributes.genre_names),
        (
            spoil(ItemKnn.fit(training_set, KnnChoice(50, 5.0, 20, 1.0, 0.5, 20))),
            Popularity.fit(training_set, 30.0),
        ),
        weights,
    )
    upto = int(training_set.positions.max())
    provenance = Provenance({}, training_set.window, upto, upto, seed, 0)
    golden = golden_batch(training_set, int(training_set.times.max()), catalogue)
    return save_bundle(folder, hybrid, catalogue, policy, provenance, golden)


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """``made_bundle``, for tests with bundles of their own."""
    return made_bundle


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models that rank differently."""
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "first": made_bundle(folder / "first", 1, (0.1, 0.7, 0.2)),
        "second": made_bundle(folder / "second", 2, (0.8, 0.2, 0.0)),
    }


@pytest.fixture(scope="session")
def feature_store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """One feature store with its definitions applied, for all endpoints: Feast takes seconds to start."""
    store = FeatureStore(Settings(var=tmp_path_factory.mktemp("store")))
    store.apply()
    return store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var", champion_poll_seconds=0.05, lock_seconds=0.4, answer_seconds=PATIENCE_SECONDS)


@pytest.fixture
def install(bundles: dict[str, Path]) -> Callable[..., Path]:
    """Puts a bundle where an endpoint finds it on disk."""

    def copy(settings: Settings, name: str, version: str) -> Path:
        return Path(shutil.copytree(bundles[name], settings.bundles_folder / version))

    return copy


@pytest.fixture(scope="session")
def endpoint(
    tmp_path_factory: pytest.TempPathFactory, feature_store: FeatureStore, bundles: dict[str, Path]
) -> Iterator[Endpoint]:
    """The endpoint that most tests share: version 1 is the champion; every test takes users of its own."""
    var = tmp_path_factory.mktemp("endpoint")
    settings = Settings(var=var, champion_poll_seconds=0.05, lock_seconds=1.0, answer_seconds=PATIENCE_SECONDS)
    shutil.copytree(bundles["first"], settings.bundles_folder / "1")
    with running(settings, lambda: feature_store) as ready:
        ready.promote("1")
        wait_for(lambda: ready.model_version() == "1")
        yield ready


@pytest.fixture
def bare(settings: Settings, feature_store: FeatureStore) -> Iterator[Endpoint]:
    """An endpoint of the test's own, without a model."""
    with running(settings, lambda: feature_store) as ready:
        yield ready


@pytest.fixture
def hearing(settings: Settings, feature_store: FeatureStore, bundles: dict[str, Path]) -> Iterator[Endpoint]:
    """An endpoint with the first model, made to hear what everybody says and to draw from few candidates."""
    bundle = Bundle.load(bundles["first"])
    golden = HistoryBatch(**{name: bundle._golden[f"batch/{name}"] for name in HistoryBatch.__dataclass_fields__})
    provenance = Provenance({}, bundle.config["window"], bundle.trained_upto, bundle.holdout_after, 1, 0)
    hybrid, policy = replace(bundle.hybrid, live=0.2), PlackettLuce(0.1, depth=10)
    save_bundle(settings.bundles_folder / "1", hybrid, bundle.catalogue, policy, provenance, golden)
    with running(settings, lambda: feature_store) as ready:
        ready.promote("1")
        wait_for(lambda: ready.model_version() == "1")
        yield ready


@pytest.fixture(scope="session")
def clicks() -> Callable[..., list[Interaction]]:
    """Makes a user's clicks on these items, an hour apart."""

    def make(user_id: str, items: Sequence[str], start: int = NOW) -> list[Interaction]:
        return [
            Interaction(
                event_id=f"{user_id}-{place}-{item_id}",
                event_timestamp=start + place * HOUR,
                user_id=user_id,
                item_id=item_id,
                kind="click",
            )
            for place, item_id in enumerate(items)
        ]

    return make


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """What the given function returns, once that is true."""
    return wait_for


@pytest.fixture(scope="session")
def run_endpoint() -> Callable[..., Any]:
    """``running``, for tests with an endpoint of their own making."""
    return running
