"""Challengers, good and bad: a challenger is a function that writes a bundle for an experiment."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gates_experiment import Experiment
from models.bundle import Bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.network.sequence import SequenceRecommender

Make = Callable[[Experiment, Path, int], Path]
"""Writes the bundle into a folder, by a seed; returns the folder."""

Tensors = dict[str, np.ndarray]
Random = np.random.Generator


@dataclass(frozen=True)
class Challenger:
    """A challenger by name; one that is bad ``by_construction`` states falsehoods or cannot be run."""

    name: str
    make: Make
    by_construction: bool = False


def honest_finetune(experiment: Experiment, folder: Path, seed: int) -> Path:
    """A fine-tune as somebody might run it: on some of the real later events, for so long, so freely.

    No two end with the same event, so no two are the same model, even where no epoch of either made the network better.
    """
    random = np.random.default_rng([seed, 7])
    fresh = np.sort(experiment.later_events().times)
    return experiment.finetune(
        folder,
        seed,
        upto=int(fresh[int(len(fresh) * random.uniform(0.5, 1.0)) - 1]),
        finetune_epochs=int(random.choice([1, 2, 3, 5])),
        finetune_rate=float(random.choice([1e-3, 2e-3, 3e-3])),
        finetune_pull=float(random.choice([0.03, 0.1, 0.3])),
        replay_share=float(random.choice([0.5, 1.0, 2.0])),
    )


def changed_model(change: Callable[[Bundle, Random], Hybrid]) -> Make:
    """The honest fine-tune with a change of the finished model."""

    def make(experiment: Experiment, folder: Path, seed: int) -> Path:
        bundle = experiment.honest()
        return experiment.write(folder, change(bundle, np.random.default_rng(seed)), bundle.catalogue)

    return make


def finetuned_on(change: Callable[[TrainingSet, Random], TrainingSet], **recipe: Any) -> Make:
    """A fine-tune on events of which those since the champion were changed; ``recipe`` as in ``Recipe``."""

    def make(experiment: Experiment, folder: Path, seed: int) -> Path:
        changed = change(experiment.later_events(), np.random.default_rng(seed))
        return experiment.finetune(folder, seed, experiment.with_later(changed), **recipe)

    return make


def change_network(bundle: Bundle, change: Callable[[Tensors], Tensors]) -> Hybrid:
    """The bundle's model with other weights in its network; ``change`` is given copies of all of them."""
    network = bundle.hybrid.network
    changed = change({name: array.copy() for name, array in network.tensors().items()})
    return replace(bundle.hybrid, network=SequenceRecommender.restore(bundle.catalogue, network.settings(), changed))


def shuffle_places(length: int, share: float, random: Random) -> np.ndarray:
    """The places 0 .. length - 1, of which a share have changed theirs among each other."""
    order = np.arange(length)
    moved = random.choice(length, int(length * share), replace=False)
    order[np.sort(moved)] = moved
    return order


def hide_items(bundle: Bundle, is_hidden_N: np.ndarray) -> Hybrid:
    """The model with some items (a mask) sent to the end of every list."""

    def lowered(tensors: Tensors) -> Tensors:
        tensors["bias_N"][is_hidden_N] -= HIDDEN
        return tensors

    hybrid = change_network(bundle, lowered)
    table = hybrid.knn.similarity_NN.copy()
    table.data[is_hidden_N[table.indices]] = 0.0
    weights_N = np.where(is_hidden_N, np.float32(0), hybrid.popularity.weights_N)
    return hybrid.with_others(replace(hybrid.knn, similarity_NN=table), replace(hybrid.popularity, weights_N=weights_N))


HIDDEN = 8.0
"""The logits that a hidden item loses: its chance becomes tiny, and the scale of the row stays the same."""
