"""Keys go at once; the server's dump is written anew."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from services.core.errors import DependencyUnavailable
from services.store.redis_erasure import delete_hashes, scrub


def test_deleted_keys_leave_the_dump_that_the_server_had_written(valkey):
    with redis.Redis.from_url(valkey) as client:
        client.hset("somebody-to-forget", mapping={"a": "1", "b": "2"})
        client.hset("other", "a", "1")
        client.save()
        folder, name = (client.config_get(key)[key] for key in ("dir", "dbfilename"))
        dump = Path(folder) / name
        assert b"somebody-to-forget" in dump.read_bytes()
        assert delete_hashes(valkey, [b"somebody-to-forget", b"nobody"]) == [2, 0]
        assert scrub(valkey, datetime.now(UTC)) == ""
        assert b"somebody-to-forget" not in dump.read_bytes()
        assert client.hgetall("other") == {b"a": b"1"}


def test_a_server_that_lets_nobody_save_leaves_the_receipt_pending(valkey):
    with redis.Redis.from_url(valkey) as client:
        client.save()
        client.acl_setuser(
            "weak", enabled=True, nopass=True, commands=["+@all", "-bgsave"], keys=["*"]
        )
        weak = valkey.replace("redis://", "redis://weak:any@")
        assert "does not let us" in scrub(weak, datetime.now(UTC))


def test_a_server_that_is_gone_is_named(free_port):
    with pytest.raises(DependencyUnavailable, match="Redis"):
        scrub(f"redis://127.0.0.1:{free_port}/0", datetime.now(UTC))
