"""A version's run in MLflow: the parameters, figures, plots, data set and files that stand behind the version."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from attune.clock import Clock
from models import plots, pyfunc
from models.bundle import Bundle
from models.figures import flat, for_json, leaves
from models.metrics import Rolling

EXPERIMENT, BENCHES = "attune", "attune-bench"
ARTIFACT, CARD = "model", "model_card.md"
NOTE = "mlflow.note.content"  # the tag that MLflow's pages show as a run's description
PARAM_LIMIT, BATCH_METRICS, BATCH_PARAMS = 500, 1_000, 100
MEASURED = ("validation", "cross_validation", "ablation")
CHOSEN, DECLARED = ("chosen",), ("recipe", "policy", "seed", "trained_upto", "holdout_after", "reward_table")
"""What of a report and of a bundle's config become parameters besides plain figures: what decided the version."""


class Runs:
    """The runs of the experiments ``attune`` (one a version) and ``attune-bench``; MLflow's errors pass through."""

    def __init__(self, client: MlflowClient, clock: Clock) -> None:
        self.client, self.clock = client, clock

    def begin(self, name: str, tags: Mapping[str, str], experiment: str = EXPERIMENT) -> Run:
        """A new run of that name; the experiment is made with the first."""
        return self.client.create_run(self._experiment(experiment), run_name=name, tags=dict(tags))

    def remove(self, run_id: str) -> None:
        """Take a run out of sight and its artifacts off the server; one that is gone already is no error."""
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return
            raise
        get_artifact_repository(run.info.artifact_uri, tracking_uri=self.client.tracking_uri).delete_artifacts()
        if run.info.lifecycle_stage != "deleted":
            self.client.delete_run(run_id)

    def log_training(self, run_id: str, config: Mapping[str, Any], report: Mapping[str, Any]) -> None:
        """Parameters, figures, figures by epoch, the window as the run's data set, and the report whole."""
        plain = {name: v for name, v in report.items() if not isinstance(v, Mapping | list) or name in CHOSEN}
        params = leaves({**plain, **{name: config[name] for name in DECLARED if name in config}}, ".")
        texts = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in params}
        pairs = [Param(name, text[:PARAM_LIMIT]) for name, text in sorted(texts.items())]
        for start in range(0, len(pairs), BATCH_PARAMS):
            self.client.log_batch(run_id, params=pairs[start : start + BATCH_PARAMS])
        for place, epoch in enumerate(report.get("epochs", [])):
            figures = {name: value for name, value in epoch.items() if name != "epoch"}
            self.log_metrics(run_id, flat({"epoch": figures}), int(epoch.get("epoch", place)))
        self.log_metrics(run_id, flat({name: report[name] for name in MEASURED if name in report}))
        self.client.log_text(run_id, json.dumps(for_json(report), indent=1), "training_report.json")
        if report.get("epochs"):
            self.log_picture(run_id, "learning", plots.learning_curve(report["epochs"]))
        window = config["window"]
        name = f"events {window.get('first_position')} to {window.get('last_position')}"
        counts = {f"num_{unit}": window[unit] for unit in ("rows", "users", "items") if unit in window}
        data = Dataset(name, window["digest"][:36], "attune lake", json.dumps(window), profile=json.dumps(counts))
        self.client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def log_judgement(self, run_id: str, judgement: Mapping[str, Any], markdown: str, rolling: Rolling | None) -> None:
        """A judgement as JSON, Markdown and pictures, its figures as metrics, its verdicts as tags of the run."""
        self.client.log_text(run_id, json.dumps(judgement, indent=1, allow_nan=False), "gates.json")
        self.client.log_text(run_id, markdown, "gates.md")
        self.log_picture(run_id, "gates", plots.gate_bars(judgement["gates"], judgement["decision"]))
        if rolling is not None:
            self.log_picture(run_id, "rolling_hr_at_10", plots.rolling_hits(rolling.lines, rolling.window))
        if judgement["calibration"]:
            self.log_picture(run_id, "calibration", plots.reliability(judgement["calibration"]))
        measured = {f"gate/{gate['name']}": gate["measured"] for gate in judgement["gates"]}
        self.log_metrics(run_id, {**flat({"holdout": judgement["metrics"]}), **flat(measured)})
        self.tag(run_id, verdicts(judgement))

    def log_picture(self, run_id: str, name: str, png: bytes) -> None:
        """A PNG as ``<name>.png``: MLflow shows those of two runs side by side, but none that lies in a folder."""
        with tempfile.TemporaryDirectory() as draft:
            file = Path(draft) / f"{name}.png"
            file.write_bytes(png)
            self.client.log_artifact(run_id, str(file))

    def pictures(self, run_id: str) -> set[str]:
        files = [Path(file.path) for file in self.client.list_artifacts(run_id)]
        return {file.stem for file in files if file.suffix == ".png"}

    def card(self, run_id: str) -> str:
        with tempfile.TemporaryDirectory() as draft:
            return Path(self.client.download_artifacts(run_id, CARD, draft)).read_text()

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        self.client.log_batch(run_id, tags=[RunTag(name, text) for name, text in tags.items()])

    def log_metrics(self, run_id: str, figures: Mapping[str, float], step: int = 0) -> None:
        rows = [Metric(name, value, self.clock() // 1_000, step) for name, value in figures.items()]
        for start in range(0, len(rows), BATCH_METRICS):
            self.client.log_batch(run_id, metrics=rows[start : start + BATCH_METRICS])

    def log_model(self, run_id: str, bundle_folder: Path) -> None:
        """The bundle as a pyfunc: our own files as they are, and how MLflow's tools load them."""
        example = pd.DataFrame({pyfunc.HISTORY: [pyfunc.EXAMPLE_HISTORY]})
        answer = pyfunc.BundleModel(Bundle.load(bundle_folder)).predict(example)
        with tempfile.TemporaryDirectory() as draft:
            mlflow.pyfunc.save_model(
                f"{draft}/{ARTIFACT}",
                loader_module=pyfunc.__name__,
                data_path=str(bundle_folder),
                pip_requirements=pyfunc.requirements(),
                signature=infer_signature(example, answer),
                input_example=example,
            )
            self.client.log_artifacts(run_id, f"{draft}/{ARTIFACT}", ARTIFACT)

    def _experiment(self, name: str) -> str:
        if (experiment := self.client.get_experiment_by_name(name)) is not None:
            return experiment.experiment_id
        try:
            return self.client.create_experiment(name)
        except MlflowException:  # another process may have made it in between
            if (experiment := self.client.get_experiment_by_name(name)) is None:
                raise
            return experiment.experiment_id


def verdicts(judgement: Mapping[str, Any]) -> dict[str, str]:
    """A judgement's verdicts as tags: of the whole and of each gate."""
    gates = {f"gate.{gate['name']}": gate["verdict"] for gate in judgement["gates"]}
    return {"accepted": str(judgement["accepted"]).lower(), "decision": judgement["decision"], **gates}
