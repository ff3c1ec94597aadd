"""attune's side of the training benchmarks: trains the network as often as it is told, and says what that costs.

python -m benchmarks.training_side WORLD.npz RECIPE

WORLD has users_E, items_E (places from 0 on), times_E (microseconds) and the number of items; RECIPE has a recipe's
fields as JSON. Each line of the input is a number of full batches (0: an epoch) to train on. It is answered by a line
of JSON with the CPU seconds, and the end of the input by one with the peak memory in bytes and the versions.
"""

import json
import resource
import sys
import time
from typing import Any

import numpy as np
import torch

from models.catalogue import Catalogue
from models.history import KIND_INDEX
from models.learning.batches import Sequences, pieces
from models.learning.dataset import TrainingSet
from models.learning.fit import Schedule, fit
from models.network.config import Recipe, SequenceConfig
from models.network.sequence import ItemAttributes, SequenceNetwork, torch_threads


def training_set(users_E: np.ndarray, items_E: np.ndarray, times_E: np.ndarray, items: int) -> TrainingSet:
    """Clicks without any statistics on items without attributes: ids alone."""
    count = len(users_E)
    unknown_EF = np.full((count, 4), np.nan, np.float32)
    names = tuple(map(str, range(items)))
    catalogue = Catalogue(names, ("",) * items, ((),) * items, (None,) * items, np.full((items, 4), np.nan, np.float32))
    order = np.argsort(times_E, kind="stable")
    return TrainingSet(
        positions=np.arange(1, count + 1),
        users=users_E[order].astype(np.int64),
        items=items_E[order].astype(np.int64),
        kinds=np.full(count, KIND_INDEX["click"]),
        rewards=np.ones(count, np.float32),
        times=times_E[order].astype(np.int64),
        user_stats_EF=unknown_EF,
        item_stats_EF=unknown_EF,
        user_ids=np.arange(int(users_E.max()) + 1).astype(str).astype(object),
        catalogue=catalogue,
        window={},
    )


def recipe_of(values: dict[str, Any]) -> Recipe:
    """A recipe of one thread and one epoch."""
    network = SequenceConfig(**values.pop("network"))
    return Recipe("benchmark", network, epochs=1, threads=1, **values)


def main(world: str, values: str) -> None:
    """Answer the input's lines."""
    with np.load(world) as arrays:
        data = training_set(arrays["users_E"], arrays["items_E"], arrays["times_E"], int(arrays["items"]))
    recipe = recipe_of(json.loads(values))
    torch.manual_seed(0)
    network, sequences = SequenceNetwork(recipe.network, ItemAttributes.of(data.catalogue)), Sequences.of(data, 0.5)
    schedule = Schedule(1, recipe.learning_rate, 0.0, recipe.weight_decay)
    with torch_threads(1):
        for seed, line in enumerate(sys.stdin):
            most = int(line) * recipe.batch or None
            began = time.process_time()
            fit(network, sequences, recipe, schedule, seed, choose=lambda *told, most=most: pieces(*told)[:most])
            print(json.dumps({"cpu_seconds": time.process_time() - began}), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak, "versions": {"torch": torch.__version__}}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
