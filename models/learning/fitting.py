"""One network, taught: the loop over epochs that training and fine-tuning share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.learning.batches import Choose, Lesson, Sequences, lessons, pieces
from models.learning.losses import full_softmax, sampled_softmax
from models.learning.optimiser import AdamW
from models.network.config import Recipe
from models.network.sequence import SequenceNetwork

FREQUENCY_POWER = 0.75
"""Negatives are drawn by frequency to this power (Mikolov et al. 2013): neither uniform nor all hits."""

LONGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn. ``pull`` draws every weight back to where it started (L2-SP)."""

    epochs: int
    rate: float
    warmup: float
    weight_decay: float
    pull: float = 0.0

    def share(self, step: int, steps: int) -> float:
        """The learning rate's share at a step: up at first, level, then down over the last two thirds."""
        done = (step + 1) / max(steps, 1)
        return min(1.0, done / self.warmup if self.warmup else 1.0, max(0.02, (1.0 - done) * 1.5))


@contextmanager
def few_threads(count: int) -> Iterator[None]:
    """Torch on ``count`` threads inside (0: as it is). On small tensors, more threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generator at ``seed`` inside, and as it was afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def fit(
    network: SequenceNetwork,
    sequences: Sequences,
    recipe: Recipe,
    schedule: Schedule,
    seed: int,
    after_epoch: Callable[[int, float], None] | None = None,
    choose: Choose = pieces,
) -> None:
    """Teach ``network`` in place; ``after_epoch`` is given the epoch (from 1) and the mean loss.

    ``choose`` gives each epoch's pieces, by default all of them, cut anew. The same seed on the same machine
    gives the same weights.
    """
    context, rng = recipe.network.context, np.random.default_rng(seed)
    device = network.ids_ND.device
    teacher = _Teacher(network, sequences, recipe, schedule, rng)
    start = [one.detach().clone() for one in network.parameters()] if schedule.pull else []
    per_epoch = -(-len(choose(sequences, context, np.random.default_rng(seed))) // recipe.batch)
    step = 0
    with seeded(seed):
        for epoch in range(1, schedule.epochs + 1):
            network.train()
            chosen = choose(sequences, context, rng)
            chosen = chosen[rng.permutation(len(chosen))]
            total, count = 0.0, 0
            for lesson in lessons(sequences, chosen, context, recipe.batch, device):
                if not len(lesson.targets_Q):
                    continue
                total += teacher.step(lesson, schedule.share(step, per_epoch * schedule.epochs), start)
                count, step = count + 1, step + 1
            network.eval()
            if after_epoch is not None:
                after_epoch(epoch, total / max(count, 1))


class _Teacher:
    """The optimiser and the distribution of negatives of one fit."""

    def __init__(
        self,
        network: SequenceNetwork,
        sequences: Sequences,
        recipe: Recipe,
        schedule: Schedule,
        rng: np.random.Generator,
    ) -> None:
        self.network, self.recipe, self.schedule, self.rng = network, recipe, schedule, rng
        self.optimiser = AdamW(network.parameters(), schedule.weight_decay)
        often_N = np.bincount(sequences.items_E, minlength=len(network.ids_ND)) + 1.0
        q_N = often_N**FREQUENCY_POWER
        self.cumulative_N = np.cumsum(q_N / q_N.sum())
        self.log_q_N = torch.from_numpy(np.log(q_N / q_N.sum())).float().to(network.ids_ND.device)

    def step(self, lesson: Lesson, share: float, start: list[Tensor]) -> float:
        """One step of the optimiser; returns the mean loss."""
        loss = self._loss(lesson)
        loss.backward()
        self.optimiser.step(self.schedule.rate * share, LONGEST_GRADIENT)
        if start:
            with torch.no_grad():
                for weight, anchor in zip(self.network.parameters(), start, strict=True):
                    weight.lerp_(anchor, self.schedule.rate * share * self.schedule.pull)
        return float(loss.detach())

    def _loss(self, lesson: Lesson) -> Tensor:
        """The mean loss of the questions; what was liked weighs more than what was not."""
        network, recipe = self.network, self.recipe
        items_ND = network.items()
        places_PD = network.encode(lesson.tokens, items_ND).flatten(0, 1)
        states_QD = network.dropout(network.states(places_PD, lesson.from_Q, lesson.pauses_Q, lesson.user_stats_QS))
        if recipe.loss == "full":
            losses_Q = full_softmax(states_QD, items_ND, network.bias_N, lesson.targets_Q)
        else:
            drawn = np.searchsorted(self.cumulative_N, self.rng.random(recipe.negatives))
            sampled_M = torch.from_numpy(np.minimum(drawn, len(items_ND) - 1)).to(items_ND.device)
            losses_Q = sampled_softmax(states_QD, items_ND, network.bias_N, lesson.targets_Q, sampled_M, self.log_q_N)
        return (losses_Q * lesson.weights_Q).sum() / lesson.weights_Q.sum().clamp(min=1e-6)
