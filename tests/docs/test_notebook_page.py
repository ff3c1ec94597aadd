"""The page about notebooks is run: its Python blocks, in their order, as the cells of one notebook."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PEOPLE, FILMS, EACH = 60, 40, 20


def test_the_cells_of_the_page_run(
    page: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    rows = [
        (person, film, float(rng.integers(1, 6)), 1_600_000_000 + 50_000 * person + 60 * step)
        for person in range(PEOPLE)
        for step, film in enumerate(rng.choice(FILMS, EACH, replace=False))
    ]
    columns = ["user_id", "item_id", "value", "event_timestamp"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "ratings.csv", index=False)
    films = pd.DataFrame({"item_id": range(FILMS), "title": [f"Film {place}" for place in range(FILMS)]})
    films.assign(genres="Drama|War", year=1990).to_csv(tmp_path / "films.csv", index=False)
    monkeypatch.chdir(tmp_path)
    cells = BLOCK.findall("\n".join(page("how-to/notebook.md").lines) + "\n")
    assert len(cells) == 4
    names: dict[str, Any] = {}
    for cell in cells:
        exec(compile(cell, "docs/how-to/notebook.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "ndcg@10" in printed
    assert "liked targets" in printed
    assert names["same"].recommend(42).equals(names["model"].recommend("42"))
