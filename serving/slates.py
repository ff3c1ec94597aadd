"""Slate ids that only this installation can make, and what the latest slates showed.

An id is ``<random>.<signature>``; the signature is an HMAC-SHA256, cut to 128 bits, over the random part and the
user, so that feedback can be believed before its slate has reached the log: an invented id, or another user's,
does not verify.
"""

import base64
import hashlib
import hmac
import secrets

from cachetools import LRUCache

from attune.errors import DataContractError
from attune.events import Slate

RANDOM_BYTES = 16
SIGNATURE_BYTES = 16


class SlateSigner:
    """Makes and verifies slate ids with one secret key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def new_id(self, user_id: str) -> str:
        """A slate id for this user: url-safe, 45 characters."""
        random = _text(secrets.token_bytes(RANDOM_BYTES))
        return f"{random}.{self._signature(random, user_id)}"

    def verify(self, slate_id: str, user_id: str) -> None:
        """Raise DataContractError unless this installation made the id for this user (in constant time)."""
        random, _, signature = slate_id.partition(".")
        expected = self._signature(random, user_id)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            raise DataContractError(
                "slate_id: not a slate that was made for this user; send the id and the user_id of /v1/recommend",
                "slate_id",
            )

    def _signature(self, random: str, user_id: str) -> str:
        message = random.encode() + b"\0" + user_id.encode()
        return _text(hmac.digest(self._key, message, hashlib.sha256)[:SIGNATURE_BYTES])


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class RecentSlates:
    """Which items the slates of the last minutes showed, so that feedback on one costs no look-up in the log.

    What is not known here may lie in the log: another process made it, or it is older.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        self._items: LRUCache[str, tuple[str, ...]] = LRUCache(capacity)

    def keep(self, slate: Slate) -> None:
        """Remember a slate; beyond the capacity the least used one is forgotten."""
        self._items[slate.event_id] = tuple(item.item_id for item in slate.shown)

    def items(self, slate_id: str) -> tuple[str, ...] | None:
        """The items that the slate showed; None when it is not known here."""
        return self._items.get(slate_id)
