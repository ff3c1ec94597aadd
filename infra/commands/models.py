"""The commands that make versions and decide which one answers."""

import sys
from typing import Annotated

import typer

from infra.commands.options import MODELS, AsJson, policies, recipes, versions, versions_and_aliases

REFUSED = 3

Seed = Annotated[int, typer.Option(help="Equal seeds on equal events give equal models.")]


def add_to(app: typer.Typer) -> None:
    """Put the commands under their own heading of the help."""
    for name, command in (
        ("train", train),
        ("finetune", finetune),
        ("promote", promote),
        ("rollback", rollback),
        ("versions", list_versions),
        ("compare", compare),
    ):
        app.command(name, rich_help_panel=MODELS)(command)


def train(
    recipe: Annotated[
        str,
        typer.Option(
            help="What to build: tiny (a minute on two cores), small (an hour), base (an accelerator).",
            autocompletion=recipes,
        ),
    ] = "tiny",
    seed: Seed = 0,
    origins: Annotated[
        int, typer.Option(help="Also train at so many earlier moments, and report mean and spread: 0 or at least 2.")
    ] = 0,
    policy: Annotated[
        str,
        typer.Option(
            help="What its slates are drawn by: plackett-luce, greedy, epsilon or thompson.", autocompletion=policies
        ),
    ] = "plackett-luce",
    explore_budget: Annotated[
        int | None,
        typer.Option(help="Positions of one user that may explore within the days; left out: any number."),
    ] = None,
    explore_days: Annotated[float, typer.Option(help="The days that the budget is for.")] = 1.0,
    least_quality: Annotated[
        float, typer.Option(help="The least share of the best slate's worth that a slate has, 0 to 1.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Train a version from nothing on everything in the log, and register it as challenger.

    Brings new events to the lake, validates them and computes features first;
    events that break a critical expectation stop it. Runs on the platform when it
    is up, else here with Prefect and MLflow started for it.

    [bold]attune train[/bold]
    [bold]attune train --recipe small --seed 1[/bold]
    [bold]attune train --origins 4[/bold]
    [bold]attune train --policy thompson --explore-budget 20[/bold]

    Nothing changes for users until [bold]attune promote[/bold]. What is fine-tuned
    from it draws by the same policy.
    """
    from infra.commands import learning
    from models.ranking.policy_registry import Exploration

    exploration = Exploration(policy, explore_budget, explore_days, least_quality)
    learning.train(recipe, seed, origins, exploration, as_json)


def finetune(seed: Seed = 0, as_json: AsJson = False) -> None:
    """Let the champion learn from what came since, and register the version as challenger.

    It starts from the champion's weights, sees the new events and a replay of old
    ones, and leaves the last fifth of the new ones to the gates. Quicker than
    [bold]attune train[/bold], and does nothing when no event is new.

    [bold]attune finetune && attune promote[/bold]
    """
    from infra.commands import learning

    learning.finetune(seed, as_json)


def promote(
    version: Annotated[
        str | None,
        typer.Argument(help="The version to judge; by default the challenger.", autocompletion=versions),
    ] = None,
    accept_undecided: Annotated[
        bool, typer.Option("--accept-undecided", help="Take the risk of gates with too few users or events to decide.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hold a version against the gates; make it champion if all hold.

    The gates measure it on events later than it learned from, beside popularity,
    the champion and the first champion. Endpoints load a new champion within a
    second, without a failed request.

    [bold]attune promote[/bold]                        the challenger
    [bold]attune promote 7 --accept-undecided[/bold]   with few users or events

    Exit status 0: accepted (also when it is champion already), 3: refused by the
    gates.
    """
    from infra.commands import learning

    if not learning.promote(version, accept_undecided, as_json):
        sys.exit(REFUSED)


def rollback(
    version: Annotated[
        str | None,
        typer.Argument(help="A version that was champion before; by default the one before.", autocompletion=versions),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a former champion the champion again, at once and without gates.

    Without VERSION it goes back to the champion that the present one replaced. A
    second time it goes [bold]one further back[/bold]: never forward to the
    version that was just left. To return to that one, name it.

    [bold]attune rollback[/bold]      champions 1, 2, 3: back to 2; again: back to 1
    [bold]attune rollback 3[/bold]    to version 3, whatever answers now

    A version that was never champion goes through the gates: [bold]attune promote
    VERSION[/bold]. MLflow's alias [bold]previous[/bold] names what answered last
    before now, so after a roll-back the version that was left.
    """
    from infra.commands import registry

    registry.rollback(version, as_json)


def list_versions(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many, the latest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List versions: age, recipe, parent, figures, gates, and which one answers.

    [bold]attune versions[/bold]
    [bold]attune versions --json | jq .champion[/bold]
    """
    from infra.commands import registry

    registry.versions(limit, as_json)


def compare(
    a: Annotated[
        str, typer.Argument(help="A version, or champion, previous, challenger.", autocompletion=versions_and_aliases)
    ],
    b: Annotated[str, typer.Argument(help="The other one.", autocompletion=versions_and_aliases)],
    as_json: AsJson = False,
) -> None:
    """Show two versions side by side: parameters that differ, figures with their difference, gates.

    [bold]attune compare champion challenger[/bold]
    [bold]attune compare 3 7 --json[/bold]
    """
    from infra.commands import registry

    registry.compare(a, b, as_json)
