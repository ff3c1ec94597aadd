"""The policies that a slate may name, and what each records, stand in docs/reference/events.md."""

import re

import numpy as np

from models.ranking.exploration import Bounded, Epsilon, Greedy
from models.ranking.policy import PlackettLuce, Policy, Pool
from models.ranking.policy_registry import BY_NAME
from models.ranking.thompson import LinearPosterior, Thompson

EVERY_ONE = (
    PlackettLuce(diversity=0.1),
    Greedy(),
    Epsilon(),
    Thompson(LinearPosterior.prior(1, 0.1), ("sequence",)),
)
OF_ALL = {"name", "candidates", "seed"}


def recorded(policy: Policy) -> set[str]:
    """The fields of a slate's ``policy`` that say something of this one."""
    rng, vectors_CD, features_CF = np.random.default_rng(0), np.eye(2), np.zeros((2, 1))
    (drawn,) = policy.draw_many([Pool(np.zeros(2), 1, rng, vectors_CD=vectors_CD, features_CF=features_CF)])
    return (policy.describe().keys() | drawn.notes.keys()) - OF_ALL


def test_every_policy_and_all_that_it_records_is_documented(page) -> None:
    section = page("reference/events.md").section("Policies")
    rows = {name: row.split("|", 2)[2] for name, row in section.rows().items()}
    assert set(rows) == set(BY_NAME) == {policy.describe()["name"] for policy in EVERY_ONE}
    for policy in EVERY_ONE:
        assert set(re.findall(r"`(\w+)`", rows[policy.describe()["name"]])) == recorded(policy)
    limits = recorded(Bounded(EVERY_ONE[0])) - recorded(EVERY_ONE[0])
    below = " ".join(line for line in section.lines if not line.startswith("|"))
    assert limits <= set(re.findall(r"`(\w+)`", below))
