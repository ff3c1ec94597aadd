"""What arrives together is answered together, each for itself; nobody waits for a group to fill."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from serving.bounded_executor import Overloaded
from serving.micro_batcher import HANGS_SECONDS, Batcher


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
        batcher = Batcher("halves", halves, together=8, waiting=100)
        batcher.start()
        halves.gate.clear()
        first = asyncio.create_task(batcher.ask(0, 5.0))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(batcher.ask(2 * number, 5.0)) for number in range(1, 11)]
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
        batcher = Batcher("halves", halves, together=8, waiting=100)
        halves.gate.clear()
        batcher.start()
        asking = [asyncio.create_task(batcher.ask(number, 5.0)) for number in (0, 2, 3, 4)]
        await asyncio.sleep(0.05)
        halves.gate.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        batcher.close()
        return answers

    answers = asyncio.run(main())
    assert [answers[0], answers[1], answers[3]] == [0, 1, 2]
    assert isinstance(answers[2], ValueError)


def test_too_many_and_too_slow_are_refused_and_it_recovers(halves: Halves) -> None:
    async def main() -> None:
        batcher = Batcher("halves", halves, together=1, waiting=2)
        batcher.start()
        halves.gate.clear()
        asking = [asyncio.create_task(batcher.ask(number, 0.1)) for number in (0, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="wait already"):
            await batcher.ask(4, 5.0)
        for one in asking:
            with pytest.raises(Overloaded, match=r"within 0\.1 s"):
                await one
        await asyncio.sleep(HANGS_SECONDS)
        assert batcher.hangs
        begun = time.monotonic()
        with pytest.raises(Overloaded, match="does not answer"):
            await batcher.ask(4, 5.0)
        assert time.monotonic() - begun < 1.0, "nobody waits for what hangs"
        halves.gate.set()
        while batcher.hangs:
            await asyncio.sleep(0.01)
        assert await batcher.ask(4, 5.0) == 2
        batcher.close()

    asyncio.run(main())
    assert [2] not in halves.groups, "one that nobody waits for any more is not computed"
