"""A model that is to take over answers first what others were asked; where it cannot, it does not take over."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from cachetools import LRUCache

from attune.errors import BundleError
from attune.events import Interaction, LoggedEvent
from attune.promotions import Promotion
from attune.user_state import UserState, fold
from models.bundle import Bundle
from models.hybrid import Hybrid
from models.ranking.policy import Draw, PlackettLuce
from models.recommender import UNKNOWN_USER_STATS, Request
from serving.catalogue_snapshot import ItemFilter, LiveModel
from serving.champion import RECORDED_USERS, WarmUp
from serving.ranking import Champion, RankingQuery, rank
from serving.state import UserView

BATCH_SIZE = 16
NOW = 1_700_000_000_000_000


@pytest.fixture
def bundle(bundles) -> Bundle:
    return Bundle.load(bundles["first"])


@pytest.fixture
def warm_up() -> WarmUp:
    return WarmUp(lambda: NOW, BATCH_SIZE)


def champion_of(bundle, fence: int = 1) -> Champion:
    return Champion(
        Promotion(fence, "default", "2", "1", "promote", "", "", 0), bundle, 0, LRUCache(100), LiveModel(bundle)
    )


def user_view(user_id: str, *items: str) -> UserView:
    events = [
        LoggedEvent(
            position=position,
            logged_at=NOW,
            event=Interaction(
                event_id=f"{user_id}-{position}",
                event_timestamp=NOW - 9,
                user_id=user_id,
                item_id=item_id,
                kind="click",
            ),
        )
        for position, item_id in enumerate(items, start=1)
    ]
    return UserView(fold(UserState(user_id), events), UNKNOWN_USER_STATS)


@dataclass(frozen=True)
class Counted(Hybrid):
    """A bundle's hybrid that keeps how many users its network was asked for at once."""

    sizes: list[int] = field(default_factory=list)

    @staticmethod
    def of(hybrid: Hybrid) -> "Counted":
        return Counted(**{name: getattr(hybrid, name) for name in Hybrid.__dataclass_fields__ if name[0] != "_"})

    def states(self, batch):
        self.sizes.append(len(batch))
        return super().states(batch)


def test_it_remembers_the_latest_question_of_the_latest_users(warm_up, bundle) -> None:
    for number in range(RECORDED_USERS + 10):
        warm_up.record(user_view(f"u{number}", "a-0"), Request(k=5, now=NOW), {}, {})
    warm_up.record(user_view("u10", "a-0"), Request(k=5, now=NOW), {}, {})
    assert len(warm_up) == RECORDED_USERS
    warm_up.record(user_view("another", "a-0"), Request(k=5, now=NOW), {}, {})
    assert len(warm_up) == RECORDED_USERS
    ready = champion_of(bundle)
    assert warm_up.run(ready) == RECORDED_USERS
    users = {key[0] for key in ready.vectors}
    assert "u10" in users, "it asked again"
    assert "u11" not in users


def test_every_size_of_group_is_played_and_the_first_request_finds_its_vector(warm_up, bundle) -> None:
    counted = Counted.of(bundle.hybrid)
    ready = champion_of(replace(bundle, hybrid=counted))
    people = [user_view(f"u{number}", "a-0", f"b-{number % 8}") for number in range(20)]
    for one in people:
        warm_up.record(one, Request(k=5, now=NOW), {"genres": ["a", "b"]}, {})
    warm_up.run(ready)
    assert counted.sizes == [1, 2, 4, 8, 16, 16, 4]
    counted.sizes.clear()
    pool = ItemFilter(ready.live, {}).pool()
    slates = rank([RankingQuery(ready, pool, one, Request(k=5, now=NOW + 1)) for one in people[:3]])
    assert counted.sizes == []
    assert [len(one.shown) for one in slates] == [5] * 3


def test_before_anybody_asked_nobodys_request_is_played(warm_up, bundle) -> None:
    counted = Counted.of(bundle.hybrid)
    assert warm_up.run(champion_of(replace(bundle, hybrid=counted))) == 0
    assert counted.sizes == [1, 2, 4, 8, 16, 1]


def test_questions_with_little_left_are_no_fault(warm_up, bundle) -> None:
    most = tuple(bundle.catalogue.item_ids[:-3])
    warm_up.record(user_view("u", "a-0"), Request(k=10, now=NOW, exclude=(*most, "no-such-item")), {}, {})
    warm_up.record(user_view("v", "a-0"), Request(k=10, now=NOW), {"genres": "no-such-genre"}, {})
    warm_up.record(user_view("w", "a-0"), Request(k=10, now=NOW), {}, {"genres": 1})
    assert warm_up.run(champion_of(bundle)) == 3


@dataclass(frozen=True)
class Faulty(PlackettLuce):
    """Draws, and then spoils what was drawn."""

    spoil: Callable[[Draw], Draw] = lambda drawn: drawn

    def draw_many(self, pools):
        return [self.spoil(one) for one in super().draw_many(pools)]


def raise_it(_):
    raise RuntimeError("no such table")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (raise_it, "no such table"),
        (lambda drawn: replace(drawn, places_K=drawn.places_K[:2], propensities_K=drawn.propensities_K[:2]), "2 items"),
        (lambda drawn: replace(drawn, propensities_K=drawn.propensities_K * np.nan), "is no number"),
    ],
)
def test_a_model_that_answers_wrongly_is_refused_and_asked_the_same_again(warm_up, bundle, spoil, said) -> None:
    broken = replace(bundle, policy=Faulty(bundle.policy.temperature, spoil=spoil))
    warm_up.record(user_view("u", "a-0"), Request(k=5, now=NOW), {}, {})
    with pytest.raises(BundleError, match=re.escape(said)):
        warm_up.run(champion_of(broken))
    for number in range(RECORDED_USERS):
        warm_up.record(user_view(f"v{number}", "a-0"), Request(k=5, now=NOW), {}, {})
    again, other = champion_of(bundle), champion_of(bundle, fence=2)
    warm_up.run(again)
    assert "u" in {key[0] for key in again.vectors}
    warm_up.run(other)
    assert "u" not in {key[0] for key in other.vectors}
