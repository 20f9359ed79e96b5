"""`driftline migrate`: from one vector space to another under load, its steps in order.

    start      the new model becomes the shadow: from now on every refresh writes both spaces
    backfill   items, index, vectors and forecasts of the new space, beside the old
    verify     it covers what the old one has, and finds held-out events no worse, paired
    switch     the registry's `live` is replaced in one step; gateways follow at their next poll;
               other teams' feature services keep their names and answer from the new space
    rollback   the same step back: the old space is the shadow since, and as fresh
    finish     the old space is no longer refreshed; it stays where it is

Each step may be repeated; a migration that was cut goes on where it stood.
Shape suffixes: U = users, D = width, L = items of a user.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from services.core.errors import InvalidArgument, NotReady
from services.core.migration import (
    Verification,
    compare_recall,
    coverage,
    next_recall,
    problems_of,
)
from services.core.periods import Period, closed_before
from services.core.pooling import F64, I64
from services.core.progress import Progress
from services.core.records import F32, ModelInfo
from services.core.schema import (
    DEFAULT_TENANT,
    EVENT_COUNT,
    EVENT_TIME,
    ITEM_ID,
    MADE_AT,
    PERIOD,
    PERIOD_START,
    USER_ID,
    VEC,
    Granularity,
    by_period_view,
    forecast_view,
)
from services.pipeline.compute import ComputeClient
from services.pipeline.refresh import Stores, refresh_space
from services.runtime.settings import Settings
from services.store.ports import Catalogue, CatalogueStore

# Users of whom recall is measured, bucket after bucket until there are as many.
RECALL_USERS = 20_000
# How often what came in between two looks is caught up with before coverage is judged.
LOOKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Users of one bucket with a vector in both spaces and items in the held-out period."""

    old_UD: F32
    new_UD: F32
    # Ids of the items, by user.
    next_UL: list[list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """The steps, over one tenant's stores. One operator at a time."""

    stores: Stores
    catalogues: CatalogueStore
    compute: ComputeClient
    settings: Settings
    tenant: str = DEFAULT_TENANT
    seed: int = 0

    def start(self, model_version: str) -> ModelInfo:
        """Begin to write the new model's space beside the live one; returns the new model.

        Raises:
            InvalidArgument: no such model, it is of the live space, or another one is migrated to.
            NotReady: no model is live.
        """
        models = self.stores.models
        live, shadow = models.live(self.tenant), models.shadow(self.tenant)
        found = next(
            (one for one in models.list(self.tenant) if one.model_version == model_version), None
        )
        if found is None:
            raise InvalidArgument("to", f"no model {model_version!r}; see `driftline status`")
        if found.space_id == live.space_id:
            raise InvalidArgument(
                "to", f"{model_version} is of the live space {live.space_id}; promote it instead"
            )
        if shadow is not None and shadow.model_version != model_version:
            raise InvalidArgument(
                "to",
                f"{shadow.model_version} is kept fresh beside the live model; "
                "end that with `driftline migrate --finish` first",
            )
        models.set_shadow(self.tenant, model_version)
        return found

    def backfill(
        self, model_version: str, on_progress: Progress = lambda stage, done, total: None
    ) -> None:
        """Fill the new space; what is there already is left."""
        refresh_space(
            self.compute, self.settings, model_version=model_version, on_progress=on_progress
        )

    def verify(self, model: ModelInfo) -> Verification:
        """Compare the new space with the live one.

        Raises:
            NotReady: no model is live, or a space was never published.
        """
        live = self.stores.models.live(self.tenant)
        shares = self._coverage(live.space_id, model.space_id)
        for _ in range(LOOKS - 1):
            if min(shares.values()) == 1:
                break
            # What came in between the two looks is in the old space first.
            self.backfill(model.model_version)
            shares = self._coverage(live.space_id, model.space_id)
        granularities = self.settings.granularities
        weekly = Granularity.WEEK in granularities
        granularity = Granularity.WEEK if weekly else granularities[0]
        held_out = closed_before(granularity, self.settings.clock())
        rng = np.random.default_rng(self.seed)
        return Verification(
            coverage=shares,
            recall=compare_recall(*self._recalls(live.space_id, model.space_id, held_out), rng),
            held_out=held_out.name,
            is_unseen=all(one.trained_until <= held_out.start for one in (live, model)),
        )

    def switch(self, model: ModelInfo, found: Verification, *, accepts_worse: bool = False) -> None:
        """Make the new space live.

        Raises:
            InvalidArgument: the verification found problems and they are not accepted, or the model
                is not migrated to.
        """
        problems = problems_of(found)
        if problems and not accepts_worse:
            raise InvalidArgument("to", "; ".join(problems))
        self.stores.models.switch(self.tenant, model.model_version)
        self.stores.features.point_services(self.tenant, model.space_id)

    def rollback(self) -> ModelInfo:
        """Make the space before the switch live again; returns its model.

        Raises:
            NotReady: there was no switch, or the migration was finished.
        """
        models = self.stores.models
        shadow = models.shadow(self.tenant)
        if shadow is None or shadow.stage != "previous":
            raise NotReady("migration to roll back", "only a switch that is not finished can be")
        models.switch(self.tenant, shadow.model_version)
        self.stores.features.point_services(self.tenant, shadow.space_id)
        return shadow

    def finish(self) -> None:
        """Stop refreshing the space that is not live."""
        self.stores.models.set_shadow(self.tenant, None)

    def _coverage(self, old: str, new: str) -> dict[str, float]:
        """Return how much of the old space the new one has, the old one looked at first."""
        had, has = (set(self._current(space).item_ids) for space in (old, new))
        shares = {"items": coverage({(each,) for each in had}, {(each,) for each in has})}
        for granularity in self.settings.granularities:
            for name, view, column in (
                (f"{granularity} vectors", by_period_view, EVENT_COUNT),
                (f"{granularity} forecasts", forecast_view, MADE_AT),
            ):
                before, after = (self._keys(view(granularity, s), column) for s in (old, new))
                shares[name] = coverage(before, after)
        return shares

    def _keys(self, view: str, column: str) -> set[tuple[str, ...]]:
        """Return the join keys of every row of a view, of all buckets."""
        rows = pl.concat(
            self.stores.features.read_offline(self.tenant, view, bucket, columns=(column,))
            for bucket in range(self.settings.bucket_count)
        )
        keys = [name for name in (USER_ID, PERIOD) if name in rows.columns]
        return set(rows.select(keys).iter_rows())

    def _recalls(self, old: str, new: str, held_out: Period) -> tuple[F64, F64]:
        """Return each user's recall of the held-out period in both spaces."""
        catalogues = self._current(old), self._current(new)
        both = set(catalogues[0].item_ids) & set(catalogues[1].item_ids)
        recalls: tuple[list[F64], list[F64]] = ([np.zeros(0)], [np.zeros(0)])
        users = 0
        for held in self._held(old, new, held_out, both):
            for place, vec_UD in enumerate((held.old_UD, held.new_UD)):
                next_UL = [_rows(catalogues[place], ids) for ids in held.next_UL]
                recalls[place].append(next_recall(vec_UD, catalogues[place].items_ND, next_UL))
            users += len(held.next_UL)
            if users >= RECALL_USERS:
                break
        return np.concatenate(recalls[0]), np.concatenate(recalls[1])

    def _held(self, old: str, new: str, held_out: Period, items: set[str]) -> Iterator[_Held]:
        in_period = pl.col(EVENT_TIME).is_between(held_out.start, held_out.end, closed="left")
        for bucket in range(self.settings.bucket_count):
            events = self.stores.tables.read_events(self.tenant, bucket)
            had = (
                events.filter(in_period & pl.col(ITEM_ID).is_in(list(items)))
                .select(USER_ID, ITEM_ID)
                .unique()
                .sort(USER_ID, ITEM_ID)
                .group_by(USER_ID, maintain_order=True)
                .agg(ITEM_ID)
            )
            before, after = (self._newest(space, bucket, held_out) for space in (old, new))
            asked = had.join(before, on=USER_ID).join(after, on=USER_ID, suffix="_new")
            asked = asked.sort(USER_ID)
            if len(asked):
                yield _Held(
                    old_UD=np.asarray(asked[VEC].to_list(), np.float32),
                    new_UD=np.asarray(asked[f"{VEC}_new"].to_list(), np.float32),
                    next_UL=asked[ITEM_ID].to_list(),
                )

    def _newest(self, space_id: str, bucket: int, before: Period) -> pl.DataFrame:
        """Return each user's newest vector of a period before one."""
        view = by_period_view(before.granularity, space_id)
        rows = self.stores.features.read_offline(
            self.tenant, view, bucket, columns=(VEC, PERIOD_START)
        )
        return (
            rows.filter(pl.col(PERIOD_START) < before.start)
            .sort(USER_ID, PERIOD_START)
            .unique(USER_ID, keep="last", maintain_order=True)
            .select(USER_ID, VEC)
        )

    def _current(self, space_id: str) -> Catalogue:
        return self.catalogues.current(self.tenant, space_id)


def _rows(catalogue: Catalogue, item_ids: list[str]) -> I64:
    """Return where items stand in a catalogue, whose ids ascend."""
    return np.searchsorted(np.asarray(catalogue.item_ids), item_ids).astype(np.int64)
