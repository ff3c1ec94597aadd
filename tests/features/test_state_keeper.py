"""The keeper may die at any moment: states lag, and never lie."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from attune.errors import EventLogError, FeatureStoreError, LogBusy
from attune.event_log import EventLog, prepare
from attune.events import Interaction, User
from attune.settings import Settings
from attune.user_state import UserState, fold
from features import state_keeper
from features.feature_store import FeatureStore
from features.state_keeper import StateKeeper

Act = Callable[..., Interaction]
in_either_store = pytest.mark.parametrize("settings", ["sqlite", "redis"], indirect=True)
in_redis_at_length = pytest.mark.parametrize(
    "settings", ["sqlite", pytest.param("redis", marks=pytest.mark.long)], indirect=True
)
"""Processes that must load Feast cost seconds."""
USERS = [f"u{number}" for number in range(15)]


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    opened = FeatureStore(settings)
    opened.apply()
    return opened


@pytest.fixture
def keeper(log: EventLog, store: FeatureStore, settings: Settings) -> StateKeeper:
    return StateKeeper(log, store, settings)


def is_fresh(log: EventLog, store: FeatureStore) -> bool:
    return all((store.online(user)[0] or UserState(user)) == fold(UserState(user), log.tail(user, 0)) for user in USERS)


def is_true(log: EventLog, store: FeatureStore) -> bool:
    """Whether snapshot and tail make the state that a fold from nothing makes, as serving relies on."""
    return all(
        fold(state, log.tail(user, state.position)) == fold(UserState(user), log.tail(user, 0))
        for user in USERS
        for state in [store.online(user)[0] or UserState(user)]
    )


def some(act: Act, rounds: int) -> list[Interaction]:
    return [act(user, f"i{n}", 1_000 - n, "rating", n % 5 + 1.0) for n in range(rounds) for user in USERS]


@in_either_store
def test_follows_the_log_in_batches(
    log: EventLog, store: FeatureStore, keeper: StateKeeper, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_keeper, "BATCH", 20)
    monkeypatch.setattr(state_keeper, "PUSH", 4)
    assert keeper.step() == 0
    events = some(act, 3)
    log.append([*events, User(event_id="a", event_timestamp=0, user_id="u3", attributes={"age": 3})])
    log.append([act("u1", "i0", 5, "retract", retracts=events[1].event_id)])
    steps = []
    while moved := keeper.step():
        steps.append(moved)
        assert is_true(log, store)
    assert steps == [20, 20, 7]
    assert store.watermark().read()[0] == log.head()
    assert is_fresh(log, store)
    assert store.online("u3")[0].attributes == {"age": 3}
    assert any(event.retracted for event in store.online("u1")[0].recent)


def test_a_lost_watermark_or_store_costs_work_alone(
    log: EventLog, store: FeatureStore, keeper: StateKeeper, act: Act
) -> None:
    log.append(some(act, 2))
    keeper.step()
    (store.keeper_folder / "keeper.position").unlink()
    assert keeper.step() == 30
    assert is_fresh(log, store)
    for path in store.keeper_folder.glob("online.db*"):
        path.unlink()
    reopened = FeatureStore(Settings(var=store.folder.parent))
    reopened.apply()
    log.append(some(act, 1))
    StateKeeper(log, reopened, Settings(var=store.folder.parent)).step()
    assert is_fresh(log, reopened)


def test_a_redis_that_lost_everything_is_filled_again(own_redis, log: EventLog, settings: Settings, act: Act) -> None:
    settings = settings.model_copy(update={"online_store_url": SecretStr(own_redis.url)})
    store = FeatureStore(settings)
    store.apply()
    keeper = StateKeeper(log, store, settings)
    log.append(some(act, 2))
    keeper.step()
    assert is_fresh(log, store)
    own_redis.stop()
    with pytest.raises(FeatureStoreError, match="cannot be used"):
        keeper.step()
    own_redis.start()
    assert store.states(USERS) == {}
    assert keeper.step() == 30
    assert is_fresh(log, store)


@in_either_store
def test_a_state_that_the_log_does_not_bear_out_is_replaced(
    log: EventLog, store: FeatureStore, keeper: StateKeeper, act: Act
) -> None:
    log.append(some(act, 1))
    store.push_states([UserState("u3", 1_000, events=7), UserState("u4", 2, events=7)])
    keeper.step()
    assert is_fresh(log, store)


@in_either_store
def test_states_of_another_log_are_refused(log: EventLog, store: FeatureStore, keeper: StateKeeper) -> None:
    store.watermark().write(99, log.log_id())
    with pytest.raises(FeatureStoreError, match="folded from another log"):
        keeper.step()


@in_either_store
def test_a_log_in_the_place_of_another_is_noticed_however_long_it_grows(
    log: EventLog, store: FeatureStore, keeper: StateKeeper, settings: Settings, act: Act, tmp_path: Path
) -> None:
    log.append(some(act, 1))
    keeper.step()
    other_url = f"sqlite:///{tmp_path / 'other.db'}"
    prepare(other_url)
    with closing(EventLog(other_url)) as other:
        other.append(some(act, 4))
        assert other.head() > store.watermark().read()[0]
        with pytest.raises(FeatureStoreError, match="folded from another log"):
            StateKeeper(other, store, settings).step()
    assert keeper.step() == 0


def test_a_failing_log_is_waited_out_longer_and_longer(
    log: EventLog, store: FeatureStore, keeper: StateKeeper, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(threading.Event):
        """Notes the pauses instead of sleeping; ends the run once the keeper has nothing more to do."""

        def __init__(self) -> None:
            super().__init__()
            self.pauses: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.pauses.append(timeout or 0.0)
            if is_fresh(log, store):
                self.set()
            return self.is_set()

    log.append(some(act, 1))
    failures = iter([LogBusy("busy"), *(EventLogError("disk I/O error") for _ in range(9))])
    whole = keeper.step

    def failing_at_first() -> int:
        if (error := next(failures, None)) is not None:
            raise error
        return whole()

    monkeypatch.setattr(keeper, "step", failing_at_first)
    stop = Stop()
    keeper.run(stop)
    assert stop.pauses == [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0, 0.2]
    assert is_fresh(log, store)


def test_two_keepers_do_not_work_at_once(keeper: StateKeeper) -> None:
    with keeper.alone(), pytest.raises(FeatureStoreError, match="another state keeper"), keeper.alone():
        pass


def start(settings: Settings) -> subprocess.Popen:
    environment = os.environ | settings.as_environment() | {"ATTUNE_KEEPER_POLL_SECONDS": "0.01"}
    return subprocess.Popen(
        [sys.executable, "-m", "features.state_keeper"], cwd=Path(__file__).parents[2], env=environment,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@in_redis_at_length
@pytest.mark.long
def test_killing_the_process_costs_freshness_never_truth(
    settings: Settings, log: EventLog, store: FeatureStore, act: Act
) -> None:
    keeper, watermark = StateKeeper(log, store, settings), store.watermark()
    running = start(settings)
    log.append(some(act, 1))
    wait(lambda: watermark.read()[0] > 0)
    for _ in range(20):
        log.append(some(act, 1))
    running.kill()
    running.wait()
    assert is_true(log, store)
    log.append(some(act, 2))
    assert is_true(log, store)
    with keeper.alone():
        while keeper.step():
            assert is_true(log, store)
    assert is_fresh(log, store)


@in_either_store
@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_kill_after_kill_and_a_last_goodbye(settings: Settings, log: EventLog, store: FeatureStore, act: Act) -> None:
    watermark = store.watermark()
    for turn in range(4):
        before = watermark.read()[0]
        running = start(settings)
        wait(lambda past=before: watermark.read()[0] > past or log.head() == past)
        for _ in range(5 + turn):
            log.append(some(act, 1))
        time.sleep(0.03 * turn)
        running.kill()
        running.wait()
        assert is_true(log, store)
    log.append(some(act, 1))  # so that reaching the end tells that the last one is at work, and hears TERM
    running = start(settings)
    wait(lambda: watermark.read()[0] == log.head())
    assert is_fresh(log, store)
    running.send_signal(signal.SIGTERM)
    _, spoken = running.communicate(timeout=30)
    assert running.returncode == 0, spoken
