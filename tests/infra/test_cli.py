"""The command line: what it says to good and to bad input."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attune.promotions import bundle_name

ATTUNE = str(Path(sys.executable).with_name("attune"))


EVERY_HELP = """
import contextlib, io, sys
from infra.cli import app
from typer.main import get_command

def ask(command, path):
    with contextlib.redirect_stdout(io.StringIO()) as page:
        command.main([*path, "--help"], prog_name="attune", standalone_mode=False)
    assert f"attune {' '.join(path)}".strip() in page.getvalue(), path
    return page.getvalue()

def walk(group, path):
    for name, command in sorted(group.commands.items()):
        pages[" ".join([*path, name])] = ask(whole, [*path, name])
        if hasattr(command, "commands"):
            walk(command, [*path, name])

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
        ("attune train --policy th", {"thompson"}),
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
    completion = {"_ATTUNE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    environment = {**os.environ, **completion, "ATTUNE_VAR": str(tmp_path)}
    done = subprocess.run([ATTUNE], env=environment, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == offered, done.stderr


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
