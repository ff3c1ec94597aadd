"""The catalogue at one moment: which items there are, which may be shown, what the log says of each.

A ``CatalogueSnapshot`` never changes: a later event about an item makes another one, and requests that took the old one
go on with it. Items that the model did not learn follow those that it did, in the order in which the log first named
them, so that every process has them in the same places.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Protocol, Self

import numpy as np
from cachetools import LRUCache

from attune.columns import ITEM_STATS, Columns
from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.events import is_hidden, is_vector
from attune.row_rules import as_ids, is_id_name
from models.catalogue import Catalogue
from models.item_vectors import TextVectors, block, text_of
from models.recommender import BundleView

log = logging.getLogger(__name__)

MASKS_BYTES = 32 * 1_048_576  # memory for the masks of filters: 320 values in a catalogue of 100,000 items
NUMBERED_ATTRIBUTES = 16
"""Attributes whose values are kept as numbers: 0.8 MB each in a catalogue of 100,000 items, and the values."""

VALUE_LIMIT = 256  # longer texts are not kept (a title is), nor are vectors: no filter can ask for one
PAGE = 5_000
LIVE_TEXTS = 500
"""So many of the items that a model did not learn are known by their texts, the first ones: 2 ms a title to encode."""

Attributes = Mapping[str, Any]
Where = Mapping[str, Any]
"""For each attribute the value that an item must hold, or several of which it must hold one."""

_Value = tuple[str, bool, Any]
"""An attribute and a value of it; whether the value is a truth value stands apart, since Python takes true for 1."""


class ExtendableModel(BundleView, Protocol):
    """What a model needs to take in items that it did not learn; ``reads`` are the vectors that it can place."""

    @property
    def reads(self) -> Mapping[str, int]: ...
    def extended(self, more: Catalogue) -> Self:
        """Another object that has the items of ``more`` behind its own."""
        ...


@dataclass(frozen=True, slots=True)
class LiveItem:
    """What the log says of an item: the latest attributes, and the positions of the first and the latest event.

    ``vectors`` are by block, of items that a model did not learn alone.
    """

    item_id: str
    attributes: Attributes
    first: int
    position: int
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(eq=False)
class CatalogueSnapshot:
    """A model's items as the log had them at ``position``; ``hidden`` are the places of items never shown.

    ``model`` covers all of them: it extends ``learned``, the model as it was trained.
    """

    learned: ExtendableModel
    model: ExtendableModel
    position: int
    live: Sequence[LiveItem | None]
    hidden_N: np.ndarray
    masks: "ValueMasks"
    numbers: "ValueNumbers"

    def __post_init__(self) -> None:
        self.hidden = np.flatnonzero(self.hidden_N)

    @staticmethod
    def bare(model: ExtendableModel) -> "CatalogueSnapshot":
        """Of the model alone, before anything was read from the log."""
        size = len(model.catalogue)
        hidden_N = np.zeros(size, bool)
        return CatalogueSnapshot(model, model, 0, [None] * size, hidden_N, ValueMasks({}), ValueNumbers({}))

    def advanced(self, changed: Sequence[LiveItem], position: int) -> "CatalogueSnapshot":
        """Another snapshot as of ``position``, when ``changed`` are all the items with events since this one."""
        index = self.model.catalogue.index
        new = sorted((item for item in changed if item.item_id not in index), key=lambda item: item.first)
        known = [(index[item.item_id], item) for item in changed if item.item_id in index]
        live: list[LiveItem | None] = [*self.live, *new]
        for place, item in known:
            live[place] = item
        hidden_N = np.concatenate([self.hidden_N, np.zeros(len(new), bool)])
        for place, item in [*known, *enumerate(new, start=len(self.live))]:
            hidden_N[place] = is_hidden(item.attributes)
        model = self._extended(new, [place for place, _ in known], live)
        places = model.catalogue.places([item.item_id for item in changed])
        numbers = self.numbers.advanced(len(live), places)
        snapshot = CatalogueSnapshot(self.learned, model, position, live, hidden_N, ValueMasks({}), numbers)
        snapshot.masks = self.masks.advanced(snapshot, places)
        return snapshot

    def _extended(
        self, new: Sequence[LiveItem], known: Sequence[int], live: Sequence[LiveItem | None]
    ) -> ExtendableModel:
        """The model over ``new`` items too. Where an item that it did not learn changes, it is extended from scratch.

        So answers follow from the log, not from when a process read it.
        """
        size = len(self.learned.catalogue)
        if any(place >= size and _inputs(self.live[place]) != _inputs(live[place]) for place in known):
            return self.learned.extended(_catalogue([item for item in live[size:] if item is not None]))
        return self.model.extended(_catalogue(new)) if new else self.model

    def title(self, item_id: str) -> str | None:
        place = self.model.catalogue.index[item_id]
        live = self.live[place]
        title = self.model.catalogue.titles[place] if live is None else live.attributes.get(Columns.TITLE)
        return None if title is None or title == "" else str(title)

    def removed(self, where: Where) -> np.ndarray:
        """The places, int64, of items that such a request must not get: hidden ones and those that fail ``where``."""
        if not where:
            return self.hidden
        closed_N = self.hidden_N.copy()
        for attribute, wanted in where.items():
            values = wanted if isinstance(wanted, list) else [wanted]
            values = as_ids(values) if is_id_name(attribute) else values
            closed_N |= ~self.masks.holding(self, attribute, values)
        return np.flatnonzero(closed_N)

    def values(self, place: int, attribute: str) -> Sequence[Any]:
        """The values of an attribute at a place: live where the log describes the item, else as the model has it.

        Those of an attribute that is named as an id are text in one spelling, however they came in.
        """
        live, catalogue = self.live[place], self.model.catalogue
        if live is not None:
            held = live.attributes.get(attribute)
            values = held if isinstance(held, list) else (held,)
            return as_ids(values) if is_id_name(attribute) else values
        if attribute == Columns.GENRES:
            return catalogue.genres[place]
        return (catalogue.years[place],) if attribute == Columns.YEAR else ()


class ValueMasks:
    """Which items hold a value: a mask (N,) for each value that requests named lately; threads may share one."""

    def __init__(self, masks: Mapping[_Value, np.ndarray]) -> None:
        self._cache: LRUCache[_Value, np.ndarray] = LRUCache(MASKS_BYTES, getsizeof=len)
        self._cache.update(masks)
        self._lock = threading.Lock()

    def holding(self, snapshot: CatalogueSnapshot, attribute: str, values: Sequence[Any]) -> np.ndarray:
        """The mask (N,) of items that hold one of the values; one walk over the items for all that are not cached."""
        wanted = {(attribute, isinstance(value, bool), value) for value in values}
        with self._lock:
            masks = {value: mask_N for value in wanted if (mask_N := self._cache.get(value)) is not None}
        missing = wanted - masks.keys()
        if missing:
            fresh = _masks(snapshot, attribute, missing)
            with self._lock:
                self._cache.update(fresh)
            masks |= fresh
        either_N: np.ndarray = np.logical_or.reduce(list(masks.values()))
        return either_N

    def advanced(self, snapshot: CatalogueSnapshot, changed: np.ndarray) -> "ValueMasks":
        """The masks for a later snapshot, in which the items at the places ``changed`` are others or new."""
        with self._lock:
            masks = dict(self._cache.items())
        size, fresh = len(snapshot.model.catalogue), {}
        for value, before_N in masks.items():
            mask_N = np.zeros(size, bool)
            mask_N[: len(before_N)] = before_N
            attribute, *wanted = value
            mask_N[changed] = [
                any([isinstance(held, bool), held] == wanted for held in snapshot.values(place, attribute))
                for place in changed.tolist()
            ]
            fresh[value] = mask_N
        return ValueMasks(fresh)


@dataclass(frozen=True, slots=True)
class _AttributeNumbers:
    """A number for each value of one attribute, and each place's numbers; None where no request asked yet."""

    numbers: dict[tuple[bool, Any], int]
    rows: list[tuple[int, ...] | None]


class ValueNumbers:
    """The values that items hold as numbers, for attributes that requests named lately; threads may share one.

    A place is read when a request first needs it: a question about a hundred items costs no walk over all of them.
    """

    def __init__(self, attributes: Mapping[str, _AttributeNumbers], lock: "threading.Lock | None" = None) -> None:
        self._cache: LRUCache[str, _AttributeNumbers] = LRUCache(NUMBERED_ATTRIBUTES)
        self._cache.update(attributes)
        self._lock = lock or threading.Lock()

    def of(
        self, snapshot: CatalogueSnapshot, places: Sequence[int], attribute: str
    ) -> tuple[list[tuple[int, ...]], int]:
        """The values that the items at these places hold of an attribute, as numbers, and the bound of these numbers.

        Equal values have equal numbers, true is not 1, and each stands once; an item that holds nothing has none.
        ``snapshot`` is the one that these numbers belong to.
        """
        with self._lock:
            known = self._cache.get(attribute)
            if known is None:
                known = self._cache[attribute] = _AttributeNumbers({}, [None] * len(snapshot.model.catalogue))
            numbers, rows = known.numbers, known.rows
            for place in places:
                if rows[place] is None:
                    values = snapshot.values(place, attribute)
                    held = {(isinstance(value, bool), value) for value in values if value is not None}
                    rows[place] = tuple(numbers.setdefault(value, len(numbers)) for value in held)
            return [rows[place] or () for place in places], len(numbers)

    def advanced(self, size: int, changed: np.ndarray) -> "ValueNumbers":
        """For a later snapshot of ``size`` items, in which those at the places ``changed`` are others or new.

        The numbers stay in use, until most of them belong to values that no item holds any more.
        """
        fresh = {}
        with self._lock:
            for attribute, known in self._cache.items():
                if len(known.numbers) <= 2 * size:
                    rows = known.rows + [None] * (size - len(known.rows))
                    for place in changed.tolist():
                        rows[place] = None
                    fresh[attribute] = _AttributeNumbers(known.numbers, rows)
        return ValueNumbers(fresh, self._lock)


class LiveModel:
    """A model with what changes under it: the latest ``snapshot`` of its catalogue, and its items' live scores.

    ``live_1N`` (read-only; None before the first) may belong to an earlier or a later snapshot than the one here:
    items never change their places.
    """

    def __init__(self, model: ExtendableModel) -> None:
        self.snapshot = CatalogueSnapshot.bare(model)
        self.live_1N: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """What a request may choose from: a snapshot without the places ``removed``; ``stale`` if no log was read."""

    snapshot: CatalogueSnapshot
    removed: np.ndarray
    stale: bool


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """The items that a request wants: those of a model that hold what ``where`` names."""

    live: LiveModel
    where: Where

    def pool(self, stale: bool = False) -> Pool:
        """The candidates by the model's latest snapshot."""
        snapshot = self.live.snapshot
        return Pool(snapshot, snapshot.removed(self.where), stale)


class CatalogueReader:
    """Brings the snapshots of models up to date with the log's items; threads may share one.

    Each request asks the log for the position of the last event about an item, one look-up in an index. If a snapshot
    is behind, the first request advances it and the others wait for that. A process reads every event about an item
    once, and shares the items among all models that come and go.
    """

    def __init__(self, event_log: EventLog, texts: TextVectors | None = None) -> None:
        self._log, self._texts = event_log, texts
        self._position = 0
        self._items: dict[str, LiveItem] = {}
        """The item that changed last stands last."""
        self._lock = threading.Lock()

    def pools(self, filters: Sequence[ItemFilter]) -> list[Pool]:
        """The candidates of each as of now; where the log cannot be read, as of the latest snapshot."""
        stale = False
        try:
            position = self._log.last_item_position() if filters else 0
            for item_filter in filters:
                self._advance(item_filter.live, position)
        except EventLogError as error:
            log.warning("the event log cannot be read; items are as they were: %s", error)
            stale = True
        return [item_filter.pool(stale) for item_filter in filters]

    def update(self, live: LiveModel) -> None:
        """Bring the model's snapshot to whatever was logged of items before this call. Raises EventLogError.

        An encoder of texts is loaded here, before a request needs it.
        """
        if self._texts is not None and self._texts.block in live.snapshot.learned.reads:
            self._texts.of(["text"])
        self._advance(live, self._log.last_item_position())

    def _advance(self, live: LiveModel, position: int) -> None:
        """Bring the model's snapshot to a position, at least."""
        if live.snapshot.position < position:
            with self._lock:
                if live.snapshot.position < position:
                    self._follow()
                    before = live.snapshot.position
                    changed = list(takewhile(lambda item: item.position > before, reversed(self._items.values())))
                    changed = self._with_vectors(changed, live.snapshot)
                    live.snapshot = live.snapshot.advanced(changed, self._position)

    def _with_vectors(self, changed: Sequence[LiveItem], snapshot: CatalogueSnapshot) -> list[LiveItem]:
        """The items with the vectors that the model reads, where it did not learn them."""
        learned, index, reads = snapshot.learned.catalogue.index, snapshot.model.catalogue.index, snapshot.learned.reads
        later = [item for item in changed if item.item_id not in learned] if reads else []
        versions = self._log.versions("item", [item.item_id for item in later])
        new = sorted((item for item in later if item.item_id not in index), key=lambda item: item.first)
        new_places = {item.item_id: place for place, item in enumerate(new, len(index))}
        texts = self._texts if self._texts is not None and self._texts.block in reads else None
        vectors: dict[str, dict[str, np.ndarray]] = {}
        for item in later:
            attributes = next(event.attributes for at, event in versions[item.item_id] if at == item.position)
            imported = {name: values for name, values in attributes.items() if name in reads and is_vector(values)}
            own = {name: np.array(row, np.float32) for name, row in imported.items() if len(row) == reads[name]}
            place = index.get(item.item_id, new_places.get(item.item_id, 0))
            if texts is not None and place - len(learned) < LIVE_TEXTS:
                own[texts.block] = texts.of([text_of(attributes)])[0]
            vectors[item.item_id] = own
        return [replace(item, vectors=vectors.get(item.item_id, {})) for item in changed]

    def _follow(self) -> None:
        versions = self._log.item_versions(self._position, PAGE)
        while versions:
            for version in versions:
                before = self._items.pop(version.item_id, None)
                first = version.position if before is None else before.first
                attributes = {
                    name: value
                    for name, value in version.attributes.items()
                    if name == Columns.TITLE or _is_short(value)
                }
                self._items[version.item_id] = LiveItem(version.item_id, attributes, first, version.position)
            self._position = versions[-1].position
            versions = self._log.item_versions(self._position, PAGE) if len(versions) == PAGE else []


def _is_short(value: Any) -> bool:
    return len(value) <= VALUE_LIMIT if isinstance(value, str) else not is_vector(value)


def _masks(snapshot: CatalogueSnapshot, attribute: str, values: set[_Value]) -> dict[_Value, np.ndarray]:
    size = len(snapshot.model.catalogue)
    masks = {value: np.zeros(size, bool) for value in values}
    for place in range(size):
        for held in snapshot.values(place, attribute):
            mask_N = masks.get((attribute, isinstance(held, bool), held))
            if mask_N is not None:
                mask_N[place] = True
    return masks


def _inputs(item: LiveItem | None) -> tuple[Any, ...]:
    """What a model reads of an item that it did not learn."""
    if item is None:
        return ()
    vectors = {name: vector.tobytes() for name, vector in item.vectors.items()}
    return item.attributes.get(Columns.GENRES), item.attributes.get(Columns.YEAR), vectors


def _catalogue(items: Sequence[LiveItem]) -> Catalogue:
    """Items that the model did not learn, read from the log as the lake reads them for a training."""
    genres = [item.attributes.get(Columns.GENRES) for item in items]
    years = [item.attributes.get(Columns.YEAR) for item in items]
    vectors: dict[str, dict[int, np.ndarray]] = {}
    for place, item in enumerate(items):
        for name, vector in item.vectors.items():
            vectors.setdefault(name, {})[place] = vector
    return Catalogue(
        item_ids=tuple(item.item_id for item in items),
        titles=tuple(str(item.attributes.get(Columns.TITLE) or "") for item in items),
        genres=tuple(tuple(map(str, names)) if isinstance(names, list) else () for names in genres),
        years=tuple(float(year) if isinstance(year, int | float) else None for year in years),
        stats_NF=np.full((len(items), len(ITEM_STATS)), np.nan, np.float32),
        vectors={name: block(rows, len(items)) for name, rows in vectors.items()},
    )
