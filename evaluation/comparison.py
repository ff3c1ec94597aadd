"""What a challenger is asked beside the champion: who loses, what becomes of the lists, how large it is."""

from collections.abc import Mapping, Set

import numpy as np

from evaluation import gate
from evaluation.calibration import calibration_error, error_change
from evaluation.gate import Gate
from evaluation.harm import harms
from evaluation.intervals import Interval, capped_mean, confidence_sequence, counted
from evaluation.limits import GateLimits
from evaluation.slices import STANDING, slices
from evaluation.variety import diversity, genre_vectors, novelty, self_information
from models.bundle import Bundle
from models.learning.dataset import TrainingSet, is_panel
from models.metrics import Evaluation, values


def against_champion(
    bundles: Mapping[str, Bundle],
    replays: Mapping[str, Evaluation],
    older: Mapping[str, Evaluation],
    training_set: TrainingSet,
    after: int,
    limits: GateLimits,
) -> list[Gate]:
    """These gates, in the order of a report; none where there is no champion yet.

    ``older`` are the replays of challenger and champion over older times (``evaluation.case.earlier``).
    """
    if "champion" not in bundles:
        return []
    challenger, champion = replays["challenger"], replays["champion"]
    masks = slices(challenger, training_set, after, limits.slices)
    harmed = harms(challenger, champion, masks, limits)
    return [
        *(gate.no_harm(name, harm, limits) for name, harm in harmed.items()),
        *(_untested(name, challenger, masks[name]) for name in STANDING if name not in harmed),
        *_others(masks.keys() - harmed.keys() - set(STANDING)),
        _panel(challenger, champion, panel_users(training_set), limits),
        _forgetting(older["challenger"], older["champion"], limits),
        *_variety(bundles, replays, training_set, after, limits),
        gate.memory(bundles["challenger"].bytes, bundles["champion"].bytes, limits),
    ]


def _untested(name: str, challenger: Evaluation, mask_E: np.ndarray) -> Gate:
    users = challenger.events["user_id"].to_numpy()[mask_E]
    note = f"{len(np.unique(users.astype(str)))} users are too few to test, or the champion hits nothing of theirs"
    return gate.not_applicable(f"no_harm_to_{name}", note)


def _others(untested: Set[str]) -> list[Gate]:
    """That there are slices which nobody looked at, where there are any."""
    if not untested:
        return []
    note = f"{len(untested)} more are not tested: too few users or targets, or the champion hits nothing of theirs"
    return [gate.not_applicable("no_harm_to_other_slices", note)]


def panel_users(training_set: TrainingSet) -> set[str]:
    """The users of the panel."""
    return set(training_set.user_ids[is_panel(training_set.user_ids)])


def _panel(challenger: Evaluation, champion: Evaluation, users: set[str], limits: GateLimits) -> Gate:
    found = by_person(challenger.only(users), champion.only(users), limits)
    if isinstance(found, str):
        return gate.not_applicable("no_harm_to_panel", found)
    return gate.no_harm_to_panel(*found, limits)


def _forgetting(challenger: Evaluation, champion: Evaluation, limits: GateLimits) -> Gate:
    found = by_person(challenger, champion, limits)
    if isinstance(found, str):
        return gate.not_applicable("no_forgetting", found)
    return gate.no_forgetting(*found, limits)


def by_person(challenger: Evaluation, champion: Evaluation, limits: GateLimits) -> tuple[Interval, int] | str:
    """The mean over users of each one's mean change, relative to that of the champion's means, and how many users.

    Both are means over the same users, of whom none counts twice: were the unit a mean over events, one busy account
    would set it. It is taken as known. Where nothing can be said the reason, in words.
    """
    names_E, ours_E = values(challenger, limits.metric)
    theirs_E = values(champion, limits.metric)[1]
    names, place_E = np.unique(names_E.astype(str), return_inverse=True)
    ours_U, theirs_U = (np.bincount(place_E, one_E) / np.bincount(place_E) for one_E in (ours_E, theirs_E))
    if not theirs_U.any():
        return "the champion hits nothing of the panel's"
    scale, found = float(theirs_U.mean()), confidence_sequence(ours_U - theirs_U, limits.panel)
    if not np.isfinite(found.low):
        return f"{len(names)} users of the panel say nothing yet"
    return Interval(found.value / scale, found.low / scale, found.high / scale), len(names)


def calibrated(replays: Mapping[str, Evaluation], limits: GateLimits) -> Gate:
    """The gate on the chances that challenger and champion gave, where they gave any."""
    ours, theirs = (replays[name].chances if name in replays else None for name in ("challenger", "champion"))
    if ours is None:
        return gate.not_applicable("calibration", "no part that has a weight in its mix gives probabilities")
    change = None if theirs is None else error_change(ours, theirs, limits.user_cap)
    weights_E = ours.weights_E * counted(ours.users_E, limits.user_cap)
    return gate.calibration(calibration_error(ours.ten_E, ours.in_ten_E, weights_E), change, limits)


def _variety(
    bundles: Mapping[str, Bundle],
    replays: Mapping[str, Evaluation],
    training_set: TrainingSet,
    after: int,
    limits: GateLimits,
) -> list[Gate]:
    """Novelty by use before the hold-out, diversity by genres: by no model, so that none is judged by its own taste."""
    bits_N = self_information(training_set.select(training_set.positions <= after))
    vectors_NG = genre_vectors(training_set.catalogue)
    ours_GK, theirs_GK = (
        _in_catalogue(replays[name], bundles[name], training_set) for name in ("challenger", "champion")
    )
    if not len(ours_GK):
        return [gate.not_applicable(name, "there are no lists") for name in ("diversity", "novelty")]
    users_G, cap = replays["challenger"].groups["user_id"].to_numpy(), limits.user_cap  # both had the same groups
    found = {
        "diversity": (diversity(ours_GK, vectors_NG), diversity(theirs_GK, vectors_NG)),
        "novelty": (novelty(ours_GK, bits_N), novelty(theirs_GK, bits_N)),
    }
    return [
        gate.variety(name, capped_mean(ours_G, users_G, cap), capped_mean(theirs_G, users_G, cap), limits)
        for name, (ours_G, theirs_G) in found.items()
    ]


def _in_catalogue(replay: Evaluation, bundle: Bundle, training_set: TrainingSet) -> np.ndarray:
    """The lists as places of the training set's catalogue, -1 for none."""
    places_N = training_set.catalogue.places(bundle.catalogue.item_ids)
    lists_GK: np.ndarray = np.where(replay.lists_GK >= 0, places_N[replay.lists_GK], -1)
    return lists_GK
