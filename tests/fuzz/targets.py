"""What is fuzzed: a request from bytes to query, and a file from bytes to rows. Anything but a CoreError is a find."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from driftline.v1 import (
    content_service_pb2,
    encoder_service_pb2,
    event_service_pb2,
    forecaster_service_pb2,
    interest_service_pb2,
    model_service_pb2,
    privacy_service_pb2,
    profile_service_pb2,
    recommendation_service_pb2,
)

from services.core.errors import CoreError, InvalidArgument
from services.core.schema import Kind
from services.encoder import translate as encoder
from services.forecaster import translate as forecaster
from services.gateway.answers import Instants
from services.gateway.translate import (
    content,
    events,
    interests,
    models,
    privacy,
    profiles,
    recommendations,
)
from services.pipeline.file_chunks import read_chunks
from services.pipeline.importer import _FileImport
from services.runtime.validation import shared_rules
from services.store.erasures import Tombstones
from services.store.event_frames import stamp
from tests.fuzz.generate import ByteChoices, message

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
INSTANTS = Instants(event_time=NOW, ingest_time=NOW)
Translate = Callable[[Any], object]


def _at_now(translate: Callable[[Any, Instants], object]) -> Translate:
    return lambda request: translate(request, INSTANTS)


ev, rec, pro = event_service_pb2, recommendation_service_pb2, profile_service_pb2
# In this order for ever: the first byte of a corpus entry is a row.
REQUESTS: list[tuple[Any, Translate]] = [
    (ev.RecordEventsRequest, _at_now(events.events_from_pb)),
    (ev.UpsertItemsRequest, _at_now(events.items_from_pb)),
    (interest_service_pb2.GetInterestRequest, _at_now(interests.interest_query_from_pb)),
    (interest_service_pb2.BatchGetInterestsRequest, _at_now(interests.batch_query_from_pb)),
    (interest_service_pb2.GetTrajectoryRequest, _at_now(interests.trajectory_query_from_pb)),
    (interest_service_pb2.GetForecastRequest, _at_now(interests.forecast_query_from_pb)),
    (rec.RecommendItemsRequest, _at_now(recommendations.recommend_query_from_pb)),
    (rec.BatchRecommendItemsRequest, _at_now(recommendations.many_query_from_pb)),
    (rec.ExportRecommendationsRequest, _at_now(recommendations.many_query_from_pb)),
    (rec.FindSimilarItemsRequest, _at_now(recommendations.similar_query_from_pb)),
    (pro.GetProfileRequest, _at_now(profiles.profile_query_from_pb)),
    (pro.CorrectProfileRequest, _at_now(profiles.correct_query_from_pb)),
    (privacy_service_pb2.EraseUserRequest, privacy.user_from_pb),
    (model_service_pb2.ListModelsRequest, models.models_query_from_pb),
    (model_service_pb2.PromoteModelRequest, models.promote_query_from_pb),
    (encoder_service_pb2.EncodeItemsRequest, encoder.texts_from_pb),
    (encoder_service_pb2.EncodeHistoriesRequest, encoder.histories_from_pb),
    (encoder_service_pb2.RefreshItemsRequest, encoder.items_refresh_from_pb),
    (encoder_service_pb2.RefreshInterestsRequest, encoder.interests_refresh_from_pb),
    (forecaster_service_pb2.ForecastInterestsRequest, forecaster.query_from_pb),
    (forecaster_service_pb2.RefreshForecastsRequest, forecaster.refresh_from_pb),
    (content_service_pb2.ForecastTopicDemandRequest, _at_now(content.demand_query_from_pb)),
    (content_service_pb2.DraftBriefRequest, _at_now(content.brief_query_from_pb)),
    (privacy_service_pb2.GetErasureRequest, lambda request: request.erasure_id),
    (privacy_service_pb2.ExportUserRequest, privacy.user_from_pb),
    (ev.ListRejectsRequest, events.rejects_query_from_pb),
    (forecaster_service_pb2.RefreshPopulationRequest, forecaster.population_tenant_from_pb),
]
ENDINGS = (".csv", ".jsonl", ".parquet", ".tsv")


def one_request(data: bytes) -> str:
    """Take bytes as a request; return what came of it. The second byte says: as the wire, or as choices."""
    if len(data) < 2:
        return "too short"
    kind, translate = REQUESTS[data[0] % len(REQUESTS)]
    wire = data[2:]
    if data[1] % 2:
        wire = message(kind, ByteChoices(wire)).SerializeToString()
    try:
        shared_rules().check_bytes(kind.DESCRIPTOR.full_name, wire)
        translate(kind.FromString(wire))
    except CoreError as error:
        return type(error).__name__
    return "taken"


class _Inbox:
    """Takes rows as the real inbox does, up to the commit."""

    def append(self, log: str, rows: pl.DataFrame) -> None:
        stamp(log, rows, NOW)


def one_file(data: bytes) -> str:
    """Take bytes as a file of events; return what came of it. The first byte says of which type."""
    if not data:
        return "too short"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f{ENDINGS[data[0] % len(ENDINGS)]}"
        path.write_bytes(data[1:])
        job = _FileImport(path, _Inbox(), NOW, Kind.VIEW)  # type: ignore[arg-type]
        try:
            for chunk in read_chunks(path, 1000):
                job.take(chunk, Tombstones())
            job.finish()
        except InvalidArgument:
            return "refused"
    return "taken"


TARGETS: dict[str, Callable[[bytes], str]] = {"requests": one_request, "files": one_file}
