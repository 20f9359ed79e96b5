"""Keys that are hashed, found by their id, and end."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from services.core.access import Scope
from services.core.errors import DependencyUnavailable, InvalidArgument
from services.store.api_keys import KeyFile, KeyRing

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
READ = frozenset({Scope.READ})


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "keys.json")


def create(file, **changes):
    given = {"tenant": "acme", "scopes": READ, "name": "shop", "now": NOW}
    return file.create(**(given | changes))


def ring(tmp_path) -> KeyRing:
    made = KeyRing(tmp_path / "keys.json")
    made.reload()
    return made


def test_a_key_opens_its_tenant_with_its_scopes(file, tmp_path):
    made = create(file, calls_per_s=7.0, max_concurrent_calls=3)
    principal = ring(tmp_path).principal(made.secret, NOW.timestamp())
    assert (principal.tenant, principal.scopes, principal.key_id) == (
        "acme", READ, made.row.key_id,
    )  # fmt: skip
    assert (principal.calls_per_s, principal.max_concurrent_calls) == (7.0, 3)


def test_the_secret_is_nowhere_but_in_the_makers_hand(file, tmp_path):
    made = create(file)
    secret = made.secret[21:]
    assert len(secret) == 43
    for path in tmp_path.iterdir():
        assert secret.encode() not in path.read_bytes()
    assert secret not in repr(made)
    assert secret not in repr(file.list())


def test_equal_secrets_would_have_different_hashes(file, tmp_path):
    create(file), create(file)
    rows = json.loads((tmp_path / "keys.json").read_text())["keys"].values()
    assert len({row["salt"] for row in rows}) == 2


def test_only_its_owner_can_read_the_file(file, tmp_path):
    create(file)
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: "",
        lambda key: key[:-1],
        lambda key: key + "A",
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: "dlk_" + "0" * 16 + key[20:],
        lambda key: key.upper(),
        lambda key: key + "\n",
        lambda key: "dlk_../../etc_" + key[21:],
    ],
)
def test_anything_but_the_key_itself_opens_nothing(file, tmp_path, spoil):
    made = create(file)
    assert ring(tmp_path).principal(spoil(made.secret), NOW.timestamp()) is None


def test_a_key_ends_at_its_expiry(file, tmp_path):
    made = create(file, expires_time=NOW + timedelta(hours=1))
    keys = ring(tmp_path)
    assert keys.principal(made.secret, NOW.timestamp() + 3599)
    assert keys.principal(made.secret, NOW.timestamp() + 3600) is None
    with pytest.raises(InvalidArgument, match="past"):
        create(file, expires_time=NOW)


def test_a_rotated_key_works_beside_its_successor_for_the_grace(file, tmp_path):
    old = create(file, calls_per_s=5.0)
    new = file.rotate(old.row.key_id, now=NOW, grace=timedelta(hours=1))
    keys = ring(tmp_path)
    for key in (old, new):
        assert keys.principal(key.secret, NOW.timestamp() + 60)
    assert keys.principal(old.secret, NOW.timestamp() + 3601) is None
    after = keys.principal(new.secret, NOW.timestamp() + 3601)
    assert (after.tenant, after.scopes, after.calls_per_s) == ("acme", READ, 5.0)
    with pytest.raises(InvalidArgument, match="is expired"):
        file.rotate(old.row.key_id, now=NOW + timedelta(hours=2), grace=timedelta(0))


def test_a_revoked_key_is_refused_after_the_next_look_and_stays_listed(file, tmp_path):
    made, kept = create(file), create(file)
    keys = ring(tmp_path)
    file.revoke(made.row.key_id, now=NOW)
    assert keys.reload()
    assert keys.principal(made.secret, NOW.timestamp()) is None
    assert keys.principal(kept.secret, NOW.timestamp())
    assert {row.key_id: row.state(NOW) for row in file.list()} == {
        made.row.key_id: "revoked",
        kept.row.key_id: "active",
    }
    assert file.revoke(made.row.key_id, now=NOW + timedelta(days=1)).revoked_time == NOW


def test_an_unchanged_file_is_not_read_again(file, tmp_path):
    create(file)
    keys = ring(tmp_path)
    assert not keys.reload()
    create(file)
    assert keys.reload()
    assert len(keys) == 2


def test_a_file_that_is_gone_holds_no_keys(file, tmp_path):
    made = create(file)
    keys = ring(tmp_path)
    (tmp_path / "keys.json").unlink()
    assert keys.reload()
    assert keys.principal(made.secret, NOW.timestamp()) is None


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"version": 9, "keys": {}}', '{"version": 1, "keys": {"a": {"tenant": "t"}}}'],
)
def test_a_damaged_file_leaves_the_keys_that_were_read(file, tmp_path, content):
    made = create(file)
    keys = ring(tmp_path)
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(DependencyUnavailable, match="keys"):
        keys.reload()
    assert keys.principal(made.secret, NOW.timestamp())


def test_a_key_that_is_not_there_is_named_as_such(file):
    for change in (
        lambda: file.revoke("0" * 16, now=NOW),
        lambda: file.rotate("0" * 16, now=NOW, grace=timedelta(0)),
    ):
        with pytest.raises(InvalidArgument, match="keys list"):
            change()
    with pytest.raises(InvalidArgument, match="read, write or admin"):
        create(file, scopes=frozenset())


def test_an_unknown_id_takes_as_long_as_a_wrong_secret(file, tmp_path):
    made = create(file)
    keys = ring(tmp_path)
    wrong = made.secret[:-1] + ("A" if made.secret[-1] != "A" else "B")
    unknown = "dlk_" + "0" * 16 + made.secret[20:]

    def fastest(key: str) -> float:
        times = []
        for _ in range(2000):
            started = time.perf_counter_ns()
            keys.principal(key, 0.0)
            times.append(time.perf_counter_ns() - started)
        return sorted(times)[len(times) // 4]

    pairs = [fastest(wrong) / fastest(unknown) for _ in range(5)]
    assert 0.6 < sorted(pairs)[2] < 1.7, pairs
