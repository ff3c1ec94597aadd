"""An answer of 200 means: on the disk. Whoever goes away, sends nonsense beside others or repeats changes nothing."""

import json
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from attune.event_log import EventLog
from attune.events import Interaction

ITEMS = [f"i{number}" for number in range(20)]


@pytest.fixture
def process(endpoint_process):
    made = endpoint_process(lock_seconds=5.0)
    with closing(EventLog(made.settings.log_url)) as log:
        log.append(
            [
                Interaction(event_id=item, event_timestamp=1, user_id="somebody", item_id=item, kind="click")
                for item in ITEMS
            ]
        )
    made.start()
    return made


@pytest.fixture
def log(process) -> Iterator[EventLog]:
    with closing(EventLog(process.settings.log_url)) as opened:
        yield opened


TRACE = "read,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync"
CALL = re.compile(r"^(?P<thread>\d+) +(?:(?P<name>\w+)\((?P<rest>.*)|<\.\.\. (?P<resumed>\w+) resumed>(?P<end>.*))$")


@dataclass(frozen=True)
class Call:
    """One system call: where its line begins and where it ended among the lines, what it was, its arguments, result."""

    began: int
    ended: int
    name: str
    words: str
    result: str


def calls(lines: list[str]) -> list[Call]:
    """The finished calls of a trace by ``strace -f -y``; where another thread cut a call's line, it is mended."""
    open_calls: dict[str, tuple[int, str, str]] = {}
    found = []
    for place, line in enumerate(lines):
        match = CALL.match(line)
        if match is None:
            continue  # signals, exits
        thread = match["thread"]
        if match["name"] and line.endswith("<unfinished ...>"):
            open_calls[thread] = (place, match["name"], match["rest"])
            continue
        if match["name"]:
            began, name, words = place, match["name"], match["rest"]
        elif thread in open_calls:
            began, name, before = open_calls.pop(thread)
            words = before.removesuffix("<unfinished ...>") + (match["end"] or "")
        else:
            continue
        found.append(Call(began, place, name, words, words.rpartition(" = ")[2]))
    return found


@pytest.fixture
def traced(process, tmp_path: Path):
    """A trace of the process, from now on; the function ends it and gives its calls."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    file = tmp_path / "trace"
    options = ["-f", "-y", "-s", "100", "-e", f"trace={TRACE}", "-o", str(file), "-p", str(process.pid)]
    tracer = subprocess.Popen([program, *options], stderr=subprocess.PIPE, text=True)
    said = tracer.stderr.readline()
    if "attached" not in said:
        tracer.wait(10)
        pytest.skip(f"strace may not look here: {said}")

    def end() -> list[Call]:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=30)
        return calls(file.read_text(errors="replace").splitlines())

    yield end
    if tracer.poll() is None:
        tracer.kill()
        tracer.communicate()


def prove_synced(process, traced, times: int) -> None:
    """Between the reading of each request and the writing of its answer the log is written, and then synced."""
    sender = process.sender()
    for number in range(times):
        rows = [{"user_id": "u", "item_id": ITEMS[number % 20], "kind": "view", "event_id": f"traced-{number}"}]
        assert sender.post("/v1/events", {"events": rows}).answer["accepted"] == 1
    found = traced()
    requests = [one for one in found if "POST /v1/events HTTP/1.1" in one.words]
    answers = [one for one in found if '"HTTP/1.1 200 OK' in one.words]
    assert (len(requests), len(answers)) == (times, times)
    log_file = "events.db-wal>"
    written = [one for one in found if one.name == "pwrite64" and log_file in one.words]
    synced = [one for one in found if one.name in ("fsync", "fdatasync") and log_file in one.words]
    for request, answer in zip(requests, answers, strict=True):
        writes = [one for one in written if request.ended < one.began and one.ended < answer.began]
        assert writes, "the log was not written before the answer"
        after = max(one.ended for one in writes)
        syncs = [one for one in synced if after < one.began and one.ended < answer.began]
        assert syncs, "the log was not synced between its last write and the answer"
        assert {one.result for one in syncs} == {"0"}


def test_the_log_is_synced_before_the_answer(process, traced) -> None:
    prove_synced(process, traced, times=10)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_log_is_synced_before_each_of_a_thousand_answers(process, traced) -> None:
    prove_synced(process, traced, times=1_000)


def test_a_trace_is_read_across_threads() -> None:
    lines = [
        '7 read(3<socket:[1]>, "POST /v1/events", 99) = 15',
        "8 fdatasync(4</var/log/events.db-wal> <unfinished ...>",
        '7 write(3<socket:[1]>, "HTTP/1.1 200 OK", 15 <unfinished ...>',
        "8 <... fdatasync resumed>) = 0",
        "7 <... write resumed>) = 15",
        "8 +++ exited with 0 +++",
    ]
    read, sync, write = calls(lines)
    assert (read.began, read.ended, read.result) == (0, 0, "15")
    assert (sync.began, sync.ended, sync.name, sync.result) == (1, 3, "fdatasync", "0")
    assert (write.began, write.ended, write.result) == (2, 4, "15")


def sent_and_gone(port: int, path: str, body: dict) -> None:
    """Send a request, and close the connection without waiting for anything."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: attune\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + content)


def test_who_goes_away_after_sending_leaves_the_event_in_the_log(process, log, eventually) -> None:
    slate = process.sender().recommend("hasty").answer
    rows = [
        {
            "slate_id": slate["slate_id"],
            "user_id": "hasty",
            "item_id": item["item_id"],
            "kind": "like",
            "event_id": f"gone-{place}-{turn}",
        }
        for turn in range(6)
        for place, item in enumerate(slate["items"])
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda row: sent_and_gone(process.port, "/v1/feedback", row), rows))
    eventually(lambda: len(log.tail("hasty", 0)) == len(rows))
    assert {one.event.event_id for one in log.tail("hasty", 0)} == {row["event_id"] for row in rows}


def test_a_bad_one_fails_no_other_that_arrives_with_it(process, log) -> None:
    sender = process.sender()
    slate = sender.recommend("among").answer
    items = [item["item_id"] for item in slate["items"]]
    assert sender.feedback(slate, items[0], "like", event_id="taken").status == 200
    bad = [
        (409, {"event_id": "taken", "kind": "dislike"}),
        (422, {"kind": "adore"}),
        (422, {"item_id": "not shown"}),
        (422, {"user_id": "somebody else"}),
    ]
    together = threading.Barrier(8)

    def react(number: int) -> None:
        mine = process.sender()
        for turn in range(10):
            together.wait(30)
            if number % 2:
                status, fields = bad[number // 2]
                row = {"slate_id": slate["slate_id"], "user_id": "among", "item_id": items[0], "kind": "like", **fields}
                assert mine.post("/v1/feedback", row).status == status
            else:
                told = mine.feedback(slate, items[turn], "view", event_id=f"good-{number}-{turn}")
                assert (told.status, told.answer["status"]) == (200, "accepted")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(react, range(8)))
    kept = [one.event.event_id for one in log.tail("among", 0)]
    assert sorted(kept) == sorted(
        ["taken", *(f"good-{number}-{turn}" for number in range(0, 8, 2) for turn in range(10))]
    )
    assert log.quarantined() == 30


def test_a_repeat_at_the_same_moment_is_acknowledged_only_once_it_is_durable(process, log) -> None:
    together = threading.Barrier(2)

    def send(_: int) -> list[str]:
        sender, statuses = process.sender(), []
        for turn in range(30):
            row = {"user_id": "twice", "item_id": "i1", "kind": "view", "event_id": f"twice-{turn}"}
            together.wait(30)
            told = sender.post("/v1/events", {"events": [row]})
            found = log.find(row["event_id"])
            assert found is not None
            assert told.answer["position"] == found.position
            statuses.append("accepted" if told.answer["accepted"] else "repeated")
        return statuses

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(send, range(2))
    assert all({one, other} == {"accepted", "repeated"} for one, other in zip(first, second, strict=True))
    assert len(log.tail("twice", 0)) == 30
