"""`attune recommend`, `feedback`, `users` and `items`: the endpoint from a shell, and what the event log knows.

`recommend` and `feedback` ask an endpoint; `users` and `items` read the log without any server.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from shlex import join, quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attune.clock import ORDER_ONLY_WORDS, shown_time, system_clock, to_iso
from attune.errors import DataContractError, EndpointError
from infra.commands import execution, output
from infra.commands.options import EVENTS, PEOPLE, AsJson, Limit, kinds

if TYPE_CHECKING:
    from attune.event_log import EventLog
    from attune.schemas import RecommendAnswer
    from attune.settings import Settings

app = typer.Typer()

DEGRADED = {
    "features": "the feature store did not answer: the state was read from the event log, nothing is missing",
    "event_log": "the event log did not answer: the latest events of this user are missing",
}


@app.command(rich_help_panel=PEOPLE)
def recommend(
    user: Annotated[str, typer.Argument(help="An unknown one gets what is popular.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many items.")] = 10,
    seed: Annotated[int | None, typer.Option(min=0, help="Makes the draw repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the endpoint for a slate.

    Asks the one that runs (the platform's, or at ATTUNE_SERVING_HOST and
    ATTUNE_SERVING_PORT); where none does, one is started for this command, which
    takes some seconds. [bold]chance[/bold] is the probability with which an item
    was drawn here, given those above it.

    [bold]attune recommend 257[/bold]
    [bold]attune recommend 257 -k 5 --seed 7[/bold]    the same draw again
    """
    import msgspec

    settings = execution.settings()
    with execution.endpoint(settings, output.Progress(quiet=as_json)) as client:
        slate = client.recommend(user, k, seed=seed)
    if as_json:
        output.print_json(msgspec.to_builtins(slate))
        return
    titles = _titles(settings, [item.item_id for item in slate.items if not item.title])
    rows = [
        [item.position, item.item_id, item.title or titles.get(item.item_id, ""), item.score, item.propensity]
        for item in slate.items
    ]
    recommender = f"version {slate.model_version}" if slate.model_version else "popularity"
    head, title = ["", "item", "title", "score", "chance"], f"for {user}, by {recommender}"
    output.table(head, rows, title=title, numbers=[0, 3, 4])
    for line in _remarks(slate):
        output.note(line)
    if slate.slate_id and slate.items:
        command = join(["attune", "feedback", user, slate.items[0].item_id, "like", "--slate", slate.slate_id])
        output.say_next(f"`{command}`")


def _remarks(slate: "RecommendAnswer") -> list[str]:
    """What a person should know about how the slate came about."""
    remarks = [DEGRADED.get(name, f"{name} did not answer") for name in slate.degraded]
    if slate.model_version is None:
        remarks.append("no champion answers yet, so this is what is popular: `attune train`, then `attune promote`")
    elif slate.state_position == 0 and "event_log" not in slate.degraded:
        remarks.append(f"nothing is known of user {slate.user_id!r} yet, so this is what is popular")
    elif slate.served_by != "champion":
        remarks.append("the champion knows none of the items that this user met, so this is what is popular")
    if not slate.items:
        remarks.append("nothing is left to recommend: the catalogue is empty, or this user has seen all of it")
    if slate.slate_id is None:
        remarks.append("the slate could not be logged, so there is nothing to give feedback on")
    return remarks


@app.command(rich_help_panel=PEOPLE)
def feedback(
    user: Annotated[str, typer.Argument(help="Who did it.")],
    item: Annotated[str, typer.Argument(help="With which item.")],
    kind: Annotated[str, typer.Argument(help="like, dislike, click, rating and more.", autocompletion=kinds)],
    value: Annotated[float | None, typer.Option(help="What the kind asks for: stars, share or seconds.")] = None,
    slate: Annotated[str | None, typer.Option(help="The slate, as [bold]attune recommend[/bold] named it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the endpoint what a user did. It is durable when the command ends; the next recommendation reflects it.

    With [bold]--slate[/bold] it is feedback on a slate, by which policies are
    judged later; without it is behaviour outside slates.

    [bold]attune feedback 257 318 like[/bold]
    [bold]attune feedback 257 318 rating --value 4.5 --slate SLATE[/bold]
    """
    from attune.row_rules import admit, one_spelling

    settings, user, item = execution.settings(), one_spelling(user), one_spelling(item)
    row = {"user_id": user, "item_id": item, "kind": kind, "value": value}
    admit("interaction", {**row, "event_timestamp": system_clock()}, system_clock)  # refused before anything starts
    with execution.endpoint(settings, output.Progress(quiet=as_json)) as client:
        if slate is not None:
            taken = client.feedback(slate, user, item, kind, value)
            position, event_id = taken.position, taken.event_id
        else:
            answer = client.events([row])
            if answer.rejected:
                raise EndpointError(answer.rejected[0].reason, answer.rejected[0].field)
            position, event_id = answer.position, str(answer.event_ids[0])
    if as_json:
        output.print_json({"event_id": event_id, "position": position, "slate_id": slate, **row})
        return
    if not _titles(settings, [item]):
        output.note(f"no item {item!r} is described in the log: the event counts, but check the id (`attune items`)")
    output.console().print(f"taken: {user} {kind} {item}, event {event_id} at position {position:,}", markup=False)
    output.say_next(f"`attune recommend {quote(user)}` reflects it already")


def _titles(settings: "Settings", item_ids: Sequence[str]) -> dict[str, str]:
    """The titles of those items that the log describes ('' where one has none)."""
    with execution.event_log(settings) as log:
        return {item_id: item.title for item_id in item_ids if (item := log.item(item_id)) is not None}


@app.command(rich_help_panel=EVENTS)
def users(
    user: Annotated[str | None, typer.Argument(help="Show only this one.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List who was active last, or show what is known of one user.

    Reads the event log; no server is needed.

    [bold]attune users[/bold]
    [bold]attune users 257 -n 5[/bold]    counts by kind and the latest 5 events
    """
    from attune.row_rules import one_spelling

    if user is not None:
        _show_user(one_spelling(user), limit, as_json)
        return
    with execution.event_log() as log:
        active = log.users(limit)
    if as_json:
        output.print_json({"users": [vars(row) | {"logged_at": to_iso(row.logged_at)} for row in active]})
        return
    if not active:
        output.say_next("nobody yet: `attune import tabular --help` brings events in")
        return
    now = system_clock()
    rows = [[row.user_id, f"{output.ago(row.logged_at, now)} ago", row.position] for row in active]
    output.table(["user", "last event logged", "position"], rows, title="active last", numbers=[1, 2])
    output.say_next(f"`attune users {quote(active[0].user_id)}` shows what is known of one")


def _show_user(user_id: str, limit: int, as_json: bool) -> None:
    """One user's state: the same that recommendations are made from. Raises DataContractError for an unknown user."""
    from attune.events import Behaviour
    from attune.user_state import UserState, fold

    with execution.event_log() as log:
        tail = log.tail(user_id, 0)
        state = fold(UserState(user_id), tail)
        if state.position == 0:
            raise DataContractError(
                f"no event names user {user_id!r}: `attune users` lists who was active last; "
                "recommendations for somebody unknown are what is popular"
            )
        latest = list(reversed(state.recent))[:limit]
        described = {event.item_id: log.item(event.item_id) for event in latest}
    counts = Counter(row.event.kind for row in tail if isinstance(row.event, Behaviour)).most_common()
    times = {"first": state.first_time, "last": state.last_time}
    if as_json:
        values = {
            "user_id": user_id,
            "position": state.position,
            "events": state.events,
            "kinds": dict(counts),
            "seen": len(state.seen),
            **{f"{name}_time": None if time is None else shown_time(time) for name, time in times.items()},
            "attributes": state.attributes,
            "recent": [event._asdict() | {"time": shown_time(event.time)} for event in latest],
        }
        output.print_json(values)
        return
    values = {"events": state.events, "kinds": _counted(counts), "items seen": len(state.seen)}
    values |= {name: _moment(time, " UTC") for name, time in times.items() if time is not None}
    output.facts(f"user {user_id}", values | _plain(state.attributes))
    rows = [
        [
            _moment(event.time),
            event.kind,
            "" if event.value is None else f"{event.value:g}",
            event.item_id,
            item.title if (item := described[event.item_id]) else "",
            "taken back" * event.retracted,
        ]
        for event in latest
    ]
    output.table(["when (UTC)", "kind", "value", "item", "title", ""], rows, title="latest events", numbers=[2])
    output.say_next(f"`attune recommend {quote(user_id)}`")


@app.command(rich_help_panel=EVENTS)
def items(
    item: Annotated[str | None, typer.Argument(help="Show only this one.")] = None,
    search: Annotated[str, typer.Option("--search", "-s", help="Words of the title, in any case and order.")] = "",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the items that most people like, find items by title, or show one.

    Reads the event log; no server is needed. The listing counts as popularity does before the first
    promotion: each person once an item, by reward, less what was taken back, in the latest 200,000 events.

    [bold]attune items --search "lord rings"[/bold]
    [bold]attune items 4993[/bold]
    """
    from attune.event_log import KnownItem
    from attune.row_rules import one_spelling

    if item is not None and search:
        raise typer.BadParameter("give an item or words to search for, not both", param_hint="--search")
    if item is not None:
        _show_item(one_spelling(item), as_json)
        return
    with execution.event_log() as log:
        counts = {} if search else _liked(log, limit)
        listed = log.items(limit, search) if search else [log.item(name) or KnownItem(name, {}, 0) for name in counts]
    if as_json:
        rows = [
            {"item_id": row.item_id, "title": row.title, "attributes": row.attributes}
            | ({} if search else {"people": round(counts[row.item_id], 3)})
            for row in listed
        ]
        output.print_json({"items": rows})
        return
    if not listed:
        nothing = f"no title holds {search!r}" if search else "no item has any event yet"
        output.console().print(nothing, markup=False)
        output.say_next("`attune items --search WORDS` finds titles, `attune import tabular --help` brings items in")
        return
    if search:
        output.table(["item", "title"], [[row.item_id, row.title] for row in listed], title=f"titles with {search!r}")
    else:
        cells = [[row.item_id, row.title, f"{counts[row.item_id]:,.1f}"] for row in listed]
        output.table(["item", "title", "people"], cells, title="liked by most people", numbers=[2])
    output.say_next(f"`attune items {quote(listed[0].item_id)}` shows one, `attune items --search WORDS` finds titles")


def _liked(log: "EventLog", limit: int) -> dict[str, float]:
    """The items that most people like, with how many do, by their rewards."""
    from attune.influence import PopularityCounts

    counts = PopularityCounts(log)
    while counts.advance()[1]:
        pass
    return dict(counts.most(limit)[:limit])


def _show_item(item_id: str, as_json: bool) -> None:
    """What is known of one item. Raises DataContractError for one that no event names."""
    with execution.event_log() as log:
        item, counts = log.item(item_id), log.kinds_with(item_id)
    if item is None and not counts:
        raise DataContractError(f"no event names item {item_id!r}: `attune items --search WORDS` finds items by title")
    if as_json:
        values = {"item_id": item_id, "attributes": item.attributes if item else None}
        output.print_json({**values, "events": sum(counts.values()), "kinds": counts})
        return
    described = _plain(item.attributes) if item else {"described": "by no event; only behaviour names it"}
    output.facts(f"item {item_id}", {**described, "events": _counted(counts.items()) or "none"})


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in counts)


def _plain(attributes: dict[str, Any]) -> dict[str, str]:
    """Attributes as text: a year is no quantity, a vector no text."""
    from attune.events import is_vector

    def text(value: Any) -> str:
        if is_vector(value):
            return f"a vector of {len(value):,} numbers"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    return {name: text(value) for name, value in attributes.items()}


def _moment(micros: int, zone: str = "") -> str:
    moment = shown_time(micros)
    return moment if moment == ORDER_ONLY_WORDS else moment[:19].replace("T", " ") + zone
