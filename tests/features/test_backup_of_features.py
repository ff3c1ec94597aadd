"""A backup of the real lake, log, keeper and feature store, taken at work and brought back into another folder."""

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attune.backup import backup, restore
from attune.errors import BackupError, FeatureStoreError
from attune.event_log import EventLog
from attune.events import Interaction
from attune.settings import Settings
from attune.user_state import UserState, fold
from features import stats
from features.feature_store import FeatureStore
from features.lake import BEHAVIOUR, Lake
from features.state_keeper import StateKeeper

Act = Callable[..., Interaction]
USERS = [f"u{number}" for number in range(7)]


def some(act: Act, rounds: int) -> list[Interaction]:
    return [act(user, f"i{n % 5}", 3_600 * n, "rating", n % 5 + 1.0) for n in range(rounds) for user in USERS]


def opened(settings: Settings) -> FeatureStore:
    store = FeatureStore(settings)
    store.apply()
    return store


def test_features_answer_as_before_in_another_folder(
    settings: Settings, log: EventLog, lake: Lake, act: Act, tmp_path: Path
) -> None:
    store = opened(settings)
    log.append(some(act, 4))
    lake.ingest(log)
    events = lake.events(types=BEHAVIOUR).to_pandas()
    store.write_stats(stats.user_stats(events), stats.item_stats(events))
    store.materialize_all(lambda: 10**15)
    while StateKeeper(log, store, settings).step():
        pass
    made = backup(settings, tmp_path / "backups")
    there = settings.model_copy(update={"var": tmp_path / "there"})
    restore(there, made.folder)
    settings.var.rename(tmp_path / "gone")
    restored = opened(there)
    old = opened(settings.model_copy(update={"var": tmp_path / "gone"}))
    for user in USERS:
        (state, figures), (before, known) = restored.online(user), old.online(user)
        assert state == before
        assert state is not None
        np.testing.assert_array_equal(figures, known)
        assert not np.isnan(figures).any()
    assert restored.historical(events).equals(old.historical(events))
    with closing(EventLog(there.log_url)) as again:
        assert StateKeeper(again, restored, there).step() == 0
        again.append([act("u0", "i9", 5, "like")])
        assert StateKeeper(again, restored, there).step() == 1
        assert Lake(there.lake_folder).ingest(again).rows == 1


@pytest.mark.parametrize("settings", ["redis"], indirect=True)
def test_states_that_are_ahead_of_a_restored_log_do_not_survive_it(
    settings: Settings, log: EventLog, act: Act, tmp_path: Path, redis: Any
) -> None:
    """The lost events' positions are given to others: a state that holds them could pass for one of this log."""
    keeper = StateKeeper(log, opened(settings), settings)
    log.append(some(act, 2))
    made = backup(settings, tmp_path / "backups")
    log.append(some(act, 2))
    keeper.step()
    there = settings.model_copy(update={"var": tmp_path / "there"})
    with pytest.raises(BackupError, match="empty that database"):
        restore(there, made.folder)
    aside = there.model_copy(update={"online_store_url": None})
    restore(aside, made.folder)
    with closing(EventLog(there.log_url)) as again:
        store = opened(there)
        with pytest.raises(FeatureStoreError, match=r"says 28 of log .* ends at 14.*empty redis://.*FLUSHDB"):
            StateKeeper(again, store, there).step()
        redis.empty()
        again.append([act("u0", "i9", 5, "like")])
        assert StateKeeper(again, store, there).step() == 15
        assert store.states(USERS) == {user: fold(UserState(user), again.tail(user, 0)) for user in USERS}


def test_nothing_derived_is_ahead_of_the_log_that_comes_back(
    settings: Settings, log: EventLog, lake: Lake, act: Act, tmp_path: Path
) -> None:
    keeper = StateKeeper(log, opened(settings), settings)
    log.append(some(act, 1))
    keeper.step()
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            log.append(some(act, 1))
            lake.ingest(log)
            keeper.step()

    worker = threading.Thread(target=work)
    worker.start()
    made = [backup(settings, tmp_path / "backups") for _ in range(2)]
    done.set()
    worker.join()
    for number, one in enumerate(made):
        there = settings.model_copy(update={"var": tmp_path / f"there{number}"})
        restore(there, one.folder)
        store = opened(there)
        with closing(EventLog(there.log_url)) as again:
            assert Lake(there.lake_folder).watermark() <= again.head() == one.head
            assert store.watermark().read()[0] <= one.head
            for user, state in store.states(USERS).items():
                assert state == fold(
                    UserState(user), [event for event in again.tail(user, 0) if event.position <= state.position]
                )
            while StateKeeper(again, store, there).step():
                pass
            Lake(there.lake_folder).ingest(again)
            assert Lake(there.lake_folder).watermark() == one.head
