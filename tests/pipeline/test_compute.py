"""What the pipeline says where the encoder or the forecaster could not do its work."""

import grpc
import pytest

from services.core.errors import CoreError, DependencyUnavailable, NotReady
from services.pipeline.compute import ComputeClient, as_core_error
from services.runtime.compute_token import keep_token
from services.runtime.errors import failure_of
from services.runtime.settings import Settings


class Failed(grpc.RpcError):
    """A call that failed as a server's answer says."""

    def __init__(self, code, details="", trailing=()):
        self._said = code, details, trailing

    def code(self):
        return self._said[0]

    def details(self):
        return self._said[1]

    def trailing_metadata(self):
        return self._said[2]


def answered(error: CoreError) -> Failed:
    failure = failure_of(error, "r1")
    return Failed(failure.code, failure.message, failure.trailing_metadata)


def test_a_store_that_fails_the_encoder_is_named_with_what_to_do():
    store = DependencyUnavailable("the online store", "failed (OOM)", "raise its `maxmemory`")
    error = as_core_error(answered(store), "encoder")
    assert isinstance(error, DependencyUnavailable)
    assert error.message == (
        "the online store failed (OOM), said the encoder; raise its `maxmemory`"
    )
    assert error.metadata == {"dependency": "the online store"}


def test_what_is_not_there_yet_is_said_as_the_application_said_it():
    missing = NotReady("live model", "run `driftline train`")
    assert as_core_error(answered(missing), "encoder").message == missing.message


@pytest.mark.parametrize("trailing", [(), (("grpc-status-details-bin", b"\xff\xff"),)])
def test_an_application_that_does_not_answer_is_named(trailing):
    gone = Failed(grpc.StatusCode.UNAVAILABLE, "connection refused to a model", trailing)
    error = as_core_error(gone, "forecaster")
    assert isinstance(error, DependencyUnavailable)
    assert error.message == "the forecaster cannot be reached; is `driftline up` running?"


class Script:
    """A method of a stub that ends as it is told, call by call; the rest of its calls succeed."""

    def __init__(self, *ends):
        self.ends, self.shown = list(ends), []

    def __call__(self, request, timeout, metadata):
        self.shown.append(dict(metadata).get("authorization"))
        end = self.ends.pop(0) if self.ends else "answer"
        if isinstance(end, Exception):
            raise end
        return end


GONE = Failed(grpc.StatusCode.UNAVAILABLE, "Socket closed")
BROKEN = Failed(grpc.StatusCode.INTERNAL, "Received RST_STREAM")


@pytest.fixture
def client(tmp_path):
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        yield ComputeClient(channel, Settings(data_dir=tmp_path), "default")


def test_a_replica_that_dies_in_a_call_is_waited_for_and_the_call_repeated(client, tmp_path):
    keep_token(tmp_path, "of the first cluster")
    method = Script("answer", GONE, BROKEN)
    assert client._call(method, None, "encoder") == "answer"
    # Another cluster on the same folder.
    keep_token(tmp_path, "of the next")
    assert client._call(method, None, "encoder") == "answer"
    assert method.shown == ["Bearer of the first cluster"] + ["Bearer of the next"] * 3


def test_an_application_that_never_answered_is_not_waited_for(client):
    client._call(Script(), None, "encoder")
    method = Script(GONE)
    with pytest.raises(DependencyUnavailable, match="the forecaster cannot be reached"):
        client._call(method, None, "forecaster")
    assert len(method.shown) == 1


def test_one_that_stays_away_is_named_in_the_end(tmp_path):
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        client = ComputeClient(channel, Settings(data_dir=tmp_path), "default", come_back_s=0.05)
        client._call(Script(), None, "encoder")
        with pytest.raises(DependencyUnavailable, match="the encoder cannot be reached"):
            client._call(Script(*[GONE] * 1000), None, "encoder")


def test_a_failure_that_the_application_tells_is_not_repeated_here(client):
    store = answered(DependencyUnavailable("the online store"))
    method = Script("answer", store)
    client._call(method, None, "encoder")
    with pytest.raises(DependencyUnavailable, match="the online store"):
        client._call(method, None, "encoder")
    assert len(method.shown) == 2
