"""A small load generator for the endpoint, for the demo and for a first look at latency.

``python -m infra.load --url http://127.0.0.1:8000 --users 600 --requests 1000 --concurrency 4`` prints one JSON
object. It uses the standard library's HTTP client: a richer one costs more a request than the endpoint does.
"""

import argparse
import http.client
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 30.0


def run(url: str, users: Sequence[str], requests: int, concurrency: int, k: int = 10) -> dict[str, Any]:
    """Ask for ``requests`` slates, users in turn, over ``concurrency`` connections; the figures in milliseconds.

    Percentiles (nearest rank) are None when nothing was answered.
    """
    bodies = [json.dumps({"user_id": users[turn % len(users)], "k": k}) for turn in range(requests)]
    started = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        shares = list(pool.map(partial(_ask, url), (bodies[start::concurrency] for start in range(concurrency))))
    elapsed = time.perf_counter() - started
    answered = sorted(seconds for share, _ in shares for seconds in share)
    errors = [error for _, share in shares for error in share]

    def percentile(share: float) -> float | None:
        rank = max(int(-(-share * len(answered) // 1)), 1)
        return round(answered[rank - 1] * 1000, 3) if answered else None

    return {
        "requests": len(answered) + len(errors),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "p50_ms": percentile(0.50),
        "p99_ms": percentile(0.99),
        "max_ms": percentile(1.0),
        "requests_per_second": round(len(answered) / elapsed, 1) if elapsed else 0.0,
    }


def _ask(url: str, bodies: Sequence[str]) -> tuple[list[float], list[str]]:
    """Post the bodies over one connection; the seconds of each answer, and what went wrong with the others."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=TIMEOUT_SECONDS)
    answered, errors = list[float](), list[str]()
    for body in bodies:
        started = time.perf_counter()
        try:
            connection.request("POST", "/v1/recommend", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            errors.append(f"{type(error).__name__}: {error}")
            continue
        if reply.status == 200:
            answered.append(time.perf_counter() - started)
        else:
            errors.append(f"{reply.status} {content[:200]!r}")
    connection.close()
    return answered, errors


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.load", description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="the endpoint, such as http://127.0.0.1:8000")
    parser.add_argument("--users", required=True, help="a file with one user id a line, or N for the users 1 to N")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--k", type=int, default=10)
    given = parser.parse_args()
    try:
        number = int(given.users) if given.users.isdecimal() else 0
        users = [str(user) for user in range(1, number + 1)] or Path(given.users).read_text("utf-8").splitlines()
    except OSError as error:
        parser.error(f"--users: {error}")
    if not (users := [user for user in users if user.strip()]):
        parser.error(f"--users: {given.users} holds no user ids; write one a line")
    report = run(given.url, users, given.requests, given.concurrency, given.k)
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if report["errors"] or not report["requests"] else 0


if __name__ == "__main__":
    sys.exit(main())
