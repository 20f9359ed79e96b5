"""sentence-transformers behind a plain grpc.aio server, each call encoded as it comes: no batching of calls.

It speaks EncoderService, so that one client loads both sides. A pool of threads keeps the loop free.

Usage: python -m tests.bench.encode_server THREADS; prints its port.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import torch
from driftline.v1 import encoder_service_pb2 as pb
from driftline.v1 import encoder_service_pb2_grpc, vector_pb2
from sentence_transformers import SentenceTransformer

from services.core.items import encoder_text
from services.store.backbone_files import find_files


class PlainEncoder(encoder_service_pb2_grpc.EncoderServiceServicer):
    """Answers EncodeItems alone."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._model = SentenceTransformer(str(find_files().folder), device="cpu")
        self._model.max_seq_length = 256
        self._encode(["warm"])

    async def EncodeItems(
        self, request: pb.EncodeItemsRequest, context: grpc.aio.ServicerContext
    ) -> pb.EncodeItemsResponse:
        texts = [encoder_text(item.title, item.text) for item in request.items]
        loop = asyncio.get_running_loop()
        vec_NB = await loop.run_in_executor(self._pool, self._encode, texts)
        batch = vector_pb2.VectorBatch(
            space_id="plain", width=vec_NB.shape[1], values=vec_NB.tobytes()
        )
        return pb.EncodeItemsResponse(vectors=batch, model_version="plain")

    def _encode(self, texts: list[str]) -> np.ndarray:
        made = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.ascontiguousarray(made, "<f4")


async def serve(threads: int) -> None:
    server = grpc.aio.server()
    encoder_service_pb2_grpc.add_EncoderServiceServicer_to_server(PlainEncoder(threads), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    torch.set_num_threads(1)
    asyncio.run(serve(int(sys.argv[1])))
