"""The floor of a Python gRPC read: a plain grpc.aio server that returns the same bytes to every call.

Usage: python -m tests.bench.constant_server BYTES_IN_HEX; prints its port.
"""

import asyncio
import sys

import grpc

METHOD = "/driftline.v1.InterestService/GetInterest"


class Constant(grpc.GenericRpcHandler):
    """Answers every method alike; parses nothing."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return self._reply


async def serve(reply: bytes) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Constant(reply),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(bytes.fromhex(sys.argv[1])))
