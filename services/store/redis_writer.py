"""Writes rows to Feast's Redis online store without Feast: the same bytes, several times as fast.

Feast makes a protobuf message of every value and redis-py packs every field of every row; here a column
is encoded at once, and a chunk leaves as one packet. As with Feast, a row that is not newer than the
stored one is dropped.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from services.core import schema as names
from services.core.views import View
from services.store.redis_client import open_client
from services.store.redis_link import part
from services.store.wire import (
    decode_timestamp,
    entity_key,
    redis_field,
    redis_key,
    redis_time_field,
)
from services.store.wire_values import encode_column, encode_timestamp

# Rows whose commands are in memory at once.
CHUNK_ROWS = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_rows(redis_url: str, tenant: str, view: View, rows: pl.DataFrame) -> None:
    """Write rows with exactly the view's columns, stamped `known_time`.

    Safe between threads and processes: each call has a connection of its own. Of rows with one key the
    newest counts. Raises what redis-py raises.
    """
    with open_client(redis_url, single_connection_client=True) as client:
        for chunk in rows.iter_slices(CHUNK_ROWS):
            _write(client.connection, tenant, view, chunk)


def _write(connection: Any, tenant: str, view: View, rows: pl.DataFrame) -> None:
    (key,) = view.join_keys
    times = rows[names.KNOWN_TIME].dt.timestamp("us").to_list()
    keys = [part(redis_key(tenant, entity_key(key, id_))) for id_ in rows[key].to_list()]
    stamp = part(redis_time_field(view.name))
    asked = [b"*3\r\n$4\r\nHGET\r\n" + each + stamp for each in keys]
    kept = _newer(times, keys, _call(connection, asked))
    fields = [part(redis_field(view.name, name)) for name in view.features]
    columns = [encode_column(kind, rows[name]) for name, kind in view.features.items()]
    head = b"*%d\r\n$4\r\nHSET\r\n" % (2 + 2 * (len(fields) + 1))
    stamps = {time: part(encode_timestamp(time)) for time in set(times)}
    commands = []
    for row in kept:
        pieces = [head, keys[row]]
        for field, column in zip(fields, columns, strict=True):
            value = column[row]
            pieces += (field, b"$%d\r\n" % len(value), value, b"\r\n")
        pieces += (stamp, stamps[times[row]])
        commands.append(b"".join(pieces))
    _call(connection, commands)


def _newer(times: list[int], keys: list[bytes], stored: list[bytes | None]) -> list[int]:
    """Return rows that are newer than what is stored and than earlier rows of their key."""
    latest: dict[bytes, int] = {}
    kept = []
    for row, (time, key, held) in enumerate(zip(times, keys, stored, strict=True)):
        known = latest.get(key, 0 if held is None else _micros(held))
        if not known or time > known:
            latest[key] = time
            kept.append(row)
    return kept


def _micros(stored: bytes) -> int:
    return (decode_timestamp(stored) - _EPOCH) // timedelta(microseconds=1)


def _call(connection: Any, commands: list[bytes]) -> list[Any]:
    """Send commands in one packet; return their answers in order."""
    if not commands:
        return []
    connection.send_packed_command([b"".join(commands)])
    return [connection.read_response() for _ in commands]
