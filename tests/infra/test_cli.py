"""The command line: what it says to good and to bad input."""

import json
import os
import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from attune.event_log import EventLog
from attune.promotions import bundle_name
from attune.settings import Settings

ATTUNE = str(Path(sys.executable).with_name("attune"))
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


EVERY_HELP = """
import contextlib, io, sys
from infra.cli import app
from typer.main import get_command

def ask(command, path):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        command.main([*path, "--help"], prog_name="attune", standalone_mode=False)
    assert f"attune {' '.join(path)}".strip() in said.getvalue(), path
    return said.getvalue()

def walk(group, path):
    for name, one in sorted(group.commands.items()):
        pages[" ".join([*path, name])] = ask(whole, [*path, name])
        if hasattr(one, "commands"):
            walk(one, [*path, name])

whole, pages = get_command(app), {}
ask(whole, [])
walk(whole, [])
heavy = {"torch", "feast", "mlflow", "prefect", "pandas", "great_expectations", "sqlalchemy", "httpx", "numpy"}
import json
print(json.dumps({"pages": pages, "loaded": sorted(heavy & set(sys.modules))}))
"""


@pytest.fixture(scope="module")
def every_help() -> dict[str, Any]:
    """The help of every command, and which heavy libraries are loaded after all of it."""
    done = subprocess.run([sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_help_loads_a_heavy_library(every_help) -> None:
    assert every_help["loaded"] == []


def test_help_is_quick() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([ATTUNE, "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0, "seconds of CPU"


MODELS = ("train", "finetune", "promote", "rollback", "versions", "compare")
PEOPLE = ("recommend", "feedback", "users", "items")
EVENTS = ("export", "import tabular", "import movielens")
KEYS = ("keys create", "keys list", "keys revoke")


@pytest.mark.parametrize("command", [*MODELS, *PEOPLE, *EVENTS, *KEYS])
def test_help_teaches_by_example_and_offers_json(every_help, command: str) -> None:
    page = every_help["pages"][command]
    examples = [line for line in page.splitlines() if line.strip().startswith(f"attune {command}")]
    assert examples, page
    assert "--json" in page


def test_the_first_page_tells_exit_statuses_and_completion(attune) -> None:
    status, out, _ = attune("--help")
    assert status == 0
    for words in ("Exit status", "130", "--install-completion", "--json", "ATTUNE_VAR"):
        assert words in out, words


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("attune feedback u i re", {"retract"}),
        ("attune train --recipe s", {"small"}),
        ("attune rollback ", {"7", "12"}),
        ("attune promote 1", {"12"}),
        ("attune compare c", {"champion", "challenger"}),
        ("attune logs w", {"worker", "watcher"}),
        ("attune keys create shop --scope re", {"recommend"}),
    ],
)
def test_shells_complete_kinds_recipes_and_versions(tmp_path: Path, line: str, offered: set[str]) -> None:
    for name in (bundle_name("7", None), bundle_name("12", 64 * "c0ffee"), "made", "spoiled", ".version-9-draft"):
        (tmp_path / "bundles" / name).mkdir(parents=True)
    asked = {"_ATTUNE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    environment = {**os.environ, **asked, "ATTUNE_VAR": str(tmp_path)}
    done = subprocess.run([ATTUNE], env=environment, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == offered, done.stderr


def test_rows_in_are_accepted_repeated_or_quarantined(attune, table) -> None:
    file = table(GOOD + "3,a,,4\n3,,1000000000,4\n3,a,99999999999,4\n3,a,1000000000,11\n")
    arguments = ("import", "tabular", "--interactions", file, "--map", MAP, "--kind", "rating", "--json")
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
    result = json.loads(attune("import", "tabular", "--interactions", table(text), "--json")[1])
    assert (result["accepted"], result["quarantined"]) == (1, 1)
    assert "did you mean 'click'" in next(iter(result["reasons"]))


def test_too_few_events_are_named_before_anything_is_started(attune, table) -> None:
    attune("import", "tabular", "--interactions", table(GOOD), "--map", MAP, "--kind", "rating")
    status, _, err = attune("train")
    assert status == 1
    assert "3 events are too few" in err


def test_an_import_of_nothing_but_bad_rows_fails_and_is_counted(attune, table) -> None:
    bad = "".join(f"1,a,soon {n},5\n" for n in range(40))
    arguments = ("import", "tabular", "--interactions", table("user,item,when,stars\n" + bad), "--map", MAP)
    status, out, err = attune(*arguments, "--kind", "rating", "--json")
    report = json.loads(out)
    assert status == 1
    assert (report["rows_in"], report["quarantined"], list(report["reasons"].values())) == (40, 40, [40])
    assert "every interaction row (40)" in err
    assert "'soon 0' is not a time" in err


def test_the_commonest_reasons_alone_are_listed(attune, table) -> None:
    kinds = ["rating", "watch", "dwell", "survey"]
    rows = "".join(f"1,a,5,{kind},{value}\n" for kind in kinds for value in ("", "x", "-9"))
    rows += "1,,5,view,\n,a,5,view,\n1,a,,view,\n1,a,5,view,\n"
    text = "user_id,item_id,event_timestamp,kind,value\n" + rows
    status, out, _ = attune("import", "tabular", "--interactions", table(text))
    assert status == 0
    assert "and 2 more: 2" in out


@pytest.mark.parametrize("command", [("items",), ("versions",), ("recommend", "u"), ("train",)])
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ATTUNE_SERVING_PORT", "often", "setting ATTUNE_SERVING_PORT"),
        ("ATTUNE_SERVNG_PORT", "1", "ATTUNE_SERVNG_PORT is no setting; the nearest is ATTUNE_SERVING_PORT"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(attune, monkeypatch, command, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)
    status, out, err = attune(*command)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert words in err


def test_a_folder_that_cannot_be_written_is_named(attune, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "file" / "var"))
    for command in (("items",), ("recommend", "u"), ("import", "movielens")):
        status, out, err = attune(*command)
        assert (status, out, err.count("\n")) == (1, "", 1), err
        assert str(tmp_path / "file") in err


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
    assert report["items"]["accepted"] == 1_682
