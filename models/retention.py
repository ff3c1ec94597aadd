"""Which versions the registry keeps no longer: a pure decision over what is known of them."""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from attune.clock import DAY


@dataclass(frozen=True)
class Aged:
    """One version: ``run`` holds its artifacts, ``created_at`` is in microseconds."""

    version: str
    run: str
    created_at: int


def expired(
    versions: Iterable[Aged], keep: Set[str], aliased: Set[str], now: int, younger_than_days: int, latest: int
) -> list[str]:
    """The versions to remove, the oldest first.

    A version stays that is in ``keep``, named by an alias, not older than so many days, or among the ``latest``. So
    does one that shares its run with a version that stays: the artifacts are the run's.
    """
    by_age = sorted(versions, key=lambda one: int(one.version))
    spared = keep | aliased | {one.version for one in by_age[len(by_age) - min(latest, len(by_age)) :]}
    since = now - younger_than_days * DAY
    stay = [one for one in by_age if one.version in spared or one.created_at >= since]
    runs, names = {one.run for one in stay}, {one.version for one in stay}
    return [one.version for one in by_age if one.version not in names and one.run not in runs]
