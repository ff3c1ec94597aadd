"""A lane takes so many calls, each for so long, and refuses the rest at once."""

import asyncio
import contextlib
import threading

import pytest

from serving.bounded_executor import Lane, Overloaded


async def recovered(lane: Lane, gate: threading.Event) -> bool:
    """Whether the lane takes calls again, soon."""
    for _ in range(200):
        with contextlib.suppress(Overloaded):
            return await lane.run(gate.is_set)
        await asyncio.sleep(0.01)
    return False


def test_results_and_errors_come_through() -> None:
    async def main() -> None:
        lane = Lane("test", 1, 10, 5.0)
        assert await lane.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await lane.run(divmod, 7, 0)
        assert lane.pending == 0
        lane.close()

    asyncio.run(main())


def test_a_full_lane_refuses_at_once_and_recovers() -> None:
    async def main() -> None:
        lane, gate = Lane("test", 1, 2, 5.0), threading.Event()
        calls = [asyncio.create_task(lane.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="test"):
            await lane.run(gate.is_set)
        gate.set()
        assert await asyncio.gather(*calls) == [True, True]
        assert await lane.run(gate.is_set)
        lane.close()

    asyncio.run(main())


def test_a_call_that_takes_too_long_is_given_up_and_one_that_waits_never_begins() -> None:
    async def main() -> None:
        lane, gate, begun = Lane("test", 1, 10, 0.05), threading.Event(), threading.Event()
        slow = asyncio.create_task(lane.run(gate.wait))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await lane.run(begun.set)
        with pytest.raises(Overloaded):
            await slow
        gate.set()
        assert await recovered(lane, gate)
        assert not begun.is_set()
        lane.close()

    asyncio.run(main())


def test_while_every_thread_is_held_by_a_call_that_was_given_up_nobody_waits() -> None:
    async def main() -> None:
        lane, gate = Lane("test", 2, 10, 5.0), threading.Event()
        for _ in range(2):
            with pytest.raises(Overloaded, match="no answer"):
                await lane.run(gate.wait, seconds=0.02)
        started = asyncio.get_running_loop().time()
        with pytest.raises(Overloaded, match="does not answer"):
            await lane.run(gate.is_set)
        assert asyncio.get_running_loop().time() - started < 1.0
        gate.set()
        assert await recovered(lane, gate)
        lane.close()

    asyncio.run(main())
