"""Days of the lake are written again from the log: readers find every event once, at every step and after a kill."""

import multiprocessing
import signal
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from attune.clock import DAY
from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.events import Interaction
from attune.settings import Settings
from features.lake import Lake

Act = Callable[..., Interaction]

FIRST, SECOND, THIRD = (date(1970, 1, number) for number in (2, 3, 4))
A_DAY = 10
"""Events logged on each of the three days."""


@pytest.fixture
def world(settings: Settings, log: EventLog, lake: Lake, act: Act) -> EventLog:
    """Three days of ten events each, in the lake in files of two or three."""
    for day in (1, 2, 3):
        log._clock = lambda day=day: day * DAY + 5
        log.append([act("u", "i", number) for number in range(A_DAY)])
        lake.ingest(log, chunk=3)
    return log


def positions(lake: Lake) -> list[int]:
    return lake.events()[Columns.POSITION].to_pylist()


def names(lake: Lake) -> list[str]:
    return sorted(str(path.relative_to(lake.folder)) for path in lake.folder.rglob("*.parquet"))


def test_a_day_is_written_again_and_its_files_joined(world: EventLog, lake: Lake) -> None:
    before = lake.events()
    assert lake.rebuild(world, SECOND, SECOND) == (10, 20)
    assert [name for name in names(lake) if "03/" in name] == ["day=1970-01-03/000000000011-000000000020.parquet"]
    assert len(names(lake)) == 9
    assert lake.events().equals(before)
    assert lake.rebuild(world, SECOND, SECOND) == (10, 20)
    assert lake.rebuild(world, FIRST, THIRD, chunk=5) == (0, 30)
    assert lake.events().equals(before)


def test_damaged_and_missing_files_come_back(world: EventLog, lake: Lake) -> None:
    before = lake.events()
    damaged, missing, emptied = (sorted(lake.folder.glob(f"day=1970-01-0{day}/*"))[1] for day in (2, 3, 4))
    damaged.write_bytes(b"PAR1 no more")
    missing.unlink()
    for file in emptied.parent.glob("*-0000000000[23]*"):
        file.unlink()
    with pytest.raises(DataContractError, match=r"cannot be read .*attune backfill 1970-01-02 1970-01-02"):
        lake.events()
    assert lake.rebuild(world, FIRST, SECOND) == (0, 20)
    assert lake.ingest(world).rows == 10
    assert lake.events().equals(before)


def test_nothing_beyond_the_watermark_is_added(world: EventLog, lake: Lake, act: Act) -> None:
    world.append([act("u", "i") for _ in range(5)])
    assert lake.rebuild(world, THIRD, THIRD) == (20, 30)
    assert lake.watermark() == 30
    assert lake.rebuild(world, date(2020, 1, 1), date(2020, 1, 2)) == (0, 0)
    with pytest.raises(DataContractError, match="lies before"):
        lake.rebuild(world, SECOND, FIRST)


def test_a_lake_of_another_log_is_refused(world: EventLog, lake: Lake, act: Act, tmp_path: Path) -> None:
    from attune.event_log import prepare

    url = f"sqlite:///{tmp_path / 'other.db'}"
    prepare(url)
    other = EventLog(url, lambda: DAY)
    other.append([act("u", "i") for _ in range(4)])
    with pytest.raises(DataContractError, match="reaches to 30, the log ends at 4"):
        lake.ingest(other)
    with pytest.raises(DataContractError, match="has not all of the positions"):
        lake.rebuild(other, FIRST, FIRST)
    assert positions(lake) == list(range(1, 31))
    other.close()


def test_readers_meanwhile_find_every_event_once(world: EventLog, lake: Lake) -> None:
    done = threading.Event()
    wrong: list[list[int]] = []

    def read() -> None:
        while not done.is_set():
            if (found := positions(lake)) != list(range(1, 31)):
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for chunk in (4, 50, 6, 50, 50):
        assert lake.rebuild(world, FIRST, THIRD, chunk) == (0, 30)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


REBUILD_UNTIL_KILLED = """
import os, signal
from datetime import date
from itertools import count
from pathlib import Path
from attune.event_log import EventLog
from features import lake

owner, name = {"open": (Path, "open"), "write_table": (lake.pq, "write_table"), "fsync": (os, "fsync"),
               "rename": (Path, "rename"), "unlink": (Path, "unlink")}[step]
real, turns = getattr(owner, name), count(1)

def deadly(*arguments, **named):
    if next(turns) == turn:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)

setattr(owner, name, deadly)
lake.Lake(folder).rebuild(EventLog(url), date(1970, 1, 2), date(1970, 1, 4), 5)
"""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["features.lake"])


@pytest.mark.parametrize(("step", "turn"), [(step, turn) for step in ("write_table", "fsync", "rename", "unlink")
                                            for turn in (1, 2, 3)] + [("open", 2)])  # fmt: skip
def test_a_kill_at_any_step_neither_loses_nor_doubles(
    settings: Settings, world: EventLog, lake: Lake, step: str, turn: int
) -> None:
    given = {"step": step, "turn": turn, "folder": lake.folder, "url": settings.log_url}
    rebuilding = PROCESSES.Process(target=exec, args=(REBUILD_UNTIL_KILLED, given))
    rebuilding.start()
    rebuilding.join(120)
    assert rebuilding.exitcode == -signal.SIGKILL
    assert positions(lake) == list(range(1, 31))
    assert lake.ingest(world).rows == 0
    assert lake.rebuild(world, FIRST, THIRD, 5) == (0, 30)
    assert positions(lake) == list(range(1, 31))
    assert not list(lake.folder.rglob("*.draft"))
    assert sum(pq.read_metadata(file).num_rows for file in lake.folder.rglob("*.parquet")) == 30
