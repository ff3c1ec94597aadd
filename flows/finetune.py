"""The champion learns on: from what came after it was trained, and a replay of what came before."""

from pathlib import Path
from typing import Any

from prefect import flow, task

from attune.errors import NoChampion
from attune.settings import Settings
from flows import rooms
from flows.train import build_training_set, register_challenger
from models.learning import work


@task
def fetch_champion() -> tuple[str, Path]:
    """The champion's version and its bundle on disk."""
    settings = Settings()
    with rooms.promotions(settings) as table:
        promotion = table.champion(settings.endpoint)
    if promotion is None:
        raise NoChampion(f"endpoint {settings.endpoint!r} has no champion to start from: train and promote one first")
    return promotion.version, rooms.registry(settings).download(promotion.version, settings.bundles_folder)


@task
def learn_on(champion: Path, folder: Path, seed: int, train_upto: int | None) -> Path:
    """Fine-tune every part of the champion and save the bundle."""
    return work.finetune_bundle(champion, folder, Settings().bundles_folder, seed, train_upto)


@flow(name="finetune")
def finetune(seed: int = 0, train_upto: int | None = None, upto: int | None = None) -> dict[str, Any]:
    """Fine-tune on the window from the champion's last position to ``train_upto``; later events are for the gates."""
    parent, champion = fetch_champion()
    folder = build_training_set(upto)
    bundle = learn_on(champion, folder, seed, train_upto)
    return register_challenger(bundle, parent)
