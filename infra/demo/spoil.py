"""A challenger with a fault that only its recommendations give away: for tests and the demo."""

import json
from pathlib import Path

import msgspec
import numpy as np

from models.bundle import CONFIG, FILES, FORMAT, ITEMS, open_sealed, seal


def spoil(bundle_folder: Path, out_folder: Path, seed: int = 0) -> Path:
    """Copy a bundle with its id table shuffled, as if it came from another training run. Returns the new folder.

    Ids and titles move together; what the model computes from (attributes, tables, weights) stays, and golden
    histories and scores speak of indices. So it loads, verifies and answers: it merely recommends other items than
    it means. Raises BundleError when the bundle is not whole or ``out_folder`` exists.
    """
    files = open_sealed(bundle_folder, FORMAT, FILES)
    columns = msgspec.json.decode(files[ITEMS])
    order = np.random.default_rng(seed).permutation(len(columns["item_ids"]))
    shuffled = {**columns, **{name: [columns[name][place] for place in order] for name in ("item_ids", "titles")}}
    config = {**json.loads(files[CONFIG]), "spoiled": True}
    changed = {ITEMS: msgspec.json.encode(shuffled), CONFIG: json.dumps(config, indent=1, sort_keys=True).encode()}
    return seal(out_folder, FORMAT, {**files, **changed})
