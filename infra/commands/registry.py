"""`attune versions`, `compare` and `rollback`: what was made, how versions differ, and the way back."""

import getpass
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from rich.text import Text

from attune import event_log
from attune.clock import system_clock, to_iso
from attune.errors import ModelError
from attune.promotions import Promotions
from attune.settings import Settings
from infra.commands import execution, output
from infra.commands.output import Progress
from models.figures import short

if TYPE_CHECKING:
    from infra.commands.versions import Described, Differences

SHOWN_METRICS = ("holdout/all/", "validation/hybrid/")
"""The metrics that a table compares; JSON has them all."""

NOTHING = "no version yet: `attune train` makes the first"


def versions(limit: int, as_json: bool) -> None:
    """The latest versions with their figures and verdicts."""
    from infra.commands import versions as described
    from models.registry import Registry

    settings = Settings()
    listed: list[Described] = []
    if execution.has_versions(settings):
        with execution.registry(settings, Progress(quiet=as_json)) as found:
            listed = described.latest(Registry(found.mlflow_url), limit)
    champion, back_to = _standing(settings)
    if as_json:
        rows = [one.as_dict() | {"champion": one.version == champion} for one in listed]
        output.print_json({"champion": champion, "rollback_to": back_to, "versions": rows})
        return
    if not listed:
        output.console().print(NOTHING)
        return
    now = system_clock()
    output.table(
        ["version", "age", "recipe", "from", "validation", "hold-out", "gates"],
        [_row(one, champion, now) for one in listed],
        numbers=[1, 4, 5],
        unbroken=[0],
    )
    output.console().print(
        "[dim]★ answers now. validation and hold-out: NDCG@10, each on the events of its own time[/]"
    )
    output.say_next(_what_next(listed, champion, back_to))


def compare(a: str, b: str, as_json: bool) -> None:
    """Two versions side by side."""
    from infra.commands import versions as described
    from models.registry import Registry

    settings = Settings()
    if not execution.has_versions(settings):
        raise ModelError(f"there is {NOTHING}")
    with execution.registry(settings, Progress(quiet=as_json)) as found:
        first, second = described.named(Registry(found.mlflow_url), [a, b])
    differences = described.compare(first, second)
    if as_json:
        output.print_json(
            {
                "a": first.as_dict(),
                "b": second.as_dict(),
                "params": {name: list(pair) for name, pair in differences.params.items()},
                "metrics": {
                    name: {"a": one, "b": other, "difference": other - one}
                    for name, (one, other) in differences.metrics.items()
                },
                "gates": {name: list(pair) for name, pair in differences.gates.items()},
            }
        )
        return
    _show_differences(first, second, differences)


def rollback(version: str | None, as_json: bool) -> None:
    """Make a former champion the champion again."""
    from models.rollback import rollback as go_back
    from models.rollback import target

    settings, said = Settings(), list[str]()
    event_log.prepare(settings.log_url)
    with closing(Promotions(settings.log_url)) as table:
        target(table, settings.endpoint, version)
        with execution.registry(settings, Progress(quiet=as_json), demanded=False) as found:
            from models.registry import Registry

            before = table.champion(settings.endpoint)
            promotion = go_back(table, Registry(found.mlflow_url), settings.endpoint, version, _actor(), said.append)
    changed = promotion != before
    for line in said:
        output.note(line)
    if as_json:
        output.print_json({**vars(promotion), "at": to_iso(promotion.at), "changed": changed, "notes": said})
    elif changed:
        line = f"version {promotion.version} is champion again; version {promotion.previous} is no longer"
        output.console().print(Text(line, style="bold green"))
        output.say_next(f"endpoints follow within seconds; `attune rollback {promotion.previous}` undoes this")
    else:
        output.console().print(f"version {promotion.version} is champion already: nothing changed")


def _actor() -> str:
    """Who rolls back, for the audit."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # no name for this user id
        return socket.gethostname()


def _standing(settings: Settings) -> tuple[str | None, str | None]:
    """The champion, and the version that `attune rollback` would go back to."""
    from models.rollback import ALL, stack

    event_log.prepare(settings.log_url)
    with closing(Promotions(settings.log_url)) as table:
        champions = stack(table.history(settings.endpoint, ALL))
    return (champions[-1] if champions else None), (champions[-2] if len(champions) > 1 else None)


def _row(one: "Described", champion: str | None, now: int) -> list[Any]:
    figures, named = one.headline, [one.version, *one.aliases]
    return [
        Text(" ".join(["★", *named]), style="bold green") if one.version == champion else " ".join(named),
        output.ago(one.created_at, now),
        one.recipe,
        one.parent or "nothing",
        figures.get("validation NDCG@10"),
        figures.get("hold-out NDCG@10"),
        _verdicts(one),
    ]


def _verdicts(one: "Described") -> Text:
    """How many gates gave which verdict."""
    if one.accepted is None:
        return Text("not judged", style="dim")
    if one.cannot_be_judged:
        return Text("cannot be judged", style=output.VERDICTS["fail"])
    verdicts = list(one.gates.values())
    counted = [(verdicts.count(word), word) for word in output.VERDICTS]
    return Text("\n").join(Text(f"{number} {word}", style=output.VERDICTS[word]) for number, word in counted if number)


def _what_next(listed: "list[Described]", champion: str | None, back_to: str | None) -> str:
    waiting = [one.version for one in listed if "challenger" in one.aliases]
    parts = [f"`attune promote` judges version {waiting[0]}"] if waiting else []
    if champion and len(listed) > 1:
        other = waiting[0] if waiting else next(one.version for one in listed if one.version != champion)
        parts.append(f"`attune compare {champion} {other}`")
    if back_to:
        parts.append(f"`attune rollback` goes back to version {back_to}")
    return ", ".join(parts) or "`attune finetune` learns from newer events"


def _show_differences(first: "Described", second: "Described", differences: "Differences") -> None:
    names = [f"version {first.version}", f"version {second.version}"]
    about = {"age": "created_at", "from": "parent", "learned from positions": "window", "aliases": "aliases"}
    output.table(["", *names], [[title, _about(first, name), _about(second, name)] for title, name in about.items()])
    if differences.params:
        params = [[name, one, other] for name, (one, other) in differences.params.items()]
        output.table(["parameter that differs", *names], params)
    else:
        output.console().print("[dim]no parameter differs[/]")
    metrics = [
        [_short_name(name), one, other, f"{other - one:+.4f}"]
        for name, (one, other) in differences.metrics.items()
        if name.startswith(SHOWN_METRICS)
    ]
    if metrics:
        output.table(["metric", *names, "difference"], metrics, numbers=[1, 2, 3])
    gates = [[name.replace("_", " "), _gate(first, name), _gate(second, name)] for name in differences.gates]
    if gates:
        output.table(["gate", *names], gates)
    output.console().print("[dim]hold-out figures compare only where both were judged on the same events[/]")


def _short_name(metric: str) -> str:
    """``holdout/all/hr_at_10`` as people say it."""
    where, _, name = metric.rpartition("/")
    return f"{where.partition('/')[0]} {name.replace('_at_', '@').replace('_', ' ')}"


def _gate(one: "Described", name: str) -> Text:
    """The verdict with what was measured."""
    measured = one.metrics.get(f"gate/{name}")
    words = output.verdict(one.gates.get(name, "not judged"))
    return words if measured is None else words.append(f"  {short(measured)}", style="dim")


def _about(one: "Described", name: str) -> str:
    if name == "created_at":
        return output.ago(one.created_at, system_clock())
    if name == "parent":
        return f"version {one.parent}" if one.parent else "nothing"
    return output.readable(getattr(one, name)) or "-"
