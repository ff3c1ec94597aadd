"""What was shown, how probable it was then, how probable another policy makes it now, and what it was worth.

The logging policy chose what was shown; the value of the evaluation policy is asked for. A log is checked when it is
built. N rounds, S slates of at most K positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_types import centred
from evaluation.intervals import counted

_FINITE = (np.isfinite, "a prediction is a finite number in the unit of the rewards")

_RULES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "rewards": (
        lambda values: np.abs(values) <= 1,
        "a reward lies in [0, 1], or in [-1, 1] when centred (attune/event_types.py)",
    ),
    "propensities": (
        lambda values: (values > 0) & (values <= 1),
        "a propensity is the probability with which the logging policy chose what was shown, above 0 and at most 1: "
        "leave out the rounds that no policy drew",
    ),
    "chances": (
        lambda values: (values >= 0) & (values <= 1),
        "the evaluation policy's probability of what was shown lies in [0, 1]",
    ),
    "predicted": _FINITE,
    "expected": _FINITE,
}
"""What each column of a log holds: whether values are right, and the rule in words. NaN is never right."""


@dataclass(frozen=True)
class BanditLog:
    """N rounds in each of which one action was shown.

    ``rewards_N`` in [-1, 1]; ``propensities_N`` in (0, 1], the logging policy's probability of the action shown;
    ``chances_N`` in [0, 1], the evaluation policy's probability of the same action. With a reward model also
    ``predicted_N``, its prediction for the action shown, and ``expected_N``, its mean over the evaluation policy's
    actions in that round; it must not have learned from the rounds that it predicts. ``users_N`` (any type) says
    whose rounds belong together; without it every round is taken for independent.
    Raises DataContractError, whose ``field`` names the array at fault.
    """

    rewards_N: np.ndarray
    propensities_N: np.ndarray
    chances_N: np.ndarray
    predicted_N: np.ndarray | None = None
    expected_N: np.ndarray | None = None
    users_N: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_shapes(self, "rewards_N", 1)
        _check_values(self, "N", np.zeros(len(self.rewards_N), bool))

    def __len__(self) -> int:
        return len(self.rewards_N)

    @property
    def weights_N(self) -> np.ndarray:
        """How many times as probable the evaluation policy makes what was shown; 1 on average where both cover."""
        return self.chances_N / self.propensities_N

    @property
    def is_certain_N(self) -> np.ndarray:
        """Rounds in which nothing but the action shown was possible, though the evaluation policy has others."""
        return (self.propensities_N == 1) & (self.chances_N < 1)


@dataclass(frozen=True)
class SlateLog:
    """S slates, top first, of at most K positions; shorter ones end in NaN rewards.

    ``rewards_SK`` in [-1, 1], NaN where a slate has no such position. ``propensities_SK`` in (0, 1] and
    ``chances_SK`` in [0, 1] are the logging and the evaluation policy's probabilities of the item at a position
    given the items above it. With a reward model of the cascade also ``predicted_SK``, its prediction of the rewards
    from this position to the end, under the evaluation policy, given the items down to this one, and ``expected_SK``,
    the mean of that over the evaluation policy's items for this position. What stands at positions without a reward is
    ignored. ``users_S`` and errors as in ``BanditLog``.
    """

    rewards_SK: np.ndarray
    propensities_SK: np.ndarray
    chances_SK: np.ndarray
    predicted_SK: np.ndarray | None = None
    expected_SK: np.ndarray | None = None
    users_S: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_shapes(self, "rewards_SK", 2)
        shown_SK = self.shown_SK
        if not shown_SK[:, 0].all():
            raise DataContractError(
                f"slate {int(np.argmin(shown_SK[:, 0]))} has no position with a reward: leave empty slates out",
                "rewards_SK",
            )
        if (shown_SK[:, 1:] & ~shown_SK[:, :-1]).any():
            slate = int(np.argwhere(shown_SK[:, 1:] & ~shown_SK[:, :-1])[0, 0])
            raise DataContractError(
                f"slate {slate} goes on below a position without a reward: NaN stands at the end of a slate alone, "
                "and what was shown without a reaction has a reward too",
                "rewards_SK",
            )
        _check_values(self, "SK", ~shown_SK)

    def __len__(self) -> int:
        return len(self.rewards_SK)

    @property
    def shown_SK(self) -> np.ndarray:
        """Where a slate has a position."""
        return ~np.isnan(self.rewards_SK)

    @property
    def filled_rewards_SK(self) -> np.ndarray:
        """The rewards, 0 where a slate has no such position."""
        return np.where(self.shown_SK, self.rewards_SK, 0.0)

    @property
    def prefixes_SK(self) -> np.ndarray:
        """The importance weight of a slate down to each position: the product of those above and at it."""
        with np.errstate(divide="ignore", invalid="ignore"):  # below a slate's end anything may stand
            weights_SK = np.where(self.shown_SK, self.chances_SK / self.propensities_SK, 1.0)
        return np.cumprod(weights_SK, axis=1)

    @property
    def is_certain_S(self) -> np.ndarray:
        """Slates in which nothing else was possible anywhere, though the evaluation policy has others."""
        certain_SK = (self.propensities_SK == 1) | ~self.shown_SK
        other_SK = (self.chances_SK < 1) & self.shown_SK
        return certain_SK.all(axis=1) & other_SK.any(axis=1)

    def top(self, k: int) -> "SlateLog":
        """The first ``k`` positions alone, without the reward model, whose sums go further down.

        Raises ValueError for a k that is not positive.
        """
        if k < 1:
            raise ValueError(f"the top {k} positions of a slate are none: ask for at least 1")
        cut = {name: getattr(self, name)[:, :k] for name in ("rewards_SK", "propensities_SK", "chances_SK")}
        return replace(self, **cut, predicted_SK=None, expected_SK=None)

    def upto(self, lengths_S: np.ndarray) -> "SlateLog":
        """Of each slate its first ``lengths_S`` (int, S) positions, known before it was drawn, as in ``top``.

        Raises DataContractError for a slate of which nothing would be left.
        """
        is_kept_SK = np.arange(self.rewards_SK.shape[1]) < lengths_S[:, None]
        rewards_SK = np.where(is_kept_SK, self.rewards_SK, np.nan)
        return replace(self, rewards_SK=rewards_SK, predicted_SK=None, expected_SK=None)


def slate_log(folder: Path, chances: Callable[[str, int, Sequence[str]], Sequence[float]]) -> SlateLog:
    """The slates that ``features.logged_slates.write_slates`` wrote, imported ones too, for any policy.

    ``chances`` is told a slate's user, time (microseconds) and items from the top, and gives the policy's probability
    of each item given those above it. Rewards are centred. Raises DataContractError for a folder without slates.
    """
    columns = [Columns.USER_ID, Columns.EVENT_TIMESTAMP, "items", "propensities", "rewards"]
    path = folder / "slates.parquet"
    rows = pq.read_table(path, columns=columns).to_pylist() if path.exists() else []
    if not rows:
        raise DataContractError(f"{folder} holds no logged slates: write them with features.logged_slates.write_slates")
    rewards_SK = np.full((len(rows), max(len(row["items"]) for row in rows)), np.nan)
    propensities_SK, chances_SK = np.ones_like(rewards_SK), np.ones_like(rewards_SK)
    for place, row in enumerate(rows):
        end = len(row["items"])
        rewards_SK[place, :end] = centred(np.array(row["rewards"], np.float64))
        propensities_SK[place, :end] = row["propensities"]
        chances_SK[place, :end] = chances(row[Columns.USER_ID], row[Columns.EVENT_TIMESTAMP], row["items"])
    users_S = np.array([row[Columns.USER_ID] for row in rows], object)
    return SlateLog(rewards_SK, propensities_SK, chances_SK, users_S=users_S)


Log = BanditLog | SlateLog


def users_of(log: Log) -> np.ndarray | None:
    """Whose each row is, where the log says so."""
    return log.users_N if isinstance(log, BanditLog) else log.users_S


def counts_of(log: Log, cap: float) -> np.ndarray:
    """What each row (float64, N) counts, as ``intervals.counted`` says; 1 where the log names no users."""
    users_N = users_of(log)
    return np.ones(len(log)) if users_N is None else counted(users_N, cap)


def _check_shapes(log: Log, first: str, dimensions: int) -> None:
    """Every array has the shape of the first one, which is not empty; users have its rows."""
    shape = np.shape(getattr(log, first))
    if len(shape) != dimensions:
        raise DataContractError(f"{first} has the shape {shape}: it has {dimensions} dimensions", first)
    if not all(shape):
        raise DataContractError("the log is empty: there is nothing to judge from, give at least one row", first)
    for name, values in vars(log).items():
        wanted = shape[:1] if name.startswith("users") else shape
        if values is not None and np.shape(values) != wanted:
            raise DataContractError(f"{name} has the shape {np.shape(values)}, {first} {shape}: a value for each", name)


def _check_values(log: Log, axes: str, is_absent: np.ndarray) -> None:
    """Every value keeps its column's rule, except where nothing was shown; a reward model has both of its columns."""
    columns = {f"{name}_{axes}": rule for name, rule in _RULES.items()}
    model = [name for name in columns if name.startswith(("predicted", "expected"))]
    if len({getattr(log, name) is None for name in model}) == 2:
        raise DataContractError(f"a reward model needs both of {' and '.join(model)}: give the other one, or neither")
    for name, (is_right, rule) in columns.items():
        values = getattr(log, name)
        wrong = None if values is None else ~(is_right(values) | is_absent)
        if wrong is not None and wrong.any():
            place = tuple(np.argwhere(wrong)[0].tolist())
            where = f"{name}[{', '.join(map(str, place))}]"
            raise DataContractError(
                f"{where} is {values[place]} ({int(wrong.sum())} such): {rule}", name, f"{name}: {rule}"
            )
