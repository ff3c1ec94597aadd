"""attune without a server: train on frames, evaluate, recommend, save, load. ``from attune import Recommender``.

It runs what the commands run: the reading of ``attune import tabular``, the row rules, the features and the training of
``attune train``, the replay of the gates, the pipeline of the endpoint. What it saves is a training set and a bundle.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from attune.columns import Columns
from attune.errors import BundleError, DataContractError, did_you_mean
from attune.event_types import KINDS, centred
from attune.files import whole_folder
from attune.user_state import UserState
from evaluation.case import Case
from features.sources import frames, tabular
from features.sources.times import UNITS
from features.sources.values import PERCENT, SECONDS
from features.training_set import build_in_memory
from models.bundle import Bundle
from models.history import HISTORY_LIMIT, KIND_INDEX, HistoryBatch
from models.learning.dataset import MARKS_SEEN, Groups, Ragged, TrainingSet, histories, seen
from models.metrics import SLICE_WORDS, summary
from models.ranking.exploration import Greedy
from models.recommender import UNKNOWN_USER_STATS, EncodedUsers, Request, SlateQuery, recommend_many
from models.training_job import OnProgress, report_file, train_bundle

TRAINING_SET, BUNDLE = "training-set", "bundle"
FIGURES = ["ndcg@10", "hr@10", "coverage@10", "mrr", "events", "users"]

_FLAGS = ("clip", "full_watch", "order_is_real", "items_long")
_WORDS = "|".join([*KINDS, *UNITS, *SECONDS, PERCENT, "implicit", "row", "none"])
_OPTION = re.compile(rf"--([a-z][a-z-]*)(?: ('[^']*'|[^\s;()]*[=\d%][^\s;()]*|(?:{_WORDS})\b))?")
"""An option of a command in a message, and its value where one is shown."""


class Recommender:
    """A trained hybrid with the events that it knows its users by. ``train`` and ``load`` make one.

    ``bundle`` is the model as the registry takes it, ``training_set`` the events and items, ``report`` the training's.
    """

    def __init__(self, folder: Path, kept: TemporaryDirectory[str] | None = None) -> None:
        self.folder, self._kept = folder, kept  # a temporary folder lives as long as this
        self.training_set = TrainingSet.load(folder / TRAINING_SET)
        self.bundle = Bundle.load(folder / BUNDLE)

    def __repr__(self) -> str:
        data = self.training_set
        return f"<Recommender: {len(data.user_ids):,} users, {len(data.catalogue):,} items, {len(data):,} events>"

    @staticmethod
    def train(
        events: pd.DataFrame,
        items: pd.DataFrame | None = None,
        *,
        recipe: str = "auto",
        seed: int = 0,
        on_progress: OnProgress | None = None,
        **reading: Any,
    ) -> "Recommender":
        """A model of these events, as ``attune train`` makes one; the last tenth of them is left to ``evaluate``.

        ``events`` has the columns user_id, item_id and event_timestamp (datetimes, unix times or ISO 8601), and may
        have kind and value. Without a kind, rows with a value are ratings; else ``kind`` names one for all. ``items``
        has item_id, and may have title, genres, year. ``reading`` are further options of ``attune import tabular`` by
        their names there: map="user_id=uid", scale="1,10", unit="ms", kinds="1=view".
        Equal seeds give equal models. ``on_progress`` is told how much is done, from 0 to 1. Raises DataContractError
        for a frame that lacks a column and for rows that break a rule, ConfigError for an unknown recipe.
        """
        kept = TemporaryDirectory(prefix="attune-")
        folder = Path(kept.name)
        _read(events, items, reading, folder / TRAINING_SET)
        made = train_bundle(folder / TRAINING_SET, folder, recipe, seed, on_progress)
        report_file(made).rename(report_file(folder / BUNDLE))
        made.rename(folder / BUNDLE)
        made.parent.rmdir()
        return Recommender(folder, kept)

    def evaluate(self) -> pd.DataFrame:
        """How well the events that training left out are foreseen: a row for the hybrid, for each part, for a baseline.

        Each event is ranked among all items new to its user, from what the user had done before it, as the gates do
        it (``models.metrics``): ndcg@10, hr@10, coverage@10, mrr, and how many events and users they rest on. Targets
        are those that were liked, or all where nothing says what was; ``attrs["targets"]`` says which. The baseline
        is the best of ``evaluation.simple_baselines`` in hindsight, the one that the gate beats_popularity asks for.
        """
        case = Case.load(self.training_set, self.folder / BUNDLE)
        names = {"challenger": "hybrid", "popularity": "best simple baseline"}
        rows = {
            names.get(name, name.removesuffix(" alone")): summary(replay)[case.part]
            for name, replay in case.replays.items()
        }
        table = pd.DataFrame.from_dict(rows, orient="index")[FIGURES].astype({"events": int, "users": int})
        table.attrs["targets"] = SLICE_WORDS[case.part]
        return table

    def recommend(
        self, user_id: object = None, *, history: Sequence[object] | None = None, k: int = 10
    ) -> pd.DataFrame:
        """The k best items that the user has not had, best first: item_id, title, score.

        For a user of the events, or for a ``history``: item ids, the oldest first, taken for what people liked; an
        empty one gives what is popular. The time is that of the latest event. Nothing is drawn: the endpoint would
        explore. Raises DataContractError for a user or an item that is unknown.
        """
        if (user_id is None) == (history is None):
            raise DataContractError("recommend: name a user, or give a history: recommend('42') or history=['7', '9']")
        now = int(self.training_set.times.max()) + 1
        batch, had = self._of_user(_id(user_id), now) if history is None else self._of_history(history, now)
        ids = [self.training_set.catalogue.item_ids[place] for place in had]
        view = replace(self.bundle, policy=Greedy(max(k, Greedy.depth)))
        query = SlateQuery(UserState("", seen=tuple(ids)), UNKNOWN_USER_STATS, Request(k, now, seed=0))
        slate = recommend_many(view, [query], EncodedUsers(batch, view.hybrid.states(batch)))[0]
        titles = dict(zip(view.catalogue.item_ids, view.catalogue.titles, strict=True))
        rows = [(shown.item_id, titles[shown.item_id], shown.score) for shown in slate.shown]
        return pd.DataFrame(rows, columns=[Columns.ITEM_ID, Columns.TITLE, Columns.SCORE])

    def save(self, folder: Path | str) -> Path:
        """Write training set and bundle to a new folder, whole or not at all. Raises BundleError where it exists."""
        folder = Path(folder)
        if folder.exists():
            raise BundleError(f"{folder} exists already: choose another folder, or remove it")
        with whole_folder(folder) as draft:
            shutil.copytree(self.folder, draft, dirs_exist_ok=True)
        return folder

    @staticmethod
    def load(folder: Path | str) -> "Recommender":
        """What ``save`` wrote. Raises BundleError or DataContractError for what is none, or was altered."""
        return Recommender(Path(folder))

    def _of_user(self, user_id: str, now: int) -> tuple[HistoryBatch, np.ndarray]:
        """The user's history, and the places of the items that the user had."""
        data = self.training_set
        places = np.flatnonzero(data.user_ids == user_id)
        if not len(places):
            raise DataContractError(
                f"user {user_id!r} has no events here{did_you_mean(user_id, data.user_ids)}; "
                "for somebody else give a history: recommend(history=[...])",
                Columns.USER_ID,
            )
        stats_1F = data.user_stats_EF[data.users == places[0]][-1:]
        group = Groups(places, np.array([now]), stats_1F, Ragged(np.zeros(2, np.int64), np.zeros(0, np.int64)))
        return histories(data, group, catalogue=self.bundle.catalogue), seen(data, group).values

    def _of_history(self, history: Sequence[object], now: int) -> tuple[HistoryBatch, np.ndarray]:
        """The same of item ids: as many events of the commonest kind, each liked as such events are in the mean."""
        data, ids = self.training_set, [_id(item) for item in history]
        if isinstance(history, str):
            raise DataContractError(f"history: {history!r} is one text; give a list of item ids: history=[{history!r}]")
        places = data.catalogue.places(ids)
        if (places < 0).any():
            unknown = ids[int(np.argmin(places))]
            meant = did_you_mean(unknown, data.catalogue.item_ids)
            raise DataContractError(f"history: item {unknown!r} is not in the catalogue{meant}", Columns.ITEM_ID)
        liked = (centred(data.rewards) > 0) & MARKS_SEEN[data.kinds]
        counts = np.bincount(data.kinds[liked], minlength=len(KIND_INDEX) + 1)
        kind = int(counts.argmax()) if liked.any() else KIND_INDEX["view"]
        reward = float(data.rewards[liked & (data.kinds == kind)].mean()) if liked.any() else 0.5
        items_1L = (places[None, -HISTORY_LIMIT:] + 1) if ids else np.zeros((1, 1), np.int64)
        known_1L = items_1L > 0
        stats_1LF = self.bundle.catalogue.stats_NF[np.maximum(items_1L - 1, 0)]
        batch = HistoryBatch(
            items_BL=items_1L,
            kinds_BL=np.where(known_1L, kind, 0),
            rewards_BL=np.where(known_1L, np.float32(reward), np.float32(0.5)),
            times_BL=np.where(known_1L, now - 1, 0),
            item_stats_BLF=np.where(known_1L[..., None], stats_1LF, np.float32(np.nan)),
            user_stats_BF=UNKNOWN_USER_STATS[None],
            now_B=np.array([now]),
        )
        return batch, places


def _read(events: pd.DataFrame, items: pd.DataFrame | None, reading: dict[str, Any], folder: Path) -> None:
    """Write the frames as a training set. Raises DataContractError with a notebook's words for the options."""
    options = dict(reading)
    for name, frame in (("events", events), ("items", items)):
        if frame is not None and not isinstance(frame, pd.DataFrame):
            raise DataContractError(f"{name}: a {type(frame).__name__} is no DataFrame: pass pandas.DataFrame(...)")
    mapping = options.pop("map", None)
    named = tabular.parse_map(mapping)
    if Columns.KIND not in events and Columns.KIND not in named and Columns.VALUE in {*events.columns, *named}:
        options.setdefault("kind", "rating")
    try:
        build_in_memory(tabular.read(events, items, mapping=mapping, **options), folder)
    except DataContractError as error:
        raise DataContractError(_OPTION.sub(_as_keyword, str(error)), error.field, error.rule) from None


def _as_keyword(option: re.Match[str]) -> str:
    """`--value-unit ms` as a notebook types it: value_unit='ms'."""
    name, value = option[1].replace("-", "_"), option[2]
    if value is None:
        return f"{name}=True" if name in _FLAGS else name
    text, rest = re.fullmatch(r"(.*?(?:(?<!\.)\.\.\.)?)([.,:]?)", value).groups()  # type: ignore[union-attr]
    return f"{name}={text.strip(chr(39))!r}{rest}"


def _id(raw: object) -> str:
    return str(frames.ids(pd.Series([raw], dtype=object)).iloc[0] or "")
