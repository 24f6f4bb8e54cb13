"""Limits: which tier an identity is in, and the arithmetic of a sliding window over two counters.

The window slides: what was admitted in the previous window weighs less as the current one passes. A call counts
first and is decided on the value that the atomic count returned, so callers at once never get more than the limit.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from dataclasses import dataclass
from typing import Any

from authsvc.core.claims import ClaimPath, as_text, claim_at
from authsvc.core.model import Identity, Quota

PERIODS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, slots=True)
class Tier:
    """A named limit. `limit` of `None` is unlimited; `value` is what `claim` must be, or hold as a list."""

    name: str
    limit: int | None
    window_s: int = 3600
    claim: ClaimPath | None = None
    value: str = ""

    @property
    def rate(self) -> float:
        """Calls a second; what makes one tier stricter than another."""
        return math.inf if self.limit is None else self.limit / self.window_s


@dataclass(frozen=True, slots=True)
class Limits:
    """The tiers in their order, whom they count (a `claim`, or the user), and the limit without identity."""

    tiers: tuple[Tier, ...] = ()
    claim: ClaimPath | None = None
    anonymous: Tier | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The two counters of one subject at one moment. `elapsed` is the share of the current window gone by."""

    current: str
    previous: str
    elapsed: float
    ttl_s: int


def parse_rate(text: str) -> tuple[int | None, int]:
    """`100/hour` as (100, 3600); `unlimited` as (None, 3600). Raises `ValueError`."""
    if text == "unlimited":
        return None, 3600
    count, _, period = text.partition("/")
    if not (count.isascii() and count.isdigit() and len(count) <= 12) or period not in PERIODS_S:
        raise ValueError("a limit is N/second, N/minute, N/hour, N/day or unlimited")
    return int(count), PERIODS_S[period]


def tier_for(limits: Limits, identity: Identity | None) -> Tier | None:
    """The first tier whose claim fits; else the one without a claim; else the strictest."""
    if identity is None:
        return limits.anonymous
    for tier in limits.tiers:
        if tier.claim is not None and _fits(claim_at(identity.claims, tier.claim), tier.value):
            return tier
    fallback = [tier for tier in limits.tiers if tier.claim is None] or sorted(limits.tiers, key=lambda t: t.rate)
    return fallback[0] if fallback else None


def _fits(claim: Any, wanted: str) -> bool:
    values = claim if isinstance(claim, list) else [claim]
    return any(as_text(value) == wanted for value in values)


def subject(limits: Limits, identity: Identity | None, client_ip: str | None) -> str:
    """Whom a call counts for. Two providers' equal subjects are two; so are a user and an address."""
    if identity is None:
        return f"ip\0{_network(client_ip or '')}"
    value = as_text(claim_at(identity.claims, limits.claim)) if limits.claim else None
    if not value:  # kept apart: a user must not share a counter with a tenant of the same name
        return f"user\0{identity.provider}\0{identity.key or identity.user_id}"
    return f"claim\0{identity.provider}\0{value}"


def _network(address: str) -> str:
    """An IPv6 caller owns at least a /64: one limit for all of it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""  # not what nginx sends: all of them share one limit
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed.packed, 64), strict=False))


def window(tier: Tier, counted: str, now: float) -> Window:
    """The counters for `counted` at `now`. Names are hashes: no user's text becomes a key."""
    number, into = divmod(now, tier.window_s)
    base = f"{counted}\0{tier.window_s}"
    return Window(
        current=_key(base, int(number)),
        previous=_key(base, int(number) - 1),
        elapsed=into / tier.window_s,
        ttl_s=2 * tier.window_s + 60,  # the previous window is read during the whole of the current one
    )


def _key(base: str, number: int) -> str:
    text = f"{base}\0{number}".encode("utf-8", "surrogatepass")  # JSON may hold half a surrogate pair
    return "authsvc:rate:" + hashlib.sha256(text).hexdigest()[:40]


def judge(tier: Tier, at: Window, counted: int, previous: int) -> Quota:
    """The quota after a call that was counted as the `counted`-th of this window, `previous` in the one before.

    No more than `limit` were admitted in the previous window, so a larger count cannot weigh more than that.
    """
    limit = tier.limit if tier.limit is not None else 0
    carried = min(previous, limit) * (1 - at.elapsed)
    left = limit - math.ceil(carried + counted - 1e-9)
    if left >= 0:
        reset = math.ceil((1 - at.elapsed) * tier.window_s)
        return Quota(tier.name, limit, tier.window_s, left, max(reset, 1))
    wait = _wait(limit, min(counted - 1, limit), min(previous, limit), at.elapsed) * tier.window_s
    return Quota(tier.name, limit, tier.window_s, 0, max(math.ceil(wait), 1), refused=True)


def _wait(limit: int, admitted: int, previous: int, elapsed: float) -> float:
    """Share of a window until one more call fits: in this window as the previous fades, or in the next."""
    if limit < 1:
        return 1 - elapsed
    room = limit - admitted - 1
    if room >= 0 and previous > 0:
        return max(1 - room / previous - elapsed, 0)
    return 1 - elapsed + max(1 - (limit - 1) / max(admitted, 1), 0)
