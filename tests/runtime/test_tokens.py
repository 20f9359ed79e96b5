"""Tokens: only those that the named issuer signed for us, now, by a key of the set."""

import base64
import datetime as dt
import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from services.core.access import Scope
from services.core.errors import DependencyUnavailable
from services.runtime.tokens import TokenRules, Tokens

NOW = 1_800_000_000.0
RULES = TokenRules(issuer="https://id.example", audience="driftline")


class Issuer:
    """Signs tokens, and shows its public key."""

    def __init__(self, key=None, alg="ES256", kid="k1"):
        self.key, self.alg, self.kid = key or ec.generate_private_key(ec.SECP256R1()), alg, kid

    def entry(self, **changes):
        algorithm = jwt.get_algorithm_by_name(self.alg)
        public = json.loads(algorithm.to_jwk(self.key.public_key()))
        return public | {"kid": self.kid, "alg": self.alg, "use": "sig"} | changes

    def key_set(self, **changes) -> bytes:
        return json.dumps({"keys": [self.entry(**changes)]}).encode()

    def token(self, headers=None, **changes) -> str:
        claims = {
            "iss": "https://id.example",
            "aud": "driftline",
            "sub": "app-1",
            "exp": NOW + 600,
            "tenant": "acme",
            "scope": "openid read write",
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.key, self.alg, {"kid": self.kid} | (headers or {}))


@pytest.fixture
def clock(monkeypatch):
    """PyJWT reads the wall clock: make it agree with the test's."""
    at = [NOW]

    class Fixed(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return dt.datetime.fromtimestamp(at[0], tz)

    monkeypatch.setattr("jwt.api_jwt.datetime", Fixed)
    return at


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def tokens(issuer, clock):
    made = Tokens(RULES)
    made.use(issuer.key_set())
    return made


def who(tokens, token, now=NOW, asked=None):
    return tokens.principal(token, now, (lambda: None) if asked is None else asked)


def test_a_token_names_tenant_and_scopes_and_the_log_knows_its_subject_by_a_hash(issuer, tokens):
    principal = who(tokens, issuer.token())
    assert principal.tenant == "acme"
    assert principal.scopes == {Scope.READ, Scope.WRITE}
    assert principal.key_id.startswith("jwt-")
    assert "app-1" not in principal.key_id


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (rsa.generate_private_key(65537, 2048), "RS256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_each_allowed_algorithm_counts(clock, key, alg):
    issuer, tokens = Issuer(key, alg), Tokens(RULES)
    tokens.use(issuer.key_set())
    assert who(tokens, issuer.token())


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 31},
        {"exp": None},
        {"nbf": NOW + 60},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another-service"},
        {"aud": None},
        {"sub": None},
        {"tenant": None},
        {"tenant": "../acme"},
        {"tenant": "acme\n"},
        {"tenant": ["acme"]},
    ],
)
def test_a_token_that_lacks_or_misses_a_claim_is_none(issuer, tokens, changes):
    assert who(tokens, issuer.token(**changes)) is None


def test_clocks_may_differ_a_little(issuer, tokens):
    assert who(tokens, issuer.token(exp=NOW - 20))


def test_a_token_of_another_key_with_the_same_id_is_none(tokens):
    assert who(tokens, Issuer().token()) is None


def test_an_unsigned_or_altered_token_is_none(issuer, tokens):
    head, body, signature = issuer.token().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').decode().rstrip("=")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = base64.urlsafe_b64encode(json.dumps(claims | {"tenant": "b"}).encode()).decode()
    for token in (
        f"{none}.{body}.",
        f"{head}.{other.rstrip('=')}.{signature}",
        f"{head}.{body}.",
        "a.b.c",
        "",
        "." * 9000,
    ):
        assert who(tokens, token) is None


def test_the_public_key_is_no_shared_secret(issuer, tokens):
    """The oldest trick: sign by HMAC with the public key, which everyone knows."""
    pem = issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _, body, _ = issuer.token().split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"k1"}').decode().rstrip("=")
    signature = hmac.digest(pem, f"{head}.{body}".encode(), hashlib.sha256)
    token = f"{head}.{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
    assert who(tokens, token) is None


def test_a_key_that_a_token_brings_along_is_not_looked_at(tokens):
    stranger = Issuer(kid="mine")
    asked = []
    token = stranger.token({"jku": "https://evil.example/keys", "jwk": stranger.entry()})
    assert who(tokens, token, asked=lambda: asked.append(1)) is None
    # It is only noted that the set lacks the key.
    assert asked == [1]


def test_a_token_is_verified_once_remembered_by_its_hash_and_ends_all_the_same(
    issuer, tokens, clock
):
    token = issuer.token()
    assert who(tokens, token) is who(tokens, token)
    assert token not in repr(tokens._verified)
    clock[0] = NOW + 600 + 31
    assert who(tokens, token, now=clock[0]) is None


def test_a_new_key_set_ends_what_the_old_one_signed(issuer, tokens):
    token = issuer.token()
    assert who(tokens, token)
    tokens.use(Issuer(kid="k2").key_set())
    assert who(tokens, token) is None


@pytest.mark.parametrize("scope", ["", None, 7, ["read", 3, "admin"], "reader READ read-all"])
def test_words_that_are_no_scopes_grant_nothing(issuer, tokens, scope):
    principal = who(tokens, issuer.token(scope=scope))
    expected = {Scope.READ, Scope.ADMIN} if isinstance(scope, list) else frozenset()
    assert principal.scopes == expected


def test_a_prefix_tells_our_scopes_from_others(issuer, clock):
    tokens = Tokens(TokenRules(issuer=RULES.issuer, audience="driftline", scope_prefix="drift:"))
    tokens.use(issuer.key_set())
    assert who(tokens, issuer.token(scope="drift:read write")).scopes == {Scope.READ}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"keys": 3}',
        b'{"keys": [null, {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}]}',
        b"[" * 100_000,
        json.dumps(
            {"keys": [Issuer(rsa.generate_private_key(65537, 1024), "RS256").entry()]}
        ).encode(),
        Issuer().key_set(use="enc"),
        Issuer().key_set(alg="HS256"),
    ],
    ids=[
        "empty", "a list", "a number", "a secret", "nested without end", "a short key",
        "for encryption", "of another algorithm",
    ],
)  # fmt: skip
def test_a_set_without_a_usable_key_is_refused_whole(content):
    with pytest.raises(DependencyUnavailable, match="key set"):
        Tokens(RULES).use(content)


def test_the_memory_of_tokens_is_bounded(issuer, tokens, monkeypatch):
    monkeypatch.setattr("services.runtime.tokens.REMEMBERED", 3)
    for number in range(5):
        assert who(tokens, issuer.token(sub=f"app-{number}"))
    assert len(tokens._verified) == 3
