"""A hybrid from nothing: every part is chosen on validation, then fitted again on all that may be learned from."""

import copy
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from attune.clock import shown_time
from attune.errors import DataContractError
from models.baselines import ItemKnn, Tried
from models.catalogue import Catalogue
from models.history import Recommender
from models.hybrid import Hybrid
from models.item_vectors import VectorSpace
from models.learning.batches import Sequences, new_and_replayed
from models.learning.checkpoint import Checkpoint
from models.learning.dataset import TrainingSet, is_panel
from models.learning.fit import Schedule, fit, seeded
from models.learning.selection import MixSearch, Validation
from models.network.config import Recipe
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender, torch_threads
from models.ranking.preference import Preference
from models.sources import SOURCES, Source, SourceKind

OnEpoch = Callable[[dict[str, Any]], None]
"""Is given each epoch's row of the report as soon as it is known."""

SCORES_AT_ONCE = 20_000_000  # the weights of the mix are chosen on this many scores a part at most
WARM_START_LENGTH = 0.2
RIDGE = 0.1  # of the mean square of a vector's numbers


@dataclass(frozen=True)
class Trained:
    """A hybrid and what it was made of.

    ``trained_upto_time`` is measured: the latest time of an event that any part learned from or was chosen on;
    ``trained_upto`` is the last position among these. ``holdout_after_time`` is declared: whatever happened after it
    was left to the judgement; ``holdout_after`` is the last position up to then. The gate `lineage` compares the times.
    ``catalogue`` is the one that the hybrid scores, with its items' statistics as of the end of its training.
    ``panel_users`` counts the panel's users among those learned from. ``report`` holds JSON values: parameters,
    figures by epoch, what was chosen, each part alone, the ablation.
    """

    hybrid: Hybrid
    catalogue: Catalogue
    recipe: Recipe
    trained_upto: int
    trained_upto_time: int
    holdout_after: int
    holdout_after_time: int
    seed: int
    panel_users: int
    report: dict[str, Any]


def train(
    training_set: TrainingSet,
    recipe: Recipe,
    train_upto: int,
    validate_upto: int,
    seed: int,
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
) -> Trained:
    """Learn from moments up to ``train_upto``, choose on those up to ``validate_upto``, then learn from both.

    No event after ``validate_upto`` is learned from or chosen on, and none of the panel's users (see
    ``models.learning.dataset`` for what of theirs is counted all the same). Deterministic for a seed on one machine.
    ``checkpoint`` as in ``choose``. Raises DataContractError when nothing is left to learn from.
    """
    known = learnable(training_set, validate_upto)
    with torch_threads(recipe.threads):
        learned = known.upto(train_upto)
        validation = validation_over(known, learned.catalogue, train_upto, validate_upto, recipe)
        chosen, epochs, tried = choose(learned, validation, recipe, seed, on_epoch, checkpoint=checkpoint)
        report = {
            **report_on(chosen, validation, known, recipe, seed, epochs),
            "train_upto": train_upto,
            "validate_upto": validate_upto,
            "tried": tried,
        }
        final = refit(known, chosen.without_idle(), train_upto, recipe, seed)
    return Trained(
        final,
        known.catalogue,
        recipe,
        trained_upto=int(known.positions.max()),
        trained_upto_time=int(known.times.max()),
        holdout_after=last_position(training_set, validate_upto),
        holdout_after_time=validate_upto,
        seed=seed,
        panel_users=panel_users(known),
        report=report,
    )


def choose(
    learned: TrainingSet,
    validation: Validation,
    recipe: Recipe,
    seed: int,
    on_epoch: OnEpoch | None = None,
    sources: Mapping[str, SourceKind] = SOURCES,
    checkpoint: Path | None = None,
) -> tuple[Hybrid, list[dict[str, Any]], dict[str, Tried]]:
    """A hybrid that learned from ``learned`` alone, a row for each epoch, and all that was tried on ``validation``.

    Nothing is taken out of ``learned``: ``train`` has left out the panel. ``sources`` stand beside the network; one
    of them is item-kNN, which the network starts from. After each epoch the network is stored in the file
    ``checkpoint``, and it goes on from there if the file exists.
    """

    def measure(recommender: Recommender) -> float:
        return validation.figures(recommender)["objective"]

    results = {name: kind.choose(learned, recipe, measure) for name, kind in sources.items()}
    others = tuple(source for source, _ in results.values())
    network, epochs = _choose_network(learned, others, validation, recipe, seed, on_epoch, Checkpoint(checkpoint))
    weights, weights_tried = MixSearch((network, *others), validation).choose(recipe.mix_step)
    chosen = Hybrid(network, others, weights, preference_of(recipe), live=recipe.online.live_weight)
    return chosen, epochs, {**{name: tried for name, (_, tried) in results.items()}, "weights": weights_tried}


def report_on(
    chosen: Hybrid, validation: Validation, known: TrainingSet, recipe: Recipe, seed: int, epochs: list[dict[str, Any]]
) -> dict[str, Any]:
    """What every training reports: its data, its epochs, what was chosen, and how that does on validation.

    ``ablation`` holds the network's figures when a group of statistics is unknown to it, beside those with all of them.
    """
    network = chosen.network
    return {
        "recipe": recipe.as_dict(),
        "seed": seed,
        "events": len(known),
        "users": len(np.unique(known.users)),
        "items": len(known.catalogue),
        "parameters": sum(weight.numel() for weight in network.network.parameters()),
        "epochs": epochs,
        "chosen": {
            "epochs": best_epoch(epochs),
            "weights": dict(zip(chosen.names, chosen.weights, strict=True)),
            **{other.name: other.settings() for other in chosen.others},
        },
        "validation": {part.name: validation.figures(part) for part in (*chosen.parts, chosen)},
        "ablation": {
            "with all statistics": validation.figures(network),
            "without user_stats": validation.without("user_stats_BF").figures(network),
            "without item_stats": validation.without("item_stats_BLF").figures(network),
        },
    }


def best_epoch(epochs: list[dict[str, Any]]) -> int:
    """The first epoch with the largest objective."""
    return int(max(epochs, key=lambda row: row["objective"])["epoch"])


def panel_users(learned: TrainingSet) -> int:
    return int(is_panel(learned.user_ids[np.unique(learned.users)]).sum())


def last_position(training_set: TrainingSet, moment: int) -> int:
    """The last log position among the events up to a moment."""
    return int(training_set.positions[training_set.times <= moment].max())


def learnable(training_set: TrainingSet, upto: int) -> TrainingSet:
    """What may be learned from: moments up to ``upto``, and no event of the panel's users."""
    known = training_set.select(~is_panel(training_set.user_ids)[training_set.users]).upto(upto)
    if not len(known):
        raise DataContractError(f"no event up to {shown_time(upto)} may be learned from (the panel's users never are)")
    return known


def validation_over(known: TrainingSet, catalogue: Catalogue, after: int, upto: int, recipe: Recipe) -> Validation:
    """Questions at moments in (after, upto], with the items' statistics as ``catalogue`` has them."""
    most = max(200, min(recipe.validation_groups, SCORES_AT_ONCE // len(catalogue)))
    return Validation.over(replace(known, catalogue=catalogue), after, upto, most)


def refit(known: TrainingSet, chosen: Hybrid, train_upto: int, recipe: Recipe, seed: int) -> Hybrid:
    """Every part, as it was chosen, brought up to everything known.

    The other sources are fitted again; the network learns on, from the window that it was chosen on and a replay of
    what it had learned: the hybrid is as good as from nothing, in a sixth of the time (docs/lab-notes.md).
    """
    others = tuple(other.refit(known) for other in chosen.others)
    network, names = copy.deepcopy(chosen.network.network), chosen.network.genre_names
    choose = new_and_replayed(known.times > train_upto, recipe.replay_share)
    fit(network, Sequences.of(known, recipe.reward_floor), recipe, tuning_schedule(recipe), seed, choose=choose)
    return replace(chosen, network=SequenceRecommender(network, names), others=others)


def preference_of(recipe: Recipe) -> Preference | None:
    """The users' preference vector as the recipe has it; None where it has no weight."""
    online = recipe.online
    return Preference(online.preference_step, online.preference_weight) if online.preference_weight else None


def tuning_schedule(recipe: Recipe) -> Schedule:
    return Schedule(recipe.finetune_epochs, recipe.finetune_rate, recipe.warmup, 0.0, recipe.finetune_pull)


def warm_start(similarity_NN: sp.csr_matrix, width: int) -> np.ndarray:
    """ids_ND whose inner products are close to the similarities: the leading eigenvectors, scaled by their roots.

    Few events cannot place thousands of items; the co-occurrences place most of them at once. Rows have a mean
    length of ``WARM_START_LENGTH``; items without neighbours are at zero, so their attributes speak for them.
    """
    count = similarity_NN.shape[0]
    ids_ND = np.zeros((count, width), np.float32)
    kept = min(width, count - 2)
    if kept < 1 or not similarity_NN.count_nonzero():
        return ids_ND
    symmetric_NN = ((similarity_NN + similarity_NN.T) * 0.5).astype(np.float64)
    try:
        values, vectors_NK = eigsh(symmetric_NN, k=kept, which="LA", v0=np.random.default_rng(0).random(count))
    except ArpackNoConvergence as error:  # a few of the eigenvectors are better than none
        values, vectors_NK = error.eigenvalues, error.eigenvectors
    placed_NK = vectors_NK * np.sqrt(np.maximum(values, 0.0))
    length = np.linalg.norm(placed_NK, axis=1).mean()
    ids_ND[:, : placed_NK.shape[1]] = placed_NK * (WARM_START_LENGTH / max(length, 1e-12))
    return ids_ND


def told_by(vectors_NV: np.ndarray, ids_ND: np.ndarray) -> np.ndarray:
    """vector_VD: what the vectors say of where items are, by ridge regression over those that are not at zero."""
    known_N = ids_ND.any(axis=1)
    known_MV, ids_MD = vectors_NV[known_N].astype(np.float32), ids_ND[known_N]
    squares_VV = known_MV.T @ known_MV
    weight = RIDGE * np.trace(squares_VV) / max(len(squares_VV), 1) + 1e-6
    return np.linalg.solve(squares_VV + weight * np.eye(len(squares_VV)), known_MV.T @ ids_MD).astype(np.float32)


def _choose_network(
    learned: TrainingSet,
    others: tuple[Source, ...],
    validation: Validation,
    recipe: Recipe,
    seed: int,
    on_epoch: OnEpoch | None,
    checkpoint: Checkpoint,
) -> tuple[SequenceRecommender, list[dict[str, Any]]]:
    """A network trained for the recipe's epochs, as it was after the best of them, and a row per epoch."""
    vectors = learned.catalogue.vectors if recipe.network.item_vectors else {}
    attributes = ItemAttributes.of(learned.catalogue, space=VectorSpace.of(vectors))
    names = attributes.genre_names
    with seeded(seed):
        network = SequenceNetwork(recipe.network, attributes)
    knn = next(other for other in others if isinstance(other, ItemKnn))
    ids_ND = warm_start(knn.similarity_NN, recipe.network.width)
    vector_VD = told_by(attributes.vectors_NV, ids_ND)
    with torch.no_grad():
        if network.vector_VD is not None:
            network.vector_VD.copy_(torch.from_numpy(vector_VD))
            ids_ND -= np.where(ids_ND.any(axis=1, keepdims=True), attributes.vectors_NV @ vector_VD, 0.0)
        network.ids_ND.copy_(torch.from_numpy(ids_ND))
    network = on_best_device(network)
    often = Validation(validation.batches[:: recipe.validate_every_batch])
    rows, weights = checkpoint.rows, checkpoint.best

    def after_epoch(epoch: int, loss: float) -> None:
        row = {"epoch": epoch, "loss": loss, **often.figures(SequenceRecommender(network, names))}
        if row["objective"] > max((earlier["objective"] for earlier in rows), default=-math.inf):
            weights.update({name: tensor.clone() for name, tensor in network.state_dict().items()})
        rows.append(row)
        if on_epoch is not None:
            on_epoch(row)

    schedule = Schedule(recipe.epochs, recipe.learning_rate, recipe.warmup, recipe.weight_decay)
    sequences = Sequences.of(learned, recipe.reward_floor)
    fit(network, sequences, recipe, schedule, seed, after_epoch, checkpoint=checkpoint)
    network.load_state_dict(weights)
    return SequenceRecommender(network, names), rows


def has_accelerator() -> bool:
    return torch.cuda.is_available()


def on_best_device(network: SequenceNetwork) -> SequenceNetwork:
    """Of processes that learn together each has an accelerator of its own."""
    return network.to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if has_accelerator() else "cpu")
