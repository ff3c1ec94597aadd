"""Fine-tuning: the champion learns from the events after its training, with a replay of older ones.

The network starts from the champion's weights and is drawn back towards them (L2-SP, Li et al. 2018); new items start
from their attributes, see ``SequenceNetwork.unused``; item-kNN and popularity are counted again over everything. The
preference and the live profile stay. A first round on the head of the new window chooses the epochs and the weights on
its tail; the round that counts then starts from the champion again.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.bundle import Bundle
from models.catalogue import Catalogue
from models.hybrid import Hybrid
from models.learning.batches import Sequences, new_and_replayed
from models.learning.dataset import TrainingSet
from models.learning.fit import fit, seeded
from models.learning.selection import MixSearch, Validation
from models.learning.training import (
    OnEpoch,
    Trained,
    best_epoch,
    last_position,
    learnable,
    on_best_device,
    panel_users,
    report_on,
    tuning_schedule,
    validation_over,
)
from models.network.config import Recipe
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender, torch_threads

TAIL = 0.2  # the share of the new window that choices are made on
WORTH_A_CHANGE = (
    0.02  # the share by which other weights must be better on the tail than the champion's: a tail is small
)


Champion = Bundle | Trained
"""What fine-tuning starts from: a loaded bundle, or what training returned."""


def finetune(
    champion: Champion,
    training_set: TrainingSet,
    recipe: Recipe,
    train_upto: int,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Learn from moments up to ``train_upto``: what the champion did not, and a replay of the rest; see ``train``.

    New is what happened after the champion's latest event, and what arrived after its training, however early it is
    dated; choices are made on the former alone. No event after ``train_upto`` is learned from or chosen on. The network
    keeps the champion's shape, whatever ``recipe`` says. Raises DataContractError when nothing is left to learn from.
    """
    recipe = replace(recipe, network=champion.hybrid.network.network.config)
    known = learnable(training_set, train_upto)
    learned_moment = training_set.moment(champion.trained_upto, champion.trained_upto_time)
    later = np.sort(known.times[known.times > learned_moment])
    head_upto = int(later[int(len(later) * (1.0 - TAIL))]) - 1 if len(later) else train_upto
    head = known.upto(head_upto)
    with torch_threads(recipe.threads):
        validation = validation_over(known, head.catalogue, head_upto, train_upto, recipe)
        tried, epochs = _try_epochs(champion, head, validation, recipe, seed, on_epoch)
        search = MixSearch(tried.parts, validation)
        kept = search.measure(tried.weights)
        weights, mixes = search.choose(recipe.mix_step)
        if not search.measure(weights) > kept + abs(kept) * WORTH_A_CHANGE:
            weights = tried.weights
        final = _updated(champion, known, replace(recipe, finetune_epochs=best_epoch(epochs)), seed)
        report = {
            **report_on(replace(tried, weights=weights), validation, known, recipe, seed, epochs),
            "champion_trained_upto": champion.trained_upto,
            "train_upto": train_upto,
            "new_events": int(unlearned(champion, known).sum()),
            "new_items": int((champion.catalogue.places(known.catalogue.item_ids) < 0).sum()),
            "tried": {"weights": [{**search.row(tried.weights, kept), "champion": True}, *mixes]},
        }
    return Trained(
        replace(final, weights=weights),
        known.catalogue,
        recipe,
        # the champion's weights carry what it saw
        trained_upto=max(int(known.positions.max()), champion.trained_upto),
        trained_upto_time=max(int(known.times.max()), learned_moment),
        holdout_after=last_position(training_set, train_upto),
        holdout_after_time=train_upto,
        seed=seed,
        panel_users=panel_users(known),
        report=report,
    )


def unlearned(champion: Champion, known: TrainingSet) -> np.ndarray:
    """Which events the champion has not learned: they happened after its latest one, or arrived after its training."""
    learned_moment = known.moment(champion.trained_upto, champion.trained_upto_time)
    return (known.positions > champion.trained_upto) | (known.times > learned_moment)


def extended(champion: Champion, catalogue: Catalogue) -> tuple[SequenceNetwork, tuple[str, ...]]:
    """The champion's network over another catalogue, and its genres: known items keep their rows.

    An item whose vectors the catalogue lacks keeps those that the champion has of it.
    """
    old = champion.hybrid.network
    attributes = ItemAttributes.of(catalogue, old.genre_names, old.network.space)
    with seeded(0):  # every weight is overwritten below
        network = SequenceNetwork(old.network.config, attributes)
    places_N = torch.from_numpy(champion.catalogue.places(catalogue.item_ids))
    state = {name: tensor.detach().cpu() for name, tensor in old.network.state_dict().items()}
    for name, row in zip(("ids_ND", "bias_N"), old.network.unused(), strict=True):
        rows = row.cpu().expand_as(network.state_dict()[name]).clone()
        rows[places_N >= 0] = state[name][places_N[places_N >= 0]]
        state[name] = rows
    if network.vectors_NV is not None:
        vectors_NV, blank_1V = network.vectors_NV, torch.from_numpy(attributes.space.reduced({}, 1))
        lacking_N = (vectors_NV == blank_1V).all(dim=1) & (places_N >= 0)
        vectors_NV[lacking_N] = state["vectors_NV"][places_N[lacking_N]]
        state["vectors_NV"] = vectors_NV
    genres_GD = torch.zeros_like(network.genre_GD)
    genres_GD[: len(state["genre_GD"])] = state["genre_GD"]
    state["genre_GD"] = genres_GD
    network.load_state_dict(state)
    return on_best_device(network), attributes.genre_names


def _updated(champion: Champion, known: TrainingSet, recipe: Recipe, seed: int, on_epoch: Any = None) -> Hybrid:
    """Every part of the champion brought up to ``known``; ``on_epoch`` is given the hybrid of each epoch."""
    (network, names), old = extended(champion, known.catalogue), champion.hybrid
    others = tuple(other.refit(known) for other in old.others)

    def hybrid() -> Hybrid:
        return Hybrid(SequenceRecommender(network, names), others, old.weights, old.preference, live=old.live)

    if on_epoch is not None:
        on_epoch(0, None, hybrid())
    after = None if on_epoch is None else lambda epoch, loss: on_epoch(epoch, loss, hybrid())
    choose = new_and_replayed(unlearned(champion, known), recipe.replay_share)
    fit(network, Sequences.of(known, recipe.reward_floor), recipe, tuning_schedule(recipe), seed, after, choose)
    return hybrid()


def _try_epochs(
    champion: Champion,
    head: TrainingSet,
    validation: Validation,
    recipe: Recipe,
    seed: int,
    on_epoch: OnEpoch | None,
) -> tuple[Hybrid, list[dict[str, Any]]]:
    """The hybrid of the best epoch on the tail, and a row per epoch; epoch 0 is the champion's network as it was."""
    rows: list[dict[str, Any]] = []
    best: dict[str, np.ndarray] = {}

    def after(epoch: int, loss: float | None, hybrid: Hybrid) -> None:
        row: dict[str, Any] = {"epoch": epoch, "loss": loss, **validation.figures(hybrid)}
        if row["objective"] > max((earlier["objective"] for earlier in rows), default=-math.inf):
            best.update({name: array.copy() for name, array in hybrid.network.tensors().items()})
        rows.append(row)
        if on_epoch is not None:
            on_epoch(row)

    last = _updated(champion, head, recipe, seed, after)
    network = SequenceRecommender.restore(head.catalogue, last.network.settings(), best)
    return replace(last, network=network), rows
