"""Traits: what an item or a user is, in words, as ``language=German``.

By them a judgement looks for whom a version harms. Titles, texts and whether an item is on sale are no traits; years
and genres have their own columns.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from attune.columns import Columns

NO_TRAITS = {Columns.TITLE, Columns.TEXT, Columns.YEAR, Columns.GENRES, Columns.AVAILABLE, Columns.RETIRED}

LONGEST = 100
"""Letters of a value: who writes more writes a text."""


def traits_of(attributes: Iterable[str]) -> list[list[str]]:
    """Of each JSON object of attributes the traits: ``name=value`` for every value, each once, in their order."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    return [list(dict.fromkeys(_told(decode(one)))) for one in attributes]


def _told(attributes: dict[str, Any]) -> Iterator[str]:
    for name, value in attributes.items():
        if name not in NO_TRAITS:
            for one in value if isinstance(value, list) else [value]:
                word = _word(one)
                if word and len(word) <= LONGEST:
                    yield f"{name}={word}"


def _word(value: Any) -> str:
    """A text, a number, a truth value as JSON writes it; nothing for nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
