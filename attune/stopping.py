"""How a process that follows the log is told to end: TERM or INT, after the step at hand."""

import signal
import threading


def stopped_by_signals() -> threading.Event:
    """An event that TERM and INT set; call it in the main thread."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    return stop
