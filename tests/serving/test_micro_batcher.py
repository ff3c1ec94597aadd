"""Micro-batches: what arrives together is answered together. Bounded executors: the rest is refused at once."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.micro_batcher import STUCK_SECONDS, BoundedExecutor, MicroBatcher, Overloaded

ROOT = Path(__file__).parents[2]


class Halves:
    """Halves even numbers, refuses odd ones, behind a gate; notes the groups that it was given."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.groups: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.gate.wait()
        self.groups.append(list(numbers))
        if any(number % 2 for number in numbers):
            raise ValueError("odd")
        return [number // 2 for number in numbers]


@pytest.fixture
def halves() -> Halves:
    return Halves()


def test_each_gets_its_own_answer_and_what_waits_goes_together(halves: Halves) -> None:
    async def main() -> None:
        batcher = MicroBatcher("halves", halves, batch_size=8, capacity=100)
        batcher.start()
        halves.gate.clear()
        first = asyncio.create_task(batcher.submit(0, 5.0))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(batcher.submit(2 * number, 5.0)) for number in range(1, 11)]
        await asyncio.sleep(0.05)
        assert batcher.pending == 11
        halves.gate.set()
        assert await asyncio.gather(first, *rest) == list(range(11))
        assert batcher.pending == 0
        batcher.close()

    asyncio.run(main())
    assert [len(group) for group in halves.groups] == [1, 8, 2]


def test_one_that_fails_fails_no_other(halves: Halves) -> None:
    async def main() -> list:
        batcher = MicroBatcher("halves", halves, batch_size=8, capacity=100)
        halves.gate.clear()
        batcher.start()
        asking = [asyncio.create_task(batcher.submit(number, 5.0)) for number in (0, 2, 3, 4)]
        await asyncio.sleep(0.05)
        halves.gate.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        batcher.close()
        return answers

    answers = asyncio.run(main())
    assert [answers[0], answers[1], answers[3]] == [0, 1, 2]
    assert isinstance(answers[2], ValueError)


def test_an_answer_that_is_there_counts_though_the_loop_was_late(halves: Halves) -> None:
    async def main() -> None:
        batcher = MicroBatcher("halves", halves, batch_size=8, capacity=100)
        batcher.start()
        result = asyncio.create_task(batcher.submit(4, 0.1))
        await asyncio.sleep(0)
        time.sleep(0.3)
        assert await result == 2
        batcher.close()

    asyncio.run(main())


def test_too_many_and_too_slow_are_refused_and_it_recovers(halves: Halves) -> None:
    async def main() -> None:
        batcher = MicroBatcher("halves", halves, batch_size=1, capacity=2)
        batcher.start()
        halves.gate.clear()
        asking = [asyncio.create_task(batcher.submit(number, 0.1)) for number in (0, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="wait already"):
            await batcher.submit(4, 5.0)
        for one in asking:
            with pytest.raises(Overloaded, match=r"within 0\.1 s"):
                await one
        await asyncio.sleep(STUCK_SECONDS)
        assert batcher.is_stuck
        begun = time.monotonic()
        with pytest.raises(Overloaded, match="stuck"):
            await batcher.submit(4, 5.0)
        assert time.monotonic() - begun < 1.0, "nobody waits for a stuck batch"
        halves.gate.set()
        while batcher.is_stuck:
            await asyncio.sleep(0.01)
        assert await batcher.submit(4, 5.0) == 2
        batcher.close()

    asyncio.run(main())
    assert [2] not in halves.groups, "one that nobody waits for any more is not computed"


async def recovered(executor: BoundedExecutor, gate: threading.Event) -> bool:
    """Whether the executor takes calls again, soon."""
    for _ in range(200):
        with contextlib.suppress(Overloaded):
            return await executor.run(gate.is_set)
        await asyncio.sleep(0.01)
    return False


def test_results_and_errors_come_through() -> None:
    async def main() -> None:
        executor = BoundedExecutor("test", 1, 10, 5.0)
        assert await executor.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await executor.run(divmod, 7, 0)
        assert executor.pending == 0
        executor.close()

    asyncio.run(main())


def test_a_full_executor_refuses_at_once_and_recovers() -> None:
    async def main() -> None:
        executor, gate = BoundedExecutor("test", 1, 2, 5.0), threading.Event()
        calls = [asyncio.create_task(executor.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="test"):
            await executor.run(gate.is_set)
        gate.set()
        assert await asyncio.gather(*calls) == [True, True]
        assert await executor.run(gate.is_set)
        executor.close()

    asyncio.run(main())


def test_a_call_that_takes_too_long_is_given_up_and_one_that_waits_never_begins() -> None:
    async def main() -> None:
        executor, gate, begun = BoundedExecutor("test", 1, 10, 0.05), threading.Event(), threading.Event()
        slow = asyncio.create_task(executor.run(gate.wait))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await executor.run(begun.set)
        with pytest.raises(Overloaded):
            await slow
        gate.set()
        assert await recovered(executor, gate)
        assert not begun.is_set()
        executor.close()

    asyncio.run(main())


def test_while_every_thread_is_held_by_a_call_that_was_given_up_nobody_waits() -> None:
    async def main() -> None:
        executor, gate = BoundedExecutor("test", 2, 10, 5.0), threading.Event()
        with pytest.raises(Overloaded, match="no answer"):
            await executor.run(gate.wait, seconds=0.1)
        with pytest.raises(TimeoutError):  # whoever asked has gone
            await asyncio.wait_for(executor.run(gate.wait), 0.1)
        started = asyncio.get_running_loop().time()
        with pytest.raises(Overloaded, match="stuck"):
            await executor.run(gate.is_set)
        assert asyncio.get_running_loop().time() - started < 1.0
        gate.set()
        assert await recovered(executor, gate)
        executor.close()

    asyncio.run(main())


def test_a_stuck_call_keeps_neither_close_nor_the_process_from_its_end() -> None:
    code = """
import asyncio, threading
from serving.micro_batcher import BoundedExecutor, Overloaded

async def main():
    executor = BoundedExecutor("test", 1, 10, 0.1)
    try:
        await executor.run(threading.Event().wait)
    except Overloaded:
        executor.close()
        print("closed")

asyncio.run(main())
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "closed\n"


def test_close_waits_for_a_call_that_runs_and_for_those_that_wait() -> None:
    async def main() -> list[int]:
        executor, done = BoundedExecutor("test", 1, 10, 5.0), list[int]()

        def slow(number: int) -> None:
            time.sleep(0.05)
            done.append(number)

        calls = [asyncio.create_task(executor.run(slow, number)) for number in range(3)]
        await asyncio.sleep(0)
        executor.close()
        await asyncio.gather(*calls)
        return done

    assert asyncio.run(main()) == [0, 1, 2]


def test_an_executor_that_was_never_asked_closes() -> None:
    BoundedExecutor("test", 2, 10, 5.0).close()
