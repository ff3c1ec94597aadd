"""Figures on their way into tools: nested mappings made flat, names made acceptable, JSON without infinities."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any


def leaves(nested: Mapping[str, Any], joint: str) -> Iterator[tuple[str, Any]]:
    """Everything in a nested mapping that is no mapping, under its path of names with ``joint`` between them."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}{joint}{path}", leaf) for path, leaf in leaves(value, joint))
        else:
            yield str(name), value


def flat(nested: Mapping[str, Any]) -> dict[str, float]:
    """Every finite number of a nested mapping under its path, joined by ``/``; what is no number is left out."""
    return {
        metric_name(path): float(value)
        for path, value in leaves(nested, "/")
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def metric_name(path: str) -> str:
    """The path in the characters that MLflow takes: ``hr@10`` is ``hr_at_10``."""
    return re.sub(r"[^\w\-. :/]", "_", path.replace("@", "_at_"))[:250]


def for_json(value: Any) -> Any:
    """The same value with None in place of infinities and NaN, tuples as lists, numpy scalars as Python's."""
    if isinstance(value, Mapping):
        return {str(name): for_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(part) for part in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(rows: list[list[str]], head: list[str]) -> str:
    """A Markdown table; the first column is text, the others are aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def short(value: Any) -> str:
    """A figure as people read it: four places, whole numbers whole, nothing for None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 10 else f"{value:.4f}"
    return str(value)
