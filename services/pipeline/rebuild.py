"""`driftline rebuild-online`: the online store from the offline history, and from the events what has none.

Only rows that differ, or are not there, are written. Run it while no refresh runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.core.progress import Progress
from services.core.schema import DEFAULT_TENANT, item_view
from services.pipeline.compute import ComputeClient
from services.pipeline.refresh import Stores
from services.runtime.settings import Settings
from services.store.interest_reads import InterestReads
from services.store.online_check import (
    differing_users,
    item_frame,
    offline_frames,
    to_write,
)
from services.store.ports import ModelRegistry

# Items are all of one bucket.
_ITEM_BUCKET = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildSummary:
    """What a rebuild wrote."""

    # Rows of users and of everyone that differed or were not there.
    rows: int
    # Item vectors.
    items: int
    # Rank states and activities that were made anew; 0 where the encoder was not asked.
    remade_users: int


async def rebuild_online(
    stores: Stores,
    reader: InterestReads,
    compute: ComputeClient | None,
    settings: Settings,
    *,
    tenant: str = DEFAULT_TENANT,
    on_progress: Progress = lambda stage, done, total: None,
) -> RebuildSummary:
    """Make the online store say what the offline history says, for every space that has a model.

    Args:
        stores: event tables, feature writer, registry.
        reader: of the online store.
        compute: makes rank states and activities anew; None leaves them as they are.
        settings: bucket count.
        tenant: whose data.
        on_progress: called with a stage's name, steps done, steps in all.

    Raises:
        DependencyUnavailable: a store or the encoder does not answer; run it again.
    """
    rows = items = remade = 0
    spaces = spaces_of(stores.models, tenant)
    for space_id in spaces:
        stores.features.apply(tenant, space_id)
        items += _write_items(stores, tenant, space_id)
        for bucket in range(settings.bucket_count):
            rows += await mend_bucket(stores, reader, tenant, space_id, bucket)
            on_progress(f"rows of {space_id}", bucket + 1, settings.bucket_count)
    if compute is not None and spaces:
        for model_version in _kept_fresh(stores.models, tenant):
            for bucket in range(settings.bucket_count):
                made = compute.refresh_interests(
                    [bucket], is_full=True, model_version=model_version
                )
                remade += made.user_count
                on_progress("rank states", bucket + 1, settings.bucket_count)
        # Last: until now a row that is not there tells gateways nothing of its user.
        stores.features.mark_filled(tenant)
    return RebuildSummary(rows=rows, items=items, remade_users=remade)


async def mend_bucket(
    stores: Stores, reader: InterestReads, tenant: str, space_id: str, bucket: int
) -> int:
    """Write the rows of a bucket that differ; returns how many."""
    count = 0
    for view, rows in offline_frames(stores.features, tenant, space_id, bucket):
        users = await differing_users(reader, tenant, view, rows)
        if users:
            # First: a store that keeps the newer row would keep what differs.
            stores.features.forget_online(tenant, view.name, users)
            wanted = rows.filter(rows[view.join_keys[0]].is_in(users))
            stores.features.write_online(tenant, view.name, to_write(view, wanted))
            count += len(users)
    return count


def spaces_of(models: ModelRegistry, tenant: str) -> Sequence[str]:
    """Return the spaces of every model, ascending."""
    return sorted({model.space_id for model in models.list(tenant)})


def _kept_fresh(models: ModelRegistry, tenant: str) -> tuple[str, ...]:
    """Return whose rank states refreshes keep: the live model's (an empty name), and the shadow's."""
    shadow = models.shadow(tenant)
    return ("",) if shadow is None else ("", shadow.model_version)


def _write_items(stores: Stores, tenant: str, space_id: str) -> int:
    view = item_view(space_id)
    rows = item_frame(stores.features, tenant, view, _ITEM_BUCKET)
    if rows is None:
        return 0
    stores.features.write_online(tenant, view, rows.drop("known_time"))
    return len(rows)
