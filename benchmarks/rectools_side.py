"""RecTools' side of the comparison: run by an interpreter of its own, where nothing of attune can be imported.

rectools_side.py WORLD.npz RECIPE     as ``benchmarks.training_side``; each line of the input is an epoch
"""

import json
import logging
import resource
import sys
import time
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet

EPOCHS: list[float] = []
"""The CPU seconds of each epoch."""


class Clock(Callback):
    """Measures epochs without what Lightning does around them."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.began = time.process_time()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        EPOCHS.append(time.process_time() - self.began)


def trainer() -> Trainer:
    """One CPU, no logs, no checkpoints."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(accelerator="cpu", devices=1, max_epochs=1, logger=False, callbacks=[Clock()], **quiet)


def main(world: str, values: str) -> None:
    """Answer the input's lines."""
    recipe = json.loads(values)
    network = recipe["network"]
    with np.load(world) as arrays:
        frame = pd.DataFrame({
            Columns.User: arrays["users_E"],
            Columns.Item: arrays["items_E"],
            Columns.Datetime: pd.to_datetime(arrays["times_E"], unit="us"),
            Columns.Weight: 1.0,
        })  # fmt: skip
    torch.set_num_threads(1)
    seed_everything(0)
    model = SASRecModel(
        n_blocks=network["blocks"],
        n_heads=network["heads"],
        n_factors=network["width"],
        session_max_len=network["context"],
        dropout_rate=network["dropout"],
        loss="softmax",
        batch_size=recipe["batch"],
        lr=recipe["learning_rate"],
        item_net_block_types=(IdEmbeddingsItemNet,),
        get_trainer_func=trainer,
    )
    dataset = Dataset.construct(frame)
    for _ in sys.stdin:
        model.fit_partial(dataset, min_epochs=1, max_epochs=1)
        print(json.dumps({"cpu_seconds": EPOCHS[-1]}), flush=True)
    names = ("rectools", "torch", "pytorch-lightning", "numpy")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak, "versions": {name: version(name) for name in names}}), flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    main(*sys.argv[1:])
