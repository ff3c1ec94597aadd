"""What is known of items and users, version by version: which rows of a source say something new.

Each version of an item (or user) is an event whose id is made of the item's id and the version's number alone, so
that its versions can be looked up without reading the log: number 0, 1, ... without a gap.
A source's rows for an item continue the log's: as many of them as the log's latest versions are already (in that
order) are repeats, and the rest become new versions. So after an import the latest versions are always the source's,
the same source again repeats everything, and what is known already takes effect again if it changed in between.
Two imports at once that give one item the same number collide in the log: the later is refused there.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from attune.event_log import EventLog
from attune.events import Item, User

Entity = TypeVar("Entity", Item, User)


def numbered(log: EventLog, events: Sequence[Entity]) -> list[Entity]:
    """The events of one type, in their order, with the ids of the versions that they repeat or become."""
    said: dict[str, list[bytes]] = {}
    places = [_placed(said.setdefault(_identity(event), []), event.digest()) for event in events]
    lengths = _lengths(log, said)
    held = log.digests([
        name for key, digests in said.items() for name in _ids(key, lengths[key] - len(digests), lengths[key])
    ])  # fmt: skip
    starts = {key: lengths[key] - _overlap(key, digests, lengths[key], held) for key, digests in said.items()}
    return [
        msgspec.structs.replace(event, event_id=_event_id(_identity(event), starts[_identity(event)] + place))
        for event, place in zip(events, places, strict=True)
    ]


def _identity(event: Item | User) -> str:
    return f"item\x1f{event.item_id}" if isinstance(event, Item) else f"user\x1f{event.user_id}"


def _placed(digests: list[bytes], digest: bytes) -> int:
    """The place of a row among its item's rows; one that says what the row before it said is that row again."""
    if not digests or digests[-1] != digest:
        digests.append(digest)
    return len(digests) - 1


def _event_id(key: str, number: int) -> str:
    return hashlib.blake2b(f"{key}\x1f{number}".encode(), digest_size=16).hexdigest()


def _ids(key: str, first: int, end: int) -> list[str]:
    return [_event_id(key, number) for number in range(max(first, 0), end)]


def _lengths(log: EventLog, keys: Iterable[str]) -> dict[str, int]:
    """How many versions of each the log holds: by doubling, then halving, all of them at once."""
    found: dict[str, int] = {}
    bounds: dict[str, tuple[int, int | None]] = dict.fromkeys(keys, (0, None))
    while bounds:
        probes = {key: 2 * low if high is None else (low + high) // 2 for key, (low, high) in bounds.items()}
        names = {key: _event_id(key, number) for key, number in probes.items()}
        held = log.digests(list(names.values()))
        for key, number in probes.items():
            low, high = bounds.pop(key)
            low, high = (number + 1, high) if names[key] in held else (low, number)
            if low == high:
                found[key] = low
            else:
                bounds[key] = (low, high)
    return found


def _overlap(key: str, said: list[bytes], length: int, held: Mapping[str, bytes]) -> int:
    """The most of the first rows that are the log's last versions."""
    first = max(length - len(said), 0)
    known = [held.get(name, b"") for name in _ids(key, first, length)]
    return next(count for count in range(len(known), -1, -1) if known[len(known) - count :] == said[:count])
