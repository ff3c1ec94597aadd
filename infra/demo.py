"""`attune demo`: the whole loop on real data, stage by stage, over real servers.

Events up to cut A are imported; those from A to B arrive over HTTP; those after B are imported later, and judge.
Prefect reads the servers' addresses when it is imported, so flows and models are imported after their start.
"""

import importlib
import itertools
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from attune import process
from attune.client import Client
from attune.clock import system_clock, to_iso
from attune.columns import Columns
from attune.errors import AttuneError, ConfigError
from attune.event_log import EventLog
from attune.files import locked, write_whole
from attune.schemas import RecommendAnswer
from attune.settings import Settings
from infra.child_processes import ChildProcess, Interrupted, interrupted_by_signals, log_end, uninterrupted_cleanup
from infra.local_stack import Stack

if TYPE_CHECKING:
    import pandas as pd

    from features.importer import ImportReport
    from features.sources.frames import SourceFrames

SOURCE = "movielens"
FLOWS = ("ingest", "validate", "materialize", "train", "promote", "finetune")
LATENCY_REQUESTS = 1_000
SWAP_REQUESTS = 2_000
HELD_BACK = 0.35  # of the events that the champion did not learn from: about those after cut B
CUT_A, CUT_B = 0.8, 0.9
SEED = 7  # the policy's seed: two slates drawn with it differ only by what the model thinks
SHARED = 0.02
"""What one person's reactions may do to the scores of others, through what everybody says of the items: one reaction
moves an item by less than 0.01 (``models.network.config.OnlineWeights``)."""


def run() -> int:
    """Run the demo under ``var/demo``; returns the exit status.

    The demo starts from an empty folder: it renames that of the run before to the first free ``demo.<number>``. It ends
    all its processes on every way out.
    """
    folder = (Settings().var / "demo").resolve()
    busy = ConfigError(f"another demo runs in {folder.parent}: wait for it, or set ATTUNE_VAR")
    with locked(folder.with_name("demo.lock"), busy):
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


@dataclass(frozen=True)
class Dataset:
    """The source, its rows in the order of time with their event ids, and the cuts as row numbers."""

    frames: "SourceFrames"
    rows: "pd.DataFrame"
    cut_a: int
    cut_b: int

    @staticmethod
    def movielens() -> "Dataset":
        """MovieLens, 100,004 ratings; the cuts do not part events of one user at one moment."""
        from features.importer import in_order
        from features.sources import movielens

        frames = movielens.read()
        rows = in_order(frames)
        return Dataset(frames, rows, _between_moments(rows, CUT_A), _between_moments(rows, CUT_B))

    def events(self, first: int, last: int) -> list[dict[str, Any]]:
        """Rows [first, last) as the HTTP API takes them."""
        columns = [Columns.USER_ID, Columns.ITEM_ID, Columns.KIND, Columns.VALUE, Columns.EVENT_ID]
        part = self.rows.iloc[first:last]
        events = part[columns].to_dict("records")
        for event, moment in zip(events, part[Columns.EVENT_TIMESTAMP], strict=True):
            event[Columns.EVENT_TIMESTAMP] = to_iso(int(moment))
        return events

    def user_and_control(self) -> tuple[str, str]:
        """The two latest users with 30 to 80 events before cut A."""
        before = self.rows.iloc[: self.cut_a].groupby(Columns.USER_ID)[Columns.EVENT_TIMESTAMP].agg(["size", "max"])
        fitting = before[before["size"].between(30, 80)].sort_values("max")
        return str(fitting.index[-1]), str(fitting.index[-2])


def _between_moments(rows: "pd.DataFrame", share: float) -> int:
    """The first row number from ``share`` on that starts another moment than the row before it."""
    moments = rows[Columns.EVENT_TIMESTAMP].to_numpy()
    cut = int(len(rows) * share)
    while cut < len(rows) and moments[cut] == moments[cut - 1]:
        cut += 1
    return cut


@dataclass(frozen=True)
class Endpoint:
    """The endpoint, asked for slates that are all drawn with one seed."""

    client: Client

    def recommend(self, user_id: str) -> RecommendAnswer:
        return self.client.recommend(user_id, seed=SEED)

    def send(self, events: Sequence[dict[str, Any]]) -> dict[str, int]:
        """Send behaviour; returns the endpoint's counts."""
        answer = self.client.events(events)
        return {"accepted": answer.accepted, "repeated": answer.repeated, "rejected": len(answer.rejected)}

    def wait_for(self, version: str, seconds: float = 60.0) -> float:
        """Wait until the version answers; returns the seconds that it took."""
        start = time.monotonic()
        while self.client.model().version != version:
            if time.monotonic() - start > seconds:
                raise AttuneError(f"the endpoint did not load the promoted version {version} in {seconds:.0f} s")
            time.sleep(0.1)
        return time.monotonic() - start


def react(endpoint: Endpoint, user_id: str, control_id: str) -> dict[str, Any]:
    """Like one item of the user's slate, dislike two others, look at the next slate; a control user reacts to nothing.

    ``effect_ms`` runs from sending the first reaction to holding the slate that knows all three. The control's slate is
    ``unchanged`` where it is of the same state, and no score is another one but for what everybody says.
    """
    before, control_before = endpoint.recommend(user_id), endpoint.recommend(control_id)
    slate_id, shown = str(before.slate_id), [item.item_id for item in before.items]
    reactions = {shown[0]: "like", shown[1]: "dislike", shown[2]: "dislike"}
    start = time.perf_counter()
    taken = [endpoint.client.feedback(slate_id, user_id, item_id, kind) for item_id, kind in reactions.items()]
    after = endpoint.recommend(user_id)
    effect_ms = (time.perf_counter() - start) * 1000
    control_after = endpoint.recommend(control_id)
    scores = {item.item_id: item.score for item in control_before.items}
    moved = [abs(item.score - scores[item.item_id]) for item in control_after.items if item.item_id in scores]
    same_state = control_before.state_position == control_after.state_position
    unchanged = same_state and bool(moved) and max(moved) < SHARED
    return {
        "user_id": user_id,
        "reactions": reactions,
        "before": msgspec.to_builtins(before.items),
        "after": msgspec.to_builtins(after.items),
        "effect_ms": round(effect_ms, 2),
        "acknowledged_position": max(answer.position for answer in taken),
        "state_position": after.state_position,
        "control": {"user_id": control_id, "unchanged": unchanged},
    }


def start_load(stack: Stack, users: Sequence[str], requests: int) -> ChildProcess:
    """Ask for slates from a process of its own; ``load_result`` waits for its figures."""
    file = stack.settings.var / "load-users.txt"
    file.write_text("\n".join(users))
    command = [sys.executable, "-m", "infra.load", "--url", stack.endpoint_url, "--users", str(file)]
    return stack.processes.start("load", [*command, "--requests", str(requests), "--concurrency", "2"])


def load_result(load: ChildProcess) -> dict[str, Any]:
    """The figures of a load (requests, errors, p50_ms, p99_ms), which it prints last."""
    if load.reaper.wait(timeout=300) != 0:
        raise AttuneError(f"the load generator failed; {log_end(load.log)}")
    return dict(json.loads(load.log.read_text().splitlines()[-1]))


def spoil(bundle_folder: Path, out_folder: Path, seed: int = 0) -> Path:
    """Copy a bundle with its id table shuffled, as if it came from another training run. Returns the new folder.

    Only its recommendations give the fault away: tests and the demo hold that gates refuse it.

    Ids and titles move together; what the model computes from (attributes, tables, weights) stays, and golden
    histories and scores speak of indices. So it loads, verifies and answers: it merely recommends other items than
    it means. Raises BundleError when the bundle is not whole or ``out_folder`` exists.
    """
    import numpy as np

    from models.bundle import CONFIG, FILES, FORMAT, ITEMS, open_sealed, seal

    files = open_sealed(bundle_folder, FORMAT, FILES)
    columns = msgspec.json.decode(files[ITEMS])
    order = np.random.default_rng(seed).permutation(len(columns["item_ids"]))
    shuffled = {**columns, **{name: [columns[name][place] for place in order] for name in ("item_ids", "titles")}}
    config = {**json.loads(files[CONFIG]), "spoiled": True}
    changed = {ITEMS: msgspec.json.encode(shuffled), CONFIG: json.dumps(config, indent=1, sort_keys=True).encode()}
    return seal(out_folder, FORMAT, {**files, **changed})
