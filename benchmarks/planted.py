"""A shop in which one knows beforehand whose scores a reaction moves, and which way.

Half of the items stand in groups of ten, each item a neighbour of the other nine with the similarity 1; the others are
nobody's neighbours. Of a user's 50 clicks the latest ten are on six items of one group, A, and on four of another, B;
those before are on items without neighbours, so that nothing that moves a score leaves the 30 events that item-kNN
looks at. A click votes 1.5, so item-kNN gives 6 to an item of B that the user has not used, and 9 to one of A. Divided
by its largest distance from the mean m (which is below 0.02 of 10,000 items) B stands at (6 - m) / (9 - m). A ``like``
in B makes that 7, a ``dislike`` 5; A keeps the largest distance, and m moves by less than 0.001: the rest of B goes up,
or down, by about a ninth of the scale, and can do nothing else. The network is computed as ever, with a weight of a
millionth, and nothing else is mixed in.
"""

import numpy as np
import scipy.sparse as sp

from benchmarks.serving_world import KNN, Mixing, Size
from models.baselines import ItemKnn
from models.network.config import NOTHING_FELT

GROUP, FIRST, SECOND = 10, 6, 4
WEIGHTS = (1e-6, 0.9, 0.1 - 1e-6)


def histories(size: Size, random: np.random.Generator) -> np.ndarray:
    """(users, history): items without neighbours, then those of A and B, mixed; see the top of this file."""
    grouped = _grouped(size.items)
    lonely_UH = random.integers(grouped, size.items, (size.users, size.history - FIRST - SECOND))
    latest_UH = np.empty((size.users, FIRST + SECOND), np.int64)
    for latest_H in latest_UH:
        a, b = random.choice(grouped // GROUP, 2, replace=False) * GROUP
        latest_H[:FIRST] = a + random.choice(GROUP, FIRST, replace=False)
        latest_H[FIRST:] = b + random.choice(GROUP, SECOND, replace=False)
    return np.concatenate([lonely_UH, random.permuted(latest_UH, axis=1)], axis=1)


def second_group(clicked: list[int], items: int) -> int:
    """The group, by number, that the user's clicks like second best."""
    numbers, clicks = np.unique([item // GROUP for item in clicked if item < _grouped(items)], return_counts=True)
    return int(numbers[clicks.argmin()])


def mixing(items: int) -> Mixing:
    """The groups as item-kNN's table, and a network that says next to nothing."""
    of_group = np.ones((GROUP, GROUP), np.float32) - np.eye(GROUP, dtype=np.float32)
    groups = _grouped(items) // GROUP
    lonely = sp.csr_matrix((items - groups * GROUP,) * 2, dtype=np.float32)
    table = sp.block_diag([*[of_group] * groups, lonely], format="csr", dtype=np.float32)
    table.eliminate_zeros()
    table.sort_indices()
    return Mixing(WEIGHTS, ItemKnn(table, KNN), NOTHING_FELT)


def _grouped(items: int) -> int:
    """How many of the items stand in groups: the first half of them."""
    return items // 2 // GROUP * GROUP
