"""What is known of items and users, version by version: which rows of a source say something new.

Each version of an item (or user) is an event whose id is made of the item's id and the version's number alone, so
that its versions can be looked up without reading the log: number 0, 1, ... without a gap.
A source's rows for an item continue the log's: as many of them as the log's latest versions are already (in that
order) are repeats, and the rest become new versions. So after an import the latest versions are always the source's,
the same source again repeats everything, and what is known already takes effect again if it changed in between.
Two imports at once that give one item the same number collide in the log: the later is refused there.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from attune.event_log import EventLog
from attune.events import AnyEvent, Item, User


def new_versions(log: EventLog, events: Sequence[AnyEvent]) -> list[AnyEvent]:
    """Those of the items or users, in their order, that the log does not know yet, with the ids of their versions."""
    keys = [_key(event) for event in events]
    said: dict[str, list[bytes]] = {}
    places = [_placed(said.setdefault(key, []), event.digest()) for key, event in zip(keys, events, strict=True)]
    held: dict[str, bytes] = {}
    lengths = _lengths(log, said, held)
    latest = {key: _ids(key, lengths[key] - len(digests), lengths[key]) for key, digests in said.items()}
    held |= log.digests([name for names in latest.values() for name in names if name not in held])
    known = {key: _overlap([held[name] for name in latest[key]], digests) for key, digests in said.items()}
    return [
        msgspec.structs.replace(event, event_id=_event_id(key, lengths[key] - known[key] + place))
        for event, key, place in zip(events, keys, places, strict=True)
        if place >= known[key]
    ]


def _key(event: AnyEvent) -> str:
    """Which item or user; raises TypeError for any other event."""
    if isinstance(event, Item):
        return f"item\x1f{event.item_id}"
    if isinstance(event, User):
        return f"user\x1f{event.user_id}"
    raise TypeError(f"a {type(event).__name__} has no versions")


def _placed(digests: list[bytes], digest: bytes) -> int:
    """The place of a row among its item's rows; one that says what the row before it said is that row again."""
    if not digests or digests[-1] != digest:
        digests.append(digest)
    return len(digests) - 1


def _event_id(key: str, number: int) -> str:
    return hashlib.blake2b(f"{key}\x1f{number}".encode(), digest_size=16).hexdigest()


def _lengths(log: EventLog, said: Mapping[str, Sequence[bytes]], held: dict[str, bytes]) -> dict[str, int]:
    """How many versions of each the log holds: by doubling, then halving, all of them at once.

    ``held`` learns the digests of the versions that were looked at.
    """
    found: dict[str, int] = {}
    bounds: dict[str, tuple[int, int | None]] = dict.fromkeys(said, (0, None))
    while bounds:
        probes = [
            (key, low, high, max(low, 2 * low - 1) if high is None else (low + high) // 2)
            for key, (low, high) in bounds.items()
        ]
        names = [_event_id(key, number) for key, _, _, number in probes]
        held |= log.digests(names)
        bounds = {}
        for (key, low, high, number), name in zip(probes, names, strict=True):
            low, high = (number + 1, high) if name in held else (low, number)
            if low == high:
                found[key] = low
            else:
                bounds[key] = (low, high)
    return found


def _ids(key: str, first: int, end: int) -> list[str]:
    return [_event_id(key, number) for number in range(max(first, 0), end)]


def _overlap(known: list[bytes], said: list[bytes]) -> int:
    """The most of the first rows that are the last versions."""
    return next(count for count in range(len(known), -1, -1) if known[len(known) - count :] == said[:count])
