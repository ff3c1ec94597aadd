"""Options and completions that several commands have; imported for every `--help`, so it loads next to nothing."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

START, EVENTS, PEOPLE, MODELS = "Start here", "Events", "Recommendations", "Models"
SERVERS, UPKEEP = "Platform", "Upkeep"  # the panels of `attune --help`, in the order in which people meet them

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many rows at most.")]

ALIASES = ("champion", "previous", "challenger")
BUNDLE = re.compile(r"(\d+)(-[0-9a-f]+)?")
"""The folder of a version's bundle: its number and the start of its digest (``attune.promotions.bundle_name``)."""


def kinds() -> list[tuple[str, str]]:
    from attune.event_types import KINDS

    return [(kind.name, kind.meaning) for kind in KINDS.values()]


def recipes() -> list[str]:
    from models.network.config import AUTO, RECIPES

    return [AUTO, *RECIPES]


def policies() -> list[str]:
    from models.ranking.policy_registry import BY_NAME

    return list(BY_NAME)


def scopes() -> list[tuple[str, str]]:
    from attune.api_keys import SCOPES

    return list(SCOPES.items())


def part_names() -> list[str]:
    from attune.settings import Settings
    from infra.platform.parts import parts

    return [part.name for part in parts(Settings())]


def versions() -> list[str]:
    """The versions whose bundles lie on this machine (those that were judged or served), latest first.

    Asking the registry would take seconds and a running server.
    """
    folder = Path(os.environ.get("ATTUNE_VAR", "var")) / "bundles"
    numbers = {match[1] for path in folder.glob("*") if (match := BUNDLE.fullmatch(path.name))}
    return sorted(numbers, key=int, reverse=True)


def versions_and_aliases() -> list[str]:
    return [*ALIASES, *versions()]
