"""Backups from the command line: made, read again, and damaged."""

import json
from pathlib import Path

import pytest

from attune.event_log import prepare
from attune.settings import Settings


@pytest.fixture(autouse=True)
def empty_log(attune) -> None:
    prepare(Settings().log_url)


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
