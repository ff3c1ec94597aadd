"""The policies by name: what the settings of a bundle, or a logged slate, record of a policy gives the policy again.

``Exploration`` is what a person chooses when a model is trained; a fine-tuned one keeps its champion's policy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attune.errors import ConfigError
from models.ranking.exploration import Bounded, Epsilon, Greedy
from models.ranking.policy import PlackettLuce, Policy
from models.ranking.thompson import PRIOR_DEVIATION, LinearPosterior, Thompson

BY_NAME: Mapping[str, Callable[[Mapping[str, Any]], Policy]] = {
    "plackett-luce": PlackettLuce.restore,
    "greedy": Greedy.restore,
    "epsilon": Epsilon.restore,
    "thompson": Thompson.restore,
}


def restore(described: Mapping[str, Any]) -> Policy:
    """The policy that ``Policy.describe`` told of; what a slate noted beside it is passed over.

    Raises ValueError for a name that this version does not know, or settings out of range, KeyError for a missing one.
    """
    name = described["name"]
    if name not in BY_NAME:
        raise ValueError(f"unknown policy {name!r}: this version knows {', '.join(BY_NAME)}")
    policy = BY_NAME[name](described)
    if "least_quality" not in described:
        return policy
    return Bounded(policy, described["budget"], float(described["least_quality"]), float(described.get("days", 1.0)))


DEFAULTS: Mapping[str, Callable[[Sequence[str]], Policy]] = {
    "plackett-luce": lambda sources: PlackettLuce(),
    "greedy": lambda sources: Greedy(),
    "epsilon": lambda sources: Epsilon(),
    "thompson": lambda sources: Thompson(LinearPosterior.prior(len(sources), PRIOR_DEVIATION), tuple(sources)),
}
"""Each policy by its default settings, for a model of these sources."""


@dataclass(frozen=True)
class Exploration:
    """Which policy a new model draws by, within which limits (see ``Bounded``); the rest are the policy's defaults.

    Raises ConfigError for an unknown policy, limits out of range, and limits of a policy that explores nothing.
    """

    policy: str = "plackett-luce"
    budget: int | None = None
    days: float = 1.0
    least_quality: float = 0.0

    def __post_init__(self) -> None:
        if self.policy not in DEFAULTS:
            raise ConfigError(f"there is no policy {self.policy!r}: choose one of {', '.join(DEFAULTS)}")
        if self.is_bounded and self.policy == "greedy":
            raise ConfigError("the policy greedy explores nothing: leave out its limits, or choose another one")
        if self.budget is not None and self.budget < 0:
            raise ConfigError(f"an exploration budget must not be negative, not {self.budget}")
        if not (np.isfinite(self.days) and self.days > 0):
            raise ConfigError(f"a budget is for a number of days above 0, not {self.days}")
        if not 0 <= self.least_quality <= 1:
            raise ConfigError(f"the least quality must lie between 0 and 1, not {self.least_quality}")

    @property
    def is_bounded(self) -> bool:
        return self.budget is not None or self.least_quality > 0

    @property
    def learns(self) -> bool:
        """Whether reactions to what it showed change what it draws."""
        return bool(self.of(("any",)).features)

    def of(self, sources: Sequence[str]) -> Policy:
        """The policy, of a model of these sources (as ``models.hybrid`` names them)."""
        policy = DEFAULTS[self.policy](sources)
        return Bounded(policy, self.budget, self.least_quality, self.days) if self.is_bounded else policy
