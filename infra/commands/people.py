"""The commands that ask for recommendations, give feedback, and look at users and items."""

from typing import Annotated

import typer

from infra.commands.options import EVENTS, PEOPLE, AsJson, Limit, kinds


def add_to(app: typer.Typer) -> None:
    """Put the commands under their headings of the help."""
    for name, command, panel in (
        ("recommend", recommend, PEOPLE),
        ("feedback", feedback, PEOPLE),
        ("users", list_users, EVENTS),
        ("items", list_items, EVENTS),
    ):
        app.command(name, rich_help_panel=panel)(command)


def recommend(
    user: Annotated[str, typer.Argument(help="For whom; somebody unknown gets what is popular.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many items.")] = 10,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Makes the draw repeatable; every call draws anew without one.")
    ] = None,
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
    from infra.commands import asking

    asking.recommend(user, k, seed, as_json)


def feedback(
    user: Annotated[str, typer.Argument(help="Who did it.")],
    item: Annotated[str, typer.Argument(help="With which item.")],
    kind: Annotated[str, typer.Argument(help="What: like, dislike, click, rating and more.", autocompletion=kinds)],
    value: Annotated[
        float | None, typer.Option(help="What the kind asks for: stars of a rating, the share watched, seconds.")
    ] = None,
    slate: Annotated[
        str | None, typer.Option(help="The slate that showed the item, as [bold]attune recommend[/bold] named it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the endpoint what a user did; durable when the command ends well, felt at the next recommendation.

    With [bold]--slate[/bold] it is feedback on a slate, by which policies are
    judged later; without it is behaviour outside slates.

    [bold]attune feedback 257 318 like[/bold]
    [bold]attune feedback 257 318 rating --value 4.5 --slate SLATE[/bold]
    """
    from infra.commands import asking

    asking.feedback(user, item, kind, value, slate, as_json)


def list_users(
    user: Annotated[str | None, typer.Argument(help="Show this one's state instead of a list.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List who was active last, or show what is known of one user.

    Reads the event log; no server is needed.

    [bold]attune users[/bold]
    [bold]attune users 257 -n 5[/bold]    counts by kind and the latest 5 events
    """
    from infra.commands import looking

    if user is None:
        looking.users(limit, as_json)
    else:
        looking.user(user, limit, as_json)


def list_items(
    item: Annotated[str | None, typer.Argument(help="Show this one instead of a list.")] = None,
    search: Annotated[
        str, typer.Option("--search", "-s", help="Items whose title holds all these words, in any case and order.")
    ] = "",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the items with most events, find items by title, or show one.

    Reads the event log; no server is needed.

    [bold]attune items --search "lord rings"[/bold]
    [bold]attune items 4993[/bold]
    """
    from infra.commands import looking

    if item is not None and search:
        raise typer.BadParameter("give an item or words to search for, not both", param_hint="--search")
    if item is None:
        looking.items(limit, search, as_json)
    else:
        looking.item(item, as_json)
