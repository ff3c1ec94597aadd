"""The bundle: everything that a model needs to answer, as one folder of tensors and JSON; nothing is pickled.

    manifest.json        the format, and length and sha256 of each other file
    config.json          what decided the model: recipe, mix, choices, policy, window, lineage
    weights.safetensors  the network
    tables.safetensors   item-kNN, popularity, the items' statistics
    items.json           the id table: item ids, titles, genres, years in the order of the indices
    golden.safetensors   a batch of histories and the scores that the trained model gave them

Whoever loads a bundle checks the manifest; ``golden_difference`` says whether it still scores as it was trained.
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors

from attune.columns import ITEM_STATS, USER_STATS
from attune.errors import BundleError
from attune.event_types import KINDS, REWARD_TABLE_VERSION
from attune.files import whole_folder
from models.baselines import Popularity
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.hybrid import Hybrid
from models.learning.dataset import BEFORE_ALL, TrainingSet, groups, histories
from models.ranking.policy import Policy
from models.ranking.policy_registry import restore
from models.sources import NETWORK

FORMAT = "attune-bundle/1"
MANIFEST, CONFIG, ITEMS = "manifest.json", "config.json", "items.json"
WEIGHTS, TABLES, GOLDEN = "weights.safetensors", "tables.safetensors", "golden.safetensors"
FILES = (CONFIG, ITEMS, WEIGHTS, TABLES, GOLDEN)

TOLERANCE = 1e-4  # how far golden scores may be from those of the training: other machines add in another order
GOLDEN_HISTORIES = 8
_STATS = "catalogue/stats_NF"
_ITEM_COLUMNS = ("item_ids", "titles", "genres", "years")
_NO_BUNDLE = "{folder} is no bundle: its " + MANIFEST + " cannot be read ({error}); fetch it again"


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from: what ``config.json`` says beside the model's own settings.

    ``trained_upto_time`` is the latest time (microseconds) of the events that any part really learned from or was
    chosen on, ``trained_upto`` the last log position among them; ``holdout_after_time`` the moment after which the
    training said that it left everything to the judgement, ``holdout_after`` the last position up to then. The times
    are None where only positions are known, as of older bundles. ``window`` is the training set's ``window.json``;
    ``panel_users_trained`` counts panel users among those learned from (0).
    """

    recipe: Mapping[str, Any]
    window: Mapping[str, Any]
    trained_upto: int
    holdout_after: int
    seed: int
    panel_users_trained: int
    parent: str | None = None
    git_commit: str | None = None
    trained_upto_time: int | None = None
    holdout_after_time: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values, with what this version of attune adds."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        window = {name: self.window[name] for name in ("feature_service", "digest")}
        stats = {"user_stats": list(USER_STATS), "item_stats": list(ITEM_STATS)}
        return {**own, "reward_table": REWARD_TABLE_VERSION, "kinds": list(KINDS), **stats, **window}


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle. ``config`` is ``config.json``, ``digest`` the sha256 of its manifest, ``bytes`` its size."""

    catalogue: Catalogue
    hybrid: Hybrid
    policy: Policy
    config: dict[str, Any]
    digest: str
    bytes: int
    _golden: dict[str, np.ndarray] = field(repr=False)

    @staticmethod
    def load(folder: Path) -> "Bundle":
        """Read and verify a folder. Raises BundleError when it is incomplete, altered or of another format."""
        files = open_sealed(folder, FORMAT, FILES)
        try:
            config = json.loads(files[CONFIG])
            tensors = {**read_tensors(files[WEIGHTS]), **read_tensors(files[TABLES])}
            stats_NF, columns = tensors.pop(_STATS), msgspec.json.decode(files[ITEMS])
            if stats_NF.ndim != 2 or stats_NF.shape[1] != len(ITEM_STATS):
                raise ValueError(f"the items' statistics have the shape {stats_NF.shape}")
            item_ids, titles, genres, years = (tuple(columns[name]) for name in _ITEM_COLUMNS)
            catalogue = Catalogue(item_ids, titles, tuple(map(tuple, genres)), years, stats_NF)
            return Bundle(
                catalogue=catalogue,
                hybrid=Hybrid.restore(catalogue, config["model"], tensors),
                policy=restore(config["policy"]),
                config=config,
                digest=digest_of(folder),
                bytes=sum(map(len, files.values())),
                _golden=read_tensors(files[GOLDEN]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, msgspec.DecodeError) as error:
            raise BundleError(f"{folder} holds no {FORMAT} that this version can read: {error!r}") from error

    def extended(self, more: Catalogue) -> "Bundle":
        """A copy over the items of ``more`` too, known by their attributes alone; ``states`` of users hold for both."""
        return replace(self, catalogue=self.catalogue.extended(more), hybrid=self.hybrid.extended(more))

    @property
    def reads(self) -> Mapping[str, int]:
        """The vectors (``models.item_vectors``) by which it places items that it did not learn, with their lengths."""
        return {name: len(axes_VK) for name, axes_VK in self.hybrid.network.network.space.axes.items()}

    @property
    def popularity(self) -> Popularity:
        return self.hybrid.popularity

    @property
    def likeness_ND(self) -> np.ndarray:
        """The items as unit vectors, float32: how alike two of them are is what the policy's diversity goes by."""
        return self.hybrid.network.unit_items_ND

    @property
    def trained_upto(self) -> int:
        return int(self.config["trained_upto"])

    @property
    def trained_upto_time(self) -> int | None:
        """The latest event time that the model was trained or chosen on, as measured; None: it was not recorded."""
        return self.config.get("trained_upto_time")

    @property
    def arrived_upto(self) -> int:
        """The last log position that had arrived when its training set was built."""
        return int(self.config["window"].get("last_position", self.trained_upto))

    @property
    def holdout_after(self) -> int:
        """The last log position up to ``holdout_after_time``."""
        return int(self.config["holdout_after"])

    @property
    def holdout_after_time(self) -> int | None:
        """The moment after which events were left to the judgement, as declared; None where it was not recorded."""
        return self.config.get("holdout_after_time")

    @property
    def panel_users_trained(self) -> int:
        return int(self.config["panel_users_trained"])

    def golden_difference(self) -> float:
        """The largest absolute difference between the golden scores and those of the loaded model."""
        golden_BN = self._golden["scores_BN"]
        return float(np.abs(self.golden_scores()[:, : golden_BN.shape[1]] - golden_BN).max(initial=0.0))

    def golden_scores(self) -> np.ndarray:
        """scores_BN of the loaded model for the golden histories."""
        names = HistoryBatch.__dataclass_fields__
        return self.hybrid.scores(HistoryBatch(**{name: self._golden[f"batch/{name}"] for name in names}))

    def verify_golden(self, tolerance: float = TOLERANCE) -> None:
        """Raises BundleError when the loaded model does not score as it did when it was trained."""
        difference = self.golden_difference()
        if not difference <= tolerance:
            raise BundleError(
                f"the bundle {self.digest[:12]} scores its golden histories {difference:.2g} away from its training,"
                f" more than {tolerance:g}: its tables do not belong together, or this machine computes otherwise"
            )


def save_bundle(
    folder: Path, hybrid: Hybrid, catalogue: Catalogue, policy: Policy, provenance: Provenance, golden: HistoryBatch
) -> Path:
    """Write a trained model as a bundle; the golden scores are those of this very object. Returns the folder.

    ``catalogue`` are the items that the hybrid scores, with their statistics as of the end of its training.
    Raises BundleError when the folder exists or cannot be written.
    """
    tables = hybrid.tensors()
    weights = {name: tables.pop(name) for name in list(tables) if name.startswith(f"{NETWORK}/")}
    tables[_STATS] = catalogue.stats_NF.astype(np.float32)
    config = {
        "format": FORMAT,
        **provenance.as_dict(),
        "mix": dict(zip(hybrid.names, hybrid.weights, strict=True)),
        "model": hybrid.settings(),
        "policy": policy.describe(),
    }
    inputs = {f"batch/{name}": getattr(golden, name) for name in HistoryBatch.__dataclass_fields__}
    files = {
        CONFIG: json.dumps(config, indent=1, sort_keys=True, allow_nan=False).encode(),
        ITEMS: msgspec.json.encode({name: getattr(catalogue, name) for name in _ITEM_COLUMNS}),
        WEIGHTS: _tensors(weights),
        TABLES: _tensors(tables),
        GOLDEN: _tensors({**inputs, "scores_BN": hybrid.scores(golden)}),
    }
    return seal(folder, FORMAT, files)


def golden_batch(training_set: TrainingSet, upto: int, catalogue: Catalogue) -> HistoryBatch:
    """The histories of the latest few groups up to a moment, as serving would see them."""
    window = groups(training_set, BEFORE_ALL, upto)
    latest = np.arange(max(len(window) - GOLDEN_HISTORIES, 0), len(window))
    return histories(training_set, window.select(latest), catalogue=catalogue)


def _tensors(named: Mapping[str, np.ndarray]) -> bytes:
    return write_tensors({name: np.ascontiguousarray(values) for name, values in named.items()})


def seal(folder: Path, format_name: str, files: Mapping[str, bytes]) -> Path:
    """Write the files and their manifest as ``folder``, whole or not at all. Raises BundleError where it exists."""
    if folder.exists():
        raise BundleError(f"{folder} exists already; a bundle is never written over: choose another folder")
    listed = {name: {"sha256": _sha256(content), "bytes": len(content)} for name, content in sorted(files.items())}
    manifest = json.dumps({"format": format_name, "files": listed}, indent=1).encode()
    try:
        with whole_folder(folder) as draft:
            for name, content in {**files, MANIFEST: manifest}.items():
                (draft / name).write_bytes(content)
    except OSError as error:
        raise BundleError(f"{folder} could not be written: {error}") from error
    return folder


def open_sealed(folder: Path, format_name: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """The content of exactly these files; what is parsed later is what was verified here.

    Raises BundleError for a missing or altered file, a manifest of another format or one that lists other files.
    """
    try:
        manifest = json.loads(_manifest(folder))
        stated, listed = manifest["format"], manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(_NO_BUNDLE.format(folder=folder, error=error)) from error
    if stated != format_name:
        raise BundleError(f"{folder} has the format {stated!r}; this version of attune reads {format_name!r}")
    if set(listed) != set(names):
        difference = sorted(set(listed) ^ set(names))
        raise BundleError(f"{folder}/{MANIFEST} lists other files than a {format_name} has: {difference}")
    files = {}
    for name in names:
        path, entry = folder / name, listed[name]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path} is missing from its bundle: {error}; fetch the bundle again") from error
        if not isinstance(entry, dict) or (entry.get("sha256"), entry.get("bytes")) != (_sha256(content), len(content)):
            raise BundleError(
                f"{path} is not what its manifest says; it was altered or cut short: fetch the bundle again"
            )
        files[name] = content
    return files


def digest_of(folder: Path) -> str:
    """The sha256 of the manifest, and so of everything in the folder. Raises BundleError where there is none."""
    return _sha256(_manifest(folder))


def _manifest(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(_NO_BUNDLE.format(folder=folder, error=error)) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_commit() -> str | None:
    """The commit of the code that runs, with ``+`` and a digest of what differs from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        root = Path(__file__).resolve().parents[1]
        run = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
        return run.stdout.strip()

    try:
        commit, changes = git("rev-parse", "HEAD"), git("diff", "HEAD")
        return f"{commit}+{_sha256(changes.encode())[:8]}" if changes else commit
    except (OSError, subprocess.SubprocessError):
        return None
