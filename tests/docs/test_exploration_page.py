"""docs/how-to/exploration.md: its lines print, of a lake with a planted curve, what stands there; its limits hold."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attune.clock import DAY, HOUR, SECOND
from attune.event_log import EventLog, prepare
from attune.events import AnyEvent, Feedback, Shown, Slate
from attune.settings import Settings
from features.lake import Lake
from models.ranking.exploration import Bounded
from models.ranking.policy import PlackettLuce, Pool

NOW = 20_000 * DAY
"""What the log's clock says: the attribution window of every slate is over."""

CURVE_K = np.array([1.0, 0.8, 0.65, 0.5, 0.4, 0.3])
USERS, SLATES, CANDIDATES = 300, 8, 12


def slate_and_reactions(user: int, turn: int, rng: np.random.Generator) -> Iterator[AnyEvent]:
    """One slate by Plackett-Luce; who looks at a position likes its item the more often the higher its score is."""
    scores_C = rng.uniform(-0.5, 0.5, CANDIDATES)
    (drawn,) = PlackettLuce(0.2).draw_many([Pool(scores_C, len(CURVE_K), rng)])
    at, name = NOW - 3 * DAY + turn * HOUR, f"s{user}-{turn}"
    shown = [
        Shown(f"i{place}", float(scores_C[place]), float(propensity))
        for place, propensity in zip(drawn.places_K, drawn.propensities_K, strict=True)
    ]
    yield Slate(
        event_id=name, event_timestamp=at, user_id=f"u{user}", model_version="1", served_by="champion", policy={},
        shown=shown, candidates=[], context={}, state_position=0,
    )  # fmt: skip
    likes_K = rng.random(len(shown)) < CURVE_K * (0.1 + 0.6 * (scores_C[drawn.places_K] + 0.5))
    for rank in np.flatnonzero(likes_K):
        yield Feedback(
            event_id=f"{name}-{rank}", event_timestamp=at + SECOND, user_id=f"u{user}", item_id=shown[rank].item_id,
            kind="like", slate_id=name,
        )  # fmt: skip


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation whose users look at each position as often as ``CURVE_K`` says."""
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "var"))
    settings, rng = Settings(), np.random.default_rng(7)
    prepare(settings.log_url)
    with contextlib.closing(EventLog(settings.log_url, lambda: NOW)) as log:
        log.append([
            event
            for user in range(USERS)
            for turn in range(SLATES)
            for event in slate_and_reactions(user, turn, rng)
        ])  # fmt: skip
        Lake(settings.lake_folder).ingest(log)


def test_how_far_down_people_look_is_what_the_page_says(page, planted: None) -> None:
    section = page("how-to/exploration.md").section("See how far down people look").lines
    starts = [place for place, line in enumerate(section) if line.startswith("```")]
    lines, printed = (
        "\n".join(section[start + 1 : stop]) for start, stop in zip(starts[::2], starts[1::2], strict=True)
    )
    said = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(said):
        exec(compile(lines, "docs/how-to/exploration.md", "exec"), names)
    assert said.getvalue().splitlines() == printed.splitlines()
    found = names["found"]
    assert ((found.low_K <= CURVE_K) & (found.high_K >= CURVE_K)).all()
    assert found.rows_K.tolist() == [USERS * SLATES] * len(CURVE_K)


def worst_quality(genres_C: list[set[str]], worth_C: np.ndarray) -> float:
    """Of 100 slates of two under a floor of 0.8, with at most one item of each genre."""

    def allowed(above: Sequence[int]) -> np.ndarray:
        taken = {genre for place in above for genre in genres_C[place]}
        return np.array([not genres & taken for genres in genres_C])

    pools = [Pool(worth_C, 2, np.random.default_rng(seed), allowed=allowed) for seed in range(100)]
    drawn = Bounded(PlackettLuce(0.3), least_quality=0.8).draw_many(pools)
    return min(float(one.notes["quality"]) for one in drawn)


def test_a_floor_holds_for_the_slate_under_one_cap_but_not_where_the_capped_attribute_is_a_list() -> None:
    worth_C = np.array([1.0, 1.0, 0.85, 0.0])
    assert worst_quality([{"x"}, {"y"}, {"x"}, set()], worth_C) >= 0.8
    assert worst_quality([{"x"}, {"y"}, {"x", "y"}, set()], worth_C) == pytest.approx(0.425)
