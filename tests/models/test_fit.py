"""The loop that trains: its batches, what a step moves, and how it goes on after it was stopped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attune.errors import ModelError
from models.learning import fit
from models.learning.batches import Sequences, batches_of, pieces, training_batches
from models.learning.checkpoint import Checkpoint
from models.learning.dataset import Groups, Ragged, TrainingSet, histories
from models.learning.fit import LOSSES, Negatives, mean_loss, sampled_softmax
from models.learning.optimiser import AdamW
from models.learning.training import train
from models.network.config import Recipe, SequenceConfig
from models.network.sequence import Dropout, ItemAttributes, SequenceNetwork, tokens

CPU = torch.device("cpu")


@given(st.lists(st.integers(1, 32), max_size=300), st.integers(1, 8))
def test_every_piece_is_in_one_batch_and_no_batch_is_too_large(lengths: list[int], size: int) -> None:
    batches = batches_of(np.array(lengths, np.int64), 32, size)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[place] for place in batch) <= 32 * size for batch in batches)


def test_hardly_any_place_is_padding() -> None:
    lengths_P = np.random.default_rng(0).geometric(0.1, 20_000).clip(max=50)
    held = sum(len(batch) * lengths_P[batch].max() for batch in batches_of(lengths_P, 50, 16))
    assert held < 1.05 * lengths_P.sum() < 0.25 * 50 * len(lengths_P)


@pytest.fixture
def network(tastes: TrainingSet) -> SequenceNetwork:
    torch.manual_seed(0)
    return SequenceNetwork(SequenceConfig(width=16, heads=2, context=8), ItemAttributes.of(tastes.catalogue))


def test_training_reads_a_history_as_a_question_does(tastes) -> None:
    tastes = replace(tastes, times=np.cumsum(np.random.default_rng(0).integers(1, 10**9, len(tastes))))
    sequences = Sequences.of(tastes, 0.5)
    start, end = sequences.first_E[0], sequences.first_E[0] + 8
    batch = next(training_batches(sequences, np.array([[start, end]]), 8, 4, CPU))
    row = sequences.rows_E[[end]]  # asked at the moment of the next event
    stats, each = tastes.user_stats_EF[row], np.arange(2)
    group = Groups(tastes.users[row], tastes.times[row], stats, Ragged(each, row))
    asked = tokens(histories(tastes, group), 8, CPU)
    for name, values in vars(asked).items():
        torch.testing.assert_close(getattr(batch.tokens, name), values, msg=name)


def test_the_items_of_a_step_alone_give_the_loss_and_the_gradients_of_all(network, tastes) -> None:
    network.eval()  # no dropout
    sequences, rng = Sequences.of(tastes, 0.5), np.random.default_rng(0)
    batch = next(training_batches(sequences, pieces(sequences, 8, rng), 8, 4, CPU))
    negatives = Negatives(sequences.items_E, 6, rng, network.bias_N)
    sample = negatives.draw()
    negatives.draw = lambda: sample  # type: ignore[method-assign]
    mean_loss(network, batch, LOSSES["sampled"], negatives).backward()
    sparse = {name: weight.grad for name, weight in network.named_parameters()}
    assert {name for name, grad in sparse.items() if grad.is_sparse} == {"ids_ND", "bias_N"}
    network.zero_grad()
    whole = fit.Loss(lambda *given: sampled_softmax(*given[:-1], sample), samples=False)
    mean_loss(network, batch, whole, negatives).backward()
    for name, weight in network.named_parameters():
        torch.testing.assert_close(sparse[name].to_dense(), weight.grad, atol=1e-6, rtol=1e-5)
    assert (sparse["bias_N"].to_dense() == 0).any(), "some items were not of this step"


def test_of_a_table_only_the_rows_of_the_step_move() -> None:
    start = torch.arange(12.0).reshape(4, 3)
    table, rows = torch.nn.Parameter(start.clone()), torch.tensor([2, 0])
    optimiser = AdamW([table], weight_decay=0.1, pull=0.5)
    for _ in range(3):
        torch.nn.functional.embedding(rows, table, sparse=True).sum().backward()
        optimiser.step(0.1, longest=1.0)
    assert (table[rows] != start[rows]).all()
    assert torch.equal(table[[1, 3]], start[[1, 3]])
    assert table.grad is None


def test_a_table_moves_alike_by_rows_and_whole() -> None:
    start, moved = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), []
    for sparse in (True, False):
        table = torch.nn.Parameter(start.clone())
        optimiser = AdamW([table], weight_decay=0.1, pull=0.5)
        for _ in range(4):
            (torch.nn.functional.embedding(torch.arange(5), table, sparse=sparse) ** 2).sum().backward()
            optimiser.step(0.1, longest=1.0)
        moved.append(table.detach())
    torch.testing.assert_close(*moved)


def test_dropout_keeps_the_mean_and_is_silent_afterwards() -> None:
    torch.manual_seed(0)
    dropout, x = Dropout(0.2), torch.ones(1000, 101)
    dropped = dropout(x)
    assert (dropped == 0).float().mean() == pytest.approx(0.2, abs=0.01)
    assert dropped.mean() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(dropout.eval()(x), x)


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tastes, quick: Recipe, tmp_path: Path) -> None:
    recipe, last = replace(quick, epochs=3), int(tastes.times.max())
    cuts, checkpoint, epochs = (int(last * 0.7), int(last * 0.85)), tmp_path / "checkpoint", []

    def stop(row: dict) -> None:
        epochs.append(row["epoch"])
        if epochs == [1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tastes, recipe, *cuts, seed=3, on_epoch=stop, checkpoint=checkpoint)
    stopped = train(tastes, recipe, *cuts, seed=3, on_epoch=stop, checkpoint=checkpoint)
    assert epochs == [1, 2, 2, 3], "the epoch that was not stored is made again, and no other"
    whole = train(tastes, recipe, *cuts, seed=3)
    assert stopped.report == whole.report
    for name, array in whole.hybrid.tensors().items():
        np.testing.assert_array_equal(stopped.hybrid.tensors()[name], array, err_msg=name)


def test_a_damaged_checkpoint_is_said_and_left(network, tastes, quick: Recipe, tmp_path: Path, caplog) -> None:
    (tmp_path / "checkpoint").write_bytes(b"{}")
    optimiser, rng = AdamW(network.parameters(), 0.0), np.random.default_rng(0)
    assert Checkpoint(tmp_path / "checkpoint").restore(network, optimiser, rng) == 0
    assert "cannot be read" in caplog.text


def test_a_loss_that_is_no_number_stops_the_training_before_it_spreads(network, tastes, quick: Recipe) -> None:
    with torch.no_grad():
        network.start_D[0] = torch.nan
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    recipe = replace(quick, network=network.config)
    with pytest.raises(ModelError, match=r"the loss is nan in epoch 1, batch \d+: lower the recipe's learning rate"):
        fit.fit(network, Sequences.of(tastes, 0.5), recipe, fit.Schedule(1, 1e-9, 0.1, 0.0), seed=0)
    assert all(
        torch.isfinite(tensor).all() or torch.equal(tensor.isnan(), before[name].isnan())
        for name, tensor in network.state_dict().items()
    )
