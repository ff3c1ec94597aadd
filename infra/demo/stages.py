"""The stages of the demo, in their order; each fills in its figures in the report."""

from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

from attune.client import Client
from attune.clock import system_clock
from attune.errors import AttuneError
from attune.event_log import EventLog
from evaluation.spoil import spoil
from features.importer import ImportReport, import_source
from flows import resources
from flows.finetune import finetune
from flows.ingest import ingest
from flows.materialize import materialize
from flows.promote import promote
from flows.train import train
from flows.validate import validate
from infra.demo.endpoint import Endpoint, load_result, react, start_load
from infra.demo.report import Report, Screen, Stage, staged
from infra.demo.world import World
from infra.local_stack import Stack
from models import training_job

SOURCE = "movielens"
LATENCY_REQUESTS = 1_000
SWAP_REQUESTS = 2_000


class Loop:
    """The demo's run: ``run`` goes through all stages; an exception ends it, the report keeps what was measured."""

    def __init__(self, stack: Stack, report: Report, screen: Screen) -> None:
        self.stack, self.report, self.screen = stack, report, screen
        self.folder: Path = stack.settings.var
        self.client = Client(stack.endpoint_url, timeout=30.0)
        self.endpoint = Endpoint(self.client)

    def run(self) -> None:
        """Stage after stage."""
        with self.client:
            self.import_history()
            self.bring_to_features("features")
            first = self.train_first()
            self.refuse_spoiled(first)
            self.promote_first(first)
            self.serve(first)
            self.feel_feedback()
            self.learn_on(first)

    def import_history(self) -> None:
        with self.stage("import the events up to cut A") as stage:
            self.world = World.real()
            stage.figures |= counted(self.take_in(0, self.world.cut_a))

    def bring_to_features(self, name: str) -> None:
        with self.stage(f"{name}: log to lake") as stage:
            stage.figures |= ingest()
        with self.stage(f"{name}: validate the batch") as stage:
            verdict = validate()
            stage.figures |= {
                "expectations": verdict["expectations"],
                "broken": len(verdict["broken"]),
                "warnings": "; ".join(verdict["warnings"]) or "none",
            }
        with self.stage(f"{name}: compute and materialize") as stage:
            stage.figures |= materialize()

    def train_first(self) -> dict[str, Any]:
        with self.stage("train, evaluate, register the first version") as stage:
            trained = train(recipe="tiny")
            stage.figures |= trained["figures"]
        return trained

    def refuse_spoiled(self, first: dict[str, Any]) -> None:
        """A challenger whose id table comes from another run; only its recommendations give it away."""
        with self.stage("gates refuse a spoiled challenger") as stage:
            spoiled = self.folder / "bundles" / "spoiled"
            spoil(Path(first["bundle"]), spoiled)
            version = training_job.register(resources.registry(self.stack.settings), spoiled, None)["version"]
            verdict = promote(version=version, accept_undecided=True)
            refused_by = verdict["refused_by"]
            self.report.refused = {"version": version, "accepted": verdict["accepted"], "gates": refused_by}
            self.keep_gates(verdict)
            if verdict["accepted"]:
                raise AttuneError("the gates accepted a challenger whose id table had been shuffled")
            stage.figures |= {"version": version, "refused by": ", ".join(refused_by)}

    def promote_first(self, first: dict[str, Any]) -> None:
        with self.stage("its unspoiled twin passes and becomes champion") as stage:
            verdict = promote(version=first["version"], accept_undecided=True)
            self.keep_gates(verdict)
            self.report.model["first"] = {"version": first["version"], "metrics": verdict["metrics"]}
            self.report.model["baselines"] = {"first": verdict["baselines"]}
            if not verdict["accepted"]:
                raise AttuneError("the first version was refused: " + refusal(verdict))
            stage.figures |= gate_counts(verdict)

    def serve(self, first: dict[str, Any]) -> None:
        with self.stage("the endpoint serves it") as stage:
            loaded = self.endpoint.wait_for(first["version"])
            users = sorted(self.world.rows["user_id"].iloc[: self.world.cut_a].unique())
            load = start_load(self.stack, self.client.url, users, LATENCY_REQUESTS)
            figures = load_result(load)
            self.report.latency_ms = {"p50": figures["p50_ms"], "p99": figures["p99_ms"]}
            stage.figures |= {"loaded after s": round(loaded, 2), **figures}

    def feel_feedback(self) -> None:
        with self.stage("feedback changes the next slate") as stage:
            feedback = react(self.endpoint, *self.world.two_people())
            self.report.feedback = feedback
            changed = [item["item_id"] for item in feedback["before"]] != [
                item["item_id"] for item in feedback["after"]
            ]
            stage.figures |= {
                "user": feedback["user_id"],
                "effect ms": feedback["effect_ms"],
                "slate changed": changed,
                "control unchanged": feedback["control"]["unchanged"],
            }
            if not changed or not feedback["control"]["unchanged"]:
                raise AttuneError(f"feedback must change one user's slate and nobody else's: {stage.figures}")
        self.screen.slates(feedback)

    def learn_on(self, first: dict[str, Any]) -> None:
        """Later events arrive over HTTP, the champion learns from them, and is judged on events later still."""
        with self.stage("the events from cut A to B arrive over HTTP") as stage:
            stage.figures |= self.endpoint.send(self.world.later_events())
        self.bring_to_features("new events")
        with self.stage("fine-tune the champion") as stage:
            tuned = finetune(hold_back=0.0)
            stage.figures |= tuned["figures"]
        with self.stage("the events after cut B arrive for the gates") as stage:
            stage.figures |= counted(self.take_in(self.world.cut_b, len(self.world.rows)))
            self.check_counts()
        self.bring_to_features("later events")
        self.take_over(first, tuned)

    def take_over(self, first: dict[str, Any], tuned: dict[str, Any]) -> None:
        with self.stage("the fine-tuned version meets the gates") as stage:
            users = sorted(self.world.rows["user_id"].unique())
            load = start_load(self.stack, self.client.url, users, SWAP_REQUESTS)
            verdict = promote(version=tuned["version"], accept_undecided=True)
            self.keep_gates(verdict)
            accepted = verdict["accepted"]
            self.report.model["second"] = {
                "version": tuned["version"],
                "metrics": verdict["metrics"],
                "accepted": accepted,
            }
            self.report.model["baselines"]["second"] = verdict["baselines"]
            swapped = round(self.endpoint.wait_for(tuned["version"]), 2) if accepted else None
            figures = load_result(load)
            stage.figures |= {"accepted": accepted, **gate_counts(verdict), "loaded after s": swapped}
            stage.figures |= {"requests meanwhile": figures["requests"], "errors": figures["errors"]}
            if not accepted:
                stage.figures["refused because"] = refusal(verdict)
            if figures["errors"]:
                raise AttuneError(f"{figures['errors']} of {figures['requests']} requests failed during the takeover")
        self.screen.models(self.report.model)

    def take_in(self, first: int, last: int) -> ImportReport:
        """Import rows [first, last) of the source."""
        settings = self.stack.settings
        with closing(EventLog(settings.log_url)) as log:
            return import_source(log, self.world.frames, system_clock, SOURCE, upto=last, after=first)

    def check_counts(self) -> None:
        """Every rating of the source is in the log once."""
        with closing(EventLog(self.stack.settings.log_url)) as log:
            held = log.counts()["interaction"] + log.quarantined()
        if held != len(self.world.rows):
            raise AttuneError(f"{len(self.world.rows):,} ratings were sent, the log and its quarantine hold {held:,}")

    def keep_gates(self, verdict: dict[str, Any]) -> None:
        """Each gate of the version into the report."""
        self.report.gates += [{"version": verdict["version"], **gate} for gate in verdict["gates"]]

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """Time a stage, show it, keep it."""
        return staged(name, self.report, self.screen, self.folder)


def counted(report: ImportReport) -> dict[str, Any]:
    """Rows in = accepted + repeated + quarantined."""
    figures = {name: getattr(report, name) for name in ("rows_in", "accepted", "repeated", "quarantined")}
    return {**figures, "items": report.items.accepted}


def gate_counts(verdict: dict[str, Any]) -> dict[str, int]:
    """How many gates gave which verdict."""
    verdicts = [gate["verdict"] for gate in verdict["gates"]]
    return {word: verdicts.count(word) for word in ("pass", "undecided", "fail") if word in verdicts}


def refusal(verdict: dict[str, Any]) -> str:
    """The gates that kept the version out, with what they measured."""
    return "; ".join(
        f"{gate['name']}: {gate['measured']} against a limit of {gate['limit']}"
        for gate in verdict["gates"]
        if gate["name"] in verdict["refused_by"]
    )
