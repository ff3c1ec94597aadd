"""Judgements of a planted world that an earlier attune recorded: verdicts, figures and notes stay what they were."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from attune.columns import TRAIT_COLUMNS
from evaluation.case import Case, CaseLimits
from evaluation.judge import judge
from infra.demo import spoil
from models.bundle import golden_batch, save_bundle

RECORDED = json.loads((Path(__file__).parent / "recorded_judgements.json").read_text())
WORDS, FIGURES = ("name", "verdict", "note", "adverse"), ("limit", "measured", "low", "high")
TIMED = ("latency", "not_slower_than_champion")


@pytest.mark.parametrize("name", RECORDED)
def test_a_judgement_is_what_it_was(
    planted, trained, policy, provenance, cut: int, bundle_folder: Path, tmp_path: Path, name: str
) -> None:
    """Of an honest successor, and of a bad challenger that was planted; other processors may add in another order."""
    golden = golden_batch(planted, cut, planted.catalogue)

    def save(part: str, weights: tuple[float, float, float]) -> Path:
        hybrid = replace(trained, weights=weights)
        return save_bundle(tmp_path / part, hybrid, planted.catalogue, policy, provenance, golden)

    traits = [
        *(("user", user_id, "country", "AT" if place % 6 else "BE") for place, user_id in enumerate(planted.user_ids)),
        *(("item", item_id, "maker", "acme") for item_id in planted.catalogue.item_ids[::2]),
    ]
    world = replace(planted, traits=pd.DataFrame(traits, columns=list(TRAIT_COLUMNS)))
    limits = CaseLimits(min_users=30)
    if name == "an honest successor":
        challenger, anchor = save("successor", (0.05, 0.85, 0.1)), save("anchor", (0.0, 0.0, 1.0))
        case = Case.load(world, challenger, bundle_folder, anchor, limits=limits)
    else:
        case = Case.load(world, spoil(bundle_folder, tmp_path / "bad"), bundle_folder, bundle_folder, limits=limits)
    verdicts = [verdict.to_json() for verdict in judge(case).verdicts]
    assert [verdict["name"] for verdict in verdicts] == [recorded["name"] for recorded in RECORDED[name]]
    for verdict, recorded in zip(verdicts, RECORDED[name], strict=True):
        if verdict["name"] in TIMED:
            verdict |= {"measured": None, "note": ""}
        assert {field: verdict[field] for field in WORDS} == {field: recorded[field] for field in WORDS}
        for field in FIGURES:
            figure = recorded[field]
            expected = None if figure is None else pytest.approx(figure, rel=1e-6, abs=1e-7)
            assert verdict[field] == expected, f"{field} of {verdict['name']}"
