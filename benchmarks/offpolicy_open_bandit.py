"""A real log judged backwards: what Thompson sampling logged is asked what uniform random choice is worth.

Both policies ran side by side in the same week, so that the answer is known: the clicks that random choice really
got. All propensities are those that were logged; nothing is modelled. The folder with ``bts_men.parquet``,
``random_men.parquet`` and the same for women is named by ``OPEN_BANDIT_SAMPLE``: columns click and propensity_score.
Saito, Aihara, Matsutani and Narita (2020), "Open bandit dataset and pipeline".
"""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from attune.errors import ConfigError
from benchmarks.record import Figure, just
from evaluation.offpolicy.estimate import OffPolicyLimits, estimate
from evaluation.offpolicy.logs import BanditLog

FOLDER = "OPEN_BANDIT_SAMPLE"
CAMPAIGNS = ("men", "women")


def measure(seed: int) -> list[Figure]:
    """Values beside the truth, and what the verdict says. Raises ConfigError where there is no such folder."""
    folder = Path(os.environ.get(FOLDER, ""))
    if not (folder / f"bts_{CAMPAIGNS[0]}.parquet").exists():
        raise ConfigError(f"{FOLDER} names no folder with the Open Bandit sample: bts_men.parquet and so on")
    return [figure for campaign in CAMPAIGNS for figure in _campaign(folder, campaign, seed)]


def _campaign(folder: Path, campaign: str, seed: int) -> list[Figure]:
    clicks_N, propensities_N = _columns(folder / f"bts_{campaign}.parquet")
    random_clicks_N, random_N = _columns(folder / f"random_{campaign}.parquet")
    truth = float(random_clicks_N.mean())
    log = BanditLog(clicks_N, propensities_N, np.full(len(clicks_N), random_N[0]))
    answer = estimate(log, OffPolicyLimits(half_width=truth / 5), seed=seed)
    where = f"4 Open Bandit sample, {campaign}, bts asked about random"
    found = [just(f"{where}: effective rows of {len(clicks_N):,}", answer.diagnosis.effective)]
    for name, verdict in answer.estimates.items():
        low, high = verdict.interval.low, verdict.interval.high
        note = "; ".join([f"[{low:.4f}, {high:.4f}], truth {truth:.4f}: {verdict.outcome}", *verdict.reasons])
        found.append(just(f"{where}: {name}, relative error", abs(verdict.interval.value - truth) / truth, note))
    return found


def _columns(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Clicks (0 or 1) and propensities of a policy's log."""
    table = pq.read_table(path, columns=["click", "propensity_score"])
    return table["click"].to_numpy().astype(np.float64), table["propensity_score"].to_numpy()
