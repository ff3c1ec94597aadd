"""The truth of what is champion: an append-only table, guarded by a lease with a fencing number.

Whoever wants to promote takes the endpoint's lease. Every lease has a larger fencing number than all before it, and a
promotion is written under its lease's number: a holder that was paused until its lease ran out and somebody else took
it finds its number overtaken and is refused, whatever its own clock says. One lease promotes once at most.
Leases are short and renewed while their holder lives (``Promotions.hold_lease``): when a holder is killed, others wait
for the rest of one short lease, not for the longest judgement that anybody foresaw.
Aliases elsewhere (MLflow's) are projections of this table.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, desc, select, update
from sqlalchemy.exc import IntegrityError

from attune.clock import SECOND, to_iso
from attune.database import Tables
from attune.errors import EventLogError, PromotionConflict
from attune.tables import leases, promotions

logger = logging.getLogger(__name__)

Action = Literal["promote", "rollback"]

LEASE_SECONDS = 45.0
RENEWALS = 3
"""A lease is renewed so many times in its length: some may find the database busy before it is lost."""


@dataclass(frozen=True)
class Promotion:
    """One row: from ``at`` (microseconds) on, ``version`` is the endpoint's champion; ``previous`` was it before.

    ``bundle_digest`` (None in the oldest promotions) tells bundles apart that a lost registry gave the same version.
    """

    fence: int
    endpoint: str
    version: str
    previous: str | None
    action: Action
    actor: str
    reason: str
    at: int
    bundle_digest: str | None = None

    @property
    def bundle_name(self) -> str:
        """The name of the bundle's folder below ``Settings.bundles_folder``."""
        return bundle_name(self.version, self.bundle_digest)

    def is_of(self, version: str, bundle_digest: str | None) -> bool:
        """Whether that version was promoted, and no other bundle under its number."""
        known = {self.bundle_digest, bundle_digest} - {None}
        return self.version == version and len(known) < 2


def bundle_name(version: str, bundle_digest: str | None) -> str:
    """Two bundles that had the same number have different names."""
    return f"{version}-{bundle_digest[:12]}" if bundle_digest else version


@dataclass(frozen=True)
class Lease:
    """The right to promote at an endpoint until ``expires_at`` (microseconds); leaving its ``with`` block ends it."""

    endpoint: str
    holder: str
    fence: int
    expires_at: int
    promotions: "Promotions" = field(repr=False, compare=False)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.promotions.release(self)
        except EventLogError:
            logger.warning("the lease %r was not given back; it ends by itself at %s", self, to_iso(self.expires_at))


class Promotions(Tables):
    """The promotions of every endpoint, in the event log's database; every method may raise EventLogError."""

    def lease(self, endpoint: str, holder: str, seconds: float, overtake: bool = False) -> Lease:
        """Take the endpoint's lease for so many seconds; ``holder`` says who, for messages.

        Raises PromotionConflict while anybody (of the same name too) holds it, unless told to ``overtake``: then the
        one who held it is refused when it promotes.
        """
        with self._database.writing() as connection:
            now = self._clock()
            current = _locked_lease(connection, endpoint)
            if current is not None and current["expires_at"] > now and not overtake:
                raise PromotionConflict(
                    f"{endpoint}: {current['holder']} holds the promotion lease until {to_iso(current['expires_at'])}; "
                    "wait until it ends and try again"
                )
            lease = Lease(endpoint, holder, (current["fence"] if current else 0) + 1, now + _micros(seconds), self)
            values = {"holder": holder, "fence": lease.fence, "expires_at": lease.expires_at}
            if current is not None:
                connection.execute(update(leases).where(leases.c.endpoint == endpoint).values(**values))
                return lease
            try:
                connection.execute(leases.insert().values(endpoint=endpoint, **values))
            except IntegrityError as error:
                raise PromotionConflict(
                    f"{endpoint}: somebody else took the promotion lease at the same moment; try again when it ends"
                ) from error
        return lease

    def renew(self, lease: Lease, seconds: float) -> Lease:
        """The same lease, ending so many seconds from now. Raises PromotionConflict when it was lost."""
        with self._database.writing() as connection:
            now = self._clock()
            _check(lease, _locked_lease(connection, lease.endpoint), now)
            until = now + _micros(seconds)
            connection.execute(update(leases).where(_is(lease)).values(expires_at=until))
        return replace(lease, expires_at=until)

    def release(self, lease: Lease) -> None:
        """End the lease now; does nothing when it has ended or was taken by somebody else."""
        with self._database.writing() as connection:
            connection.execute(update(leases).where(_is(lease)).values(expires_at=0))

    @contextmanager
    def hold_lease(
        self, endpoint: str, holder: str, seconds: float = LEASE_SECONDS, overtake: bool = False
    ) -> Iterator[Lease]:
        """The endpoint's lease for the length of the block, however long that is; given back at its end.

        A thread renews it. It stops when the lease was lost (the process slept past its end): then the block goes on
        and ``append`` refuses it. Raises what ``lease`` raises.
        """
        done = threading.Event()
        with self.lease(endpoint, holder, seconds, overtake) as lease:
            arguments = done.wait, self, lease, seconds
            renewer = threading.Thread(target=renew_until, args=arguments, name="lease", daemon=True)
            renewer.start()
            try:
                yield lease
            finally:
                done.set()
                renewer.join()

    def append(
        self, lease: Lease, version: str, action: Action, reason: str, actor: str, bundle_digest: str | None = None
    ) -> Promotion:
        """Make ``version`` the champion, in one transaction with the check of the lease.

        A version that is champion already stays it: nothing is written and the standing promotion is returned, so a
        repeated call neither counts twice nor makes a version its own ``previous``. Raises PromotionConflict when
        the lease has ended, was taken by somebody else or has promoted another version already.
        """
        if action not in get_args(Action):
            raise ValueError(f"{action!r} is not one of {', '.join(get_args(Action))}")
        with self._database.writing() as connection:
            now = self._clock()
            _check(lease, _locked_lease(connection, lease.endpoint), now)
            before = next(iter(_promotions(connection, lease.endpoint, desc(promotions.c.fence), 1)), None)
            if before is not None and before.is_of(version, bundle_digest):
                return before
            if before is not None and before.fence >= lease.fence:
                raise PromotionConflict(
                    f"{lease.endpoint}: version {before.version} was promoted under lease {before.fence} already; "
                    f"lease {lease.fence} promotes nothing more, take a new one"
                )
            previous = before.version if before else None
            row = Promotion(lease.fence, lease.endpoint, version, previous, action, actor, reason, now, bundle_digest)
            connection.execute(promotions.insert().values(vars(row)))
        return row

    def champion(self, endpoint: str) -> Promotion | None:
        """The promotion that holds now; None when nothing was promoted yet."""
        return next(iter(self.history(endpoint, 1)), None)

    def first(self, endpoint: str) -> Promotion | None:
        """The endpoint's first promotion: the anchor that gates measure against; None when there is none."""
        with self._database.reading() as connection:
            return next(iter(_promotions(connection, endpoint, promotions.c.fence, 1)), None)

    def endpoints(self) -> list[str]:
        """Every endpoint that had a promotion."""
        query = select(promotions.c.endpoint).distinct().order_by(promotions.c.endpoint)
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def history(self, endpoint: str, limit: int) -> list[Promotion]:
        """The endpoint's last promotions, the latest first."""
        with self._database.reading() as connection:
            return _promotions(connection, endpoint, desc(promotions.c.fence), limit)


def renew_until(ended: Callable[[float], object], promotions: Promotions, lease: Lease, seconds: float) -> None:
    """Renew the lease again and again until ``ended`` (given the seconds to wait) says so, or the lease is lost."""
    while not ended(seconds / RENEWALS):
        try:
            promotions.renew(lease, seconds)
        except PromotionConflict as error:
            logger.warning("the lease is no longer renewed: %s", error)
            return
        except EventLogError as error:
            logger.warning("the lease was not renewed, trying again: %s", error)


def _micros(seconds: float) -> int:
    if seconds <= 0:
        raise ValueError(f"a lease of {seconds:g} s ends before it begins")
    return round(seconds * SECOND)


def _locked_lease(connection: Connection, endpoint: str) -> RowMapping | None:
    """The endpoint's lease row, held until the transaction ends."""
    query = select(leases).where(leases.c.endpoint == endpoint).with_for_update()
    return connection.execute(query).mappings().first()


def _check(lease: Lease, current: RowMapping | None, now: int) -> None:
    if current is None or current["fence"] != lease.fence:
        holder = f"{current['holder']} (lease {current['fence']})" if current else "nobody"
        raise PromotionConflict(
            f"{lease.endpoint}: lease {lease.fence} of {lease.holder} was lost, {holder} took over; take a new lease"
        )
    if current["expires_at"] <= now:
        raise PromotionConflict(f"{lease.endpoint}: lease {lease.fence} of {lease.holder} has ended; take a new lease")


def _is(lease: Lease) -> ColumnElement[bool]:
    return and_(leases.c.endpoint == lease.endpoint, leases.c.fence == lease.fence)


def _promotions(connection: Connection, endpoint: str, order: ColumnElement[int], limit: int) -> list[Promotion]:
    query = select(promotions).where(promotions.c.endpoint == endpoint).order_by(order).limit(limit)
    return [Promotion(**row) for row in connection.execute(query).mappings()]
