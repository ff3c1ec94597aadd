"""Files and folders appear whole or not at all; old ones go unless they are young, spared or hidden."""

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.files import locked, remove_old, whole_file, whole_folder, write_whole

HOUR = 3_600.0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["é\n", b"\x00\xff"])
def test_a_file_is_replaced_by_one_of_the_new_content(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["file"]


def test_a_private_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_whole(path, "secret", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("durable", [False, True])
def test_readers_find_the_old_file_until_the_new_one_is_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with whole_file(path, durable) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
        assert draft.name.startswith(".file.")
        assert draft.suffix == ".draft"
    assert path.read_text() == "new"
    with pytest.raises(ZeroDivisionError), whole_file(path, durable) as draft:
        draft.write_text(f"{1 / 0}")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_a_folder_appears_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    with whole_folder(path, mode=0o700) as draft:
        (draft / "sub").mkdir()
        (draft / "sub" / "file").write_text("new")
        assert not path.exists()
    assert (path / "sub" / "file").read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(OSError, match="not empty"), whole_folder(path) as draft:
        (draft / "file").write_text("other")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "never") as draft:
        (draft / "file").write_text(f"{1 / 0}")
    assert names(tmp_path) == ["deep"]
    assert names(path.parent) == ["folder"]


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


def test_a_lock_is_for_one_at_a_time(tmp_path: Path) -> None:
    path, busy = tmp_path / "deep" / ".lock", ValueError("busy")
    with locked(path), pytest.raises(ValueError, match="busy"), locked(path, busy):
        pass
    with pytest.raises(BlockingIOError, match="the block's own"), locked(path, busy):
        raise BlockingIOError("the block's own")
    with locked(path, busy):
        pass


def test_who_comes_second_waits_for_the_lock(tmp_path: Path) -> None:
    path, order = tmp_path / ".lock", list[str]()

    def second() -> None:
        with locked(path):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(path):
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
