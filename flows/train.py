"""A model from nothing: training set, training, registration as challenger."""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from attune.settings import Settings
from features import training_set
from features.store import FeatureStore
from features.verdicts import Verdicts
from flows import rooms
from models import workshop


@task
def build_training_set(upto: int | None) -> Path:
    """The events up to a position (the lake's watermark by default) with their features, once validated."""
    settings = Settings()
    lake = rooms.lake(settings)
    last = lake.watermark() if upto is None else upto
    Verdicts(settings.validation_folder).demand(last)
    folder = settings.training_folder / f"upto-{last}"
    return training_set.build(lake, FeatureStore(settings), folder, last).folder


@task
def fit(folder: Path, recipe: str, seed: int) -> Path:
    """Train every part and save the bundle; what lies after its ``holdout_after`` is for the gates."""
    return workshop.train_bundle(folder, Settings().bundles_folder, recipe, seed)


@task
def register_challenger(bundle: Path, parent: str | None = None) -> dict[str, Any]:
    """Register the bundle in MLflow as challenger and show its report in the run's page."""
    registered = workshop.register(rooms.registry(Settings()), bundle, parent)
    create_markdown_artifact(key="model-card", markdown=registered.pop("card"))
    return registered


@flow(name="train")
def train(recipe: str = "tiny", seed: int = 0, upto: int | None = None) -> dict[str, Any]:
    """Train by a named recipe on everything up to a position. Returns the version and its validation figures."""
    folder = build_training_set(upto)
    bundle = fit(folder, recipe, seed)
    return register_challenger(bundle)
