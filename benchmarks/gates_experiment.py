"""One stream split for an experiment on the gates: a line of champions, and stretches that nobody has learned from.

... | anchor | elder | champion | learned | judged | audited
      first    once    now        by        by       by nobody: says whether
      champion champion           challen-  the      a challenger was good
                                  gers      gates    for its users after all
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import cut_at
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.catalogue import Catalogue
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.learning.finetuning import finetune
from models.learning.training import Trained, last_position, train
from models.network.config import Recipe
from models.ranking.policy import PlackettLuce, Policy

VALIDATED = 0.1
"""The share of the first champion's events that it is chosen on."""


@dataclass(frozen=True)
class Split:
    """Where each stretch ends, as shares of the stream's events."""

    anchor: float
    elder: float
    champion: float
    learned: float
    judged: float
    audited: float


@dataclass(frozen=True)
class Experiment:
    """The stream, the champions' bundles, an honest fine-tune to spoil, and the moments where stretches end."""

    stream: TrainingSet
    recipe: Recipe
    folder: Path
    learned: int
    judged: int
    audited: int

    @property
    def champions(self) -> dict[str, Path]:
        """Who was champion first, once and now."""
        return {name: self.folder / name for name in ("anchor", "elder", "champion")}

    def champion(self) -> Bundle:
        """The champion of now, as it is loaded."""
        return Bundle.load(self.folder / "champion")

    def honest(self) -> Bundle:
        """An honest fine-tune on everything that challengers may learn from."""
        return Bundle.load(self.folder / "honest")

    def later_events(self) -> TrainingSet:
        """The events since the champion that challengers may learn from."""
        times = self.stream.times
        return self.stream.select((times > self._known_upto()) & (times <= self.learned))

    def with_later(self, later: TrainingSet) -> TrainingSet:
        """What the champion knew, and these events after it; users that are new stand behind the others."""
        before = self.stream.select(self.stream.times <= self._known_upto())
        return join_events(replace(before, user_ids=later.user_ids), later)

    def _known_upto(self) -> int:
        champion = self.champion()
        return self.stream.moment(champion.holdout_after, champion.holdout_after_time)

    def finetune(
        self,
        folder: Path,
        seed: int,
        stream: TrainingSet | None = None,
        upto: int | None = None,
        lineage: Mapping[str, int] | None = None,
        **recipe: Any,
    ) -> Path:
        """The champion fine-tuned, on another stream, up to another moment, by a changed recipe; the new bundle.

        ``lineage`` is what it says of itself in place of the truth, as in ``Provenance``.
        """
        changed = replace(self.recipe, **recipe)
        trained = finetune(self.champion(), stream or self.stream, changed, upto or self.learned, seed)
        return self.write(folder, trained.hybrid, trained.catalogue, **{**_lineage(trained), **(lineage or {})})

    def write(
        self, folder: Path, hybrid: Hybrid, catalogue: Catalogue, policy: Policy | None = None, **lineage: Any
    ) -> Path:
        """A bundle of a model, whose golden scores are its own; ``lineage`` as in ``Provenance``."""
        last = last_position(self.stream, self.learned)
        stated = {"trained_upto": last, "holdout_after": last, "seed": 0, "panel_users_trained": 0}
        stated |= {"trained_upto_time": self.learned, "holdout_after_time": self.learned}
        provenance = Provenance(self.recipe.as_dict(), self.stream.window, **{**stated, **lineage})
        golden = golden_batch(self.stream, self.learned, catalogue)
        return save_bundle(folder, hybrid, catalogue, policy or PlackettLuce(), provenance, golden)


def train_champions(stream: TrainingSet, recipe: Recipe, split: Split, folder: Path, seed: int) -> Experiment:
    """Train the first champion, fine-tune the next two from it, and an honest challenger, all into ``folder``."""
    experiment = open_experiment(stream, recipe, split, folder)
    stream = experiment.stream
    anchor, chosen = cut_at(stream, split.anchor), cut_at(stream, split.anchor * (1.0 - VALIDATED))
    first = train(stream, recipe, chosen, anchor, seed)
    experiment.write(folder / "anchor", first.hybrid, first.catalogue, **_lineage(first))
    before = folder / "anchor"
    for name, share in (("elder", split.elder), ("champion", split.champion), ("honest", split.learned)):
        learned = finetune(Bundle.load(before), stream, recipe, cut_at(stream, share), seed)
        before = experiment.write(folder / name, learned.hybrid, learned.catalogue, **_lineage(learned))
    return experiment


def open_experiment(stream: TrainingSet, recipe: Recipe, split: Split, folder: Path) -> Experiment:
    """An experiment whose bundles are in ``folder`` already, or will be."""
    named = replace(stream, window={"digest": "planted", "feature_service": "", "rows": len(stream)})
    return Experiment(
        named, recipe, folder, *(cut_at(stream, share) for share in (split.learned, split.judged, split.audited))
    )


def join_events(one: TrainingSet, other: TrainingSet) -> TrainingSet:
    """The events of both, those of ``other`` behind; users and catalogue are its too."""
    names = ("positions", "users", "items", "kinds", "rewards", "times", "user_stats_EF", "item_stats_EF")
    columns: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    return replace(other, **columns)


def _lineage(trained: Trained) -> dict[str, Any]:
    return {
        "trained_upto": trained.trained_upto,
        "holdout_after": trained.holdout_after,
        "trained_upto_time": trained.trained_upto_time,
        "holdout_after_time": trained.holdout_after_time,
        "seed": trained.seed,
        "panel_users_trained": trained.panel_users,
    }
