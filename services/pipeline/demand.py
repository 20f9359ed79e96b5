"""Demand by topic and cohort: events -> counts -> noise, once -> forecasts -> the store.

A period is published once, after its close and the publish lag: events that come later are not in
it. An erased user is in no period that is published from then on; what stands holds noise and
nobody's name.

Shape suffixes: E = events, N = items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from services.core.classify import IS_BULK_DAY, with_bulk_days
from services.core.dataset import period_ordinals
from services.core.demand import PUBLISHED_PERIODS, Cells, ReleaseTerms, add_cells, count_cells
from services.core.demand_release import Release, make_release
from services.core.errors import NotReady
from services.core.periods import Period, closed_before
from services.core.schema import EVENT_TIME, ITEM_ID, USER_ID
from services.core.topics import NO_TOPIC, Topics, assign_topics
from services.runtime.settings import Settings
from services.store.ports import Catalogue, CatalogueStore, DemandStore, EventTables


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandStores:
    """What demand is made from, and where it goes."""

    tables: EventTables
    catalogues: CatalogueStore
    demand: DemandStore


def refresh_demand(
    stores: DemandStores,
    settings: Settings,
    tenant: str,
    space_id: str,
    *,
    is_new_edition: bool = False,
) -> int:
    """Publish the periods that closed since the last time, and forecast anew.

    Args:
        stores: events, catalogue, demand.
        settings: terms, clock, buckets, publish lag.
        tenant: whose data.
        space_id: whose topics.
        is_new_edition: draw everything anew, of what the events say now: after an import of old
            events. What users risk grows by another publication.

    Returns:
        How many periods were published; 0 too where the catalogue has no topics yet.

    Raises:
        DependencyUnavailable: a store does not answer.
    """
    terms = settings.release_terms()
    closed = closed_before(
        terms.granularity, settings.clock() - timedelta(seconds=settings.publish_lag_s)
    )
    held = stores.demand.read(tenant, space_id, terms.name)
    try:
        token = stores.catalogues.current_token(tenant, space_id)
        known = stores.tables.read_state(tenant, _state(space_id))
        is_same = known == {"token": token, "closed": closed.name}
        if held is not None and is_same and held.terms == terms and not is_new_edition:
            return 0
        catalogue = stores.catalogues.current(tenant, space_id)
    except NotReady:
        return 0
    if catalogue.topics is None:
        return 0
    topics, done = catalogue.topics, 0

    def make(secret: bytes, former: Release | None) -> Release | None:
        nonlocal done
        end = closed if former is None else max(closed, former.published.newest)
        if former is not None and not is_new_edition and _stands(former, topics, terms, end):
            return None
        new = former is None or is_new_edition
        cells = _count(stores.tables, catalogue, topics, settings, tenant, end)
        done = PUBLISHED_PERIODS[terms.granularity]
        if former is not None and not new:
            done = end - former.published.newest
        return make_release(
            cells, former, terms, secret=secret, space_id=space_id, now=settings.clock(),
            is_new_edition=is_new_edition,
        )  # fmt: skip

    stores.demand.update(tenant, space_id, terms.name, make)
    stores.tables.write_state(tenant, _state(space_id), {"token": token, "closed": closed.name})
    return done


def _state(space_id: str) -> str:
    return f"demand_{space_id}"


def _stands(former: Release, topics: Topics, terms: ReleaseTerms, end: Period) -> bool:
    return (
        former.terms == terms and former.published.newest == end and former.topic_ids == topics.ids
    )


def _count(
    tables: EventTables,
    catalogue: Catalogue,
    topics: Topics,
    settings: Settings,
    tenant: str,
    end: Period,
) -> Cells:
    """Return the counts of all users, bucket after bucket."""
    terms = settings.release_terms()
    topic_N = assign_topics(catalogue.items_ND, topics.centroids_TD)
    items = pl.DataFrame({ITEM_ID: catalogue.item_ids, "topic": topic_N}).cast({ITEM_ID: pl.String})
    count = PUBLISHED_PERIODS[terms.granularity]
    total: Cells | None = None
    for events in _buckets(tables, settings.bucket_count, tenant, end):
        rows = events.join(items, on=ITEM_ID, how="left", maintain_order="left")
        cells = count_cells(
            (rows[USER_ID].rank("dense").cast(pl.Int64).to_numpy() - 1),
            rows["topic"].fill_null(NO_TOPIC).cast(pl.Int64).to_numpy(),
            period_ordinals(
                rows[EVENT_TIME].dt.timestamp("us").to_numpy() / 1e6, terms.granularity
            ),
            user_count=rows[USER_ID].n_unique(),
            topic_ids=topics.ids,
            first=end.ordinal + 1 - count,
            period_count=count,
            terms=terms,
        )
        total = cells if total is None else add_cells(total, cells)
    assert total is not None
    return total


def _buckets(
    tables: EventTables, bucket_count: int, tenant: str, end: Period
) -> Iterator[pl.DataFrame]:
    """Give the events up to a period's end, less bulk days: a bot is nobody's demand."""
    for bucket in range(bucket_count):
        events = with_bulk_days(tables.read_events(tenant, bucket))
        yield events.filter(~pl.col(IS_BULK_DAY) & (pl.col(EVENT_TIME) < end.end))
