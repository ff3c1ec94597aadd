"""How far the state keeper has come: a note that lies where the states lie, so that it is lost with them alone.

A note is a log position and the id of the log that it counts in. In Redis it survives and goes with the states: where
the server lost everything, the keeper begins again at 0 and folds every user's state anew.
"""

import os
from pathlib import Path
from typing import Protocol

from attune import redis_server
from attune.redis_address import RedisAddress

NAME = "keeper.position"
KEY = "attune:keeper.position"


class Watermark(Protocol):
    """Where the note lies (``str``), and what to do when it speaks of another log (``remedy``)."""

    remedy: str

    def read(self) -> tuple[int, str]:
        """The position and the log's id; (0, "") where nothing was kept."""

    def write(self, position: int, log_id: str) -> None:
        """Replace the note, whole or not at all."""


class FileWatermark:
    """Beside the SQLite store."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self.remedy = f"remove {folder} and apply again"

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> tuple[int, str]:
        """As the protocol says."""
        try:
            return _parsed(self._path.read_text())
        except FileNotFoundError:
            return 0, ""

    def write(self, position: int, log_id: str) -> None:
        """As the protocol says."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(f"{position} {log_id}\n")
        os.replace(draft, self._path)


class RedisWatermark:
    """In the same database of Redis; errors are FeatureStoreErrors."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._client = redis_server.connect(address)
        self.remedy = f"empty {address} (FLUSHDB) or name another in ATTUNE_ONLINE_STORE_URL, and start it again"

    def __str__(self) -> str:
        return f"{KEY} in {self._address}"

    def read(self) -> tuple[int, str]:
        """As the protocol says."""
        with redis_server.explained(self._address):
            found = self._client.get(KEY)
        return _parsed(found.decode(errors="replace")) if isinstance(found, bytes) else (0, "")

    def write(self, position: int, log_id: str) -> None:
        """As the protocol says."""
        with redis_server.explained(self._address):
            self._client.set(KEY, f"{position} {log_id}")


def _parsed(note: str) -> tuple[int, str]:
    position, _, log_id = note.strip().partition(" ")
    try:
        return int(position), log_id
    except ValueError:
        return 0, ""
