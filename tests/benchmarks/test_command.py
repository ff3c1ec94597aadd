"""`python -m benchmarks`: its benchmarks and parts, its record, and which pictures go with one."""

import json
import os
import pkgutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attune.errors import ConfigError
from attune.settings import Settings
from benchmarks import command
from benchmarks.record import Figure, at_most

PARTS = [(name, part) for name, parts in command.BENCHMARKS.items() for part in parts]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_part_is_named_where_one_chooses_and_can_be_measured(name: str, part: str) -> None:
    shown = CliRunner().invoke(command.app, ["--help"], env={"COLUMNS": "400"}).output
    assert f"{part} of {name}" in shown or f"{part}," in shown
    assert callable(pkgutil.resolve_name(command.BENCHMARKS[name][part]))


def test_an_unknown_benchmark_and_an_unknown_part_are_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="platform, serving, replay, offpolicy, gates, evidence"):
        command.measure("speed", None, 0)
    with pytest.raises(ConfigError, match="coverage, obp, open_bandit"):
        command.measure("offpolicy", "speed", 0)


def test_a_record_has_the_figures_and_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.pkgutil, "resolve_name", lambda path: lambda seed: [at_most("ms", seed, 3.0)])
    arguments = ["serving", "--only", "cost", "--seed", "2", "--out", str(tmp_path / "record.json")]
    monkeypatch.setattr(command.sys, "argv", ["benchmarks", *arguments])
    assert CliRunner().invoke(command.app, arguments).exit_code == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["command"].startswith("python -m benchmarks serving --only cost")
    assert len(record["commit"]) == 40
    assert [Figure(**figure) for figure in record["figures"]] == [Figure("ms", 2, 3.0, True)]


def test_the_pictures_of_this_run_of_the_benchmark_alone(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    folder.mkdir()
    for name, age in (
        ("replay-demo.png", 200),
        ("replay-old.png", 50),
        ("serving-growth.png", 200),
        ("replay.txt", 200),
    ):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (age, age))
    pictures = command.recent_pictures(Settings(var=tmp_path), "replay", since=100.0)
    assert [path.name for path in pictures] == ["replay-demo.png"]
    assert command.recent_pictures(Settings(var=tmp_path / "nowhere"), "replay", since=0.0) == []
