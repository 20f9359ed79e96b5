"""A key set is read from where the operator said, and from nowhere else."""

import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.runtime import jwks
from services.runtime.jwks import check_address, check_url, read_key_set
from tests.runtime.test_server import Authority


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/keys",
        "file://id.example/keys",
        "ftp://id.example/keys",
        "gopher://id.example/",
        "https://",
        "https:///keys",
        "https://user:secret@id.example/keys",
        "https://id.example/keys#part",
        "https://id.example:0/keys",
        "https://id.example:99999/keys",
        "https://id.example/a b",
        "https://id.example/\r\nHost: other",
    ],
)
def test_only_a_plain_https_url_is_read(url):
    with pytest.raises(InvalidArgument, match="jwt_key_set"):
        check_url(url)


def test_an_https_url_is_taken():
    assert check_url("https://id.example:8443/keys?v=1") == "https://id.example:8443/keys?v=1"


PRIVATE = ("10.0.0.1", "192.168.1.1", "172.16.0.9", "127.0.0.1", "::1", "fd00::1", "100.64.0.1")
NEVER = (
    "169.254.169.254",
    "fe80::1%eth0",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "::ffff:169.254.169.254",
)


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER, "::ffff:10.0.0.1", "::ffff:127.0.0.1"])
def test_addresses_of_this_network_are_refused(address):
    with pytest.raises(DependencyUnavailable) as caught:
        check_address(address, allows_private=False)
    assert address not in caught.value.message


@pytest.mark.parametrize("address", PRIVATE)
def test_private_ones_are_taken_where_told(address):
    check_address(address, allows_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_where_clouds_keep_credentials_is_never_read(address):
    with pytest.raises(DependencyUnavailable):
        check_address(address, allows_private=True)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_addresses_outside_are_taken(address):
    check_address(address, allows_private=False)


class Page(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/keys")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/large":
            for _ in range(64):
                self.wfile.write(b"x" * 8192)
        elif self.path == "/slow":
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self.wfile.write(b'{"keys": []}')

    def log_message(self, *_):
        pass


@contextmanager
def site(tmp_path):
    """Serve over TLS on loopback; yield port and whom to trust."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, ssl.create_default_context(cadata=authority.cert.decode())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def served(tmp_path):
    with site(tmp_path) as (port, context):
        yield lambda path, **options: read_key_set(
            f"https://localhost:{port}{path}",
            **({"allows_private": True, "context": context} | options),
        )


def test_a_set_is_read_over_tls_from_a_private_host_only_where_told(served):
    assert served("/keys") == b'{"keys": []}'
    with pytest.raises(DependencyUnavailable, match="not read from"):
        served("/keys", allows_private=False)


def test_a_redirect_is_not_followed(served):
    with pytest.raises(DependencyUnavailable, match="answered 302"):
        served("/moved")


def test_a_body_that_is_too_large_or_too_slow_is_given_up(served, monkeypatch):
    with pytest.raises(DependencyUnavailable, match="larger than"):
        served("/large")
    monkeypatch.setattr(jwks, "TIMEOUT_S", 0.5)
    started = time.monotonic()
    with pytest.raises(DependencyUnavailable, match="longer than"):
        served("/slow")
    assert time.monotonic() - started < 3


def test_a_certificate_of_strangers_is_refused(served):
    with pytest.raises(DependencyUnavailable, match="SSLCertVerificationError"):
        served("/keys", context=ssl.create_default_context())


def test_a_name_that_answers_differently_the_second_time_reaches_nothing(served, monkeypatch):
    """The address that was checked is the one that is connected to."""
    asked = []

    def rebinding(host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    monkeypatch.setattr(jwks, "resolve", rebinding)
    assert served("/keys")
    assert asked == ["localhost"]


def test_one_bad_address_of_several_is_enough_to_refuse(served, monkeypatch):
    monkeypatch.setattr(jwks, "resolve", lambda host, port: ["127.0.0.1", "169.254.169.254"])
    with pytest.raises(DependencyUnavailable, match="not read from"):
        served("/keys")


def test_a_file_is_read_within_the_size(tmp_path):
    path = tmp_path / "keys.json"
    path.write_bytes(b'{"keys": []}')
    assert read_key_set(str(path)) == b'{"keys": []}'
    path.write_bytes(b"x" * (jwks.MAX_BYTES + 1))
    with pytest.raises(DependencyUnavailable, match="larger"):
        read_key_set(str(path))
    with pytest.raises(DependencyUnavailable, match=r"cannot be read from .*absent"):
        read_key_set(str(tmp_path / "absent"))
