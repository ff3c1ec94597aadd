"""Takes an import back: its interactions by take-backs in the log, its items and users by the version before.

The log is append-only, so what came in stays in it; features, training sets and users' states follow the take-backs.
Every step may be repeated: a take-back has an id made of its event's, and an item that has gone back is found so.
A take-back bears the time of its event, so that statistics are as if the event had never been.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import msgspec

from attune.columns import Columns
from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.event_types import RETRACT
from attune.events import IMPORTED, AnyEvent, Feedback, Interaction, Item, LoggedEvent, Slate, User
from attune.imports import Runs
from features.importer import CHUNK, next_versions, withdrawal_id
from features.sources.frames import FIRST_MOMENT


@dataclass
class Withdrawal:
    """What became of an import's events; ``taken_back`` counts interactions, feedback and imported slates.

    Items and users are ``restored`` to the version before, or, where there is none, items are ``retired`` and users
    ``emptied`` of attributes. Not undone: items and users that another source has ``changed_since``, and the import's
    own ``take_backs``, and the ``slates`` that attune made and an export brought.
    """

    taken_back: int = 0
    restored: int = 0
    retired: int = 0
    emptied: int = 0
    changed_since: int = 0
    take_backs: int = 0
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
                result.take_backs += 1
            else:
                backs.append(_take_back(event))
        log.append(backs)
        result.taken_back += len(backs)
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


def _take_back(event: Interaction | Feedback) -> AnyEvent:
    return msgspec.structs.replace(
        event, event_id=withdrawal_id(event.event_id), kind=RETRACT, value=None, retracts=event.event_id
    )


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
