"""What planted challengers are made of, good and bad: a challenger is a function that writes a bundle for an exam."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.exam.stretches import Exam
from models.bundle import Bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.network.sequence import SequenceRecommender

Make = Callable[[Exam, Path, int], Path]
"""Writes the bundle into a folder, by a seed; returns the folder."""

Tensors = dict[str, np.ndarray]
Random = np.random.Generator


@dataclass(frozen=True)
class Planted:
    """A challenger by name; ``by_construction`` is bad whatever its lists are worth: it lies, or cannot be run."""

    name: str
    make: Make
    by_construction: bool = False


def good(exam: Exam, folder: Path, seed: int) -> Path:
    """A fine-tune as somebody might run it: on some of the real later events, for so long, so freely.

    No two end with the same event, so no two are the same model, even where no epoch of either made the network better.
    """
    random = np.random.default_rng([seed, 7])
    fresh = np.sort(exam.later().positions)
    return exam.taught(
        folder,
        seed,
        upto=int(fresh[int(len(fresh) * random.uniform(0.5, 1.0)) - 1]),
        finetune_epochs=int(random.choice([1, 2, 3, 5])),
        finetune_rate=float(random.choice([1e-3, 2e-3, 3e-3])),
        finetune_pull=float(random.choice([0.03, 0.1, 0.3])),
        replay_share=float(random.choice([0.5, 1.0, 2.0])),
    )


def spoiled(change: Callable[[Bundle, Random], Hybrid]) -> Make:
    """The honest fine-tune with something of the finished model changed."""

    def make(exam: Exam, folder: Path, seed: int) -> Path:
        bundle = exam.honest()
        return exam.written(folder, change(bundle, np.random.default_rng(seed)), bundle.catalogue)

    return make


def mistaught(change: Callable[[TrainingSet, Random], TrainingSet], **recipe: Any) -> Make:
    """A fine-tune on events of which those since the champion were changed; ``recipe`` as in ``Recipe``."""

    def make(exam: Exam, folder: Path, seed: int) -> Path:
        changed = change(exam.later(), np.random.default_rng(seed))
        return exam.taught(folder, seed, exam.with_later(changed), **recipe)

    return make


def with_network(bundle: Bundle, change: Callable[[Tensors], Tensors]) -> Hybrid:
    """The bundle's model with other weights in its network; ``change`` is given copies of all of them."""
    network = bundle.hybrid.network
    changed = change({name: array.copy() for name, array in network.tensors().items()})
    return replace(bundle.hybrid, network=SequenceRecommender.restore(bundle.catalogue, network.settings(), changed))


def shuffled(length: int, share: float, random: Random) -> np.ndarray:
    """The places 0 .. length - 1, of which a share have changed theirs among each other."""
    order = np.arange(length)
    moved = random.choice(length, int(length * share), replace=False)
    order[np.sort(moved)] = moved
    return order


def hidden(bundle: Bundle, is_hidden_N: np.ndarray) -> Hybrid:
    """The model with some items (a mask) sent to the end of every list."""

    def unloved(tensors: Tensors) -> Tensors:
        tensors["bias_N"][is_hidden_N] -= HIDDEN
        return tensors

    hybrid = with_network(bundle, unloved)
    table = hybrid.knn.similarity_NN.copy()
    table.data[is_hidden_N[table.indices]] = 0.0
    weights_N = np.where(is_hidden_N, np.float32(0), hybrid.popularity.weights_N)
    return hybrid.with_others(replace(hybrid.knn, similarity_NN=table), replace(hybrid.popularity, weights_N=weights_N))


HIDDEN = 8.0
"""Logits that a hidden item loses: hardly anything is left of its chance, and the row's scale stays what it was."""
