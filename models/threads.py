"""How many threads a process gives to one forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def use_one_thread() -> None:
    """One thread a forward pass, for processes that answer requests: a small model gains nothing from more.

    Threads that wait for each other cost several times the work itself as soon as the machine has other things to
    do. Holds for every thread that is started afterwards.
    """
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread a forward pass, in this thread and in those started inside; then as before.

    Threads of one small forward pass cost more in waiting for each other than they save.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
