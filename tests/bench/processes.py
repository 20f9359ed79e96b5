"""`python -m tests.bench.processes`: reads of two gateway processes on one port, beside one.

Both are loaded alike, in turns: 16 calls in flight over 16 connections, which the kernel deals out (SO_REUSEPORT).
Client and store run on the same cores: with two cores, two gateways have what those leave. CPU a call says what
a machine with more cores would give. Writes build/bench/processes.json.
"""

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Feast's SQLite store follows the zone.
os.environ["TZ"] = "UTC"
time.tzset()

from services.local import gateway_processes  # noqa: E402
from services.runtime.settings import Settings  # noqa: E402
from services.store.feast_config import FeastConfig  # noqa: E402
from tests.bench import load  # noqa: E402
from tests.bench.page import write_page  # noqa: E402
from tests.bench.pairs import OUT, Bench, Goal, in_pairs, line, report, write  # noqa: E402
from tests.bench.reads import IN_FLIGHT, SERVICE, WARM_S, Side, driftline_side  # noqa: E402
from tests.bench.servers import Server  # noqa: E402
from tests.bench.store import fill, redis_server  # noqa: E402

PROCESSES = 2
BENCH = Bench(
    name="processes",
    what=f"GetInterest of one user, Redis store, {IN_FLIGHT} at once, {PROCESSES} gateway processes on one port",
    peer_name="one gateway process",
    goals=(Goal(figure="calls_per_s", at_least=1.0),),
    notes=(f"{os.cpu_count()} cores, shared with the client and the store",),
)


@dataclass(frozen=True, kw_only=True)
class Servers(Server):
    """Processes behind one port."""

    pids: tuple[int, ...]

    def cpu_s(self) -> float:
        """Return CPU seconds of all of them so far."""
        return sum(Server(pid=pid, port=self.port).cpu_s() for pid in self.pids)


def measure(pairs: int, seconds: float, users: int) -> dict[str, Any]:
    """Return the result."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        url = stack.enter_context(redis_server())
        config = FeastConfig(online_store="redis", redis_url=url)
        filled = fill(Path(scratch) / "data", config, users=users, histories=0, width=128)
        sides: list[Side] = []
        for count in (PROCESSES, 1):
            settings = Settings(
                data_dir=filled.folder, port=0, metrics_port=0, online_store="redis", redis_url=url,
                writer=f"bench{count}-0",
            )  # fmt: skip
            running = stack.enter_context(gateway_processes(settings, Path(scratch), count))
            pids = tuple(each.process.pid for each in running)
            port = int(running[0].target.rpartition(":")[2])
            sides.append(side(Servers(pid=pids[0], port=port, pids=pids), filled))
            sides[-1].run(max(seconds, WARM_S))
        found = in_pairs(lambda: sides[0].run(seconds)[0], lambda: sides[1].run(seconds)[0], pairs)
    return report(BENCH, *found)


def side(server: Server, filled: Any) -> Side:
    """Return servers with a connection for each call in flight, so that every process gets some."""
    few = driftline_side(server, filled, 1)
    return Side(
        server=server,
        connect=load.grpc_connections(SERVICE + "GetInterest", IN_FLIGHT, 1),
        requests=few.requests,
        smallest_answer=few.smallest_answer,
    )


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one run of one side")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    found = measure(args.pairs, args.seconds, args.users)
    write(found, args.out)
    print(line(found), *found["notes"], sep="\n  ")
    for name in ("ours", "peer"):
        print(f"  {name}: {found[name]['cpu_ms_per_call']:.3f} CPU ms a call")
    print(write_page(args.out))


if __name__ == "__main__":
    main()
