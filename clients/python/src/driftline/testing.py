"""Fakes for the tests of applications: the clients' own methods on a gateway in memory.

`FakeClient` and `AsyncFakeClient` are a `Client` and an `AsyncClient` without a network: the same
methods, arguments, results, limits and errors, held to the same conformance cases. A test puts in
what the service should know:

    client = FakeClient()
    client.put_interest("42", [1.0, 0.0], period="2026-W47", event_count=12)
    assert client.get_interest("42").event_count == 12

What differs: `record_events` and `upsert_items` make no vectors (put them), and ranking is a plain
sum that a test can do by hand:

    score = cosine(newest weekly vector, item vector)      0 where either is missing
          + events of the item / all events
          + the user's events of the item / the user's events

The reason cites the item itself where the user had it. Diversity and exploration change nothing.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ._fake_server import Failure, FakeServer, StoredForecast
from ._periods import period_bounds
from ._plans import Call
from ._requests import instant, member
from .aio import AsyncClient
from .client import Client
from .errors import DriftlineError, InvalidArgumentError
from .types import Event, EventKind, Granularity, ModelStage
from .v1 import content_service_pb2, event_pb2, model_service_pb2, profile_service_pb2, vector_pb2
from .vectors import Vector, values_to_bytes


class FakeData:
    """What a test puts into a fake, and what it finds there afterwards."""

    def __init__(
        self,
        *,
        now: datetime | None = None,
        space_id: str = "fake_00000000",
        model_version: str = "fake-1",
    ) -> None:
        """Make an empty service.

        Args:
            now: instant that counts as now, aware; None is the wall clock.
            space_id: space of every vector that is put in.
            model_version: what answers say made them.
        """
        instant(now, "now")
        self._server = FakeServer(space_id, model_version, now)

    @property
    def space_id(self) -> str:
        """Space of the vectors that are put in from now on; set it to play a migration."""
        return self._server.space_id

    @space_id.setter
    def space_id(self, space_id: str) -> None:
        self._server.space_id = space_id

    @property
    def events(self) -> tuple[Event, ...]:
        """Events that were recorded, each id once, in order."""
        return tuple(map(_event_from_pb, self._server.events.values()))

    @property
    def calls(self) -> tuple[str, ...]:
        """Names of the calls made, like driftline.v1.InterestService/GetInterest."""
        return tuple(call.name for call in self._server.calls)

    def put_interest(
        self,
        user_id: str,
        values: Sequence[float],
        *,
        period: str,
        granularity: Granularity | str = Granularity.WEEK,
        event_count: int = 1,
        computed_time: datetime | None = None,
    ) -> None:
        """Give a user a vector in one period, like "2026-W47"; replaces an earlier one.

        `computed_time` None means now, or the period's end where that is earlier.
        """
        chosen = member(Granularity, granularity, "granularity")
        start, end = period_bounds(chosen, period)
        made = vector_pb2.InterestVector(
            vector=self._vector(values),
            granularity=vector_pb2.Granularity.Value(f"GRANULARITY_{chosen.name}"),
            period=period,
            period_start_time=instant(start, "period"),
            period_end_time=instant(end, "period"),
            event_count=event_count,
            computed_time=instant(computed_time or min(end, self._server.now()), "computed_time"),
        )
        self._server.interests.setdefault((user_id, chosen), {})[period] = made

    def put_forecast(
        self,
        user_id: str,
        means: Mapping[str, Sequence[float]],
        *,
        scale: Sequence[float] | None = None,
        granularity: Granularity | str = Granularity.WEEK,
        forecaster: str = "fake",
        made_time: datetime | None = None,
    ) -> None:
        """Give a user a forecast: a mean by period, nearest first; horizons count from 1.

        `scale` (standard deviations) holds for every period; None means 0.1 each.
        """
        chosen = member(Granularity, granularity, "granularity")
        vectors = []
        for horizon, (period, mean) in enumerate(means.items(), start=1):
            period_bounds(chosen, period)
            spread = [0.1] * len(mean) if scale is None else scale
            if len(spread) != len(mean):
                raise InvalidArgumentError("scale: give one per component", field="scale")
            packed = Vector(self.space_id, spread).to_bytes()
            vectors.append(
                vector_pb2.ForecastVector(
                    mean=self._vector(mean), scale_values=packed, horizon=horizon, period=period
                )
            )
        made = made_time or self._server.now()
        instant(made, "made_time")
        self._server.forecasts[user_id, chosen] = StoredForecast(vectors, forecaster, made)

    def put_item(
        self,
        item_id: str,
        values: Sequence[float] | None = None,
        *,
        title: str = "",
        categories: Iterable[str] = (),
    ) -> None:
        """Put an item into the catalogue; without a vector it ranks by popularity alone."""
        self._server.items[item_id] = event_pb2.Item(
            item_id=item_id, title=title, categories=categories
        )
        if values is None:
            self._server.item_vectors.pop(item_id, None)
        else:
            self._server.item_vectors[item_id] = Vector(self.space_id, values)

    def put_profile(
        self,
        user_id: str,
        interests: Iterable[tuple[str, float, float]],
        *,
        event_count: int = 1,
        first_event_time: datetime | None = None,
        last_event_time: datetime | None = None,
        session_count: int = 1,
        is_suspected_bot: bool = False,
        topics: Iterable[tuple[str, str, float]] = (),
    ) -> None:
        """Give a user a portrait.

        Args:
            user_id: whose.
            interests: label, share and recent share of each.
            event_count: events that it is made from.
            first_event_time: of these.
            last_event_time: of these.
            session_count: of these.
            is_suspected_bot: acts like a bot.
            topics: id, name and weight of each; they can be corrected.
        """
        self._server.profiles[user_id] = profile_service_pb2.GetProfileResponse(
            interests=[
                profile_service_pb2.NamedInterest(label=label, share=share, recent_share=recent)
                for label, share, recent in sorted(interests, key=lambda one: -one[1])
            ],
            event_count=event_count,
            first_event_time=instant(first_event_time, "first_event_time"),
            last_event_time=instant(last_event_time, "last_event_time"),
            session_count=session_count,
            is_suspected_bot=is_suspected_bot,
            topics=[
                profile_service_pb2.TopicInterest(topic_id=topic_id, name=name, weight=weight)
                for topic_id, name, weight in sorted(topics, key=lambda one: -one[2])
            ],
        )

    def put_demand(
        self,
        topic_id: str,
        forecasts: Mapping[str, tuple[float, float]],
        *,
        name: str = "",
        cohort: str = "all",
        users: int = 100,
        item_count: int = 0,
        terms: Iterable[str] = (),
        history: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Give a topic its demand in a cohort; shares are those of the cohort's volumes.

        Args:
            topic_id: which.
            forecasts: audience and volume by period, like "2026-W49", nearest first, at least one;
                intervals reach 10% and 20% to each side.
            name: what it is called.
            cohort: whose demand.
            users: in the cohort; fewer than 20 are refused.
            item_count: of the catalogue.
            terms: of its titles.
            history: past audiences and volumes by period, oldest first.
        """
        for period in (*forecasts, *(history or {})):
            period_bounds(Granularity.WEEK, period)
        if not forecasts:
            raise InvalidArgumentError("forecasts: give one period at least", field="forecasts")
        topic = content_service_pb2.TopicDemand(
            topic_id=topic_id,
            name=name,
            terms=terms,
            item_count=item_count,
            history=[
                content_service_pb2.DemandPeriod(period=period, audience=audience, volume=volume)
                for period, (audience, volume) in (history or {}).items()
            ],
        )
        self._server.demand.put(cohort, users, topic, forecasts)

    def put_model(
        self,
        model_version: str,
        *,
        stage: ModelStage | str = ModelStage.LIVE,
        trained_time: datetime | None = None,
        trained_until_time: datetime | None = None,
        data_sha256: str = "",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Put a model into the registry, newer than those before it."""
        chosen = member(ModelStage, stage, "stage")
        number = {ModelStage.UNUSED: "UNSPECIFIED"}.get(chosen, chosen.name)
        made = model_service_pb2.Model(
            model_version=model_version,
            space_id=self.space_id,
            stage=model_service_pb2.ModelStage.Value(f"MODEL_STAGE_{number}"),
            trained_time=instant(trained_time, "trained_time"),
            trained_until_time=instant(trained_until_time, "trained_until_time"),
            data_sha256=data_sha256,
            metrics=[
                model_service_pb2.Metric(name=name, value=value)
                for name, value in (metrics or {}).items()
            ],
        )
        self._server.models.insert(0, made)

    def fail_next(self, error: DriftlineError, *, times: int = 1, method: str = "") -> None:
        """Make the next calls fail, of one wire method like "GetInterest" or of any.

        The fakes do not retry: what is put here is what the caller sees.
        """
        self._server.failures.append(Failure(error, times, method))

    def _vector(self, values: Sequence[float]) -> vector_pb2.Vector:
        packed = values_to_bytes(Vector(self.space_id, values).values)
        return vector_pb2.Vector(space_id=self.space_id, values=packed)


class FakeClient(FakeData, Client):
    """A `Client` without a network."""

    def close(self) -> None:
        """Do nothing; what was put in stays."""

    def __enter__(self) -> "FakeClient":
        return self

    def _send(self, call: Call, timeout_s: float | None) -> Any:
        return self._server.answer(call)

    def _stream(self, call: Call, timeout_s: float | None) -> Iterator[Any]:
        yield self._server.answer(call)


class AsyncFakeClient(FakeData, AsyncClient):
    """An `AsyncClient` without a network."""

    async def close(self) -> None:
        """Do nothing; what was put in stays."""

    async def __aenter__(self) -> "AsyncFakeClient":
        return self

    async def _send(self, call: Call, timeout_s: float | None) -> Any:
        return self._server.answer(call)

    async def _stream(self, call: Call, timeout_s: float | None) -> AsyncIterator[Any]:
        yield self._server.answer(call)


def _event_from_pb(event: event_pb2.Event) -> Event:
    name = event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_").lower()
    return Event(
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        kind=EventKind(name),
        event_time=event.event_time.ToDatetime(tzinfo=timezone.utc),
        value=event.value if event.HasField("value") else None,
    )
