"""One connection to Redis, shared: order, faults, timeouts, reconnecting."""

import asyncio

import pytest

from services.store.redis_link import RedisLink, RedisLinkError, packed


async def answering(respond):
    """Serve RESP on a free port: `respond(bytes read, writer)`; yields server and URL."""

    async def serve(reader, writer):
        try:
            while data := await reader.read(65536):
                await respond(data, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


@pytest.fixture
async def link(valkey):
    link = RedisLink(valkey, timeout_s=5)
    yield link
    await link.close()


def test_commands_are_packed_as_redis_reads_them():
    assert packed("SET", b"\x00\r\n", "é") == (
        b"*3\r\n$3\r\nSET\r\n$3\r\n\x00\r\n\r\n$2\r\n\xc3\xa9\r\n"
    )


async def test_many_calls_at_once_each_get_their_own_answers(link):
    await asyncio.gather(*(link.call(packed("SET", f"k{n}", "v" * n * 100), 1) for n in range(50)))
    asked = [link.call(packed("GET", f"k{n}") + packed("STRLEN", f"k{n}"), 2) for n in range(50)]
    assert await asyncio.gather(*asked) == [[b"v" * n * 100, n * 100] for n in range(50)]


async def test_no_commands_have_no_answers(link):
    assert await link.call(b"", 0) == []


async def test_a_refused_command_fails_its_own_call_alone(link):
    bad, good = await asyncio.gather(
        link.call(packed("NONSENSE"), 1), link.call(packed("PING"), 1), return_exceptions=True
    )
    assert isinstance(bad, RedisLinkError)
    assert good == [b"PONG"]


async def test_a_caller_that_goes_away_does_not_shift_the_others_answers(link):
    await link.call(packed("SET", "mine", "1"), 1)
    gone = asyncio.create_task(link.call(packed("ECHO", "gone"), 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone.cancel()
    assert await link.call(packed("GET", "mine"), 1) == [b"1"]


class Silenced:
    """Answers until it is told to be silent; counts connections."""

    def __init__(self):
        self.is_silent, self.connections = False, 0
        self.writers = set()

    async def __call__(self, data, writer):
        self.connections += writer not in self.writers
        self.writers.add(writer)
        if not self.is_silent:
            writer.write(b"+PONG\r\n" * data.count(b"PING"))


async def test_a_server_that_falls_silent_fails_calls_in_time_and_is_left_alone_for_a_while():
    server, url = await answering(respond := Silenced())
    link = RedisLink(url, timeout_s=0.1, retry_s=3600)
    assert await link.call(packed("PING"), 1) == [b"PONG"]
    respond.is_silent = True
    for _ in range(50):
        with pytest.raises(RedisLinkError, match=r"no answer in 0\.1 s"):
            await link.call(packed("PING"), 1)
    assert respond.connections == 1
    await link.close()
    server.close()


async def test_of_many_calls_one_connects_and_the_others_wait_for_it_or_are_told_at_once():
    server, url = await answering(respond := Silenced())
    respond.is_silent = True
    link = RedisLink(url, timeout_s=0.2)
    first = await asyncio.gather(*(link.call(packed("PING"), 1) for _ in range(20)),
                                 return_exceptions=True)  # fmt: skip
    assert {str(error) for error in first} == {"no connection in 0.2 s"}
    assert respond.connections == 1
    respond.is_silent = False
    await until_it_answers(link)
    assert await link.call(packed("PING"), 1) == [b"PONG"]
    await link.close()
    server.close()


async def test_a_caller_that_goes_away_leaves_the_connection_to_the_others():
    server, url = await answering(respond := Silenced())
    link = RedisLink(url, timeout_s=5)
    gone, stays = (asyncio.create_task(link.call(packed("PING"), 1)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == [b"PONG"]
    assert respond.connections == 1
    await link.close()
    server.close()


async def until_it_answers(link):
    """Try again until the server is no longer left alone."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await link.call(packed("PING"), 1)
            except RedisLinkError:
                await asyncio.sleep(0.02)


async def test_a_broken_connection_fails_calls_under_way_and_the_next_call_connects_again():
    seen = 0

    async def breaks_once(data, writer):
        nonlocal seen
        seen += b"ECHO" in data
        if b"ECHO" in data and seen == 1:
            writer.transport.abort()
        else:
            writer.write(b"+PONG\r\n")

    server, url = await answering(breaks_once)
    link = RedisLink(url, timeout_s=5)
    with pytest.raises(RedisLinkError):
        await link.call(packed("ECHO", "x"), 1)
    assert await link.call(packed("ECHO", "x"), 1) == [b"PONG"]
    await link.close()
    server.close()


async def test_answers_that_come_in_pieces_are_put_together():
    async def pieces(data, writer):
        for byte in b"$5\r\nhello\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)

    server, url = await answering(pieces)
    link = RedisLink(url, timeout_s=5)
    assert await link.call(packed("GET", "x"), 1) == [b"hello"]
    await link.close()
    server.close()


async def test_what_is_not_redis_is_refused():
    async def http(data, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server, url = await answering(http)
    link = RedisLink(url, timeout_s=5)
    with pytest.raises(RedisLinkError, match="protocol"):
        await link.call(packed("PING"), 1)
    server.close()


async def test_a_password_and_a_database_are_given_before_anything_else():
    got = bytearray()

    async def collect(data, writer):
        got.extend(data)
        writer.write(b"+OK\r\n")

    server, url = await answering(collect)
    link = RedisLink(url.replace("//", "//ann:pass%20word@").replace("/0", "/3"), timeout_s=5)
    await link.call(packed("ECHO", "x"), 1)
    let_in = packed("AUTH", "ann", "pass word") + packed("SELECT", "3") + packed("PING")
    assert bytes(got) == let_in + packed("ECHO", "x")
    await link.close()
    server.close()


async def test_a_wrong_password_is_said(valkey):
    link = RedisLink(valkey.replace("//", "//:wrong@"), timeout_s=5)
    with pytest.raises(RedisLinkError, match="AUTH"):
        await link.call(packed("PING"), 1)
