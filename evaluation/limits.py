"""Every limit that decides a verdict, in one table whose version is recorded with each judgement.

What a figure is (the ten best, the bins of a calibration curve, the names of slices) is no limit and stands where it is
computed.
"""

from dataclasses import dataclass, field

from evaluation.intervals import PanelLimits
from evaluation.offpolicy.verdict import OffPolicyLimits


@dataclass(frozen=True)
class SliceLimits:
    """Which slices are looked at, and when one is harmed."""

    light_from: int = 5
    """Events before the hold-out: users of fewer are new."""
    heavy_from: int = 20
    """Events before the hold-out: users of fewer are light, all others heavy."""
    head_share: float = 0.8
    """The most used items that hold so much of the use before the hold-out are the head; all others the long tail."""
    values: int = 20
    """Of so many values of an attribute (genres first of all), the most frequent among the targets, each is a slice;
    the others are one together."""
    told_share: float = 0.5
    """The share of the targets with an attribute that these values must hold, or the attribute makes no slices."""
    attributes: int = 20
    """Of so many attributes of items, and of users, those that most targets have, values make slices; genres and
    decades apart."""
    nearly_all: float = 0.95
    """The share of all targets above which a value makes no slice: what harms it is seen in the mean."""
    decade_share: float = 0.01
    """Decades are joined, from the oldest on, until a slice holds so much of the targets: rare ones say nothing."""
    level: float = 0.025
    """Of the test of all slices together; one-sided: the side on which a 95 % interval may err."""
    least_users: int = 50
    """A slice of fewer is not tested: so far out in the tail, a bootstrap over a handful raises false alarms."""
    most: int = 50
    """So many slices are tested, the largest of those by other attributes last: of more the bootstrap could not tell a
    harm from chance, since the least chance that it can state is one in 2,001."""


@dataclass(frozen=True)
class GateLimits:
    """Every limit, in one place; ``version`` is raised with any change, and recorded with each judgement."""

    version: int = 7
    metric: str = "ndcg@10"
    """The figure that the quality gates compare, over all targets of the hold-out."""
    popularity_gain: float = 0.0
    """Absolute: the lower bound of the gain over popularity must be above it."""
    half_lives: tuple[float, ...] = (7.0, 30.0, 90.0, 365.0, 1e5)
    """Days. What a model has to beat is the popularity that forgets at the pace that serves it best on this very
    hold-out: neither the challenger nor its recipe chooses the yardstick."""
    champion_change: float = -0.02
    """Relative: the lower bound of the change against the champion must not be below it."""
    anchor_change: float = -0.02
    """Relative: the same against the first model that was ever promoted, so that small losses cannot add up."""
    elder_change: float = -0.02
    """Relative: the same against the champion of ten promotions ago: the first one may be too easy by now."""
    slice_change: float = -0.05
    """Relative: a slice whose whole interval, at Holm's level, lies below it is harmed."""
    panel_change: float = -0.02
    """Relative: below it the panel's confidence sequence may not lie, at however many users a version is judged."""
    forgetting_change: float = -0.1
    """Relative: the same on what the panel did before the champion had learned. Wider, because a model that follows the
    times is a little worse at those that are over: an honest fine-tune of the demo's by 7 %."""
    user_cap: float = 100.0
    """Events, or lists, that one user counts for at most in the quality gates, their evidence, the slices, diversity,
    novelty, calibration and the share of unknown targets; of the panel each user's mean counts once. So nobody decides
    alone. Coverage is none of these means: see ``evaluation.gate.coverage``."""
    attributes_changed: float = 0.05
    """The share of the items that a bundle and the training set both know that may have another title (genres, year):
    some are put right now and then, an id table in disorder changes nearly all."""
    counts_likeness: float = 0.3
    """What the counts of use of these items must correlate at least, as the bundle has them and the training set."""
    counts_items: int = 50
    """Of fewer items with counts on both sides, how alike the counts are says nothing."""
    unknown_more: float = 0.02
    """Absolute: the share of targets outside the catalogue may be so much above the champion's."""
    calibration_error: float = 0.1
    """Absolute: how far the network's chances may be from what comes true, on average, whatever the champion's are."""
    calibration_change: float = 0.05
    """Absolute: above that, how much further than the champion's they may be: the difference's lower bound counts."""
    off_policy_change: float = -0.02
    """Absolute: two likes less in a hundred slates than what was shown brought. Below it the whole interval of the
    challenger's off-policy value may not lie, where the log decides."""
    variety_share: float = 0.8
    """Relative: the shares of the champion's diversity and novelty that must be kept."""
    memory_ratio: float = 3.0
    """How many times the champion's size a bundle may have."""
    coverage_floor: float = 0.005
    """Absolute: the share of the catalogue that at least one top-10 list must show."""
    coverage_share: float = 0.5
    """Relative: the share of the champion's coverage that must be kept."""
    latency_ratio: float = 60.0
    """How many times the popularity pipeline's median answer time a model's may be, in the same run."""
    latency_change: float = 3.0
    """How many times the champion's median answer time it may be, in the same run."""
    worth_kept: float = 0.75
    """The share of its best slates' worth, by its own scores, that a model's policy must show. The default policy keeps
    0.94, one that draws blindly among a hundred candidates 0.6."""
    live_weight: float = 0.5
    """Of the live item profile in the mix, whose other parts come to 1 together: no hold-out says what it is worth."""
    parity: float = 1e-4
    """The largest absolute difference between the golden scores and those of the loaded bundle."""
    min_users: int = 300
    min_events: int = 20_000
    """Below either, a quality gate is undecided unless its whole interval lies on the wrong side."""
    least_users: int = 2
    """Below this nothing was measured at all: an undecided quality gate may not be risked."""
    slices: SliceLimits = SliceLimits()
    panel: PanelLimits = field(default_factory=PanelLimits)
    off_policy: OffPolicyLimits = field(default_factory=OffPolicyLimits)
    """When the slates that were shown decide."""
