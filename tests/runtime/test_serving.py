"""What happens around a call that Ray Serve hands us, without Ray."""

import asyncio
import threading

import grpc
import pytest
from driftline.v1 import encoder_service_pb2 as pb
from google.rpc import error_details_pb2, status_pb2

from services.core.errors import NotReady
from services.runtime.compute_token import call_metadata, held_token, keep_token
from services.runtime.serving import answer, replica_options, run_cancellable
from services.runtime.settings import Settings
from services.runtime.validation import shared_rules
from tests.runtime.serve_context import Context


async def call(method, request=None, context=None, token=""):
    context = context or Context()
    request = request or pb.RefreshItemsRequest()
    made = await answer(method, request, context, pb.RefreshItemsResponse, shared_rules(), token)
    return made, context


@pytest.mark.parametrize(
    "shown", [(), ("Bearer other",), ("secret",), ("Bearer secret", "Bearer secret"), ("bearer ü",)]
)
async def test_a_stranger_is_refused_before_the_request_is_looked_at(shown):
    seen = []

    async def method(request):
        seen.append(request)
        return pb.RefreshItemsResponse(item_count=3)

    bad = pb.RefreshItemsRequest(tenant="x" * 65)
    context = Context(*(("authorization", value) for value in shown))
    made, context = await call(method, bad, context, token="secret")
    assert (made.item_count, seen) == (0, [])
    assert context.code is grpc.StatusCode.UNAUTHENTICATED
    assert "secret" not in context.details
    made, context = await call(method, None, Context(*call_metadata("encoder", "secret")), "secret")
    assert (made.item_count, context.code) == (3, None)


def test_a_command_beside_a_cluster_finds_the_token_that_it_left(tmp_path):
    settings = Settings(data_dir=tmp_path / "data")
    assert held_token(settings) == ""
    assert call_metadata("encoder", "") == (("application", "encoder"),)
    keep_token(settings.data_dir, "first")
    keep_token(settings.data_dir, "second")
    assert held_token(settings) == "second"
    assert held_token(settings.model_copy(update={"compute_token": "told"})) == "told"
    (file,) = settings.data_dir.iterdir()
    assert file.stat().st_mode & 0o077 == 0


async def test_an_answer_passes_with_the_callers_request_id():
    async def method(request):
        return pb.RefreshItemsResponse(item_count=3)

    made, context = await call(method, context=Context(("x-request-id", "r1")))
    assert (made.item_count, context.code) == (3, None)
    assert context.trailing["x-request-id"] == "r1"


async def test_an_expected_error_becomes_a_status_with_details_and_an_empty_message():
    async def method(request):
        raise NotReady("live model", "run `driftline train`")

    made, context = await call(method)
    assert made == pb.RefreshItemsResponse()
    assert context.code is grpc.StatusCode.UNAVAILABLE
    assert "train" in context.details
    status = status_pb2.Status.FromString(context.trailing["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "ERROR_REASON_NOT_READY"


async def test_an_unexpected_error_tells_the_caller_nothing():
    async def method(request):
        raise KeyError("secret of a user")

    _, context = await call(method)
    assert (context.code, context.details) == (grpc.StatusCode.INTERNAL, "internal error")


async def test_a_request_that_breaks_the_rules_never_reaches_the_handler():
    async def method(request):
        raise AssertionError

    _, context = await call(method, pb.RefreshItemsRequest(tenant="x" * 65))
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_work_is_told_when_its_call_is_cancelled():
    started, told = threading.Event(), threading.Event()

    def work(cancelled):
        started.set()
        while not cancelled():
            pass
        told.set()

    task = asyncio.create_task(run_cancellable(work))
    await asyncio.to_thread(started.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(told.wait, 5)


def test_replicas_follow_the_load_only_where_a_maximum_is_set():
    fixed = replica_options(replicas=2, max_replicas=0, num_cpus=0.5, num_gpus=0)
    assert fixed["num_replicas"] == 2
    assert fixed["ray_actor_options"] == {"num_cpus": 0.5, "num_gpus": 0}
    scaled = replica_options(replicas=1, max_replicas=4, num_cpus=1, num_gpus=1)
    assert scaled["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 4}
    assert "num_replicas" not in scaled
