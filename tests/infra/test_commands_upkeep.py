"""Backups from the command line: made, read again, and damaged."""

import json
import sys
from pathlib import Path

import pytest

from attune.event_log import prepare
from attune.settings import Settings
from infra import cli


@pytest.fixture
def attune(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run `attune ARGUMENTS` in this process over an empty log: (exit status, stdout, stderr)."""
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "var"))
    prepare(Settings().log_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["attune", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


def test_a_backup_is_checked_and_a_damaged_one_is_named(attune) -> None:
    status, out, _ = attune("backup", "--json")
    made = json.loads(out)
    assert status == 0
    checked = json.loads(attune("backup", "--check", made["folder"], "--json")[1])
    assert (checked["whole"], checked["files"]) == (True, made["files"])
    file = next(path for path in Path(made["folder"]).rglob("*") if path.is_file() and path.name != "manifest.json")
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    status, _, err = attune("backup", "--check", made["folder"])
    assert status == 1
    assert file.name in err


def test_days_the_wrong_way_round_are_refused_before_anything_starts(attune) -> None:
    status, _, err = attune("backfill", "2026-11-07", "2026-11-01")
    assert status == 1
    assert "name the first day first" in err
