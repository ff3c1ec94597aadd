"""How many threads a process gives to one forward pass."""

import torch


def use_one_thread() -> None:
    """One thread a forward pass, for processes that answer requests: a small model gains nothing from more.

    Threads that wait for each other cost several times the work itself as soon as the machine has other things to
    do. Holds for every thread that is started afterwards.
    """
    torch.set_num_threads(1)
