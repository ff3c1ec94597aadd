"""Holding a promotion lease for as long as a block of work takes: short, and renewed while the holder lives.

A holder that is killed stops renewing, so others wait for the rest of one short lease and not for the longest
judgement that anybody foresaw.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attune.errors import EventLogError, PromotionConflict
from attune.promotions import Lease, Promotions

logger = logging.getLogger(__name__)

LEASE_SECONDS = 45.0
RENEWALS = 3
"""A lease is renewed so many times in its length: some may find the database busy before it is lost."""


@contextmanager
def held(
    promotions: Promotions, endpoint: str, holder: str, seconds: float = LEASE_SECONDS, overtake: bool = False
) -> Iterator[Lease]:
    """The endpoint's lease for the length of the block, however long that is; given back at its end.

    A thread renews it. It stops when the lease was lost (the process slept past its end): then the block goes on and
    ``Promotions.append`` refuses it. Raises PromotionConflict when somebody else holds the lease and is not to be
    overtaken.
    """
    done = threading.Event()
    with promotions.lease(endpoint, holder, seconds, overtake) as lease:
        renewer = threading.Thread(
            target=renew_until, args=(done.wait, promotions, lease, seconds), name="lease", daemon=True
        )
        renewer.start()
        try:
            yield lease
        finally:
            done.set()
            renewer.join()


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
