"""A small load generator for the endpoint, for the demo and for a first look at latency.

``python -m infra.load --url http://127.0.0.1:8000 --users 600 --requests 1000 --concurrency 4`` prints one JSON
object. It runs in a process of its own and speaks HTTP by the standard library over kept connections, since a
richer client costs more a request than the endpoint does and would measure itself.
"""

import argparse
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 30.0


@dataclass
class Measured:
    """Seconds of each answered request and what went wrong with the others; threads add to it under the lock."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, elapsed: float) -> dict[str, Any]:
        """The figures as the JSON object that is printed; percentiles are null when nothing was answered."""
        answered = sorted(self.seconds)
        return {
            "requests": len(answered) + len(self.errors),
            "errors": len(self.errors),
            "first_error": self.errors[0] if self.errors else None,
            "p50_ms": percentile(answered, 0.50),
            "p99_ms": percentile(answered, 0.99),
            "max_ms": percentile(answered, 1.0),
            "requests_per_second": round(len(answered) / elapsed, 1) if elapsed else 0.0,
        }


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value that ``share`` of the values do not exceed (nearest rank), in milliseconds."""
    if not ordered:
        return None
    rank = max(int(-(-share * len(ordered) // 1)), 1)
    return round(ordered[rank - 1] * 1000, 3)


def run(url: str, users: Sequence[str], requests: int, concurrency: int, k: int = 10) -> dict[str, Any]:
    """Ask for ``requests`` slates, users in turn, over ``concurrency`` connections; the figures."""
    measured = Measured()
    turns = islice(count(), requests)
    lock = threading.Lock()
    threads = [
        threading.Thread(target=_ask, args=(url, users, turns, lock, k, measured), daemon=True)
        for _ in range(concurrency)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return measured.report(time.perf_counter() - started)


def _ask(
    url: str, users: Sequence[str], turns: Iterator[int], lock: threading.Lock, k: int, measured: Measured
) -> None:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=TIMEOUT_SECONDS)
    while True:
        with lock:
            turn = next(turns, None)
        if turn is None:
            break
        body = json.dumps({"user_id": users[turn % len(users)], "k": k})
        started = time.perf_counter()
        try:
            connection.request("POST", "/v1/recommend", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            content = reply.read()
            fault = None if reply.status == 200 else f"{reply.status} {content[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            fault = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        with measured.lock:
            if fault is None:
                measured.seconds.append(seconds)
            else:
                measured.errors.append(fault)
    connection.close()


def users_of(named: str) -> list[str]:
    """A file with one user id a line, or a number N: the users 1 to N. Raises ValueError, OSError."""
    if named.isdecimal() and int(named) > 0:
        return [str(number) for number in range(1, int(named) + 1)]
    users = [line for line in Path(named).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not users:
        raise ValueError(f"{named} holds no user ids; write one a line")
    return users


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, print the JSON; exit code 1 when a request failed."""
    parser = argparse.ArgumentParser(prog="python -m infra.load", description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="the endpoint, such as http://127.0.0.1:8000")
    parser.add_argument("--users", required=True, help="a file with one user id a line, or a number")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--k", type=int, default=10)
    asked = parser.parse_args(arguments)
    try:
        users = users_of(asked.users)
    except (OSError, ValueError) as error:
        parser.error(f"--users: {error}")
    report = run(asked.url, users, asked.requests, asked.concurrency, asked.k)
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if report["errors"] or not report["requests"] else 0


if __name__ == "__main__":
    sys.exit(main())
