"""The load clients send what they should and count what came back."""

import asyncio

import grpc
import pytest

from tests.bench import load


class Upper(grpc.GenericRpcHandler):
    """Answers with the request in capitals; refuses "bad"."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def service(self, handler_call_details):
        return grpc.unary_unary_rpc_method_handler(self.answer)

    async def answer(self, request, context):
        self.seen.append(request)
        if request == b"bad":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
        return request.upper() * 1000


async def grpc_load(requests, smallest=1, seconds=0.3):
    handler, server = Upper(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        connect = load.grpc_connections("/a.B/C", 2, 3)
        found = await load.run(connect, port, requests, seconds=seconds, smallest_answer=smallest)
        return handler, found
    finally:
        await server.stop(None)


async def test_grpc_calls_go_round_and_their_answers_come_whole():
    handler, found = await grpc_load([b"one", b"two"])
    assert len(found.latencies_s) > 20
    assert found.refused == 0
    assert {message for _, message in found.samples} <= {b"ONE" * 1000, b"TWO" * 1000}
    assert all(
        message == [b"ONE" * 1000, b"TWO" * 1000][number] for number, message in found.samples
    )
    assert abs(handler.seen.count(b"one") - handler.seen.count(b"two")) <= 6


async def test_refused_calls_are_counted_apart():
    _, found = await grpc_load([b"bad", b"one"])
    assert found.refused > 5
    assert abs(found.refused - len(found.latencies_s)) <= 6


async def test_an_answer_that_is_too_short_ends_the_run_with_a_fault():
    with pytest.raises(ValueError, match="an answer of 3000 bytes"):
        await grpc_load([b"one"], smallest=3001)


async def http_load(respond):
    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            # In two parts, as a network may.
            answer = respond(await reader.readexactly(size))
            writer.write(answer[:20])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(answer[20:])

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        connect = load.http_connections("/x", 2)
        return await load.run(connect, port, [b"{}", b"[]"], seconds=0.2, smallest_answer=2)
    finally:
        server.close()


async def test_http_answers_come_whole():
    found = await http_load(
        lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    assert len(found.latencies_s) > 5
    assert all(message == [b"{}", b"[]"][number] for number, message in found.samples)


async def test_an_http_error_is_a_fault():
    with pytest.raises(ValueError, match="not OK"):
        await http_load(lambda body: b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")
