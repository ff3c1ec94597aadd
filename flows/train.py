"""A model from nothing: training set, training, registration as challenger."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect.artifacts import create_markdown_artifact

from attune.settings import Settings
from flows import resources
from flows.automations import MODEL, REGISTERED, announce
from flows.refresh import refresh
from flows.steps import HOUR, flow, progress, step


@step
def build_training_set(upto: int | None) -> Path:
    """The events up to a position (the lake's watermark by default) with their features, once validated."""
    from features import training_set
    from features.validation_results import Verdicts

    settings = Settings()
    lake = resources.lake(settings)
    last = lake.watermark() if upto is None else upto
    Verdicts(settings.validation_folder).demand(last)
    folder = settings.training_folder / f"upto-{last}"
    return training_set.build(lake, resources.feature_store(settings), folder, last).folder


@step
def fit(folder: Path, recipe: str, seed: int, exploration: dict[str, Any]) -> Path:
    """Train every part and save the bundle; what lies after its ``holdout_after`` is for the gates."""
    from models import build
    from models.ranking.named_policies import Exploration

    told, chosen = progress("training-progress", "Epochs of the network"), Exploration(**exploration)
    bundles = Settings().bundles_folder
    return build.train_bundle(folder, bundles, recipe, seed, told, chosen, reactions_beside(folder))


def reactions_beside(folder: Path) -> Callable[[int], Path]:
    """Writes into a training set's folder, up to a position, what policies learn from that learn from reactions."""
    from features import source_reactions

    return partial(source_reactions.build, resources.lake(Settings()), folder)


@step
def cross_validate(folder: Path, bundle: Path, recipe: str, seed: int, origins: int) -> None:
    """Train the same at earlier moments, and put into the bundle's report how far its figures can be trusted."""
    from evaluation import origins as origins_module

    origins_module.cross_validate(folder, bundle, recipe, seed, origins)


@step
def register_challenger(bundle: Path, parent: str | None = None) -> dict[str, Any]:
    """Register the bundle in MLflow as challenger and show its report in the run's page."""
    from models import build

    registered = build.register(resources.registry(Settings()), bundle, parent)
    create_markdown_artifact(key="model-card", markdown=registered.pop("card"), description="What the version is.")
    announce(REGISTERED, MODEL, {"version": registered["version"]})
    return registered


@flow(name="train", timeout_seconds=6 * HOUR)
def train(
    recipe: Literal["tiny", "small", "base"] = "tiny",
    seed: int = 0,
    upto: int | None = None,
    origins: int = 0,
    policy: Literal["plackett-luce", "greedy", "epsilon", "thompson"] = "plackett-luce",
    explore_budget: int | None = None,
    explore_days: float = 1.0,
    least_quality: float = 0.0,
) -> dict[str, Any]:
    """Train from nothing on everything in the log and register the version as challenger.

    Args:
        recipe: What to build; larger recipes want more events and time.
        seed: Equal seeds give equal models.
        upto: Learn from events up to this position of the log only.
        origins: Also train at so many earlier moments (at least 2) and put mean and spread into the report; 0 for none.
        policy: What its slates are drawn by.
        explore_budget: Positions that may explore for one user within the days; none: any number.
        explore_days: What that budget is for.
        least_quality: The least share of the best slate's worth that a slate has, 0 to 1.
    """
    exploration = {"policy": policy, "budget": explore_budget, "days": explore_days, "least_quality": least_quality}
    refresh()
    folder = build_training_set(upto)
    bundle = fit(folder, recipe, seed, exploration)
    if origins:
        cross_validate(folder, bundle, recipe, seed, origins)
    return register_challenger(bundle)
