"""A version is held against the gates; if all hold it becomes champion, under the endpoint's lease."""

import os
import socket
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from attune.holding import held
from attune.promotions import Lease, Promotions
from attune.settings import Settings
from flows import rooms
from flows.train import build_training_set
from models.evaluation import judging


def holder() -> str:
    """Who holds the lease: the machine and the process."""
    return f"{socket.gethostname()}:{os.getpid()}"


@task(cache_policy=NO_CACHE)
def reconcile(table: Promotions) -> list[str]:
    """Put MLflow's aliases back to what the promotions table says; returns what had to be corrected."""
    settings = Settings()
    return rooms.registry(settings).project(table.champion(settings.endpoint))


@task(cache_policy=NO_CACHE)
def fetch_contenders(table: Promotions, version: str | None) -> dict[str, Any]:
    """The challenger, the champion and the first anchor on disk (the latter two None at the first promotion)."""
    settings = Settings()
    registry = rooms.registry(settings)
    challenger = version or registry.challenger()
    champion, anchor = table.champion(settings.endpoint), table.first(settings.endpoint)
    fetched = {"champion": champion, "anchor": anchor}
    return {
        "version": challenger,
        "challenger": registry.download(challenger, settings.bundles_folder),
        **{
            name: registry.download(promotion.version, settings.bundles_folder) if promotion else None
            for name, promotion in fetched.items()
        },
    }


@task(cache_policy=NO_CACHE)
def judge(contenders: dict[str, Any], folder: Path, accept_undecided: bool) -> judging.Judgement:
    """Measure the contenders on what came after the challenger's training, and hold them against the gates."""
    return judging.judge_folders(
        contenders["challenger"], contenders["champion"], contenders["anchor"], folder, accept_undecided
    )


@task(cache_policy=NO_CACHE)
def record(version: str, judgement: judging.Judgement) -> None:
    """Write every gate on the version in MLflow and into the run's page."""
    rooms.registry(Settings()).record_gates(version, judgement)
    create_markdown_artifact(key="gates", markdown=judgement.markdown())


@task(cache_policy=NO_CACHE)
def append(table: Promotions, lease: Lease, version: str, judgement: judging.Judgement) -> bool:
    """Append the row that makes the version champion; MLflow's aliases follow. False when it was champion already."""
    promotion = table.append(lease, version, "promote", judgement.summary(), holder())
    rooms.registry(Settings()).project(promotion)
    return promotion.fence == lease.fence


@flow(name="promote")
def promote(version: str | None = None, upto: int | None = None, accept_undecided: bool = False) -> dict[str, Any]:
    """Judge a version (the challenger by default) and promote it if it is accepted. A refusal is a result.

    ``promoted`` says whether the champion changed: a version that is champion already may be accepted again, and stays.
    """
    settings, promoted = Settings(), False
    with rooms.promotions(settings) as table, held(table, settings.endpoint, holder()) as lease:
        corrected = reconcile(table)
        contenders = fetch_contenders(table, version)
        judgement = judge(contenders, build_training_set(upto), accept_undecided)
        record(contenders["version"], judgement)
        if judgement.accepted:
            promoted = append(table, lease, contenders["version"], judgement)
    return {"version": contenders["version"], "promoted": promoted, "corrected": corrected, **judgement.as_dict()}
