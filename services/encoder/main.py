"""The encoder as a Ray Serve application, named in k8s/base/serve.yaml."""

import asyncio
import sys
from contextlib import suppress
from typing import Any

import numpy as np
from driftline.v1 import encoder_service_pb2 as pb
from ray import serve
from ray.serve.grpc_util import RayServegRPCContext

from services.core.errors import NotReady
from services.encoder.encoder import Encoder, Vectors
from services.encoder.handler import EncoderHandler
from services.encoder.opening import open_stores
from services.runtime.logs import configure_logs
from services.runtime.serving import answer, replica_options
from services.runtime.settings import load_settings
from services.runtime.validation import shared_rules

# Calls whose texts are encoded together, and how long the first of them waits for others.
BATCH_CALLS = 16
BATCH_WAIT_S = 0.002


class Encoding:
    """One replica."""

    def __init__(self) -> None:
        settings = load_settings()
        # Serve takes sys.stdout for its own log file; Ray forwards the real one.
        configure_logs(settings.log_level, sys.__stdout__)
        self._encoder = Encoder(open_stores(settings), settings)
        self._handler = EncoderHandler(self._encoder, self._encode_together)
        self._rules, self._token = shared_rules(), settings.compute_token
        self._rules.warm(
            *(
                message.DESCRIPTOR.full_name
                for message in (
                    pb.EncodeItemsRequest,
                    pb.EncodeHistoriesRequest,
                    pb.RefreshItemsRequest,
                    pb.RefreshInterestsRequest,
                )
            )
        )
        # The first call must not wait for weights; without a live model there are none to load.
        with suppress(NotReady):
            self._encoder.encode_texts(["warm"])

    async def EncodeItems(  # noqa: N802
        self, request: pb.EncodeItemsRequest, grpc_context: RayServegRPCContext
    ) -> pb.EncodeItemsResponse:
        return await answer(
            self._handler.EncodeItems,
            request,
            grpc_context,
            pb.EncodeItemsResponse,
            self._rules,
            self._token,
        )

    async def EncodeHistories(  # noqa: N802
        self, request: pb.EncodeHistoriesRequest, grpc_context: RayServegRPCContext
    ) -> pb.EncodeHistoriesResponse:
        return await answer(
            self._handler.EncodeHistories,
            request,
            grpc_context,
            pb.EncodeHistoriesResponse,
            self._rules,
            self._token,
        )

    async def RefreshItems(  # noqa: N802
        self, request: pb.RefreshItemsRequest, grpc_context: RayServegRPCContext
    ) -> pb.RefreshItemsResponse:
        return await answer(
            self._handler.RefreshItems,
            request,
            grpc_context,
            pb.RefreshItemsResponse,
            self._rules,
            self._token,
        )

    async def RefreshInterests(  # noqa: N802
        self, request: pb.RefreshInterestsRequest, grpc_context: RayServegRPCContext
    ) -> pb.RefreshInterestsResponse:
        return await answer(
            self._handler.RefreshInterests,
            request,
            grpc_context,
            pb.RefreshInterestsResponse,
            self._rules,
            self._token,
        )

    @serve.batch(max_batch_size=BATCH_CALLS, batch_wait_timeout_s=BATCH_WAIT_S)  # type: ignore[untyped-decorator]
    async def _encode_together(self, calls: list[list[str]]) -> list[Vectors]:
        """Encode the texts of several calls in one pass; each distinct text once."""
        texts = [text for call in calls for text in call]
        made = await asyncio.to_thread(self._encoder.encode_texts, texts)
        ends = np.cumsum([len(call) for call in calls])[:-1]
        return [
            Vectors(vec_ND=part, space_id=made.space_id, model_version=made.model_version)
            for part in np.split(made.vec_ND, ends)
        ]


def build(_: dict[str, str]) -> Any:
    """Return the application. Replicas, CPUs and GPUs come from the settings."""
    settings = load_settings()
    options = replica_options(
        replicas=settings.encoder_replicas,
        max_replicas=settings.encoder_max_replicas,
        num_cpus=settings.encoder_num_cpus,
        num_gpus=settings.encoder_num_gpus,
    )
    return serve.deployment(name="Encoder", **options)(Encoding).bind()
