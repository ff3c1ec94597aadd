"""Runs a function in a child process with the heavy libraries imported, so that it can be killed or measured."""

import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

LIBRARIES = [
    "torch",
    "features.feature_store",
    "features.expectations",
    "models.registry",
    "models.training_job",
    "flows.promote",
]


def context() -> multiprocessing.context.ForkServerContext:
    """Children are forked from a process that has imported what the flows need and has started nothing."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload([*LIBRARIES, __name__])
    return forkserver


def start(work: Callable[..., Any], *arguments: Any) -> tuple[BaseProcess, Any]:
    """Start ``work(*arguments)`` in a child; the process, and the pipe on which (seconds ready, result) arrive."""
    forked = context()
    receiver, sender = forked.Pipe(duplex=False)
    child = forked.Process(target=_answer, args=(sender, work, arguments))
    child.start()
    sender.close()
    return child, receiver


def run(work: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """What the function returned in its child, and the child's peak memory in bytes. Raises RuntimeError if it died."""
    child, receiver = start(work, *arguments)
    try:
        receiver.recv()  # ready
        result, peak = receiver.recv()
    except EOFError as error:
        child.join()
        raise RuntimeError(f"{work.__name__} ended with status {child.exitcode}") from error
    child.join()
    return result, peak


def _answer(sender: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send("ready")
    result = work(*arguments)
    sender.send((result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
