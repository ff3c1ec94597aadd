"""`attune versions`, `compare` and `rollback`: the registered versions, how two differ, and the way back."""

import contextlib
import getpass
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from attune.clock import system_clock, to_iso
from attune.errors import ModelError
from infra.commands import execution, output
from infra.commands.options import MODELS, AsJson, versions_and_aliases
from infra.commands.options import versions as known_versions
from models.figures import short

if TYPE_CHECKING:
    from models.registry import Registry

app = typer.Typer()

HEADLINE = {
    "hold-out NDCG@10": ("holdout/positive/ndcg_at_10", "holdout/all/ndcg_at_10"),
    "hold-out HR@10": ("holdout/positive/hr_at_10", "holdout/all/hr_at_10"),
    "hold-out coverage@10": ("holdout/all/coverage_at_10",),
    "validation NDCG@10": ("validation/hybrid/ndcg_at_10_positive", "validation/hybrid/ndcg_at_10"),
}
"""The figures that tell at a glance how good a version is; those of the hold-out are there once it was judged.

Of the metrics named the first that the version has: over liked targets; where nobody liked anything, over all."""
GATE = "gate."
SHOWN_METRICS = (
    "holdout/positive/",
    "holdout/all/",
    "validation/hybrid/",
)  # the metrics that a table compares; JSON has them all
NO_VERSION = "no version yet: `attune train` makes the first"
DESCRIPTION = {"age": "created_at", "from": "parent", "learned from positions": "window", "aliases": "aliases"}


@dataclass(frozen=True)
class Version:
    """One version: ``created_at`` in microseconds, ``aliases`` as MLflow has them now, ``gates`` name -> verdict.

    ``accepted`` is None for a version that was never judged, ``cannot_be_judged`` says why it could not be (None: it
    could, or was not yet); ``headline`` holds those of HEADLINE that it has.
    """

    version: str
    created_at: int
    aliases: tuple[str, ...]
    recipe: str
    parent: str | None
    window: str
    accepted: bool | None
    cannot_be_judged: str | None
    gates: dict[str, str]
    headline: dict[str, float]
    params: dict[str, str]
    metrics: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the whole of parameters and metrics, as JSON values."""
        values = {name: value for name, value in asdict(self).items() if name not in ("params", "metrics")}
        return values | {"created_at": to_iso(self.created_at)}


def registered(registry: "Registry", names: Iterable[str] | None = None, limit: int | None = None) -> list[Version]:
    """The versions of these numbers or aliases in their order; without names the latest ``limit``, the last first.

    Raises ModelError for a version that there is not.
    """
    from models.registry import UNJUDGED

    aliases, rows = registry.aliases(), registry.versions()
    if names is None:
        rows = rows[:limit]
    else:
        known = {row["version"]: row for row in rows}
        rows = []
        for name in names:
            number = aliases.get(name, name)
            if number not in known:
                there = ", ".join([*aliases, *known]) or "none yet"
                raise ModelError(f"there is no version {name!r} in the registry; there are: {there}")
            rows.append(known[number])
    recorded = registry.recorded([row["run_id"] for row in rows if row["run_id"]])
    versions = []
    for row in rows:
        tags = row["tags"]
        params, metrics = recorded.get(row["run_id"], ({}, {}))
        version = Version(
            version=row["version"],
            created_at=row["created_at"],
            aliases=tuple(name for name, version in aliases.items() if version == row["version"]),
            recipe=tags.get("recipe", ""),
            parent=tags.get("parent"),
            window=tags.get("window", ""),
            accepted={"true": True, "false": False}.get(tags.get("accepted", "")),
            cannot_be_judged=tags.get(UNJUDGED),
            gates={name.removeprefix(GATE): text for name, text in tags.items() if name.startswith(GATE)},
            headline=_headline(metrics),
            params=params,
            metrics=metrics,
        )
        versions.append(version)
    return versions


def _headline(metrics: dict[str, float]) -> dict[str, float]:
    nobody_liked = metrics.get("holdout/positive/events") == 0
    known = {name for name in metrics if not (nobody_liked and name.startswith("holdout/positive/"))}
    chosen = {title: next((name for name in names if name in known), None) for title, names in HEADLINE.items()}
    return {title: metrics[name] for title, name in chosen.items() if name is not None}


@app.command("versions", rich_help_panel=MODELS)
def list_versions(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many, the latest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List versions: age, recipe, parent, figures, gates, and which one answers.

    [bold]attune versions[/bold]
    [bold]attune versions --json | jq .champion[/bold]
    """
    from models.registry import Registry
    from models.rollback import ALL, stack

    settings = execution.settings()
    versions: list[Version] = []
    if execution.has_versions(settings):
        with execution.registry(settings, output.Progress(quiet=as_json)) as reached:
            versions = registered(Registry(reached.mlflow_url), limit=limit)
    with execution.promotions(settings) as table:
        champions = stack(table.history(settings.endpoint, ALL))
    champion = champions[-1] if champions else None
    back_to = champions[-2] if len(champions) > 1 else None
    if as_json:
        rows = [version.as_dict() | {"champion": version.version == champion} for version in versions]
        output.print_json({"champion": champion, "rollback_to": back_to, "versions": rows})
        return
    if not versions:
        output.console().print(NO_VERSION)
        return
    now = system_clock()
    head = ["version", "age", "recipe", "from", "validation", "hold-out", "gates"]
    output.table(head, [_row(version, champion, now) for version in versions], numbers=[1, 4, 5], unbroken=[0])
    legend = "[dim]★ answers now. validation and hold-out: NDCG@10 over liked items, each of its own time[/]"
    output.console().print(legend)
    challengers = [version.version for version in versions if "challenger" in version.aliases]
    advice = [f"`attune promote` judges version {challengers[0]}"] if challengers else []
    if champion and len(versions) > 1:
        other = challengers[0] if challengers else next(row.version for row in versions if row.version != champion)
        advice.append(f"`attune compare {champion} {other}`")
    if back_to:
        advice.append(f"`attune rollback` goes back to version {back_to}")
    output.say_next(", ".join(advice) or "`attune finetune` learns from newer events")


def _row(version: Version, champion: str | None, now: int) -> list[Any]:
    names = " ".join([version.version, *version.aliases])
    verdicts = list(version.gates.values())
    if version.accepted is None:
        gates = Text("not judged", style="dim")
    elif version.cannot_be_judged:
        gates = Text("cannot be judged", style=output.VERDICTS["fail"])
    else:
        counted = [(verdicts.count(word), word) for word in output.VERDICTS]
        gates = Text("\n").join(
            Text(f"{number} {word}", style=output.VERDICTS[word]) for number, word in counted if number
        )
    return [
        Text(f"★ {names}", style="bold green") if version.version == champion else names,
        output.ago(version.created_at, now),
        version.recipe,
        version.parent or "nothing",
        version.headline.get("validation NDCG@10"),
        version.headline.get("hold-out NDCG@10"),
        gates,
    ]


@app.command(rich_help_panel=MODELS)
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
    from models.registry import Registry

    settings = execution.settings()
    if not execution.has_versions(settings):
        raise ModelError(f"there is {NO_VERSION}")
    with execution.registry(settings, output.Progress(quiet=as_json)) as reached:
        first, second = registered(Registry(reached.mlflow_url), [a, b])
    pairs = {name: (first.params.get(name), second.params.get(name)) for name in first.params | second.params}
    params = {name: pair for name, pair in sorted(pairs.items()) if pair[0] != pair[1]}
    shared = sorted(first.metrics.keys() & second.metrics.keys())
    metrics = {name: (first.metrics[name], second.metrics[name]) for name in shared}
    gates = {name: (first.gates.get(name), second.gates.get(name)) for name in first.gates | second.gates}
    if as_json:
        values = {"a": first.as_dict(), "b": second.as_dict(), "params": params}
        differences = {name: {"a": x, "b": y, "difference": y - x} for name, (x, y) in metrics.items()}
        output.print_json({**values, "metrics": differences, "gates": gates})
        return
    names = [f"version {first.version}", f"version {second.version}"]
    descriptions = [[title, _text(first, name), _text(second, name)] for title, name in DESCRIPTION.items()]
    output.table(["", *names], descriptions)
    if params:
        output.table(["parameter that differs", *names], [[name, *pair] for name, pair in params.items()])
    else:
        output.console().print("[dim]no parameter differs[/]")
    figures = []
    for path, (x, y) in metrics.items():
        if path.startswith(SHOWN_METRICS):  # such as holdout/positive/hr_at_10
            window, part, name = path.split("/")
            liked = ", liked" if part == "positive" else ""
            title = f"{window} {name.replace('_at_', '@').replace('_', ' ')}{liked}"
            figures.append([title, x, y, f"{y - x:+.4f}"])
    if figures:
        output.table(["metric", *names, "difference"], figures, numbers=[1, 2, 3])
    if gates:
        verdicts = [[name.replace("_", " "), _gate(first, name), _gate(second, name)] for name in gates]
        output.table(["gate", *names], verdicts)
    output.console().print("[dim]hold-out figures compare only where both were judged on the same events[/]")


def _text(version: Version, name: str) -> str:
    if name == "created_at":
        return output.ago(version.created_at, system_clock())
    if name == "parent":
        return f"version {version.parent}" if version.parent else "nothing"
    return output.readable(getattr(version, name)) or "-"


def _gate(version: Version, name: str) -> Text:
    measured = version.metrics.get(f"gate/{name}")
    words = output.verdict(version.gates.get(name, "not judged"))
    return words if measured is None else words.append(f"  {short(measured)}", style="dim")


@app.command(rich_help_panel=MODELS)
def rollback(
    version: Annotated[
        str | None, typer.Argument(help="A former champion; by default the one before.", autocompletion=known_versions)
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
    from models.registry import Registry
    from models.rollback import rollback, target

    settings, notes, actor = execution.settings(), list[str](), socket.gethostname()
    with execution.promotions(settings) as table:
        target(table, settings.endpoint, version)  # nothing is started where there is nothing to go back to
        with contextlib.suppress(KeyError, OSError):  # no name for this user id
            actor = f"{getpass.getuser()}@{actor}"
        with execution.registry(settings, output.Progress(quiet=as_json), demanded=False) as reached:
            before = table.champion(settings.endpoint)
            promotion = rollback(table, Registry(reached.mlflow_url), settings.endpoint, version, actor, notes.append)
    changed = promotion != before
    for line in notes:
        output.note(line)
    if as_json:
        output.print_json({**vars(promotion), "at": to_iso(promotion.at), "changed": changed, "notes": notes})
    elif changed:
        line = f"version {promotion.version} is champion again; version {promotion.previous} is no longer"
        output.console().print(Text(line, style="bold green"))
        output.say_next(f"endpoints follow within seconds; `attune rollback {promotion.previous}` undoes this")
    else:
        output.console().print(f"version {promotion.version} is champion already: nothing changed")
