"""Follows the promotions table and holds the one model that answers.

A watcher thread looks for a new champion off the request path. Its bundle is fetched, verified, compared with its
golden outputs and rehearsed on recorded requests before one reference moves; a request captures the reference once, so
no answer mixes versions. A bundle that fails leaves the old one in place.
"""

import logging
import re
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from cachetools import LRUCache

from attune.clock import Clock
from attune.errors import AttuneError, BundleError, EventLogError, ModelError
from attune.event_log import EventLog
from attune.promotions import Promotion, Promotions
from attune.settings import Settings
from models.bundle import Bundle
from serving.catalogue_snapshot import Shelf, ShopKeeper
from serving.fallback import Popular
from serving.metrics import Metrics

log = logging.getLogger(__name__)

POPULAR_LIMIT = 1_000
POPULAR_SECONDS = 5.0
"""How often the popularity fallback is counted anew while no champion is loaded."""

RETRY_LONGEST_SECONDS = 30.0
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HISTORY_LIMIT = 50


class Downloads(Protocol):
    """The part of ``models.registry.Registry`` that serving needs."""

    def download(self, version: str, folder: Path, bundle_digest: str | None = None) -> Path:
        """The bundle of a version, in a folder of its own below the given one; of that digest, if one is named."""
        ...


class NoRegistry:
    """Stands in where no registry is named: only bundles on disk can be served."""

    def download(self, version: str, folder: Path, bundle_digest: str | None = None) -> Path:
        """Raises ModelError with the cure."""
        raise ModelError(f"version {version} is not under {folder} and ATTUNE_MLFLOW_URL names no registry: set it")


@dataclass(frozen=True, slots=True)
class Champion:
    """A loaded model: the promotion that made it champion, its bundle, when it took over (microseconds).

    ``vectors`` are what its network said of the users who asked last, where that is kept; for the model's thread alone.
    ``shelf`` has what the log says of its items.
    """

    promotion: Promotion
    bundle: Bundle
    loaded_at: int
    vectors: LRUCache[Hashable, np.ndarray] | None = field(repr=False)
    shelf: Shelf = field(repr=False)

    @property
    def version(self) -> str:
        """The registry's version."""
        return self.promotion.version


class Rehearses(Protocol):
    """The part of ``serving.warm_up.Rehearsal`` that comes before a swap."""

    def play(self, champion: Champion) -> int:
        """Have it answer what others were asked, which warms it. Raises BundleError where it cannot."""
        ...


class ChampionWatch:
    """``champion`` and ``popular`` are replaced whole, by the watcher alone; readers take them once a request."""

    def __init__(
        self,
        settings: Settings,
        event_log: EventLog,
        promotions: Promotions,
        downloads: Downloads,
        metrics: Metrics,
        clock: Clock,
        keeper: ShopKeeper,
        rehearsal: Rehearses,
    ) -> None:
        self.champion: Champion | None = None
        self.popular: Popular | None = None
        self._settings = settings
        self._log = event_log
        self._promotions = promotions
        self._downloads = downloads
        self._metrics = metrics
        self._clock = clock
        self._keeper = keeper
        self._rehearsal = rehearsal
        self._coming: Shelf | None = None
        self._refused: tuple[int, int] = (-1, 0)  # fence of the promotion that could not be loaded, times tried
        self._retry_at = 0.0
        self._popular_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="attune-champion", daemon=True)
        metrics.set_version(None)

    @property
    def shelves(self) -> list[Shelf]:
        """The shelf of the champion, and of the one that is being made ready to take over."""
        champion, coming = self.champion, self._coming
        answering = champion.shelf if champion else None
        return [one for one in (answering, coming) if one is not None]

    def start(self) -> None:
        """Start the watcher."""
        self._thread.start()

    def close(self) -> None:
        """Stop the watcher."""
        self._stopping.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:
                log.exception("looking for a new champion failed; the one that answers stays")
            self._stopping.wait(self._settings.champion_poll_seconds)

    def look(self) -> None:
        """One look at the promotions table: load and swap if another version was promoted."""
        try:
            promoted = self._promotions.champion(self._settings.endpoint)
        except AttuneError as error:
            log.warning("the promotions table cannot be read; the champion stays: %s", error)
            return
        if promoted is not None and not self._answers(promoted):
            self._follow(promoted)
        if self.champion is None:
            self._count_popular()

    def _answers(self, promoted: Promotion) -> bool:
        champion = self.champion
        if champion is None or not promoted.is_of(champion.version, champion.bundle.digest):
            return False
        if champion.promotion.fence != promoted.fence:  # promoted again: the same bundle under a new decision
            self.champion = replace(champion, promotion=promoted)
        self._metrics.stale_champion.set(0)
        return True

    def _follow(self, promoted: Promotion) -> None:
        fence, tries = self._refused
        if promoted.fence == fence and time.monotonic() < self._retry_at:
            return
        self._metrics.stale_champion.set(1)
        try:
            if self.champion is None and not self._on_disk(promoted):
                self._take_last_on_disk(promoted)
            self._swap(promoted, self._bundle(promoted))
            self._metrics.stale_champion.set(0)
        except Exception as error:  # a bundle can be broken in any way; the endpoint goes on with the old one
            tries = tries + 1 if promoted.fence == fence else 1
            self._refused = (promoted.fence, tries)
            pause = min(self._settings.champion_poll_seconds * 2 ** min(tries, 20), RETRY_LONGEST_SECONDS)
            self._retry_at = time.monotonic() + pause
            self._metrics.refused_bundles.inc()
            log.error("version %s cannot be served, looking again in %.1f s: %s", promoted.version, pause, error)
            if self.champion is None:
                self._take_last_on_disk(promoted)

    def _take_last_on_disk(self, promoted: Promotion) -> None:
        """At a start: the latest earlier champion whose bundle lies on disk answers until the promoted one does."""
        for earlier in self._promotions.history(self._settings.endpoint, HISTORY_LIMIT):
            folder = self._on_disk(earlier)
            if earlier.bundle_name == promoted.bundle_name or folder is None:
                continue
            try:
                self._swap(earlier, self._verified(folder, earlier))
            except Exception as error:
                log.warning("version %s on disk cannot be served either: %s", earlier.version, error)
                continue
            log.warning("version %s answers until version %s can", earlier.version, promoted.version)
            return

    def _bundle(self, promoted: Promotion) -> Bundle:
        """From disk, else from the registry, which replaces a copy that was altered."""
        folder = self._on_disk(promoted)
        if folder is not None:
            try:
                return self._verified(folder, promoted)
            except BundleError as error:
                log.error("the copy in %s is refused, fetching version %s anew: %s", folder, promoted.version, error)
        bundles = self._settings.bundles_folder
        return self._verified(self._downloads.download(promoted.version, bundles, promoted.bundle_digest), promoted)

    def _on_disk(self, promoted: Promotion) -> Path | None:
        """The bundle's folder, where there is one."""
        if not VERSION.fullmatch(promoted.bundle_name):
            raise BundleError(f"version {promoted.version!r} is not a name; promote a version of the registry")
        folder = self._settings.bundles_folder / promoted.bundle_name
        return folder if folder.is_dir() else None

    def _verified(self, folder: Path, promoted: Promotion) -> Bundle:
        bundle = Bundle.load(folder)
        if not promoted.is_of(promoted.version, bundle.digest):
            raise BundleError(f"{folder} is not the bundle that was promoted as version {promoted.version}")
        bundle.verify_golden()
        return bundle

    def _swap(self, promotion: Promotion, bundle: Bundle) -> None:
        kept = self._settings.cached_users
        vectors: LRUCache[Hashable, np.ndarray] | None = LRUCache(kept) if kept else None
        shelf = self._stocked(Shelf(bundle))
        ready = Champion(promotion, bundle, self._clock(), vectors, shelf)
        self._coming = shelf
        try:
            rehearsed = self._rehearsal.play(ready)
            self._stocked(shelf)
            before, self.champion = self.champion, replace(ready, loaded_at=self._clock())
        finally:
            self._coming = None
        self._metrics.swaps.inc()
        self._metrics.set_version(promotion.version)
        after = before.version if before else "popularity"
        log.info("version %s answers now, after %s; rehearsed on %d requests", promotion.version, after, rehearsed)

    def _stocked(self, shelf: Shelf) -> Shelf:
        """The shelf, with what the log says of the items by now: what comes later costs a request little."""
        try:
            self._keeper.current(shelf)
        except EventLogError as error:
            log.warning("what the log says of items cannot be read yet: %s", error)
        return shelf

    def _count_popular(self) -> None:
        if time.monotonic() < self._popular_at and self.popular is not None:
            return
        try:
            rows = self._log.popular(POPULAR_LIMIT)
        except EventLogError as error:
            log.warning("popularity cannot be counted: %s", error)
            return
        popular = Popular(rows)
        self._stocked(popular.shelf)
        self.popular = popular
        self._popular_at = time.monotonic() + POPULAR_SECONDS
