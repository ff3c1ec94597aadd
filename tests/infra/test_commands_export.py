"""`attune export`: files that can be imported again, or a reason why not."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from attune.event_log import EventLog, prepare
from attune.events import Interaction, Item
from attune.settings import Settings


@pytest.fixture
def seeded(attune, clicks: list[Interaction], described: list[Item]) -> None:
    settings = Settings()
    prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        log.append(clicks)
        log.append(described)


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_what_was_exported_can_be_imported_elsewhere(
    attune, seeded, clicks, tmp_path: Path, monkeypatch, format: str
) -> None:
    status, out, _ = attune("export", str(tmp_path / "out"), "--format", format)
    assert status == 0
    for words in (f"interaction.{format}", "360", f"item.{format}", "24", "attune import tabular"):
        assert words in out, words
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "other"))
    file = str(tmp_path / "out" / f"interaction.{format}")
    report = json.loads(attune("import", "tabular", "--interactions", file, "--json")[1])
    assert (report["accepted"], report["quarantined"]) == (len(clicks), 0)


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
