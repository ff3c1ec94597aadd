"""Files and folders that appear whole or not at all, locks between processes, and folders that are kept small.

What is written goes to a draft beside its place, whose hidden name ends in ``.draft``, and is then renamed: a reader
finds the old content or the new. What is ``durable`` is on the disk, and not in a cache, when the call returns.
"""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Return once a file's content, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """A draft to write, which takes the place of ``path`` at the end of the block; after an error it is removed."""
    draft = _draft(path)
    try:
        yield draft
        if durable:
            sync(draft)
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_whole(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Replace a file by one of this content; ``mode`` are its permissions, less those that the umask takes."""
    with whole_file(path) as draft:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_folder(path: Path, mode: int = 0o777) -> Iterator[Path]:
    """An empty folder to fill, which gets the name ``path`` at the end of the block, durable with all that is in it.

    After an error it is removed. Raises OSError where ``path`` is a folder that is not empty.
    """
    draft = _draft(path)
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.mkdir(mode)
    try:
        yield draft
        for entry in (*draft.rglob("*"), draft):
            sync(entry)
        draft.rename(path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync(path.parent)


@contextmanager
def locked(path: Path, busy: Exception | None = None) -> Iterator[None]:
    """Hold a lock file, made with its folder, for as long as the block runs.

    While another process (or block) holds it this waits, or raises ``busy`` if that is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise (busy or error) from error
        yield


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.draft")


def remove_old(folder: Path, keep: int, seconds: float, spared: Collection[str] = (), named: str = "*") -> list[str]:
    """Remove what lies in a folder and is neither among the ``keep`` latest, nor younger than ``seconds``, nor spared.

    ``named`` is a glob: the latest are counted among what it matches, and nothing else goes.
    Hidden entries are left alone: somebody may be at work on them. Returns the names that went.
    """
    if not folder.is_dir():
        return []
    entries = [(path.stat().st_mtime, path) for path in folder.glob(named) if not path.name.startswith(".")]
    latest_first = [path for _, path in sorted(entries, key=lambda entry: (-entry[0], entry[1].name))]
    too_old = time.time() - seconds
    gone = [path for path in latest_first[keep:] if path.name not in spared and path.stat().st_mtime < too_old]
    for path in gone:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [path.name for path in gone]
