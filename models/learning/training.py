"""A hybrid from nothing: every part is chosen on validation, then fitted again on all that may be learned."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from attune.errors import DataContractError
from models.baselines import ItemKnn, Popularity
from models.catalogue import Catalogue
from models.hybrid import PARTS, Hybrid
from models.learning.batches import Sequences, new_and_replayed
from models.learning.dataset import TrainingSet, is_panel
from models.learning.fit import Schedule, fit, seeded
from models.learning.selection import MixSearch, Validation, choose_knn, choose_popularity
from models.network.config import Recipe
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender, torch_threads
from models.ranking.preference import Preference

OnEpoch = Callable[[dict[str, Any]], None]
"""Is given each epoch's row of the report as soon as it is known."""

SCORES_AT_ONCE = 20_000_000
"""The weights of the mix are chosen on this many scores a part at most, whatever the catalogue's size."""

WARM_START_LENGTH = 0.2


@dataclass(frozen=True)
class Trained:
    """A hybrid and what it was made of.

    ``trained_upto`` is measured: the last position among the events that any part learned from or was chosen on.
    ``holdout_after`` is declared: whatever lies after it was left to the judgement. The gate `lineage` compares them.
    ``catalogue`` is the one that the hybrid scores, with its items' statistics as of the end of its training.
    ``panel_users`` counts the panel's users among those learned from. ``report`` holds JSON values: parameters,
    figures by epoch, what was chosen, each part alone, the ablation.
    """

    hybrid: Hybrid
    catalogue: Catalogue
    recipe: Recipe
    trained_upto: int
    holdout_after: int
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
) -> Trained:
    """Learn from positions up to ``train_upto``, choose on those up to ``validate_upto``, then learn from both.

    No event after ``validate_upto`` is learned from or chosen on, and none of the panel's users (see
    ``models.learning.dataset`` for what of theirs is counted all the same). Deterministic for a seed on one machine.
    Raises DataContractError when nothing is left to learn from.
    """
    known = learnable(training_set, validate_upto)
    with torch_threads(recipe.threads):
        final, report = _learn(known, recipe, train_upto, validate_upto, seed, on_epoch)
    used = last_position(known)
    return Trained(final, known.catalogue, recipe, used, validate_upto, seed, panel_users(known), report)


def _learn(
    known: TrainingSet, recipe: Recipe, train_upto: int, validate_upto: int, seed: int, on_epoch: OnEpoch | None
) -> tuple[Hybrid, dict[str, Any]]:
    """The hybrid and its report."""
    learned = known.upto(train_upto)
    validation = validation_over(known, learned.catalogue, train_upto, validate_upto, recipe)

    popularity, popularity_tried = choose_popularity(learned, validation, recipe)
    knn, knn_tried = choose_knn(learned, validation, recipe.knn)
    network, epochs = _choose_network(learned, knn, validation, recipe, seed, on_epoch)
    search = MixSearch((network, knn, popularity), validation)
    weights, weights_tried = search.choose(recipe.mix_step)
    chosen = Hybrid(network, knn, popularity, weights, preference_of(recipe), live=recipe.felt.live_weight)
    best_epoch = max(epochs, key=lambda row: row["objective"])["epoch"]

    final = refit(known, chosen, train_upto, recipe, seed)
    return final, {
        "recipe": recipe.as_dict(),
        "seed": seed,
        "train_upto": train_upto,
        "validate_upto": validate_upto,
        "events": len(known),
        "users": len(np.unique(known.users)),
        "items": len(known.catalogue),
        "parameters": sum(one.numel() for one in network.network.parameters()),
        "epochs": epochs,
        "chosen": {
            "epochs": best_epoch,
            "weights": dict(zip(PARTS, weights, strict=True)),
            "item-knn": knn.settings(),
            "popularity": popularity.settings(),
        },
        "tried": {"popularity": popularity_tried, "item-knn": knn_tried, "weights": weights_tried},
        "validation": parts_alone(chosen, validation),
        "ablation": ablation(chosen, validation),
    }


def last_position(learned: TrainingSet) -> int:
    """The last log position among the events learned from, measured on them whatever was asked for."""
    return int(learned.positions.max())


def panel_users(learned: TrainingSet) -> int:
    """How many of the users learned from belong to the panel."""
    return int(is_panel(learned.user_ids[np.unique(learned.users)]).sum())


def learnable(training_set: TrainingSet, upto: int) -> TrainingSet:
    """What may be learned from: positions up to ``upto``, and no event of the panel's users."""
    panel = is_panel(training_set.user_ids)
    known = training_set.select(~panel[training_set.users]).upto(upto)
    if not len(known):
        raise DataContractError(f"no event up to position {upto} may be learned from (the panel's users never are)")
    return known


def validation_over(known: TrainingSet, catalogue: Catalogue, after: int, upto: int, recipe: Recipe) -> Validation:
    """Questions at positions in (after, upto], with the items' statistics as ``catalogue`` has them."""
    most = max(200, min(recipe.validation_groups, SCORES_AT_ONCE // len(catalogue)))
    return Validation.over(replace(known, catalogue=catalogue), after, upto, most)


def refit(known: TrainingSet, chosen: Hybrid, train_upto: int, recipe: Recipe, seed: int) -> Hybrid:
    """Every part, as it was chosen, brought up to everything known.

    What is counted is counted again; the network learns on, from the stretch that it was chosen on and a replay of
    what it had learned: the hybrid is as good as from nothing, in a sixth of the time (docs/lab-notes.md).
    """
    knn = ItemKnn.fit(known, chosen.knn.choice)
    popularity = Popularity.fit(known, chosen.popularity.half_life_days)
    network, names = copy.deepcopy(chosen.network.network), chosen.network.genre_names
    choose = new_and_replayed(train_upto, recipe.replay_share)
    fit(network, Sequences.of(known, recipe.reward_floor), recipe, tuning_schedule(recipe), seed, choose=choose)
    return replace(chosen, network=SequenceRecommender(network, names), knn=knn, popularity=popularity)


def preference_of(recipe: Recipe) -> Preference | None:
    """What of the recipe is the users' preference vector; None where it has no weight."""
    felt = recipe.felt
    return Preference(felt.preference_step, felt.preference_weight) if felt.preference_weight else None


def tuning_schedule(recipe: Recipe) -> Schedule:
    """The schedule of a network that learns on."""
    return Schedule(recipe.finetune_epochs, recipe.finetune_rate, recipe.warmup, 0.0, recipe.finetune_pull)


def schedule_of(recipe: Recipe) -> Schedule:
    """The schedule of a training from nothing."""
    return Schedule(recipe.epochs, recipe.learning_rate, recipe.warmup, recipe.weight_decay)


def new_network(
    learned: TrainingSet, knn: ItemKnn, recipe: Recipe, seed: int
) -> tuple[SequenceNetwork, tuple[str, ...]]:
    """An untaught network on the best device, its items placed by item-kNN's similarities; and its genres."""
    attributes = ItemAttributes.of(learned.catalogue)
    with seeded(seed):
        network = SequenceNetwork(recipe.network, attributes)
    with torch.no_grad():
        network.ids_ND.copy_(torch.from_numpy(warm_start(knn.similarity_NN, recipe.network.width)))
    return network.to("cuda" if torch.cuda.is_available() else "cpu"), attributes.genre_names


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
    start_N = np.random.default_rng(0).random(count)
    try:
        values, vectors_NK = eigsh(symmetric_NN, k=kept, which="LA", v0=start_N)
    except ArpackNoConvergence as found:  # a few of the eigenvectors are better than none
        values, vectors_NK = found.eigenvalues, found.eigenvectors
    placed_NK = vectors_NK * np.sqrt(np.maximum(values, 0.0))
    length = np.linalg.norm(placed_NK, axis=1).mean()
    ids_ND[:, : placed_NK.shape[1]] = placed_NK * (WARM_START_LENGTH / max(length, 1e-12))
    return ids_ND


def _choose_network(
    learned: TrainingSet,
    knn: ItemKnn,
    validation: Validation,
    recipe: Recipe,
    seed: int,
    on_epoch: OnEpoch | None,
) -> tuple[SequenceRecommender, list[dict[str, Any]]]:
    """A network taught for the recipe's epochs, as it was after the best of them, and a row per epoch."""
    network, names = new_network(learned, knn, recipe, seed)
    often = validation.thinned(recipe.validate_every_batch)
    rows: list[dict[str, Any]] = []
    weights: dict[str, torch.Tensor] = {}

    def after_epoch(epoch: int, loss: float) -> None:
        row = {"epoch": epoch, "loss": loss, **often.figures(SequenceRecommender(network, names))}
        if row["objective"] > max((one["objective"] for one in rows), default=-1.0):
            weights.update({name: tensor.clone() for name, tensor in network.state_dict().items()})
        rows.append(row)
        if on_epoch is not None:
            on_epoch(row)

    fit(network, Sequences.of(learned, recipe.reward_floor), recipe, schedule_of(recipe), seed, after_epoch)
    network.load_state_dict(weights)
    return SequenceRecommender(network, names), rows


def parts_alone(hybrid: Hybrid, validation: Validation) -> dict[str, dict[str, float]]:
    """Each part's figures on validation, and the hybrid's."""
    return {one.name: validation.figures(one) for one in (*hybrid.parts, hybrid)}


def ablation(hybrid: Hybrid, validation: Validation) -> dict[str, dict[str, float]]:
    """The network's figures when a group of statistics is unknown to it, beside those with all of them."""
    network = hybrid.network
    return {
        "with all statistics": validation.figures(network),
        "without user_stats": validation.without("user_stats_BF").figures(network),
        "without item_stats": validation.without("item_stats_BLF").figures(network),
    }
