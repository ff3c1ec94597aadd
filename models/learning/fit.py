"""Training of the network: the losses by name, the optimiser, and the loop that training and fine-tuning share."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name that everybody knows)

from models.learning.batches import Choose, Sequences, TrainingBatch, pieces, training_batches
from models.network.config import Recipe
from models.network.sequence import SequenceNetwork

FREQUENCY_POWER = 0.75
"""Negatives are drawn by frequency to this power (Mikolov et al. 2013): neither uniform nor all hits."""

LONGEST_GRADIENT = 1.0

BETAS = (0.9, 0.98)
EPSILON = 1e-8


class Negatives:
    """Items to score beside the target, drawn with the probability q: ``log_q_N`` is its logarithm."""

    def __init__(self, items_E: np.ndarray, count: int, rng: np.random.Generator, bias_N: Tensor) -> None:
        self.count, self.rng, self.device = count, rng, bias_N.device
        q_N = (np.bincount(items_E, minlength=len(bias_N)) + 1.0) ** FREQUENCY_POWER
        self._cumulative_N = np.cumsum(q_N / q_N.sum())
        self.log_q_N = torch.from_numpy(np.log(q_N / q_N.sum())).float().to(self.device)

    def draw(self) -> Tensor:
        """sampled_M: ``count`` items, with repeats."""
        drawn = np.searchsorted(self._cumulative_N, self.rng.random(self.count))
        return torch.from_numpy(np.minimum(drawn, len(self._cumulative_N) - 1)).to(self.device)


def full_softmax(
    states_QD: Tensor, items_ND: Tensor, bias_N: Tensor, targets_Q: Tensor, negatives: Negatives
) -> Tensor:
    """losses_Q: cross-entropy of each target among all items; the negatives are not drawn."""
    return F.cross_entropy(states_QD @ items_ND.T + bias_N, targets_Q, reduction="none")


def sampled_softmax(
    states_QD: Tensor, items_ND: Tensor, bias_N: Tensor, targets_Q: Tensor, negatives: Negatives
) -> Tensor:
    """losses_Q: cross-entropy of each target among itself and sampled items, shared by all questions.

    Subtracting the log of a sampled item's expected count makes the sampled sum an unbiased estimate of the whole one
    (Bengio and Senecal 2008). A sampled item that is the target itself is left out.
    """
    sampled_M, log_q_N = negatives.draw(), negatives.log_q_N
    own_Q = (states_QD * F.embedding(targets_Q, items_ND)).sum(dim=1) + bias_N.index_select(0, targets_Q)
    expected_M = log_q_N.index_select(0, sampled_M) + torch.log(torch.tensor(float(len(sampled_M))))
    others_QM = states_QD @ F.embedding(sampled_M, items_ND).T + bias_N.index_select(0, sampled_M) - expected_M
    others_QM = others_QM.masked_fill(sampled_M[None, :] == targets_Q[:, None], -1e9)
    return torch.logsumexp(torch.cat([own_Q[:, None], others_QM], dim=1), dim=1) - own_Q


Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Negatives], Tensor]
"""From states_QD, items_ND, bias_N, targets_Q and the negatives: a loss for each question (Q), lower is better."""

LOSSES: Mapping[str, Loss] = {"sampled": sampled_softmax, "full": full_softmax}
"""The losses that a recipe may name."""


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); vectors are not decayed.

    ``torch.optim.AdamW`` imports torch's compiler at the first step (3 to 4 s in a process that trains for half a
    minute) and gives other weights in the last bits.
    """

    def __init__(self, weights: Iterable[Tensor], weight_decay: float) -> None:
        self.weights = list(weights)
        self.decays = [weight_decay if weight.ndim > 1 else 0.0 for weight in self.weights]
        self.means = [torch.zeros_like(weight) for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float, longest: float) -> None:
        """One step at a learning rate, the gradients together shortened to ``longest``; then they are cleared."""
        self.steps += 1
        moved = [place for place, weight in enumerate(self.weights) if weight.grad is not None]
        weights = [self.weights[place] for place in moved]
        grads = [grad for grad in (weight.grad for weight in weights) if grad is not None]
        means, squares = [self.means[place] for place in moved], [self.squares[place] for place in moved]
        length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads]))
        torch._foreach_mul_(grads, float(min(1.0, longest / (float(length) + 1e-6))))
        torch._foreach_lerp_(means, grads, 1.0 - BETAS[0])
        torch._foreach_mul_(squares, BETAS[1])
        torch._foreach_addcmul_(squares, grads, grads, 1.0 - BETAS[1])
        spread = torch._foreach_sqrt(squares)
        torch._foreach_div_(spread, (1.0 - BETAS[1] ** self.steps) ** 0.5)
        torch._foreach_add_(spread, EPSILON)
        torch._foreach_mul_(weights, [1.0 - rate * self.decays[place] for place in moved])
        torch._foreach_addcdiv_(weights, means, spread, -rate / (1.0 - BETAS[0] ** self.steps))
        for weight in weights:
            weight.grad = None


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
    """Train ``network`` in place; ``after_epoch`` is given the epoch (from 1) and the mean loss.

    ``choose`` gives each epoch's pieces, by default all of them, cut anew. The same seed on the same machine
    gives the same weights.
    """
    context, rng = recipe.network.context, np.random.default_rng(seed)
    device = network.ids_ND.device
    optimiser = AdamW(network.parameters(), schedule.weight_decay)
    negatives = Negatives(sequences.items_E, recipe.negatives, rng, network.bias_N)
    start = [weight.detach().clone() for weight in network.parameters()] if schedule.pull else []
    steps = schedule.epochs * -(-len(choose(sequences, context, np.random.default_rng(seed))) // recipe.batch)
    step = 0
    with seeded(seed):
        for epoch in range(1, schedule.epochs + 1):
            network.train()
            epoch_pieces = choose(sequences, context, rng)
            epoch_pieces = epoch_pieces[rng.permutation(len(epoch_pieces))]
            total, count = 0.0, 0
            for batch in training_batches(sequences, epoch_pieces, context, recipe.batch, device):
                if not len(batch.targets_Q):
                    continue
                loss = mean_loss(network, batch, LOSSES[recipe.loss], negatives)
                loss.backward()
                rate = schedule.rate * schedule.share(step, steps)
                optimiser.step(rate, LONGEST_GRADIENT)
                if start:
                    with torch.no_grad():
                        for weight, anchor in zip(network.parameters(), start, strict=True):
                            weight.lerp_(anchor, rate * schedule.pull)
                total += float(loss.detach())
                count, step = count + 1, step + 1
            network.eval()
            if after_epoch is not None:
                after_epoch(epoch, total / max(count, 1))


def mean_loss(network: SequenceNetwork, batch: TrainingBatch, loss: Loss, negatives: Negatives) -> Tensor:
    """The mean loss of the questions; what was liked weighs more than what was not."""
    items_ND = network.items()
    places_PD = network.encode(batch.tokens, items_ND).flatten(0, 1)
    states_QD = network.dropout(network.states(places_PD, batch.from_Q, batch.pauses_Q, batch.user_stats_QS))
    losses_Q = loss(states_QD, items_ND, network.bias_N, batch.targets_Q, negatives)
    return (losses_Q * batch.weights_Q).sum() / batch.weights_Q.sum().clamp(min=1e-6)
