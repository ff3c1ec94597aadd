"""obp's side of the comparison: run by an interpreter of its own, where nothing of attune can be imported.

obp_side.py equal IN.npz OUT.json        its estimates and intervals of the arrays in IN
obp_side.py open-bandit OUT.npz RUNS     the Open Bandit data of its wheel, campaign `all`, logged by `random`
"""

import json
import sys
from typing import Any

import numpy as np
from obp.dataset import OpenBanditDataset
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    InverseProbabilityWeighting,
    RegressionModel,
    SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SwitchDoublyRobust,
)
from obp.policy import BernoulliTS
from sklearn.linear_model import LogisticRegression

SEED, DRAWS, SIMULATIONS = 12345, 1000, 100_000


def estimators(switch: float) -> dict[str, Any]:
    """obp's estimators by our names."""
    return {
        "dm": DirectMethod(),
        "ips": InverseProbabilityWeighting(),
        "snips": SelfNormalizedInverseProbabilityWeighting(),
        "dr": DoublyRobust(),
        "sndr": SelfNormalizedDoublyRobust(),
        "switch-dr": SwitchDoublyRobust(tau=switch),
    }


def equal(given: str, out: str) -> None:
    """Values of all, and the mean and the edges of the interval from DRAWS resampled logs of the same rows for each.

    obp's own interval of an estimator that is a plain mean resamples its terms, which comes to the same. That of a
    ratio would resample terms divided by the weights' mean in the whole log; so obp is asked for each resampled log.
    """
    with np.load(given) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    switch = float(found.pop("switch"))
    asked = {
        "reward": found["rewards_N"],
        "action": found["actions_N"],
        "pscore": found["propensities_N"],
        "action_dist": found["chances_NA"][:, :, None],
        "estimated_rewards_by_reg_model": found["predicted_NA"][:, :, None],
    }
    values, intervals = {}, {}
    for name, one in estimators(switch).items():
        values[name] = float(one.estimate_policy_value(**asked))
        if name in ("dm", "ips", "dr"):
            between = one.estimate_interval(**asked, n_bootstrap_samples=DRAWS, random_state=SEED)
            intervals[name] = [float(edge) for edge in between.values()]
        else:
            values_R = resampled(one, asked)
            intervals[name] = [float(values_R.mean()), *np.percentile(values_R, [2.5, 97.5]).tolist()]
    with open(out, "w") as file:
        json.dump({"values": values, "intervals": intervals, "seed": SEED, "draws": DRAWS}, file)


def resampled(estimator: Any, asked: dict[str, np.ndarray]) -> np.ndarray:
    """The estimator's values of DRAWS logs of rows drawn as obp draws for its intervals."""
    draws, rows = np.random.RandomState(SEED), len(asked["reward"])
    values = []
    for _ in range(DRAWS):
        drawn = draws.choice(np.arange(rows), size=rows)
        values.append(estimator.estimate_policy_value(**{name: column[drawn] for name, column in asked.items()}))
    return np.array(values)


def open_bandit(out: str, runs: int) -> None:
    """The published protocol: resampled logs of `random`, evaluation by `bts`, a logistic model in three folds."""
    logged = OpenBanditDataset(behavior_policy="random", campaign="all")
    policy = BernoulliTS(
        n_actions=logged.n_actions, len_list=logged.len_list, random_state=SEED, is_zozotown_prior=True, campaign="all"
    )
    chances_AK = policy.compute_batch_action_dist(n_sim=SIMULATIONS)[0]
    truth = OpenBanditDataset.calc_on_policy_policy_value_estimate(behavior_policy="bts", campaign="all")
    columns: dict[str, list[np.ndarray]] = {}
    values = []
    for run in range(runs + 1):  # run 0 is the log as it is
        resample = logged.sample_bootstrap_bandit_feedback
        rounds = resample(random_state=run - 1) if run else logged.obtain_batch_bandit_feedback()
        model = RegressionModel(
            n_actions=logged.n_actions,
            len_list=logged.len_list,
            action_context=logged.action_context,
            base_model=LogisticRegression(C=100, max_iter=10_000, random_state=SEED),
        )
        names = ("context", "action", "reward", "position", "pscore")
        predicted_NAK = model.fit_predict(**{name: rounds[name] for name in names}, n_folds=3, random_state=SEED)
        chances_NAK = np.tile(chances_AK, (len(rounds["reward"]), 1, 1))
        asked = {name: rounds[name] for name in ("reward", "action", "position", "pscore")}
        asked.update(action_dist=chances_NAK, estimated_rewards_by_reg_model=predicted_NAK)
        values.append([one.estimate_policy_value(**asked) for one in estimators(1.0).values()])
        for name, column in _columns(rounds, chances_NAK, predicted_NAK).items():
            columns.setdefault(name, []).append(column)
    stacked: dict[str, Any] = {name: np.stack(column) for name, column in columns.items()}
    np.savez(out, truth=truth, values=np.array(values), **stacked)


def _columns(rounds: Any, chances_NAK: np.ndarray, predicted_NAK: np.ndarray) -> dict[str, np.ndarray]:
    """What attune's log of the same rounds is made of."""
    rows_N, positions_N, actions_N = np.arange(len(rounds["reward"])), rounds["position"], rounds["action"]
    return {
        "rewards_N": rounds["reward"],
        "propensities_N": rounds["pscore"],
        "chances_N": chances_NAK[rows_N, actions_N, positions_N],
        "predicted_N": predicted_NAK[rows_N, actions_N, positions_N],
        "expected_N": (chances_NAK * predicted_NAK).sum(axis=1)[rows_N, positions_N],
    }


if __name__ == "__main__":
    if sys.argv[1] == "equal":
        equal(sys.argv[2], sys.argv[3])
    else:
        open_bandit(sys.argv[2], int(sys.argv[3]))
