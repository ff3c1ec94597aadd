"""Every error that attune raises on purpose.

    AttuneError
    ├── BackupError            a backup could not be made, or is not what it was
    ├── ConfigError            a setting or a command-line argument is wrong
    ├── DataContractError      a row, a file or a batch breaks its contract
    ├── EndpointError          the endpoint refused a request or does not answer
    ├── EventLogError          the event log could not take or give events
    │   ├── LogBusy            another writer holds the log; nothing was written
    │   └── UnreadableEvent    an event of the log is of a later version, or damaged
    ├── FeatureStoreError      the feature store could not be read or written
    └── ModelError             a model could not be built, loaded or promoted
        ├── BundleError        a bundle on disk is incomplete, altered or of another format
        ├── NoChampion         nothing has been promoted yet
        ├── PromotionConflict  somebody else promoted first, or the lease was lost
        └── VersionLost        the registry has no longer what was promoted under a version's number

A message says what was wrong, where, and what to do. Adapters wrap a library's exception with ``from``.
A failed gate is a value, not an exception.
"""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """For a message: the nearest of the known words (likeness ``cutoff`` at least), '' where none is near."""
    close = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {close[0]!r}?)" if close else ""


class AttuneError(Exception):
    """The root of the tree: ``except AttuneError`` catches what attune can explain."""


class BackupError(AttuneError):
    """A backup could not be made, is not whole, or has no room where it should go."""


class ConfigError(AttuneError):
    """A setting or a command-line argument is wrong."""


class DataContractError(AttuneError):
    """A row, a file or a batch breaks its contract.

    ``field`` names the column or HTTP field at fault, or is None when the whole is at fault. ``rule`` is the message
    without the value at fault, so that it is equal for all that break the same rule (by default the whole message).
    """

    def __init__(self, message: str, field: str | None = None, rule: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.rule = rule or message


class EndpointError(AttuneError):
    """The endpoint refused a request or does not answer.

    ``field`` names the field at fault where the endpoint named one, ``reason`` is what it said, ``status`` the HTTP
    status of its answer (None when there was none), ``request_id`` how the endpoint's log names the request.
    """

    def __init__(
        self, reason: str, field: str | None = None, status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.status = status
        self.request_id = request_id


class EventLogError(AttuneError):
    """The event log could not take or give events; what was not acknowledged was not written."""


class LogBusy(EventLogError):
    """Another writer holds the log; nothing was written and the same call may be made again."""


class UnreadableEvent(EventLogError):
    """An event of the log is of a later version than this code, or damaged; the log itself answers."""


class FeatureStoreError(AttuneError):
    """The feature store could not be read or written."""


class ModelError(AttuneError):
    """A model could not be built, loaded or promoted."""


class BundleError(ModelError):
    """A bundle on disk is incomplete, altered or of another format."""


class NoChampion(ModelError):
    """Nothing has been promoted yet."""


class PromotionConflict(ModelError):
    """Somebody else promoted first, or the lease was lost; read the table again."""


class VersionLost(ModelError):
    """The registry has the version no more, or has another bundle under its number than was promoted."""
