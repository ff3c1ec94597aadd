"""Processes that learn together: ``torchrun`` starts them, each encodes a share of every batch, gradients are added up.

All draw the same batches and negatives from the same seed, so the loss is that of one process but for rounding (and,
since each draws its own, dropout). On CPUs they speak gloo, on accelerators nccl.
"""

import os
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from models.learning.batches import TrainingBatch


class Processes(NamedTuple):
    """The number of this process, and how many there are."""

    rank: int
    world: int


ALONE = Processes(0, 1)


def processes() -> Processes:
    """Those that ``torchrun`` started, joined when this is first asked; one where it was not used."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Processes(distributed.get_rank(), distributed.get_world_size())


def add_up(tensors: list[Tensor]) -> None:
    """Each tensor becomes its sum over the processes."""
    if distributed.is_available() and distributed.is_initialized():
        for tensor in tensors:
            distributed.all_reduce(tensor)


def share(batch: TrainingBatch, processes: Processes) -> TrainingBatch:
    """Every ``world``-th piece from the ``rank``-th on, with the questions that it answers."""
    rank, world = processes
    length = batch.tokens.items_BL.shape[1]
    row_Q = torch.div(batch.from_Q, length, rounding_mode="floor")
    from_Q = torch.where(batch.from_Q < 0, -1, row_Q // world * length + batch.from_Q % length)
    number_Q = torch.arange(len(row_Q), device=row_Q.device)  # from nothing: in turn
    own_Q = torch.where(batch.from_Q < 0, number_Q, row_Q) % world == rank
    tokens = {name: values[rank::world] for name, values in vars(batch.tokens).items()}
    return TrainingBatch(
        replace(batch.tokens, **tokens),
        from_Q[own_Q],
        batch.pauses_Q[own_Q],
        batch.user_stats_QS[own_Q],
        batch.targets_Q[own_Q],
        batch.weights_Q[own_Q],
    )
