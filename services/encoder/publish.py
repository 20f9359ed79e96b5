"""Publishes what was made of some users to Feast: online rows first, offline vectors last.

The offline vectors are what the next refresh compares with. Whatever was cut before they were
written is done again then, and nothing that they tell of is missing online.
"""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from services.core.interests import BucketInterests
from services.core.model import Model
from services.core.schema import (
    COMPUTED_TIME,
    USER_ID,
    Granularity,
    activity_view,
    by_period_view,
    history_view,
    interest_view,
    profile_view,
    rank_state_view,
)
from services.encoder.rows import rank_state_records
from services.store.frames import (
    TIME,
    history_frame,
    newest_period_frame,
    rows_frame,
    unpublished_rows,
)
from services.store.ports import FeatureWriter
from services.store.rows import features_of_activity, features_of_profile, features_of_rank_state
from services.store.shares import BucketUsers, append_shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What was made of some users, and what of it is new."""

    # Offline rows go by bucket.
    shares: tuple[BucketUsers, ...]
    made: BucketInterests
    # Rows of interest_{g}_by_period: all of them, and those that are not published.
    fresh: dict[Granularity, pl.DataFrame]
    different: dict[Granularity, pl.DataFrame]
    # Rows that are stated once more; see rows.restated_rows.
    restated: dict[Granularity, pl.DataFrame]
    # Rows of user_profile that are published.
    held_profiles: pl.DataFrame
    # What the items of `made` are called.
    item_ids: tuple[str, ...]
    computed_time: datetime


def publish(features: FeatureWriter, model: Model, tenant: str, new: Publication) -> None:
    """Write what is new, made by `model`."""
    online = _vector_rows(new, model.space_id)
    profiles = _profile_rows(new, model)
    at = pl.lit(new.computed_time, TIME).alias(COMPUTED_TIME)
    served = *online, _rank_state_rows(new, model), _activity_rows(new, model), profiles
    features.write_online_views(tenant, {view: rows.with_columns(at) for view, rows in served})
    histories = [(view, rows) for view, rows in online if "_history__" in view]
    vectors = [
        (by_period_view(g, model.space_id), pl.concat([rows, new.restated[g]]))
        for g, rows in new.different.items()
    ]
    for view, rows in (*histories, profiles, *vectors):
        append_shares(features, tenant, view, rows, new.shares)


def _vector_rows(new: Publication, space_id: str) -> list[tuple[str, pl.DataFrame]]:
    """Return the newest vectors and the histories of users with a new row, by view."""
    views = []
    for granularity, rows in new.different.items():
        users = rows[USER_ID].unique()
        whole = new.fresh[granularity].filter(pl.col(USER_ID).is_in(users.implode()))
        if len(whole):
            views.append((interest_view(granularity, space_id), newest_period_frame(whole)))
            views.append((history_view(granularity, space_id), history_frame(granularity, whole)))
    return views


def _rank_state_rows(new: Publication, model: Model) -> tuple[str, pl.DataFrame]:
    view = rank_state_view(model.space_id)
    users, states = rank_state_records(new.made, new.item_ids)
    features = [features_of_rank_state(state, model.model_version) for state in states]
    return view, rows_frame(view, users, features, computed_time=new.computed_time)


def _activity_rows(new: Publication, model: Model) -> tuple[str, pl.DataFrame]:
    view = activity_view(model.space_id)
    features = [
        features_of_activity(activity, model.model_version) for activity in new.made.activities
    ]
    return view, rows_frame(view, new.made.user_ids, features, computed_time=new.computed_time)


def _profile_rows(new: Publication, model: Model) -> tuple[str, pl.DataFrame]:
    view = profile_view(model.space_id)
    features = [features_of_profile(profile, model.model_version) for profile in new.made.profiles]
    rows = rows_frame(view, new.made.user_ids, features, computed_time=new.computed_time)
    return view, unpublished_rows(rows, new.held_profiles)
