"""Old folders go, unless they are among the latest, young, spared or hidden."""

import os
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from attune.files import remove_old

HOUR = 3_600.0


def aged(folder: Path, name: str, hours: float) -> None:
    path = folder / name
    path.mkdir(parents=True)
    (path / "content").write_text("x")
    moment = time.time() - hours * HOUR
    os.utime(path, (moment, moment))


def test_what_is_old_and_not_among_the_latest_goes(tmp_path: Path) -> None:
    for name, hours in (("a", 9), ("b", 8), ("c", 7), ("d", 1), (".draft", 99), ("champion", 50)):
        aged(tmp_path, name, hours)
    assert sorted(remove_old(tmp_path, 2, 6 * HOUR, {"champion"})) == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".draft", "c", "champion", "d"]
    assert remove_old(tmp_path, 2, 6 * HOUR, {"champion"}) == []


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert remove_old(tmp_path / "none", 1, 0.0) == []


@given(hours=st.lists(st.floats(0.5, 100.0), max_size=8, unique=True), keep=st.integers(0, 9))
def test_the_latest_always_stay(tmp_path_factory, hours: list[float], keep: int) -> None:
    folder = tmp_path_factory.mktemp("tidy")
    for place, age in enumerate(sorted(hours)):
        aged(folder, f"{place}", age)
    remove_old(folder, keep, HOUR)
    left = {path.name for path in folder.iterdir()}
    assert {f"{place}" for place in range(min(keep, len(hours)))} <= left
    assert {f"{place}" for place, age in enumerate(sorted(hours)) if age < 0.9} <= left
