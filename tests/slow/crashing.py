"""A writer that is killed, and what must hold afterwards. Runs in real child processes.

Children come from a fork server that has imported everything: a kill then costs a second, not ten.
"""

import asyncio
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import feast  # noqa: F401  # what the fork server holds ready
import polars as pl
import torch  # noqa: F401

from services.core.schema import DEFAULT_TENANT, EVENT_ID, USER_ID
from services.pipeline.doctor import examine
from services.pipeline.erasure import erase_requested, request_erasures
from services.pipeline.preprocess import preprocess
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store.inbox import DeltaInbox, InboxWriter
from services.store.layout import Layout
from services.store.models import FolderRegistry
from services.store.online_reader import open_online_reader
from tests.whole_store import BUCKETS, LocalCompute, Store, add_model, make_store, some_events

STEPS = ("ingest", "preprocess", "erase", "encode", "publish", "promote")
# Longest that a child may take to reach a step, or to verify, on a busy machine.
LIMIT_S = 120.0
MODULE = "tests.slow.crashing"


@dataclass
class Acks:
    """What the writers of all children were told is done; survives them."""

    path: Path

    def say(self, kind: str, *names: str) -> None:
        """Append a line in one write."""
        descriptor = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, f"{kind} {' '.join(names)}\n".encode())
        os.close(descriptor)

    def read(self, kind: str) -> list[str]:
        """Return every name of a kind, in order."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        said = [line.split(" ") for line in lines]
        return [name for first, *names in said if first == kind for name in names if name]


def write_for_ever(settings: Settings, acks: Acks, seed: int, pipe: Connection) -> None:
    """Do every step of the write path, round after round, until killed; tell each as it begins."""
    rng, compute = random.Random(seed), LocalCompute(settings)
    for turn in range(1_000_000):
        steps = {
            "ingest": lambda n=turn: asyncio.run(_ingest(settings, acks, f"{seed}-{n}", rng)),
            "preprocess": lambda: preprocess(compute.stores.tables, settings),
            "erase": lambda n=turn: _erase(settings, compute, acks, f"x{seed}-{n}"),
            "encode": lambda n=turn: _encode(settings, compute, f"item-{seed}-{n}"),
            "publish": lambda: _publish(compute),
            "promote": lambda n=turn: _promote(settings, acks, f"m{n % 2 + 1}"),
        }
        for name, step in steps.items():
            pipe.send(name)
            step()


async def _ingest(settings: Settings, acks: Acks, name: str, rng: random.Random) -> None:
    """Send calls at once, some of them twice; an answer is an acknowledgement."""
    inbox = DeltaInbox(Layout(settings.data_dir, BUCKETS), "gateway-0")

    async def call(number: int) -> None:
        rows = some_events(20, seed=number, prefix=f"{name}-{number}-")
        for _ in range(rng.choice((1, 1, 2))):
            await inbox.append_events(DEFAULT_TENANT, rows)
            acks.say("events", *rows[EVENT_ID])

    await asyncio.gather(*(call(number) for number in range(4)))
    await inbox.close()


def _erase(settings: Settings, compute: LocalCompute, acks: Acks, user: str) -> None:
    rows = some_events(5, prefix=f"{user}-").with_columns(pl.lit(user).alias(USER_ID))
    InboxWriter(Layout(settings.data_dir, BUCKETS), "import").append("events", rows)
    stores = compute.stores
    preprocess(stores.tables, settings)
    request_erasures(settings, DEFAULT_TENANT, [user])
    acks.say("erased", user)
    preprocess(stores.tables, settings)
    erase_requested(stores.tables, stores.features, stores.models, stores.overlays, settings)


def _encode(settings: Settings, compute: LocalCompute, item: str) -> None:
    rows = pl.DataFrame(
        {"item_id": [item], "title": [item], "text": [""], "categories": [["all"]],
         "updated_time": [settings.clock()]}
    )  # fmt: skip
    InboxWriter(Layout(settings.data_dir, BUCKETS), "import").append("items", rows)
    preprocess(compute.stores.tables, settings)
    compute.refresh_items(is_full=True)


def _publish(compute: LocalCompute) -> None:
    for bucket in range(BUCKETS):
        compute.refresh_interests([bucket])
        compute.refresh_forecasts([bucket])


def _promote(settings: Settings, acks: Acks, version: str) -> None:
    FolderRegistry(Layout(settings.data_dir, BUCKETS)).promote(DEFAULT_TENANT, version)
    acks.say("promoted", version)


def mend(settings: Settings, pipe: Connection) -> None:
    """Run the doctor as an operator does after a crash; tell what it found and what it left."""
    found = _doctor(settings, is_mending=True)
    pipe.send(([one.what for one in found], _doctor(settings)))


def verify(settings: Settings, acks: Acks, pipe: Connection) -> None:
    """Refresh to the end and tell everything that does not hold."""
    store = Store(settings)
    store.refresh()
    compute = LocalCompute(settings)
    tables = compute.stores.tables
    events = tables.read_events(DEFAULT_TENANT)
    erased = set(acks.read("erased"))
    again = [compute.refresh_interests([bucket], is_full=True) for bucket in range(BUCKETS)]
    left = sorted(set(events[USER_ID]) & erased)
    pipe.send(
        {
            "acknowledged": len(set(acks.read("events"))),
            "lost": sorted(set(acks.read("events")) - set(events[EVENT_ID])),
            "doubled": events.height - events[EVENT_ID].n_unique(),
            "erased but there": left + _held_offline(store, erased),
            # A whole refresh makes what is published, or something was published by half.
            "published by half": sum(answer.vector_count for answer in again),
            "found by the doctor": [f"{one.what}: {one.where}" for one in _doctor(settings)],
            "rejects": tables.read_rejects(DEFAULT_TENANT).height,
        }
    )


def _held_offline(store: Store, users: set[str]) -> list[str]:
    parts = (store.layout.feast_dir(DEFAULT_TENANT) / "offline").glob("*/part-b*.parquet")
    return sorted(
        f"{path.parent.name}: {user}"
        for path in parts
        if USER_ID in pl.read_parquet_schema(path)
        for user in set(pl.read_parquet(path, columns=[USER_ID])[USER_ID]) & users
    )


def _doctor(settings: Settings, *, is_mending: bool = False) -> list[Any]:
    async def run() -> list[Any]:
        layout = Layout(settings.data_dir, BUCKETS)
        reader = open_online_reader(settings.feast_config(), layout)
        return await examine(
            open_stores(settings), reader, settings, is_mending=is_mending, is_idle=True
        )

    return asyncio.run(run())


@dataclass
class Crashes:
    """Kills children of one data folder, one after another."""

    folder: Path
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    # What the doctor found after kills, by what it is.
    found: Counter[str] = field(default_factory=Counter)
    # What went wrong.
    losses: list[str] = field(default_factory=list)
    _durations: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([MODULE])
        self.acks = Acks(self.folder / "acks")
        self.settings = make_store(self.folder).settings
        add_model(Layout(self.settings.data_dir, BUCKETS), self.folder, "m2")

    def run(self, kills: int, verify_every: int) -> None:
        """Kill as often as said, in each step in turn; verify in between and at the end."""
        for number in range(kills):
            self._kill_in(STEPS[number % len(STEPS)], number)
            if number % verify_every == verify_every - 1 or number == kills - 1:
                self._verify(number)

    def _kill_in(self, step: str, number: int) -> None:
        ours, theirs = self._context.Pipe()
        seed = self.seed * 100_000 + number
        child = self._context.Process(
            target=write_for_ever, args=(self.settings, self.acks, seed, theirs)
        )
        child.start()
        theirs.close()
        try:
            began = time.monotonic()
            name = self._next(ours)
            while name != step:
                before, began = name, time.monotonic()
                name = self._next(ours)
                self._durations[before] = time.monotonic() - began
            # Twice the usual: the step after it is hit as well.
            time.sleep(self._rng.uniform(0, 2 * self._durations.get(step, 0.2)))
            os.kill(child.pid or 0, signal.SIGKILL)
        except (EOFError, TimeoutError, ProcessLookupError):
            self.losses.append(f"kill {number}: the writer stopped by itself before {step}")
        finally:
            child.kill()
            child.join()
        self.kills[step] += 1
        found, left = self._ask(mend, self.settings)
        self.found.update(found)
        self.losses += [f"kill {number} in {step}: doctor left {one}" for one in left]

    def _verify(self, number: int) -> None:
        told = self._ask(verify, self.settings, self.acks)
        for name in ("lost", "doubled", "erased but there", "published by half"):
            if told[name]:
                self.losses.append(f"after kill {number}: {name}: {str(told[name])[:300]}")
        for one in told["found by the doctor"]:
            self.losses.append(f"after kill {number}, refreshed: {one}")
        if told["rejects"]:
            self.losses.append(f"after kill {number}: {told['rejects']} rejects of good events")
        live = FolderRegistry(Layout(self.settings.data_dir, BUCKETS)).live(DEFAULT_TENANT)
        if live.model_version not in ("m1", "m2"):
            self.losses.append(f"after kill {number}: {live.model_version} is live")
        self.acknowledged = int(told["acknowledged"])

    def _ask(self, work: Any, *args: Any) -> Any:
        ours, theirs = self._context.Pipe()
        child = self._context.Process(target=work, args=(*args, theirs))
        child.start()
        theirs.close()
        try:
            return self._next(ours)
        finally:
            child.join(LIMIT_S)

    @staticmethod
    def _next(pipe: Connection) -> Any:
        if not pipe.poll(LIMIT_S):
            raise TimeoutError
        return pipe.recv()
