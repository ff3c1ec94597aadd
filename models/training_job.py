"""From a training set's folder to a sealed bundle, and from a bundle to a registered version.

A bundle's folder is named by everything that decides it (data, recipe, seed, code), so making it again finds it done.
"""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attune.clock import shown_time
from attune.errors import DataContractError
from models import model_card
from models.bundle import CONFIG, Bundle, Provenance, git_commit, golden_batch, save_bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet, share_upto, split_windows
from models.learning.finetuning import finetune
from models.learning.training import OnEpoch, Trained, has_accelerator, train
from models.network.config import AUTO, Recipe, recipe_for, recipe_named
from models.ranking.policy import Policy
from models.ranking.policy_registry import Exploration
from models.ranking.thompson import learned_policy

if TYPE_CHECKING:
    from models.registry import Registry  # MLflow, which training needs not

OnProgress = Callable[[float], None]
"""Is told how much is done, from 0 to 1."""

Gather = Callable[[int, int], Path]
"""Writes what is known of reactions to slates (``models.ranking.thompson``) that arrived up to a log position and were
settled by a moment."""

PLAIN = Exploration()
MOST_HISTORIES = 0.95  # the share of histories that a recipe for the data reads whole


def train_bundle(
    folder: Path,
    bundles: Path,
    recipe: str,
    seed: int,
    on_progress: OnProgress | None = None,
    exploration: Exploration = PLAIN,
    gather: Gather | None = None,
) -> Path:
    """Train by a named recipe, or ``auto``, on a training set's folder; returns the bundle's folder under ``bundles``.

    The last events are left to the gates (see ``models.learning.dataset``). ``on_progress`` is told the share of the
    epochs that is done. A policy that learns from reactions is given what ``gather`` says of them, up to where the
    hold-out begins. Raises ConfigError for an unknown recipe.
    """
    training_set = TrainingSet.load(folder)
    chosen = chosen_recipe(recipe, training_set)
    windows = split_windows(training_set.times)

    def make(checkpoint: Path) -> Trained:
        told = _by_epoch(on_progress, chosen.epochs)
        return train(training_set, chosen, windows.train_upto, windows.validate_upto, seed, told, checkpoint)

    named = ("train", chosen, seed, windows, *_digests(training_set), exploration)
    reactions = (
        gather(training_set.window["last_position"], windows.validate_upto) if gather and exploration.learns else None
    )
    return _made(
        bundles, named, training_set, make, lambda hybrid: exploration.of(tuple(hybrid.source_weights)), reactions
    )


def chosen_recipe(name: str, training_set: TrainingSet) -> Recipe:
    """The recipe of that name, or for ``auto`` the one that fits. Raises ConfigError for an unknown one."""
    if name != AUTO:
        return recipe_named(name)
    _, lengths_U = np.unique(training_set.users, return_counts=True)
    return recipe_for(len(training_set), int(np.quantile(lengths_U, MOST_HISTORIES)), has_accelerator())


def finetune_bundle(
    champion: Path,
    folder: Path,
    bundles: Path,
    seed: int,
    hold_back: float,
    on_progress: OnProgress | None = None,
    gather: Gather | None = None,
) -> Path:
    """Fine-tune the champion's bundle on what it has not learned; returns the new bundle's folder.

    It draws by the champion's policy. Of the events after its hold-out began the last ``hold_back`` share is left to
    the gates; late ones, dated before that, are all learned. ``on_progress`` and ``gather`` as in ``train_bundle``.
    Raises DataContractError when there are none.
    """
    training_set, bundle = TrainingSet.load(folder), Bundle.load(champion)
    known_upto = training_set.moment(bundle.holdout_after, bundle.holdout_after_time)
    later = training_set.times[training_set.times > known_upto]
    upto = share_upto(later, 1.0 - hold_back) if len(later) else known_upto
    if not len(later) and int(training_set.positions.max()) <= bundle.arrived_upto:
        raise DataContractError(
            f"nothing to learn from: the champion knows everything up to {shown_time(upto)} already"
        )

    def make(checkpoint: Path) -> Trained:
        recipe = Recipe.from_dict(bundle.config["recipe"])
        return finetune(bundle, training_set, recipe, upto, seed, _by_epoch(on_progress, recipe.finetune_epochs))

    named = ("finetune", bundle.digest, seed, upto, *_digests(training_set))
    reactions = gather(training_set.window["last_position"], upto) if gather and bundle.policy.features else None
    return _made(bundles, named, training_set, make, lambda hybrid: bundle.policy, reactions, bundle.digest)


def _digests(training_set: TrainingSet) -> tuple[str, ...]:
    window = training_set.window
    return (window["digest"], window["vectors"]) if "vectors" in window else (window["digest"],)


def _by_epoch(on_progress: OnProgress | None, epochs: int) -> OnEpoch | None:
    if on_progress is None:
        return None
    return lambda row: on_progress(min(1.0, row["epoch"] / max(epochs, 1)))


def _made(
    bundles: Path,
    named: tuple[object, ...],
    training_set: TrainingSet,
    make: Callable[[Path], Trained],
    draw_by: Callable[[Hybrid], Policy],
    reactions: Path | None,
    parent: str | None = None,
) -> Path:
    """The bundle of that name, made unless it is there; its policy is ``draw_by``'s, taught by the ``reactions``."""
    commit = git_commit()
    learned = reactions and sha256(reactions.read_bytes()).hexdigest()
    digest = sha256(repr((*named, learned, commit)).encode()).hexdigest()[:16]
    folder = bundles / "made" / f"{named[0]}-{digest}"
    report = report_file(folder)
    if folder.exists() and report.exists():
        return folder
    if folder.exists():  # ended between the bundle and its report
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = folder.with_name(f"{folder.name}.checkpoint")
    trained = make(checkpoint)
    provenance = Provenance(
        recipe=trained.recipe.as_dict(),
        window=training_set.window,
        trained_upto=trained.trained_upto,
        holdout_after=trained.holdout_after,
        seed=trained.seed,
        panel_users_trained=trained.panel_users,
        parent=parent,
        git_commit=commit,
        trained_upto_time=trained.trained_upto_time,
        holdout_after_time=trained.holdout_after_time,
    )
    golden = golden_batch(training_set, trained.trained_upto_time, trained.catalogue)
    policy = learned_policy(draw_by(trained.hybrid), trained.hybrid.source_weights, reactions)
    save_bundle(folder, trained.hybrid, trained.catalogue, policy, provenance, golden)
    report.write_text(json.dumps(trained.report, indent=1))
    checkpoint.unlink(missing_ok=True)
    return folder


def report_file(bundle: Path) -> Path:
    return bundle.with_name(f"{bundle.name}.report.json")


def register(registry: "Registry", bundle: Path, parent: str | None) -> dict[str, Any]:
    """Register a bundle as challenger, once; returns ``version``, ``bundle``, ``card`` (Markdown) and ``figures``."""
    report = json.loads(report_file(bundle).read_text()) if report_file(bundle).exists() else {}
    version = registry.find(bundle) or registry.register(bundle, report, parent)
    registry.point_challenger(version)
    config = json.loads((bundle / CONFIG).read_text())
    return {
        "version": version,
        "bundle": str(bundle),
        "card": model_card.render(config, report, parent),
        "figures": {"version": version, **headline(report)},
    }


def headline(report: dict[str, Any]) -> dict[str, Any]:
    """The figures of a training report that fit on one line; NDCG@10 is over liked targets where there are any."""
    validation = {
        f"{name} NDCG@10": row.get("ndcg@10_positive", row["ndcg@10"])
        for name, row in report.get("validation", {}).items()
    }
    named: dict[str, Any] = {name: report[name] for name in ("events", "items", "parameters") if name in report}
    return {**named, **({"recipe": report["recipe"]["name"]} if "recipe" in report else {}), **validation}
