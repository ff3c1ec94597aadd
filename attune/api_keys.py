"""Who may ask the endpoint: API keys with scopes, in the event log's database. A key itself is never stored.

A key is ``attune_<id>_<secret>``. The id is public: the row is found by it, and what has to be compared in constant
time is one digest. The secret is 256 random bits, so its plain SHA-256 is kept: nobody can try them out, and a slow
hash, which is there for passwords that people choose, would only cost each request its time.
"""

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches

from sqlalchemy import RowMapping, select, update
from sqlalchemy.exc import IntegrityError

from attune.database import Tables
from attune.errors import ConfigError
from attune.tables import STANDING, api_keys

ADMIN = "admin"

SCOPES = {
    "recommend": "ask for recommendations, and read what stands behind them",
    "feedback": "report what people did",
    "items": "describe items, change them and take them out",
    "metrics": "read the figures at /metrics",
    ADMIN: "everything",
}
"""What a key may open, in words; ``serving.authentication`` says which route needs which scope."""

REVOKED_WITHIN_SECONDS = 5.0
"""After so long at the most no endpoint that can read the table takes a revoked key."""

ID_BYTES, SECRET_BYTES = 6, 32
SHAPE = re.compile(r"attune_([0-9a-f]{12})_[0-9a-f]{64}")
NAME = re.compile(r"[\w.@-]{1,64}")


@dataclass(frozen=True)
class ApiKey:
    """What is known of a key: ``rate`` in requests a second, times in microseconds; None: the installation's limit."""

    key_id: str
    name: str
    scopes: frozenset[str]
    digest: bytes = field(repr=False)
    created_at: int
    revoked_at: int | None = None
    rate: float | None = None
    burst: int | None = None

    def is_of(self, text: str) -> bool:
        """Whether ``text`` is this key; takes equally long for every text."""
        return hmac.compare_digest(self.digest, digest_of(text))

    def opens(self, scope: str) -> bool:
        """Whether what needs that scope is open to the key."""
        return scope in self.scopes or ADMIN in self.scopes


def id_within(text: str) -> str | None:
    """The public id in a key's text; None for what is no key of attune's."""
    match = SHAPE.fullmatch(text)
    return match[1] if match else None


def digest_of(text: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(text.encode()).digest()


class ApiKeys(Tables):
    """The table of keys in the event log's database, made by ``prepare``; every method may raise EventLogError."""

    def create(
        self, name: str, scopes: Collection[str], rate: float | None = None, burst: int | None = None
    ) -> tuple[str, ApiKey]:
        """Make a key; its text is given here and nowhere again.

        ``rate`` is in requests a second (0: any number; None: what the settings say), ``burst`` how many may come at
        once under it (None: those of one second). Raises ConfigError for what cannot be meant and for a name in use.
        """
        _check(name, scopes, rate, burst)
        key_id = secrets.token_hex(ID_BYTES)
        text = f"attune_{key_id}_{secrets.token_hex(SECRET_BYTES)}"
        made = ApiKey(key_id, name, frozenset(scopes), digest_of(text), self._clock(), None, rate, burst)
        row = {**vars(made), "scopes": " ".join(sorted(made.scopes))}
        with self._database.writing() as connection:
            try:
                connection.execute(api_keys.insert().values(row))
            except IntegrityError as error:
                raise ConfigError(
                    f"there is a key {name!r} already: choose another name, or revoke that one first"
                ) from error
        return text, made

    def revoke(self, name: str) -> ApiKey:
        """End the key of that name, whose name is free again. Raises ConfigError where no key bears it."""
        query = update(api_keys).where(STANDING, api_keys.c.name == name).values(revoked_at=self._clock())
        with self._database.writing() as connection:
            row = connection.execute(query.returning(*api_keys.c)).mappings().first()
            if row is None:
                names = list(connection.scalars(select(api_keys.c.name).where(STANDING).order_by(api_keys.c.name)))
                others = f"there are {', '.join(names)}" if names else "there is none at all"
                raise ConfigError(f"there is no key {name!r}; {_nearest(name, names) or others}")
        return _key(row)

    def active(self) -> list[ApiKey]:
        """The keys that hold, in the order of their names."""
        query = select(api_keys).where(STANDING).order_by(api_keys.c.name)
        with self._database.reading() as connection:
            return [_key(row) for row in connection.execute(query).mappings()]

    def every(self) -> list[ApiKey]:
        """The keys that hold and those that were revoked, the latest first."""
        query = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.key_id)
        with self._database.reading() as connection:
            return [_key(row) for row in connection.execute(query).mappings()]


def _check(name: str, scopes: Collection[str], rate: float | None, burst: int | None) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a key; one has up to 64 letters, digits and the marks . _ @ -")
    if not scopes:
        raise ConfigError(f"key {name!r} would open nothing: give it a scope of {', '.join(SCOPES)}")
    known = f"there are {', '.join(SCOPES)}"
    for scope in scopes:
        if scope not in SCOPES:
            raise ConfigError(f"{scope!r} is no scope; {_nearest(scope, SCOPES) or known}")
    if rate is not None and not (math.isfinite(rate) and rate >= 0):
        raise ConfigError(f"a rate of {rate:g} requests a second cannot be kept; 0 lets any number pass")
    if burst is not None and (burst < 1 or not rate):
        raise ConfigError(f"a burst of {burst} means nothing: it is at least 1, and belongs to a rate above 0")


def _nearest(word: str, known: Collection[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _key(row: RowMapping) -> ApiKey:
    values = {**row, "scopes": frozenset(row["scopes"].split()), "digest": bytes(row["digest"])}
    return ApiKey(**values)
