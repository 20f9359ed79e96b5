"""Names that more than one place must agree on: columns, stored features, tables, buckets.

`feature_repo/`, the adapters and the jobs import these names; none of them writes one out again.
"""

import zlib
from enum import StrEnum

DEFAULT_TENANT = "default"


class Granularity(StrEnum):
    """Length of a period."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Kind(StrEnum):
    """What a user did with an item."""

    VIEW = "view"
    CLICK = "click"
    LIKE = "like"
    SAVE = "save"
    SHARE = "share"
    RATING = "rating"
    PURCHASE = "purchase"


# Bursts of interest are looked for, and stored, in these: days are mostly empty, months few.
BURST_GRANULARITIES = (Granularity.WEEK,)
# Periods kept online per user; offline history keeps all.
HISTORY_PERIODS = {Granularity.DAY: 28, Granularity.WEEK: 26, Granularity.MONTH: 24}

# Columns of the events table (and of an inbox log, less bucket). All times are UTC microseconds.
EVENT_ID = "event_id"
USER_ID = "user_id"
ITEM_ID = "item_id"
KIND = "kind"
VALUE = "value"
EVENT_TIME = "event_time"
INGEST_TIME = "ingest_time"
BUCKET = "bucket"
EVENT_COLUMNS = (EVENT_ID, USER_ID, ITEM_ID, KIND, VALUE, EVENT_TIME, INGEST_TIME)

# Columns of the items table: one row per version of an item.
TITLE = "title"
TEXT = "text"
CATEGORIES = "categories"
UPDATED_TIME = "updated_time"
CONTENT_HASH = "content_hash"
ITEM_COLUMNS = (ITEM_ID, TITLE, TEXT, CATEGORIES, UPDATED_TIME, INGEST_TIME, CONTENT_HASH)

# Join keys and time columns of every Feast view.
KNOWN_TIME = "known_time"
COMPUTED_TIME = "computed_time"

# Features of interest_{g}.
VEC = "vec"
MODEL_VERSION = "model_version"
EVENT_COUNT = "event_count"
PERIOD = "period"
PERIOD_START = "period_start"
PERIOD_END = "period_end"
# Features of interest_{g}_history: flat vectors, oldest first.
VECS = "vecs"
PERIODS = "periods"
EVENT_COUNTS = "event_counts"
# Features of forecast_{g}: flat means and scales by horizon.
MEANS = "means"
SCALES = "scales"
HORIZONS = "horizons"
MADE_AT = "made_at"
FORECASTER = "forecaster"
# Features of forecast_state_{g}.
STATE_MEAN = "state_mean"
STATE_VARIANCE = "state_variance"
LAST_PERIOD = "last_period"
# Features of rank_state.
QUERY_SUMS = "query_sums"
QUERY_WEIGHTS = "query_weights"
ACTIVITY = "activity"
REPEAT_ITEM_IDS = "repeat_item_ids"
REPEAT_COUNTS = "repeat_counts"
REPEAT_LAST_TIMES = "repeat_last_times"
STATE_TIME = "state_time"
# Features of user_profile.
LABELS = "labels"
SHARES = "shares"
RECENT_SHARES = "recent_shares"
FIRST_EVENT_TIME = "first_event_time"
LAST_EVENT_TIME = "last_event_time"
SESSION_COUNT = "session_count"
IS_SUSPECTED_BOT = "is_suspected_bot"
# Features of user_activity: items, and cells of (row of the items, week, count).
ACTIVITY_ITEM_IDS = "activity_item_ids"
ACTIVITY_ITEMS = "activity_items"
ACTIVITY_WEEKS = "activity_weeks"
ACTIVITY_COUNTS = "activity_counts"
WEEKDAY_DAYS = "weekday_days"
HOUR_HOURS = "hour_hours"
# Features of bursts_{g}, newest burst first.
BURST_TYPES = "burst_types"
BURST_TOPICS = "burst_topics"
BURST_TOPIC_ROWS = "burst_topic_rows"
BURST_FIRST_PERIODS = "burst_first_periods"
BURST_LAST_PERIODS = "burst_last_periods"
BURST_SHARES = "burst_shares"
IS_LASTING = "is_lasting"
# Features of burst_state_{g}; see core.burst_state.BurstState.
STATE_EVIDENCE = "state_evidence"
STATE_LUMPS = "state_lumps"
STATE_COUNTS = "state_counts"
STATE_NOW = "state_now"
STATE_SHARE = "state_share"
STATE_PAST = "state_past"
STATE_PEAKS = "state_peaks"
# Join key and features of population_bursts_{g}, newest rise first; its one id.
POPULATION = "population"
EVERYONE = "everyone"
RISEN_PERIODS = "risen_periods"
RISEN_TOPICS = "risen_topics"
RISEN_TOPIC_ROWS = "risen_topic_rows"


def interest_view(granularity: Granularity, space_id: str) -> str:
    """Return the view of the newest vector per user."""
    return f"interest_{granularity}__{space_id}"


def history_view(granularity: Granularity, space_id: str) -> str:
    """Return the view of a user's last vectors, flat."""
    return f"interest_{granularity}_history__{space_id}"


def by_period_view(granularity: Granularity, space_id: str) -> str:
    """Return the offline view of every user and period."""
    return f"interest_{granularity}_by_period__{space_id}"


def forecast_view(granularity: Granularity, space_id: str) -> str:
    """Return the view of forecasts."""
    return f"forecast_{granularity}__{space_id}"


def forecast_state_view(granularity: Granularity, space_id: str) -> str:
    """Return the view of what a forecaster resumes from."""
    return f"forecast_state_{granularity}__{space_id}"


def bursts_view(granularity: Granularity, space_id: str) -> str:
    """Return the view of users' last bursts of interest."""
    return f"bursts_{granularity}__{space_id}"


def bursts_by_period_view(granularity: Granularity, space_id: str) -> str:
    """Return the offline view of what was known of users' bursts at each close that changed it."""
    return f"bursts_{granularity}_by_period__{space_id}"


def burst_state_view(granularity: Granularity, space_id: str) -> str:
    """Return the offline view of what the detection of bursts resumes from."""
    return f"burst_state_{granularity}__{space_id}"


def population_bursts_view(granularity: Granularity, space_id: str) -> str:
    """Return the view of topics that rose for everyone."""
    return f"population_bursts_{granularity}__{space_id}"


def rank_state_view(space_id: str) -> str:
    """Return the view of what ranking needs of a user."""
    return f"rank_state__{space_id}"


def profile_view(space_id: str) -> str:
    """Return the view of portraits."""
    return f"user_profile__{space_id}"


def activity_view(space_id: str) -> str:
    """Return the view of what users did in the last year, by item and week."""
    return f"user_activity__{space_id}"


def item_view(space_id: str) -> str:
    """Return the view of item vectors."""
    return f"item_vector__{space_id}"


def bucket_of(user_id: str, bucket_count: int) -> int:
    """Return the user's bucket in [0, bucket_count): CRC-32 of the UTF-8 id, the same on every machine."""
    return zlib.crc32(user_id.encode()) % bucket_count
