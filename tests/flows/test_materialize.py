"""What comes online counts what training sets count."""

from attune.clock import DAY
from attune.columns import USER_STATS
from attune.event_log import EventLog
from attune.events import Feedback
from attune.settings import Settings
from features.feature_store import FeatureStore
from features.labels import Terms
from features.lake import Lake
from flows.materialize import compute_stats

LONG_AGO = 10_000 * DAY
SENT = 500


def test_a_burst_weighs_no_more_online_than_it_teaches(settings: Settings, log: EventLog) -> None:
    log.append([
        Feedback(
            event_id=f"b{number}", event_timestamp=LONG_AGO + number, user_id="bot", item_id="i00", kind="like",
            slate_id="s0",
        )
        for number in range(SENT)
    ])  # fmt: skip
    Lake(settings.lake_folder).ingest(log)
    compute_stats.fn(settings)
    store = FeatureStore(settings)
    store.materialize_all(lambda: LONG_AGO + 5 * DAY)
    assert store.online("bot")[1][USER_STATS.index("user_events")] == Terms().most_a_minute
