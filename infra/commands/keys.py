"""`attune keys`: who may ask the endpoint."""

from typing import Annotated

import typer

from attune.api_keys import SCOPES
from infra.commands.options import SERVERS, AsJson

keys = typer.Typer(
    help="Make, list and revoke the API keys with which people and services ask the endpoint.\n\nKeys lie in the event"
    " log's database, as digests; no server is needed.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def add_to(app: typer.Typer) -> None:
    """Put the group under its heading of the help."""
    app.add_typer(keys, name="keys", rich_help_panel=SERVERS)


def scopes() -> list[tuple[str, str]]:
    """Every scope with its meaning, for completion."""
    return list(SCOPES.items())


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what the key is for, as logs and lists will name it.")],
    scope: Annotated[
        list[str],
        typer.Option(
            help="What it opens: recommend, feedback, items, metrics, or admin for all; may be given again.",
            autocompletion=scopes,
        ),
    ],
    rate: Annotated[
        float | None,
        typer.Option(min=0, help="Requests a second, 0 for any number; by default ATTUNE_RATE_PER_SECOND."),
    ] = None,
    burst: Annotated[
        int | None, typer.Option(min=1, help="Requests that may come at once; by default those of one second.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once.

    It works at once. Only its digest is kept: a key that was lost is revoked and
    replaced.

    [bold]attune keys create shop --scope recommend --scope feedback[/bold]
    [bold]attune keys create crawler --scope recommend --rate 5 --burst 20[/bold]
    [bold]attune keys create prometheus --scope metrics --json | jq -r .key[/bold]
    """
    from infra.commands import granting

    granting.create(name, scope, rate, burst, as_json)


@keys.command(name="list")
def list_keys(
    revoked: Annotated[bool, typer.Option("--revoked", help="Also those that were revoked.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the keys that hold: names, ids, scopes and limits.

    The id is the part of a key that is no secret: `attune_ID_...`.

    [bold]attune keys list[/bold]
    [bold]attune keys list --revoked --json[/bold]
    """
    from infra.commands import granting

    granting.show(revoked, as_json)


@keys.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name, as [bold]attune keys list[/bold] shows it.")],
    as_json: AsJson = False,
) -> None:
    """End a key: within 5 seconds no endpoint takes it any more. Its name is free again.

    [bold]attune keys revoke crawler[/bold]
    """
    from infra.commands import granting

    granting.revoke(name, as_json)
