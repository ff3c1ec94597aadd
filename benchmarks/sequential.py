"""Leave-one-out, full ranking: the last item of each user is asked for, the one before it chooses, the others teach.

The protocol of the published tables of sequential recommenders: every item that the user did not have before competes.
The order is the published one (``seq_pos``) where a set has it, else that of time and of the file. Nothing is learned
from the events that are chosen on. The statistics of items and users are unknown throughout.
"""

import io
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture

from attune.clock import SECOND
from attune.columns import ITEM_STATS, USER_STATS, Columns
from attune.errors import ConfigError
from attune.settings import Settings
from benchmarks.datasets import DATA
from benchmarks.record import Figure, at_least, just
from features.sources import frames
from infra.commands.output import note
from models.catalogue import Catalogue
from models.history import KIND_INDEX, HistoryBatch, Recommender
from models.learning.dataset import Groups, Ragged, TrainingSet, histories, seen
from models.learning.selection import Validation
from models.learning.training import SCORES_AT_ONCE, choose
from models.network.config import RECIPES, Recipe, recipe_named
from models.network.sequence import torch_threads
from models.ranking.retrieval import mask, top_k_rows
from models.sources import MIX, NETWORK, SOURCES

HELD = {"test": 0, "val": 1}
"""The place of the target, counted from the end of each user's events."""

PARTS = (MIX, NETWORK, *SOURCES)
INPUTS = ("ratings", "pauses", "genres", "years")
LENGTH, CUTS, AT_ONCE, REPLICATES = 20, (5, 10, 20), 256, 1_000

LEAST = {("ml-1m", False): (0.354, 0.210), ("ml-1m", True): (0.370, 0.220)}
"""HR@10 and NDCG@10 by data set, without the time of the target and with it."""


@dataclass(frozen=True)
class LeaveOneOut:
    """The events of a set; ``from_end_E`` counts those of each user backwards, the last one is 0.

    ``user_ids`` and ``item_ids`` are the set's own. Where ``target_time`` is False, every question is asked at the
    moment of the user's latest known event.
    """

    events: TrainingSet
    user_ids: np.ndarray
    item_ids: np.ndarray
    from_end_E: np.ndarray
    target_time: bool

    @staticmethod
    def of(
        rows: pd.DataFrame, items: pd.DataFrame, without: Collection[str] = (), target_time: bool = True
    ) -> "LeaveOneOut":
        """From what ``read`` gives. Equal times are set a microsecond apart, so that the order stays.

        An input that is left out says the same of every event or item: the best reward, a pause of a second.
        """
        users, user_ids = pd.factorize(rows["user_id"], sort=True)
        item_ids, places = np.unique(rows["item_id"], return_inverse=True)
        by_user = rows.groupby("user_id", sort=False)
        nth_E = by_user.cumcount().to_numpy()
        equal = "pauses" in without
        start_E = pd.Series(0 if equal else rows["seconds"].to_numpy() * SECOND - nth_E, rows.index)
        times_E = start_E.groupby(users).cummax().to_numpy(np.int64) + nth_E * (SECOND if equal else 1)
        order = np.argsort(times_E, kind="stable")
        told = items.reindex(item_ids)
        genres = () if "genres" in without else told[Columns.GENRES]
        years = () if "years" in without else told[Columns.YEAR]
        count = len(item_ids)
        catalogue = Catalogue(
            item_ids=tuple(map(str, item_ids)),
            titles=tuple("" if pd.isna(title) else str(title) for title in told[Columns.TITLE]),
            genres=tuple(tuple(names) if isinstance(names, list) else () for names in genres) or ((),) * count,
            years=tuple(None if pd.isna(year) else float(year) for year in years) or (None,) * count,
            stats_NF=np.full((count, len(ITEM_STATS)), np.nan, np.float32),
        )
        rewards_E = np.ones(len(rows)) if "ratings" in without else rows["reward"].to_numpy()
        training_set = TrainingSet(
            positions=np.arange(1, len(rows) + 1),
            users=users[order],
            items=places[order],
            kinds=np.full(len(rows), KIND_INDEX["rating"], np.int64),
            rewards=rewards_E[order].astype(np.float32),
            times=times_E[order],
            user_stats_EF=np.full((len(rows), len(USER_STATS)), np.nan, np.float32),
            item_stats_EF=np.full((len(rows), len(ITEM_STATS)), np.nan, np.float32),
            user_ids=np.array([str(user) for user in user_ids], object),
            catalogue=catalogue,
            window={"rows": len(rows)},
        )
        from_end_E = by_user.cumcount(ascending=False).to_numpy()
        return LeaveOneOut(training_set, np.asarray(user_ids), item_ids, from_end_E[order], target_time)

    @property
    def learned(self) -> TrainingSet:
        """What may be learned from: all but the last two events of each user."""
        return self.events.select(self.from_end_E > max(HELD.values()))

    def questions(self, held: int) -> Groups:
        """One for each user who has so many events, in the order of the users' ids."""
        rows = np.flatnonzero(self.from_end_E == held)
        rows = rows[np.argsort(self.events.users[rows])]
        stats_UF, each = self.events.user_stats_EF[rows], np.arange(len(rows) + 1)
        return Groups(self.events.users[rows], self.events.times[rows], stats_UF, Ragged(each, rows))

    def asked(self, batch: HistoryBatch) -> HistoryBatch:
        """The histories as a recommender is given them."""
        return batch if self.target_time else replace(batch, now_B=batch.times_BL[:, -1])

    def validation(self) -> Validation:
        """The events before the last ones, each worth the same; of some users where scores for all are too many."""
        window = self.questions(HELD["val"])
        most = max(1_000, SCORES_AT_ONCE // len(self.item_ids))
        if len(window) > most:
            window = window.select(np.linspace(0, len(window) - 1, most).astype(np.int64))
        blank = [
            replace(part, batch=self.asked(part.batch), target_rewards=np.ones_like(part.target_rewards))
            for part in Validation.of(self.events, window).batches
        ]
        return Validation(blank)

    def lists(self, recommender: Recommender, held: int) -> pd.DataFrame:
        """Each user's best items: ``user_id``, ``item_id``, ``rank`` from 1, as the set names users and items."""
        window, tables = self.questions(held), []
        for start in range(0, len(window), AT_ONCE):
            part = window.select(np.arange(start, min(start + AT_ONCE, len(window))))
            known = seen(self.events, part)
            scores_BN = recommender.scores(self.asked(histories(self.events, part)))
            best = top_k_rows(mask(scores_BN, known.row_of_value(), known.values), LENGTH)
            counts = np.array([len(places_K) for places_K in best])
            tables.append(pd.DataFrame({
                "user_id": np.repeat(self.user_ids[part.users], counts),
                "item_id": self.item_ids[np.concatenate(best)],
                "rank": np.concatenate([np.arange(1, count + 1) for count in counts]),
            }))  # fmt: skip
        return pd.concat(tables, ignore_index=True)

    def judge(self, lists: pd.DataFrame, held: int) -> dict[str, Any]:
        """HR@k, NDCG@k, MRR@10 and coverage@10 of such lists, and the interval of NDCG@10 by bootstrap over users."""
        window = self.questions(held)
        truth = pd.Series(self.item_ids[self.events.items[window.rows.values]], self.user_ids[window.users])
        hit = lists[lists["item_id"].to_numpy() == truth.reindex(lists["user_id"]).to_numpy()]
        rank_U = hit.set_index("user_id")["rank"].reindex(truth.index).to_numpy(np.float64)  # NaN for a miss
        figures: dict[str, Any] = {"users": len(truth), "items": len(self.item_ids)}
        for cut in CUTS:
            gain_U = np.where(rank_U <= cut, 1.0 / np.log2(rank_U + 1.0), 0.0)
            figures |= {f"hr@{cut}": float((rank_U <= cut).mean()), f"ndcg@{cut}": float(gain_U.mean())}
            if cut == 10:
                drawn = np.random.default_rng(0).integers(0, len(gain_U), (REPLICATES, len(gain_U)))
                figures["ndcg@10_95%"] = np.quantile(gain_U[drawn].mean(axis=1), [0.025, 0.975]).tolist()
                figures["mrr@10"] = float(np.where(rank_U <= cut, 1.0 / rank_U, 0.0).mean())
        figures["coverage@10"] = lists.loc[lists["rank"] <= 10, "item_id"].nunique() / len(self.item_ids)
        return figures


def read(folder: Path, users: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A set's events in the order (user, place), and its items' titles, years and genres by their ids.

    The events (``user_id``, ``item_id``, ``seconds``, ``reward`` in [0, 1]) come from ``interactions`` (parquet or
    csv.gz), the items from ``movies.csv`` or ``items.csv.gz``, if any. A rating is scaled by the lowest and the highest
    one; one that is missing is the mean of those that were ``liked`` alike; without any ratings all rewards are 1.
    ``users`` keeps so many, drawn by chance. Raises ConfigError where the folder holds no interactions.
    """
    tables = [folder / "interactions.parquet", folder / "interactions.csv.gz"]
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        raise ConfigError(f"{folder} holds no interactions: set {DATA} to the folder of the data sets")
    rows = pd.read_parquet(table) if table.suffix == ".parquet" else pd.read_csv(table)
    rows = rows.rename(columns={"movie_id": "item_id"})
    order = "seq_pos" if "seq_pos" in rows else "timestamp"
    rows = rows[rows[order].notna()].sort_values(["user_id", order], kind="stable", ignore_index=True)
    if users:
        names = rows["user_id"].unique()
        drawn = np.random.default_rng(0).choice(names, min(users, len(names)), replace=False)
        rows = rows[rows["user_id"].isin(drawn)].reset_index(drop=True)
    seconds = rows["timestamp" if "timestamp" in rows else order].astype(np.int64)
    rewards = pd.Series(1.0, rows.index)
    if "rating" in rows:
        ratings = rows["rating"].astype(np.float64)
        alike = ratings.groupby(rows["liked"]).transform("mean") if "liked" in rows else ratings
        ratings = ratings.fillna(alike).fillna(ratings.mean())
        rewards = (ratings - ratings.min()) / (ratings.max() - ratings.min())
    events = rows[["user_id", "item_id"]].assign(seconds=seconds, reward=rewards)
    told = next((path for path in (folder / "movies.csv", folder / "items.csv.gz") if path.is_file()), None)
    if told is None:
        return events, pd.DataFrame(columns=[Columns.TITLE, Columns.YEAR, Columns.GENRES])
    items = pd.read_csv(told).rename(columns={"movie_id": "item_id"}).set_index("item_id")
    if Columns.YEAR not in items:
        items[Columns.YEAR] = items[Columns.TITLE].str.extract(r"\((\d{4})\)\s*$")[0]
    items[Columns.YEAR] = pd.to_numeric(items[Columns.YEAR], errors="coerce")
    return events, items.assign(**{Columns.GENRES: frames.split_lists(items[Columns.GENRES])})


def fitted(
    split: LeaveOneOut,
    part: str,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[dict[str, Any]], None],
    checkpoint: Path | None = None,
) -> tuple[list[Recommender], list[dict[str, Any]]]:
    """The recommenders that are judged (the named part alone, or the mix and each of its parts), and the epochs."""
    learned, validation = split.learned, split.validation()
    if part in SOURCES:
        return [SOURCES[part].choose(learned, recipe, lambda one: validation.figures(one)["objective"])[0]], []
    sources = SOURCES if part == MIX else {"item-knn": SOURCES["item-knn"]}  # where the network starts from
    hybrid, epochs, _ = choose(learned, validation, recipe, seed, on_epoch, sources, checkpoint)
    return ([hybrid, *hybrid.parts] if part == MIX else [hybrid.network]), epochs


def measure(
    seed: Annotated[int, typer.Option(help="Equal seeds give equal lists.")] = 0,
    data: Annotated[str, typer.Option(help=f"A folder of {DATA}.")] = "ml-1m",
    users: Annotated[int, typer.Option(help="Only so many users, drawn by chance; 0 for all.")] = 0,
    recipe: Annotated[str, typer.Option(help=f"{', '.join(RECIPES)}.")] = "small",
    epochs: Annotated[int, typer.Option(help="In place of the recipe's; 0 for those.")] = 0,
    part: Annotated[str, typer.Option(help=f"What is trained and judged: {', '.join(PARTS)}.")] = MIX,
    without: Annotated[str, typer.Option(help=f"Inputs to leave out, as ratings,pauses: {', '.join(INPUTS)}.")] = "",
    target_time: Annotated[bool, typer.Option(help="Whether the time of the question is known.")] = True,
    held: Annotated[str, typer.Option(help="What is judged: test, or val to try things out.")] = "test",
    predictions: Annotated[Path | None, typer.Option(help="A folder for the lists, a file a part.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The file that a killed training goes on from.")] = None,
) -> list[Figure]:
    """HR and NDCG of the parts with their intervals, and the epochs against processor minutes."""
    left_out = [name for name in without.split(",") if name]
    for name, known in ((held, HELD), (part, PARTS), *((one, INPUTS) for one in left_out)):
        if name not in known:
            raise ConfigError(f"there is no {name!r}: choose one of {', '.join(known)}")
    chosen = recipe_named(recipe)
    network = replace(chosen.network, target_time=target_time)
    chosen = replace(chosen, network=network, epochs=epochs or chosen.epochs)
    split = LeaveOneOut.of(*read(Path(os.environ.get(DATA, "")) / data, users), left_out, target_time)
    began = [time.process_time()]

    def on_epoch(row: dict[str, Any]) -> None:  # into the row, so that the checkpoint holds it
        began.append(time.process_time())
        row["minutes"] = (began[-1] - began[-2]) / 60
        note(f"epoch {row['epoch']}: NDCG@10 {row['ndcg@10']:.4f}, {row['minutes']:.1f} processor minutes")

    with torch_threads(chosen.threads):
        recommenders, rows = fitted(split, part, chosen, seed, on_epoch, checkpoint)
        spent = np.cumsum([row.pop("minutes") for row in rows])
        rows = [{**row, "minutes": minutes} for row, minutes in zip(rows, spent.tolist(), strict=True)]
        minutes = rows[-1]["minutes"] if rows else (time.process_time() - began[0]) / 60
        figures = [just("processor minutes of training", minutes, f"recipe {chosen.name}, {len(split.learned)} events")]
        is_whole = held == "test" and not users
        for recommender in recommenders:
            lists = split.lists(recommender, HELD[held])
            least = LEAST.get((data, target_time)) if recommender.name == NETWORK and is_whole else None
            figures += _figures(recommender.name, split.judge(lists, HELD[held]), least)
            if predictions is not None:
                predictions.mkdir(parents=True, exist_ok=True)
                lists.to_parquet(predictions / f"{recommender.name}.parquet", index=False)
    if rows:
        folder = Settings().var / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"sequential-{data}.png").write_bytes(picture(f"{data}, recipe {chosen.name}", rows))
    for row in rows:
        name = f"validation NDCG@10 after epoch {row['epoch']}"
        figures.append(just(name, row["ndcg@10"], f"{row['minutes']:.1f} processor minutes"))
    return figures


def _figures(name: str, judged: dict[str, Any], least: Sequence[float] | None) -> list[Figure]:
    low, high = judged.pop("ndcg@10_95%")
    said = f"{judged.pop('users')} users, {judged.pop('items')} items"
    notes = {"ndcg@10": f"95 %: {low:.4f} to {high:.4f}; {said}"}
    limits = dict(zip(("hr@10", "ndcg@10"), least or (), strict=False))
    return [
        at_least(f"{name}, {metric}", value, limits[metric], notes.get(metric, ""))
        if metric in limits
        else just(f"{name}, {metric}", value, notes.get(metric, ""))
        for metric, value in judged.items()
    ]


def picture(title: str, rows: Sequence[dict[str, Any]]) -> bytes:
    """A PNG: NDCG@10 on validation against processor minutes."""
    drawn = Picture(figsize=(6.0, 4.0), dpi=100, layout="constrained")
    axes = drawn.subplots()
    axes.plot([row["minutes"] for row in rows], [row["ndcg@10"] for row in rows], marker="o")
    axes.set(title=title, xlabel="processor minutes", ylabel="NDCG@10 on validation")
    into = io.BytesIO()
    FigureCanvasAgg(drawn).print_png(into)
    return into.getvalue()
