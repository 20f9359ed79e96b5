"""Methods in one table: what a server asks of it, and what stubs do to it."""

import grpc
from driftline.v1 import interest_service_pb2_grpc as pb_grpc

from services.runtime.method_table import MethodTable, WrappingTable

READ = "/driftline.v1.InterestService/GetInterest"


class Call(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method, self.invocation_metadata = method, ()


def test_a_method_is_found_by_its_path_and_no_other_is():
    table = MethodTable()
    pb_grpc.add_InterestServiceServicer_to_server(pb_grpc.InterestServiceServicer(), table)
    assert table.service(Call(READ)).unary_unary is not None
    assert table.service(Call(READ + "s")) is None
    assert table.service(Call("")) is None


def test_every_method_is_wrapped_once_under_its_own_path():
    table, seen = MethodTable(), []
    made = grpc.unary_unary_rpc_method_handler(lambda request, context: request)

    def wrap(path, handler):
        seen.append(path)
        return made

    service = pb_grpc.InterestServiceServicer()
    pb_grpc.add_InterestServiceServicer_to_server(service, WrappingTable(table, wrap))
    assert sorted(seen) == sorted(
        f"/driftline.v1.InterestService/{name}"
        for name in ("GetInterest", "BatchGetInterests", "GetTrajectory", "GetForecast")
    )
    assert all(table.service(Call(path)) is made for path in seen)
