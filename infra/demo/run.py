"""What `attune demo` does: the whole loop on real data, stage by stage, over real servers.

Prefect reads the servers' addresses when it is imported, so flows and models are imported after their start.
"""

import fcntl
import importlib
import itertools
import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from attune import process
from attune.client import Client
from attune.clock import system_clock
from attune.errors import AttuneError, ConfigError
from attune.event_log import EventLog
from attune.files import write_whole
from attune.settings import Settings
from infra.child_processes import Interrupted, interrupted_by_signals, uninterrupted_cleanup
from infra.demo.endpoint import Endpoint, load_result, react, start_load
from infra.local_stack import Stack

if TYPE_CHECKING:
    from features.importer import ImportReport

SOURCE = "movielens"
FLOWS = ("ingest", "validate", "materialize", "train", "promote", "finetune")
LATENCY_REQUESTS = 1_000
SWAP_REQUESTS = 2_000
HELD_BACK = 0.35  # of the events that the champion did not learn from: about those after cut B


def run() -> int:
    """Run the demo under ``var/demo``; returns the exit status.

    The demo starts from an empty folder: it renames that of the run before to the first free ``demo.<number>``. It ends
    all its processes on every way out.
    """
    folder = (Settings().var / "demo").resolve()
    with only_one(folder.with_name("demo.lock")):
        moved = None
        if folder.exists():
            names = (folder.with_name(f"{folder.name}.{number}") for number in itertools.count(1))
            moved = folder.rename(next(path for path in names if not path.exists()))
        folder.mkdir(parents=True)
        process.set_up_logging(logging.WARNING, folder / "logs" / "demo.log")
        report = Report(folder / "report.json")
        report.write()
        settings = Settings(
            var=folder, database_url="", online_store_url=None, mlflow_url="", prefect_url="", serving_port=0
        )  # stores and servers of its own
        status = 1
        with interrupted_by_signals():
            try:
                with Stack(settings) as stack, uninterrupted_cleanup():
                    Demo(stack, report).run()
                report.ok, status = True, 0
            except AttuneError as error:
                report.error = str(error)
            except Interrupted as signal:
                report.error, status = f"interrupted by {signal}", 128 + signal.number
            except Exception as error:
                report.error = f"{type(error).__name__}: {error}"
                raise
            finally:
                report.write()
                report.show_summary(moved)
    return status


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold a lock file for as long as the block runs; raises ConfigError when another demo holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another demo runs in {lock.parent}: wait for it, or set ATTUNE_VAR") from error
        yield


@dataclass
class Stage:
    """One stage: what it measured and how long it took; ``ok`` is False until it ended well."""

    name: str
    seconds: float = 0.0
    ok: bool = False
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """What a demo measured: one JSON file that is rewritten after every stage, and the output for people."""

    file: Path
    ok: bool = False
    stages: list[Stage] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, Any] = field(default_factory=dict)
    feedback: dict[str, Any] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self) -> None:
        self._console = Console(highlight=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage, write the report when it ends, well or not, and print one line and its figures."""
        stage = Stage(name)
        self.stages.append(stage)
        start = time.monotonic()
        try:
            with self._console.status(f"[bold]{name}[/]"):
                yield stage
            stage.ok = True
        finally:
            stage.seconds = round(time.monotonic() - start, 2)
            self.write()
            mark = "[green]✓[/]" if stage.ok else "[red]✗[/]"
            self._console.print(f"{mark} [bold]{name}[/] [dim]{stage.seconds:.1f} s[/]")
            if stage.figures:
                figures = (f"[dim]{name}[/] {_readable(value)}" for name, value in stage.figures.items())
                self._console.print("    " + "  ".join(figures))

    def write(self) -> None:
        """Replace the file; it is always whole."""
        values = {name: value for name, value in asdict(self).items() if name != "file"}
        write_whole(self.file, json.dumps(values, indent=1, default=str))

    def show_slates(self) -> None:
        """The slates before and after the feedback, side by side."""
        feedback = self.feedback
        title = f"user {feedback['user_id']}: {feedback['effect_ms']:.0f} ms from reacting to the new slate"
        table = Table("before", "reaction", "after, same seed", title=title)
        for old, new in zip(feedback["before"], feedback["after"], strict=False):
            table.add_row(old["title"], feedback["reactions"].get(old["item_id"], ""), new["title"])
        self._console.print(table)

    def show_models(self) -> None:
        """Every recommender's figures on the events that its version was judged on."""
        table = Table("version", "recommender", "HR@10, liked", "NDCG@10, liked", "NDCG@10, all", "coverage@10")
        for which in ("first", "second"):
            if judged := self.model.get(which):
                rows = {"hybrid": judged["metrics"], **self.model["baselines"][which]}
                for name, slices in rows.items():
                    liked, every = slices["positive"], slices["all"]
                    figures = (liked["hr@10"], liked["ndcg@10"], every["ndcg@10"], every["coverage@10"])
                    table.add_row(str(judged["version"]), name, *(f"{figure:.4f}" for figure in figures))
                table.add_section()
        self._console.print(table)

    def show_summary(self, moved: Path | None) -> None:
        folder = self.file.parent
        lines = [f"report      {self.file}", f"server logs {folder / 'logs'}"]
        lines += [f"data docs   {folder / 'data_docs' / 'index.html'}"]
        lines += ["next        attune import tabular --help   (your own data)"]
        if moved:
            lines.append(f"the run before lies in {moved}")
        seconds = sum(stage.seconds for stage in self.stages)
        title = f"the loop closed in {seconds:.0f} s" if self.ok else f"the demo ended early: {self.error}"
        self._console.print(Panel("\n".join(lines), title=title, border_style="green" if self.ok else "red"))


def _readable(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


class Demo:
    """The stages in their order; an exception ends the run, the report keeps what was measured."""

    def __init__(self, stack: Stack, report: Report) -> None:
        self.stack, self.report = stack, report

    def run(self) -> None:
        from infra.demo.dataset import Dataset

        with self.report.stage("start Prefect, MLflow, the state keeper and the endpoint") as stage:
            self.stack.start("prefect", "mlflow", "keeper", "endpoint")
            for name in FLOWS:  # while the servers start
                importlib.import_module(f"flows.{name}")
            self.stack.wait()
            stage.figures["endpoint"] = self.stack.endpoint_url
            stage.figures |= {name: getattr(self.stack.settings, f"{name}_url") for name in ("mlflow", "prefect")}
        with Client(self.stack.endpoint_url, timeout=30.0) as client:
            self.endpoint = Endpoint(client)
            with self.report.stage("import the events up to cut A") as stage:
                self.dataset = Dataset.movielens()
                stage.figures |= _counted(self.import_rows(0, self.dataset.cut_a))
            self.derive_features("features")
            with self.report.stage("train, evaluate, register the first version") as stage:
                first = self.flow("train", recipe="tiny")
                stage.figures |= first["figures"]
            self.refuse_spoiled(first)
            self.promote_first(first)
            self.serve(first)
            self.give_feedback()
            self.learn_from_later_events()

    def flow(self, name: str, **parameters: Any) -> dict[str, Any]:
        result: dict[str, Any] = getattr(importlib.import_module(f"flows.{name}"), name)(**parameters)
        return result

    def derive_features(self, name: str) -> None:
        with self.report.stage(f"{name}: log to lake") as stage:
            stage.figures |= self.flow("ingest")
        with self.report.stage(f"{name}: validate the batch") as stage:
            verdict = self.flow("validate")
            stage.figures |= {
                "expectations": verdict["expectations"],
                "broken": len(verdict["broken"]),
                "warnings": "; ".join(verdict["warnings"]) or "none",
            }
        with self.report.stage(f"{name}: compute and materialize") as stage:
            stage.figures |= self.flow("materialize")

    def judge(self, version: str) -> dict[str, Any]:
        """Hold a version against the gates, and keep each gate's verdict in the report."""
        verdict = self.flow("promote", version=version, accept_undecided=True)
        self.report.gates += [{"version": verdict["version"], **gate} for gate in verdict["gates"]]
        return verdict

    def refuse_spoiled(self, first: dict[str, Any]) -> None:
        """A challenger whose id table comes from another run; only its recommendations give it away."""
        from infra.demo.spoil import spoil
        from models import training_job
        from models.registry import Registry

        with self.report.stage("gates refuse a spoiled challenger") as stage:
            spoiled = self.stack.settings.bundles_folder / "spoiled"
            spoil(Path(first["bundle"]), spoiled)
            version = training_job.register(Registry(self.stack.settings.mlflow_url), spoiled, None)["version"]
            verdict = self.judge(version)
            refused_by = verdict["refused_by"]
            self.report.refused = {"version": version, "accepted": verdict["accepted"], "gates": refused_by}
            if verdict["accepted"]:
                raise AttuneError("the gates accepted a challenger whose id table had been shuffled")
            stage.figures |= {"version": version, "refused by": ", ".join(refused_by)}

    def promote_first(self, first: dict[str, Any]) -> None:
        with self.report.stage("its unspoiled twin passes and becomes champion") as stage:
            verdict = self.judge(first["version"])
            self.report.model["first"] = {"version": first["version"], "metrics": verdict["metrics"]}
            self.report.model["baselines"] = {"first": verdict["baselines"]}
            if not verdict["accepted"]:
                raise AttuneError(f"the first version was {verdict['decision']}: {_refusal(verdict)}")
            stage.figures |= _gate_counts(verdict)

    def serve(self, first: dict[str, Any]) -> None:
        with self.report.stage("the endpoint serves it") as stage:
            loaded = self.endpoint.wait_for(first["version"])
            users = sorted(self.dataset.rows["user_id"].iloc[: self.dataset.cut_a].unique())
            figures = load_result(start_load(self.stack, users, LATENCY_REQUESTS))
            self.report.latency_ms = {"p50": figures["p50_ms"], "p99": figures["p99_ms"]}
            stage.figures |= {"loaded after s": round(loaded, 2), **figures}

    def give_feedback(self) -> None:
        with self.report.stage("feedback changes the next slate") as stage:
            feedback = react(self.endpoint, *self.dataset.user_and_control())
            self.report.feedback = feedback
            before, after = ([item["item_id"] for item in feedback[name]] for name in ("before", "after"))
            stage.figures |= {
                "user": feedback["user_id"],
                "effect ms": feedback["effect_ms"],
                "slate changed": before != after,
                "control unchanged": feedback["control"]["unchanged"],
            }
            if before == after or not feedback["control"]["unchanged"]:
                raise AttuneError(f"feedback must change one user's slate and nobody else's: {stage.figures}")
        self.report.show_slates()

    def learn_from_later_events(self) -> None:
        """Later events arrive over HTTP and by import: the champion learns from the older, the newer ones judge."""
        cut_a, cut_b, last = self.dataset.cut_a, self.dataset.cut_b, len(self.dataset.rows)
        with self.report.stage("the events from cut A to B arrive over HTTP") as stage:
            stage.figures |= self.endpoint.send(self.dataset.events(cut_a, cut_b))
        with self.report.stage("the events after cut B arrive by import") as stage:
            stage.figures |= _counted(self.import_rows(cut_b, last))
            with closing(EventLog(self.stack.settings.log_url)) as log:
                held = log.counts()["interaction"] + log.quarantined()
            if held != last:
                raise AttuneError(f"{last:,} ratings were sent, the log and its quarantine hold {held:,}")
        self.derive_features("new events")
        with self.report.stage("fine-tune the champion") as stage:
            tuned = self.flow("finetune", hold_back=HELD_BACK)
            stage.figures |= tuned["figures"]
        with self.report.stage("the fine-tuned version meets the gates") as stage:
            load = start_load(self.stack, sorted(self.dataset.rows["user_id"].unique()), SWAP_REQUESTS)
            verdict = self.judge(tuned["version"])
            version, accepted = tuned["version"], verdict["accepted"]
            self.report.model["second"] = {"version": version, "metrics": verdict["metrics"], "accepted": accepted}
            self.report.model["baselines"]["second"] = verdict["baselines"]
            swapped = round(self.endpoint.wait_for(version), 2) if accepted else None
            figures = load_result(load)
            stage.figures |= {"accepted": accepted, **_gate_counts(verdict), "loaded after s": swapped}
            stage.figures |= {"requests meanwhile": figures["requests"], "errors": figures["errors"]}
            if not accepted:
                stage.figures[f"{verdict['decision']} because"] = _refusal(verdict)
            if figures["errors"]:
                raise AttuneError(f"{figures['errors']} of {figures['requests']} requests failed during the takeover")
        self.report.show_models()

    def import_rows(self, first: int, last: int) -> "ImportReport":
        from features.importer import import_source

        with closing(EventLog(self.stack.settings.log_url)) as log:
            return import_source(log, self.dataset.frames, system_clock, SOURCE, upto=last, after=first)


def _counted(report: "ImportReport") -> dict[str, Any]:
    """Rows in = accepted + repeated + quarantined."""
    figures = {name: getattr(report, name) for name in ("rows_in", "accepted", "repeated", "quarantined")}
    return {**figures, "items": report.items.accepted}


def _gate_counts(verdict: dict[str, Any]) -> dict[str, int]:
    verdicts = [gate["verdict"] for gate in verdict["gates"]]
    return {word: verdicts.count(word) for word in ("pass", "undecided", "fail") if word in verdicts}


def _refusal(verdict: dict[str, Any]) -> str:
    """The gates that kept the version out, with what they measured."""
    return "; ".join(
        f"{gate['name']}: {gate['measured']} against a limit of {gate['limit']}"
        for gate in verdict["gates"]
        if gate["name"] in (*verdict["refused_by"], *verdict["undecided"])
    )
