"""The worlds that these tests share."""

import pytest
from model_worlds import *  # noqa: F403

from models.network.config import KnnGrid, Recipe, SequenceConfig


@pytest.fixture(scope="session")
def quick() -> Recipe:
    """A model of one epoch, with nothing to choose: for benchmarks of which only the machinery is tested."""
    return Recipe(
        "quick",
        SequenceConfig(width=16, blocks=1, heads=1, context=16),
        epochs=1,
        knn=KnnGrid((20,), (5.0,), (10,), (1.0,), (0.5,)),
        popularity_days=(30.0,),
        mix_step=0.5,
        validation_groups=200,
    )
