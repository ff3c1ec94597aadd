"""Takes an import back: its interactions by take-backs in the log, its items and users by the version before.

The log is append-only, so what came in stays in it; features, training sets and users' states follow the take-backs.
Every step may be repeated: a take-back has an id made of its event's, and an item that has gone back is found so.
A take-back bears the time of its event, so that statistics are as if the event had never been.

What the import itself took back comes back as an import's withdrawn rows do (``features.importer``): the event is taken
back as of its own time, so that it never stood, and logged again with all that it said, under another id.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from attune.columns import Columns
from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.event_types import RETRACT
from attune.events import IMPORTED, LIVE, AnyEvent, Behaviour, Interaction, Item, LoggedEvent, Slate, User, to_row
from attune.imports import Runs, again_id, withdrawal_id
from features.importer import CHUNK, next_versions
from features.sources.frames import FIRST_MOMENT

USERS_AT_ONCE = 100


@dataclass
class Withdrawal:
    """What became of an import's events; ``taken_back`` counts interactions, feedback and imported slates.

    ``put_back`` counts what the import's own take-backs had taken back. Items and users are ``restored`` to the version
    before, or, where there is none, items are ``retired`` and users ``emptied`` of attributes. Not undone: items and
    users that another source has ``changed_since``, and the ``slates`` that attune made and an export brought.
    """

    taken_back: int = 0
    put_back: int = 0
    restored: int = 0
    retired: int = 0
    emptied: int = 0
    changed_since: int = 0
    slates: int = 0


def withdraw(log: EventLog, import_id: int) -> Withdrawal | None:
    """Take back what the import brought; None when that was done before. Killed halfway, it may be called again.

    Raises DataContractError where there is no such import, EventLogError when the log cannot take the events.
    """
    if not log.imports.begin_withdrawal(import_id):
        return None
    result = Withdrawal()
    items: dict[str, None] = {}
    users: dict[str, None] = {}
    runs = log.imports.runs()
    for chunk in _chunks(log, runs, import_id):
        backs: list[AnyEvent] = []
        retracts: list[LoggedEvent] = []
        for logged in chunk:
            event = logged.event
            if isinstance(event, Item):
                items[event.item_id] = None
            elif isinstance(event, User):
                users[event.user_id] = None
            elif isinstance(event, Slate) and event.served_by != IMPORTED:
                result.slates += 1
            elif isinstance(event, Slate):
                backs.append(_slate_back(event))
            elif event.kind == RETRACT:
                retracts.append(logged)
            else:
                backs.append(_take_back(event))
        log.append(backs)
        result.taken_back += len(backs)
        result.put_back += _put_back(log, retracts, runs)
    for type_name, ids in (("item", list(items)), ("user", list(users))):
        for start in range(0, len(ids), CHUNK):
            _restore(log, type_name, ids[start : start + CHUNK], runs, import_id, result)
    log.imports.end_withdrawal(import_id, asdict(result))
    return result


def _chunks(log: EventLog, runs: Runs, import_id: int) -> Iterator[list[LoggedEvent]]:
    for first, last in runs.of(import_id):
        after = first - 1
        while chunk := log.read(after, CHUNK, last):
            yield chunk
            after = chunk[-1].position


def _take_back(event: AnyEvent) -> AnyEvent:
    return msgspec.structs.replace(
        event, event_id=withdrawal_id(event.event_id), kind=RETRACT, value=None, retracts=event.event_id
    )


def _put_back(log: EventLog, retracts: list[LoggedEvent], runs: Runs) -> int:
    """Let what these take-backs alone took back stand again, unless it was withdrawn itself; how many events it was."""
    own = {entry.position for entry in retracts}
    users = list(dict.fromkeys(entry.event.user_id for entry in retracts if isinstance(entry.event, Behaviour)))
    put_back: dict[int | None, list[LoggedEvent]] = {}
    for start in range(0, len(users), USERS_AT_ONCE):
        for tail in log.tails([(user_id, 0) for user_id in users[start : start + USERS_AT_ONCE]]):
            for entry in _taken_back(tail, own, runs):
                put_back.setdefault(runs.owner(entry.position), []).append(entry)
    log.append([_take_back(entry.event) for entries in put_back.values() for entry in entries])
    for owner, entries in put_back.items():
        log.append_rows([[_again(entry) for entry in entries]], owner)
    return sum(map(len, put_back.values()))


def _taken_back(tail: list[LoggedEvent], own: Collection[int], runs: Runs) -> list[LoggedEvent]:
    """Of a user's events those that only take-backs at the positions ``own``, or withdrawn ones, took back."""
    done: dict[str, LoggedEvent] = {}
    taken: dict[str, None] = {}
    kept = set[str]()
    for entry in tail:
        event = entry.event
        if not isinstance(event, Behaviour):
            continue
        if event.kind != RETRACT:
            done[event.event_id] = entry
        elif (name := str(event.retracts)) in done:
            if entry.position in own:
                taken[name] = None
            elif runs.owner(entry.position) not in runs.gone and event.event_id != withdrawal_id(name):
                kept.add(name)
    return [done[name] for name in taken if name not in kept and runs.owner(done[name].position) not in runs.gone]


def _again(entry: LoggedEvent) -> dict[str, Any]:
    """The row of an event that stands again; what came in over HTTP still did."""
    row = to_row(msgspec.structs.replace(entry.event, event_id=again_id(entry.event.event_id)))
    return row | {"payload": LIVE} if entry.is_live and isinstance(entry.event, Interaction) else row


def _slate_back(slate: Slate) -> Interaction:
    """By it labels and off-policy estimates leave an imported slate out (``features.labels.slates_between``)."""
    return Interaction(
        event_id=withdrawal_id(slate.event_id), event_timestamp=slate.event_timestamp, user_id=slate.user_id,
        item_id=slate.shown[0].item_id, kind=RETRACT, retracts=slate.event_id,
    )  # fmt: skip


def _restore(log: EventLog, type_name: str, ids: list[str], runs: Runs, import_id: int, result: Withdrawal) -> None:
    """Make the latest version that no withdrawn import brought the latest one again, as its own import's."""
    restored: dict[int | None, list[Item | User]] = {}
    for name, versions in log.versions(type_name, ids).items():
        if runs.owner(versions[-1][0]) != import_id:
            result.changed_since += 1
            continue
        owners = [runs.owner(position) for position, _ in versions]
        place = next((place for place in reversed(range(len(owners))) if owners[place] not in runs.gone), None)
        if place is not None:
            result.restored += 1
            restored.setdefault(owners[place], []).append(versions[place][1])
        elif type_name == "item":
            result.retired += 1
            retired = Item(event_id="", event_timestamp=FIRST_MOMENT, item_id=name, attributes={Columns.RETIRED: True})
            restored.setdefault(None, []).append(retired)
        else:
            result.emptied += 1
            emptied = User(event_id="", event_timestamp=FIRST_MOMENT, user_id=name, attributes={})
            restored.setdefault(None, []).append(emptied)
    for owner, events in restored.items():
        if log.append(next_versions(log, events), owner).conflicts:
            raise EventLogError(
                f"import {import_id}: another import described the same {type_name}s; withdraw it again"
            )
