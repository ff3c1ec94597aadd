"""Bounded lanes of threads for calls that block, so that the event loop never does.

A lane takes a limited number of calls; beyond that it refuses at once, which is better for the caller than a
queue that answers after the client has gone. It refuses at once, too, while every one of its threads is held by a call
that was given up: what it asks hangs, and whoever came next would only wait for the same.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from attune.errors import AttuneError

Result = TypeVar("Result")


class Overloaded(AttuneError):
    """More calls wait than the lane allows; the same request may be made again."""


class _Call:
    """One call on its way: what a thread and the event loop know of it, under the lane's lock."""

    __slots__ = ("given_up", "runs")

    def __init__(self) -> None:
        self.runs = False
        self.given_up = False


class Lane:
    """``threads`` threads of one purpose; at most ``waiting`` calls run or wait, each for ``seconds`` at most."""

    def __init__(self, name: str, threads: int, waiting: int, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        self._waiting = waiting
        self._pending = 0
        self._threads = threads
        self._held = 0
        self._turn = threading.Lock()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"attune-{name}")

    @property
    def pending(self) -> int:
        """How many calls run or wait."""
        return self._pending

    async def run(self, call: Callable[..., Result], *arguments: Any, seconds: float | None = None) -> Result:
        """Call it on a thread of the lane; raises what the call raises.

        Raises Overloaded when too many wait, while every thread is held by a call that was given up, or after
        ``seconds`` (by default the lane's): a call that had not begun never will, one that runs goes on, and its result
        is dropped.
        """
        seconds = self.seconds if seconds is None else seconds
        if self._pending >= self._waiting:
            raise Overloaded(f"{self.name}: {self._pending} calls wait already; ask again in a moment")
        if self._held >= self._threads:
            raise Overloaded(f"{self.name}: what it asks does not answer; ask again in a moment")
        self._pending += 1
        one = _Call()
        try:
            async with asyncio.timeout(seconds):
                run = contextvars.copy_context().run  # what the call logs is of this request
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._executor, run, self._noted, one, call, *arguments)
        except TimeoutError as error:
            self._give_up(one)
            raise Overloaded(
                f"{self.name}: no answer within {seconds:g} s; repeat the request with the same event ids"
            ) from error
        finally:
            self._pending -= 1

    def _noted(self, one: _Call, call: Callable[..., Result], *arguments: Any) -> Result:
        """On a thread of the lane: the call, and afterwards the thread is free."""
        with self._turn:
            one.runs = True
        try:
            return call(*arguments)
        finally:
            with self._turn:
                one.runs = False
                self._held -= one.given_up

    def _give_up(self, one: _Call) -> None:
        with self._turn:
            if one.runs:
                one.given_up = True
                self._held += 1

    def close(self) -> None:
        """Let the running calls end and take no more."""
        self._executor.shutdown(wait=True, cancel_futures=True)
