"""A folder whose files cannot change unnoticed: ``manifest.json`` names each with its length and sha256.

It appears whole or not at all: files are written into a temporary folder beside it, synced, and renamed.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from attune.errors import BundleError
from attune.files import sync

MANIFEST = "manifest.json"


def seal(folder: Path, format_name: str, files: Mapping[str, bytes]) -> Path:
    """Write the files and their manifest as ``folder``; returns it. Raises BundleError when it exists already."""
    if folder.exists():
        raise BundleError(f"{folder} exists already; a bundle is never written over: choose another folder")
    listed = {name: {"sha256": _digest(content), "bytes": len(content)} for name, content in sorted(files.items())}
    manifest = json.dumps({"format": format_name, "files": listed}, indent=1).encode()
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    draft.mkdir(parents=True)
    try:
        for name, content in {**files, MANIFEST: manifest}.items():
            _write(draft / name, content)
        sync(draft)
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise BundleError(f"{folder} could not be written: {error}") from error
    return folder


def open_sealed(folder: Path, format_name: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """The content of exactly these files; what is parsed later is what was verified here.

    Raises BundleError for a missing or altered file, a manifest of another format or one that lists other files.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        found, listed = manifest["format"], manifest["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder} is no bundle: its {MANIFEST} cannot be read ({error}); fetch it again") from error
    if found != format_name:
        raise BundleError(f"{folder} has the format {found!r}; this version of attune reads {format_name!r}")
    if set(listed) != set(names):
        odd = sorted(set(listed) ^ set(names))
        raise BundleError(f"{folder}/{MANIFEST} lists other files than a {format_name} has: {odd}")
    return {name: _verified(folder / name, listed[name]) for name in names}


def digest_of(folder: Path) -> str:
    """The sha256 of the manifest, and so of everything in the folder. Raises BundleError where there is none."""
    try:
        return _digest((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BundleError(f"{folder} is no bundle: its {MANIFEST} cannot be read ({error}); fetch it again") from error


def _verified(path: Path, listed: Mapping[str, object]) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} is missing from its bundle: {error}; fetch the bundle again") from error
    if not isinstance(listed, dict) or listed.get("sha256") != _digest(content) or listed.get("bytes") != len(content):
        raise BundleError(f"{path} is not what its manifest says; it was altered or cut short: fetch the bundle again")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
