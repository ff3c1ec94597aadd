"""A bundle as MLflow's own tools load it: ``mlflow.pyfunc.load_model("models:/attune-recommender@champion")``.

Named as ``loader_module``, so it must be importable where the model is loaded: from the root of the repository.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from attune.columns import Columns
from attune.errors import BundleError, DataContractError
from attune.event_types import KINDS
from attune.user_state import RECENT_LIMIT, Recent, UserState
from models.bundle import Bundle
from models.figures import for_json
from models.ranking.retrieval import top_k, without
from models.recommender import UNKNOWN_USER_STATS, histories_from_states

HISTORY, ITEMS = "history", "items"
SHOWN = 10
EXAMPLE_HISTORY = json.dumps([{Columns.ITEM_ID: "1", Columns.KIND: "rating", Columns.VALUE: 4.0}])


def requirements() -> list[str]:
    """What a fresh environment needs beside the repository, at the versions that run here."""
    names = ("torch", "numpy", "scipy", "pandas", "safetensors", "msgspec")
    return [f"{name}=={version(name).split('+')[0]}" for name in names]


class BundleModel:
    """Predicts the best unseen items of each history, without exploration."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row of ``items`` (JSON: a list of item_id, title, score) for each row of ``history``.

        A history is a list of events, oldest first, or the same as JSON; an event has ``item_id``, ``kind`` and
        where the kind needs one a ``value``, and may have an ``event_timestamp`` in microseconds.
        Raises DataContractError for a history that is not that.
        """
        if HISTORY not in model_input:
            raise DataContractError(f"the input has no column {HISTORY!r}: {list(model_input.columns)}", HISTORY)
        states = [_state(row, history) for row, history in enumerate(model_input[HISTORY])]
        return pd.DataFrame({ITEMS: [json.dumps(self._best(state)) for state in states]}, index=model_input.index)

    def _best(self, state: UserState) -> list[dict[str, Any]]:
        bundle, catalogue = self.bundle, self.bundle.catalogue
        batch = histories_from_states(catalogue, [state], UNKNOWN_USER_STATS[None, :], state.last_time or 0)
        scores_N = (bundle.hybrid if (batch.items_BL > 0).any() else bundle.popularity).scores(batch)[0]
        return [
            {
                Columns.ITEM_ID: catalogue.item_ids[place],
                Columns.TITLE: catalogue.titles[place],
                Columns.SCORE: for_json(scores_N[place]),
            }
            for place in top_k(without(scores_N, catalogue.places(state.seen)), SHOWN)
        ]


def _state(row: int, history: Any) -> UserState:
    try:
        events = json.loads(history) if isinstance(history, str) else list(history)
        recent = tuple(
            Recent(
                event_id=str(place),
                item_id=str(event[Columns.ITEM_ID]),
                kind=KINDS[event[Columns.KIND]].name,
                value=event.get(Columns.VALUE),
                time=int(event.get(Columns.EVENT_TIMESTAMP) or 0),
                position=place,
                retracted=False,
            )
            for place, event in enumerate(events, start=1)
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataContractError(f"row {row}: {error!r} in the history {history!r}", HISTORY) from error
    seen = tuple(event.item_id for event in recent if KINDS[event.kind].marks_seen)
    last = max((event.time for event in recent), default=None)
    return UserState("", len(recent), recent[-RECENT_LIMIT:], seen, events=len(recent), last_time=last)


def _load_pyfunc(path: str) -> BundleModel:
    """What MLflow calls with the folder of the bundle. Raises BundleError for one that is not whole."""
    if not Path(path).is_dir():
        raise BundleError(f"{path} is no folder: fetch the version again")
    return BundleModel(Bundle.load(Path(path)))
