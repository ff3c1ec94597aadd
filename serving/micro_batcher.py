"""Keeps work that blocks off the event loop: a bounded executor for single calls, a micro-batcher for many at once.

Both take a limited number of calls and refuse the next one at once: a queue would answer after its client has gone.
They also refuse at once while abandoned calls occupy every thread, because the next call would only wait for the same.
"""

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from attune.errors import AttuneError

STUCK_SECONDS = 0.2
"""A batch takes some milliseconds; one that takes longer, and that somebody gave up, is stuck."""

Query = TypeVar("Query")
Result = TypeVar("Result")


class Overloaded(AttuneError):
    """Too many calls wait, or no answer came in time; the same request may be made again."""


class BoundedExecutor:
    """``threads`` threads of one purpose; at most ``capacity`` calls run or wait, each for ``seconds`` at most.

    The threads are daemons, unlike those of ``ThreadPoolExecutor``: a stuck call keeps no process from its end.
    """

    def __init__(self, name: str, threads: int, capacity: int, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        self.pending = 0
        self._capacity = capacity
        self._abandoned: set[Future[Any]] = set()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"attune-{name}_{number}", daemon=True)
            for number in range(threads)
        ]

    async def run(self, call: Callable[..., Result], *arguments: Any, seconds: float | None = None) -> Result:
        """Call it on a thread; raises what the call raises.

        Raises Overloaded when too many calls wait, while abandoned calls occupy every thread, or after ``seconds``
        (by default the executor's). A call that has not begun by then never will; one that runs goes on, and its
        result is dropped.
        """
        seconds = self.seconds if seconds is None else seconds
        if self.pending >= self._capacity:
            raise Overloaded(f"{self.name}: {self.pending} calls wait already; ask again in a moment")
        if len(self._abandoned) >= len(self._threads):
            raise Overloaded(f"{self.name}: earlier calls are stuck; ask again in a moment")
        if self._threads[0].ident is None:
            for thread in self._threads:
                thread.start()
        run = contextvars.copy_context().run  # the call's log lines carry the id of this request
        future: Future[Result] = Future()
        self._calls.put(partial(_complete, future, partial(run, call, *arguments)))
        self.pending += 1
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise Overloaded(
                f"{self.name}: no answer within {seconds:g} s; repeat the request with the same event ids"
            ) from error
        finally:
            self.pending -= 1
            if not future.cancel():  # it occupies its thread until it ends; if it has ended, the callback runs now
                self._abandoned.add(future)
                future.add_done_callback(self._abandoned.discard)

    def close(self) -> None:
        """Work off the queue and take no more; stuck threads are left behind after ``seconds``."""
        for _ in self._threads:
            self._calls.put(None)
        deadline = time.monotonic() + self.seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0.0))

    def _work(self) -> None:
        while call := self._calls.get():
            call()
            del call  # an idle thread keeps no arguments in memory


def _complete(future: Future[Result], call: Callable[[], Result]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
            del future, call  # the error's traceback holds this frame: without this they would hold each other


@dataclass(slots=True)
class _Waiting(Generic[Query, Result]):
    query: Query
    result: asyncio.Future[Result]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class MicroBatcher(Generic[Query, Result]):
    """One thread that calls ``work`` with up to ``batch_size`` queries; at most ``capacity`` run or wait.

    Nobody waits for a batch to fill: while the thread works, the next batch gathers. Where ``work`` raises, each query
    of the batch is tried again alone, so that one fails no other.
    """

    def __init__(
        self, name: str, work: Callable[[Sequence[Query]], Sequence[Result]], batch_size: int, capacity: int
    ) -> None:
        self.name = name
        self.pending = 0
        self._work = work
        self._batch_size = batch_size
        self._capacity = capacity
        self._queue: deque[_Waiting[Query, Result]] = deque()
        self._batch: list[_Waiting[Query, Result]] = []
        self._began = 0.0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"attune-{name}", daemon=True)

    @property
    def is_stuck(self) -> bool:
        """Whether a query that was given up occupies the thread for longer than ``STUCK_SECONDS``."""
        return any(row.result.cancelled() for row in self._batch) and time.monotonic() - self._began > STUCK_SECONDS

    def start(self) -> None:
        self._thread.start()

    async def submit(self, query: Query, seconds: float) -> Result:
        """The result of one query; raises what ``work`` raises for it.

        Raises Overloaded when too many wait, while ``is_stuck``, or after ``seconds``.
        """
        if self.pending >= self._capacity:
            raise Overloaded(f"{self.name}: {self.pending} queries wait already; ask again in a moment")
        if self.is_stuck:
            raise Overloaded(f"{self.name}: an earlier batch is stuck; ask again in a moment")
        waiting: _Waiting[Query, Result] = _Waiting(query, asyncio.get_running_loop().create_future())
        self.pending += 1
        try:
            with self._changed:
                self._queue.append(waiting)
                self._changed.notify()
            async with asyncio.timeout(seconds):
                return await waiting.result
        except TimeoutError as error:
            if not waiting.result.cancelled():  # the event loop was late, the result was not
                return waiting.result.result()
            raise Overloaded(f"{self.name}: no answer within {seconds:g} s; ask again in a moment") from error
        finally:
            self.pending -= 1

    def close(self, seconds: float = 10.0) -> None:
        """Work off the queue and take no more; a stuck thread is left behind after ``seconds``."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while batch := self._take():
            results = self._results(batch)
            self._batch = []
            batch[0].result.get_loop().call_soon_threadsafe(_deliver, batch, results)

    def _take(self) -> list[_Waiting[Query, Result]]:
        """The next batch, of queries that somebody still waits for; empty when closing and nothing is left."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: bool(self._queue) or self._closing)
                if not self._queue:
                    return []
                taken = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_size))]
                self._batch = [row for row in taken if not row.result.done()]
                self._began = time.monotonic()
                if self._batch:
                    return self._batch

    def _results(self, batch: Sequence[_Waiting[Query, Result]]) -> list[Result | BaseException]:
        """Log lines of a single query carry its request's id, those of a batch carry none."""
        run = batch[0].context.run if len(batch) == 1 else contextvars.Context().run
        try:
            return list(run(self._work, [row.query for row in batch]))
        except Exception as error:
            return [error] if len(batch) == 1 else [self._results([row])[0] for row in batch]


def _deliver(batch: list[_Waiting[Query, Result]], results: list[Result | BaseException]) -> None:
    for waiting, result in zip(batch, results, strict=True):
        if waiting.result.done():  # its request has gone
            continue
        if isinstance(result, BaseException):
            waiting.result.set_exception(result)
        else:
            waiting.result.set_result(result)
