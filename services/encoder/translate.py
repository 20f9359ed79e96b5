"""EncoderService's messages <-> core types."""

import os
from collections.abc import Iterable

import numpy as np
from driftline.v1 import encoder_service_pb2 as pb
from driftline.v1 import vector_pb2
from driftline.v1.event_pb2 import EventKind

from services.core.items import encoder_text
from services.core.schema import DEFAULT_TENANT
from services.core.spaces import require_space
from services.encoder.encoder import History, Vectors
from services.encoder.interests import InterestsSummary
from services.encoder.items import ItemsSummary
from services.runtime.serving import Refresh

_KIND_PREFIX = "EVENT_KIND_"


def texts_from_pb(request: pb.EncodeItemsRequest) -> list[str]:
    """Return what the encoder reads of each item."""
    return [encoder_text(item.title, item.text) for item in request.items]


def items_response_to_pb(
    vectors: Vectors, request: pb.EncodeItemsRequest
) -> pb.EncodeItemsResponse:
    """Return the response.

    Raises:
        SpaceMismatch: the caller expects another space.
    """
    require_space(request.expected_space_id, vectors.space_id)
    return pb.EncodeItemsResponse(vectors=batch_to_pb(vectors), model_version=vectors.model_version)


def histories_from_pb(request: pb.EncodeHistoriesRequest) -> list[History]:
    """Return the histories; an unset value counts 1."""
    return [
        History(
            item_ids=tuple(event.item_id for event in history.events),
            kinds=tuple(_kinds(event.kind for event in history.events)),
            values=tuple(
                event.value if event.HasField("value") else 1.0 for event in history.events
            ),
        )
        for history in request.histories
    ]


def histories_response_to_pb(
    vectors: Vectors, request: pb.EncodeHistoriesRequest
) -> pb.EncodeHistoriesResponse:
    """Return the response.

    Raises:
        SpaceMismatch: the caller expects another space.
    """
    require_space(request.expected_space_id, vectors.space_id)
    return pb.EncodeHistoriesResponse(
        vectors=batch_to_pb(vectors), model_version=vectors.model_version
    )


def items_refresh_from_pb(request: pb.RefreshItemsRequest) -> Refresh:
    """Return what to refresh."""
    return Refresh(
        tenant=request.tenant or DEFAULT_TENANT,
        is_full=request.is_full,
        model_version=request.model_version,
    )


def items_summary_to_pb(summary: ItemsSummary) -> pb.RefreshItemsResponse:
    """Return the response, with this process's id."""
    return pb.RefreshItemsResponse(
        encoded_text_count=summary.encoded_text_count,
        item_count=summary.item_count,
        generation=summary.generation,
        space_id=summary.space_id,
        replica_pid=os.getpid(),
    )


def interests_refresh_from_pb(request: pb.RefreshInterestsRequest) -> Refresh:
    """Return what to refresh."""
    return Refresh(
        tenant=request.tenant or DEFAULT_TENANT,
        buckets=tuple(request.buckets),
        is_full=request.is_full,
        model_version=request.model_version,
    )


def interests_summary_to_pb(summary: InterestsSummary) -> pb.RefreshInterestsResponse:
    """Return the response, with this process's id."""
    return pb.RefreshInterestsResponse(
        user_count=summary.user_count,
        vector_count=summary.vector_count,
        bucket_count=summary.bucket_count,
        space_id=summary.space_id,
        replica_pid=os.getpid(),
    )


def batch_to_pb(vectors: Vectors) -> vector_pb2.VectorBatch:
    """Return vectors packed row after row."""
    return vector_pb2.VectorBatch(
        space_id=vectors.space_id,
        width=vectors.vec_ND.shape[1],
        values=np.ascontiguousarray(vectors.vec_ND, "<f4").tobytes(),
    )


def _kinds(kinds: Iterable[EventKind.ValueType]) -> Iterable[str]:
    # The rules have refused unset and unknown kinds already.
    return (EventKind.Name(kind).removeprefix(_KIND_PREFIX).lower() for kind in kinds)
