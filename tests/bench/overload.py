"""`python -m tests.bench.overload`: three times the load that a gateway can bear, with its limits and without.

Both sides are the gateway on the same store; the peer has gRPC's own limits (some calls are refused where 1000
wait, all where 3000 do). A turn of a side: few calls (alone), as many as it can answer (peak), three times that
by the clock (overload), few again (recovery). The generator is this process; gateway, store and generator share
the cores, and what was really offered is measured. Writes build/bench/overload.json.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Feast's SQLite store follows the zone.
os.environ["TZ"] = "UTC"
time.tzset()

from services.runtime.settings import Settings  # noqa: E402
from services.store.feast_config import FeastConfig  # noqa: E402
from tests.bench.open_load import Generator, Phase  # noqa: E402
from tests.bench.page import write_page  # noqa: E402
from tests.bench.pairs import OUT, Bench, Goal, in_pairs, line, report, write  # noqa: E402
from tests.bench.reads import SERVICE, WARM_S, Side, driftline_side  # noqa: E402
from tests.bench.servers import Server  # noqa: E402
from tests.bench.store import fill, redis_server  # noqa: E402
from tests.bench.work import also  # noqa: E402
from tests.gateway.process import gateway  # noqa: E402

# Times the peak that is offered, and the share of it that counts as nothing.
OVERLOAD, ALONE = 3.0, 0.15
CONNECTIONS = 8
LEAST_GOODPUT, MOST_SLOWDOWN = 0.8, 5.0
# Below this, seconds, a recovery is not told from none: a tick or two of the generator.
INSTANT_S = 0.01
METHOD = SERVICE + "GetInterest"
LIMITS = ("max_waiting_calls", "max_calls_per_connection", "max_connections")
BENCH = Bench(
    name="overload",
    what=f"GetInterest of one user, Redis store, offered {OVERLOAD:g} times what the gateway can answer",
    peer_name="the same gateway with gRPC's own limits",
    goals=(Goal(figure="p99_ms", at_least=1.0),),
    notes=(f"{os.cpu_count()} cores, shared by gateway, store and load generator (one process)",),
)


@dataclass(frozen=True, kw_only=True)
class Overload:
    """What one turn found."""

    # Good answers a second, closed loop, 16 at once; and under overload.
    peak_per_s: float
    goodput_per_s: float
    goodput_share: float
    # Calls that went out under overload, to the peak.
    offered_share: float
    # 99th percentile alone, and of the calls that were answered under overload; and their ratio.
    unloaded_p99_ms: float
    p99_ms: float
    slowdown: float
    # From the end of the overload until calls are answered as when alone.
    recovery_s: float


def turn(side: Side, seconds: float) -> Overload:
    """Measure one side once."""
    peak = side.run(seconds)[0].calls_per_s
    return asyncio.run(_paced(side, peak, seconds))


async def _paced(side: Side, peak: float, seconds: float) -> Overload:
    generator = Generator(side.requests, side.smallest_answer)
    await generator.connect(side.server.port, METHOD, CONNECTIONS)
    try:
        alone = await generator.run(ALONE * peak, 2 * seconds)
        flood = await generator.run(OVERLOAD * peak, 2 * seconds)
        after = await generator.run(ALONE * peak, 2 * seconds)
    finally:
        generator.close()
    return figures(peak, alone, flood, after)


def figures(peak: float, alone: Phase, flood: Phase, after: Phase) -> Overload:
    """Return a turn's figures."""
    limit_ms = MOST_SLOWDOWN * alone.quantile_ms(0.99)
    return Overload(
        peak_per_s=peak,
        goodput_per_s=flood.answered_per_s,
        goodput_share=flood.answered_per_s / peak,
        offered_share=flood.offered_per_s / peak,
        unloaded_p99_ms=alone.quantile_ms(0.99),
        p99_ms=flood.quantile_ms(0.99),
        slowdown=flood.quantile_ms(0.99) / alone.quantile_ms(0.99),
        recovery_s=recovery_s(after, limit_ms / 1e3),
    )


def recovery_s(after: Phase, limit_s: float) -> float:
    """Return how long after its start the last call was due that was refused, slow or not answered at all.

    Up to one in a hundred may be: that is what a 99th percentile means.
    """
    bad = [*after.refused_due]
    bad += [due for due, took in zip(after.due, after.took_s, strict=True) if took > limit_s]
    unanswered = after.sent - len(after.due) - len(after.refused_due)
    if unanswered > after.sent // 100:
        return after.seconds
    bad.sort()
    kept = bad[: max(0, len(bad) - after.sent // 100)]
    return max(INSTANT_S, kept[-1] - after.started) if kept else INSTANT_S


def measure(pairs: int, seconds: float, users: int) -> dict[str, Any]:
    """Return the result."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        url = stack.enter_context(redis_server())
        config = FeastConfig(online_store="redis", redis_url=url)
        filled = fill(Path(scratch) / "data", config, users=users, histories=0, width=128)
        turns: list[Callable[[], Overload]] = []
        for number, limits in enumerate(({}, dict.fromkeys(LIMITS, 0))):
            # Each keeps its port file beside its own way to the folder.
            way = Path(scratch) / f"process-{number}"
            way.mkdir()
            (way / "data").symlink_to(filled.folder, target_is_directory=True)
            running = stack.enter_context(
                gateway(
                    way / "data", writer=f"bench-{number}", metrics_port=0, online_store="redis",
                    redis_url=url, **limits,
                )
            )  # fmt: skip
            server = Server(pid=running.process.pid, port=running.port)
            side = driftline_side(server, filled, 1)
            side.run(max(seconds, WARM_S))
            turns.append(lambda side=side: turn(side, seconds))
        found = report(BENCH, *in_pairs(turns[0], turns[1], pairs))
    ours = found["ours"]
    found["limits"] = {name: getattr(Settings(), name) for name in LIMITS}
    found = also(
        found,
        reached=ours["goodput_share"] >= LEAST_GOODPUT,
        goal=f"goodput {ours['goodput_share']:.2f} of peak, at least {LEAST_GOODPUT:g}",
    )
    return also(
        found,
        reached=ours["slowdown"] <= MOST_SLOWDOWN,
        goal=f"p99 of answered calls {ours['slowdown']:.2f} times alone, at most {MOST_SLOWDOWN:g}",
    )


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of the peak; the others twice")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    found = measure(args.pairs, args.seconds, args.users)
    write(found, args.out)
    print(line(found), *found["notes"], sep="\n  ")
    for name in ("ours", "peer"):
        print(f"  {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in found[name].items()))
    print(write_page(args.out))


if __name__ == "__main__":
    main()
