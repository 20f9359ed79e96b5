"""HTTP/2 by hand, for clients that do what no gRPC client does: stop halfway, reset at once, never read."""

import socket
import struct
import time

from tests.bench.load import _frame as frame
from tests.bench.load import _header_block as header_block

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = 8
NO_DEADLINE = "99999999H"


class Raw:
    """One connection. Not a client: it sends what it is told to, and answers nothing but settings."""

    def __init__(self, port: int, *, greets: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._stream = 1
        if greets:
            self.send(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(SETTINGS, ACK, 0, b""))

    def send(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            OSError: the server has closed the connection.
        """
        self._socket.sendall(data)

    def call(
        self, path: str, message: bytes = b"", *, deadline: str = NO_DEADLINE, more: str = ""
    ) -> int:
        """Begin a call: its headers and the bytes given, nothing after; returns its stream."""
        stream, self._stream = self._stream, self._stream + 2
        block = header_block(path, deadline)
        if more:
            key, value = b"authorization", more.encode()
            block += bytes([0, len(key)]) + key + bytes([len(value)]) + value
        sent = frame(HEADERS, END_HEADERS, stream, block)
        self.send(sent + (frame(DATA, 0, stream, message) if message else b""))
        return stream

    def whole_message(self, path: str, message: bytes) -> int:
        """Make a call with its whole message, which must fit into the first windows (64 KiB in all)."""
        body = struct.pack(">BI", 0, len(message)) + message
        stream = self.call(path)
        for at in range(0, len(body), 16_000):
            self.send(frame(DATA, 0, stream, body[at : at + 16_000]))
        self.send(frame(DATA, END_STREAM, stream, b""))
        return stream

    def half_a_message(self, path: str, size: int, sent: int, *, more: str = "") -> int:
        """Begin a call whose message says it is of `size` bytes, and send so many of them."""
        stream = self.call(path, struct.pack(">BI", 0, size), more=more)
        # As much as fits into the window that a stream starts with.
        while sent > 0:
            part = min(sent, 16_000)
            self.send(frame(DATA, 0, stream, b"x" * part))
            sent -= part
        return stream

    def frames_until_closed(self, limit_s: float = 30.0) -> list[tuple[int, int]]:
        """Read (kind, stream) of every frame until the server closes the connection.

        Raises:
            TimeoutError: it is still open after the limit.
        """
        self._socket.settimeout(limit_s)
        buffer, found, give_up = b"", [], time.monotonic() + limit_s
        while time.monotonic() < give_up:
            try:
                data = self._socket.recv(65_536)
            except ConnectionError:
                data = b""
            buffer += data
            while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3]):
                size = int.from_bytes(buffer[:3])
                found.append((buffer[3], int.from_bytes(buffer[5:9])))
                buffer = buffer[9 + size :]
            if not data:
                return found
        raise TimeoutError("the connection is still open")

    def frames(self, wanted: int, limit_s: float = 30.0) -> list[tuple[int, int]]:
        """Read frames until one of a kind has come; see `frames_until_closed`."""
        self._socket.settimeout(limit_s)
        found: list[tuple[int, int]] = []
        while not found or found[-1][0] != wanted:
            head = self._exactly(9)
            self._exactly(int.from_bytes(head[:3]))
            found.append((head[3], int.from_bytes(head[5:9])))
        return found

    def _exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            part = self._socket.recv(size - len(got))
            if not part:
                raise ConnectionError("closed")
            got += part
        return got

    def close(self) -> None:
        """Leave."""
        self._socket.close()
