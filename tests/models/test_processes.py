"""Processes that learn together: the loss and the weights of one that learns alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from model_worlds import two_tastes

from infra.platform.addresses import free_port
from models.learning.batches import Sequences
from models.learning.fit import Schedule, fit, seeded
from models.network.config import Recipe, SequenceConfig
from models.network.sequence import ItemAttributes, SequenceNetwork

LOSSES = ("sampled", "full")


def learn(loss: str) -> list[float]:
    """The losses of the epochs, and the length of all items' vectors."""
    world, shape = two_tastes(), SequenceConfig(width=16, blocks=2, heads=2, context=16, dropout=0.0)
    recipe, losses = Recipe("together", shape, batch=3, negatives=16, loss=loss), []
    with seeded(0):
        network = SequenceNetwork(shape, ItemAttributes.of(world.catalogue))
    schedule = Schedule(3, 3e-3, 0.1, 0.05)
    fit(network, Sequences.of(world, 0.5), recipe, schedule, 0, lambda epoch, mean: losses.append(mean))
    return [*losses, float(network.items()[0].detach().norm())]


def test_two_processes_learn_as_one_does(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    told = [tmp_path / "first", tmp_path / "second"]
    both = [
        subprocess.Popen([sys.executable, __file__, path], env={**environment, "RANK": str(rank)})
        for rank, path in enumerate(told)
    ]
    alone = [learn(loss) for loss in LOSSES]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    first, second = (json.loads(path.read_text()) for path in told)
    assert first == second, "both end with the same weights"
    np.testing.assert_allclose(first, alone, rtol=1e-3)
    assert all(curve[2] < curve[0] for curve in alone), "it learns"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps([learn(loss) for loss in LOSSES]))
