"""What is known of registered versions, side by side: for the commands that list and compare them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from attune.clock import to_iso
from attune.errors import ModelError
from models.registry import UNJUDGED, Registry

HEADLINE = {
    "hold-out NDCG@10": "holdout/all/ndcg_at_10",
    "hold-out HR@10": "holdout/all/hr_at_10",
    "hold-out coverage@10": "holdout/all/coverage_at_10",
    "validation NDCG@10": "validation/hybrid/ndcg_at_10",
}
"""The figures that tell at a glance how good a version is; those of the hold-out are there once it was judged."""

GATE = "gate."


@dataclass(frozen=True)
class Described:
    """One version: ``created_at`` in microseconds, ``aliases`` as MLflow has them now, ``gates`` name -> verdict.

    ``accepted`` is None for a version that was never judged, ``cannot_be_judged`` says why it could not be (None: it
    could, or was not yet); ``headline`` holds those of HEADLINE that it has.
    """

    version: str
    created_at: int
    aliases: tuple[str, ...]
    recipe: str
    parent: str | None
    window: str
    accepted: bool | None
    cannot_be_judged: str | None
    gates: dict[str, str]
    headline: dict[str, float]
    params: dict[str, str]
    metrics: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the whole of parameters and metrics, as JSON values."""
        found = {name: value for name, value in asdict(self).items() if name not in ("params", "metrics")}
        return found | {"created_at": to_iso(self.created_at)}


@dataclass(frozen=True)
class Differences:
    """What two versions have unlike: pairs (of A, of B), None where one has it not; ``metrics`` are those of both."""

    params: dict[str, tuple[str | None, str | None]]
    metrics: dict[str, tuple[float, float]]
    gates: dict[str, tuple[str | None, str | None]]


def latest(registry: Registry, limit: int) -> list[Described]:
    """The latest versions, the last first."""
    return _described(registry, registry.versions()[:limit], registry.aliases())


def named(registry: Registry, names: Iterable[str]) -> list[Described]:
    """The versions of these numbers or aliases, in their order. Raises ModelError for one that there is not."""
    aliases, rows = registry.aliases(), registry.versions()
    known = {row["version"]: row for row in rows}
    found = []
    for name in names:
        version = aliases.get(name, name)
        if version not in known:
            there = ", ".join([*aliases, *known]) or "none yet"
            raise ModelError(f"there is no version {name!r} in the registry; there are: {there}")
        found.append(known[version])
    return _described(registry, found, aliases)


def compare(a: Described, b: Described) -> Differences:
    """What differs between two versions."""
    params = {
        name: (a.params.get(name), b.params.get(name))
        for name in sorted(a.params.keys() | b.params.keys())
        if a.params.get(name) != b.params.get(name)
    }
    metrics = {name: (a.metrics[name], b.metrics[name]) for name in sorted(a.metrics.keys() & b.metrics.keys())}
    gates = {name: (a.gates.get(name), b.gates.get(name)) for name in dict.fromkeys([*a.gates, *b.gates])}
    return Differences(params, metrics, gates)


def _described(registry: Registry, rows: list[dict[str, Any]], aliases: Mapping[str, str]) -> list[Described]:
    recorded = registry.recorded([row["run_id"] for row in rows if row["run_id"]])
    return [_one(row, aliases, *recorded.get(row["run_id"], ({}, {}))) for row in rows]


def _one(
    row: dict[str, Any], aliases: Mapping[str, str], params: dict[str, str], metrics: dict[str, float]
) -> Described:
    tags = row["tags"]
    return Described(
        version=row["version"],
        created_at=row["created_at"],
        aliases=tuple(name for name, version in aliases.items() if version == row["version"]),
        recipe=tags.get("recipe", ""),
        parent=tags.get("parent"),
        window=tags.get("window", ""),
        accepted={"true": True, "false": False}.get(tags.get("accepted", "")),
        cannot_be_judged=tags.get(UNJUDGED),
        gates={name.removeprefix(GATE): text for name, text in tags.items() if name.startswith(GATE)},
        headline={title: metrics[name] for title, name in HEADLINE.items() if name in metrics},
        params=params,
        metrics=metrics,
    )
