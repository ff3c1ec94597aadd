"""Bounded lanes of threads for calls that block, so that the event loop never does.

A lane takes a limited number of calls; beyond that it refuses at once, which is better for the caller than a
queue that answers after the client has gone.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from attune.errors import AttuneError

Result = TypeVar("Result")


class Overloaded(AttuneError):
    """More calls wait than the lane allows; the same request may be made again."""


class Lane:
    """``threads`` threads of one purpose; at most ``waiting`` calls run or wait, each for ``seconds`` at most."""

    def __init__(self, name: str, threads: int, waiting: int, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        self._waiting = waiting
        self._pending = 0
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"attune-{name}")

    @property
    def pending(self) -> int:
        """How many calls run or wait."""
        return self._pending

    async def run(self, call: Callable[..., Result], *arguments: Any, seconds: float | None = None) -> Result:
        """Call it on a thread of the lane; raises what the call raises.

        Raises Overloaded when too many wait, or after ``seconds`` (by default the lane's): a call that had not begun
        never will, one that runs goes on, and its result is dropped.
        """
        seconds = self.seconds if seconds is None else seconds
        if self._pending >= self._waiting:
            raise Overloaded(f"{self.name}: {self._pending} calls wait already; ask again in a moment")
        self._pending += 1
        try:
            async with asyncio.timeout(seconds):
                run = contextvars.copy_context().run  # what the call logs is of this request
                return await asyncio.get_running_loop().run_in_executor(self._executor, run, call, *arguments)
        except TimeoutError as error:
            raise Overloaded(
                f"{self.name}: no answer within {seconds:g} s; repeat the request with the same event ids"
            ) from error
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Let the running calls end and take no more."""
        self._executor.shutdown(wait=True, cancel_futures=True)
