"""Holds a version against the gates and, if they accept it, makes it champion under the endpoint's lease."""

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_markdown_artifact

from attune.errors import BundleError, VersionLost
from attune.promotions import Lease, Promotion, Promotions
from attune.settings import Settings
from flows import resources
from flows.steps import flow, progress, step
from flows.train import build_training_set, refresh
from models.bundle import digest_of

if TYPE_CHECKING:
    from evaluation.report import Judgement

logger = logging.getLogger(__name__)

ELDER = 10
"""Promotions between the champion and the earlier one that a challenger is compared with as well."""


def holder() -> str:
    """Who holds the lease: the machine and the process."""
    return f"{socket.gethostname()}:{os.getpid()}"


@step
def reconcile(settings: Settings, table: Promotions) -> list[str]:
    """Put MLflow's aliases back to what the promotions table says; returns what had to be corrected."""
    return resources.registry(settings).project(table.champion(settings.endpoint))


@step
def find_challenger(settings: Settings, table: Promotions, accept_undecided: bool) -> tuple[str | None, str]:
    """The version that waits to be judged; None, and why, when there is none or nothing has changed since it was.

    First the oldest of those since the champion that never were judged, then the challenger on newer events.
    """
    registry = resources.registry(settings)
    versions = {row["version"]: row["tags"] for row in registry.versions()}
    champion = table.champion(settings.endpoint)
    since = int(champion.version) if champion else 0
    ours = [name for name, tags in versions.items() if "bundle_digest" in tags and "judged" not in tags]
    if unjudged := [name for name in ours if int(name) > since]:
        return min(unjudged, key=int), ""
    challenger = registry.aliases().get("challenger")
    if challenger is None:
        return None, "no version waits to be judged: train or fine-tune one first"
    if versions[challenger].get("judged") == circumstances(settings, table, accept_undecided):
        word = versions[challenger].get("decision", "not accepted")
        return None, f"version {challenger} was {word} on these very events: its gates are on its page in MLflow"
    return challenger, ""


def orders_in_doubt(settings: Settings) -> list[str]:
    """The imports whose rows are in an order that nobody vouched for."""
    with resources.event_log(settings) as log:
        return log.imports.orders_in_doubt()


def circumstances(settings: Settings, table: Promotions, accept_undecided: bool) -> str:
    """What a judgement depends on besides the version: champion, events, and how undecided gates count."""
    champion = table.champion(settings.endpoint)
    upto = resources.lake(settings).watermark()
    words = f"champion {champion.version if champion else 'none'}, events to {upto}, undecided {accept_undecided}"
    doubts = orders_in_doubt(settings)
    return f"{words}, order in doubt: {', '.join(doubts)}" if doubts else words


@step
def fetch_challenger(settings: Settings, version: str) -> Path:
    """Its bundle on disk. Raises VersionLost or BundleError when there is none any more that could be judged."""
    return fetched(settings, version)


@step
def fetch_rivals(settings: Settings, table: Promotions) -> tuple[dict[str, Path | None], dict[str, str]]:
    """Who was champion now, first and ten promotions ago, on disk (None: nobody was); and why one of them is lost."""
    lost: dict[str, str] = {}
    champion, latest = table.champion(settings.endpoint), table.history(settings.endpoint, ELDER + 1)
    rivals: dict[str, Path | None] = dict.fromkeys(("champion", "anchor", "elder"))
    if champion is not None:
        rivals["champion"] = fetched(settings, champion.version, champion.bundle_digest)
    before = {
        "anchor": ("the first champion", table.first(settings.endpoint)),
        "elder": ("the champion of ten promotions ago", latest[ELDER] if len(latest) > ELDER else None),
    }
    for name, (who, row) in before.items():
        if row is None:
            continue
        try:
            rivals[name] = fetched(settings, row.version, row.bundle_digest)
        except (VersionLost, BundleError) as error:
            lost[name] = f"{who}, version {row.version}, cannot be fetched any more: {error}"
            logger.warning(lost[name])
    return rivals, lost


def fetched(settings: Settings, version: str, bundle_digest: str | None = None) -> Path:
    """A version's bundle on disk, seen to be whole. Raises VersionLost or BundleError."""
    from models.bundle import Bundle

    folder = resources.registry(settings).download(version, settings.bundles_folder, bundle_digest)
    Bundle.load(folder)
    return folder


@step
def gather_slates(
    settings: Settings, champion: Promotion | None, contenders: dict[str, Path | None], upto: int | None
) -> Path | None:
    """What the champion has shown since its training, once reactions are in; None without a champion.

    The case leaves out what was shown before its hold-out.
    """
    from features import logged_slates
    from models.bundle import Bundle

    if champion is None or contenders["champion"] is None:
        return None
    lake, after = resources.lake(settings), Bundle.load(contenders["champion"]).trained_upto
    last = lake.watermark() if upto is None else upto
    folder = settings.training_folder / f"slates-{champion.version}-{after}-{last}"
    return logged_slates.write_slates(lake, folder, champion.version, after, last).folder


@step
def judge(
    contenders: dict[str, Any],
    lost: dict[str, str],
    folder: Path,
    accept_undecided: bool,
    slates: Path | None,
    doubts: Sequence[str] = (),
) -> "Judgement":
    """Measure the contenders on what came after the challenger's training, and hold them against the gates."""
    from evaluation import judge as judging
    from evaluation.case import Case, Lost

    anchor, elder = (Lost(lost[name]) if name in lost else contenders[name] for name in ("anchor", "elder"))
    rivals = contenders["champion"], anchor, elder
    case = Case.load(folder, contenders["challenger"], *rivals, slates=slates, orders_in_doubt=doubts)
    return judging.judge(case, accept_undecided, progress("judging-progress", "Gates"))


def measured(
    settings: Settings, table: Promotions, version: str, upto: int | None, accept_undecided: bool
) -> "tuple[Judgement, Path] | str":
    """The judgement and the version's bundle; in words why there is none, where the version itself is at fault.

    What is nobody's fault (a database that is away, a full disk, a champion that is lost) is raised: it may pass.
    """
    try:
        challenger = fetch_challenger(settings, version)
    except (VersionLost, BundleError) as error:
        return str(error)
    rivals, lost = fetch_rivals(settings, table)
    contenders = {"challenger": challenger, **rivals}
    slates = gather_slates(settings, table.champion(settings.endpoint), contenders, upto)
    folder = build_training_set(settings, upto)
    try:
        doubts = orders_in_doubt(settings)
        return judge(contenders, lost, folder, accept_undecided, slates, doubts), challenger
    except ValueError as error:
        return f"measuring it ended with {error!r}"


@step
def refuse(settings: Settings, version: str, why: str, judged: str) -> None:
    """Write on the version that it cannot be judged, and why: the next run then takes the next one."""
    logger.error("version %s cannot be judged: %s", version, why)
    registry = resources.registry(settings)
    registry.refuse(version, why)
    registry.tag(version, "judged", judged)
    markdown = f"# Version {version} cannot be judged\n\n{why}"
    create_markdown_artifact(key="gates", markdown=markdown, description=f"Why version {version} was refused.")


@step
def record(settings: Settings, version: str, judgement: "Judgement", judged: str) -> None:
    """Write every gate on the version in MLflow and into the run's page."""
    registry = resources.registry(settings)
    registry.record_gates(version, judgement)
    registry.tag(version, "judged", judged)
    create_markdown_artifact(key="gates", markdown=judgement.markdown(), description=f"The gates of version {version}.")


@step
def append(
    settings: Settings, table: Promotions, lease: Lease, version: str, bundle: Path, judgement: "Judgement"
) -> bool:
    """Append the row that makes the version champion; MLflow's aliases follow. False when it was champion already."""
    promotion = table.append(lease, version, "promote", judgement.summary(), holder(), digest_of(bundle))
    resources.registry(settings).project(promotion)
    return promotion.fence == lease.fence


@flow(name="promote")
def promote(version: str | None = None, upto: int | None = None, accept_undecided: bool = False) -> dict[str, Any]:
    """Hold a version against the gates and promote it if it is accepted.

    That it is refused, or undecided, is a result (``decision``), not a failure.

    A version that cannot be judged is refused as well, and says so (``cannot_be_judged``).
    ``promoted`` says whether the champion changed: a version that is champion already may be accepted again, and stays.

    Args:
        version: The version to judge; by default the challenger, unless it was judged on the same events before.
        upto: Judge on events up to this position of the log only.
        accept_undecided: Take the risk where the evidence does not decide a gate, unless the figure itself is bad.
    """
    settings, promoted = Settings(), False
    with resources.promotions(settings) as table, table.hold_lease(settings.endpoint, holder()) as lease:
        corrected = reconcile(settings, table)
        refresh(settings, features=False)
        chosen, why = (version, "") if version else find_challenger(settings, table, accept_undecided)
        if chosen is None:
            return {"version": None, "promoted": False, "accepted": False, "corrected": corrected, "skipped": why}
        outcome = measured(settings, table, chosen, upto, accept_undecided)
        if isinstance(outcome, str):
            refuse(settings, chosen, outcome, circumstances(settings, table, accept_undecided))
            refusal = {"accepted": False, "decision": "refused", "cannot_be_judged": outcome}
            return {"version": chosen, "promoted": False, "corrected": corrected, **refusal}
        judgement, bundle = outcome
        record(settings, chosen, judgement, circumstances(settings, table, accept_undecided))
        if judgement.accepted:
            promoted = append(settings, table, lease, chosen, bundle, judgement)
    return {"version": chosen, "promoted": promoted, "corrected": corrected, **judgement.as_dict()}
