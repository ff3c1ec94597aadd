"""Items that came after the training: ranked by their attributes, and nothing else changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_worlds import three_parts

from attune.columns import ITEM_STATS
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.history import KIND_INDEX, HistoryBatch
from models.learning.training import Trained
from models.ranking.preference import Preference


def newcomers(*genres: tuple[str, ...], lead: str = "new") -> Catalogue:
    count = len(genres)
    ids = tuple(f"{lead}-{number}" for number in range(count))
    stats = np.full((count, len(ITEM_STATS)), np.nan, np.float32)
    return Catalogue(ids, ("",) * count, genres, (None,) * count, stats)


def said(items: list[int], kind: str = "like", reward: float = 1.0) -> HistoryBatch:
    length = len(items)
    return HistoryBatch(
        items_BL=np.array([items]) + 1,
        kinds_BL=np.full((1, length), KIND_INDEX[kind]),
        rewards_BL=np.full((1, length), reward, np.float32),
        times_BL=np.arange(1, length + 1)[None] * 1_000_000,
        item_stats_BLF=np.full((1, length, 4), np.nan, np.float32),
        user_stats_BF=np.full((1, 4), np.nan, np.float32),
        now_B=np.array([(length + 1) * 1_000_000]),
    )


def test_a_catalogue_keeps_its_places(tastes) -> None:
    catalogue = tastes.catalogue
    found = catalogue.extended(newcomers(("a",), ()))
    assert found.item_ids == (*catalogue.item_ids, "new-0", "new-1")
    assert found.places(["new-1", catalogue.item_ids[3], "nothing"]).tolist() == [len(catalogue) + 1, 3, -1]
    assert found.new_places.tolist()[-2:] == [len(catalogue), len(catalogue) + 1]
    assert "new-0" not in catalogue.index
    assert found == Catalogue(found.item_ids, found.titles, found.genres, found.years, found.stats_NF)
    with pytest.raises(ValueError, match="both"):
        found.extended(newcomers(("b",)))


@pytest.mark.parametrize("weights", [(0.4, 0.4, 0.2), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_nobodys_scores_of_what_was_there_change(trained_on_tastes: Trained, weights) -> None:
    hybrid = replace(three_parts(trained_on_tastes.hybrid), weights=weights, preference=Preference(0.3, 0.2))
    learned = len(trained_on_tastes.catalogue)
    once = hybrid.extended(newcomers(("a",), ("b", "unheard of"), ()))
    twice = once.extended(newcomers(*[("b",)] * 70, lead="later"))
    for batch in (said([1, 20]), said([0], "dislike", 0.0), said([3] * 40)):
        before = hybrid.scores(batch)
        for extended, more in ((once, 3), (twice, 73)):
            after = extended.scores(batch)
            assert after.shape == (1, learned + more)
            np.testing.assert_array_equal(after[:, :learned], before)
            assert np.isfinite(after).all()
            assert np.abs(after).max() <= 1.2 + 1e-6
        np.testing.assert_array_equal(hybrid.states(batch), twice.states(batch))
        for source, scores in hybrid.sources(batch, hybrid.states(batch)).items():
            np.testing.assert_array_equal(twice.sources(batch, twice.states(batch))[source][:, :learned], scores)


@pytest.mark.parametrize("liked", "ab")
def test_a_new_item_of_the_genre_that_somebody_likes_comes_first(trained_on_tastes: Trained, liked: str) -> None:
    places = [place for place, one in enumerate(trained_on_tastes.catalogue.item_ids) if one[0] == liked][:4]
    hybrid = replace(three_parts(trained_on_tastes.hybrid), weights=(0.4, 0.4, 0.2))
    hybrid = hybrid.extended(newcomers(("a",), ("b",), ("unheard of",)))
    a, b, neither = hybrid.network.scores(said(places))[0, -3:]
    assert (a > neither > b) if liked == "a" else (b > neither > a)
    whole_a, whole_b, _ = hybrid.scores(said(places))[0, -3:]
    assert (whole_a > whole_b) == (liked == "a")


def test_what_somebody_does_with_a_new_item_is_heard(trained_on_tastes: Trained) -> None:
    learned = len(trained_on_tastes.catalogue)
    hybrid = replace(three_parts(trained_on_tastes.hybrid), weights=(0.6, 0.3, 0.1), preference=Preference(0.3, 0.2))
    hybrid = hybrid.extended(newcomers(("a",), ("b",)))
    like, dislike = (hybrid.scores(said([learned], *what))[0] for what in (("like", 1.0), ("dislike", 0.0)))
    assert np.isfinite([like, dislike]).all()
    assert not np.array_equal(like, dislike)
    preferred = hybrid.sources(said([learned]), hybrid.states(said([learned])))["preference"][0]
    cluster = np.array([one[0] for one in trained_on_tastes.catalogue.item_ids])
    assert preferred[:learned][cluster == "a"].mean() > preferred[:learned][cluster == "b"].mean()


def test_the_parts_know_nothing_else_of_new_items(trained_on_tastes: Trained) -> None:
    learned = len(trained_on_tastes.catalogue)
    hybrid = trained_on_tastes.hybrid.extended(newcomers(("a",), ()))
    assert hybrid.popularity.weights_N[learned:].tolist() == [0, 0]
    assert not hybrid.knn.scores(said([0, 1]))[0, learned:].any()
    assert not hybrid.knn.scores(said([learned]))[0].any()
    average = float(hybrid.network.bias_N[:learned].mean())
    assert hybrid.network.bias_N[learned:].tolist() == pytest.approx([average] * 2)
    lengths = np.linalg.norm(hybrid.network.unit_items_ND, axis=1)
    np.testing.assert_allclose(lengths[learned:], 1.0, atol=1e-6)


def test_a_bundle_goes_on_beside_its_extension(bundle_folder: Path) -> None:
    bundle = Bundle.load(bundle_folder)
    learned = len(bundle.catalogue)
    extended = bundle.extended(newcomers(("g1",), ("g2",)))
    assert (len(bundle.catalogue), len(extended.catalogue)) == (learned, learned + 2)
    assert len(bundle.likeness_ND) == learned
    assert len(extended.likeness_ND) == learned + 2
    assert extended.digest == bundle.digest
    extended.verify_golden()
    bundle.verify_golden()
