"""A version's run in MLflow: the parameters, figures, plots, data set and files that stand behind the version."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from attune.clock import Clock
from models import pyfunc
from models.bundle import Bundle
from models.figures import flat, for_json

EXPERIMENT = "attune"
ARTIFACT = "model"
PARAM_LIMIT = 500
BATCH_METRICS, BATCH_PARAMS = 1_000, 100
PARAMETERS, MEASURED = ("chosen",), ("validation", "ablation")


class Runs:
    """The runs of the experiment ``attune``, one a version. What MLflow raises goes through."""

    def __init__(self, client: MlflowClient, clock: Clock) -> None:
        self.client, self.clock = client, clock

    def begin(self, name: str, tags: Mapping[str, str]) -> Run:
        """A new run of that name; the experiment is made with the first."""
        return self.client.create_run(self._experiment(), run_name=name, tags=dict(tags))

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
        plain = {name: v for name, v in report.items() if not isinstance(v, Mapping | list) or name in PARAMETERS}
        params = {**_texts(plain), **_texts(config)}
        pairs = [Param(name, text[:PARAM_LIMIT]) for name, text in sorted(params.items())]
        for start in range(0, len(pairs), BATCH_PARAMS):
            self.client.log_batch(run_id, params=pairs[start : start + BATCH_PARAMS])
        for place, epoch in enumerate(report.get("epochs", [])):
            self.log_metrics(run_id, flat({"epoch": epoch}), int(epoch.get("epoch", place)))
        self.log_metrics(run_id, flat({name: report[name] for name in MEASURED if name in report}))
        self.client.log_text(run_id, json.dumps(for_json(report), indent=1), "training_report.json")
        window = config["window"]
        data = Dataset("training window", window["digest"][:36], "attune lake", json.dumps(window))
        self.client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def log_metrics(self, run_id: str, figures: Mapping[str, float], step: int = 0) -> None:
        """Figures by name, at a step."""
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

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return found.experiment_id
        try:
            return self.client.create_experiment(EXPERIMENT)
        except MlflowException:  # somebody made it in between
            found = self.client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
            return found.experiment_id


def _texts(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Every leaf of a nested mapping as text under its dotted path."""
    found: dict[str, str] = {}
    for name, value in nested.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        found |= _texts(value, path) if isinstance(value, Mapping) else {path: str(value)}
    return found
