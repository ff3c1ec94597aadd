"""A bundle comes back as it was saved, or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attune.errors import BundleError
from infra.demo import spoil
from models.bundle import CONFIG, FILES, FORMAT, GOLDEN, ITEMS, MANIFEST, TABLES, WEIGHTS, Bundle, save_bundle, seal
from models.history import HistoryBatch
from models.learning.dataset import BEFORE_ALL, groups, histories
from models.ranking.exploration import Bounded, Epsilon, Greedy
from models.ranking.policy import PlackettLuce, Policy
from models.ranking.thompson import LinearPosterior, Thompson

NAMES = (*FILES, MANIFEST)


@pytest.fixture
def copy(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "copy"))


def test_a_loaded_bundle_scores_as_the_trained_model(bundle_folder, trained, planted) -> None:
    bundle = Bundle.load(bundle_folder)
    asked = groups(planted, BEFORE_ALL, int(planted.times.max()))
    batch = histories(planted, asked.select(np.arange(0, len(asked), 7)))
    np.testing.assert_allclose(bundle.hybrid.scores(batch), trained.scores(batch), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(bundle.popularity.scores(batch), trained.popularity.scores(batch))
    assert bundle.golden_difference() <= 1e-5
    bundle.verify_golden()


def test_what_is_said_of_it_comes_back(bundle_folder, planted) -> None:
    bundle = Bundle.load(bundle_folder)
    assert bundle.catalogue.item_ids == planted.catalogue.item_ids
    assert bundle.catalogue.titles == planted.catalogue.titles
    assert bundle.catalogue.genres == planted.catalogue.genres
    assert bundle.catalogue.years == planted.catalogue.years
    np.testing.assert_array_equal(bundle.catalogue.stats_NF, planted.catalogue.stats_NF)
    assert bundle.trained_upto == bundle.config["trained_upto"] > 0
    assert bundle.config["digest"] == planted.window["digest"]
    assert bundle.config["reward_table"] == 1
    assert bundle.policy.describe() == bundle.config["policy"]


@pytest.mark.parametrize(
    "chosen",
    [
        PlackettLuce(0.2, 50, 0.3),
        Greedy(20),
        Epsilon(0.05),
        Thompson(LinearPosterior.prior(2, 0.1), ("sequence", "item-knn")),
        Bounded(PlackettLuce(0.2), budget=3, least_quality=0.9),
    ],
    ids=lambda chosen: str(chosen.describe()["name"]),
)
def test_a_policy_comes_back_by_its_name(trained, planted, cut, provenance, tmp_path: Path, chosen: Policy) -> None:
    golden = histories(planted, groups(planted, BEFORE_ALL, planted.moment(5)))
    folder = save_bundle(tmp_path / "bundle", trained, planted.catalogue, chosen, provenance, golden)
    assert Bundle.load(folder).policy == chosen


def test_a_policy_that_this_version_does_not_know_is_refused_by_name(bundle_folder: Path, tmp_path: Path) -> None:
    files = {each: (bundle_folder / each).read_bytes() for each in FILES}
    config = {**json.loads(files[CONFIG]), "policy": {"name": "clairvoyant"}}
    folder = seal(tmp_path / "later", FORMAT, {**files, CONFIG: json.dumps(config).encode()})
    with pytest.raises(BundleError, match="unknown policy 'clairvoyant'"):
        Bundle.load(folder)


def test_nothing_is_pickled(bundle_folder: Path) -> None:
    assert {path.name for path in bundle_folder.iterdir()} == set(NAMES)
    assert all(path.suffix in (".json", ".safetensors") for path in bundle_folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_one_altered_byte_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError):
        Bundle.load(copy)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_or_short_file_is_refused_by_name(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[:-1])
    with pytest.raises(BundleError, match=name):
        Bundle.load(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(copy)


def _rewrite_manifest(folder: Path, change: Callable[[dict], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_another_format_is_refused_and_named(copy: Path) -> None:
    _rewrite_manifest(copy, lambda manifest: manifest.update(format="attune-bundle/9"))
    with pytest.raises(BundleError, match="attune-bundle/9"):
        Bundle.load(copy)


def test_a_manifest_that_leaves_a_file_out_or_names_one_elsewhere_is_refused(copy: Path) -> None:
    _rewrite_manifest(copy, lambda manifest: manifest["files"].pop(WEIGHTS))
    with pytest.raises(BundleError, match=WEIGHTS):
        Bundle.load(copy)
    _rewrite_manifest(copy, lambda manifest: manifest["files"].update({"../elsewhere": {}}))
    with pytest.raises(BundleError, match="elsewhere"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", [CONFIG, ITEMS, TABLES, WEIGHTS])
def test_consistent_nonsense_is_refused_too(bundle_folder: Path, tmp_path: Path, name: str) -> None:
    files = {each: (bundle_folder / each).read_bytes() for each in FILES}
    folder = seal(tmp_path / "nonsense", "attune-bundle/1", {**files, name: b"{}"})
    with pytest.raises(BundleError, match="nonsense"):
        Bundle.load(folder)


def test_tables_of_another_run_are_found_by_the_golden_scores(bundle_folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    files = {each: (bundle_folder / each).read_bytes() for each in FILES}
    golden = load(files[GOLDEN])
    golden["scores_BN"] = golden["scores_BN"] + np.float32(0.01)
    bundle = Bundle.load(seal(tmp_path / "other", "attune-bundle/1", {**files, GOLDEN: save(golden)}))
    assert bundle.golden_difference() == pytest.approx(0.01, rel=1e-2)
    with pytest.raises(BundleError, match="golden"):
        bundle.verify_golden()


def test_a_folder_is_never_written_over(bundle_folder, trained, planted, policy, provenance) -> None:
    golden: HistoryBatch = histories(planted, groups(planted, BEFORE_ALL, planted.moment(5)))
    with pytest.raises(BundleError, match="exists"):
        save_bundle(bundle_folder, trained, planted.catalogue, policy, provenance, golden)


def test_a_spoiled_bundle_verifies_and_recommends_other_items(bundle_folder: Path, tmp_path: Path) -> None:
    healthy, spoiled = Bundle.load(bundle_folder), Bundle.load(spoil(bundle_folder, tmp_path / "spoiled"))
    spoiled.verify_golden()
    assert spoiled.golden_difference() <= 1e-5
    assert sorted(spoiled.catalogue.item_ids) == sorted(healthy.catalogue.item_ids)
    assert spoiled.catalogue.item_ids != healthy.catalogue.item_ids
    titles = dict(zip(healthy.catalogue.item_ids, healthy.catalogue.titles, strict=True))
    assert titles == dict(zip(spoiled.catalogue.item_ids, spoiled.catalogue.titles, strict=True))
