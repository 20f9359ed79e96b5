"""What one credential, and one tenant, may ask of one server process: calls a second, and calls at once."""

from collections import OrderedDict
from dataclasses import dataclass

from services.core.access import Principal
from services.core.errors import Overloaded

# Credentials whose buckets are kept; one that was not seen for longest and is idle starts anew.
KEPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaConfig:
    """Limits of a key that names none of its own, and of a tenant; 0 is no limit."""

    # Sustained calls a second; a bucket holds `burst_s` seconds of them.
    calls_per_s: float = 0.0
    burst_s: float = 2.0
    # Calls at once.
    max_concurrent_calls: int = 0
    tenant_max_concurrent_calls: int = 0


@dataclass(slots=True)
class Meter:
    """What a credential uses now."""

    calls_per_s: float
    max_concurrent_calls: int
    # Calls that may start at once.
    depth: float
    # Calls left in the bucket, at the instant it was looked at last.
    left: float
    at: float
    in_flight: int = 0


class Quotas:
    """Counts calls in and out. Used from one event loop."""

    def __init__(self, config: QuotaConfig) -> None:
        self._config = config
        self._meters: OrderedDict[tuple[str, str], Meter] = OrderedDict()
        self._of_tenant: dict[str, int] = {}

    def enter(self, principal: Principal, now: float) -> Meter:
        """Count a call in; whoever calls this gives the meter to `leave`.

        Args:
            principal: who calls.
            now: seconds of a clock that never steps back.

        Raises:
            Overloaded: at one of the limits; it says when to try again.
        """
        meter = self._meter(principal, now)
        if meter.max_concurrent_calls and meter.in_flight >= meter.max_concurrent_calls:
            raise Overloaded(f"{meter.max_concurrent_calls} calls at once by one key", 0.1)
        most = self._config.tenant_max_concurrent_calls
        tenant = principal.tenant
        if most and self._of_tenant.get(tenant, 0) >= most:
            raise Overloaded(f"{most} calls at once by one tenant", 0.1)
        if meter.calls_per_s:
            meter.left = min(meter.depth, meter.left + (now - meter.at) * meter.calls_per_s)
            meter.at = now
            if meter.left < 1.0:
                wait_s = (1.0 - meter.left) / meter.calls_per_s
                raise Overloaded(f"{meter.calls_per_s:g} calls a second by one key", wait_s)
            meter.left -= 1.0
        meter.in_flight += 1
        if most:
            self._of_tenant[tenant] = self._of_tenant.get(tenant, 0) + 1
        return meter

    def leave(self, principal: Principal, meter: Meter) -> None:
        """Count a call out."""
        meter.in_flight -= 1
        if self._config.tenant_max_concurrent_calls:
            self._of_tenant[principal.tenant] -= 1

    def _meter(self, principal: Principal, now: float) -> Meter:
        name = (principal.tenant, principal.key_id)
        meter = self._meters.get(name)
        calls_per_s, at_once = self._limits(principal)
        if meter is None:
            depth = self._depth(calls_per_s)
            meter = self._meters[name] = Meter(calls_per_s, at_once, depth, depth, now)
            self._forget_idle()
        elif (meter.calls_per_s, meter.max_concurrent_calls) != (calls_per_s, at_once):
            # The same meter: calls under way will leave it.
            meter.calls_per_s, meter.max_concurrent_calls = calls_per_s, at_once
            meter.depth = meter.left = self._depth(calls_per_s)
            meter.at = now
        return meter

    def _depth(self, calls_per_s: float) -> float:
        return max(1.0, calls_per_s * self._config.burst_s)

    def _limits(self, principal: Principal) -> tuple[float, int]:
        rate, at_once = principal.calls_per_s, principal.max_concurrent_calls
        return (
            self._config.calls_per_s if rate is None else rate,
            self._config.max_concurrent_calls if at_once is None else at_once,
        )

    def _forget_idle(self) -> None:
        """Keep the number of meters bounded; one with calls under way is never dropped."""
        for _ in range(len(self._meters) - KEPT):
            name, meter = self._meters.popitem(last=False)
            if meter.in_flight:
                self._meters[name] = meter
