"""The gatekeeper's clock: what has expired stays so, whatever the machine's clock does."""

from datetime import UTC, datetime, timedelta

import pytest

from services.core.access import Scope
from services.core.errors import Unauthenticated
from services.runtime.guard import Gatekeeper
from services.runtime.tokens import Tokens
from services.store.api_keys import KeyFile, KeyRing
from tests.runtime.test_tokens import NOW, RULES, Issuer

AT = datetime.fromtimestamp(NOW, UTC)


async def test_a_clock_that_is_set_back_lets_no_expired_credential_in(tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    old = keys.create(tenant="default", scopes=frozenset({Scope.READ}), name="old", now=AT)
    keys.rotate(old.row.key_id, now=AT, grace=timedelta(hours=1))
    wall = [NOW]
    gate = Gatekeeper(KeyRing(tmp_path / "keys.json"), clock=lambda: wall[0])
    await gate.start()
    header = f"Bearer {old.secret}"
    assert gate.principal(header).tenant == "default"
    wall[0] = NOW + 3600
    with pytest.raises(Unauthenticated):
        gate.principal(header)
    wall[0] = NOW
    with pytest.raises(Unauthenticated):
        gate.principal(header)


def test_a_token_that_expired_is_none_though_the_librarys_clock_is_behind():
    issuer = Issuer()
    tokens = Tokens(RULES)
    tokens.use(issuer.key_set())
    # By the machine's clock, which PyJWT asks, it is good for years.
    token = issuer.token(exp=datetime.now(UTC).timestamp() + 1e8)
    late = datetime.now(UTC).timestamp() + 1e8 + RULES.leeway_s
    assert tokens.principal(token, late - 1, lambda: None)
    fresh = Tokens(RULES)
    fresh.use(issuer.key_set())
    assert fresh.principal(token, late, lambda: None) is None
