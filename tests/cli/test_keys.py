"""`driftline keys`: a secret is shown once, and the rest of the world sees ids."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.cli.app import console
from services.store.api_keys import KeyRing
from services.store.layout import Layout


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(tmp_path))
    return tmp_path


def run(*words, ok=True):
    done = CliRunner().invoke(app, ["keys", *words])
    assert (done.exit_code == 0) is ok, done.output
    return done


def create(*words):
    done = run("create", "--name=shop", *words)
    return done.stdout.strip()


def whose(store, secret):
    ring = KeyRing(store / "keys.json")
    ring.reload()
    return ring.principal(secret, datetime.now(UTC).timestamp())


def test_a_key_is_made_shown_alone_on_standard_output_and_opens_a_tenant_of_its_own(store):
    secret = create("--tenant=acme", "--scope=read", "--scope=write", "--calls-per-s=5")
    principal = whose(store, secret)
    assert (principal.tenant, sorted(principal.scopes)) == ("acme", ["read", "write"])
    assert principal.calls_per_s == 5
    assert Layout(store, 8).has_tenant("acme")


def test_a_list_has_whole_ids_and_states_but_no_secret_however_narrow_it_is(store, monkeypatch):
    monkeypatch.setattr(console, "width", 80)
    first, second = create("--scope=read"), create("--scope=admin", "--expires-days=30")
    run("revoke", first.split("_")[1])
    listed = run("list").output
    assert first.split("_")[1] in listed
    assert "revoked" in listed
    assert "active" in listed
    for secret in (first, second):
        assert secret[21:] not in listed
        assert secret[21:] not in (store / "keys.json").read_text()


def test_a_rotated_key_gives_way_to_its_successor(store):
    old = create("--scope=read")
    new = run("rotate", old.split("_")[1], "--grace-hours=0").stdout.splitlines()[0]
    assert whose(store, old) is None
    assert whose(store, new).tenant == "default"


@pytest.mark.parametrize(
    "words",
    [
        ["create", "--name=shop"],
        ["create", "--name=shop", "--scope=root"],
        ["create", "--name=a\nb", "--scope=read"],
        ["create", "--name=shop", "--scope=read", "--tenant=../up"],
        ["revoke", "0000000000000000"],
    ],
)
def test_a_mistake_makes_no_key(store, words):
    run(*words, ok=False)
    path = store / "keys.json"
    assert not path.exists() or json.loads(path.read_text())["keys"] == {}
