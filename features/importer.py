"""Outside rows into the event log, exactly once: every row is accepted, a repeat, or quarantined with its reason.

Each imported version of an item (or user) is an event whose id is made of the item's id and the version's number (0, 1,
... without a gap). A row speaks of the attributes that its source has columns for; what else is known of the item stays
as it is. A source's first rows for an item that say what the log's latest versions say, in that order, are repeats; the
rest become new versions. So after an import the latest versions say what the source says, the same source again repeats
everything, and an old version takes effect again if another came in between, by import or over HTTP. When two imports
at once give one item the same number, the log refuses the later one.

Every import is noted with what it brought (``attune.imports``) and can be withdrawn (``features.withdrawal``). A row
that was withdrawn comes back under another id, made of its own: the log keeps both, and the take-back of the first.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from itertools import count as count_from
from itertools import groupby, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, TypeVar

import msgspec
import numpy as np
import pandas as pd

from attune.clock import SECOND, SHUFFLED, Clock, from_datetime
from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_log import EventLog, QuarantinedRow
from attune.events import CONTENT, TYPES, AnyEvent, Behaviour, Feedback, Interaction, Item, Slate, User, is_hidden
from attune.imports import content_id
from attune.row_rules import Rejection, admit, admit_all
from features.export import exported
from features.sources.frames import FIRST_MOMENT, INTERACTION_COLUMNS, SourceFrames, without_absent

CHUNK = 5_000
FIRST_ROWS = 20
"""Rows by which a file in row order is recognised as one that was imported before."""

ID_TAKEN = "event_id: it stands in the log with another content"
ID_SHARED = "event_id: it stands for several rows; if it is not a row's own id, rename the column"

NO_TIME = 2**62
"""Stands for a time that is not understood, later than every other."""

Row = TypeVar("Row")

Count = Callable[[int, int], None]
"""Told how many of how many rows are done."""


def uncounted(done: int, total: int) -> None:
    """Tells nobody."""


@dataclass
class Tally:
    """What became of some rows; ``rows_in`` is always ``accepted + repeated + quarantined``.

    ``reasons`` counts the quarantined rows by the rule that they broke, told by the first row's reason.
    """

    rows_in: int = 0
    accepted: int = 0
    repeated: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass
class ImportReport(Tally):
    """The tally of the interactions, and beside it those of the item and the user rows, and of the slates.

    ``shown_again`` are the items that were retired or not available, and are shown since a row says so.
    """

    items: Tally = field(default_factory=Tally)
    users: Tally = field(default_factory=Tally)
    slates: Tally = field(default_factory=Tally)
    shown_again: list[str] = field(default_factory=list)


def new_versions(
    log: EventLog, given: Sequence[AnyEvent], columns: Collection[str] = ()
) -> tuple[list[AnyEvent], list[str]]:
    """The items or users (one of both), in their order, that say something new, as the versions that follow the log's.

    A version has what the event says and what else the log knows; of attributes among the ``columns`` the event says
    all, so those that it lacks are not known any more. Also gives the items that were retired or not available, and are
    shown again since an event says so.
    """
    events = [event for event in given if isinstance(event, Item | User)]
    places: dict[str, list[int]] = {}
    for place, event in enumerate(events):
        places.setdefault(_name(event), []).append(place)
    fresh: dict[int, AnyEvent] = {}
    shown_again: list[str] = []
    for _, names in _chunks(list(places), CHUNK):
        logged = log.versions(TYPES[type(events[0])], names)
        for name in names:
            known = [version for _, version in logged.get(name, ())]
            news = _news(known, [events[place] for place in places[name]], columns)
            fresh |= {place: event for place, event in zip(places[name], news, strict=True) if event is not None}
            if known and news[-1] is not None and is_hidden(_known(known)) and not is_hidden(news[-1].attributes):
                shown_again.append(name)
    return [fresh[place] for place in sorted(fresh)], shown_again


def _news(
    known: Sequence[Item | User], told: Sequence[Item | User], columns: Collection[str]
) -> list[Item | User | None]:
    """Each of the events of one item (or user) as its next version, or None where it repeats what is known.

    Events and versions are compared by the attributes that the events speak of.
    """
    names = {name for event in told for name in event.attributes} | set(columns)

    def distinct(events: Sequence[Item | User]) -> tuple[list[dict[str, Any] | None], list[int]]:
        """What the events say, one after another without repetition, and the place of each event among it."""
        states: list[dict[str, Any] | None] = []
        places = []
        for event in events:
            state = {name: value for name, value in without_absent(event.attributes).items() if name in names}
            if not states or states[-1] != state:
                states.append(state)
            places.append(len(states) - 1)
        return states, places

    states, places = distinct(told)
    number, attributes = _number(told[0], known), _known(known)
    known = () if known and _is_withdrawn(known) else known
    last = distinct(known)[0][-len(states) :]
    repeated = next(count for count in range(len(last), -1, -1) if last[len(last) - count :] == states[:count])
    latest = max((version.event_timestamp for version in known), default=FIRST_MOMENT)
    news: list[Item | User | None] = []
    for event, place in zip(told, places, strict=True):
        time, said = event.event_timestamp, event.attributes
        if FIRST_MOMENT < time < latest:  # what was told of later times stands
            then = next((version.attributes for version in reversed(known) if version.event_timestamp <= time), {})
            said = {name: value for name, value in said.items() if then.get(name) == _known(known).get(name)}
        kept = {name: value for name, value in attributes.items() if name not in columns}
        merged = without_absent({**kept, **said})
        if place < repeated or (said is not event.attributes and merged == attributes):
            news.append(None)
            continue
        attributes, repeated = merged, place + 1
        event_id, number = content_id(_key(event), number), number + 1
        news.append(
            msgspec.structs.replace(
                event, event_id=event_id, event_timestamp=max(time, latest) if time else time, attributes=attributes
            )
        )
    return news


def _known(versions: Sequence[Item | User]) -> dict[str, Any]:
    """The attributes as of the last version: none where the import that brought the item was withdrawn."""
    return {} if not versions or _is_withdrawn(versions) else versions[-1].attributes


def _is_withdrawn(versions: Sequence[Item | User]) -> bool:
    """Whether the last version is the bare retirement of ``features.withdrawal``: all others keep what was known."""
    last = versions[-1]
    return len(versions) > 1 and last.event_timestamp == FIRST_MOMENT and last.attributes == {Columns.RETIRED: True}


def next_versions(log: EventLog, events: Sequence[Item | User]) -> list[AnyEvent]:
    """The items or users (one of both, each once) with the ids of the versions that follow the log's, equal or not."""
    logged = log.versions(TYPES[type(events[0])], [_name(event) for event in events])
    known = {name: [version for _, version in versions] for name, versions in logged.items()}
    return [
        msgspec.structs.replace(event, event_id=content_id(_key(event), _number(event, known.get(_name(event), ()))))
        for event in events
    ]


def _name(event: Item | User) -> str:
    return event.item_id if isinstance(event, Item) else event.user_id


def _key(event: Item | User) -> str:
    return f"{TYPES[type(event)]}\x1f{_name(event)}"


def _number(event: Item | User, known: Sequence[Item | User]) -> int:
    """The number of the version that follows the known ones that were imported."""
    ids = {version.event_id for version in known}
    return next(number for number in count_from(0) if content_id(_key(event), number) not in ids)


def in_order(frames: SourceFrames) -> pd.DataFrame:
    """All interactions sorted by (event_timestamp, original order), each with its ``event_id``; index 0..n-1.

    A row without an id of its own gets a hash of its content and its number among equal rows of the whole source, so a
    slice of this frame holds the ids that a whole import would give. Rows whose time is not understood stand last.
    """
    frame = frames.interactions.reset_index(drop=True)
    times = [raw if type(raw) is int and abs(raw) < NO_TIME else NO_TIME for raw in frame[Columns.EVENT_TIMESTAMP]]
    frame = frame.iloc[np.argsort(np.array(times, dtype=np.int64), kind="stable")]
    contents = ["\x1f".join(map(repr, row)) for row in zip(*(frame[name] for name in INTERACTION_COLUMNS), strict=True)]
    for name in (Columns.RETRACTS, Columns.SLATE_ID):
        if name in frame:
            contents = [f"{row}\x1f{other}" if other else row for row, other in zip(contents, frame[name], strict=True)]
    column = pd.Series(contents, dtype=object)
    numbers = column.groupby(column, sort=False).cumcount()
    ids = [content_id(f"interaction\x1f{content}", number) for content, number in zip(contents, numbers, strict=True)]
    if Columns.EVENT_ID in frame:
        ids = [given or own for given, own in zip(frame[Columns.EVENT_ID], ids, strict=True)]
    return frame.reset_index(drop=True).assign(**{Columns.EVENT_ID: ids})


def _after_earlier_rows(log: EventLog, frames: SourceFrames, clock: Clock) -> SourceFrames:
    """A source in row order, its times after those of all such rows in the log.

    Where most of the first rows are in the log already the source, or a shorter one, was imported before: it keeps the
    times that it had, so that its rows repeat.
    """
    rows = frames.interactions.reset_index(drop=True)
    admitted = admit_all("interaction", rows.head(CHUNK).to_dict("records"), clock)[0][:FIRST_ROWS]
    first = [event for event in admitted if isinstance(event, Interaction)]
    users = list(dict.fromkeys(event.user_id for event in first))
    logged = [entry.event for tail in log.tails([(user_id, 0) for user_id in users]) for entry in tail]
    starts = {
        there.event_timestamp - here.event_timestamp
        for here in first
        for there in logged
        if isinstance(there, Interaction) and there.event_timestamp < SHUFFLED
        if (there.user_id, there.item_id, there.kind) == (here.user_id, here.item_id, here.kind)
    }
    first_rows = rows[rows[Columns.EVENT_TIMESTAMP].isin([event.event_timestamp for event in first])]

    def placed(part: pd.DataFrame, start: int) -> SourceFrames:
        times = (part[Columns.EVENT_TIMESTAMP].astype(np.int64) + start).astype(object)
        return replace(frames, interactions=part.assign(**{Columns.EVENT_TIMESTAMP: times}))

    for start in sorted(starts):
        ids = in_order(placed(first_rows, start))[Columns.EVENT_ID].tolist()
        if 2 * len(log.digests(ids)) > len(ids):
            return placed(rows, start)
    return placed(rows, log.last_time_before(SHUFFLED, -SECOND) + SECOND)


def _renewed(log: EventLog, events: Sequence[AnyEvent], told: Collection[str]) -> Sequence[AnyEvent]:
    """The events with the ids that they have now; ``told`` are those of the source's own take-backs."""
    names = (name for event in events for name in (event.event_id, _retracted(event), _slate(event)) if name)
    current = log.current_ids(names, told)
    if all(name == now for name, now in current.items()):
        return events
    return [_with_ids(event, current) for event in events]


def _retracted(event: AnyEvent) -> str | None:
    return event.retracts if isinstance(event, Behaviour) else None


def _slate(event: AnyEvent) -> str | None:
    return event.slate_id if isinstance(event, Feedback) else None


def _with_ids(event: AnyEvent, current: Mapping[str, str]) -> AnyEvent:
    back = _retracted(event)
    if isinstance(event, Feedback):
        event = msgspec.structs.replace(event, slate_id=current[event.slate_id])
    if back is None or current[back] == back:
        return msgspec.structs.replace(event, event_id=current[event.event_id])
    other_id = content_id(f"{event.event_id}\x1f{current[back]}", 0)  # other content, and so another event
    return msgspec.structs.replace(event, event_id=other_id, retracts=current[back])


@dataclass(frozen=True)
class Admitted:
    """What the row rules made of a source's rows of one type: events, and the rows that they turned away.

    ``columns`` are the attributes of which rows without a time speak.
    """

    events: Sequence[AnyEvent]
    rejected: Sequence[Rejection]
    columns: frozenset[str]

    def expected(self) -> Tally:
        """The tally of an import into an empty log: what another log would repeat counts as accepted."""
        first: dict[str, AnyEvent] = {}
        if len({event.event_id for event in self.events}) < len(self.events):
            shared = [event for event in self.events if first.setdefault(event.event_id, event) != event]
        else:
            shared = []
        refused = [*self.rejected, *(Rejection(0, {}, Columns.EVENT_ID, ID_SHARED) for _ in shared)]
        return _expected(len(self.events) + len(self.rejected), refused)


def admit_source(
    frames: SourceFrames,
    clock: Clock,
    log: EventLog | None = None,
    after: int | None = None,
    upto: int | None = None,
    count: Count = uncounted,
) -> dict[str, Admitted]:
    """A source's rows as events, by type (item, user, slate, interaction); nothing is written.

    ``log`` is the one into which they are to go: rows in row order follow those that it has. ``after`` and ``upto``
    count rows of ``in_order(frames)``: rows [after, upto) are looked at, all by default (what the reader turned away
    comes with the first slice). ``count`` is told how many of all interactions are done.
    """
    frames = _after_earlier_rows(log, frames, clock) if log is not None and frames.by_row else frames
    admitted: dict[str, Admitted] = {}
    for type_name, rows in (
        ("item", _entity_rows(frames.items, Columns.ITEM_ID)),
        ("user", _entity_rows(frames.users, Columns.USER_ID)),
        ("slate", frames.slates),
        ("interaction", in_order(frames).iloc[after or 0 : upto]),
    ):
        turned_away = () if after else frames.rejected.get(type_name, ())
        rejected = [replace(row, row_number=number) for number, row in enumerate(turned_away, len(rows))]
        events: list[AnyEvent] = []
        columns: set[str] = set()
        for start in range(0, len(rows), CHUNK):
            chunk = rows.iloc[start : start + CHUNK].to_dict("records")
            sound, refused = _admitted(type_name, chunk, clock)
            events += sound
            rejected += [replace(row, row_number=start + row.row_number) for row in refused]
            if type_name == "interaction":
                count(start + len(chunk), len(rows))
            elif type_name != "slate":
                untimed = (row for row in chunk if row[Columns.EVENT_TIMESTAMP] == FIRST_MOMENT)
                columns.update(name for row in untimed for name in row[Columns.ATTRIBUTES])
        admitted[type_name] = Admitted(events, rejected, frozenset(columns))
    return admitted


def expected_report(admitted: Mapping[str, Admitted]) -> ImportReport:
    """What ``import_admitted`` would do were the log empty."""
    items, users, slates, behaviour = (admitted[name].expected() for name in ("item", "user", "slate", "interaction"))
    return ImportReport(**vars(behaviour), items=items, users=users, slates=slates)


def _type(type_name: str, row: Mapping[str, Any]) -> str:
    """What a row becomes: a click on an imported slate is feedback."""
    return "feedback" if type_name == "interaction" and isinstance(row.get(Columns.SLATE_ID), str) else type_name


def _admitted(
    type_name: str, rows: Sequence[Mapping[str, Any]], clock: Clock
) -> tuple[list[AnyEvent], list[Rejection]]:
    events, refused, start = list[AnyEvent](), list[Rejection](), 0
    for name, run in groupby(rows, lambda row: _type(type_name, row)):
        part = list(run)
        admitted, bad_rows = admit_all(name, part, clock)
        events += admitted
        refused += [replace(row, row_number=start + row.row_number) for row in bad_rows]
        start += len(part)
    return events, refused


def import_admitted(
    log: EventLog,
    admitted: Mapping[str, Admitted],
    source: str,
    options: Mapping[str, Any] | None = None,
    count: Count = uncounted,
) -> ImportReport:
    """Append a source's items, users and interactions to the log.

    Importing the same rows again adds nothing; an item's or a user's row that differs from what the log knew last takes
    effect (``features.importer``).
    ``source`` names the origin, in quarantine and in the list of imports, which also keeps the ``options`` that the
    source was read by. ``count`` is told how many of all interactions are done.
    Raises EventLogError when the log cannot take the events.
    """
    report = ImportReport()
    import_id = log.imports.begin(source, options or {})
    told = {event.event_id for event in admitted["interaction"].events if _retracted(event) is not None}
    tallies = {"item": report.items, "user": report.users, "slate": report.slates, "interaction": report}
    for type_name, tally in tallies.items():
        part = admitted[type_name]
        events, rejected, has_versions = part.events, list(part.rejected), type_name in ("item", "user")
        tally.rows_in = len(events) + len(rejected)
        if has_versions:
            events, shown_again = new_versions(log, events, part.columns)
            report.shown_again += shown_again
            tally.repeated = len(part.events) - len(events)
        for start, chunk in _chunks(events, CHUNK):
            chunk = chunk if has_versions else _renewed(log, chunk, told)
            rejected += _append(log, chunk, start, tally, import_id)
            if type_name == "interaction":
                count(start + len(chunk), len(events))
        for name in (type_name, "feedback"):
            log.quarantine(name, source, [row for row in rejected if _type(type_name, row.row) == name], import_id)
        _count_rejected(tally, rejected)
    log.imports.end(import_id, asdict(report))
    return report


def import_source(
    log: EventLog,
    frames: SourceFrames,
    clock: Clock,
    source: str,
    upto: int | None = None,
    after: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> ImportReport:
    """``admit_source`` and ``import_admitted``, however much is turned away."""
    return import_admitted(log, admit_source(frames, clock, log, after, upto), source, options)


def readmit(log: EventLog, clock: Clock, source: str = "", edited: Mapping[int, Any] | None = None) -> Tally:
    """Bring open rows of the quarantine into the log that the rules admit by now; they are open no longer.

    ``source`` is how their source begins; ``edited`` are rows by their id in quarantine, in place of those kept there,
    and then no others are tried. Times may be microseconds or ISO 8601 with a zone. Each row comes in once, whatever is
    killed or repeated; it keeps its event id, or gets one made of its place in quarantine.
    """
    tally, rejected, after = Tally(), list[Rejection](), 0
    import_id: int | None = None
    while rows := log.quarantined_rows(after, CHUNK, source):
        after = rows[-1].id
        admitted: dict[str, list[tuple[int, AnyEvent]]] = {}
        for row in rows:
            if edited is not None and row.id not in edited:
                continue
            tally.rows_in += 1
            content = row.row if edited is None else edited[row.id]
            try:
                event = admit(row.type, _completed(content, row), clock)
            except DataContractError as error:
                rejected.append(Rejection(row.id, content, error.field, str(error), error.rule))
                continue
            admitted.setdefault(row.type, []).append((row.id, event))
        for type_name, pairs in admitted.items():
            if import_id is None:
                import_id = log.imports.begin(f"quarantine {source}".rstrip(), {})
            ids, events = [number for number, _ in pairs], [event for _, event in pairs]
            fresh = new_versions(log, events)[0] if type_name in ("item", "user") else events
            tally.repeated += len(events) - len(fresh)
            refused = _append(log, fresh, 0, tally, import_id)
            open_ids = {ids[row.row_number] for row in refused} if fresh is events else set(ids if refused else ())
            log.settle_quarantined([number for number in ids if number not in open_ids])
            rejected += refused
    _count_rejected(tally, rejected)
    if import_id is not None:
        log.imports.end(import_id, asdict(tally))
    return tally


def _completed(content: Any, row: QuarantinedRow) -> Any:
    """A quarantined row's content with an event id, and its time in microseconds; HTTP's rows may leave both out."""
    if not isinstance(content, Mapping):
        return content
    time = content.get(Columns.EVENT_TIMESTAMP)
    if time is None and row.source.startswith("http:"):
        time = row.stored_at
    if isinstance(time, str):
        with suppress(ValueError):
            moment = datetime.fromisoformat(time)
            time = from_datetime(moment) if moment.tzinfo else time
    return {**content, Columns.EVENT_TIMESTAMP: time, Columns.EVENT_ID: content.get(Columns.EVENT_ID) or row.event_id}


def import_log(
    log: EventLog, folder: Path, clock: Clock, source: str, check: Callable[[Tally], None] = lambda expected: None
) -> Tally:
    """Append what ``features.export.export`` wrote: ids, times, values and take-backs as they were, in the same order.

    Positions and times of logging are this log's own; items that a withdrawal retired are as the export says again.
    Before anything is written ``check`` is told what would be accepted or repeated (not told apart) and turned away,
    and may raise. The files are read once: their events wait in a temporary one, since slates may not fit in memory.
    Raises DataContractError when ``folder`` is no export, EventLogError when the log cannot take the events.
    """
    tally, items = Tally(), dict[str, Item]()
    rejected: dict[str, list[Rejection]] = {name: [] for name in TYPES.values()}
    with TemporaryFile() as staged:
        told, count = _stage(folder, clock, staged, rejected)
        refused = [bad for bad_rows in rejected.values() for bad in bad_rows]
        tally.rows_in = count + len(refused)
        for events in _staged_chunks(log, staged, told):
            known = log.digests([event.event_id for event in events])
            taken = [event for event in events if event.event_id in known and known[event.event_id] != event.digest()]
            refused += [Rejection(0, {}, Columns.EVENT_ID, ID_TAKEN) for _ in taken]
        check(_expected(tally.rows_in, refused))
        import_id, start = log.imports.begin(source, {"log": str(folder)}), 0
        for events in _staged_chunks(log, staged, told):
            items |= {event.item_id: event for event in events if isinstance(event, Item)}
            for bad in _append(log, events, start, tally, import_id):
                rejected[bad.row["type"]].append(bad)
            start += len(events)
    for _, names in _chunks(list(items), CHUNK):
        versions = {name: [item for _, item in known] for name, known in log.versions("item", names).items()}
        retired = [items[name] for name, known in versions.items() if _is_withdrawn(known)]
        if back := [item for item in retired if item.attributes != {Columns.RETIRED: True}]:
            _append(log, next_versions(log, back), 0, Tally(), import_id)
    for name, bad_rows in rejected.items():
        log.quarantine(name, source, bad_rows, import_id)
    _count_rejected(tally, [bad for bad_rows in rejected.values() for bad in bad_rows])
    log.imports.end(import_id, asdict(tally))
    return tally


def _stage(
    folder: Path, clock: Clock, staged: IO[bytes], rejected: Mapping[str, list[Rejection]]
) -> tuple[set[str], int]:
    """Write an export's events to ``staged``, a line each, and add to ``rejected`` what the rules turn away, by type.

    Gives the ids of the take-backs, and how many events it staged.
    """
    told, count = set[str](), 0
    for number, (_, name, row) in enumerate(exported(folder)):
        try:
            event = _exported_event(name, row, clock)
        except DataContractError as error:
            rejected[name].append(Rejection(number, row, error.field, str(error), error.rule))
            continue
        staged.write(CONTENT.encode(event) + b"\n")
        count += 1
        if _retracted(event) is not None:
            told.add(event.event_id)
    return told, count


def _staged_chunks(log: EventLog, staged: IO[bytes], told: Collection[str]) -> Iterator[Sequence[AnyEvent]]:
    """The staged events with the ids that they have now."""
    decode = msgspec.json.Decoder(AnyEvent).decode
    staged.seek(0)
    while lines := list(islice(staged, CHUNK)):
        yield _renewed(log, [decode(line) for line in lines], told)


def _exported_event(type_name: str, row: dict[str, Any], clock: Clock) -> AnyEvent:
    if type_name != TYPES[Slate]:
        return admit(type_name, row, clock, given={}, is_stored=True)  # of older logs, too
    try:
        return msgspec.convert(row, Slate)
    except msgspec.ValidationError as error:
        raise DataContractError(f"slate: {error}") from error


def _entity_rows(frame: pd.DataFrame, id_column: str) -> pd.DataFrame:
    timed = frame if Columns.EVENT_TIMESTAMP in frame else frame.assign(**{Columns.EVENT_TIMESTAMP: FIRST_MOMENT})
    return timed[[id_column, Columns.ATTRIBUTES, Columns.EVENT_TIMESTAMP]]


def _expected(rows_in: int, refused: Sequence[Rejection]) -> Tally:
    tally = Tally(rows_in, rows_in - len(refused))
    _count_rejected(tally, refused)
    return tally


def _count_rejected(tally: Tally, rejected: Sequence[Rejection]) -> None:
    """Count rows by the rule that each broke, the most first; a rule is told by the first reason that names it."""
    tally.quarantined = len(rejected)
    broken: dict[str, Counter[str]] = {}
    for row in rejected:
        broken.setdefault(row.rule or row.reason, Counter())[row.reason] += 1
    counts: Counter[str] = Counter()
    for reasons in broken.values():
        others = f" (and {len(reasons) - 1:,} other values)" if len(reasons) > 1 else ""
        counts[next(iter(reasons)) + others] += reasons.total()
    tally.reasons = dict(counts.most_common())


def _append(log: EventLog, events: Sequence[AnyEvent], start: int, tally: Tally, import_id: int) -> list[Rejection]:
    """Log the events, one by one where a chunk holds one that cannot be stored; gives back what was refused."""
    try:
        appended = log.append(events, import_id)
    except DataContractError as error:
        if len(events) == 1:
            return [Rejection(start, msgspec.to_builtins(events[0]), error.field, str(error), error.rule)]
        return [
            bad for place, event in enumerate(events) for bad in _append(log, [event], start + place, tally, import_id)
        ]
    tally.accepted += appended.accepted
    tally.repeated += appended.repeated
    return [
        Rejection(start + place, msgspec.to_builtins(events[place]), Columns.EVENT_ID, ID_TAKEN)
        for place in appended.conflicts
    ]


def _chunks(rows: Sequence[Row], size: int) -> Iterator[tuple[int, Sequence[Row]]]:
    for start in range(0, len(rows), size or 1):
        yield start, rows[start : start + size]
