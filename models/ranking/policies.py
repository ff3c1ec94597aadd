"""The policies by name: what a bundle's settings, or a logged slate, said of its policy gives the policy again."""

from collections.abc import Callable, Mapping
from typing import Any

from models.ranking.bounded import Bounded
from models.ranking.exploring import Epsilon, Greedy
from models.ranking.policy import PlackettLuce, Policy
from models.ranking.thompson import Thompson

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
    return Bounded(policy, described["budget"], float(described["least_quality"]))
