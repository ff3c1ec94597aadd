import csv
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from attune.clock import DAY, HOUR, SECOND, Clock
from attune.event_log import EventLog, prepare
from attune.events import AnyEvent, Feedback, Interaction, Item
from attune.influence import NEWCOMER, PopularityCounts
from attune.item_profile import ItemProfile
from features.export import export
from features.importer import ImportReport, admit_source, expected_report, import_log, import_source, in_order
from features.labels import BURST, Terms, that_counts
from features.lake import Lake
from features.sources import movielens, tabular

ROWS = [
    ("u1", "i1", "4", "1000"),
    ("u2", "i1", "2", "900"),
    ("u1", "i1", "4", "1000"),
    ("u1", "", "4", "1000"),
    ("u1", "", "4", "1000"),
    ("u3", "i2", "9", "1000"),
    ("u3", "i2", "3", ""),
    ("u3", "i2", "3", "yesterday"),
    ("u3", "i2", "3", "99999999999"),
    ("u3", "i3", "5", "1000"),
]


def write(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("u", "i", "r", "t")) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def frames(path: Path) -> tabular.SourceFrames:
    return tabular.read(path, mapping="user_id=u,item_id=i,value=r,event_timestamp=t", kind="rating", unit="s")


def adds_up(report: ImportReport) -> bool:
    return all(
        tally.rows_in == tally.accepted + tally.repeated + tally.quarantined
        and sum(tally.reasons.values()) == tally.quarantined
        for tally in (report, report.items, report.users)
    )


def test_every_row_is_accepted_or_quarantined_with_its_reason(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    report = import_source(log, frames(write(tmp_path / "a.csv", ROWS)), clock, "a")
    assert (report.rows_in, report.accepted, report.repeated, report.quarantined) == (10, 4, 0, 6)
    assert adds_up(report)
    fields = {reason.split(":")[0] for reason in report.reasons}
    assert fields == {"item_id", "value", "event_timestamp"}
    assert any("future" in reason for reason in report.reasons)
    assert any("'yesterday' is not a time" in reason for reason in report.reasons)
    assert log.quarantined() == 6
    times = [logged.event.event_timestamp for logged in log.read(0, 100)]
    assert times == [900 * SECOND, 1000 * SECOND, 1000 * SECOND, 1000 * SECOND]


def test_what_is_expected_of_an_import_is_what_becomes_of_it(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    shared = [(*row, f"own-{number % 9}") for number, row in enumerate(ROWS)]  # the last row has the id of the first
    source = tabular.read(
        write(tmp_path / "a.csv", shared, ("u", "i", "r", "t", "event_id")),
        write(tmp_path / "items.csv", [("i1", "x"), ("", "y")], ("item_id", "title")),
        mapping="user_id=u,item_id=i,value=r,event_timestamp=t", kind="rating", unit="s",
    )  # fmt: skip
    expected = expected_report(admit_source(source, clock))
    assert (log.head(), log.imports.latest(1)) == (0, [])
    report = import_source(log, source, clock, "a")
    for told, became in ((expected, report), (expected.items, report.items), (expected.users, report.users)):
        assert (told.rows_in, told.accepted, told.quarantined) == (became.rows_in, became.accepted, became.quarantined)
    assert (report.accepted, report.quarantined, report.items.quarantined) == (3, 7, 1)


def test_importing_again_repeats_everything_and_loses_nothing(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    source = frames(write(tmp_path / "a.csv", ROWS))
    import_source(log, source, clock, "a")
    again = import_source(log, source, clock, "a")
    assert (again.accepted, again.repeated, again.quarantined) == (0, 4, 6)
    assert adds_up(again)
    assert log.head() == 4
    assert log.quarantined() == 6


def test_files_that_overlap_import_each_row_once(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    rows = [(f"u{n % 3}", f"i{n}", "4", str(1000 + n // 2)) for n in range(20)]
    import_source(log, frames(write(tmp_path / "a.csv", rows[:12])), clock, "a")
    report = import_source(log, frames(write(tmp_path / "b.csv", rows[6:])), clock, "b")
    assert (report.accepted, report.repeated) == (8, 6)
    assert log.head() == 20


def test_slices_hold_the_ids_of_a_whole_import(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    rows = [("u1", "i1", "4", "1000")] * 5 + [("u2", "i2", "4", "999")] * 2
    source = frames(write(tmp_path / "a.csv", rows))
    first = import_source(log, source, clock, "a", upto=4)
    rest = import_source(log, source, clock, "a", after=4)
    whole = import_source(log, source, clock, "a")
    assert (first.accepted, rest.accepted, whole.repeated) == (4, 3, 7)
    assert [logged.event.event_id for logged in log.read(0, 100)] == in_order(source)["event_id"].tolist()


CELLS = (["a", "b", ""], ["x", "y"], ["1", "7"], ["5", "", "6"])


@profile(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(*(st.sampled_from(cells) for cells in CELLS)), min_size=1, max_size=12),
    cut=st.integers(0, 12),
)
def test_any_rows_cut_anywhere_add_up(
    log: EventLog, clock: Clock, tmp_path: Path, rows: list[tuple[str, ...]], cut: int
) -> None:
    source = frames(write(tmp_path / "h.csv", rows))
    before = log.head()
    parts = [import_source(log, source, clock, "h", upto=cut), import_source(log, source, clock, "h", after=cut)]
    assert all(adds_up(part) for part in parts)
    assert sum(part.rows_in for part in parts) == len(rows)
    assert log.head() - before == sum(part.accepted for part in parts)


def test_a_broken_line_is_quarantined_and_the_rest_imported(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("u,i,r,t\nu1,i1,4,1000\nu1,i2,4,1000,surplus\nu2,i3\nu2,i4,5,1001\n")
    report = import_source(log, frames(path), clock, "a")
    assert (report.rows_in, report.accepted, report.quarantined) == (4, 2, 2)
    assert any("5 cells where the header names 4" in reason for reason in report.reasons)


def test_items_and_users_come_along_and_repeat(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    write(tmp_path / "i.csv", [("i1", "One", "1999", "A|B"), ("i2", "", "", ""), ("", "x", "", "")],
          ("item_id", "title", "year", "genres"))  # fmt: skip
    write(tmp_path / "u.csv", [("u1", "31")], ("user_id", "age"))
    write(tmp_path / "a.csv", [("u1", "i1", "4", "1000")], ("user_id", "item_id", "value", "event_timestamp"))
    source = tabular.read(tmp_path / "a.csv", tmp_path / "i.csv", tmp_path / "u.csv", kind="rating", unit="s")
    report = import_source(log, source, clock, "a")
    assert (report.items.rows_in, report.items.accepted, report.items.quarantined) == (3, 2, 1)
    assert (report.users.accepted, report.accepted) == (1, 1)
    again = import_source(log, source, clock, "a")
    assert (again.items.repeated, again.users.repeated, again.repeated) == (2, 1, 1)
    assert log.read(0, 1)[0].event.attributes == {"title": "One", "year": 1999, "genres": ["A", "B"]}


def test_ids_alone_by_row_order(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("1", "5"), ("1", "5"), ("2", "6")], ("user_id", "item_id"))
    report = import_source(log, tabular.read(path, kind="view", order="row"), clock, "a")
    assert report.accepted == 3
    assert [logged.event.event_timestamp for logged in log.read(0, 9)] == [0, SECOND, 2 * SECOND]


def test_an_id_that_the_log_has_with_other_content_is_quarantined(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    source = frames(write(tmp_path / "a.csv", ROWS[:2]))
    event_id = in_order(source)["event_id"][0]
    log.append([other_content(event_id)])
    report = import_source(log, source, clock, "a")
    assert (report.accepted, report.quarantined) == (1, 1)
    assert adds_up(report)


def other_content(event_id: str) -> Interaction:
    return Interaction(event_id=event_id, event_timestamp=DAY, user_id="z", item_id="z", kind="view")


def test_the_whole_of_movielens_in_seconds(log: EventLog, clock: Clock) -> None:
    source = movielens.read()
    started = time.process_time()
    report = import_source(log, source, clock, "movielens")
    seconds = time.process_time() - started
    assert (report.rows_in, report.accepted, report.quarantined) == (100_004, 100_004, 0)
    assert (report.items.accepted, report.users.rows_in) == (9_066, 0)
    assert log.head() == 109_070
    assert seconds < 15


def test_ml_100k_imports(log: EventLog, clock: Clock, private_data: Path) -> None:
    folder = private_data / "ml-100k"
    if not folder.is_dir():
        pytest.skip("ml-100k is not in the folder of private data sets")
    source = tabular.read(
        folder / "interactions.csv.gz", folder / "items.csv.gz", folder / "users.csv.gz",
        "value=rating,event_timestamp=timestamp", kind="rating",
    )  # fmt: skip
    report = import_source(log, source, clock, "ml-100k")
    assert (report.accepted, report.items.accepted, report.users.accepted) == (100_000, 1_680, 943)
    assert report.items.reasons == {"attributes.year: expected a number between -2^53 and 2^53": 2}  # 'V', 'unkonwn'
    assert adds_up(report)


def test_reasons_are_grouped_by_rule(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    rows = [("u", "i", "4", f"soon {n}") for n in range(300)] + [("", "i", "4", "5")] * 2 + [("u", "i", "9", "5")]
    report = import_source(log, frames(write(tmp_path / "a.csv", rows)), clock, "a")
    assert [(reason.split(":")[0], count) for reason, count in report.reasons.items()] == [
        ("event_timestamp", 300), ("user_id", 2), ("value", 1)]  # fmt: skip
    assert next(iter(report.reasons)) == "event_timestamp: 'soon 0' is not a time (and 299 other values)"
    assert adds_up(report)


def test_rows_with_ids_of_their_own_count_once_with_the_stream(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    head = {"user_id": "u", "item_id": "i"}
    log.append([
        Interaction(event_id="live-1", event_timestamp=SECOND, kind="click", **head),
        Interaction(event_id="live-2", event_timestamp=2 * SECOND, kind="retract", retracts="live-1", **head),
    ])  # fmt: skip
    header = ("user_id", "item_id", "kind", "event_timestamp", "id", "retracts")
    told = [("click", "1", "live-1", ""), ("retract", "2", "live-2", "live-1"), ("click", "3", "live-3", ""),
            ("click", "3", "", ""), ("click", "3", "live-1", ""), ("click", "4", "live-4", "live-1")]  # fmt: skip
    rows = [("u", "i", *row) for row in told]
    source = tabular.read(write(tmp_path / "dump.csv", rows, header), mapping="event_id=id", unit="s")
    report = import_source(log, source, clock, "dump")
    assert (report.accepted, report.repeated, report.quarantined) == (2, 2, 2)
    assert adds_up(report)
    again = import_source(log, source, clock, "dump")
    assert (again.accepted, again.repeated, again.quarantined) == (0, 4, 2)
    assert {reason.split(":")[0] for reason in report.reasons} == {"event_id", "retracts"}


def test_a_column_that_the_map_gives_to_another_name_is_no_id(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    rows = [("u", "concert", "5"), ("v", "concert", "6")]
    path = write(tmp_path / "a.csv", rows, ("user_id", "event_id", "event_timestamp"))
    report = import_source(log, tabular.read(path, mapping="item_id=event_id", kind="view", unit="s"), clock, "a")
    assert (report.accepted, report.quarantined) == (2, 0)


class Titles:
    """Imports files that say one title after another of item i, and tells what is known of it then."""

    def __init__(self, log: EventLog, clock: Clock, folder: Path) -> None:
        self.log, self.clock = log, clock
        self.items, self.behaviour = folder / "i.csv", write(folder / "a.csv", [("u", "i", "4", "1")])

    def take(self, *titles: str) -> tuple[int, int, str]:
        write(self.items, [("i", title) for title in titles] + [("other", "One")], ("item_id", "title"))
        source = tabular.read(
            self.behaviour, self.items, None, "user_id=u,item_id=i,event_timestamp=t", kind="view", unit="s"
        )
        tally = import_source(self.log, source, self.clock, "a").items
        assert tally.rows_in == tally.accepted + tally.repeated == len(titles) + 1
        return tally.accepted, tally.repeated, self.known()[-1]

    def known(self) -> list[str]:
        events = [logged.event for logged in self.log.read(0, 1_000, types=["item"])]
        return [event.attributes["title"] for event in events if event.item_id == "i"]


def test_the_last_import_of_an_item_counts(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    titles = Titles(log, clock, tmp_path)
    assert titles.take("A") == (2, 0, "A")
    assert titles.take("B") == (1, 1, "B")
    assert titles.take("A") == (1, 1, "A")
    assert titles.take("A") == (0, 2, "A")
    assert titles.take("A", "B") == (1, 2, "B")
    assert titles.take("A", "B") == (0, 3, "B")
    assert titles.take("B", "B") == (0, 3, "B")
    assert titles.take("B", "A", "B") == (0, 4, "B")
    assert titles.take("C", "B") == (2, 1, "B")


@profile(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(st.lists(st.sampled_from("ABC"), min_size=1, max_size=4), min_size=1, max_size=8))
def test_after_an_import_the_source_is_what_is_known(
    log: EventLog, clock: Clock, tmp_path: Path, files: list[list[str]]
) -> None:
    titles = Titles(log, clock, tmp_path)
    for file in files:
        told = [title for place, title in enumerate(file) if not place or file[place - 1] != title]
        titles.take(*file)
        assert titles.known()[-len(told) :] == told
        assert titles.take(*file)[0] == 0


class Catalogue:
    """Imports tables of items, changes them as HTTP does, and tells what is known of item i."""

    def __init__(self, log: EventLog, clock: Clock, folder: Path) -> None:
        self.log, self.clock, self.folder = log, clock, folder
        write(folder / "a.csv", [("u", "i", "4", "1")])

    def take(self, header: str, *rows: str) -> ImportReport:
        (self.folder / "i.csv").write_text("\n".join([header, *rows]) + "\n")
        source = tabular.read(
            self.folder / "a.csv", self.folder / "i.csv", None, "user_id=u,item_id=i,event_timestamp=t",
            kind="view", unit="s",
        )  # fmt: skip
        return import_source(self.log, source, self.clock, "a")

    def over_http(self, event_id: str, **attributes: object) -> None:
        self.log.append([Item(event_id=event_id, event_timestamp=DAY, item_id="i", attributes=attributes)])

    def known(self) -> dict[str, object]:
        item = self.log.item("i")
        assert item
        return item.attributes


@pytest.fixture
def catalogue(log: EventLog, clock: Clock, tmp_path: Path) -> Catalogue:
    return Catalogue(log, clock, tmp_path)


@pytest.mark.parametrize("hidden", [{"retired": True}, {"available": False}])
def test_new_titles_bring_no_hidden_item_back(catalogue: Catalogue, hidden: dict[str, bool]) -> None:
    catalogue.take("item_id,title", "i,One", "j,Two")
    catalogue.over_http("h", title="One", price=3, **hidden)
    report = catalogue.take("item_id,title", "i,Uno", "j,Two")
    assert (report.items.accepted, report.items.repeated, report.shown_again) == (1, 1, [])
    assert catalogue.known() == {"title": "Uno", "price": 3, **hidden}
    assert catalogue.take("item_id,title", "i,Uno", "j,Two").items.repeated == 2


def test_a_file_that_says_so_brings_items_back_and_that_is_told(catalogue: Catalogue) -> None:
    catalogue.take("item_id,title,available", "i,One,false", "j,Two,true")
    report = catalogue.take("item_id,available", "i,true", "j,true")
    assert (report.items.accepted, report.items.repeated, report.shown_again) == (1, 1, ["i"])
    assert catalogue.known() == {"title": "One", "available": True}


def test_an_empty_cell_of_a_column_says_that_nothing_is_known(catalogue: Catalogue) -> None:
    catalogue.take("item_id,title,price", "i,One,3", "j,Two,4")
    assert catalogue.take("item_id,price", "i,", "j,4").items.accepted == 1
    assert catalogue.known() == {"title": "One"}
    assert catalogue.take("item_id,price", "i,", "j,4").items.repeated == 2


def test_what_was_changed_over_http_is_as_the_file_says_after_an_import(catalogue: Catalogue) -> None:
    catalogue.take("item_id,title", "i,One")
    catalogue.over_http("h", title="Uno", price=3)
    assert catalogue.take("item_id,title", "i,One").items.accepted == 1
    assert catalogue.known() == {"title": "One", "price": 3}


def test_users_keep_what_a_file_has_no_column_for(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    behaviour = write(tmp_path / "a.csv", [("u", "i", "4", "1")])
    mapping = "user_id=u,item_id=i,event_timestamp=t"
    for text in ("user_id,age\nu,31\n", "user_id,country\nu,DE\n", "user_id,country\nu,DE\n"):
        (tmp_path / "u.csv").write_text(text)
        source = tabular.read(behaviour, None, tmp_path / "u.csv", mapping, kind="view", unit="s")
        report = import_source(log, source, clock, "a")
    assert (report.users.accepted, report.users.repeated) == (0, 1)
    assert log.versions("user", ["u"])["u"][-1][1].attributes == {"age": 31, "country": "DE"}


def test_feedback_of_an_import_counts_as_of_its_own_time(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    """What a platform of before brings is history: it makes its people known, and it is no burst of this minute."""

    def told(user: str, count: int, start: int, step: int) -> list[AnyEvent]:
        about = {"user_id": user, "kind": "like", "slate_id": "s"}
        return [
            Feedback(event_id=f"{user}-{start}-{n}", event_timestamp=start + n * step, item_id=f"i{n}", **about)
            for n in range(count)
        ]

    url = f"sqlite:///{tmp_path / 'before' / 'events.db'}"
    prepare(url)
    now = clock()
    with closing(EventLog(url, clock)) as before:
        before.append([*told("old", 8, now - 9 * DAY, HOUR), *told("session", 100, now - DAY, 1)])
        export(before, tmp_path / "out")
    import_log(log, tmp_path / "out", clock, "out")
    log.append(told("live", 100, now, 0))
    entries = log.read(0, 1_000)
    assert [entry.is_live for entry in entries] == [False] * 108 + [True] * 100
    assert all(entry.happened_at == entry.event.event_timestamp for entry in entries)
    profile = ItemProfile(history=log.first_uses)
    profile.fold(entries[:108])
    assert profile.set_aside == 0
    assert profile.scores([f"i{n}" for n in range(100)], now).tolist() == [0.0] * 100
    profile.fold(entries)
    assert profile.set_aside == 40
    counts = PopularityCounts(log)
    counts.advance()
    people = dict(counts.most(100))
    assert people["i7"] == 1.0 + 2 * NEWCOMER, "five items of hours before are a history"
    lake = Lake(tmp_path / "lake")
    lake.ingest(log)
    assert that_counts(lake.events().to_pandas(), Terms())[1][BURST] == 40
