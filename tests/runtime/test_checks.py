"""Health of single services follows what they need; the server's own stays."""

from grpc_health.v1 import health, health_pb2

from services.core.errors import DependencyUnavailable
from services.runtime.checks import Checks

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Store:
    """Answers until it is told not to."""

    def __init__(self):
        self.error, self.asked = None, 0

    async def check(self):
        self.asked += 1
        if self.error:
            raise self.error


async def said(status, name):
    return (await status.Check(health_pb2.HealthCheckRequest(service=name), None)).status


async def test_services_whose_store_fails_are_not_served_until_it_answers():
    status, store = health.aio.HealthServicer(), Store()
    for name in ("", "events"):
        await status.set(name, SERVING)
    checks = Checks(status, {"reads": store.check, "portraits": store.check})
    for error, expected in [
        (None, SERVING),
        (DependencyUnavailable("Redis"), NOT_SERVING),
        (KeyError("a bug is no reason to say that all is well"), NOT_SERVING),
        (None, SERVING),
    ]:
        store.error = error
        await checks.look()
        assert [await said(status, name) for name in ("reads", "portraits")] == [expected] * 2
        assert [await said(status, name) for name in ("", "events")] == [SERVING] * 2
    # Services of one store ask it once.
    assert store.asked == 4


async def test_without_checks_nothing_is_looked_at():
    await Checks(health.aio.HealthServicer(), {}).keep_looking(3600)
