"""The network: causal, deaf to what it does not know, and moved the right way by what it is told."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from models.history import KIND_INDEX, HistoryBatch
from models.learning.fit import Sample, full_softmax, generalised_bce, sampled_softmax
from models.learning.training import Trained
from models.network.config import RECIPES, WITHOUT_ONLINE, Recipe, SequenceConfig
from models.network.sequence import (
    ItemAttributes,
    SequenceNetwork,
    SequenceRecommender,
    gap_buckets,
    reward_shares,
    scaled_stats,
    tokens,
)

CPU = torch.device("cpu")


def history(items: list[int], kinds: list[str], rewards: list[float]) -> HistoryBatch:
    length = len(items)
    return HistoryBatch(
        items_BL=np.array([items]) + 1,
        kinds_BL=np.array([[KIND_INDEX[kind] for kind in kinds]]),
        rewards_BL=np.array([rewards], np.float32),
        times_BL=np.arange(1, length + 1)[None] * 1_000_000,
        item_stats_BLF=np.full((1, length, 4), np.nan, np.float32),
        user_stats_BF=np.full((1, 4), np.nan, np.float32),
        now_B=np.array([(length + 1) * 1_000_000]),
    )


@pytest.fixture
def untaught(tastes) -> SequenceNetwork:
    torch.manual_seed(0)
    network = SequenceNetwork(
        SequenceConfig(width=16, blocks=2, heads=2, context=8), ItemAttributes.of(tastes.catalogue)
    )
    for weight in network.parameters():  # branches that start at zero would hide mistakes
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    return network.eval()


def test_a_place_sees_nothing_after_it(untaught):
    first = history([1, 2, 3, 4], ["like"] * 4, [1.0] * 4)
    other = history([1, 2, 9, 9], ["like", "like", "dislike", "hide"], [1.0, 1.0, 0.0, 0.0])
    with torch.inference_mode():
        a, b = (untaught.encode(tokens(one, 8, CPU), untaught.items()[0]) for one in (first, other))
    np.testing.assert_allclose(a[0, :2], b[0, :2], atol=1e-6)
    assert not np.allclose(a[0, 2:], b[0, 2:])


@pytest.mark.parametrize("place", [4, 2])
def test_one_place_alone_is_the_same(untaught, place):
    batch = history([1, 2, 3, 4, 5], ["like"] * 5, [1.0, 0.0, 0.5, 1.0, 0.75])
    given, (items_ND, _) = tokens(batch, 8, CPU), untaught.items()
    with torch.inference_mode():
        whole, part = (untaught.encode(given, items_ND, at) for at in (None, torch.tensor([place])))
    np.testing.assert_allclose(part, whole[:, [place]], atol=1e-5)


def test_padding_changes_nothing(untaught, tastes):
    recommender = SequenceRecommender(untaught, ItemAttributes.of(tastes.catalogue).genre_names)
    short, long = history([1, 2, 3], ["like"] * 3, [1.0, 0.0, 1.0]), history([5] * 7, ["like"] * 7, [1.0] * 7)
    left = {"items_BL": 0, "kinds_BL": 0, "rewards_BL": 0.5, "times_BL": 0, "item_stats_BLF": np.nan}
    padded = {
        name: np.concatenate([np.full_like(getattr(long, name)[:, :4], blank), getattr(short, name)], axis=1)
        for name, blank in left.items()
    }
    both = {name: np.concatenate([padded[name], getattr(long, name)]) for name in padded}
    pair = replace(short, **both, user_stats_BF=short.user_stats_BF.repeat(2, 0), now_B=short.now_B.repeat(2))
    np.testing.assert_allclose(recommender.states(pair)[:1], recommender.states(short), atol=1e-5)


def test_a_history_is_cut_to_the_context():
    given = tokens(history(list(range(12)), ["like"] * 12, [1.0] * 12), 8, CPU)
    assert given.items_BL.tolist() == [list(range(5, 13))]
    assert given.gaps_BL[0, 0] == 1, "the pause before the first place that is read is known"


def test_a_network_that_is_not_told_the_time_of_the_target_does_not_hear_it(tastes):
    torch.manual_seed(0)
    config = SequenceConfig(width=16, blocks=1, heads=2, context=8, target_time=False)
    network = SequenceNetwork(config, ItemAttributes.of(tastes.catalogue))
    torch.nn.init.normal_(network.pause_TD)
    batch = history([1, 2, 3], ["like"] * 3, [1.0] * 3)
    now, later = (SequenceRecommender(network, ()).scores(replace(batch, now_B=batch.now_B + us)) for us in (0, 10**12))
    np.testing.assert_array_equal(now, later)


def test_a_like_and_five_stars_are_one_before_kinds_are_learned(tastes):
    torch.manual_seed(0)
    attributes = ItemAttributes.of(tastes.catalogue)
    fresh = SequenceRecommender(
        SequenceNetwork(SequenceConfig(width=16, heads=1, context=8), attributes), attributes.genre_names
    )
    scored = {
        kind: fresh.scores(history([3], [kind], [reward]))
        for kind, reward in (("like", 1.0), ("rating", 1.0), ("dislike", 0.0))
    }
    np.testing.assert_array_equal(scored["like"], scored["rating"])
    assert not np.array_equal(scored["like"], scored["dislike"])


def test_rewards_are_interpolated_between_anchors():
    np.testing.assert_allclose(
        reward_shares(np.array([0.0, 0.125, 1.0])), [[1, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 1]]
    )


def test_unknown_statistics_are_flagged_and_zero():
    scaled = scaled_stats(np.array([[np.nan, np.nan, 3.0, np.nan], [10.0, 1.0, 0.0, 2.0]], np.float32))
    assert scaled[0].tolist()[:2] == [0, 0]
    assert scaled[0].tolist()[4:] == [1, 1, 0, 1]
    assert scaled[1, 1] == 1.0
    assert scaled[1].tolist()[4:] == [0, 0, 0, 0]


def test_gaps_double():
    assert gap_buckets(np.array([0, 1_000_000, 3_000_000, 10**18])).tolist() == [0, 1, 2, 31]
    assert gap_buckets(np.array([-5])).tolist() == [0], "a clock that went back is no gap"


def test_attributes_keep_known_genres_in_their_places(tastes):
    attributes = ItemAttributes.of(tastes.catalogue, ("z", "b"))
    assert attributes.genre_names == ("z", "b", "a")
    assert attributes.genres_NG[0].tolist() == [0, 0, 1]
    assert (attributes.years_N == 0).all(), "no year is a bucket of its own"


def test_a_dislike_lowers_what_a_like_raises(trained_on_tastes: Trained):
    network = trained_on_tastes.hybrid.network
    catalogue = trained_on_tastes.catalogue
    cluster = np.array([item[0] for item in catalogue.item_ids])
    number = np.array([int(item[1:]) for item in catalogue.item_ids])
    for reacted in (0, 5, 16 + 2):
        own = cluster == cluster[reacted]
        untouched = own & (np.arange(len(cluster)) != reacted) & (number < 14)
        unheard_of = own & (number >= 14)
        like = network.scores(history([reacted], ["like"], [1.0]))[0]
        dislike = network.scores(history([reacted], ["dislike"], [0.0]))[0]
        for part in (untouched, unheard_of):
            fell = (dislike - dislike.mean())[part] < (like - like.mean())[part]
            assert fell.all()


def test_likeness_is_the_cosine_times_the_length(trained_on_tastes: Trained):
    network = trained_on_tastes.hybrid.network
    unit_ND = network.unit_items_ND
    said_BN = network.likeness(np.stack([unit_ND[3], 0.5 * unit_ND[3], -unit_ND[3], 0 * unit_ND[3]]))
    assert said_BN.dtype == np.float32
    np.testing.assert_allclose(said_BN[:, 3], [1.0, 0.5, -1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(said_BN[0], unit_ND @ unit_ND[3], atol=1e-6)


def test_an_item_without_a_direction_is_like_nothing(untaught):
    network = untaught
    with torch.no_grad():
        for table in (network.ids_ND, network.genre_GD, network.year_YD):
            table.zero_()
    said_BN = SequenceRecommender(network, ()).likeness(np.ones((1, network.config.width), np.float32))
    assert (said_BN == 0).all()


def test_the_sampled_softmax_estimates_the_whole_one():
    torch.manual_seed(0)
    states, items, bias = torch.randn(5, 8), torch.randn(30, 8) * 0.5, torch.randn(30) * 0.1
    targets = torch.tensor([0, 3, 9, 29, 3])
    q = torch.softmax(torch.randn(30), 0)
    sampled = torch.multinomial(q, 20_000, replacement=True)
    sample = Sample(sampled, (len(sampled) * q[sampled]).log(), rate=1.0)
    whole = full_softmax(states, items, bias, targets, None)
    torch.testing.assert_close(sampled_softmax(states, items, bias, targets, sample), whole, atol=0.06, rtol=0.0)


def test_the_calibrated_loss_is_binary_cross_entropy_where_all_items_are_drawn():
    torch.manual_seed(0)
    states, items, bias = torch.randn(5, 8), torch.randn(30, 8) * 0.5, torch.randn(30) * 0.1
    targets = torch.tensor([0, 3, 9, 29, 3])
    everything = torch.arange(30)
    scores = torch.addmm(bias, states, items.T)
    own = F.one_hot(targets, 30).float()
    each = F.binary_cross_entropy_with_logits(scores, own, reduction="none")
    sample = Sample(everything, torch.zeros(30), rate=1.0)
    torch.testing.assert_close(generalised_bce(states, items, bias, targets, sample), each.sum(dim=1))
    few = generalised_bce(states, items, bias, targets, replace(sample, rate=0.1))
    torch.testing.assert_close(few, (each * torch.where(own > 0, 0.325, 1.0)).sum(dim=1))


def test_the_pause_since_the_last_event_is_heard(untaught, tastes):
    recommender = SequenceRecommender(untaught, ItemAttributes.of(tastes.catalogue).genre_names)
    batch = history([1, 2, 3], ["like"] * 3, [1.0] * 3)
    scored = [recommender.scores(replace(batch, now_B=batch.now_B + wait * 3_600_000_000)) for wait in (0, 1)]
    assert not np.array_equal(*scored)


def test_a_bundle_of_before_the_pauses_inside_scores_as_it_did(trained_on_tastes: Trained):
    network, catalogue = trained_on_tastes.hybrid.network, trained_on_tastes.catalogue
    tensors = network.tensors()
    without = {name: tensor for name, tensor in tensors.items() if name != "until_TD"}
    zero = {**tensors, "until_TD": np.zeros_like(tensors["until_TD"])}
    batch = history([1, 2], ["like"] * 2, [1.0] * 2)
    old, new = (SequenceRecommender.restore(catalogue, network.settings(), stored) for stored in (without, zero))
    np.testing.assert_array_equal(old.scores(batch), new.scores(batch))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_go_through_json(name):
    recipe = RECIPES[name]()
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert recipe.network.width % recipe.network.heads == 0
    assert recipe.online.preference_weight > 0
    assert recipe.online.live_weight > 0


def test_a_recipe_of_before_there_were_online_sources_has_none():
    values = RECIPES["tiny"]().as_dict()
    del values["felt"]
    assert Recipe.from_dict(values).online == WITHOUT_ONLINE
    assert (WITHOUT_ONLINE.preference_weight, WITHOUT_ONLINE.live_weight) == (0.0, 0.0)


def test_all_recipes_have_their_own_name():
    for first, second in itertools.combinations(sorted(RECIPES), 2):
        assert RECIPES[first]().name != RECIPES[second]().name
