"""The champion learns on: from what came after it was trained, and a replay of what came before."""

from pathlib import Path
from typing import Any

from prefect import flow, task

from attune.errors import NoChampion
from attune.settings import Settings
from flows import rooms
from flows.train import build_training_set, register_challenger
from models import workshop


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
def learn_on(champion: Path, folder: Path, seed: int, hold_back: float) -> Path:
    """Fine-tune every part of the champion and save the bundle."""
    return workshop.finetune_bundle(champion, folder, Settings().bundles_folder, seed, hold_back)


@flow(name="finetune")
def finetune(seed: int = 0, upto: int | None = None, hold_back: float = 0.2) -> dict[str, Any]:
    """Fine-tune on what came after the champion's training, up to a position (the lake's watermark by default).

    The last ``hold_back`` share of those events is left to the gates; 0 when later events will judge.
    """
    parent, champion = fetch_champion()
    folder = build_training_set(upto)
    bundle = learn_on(champion, folder, seed, hold_back)
    return register_challenger(bundle, parent)
