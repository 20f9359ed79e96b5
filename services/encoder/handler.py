"""EncoderService: translate, encode, translate.

Errors, checks and logs are runtime/serving.py's.
"""

import asyncio
from collections.abc import Awaitable, Callable

from driftline.v1 import encoder_service_pb2 as pb

from services.encoder import translate
from services.encoder.encoder import Encoder, Vectors
from services.runtime.serving import run_cancellable

EncodeTexts = Callable[[list[str]], Awaitable[Vectors]]


class EncoderHandler:
    """The four RPCs. torch and the stores run in threads, never on the event loop."""

    def __init__(self, encoder: Encoder, encode_texts: EncodeTexts | None = None) -> None:
        """Serve an encoder.

        Args:
            encoder: what does the work.
            encode_texts: encodes the texts of one call, perhaps together with those of others.
        """
        self._encoder = encoder
        self._encode_texts = encode_texts or self._encode_alone

    async def EncodeItems(self, request: pb.EncodeItemsRequest) -> pb.EncodeItemsResponse:
        vectors = await self._encode_texts(translate.texts_from_pb(request))
        return translate.items_response_to_pb(vectors, request)

    async def EncodeHistories(
        self, request: pb.EncodeHistoriesRequest
    ) -> pb.EncodeHistoriesResponse:
        histories = translate.histories_from_pb(request)
        vectors = await asyncio.to_thread(self._encoder.encode_histories, histories)
        return translate.histories_response_to_pb(vectors, request)

    async def RefreshItems(self, request: pb.RefreshItemsRequest) -> pb.RefreshItemsResponse:
        asked = translate.items_refresh_from_pb(request)
        summary = await run_cancellable(
            lambda cancelled: self._encoder.refresh_items(
                asked.tenant, cancelled=cancelled, **asked.by()
            )
        )
        return translate.items_summary_to_pb(summary)

    async def RefreshInterests(
        self, request: pb.RefreshInterestsRequest
    ) -> pb.RefreshInterestsResponse:
        asked = translate.interests_refresh_from_pb(request)
        summary = await run_cancellable(
            lambda cancelled: self._encoder.refresh_interests(
                asked.tenant, asked.buckets, cancelled=cancelled, **asked.by()
            )
        )
        return translate.interests_summary_to_pb(summary)

    async def _encode_alone(self, texts: list[str]) -> Vectors:
        return await asyncio.to_thread(self._encoder.encode_texts, texts)
