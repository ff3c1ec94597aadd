"""Which code made a model."""

import subprocess
from hashlib import sha256
from pathlib import Path


def git_commit() -> str | None:
    """The commit of the code that runs, with ``+`` and a digest of what differs from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "diff", "HEAD")
        return f"{commit}+{sha256(changed.encode()).hexdigest()[:8]}" if changed else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    return found.stdout.strip()
