"""Questions that arrive at about the same time are answered together: one pass of the network, one statement, for all.

Nobody waits for a group to fill: while the thread is at work, the next group gathers.
"""

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serving.bounded_executor import Overloaded

HANGS_SECONDS = 0.2
"""Work that takes longer, and that somebody gave up, hangs; a group takes some milliseconds."""

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Waiting(Generic[Question, Answer]):
    question: Question
    answer: asyncio.Future[Answer]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    given_up: bool = False


class Batcher(Generic[Question, Answer]):
    """One thread that calls ``work`` with at most ``together`` questions; at most ``waiting`` run or wait.

    Where ``work`` raises, each question of the group is asked again alone, so that one fails no other. While it is held
    for longer than ``HANGS_SECONDS`` by questions that were given up, whoever comes next is refused at once.
    """

    def __init__(
        self, name: str, work: Callable[[Sequence[Question]], Sequence[Answer]], together: int, waiting: int
    ) -> None:
        self.name = name
        self._work = work
        self._together = together
        self._limit = waiting
        self._pending = 0
        self._queue: deque[_Waiting[Question, Answer]] = deque()
        self._at_work: list[_Waiting[Question, Answer]] = []
        self._began = 0.0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"attune-{name}", daemon=True)

    @property
    def pending(self) -> int:
        """How many questions run or wait."""
        return self._pending

    @property
    def hangs(self) -> bool:
        """Whether the thread is held by a question that was given up."""
        return any(one.given_up for one in self._at_work) and time.monotonic() - self._began > HANGS_SECONDS

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def ask(self, question: Question, seconds: float) -> Answer:
        """The answer to one question; raises what ``work`` raises for it.

        Raises Overloaded when too many wait, while ``hangs``, or after ``seconds``.
        """
        if self._pending >= self._limit:
            raise Overloaded(f"{self.name}: {self._pending} questions wait already; ask again in a moment")
        if self.hangs:
            raise Overloaded(f"{self.name}: what it asks does not answer; ask again in a moment")
        waiting: _Waiting[Question, Answer] = _Waiting(question, asyncio.get_running_loop().create_future())
        self._pending += 1
        try:
            with self._changed:
                self._queue.append(waiting)
                self._changed.notify()
            async with asyncio.timeout(seconds):
                return await waiting.answer
        except TimeoutError as error:
            raise Overloaded(f"{self.name}: no answer within {seconds:g} s; ask again in a moment") from error
        finally:
            waiting.given_up = waiting.answer.cancelled()
            self._pending -= 1

    def close(self, seconds: float = 10.0) -> None:
        """Answer what waits, and take no more; a thread that hangs is left behind after ``seconds``."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while group := self._take():
            answers = self._answers(group)
            self._at_work = []
            group[0].answer.get_loop().call_soon_threadsafe(_tell, group, answers)

    def _take(self) -> list[_Waiting[Question, Answer]]:
        """The next group, of those who still wait; none when closing and nothing is left."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: bool(self._queue) or self._closing)
                if not self._queue:
                    return []
                taken = [self._queue.popleft() for _ in range(min(len(self._queue), self._together))]
                self._at_work = [one for one in taken if not one.answer.done()]
                self._began = time.monotonic()
                if self._at_work:
                    return self._at_work

    def _answers(self, group: Sequence[_Waiting[Question, Answer]]) -> list[Answer | BaseException]:
        """What is logged for one question alone is of its request, of a group it is of none."""
        run = group[0].context.run if len(group) == 1 else contextvars.Context().run
        try:
            return list(run(self._work, [one.question for one in group]))
        except Exception as error:
            if len(group) == 1:
                return [error]
            return [self._answers([one])[0] for one in group]


def _tell(group: list[_Waiting[Question, Answer]], answers: list[Answer | BaseException]) -> None:
    for one, answer in zip(group, answers, strict=True):
        if one.answer.done():  # whoever asked has gone
            continue
        if isinstance(answer, BaseException):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)
