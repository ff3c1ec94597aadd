"""Cross-validation in time: the same recipe trained at several moments, each judged on what came next.

A rolling origin (Tashman 2000, "Out-of-sample tests of forecasting accuracy"): the window that is learned from grows,
the stretch that is judged moves on. The spread over origins says how far the figure of one hold-out can be trusted.
"""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from attune.errors import DataContractError
from evaluation.case import CaseLimits
from evaluation.replay import replay
from evaluation.simple_baselines import simple_baselines, strongest
from models.learning.dataset import TrainingSet, split_windows
from models.learning.training import train
from models.metrics import Evaluation, decisive, summary
from models.network.config import Recipe
from models.training_job import chosen_recipe, report_file

FIRST_SHARE = 0.5
"""So much of the events lies before the first origin."""

SHOWN = ("ndcg@10", "hr@10", "mrr", "coverage@10")
ALL_TARGETS = "ndcg@10 all targets"


@dataclass(frozen=True)
class Origin:
    """Learned from moments up to ``after``, judged on those up to ``upto``: ``SHOWN`` of the model and popularity.

    They are over the targets that decide (``models.metrics.decisive``); NDCG@10 over all stands beside. The popularity
    is the baseline that gates ask a model to beat (``evaluation.simple_baselines``).
    """

    after: int
    upto: int
    events: int
    model: dict[str, float]
    popularity: dict[str, float]


def rolling_origins(training_set: TrainingSet, recipe: Recipe, folds: int, seed: int) -> list[Origin]:
    """``folds`` origins (at least 2) at equal numbers of events, the earliest first.

    Each training chooses on the last of its own events, as every training does. Raises ValueError for fewer than two
    folds, DataContractError where there are too few events.
    """
    if folds < 2:
        raise ValueError(f"a spread needs at least 2 origins, not {folds}")
    ordered = np.sort(training_set.times)
    places = np.linspace(FIRST_SHARE * len(ordered), len(ordered), folds + 1).astype(np.int64) - 1
    if places[0] < 0 or (np.diff(ordered[places]) < 1).any():
        raise DataContractError(
            f"{len(ordered)} events at {len(np.unique(ordered))} event times are too few for {folds} origins:"
            " import some, or ask for fewer"
        )
    origins, limits = [], CaseLimits()
    for after, upto in pairwise(ordered[places].tolist()):
        windows = split_windows(training_set.times[training_set.times <= after], holdout=0.0)
        trained = train(training_set, recipe, windows.train_upto, after, seed)
        model = replay(trained.hybrid, training_set, after, upto, catalogue=trained.catalogue)
        baselines = simple_baselines(training_set, after, limits.half_lives, limits.trends)
        popularity = strongest(baselines, training_set, after, upto, limits.metric)
        figures = (_figures(evaluation) for evaluation in (model, popularity))
        origins.append(Origin(after, upto, len(model.events), *figures))
    return origins


def _figures(evaluation: Evaluation) -> dict[str, float]:
    table = summary(evaluation)
    return {**{name: table[decisive(evaluation)][name] for name in SHOWN}, ALL_TARGETS: table["all"]["ndcg@10"]}


def spread(origins: list[Origin]) -> dict[str, dict[str, float]]:
    """Of model and popularity the mean of each figure over the origins, and its standard deviation (``... sd``)."""
    table: dict[str, dict[str, float]] = {"model": {}, "popularity": {}}
    for who, row in table.items():
        for name in (*SHOWN, ALL_TARGETS):
            figures = [getattr(origin, who)[name] for origin in origins]
            row |= {name: float(np.mean(figures)), f"{name} sd": float(np.std(figures, ddof=1))}
    return table


def cross_validate(folder: Path, bundle: Path, recipe: str, seed: int, origins: int) -> None:
    """Add to a bundle's report what the recipe comes to at so many earlier moments, see ``rolling_origins``."""
    training_set = TrainingSet.load(folder)
    folds = rolling_origins(training_set, chosen_recipe(recipe, training_set), origins, seed)
    report = json.loads(report_file(bundle).read_text())
    report |= {"cross_validation": spread(folds), "origins": [asdict(origin) for origin in folds]}
    report_file(bundle).write_text(json.dumps(report, indent=1))
