"""Entities, views and feature services of one vector space, as Feast objects."""

from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Bool, Float32, Float64, Int64, String, UnixTimestamp

from services.core import schema as names
from services.core.schema import Granularity
from services.core.views import FeatureType, View, views_of

_DTYPES = {
    FeatureType.STRING: String,
    FeatureType.INT: Int64,
    FeatureType.FLOAT: Float64,
    FeatureType.BOOL: Bool,
    FeatureType.TIME: UnixTimestamp,
    FeatureType.STRINGS: Array(String),
    FeatureType.INTS: Array(Int64),
    FeatureType.FLOATS: Array(Float64),
    FeatureType.VECTOR: Array(Float32),
}
_ENTITIES = {
    names.USER_ID: Entity(
        name="user", join_keys=[names.USER_ID], value_type=ValueType.STRING,
        description="Who acted: an opaque id.",
    ),
    names.PERIOD: Entity(
        name="period", join_keys=[names.PERIOD], value_type=ValueType.STRING,
        description="ISO name of a day, week or month: 2026-11-24, 2026-W48, 2026-11.",
    ),
    names.POPULATION: Entity(
        name="population", join_keys=[names.POPULATION], value_type=ValueType.STRING,
        description="All users together: everyone.",
    ),
    names.ITEM_ID: Entity(
        name="item", join_keys=[names.ITEM_ID], value_type=ValueType.STRING,
        description="What was acted on: an opaque id.",
    ),
}  # fmt: skip


def definitions(space_id: str, offline_root: str) -> list[Any]:
    """Return the entities and views of a space.

    Args:
        space_id: the vector space, like minilm_1f3c9a2b.
        offline_root: folder (or URL) that holds a folder of Parquet parts per view.
    """
    return [
        *_ENTITIES.values(),
        *(_view(view, offline_root) for view in views_of(space_id).values()),
    ]


def services(space_id: str, offline_root: str) -> list[Any]:
    """Return the feature services other teams read, all answering from one space.

    Their names are stable: a new space is backfilled first, then the services are applied again.
    """
    views = {view.name: _view(view, offline_root) for view in views_of(space_id).values()}
    week = Granularity.WEEK
    wanted = {
        "interest_week_v1": names.interest_view(week, space_id),
        "interest_history_week_v1": names.history_view(week, space_id),
        "forecast_week_v1": names.forecast_view(week, space_id),
        "user_profile_v1": names.profile_view(space_id),
    }
    return [
        FeatureService(name=name, features=[views[view]], tags={"space_id": space_id})
        for name, view in wanted.items()
    ]


def _view(view: View, offline_root: str) -> FeatureView:
    return FeatureView(
        name=view.name,
        entities=[_ENTITIES[key] for key in view.join_keys],
        schema=[
            *(Field(name=key, dtype=String) for key in view.join_keys),
            *(Field(name=name, dtype=_DTYPES[kind]) for name, kind in view.features.items()),
        ],
        source=FileSource(
            name=f"{view.name}_parts",
            # A glob: Feast's DuckDB store does not take a bare folder.
            path=f"{offline_root}/{view.offline_folder}/*.parquet",
            timestamp_field=names.KNOWN_TIME,
            created_timestamp_column=names.COMPUTED_TIME,
        ),
        online=view.is_online,
        # Zero: never expires. With a ttl, stale rows are served all the same and joins lose rows.
        ttl=timedelta(0),
    )
