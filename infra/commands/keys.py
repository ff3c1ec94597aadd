"""`attune keys create`, `list` and `revoke`: who may ask the endpoint."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from attune.clock import system_clock, to_iso
from infra.commands import execution, output
from infra.commands.options import SERVERS, AsJson, scopes

if TYPE_CHECKING:
    from attune.api_keys import ApiKey

app = typer.Typer()
keys = typer.Typer(
    help="Make, list and revoke the API keys with which people and services ask the endpoint.\n\nKeys lie in the event"
    " log's database, as digests; no server is needed.",
    no_args_is_help=True,
)
app.add_typer(keys, name="keys", rich_help_panel=SERVERS)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Who the key is for; logs and lists show it.")],
    scope: Annotated[
        list[str],
        typer.Option(help="recommend, feedback, items, metrics, or admin for all; repeatable.", autocompletion=scopes),
    ],
    rate: Annotated[
        float | None, typer.Option(min=0, help="Requests a second, 0: any; by default ATTUNE_RATE_PER_SECOND.")
    ] = None,
    burst: Annotated[int | None, typer.Option(min=1, help="Requests at once; by default those of one second.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once.

    It works at once. Only its digest is kept: a key that was lost is revoked and
    replaced.

    [bold]attune keys create shop --scope recommend --scope feedback[/bold]
    [bold]attune keys create crawler --scope recommend --rate 5 --burst 20[/bold]
    [bold]attune keys create prometheus --scope metrics --json | jq -r .key[/bold]
    """
    with execution.api_keys() as table:
        text, key = table.create(name, scope, rate, burst)
    if as_json:
        output.print_json({"key": text, **_described(key)})
        return
    output.facts(f"key {name}", {"scopes": sorted(key.scopes), "limit": _limit(key)})
    output.console().print(text, soft_wrap=True)
    output.note("this is the only time that it is shown: put it where secrets are kept")
    if not execution.settings().asks_for_keys:
        output.note("the endpoint of these settings asks for no keys: ATTUNE_API_KEYS=on makes it ask")


@keys.command(name="list")
def list_keys(
    revoked: Annotated[bool, typer.Option("--revoked", help="Also revoked ones.")] = False, as_json: AsJson = False
) -> None:
    """List the keys that hold: names, ids, scopes and limits.

    The id is the part of a key that is no secret: `attune_ID_...`.

    [bold]attune keys list[/bold]
    [bold]attune keys list --revoked --json[/bold]
    """
    with execution.api_keys() as table:
        listed = table.every() if revoked else table.active()
    if as_json:
        output.print_json({"keys": [_described(key) for key in listed]})
        return
    if not listed:
        output.say_next("no key yet: `attune keys create NAME --scope recommend --scope feedback`")
        return
    now = system_clock()
    rows = [
        [key.name, key.key_id, " ".join(sorted(key.scopes)), _limit(key), f"{output.ago(key.created_at, now)} ago"]
        + ([f"{output.ago(key.revoked_at, now)} ago" if key.revoked_at else ""] if revoked else [])
        for key in listed
    ]
    head = ["name", "id", "opens", "limit", "made", *(["revoked"] if revoked else [])]
    output.table(head, rows, title="API keys", unbroken=[0, 1])


@keys.command()
def revoke(
    name: Annotated[str, typer.Argument(help="As [bold]attune keys list[/bold] shows it.")], as_json: AsJson = False
) -> None:
    """End a key: within 5 seconds no endpoint takes it any more. Its name is free again.

    [bold]attune keys revoke crawler[/bold]
    """
    from attune.api_keys import REVOKED_WITHIN_SECONDS

    with execution.api_keys() as table:
        key = table.revoke(name)
    if as_json:
        output.print_json({**_described(key), "ends_within_seconds": REVOKED_WITHIN_SECONDS})
        return
    output.console().print(
        f"revoked: {name} ({key.key_id}); no endpoint takes it after {REVOKED_WITHIN_SECONDS:g} seconds", markup=False
    )


def _described(key: "ApiKey") -> dict[str, Any]:
    return {
        "name": key.name,
        "id": key.key_id,
        "scopes": sorted(key.scopes),
        "rate": key.rate,
        "burst": key.burst,
        "created_at": to_iso(key.created_at),
        "revoked_at": None if key.revoked_at is None else to_iso(key.revoked_at),
    }


def _limit(key: "ApiKey") -> str:
    if key.rate is None:
        return "as set"
    if not key.rate:
        return "none"
    return f"{key.rate:g} a second" + (f", {key.burst} at once" if key.burst else "")
