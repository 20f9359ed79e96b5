"""Buckets and places of one credential and one tenant."""

import pytest

from services.core.access import Principal
from services.core.errors import Overloaded
from services.runtime import quotas
from services.runtime.quotas import QuotaConfig, Quotas


def caller(key_id="k", tenant="acme", **changes) -> Principal:
    return Principal(tenant=tenant, scopes=frozenset(), key_id=key_id, **changes)


def test_a_bucket_holds_two_seconds_and_fills_again_and_says_when():
    limits = Quotas(QuotaConfig(calls_per_s=10.0))
    for _ in range(20):
        limits.leave(caller(), limits.enter(caller(), 100.0))
    with pytest.raises(Overloaded, match="10 calls a second by one key") as caught:
        limits.enter(caller(), 100.0)
    assert caught.value.retry_after_s == pytest.approx(0.1)
    with pytest.raises(Overloaded):
        limits.enter(caller(), 100.05)
    limits.enter(caller(), 100.11)


def test_a_rest_gives_no_more_than_the_bucket_holds():
    limits = Quotas(QuotaConfig(calls_per_s=1.0))
    limits.enter(caller(), 0.0)
    for _ in range(2):
        limits.enter(caller(), 1_000_000.0)
    with pytest.raises(Overloaded):
        limits.enter(caller(), 1_000_000.0)


def test_calls_at_once_are_counted_in_and_out():
    limits = Quotas(QuotaConfig(max_concurrent_calls=2))
    first, _ = (limits.enter(caller(), 0.0) for _ in range(2))
    with pytest.raises(Overloaded, match="2 calls at once by one key"):
        limits.enter(caller(), 0.0)
    limits.leave(caller(), first)
    limits.enter(caller(), 0.0)


def test_one_key_does_not_use_up_anothers():
    limits = Quotas(QuotaConfig(calls_per_s=1.0, burst_s=1.0, max_concurrent_calls=1))
    limits.enter(caller("a"), 0.0)
    limits.enter(caller("b"), 0.0)
    limits.enter(caller("a", tenant="other"), 0.0)
    with pytest.raises(Overloaded):
        limits.enter(caller("a"), 0.0)


def test_a_key_may_have_limits_of_its_own():
    limits = Quotas(QuotaConfig(calls_per_s=1.0, max_concurrent_calls=1))
    wide = caller(calls_per_s=100.0, max_concurrent_calls=0)
    for _ in range(200):
        limits.enter(wide, 0.0)
    with pytest.raises(Overloaded, match="100 calls a second"):
        limits.enter(wide, 0.0)


def test_a_key_whose_limits_change_keeps_what_it_has_under_way():
    limits = Quotas(QuotaConfig())
    before = limits.enter(caller(max_concurrent_calls=5), 0.0)
    narrowed = caller(max_concurrent_calls=1)
    with pytest.raises(Overloaded):
        limits.enter(narrowed, 0.0)
    limits.leave(narrowed, before)
    limits.enter(narrowed, 0.0)


def test_the_keys_of_one_tenant_share_its_places():
    limits = Quotas(QuotaConfig(tenant_max_concurrent_calls=2))
    held = limits.enter(caller("a"), 0.0)
    limits.enter(caller("b"), 0.0)
    with pytest.raises(Overloaded, match="2 calls at once by one tenant"):
        limits.enter(caller("c"), 0.0)
    limits.enter(caller("c", tenant="other"), 0.0)
    limits.leave(caller("a"), held)
    limits.enter(caller("c"), 0.0)


def test_meters_are_bounded_and_one_in_use_stays(monkeypatch):
    monkeypatch.setattr(quotas, "KEPT", 4)
    limits = Quotas(QuotaConfig(max_concurrent_calls=1))
    limits.enter(caller("busy"), 0.0)
    for number in range(20):
        one = caller(f"k{number}")
        limits.leave(one, limits.enter(one, 0.0))
    assert len(limits._meters) <= 5
    with pytest.raises(Overloaded):
        limits.enter(caller("busy"), 0.0)
