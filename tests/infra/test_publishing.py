"""`attune bench --mlflow`: which pictures go with a record."""

import os
from pathlib import Path

from attune.settings import Settings
from benchmarks.command import drawn


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
    assert [path.name for path in drawn(Settings(var=tmp_path), "replay", since=100.0)] == ["replay-demo.png"]
    assert drawn(Settings(var=tmp_path / "nowhere"), "replay", since=0.0) == []
