"""Follows the promotions table and holds the one model that answers.

A thread looks for a new champion, off the path of requests. It fetches and verifies the bundle, compares it with its
golden outputs and lets it answer recorded requests (the warm-up) before one reference moves. A request captures the
reference once, so no answer mixes versions. A bundle that fails leaves the old champion in place.
"""

import logging
import re
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from cachetools import LRUCache

from attune.clock import Clock
from attune.errors import AttuneError, BundleError, EventLogError, ModelError
from attune.event_log import EventLog
from attune.influence import PopularityCounts
from attune.promotions import Promotion, Promotions
from attune.settings import Settings
from attune.user_state import UserState
from models.bundle import Bundle
from models.recommender import UNKNOWN_USER_STATS, Recommendation, Request
from models.registry import Registry
from serving.caps import AtMost
from serving.catalogue_snapshot import CatalogueReader, ItemFilter, LiveModel, Where
from serving.metrics import Metrics
from serving.ranking import Champion, PopularityFallback, RankingQuery, rank
from serving.state import UserView

log = logging.getLogger(__name__)

POPULAR_LIMIT = 1_000
POPULAR_SECONDS = 5.0  # how often the popularity fallback is brought up to date while no champion is loaded
RETRY_LONGEST_SECONDS = 30.0
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HISTORY_LIMIT = 50

RECORDED_USERS = 64
PAUSE_SHARE, PAUSE_SECONDS = 2.0, 0.1
"""After each batch the warm-up pauses for so many times as long as it took, and no longer than this: the requests of
that moment need Python's lock and the processor."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request without the champion that answered it, so that the record keeps no old model in memory."""

    user: UserView
    request: Request
    where: Where
    at_most: AtMost


class WarmUp:
    """Records the latest requests, in memory alone, and lets the next champion answer them before it takes over.

    That fills what the first requests after a swap would otherwise pay for: the network at each size of batch, the
    vectors of the latest users, the masks of their filters. It is also the last check: a model that cannot answer the
    latest requests answers nobody. ``batch_size`` is the most requests that are ranked together.
    """

    def __init__(self, clock: Clock, batch_size: int) -> None:
        self._clock = clock
        self._batch_size = batch_size
        self._latest: dict[str, RecordedRequest] = {}
        """By user; the latest stands last."""
        self._failed: tuple[int, Sequence[RecordedRequest]] = (-1, ())
        """The fence of the promotion that failed last, and the requests that it failed on."""

    def __len__(self) -> int:
        return len(self._latest)

    def record(self, user: UserView, request: Request, where: Where, at_most: AtMost) -> None:
        """Keep an answered request in place of the user's former one. For the event loop's thread alone."""
        latest, user_id = self._latest, user.state.user_id
        latest.pop(user_id, None)
        latest[user_id] = RecordedRequest(user, request, where, at_most)
        if len(latest) > RECORDED_USERS:
            del latest[next(iter(latest))]

    def run(self, champion: Champion) -> int:
        """Let a model that is not in use yet answer the recorded requests; returns their number.

        Before the first request it answers an unknown user's. Raises BundleError for an invalid answer. A model that
        failed meets the same requests at its next try, so that it does not pass because they were replaced since.
        """
        fence, failed = self._failed
        recorded = [*(failed if fence == champion.promotion.fence else ()), *tuple(self._latest.values())]
        unknown_user = UserView(UserState("warm-up"), UNKNOWN_USER_STATS)
        nobody = RecordedRequest(unknown_user, Request(k=10, seed=0, now=self._clock()), {}, {})
        for model, batch in self._batches(champion, recorded or [nobody]):
            started = time.monotonic()
            try:
                now, queries = self._clock(), list[RankingQuery]()
                for row in batch:
                    pool, request = ItemFilter(model.live, row.where).pool(), replace(row.request, now=now)
                    queries.append(RankingQuery(model, pool, row.user, request, row.at_most))
                for query, slate in zip(queries, rank(queries), strict=True):
                    _check(query, slate)
            except Exception as error:
                self._failed = (champion.promotion.fence, batch)
                raise BundleError(
                    f"version {champion.version} fails on requests that were answered: {error!r}"
                ) from error
            time.sleep(min(PAUSE_SHARE * (time.monotonic() - started), PAUSE_SECONDS))
        return len(recorded)

    def _batches(
        self, champion: Champion, recorded: Sequence[RecordedRequest]
    ) -> Iterator[tuple[Champion, Sequence[RecordedRequest]]]:
        """A batch of each size without the cache of vectors, then all requests with it, which fills it."""
        uncached = replace(champion, vectors=None)
        size = 1
        while size <= self._batch_size:
            yield uncached, list(islice(cycle(recorded), size))
            size *= 2
        for start in range(0, len(recorded), self._batch_size):
            yield champion, recorded[start : start + self._batch_size]


def _check(query: RankingQuery, slate: Recommendation) -> None:
    """Raises BundleError for a slate that nobody should get."""
    catalogue = query.pool.snapshot.model.catalogue
    own = catalogue.places([*query.user.state.seen, *query.request.exclude])
    is_left_N = np.ones(len(catalogue), bool)
    is_left_N[own[own >= 0]] = False
    is_left_N[query.pool.removed] = False
    expected, size = min(query.request.k, int(is_left_N.sum())), len(slate.shown)
    if size > expected or (size < expected and not query.at_most):  # caps may leave fewer
        raise BundleError(f"{size} items came back where there are {expected}")
    scores = [item.score for item in slate.shown] + [item.score for item in slate.candidates]
    if not np.isfinite(scores + [item.propensity for item in slate.shown]).all():
        raise BundleError("a score or a propensity is no number")


@dataclass(eq=False)
class ChampionWatcher:
    """``champion`` and ``popular`` are replaced whole, by the watcher alone; readers take them once a request."""

    settings: Settings
    event_log: EventLog
    promotions: Promotions
    bundles: Registry | None
    metrics: Metrics
    clock: Clock
    catalogue_reader: CatalogueReader
    warm_up: WarmUp

    def __post_init__(self) -> None:
        self.champion: Champion | None = None
        self.popular: PopularityFallback | None = None
        self._counts: PopularityCounts | None = None
        self._incoming: LiveModel | None = None
        self._refused: tuple[int, int] = (-1, 0)  # fence of the promotion that could not be loaded, times tried
        self._retry_at = 0.0
        self._popular_at = 0.0
        self._stopping = threading.Event()
        self._poll_lock = threading.Lock()  # the counts of popularity are for one thread at a time
        self._thread = threading.Thread(target=self._run, name="attune-champion", daemon=True)

    @property
    def live_models(self) -> list[LiveModel]:
        """The champion's, and that of the model that is being made ready to take over."""
        champion, incoming = self.champion, self._incoming
        answering = champion.live if champion else None
        return [live for live in (answering, incoming) if live is not None]

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:
                log.exception("looking for a new champion failed; the one that answers stays")
            self._stopping.wait(self.settings.champion_poll_seconds)

    def poll(self) -> None:
        """Read the promotions table once: load and swap if another version was promoted."""
        with self._poll_lock:
            try:
                promoted = self.promotions.champion(self.settings.endpoint)
            except AttuneError as error:
                log.warning("the promotions table cannot be read; the champion stays: %s", error)
                return
            champion = self.champion
            if promoted is not None and champion and promoted.is_of(champion.version, champion.bundle.digest):
                if champion.promotion.fence != promoted.fence:  # promoted again: the same bundle under a new decision
                    self.champion = replace(champion, promotion=promoted)
                self.metrics.stale_champion.set(0)
            elif promoted is not None:
                self._load(promoted)
            if self.champion is None:
                self._count_popular()
            else:
                self._counts = None

    def _load(self, promoted: Promotion) -> None:
        fence, tries = self._refused
        if promoted.fence == fence and time.monotonic() < self._retry_at:
            return
        self.metrics.stale_champion.set(1)
        try:
            if self.champion is None and not self._on_disk(promoted):
                self._take_last_on_disk(promoted)
            self._swap(promoted, self._bundle(promoted))
            self.metrics.stale_champion.set(0)
        except Exception as error:  # a bundle can be broken in any way; the endpoint goes on with the old one
            tries = tries + 1 if promoted.fence == fence else 1
            self._refused = (promoted.fence, tries)
            pause = min(self.settings.champion_poll_seconds * 2 ** min(tries, 20), RETRY_LONGEST_SECONDS)
            self._retry_at = time.monotonic() + pause
            self.metrics.refused_bundles.inc()
            log.error("version %s cannot be served, trying again in %.1f s: %s", promoted.version, pause, error)
            if self.champion is None:
                self._take_last_on_disk(promoted)

    def _take_last_on_disk(self, promoted: Promotion) -> None:
        """At a start: the latest earlier champion whose bundle lies on disk answers until the promoted one does."""
        for earlier in self.promotions.history(self.settings.endpoint, HISTORY_LIMIT):
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
                log.error("the copy in %s is refused, fetching version %s again: %s", folder, promoted.version, error)
        folder = self.settings.bundles_folder
        if self.bundles is None:
            version = promoted.version
            raise ModelError(f"version {version} is not under {folder} and ATTUNE_MLFLOW_URL names no registry: set it")
        return self._verified(self.bundles.download(promoted.version, folder, promoted.bundle_digest), promoted)

    def _on_disk(self, promoted: Promotion) -> Path | None:
        """The bundle's folder, where there is one."""
        if not VERSION.fullmatch(promoted.bundle_name):
            raise BundleError(f"version {promoted.version!r} is not a name; promote a version of the registry")
        folder = self.settings.bundles_folder / promoted.bundle_name
        return folder if folder.is_dir() else None

    def _verified(self, folder: Path, promoted: Promotion) -> Bundle:
        bundle = Bundle.load(folder)
        if not promoted.is_of(promoted.version, bundle.digest):
            raise BundleError(f"{folder} is not the bundle that was promoted as version {promoted.version}")
        bundle.verify_golden()
        return bundle

    def _swap(self, promotion: Promotion, bundle: Bundle) -> None:
        users = self.settings.cached_users
        vectors: LRUCache[Hashable, np.ndarray] | None = LRUCache(users) if users else None
        live = LiveModel(bundle)
        self._update(live)
        ready = Champion(promotion, bundle, self.clock(), vectors, live)
        self._incoming = live
        try:
            requests = self.warm_up.run(ready)
            self._update(live)
            before, self.champion = self.champion, replace(ready, loaded_at=self.clock())
        finally:
            self._incoming = None
        self.metrics.swaps.inc()
        self.metrics.version.current = promotion.version
        after = before.version if before else "popularity"
        log.info("version %s answers now, after %s; warmed up on %d requests", promotion.version, after, requests)

    def _update(self, live: LiveModel) -> None:
        """Read what the log says of the items by now, so that the rest costs the first request little."""
        try:
            self.catalogue_reader.update(live)
        except EventLogError as error:
            log.warning("the log's items cannot be read yet: %s", error)

    def _count_popular(self) -> None:
        if time.monotonic() < self._popular_at and self.popular is not None:
            return
        self._counts = self._counts or PopularityCounts(self.event_log)
        try:
            is_new, more = self._counts.advance()
        except EventLogError as error:
            log.warning("popularity cannot be counted: %s", error)
            return
        if is_new or self.popular is None:
            popular = PopularityFallback(self._counts.most(POPULAR_LIMIT))
            self._update(popular.live)
            self.popular = popular
        self._popular_at = 0.0 if more else time.monotonic() + POPULAR_SECONDS
