#!/usr/bin/env bash
# anyio 4.16.0 (CPython 3.11): a CapacityLimiter does not bound the threads of calls that were abandoned.
#
# Guess before looking: `to_thread.run_sync(f, limiter=CapacityLimiter(2), abandon_on_cancel=True)` keeps its token until
# the thread ends, so that no more than two threads ever run `f`, however many callers give up waiting.
# Seen: the token is given back as soon as the caller is cancelled, while the thread runs on. Twelve callers that each
# wait 0.05 s for a call of 2 s leave twelve threads at work under a limit of two.
# Why it matters: a limiter in front of a store that hangs does not protect the process; every new request adds a thread.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet anyio==4.16.0
"$work/venv/bin/python" - <<'PY'
import threading
import time

import anyio
import anyio.to_thread

LIMIT, CALLERS = 2, 12
working = 0
lock = threading.Lock()


def slow() -> None:
    global working
    with lock:
        working += 1
    time.sleep(2.0)
    with lock:
        working -= 1


async def main() -> None:
    limiter = anyio.CapacityLimiter(LIMIT)
    for _ in range(CALLERS):
        with anyio.move_on_after(0.05):
            await anyio.to_thread.run_sync(slow, limiter=limiter, abandon_on_cancel=True)
    print(f"limit {LIMIT}, callers that gave up {CALLERS}: {working} calls at work, {limiter.borrowed_tokens} tokens taken")
    assert working == CALLERS, "the limiter bounds abandoned threads now: look again"
    assert limiter.borrowed_tokens == 0


anyio.run(main)
PY
# Output seen: limit 2, callers that gave up 12: 12 calls at work, 0 tokens taken
