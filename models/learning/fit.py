"""Training of the network: the losses by name, and the loop that training and fine-tuning share."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name that everybody knows)

from attune.errors import ModelError
from models.learning.batches import Choose, Sequences, TrainingBatch, batches_of, pieces, training_batches
from models.learning.checkpoint import Checkpoint
from models.learning.optimiser import AdamW
from models.learning.processes import ALONE, Processes, add_up, processes, share
from models.network.config import Recipe
from models.network.sequence import SequenceNetwork

FREQUENCY_POWER = 0.75
"""Negatives are drawn by frequency to this power (Mikolov et al. 2013): neither uniform nor all hits."""

CALIBRATION = 0.75
"""Of ``gbce``, from 0 (plain cross-entropy) to 1: the share of the overconfidence that is taken away."""

LONGEST_GRADIENT = 1.0
NUMBERS_IN_CACHE = 1_000_000


@dataclass(frozen=True)
class Sample:
    """M items to score beside the target, with repeats, and the logarithm of how often each was to be expected.

    ``rate`` is M over the number of items that are no target.
    """

    items_M: Tensor
    log_expected_M: Tensor
    rate: float


class Negatives:
    """Draws items with the probability q, which follows frequency to ``power``."""

    def __init__(
        self, items_E: np.ndarray, count: int, rng: np.random.Generator, bias_N: Tensor, power: float = FREQUENCY_POWER
    ) -> None:
        self.count, self.rng, self.device = count, rng, bias_N.device
        q_N = (np.bincount(items_E, minlength=len(bias_N)) + 1.0) ** power
        self._cumulative_N = np.cumsum(q_N / q_N.sum())
        self._log_expected_N = np.log(count * q_N / q_N.sum()).astype(np.float32)

    def draw(self) -> Sample:
        drawn = np.searchsorted(self._cumulative_N, self.rng.random(self.count))
        items_M = np.minimum(drawn, len(self._cumulative_N) - 1)
        expected_M = torch.from_numpy(self._log_expected_N[items_M])
        rate = self.count / max(len(self._cumulative_N) - 1, 1)
        return Sample(torch.from_numpy(items_M).to(self.device), expected_M.to(self.device), rate)


class _LogSumExp(torch.autograd.Function):
    """Chunk by chunk, while the scores are in the cache; of them one table is kept, where autograd keeps three."""

    @staticmethod
    def forward(
        ctx: Any, states_QD: Tensor, items_MD: Tensor, bias_M: Tensor, hidden: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        powers_QM = states_QD.new_empty(len(states_QD), len(items_MD))
        highest_Q, sums_Q = states_QD.new_empty(2, len(states_QD))
        for rows in _chunks(powers_QM):
            scores_CM = torch.addmm(bias_M, states_QD[rows], items_MD.T, out=powers_QM[rows])
            if hidden is not None:
                scores_CM.masked_fill_(hidden[0] == hidden[1][rows, None], -1e9)
            torch.amax(scores_CM, 1, out=highest_Q[rows])
            torch.sum(scores_CM.sub_(highest_Q[rows, None]).exp_(), 1, out=sums_Q[rows])
        ctx.save_for_backward(states_QD, items_MD, powers_QM, sums_Q)
        return sums_Q.log() + highest_Q

    @staticmethod
    def backward(ctx: Any, gradient_Q: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        states_QD, items_MD, powers_QM, sums_Q = ctx.saved_tensors
        to_states_QD, to_items_MD, to_bias_M = (torch.zeros_like(t) for t in (states_QD, items_MD, items_MD[:, 0]))
        for rows in _chunks(powers_QM):
            share_CM = powers_QM[rows].mul_((gradient_Q[rows] / sums_Q[rows])[:, None])
            torch.mm(share_CM, items_MD, out=to_states_QD[rows])
            to_items_MD.addmm_(share_CM.T, states_QD[rows])
            to_bias_M += share_CM.sum(dim=0)
        return to_states_QD, to_items_MD, to_bias_M, None


def _chunks(table: Tensor) -> Iterator[slice]:
    """Ranges of its rows that fit into the cache."""
    size = max(1, NUMBERS_IN_CACHE // table.shape[1])
    return (slice(start, start + size) for start in range(0, len(table), size))


def _own_score(states_QD: Tensor, items_UD: Tensor, bias_U: Tensor, targets_Q: Tensor) -> Tensor:
    return (states_QD * F.embedding(targets_Q, items_UD)).sum(dim=1) + bias_U.index_select(0, targets_Q)


def full_softmax(states_QD: Tensor, items_ND: Tensor, bias_N: Tensor, targets_Q: Tensor, sample: None) -> Tensor:
    """losses_Q: cross-entropy of each target among all items."""
    own_Q = _own_score(states_QD, items_ND, bias_N, targets_Q)
    return _LogSumExp.apply(states_QD, items_ND, bias_N, None) - own_Q


def sampled_softmax(states_QD: Tensor, items_UD: Tensor, bias_U: Tensor, targets_Q: Tensor, sample: Sample) -> Tensor:
    """losses_Q: cross-entropy of each target among itself and sampled items, shared by all questions.

    Subtracting the log of a sampled item's expected count makes the sampled sum an unbiased estimate of the whole one
    (Bengio and Senecal 2008). A sampled item that is the target itself is left out.
    """
    own_Q = _own_score(states_QD, items_UD, bias_U, targets_Q)
    bias_M = bias_U.index_select(0, sample.items_M) - sample.log_expected_M
    items_MD = F.embedding(sample.items_M, items_UD)
    others_Q = _LogSumExp.apply(states_QD, items_MD, bias_M, (sample.items_M, targets_Q))
    return torch.logaddexp(others_Q, own_Q) - own_Q


def generalised_bce(states_QD: Tensor, items_UD: Tensor, bias_U: Tensor, targets_Q: Tensor, sample: Sample) -> Tensor:
    """losses_Q: binary cross-entropy of each target and of items drawn evenly, shared by all questions.

    The target's probability is raised to a power below 1, which takes back what too few negatives make too certain
    (gSASRec, Petrov and Macdonald 2023).
    """
    own_Q = _own_score(states_QD, items_UD, bias_U, targets_Q)
    others_QM = torch.addmm(
        bias_U.index_select(0, sample.items_M), states_QD, F.embedding(sample.items_M, items_UD).T
    ).masked_fill_(sample.items_M == targets_Q[:, None], -1e9)
    rate = min(sample.rate, 1.0)
    power = rate * (CALIBRATION * (1.0 - 1.0 / rate) + 1.0 / rate)
    return F.softplus(others_QM).sum(dim=1) + power * F.softplus(-own_Q)


@dataclass(frozen=True)
class Loss:
    """``of`` gives, from states_QD, the items' vectors and biases, targets_Q and the sample, a loss for each question
    (Q), lower is better. Where it ``samples`` it is given the items of the step alone, and targets and sample are
    places among these; otherwise all items and no sample. ``power`` is that of ``Negatives``."""

    of: Callable[..., Tensor]
    samples: bool
    power: float = FREQUENCY_POWER


LOSSES: Mapping[str, Loss] = {
    "sampled": Loss(sampled_softmax, True),
    "full": Loss(full_softmax, False),
    "gbce": Loss(generalised_bce, True, power=0.0),
}
"""The losses that a recipe may name."""


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
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train ``network`` in place; ``after_epoch`` is given the epoch (from 1) and the mean loss.

    ``choose`` gives each epoch's pieces, by default all of them, cut anew. The same seed on the same machine
    gives the same weights, also where ``checkpoint`` holds a part of the way. Raises ModelError, which names the epoch
    and the batch, where the loss is no number: no weight has taken it up, and the checkpoint is of the epoch before.
    """
    checkpoint = checkpoint or Checkpoint()
    context, rng = recipe.network.context, np.random.default_rng(seed)
    together = processes()
    device = network.ids_ND.device
    optimiser = AdamW(network.parameters(), schedule.weight_decay, schedule.pull)
    loss_of = LOSSES[recipe.loss]
    negatives = Negatives(sequences.items_E, recipe.negatives, rng, network.bias_N, loss_of.power)

    def number_of_batches(pieces_P2: np.ndarray) -> int:
        return len(batches_of(pieces_P2[:, 1] - pieces_P2[:, 0], context, recipe.batch))

    steps = schedule.epochs * number_of_batches(choose(sequences, context, np.random.default_rng(seed)))
    with seeded(seed + together.rank):
        for epoch in range(1 + checkpoint.restore(network, optimiser, rng), schedule.epochs + 1):
            network.train()
            epoch_pieces = choose(sequences, context, rng)
            epoch_pieces = epoch_pieces[rng.permutation(len(epoch_pieces))]
            total, first = 0.0, optimiser.steps
            for batch in training_batches(sequences, epoch_pieces, context, recipe.batch, device):
                if not len(batch.targets_Q):
                    continue
                loss = mean_loss(network, batch, loss_of, negatives, together)
                loss.backward()
                add_up([value := loss.detach().clone()])
                total += float(value)
                if not math.isfinite(total):
                    raise ModelError(
                        f"the loss is {float(value)} in epoch {epoch}, batch {optimiser.steps - first + 1}:"
                        f" lower the recipe's learning rate ({schedule.rate})"
                    )
                optimiser.step(schedule.rate * schedule.share(optimiser.steps, steps), LONGEST_GRADIENT)
            network.eval()
            if after_epoch is not None:
                after_epoch(epoch, total / max(optimiser.steps - first, 1))
            if together.rank == 0:
                checkpoint.save(epoch, network, optimiser, rng)


def mean_loss(
    network: SequenceNetwork,
    batch: TrainingBatch,
    loss: Loss,
    negatives: Negatives,
    together: Processes = ALONE,
) -> Tensor:
    """The mean loss of the questions; what was liked weighs more than what was not. The sum over processes is meant.

    Where the loss samples, the items of the step alone are gathered: its cost does not grow with the catalogue.
    """
    tokens, targets_Q = batch.tokens, batch.targets_Q
    weight = batch.weights_Q.sum().clamp(min=1e-6)
    if loss.samples:
        sample = negatives.draw()
        used = [targets_Q.new_zeros(1), tokens.items_BL.flatten(), targets_Q + 1, sample.items_M + 1]  # 0 is padding
        numbers_U, place_T = torch.unique(torch.cat(used), return_inverse=True)
        _, items_P, targets_Q, items_M = place_T.split([len(part) for part in used])
        rows_U, targets_Q, sample = numbers_U[1:] - 1, targets_Q - 1, replace(sample, items_M=items_M - 1)
        batch = replace(batch, tokens=replace(tokens, items_BL=items_P.view_as(tokens.items_BL)), targets_Q=targets_Q)
        items_UD, bias_U = network.items(rows_U)
    else:
        (items_UD, bias_U), sample = network.items(), None
    batch = share(batch, together) if together.world > 1 else batch
    places_PD = network.encode(batch.tokens, items_UD).flatten(0, 1)
    states_QD = network.dropout(network.states(places_PD, batch.from_Q, batch.pauses_Q, batch.user_stats_QS))
    losses_Q = loss.of(states_QD, items_UD, bias_U, batch.targets_Q, sample)
    return (losses_Q * batch.weights_Q).sum() / weight
