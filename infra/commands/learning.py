"""`attune train`, `finetune` and `promote`: from the log to a version, from a version to the champion."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from attune.errors import ConfigError, ModelError, NoChampion
from infra.commands import execution, output
from infra.commands.options import MODELS, AsJson, policies, recipes, versions
from models.figures import short

if TYPE_CHECKING:
    from attune.promotions import Promotion
    from attune.settings import Settings

app = typer.Typer()

REFUSED = 3
BEHAVIOUR = ("interaction", "feedback")
NDCG = " NDCG@10"
COMPARED = {
    "champion": "the champion",
    "anchor": "the first champion",
    "elder": "an earlier champion",
    "popularity": "popularity",
}
NO_VERSION = "no version waits to be judged: make one with `attune train`"
SIZES = ("events", "items", "parameters")

Seed = Annotated[int, typer.Option(help="Equal seeds on equal events give equal models.")]


@app.command(rich_help_panel=MODELS)
def train(
    recipe: Annotated[
        str,
        typer.Option(
            help="auto (what fits the data), tiny (a minute), mini (minutes), small (an hour), base (an accelerator).",
            autocompletion=recipes,
        ),
    ] = "auto",
    seed: Seed = 0,
    origins: Annotated[
        int, typer.Option(help="Also train at so many earlier moments (at least 2): mean and spread.")
    ] = 0,
    policy: Annotated[
        str, typer.Option(help="plackett-luce, greedy, epsilon or thompson.", autocompletion=policies)
    ] = "plackett-luce",
    explore_budget: Annotated[
        int | None, typer.Option(help="How many positions of a user may explore; by default any number.")
    ] = None,
    explore_days: Annotated[float, typer.Option(help="The days of that budget.")] = 1.0,
    least_quality: Annotated[float, typer.Option(help="The least share of the best slate's worth, 0 to 1.")] = 0.0,
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
    from models.ranking.policy_registry import Exploration

    Exploration(policy, explore_budget, explore_days, least_quality)  # refuses wrong values before anything starts
    draws = {"policy": policy, "explore_budget": explore_budget, "explore_days": explore_days}
    settings = execution.settings()
    if origins == 1 or origins < 0:
        raise ConfigError(f"--origins {origins}: a spread needs at least 2 moments; 0 leaves it out")
    _demand_events(settings)
    with execution.runner(settings, output.Progress(quiet=as_json)) as runner:
        result = runner.run("train", recipe=recipe, seed=seed, origins=origins, least_quality=least_quality, **draws)
    if as_json:
        output.print_json(result)
    else:
        _show_version(result, f"trained from nothing by the recipe {result['figures'].get('recipe', recipe)}")


@app.command(rich_help_panel=MODELS)
def finetune(seed: Seed = 0, as_json: AsJson = False) -> None:
    """Let the champion learn from what came since, and register the version as challenger.

    It starts from the champion's weights, sees the new events and a replay of old
    ones, and leaves the last fifth of the new ones to the gates. Quicker than
    [bold]attune train[/bold], and does nothing when no event is new.

    [bold]attune finetune && attune promote[/bold]
    """
    settings = execution.settings()
    _demand_events(settings)
    champion = _champion(settings)
    if champion is None:
        raise NoChampion("there is no champion to fine-tune yet: `attune train` makes a version, `attune promote` it")
    with execution.runner(settings, output.Progress(quiet=as_json)) as runner:
        result = runner.run("finetune", seed=seed, at_least=1)
    if as_json:
        output.print_json(result)
    elif result["version"] is None:
        output.console().print("nothing new to learn from: no event has come since the latest version was made")
    else:
        _show_version(result, f"fine-tuned from version {champion.version}")


@app.command(rich_help_panel=MODELS)
def promote(
    version: Annotated[str | None, typer.Argument(help="By default the challenger.", autocompletion=versions)] = None,
    accept_undecided: Annotated[
        bool, typer.Option("--accept-undecided", help="Accept gates that the evidence does not decide.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hold a version against the gates; make it champion if all hold.

    The gates measure it on events later than it learned from, beside popularity,
    the champion and the first champion. Endpoints load a new champion within
    seconds, without a failed request.

    [bold]attune promote[/bold]                        the challenger
    [bold]attune promote 7 --accept-undecided[/bold]   where the evidence does not decide

    Exit status 0: accepted (also when it is champion already), 3: refused by the
    gates, or undecided.
    """
    settings = execution.settings()
    if not execution.has_versions(settings):
        raise ModelError(NO_VERSION)
    with execution.runner(settings, output.Progress(quiet=as_json)) as runner:
        chosen = version or _challenger(runner.settings)
        result = runner.run("promote", version=chosen, accept_undecided=accept_undecided)
    if as_json:
        output.print_json(result)
    elif "cannot_be_judged" in result:
        for line in result["corrected"]:
            output.note(line)
        words = Text(f"version {result['version']} was refused: it cannot be judged", style="bold red")
        output.console().print(words.append(f"; {result['cannot_be_judged']}", style="not bold"))
        output.say_next("`attune train` or `attune finetune` makes another version")
    else:
        _show_judgement(result, _champion(settings))
    if not result["accepted"]:
        sys.exit(REFUSED)


def _champion(settings: "Settings") -> "Promotion | None":
    with execution.promotions(settings) as table:
        return table.champion(settings.endpoint)


def _demand_events(settings: "Settings") -> None:
    """Raises DataContractError when the log holds too few events to learn from, before anything is started."""
    from models.learning.dataset import demand_enough

    with execution.event_log(settings) as log:
        counts = log.counts()
    demand_enough(sum(counts.get(name, 0) for name in BEHAVIOUR))


def _challenger(settings: "Settings") -> str:
    """The version that waits to be judged. Raises ModelError that says what can be done when none does."""
    from models.registry import CHALLENGER, Registry

    challenger = Registry(settings.mlflow_url).aliases().get(CHALLENGER)
    if challenger is not None:
        return challenger
    champion = _champion(settings)
    if champion is None:
        raise ModelError(NO_VERSION)
    raise ModelError(
        f"no version waits to be judged; version {champion.version} is champion. Make one with `attune finetune` or "
        "`attune train`, or name one that is there (`attune versions`): `attune promote VERSION`"
    )


def _show_version(result: dict[str, Any], how: str) -> None:
    """What was made, how good it is on validation beside its parts and the baselines, and what comes next."""
    figures = result["figures"]
    size = [f"{figures[name]:,} {name}" for name in SIZES if name in figures]
    output.console().print(Text(f"version {result['version']}", style="bold").append(f" {how}", style="not bold"))
    output.console().print(Text(f"{', '.join(size)}; it waits as challenger"))
    scores = {name.removesuffix(NDCG): value for name, value in figures.items() if name.endswith(NDCG)}
    if scores:
        names = {name: "the version (hybrid)" if name == "hybrid" else f"{name} alone" for name in scores}
        rows = [[names[name], scores[name]] for name in sorted(scores, key=lambda name: -float(scores[name]))]
        output.table(["on validation", "NDCG@10, liked"], rows, numbers=[1])
    output.say_next("`attune promote` holds it against the gates; all figures: `attune versions`")


def _show_judgement(result: dict[str, Any], champion: "Promotion | None") -> None:
    """The gates, the figures of the version and of those whom the gates compare it with, and the decision."""
    version, hold_out = result["version"], result["hold_out"]
    gates = [
        [
            gate["name"].replace("_", " "),
            short(gate["measured"]),
            "" if gate["low"] is None else f"{short(gate['low'])} to {short(gate['high'])}",
            short(gate["limit"]),
            output.verdict(gate["verdict"]),
        ]
        for gate in result["gates"]
    ]
    title = f"version {version} on {hold_out['events']:,} later events of {hold_out['users']:,} users"
    output.table(["gate", "measured", "95 %", "limit", "verdict"], gates, title=title, numbers=[1, 2, 3])
    compared = {title: result["baselines"].get(name) for name, title in COMPARED.items()}
    figures = {f"version {version}": result["metrics"]} | {name: row for name, row in compared.items() if row}
    part = result["part"]
    liked = ", liked" if part == "positive" else ""
    rows = [
        [name, row[part]["ndcg@10"], row[part]["hr@10"], *(row["all"][key] for key in ("ndcg@10", "coverage@10"))]
        for name, row in figures.items()
    ]
    head = ["recommender", f"NDCG@10{liked}", f"HR@10{liked}", "NDCG@10, all", "coverage@10"]
    output.table(head, rows, numbers=[1, 2, 3, 4])
    for line in result["corrected"]:
        output.note(line)
    output.console().print(_decision(result, champion))
    if advice := _advice(result, champion):
        output.say_next(advice)


def _decision(result: dict[str, Any], champion: "Promotion | None") -> Text:
    version = result["version"]
    if result["promoted"]:
        before = f"; version {champion.previous} was it before" if champion and champion.previous else ""
        return Text(f"version {version} is champion now{before}", style="bold green")
    if result["accepted"]:
        return Text(f"version {version} is champion already and still meets its gates: nothing changed", style="bold")
    keeping = ", ".join(name.replace("_", " ") for name in result["refused_by"] or result["undecided"])
    if result["decision"] == "undecided":
        words = Text(f"version {version} is undecided: the evidence does not decide {keeping}", style="bold yellow")
    else:
        words = Text(f"version {version} was refused by: {keeping or 'nothing speaks for it'}", style="bold red")
    if champion is not None and champion.version == version:
        words.append("; it is champion all the same, and goes on answering", style="not bold")
    return words


def _advice(result: dict[str, Any], champion: "Promotion | None") -> str:
    if result["accepted"]:
        return "`attune recommend USER` shows what it recommends; `attune rollback` goes back, without gates"
    kept_out_by = result["refused_by"] or result["undecided"]
    keeping = [gate for gate in result["gates"] if gate["name"] in kept_out_by]
    notes = "; ".join(f"{gate['name'].replace('_', ' ')}: {gate['note']}" for gate in keeping)
    if result["decision"] == "undecided":
        if any(gate["adverse"] for gate in keeping):
            return f"{notes}. The figure lies on the wrong side, so --accept-undecided does not help: wait for more"
        risks = [
            f"{gate['name'].replace('_', ' ')} may truly be {short(gate['low'])} (limit {short(gate['limit'])})"
            for gate in keeping
            if gate["low"] is not None
        ]
        risk = f" that {', '.join(risks)}" if risks else ""
        return f"{notes}. To take the risk{risk}: `attune promote {result['version']} --accept-undecided`"
    if champion is not None and champion.version == result["version"]:
        return "`attune rollback` goes back to the champion before it"
    return f"{notes}. Its page in MLflow has everything; `attune train` or `attune finetune` makes another version"
