"""Trains a model from scratch: training set, training, registration as challenger."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect.artifacts import create_markdown_artifact

from attune.settings import Settings
from flows import resources
from flows.automations import MODEL, REGISTERED, announce
from flows.ingest import move_to_lake
from flows.materialize import update_features
from flows.steps import HOUR, flow, progress, step
from flows.validate import validate_window


def refresh(settings: Settings, features: bool = True) -> None:
    """Run the steps of ingest, validate and (unless told not to) materialize: learning and judging begin with them.

    A batch that breaks its expectations is a verdict, not an error: who reads the events demands that they passed.
    """
    move_to_lake(settings)
    validate_window(settings)
    if features:
        update_features(settings)


@step
def build_training_set(settings: Settings, upto: int | None) -> Path:
    """The events up to a position (the lake's watermark by default) with their features, once validated; the vectors of
    the items beside them."""
    from features import training_set
    from features.validation_results import ValidationResults
    from models import item_vectors

    lake = resources.lake(settings)
    last = lake.watermark() if upto is None else upto
    ValidationResults(settings.validation_folder).demand(last)
    folder = settings.training_folder / f"upto-{last}"
    training_set.build(lake, resources.feature_store(settings), folder, last)
    item_vectors.write(folder, item_vectors.text_vectors(settings.text_encoder, settings.texts_folder))
    return folder


@step
def fit(settings: Settings, folder: Path, recipe: str, seed: int, exploration: dict[str, Any]) -> Path:
    """Train every part and save the bundle; what lies after its ``holdout_after`` is for the gates."""
    from models import training_job
    from models.ranking.policy_registry import Exploration

    bar, bundles = progress("training-progress", "Epochs of the network"), settings.bundles_folder
    reactions = reactions_writer(settings, folder)
    return training_job.train_bundle(folder, bundles, recipe, seed, bar, Exploration(**exploration), reactions)


def reactions_writer(settings: Settings, folder: Path) -> Callable[[int, int], Path]:
    """Writes the reactions to slates that a policy can learn from, up to a position and a moment, into a folder."""
    from features.logged_slates import write_source_reactions

    return partial(write_source_reactions, resources.lake(settings), folder)


@step
def cross_validate(folder: Path, bundle: Path, recipe: str, seed: int, origins: int) -> None:
    """Train the same at earlier moments, and put into the bundle's report how far its figures can be trusted."""
    from evaluation import origins as rolling

    rolling.cross_validate(folder, bundle, recipe, seed, origins)


@step
def register_challenger(settings: Settings, bundle: Path, parent: str | None = None) -> dict[str, Any]:
    """Register the bundle in MLflow as challenger and show its report in the run's page."""
    from models import training_job

    registered = training_job.register(resources.registry(settings), bundle, parent)
    create_markdown_artifact(key="model-card", markdown=registered.pop("card"), description="What the version is.")
    announce(REGISTERED, MODEL, {"version": registered["version"]})
    return registered


@flow(name="train", timeout_seconds=6 * HOUR)
def train(
    recipe: Literal["auto", "tiny", "mini", "small", "base"] = "auto",
    seed: int = 0,
    upto: int | None = None,
    origins: int = 0,
    policy: Literal["plackett-luce", "greedy", "epsilon", "thompson"] = "plackett-luce",
    explore_budget: int | None = None,
    explore_days: float = 1.0,
    least_quality: float = 0.0,
) -> dict[str, Any]:
    """Train from scratch on everything in the log and register the version as challenger.

    Args:
        recipe: What to build; auto takes what fits the data.
        seed: Equal seeds give equal models.
        upto: Learn from events up to this position of the log only.
        origins: Also train at so many earlier moments (at least 2) and put mean and spread into the report; 0 for none.
        policy: What its slates are drawn by.
        explore_budget: Positions that may explore for one user within the days; none: any number.
        explore_days: What that budget is for.
        least_quality: The least share of the best slate's worth that a slate has, 0 to 1.
    """
    exploration = {"policy": policy, "budget": explore_budget, "days": explore_days, "least_quality": least_quality}
    settings = Settings()
    refresh(settings)
    folder = build_training_set(settings, upto)
    bundle = fit(settings, folder, recipe, seed, exploration)
    if origins:
        cross_validate(folder, bundle, recipe, seed, origins)
    return register_challenger(settings, bundle)
