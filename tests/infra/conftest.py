"""Finds the processes of one test, whoever started them."""

from collections.abc import Callable

import psutil
import pytest

MARK = "FAMILY_OF_TEST"


@pytest.fixture
def family() -> Callable[[str], list[str]]:
    """Gives the commands that still run with a mark in their environment: children, grandchildren, guardians."""

    def members(mark: str) -> list[str]:
        found = []
        for one in psutil.process_iter():
            try:
                if one.environ().get(MARK) == mark and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(one.cmdline()))
            except psutil.Error:
                continue
        return found

    return members
