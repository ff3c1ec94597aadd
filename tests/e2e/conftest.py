"""One platform for all end-to-end tests: real servers over a planted world whose right answer is known."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.client import Client
from attune.settings import Settings
from infra.demo import Endpoint
from infra.local_stack import Stack

CLUSTERS = 4
OLD_ITEMS, NEW_ITEMS = 20, 10
"""Items of each cluster that are known from the start, and those that everybody turns to later."""

PEOPLE = 200
SEED = 11


@dataclass(frozen=True)
class Planted:
    """People of one cluster choose that cluster's items, the low numbers most; later its new ones, in a fixed order.

    Nobody touched a new item before, so only a model that learned from the later events can know the order.
    """

    items: pd.DataFrame
    early: pd.DataFrame
    later: pd.DataFrame
    latest: pd.DataFrame

    def write(self, folder: Path) -> dict[str, Path]:
        """The tables as files that `attune import tabular` reads."""
        files = {}
        for name in ("items", "early", "later", "latest"):
            files[name] = folder / f"{name}.csv"
            getattr(self, name).to_csv(files[name], index=False)
        return files


def plant() -> Planted:
    """The world, from a fixed seed."""
    random = np.random.default_rng(SEED)
    items = [
        {"sku": f"{age}-{cluster}-{number}", "name": f"{age} {number} of {cluster}", "genre": f"cluster{cluster}"}
        for cluster in range(CLUSTERS)
        for age, count in (("old", OLD_ITEMS), ("new", NEW_ITEMS))
        for number in range(count)
    ]
    early = _events(random, "p", PEOPLE, 0, lambda cluster: _favourites(random, cluster, 10))
    later = _events(random, "q", PEOPLE, 1, lambda cluster: _walk(random, cluster))
    latest = _events(random, "r", PEOPLE, 2, lambda cluster: _walk(random, cluster))
    return Planted(pd.DataFrame(items), early, later, latest)


def _names(age: str, cluster: int, count: int) -> list[str]:
    return [f"{age}-{cluster}-{number}" for number in range(count)]


def _walk(random: np.random.Generator, cluster: int) -> list[str]:
    start = int(random.integers(NEW_ITEMS))
    new = [f"new-{cluster}-{(start + step) % NEW_ITEMS}" for step in range(6)]
    return [*_favourites(random, cluster, 2), *new]


def _favourites(random: np.random.Generator, cluster: int, count: int) -> list[str]:
    share = 1.0 / np.arange(1, OLD_ITEMS + 1)
    return list(random.choice(_names("old", cluster, OLD_ITEMS), count, replace=False, p=share / share.sum()))


def _events(random: np.random.Generator, prefix: str, people: int, epoch: int, choose) -> pd.DataFrame:
    rows = []
    for person in range(people):
        moment = 1_600_000_000 + epoch * 10_000_000 + int(random.integers(1_000_000))
        for step, sku in enumerate(choose(person % CLUSTERS)):
            rows.append({"who": f"{prefix}{person}", "sku": sku, "at": moment + 3_600 * step, "what": "click"})
    return pd.DataFrame(rows).sort_values("at", kind="stable")


@pytest.fixture(scope="session")
def planted() -> Planted:
    return plant()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Prefect, MLflow, the state keeper and the endpoint; the environment points at them as long as they run."""
    settings = Settings(var=tmp_path_factory.mktemp("platform"), serving_port=0)
    with Stack(settings) as stack:
        stack.start("prefect", "mlflow", "keeper", "endpoint")
        stack.wait()
        yield stack


@pytest.fixture(scope="module")
def endpoint(platform: Stack) -> Iterator[Endpoint]:
    with Client(platform.endpoint_url, timeout=30.0) as client:
        yield Endpoint(client)
