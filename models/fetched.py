"""Bundles that were fetched from the registry: a folder each, whole or not there."""

import shutil
from pathlib import Path

from attune.errors import BundleError
from models.bundle import FILES, FORMAT
from models.sealed_folder import digest_of, open_sealed


def holds(folder: Path, bundle_digest: str) -> bool:
    """Whether the folder is the bundle of that digest, every byte of it."""
    try:
        open_sealed(folder, FORMAT, FILES)
        return digest_of(folder) == bundle_digest
    except BundleError:
        return False


def settle(bundle: Path, target: Path) -> None:
    """Move a whole folder to its name; if another process was first, its equal copy stays."""
    if target.exists():  # altered
        shutil.rmtree(target)
    try:
        bundle.rename(target)
    except OSError:
        if not target.exists():
            raise
