"""`python -m tests.bench.freshness`: how soon what came in is served, with `refresh --follow` running.

An item: from the answer to UpsertItems until FindSimilarItems knows it and RecommendItems returns it
to a user who never had it, out of its category (goal: 10 s at p95).
An event: from the answer to RecordEvents until GetInterest counts it (goal: 60 s at p95).
All by real processes on a small store. Writes build/bench/freshness.json.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from driftline import Client, Event, Item, NotFoundError, NotReadyError

from services.core.schema import DEFAULT_TENANT
from services.local import LocalStack, local_stack
from services.pipeline.compute import open_compute
from services.pipeline.follow import Follower
from services.pipeline.stores import open_stores
from services.runtime.ports import free_port
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.layout import Layout
from tests.small_store import BUCKETS, NOW, fill, make_model

GOALS_S = {"item": 10.0, "event": 60.0}
LOOK_EVERY_S = 0.1


@contextmanager
def followed_store(folder: Path) -> Iterator[LocalStack]:
    """Run the whole stack and a follower over a small store that is published once."""
    settings = Settings(
        data_dir=folder / "data", bucket_count=BUCKETS, now=NOW, port=0,
        metrics_port=free_port("127.0.0.1"),
        serve_grpc_port=0, serve_http_port=0, compute_threads=1,
    )  # fmt: skip
    fill(Layout(settings.data_dir, BUCKETS), make_model(load_backbone()), folder)
    with (
        local_stack(settings, folder / "logs") as stack,
        open_compute(stack.settings, DEFAULT_TENANT) as compute,
    ):
        stores = open_stores(stack.settings)
        follower = Follower(stores=stores, compute=compute, settings=stack.settings)
        follower.start()
        try:
            with Client(stack.gateway.target) as client:
                wait_for(lambda: counted(client, "u0") > 0, 120)
            yield stack
        finally:
            follower.stop()


def measure(client: Client, rounds: int) -> dict[str, list[float]]:
    """Return seconds of each round: until an item is found, until an event is counted."""
    seconds: dict[str, list[float]] = {"item": [], "event": []}
    for number in range(rounds):
        item = Item(
            item_id=f"new-{number}", title=f"red tea number {number}", categories=("novelties",),
            updated_time=NOW,
        )  # fmt: skip
        client.upsert_items([item])
        seconds["item"].append(
            wait_for(lambda name=item.item_id, n=number: recommendable(client, name, f"u{n}"), 60)
        )
        user, before = f"u{number}", counted(client, f"u{number}")
        when = NOW - timedelta(minutes=number + 1)
        client.record_events([Event(user_id=user, item_id="tea", kind="purchase", event_time=when)])
        seconds["event"].append(
            wait_for(lambda user=user, before=before: counted(client, user) > before, 120)
        )
    return seconds


def wait_for(is_so: Callable[[], bool], limit_s: float) -> float:
    """Return how long it took; raise TimeoutError past the limit."""
    started = time.monotonic()
    while not is_so():
        if time.monotonic() - started > limit_s:
            raise TimeoutError(f"not so within {limit_s} s")
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - started


def known(client: Client, item_id: str) -> bool:
    """Tell whether the catalogue has an item."""
    try:
        client.similar_items(item_id)
    except NotFoundError:
        return False
    return True


def recommendable(client: Client, item_id: str, user_id: str) -> bool:
    """Tell whether an item is found, and is among what a user is recommended of its category."""
    if not known(client, item_id):
        return False
    answer = client.recommend(user_id, page_size=200, categories=["novelties"])
    return item_id in [item.item_id for item in answer] and not answer.basis.is_fallback


def counted(client: Client, user_id: str) -> int:
    """Return the events behind all of a user's weeks that are online; 0 where there are none."""
    try:
        return sum(week.event_count for week in client.get_trajectory(user_id).interests)
    except (NotFoundError, NotReadyError):
        return 0


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("build/bench/freshness.json"))
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        followed_store(Path(folder)) as stack,
        Client(stack.gateway.target) as client,
    ):
        seconds = measure(client, args.rounds)
    found: dict[str, Any] = {"name": "freshness", "rounds": args.rounds, "goals_s": GOALS_S}
    for name, values in seconds.items():
        found[name] = {
            "p50_s": float(np.percentile(values, 50)),
            "p95_s": float(np.percentile(values, 95)),
            "is_within_goal": bool(np.percentile(values, 95) <= GOALS_S[name]),
        }
    found["machine"] = platform.platform()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
