"""Items that nobody used: a tenth of MovieLens-1M's is kept from training, then asked for; and films by Chinese titles.

The hidden items join a trained network as later items join the endpoint's, known by what they are alone. Targets are
what users liked of them in the last fifth of the time, from the histories of the moment, among the hidden items and
among all that the user did not have. The text is title, genres and, where ``abstracts.parquet`` is there, the plot.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from attune.columns import Columns
from attune.settings import Settings
from benchmarks.datasets import DATA, cut_at, movielens_1m
from benchmarks.record import Figure, just
from evaluation.intervals import REPLICATES, by_user, ratios
from infra.commands.output import note
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.item_vectors import USEM3, TextVectors, text_of, text_vectors
from models.learning.dataset import TrainingSet, groups, targets
from models.learning.selection import Validation
from models.learning.training import choose, learnable, validation_over
from models.metrics import event_values, is_in, ranks
from models.network.config import RECIPES, KnnGrid, Recipe, recipe_named
from models.network.sequence import torch_threads
from models.ranking.retrieval import mask
from models.sources import SOURCES

LEARN, KNOWN, ASKED = 0.7, 0.8, 4_000
"""Shares of the events up to which networks learn and are chosen; about so many questions are asked of the rest."""

ONE_KNN = KnnGrid(shrinkages=(5.0,), histories=(30,), decays=(1.0,), slopes=(0.5,))
"""Networks start from item-kNN; there is nothing to choose of it here."""

METRICS = ("hr@10", "ndcg@10")

Score = Callable[[HistoryBatch], np.ndarray]

TITLES = {
    "玩具总动员": "Toy Story (1995)",
    "勇敢的心": "Braveheart (1995)",
    "星球大战": "Star Wars: Episode IV - A New Hope (1977)",
    "低俗小说": "Pulp Fiction (1994)",
    "肖申克的救赎": "Shawshank Redemption, The (1994)",
    "阿甘正传": "Forrest Gump (1994)",
    "狮子王": "Lion King, The (1994)",
    "侏罗纪公园": "Jurassic Park (1993)",
    "辛德勒的名单": "Schindler's List (1993)",
    "西雅图夜未眠": "Sleepless in Seattle (1993)",
    "沉默的羔羊": "Silence of the Lambs, The (1991)",
    "白雪公主和七个小矮人": "Snow White and the Seven Dwarfs (1937)",
    "美女与野兽": "Beauty and the Beast (1991)",
    "独立日": "Independence Day (ID4) (1996)",
    "教父": "Godfather, The (1972)",
    "卡萨布兰卡": "Casablanca (1942)",
    "绿野仙踪": "Wizard of Oz, The (1939)",
    "外星人": "E.T. the Extra-Terrestrial (1982)",
    "终结者": "Terminator, The (1984)",
    "回到未来": "Back to the Future (1985)",
    "泰坦尼克号": "Titanic (1997)",
    "拯救大兵瑞恩": "Saving Private Ryan (1998)",
    "小美人鱼": "Little Mermaid, The (1989)",
    "美丽人生": "Life Is Beautiful (La Vita è bella) (1997)",
    "黑客帝国": "Matrix, The (1999)",
    "第六感": "Sixth Sense, The (1999)",
    "美国丽人": "American Beauty (1999)",
    "角斗士": "Gladiator (2000)",
}
"""Films by the titles that they have in China: some are translations, some say something else."""


def hidden_last(rated: TrainingSet, share: float, seed: int) -> tuple[TrainingSet, int]:
    """The same events over a catalogue in which a random ``share`` of the items stands last, and how many stand first.

    Its statistics are of the last moment that is learned from, unknown for the hidden items.
    """
    order = np.random.default_rng(seed).permutation(len(rated.catalogue))
    first = len(order) - round(len(order) * share)
    order = np.concatenate([np.sort(order[:first]), np.sort(order[first:])])
    place_N = np.argsort(order)
    stats_NF = rated.upto(cut_at(rated, KNOWN)).catalogue.stats_NF[order].copy()
    stats_NF[first:] = np.nan
    catalogue = replace(rated.catalogue.unused(order), stats_NF=stats_NF)
    return replace(rated, items=place_N[rated.items], catalogue=catalogue), first


def without_hidden(rated: TrainingSet, first: int) -> TrainingSet:
    """The events of the items that stand first, and these items alone."""
    catalogue, places = rated.catalogue, np.arange(first)
    kept = replace(catalogue.unused(places), stats_NF=catalogue.stats_NF[:first])
    return replace(rated.select(rated.items < first), catalogue=kept)


def questions(rated: TrainingSet, first: int) -> tuple[Validation, np.ndarray]:
    """The liked targets among hidden items after what is known, and the user of each."""
    window = groups(rated, cut_at(rated, KNOWN), int(rated.times.max()))
    of_window = targets(rated, window)
    liked = is_in("positive", rated.rewards[of_window.event_T]) & (rated.items[of_window.event_T] >= first)
    asked = np.unique(of_window.row_T[liked])
    asked = asked[np.linspace(0, len(asked) - 1, min(ASKED, len(asked))).astype(np.int64)]
    batches, users = [], []
    place = 0
    for part in Validation.of(rated, window.select(asked)).batches:
        kept = is_in("positive", part.target_rewards) & (part.target_items >= first)
        columns = ("target_rows", "target_items", "target_rewards")
        batches.append(replace(part, **{name: getattr(part, name)[kept] for name in columns}))
        users.append(window.users[asked[place + part.target_rows[kept]]])
        place += len(part.batch)
    return Validation(batches), np.concatenate(users)


def judged(name: str, score: Score, asked: tuple[Validation, np.ndarray], first: int) -> list[Figure]:
    """HR@10 and NDCG@10 among the hidden items and among all, with their intervals by user."""
    ranks_of: dict[str, list[np.ndarray]] = {"the hidden items": [], "all items": []}
    for part in asked[0].batches:
        scores_BN = mask(score(part.batch), part.seen_rows, part.seen_items)
        own_T = part.target_items - first
        ranks_of["the hidden items"].append(ranks(scores_BN[:, first:], part.target_rows, own_T))
        ranks_of["all items"].append(ranks(scores_BN, part.target_rows, part.target_items))
    figures = []
    for among, parts in ranks_of.items():
        rank_T = np.concatenate(parts)
        for metric in METRICS:
            values_T = event_values(metric, rank_T, np.full(len(rank_T), np.inf))
            sums_SU, counts_U = by_user(asked[1], values_T[None])
            found = ratios([(sums_SU[0], counts_U)], REPLICATES, 0)[0]
            said = f"95 %: {found.low:.4f} to {found.high:.4f}; {len(rank_T)} targets of {len(counts_U)} users"
            figures.append(just(f"{name}, {metric} among {among}", found.value, said))
    return figures


def network_of(rated: TrainingSet, first: int, recipe: Recipe, seed: int) -> Score:
    """A network that never met the hidden items, over all items."""
    learned_upto, known_upto = (cut_at(rated, share) for share in (LEARN, KNOWN))
    known = learnable(without_hidden(rated, first), known_upto)
    learned = known.upto(learned_upto)
    validation = validation_over(known, learned.catalogue, learned_upto, known_upto, recipe)
    said = "epoch {epoch}: NDCG@10 {ndcg@10:.4f}"
    hybrid, _, _ = choose(
        learned, validation, recipe, seed, lambda row: note(said.format_map(row)), {"item-knn": SOURCES["item-knn"]}
    )
    hidden = rated.catalogue.unused(np.arange(first, len(rated.catalogue)))
    return hybrid.network.extended(hidden).scores


def plots() -> pd.Series:
    """The plots by item id; none where the file is not there."""
    path = Path(os.environ.get(DATA, "")) / "ml-1m" / "abstracts.parquet"
    if not path.is_file():
        return pd.Series(dtype=object)
    table = pd.read_parquet(path)
    return pd.Series(table["abstract"].to_numpy(), table["movie_id"].astype(str))


def told(catalogue: Catalogue, texts: TextVectors) -> Catalogue:
    """The catalogue with the vectors of its texts."""
    abstracts = plots()
    columns = zip(catalogue.item_ids, catalogue.titles, catalogue.genres, strict=True)
    items = [
        {Columns.TITLE: title, Columns.GENRES: list(genres), Columns.TEXT: abstracts.get(item_id)}
        for item_id, title, genres in columns
    ]
    return replace(catalogue, vectors={texts.block: texts.of([text_of(item) for item in items])})


def by_chinese_title(titles: tuple[str, ...], texts: TextVectors) -> list[Figure]:
    """How often the film stands first, or among ten, of all titles by the likeness of their vectors to its title's."""
    wanted = {query: titles.index(title) for query, title in TITLES.items() if title in titles}
    titles_NV, queries_QV = (texts.of(words).astype(np.float32) for words in (titles, list(wanted)))
    similar_QN = queries_QV @ titles_NV.T
    rank_Q = ranks(similar_QN, np.arange(len(wanted)), np.array(list(wanted.values())))
    said = f"{len(wanted)} queries, {len(titles)} titles; chance"
    return [
        just(f"Chinese titles, top {cut}", float((rank_Q <= cut).mean()), f"{said} {cut / len(titles):.4f}")
        for cut in (1, 10)
    ]


def measure(
    seed: Annotated[int, typer.Option(help="Equal seeds hide and learn alike.")] = 0,
    users: Annotated[int, typer.Option(help="Only so many users, drawn by chance; 0 for all.")] = 600,
    share: Annotated[float, typer.Option(help="The share of the items that is hidden.")] = 0.1,
    recipe: Annotated[str, typer.Option(help=f"{', '.join(RECIPES)}.")] = "tiny",
    dropout: Annotated[float, typer.Option(help="The share of ids that are left out beside texts.")] = 0.1,
) -> list[Figure]:
    """Cold items with text and without, against chance and the newest first; films found by their Chinese titles."""
    settings, chosen = Settings(), replace(recipe_named(recipe), knn=ONE_KNN)
    texts = text_vectors(USEM3, settings.texts_folder)
    assert texts is not None
    rated = movielens_1m()
    if users:
        drawn = np.random.default_rng(seed).choice(len(rated.user_ids), min(users, len(rated.user_ids)), replace=False)
        rated = rated.select(np.isin(rated.users, drawn))
    rated, first = hidden_last(rated, share, seed)
    asked, rng = questions(rated, first), np.random.default_rng(seed)
    year_N = np.array([-np.inf if year is None else year for year in rated.catalogue.years])
    newest_1N = (year_N + rng.random(len(year_N)))[None]  # in a year by chance
    figures = judged("chance", lambda batch: rng.random((len(batch), len(year_N))), asked, first)
    figures += judged("newest first", lambda batch: np.repeat(newest_1N, len(batch), axis=0), asked, first)
    arms = {
        "without text": rated,
        "with text": replace(rated, catalogue=told(rated.catalogue, texts)),
    }
    with torch_threads(chosen.threads):
        for name, data in arms.items():
            note(name)
            network = replace(chosen.network, item_vectors=data is not rated, id_dropout=dropout)
            score = network_of(data, first, replace(chosen, network=network), seed)
            figures += judged(name, score, asked, first)
    return figures + by_chinese_title(rated.catalogue.titles, texts)
