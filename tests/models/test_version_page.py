"""What MLflow's page of a version says, from a card and a judgement that are known."""

from typing import Any

import pytest

from models.model_card import CUT, LIMIT, render_page

CARD = """# attune-recommender: recipe tiny, trained from nothing

A hybrid.

## Learned from

| window |  |
| --- | ---: |
| rows | 12 |

## On validation: the hybrid and each part alone

| | ndcg@10 |
| --- | ---: |
| hybrid | 0.2000 |

## Meant for

People.

## Everything that decided it

```json
{}
```
"""
RUN = "0123456789abcdef"


def figures(*liked: float) -> dict[str, dict[str, float]]:
    return {
        "positive": dict(zip(("ndcg@10", "hr@10", "mrr", "coverage@10"), liked, strict=True)),
        "all": {"ndcg@10": 0.75},
    }


def judgement(verdict: str) -> dict[str, Any]:
    keeping = ["beats_popularity"]
    return {
        "accepted": verdict == "pass",
        "decision": {"pass": "accepted", "fail": "refused"}.get(verdict, verdict),
        "refused_by": keeping * (verdict == "fail"),
        "undecided": keeping * (verdict == "undecided"),
        "gates": [{"name": "beats_popularity", "verdict": verdict}, {"name": "parity", "verdict": "pass"}],
        "hold_out": {"after_time": 10, "upto_time": 30, "events": 19, "users": 3},
        "part": "positive",
        "metrics": figures(0.25, 0.5, 0.125, 0.75),
        "baselines": {"popularity": figures(0.1, 0.2, 0.05, 0.01), "network alone": figures(0.9, 0.9, 0.9, 0.9)},
    }


def headings(page: str) -> list[str]:
    return [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]


def test_a_new_version_shows_its_card_without_the_configuration() -> None:
    page = render_page(CARD, RUN, {"learning"})
    assert page.startswith("# attune-recommender: recipe tiny, trained from nothing\n\nA hybrid.")
    assert headings(page) == ["Learned from", "On validation: the hybrid and each part alone", "Meant for"]
    assert f"![the learning curve](get-artifact?path=learning.png&run_uuid={RUN})" in page
    assert "```" not in page
    assert "gates.png" not in render_page(CARD, RUN, {"learning", "gates"})


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("pass", "Judged: accepted"),
        ("fail", "Judged: refused (beats_popularity)"),
        ("undecided", "Judged: undecided (beats_popularity)"),
    ],
)
def test_a_judged_version_says_so_first(verdict: str, said: str) -> None:
    page = render_page(CARD, RUN, {"gates", "rolling_hr_at_10", "learning"}, judgement(verdict))
    assert headings(page)[0] == said
    assert "After order only up to order only: 19 events of 3 users." in page
    assert "| over liked targets" in page
    rows = [line.replace("&emsp;", "") for line in page.splitlines() if line.startswith("| ")]
    assert "| this version| 0.2500| 0.5000| 0.1250| 0.7500| 0.7500|" in rows
    assert "| popularity| 0.1000| 0.2000| 0.0500| 0.0100| 0.7500|" in rows
    assert "network alone" not in page
    order = [page.index(f"{name}.png") for name in ("gates", "rolling_hr_at_10", "learning")]
    assert order == sorted(order)


def test_a_card_that_is_too_long_is_cut_at_a_lines_end() -> None:
    page = render_page(CARD + "\n\n## Long\n\n" + "a line of it\n" * 1000, RUN, set(), judgement("pass"))
    assert len(page) <= LIMIT
    assert page.endswith("a line of it" + CUT)


def test_a_card_of_one_paragraph_is_a_page_too() -> None:
    assert render_page("# a card\n", RUN, set()) == "# a card"
