"""`attune users` and `attune items`: what the event log knows of people and things, read without any server."""

from collections import Counter
from contextlib import closing
from dataclasses import asdict
from shlex import quote
from typing import Any

from attune import event_log
from attune.clock import system_clock, to_iso
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.events import Behaviour
from attune.log_queries import KnownItem
from attune.settings import Settings
from attune.user_state import UserState, empty, fold
from infra.commands import output


def users(limit: int, as_json: bool) -> None:
    """Who was active last."""
    with _log() as log:
        found = log.users(limit)
    if as_json:
        output.print_json({"users": [asdict(one) | {"logged_at": to_iso(one.logged_at)} for one in found]})
        return
    if not found:
        output.say_next("nobody yet: `attune import tabular --help` brings events in")
        return
    now = system_clock()
    rows = [[one.user_id, f"{output.ago(one.logged_at, now)} ago", one.position] for one in found]
    output.table(["user", "last event logged", "position"], rows, title="active last", numbers=[1, 2])
    output.say_next(f"`attune users {quote(found[0].user_id)}` shows what is known of one")


def user(user_id: str, limit: int, as_json: bool) -> None:
    """One user's state: the same that recommendations are made from. Raises DataContractError for nobody."""
    with _log() as log:
        tail = log.tail(user_id, 0)
        state = fold(empty(user_id), tail)
        if state.position == 0:
            raise DataContractError(
                f"no event names user {user_id!r}: `attune users` lists who was active last; "
                "recommendations for somebody unknown are what is popular"
            )
        latest = list(reversed(state.recent))[:limit]
        titles = {one.item_id: title_of(log.item(one.item_id)) for one in latest}
    kinds = Counter(one.event.kind for one in tail if isinstance(one.event, Behaviour))
    if as_json:
        output.print_json(_state(state, kinds, latest))
        return
    _show_state(state, kinds)
    rows = [
        [_moment(one.time), one.kind, _value(one.value), one.item_id, titles[one.item_id], "taken back" * one.retracted]
        for one in latest
    ]
    output.table(["when (UTC)", "kind", "value", "item", "title", ""], rows, title="latest events", numbers=[2])
    output.say_next(f"`attune recommend {quote(user_id)}`")


def _state(state: UserState, kinds: Counter[str], latest: list[Any]) -> dict[str, Any]:
    return {
        "user_id": state.user_id,
        "position": state.position,
        "events": state.events,
        "kinds": dict(kinds.most_common()),
        "seen": len(state.seen),
        "first_time": None if state.first_time is None else to_iso(state.first_time),
        "last_time": None if state.last_time is None else to_iso(state.last_time),
        "attributes": state.attributes,
        "recent": [one._asdict() | {"time": to_iso(one.time)} for one in latest],
    }


def _show_state(state: UserState, kinds: Counter[str]) -> None:
    values: dict[str, Any] = {"events": state.events}
    values["kinds"] = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
    values["items seen"] = len(state.seen)
    for name, time in (("first", state.first_time), ("last", state.last_time)):
        if time is not None:
            values[name] = f"{_moment(time)} UTC"
    output.facts(f"user {state.user_id}", values | _plain(state.attributes))


def items(limit: int, search: str, as_json: bool) -> None:
    """The items with most events, or those whose titles match."""
    with _log() as log:
        counts = dict(log.popular(limit)) if not search else {}
        found = log.items(limit, search) if search else [_described(log, item_id) for item_id in counts]
    if as_json:
        described = [_item(one) | ({} if search else {"events": counts[one.item_id]}) for one in found]
        output.print_json({"items": described})
        return
    if not found:
        nothing = f"no title holds {search!r}" if search else "no item has any event yet"
        output.console().print(nothing, markup=False)
        output.say_next("`attune items --search WORDS` finds titles, `attune import tabular --help` brings items in")
        return
    if search:
        output.table(["item", "title"], [[one.item_id, one.title] for one in found], title=f"titles with {search!r}")
    else:
        rows = [[one.item_id, one.title, counts[one.item_id]] for one in found]
        output.table(["item", "title", "events"], rows, title="with most events", numbers=[2])
    output.say_next(f"`attune items {quote(found[0].item_id)}` shows one, `attune items --search WORDS` finds titles")


def item(item_id: str, as_json: bool) -> None:
    """What is known of one item. Raises DataContractError for one that no event names."""
    with _log() as log:
        found, kinds = log.item(item_id), log.kinds_with(item_id)
    if found is None and not kinds:
        raise DataContractError(f"no event names item {item_id!r}: `attune items --search WORDS` finds items by title")
    if as_json:
        attributes = found.attributes if found else None
        output.print_json({"item_id": item_id, "attributes": attributes, "events": sum(kinds.values()), "kinds": kinds})
        return
    counted = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items()) or "none"
    described = _plain(found.attributes) if found else {"described": "by no event; only behaviour names it"}
    output.facts(f"item {item_id}", {**described, "events": counted})


def _described(log: EventLog, item_id: str) -> KnownItem:
    """The item, without attributes where only behaviour names it."""
    return log.item(item_id) or KnownItem(item_id, {}, 0)


def _item(one: KnownItem) -> dict[str, Any]:
    return {"item_id": one.item_id, "title": one.title, "attributes": one.attributes}


def title_of(found: KnownItem | None) -> str:
    """Its title, '' where it has none or is not described."""
    return found.title if found else ""


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _plain(attributes: dict[str, Any]) -> dict[str, str]:
    """Attributes as text: a year is no quantity."""
    return {name: ", ".join(map(str, one)) if isinstance(one, list) else str(one) for name, one in attributes.items()}


def _moment(micros: int) -> str:
    """To the second."""
    return to_iso(micros)[:19].replace("T", " ")


def _log() -> "closing[EventLog]":
    settings = Settings()
    event_log.prepare(settings.log_url)
    return closing(EventLog(settings.log_url))
