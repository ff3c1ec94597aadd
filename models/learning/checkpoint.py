"""The state of a training after its last whole epoch, in one file, so that a killed training goes on from there."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from attune.files import whole_file
from models.learning.optimiser import AdamW

LOG = logging.getLogger(__name__)
STATE, OPTIMISER, NETWORK, BEST, RANDOM = "state", "optimiser", "network", "best", "random"


@dataclass
class Checkpoint:
    """What a training needs to go on: on a CPU bit for bit as if it had not been stopped.

    ``rows`` are the epochs' rows of the report and ``best`` the network's weights after the best of them. Without a
    ``path`` nothing is stored. Whatever decides a training must decide its path.
    """

    path: Path | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def save(self, epoch: int, network: nn.Module, optimiser: AdamW, rng: np.random.Generator) -> None:
        """Replace the file by the state after ``epoch``."""
        if self.path is None:
            return
        tensors = {f"{NETWORK}/{name}": tensor for name, tensor in network.state_dict().items()}
        tensors |= {f"{BEST}/{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"{OPTIMISER}/{name}": tensor for name, tensor in optimiser.tensors().items()}
        tensors[RANDOM] = torch.get_rng_state()
        state = {"epoch": epoch, "steps": optimiser.steps, "rng": rng.bit_generator.state, "rows": self.rows}
        with whole_file(self.path) as draft:
            save_file(tensors, draft, {STATE: json.dumps(state)})

    def restore(self, network: nn.Module, optimiser: AdamW, rng: np.random.Generator) -> int:
        """Bring all of it to the state of the file; returns the epochs that are done, 0 where there is no file."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            with safe_open(self.path, framework="pt") as stored:
                state = json.loads(stored.metadata()[STATE])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            LOG.warning("the checkpoint %s cannot be read (%s): the training starts again", self.path, error)
            return 0

        def own(part: str) -> dict[str, Tensor]:
            return {name.removeprefix(f"{part}/"): t for name, t in tensors.items() if name.startswith(f"{part}/")}

        network.load_state_dict(own(NETWORK))
        optimiser.load(own(OPTIMISER), state["steps"])
        torch.set_rng_state(tensors[RANDOM])
        rng.bit_generator.state = state["rng"]
        self.rows[:] = state["rows"]
        self.best.update(own(BEST))
        return int(state["epoch"])
