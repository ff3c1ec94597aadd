"""The row rules: the one place where a row becomes an event, for imports and HTTP alike.

A row is a mapping with the fields of an event; times are microseconds since the epoch already.
"""

import json
import math
import re
import secrets
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import blake2b
from itertools import zip_longest
from typing import Any

from attune.clock import DAY, MINUTE, Clock, to_iso
from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_types import KINDS, RETRACT
from attune.events import IMPORTED, AnyEvent, Feedback, Interaction, Item, Shown, Slate, User

Row = Mapping[str, Any]

ID_LIMIT = 256
FUTURE_LIMIT = 5 * MINUTE
"""How far ahead of the clock an event may lie before it is turned away."""

EARLIEST = -200 * 365 * DAY
ATTRIBUTES_LIMIT = 200
WHOLE_LIMIT = 2**63
"""Whole numbers below this size (either sign) are understood by every reader of the log."""

SHOWN_LIMIT = 100
"""How much of a wrong value a reason quotes."""

TRUTH = {"true": True, "false": False}
OTHER_TRUTH = {"1": True, "0": False, "yes": True, "no": False, "y": True, "n": False, "t": True, "f": False}
NOTHING = dict.fromkeys(("null", "none", "nan", "na", "n/a"))
"""What files without types write for an absent number or truth value, in small letters."""

TEXT_NAMES = (Columns.TITLE, Columns.TEXT, Columns.GENRES)
"""Attributes that stay text when they are read out of a file without types."""

_WHOLE_FLOAT = re.compile(r"-?\d+\.0")
_ID_NAME = re.compile(r"(^|_)(id|ID)$|[a-z]I[dD]$")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")

KNOWN_ATTRIBUTES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    Columns.AVAILABLE: ("true or false", lambda value: isinstance(value, bool)),
    Columns.RETIRED: ("true or false", lambda value: isinstance(value, bool)),
    Columns.TITLE: ("text", lambda value: isinstance(value, str)),
    Columns.YEAR: (
        "a number between -2^53 and 2^53",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 2**53,
    ),
    Columns.GENRES: (
        "a list of texts",
        lambda value: isinstance(value, list) and all(isinstance(part, str) for part in value),
    ),
}
"""What attributes that are known by name must be."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that was turned away; ``row_number`` counts from 0 within the call."""

    row_number: int
    row: Row
    field: str | None
    reason: str
    rule: str | None = None
    """The reason without the row's own value: equal for all rows that break the same rule; None: not told apart."""


def new_event_id() -> str:
    """An id for an event that came without one: 32 hex digits, the milliseconds since 1970 and 80 random bits.

    In the order of time, as UUIDs of version 7 are (RFC 9562, section 5.7): the log's index over ids grows at its end,
    where random ids would touch a page of it each.
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def one_spelling(identifier: str) -> str:
    """The id as every door writes it: Unicode composed (NFC), a whole number without the '.0' that floats leave."""
    composed = identifier if identifier.isascii() else unicodedata.normalize("NFC", identifier)
    return composed[:-2] if _WHOLE_FLOAT.fullmatch(composed) else composed


@lru_cache
def is_id_name(attribute: str) -> bool:
    """Whether an attribute is named as an id, as author_id is."""
    return _ID_NAME.search(attribute) is not None


def as_ids(values: Iterable[Any]) -> list[Any]:
    """Values that are ids as text in their one spelling, numbers too: 12, 12.0 and '12.0' are '12'."""
    return [
        one_spelling(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else value
        for value in values
    ]


def admit(
    type_name: str, row: Row, clock: Clock, given: Mapping[str, Any] | None = None, is_stored: bool = False
) -> AnyEvent:
    """The event that ``row`` describes; ``type_name`` is interaction, feedback, slate, item or user.

    A slate is one that another system drew: ``items`` from the top, and their ``propensities`` or none.

    ``given`` are the attributes of an item that are new, by default all: of those, the known ones have their type.
    ``is_stored``: a log had it already, under rules that let ids of any spelling in.
    Raises DataContractError, naming the field and the cure, when a rule is broken; nothing else, whatever ``row`` is.
    """
    if not isinstance(row, Mapping):
        raise DataContractError(f"row: {_shown(row)} is not a mapping of names to values")
    event = _event(type_name, row, clock, given)
    names = [(field, getattr(event, field, "")) for field in ("user_id", "item_id")]
    names += [("items", shown.item_id) for shown in event.shown] if isinstance(event, Slate) else []
    for field, name in () if is_stored else names:
        if name != one_spelling(name):
            raise _breach(field, "… is not how that id is written; compose it (NFC), and no '.0'", _shown(name))
    return event


def _event(type_name: str, row: Row, clock: Clock, given: Mapping[str, Any] | None) -> AnyEvent:
    common: dict[str, Any] = {
        "event_id": _identifier(row, "event_id") if row.get("event_id") is not None else new_event_id(),
        "event_timestamp": _timestamp(row, clock),
    }
    if type_name == "interaction":
        return Interaction(**common, **_behaviour(row))
    if type_name == "feedback":
        return Feedback(**common, **_behaviour(row), slate_id=_identifier(row, "slate_id"))
    if type_name == "slate":
        return Slate(
            **common, user_id=_identifier(row, "user_id"), model_version=IMPORTED, served_by=IMPORTED,
            policy={"name": IMPORTED}, shown=(shown := _list(row)), candidates=[], context={"k": len(shown)},
            state_position=0,
        )  # fmt: skip
    if type_name == "item":
        item = Item(**common, item_id=_identifier(row, "item_id"), attributes=_attributes(row))
        _check_known_names(item.attributes if given is None else given)
        return item
    if type_name == "user":
        return User(**common, user_id=_identifier(row, "user_id"), attributes=_attributes(row))
    raise DataContractError(f"type: {_shown(type_name)} is not one of interaction, feedback, slate, item, user", "type")


def admit_all(type_name: str, rows: Iterable[Row], clock: Clock) -> tuple[list[AnyEvent], list[Rejection]]:
    """Admit row by row: (the events in the rows' order, the rows that were turned away with their reasons)."""
    admitted: list[AnyEvent] = []
    rejected: list[Rejection] = []
    for number, row in enumerate(rows):
        try:
            admitted.append(admit(type_name, row, clock))
        except DataContractError as error:
            rejected.append(Rejection(number, row, error.field, str(error), error.rule))
    return admitted, rejected


def rejected_rows(source: str, type_name: str, rejected: Iterable[Rejection]) -> dict[bytes, dict[str, Any]]:
    """Quarantine rows by digest: over source, type, content and the number among equal rows of this call."""
    occurrences: Counter[str] = Counter()
    rows: dict[bytes, dict[str, Any]] = {}
    for bad in rejected:
        content = row_as_json(bad.row)
        identity = json.dumps([source, type_name, content, occurrences[content]])
        occurrences[content] += 1
        digest = blake2b(identity.encode(), digest_size=16).digest()
        rows[digest] = {
            "digest": digest,
            "source": source,
            "type": type_name,
            "row_number": bad.row_number,
            "field": bad.field,
            "reason": storable(bad.reason),
            "row": content,
        }
    return rows


def row_as_json(row: object) -> str:
    """Any row as ASCII JSON, keys sorted; what JSON does not know stands there as its ``repr``. Never raises."""
    if not isinstance(row, Mapping):
        return json.dumps(_as_json(row))
    return json.dumps({_key(name): _as_json(value) for name, value in row.items()}, sort_keys=True)


def storable(words: str) -> str:
    """The text with whatever a database refuses (lone surrogates, NUL) written as an escape."""
    return words.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _key(name: object) -> str:
    word = name if isinstance(name, str) else _as_json(name)
    return storable(word if isinstance(word, str) else json.dumps(word))


def _as_json(value: object) -> object:
    try:
        json.dumps(value, sort_keys=True)
    except (ValueError, TypeError, OverflowError, RecursionError):
        try:
            return repr(value)
        except (ValueError, RecursionError):
            return f"<{type(value).__name__}>"
    return value


def _breach(field: str, rule: str, value: str) -> DataContractError:
    """The error of a row whose ``value`` (as a reason quotes it) stands where ``rule`` has '…'."""
    return DataContractError(f"{field}: {rule.replace('…', value, 1)}", field, f"{field}: {rule}")


def _identifier(row: Row, field: str) -> str:
    raw = row.get(field)
    if raw is None or raw == "":
        raise DataContractError(f"{field}: absent; every row needs one", field)
    if not isinstance(raw, str):
        raise _breach(field, "… is not text", _shown(raw))
    if len(raw) > ID_LIMIT:
        raise _breach(field, f"… characters; at most {ID_LIMIT} are allowed", str(len(raw)))
    if not raw.isprintable() or raw != raw.strip():
        raise _breach(field, "… has unprintable characters or blanks around it", _shown(raw))
    return str(raw)


def _timestamp(row: Row, clock: Clock) -> int:
    field = "event_timestamp"
    raw = row.get(field)
    if raw is None:
        raise DataContractError(f"{field}: absent; every row needs the time at which it happened", field)
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise _breach(field, "… is not a time", _shown(raw))
    if raw > clock() + FUTURE_LIMIT:
        raise _breach(field, "… lies in the future; check the clock and the unit", _readable(raw))
    if raw < EARLIEST:
        raise _breach(field, "… lies too far in the past; check the unit", _readable(raw))
    return int(raw)


def _readable(micros: int) -> str:
    try:
        return to_iso(micros)
    except (ValueError, OverflowError, OSError):
        return f"{_shown(micros)} microseconds"


def _shown(value: object) -> str:
    """The value as a reason quotes it: its ``repr``, shortened; where that fails (huge numbers) its type."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # of numpy: 7.0, not np.float64(7.0)
        value = value.tolist()
    try:
        words = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
    return words if len(words) <= SHOWN_LIMIT else f"{words[:SHOWN_LIMIT]}..."


def _behaviour(row: Row) -> dict[str, Any]:
    kind, value = _kind_and_value(row)
    retracts = _identifier(row, "retracts") if kind == RETRACT else None
    if kind != RETRACT and row.get("retracts") is not None:
        raise DataContractError(f"retracts: only an event of kind {RETRACT!r} takes another back", "retracts")
    return {
        "user_id": _identifier(row, "user_id"),
        "item_id": _identifier(row, "item_id"),
        "kind": kind,
        "value": value,
        "retracts": retracts,
    }


def _list(row: Row) -> list[Shown]:
    """What an imported slate showed; a propensity of 0 stands for none."""
    items, given = row.get("items"), row.get("propensities")
    if not isinstance(items, list) or not items:
        raise _breach("items", "… is no list of ids", _shown(items))
    if given is not None and (not isinstance(given, list) or len(given) != len(items)):
        raise _breach("propensities", f"…: as many as the items shown ({len(items)}), or none", _shown(given))
    propensities = [_number(raw) for raw in given or ()]
    for raw, number in zip(given or (), propensities, strict=True):
        if number is None or not 0.0 < number <= 1.0:
            raise _breach("propensities", "… is no probability above 0 and at most 1", _shown(raw))
    names = [_identifier({"items": name}, "items") for name in items]
    return [Shown(name, 0.0, number or 0.0) for name, number in zip_longest(names, propensities)]


def _kind_and_value(row: Row) -> tuple[str, float | None]:
    name = row.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        close = get_close_matches(name[:ID_LIMIT], KINDS, n=1) if isinstance(name, str) else []
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise _breach("kind", f"…; known are {', '.join(KINDS)}", f"{_shown(name)} is unknown{hint}")
    raw = row.get("value")
    if raw is None:
        if kind.needs_value:
            raise DataContractError(f"value: absent; {kind.name!r} is {kind.meaning}", "value")
        return kind.name, None
    value = _number(raw)
    if value is None:
        raise _breach("value", "… is not a finite number", _shown(raw))
    if not kind.low <= value <= kind.high:
        rule = f"… is outside {kind.low:g} to {kind.high:g}; {kind.name!r} is {kind.meaning}"
        raise _breach("value", rule, _shown(raw))
    return kind.name, value


def _number(raw: object) -> float | None:
    """As a finite float, or None when it is none."""
    if not isinstance(raw, int | float) or isinstance(raw, bool):
        return None
    try:
        value = float(raw)
    except OverflowError:
        return None
    return value + 0.0 if math.isfinite(value) else None  # -0.0 becomes 0.0: SQLite keeps no negative zero


def _attributes(row: Row) -> dict[str, Any]:
    raw = row.get("attributes")
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise DataContractError(f"attributes: {type(raw).__name__} is not a mapping of names to values", "attributes")
    if len(raw) > ATTRIBUTES_LIMIT:
        raise _breach("attributes", f"… of them; at most {ATTRIBUTES_LIMIT} are allowed", str(len(raw)))
    attributes: dict[str, Any] = {}
    for name, value in raw.items():
        if not isinstance(name, str) or not _is_text(name):
            raise _breach("attributes", "the name … is not readable text", _shown(name))
        is_list = isinstance(value, list)
        attributes[str(name)] = [_single(name, part) for part in value] if is_list else _single(name, value)
    return attributes


def _check_known_names(given: Mapping[str, Any]) -> None:
    """Raise DataContractError where an attribute that is known by name holds a value of another kind."""
    for name, (expected, fits) in KNOWN_ATTRIBUTES.items():
        value = given.get(name)
        if value is not None and not fits(value):
            field = f"attributes.{name}"
            raise DataContractError(f"{field}: expected {expected}", field)


def typed(name: str, cells: Sequence[str | None]) -> list[Any]:
    """The texts of a column of attributes as HTTP would have them.

    Numbers or truth values where every present cell is one (beside 'NULL' or 'nan', which is none). Ids, titles, texts,
    genres, and whole numbers with a leading zero or beyond 64 bits stay text.
    """
    if name in TEXT_NAMES or is_id_name(name):
        return list(cells)
    if name in (Columns.AVAILABLE, Columns.RETIRED):  # nothing else will do, so that one bad cell costs its row alone
        words = NOTHING | TRUTH | OTHER_TRUTH
        return [cell if cell is None else words.get(cell.lower(), cell) for cell in cells]
    present = {cell for cell in cells if cell is not None and cell.lower() not in NOTHING}
    values: dict[str | None, Any] = {cell: TRUTH.get(cell.lower()) for cell in present}
    if None in values.values():
        values = {cell: _written_number(cell) for cell in present}
    return [values.get(cell) for cell in cells] if present and None not in values.values() else list(cells)


def _written_number(cell: str) -> int | float | None:
    """The number that HTTP would have for the text, None where it would have text."""
    if not _NUMBER.fullmatch(cell):
        return None
    if cell.lstrip("-").isdecimal():
        return int(cell) if -WHOLE_LIMIT <= int(cell) < WHOLE_LIMIT else None
    value = float(cell)
    return value if math.isfinite(value) else None


def _single(name: str, value: object) -> Any:
    """Text, number, truth value or nothing as the plain type that JSON has for it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and _is_text(value):
        return str(value)
    if isinstance(value, int) and -WHOLE_LIMIT <= value < WHOLE_LIMIT:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    rule = "…, which is neither readable text, a finite number of 64 bits, a truth value nor a list of them"
    raise _breach("attributes", rule, f"{_shown(name)} holds {_shown(value)}")


def _is_text(words: str) -> bool:
    """Whether a database can keep it: no NUL, no half of a surrogate pair."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in words
