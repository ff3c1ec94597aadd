"""Reads anyone's tables: files, and a map from attune's column names to theirs."""

import html
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attune.columns import Columns
from attune.errors import DataContractError, did_you_mean
from attune.event_types import KINDS
from attune.row_rules import Rejection, typed
from features.sources import frames
from features.sources.delimited import USUAL_KINDS, Layout, plain_name
from features.sources.frames import INTERACTION_COLUMNS, OWN_IDS, Say, SourceFrames, Understanding
from features.sources.row_order import order_faults, row_times, shuffled_times
from features.sources.table_files import IN_MEMORY, Paths, Table, read_tables
from features.sources.times import moments
from features.sources.values import Values, with_values

BEHAVIOUR_COLUMNS = (*INTERACTION_COLUMNS, *OWN_IDS)
ITEM_COLUMNS = (Columns.ITEM_ID, Columns.TITLE, Columns.YEAR, Columns.GENRES, Columns.TEXT)
USER_COLUMNS = (Columns.USER_ID,)
"""Further names in the maps of items and users are attributes under that name."""

ENTITIES = {
    "item": (ITEM_COLUMNS, (Columns.TITLE, Columns.GENRES), "item_id,title,year"),
    "user": (USER_COLUMNS, (), "user_id,age,country"),
}
"""The columns of a table of items or users, those besides the id that are guessed, and an example without a header."""

PROPERTY = "property"
LONG_COLUMNS = (Columns.ITEM_ID, PROPERTY, Columns.VALUE, Columns.EVENT_TIMESTAMP)
"""Of a long table: a row says what one property of an item was from a time on."""

USUAL_NAMES = {
    Columns.USER_ID: "user uid userid visitorid customerid memberid reviewerid | sessionid accountid personid",
    Columns.ITEM_ID: "item iid itemid movieid asin parentasin productid bookid isbn trackid songid artistid sku "
    "articleid newsid animeid videoid gameid recipeid businessid goodid",
    Columns.VALUE: "rating ratings stars score overall reviewoverall reviewscore bookrating movierating",
    Columns.EVENT_TIMESTAMP: "timestamp unixreviewtime | ts time datetime date unixtime eventtime createdat createtime "
    "reviewtime timems",
    Columns.KIND: "event eventtype behavior behaviour action interactiontype",
    PROPERTY: "property attribute key propertyname attributename",
    Columns.TITLE: "title name itemname movietitle producttitle booktitle",
    Columns.GENRES: "genre genresname | categories",
}
"""Other people's names for a column, as ``plain_name`` writes them; taken where exactly one of them is there, or one
of those before '|'."""

PLAYS = ("play", "listen", "stream", "scrobble")

NUMBER = r"-?\d+(\.\d+)?"
WHOLE = re.compile(r"\d+|[1-9]\d{0,2}(,\d{3})+")

LEFT_OUT = "none"
"""What ``kinds`` calls rows that say nothing: '0=none'."""

LOOKED_AT = 1_000
"""Ids by which lists of them are told."""

FIRST_ROWS = 10
"""Rows that ``Understanding`` keeps as they stood in the file."""

CALLED = frozenset(word for names in USUAL_NAMES.values() for word in names.split()) | {
    "id", "userid", "itemid", "eventtimestamp", "kind", "value", "genres", "year", "text", "price", "category", "url",
    "description", "available",
}  # fmt: skip

ORDER_IS_REAL = "If they are in the order of time all the same: --order row --order-is-real."
NO_ORDER = (
    "If they are not: --order none. Then no time is believed, nothing is learned from the order, and versions are "
    "judged on random events of every user."
)

Names = Mapping[str, str] | str | None


@dataclass(frozen=True)
class Options(Values):
    """How tables are read, and what their values mean; what is not said is told from the files.

    ``mapping`` names the files' columns ('user_id=uid,item_id=iid', or a dict); a column of attune's own name needs no
    entry, and one of a usual name (userId, movieId, rating) is taken where it is the only one. Rows with an
    ``event_id`` keep it. ``kind`` is every row's kind; ``kinds`` renames kinds ('addtocart=cart', '1=view' whether 1 is
    text or a number; '0=none' leaves rows out). ``order`` is for files without times: 'row' gives row n the time epoch
    + n seconds, if nothing speaks against it (``row_order.order_faults``) or ``order_is_real`` vouches for it; 'none'
    gives times that say nothing. ``unit``, ``time_format`` and ``time_zone`` are those of ``times.moments``;
    ``encoding``, ``separator``, ``quote`` and ``columns`` (of files without a header) are those of
    ``delimited.Layout``, ``explode`` (of the interactions) that of ``read_tables``. ``wide``, or columns ``value*``: a
    row is a user, a column that nothing names an item, a cell the value; there is none where the cell is empty or
    ``missing`` ('99').
    Items keep title, year, genres and text by name, and every other column as an attribute; so do users. Their maps
    may rename attributes ('price=cost'); a column whose name the map gives to another one is left out. ``items_long``
    says that a row of the items is one property (``LONG_COLUMNS``), as four columns of such names do too: the rows
    become versions of the items, each with the time from which it held.
    """

    mapping: Names = None
    items_map: Names = None
    users_map: Names = None
    kind: str | None = None
    kinds: Names = None
    order: str | None = None
    order_is_real: bool = False
    items_long: bool = False
    unit: str | None = None
    time_format: str | None = None
    time_zone: str | None = None
    encoding: str | None = None
    separator: str | None = None
    quote: str | None = None
    columns: str | None = None
    items_columns: str | None = None
    users_columns: str | None = None
    explode: str | None = None
    wide: bool = False
    missing: str | None = None

    def layout(self, option: str, columns: str | None, named: Mapping[str, str]) -> Layout:
        """That of a file whose ``columns`` are named by ``option``, or by the header that the map expects."""
        return Layout(columns, self.encoding, self.separator, self.quote, named.values(), CALLED, option)


@dataclass
class _Reading:
    """What is found out while files are read: the columns that were taken, remarks, rows that are turned away."""

    options: Options
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rejected: dict[str, list[Rejection]] = field(default_factory=dict)

    def say(self, note: str) -> None:
        self.notes.append(note)

    def table(self, type_name: str, paths: Paths, layout: Layout, explode: str | None = None) -> Table:
        table = read_tables(paths, layout, explode)
        self.rejected[type_name] = table.rejected
        for note in table.notes:
            self.say(f"{type_name}s: {note}")
        return table

    def times(self, column: pd.Series) -> pd.Series:
        return moments(column, self.options.unit, self.options.time_format, self.options.time_zone, self.say)

    def ids(self, table: Table, name: str, column: str) -> pd.Series:
        """A column as ids; whole numbers with commas between their thousands are written without."""
        ids = table.ids(column)
        grouped = next((raw for raw in ids if isinstance(raw, str) and "," in raw), None)
        if grouped is None or not all(isinstance(raw, str) and WHOLE.fullmatch(raw) for raw in ids.dropna()):
            return ids
        self.say(f"{name}: commas are taken for thousands: {grouped!r} is {grouped.replace(',', '')!r}")
        return ids.str.replace(",", "", regex=False)

    def take(self, type_name: str, named: dict[str, str], guessed: dict[str, str]) -> dict[str, str]:
        """The columns of both, which are remembered; of those that were guessed a remark tells."""
        self.columns[type_name] = named | guessed
        if guessed:
            pairs = ", ".join(f"{name}={column}" for name, column in guessed.items())
            self.say(f"{type_name}s: taken by their names: {pairs}")
        return self.columns[type_name]


def read(
    interactions: Paths,
    items: Path | pd.DataFrame | None = None,
    users: Path | pd.DataFrame | None = None,
    mapping: Names = None,
    **options: Any,
) -> SourceFrames:
    """The files as frames; each may be a frame itself. ``options`` are the other fields of ``Options``.

    Raises DataContractError for a missing file, no table, a map that names what is not there, or numbers whose meaning
    is in doubt.
    """
    reading = _Reading(Options(mapping=mapping, **options))
    order = reading.options.order
    behaviour, kind, first_rows = _interactions(interactions, reading)
    item_rows, user_rows = _entities("item", items, reading), _entities("user", users, reading)
    _compare_ids(Columns.ITEM_ID, behaviour, item_rows, reading.say)
    _compare_ids(Columns.USER_ID, behaviour, user_rows, reading.say)
    if order is not None:
        reading.say("no times: " + ("the order of the rows" if order == "row" else "random ones, none is believed"))
    if order == "row" and not reading.options.order_is_real and (faults := order_faults(behaviour, item_rows)):
        raise DataContractError(
            f"order: the rows of {called(interactions)} do not look like the order of time: {'; '.join(faults)}. "
            f"{ORDER_IS_REAL} {NO_ORDER}"
        )
    turned_away = {name: tuple(rows) for name, rows in reading.rejected.items()}
    understanding = Understanding(reading.columns, tuple(reading.notes), kind, first_rows)
    return SourceFrames(behaviour, item_rows, user_rows, turned_away, understanding, by_row=order == "row")


def _interactions(paths: Paths, reading: _Reading) -> tuple[pd.DataFrame, str | None, pd.DataFrame]:
    """The interactions, the kind of all of them where there is one, and the first rows as they stand in the file."""
    options, path = reading.options, called(paths)
    named, renamed = parse_map(options.mapping), parse_map(options.kinds)
    for name in named:
        if name not in BEHAVIOUR_COLUMNS:
            raise DataContractError(f"map: {name!r} is no column of attune{_nearest(name, BEHAVIOUR_COLUMNS)}", name)
    layout = options.layout(Layout.option, options.columns, named)
    whole = reading.table("interaction", paths, layout, options.explode)
    if options.wide or layout.is_wide:
        taken = named_columns(whole.frame, named, BEHAVIOUR_COLUMNS, path)
        whole.frame = _one_a_cell(whole.frame, taken, options.missing, reading.say)
    elif options.missing is not None:
        raise DataContractError("missing: it is for cells of a wide table alone (--wide)")
    table = whole.frame
    taken, kind = _behaviour_columns(table, named, renamed, path, reading)
    behaviour = pd.DataFrame(
        {
            **{
                name: reading.ids(whole, name, required_column(table, taken, name, path))
                for name in (Columns.USER_ID, Columns.ITEM_ID)
            },
            Columns.KIND: _kind(table, taken, kind, renamed, path),
            Columns.VALUE: None,
            Columns.EVENT_TIMESTAMP: _moments(table, taken, path, reading),
            **{name: whole.ids(taken[name]) for name in OWN_IDS if name in taken},
        },
        dtype=object,
    )
    _refuse_lists(behaviour[Columns.ITEM_ID], taken[Columns.ITEM_ID])
    left_out = (behaviour[Columns.KIND] == LEFT_OUT).to_numpy(bool)
    if left_out.any():
        reading.say(f"interactions: {left_out.sum():,} rows are left out, as --kinds says")
        behaviour, table = behaviour[~left_out], table[~left_out]
    column = table[taken[Columns.VALUE]] if Columns.VALUE in taken else None
    behaviour, rejected = with_values(behaviour, column, options, kind, reading.say)
    reading.rejected["interaction"] += rejected
    return behaviour, kind, table.head(FIRST_ROWS)


def _behaviour_columns(
    table: pd.DataFrame, named: dict[str, str], renamed: dict[str, str], path: Path | str, reading: _Reading
) -> tuple[dict[str, str], str | None]:
    """Canonical name -> the file's column, and the kind of all rows: the given one, or rating where stars are found."""
    kind = reading.options.kind
    taken = named_columns(table, named, BEHAVIOUR_COLUMNS, path)
    guessed = _guesses(table, taken, (Columns.USER_ID, Columns.ITEM_ID))
    if reading.options.order is None:
        guessed |= _guesses(table, taken, (Columns.EVENT_TIMESTAMP,))
    if kind is None and Columns.KIND not in taken:
        columns_of_kinds = _guesses(table, taken, (Columns.KIND,))
        guessed |= {name: column for name, column in columns_of_kinds.items() if _has_kinds(table[column], renamed)}
    if kind in (None, "rating") and Columns.KIND not in taken | guessed:
        guessed |= (stars := _guesses(table, taken, (Columns.VALUE,)))
        kind = "rating" if stars else kind
    return reading.take("interaction", taken, guessed), kind


def called(paths: Paths) -> Path | str:
    """What messages call a table."""
    if isinstance(paths, pd.DataFrame):
        return IN_MEMORY
    return paths if isinstance(paths, Path | str) else paths[0]


def parse_map(names: Names) -> dict[str, str]:
    """'user_id=uid,item_id=iid' as a mapping; raises DataContractError for a part without '='."""
    if not isinstance(names, str):
        return dict(names or {})
    pairs = [part.split("=", 1) for part in names.split(",") if part.strip()]
    if broken := [pair[0] for pair in pairs if len(pair) != 2 or not all(part.strip() for part in pair)]:
        raise DataContractError(f"map: {broken[0]!r} is not of the form NAME=COLUMN")
    return {name.strip(): column.strip() for name, column in pairs}


def named_columns(
    table: pd.DataFrame, named: dict[str, str], known: Collection[str], path: Path | str
) -> dict[str, str]:
    """Canonical name -> the file's column, for all that the map names and all that need no naming."""
    have = [str(column) for column in table.columns]
    for name, column in named.items():
        if column not in have:
            raise DataContractError(f"map: {path} has no column {column!r}{_nearest(column, have)}", name)
    free = set(have) - {column for name, column in named.items() if name not in OWN_IDS}
    return {name: name for name in known if name in (free if name in OWN_IDS else have)} | named


def _one_a_cell(wide: pd.DataFrame, taken: dict[str, str], missing: str | None, say: Say) -> pd.DataFrame:
    """A row for each cell that holds a value of a table with a row a user and a column an item."""
    taken = taken | _guesses(wide, taken, (Columns.USER_ID,))
    items = [column for column in wide.columns if column not in taken.values()]
    cells = wide[items].to_numpy(object).ravel()
    present = pd.notna(cells)
    if missing is not None:
        number = float(missing) if re.fullmatch(NUMBER, missing) else np.nan
        present &= (cells != missing) & (pd.to_numeric(pd.Series(cells), errors="coerce") != number).to_numpy(bool)
    rows, places = np.divmod(np.flatnonzero(present), max(len(items), 1))
    if Columns.USER_ID not in taken:
        say("user_id: no column of users; they are called by the number of their row, from 1")
        wide = wide.assign(**{Columns.USER_ID: [str(number) for number in range(1, len(wide) + 1)]})
    say(f"a row is a user, and {len(items):,} columns are items; {len(rows):,} of {len(cells):,} cells hold a value")
    kept = wide.drop(columns=items).iloc[rows].reset_index(drop=True)
    return kept.assign(**{Columns.ITEM_ID: np.array(items, object)[places], Columns.VALUE: cells[present]})


def _guesses(
    table: pd.DataFrame, taken: dict[str, str], wanted: Collection[str], also: Collection[str] = ()
) -> dict[str, str]:
    """For each wanted name that has no column yet, the only free one that bears a usual name for it."""
    free = [str(column) for column in table.columns if column not in taken.values()]
    guesses: dict[str, str] = {}
    for name in wanted:
        for usual in (name.replace("_", ""), *USUAL_NAMES[name].split("|")):
            matches = [column for column in free if plain_name(column) in (*usual.split(), *also)]
            if name not in taken | guesses and len(matches) == 1:
                guesses[name] = matches[0]
    return guesses


def _has_kinds(column: pd.Series, renamed: dict[str, str]) -> bool:
    """Whether most of the column's values name a kind."""
    words = frames.ids(column).dropna().drop_duplicates()
    return bool(
        words.map(lambda raw: isinstance(raw, str) and renamed.get(raw, raw) in {*KINDS, LEFT_OUT}).mean() > 0.5
    )


def _nearest(name: str, have: Collection[str]) -> str:
    return f"{did_you_mean(name, have, cutoff=0.5)}; there are {', '.join(have)}"


def required_column(table: pd.DataFrame, columns: dict[str, str], name: str, path: Path | str) -> str:
    """The file's column for ``name``."""
    if name not in columns:
        have = ", ".join(map(str, table.columns))
        raise DataContractError(
            f"{name}: {path} has no such column; name it: --map {name}=... (--items-map, --users-map in the "
            f"other tables), or all of them with --columns where the file has no header: {have}",
            name,
        )
    return columns[name]


def _kind(
    table: pd.DataFrame, columns: dict[str, str], constant: str | None, renamed: dict[str, str], path: Path | str
) -> pd.Series:
    for name in [constant, *renamed.values()]:
        if name is not None and name not in KINDS and (name != LEFT_OUT or name == constant):
            nearest = "; plays are --kind watch --full-watch" if name in PLAYS else _nearest(name, list(KINDS))
            raise DataContractError(f"kind: {name!r} is unknown{nearest}", Columns.KIND)
    if constant is not None:
        return pd.Series([constant] * len(table), index=table.index, dtype=object)
    if Columns.KIND not in columns:
        raise DataContractError(
            f"kind: {path} says nowhere what its rows are; {_likely_kind(table, columns)}, or give one kind for all: "
            f"--kind {'rating' if Columns.VALUE in columns else 'click'}, or another of {', '.join(KINDS)}",
            Columns.KIND,
        )
    texts = frames.ids(table[columns[Columns.KIND]])
    return texts.map(lambda raw: renamed.get(raw, raw) if isinstance(raw, str) else raw)


def _likely_kind(table: pd.DataFrame, columns: dict[str, str]) -> str:
    free = [column for column in map(str, table.columns) if column not in columns.values()]
    likely = next((name for name in free if _has_kinds(table[name].head(LOOKED_AT), USUAL_KINDS)), None)
    return f"name their column: --map kind={likely or '...'}"


def _likely_time(table: pd.DataFrame) -> str:
    names = [name for name in map(str, table.columns) if re.search(r"date|time|_at$", name, re.IGNORECASE)]
    return " or ".join(names[:4]) or "..."


def _moments(table: pd.DataFrame, columns: dict[str, str], path: Path | str, reading: _Reading) -> pd.Series:
    order = reading.options.order
    if order not in (None, "row", "none"):
        raise DataContractError(
            f"order: {order!r} is unknown; 'row' takes the rows' order for their time, 'none' no time at all"
        )
    if order is not None:
        of_pair = (frames.ids(table[columns[name]]) for name in (Columns.USER_ID, Columns.ITEM_ID))
        times = row_times(len(table)) if order == "row" else shuffled_times(*of_pair)
        return pd.Series(times.tolist(), index=table.index, dtype=object)
    if Columns.EVENT_TIMESTAMP not in columns:
        raise DataContractError(
            f"event_timestamp: {path} has no such column among {', '.join(map(str, table.columns))}; name it: "
            f"--map event_timestamp={_likely_time(table)}. If the rows have no times but are in the order of time: "
            f"--order row, which is measured before it is believed. {NO_ORDER}",
            Columns.EVENT_TIMESTAMP,
        )
    return reading.times(table[columns[Columns.EVENT_TIMESTAMP]])


def _entities(type_name: str, source: Path | pd.DataFrame | None, reading: _Reading) -> pd.DataFrame:
    """The rows of a table of items or users: the id, and every other column as an attribute."""
    options, (known, further, example) = reading.options, ENTITIES[type_name]
    id_column = known[0]
    if source is None:
        return frames.entity_frame(id_column)
    named = parse_map(getattr(options, f"{type_name}s_map"))
    for name in named:
        if not name.isidentifier():
            raise DataContractError(f"map: {name!r} is no name for an attribute (letters, digits and _)", name)
    option, given = f"--{type_name}s-columns {example}", getattr(options, f"{type_name}s_columns")
    table, path = reading.table(type_name, source, options.layout(option, given, named)), called(source)
    if type_name == "item" and (options.items_long or _is_long(table.frame, named)):
        return _long_items(table, path, named, reading)
    taken = named_columns(table.frame, named, known, path)
    guessed = _guesses(table.frame, taken, (id_column,), ("id",))
    guessed |= _guesses(table.frame, taken | guessed, further)
    taken = reading.take(type_name, taken, guessed)
    identifiers = reading.ids(table, id_column, required_column(table.frame, taken, id_column, path))
    mapped = set(taken) | set(taken.values())
    columns = {name: column for name, column in taken.items() if name != id_column}
    columns |= {column: column for column in map(str, table.frame.columns) if column not in mapped}
    attributes, faults = _attributes(type_name, table, columns, reading)
    for place, (name, why) in faults.items():
        row = {id_column: identifiers.iloc[place], Columns.ATTRIBUTES: attributes[place]}
        row[Columns.EVENT_TIMESTAMP] = frames.FIRST_MOMENT
        reading.rejected[type_name].append(Rejection(place, row, f"attributes.{name}", f"attributes.{name}: {why}"))
    entities = frames.entity_frame(id_column, identifiers, attributes)
    return entities.drop(index=list(faults)).reset_index(drop=True)


def _attributes(
    type_name: str, table: Table, columns: dict[str, str], reading: _Reading
) -> tuple[list[dict[str, Any]], dict[int, tuple[str, str]]]:
    """Of each row those of these columns that have a value; of rows with a bad vector, its name and what is wrong."""
    cells: dict[str, list[Any]] = {}
    faults: dict[int, tuple[str, str]] = {}
    for name, column in columns.items():
        vectors = frames.vectors(table.frame[column])
        if vectors is None:
            cells[name] = _attribute(name, table.frame[column], table.typed)
        else:
            cells[name], wrong, length = vectors
            faults |= {place: (name, why) for place, why in wrong.items()}
            reading.say(f"{type_name}s: {name} has vectors of {length:,} numbers")
    rows = zip(*cells.values(), strict=True) if cells else [()] * len(table.frame)
    return [frames.without_absent(dict(zip(cells, row, strict=True))) for row in rows], faults


def _is_long(table: pd.DataFrame, named: dict[str, str]) -> bool:
    """Whether the names of its columns say that a table is a long one."""
    taken = {name: column for name, column in named.items() if name in LONG_COLUMNS}
    taken |= {name: name for name in LONG_COLUMNS if name in table.columns and name not in taken}
    taken |= _guesses(table, taken, LONG_COLUMNS)
    return set(taken) == set(LONG_COLUMNS) and set(taken.values()) == set(map(str, table.columns))


def _long_items(table: Table, path: Path | str, named: dict[str, str], reading: _Reading) -> pd.DataFrame:
    """The versions of items that a long table tells of, each with its time, as all that was told of the item by then.

    Rows without an item, a property or a time are turned away; without a column of times a row holds from now on.
    """
    taken = named_columns(table.frame, named, LONG_COLUMNS, path)
    guessed = _guesses(table.frame, taken, LONG_COLUMNS)
    reading.take("item", taken, guessed)
    taken |= guessed
    for name in LONG_COLUMNS[:-1]:
        required_column(table.frame, taken, name, path)
    has_times = Columns.EVENT_TIMESTAMP in taken
    rows = pd.DataFrame({
        Columns.ITEM_ID: reading.ids(table, Columns.ITEM_ID, taken[Columns.ITEM_ID]),
        PROPERTY: frames.ids(table.frame[taken[PROPERTY]]),
        Columns.VALUE: frames.absent_as_none(table.frame[taken[Columns.VALUE]]),
        Columns.EVENT_TIMESTAMP: reading.times(table.frame[taken[Columns.EVENT_TIMESTAMP]])
        if has_times
        else frames.FIRST_MOMENT,
    }).astype(object)  # fmt: skip
    wanted = {Columns.ITEM_ID: str, PROPERTY: str, Columns.EVENT_TIMESTAMP: int}
    sound = np.logical_and.reduce([rows[name].map(type).eq(kind) for name, kind in wanted.items()])
    reason = "row: the item, the property or the time is absent or not understood"
    reading.rejected["item"] += [Rejection(0, row, None, reason) for row in rows[~sound].to_dict("records")]
    rows = rows[sound]
    values = np.empty(len(rows), object)
    for name, places in rows.groupby(PROPERTY).indices.items():
        values[places] = pd.Series(_attribute(name, rows[Columns.VALUE].iloc[places], table.typed), dtype=object)
    rows = rows.assign(**{Columns.VALUE: values})
    rows = rows.iloc[
        np.lexsort((rows[Columns.EVENT_TIMESTAMP].astype("int64"), pd.factorize(rows[Columns.ITEM_ID])[0]))
    ]
    versions: list[tuple[str, int, dict[str, Any]]] = [("", 0, {})]
    for item_id, name, value, time in rows.itertuples(index=False, name=None):
        if versions[-1][:2] != (item_id, time):
            versions.append((item_id, time, dict(versions[-1][2]) if versions[-1][0] == item_id else {}))
        versions[-1][2][name] = value
    told = [(item_id, time, frames.without_absent(attributes)) for item_id, time, attributes in versions]
    told = [new for old, new in pairwise(told) if (old[0], old[2]) != (new[0], new[2])]
    reading.say(f"items: a row is one property; {len(rows):,} rows make {len(told):,} versions of items")
    ids = pd.Series([item_id for item_id, _, _ in told], dtype=object)
    frame = frames.entity_frame(Columns.ITEM_ID, ids, [attributes for _, _, attributes in told])
    return frame.assign(**{Columns.EVENT_TIMESTAMP: pd.Series([time for _, time, _ in told], dtype=object)})


def _attribute(name: str, column: pd.Series, is_typed: bool) -> list[Any]:
    if name == Columns.GENRES:
        return frames.split_lists(column).tolist()
    if name == Columns.YEAR:
        return [frames.plain(raw) for raw in frames.numbers(column)]
    cells = frames.absent_as_none(column).tolist()
    if name == Columns.TITLE:
        return [raw if raw is None else html.unescape(str(frames.plain(raw))) for raw in cells]
    is_text = not is_typed and all(raw is None or isinstance(raw, str) for raw in cells)
    return typed(name, cells) if is_text else [frames.plain(raw) for raw in cells]


def _refuse_lists(item_ids: pd.Series, column: str) -> None:
    """Raise DataContractError where most ids are several ('N1 N2'): words with digits, not names."""
    sample = [raw.split() for raw in item_ids.head(LOOKED_AT) if isinstance(raw, str)]
    words = [word for parts in sample for word in parts]
    with_digits = sum(any(map(str.isdigit, word)) for word in words)
    if 2 * sum(len(parts) > 1 for parts in sample) > len(sample) and with_digits > 0.9 * len(words):
        raise DataContractError(
            f"item_id: {' '.join(sample[0])[:60]!r} is a list of ids. Shown items with clicks are read by "
            f"`attune import impressions`; else --explode {column} makes a row of each id",
            Columns.ITEM_ID,
        )


def _compare_ids(name: str, behaviour: pd.DataFrame, described: pd.DataFrame, say: Say) -> None:
    """Raise DataContractError where most ids that no table describes are described without leading zeros or '.0'."""
    one, other = ({raw for raw in frame[name] if isinstance(raw, str)} for frame in (behaviour, described))
    plain, others = (
        {word.removesuffix(".0").lstrip("0"): word for word in words} for words in (one - other, other - one)
    )
    common = plain.keys() & others.keys()
    if common and 2 * len(common) >= len(plain):
        word = min(common)
        raise DataContractError(
            f"{name}: {plain[word]!r} in the interactions is {others[word]!r} in its table; "
            "write each id in one way in both",
            name,
        )
    if one and other and not one & other:
        say(f"{name}: none of the {len(one):,} in the interactions is in the other table; is it mapped rightly?")
