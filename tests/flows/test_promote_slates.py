"""From the log to the gate: slates that a champion served are gathered, and a challenger is valued by them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attune.clock import DAY, SECOND
from attune.event_log import EventLog
from attune.events import Feedback, Slate
from attune.promotions import Promotion
from attune.settings import Settings
from attune.user_state import UserState, fold
from evaluation.report import Judgement
from flows import promote
from models.bundle import Bundle
from models.learning.dataset import TrainingSet
from models.ranking.exploration import Greedy
from models.ranking.policy import PlackettLuce, Policy
from models.recommender import Request, recommend

NOW = 20_000 * DAY
USERS = 60
KNN, POPULAR = (0.0, 0.9, 0.1), (0.0, 0.0, 1.0)
CHAMPION = Promotion(1, "default", "7", None, "promote", "test", "", NOW)


def show(log: EventLog, folder: Path, rounds: int, first: int = 0) -> None:
    """Two items to each user, a few times; the items of their own cluster please, and some more than others."""
    bundle, rng, upto = Bundle.load(folder), np.random.default_rng(1), 0
    states = [UserState(f"u{user}") for user in range(USERS)]
    for turn in range(first, first + rounds):
        events, upto = log.read(upto, 100_000), log.head()
        for user in range(USERS):
            state = states[user] = fold(states[user], events)
            at = NOW - 5 * DAY + (turn * USERS + user) * SECOND
            made = recommend(bundle, state, None, Request(2, at, seed=int(rng.integers(2**53))))
            log.append([
                Slate(
                    event_id=f"s{turn}-{user}", event_timestamp=at, user_id=state.user_id, model_version="7",
                    served_by=made.served_by, policy=made.policy, shown=made.shown, candidates=made.candidates,
                    context={"request": {}, "k": 2, "exclude": [], "degraded": []}, state_position=state.position,
                )
            ])  # fmt: skip
            pleased = [one.item_id for one in made.shown if int(one.item_id[1:]) % 2 == user % 2 and rng.random() < 0.5]
            log.append([
                Feedback(
                    event_id=f"f{turn}-{user}-{item}", event_timestamp=at + SECOND, user_id=state.user_id,
                    item_id=item, kind="like", slate_id=f"s{turn}-{user}",
                )
                for item in pleased
            ])  # fmt: skip


@pytest.fixture(autouse=True)
def no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a run there is no page in Prefect on which progress could be shown."""
    monkeypatch.setattr(promote, "progress", lambda *_: lambda share: None)


@pytest.fixture
def valued(settings: Settings, log: EventLog, training_folder, bundle_of) -> Callable[[Policy, int], Judgement]:
    """The judgement of a popularity challenger against a champion that knows the clusters."""

    def judged(policy: Policy, rounds: int) -> Judgement:
        known = TrainingSet.load(training_folder())
        champion = bundle_of(settings.var / "champion", KNN, policy, known)
        challenger = bundle_of(settings.var / "challenger", POPULAR, PlackettLuce(0.8), known)
        show(log, champion, rounds)
        data = training_folder()
        contenders = {"challenger": challenger, "champion": champion, "anchor": None, "elder": None}
        slates = promote.gather_slates.fn(settings, CHAMPION, contenders, None)
        assert slates is not None
        assert slates.parent == settings.training_folder
        return promote.judge.fn(contenders, {}, data, True, slates)

    return judged


def test_a_challenger_that_would_please_less_is_refused_by_what_was_shown(valued) -> None:
    """Users react between the slates, so each is drawn from a state of its own, and each is put together again."""
    judgement = valued(PlackettLuce(0.8), 12)
    change = judgement.off_policy
    assert change.slates == change.alike == change.restated == 12 * USERS
    assert change.reasons == ()
    assert change.feedback["slates"] == 12 * USERS
    assert change.feedback["late reactions"] == 0
    gates = {gate.name: gate for gate in judgement.verdicts}
    assert gates["off_policy_value"].verdict == "fail", gates["off_policy_value"].note
    assert not replace(judgement, verdicts=(gates["off_policy_value"],)).accepted
    assert "What the champion showed" in judgement.markdown()
    assert "feedback in that time: slates without reaction" in judgement.markdown()
    assert json.loads(json.dumps(judgement.as_dict()))["off_policy"]["slates"] == 12 * USERS


def test_greedy_slates_block_nobody(valued) -> None:
    judgement = valued(Greedy(), 1)
    (gate,) = (gate for gate in judgement.verdicts if gate.name == "off_policy_value")
    assert gate.verdict == "not_applicable"
    assert f"{USERS} deterministic policy" in gate.note


def test_without_a_champion_there_are_no_slates(settings: Settings, tmp_path: Path) -> None:
    assert promote.gather_slates.fn(settings, None, {"challenger": tmp_path}, None) is None


def test_slates_are_gathered_from_where_the_judgement_begins(
    settings: Settings, log: EventLog, training_folder, bundle_of
) -> None:
    """The champion learned of the first round, the challenger of less: every later slate is told of, and no other."""
    known = TrainingSet.load(training_folder())
    learned = int(known.positions.max())
    shown_by = bundle_of(settings.var / "before", KNN, PlackettLuce(0.8), known)
    show(log, shown_by, 1)
    known = TrainingSet.load(training_folder())
    champion = bundle_of(settings.var / "champion", KNN, PlackettLuce(0.8), known)
    challenger = bundle_of(settings.var / "challenger", POPULAR, PlackettLuce(0.8), known, last=learned)
    show(log, champion, 3, first=1)
    folder = training_folder()
    contenders = {"challenger": challenger, "champion": champion, "anchor": champion, "elder": None}
    slates = promote.gather_slates.fn(settings, CHAMPION, contenders, None)
    judgement = promote.judge.fn(contenders, {}, folder, True, slates)
    change, stated = judgement.off_policy, json.loads((slates / "slates.json").read_text())
    after = Bundle.load(champion).trained_upto
    later = [one for one in log.read(after, 100_000) if isinstance(one.event, Slate)]
    assert stated["after"] == after > learned
    assert judgement.hold_out["after_time"] == known.moment(after)
    assert change.feedback["slates"] == len(later) >= 3 * USERS
    judged = [one for one in later if one.event.event_timestamp > known.moment(after)]
    assert change.slates + sum(change.left_out.values()) == len(judged) >= 3 * USERS - 1
