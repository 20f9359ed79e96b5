"""Publishes bursts of everyone, from the sums that every bucket's refresh left."""

import base64
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from services.core import schema as names
from services.core.burst_everyone import PopulationBursts, follow_population, sum_moved
from services.core.burst_state import BurstModel, PopulationState
from services.core.periods import Period
from services.core.views import view_named
from services.forecaster.burst_rows import Stamp, moved_from_json
from services.forecaster.bursts import position_name
from services.store.frames import TIME, conform, rows_frame
from services.store.ports import EventTables, FeatureWriter
from services.store.rows import features_of_population
from services.store.shares import content_digest

# Rows of the population lie in this bucket: it is no user.
_BUCKET = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationRefresh:
    """One refresh of one tenant's population."""

    features: FeatureWriter
    tables: EventTables
    tenant: str
    bucket_count: int
    model: BurstModel
    stamp: Stamp

    def run(self) -> int:
        """Publish what is not published yet; return how many rises are known.

        A row for every period in which a topic rose, each with what was known at its close.
        """
        documents = [
            self.tables.read_state(self.tenant, position_name(*self._place, bucket))
            for bucket in range(self.bucket_count)
        ]
        told = [d for d in documents if d and d["model_version"] == self.stamp.model_version]
        if not told:
            return 0
        moved = sum_moved(moved_from_json(document["moved"]) for document in told)
        state, risen = follow_population(self.model, moved)
        last = max(int(document["last"]) for document in told)
        self._publish(risen, last)
        self.tables.write_state(
            self.tenant,
            "population_bursts_{}_{}".format(*self._place),
            _document(state, last, self.stamp.model_version),
        )
        return sum(len(topics) for topics in risen.values())

    @property
    def _place(self) -> tuple[names.Granularity, str]:
        return self.stamp.granularity, self.stamp.space_id

    def _publish(self, risen: dict[int, tuple[int, ...]], last: int) -> None:
        view = names.population_bursts_view(*self._place)
        rows = self._rows(view, risen, last)
        held = self.features.read_offline(self.tenant, view, _BUCKET)
        said = [name for name in view_named(view).features if name != names.LAST_PERIOD]
        newest = rows.tail(1)
        if len(held) and held.select(said).equals(newest.select(said)):
            return
        self.features.write_online(self.tenant, view, newest.drop(names.KNOWN_TIME))
        part = f"{newest[names.LAST_PERIOD][0]}-{content_digest(rows)}"
        # Each has a computed time of its own, later the later its period: the newest is the newest.
        self.features.append_offline(self.tenant, view, _BUCKET, part, rows)

    def _rows(self, view: str, risen: dict[int, tuple[int, ...]], last: int) -> pl.DataFrame:
        granularity = self.stamp.granularity
        closes = sorted(risen) or [last]
        features, periods = [], []
        for close in closes:
            until = {
                Period(granularity, period): topics
                for period, topics in risen.items()
                if period <= close
            }
            known = PopulationBursts(risen=until, model_version=self.stamp.model_version)
            periods.append(Period(granularity, close))
            features.append(features_of_population(known, self.model.names_G, periods[-1]))
        rows = rows_frame(
            view, [names.EVERYONE] * len(closes), features, computed_time=self.stamp.computed_time
        )
        known_times = [self.stamp.known_time(period) for period in periods]
        computed_times = [
            self.stamp.computed_time - timedelta(microseconds=len(closes) - 1 - n)
            for n in range(len(closes))
        ]
        return conform(
            view_named(view),
            rows.with_columns(
                pl.Series(names.KNOWN_TIME, known_times, dtype=TIME),
                pl.Series(names.COMPUTED_TIME, computed_times, dtype=TIME),
            ),
        )


def _document(state: PopulationState, last: int, model_version: str) -> dict[str, object]:
    """Return the state as JSON: of the size of one period, however long it was followed."""
    arrays = {"mean": state.mean_G, "variance": state.variance_G}
    said = {
        name: base64.b64encode(np.asarray(array, "<f8").tobytes()).decode()
        for name, array in arrays.items()
    }
    return {**said, "periods": state.periods, "last": last, "model_version": model_version}
