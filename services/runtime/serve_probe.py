"""Do the Serve applications answer? A process of its own, for asking too early has killed the asker.

    python -m services.runtime.serve_probe HOST:PORT

Prints the applications that do not answer yet, a line each; exits with 0 where there are none. What
HAProxy sends while it is being configured has aborted callers inside gRPC (memory_quota.cc, about
once in thirty starts): then this process dies, and its parent asks again.
"""

import sys

import grpc
from driftline.v1 import (
    encoder_service_pb2,
    encoder_service_pb2_grpc,
    forecaster_service_pb2,
    forecaster_service_pb2_grpc,
)

TIMEOUT_S = 5
REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED)


def main(target: str) -> int:
    """Ask every application once; returns the exit status."""
    with grpc.insecure_channel(target) as channel:
        silent = [name for name in APPLICATIONS if not _answers(channel, name)]
    print("\n".join(silent))
    return 1 if silent else 0


def _answers(channel: grpc.Channel, application: str) -> bool:
    """Tell whether an application refuses an empty request, or one without its token, as its own code does."""
    try:
        APPLICATIONS[application](channel)
    except grpc.RpcError as error:
        return error.code() in REFUSALS
    return False


def _ask_encoder(channel: grpc.Channel) -> None:
    stub = encoder_service_pb2_grpc.EncoderServiceStub(channel)
    request = encoder_service_pb2.EncodeItemsRequest()
    stub.EncodeItems(request, timeout=TIMEOUT_S, metadata=(("application", "encoder"),))


def _ask_forecaster(channel: grpc.Channel) -> None:
    stub = forecaster_service_pb2_grpc.ForecasterServiceStub(channel)
    request = forecaster_service_pb2.ForecastInterestsRequest()
    stub.ForecastInterests(request, timeout=TIMEOUT_S, metadata=(("application", "forecaster"),))


APPLICATIONS = {"encoder": _ask_encoder, "forecaster": _ask_forecaster}


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
