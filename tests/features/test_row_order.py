"""Files without times: an order that is a sort of the table is found out, a real one is believed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.clock import ORDER_ONLY, SECOND, SHUFFLED, Clock, shown_time
from attune.errors import DataContractError
from attune.event_log import EventLog
from features.importer import import_source
from features.sources import movielens, tabular
from features.sources.row_order import order_faults, shuffled_times

USERS, ITEMS = 40, 200


@pytest.fixture
def ratings() -> pd.DataFrame:
    """800 ratings of 40 users in an order that nothing predicts, and the year of each item."""
    random = np.random.default_rng(1)
    users = random.permutation(np.repeat(np.arange(USERS), 20))
    frame = pd.DataFrame({"user_id": users, "item_id": random.integers(0, ITEMS, len(users))})
    frame["value"] = random.integers(1, 6, len(users))
    return frame.assign(year=1900 + (frame["item_id"] * 37) % ITEMS, letter=frame["user_id"].map(lambda n: f"u{n}"))


def read(folder: Path, frame: pd.DataFrame, order: str | None = "row", **options) -> tabular.SourceFrames:
    items = frame[["item_id", "year"]].drop_duplicates().assign(title=lambda f: "t" + f["item_id"].astype(str))
    items.to_csv(folder / "items.csv", index=False)
    frame[["user_id", "item_id", "value"]].to_csv(folder / "ratings.csv", index=False)
    return tabular.read(folder / "ratings.csv", folder / "items.csv", kind="rating", order=order, **options)


def test_an_order_that_nothing_predicts_is_believed(tmp_path: Path, ratings: pd.DataFrame) -> None:
    times = read(tmp_path, ratings).interactions["event_timestamp"]
    assert times.tolist() == [n * SECOND for n in range(len(ratings))]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["user_id"], ["% of neighbouring rows have the same user_id"]),
        (["user_id", "year"], ["same user_id", "the order follows year (rank correlation 1.00)"]),
        (["user_id", "item_id"], ["same user_id", "follows item_id (rank correlation 1.00)"]),
        (["item_id"], ["same item_id", "follows item_id"]),
        (["year"], ["same item_id", "follows year"]),
        (["value"], ["the order follows value"]),
    ],
)
def test_a_sorted_table_is_refused_with_the_figures_and_two_ways_out(
    tmp_path: Path, ratings: pd.DataFrame, columns: list[str], found: list[str]
) -> None:
    table = ratings.sort_values(columns, kind="stable")
    with pytest.raises(DataContractError) as refused:
        read(tmp_path, table)
    for words in (*found, "--order row --order-is-real", "--order none"):
        assert words in str(refused.value)
    believed = read(tmp_path, table, order_is_real=True).interactions["event_timestamp"]
    assert believed.tolist() == [n * SECOND for n in range(len(table))]


def test_text_ids_that_the_order_follows_are_found(tmp_path: Path, ratings: pd.DataFrame) -> None:
    named = ratings.assign(item_id=ratings["item_id"].map(lambda n: f"item {n:04}"))
    with pytest.raises(DataContractError, match="follows item_id"):
        read(tmp_path, named.sort_values("item_id", kind="stable"))


def test_a_few_rows_prove_nothing(tmp_path: Path, ratings: pd.DataFrame) -> None:
    assert len(read(tmp_path, ratings.sort_values(["user_id", "item_id"]).head(6)).interactions) == 6


def test_real_ratings_stand_the_test_in_the_order_of_their_times_alone() -> None:
    source = movielens.read()
    assert order_faults(source.interactions, source.items) == []
    by_year = source.interactions.sort_values(["user_id", "item_id"], kind="stable")
    assert any("user_id" in fault for fault in order_faults(by_year, source.items))


def test_without_any_order_times_depend_on_the_user_and_the_item_alone(tmp_path: Path, ratings: pd.DataFrame) -> None:
    rows = read(tmp_path, ratings.sort_values(["user_id", "year"]), "none").interactions
    again = read(tmp_path, ratings.iloc[::-1], "none").interactions
    key = ["user_id", "item_id"]
    assert rows.groupby(key)["event_timestamp"].first().equals(again.groupby(key)["event_timestamp"].first())
    assert rows["event_timestamp"].between(SHUFFLED, ORDER_ONLY - 1).all()
    for faults in (order_faults(rows.sort_values("event_timestamp"), ratings_items(ratings)),):
        assert faults == []
    last = rows.sort_values("event_timestamp").tail(len(rows) // 5)
    assert last["user_id"].nunique() > 0.9 * USERS, "what is judged on is a sample of every user"


def ratings_items(ratings: pd.DataFrame) -> pd.DataFrame:
    items = ratings.drop_duplicates("item_id")
    attributes = [{"year": year} for year in items["year"].tolist()]
    return pd.DataFrame({"item_id": items["item_id"].astype(str), "attributes": attributes})


def test_shuffled_times_never_change() -> None:
    """The same files must repeat their rows in a later release, too."""
    assert shuffled_times(pd.Series(["u1", "7"]), pd.Series(["i1", "é"])).tolist() == [
        171_097_711_356_542,
        257_990_089_705_740,
    ]


def test_a_file_without_times_is_told_what_to_do(tmp_path: Path, ratings: pd.DataFrame) -> None:
    with pytest.raises(DataContractError, match=r"--order row, which is measured .*--order none"):
        read(tmp_path, ratings, None)


def numbers(log: EventLog) -> list[int]:
    events = [logged.event for logged in log.read(0, 10_000, types=["interaction"])]
    return [event.event_timestamp // SECOND for event in events]


def test_a_second_file_goes_on_after_the_first(
    log: EventLog, clock: Clock, tmp_path: Path, ratings: pd.DataFrame
) -> None:
    first, second = ratings.iloc[:300], ratings.iloc[300:]
    assert import_source(log, read(tmp_path, first), clock, "a").accepted == 300
    assert import_source(log, read(tmp_path, second), clock, "b").accepted == 500
    assert numbers(log) == list(range(800))


def test_the_same_or_a_longer_file_repeats_its_rows(
    log: EventLog, clock: Clock, tmp_path: Path, ratings: pd.DataFrame
) -> None:
    first, second = ratings.iloc[:300], ratings.iloc[300:600]
    for table, accepted in ((first, 300), (second, 300), (first, 0), (second, 0), (ratings.iloc[300:], 200)):
        report = import_source(log, read(tmp_path, table), clock, "a")
        assert (report.accepted, report.repeated, report.quarantined) == (accepted, len(table) - accepted, 0)
    assert numbers(log) == list(range(800))


def test_bad_rows_at_the_top_do_not_hide_that_a_file_is_known(
    log: EventLog, clock: Clock, tmp_path: Path, ratings: pd.DataFrame
) -> None:
    spoiled = ratings.iloc[100:].assign(value=lambda f: f["value"].where(np.arange(len(f)) > 30, 99))
    import_source(log, read(tmp_path, ratings.iloc[:100]), clock, "a")
    assert import_source(log, read(tmp_path, spoiled), clock, "a").accepted == 669
    assert import_source(log, read(tmp_path, spoiled), clock, "a").accepted == 0


def test_rows_without_order_repeat_in_any_file(
    log: EventLog, clock: Clock, tmp_path: Path, ratings: pd.DataFrame
) -> None:
    rows = ratings.drop_duplicates(["user_id", "item_id"])
    import_source(log, read(tmp_path, rows.iloc[:400], "none"), clock, "a")
    report = import_source(log, read(tmp_path, rows.iloc[::-1], "none"), clock, "b")
    assert report.repeated == 400
    assert report.rows_in == report.accepted + 400


@pytest.mark.parametrize(("micros", "shown"), [(0, True), (ORDER_ONLY - 1, True), (ORDER_ONLY, False), (-1, False)])
def test_times_that_are_none_are_not_shown(micros: int, shown: bool) -> None:
    assert (shown_time(micros) == "order only") is shown
