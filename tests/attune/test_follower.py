"""Every follower of the log steps, pauses and waits out errors in one way."""

import logging
import threading
from collections.abc import Callable

import pytest

from attune.errors import EventLogError, LogBusy
from attune.follower import Follower


class Pauses(threading.Event):
    """Notes the pauses instead of sleeping, and ends the run after ``last`` of them."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._last = last

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        if len(self.seconds) == self._last:
            self.set()
        return self.is_set()


def steps(*outcomes: bool | Exception) -> Callable[[], bool]:
    """A step that gives one outcome after the other, and then that nothing is new."""
    left = list(outcomes)

    def step() -> bool:
        outcome = left.pop(0) if left else False
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return step


def test_pauses_only_when_nothing_is_new() -> None:
    stop, heartbeats = Pauses(last=2), []
    Follower("it", steps(True, True), 0.5, heartbeat=lambda: heartbeats.append(1), stop=stop).run()
    assert stop.seconds == [0.5, 0.5]
    assert len(heartbeats) == 4


def test_a_share_of_the_time_is_left_to_others() -> None:
    stop = Pauses(last=1)
    Follower("it", steps(True), 9.0, busy_share=0.25, stop=stop).run()
    assert 0 < stop.seconds[0] < 1.0


def test_errors_are_waited_out_longer_and_longer_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "attune.follower")
    stop, busy = Pauses(last=6), LogBusy("busy")
    step = steps(busy, busy, EventLogError("disk"), EventLogError("disk"), False, busy)
    Follower("it", step, 0.5, longest_pause=3.0, stop=stop).run()
    assert stop.seconds == [1.0, 2.0, 3.0, 3.0, 0.5, 1.0]
    assert caplog.messages == [
        "it failed and will try again: busy",
        "it failed and will try again: disk",
        "it works again",
        "it failed and will try again: busy",
    ]


def test_an_error_that_nobody_foresaw_ends_the_run() -> None:
    with pytest.raises(ZeroDivisionError):
        Follower("it", steps(ZeroDivisionError()), 0.1).run()


def test_runs_in_a_thread_until_it_is_closed() -> None:
    stepped = threading.Event()

    def step() -> bool:
        stepped.set()
        return False

    Follower("it", step, 0.001).close()
    follower = Follower("it", step, 0.001)
    follower.start()
    assert stepped.wait(10.0)
    follower.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "attune it"]
