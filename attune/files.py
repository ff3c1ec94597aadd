"""What must be on the disk, and not in a cache, before one says that it is there."""

import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path


def sync(path: Path) -> None:
    """Return once a file's content, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Folders of things that can be made again are kept small.


def remove_old(folder: Path, keep: int, seconds: float, spared: Collection[str] = (), named: str = "*") -> list[str]:
    """Remove what lies in a folder and is neither among the ``keep`` latest, nor younger than ``seconds``, nor spared.

    ``named`` is a glob: the latest are counted among what it matches, and nothing else goes.
    Hidden entries are left alone: somebody may be at work on them. Returns the names that went.
    """
    if not folder.is_dir():
        return []
    found = [(path.stat().st_mtime, path) for path in folder.glob(named) if not path.name.startswith(".")]
    latest_first = [path for _, path in sorted(found, key=lambda one: (-one[0], one[1].name))]
    too_old = time.time() - seconds
    gone = [one for one in latest_first[keep:] if one.name not in spared and one.stat().st_mtime < too_old]
    for path in gone:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [path.name for path in gone]
