"""Stretches of one stream for an examination of the gates: a line of champions, and what nobody has learned from yet.

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

from benchmarks.replay_worlds import cut_at
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.catalogue import Catalogue
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.learning.finetuning import finetune
from models.learning.training import Trained, train
from models.network.config import Recipe
from models.ranking.policy import PlackettLuce, Policy

VALIDATED = 0.1
"""The share of the first champion's events that it is chosen on."""


@dataclass(frozen=True)
class Era:
    """Where each stretch ends, as shares of the stream's events."""

    anchor: float
    elder: float
    champion: float
    learned: float
    judged: float
    audited: float


@dataclass(frozen=True)
class Exam:
    """The stream, the champions' bundles, an honest fine-tune to spoil, and the positions where stretches end."""

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

    def later(self) -> TrainingSet:
        """The events since the champion that challengers may learn from."""
        positions = self.stream.positions
        return self.stream.select((positions > self.champion().holdout_after) & (positions <= self.learned))

    def with_later(self, later: TrainingSet) -> TrainingSet:
        """What the champion knew, and these events after it; users that are new stand behind the others."""
        before = self.stream.select(self.stream.positions <= self.champion().holdout_after)
        return joined(replace(before, user_ids=later.user_ids), later)

    def taught(
        self,
        folder: Path,
        seed: int,
        stream: TrainingSet | None = None,
        upto: int | None = None,
        lineage: Mapping[str, int] | None = None,
        **recipe: Any,
    ) -> Path:
        """The champion fine-tuned, on another stream, up to another position, by a changed recipe; the new bundle.

        ``lineage`` is what it says of itself in place of the truth, as in ``Provenance``.
        """
        changed = replace(self.recipe, **recipe)
        trained = finetune(self.champion(), stream or self.stream, changed, upto or self.learned, seed)
        return self.written(folder, trained.hybrid, trained.catalogue, **{**_lineage(trained), **(lineage or {})})

    def written(
        self, folder: Path, hybrid: Hybrid, catalogue: Catalogue, policy: Policy | None = None, **lineage: Any
    ) -> Path:
        """A bundle of a model, whose golden scores are its own; ``lineage`` as in ``Provenance``."""
        told = {"trained_upto": self.learned, "holdout_after": self.learned, "seed": 0, "panel_users_trained": 0}
        provenance = Provenance(self.recipe.as_dict(), self.stream.window, **{**told, **lineage})
        golden = golden_batch(self.stream, self.learned, catalogue)
        return save_bundle(folder, hybrid, catalogue, policy or PlackettLuce(), provenance, golden)


def prepared(stream: TrainingSet, recipe: Recipe, era: Era, folder: Path, seed: int) -> Exam:
    """Train the first champion, fine-tune the next two from it, and an honest challenger, all into ``folder``."""
    exam = opened(stream, recipe, era, folder)
    stream = exam.stream
    anchor, chosen = cut_at(stream, era.anchor), cut_at(stream, era.anchor * (1.0 - VALIDATED))
    first = train(stream, recipe, chosen, anchor, seed)
    exam.written(folder / "anchor", first.hybrid, first.catalogue, **_lineage(first))
    before = folder / "anchor"
    for name, share in (("elder", era.elder), ("champion", era.champion), ("honest", era.learned)):
        learned = finetune(Bundle.load(before), stream, recipe, cut_at(stream, share), seed)
        before = exam.written(folder / name, learned.hybrid, learned.catalogue, **_lineage(learned))
    return exam


def opened(stream: TrainingSet, recipe: Recipe, era: Era, folder: Path) -> Exam:
    """An exam whose bundles are in ``folder`` already, or will be."""
    named = replace(stream, window={"digest": "planted", "feature_service": "", "rows": len(stream)})
    return Exam(named, recipe, folder, *(cut_at(stream, one) for one in (era.learned, era.judged, era.audited)))


def joined(one: TrainingSet, other: TrainingSet) -> TrainingSet:
    """The events of both, those of ``other`` behind; users and catalogue are its too."""
    names = ("positions", "users", "items", "kinds", "rewards", "times", "user_stats_EF", "item_stats_EF")
    columns: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    return replace(other, **columns)


def _lineage(trained: Trained) -> dict[str, Any]:
    return {
        "trained_upto": trained.trained_upto,
        "holdout_after": trained.holdout_after,
        "seed": trained.seed,
        "panel_users_trained": trained.panel_users,
    }
