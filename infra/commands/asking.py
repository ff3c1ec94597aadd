"""`attune recommend` and `attune feedback`: the conversation with the endpoint, from a shell."""

from contextlib import closing
from shlex import join, quote

import msgspec

from attune import event_log
from attune.client import RecommendAnswer
from attune.clock import system_clock
from attune.errors import EndpointError
from attune.event_log import EventLog
from attune.row_rules import admit
from attune.settings import Settings
from infra.commands import execution, output
from infra.commands.output import Progress

LOST = {
    "features": "the feature store did not answer: the state was read from the event log, nothing is missing",
    "event_log": "the event log did not answer: the latest events of this user are missing",
}


def recommend(user_id: str, k: int, seed: int | None, as_json: bool) -> None:
    """A slate for the user, and why it is as it is."""
    settings = Settings()
    with execution.endpoint(settings, Progress(quiet=as_json)) as client:
        slate = client.recommend(user_id, k, seed=seed)
    if as_json:
        output.print_json(msgspec.to_builtins(slate))
        return
    titles = _titles(settings, [item.item_id for item in slate.items if not item.title])
    rows = [
        [item.position, item.item_id, item.title or titles.get(item.item_id, ""), item.score, item.propensity]
        for item in slate.items
    ]
    who = f"version {slate.model_version}" if slate.model_version else "popularity"
    output.table(["", "item", "title", "score", "chance"], rows, title=f"for {user_id}, by {who}", numbers=[0, 3, 4])
    for line in remarks(slate):
        output.note(line)
    if slate.slate_id and slate.items:
        command = join(["attune", "feedback", user_id, slate.items[0].item_id, "like", "--slate", slate.slate_id])
        output.say_next(f"`{command}`")


def remarks(slate: RecommendAnswer) -> list[str]:
    """What a person should know about how the slate came about."""
    found = [LOST.get(name, f"{name} did not answer") for name in slate.degraded]
    if slate.model_version is None:
        found.append("no champion answers yet, so this is what is popular: `attune train`, then `attune promote`")
    elif slate.state_position == 0 and "event_log" not in slate.degraded:
        found.append(f"nothing is known of user {slate.user_id!r} yet, so this is what is popular")
    elif slate.served_by != "champion":
        found.append("the champion knows none of the items that this user met, so this is what is popular")
    if not slate.items:
        found.append("nothing is left to recommend: the catalogue is empty, or this user has seen all of it")
    if slate.slate_id is None:
        found.append("the slate could not be logged, so there is nothing to give feedback on")
    return found


def feedback(user_id: str, item_id: str, kind: str, value: float | None, slate_id: str | None, as_json: bool) -> None:
    """An event through the endpoint; raises DataContractError for what the door would turn away, before it is sent."""
    settings = Settings()
    row = {"user_id": user_id, "item_id": item_id, "kind": kind, "value": value}
    admit("interaction", {**row, "event_timestamp": system_clock()}, system_clock)
    with execution.endpoint(settings, Progress(quiet=as_json)) as client:
        if slate_id is not None:
            taken = client.feedback(slate_id, user_id, item_id, kind, value)
            position, event_id = taken.position, taken.event_id
        else:
            answer = client.events([row])
            if answer.rejected:
                raise EndpointError(answer.rejected[0].reason, answer.rejected[0].field)
            position, event_id = answer.position, str(answer.event_ids[0])
    if as_json:
        output.print_json({"event_id": event_id, "position": position, "slate_id": slate_id, **row})
        return
    if not _titles(settings, [item_id]):
        output.note(f"no item {item_id!r} is described in the log: the event counts, but check the id (`attune items`)")
    output.console().print(
        f"taken: {user_id} {kind} {item_id}, event {event_id} at position {position:,}", markup=False
    )
    output.say_next(f"`attune recommend {quote(user_id)}` reflects it already")


def _titles(settings: Settings, item_ids: list[str]) -> dict[str, str]:
    """The titles of those items that the log describes ('' where one has none)."""
    event_log.prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        found = {item_id: log.item(item_id) for item_id in item_ids}
    return {item_id: item.title for item_id, item in found.items() if item is not None}
