"""The blocking client."""

from collections.abc import Iterable, Iterator
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
from .errors import DriftlineError
from .options import ClientOptions, open_channel
from .promotions import Promotion
from .rejects import Reject

_T = TypeVar("_T")
DEFAULT_TARGET = "127.0.0.1:50051"


class Client:
    """Calls a Driftline gateway; blocking, safe between threads, one per process is enough.

    Every method takes `timeout_s`, the longest each of its calls may take with its retries (see
    `Deadlines` for the defaults), and raises a `DriftlineError`. `as_of` is an aware datetime (only
    events before it count) or an `AsOf`. Enum arguments may be given as their values, like "week".

        with Client("127.0.0.1:50051") as client:
            week = client.get_interest("42")
    """

    def __init__(self, target: str = DEFAULT_TARGET, options: ClientOptions | None = None) -> None:
        """Prepare a connection to `host:port`; it is made at the first call.

        Raises:
            ValueError: the options do not fit together.
        """
        self._options = options or ClientOptions()
        self._channel = open_channel(target, self._options)
        self._stubs = Stubs(self._channel)

    def record_events(
        self, events: Iterable[t.Event], *, timeout_s: float | None = None
    ) -> t.WriteResult:
        """Store what users did; an answer means it is committed.

        Lists above 1,000 go in several calls, each stored whole or not at all. Sending the same
        `Event` objects again, after any failure, stores them once.

        Raises:
            InvalidArgumentError: `field` names what is wrong, like `events[3].item_id`, counted
                within the call that failed; `committed_count` says how many earlier calls stored.
            EventConflictError: one id comes twice with different content.
            OverloadedError, UnavailableError, DeadlineError: send the same objects again later.
        """
        return self._run(_plans.record_events(events), timeout_s)

    def upsert_items(
        self, items: Iterable[t.Item], *, timeout_s: float | None = None
    ) -> t.WriteResult:
        """Add items or new versions of them; they can be found after the next refresh.

        Splits and raises like `record_events`.
        """
        return self._run(_plans.upsert_items(items), timeout_s)

    def get_interest(
        self,
        user_id: str,
        *,
        granularity: t.Granularity | str = t.Granularity.WEEK,
        period: str = "",
        as_of: AsOfLike = None,
        timeout_s: float | None = None,
    ) -> t.Interest:
        """Return a user's newest interest vector, or that of one period like "2026-W48".

        Raises:
            UserNotFoundError: there is none.
            InvalidArgumentError: `period` is not a name of the granularity.
        """
        return self._run(_plans.get_interest(user_id, granularity, period, as_of), timeout_s)

    def get_interests(
        self,
        user_ids: Iterable[str],
        *,
        granularity: t.Granularity | str = t.Granularity.WEEK,
        timeout_s: float | None = None,
    ) -> t.InterestBatch:
        """Return the newest interest vectors of many users, 500 in a call.

        Users without one are listed, not an error.
        """
        return self._run(_plans.get_interests(user_ids, granularity), timeout_s)

    def get_trajectory(
        self,
        user_id: str,
        *,
        granularity: t.Granularity | str = t.Granularity.WEEK,
        limit: int | None = 0,
        as_of: AsOfLike = None,
        timeout_s: float | None = None,
    ) -> t.Trajectory:
        """Return a user's vectors by period, oldest first.

        Args:
            user_id: whose.
            granularity: length of the periods.
            limit: how many periods, the newest ones. 0 means what is kept at hand (28 days, 26
                weeks or 24 months); None means all there are. More than that is read from offline
                history, page by page, and takes longer.
            as_of: instant to answer for.
            timeout_s: for each page.

        Raises:
            UserNotFoundError: the user has no vectors.
        """
        return self._run(_plans.get_trajectory(user_id, granularity, limit, as_of), timeout_s)

    def get_forecast(
        self,
        user_id: str,
        *,
        granularity: t.Granularity | str = t.Granularity.WEEK,
        period: str = "",
        as_of: AsOfLike = None,
        timeout_s: float | None = None,
    ) -> t.Forecast:
        """Return where a user's interest is expected to be, with uncertainty, nearest period first.

        `period` asks for one future period; empty means every horizon that is stored.

        Raises:
            UserNotFoundError: no forecast was made for the user.
        """
        return self._run(_plans.get_forecast(user_id, granularity, period, as_of), timeout_s)

    def recommend(
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
        """Return the best items for a user, best first: parts of each score, and what it rests on.

        A user of whom nothing is known gets popular items: `basis.is_fallback`, and `fallback` says
        which. What the catalogue does not have of the filters stands in `unmatched`.

        Args:
            user_id: for whom.
            page_size: how many at most, in [0, 200]; 0 means 20.
            consumed: what to do with items the user already had.
            categories: only items with one of these; empty means all. At most 64.
            allowed_item_ids: nothing but these; empty means all. At most 1,000.
            excluded_item_ids: never these. At most 1,000.
            diversity: how much items should differ from each other, in [0, 1]; 0 is the order of
                scores.
            exploration_share: share of the places for items that are new to the user and near
                their interest whatever their popularity, in [0, 1]; `is_exploration` marks them.
            exploration_seed: the same user and seed, the same draw; 0 means one draw an ISO week.
            declared_categories: what a user of whom nothing is known says they like: they get what
                is popular there, and `fallback` says so. At most 64.
            omit_reasons: leave `reason` empty: finding reasons takes longer than ranking.
            as_of: instant to answer for.
            timeout_s: for the call.

        Raises:
            InvalidArgumentError: a filter or a share is out of range, or two filters contradict
                each other; the message names field and value.
            NotReadyError: no index was published yet.
        """
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
        return self._run(_plans.recommend(user_id, wishes, as_of), timeout_s)

    def recommend_many(
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
        """Return the best items for each of many users, in the order asked; 100 in a call.

        Arguments and errors are those of `recommend`; `timeout_s` is for each call.
        """
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
        return self._run(_plans.recommend_many(user_ids, wishes), timeout_s)

    def export_recommendations(
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
    ) -> Iterator[tuple[str, t.RankedItems]]:
        """Yield (user, best items) for very many users, in the order asked, as a nightly export does.

        The server streams, 10,000 users in a call, each call by one model and one catalogue.
        Nothing is sent before the first is asked for. Arguments are those of `recommend`;
        `timeout_s` is for each call. After an error, ask again for the users that are missing.
        """
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
            for part in self._stream(call, timeout_s):
                yield from _replies.exported(part)

    def similar_items(
        self,
        item_id: str,
        *,
        page_size: int = 20,
        other_item_ids: Iterable[str] = (),
        categories: Iterable[str] = (),
        timeout_s: float | None = None,
    ) -> t.RankedItems:
        """Return the items nearest to one, nearest first; scores are cosines.

        With `other_item_ids` (at most 99) they are near the mean of all. Items asked about are left
        out; `categories` limits the answer to items with one of them.

        Raises:
            ItemNotFoundError: an item is not in the catalogue.
        """
        plan = _plans.similar_items(item_id, page_size, other_item_ids, categories)
        return self._run(plan, timeout_s)

    def get_profile(
        self,
        user_id: str,
        *,
        page_size: int = 10,
        as_of: AsOfLike = None,
        timeout_s: float | None = None,
    ) -> t.Profile:
        """Return a user's portrait: named interests, strongest first, and what it was made from.

        Raises:
            UserNotFoundError: nothing is known of the user.
        """
        return self._run(_plans.get_profile(user_id, page_size, as_of), timeout_s)

    def correct_profile(
        self,
        user_id: str,
        topic_id: str,
        wish: t.TopicWish | str,
        *,
        timeout_s: float | None = None,
    ) -> tuple[t.TopicCorrection, ...]:
        """Record what a user says of a topic of the portrait; the very next `get_profile` shows it.

        It is kept through refreshes and erased with the user. Returns all that is in force.

        Args:
            user_id: whose portrait.
            topic_id: which topic, as in `TopicInterest.topic_id`.
            wish: not_interested, more, or none to take back what was said.
            timeout_s: for the call.

        Raises:
            UserNotFoundError: nothing is known of the user.
            InvalidArgumentError: there is no such topic.
        """
        return self._run(_plans.correct_profile(user_id, topic_id, wish), timeout_s)

    def forecast_demand(
        self,
        cohort: str = "all",
        *,
        topic_ids: Iterable[str] = (),
        horizon_count: int = 0,
        history_count: int = 0,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> c.Demand:
        """Return the audience and the volume expected of topics, the most wanted next first.

        Counts carry noise that was drawn once: the same question has the same answer.

        Args:
            cohort: whose demand, a name out of `Demand.cohorts`; never a list of users.
            topic_ids: these alone; empty means all. At most 64.
            horizon_count: periods ahead, in [0, 28]; 0 means all that are stored.
            history_count: past periods beside them, in [0, 182].
            page_size: topics at most, in [0, 64]; 0 means all.
            timeout_s: for the call.

        Raises:
            CohortTooSmallError: too few users are in the cohort.
            InvalidArgumentError: there is no such cohort or topic.
            NotReadyError: nothing was published yet.
        """
        plan = _plans.forecast_demand(cohort, topic_ids, horizon_count, history_count, page_size)
        return self._run(plan, timeout_s)

    def draft_brief(
        self, *, topic_id: str = "", cohort: str = "", timeout_s: float | None = None
    ) -> c.Brief:
        """Return statements for those who make content for a topic or for an audience (one of both).

        Each names the figures it rests on. Raises as `forecast_demand`.
        """
        return self._run(_plans.draft_brief(topic_id, cohort), timeout_s)

    def erase_user(self, user_id: str, *, timeout_s: float | None = None) -> privacy.Erasure:
        """Erase a user; an answer means the request is committed. An unknown user is no error."""
        return self._run(_plans.erase_user(user_id), timeout_s)

    def get_erasure(
        self, erasure_id: str, *, timeout_s: float | None = None
    ) -> privacy.ErasureReceipt:
        """Return how far an erasure is: what was removed where, and whether the bytes are gone."""
        return self._run(_plans.get_erasure(erasure_id), timeout_s)

    def export_user(
        self, user_id: str, *, timeout_s: float | None = None
    ) -> Iterator[privacy.UserRecord]:
        """Yield all that is held about a user; nothing for a stranger.

        Nothing is sent before the first is asked for.
        """
        for part in self._stream(_plans.export_user(user_id), timeout_s):
            yield from _replies.user_records(part)

    def list_models(
        self, *, limit: int | None = None, timeout_s: float | None = None
    ) -> tuple[t.Model, ...]:
        """Return the models in the registry, newest first; `limit` None means all."""
        return self._run(_plans.list_models(limit), timeout_s)

    def list_rejects(
        self, *, limit: int | None = None, timeout_s: float | None = None
    ) -> tuple[Reject, ...]:
        """Return rows that were refused after they were acknowledged, or by an import, oldest first.

        They come here with the refresh after they were sent; `limit` None means all. Among them is
        what lost where one event id came with two contents.
        """
        return self._run(_plans.list_rejects(limit), timeout_s)

    def promote_model(
        self, model_version: str, *, accepts_worse: bool = False, timeout_s: float | None = None
    ) -> Promotion:
        """Make a model of the live space live; gateways follow within about a second.

        `comparison` says what it was judged by: `driftline compare` has measured both models on the
        same questions. None: it was never compared with the model that was live.

        Raises:
            WorseThanLiveError: it is proven worse, and `accepts_worse` is unset.
            SpaceMismatchError: it is of another space; `driftline migrate` moves there.
            InvalidArgumentError: the registry has no such model.
        """
        return self._run(_plans.promote_model(model_version, accepts_worse), timeout_s)

    def close(self) -> None:
        """Hang up; calls under way are cancelled. The client cannot be used afterwards."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, plan: Plan[_T], timeout_s: float | None) -> _T:
        try:
            call = next(plan)
            while True:
                try:
                    reply = self._send(call, timeout_s)
                except DriftlineError as error:
                    call = plan.throw(error)
                else:
                    call = plan.send(reply)
        except StopIteration as done:
            result: _T = done.value
            return result

    def _stream(self, call: Call, timeout_s: float | None) -> Iterator[Any]:
        seconds = call.seconds(self._options.deadlines) if timeout_s is None else timeout_s
        try:
            yield from self._stubs.method(call)(
                call.request, timeout=seconds, metadata=self._options.call_metadata()
            )
        except grpc.RpcError as failure:
            raise error_from_rpc(failure) from failure

    def _send(self, call: Call, timeout_s: float | None) -> Any:
        seconds = call.seconds(self._options.deadlines) if timeout_s is None else timeout_s
        try:
            return self._stubs.method(call)(
                call.request, timeout=seconds, metadata=self._options.call_metadata()
            )
        except grpc.RpcError as failure:
            raise error_from_rpc(failure) from failure
