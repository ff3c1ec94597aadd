"""Fine-tunes the champion on what came after it was trained, with a replay of what came before."""

from pathlib import Path
from typing import Any

from attune.clock import SECOND, system_clock
from attune.promotions import Promotion
from attune.settings import Settings
from flows import resources
from flows.steps import flow, progress, step
from flows.train import build_training_set, reactions_writer, refresh, register_challenger

BEHAVIOUR = ("interaction", "feedback")


@step
def find_champion(settings: Settings) -> Promotion | None:
    """What to start from; None before the first promotion."""
    with resources.promotions(settings) as table:
        return table.champion(settings.endpoint)


@step
def count_new_events(settings: Settings, champion: str) -> tuple[int, float]:
    """Events after all that the champion, or any version since, was made from; seconds since the latest fine-tune."""
    since = [row for row in resources.registry(settings).versions() if int(row["version"]) >= int(champion)]
    known = max((int(row["tags"].get("window", "first..0").rpartition("..")[2]) for row in since), default=0)
    made = max((row["created_at"] for row in since if "parent" in row["tags"]), default=0)
    with resources.event_log(settings) as log:
        return log.number_after(known, BEHAVIOUR), (system_clock() - made) / SECOND


@step
def fetch(settings: Settings, champion: Promotion) -> Path:
    """The champion's bundle on disk."""
    return resources.registry(settings).download(champion.version, settings.bundles_folder, champion.bundle_digest)


@step
def fit_further(settings: Settings, champion: Path, folder: Path, seed: int, hold_back: float) -> Path:
    """Fine-tune every part of the champion and save the bundle."""
    from models import training_job

    bar, bundles = progress("finetune-progress", "Epochs of the network"), settings.bundles_folder
    reactions = reactions_writer(settings, folder)
    return training_job.finetune_bundle(champion, folder, bundles, seed, hold_back, bar, reactions)


@flow(name="finetune")
def finetune(
    seed: int = 0, upto: int | None = None, hold_back: float = 0.2, at_least: int = 1, rest_seconds: float = 0.0
) -> dict[str, Any]:
    """Fine-tune the champion on what came after its training and register the version as challenger.

    Args:
        seed: Equal seeds give equal models.
        upto: Learn from events up to this position of the log only.
        hold_back: The last share of the new events, left to the gates; 0 when later events will judge.
        at_least: Do nothing while fewer new events than this have come.
        rest_seconds: Do nothing while the latest fine-tuned version is younger than this.
    """
    settings = Settings()
    champion = find_champion(settings)
    if champion is None:
        return {"version": None, "skipped": "there is no champion to start from: train and promote one first"}
    new_events, age = count_new_events(settings, champion.version)
    if age < rest_seconds:
        return {"version": None, "skipped": f"the latest fine-tune is {age:.0f} s old, younger than {rest_seconds:.0f}"}
    if new_events < at_least:
        return {"version": None, "skipped": f"{new_events} new events, fewer than {at_least}"}
    refresh(settings)
    bundle = fit_further(settings, fetch(settings, champion), build_training_set(settings, upto), seed, hold_back)
    return register_challenger(settings, bundle, champion.version) | {"new_events": new_events}
