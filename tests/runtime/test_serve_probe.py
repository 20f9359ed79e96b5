import subprocess
import sys
from concurrent import futures
from types import SimpleNamespace

import grpc
import pytest
from driftline.v1 import encoder_service_pb2_grpc, forecaster_service_pb2_grpc

from services.core.errors import DependencyUnavailable
from services.runtime import cluster
from services.runtime.ports import free_port
from services.runtime.serve_probe import main


class Refuses(
    encoder_service_pb2_grpc.EncoderServiceServicer,
    forecaster_service_pb2_grpc.ForecasterServiceServicer,
):
    def EncodeItems(self, request, context):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "empty")

    def ForecastInterests(self, request, context):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "empty")


@pytest.fixture
def server():
    made = grpc.server(futures.ThreadPoolExecutor(2))
    made.target = f"127.0.0.1:{made.add_insecure_port('127.0.0.1:0')}"
    yield made
    made.stop(None)


def test_all_is_well_where_both_refuse_an_empty_request(server, capsys):
    encoder_service_pb2_grpc.add_EncoderServiceServicer_to_server(Refuses(), server)
    forecaster_service_pb2_grpc.add_ForecasterServiceServicer_to_server(Refuses(), server)
    server.start()
    assert main(server.target) == 0
    assert capsys.readouterr().out.split() == []


def test_an_application_that_does_not_answer_is_named(server, capsys):
    encoder_service_pb2_grpc.add_EncoderServiceServicer_to_server(Refuses(), server)
    server.start()
    assert main(server.target) == 1
    assert capsys.readouterr().out.split() == ["forecaster"]


def test_nobody_listening_is_not_an_answer(capsys):
    assert main(f"127.0.0.1:{free_port('127.0.0.1')}") == 1
    assert capsys.readouterr().out.split() == ["encoder", "forecaster"]


@pytest.fixture
def starting(tmp_path):
    """A cluster whose Serve says that it runs, and its process."""
    (tmp_path / cluster.READY).touch()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        settings = SimpleNamespace(serve_host="127.0.0.1", serve_grpc_port=1)
        yield SimpleNamespace(temp_dir=tmp_path, settings=settings, log="serve.log"), process
        process.kill()


def asks_by(monkeypatch, tmp_path, script):
    """Let a script stand for the interpreter that the probe runs in."""
    path = tmp_path / "asks"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(cluster.sys, "executable", str(path))


def test_a_probe_that_is_killed_by_what_it_hears_is_sent_again(monkeypatch, tmp_path, starting):
    script = f"echo x >> {tmp_path}/asked; [ $(wc -l < {tmp_path}/asked) -ge 3 ] || kill -ABRT $$"
    asks_by(monkeypatch, tmp_path, script)
    cluster._wait_until_answering(*starting)
    assert (tmp_path / "asked").read_text().split() == ["x"] * 3


def test_what_never_answers_is_named_when_time_is_up(monkeypatch, tmp_path, starting):
    asks_by(monkeypatch, tmp_path, "echo forecaster; exit 1")
    monkeypatch.setattr(cluster, "START_LIMIT_S", 0.5)
    with pytest.raises(DependencyUnavailable, match=r"did not bring up forecaster; see serve\.log"):
        cluster._wait_until_answering(*starting)
