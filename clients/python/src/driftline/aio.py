"""The asyncio client: the blocking one's methods, awaited."""

from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, TypeVar

import grpc

from . import _plans, _replies
from . import content_types as c
from . import privacy_types as privacy
from . import types as t
from ._failures import error_from_rpc
from ._plans import Call, Plan
from ._requests import AsOfLike, Wishes
from ._stubs import Stubs
from .client import DEFAULT_TARGET
from .errors import DriftlineError
from .options import ClientOptions, open_aio_channel
from .promotions import Promotion
from .rejects import Reject

_T = TypeVar("_T")


class AsyncClient:
    """Calls a Driftline gateway from asyncio; made for one event loop, shared by its tasks.

    Methods, arguments, results and errors are those of `Client`, which documents them.

        async with AsyncClient("127.0.0.1:50051") as client:
            week = await client.get_interest("42")
    """

    def __init__(self, target: str = DEFAULT_TARGET, options: ClientOptions | None = None) -> None:
        """Prepare a connection to `host:port`; it is made at the first call, on its event loop."""
        self._target = target
        self._options = options or ClientOptions()
        self._channel: grpc.aio.Channel | None = None
        self._stubs: Stubs | None = None

    async def record_events(
        self, events: Iterable[t.Event], *, timeout_s: float | None = None
    ) -> t.WriteResult:
        """See `Client.record_events`."""
        return await self._run(_plans.record_events(events), timeout_s)

    async def upsert_items(
        self, items: Iterable[t.Item], *, timeout_s: float | None = None
    ) -> t.WriteResult:
        """See `Client.upsert_items`."""
        return await self._run(_plans.upsert_items(items), timeout_s)

    async def get_interest(
        self,
        user_id: str,
        *,
        granularity: t.Granularity | str = t.Granularity.WEEK,
        period: str = "",
        as_of: AsOfLike = None,
        timeout_s: float | None = None,
    ) -> t.Interest:
        """See `Client.get_interest`."""
        return await self._run(_plans.get_interest(user_id, granularity, period, as_of), timeout_s)

    async def get_interests(
        self,
        user_ids: Iterable[str],
        *,
        granularity: t.Granularity | str = t.Granularity.WEEK,
        timeout_s: float | None = None,
    ) -> t.InterestBatch:
        """See `Client.get_interests`."""
        return await self._run(_plans.get_interests(user_ids, granularity), timeout_s)

    async def get_trajectory(
        self,
        user_id: str,
        *,
        granularity: t.Granularity | str = t.Granularity.WEEK,
        limit: int | None = 0,
        as_of: AsOfLike = None,
        timeout_s: float | None = None,
    ) -> t.Trajectory:
        """See `Client.get_trajectory`."""
        return await self._run(_plans.get_trajectory(user_id, granularity, limit, as_of), timeout_s)

    async def get_forecast(
        self,
        user_id: str,
        *,
        granularity: t.Granularity | str = t.Granularity.WEEK,
        period: str = "",
        as_of: AsOfLike = None,
        timeout_s: float | None = None,
    ) -> t.Forecast:
        """See `Client.get_forecast`."""
        return await self._run(_plans.get_forecast(user_id, granularity, period, as_of), timeout_s)

    async def recommend(
        self,
        user_id: str,
        *,
        page_size: int = 20,
        consumed: t.ConsumedPolicy | str = t.ConsumedPolicy.KEEP,
        categories: Iterable[str] = (),
        allowed_item_ids: Iterable[str] = (),
        excluded_item_ids: Iterable[str] = (),
        diversity: float = 0.0,
        exploration_share: float = 0.0,
        exploration_seed: int = 0,
        declared_categories: Iterable[str] = (),
        omit_reasons: bool = False,
        as_of: AsOfLike = None,
        timeout_s: float | None = None,
    ) -> t.RankedItems:
        """See `Client.recommend`."""
        wishes = Wishes(
            page_size=page_size,
            consumed=consumed,
            categories=categories,
            allowed_item_ids=allowed_item_ids,
            excluded_item_ids=excluded_item_ids,
            diversity=diversity,
            exploration_share=exploration_share,
            exploration_seed=exploration_seed,
            declared_categories=declared_categories,
            omit_reasons=omit_reasons,
        )
        return await self._run(_plans.recommend(user_id, wishes, as_of), timeout_s)

    async def recommend_many(
        self,
        user_ids: Iterable[str],
        *,
        page_size: int = 20,
        consumed: t.ConsumedPolicy | str = t.ConsumedPolicy.KEEP,
        categories: Iterable[str] = (),
        allowed_item_ids: Iterable[str] = (),
        excluded_item_ids: Iterable[str] = (),
        diversity: float = 0.0,
        exploration_share: float = 0.0,
        exploration_seed: int = 0,
        declared_categories: Iterable[str] = (),
        omit_reasons: bool = False,
        timeout_s: float | None = None,
    ) -> dict[str, t.RankedItems]:
        """See `Client.recommend_many`."""
        wishes = Wishes(
            page_size=page_size,
            consumed=consumed,
            categories=categories,
            allowed_item_ids=allowed_item_ids,
            excluded_item_ids=excluded_item_ids,
            diversity=diversity,
            exploration_share=exploration_share,
            exploration_seed=exploration_seed,
            declared_categories=declared_categories,
            omit_reasons=omit_reasons,
        )
        return await self._run(_plans.recommend_many(user_ids, wishes), timeout_s)

    async def export_recommendations(
        self,
        user_ids: Iterable[str],
        *,
        page_size: int = 20,
        consumed: t.ConsumedPolicy | str = t.ConsumedPolicy.KEEP,
        categories: Iterable[str] = (),
        allowed_item_ids: Iterable[str] = (),
        excluded_item_ids: Iterable[str] = (),
        diversity: float = 0.0,
        exploration_share: float = 0.0,
        exploration_seed: int = 0,
        declared_categories: Iterable[str] = (),
        omit_reasons: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncIterator[tuple[str, t.RankedItems]]:
        """See `Client.export_recommendations`; iterate with `async for`."""
        wishes = Wishes(
            page_size=page_size,
            consumed=consumed,
            categories=categories,
            allowed_item_ids=allowed_item_ids,
            excluded_item_ids=excluded_item_ids,
            diversity=diversity,
            exploration_share=exploration_share,
            exploration_seed=exploration_seed,
            declared_categories=declared_categories,
            omit_reasons=omit_reasons,
        )
        for call in _plans.export_recommendations(user_ids, wishes):
            async for part in self._stream(call, timeout_s):
                for one in _replies.exported(part):
                    yield one

    async def similar_items(
        self,
        item_id: str,
        *,
        page_size: int = 20,
        other_item_ids: Iterable[str] = (),
        categories: Iterable[str] = (),
        timeout_s: float | None = None,
    ) -> t.RankedItems:
        """See `Client.similar_items`."""
        plan = _plans.similar_items(item_id, page_size, other_item_ids, categories)
        return await self._run(plan, timeout_s)

    async def get_profile(
        self,
        user_id: str,
        *,
        page_size: int = 10,
        as_of: AsOfLike = None,
        timeout_s: float | None = None,
    ) -> t.Profile:
        """See `Client.get_profile`."""
        return await self._run(_plans.get_profile(user_id, page_size, as_of), timeout_s)

    async def correct_profile(
        self,
        user_id: str,
        topic_id: str,
        wish: t.TopicWish | str,
        *,
        timeout_s: float | None = None,
    ) -> tuple[t.TopicCorrection, ...]:
        """See `Client.correct_profile`."""
        return await self._run(_plans.correct_profile(user_id, topic_id, wish), timeout_s)

    async def forecast_demand(
        self,
        cohort: str = "all",
        *,
        topic_ids: Iterable[str] = (),
        horizon_count: int = 0,
        history_count: int = 0,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> c.Demand:
        """See `Client.forecast_demand`."""
        plan = _plans.forecast_demand(cohort, topic_ids, horizon_count, history_count, page_size)
        return await self._run(plan, timeout_s)

    async def draft_brief(
        self, *, topic_id: str = "", cohort: str = "", timeout_s: float | None = None
    ) -> c.Brief:
        """See `Client.draft_brief`."""
        return await self._run(_plans.draft_brief(topic_id, cohort), timeout_s)

    async def erase_user(self, user_id: str, *, timeout_s: float | None = None) -> privacy.Erasure:
        """See `Client.erase_user`."""
        return await self._run(_plans.erase_user(user_id), timeout_s)

    async def get_erasure(
        self, erasure_id: str, *, timeout_s: float | None = None
    ) -> privacy.ErasureReceipt:
        """See `Client.get_erasure`."""
        return await self._run(_plans.get_erasure(erasure_id), timeout_s)

    async def export_user(
        self, user_id: str, *, timeout_s: float | None = None
    ) -> AsyncIterator[privacy.UserRecord]:
        """See `Client.export_user`; iterate with `async for`."""
        async for part in self._stream(_plans.export_user(user_id), timeout_s):
            for record in _replies.user_records(part):
                yield record

    async def list_models(
        self, *, limit: int | None = None, timeout_s: float | None = None
    ) -> tuple[t.Model, ...]:
        """See `Client.list_models`."""
        return await self._run(_plans.list_models(limit), timeout_s)

    async def list_rejects(
        self, *, limit: int | None = None, timeout_s: float | None = None
    ) -> tuple[Reject, ...]:
        """See `Client.list_rejects`."""
        return await self._run(_plans.list_rejects(limit), timeout_s)

    async def promote_model(
        self, model_version: str, *, accepts_worse: bool = False, timeout_s: float | None = None
    ) -> Promotion:
        """See `Client.promote_model`."""
        return await self._run(_plans.promote_model(model_version, accepts_worse), timeout_s)

    async def close(self) -> None:
        """Hang up; calls under way are cancelled. The client cannot be used afterwards."""
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, plan: Plan[_T], timeout_s: float | None) -> _T:
        try:
            call = next(plan)
            while True:
                try:
                    reply = await self._send(call, timeout_s)
                except DriftlineError as error:
                    call = plan.throw(error)
                else:
                    call = plan.send(reply)
        except StopIteration as done:
            result: _T = done.value
            return result

    async def _stream(self, call: Call, timeout_s: float | None) -> AsyncIterator[Any]:
        seconds = call.seconds(self._options.deadlines) if timeout_s is None else timeout_s
        try:
            async for part in self._connected().method(call)(
                call.request, timeout=seconds, metadata=self._options.call_metadata()
            ):
                yield part
        except grpc.RpcError as failure:
            raise error_from_rpc(failure) from failure

    async def _send(self, call: Call, timeout_s: float | None) -> Any:
        seconds = call.seconds(self._options.deadlines) if timeout_s is None else timeout_s
        try:
            return await self._connected().method(call)(
                call.request, timeout=seconds, metadata=self._options.call_metadata()
            )
        except grpc.RpcError as failure:
            raise error_from_rpc(failure) from failure

    def _connected(self) -> Stubs:
        # Not in the constructor: an aio channel belongs to the loop that runs when it is made.
        if self._stubs is None:
            self._channel = open_aio_channel(self._target, self._options)
            self._stubs = Stubs(self._channel)
        return self._stubs
