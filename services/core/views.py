"""The Feast views of a space: names, join keys, features and types, said once and free of Feast.

`feature_repo/` turns a `View` into a Feast declaration, the adapters into Parquet columns and
stored values.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from services.core import schema as names
from services.core.errors import InvalidArgument
from services.core.schema import Granularity


class FeatureType(StrEnum):
    """Type of a stored feature. TIME is an instant, UTC, stored to the second."""

    STRING = "string"
    INT = "int64"
    FLOAT = "float64"
    BOOL = "bool"
    TIME = "time"
    STRINGS = "string[]"
    INTS = "int64[]"
    FLOATS = "float64[]"
    VECTOR = "float32[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One Feast view. Every row also has `known_time` (offline) and `computed_time`."""

    name: str
    join_keys: tuple[str, ...]
    features: dict[str, FeatureType]
    # False: kept in the offline history only.
    is_online: bool = True
    # The view whose offline rows this one shares; empty: it has rows of its own.
    shares_history_of: str = ""

    @property
    def offline_folder(self) -> str:
        """Folder of the view's offline parts."""
        return self.shares_history_of or self.name


_T = FeatureType
_PERIOD_VECTOR = {
    names.VEC: _T.VECTOR,
    names.MODEL_VERSION: _T.STRING,
    names.EVENT_COUNT: _T.INT,
    names.PERIOD_START: _T.TIME,
    names.PERIOD_END: _T.TIME,
}
_HISTORY = {
    names.VECS: _T.VECTOR,
    names.PERIODS: _T.STRINGS,
    names.EVENT_COUNTS: _T.INTS,
    names.MODEL_VERSION: _T.STRING,
}
_FORECAST = {
    names.MEANS: _T.VECTOR,
    names.SCALES: _T.VECTOR,
    names.HORIZONS: _T.INTS,
    names.MADE_AT: _T.STRING,
    names.FORECASTER: _T.STRING,
    names.MODEL_VERSION: _T.STRING,
}
_FORECAST_STATE = {
    names.STATE_MEAN: _T.VECTOR,
    names.STATE_VARIANCE: _T.VECTOR,
    names.LAST_PERIOD: _T.STRING,
    names.FORECASTER: _T.STRING,
    names.MODEL_VERSION: _T.STRING,
}
_BURSTS = {
    names.BURST_TYPES: _T.STRINGS,
    names.BURST_TOPICS: _T.STRINGS,
    names.BURST_TOPIC_ROWS: _T.INTS,
    names.BURST_FIRST_PERIODS: _T.STRINGS,
    names.BURST_LAST_PERIODS: _T.STRINGS,
    names.BURST_SHARES: _T.FLOATS,
    names.IS_LASTING: _T.BOOL,
    names.LAST_PERIOD: _T.STRING,
    names.MODEL_VERSION: _T.STRING,
}
# Doubles, so that going on from a state gives what one pass would.
_BURST_STATE = {
    names.STATE_MEAN: _T.FLOATS,
    names.STATE_VARIANCE: _T.FLOATS,
    names.STATE_EVIDENCE: _T.FLOATS,
    names.STATE_LUMPS: _T.FLOATS,
    names.STATE_COUNTS: _T.FLOATS,
    names.STATE_NOW: _T.INTS,
    names.STATE_SHARE: _T.FLOAT,
    names.STATE_PAST: _T.INTS,
    names.STATE_PEAKS: _T.FLOATS,
    names.LAST_PERIOD: _T.STRING,
    names.MODEL_VERSION: _T.STRING,
}
_POPULATION_BURSTS = {
    names.RISEN_PERIODS: _T.STRINGS,
    names.RISEN_TOPICS: _T.STRINGS,
    names.RISEN_TOPIC_ROWS: _T.INTS,
    names.LAST_PERIOD: _T.STRING,
    names.MODEL_VERSION: _T.STRING,
}
_RANK_STATE = {
    names.QUERY_SUMS: _T.VECTOR,
    names.QUERY_WEIGHTS: _T.VECTOR,
    names.ACTIVITY: _T.VECTOR,
    names.REPEAT_ITEM_IDS: _T.STRINGS,
    names.REPEAT_COUNTS: _T.VECTOR,
    names.REPEAT_LAST_TIMES: _T.INTS,
    names.STATE_TIME: _T.FLOAT,
    names.MODEL_VERSION: _T.STRING,
}
_PROFILE = {
    names.LABELS: _T.STRINGS,
    names.SHARES: _T.FLOATS,
    names.RECENT_SHARES: _T.FLOATS,
    names.EVENT_COUNT: _T.INT,
    names.FIRST_EVENT_TIME: _T.TIME,
    names.LAST_EVENT_TIME: _T.TIME,
    names.SESSION_COUNT: _T.INT,
    names.IS_SUSPECTED_BOT: _T.BOOL,
    names.MODEL_VERSION: _T.STRING,
}
_ACTIVITY = {
    names.ACTIVITY_ITEM_IDS: _T.STRINGS,
    names.ACTIVITY_ITEMS: _T.INTS,
    names.ACTIVITY_WEEKS: _T.INTS,
    names.ACTIVITY_COUNTS: _T.INTS,
    names.WEEKDAY_DAYS: _T.INTS,
    names.HOUR_HOURS: _T.INTS,
    names.MODEL_VERSION: _T.STRING,
}
_ITEM = {
    names.VEC: _T.VECTOR,
    names.CONTENT_HASH: _T.STRING,
    names.MODEL_VERSION: _T.STRING,
}


@lru_cache(maxsize=64)
def views_of(space_id: str) -> dict[str, View]:
    """Return every view of a space by name."""
    user = (names.USER_ID,)
    views = [
        View(name=names.rank_state_view(space_id), join_keys=user, features=_RANK_STATE),
        View(name=names.profile_view(space_id), join_keys=user, features=_PROFILE),
        View(name=names.activity_view(space_id), join_keys=user, features=_ACTIVITY),
        View(name=names.item_view(space_id), join_keys=(names.ITEM_ID,), features=_ITEM),
    ]
    for granularity in Granularity:
        views += [
            View(
                name=names.interest_view(granularity, space_id),
                join_keys=user,
                features=_PERIOD_VECTOR,
                # A join on the user alone finds the newest vector known at each instant there.
                shares_history_of=names.by_period_view(granularity, space_id),
            ),
            View(name=names.history_view(granularity, space_id), join_keys=user, features=_HISTORY),
            View(
                name=names.by_period_view(granularity, space_id),
                join_keys=(names.USER_ID, names.PERIOD),
                features=_PERIOD_VECTOR,
                is_online=False,
            ),
            View(
                name=names.forecast_view(granularity, space_id), join_keys=user, features=_FORECAST
            ),
            View(
                name=names.forecast_state_view(granularity, space_id),
                join_keys=user,
                features=_FORECAST_STATE,
            ),
        ]
    for granularity in names.BURST_GRANULARITIES:
        views += _burst_views(granularity, space_id)
    return {view.name: view for view in views}


def _burst_views(granularity: Granularity, space_id: str) -> list[View]:
    by_period = names.bursts_by_period_view(granularity, space_id)
    return [
        View(
            name=names.bursts_view(granularity, space_id),
            join_keys=(names.USER_ID,),
            features=_BURSTS,
            shares_history_of=by_period,
        ),
        View(
            name=by_period,
            join_keys=(names.USER_ID, names.PERIOD),
            features=_BURSTS,
            is_online=False,
        ),
        View(
            name=names.burst_state_view(granularity, space_id),
            join_keys=(names.USER_ID,),
            features=_BURST_STATE,
            is_online=False,
        ),
        View(
            name=names.population_bursts_view(granularity, space_id),
            join_keys=(names.POPULATION,),
            features=_POPULATION_BURSTS,
        ),
    ]


def view_named(name: str) -> View:
    """Return the view with this name.

    Raises:
        InvalidArgument: no view of any space is called so.
    """
    _, _, space_id = name.partition("__")
    view = views_of(space_id).get(name) if space_id else None
    if view is None:
        raise InvalidArgument(
            "view", f"{name!r} is no view; names come from services/core/schema.py"
        )
    return view
