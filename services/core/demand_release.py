"""A release of demand: what was published, and what is foretold from it. Reads ask this alone."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from services.core.demand import (
    EVERYONE,
    Cells,
    Published,
    ReleaseTerms,
    Told,
    cohorts_of,
    nothing_again,
    publish,
    told,
)
from services.core.demand_forecast import HORIZONS, DemandForecast, forecast_demand
from services.core.errors import CohortTooSmall, InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The newest publication of a space, with its forecasts."""

    space_id: str
    published: Published
    published_time: datetime
    # Topics in force: rows of the forecasts.
    topic_ids: tuple[str, ...]
    # Of EVERYONE and each cohort that is served.
    forecasts: Mapping[str, DemandForecast]

    @property
    def terms(self) -> ReleaseTerms:
        return self.published.terms

    @property
    def cohorts(self) -> tuple[str, ...]:
        """The partition that is in force, EVERYONE first."""
        return tuple(dict.fromkeys((EVERYONE, *cohorts_of(self.terms.partition, self.topic_ids))))

    def told(self, cohort: str) -> Told:
        """Return what may be shown of a cohort.

        Raises:
            InvalidArgument: there is no such cohort. CohortTooSmall: it is too small to be shown.
        """
        if cohort not in self.cohorts:
            names = ", ".join(self.cohorts[:8])
            raise InvalidArgument("cohort", f"{cohort!r} is not one of the cohorts, like {names}")
        parts = cohorts_of(self.terms.partition, self.topic_ids)
        seen = told(self.published, self.topic_ids, parts if cohort == EVERYONE else (cohort,))
        if not seen.size_P.shape[0] or seen.size_P[-1] == 0:
            raise CohortTooSmall(cohort, self.terms.least_users)
        return seen

    def size(self, cohort: str) -> int:
        """Return the users of a cohort in the newest period, at least; 0 where it is too small."""
        try:
            return int(self.told(cohort).size_P[-1])
        except CohortTooSmall:
            return 0


def make_release(
    cells: Cells, former: Release | None, terms: ReleaseTerms, *, secret: bytes, space_id: str,
    now: datetime, is_new_edition: bool = False,
) -> Release:  # fmt: skip
    """Publish what is new of the cells, and forecast from what was published.

    Args:
        cells: true counts, up to the newest period to publish; they reach at least as far as the former.
        former: the release of these terms that stands.
        terms: of the release.
        secret: of the tenant; the noise is a function of it.
        space_id: whose topics these are.
        now: when it is made.
        is_new_edition: draw everything anew: what users risk grows by another publication.
    """
    before = former.published if former else None
    if before is not None and is_new_edition:
        before = nothing_again(before)
    key = hmac.digest(secret, space_id.encode(), hashlib.sha256)
    release = Release(
        space_id=space_id,
        published=publish(cells, before, terms, key),
        published_time=now,
        topic_ids=cells.topic_ids,
        forecasts={},
    )
    forecasts = {
        cohort: forecast_demand(
            release.told(cohort), HORIZONS[terms.granularity], terms.granularity
        )
        for cohort in release.cohorts
        if release.size(cohort)
    }
    return replace(release, forecasts=forecasts)
