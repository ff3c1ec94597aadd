"""The platform's parts as one table."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Column, Table

from infra.platform.lifecycle import Condition

COLOURS = {"ready": "green", "starting": "yellow"}


def table(conditions: Sequence[Condition]) -> Table:
    """One row a part: what it is, how it is, where it answers, since when, its memory."""
    found = Table("part", "state", Column("address", no_wrap=True), "up for", "memory", "what it does", box=SIMPLE)
    for one in conditions:
        colour = COLOURS.get(one.state, "red")
        found.add_row(
            one.name,
            f"[{colour}]{one.state}[/]",
            one.address or "-",
            span(one.seconds) if one.seconds else "-",
            f"{one.bytes / 2**20:,.0f} MiB" if one.bytes else "-",
            one.purpose,
        )
    return found


def span(seconds: float) -> str:
    """A length of time as people say it."""
    whole = int(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= 2 * length:
            return f"{whole // length} {unit}"
    return f"{whole} s"
