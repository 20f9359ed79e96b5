"""`python -m tests.bench.reads [NAME ...]`: what reads cost beside Feast's servers and a bare one.

Every bench runs ours and its peer as processes of their own on the same rows, which Feast's writer
wrote, and asks both for the same content: vector, model, count, period. One client of ours loads
either (`load.py`), 16 calls in flight. Writes build/bench/NAME.json and report.html.
"""

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Feast's SQLite store follows the zone.
os.environ["TZ"] = "UTC"
time.tzset()

import grpc  # noqa: E402
import numpy as np  # noqa: E402
from driftline.v1 import interest_service_pb2 as pb  # noqa: E402
from driftline.v1 import interest_service_pb2_grpc as pb_grpc  # noqa: E402

from services.core.schema import Granularity, interest_view  # noqa: E402
from services.core.views import view_named  # noqa: E402
from services.store.feast_config import FeastConfig  # noqa: E402
from tests.bench import load, servers, trajectory  # noqa: E402
from tests.bench.page import write_page  # noqa: E402
from tests.bench.pairs import OUT, Bench, Figures, Goal, in_pairs, line, report, write  # noqa: E402
from tests.bench.store import Filled, fill, redis_server  # noqa: E402
from tests.gateway.process import gateway  # noqa: E402

USERS, IN_FLIGHT, CONNECTIONS, BATCH = 2000, 16, 4, 100
LISTEN_THREADS = 4
# A server that just started is slow at first.
WARM_S = 3.0
SERVICE = "/driftline.v1.InterestService/"
FEAST_METHOD = "/GrpcFeatureServer/GetOnlineFeatures"
_RATE, _CPU = "calls_per_s", "cpu_ms_per_call"
_SAME = "one process each; the store's own CPU is not counted on either side"

BENCHES = {
    bench.name: bench
    for bench in (
        Bench(
            name="read-1",
            what="GetInterest of one user, Redis store, 16 at once",
            peer_name="feast serve --workers 1 --max-requests 0 --no-access-log",
            goals=(Goal(figure=_RATE, at_least=3.0), Goal(figure=_CPU, at_least=2.5)),
            notes=(_SAME,),
        ),
        Bench(
            name="read-1g",
            what="GetInterest of one user, Redis store, 16 at once",
            peer_name=f"feast listen --max_workers {LISTEN_THREADS} --registry_ttl_sec 60",
            goals=(Goal(figure=_RATE, at_least=1.7),),
            notes=(_SAME,),
        ),
        Bench(
            name="read-floor",
            what="GetInterest of one user, Redis store, 16 at once",
            peer_name="a plain grpc.aio server that returns a constant of the same size",
            goals=(Goal(figure=_RATE, at_least=0.65),),
            notes=("the floor reads no store and parses nothing",),
        ),
        Bench(
            name="read-100",
            what=f"BatchGetInterests of {BATCH} users, Redis store, 16 at once",
            peer_name="feast serve --workers 1 --max-requests 0 --no-access-log",
            goals=(Goal(figure=_RATE, at_least=20.0),),
            notes=(_SAME,),
        ),
        Bench(
            name="read-sqlite",
            what="GetInterest of one user, embedded SQLite store, 16 at once",
            peer_name="feast serve --workers 1 --max-requests 0 --no-access-log, on SQLite",
            goals=(Goal(figure=_RATE, at_least=3.0),),
            notes=(_SAME,),
        ),
        trajectory.BENCH,
    )
}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One server, and what it is asked."""

    server: servers.Server
    connect: Callable[[load.Loop], Sequence[asyncio.Protocol]]
    requests: Sequence[bytes]
    smallest_answer: int

    def run(self, seconds: float) -> tuple[Figures, load.Load]:
        """Load it and return what it did."""
        clock: list[float] = []

        def look() -> None:
            clock.append(self.server.cpu_s())

        found = asyncio.run(
            load.run(
                self.connect,
                self.server.port,
                self.requests,
                seconds=seconds,
                smallest_answer=self.smallest_answer,
                on_start=look,
                on_end=look,
            )
        )
        return figures_of(found, clock[1] - clock[0]), found


def figures_of(found: load.Load, cpu_s: float) -> Figures:
    """Return a run's figures.

    Raises:
        ValueError: calls were refused, or none was answered.
    """
    count = len(found.latencies_s)
    if found.refused or not count:
        raise ValueError(f"{found.refused} calls were refused, {count} answered")
    p50_s, p99_s = np.quantile(found.latencies_s, (0.5, 0.99))
    return Figures(
        calls_per_s=count / found.seconds,
        cpu_ms_per_call=1e3 * cpu_s / count,
        p50_ms=1e3 * float(p50_s),
        p99_ms=1e3 * float(p99_s),
    )


def batches(users: Sequence[str], size: int) -> list[list[str]]:
    """Return as many groups as there are users, each of `size` neighbours."""
    return [[users[(i + k) % len(users)] for k in range(size)] for i in range(len(users))]


def driftline_side(server: servers.Server, filled: Filled, batch: int) -> Side:
    """Return the gateway, asked for `batch` users a call."""
    if batch == 1:
        method = "GetInterest"
        messages = [pb.GetInterestRequest(user_id=u).SerializeToString() for u in filled.users]
    else:
        method = "BatchGetInterests"
        messages = [
            pb.BatchGetInterestsRequest(user_ids=group).SerializeToString()
            for group in batches(filled.users, batch)
        ]
    return Side(
        server=server,
        connect=load.grpc_connections(SERVICE + method, CONNECTIONS, IN_FLIGHT // CONNECTIONS),
        requests=messages,
        smallest_answer=512 * batch,
    )


def features_of(filled: Filled) -> list[str]:
    """Return Feast's names of what GetInterest answers with."""
    view = interest_view(Granularity.WEEK, filled.space_id)
    return [f"{view}:{name}" for name in view_named(view).features]


def serve_side(server: servers.Server, filled: Filled, batch: int) -> Side:
    """Return `feast serve`, asked for the same."""
    groups = batches(filled.users, batch)
    return Side(
        server=server,
        connect=load.http_connections("/get-online-features", IN_FLIGHT),
        requests=[servers.feast_body(group, features_of(filled)) for group in groups],
        smallest_answer=512 * batch,
    )


def listen_side(server: servers.Server, filled: Filled) -> Side:
    """Return `feast listen`, asked for the same."""
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest

    messages = []
    for user in filled.users:
        request = GetOnlineFeaturesRequest()
        request.features.val.extend(features_of(filled))
        request.entities["user_id"].val.add().string_val = user
        messages.append(request.SerializeToString())
    return Side(
        server=server,
        connect=load.grpc_connections(FEAST_METHOD, CONNECTIONS, IN_FLIGHT // CONNECTIONS),
        requests=messages,
        smallest_answer=512,
    )


def check_same_content(ours: load.Load, peer: load.Load, filled: Filled, name: str) -> None:
    """Assert that sampled answers of both sides hold the users' vectors and counts as written."""
    for number, message in ours.samples:
        if name == "read-100":
            got = pb.BatchGetInterestsResponse.FromString(message)
            assert [one.user_id for one in got.interests] == batches(filled.users, BATCH)[number]
            interest = got.interests[0].interest
        else:
            interest = pb.GetInterestResponse.FromString(message).interest
        written = filled.weeks_of[filled.users[number]][-1]
        assert interest.vector.values == written.vec_D.tobytes()
        assert interest.vector.space_id == filled.space_id
        assert (interest.event_count, interest.period) == (written.event_count, written.period.name)
    if name == "read-floor":
        return
    for number, message in peer.samples:
        written = filled.weeks_of[filled.users[number]][-1]
        vec, count = feast_answer(message, is_json=name != "read-1g")
        np.testing.assert_array_equal(np.asarray(vec, np.float32), written.vec_D)
        assert count == written.event_count


def feast_answer(message: bytes, *, is_json: bool) -> tuple[Sequence[float], int]:
    """Return the first user's vector and count in an answer of Feast's."""
    if is_json:
        answer = json.loads(message)
        place = {name: i for i, name in enumerate(answer["metadata"]["feature_names"])}
        values = {name: answer["results"][i]["values"][0] for name, i in place.items()}
        return values["vec"], values["event_count"]
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse

    got = GetOnlineFeaturesResponse.FromString(message)
    place = {name: i for i, name in enumerate(got.metadata.feature_names.val)}
    vec = got.results[place["vec"]].values[0].float_list_val.val
    return vec, got.results[place["event_count"]].values[0].int64_val


@contextlib.contextmanager
def peer_of(name: str, ours: Side, filled: Filled, scratch: Path) -> Iterator[Side]:
    """Run the peer of a bench."""
    log = scratch / "peer.log"
    if name == "read-floor":
        with grpc.insecure_channel(f"127.0.0.1:{ours.server.port}") as channel:
            request = pb.GetInterestRequest(user_id=filled.users[0])
            reply = pb_grpc.InterestServiceStub(channel).GetInterest(request)
        with servers.floor(reply.SerializeToString()) as server:
            yield Side(
                server=server,
                connect=ours.connect,
                requests=ours.requests,
                smallest_answer=ours.smallest_answer,
            )
    elif name == "read-1g":
        with servers.feast_listen(filled.feast_dir, log, LISTEN_THREADS) as server:
            yield listen_side(server, filled)
    else:
        with servers.feast_serve(filled.feast_dir, log) as server:
            yield serve_side(server, filled, BATCH if name == "read-100" else 1)


def compare(
    name: str, filled: Filled, scratch: Path, *, pairs: int, seconds: float
) -> dict[str, object]:
    """Measure a bench on a filled store."""
    bench, batch = BENCHES[name], BATCH if name == "read-100" else 1
    config = filled.config
    with gateway(
        filled.folder, metrics_port=0, online_store=config.online_store, redis_url=config.redis_url
    ) as running:
        server = servers.Server(pid=running.process.pid, port=running.port)
        ours = driftline_side(server, filled, batch)
        with peer_of(name, ours, filled, scratch) as peer:
            # Once for the content, and so that both are warm.
            warm_s = max(seconds, WARM_S)
            check_same_content(ours.run(warm_s)[1], peer.run(warm_s)[1], filled, name)
            found = in_pairs(lambda: ours.run(seconds)[0], lambda: peer.run(seconds)[0], pairs)
    return report(bench, *found)


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHES)}; none: all of them")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one run of one side")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--width", type=int, default=128, help="of the vectors")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    unknown = set(args.names) - BENCHES.keys()
    if unknown:
        parser.error(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    names = args.names or list(BENCHES)
    for is_sqlite in (False, True):
        group = [name for name in names if (name == "read-sqlite") == is_sqlite]
        if not group:
            continue
        with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
            config = FeastConfig()
            if not is_sqlite:
                url = stack.enter_context(redis_server())
                config = FeastConfig(online_store="redis", redis_url=url)
            filled = fill(
                Path(scratch) / "data",
                config,
                users=args.users,
                histories=trajectory.USERS if "trajectory" in group else 0,
                width=args.width,
            )
            for name in group:
                measure = trajectory.compare if name == "trajectory" else compare
                found = measure(name, filled, Path(scratch), pairs=args.pairs, seconds=args.seconds)
                write(found, args.out)
                print(line(found), flush=True)
    print(write_page(args.out))


if __name__ == "__main__":
    main()
