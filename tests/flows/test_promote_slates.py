"""From the log to the gate: slates that a champion served are gathered, and a challenger is valued by them."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attune.clock import DAY, SECOND
from attune.event_log import EventLog, prepare
from attune.events import Feedback, Interaction, Item, Slate
from attune.promotions import Promotion
from attune.settings import Settings
from attune.user_state import empty, fold
from features import training_set
from features.lake import Lake
from features.store import FeatureStore
from flows import promote
from models.baselines import ItemKnn, KnnChoice, Popularity
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.network.config import SequenceConfig
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender
from models.ranking.exploring import Greedy
from models.ranking.policy import PlackettLuce, Policy
from models.recommender import Request, recommend

NOW = 20_000 * DAY
USERS, ITEMS = 60, 24
KNN, POPULAR = (0.0, 0.9, 0.1), (0.0, 0.0, 1.0)
CHAMPION = Promotion(1, "default", "7", None, "promote", "test", "", NOW)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "var"))
    found = Settings()
    prepare(found.log_url)
    return found


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    """Everybody used five items of a cluster: even users of the even items, odd ones of the odd."""
    with closing(EventLog(settings.log_url, lambda: NOW)) as opened:
        rng, number = np.random.default_rng(0), 0
        opened.append([
            Item(event_id=f"x{item}", event_timestamp=0, item_id=f"i{item:02d}", attributes={"genres": ["g"]})
            for item in range(ITEMS)
        ])  # fmt: skip
        for user in range(USERS):
            for item in rng.permutation(ITEMS // 2)[:5]:
                number += 1
                opened.append([
                    Interaction(
                        event_id=f"e{number}", event_timestamp=NOW - 20 * DAY + number * SECOND, user_id=f"u{user}",
                        item_id=f"i{2 * item + user % 2:02d}", kind="like",
                    )
                ])  # fmt: skip
        yield opened


def training_folder(settings: Settings, log: EventLog) -> Path:
    lake, store = Lake(settings.lake_folder), FeatureStore(settings)
    lake.ingest(log)
    store.apply()
    upto = lake.watermark()
    return training_set.build(lake, store, settings.training_folder / f"upto-{upto}", upto).folder


def bundle_of(folder: Path, weights: tuple[float, float, float], policy: Policy, known: TrainingSet) -> Path:
    """A hybrid of these weights, fitted to all of the training set."""
    last = int(known.positions.max())
    torch.manual_seed(0)
    attributes = ItemAttributes.of(known.catalogue)
    network = SequenceNetwork(SequenceConfig(width=8, blocks=1, heads=1, context=16), attributes)
    choice = KnnChoice(window=20, shrinkage=1.0, history=10, decay=1.0, slope=0.25, neighbours=20)
    parts = ItemKnn.fit(known, choice), Popularity.fit(known, 30.0)
    hybrid = Hybrid(SequenceRecommender(network, attributes.genre_names), *parts, weights)
    provenance = Provenance({"name": "by hand"}, known.window, last, last, seed=0, panel_users_trained=0)
    return save_bundle(folder, hybrid, known.catalogue, policy, provenance, golden_batch(known, last, known.catalogue))


def show(log: EventLog, folder: Path, rounds: int) -> None:
    """Two items to each user, a few times; the items of their own cluster please, and some more than others."""
    bundle, rng = Bundle.load(folder), np.random.default_rng(1)
    for turn in range(rounds):
        events = log.read(0, 100_000)
        for user in range(USERS):
            state = fold(empty(f"u{user}"), events)
            at = NOW - 5 * DAY + (turn * USERS + user) * SECOND
            made = recommend(bundle, state, None, Request(2, at))
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


def valued(settings: Settings, log: EventLog, policy: Policy, rounds: int):
    """The judgement of a popularity challenger against a champion that knows the clusters."""
    known = TrainingSet.load(training_folder(settings, log))
    champion = bundle_of(settings.var / "champion", KNN, policy, known)
    challenger = bundle_of(settings.var / "challenger", POPULAR, PlackettLuce(0.8), known)
    show(log, champion, rounds)
    data = training_folder(settings, log)
    slates = promote.gather_slates.fn(CHAMPION, challenger, None)
    assert slates is not None
    assert slates.parent == settings.training_folder
    contenders = {"challenger": challenger, "champion": champion, "anchor": None, "elder": None}
    return promote.judge.fn(contenders, data, True, slates)


def test_a_challenger_that_would_please_less_is_refused_by_what_was_shown(settings: Settings, log: EventLog) -> None:
    """Users react between the slates, so each is drawn from a state of its own, and each is put together again."""
    judgement = valued(settings, log, PlackettLuce(0.8), 12)
    change = judgement.off_policy
    assert change.slates == change.alike == change.restated == 12 * USERS
    assert change.reasons == ()
    assert change.feedback["slates"] == 12 * USERS
    assert change.feedback["late reactions"] == 0
    gates = {gate.name: gate for gate in judgement.gates}
    assert gates["off_policy_value"].verdict == "fail", gates["off_policy_value"].note
    assert not replace(judgement, gates=(gates["off_policy_value"],)).accepted
    assert "What the champion showed" in judgement.markdown()
    assert "feedback in that time: slates without reaction" in judgement.markdown()
    assert json.loads(json.dumps(judgement.as_dict()))["off_policy"]["slates"] == 12 * USERS


def test_greedy_slates_block_nobody(settings: Settings, log: EventLog) -> None:
    judgement = valued(settings, log, Greedy(), 1)
    (gate,) = (gate for gate in judgement.gates if gate.name == "off_policy_value")
    assert gate.verdict == "not_applicable"
    assert f"{USERS} deterministic policy" in gate.note


def test_without_a_champion_there_are_no_slates(settings: Settings, tmp_path: Path) -> None:
    assert promote.gather_slates.fn(None, tmp_path, None) is None
