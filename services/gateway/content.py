"""Content demand: the stored release through core/brief.py. Nothing of a user is read here."""

import asyncio
from datetime import datetime
from itertools import islice

import numpy as np

from services.core.brief import (
    LATELY,
    Figure,
    Measure,
    Supply,
    brief_of_cohort,
    brief_of_topic,
    describe_cohort,
    topic_facts,
)
from services.core.demand import EVERYONE
from services.core.demand_release import Release
from services.core.errors import InvalidArgument, NotReady
from services.core.periods import closed_before, period_at
from services.gateway.answers import (
    BriefAnswer,
    BriefQuery,
    DemandAnswer,
    DemandBasis,
    DemandQuery,
    NamedCohort,
)
from services.gateway.state import GatewayState, Stock
from services.store.ports import DemandStore

# Titles that stand for a topic.
TITLES = 3


class Content:
    """Reads demand, and drafts briefs of it."""

    def __init__(
        self,
        state: GatewayState,
        store: DemandStore,
        release: str,
        *,
        stale_after_periods: int,
    ) -> None:
        """Read the release of this name, of the space that is served."""
        self._state, self._store, self._release = state, store, release
        self._stale_after = stale_after_periods
        # Supply by the token of the catalogue and the release's topics.
        self._supply: tuple[tuple[str, tuple[str, ...]], Supply] | None = None

    async def forecast(self, query: DemandQuery) -> DemandAnswer:
        """Return topics' demand in a cohort, the most wanted next first.

        Raises:
            NotReady: nothing was published yet. InvalidArgument: there is no such cohort or topic.
            CohortTooSmall: it is below the least size.
        """
        release, supply = await self._read()
        seen = release.told(query.cohort)
        forecast = release.forecasts[query.cohort]
        rows = _rows(release, query.topic_ids)
        next_T = np.nan_to_num(forecast.volume.mean_NH[:, 0])
        rows.sort(key=lambda row: (-float(next_T[row]), release.topic_ids[row]))
        # Periods that are over by now were forecast too; they are not asked for.
        now = period_at(release.terms.granularity, query.as_of.event_time)
        over = max(now - release.published.newest - 1, 0)
        most = forecast.volume.mean_NH.shape[1]
        return DemandAnswer(
            seen=seen,
            forecast=forecast,
            supply=supply,
            rows=tuple(rows[: query.limit or len(rows)]),
            horizons=tuple(range(over + 1, min(over + (query.horizons or most), most) + 1)),
            history=query.history,
            cohorts=_cohorts(release, supply),
            basis=self._basis(release, query.cohort, query.as_of.event_time),
        )

    async def brief(self, query: BriefQuery) -> BriefAnswer:
        """Return a brief of a topic or of an audience. Raises as `forecast`."""
        release, supply = await self._read()
        cohort = query.cohort or EVERYONE
        seen = release.told(cohort)
        if query.topic_id:
            _rows(release, (query.topic_id,))
        # Sorting and testing some thousand counts: off the event loop.
        facts = await asyncio.to_thread(
            topic_facts,
            seen,
            release.forecasts[cohort].share,
            supply,
            cohort=cohort,
            newest=release.published.newest,
        )
        if query.topic_id:
            one = next(f for f in facts if f.topic_id == query.topic_id)
            sentences = brief_of_topic(one, _audiences(release, supply, query.topic_id))
        else:
            newest = release.published.newest
            users = Figure(
                measure=Measure.COHORT_USERS, value=float(seen.size_P[-1]), cohort=cohort,
                first=newest, last=newest,
            )  # fmt: skip
            sentences = brief_of_cohort(cohort, users, facts)
        basis = self._basis(release, cohort, query.as_of.event_time)
        return BriefAnswer(sentences=sentences, basis=basis)

    async def _read(self) -> tuple[Release, Supply]:
        served = self._state.served()
        release = await asyncio.to_thread(
            self._store.read, self._state.tenant, served.model.space_id, self._release
        )
        if release is None:
            raise NotReady("content demand", "run `driftline refresh`, or `driftline demand`")
        stock = served.stocked()
        key = (stock.token, release.topic_ids)
        if self._supply is None or self._supply[0] != key:
            self._supply = (key, await asyncio.to_thread(_supply_of, release, stock))
        return release, self._supply[1]

    def _basis(self, release: Release, cohort: str, now: datetime) -> DemandBasis:
        behind = closed_before(release.terms.granularity, now) - release.published.newest
        return DemandBasis(release=release, cohort=cohort, is_stale=behind > self._stale_after)


def _rows(release: Release, topic_ids: tuple[str, ...]) -> list[int]:
    """Return rows of topics; all where none is named. Raises InvalidArgument for an unknown one."""
    row_of = {topic_id: row for row, topic_id in enumerate(release.topic_ids)}
    for topic_id in topic_ids:
        if topic_id not in row_of:
            raise InvalidArgument(
                "topic_id", f"{topic_id!r} is no topic; ForecastTopicDemand without any names all"
            )
    return [row_of[topic_id] for topic_id in topic_ids] or list(row_of.values())


def _supply_of(release: Release, stock: Stock) -> Supply:
    """Return what the catalogue has of each topic of a release; nothing of one that is no more."""
    found = [_supply_of_topic(stock, topic_id) for topic_id in release.topic_ids]
    return Supply(
        topic_ids=release.topic_ids,
        names=tuple(one.names[0] for one in found),
        terms=tuple(one.terms[0] for one in found),
        item_counts=tuple(one.item_counts[0] for one in found),
        titles=tuple(one.titles[0] for one in found),
    )


def _supply_of_topic(stock: Stock, topic_id: str) -> Supply:
    topic_map = stock.topic_map
    if topic_map is None or topic_id not in topic_map.topics.ids:
        return Supply(
            topic_ids=(topic_id,), names=("",), terms=((),), item_counts=(0,), titles=((),)
        )
    topic = topic_map.topics.ids.index(topic_id)
    own = np.flatnonzero(topic_map.topic_N == topic)
    near = np.asarray(stock.catalogue.items_ND[own]) @ topic_map.topics.centroids_TD[topic]
    best = own[np.argsort(-near, kind="stable")]
    said = (stock.catalogue.titles[row] for row in best.tolist())
    return Supply(
        topic_ids=(topic_id,),
        names=(topic_map.topics.names[topic],),
        terms=(topic_map.topics.terms[topic],),
        item_counts=(len(own),),
        titles=(tuple(islice(dict.fromkeys(title for title in said if title), TITLES)),),
    )


def _cohorts(release: Release, supply: Supply) -> tuple[NamedCohort, ...]:
    name_of = dict(zip(supply.topic_ids, supply.names, strict=True))
    unit = str(release.terms.granularity)
    return tuple(
        NamedCohort(
            name=name,
            description=describe_cohort(name, name_of, unit),
            users=release.size(name),
        )
        for name in release.cohorts
    )


def _audiences(release: Release, supply: Supply, topic_id: str) -> dict[str, Figure]:
    """Return lately's audience of a topic in each cohort that is served."""
    row = supply.topic_ids.index(topic_id)
    newest = release.published.newest
    found = {}
    for cohort in release.cohorts:
        if cohort == EVERYONE or not release.size(cohort):
            continue
        last_P = release.told(cohort).audience_TP[row, -LATELY:]
        seen_P = np.maximum(last_P[~np.isnan(last_P)], 0)
        found[cohort] = Figure(
            measure=Measure.AUDIENCE,
            value=float(seen_P.mean()) if len(seen_P) else 0.0,
            topic_id=topic_id,
            cohort=cohort,
            first=newest + (1 - len(last_P)),
            last=newest,
        )
    return found
