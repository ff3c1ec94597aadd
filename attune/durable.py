"""What must be on the disk, and not in a cache, before one says that it is there."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Return once a file's content, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
