"""`attune import` and `export`: what becomes of good and bad rows, and files that can be imported again."""

import json
import shlex
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from rich.text import Text

from attune.errors import EventLogError
from attune.event_log import EventLog, prepare
from attune.events import Interaction, Item
from attune.settings import Settings

GOOD = "user,item,when,stars\n1,a,1000000000,5\n1,b,1000000060,2\n2,a,1000000120,4\n"
MAP = "user_id=user,item_id=item,event_timestamp=when,value=stars"


@pytest.fixture
def table(tmp_path: Path):
    """Write a file and give its name."""

    def write(text: str, name: str = "events.csv") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_rows_in_are_accepted_repeated_or_quarantined(attune, table) -> None:
    file = table(GOOD + "3,a,,4\n3,,1000000000,4\n3,a,99999999999,4\n3,a,1000000000,11\n")
    arguments = ("import", "tabular", "--interactions", file, "--map", MAP, "--kind", "rating", "--json")
    arguments += ("--most-quarantined", "0.6")
    status, out, _ = attune(*arguments)
    first = json.loads(out)
    assert status == 0
    assert (first["rows_in"], first["accepted"], first["repeated"], first["quarantined"]) == (7, 3, 0, 4)
    assert any("future" in reason for reason in first["reasons"])
    second = json.loads(attune(*arguments)[1])
    assert (second["rows_in"], second["accepted"], second["repeated"], second["quarantined"]) == (7, 0, 3, 4)
    with closing(EventLog(Settings().log_url)) as log:
        assert (log.counts(), log.quarantined()) == ({"interaction": 3}, 4)


def test_two_equal_rows_stay_two(attune, table) -> None:
    file = table(GOOD + "1,a,1000000000,5\n")
    result = attune("import", "tabular", "--interactions", file, "--map", MAP, "--kind", "rating", "--json")[1]
    assert json.loads(result)["accepted"] == 4


def test_without_timestamps_the_row_is_the_time(attune, table) -> None:
    file = table("user,item\n1,a\n2,b\n")
    arguments = ("import", "tabular", "--interactions", file, "--map", "user_id=user,item_id=item", "--kind", "click")
    status, _, err = attune(*arguments)
    assert status == 1
    assert "event_timestamp" in err
    assert "order" in err
    assert attune(*arguments, "--order", "row", "--json")[0] == 0
    with closing(EventLog(Settings().log_url)) as log:
        assert [one.event.event_timestamp for one in log.read(0, 10)] == [0, 1_000_000]
    out = attune("users", "1")[1]
    assert "1970" not in out
    assert out.count("order only") == 3
    assert json.loads(attune("users", "1", "--json")[1])["recent"][0]["time"] == "order only"


def test_a_sorted_table_is_vouched_for_or_without_times(attune, table) -> None:
    rows = "".join(f"u{user},{item}\n" for user in range(20) for item in range(20))
    arguments = ("import", "tabular", "--interactions", table("user_id,item_id\n" + rows), "--kind", "view", "--order")
    status, _, err = attune(*arguments, "row")
    assert status == 1
    assert "95% of neighbouring rows have the same user_id" in " ".join(err.split())
    assert attune(*arguments, "row", "--order-is-real", "--json")[0] == 0
    assert json.loads(attune("import", "list", "--json")[1])["imports"][0]["options"]["order_is_real"] is True
    again = json.loads(attune(*arguments, "row", "--order-is-real", "--json")[1])
    assert (again["accepted"], again["repeated"]) == (0, 400)
    assert json.loads(attune(*arguments, "none", "--json")[1])["accepted"] == 400


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (GOOD, ("--map", MAP.replace("when", "wen"), "--kind", "rating"), "did you mean 'when'"),
        (GOOD, ("--map", MAP + ",kind"), "NAME=COLUMN"),
        (GOOD, ("--map", MAP), "kind"),
        ("", ("--map", MAP, "--kind", "rating"), "empty"),
        ("\x00\x01\x02\x03", ("--map", MAP, "--kind", "rating"), "events.csv"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_the_reason(attune, table, text, arguments, message) -> None:
    status, out, err = attune("import", "tabular", "--interactions", table(text), *arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_a_missing_file_is_named(attune) -> None:
    status, _, err = attune("import", "tabular", "--interactions", "/no/such.csv", "--map", MAP)
    assert status == 1
    assert "/no/such.csv" in err


def test_an_unknown_kind_is_quarantined_with_the_known_ones(attune, table) -> None:
    text = "user_id,item_id,event_timestamp,kind\n1,a,1000000000,clik\n1,a,1000000000,click\n"
    arguments = ("import", "tabular", "--interactions", table(text), "--json", "--most-quarantined", "0.5")
    result = json.loads(attune(*arguments)[1])
    assert (result["accepted"], result["quarantined"]) == (1, 1)
    assert "did you mean 'click'" in next(iter(result["reasons"]))


def test_too_few_events_are_named_before_anything_is_started(attune, table) -> None:
    attune("import", "tabular", "--interactions", table(GOOD), "--map", MAP, "--kind", "rating")
    status, _, err = attune("train")
    assert status == 1
    assert "3 events are too few" in err


def test_an_import_of_nothing_but_bad_rows_fails_and_writes_nothing(attune, table) -> None:
    bad = "".join(f"1,a,soon {n},5\n" for n in range(40))
    arguments = ("import", "tabular", "--interactions", table("user,item,when,stars\n" + bad), "--map", MAP)
    status, out, err = attune(*arguments, "--kind", "rating", "--json")
    assert (status, out) == (1, "")
    assert "40 of 40 interaction rows would go to quarantine" in err
    assert "'soon 0' is not a time" in err
    status, out, err = attune(*arguments, "--kind", "rating", "--json", "--most-quarantined", "1")
    report = json.loads(out)
    assert status == 1
    assert (report["rows_in"], report["quarantined"], list(report["reasons"].values())) == (40, 40, [40])
    assert "every interaction row (40)" in err


@pytest.mark.parametrize(
    ("cells", "kind", "cures"),
    [
        (["10", "7", "1"], "rating", ["ratings run from 1 to 10", "--scale 1,10"]),
        (
            ["10", "0", "2"],
            "rating",
            ["--scale 0,10", "if 0 means that there is none: --scale 1,10 --zero implicit"],
        ),
        (["-1", "1", "9"], "rating", ["if -1 means that there is none: --scale 1,10 --zero implicit"]),
        (["addtocart", "click"], None, ["--kinds addtocart=cart (none leaves"]),
    ],
)
def test_too_many_bad_rows_stop_an_import_with_the_option_that_may_help(attune, table, cells, kind, cures) -> None:
    rows = "".join(f"1,i{number},1000000000,{cell}\n" for number, cell in enumerate(cells))
    file = table("user_id,item_id,event_timestamp," + ("value\n" if kind else "kind\n") + rows)
    arguments = ("import", "tabular", "--interactions", file, *(("--kind", kind) if kind else ()))
    status, out, err = attune(*arguments)
    assert (status, out) == (1, "")
    for words in ("nothing was imported", "--most-quarantined 0.", *cures):
        assert words in " ".join(err.split()), words
    assert json.loads(attune("import", "list", "--json")[1]) == {"imports": []}
    assert attune(*arguments, "--most-quarantined", "0.7")[0] == 0


def test_too_many_bad_lists_stop_an_import_of_impressions(attune, table) -> None:
    file = table("user_id,event_timestamp,shown\n,1600000000,N1-1 N2-0\nv,1600000001,N3-0 N4-1\n")
    arguments = ("import", "impressions", "--file", file)
    status, out, err = attune(*arguments)
    assert (status, out) == (1, "")
    assert "1 of 4 interaction rows would go to quarantine" in " ".join(err.split())
    report = json.loads(attune(*arguments, "--most-quarantined", "0.5", "--json")[1])
    assert (report["accepted"], report["quarantined"]) == (3, 1)


def test_a_column_event_id_that_is_no_id_of_a_row_stops_an_import(attune, table) -> None:
    rows = "".join(f"u{n},i{n},1000000000,click,{n % 2}\n" for n in range(6)) + "u0,i0,1000000000,click,0\n"
    file = table("user_id,item_id,event_timestamp,kind,event_id\n" + rows)
    status, _, err = attune("import", "tabular", "--interactions", file)
    assert (status, "4 of 7 interaction rows would go to quarantine" in err) == (1, True)
    assert "rename the column" in err
    arguments = ("import", "tabular", "--interactions", file, "--most-quarantined", "0.6", "--json")
    report = json.loads(attune(*arguments)[1])
    assert (report["accepted"], report["repeated"], report["quarantined"]) == (2, 1, 4)


def test_bad_items_stop_an_import_too(attune, table) -> None:
    items = table("item_id,title\n,One\nb,Two\n", "items.csv")
    arguments = ("import", "tabular", "--interactions", table(GOOD), "--map", MAP, "--kind", "rating", "--items", items)
    status, _, err = attune(*arguments)
    assert (status, "1 of 2 item rows would go to quarantine" in err) == (1, True)
    assert attune(*arguments, "--most-quarantined", "0.5")[0] == 0


def test_the_options_of_a_source_are_remembered(attune, table) -> None:
    arguments = ("import", "tabular", "--interactions", table(GOOD))
    options = ("--map", MAP, "--kind", "rating")
    assert attune(*arguments, *options, "--scale", "0,5")[0] == 0
    status, out, err = attune(*arguments, "--json")
    assert (status, json.loads(out)["repeated"]) == (0, 3)
    assert f"read with --map {MAP} --kind rating --scale 0,5, as import 1 was" in " ".join(err.split())
    status, out, err = attune(*arguments, *options, "--json")
    assert json.loads(out)["repeated"] == 3
    assert "events.csv is read with --scale 0,5, as import 2 was" in " ".join(err.split())
    status, out, err = attune(*arguments, *options, "--scale", "1,5", "--replace", "1", "--json")
    assert (json.loads(out)["accepted"], err) == (3, "")
    assert attune(*arguments, *options, "--replace", "4", "--json")[2] == ""


def test_the_commonest_reasons_alone_are_listed(attune, table) -> None:
    kinds = ["rating", "watch", "dwell", "survey"]
    rows = "".join(f"1,a,5,{kind},{value}\n" for kind in kinds for value in ("", "x", "-9"))
    rows += "1,,5,view,\n,a,5,view,\n1,a,,view,\n1,a,5,view,\n"
    text = "user_id,item_id,event_timestamp,kind,value\n" + rows
    arguments = ("import", "tabular", "--interactions", table(text), "--unit", "s", "--most-quarantined", "1")
    status, out, _ = attune(*arguments)
    assert status == 0
    assert "and 2 more: 2" in out


def test_real_data_of_another_shape(attune, private_data: Path) -> None:
    folder = private_data / "ml-100k"
    if not folder.is_dir():
        pytest.skip("ml-100k is not here")
    arguments = ("--interactions", str(folder / "interactions.csv.gz"), "--items", str(folder / "items.csv.gz"))
    result = attune(
        "import", "tabular", *arguments, "--map", "event_timestamp=timestamp,value=rating", "--kind", "rating", "--json"
    )
    report = json.loads(result[1])
    assert (report["rows_in"], report["accepted"], report["quarantined"]) == (100_000, 100_000, 0)
    assert (report["items"]["accepted"], report["items"]["quarantined"]) == (1_680, 2)  # years 'V' and 'unkonwn'


def test_an_import_is_listed_withdrawn_and_replaced(attune, table) -> None:
    arguments = ("import", "tabular", "--interactions", table(GOOD), "--map", MAP, "--kind", "rating", "--json")
    assert attune(*arguments[:-1], "--scale", "0,10")[0] == 0
    status, out, _ = attune("import", "list")
    assert status == 0
    for words in ("events.csv", "scale=0,10", "done", "attune import withdraw N"):
        assert words in " ".join(out.split()), words
    assert json.loads(attune(*arguments, "--replace", "1")[1])["accepted"] == 3
    listed = json.loads(attune("import", "list", "--json")[1])["imports"]
    assert [(one["import_id"], one["events"], one["state"]) for one in listed] == [(2, 3, "done"), (1, 3, "withdrawn")]
    status, out, _ = attune("import", "withdraw", "2")
    assert status == 0
    assert "import 2 is withdrawn" in out
    again = json.loads(attune("import", "withdraw", "2", "--json")[1])
    assert (again["import"], again["taken_back"]) == (2, 3)
    with closing(EventLog(Settings().log_url)) as log:
        assert log.head() == 12
    status, _, err = attune("import", "withdraw", "9")
    assert (status, "there is no import 9" in err) == (1, True)


@pytest.fixture
def seeded(attune, clicks: list[Interaction], described: list[Item]) -> None:
    settings = Settings()
    prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        log.append(clicks)
        log.append(described)


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_what_was_exported_can_be_imported_elsewhere(attune, seeded, tmp_path: Path, monkeypatch, format: str) -> None:
    status, out, _ = attune("export", str(tmp_path / "out"), "--format", format)
    assert status == 0
    for words in (f"interaction.{format}", "360", f"item.{format}", "24", f"attune import log {tmp_path / 'out'}"):
        assert words in out, words
    with closing(EventLog(Settings().log_url)) as log:
        events = [logged.event for logged in log.read(0, 1_000)]
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "other"))
    report = json.loads(attune("import", "log", str(tmp_path / "out"), "--json")[1])
    assert (report["accepted"], report["quarantined"]) == (384, 0)
    with closing(EventLog(Settings().log_url)) as log:
        assert [logged.event for logged in log.read(0, 1_000)] == events


def test_a_log_whose_ids_are_taken_is_not_imported(attune, seeded, described, tmp_path: Path, monkeypatch) -> None:
    attune("export", str(tmp_path / "out"), "--type", "item")
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "other"))
    prepare(Settings().log_url)
    with closing(EventLog(Settings().log_url)) as log:
        log.append([msgspec.structs.replace(item, attributes={"title": "another"}) for item in described])
    status, _, err = attune("import", "log", str(tmp_path / "out"))
    assert (status, "24 of 24 event rows would go to quarantine" in err) == (1, True)
    assert json.loads(attune("import", "list", "--json")[1]) == {"imports": []}
    assert attune("import", "log", str(tmp_path / "out"), "--most-quarantined", "1")[0] == 0


def test_a_part_of_the_log_as_json(attune, seeded, tmp_path: Path) -> None:
    arguments = ("--format", "jsonl", "--type", "interaction", "--after", "10", "--upto", "12")
    status, out, _ = attune("export", str(tmp_path / "out"), *arguments, "--json")
    assert status == 0
    assert json.loads(out) == {"folder": str(tmp_path / "out"), "format": "jsonl", "events": {"interaction": 2}}
    lines = (tmp_path / "out" / "interaction.jsonl").read_text().splitlines()
    assert [json.loads(line)["position"] for line in lines] == [11, 12]
    assert "no event lies there" in attune("export", str(tmp_path / "none"), "--after", "10000")[1]


def test_a_folder_that_exists_is_left_alone(attune, seeded, tmp_path: Path) -> None:
    status, out, err = attune("export", str(tmp_path))
    assert (status, out) == (1, "")
    assert f"{tmp_path} exists already" in err


@pytest.mark.parametrize("arguments", [("--format", "xml"), ("--type", "event"), ("--after", "-1")])
def test_a_wrong_option_is_status_2(attune, tmp_path: Path, arguments: tuple[str, str]) -> None:
    assert attune("export", str(tmp_path / "out"), *arguments)[0] == 2


def test_a_check_writes_nothing_and_shows_what_to_type(attune, table) -> None:
    text = "userId,movieId,rating,timestamp\n1,a,8,1000000000\n1,007,10,1000000060\n2,a,0,1000000120\n"
    text += "".join(f"{n},a,9,1000000180\n" for n in range(3, 6))
    items = table("id,name,price\na,Film A,3\n007,B,4\n", "films.csv")
    arguments = ("import", "tabular", "--interactions", table(text), "--items", items, "--scale", "1,10")
    status, out, err = attune(*arguments, "--check")
    assert status == 0
    words = " ".join(out.split())
    for said in (
        "columns of items: item_id=id, title=name",
        "userId",
        "007",
        "2001-09-09T01:47:40+00:00",
        "4.111",
        "nothing was written",
        "--zero implicit",
    ):
        assert said in words, said
    assert "taken by their names: user_id=userId, item_id=movieId, event_timestamp=timestamp, value=rating" in err
    result = json.loads(attune(*arguments, "--check", "--json")[1])
    assert (result["rows_in"], result["accepted"], result["quarantined"], result["items"]["accepted"]) == (6, 5, 1, 2)
    assert result["columns"]["item"] == {"item_id": "id", "title": "name"}
    typed = shlex.split(result["command"])
    assert typed[:4] == ["attune", "import", "tabular", "--interactions"]
    assert {word for word in typed if word.startswith("--")} == {
        "--interactions", "--items", "--map", "--items-map", "--kind", "--scale"}  # fmt: skip
    assert typed[typed.index("--map") + 1] == "user_id=userId,item_id=movieId,event_timestamp=timestamp,value=rating"
    with pytest.raises(EventLogError, match="there is no event log"):
        EventLog(Settings().log_url)
    report = json.loads(attune(*typed[1:], "--json")[1])
    assert (report["accepted"], report["quarantined"], report["items"]["accepted"]) == (5, 1, 2)


def test_a_check_of_impressions_shows_lists_and_what_to_type(attune, table) -> None:
    file = table("who,ts,shown,p\n1,1573463158,N1-1 N2-0,0.5 0.25\n1,1573463159,N3-0,2\n")
    arguments = ("import", "impressions", "--file", file, "--map", "user_id=who,event_timestamp=ts,propensities=p")
    status, out, err = attune(*arguments, "--check")
    words = " ".join(out.split())
    assert (status, "N1-1 N2-0" in words, "2.0 is no probability above 0" in words) == (0, True, True)
    assert "2 imported slates" in err
    typed = shlex.split(" ".join(out.split("next: ")[1].split()))
    assert typed[:3] == ["attune", "import", "impressions"]
    with pytest.raises(EventLogError, match="there is no event log"):
        EventLog(Settings().log_url)
    status, _, err = attune(*typed[1:])
    assert (status, "1 of 2 slate rows would go to quarantine" in " ".join(err.split())) == (1, True)
    report = json.loads(attune(*typed[1:], "--most-quarantined", "0.5", "--json")[1])
    assert (report["accepted"], report["slates"]["accepted"], report["slates"]["quarantined"]) == (4, 1, 1)


def test_rows_that_came_as_another_kind_are_told(attune, table) -> None:
    arguments = ("import", "tabular", "--interactions", table(GOOD), "--map", MAP.removesuffix(",value=stars"))
    assert attune(*arguments, "--kind", "view")[0] == 0
    status, _, err = attune(*arguments, "--kind", "click")
    assert (status, "import 1 brought events.csv as view" in " ".join(err.split())) == (0, True)
    assert "takes it back" not in attune(*arguments, "--kind", "view", "--replace", "2")[2]


def test_a_check_ends_with_a_command_that_works(attune, table) -> None:
    file = table(
        "".join(f"1,{number},9,{kind},151154407{number}\n" for number, kind in enumerate(["pv", "fav", "buy"]))
    )
    status, _, err = attune("import", "tabular", "--interactions", file)
    option = "--columns user_id,item_id,,kind,event_timestamp"
    assert (status, f"{option}, say (or item_id first" in " ".join(err.split())) == (1, True)
    out = attune("import", "tabular", "--interactions", file, *option.split(), "--check")[1]
    words = shlex.split(" ".join(out.split("next: ")[1].split()))
    assert words[-2:] == ["--kinds", "pv=view,fav=favourite,buy=purchase"]
    assert attune(*words[1:])[0] == 0


def test_several_files_and_the_meaning_of_values_are_options(attune, table) -> None:
    first, second = table("1::a::1.5::1000000000\n", "1.dat"), table("2::a::::1000000001\n", "2.dat")
    files = ("--interactions", first, "--interactions", second)
    columns = ("--columns", "user_id,item_id,value,event_timestamp", "--kind", "watch", "--full-watch")
    assert "most of the watched shares lie above 1" in attune("import", "tabular", *files, *columns)[2]
    columns = (*columns, "--value-unit", "percent")
    result = json.loads(attune("import", "tabular", *files, *columns, "--json")[1])
    assert result["accepted"] == 2
    with closing(EventLog(Settings().log_url)) as log:
        assert [one.event.value for one in log.read(0, 10)] == [0.015, 1.0]


def test_a_long_import_shows_a_bar_in_a_terminal_alone(attune, table, monkeypatch) -> None:
    rows = "".join(f"{n},a,1000000000,5\n" for n in range(6_000))
    arguments = ("--interactions", table("user,item,when,stars\n" + rows), "--map", MAP, "--kind", "rating")
    err = attune("import", "tabular", *arguments)[2]
    assert "import events.csv" in err
    assert "6,000 rows" not in err
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    words = Text.from_ansi(attune("import", "tabular", *arguments)[2]).plain
    for stage in ("check events.csv", "import events.csv"):
        assert f"{stage}: 6,000 of 6,000 rows" in words
    assert attune("import", "tabular", *arguments, "--json")[2] == ""
