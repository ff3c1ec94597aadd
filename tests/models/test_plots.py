"""The pictures of a version: that they are drawn from any figures, and that pass and fail look different."""

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from models import plots

GATE = {"name": "coverage", "measured": 0.2, "limit": 0.1, "verdict": "pass", "at_most": False}


def pixels(png: bytes) -> np.ndarray:
    return imread(io.BytesIO(png))[..., :3]


def share_of(colour: str, png: bytes) -> float:
    return float((np.abs(pixels(png) - to_rgb(colour)).max(axis=-1) < 0.02).mean())


@pytest.mark.parametrize("verdict", ["pass", "fail", "undecided"])
def test_a_gates_bar_has_the_colour_of_its_verdict(verdict: str) -> None:
    png = plots.gate_bars([{**GATE, "verdict": verdict}], decision="accepted")
    shares = {name: share_of(colour, png) for name, colour in plots.COLOURS.items()}
    assert max(shares, key=shares.get) == verdict
    assert shares[verdict] > 0.05


def test_the_side_that_fails_lies_above_the_limit_of_a_gate_that_says_at_most() -> None:
    shaded = "#fbe3e1"
    below = pixels(plots.gate_bars([{**GATE, "measured": 0.5, "limit": 1.0}], decision="accepted"))
    above = pixels(plots.gate_bars([{**GATE, "at_most": True, "measured": 0.5, "limit": 1.0}], decision="accepted"))
    where = [np.nonzero(np.abs(one - to_rgb(shaded)).max(axis=-1) < 0.02)[1].mean() for one in (below, above)]
    assert where[0] + 100 < where[1]


def test_gates_without_figures_of_any_size_and_equal_to_their_limits_are_drawn() -> None:
    gates = [
        {"name": "beats_popularity", "measured": 0.0, "limit": 0.0, "low": 0.0, "high": 0.0, "verdict": "undecided"},
        {"name": "not_worse_than_anchor", "measured": None, "limit": None, "verdict": "not_applicable"},
        {"name": "parity", "measured": None, "limit": 1e-4, "verdict": "fail"},
        {"name": "lineage", "measured": 9e9, "limit": 9e9 + 1, "verdict": "pass", "low": None, "high": None},
    ]
    at_most = [{**gate, "at_most": gate["name"] in ("parity", "lineage")} for gate in gates]
    assert pixels(plots.gate_bars(at_most, decision="refused")).size


def test_learning_is_drawn_with_what_is_known_of_each_epoch() -> None:
    assert pixels(plots.learning_curve([{"epoch": 0, "loss": None, "ndcg@10": 0.1}])).size
    assert pixels(plots.learning_curve([{"loss": 1.0}, {"loss": 0.5}])).size
    rows = [{"epoch": step, "loss": 1.0 / step, "ndcg@10": 0.1, "objective": 0.2} for step in (1, 2)]
    assert pixels(plots.learning_curve(rows)).size


def test_hits_over_the_hold_out_show_a_line_for_each() -> None:
    lines = {"targets": [10.0, 20.0], "challenger": [0.2, 0.3], "popularity": [0.1, 0.1]}
    png = plots.rolling_hits(lines, 50)
    assert share_of(plots.LINES["challenger"], png) > 0
    assert share_of(plots.LINES["champion"], png) == 0


def test_calibration_shows_a_line_for_each_who_gave_chances() -> None:
    found = {"error_ten": 0.04, "reliability": [{"chance": 0.1, "share": 0.2}, {"chance": 0.5, "share": 0.3}]}
    both = plots.reliability({"challenger": found, "champion": {**found, "reliability": found["reliability"][:1]}})
    assert share_of(plots.LINES["challenger"], both) > 0
    assert share_of(plots.LINES["champion"], both) > 0
    assert share_of(plots.LINES["champion"], plots.reliability({"challenger": found})) == 0


def test_pyplot_is_not_loaded() -> None:
    code = (
        "import sys; from models import plots; plots.learning_curve([{'loss': 1.0}]);"
        " assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
