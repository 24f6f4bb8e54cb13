"""Limits in words: rates, tiers, whom a call counts for, and what a call is charged to. The arithmetic is window.py."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from authsvc.core.claims import ClaimPath, Condition, as_text, claim_at
from authsvc.core.model import Identity, QuotaPolicy

PERIODS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
MAX_PERIOD_S = 365 * 86400
_RATE = re.compile(
    r"(?P<limit>\d{1,12})/(?P<times>\d{0,8}) ?(?P<unit>second|minute|hour|day)s?(?: burst (?P<burst>\d{1,12}))?",
    re.ASCII,
)
ByKind = Literal["user_id", "client_id", "tenant", "api_key", "ip", "claim"]


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls in a period of so many seconds."""

    limit: int
    period_s: int = 3600

    def __str__(self) -> str:
        return f"{self.limit}/{period(self.period_s)}"


@dataclass(frozen=True, slots=True)
class Tier:
    """A named limit. Without rates it is unlimited; `when` says whose it is, everybody else's without it. `policies` is
    what its callers are told of it.

    In `shadow` nobody is refused, and it is told who would have been.
    """

    name: str
    rates: tuple[Rate, ...] = ()
    when: Condition | None = None
    shadow: bool = False
    policies: tuple[QuotaPolicy, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", policies(self.name, self.rates))

    @property
    def pace(self) -> float:
        """Calls a second in the long run; what makes one tier stricter than another."""
        return min((rate.limit / rate.period_s for rate in self.rates), default=math.inf)


@dataclass(frozen=True, slots=True)
class Spending:
    """What a rule says of limits: how many calls one counts as (0: none is counted), and a limit of its own in place of
    the tier's."""

    cost: int = 1
    own: Tier | None = None


@dataclass(frozen=True, slots=True)
class By:
    """One thing that callers are told apart by; `claim` belongs to the kind claim."""

    kind: ByKind = "user_id"
    claim: ClaimPath = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """The tiers in their order, what calls are counted by, and the limit of callers without identity."""

    tiers: tuple[Tier, ...] = ()
    by: tuple[By, ...] = (By(),)
    anonymous: Tier | None = None
    ipv6_prefix: int = 64

    @property
    def by_address(self) -> bool:
        """Whether the same caller is another one at another address."""
        return any(by.kind == "ip" for by in self.by)


@dataclass(frozen=True, slots=True)
class Charge:
    """One call, `cost` calls' worth, on a tier. `subject` is a hash of `who`, under which it is counted. `pot` tells
    subjects and tiers apart, `key` costs too. `held` is a place for what whoever counts found by `pot`, `stamp` for
    what its receipts begin with, which `stamped_by` made for the epoch `stamped_in`."""

    # first what is looked at in each call of a caller who comes again: it lies together
    held: Any = field(default=None, init=False, repr=False, compare=False)
    stamp: str = field(default="", init=False, repr=False, compare=False)
    stamped_in: int = field(default=0, init=False, repr=False, compare=False)
    stamped_by: Any = field(default=None, init=False, repr=False, compare=False)
    tier: Tier
    subject: str
    who: str = field(repr=False)
    cost: int = 1
    pot: str = field(init=False, repr=False, compare=False)
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pot", f"{self.subject}:{self.tier.name}")
        object.__setattr__(self, "key", f"{self.subject}:{self.cost}:{self.tier.name}")

    def hold(self, found: object) -> None:
        object.__setattr__(self, "held", found)

    def keep_stamp(self, stamp: str, epoch: int, by: object) -> None:
        object.__setattr__(self, "stamp", stamp)  # first: who finds the marks finds this stamp, or a later one
        object.__setattr__(self, "stamped_in", epoch)
        object.__setattr__(self, "stamped_by", by)


def period(seconds: int) -> str:
    """3600 as `hour`, 900 as `15minutes`."""
    unit, length = next((u, s) for u, s in reversed(PERIODS_S.items()) if seconds % s == 0)
    times = seconds // length
    return unit if times == 1 else f"{times}{unit}s"


def policies(tier: str, rates: Sequence[Rate]) -> tuple[QuotaPolicy, ...]:
    """The windows of a tier as its callers are told of them: of its own name where there is one."""
    if len(rates) == 1:
        return (QuotaPolicy(tier, rates[0].limit, rates[0].period_s),)
    return tuple(QuotaPolicy(f"{tier}-{period(one.period_s)}", one.limit, one.period_s) for one in rates)


def parse_rate(text: str) -> tuple[Rate, ...]:
    """`100/hour`, `100/15minutes`, `100/hour burst 20` or `unlimited`, which is no rate at all. Raises `ValueError`.

    A burst is a second window: no more than so many in the time in which the first one has room for as many.
    """
    if text == "unlimited":
        return ()
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError("a limit is N/second, N/minute, N/hour, N/day, N/15minutes, N/hour burst M, or unlimited")
    rate = Rate(int(found["limit"]), int(found["times"] or 1) * PERIODS_S[found["unit"]])
    if not 1 <= rate.period_s <= MAX_PERIOD_S:
        raise ValueError("the period of a limit is 1 second to 365 days")
    return (rate,) if found["burst"] is None else (rate, _burst(rate, int(found["burst"])))


def _burst(rate: Rate, burst: int) -> Rate:
    """Its time is rounded down: rounded up, the burst would be the stricter limit of the two in the long run."""
    if not 0 < burst < rate.limit:
        raise ValueError("the burst of a limit is less than the limit, and at least 1")
    if rate.period_s * burst < rate.limit:
        raise ValueError(
            f"the burst of this limit is at least {math.ceil(rate.limit / rate.period_s)}, a second's worth"
        )
    return Rate(burst, rate.period_s * burst // rate.limit)


def tier_for(limits: Limits, identity: Identity | None) -> Tier | None:
    """The first tier whose condition holds; else the one without any; else the strictest."""
    if identity is None:
        return limits.anonymous
    for tier in limits.tiers:
        if tier.when is not None and tier.when.holds(identity.claims):
            return tier
    fallback = [tier for tier in limits.tiers if tier.when is None] or sorted(limits.tiers, key=lambda t: t.pace)
    return fallback[0] if fallback else None


def charges(
    limits: Limits, spendings: Iterable[Spending], identity: Identity | None, client_ip: str | None
) -> tuple[Charge, ...]:
    """What a call under these rules is charged to: once to each tier, at the highest cost."""
    found: dict[str, Charge] = {}
    who: list[list[str]] | None = None
    for spending in spendings:
        tier = spending.own or tier_for(limits, identity)
        if spending.cost == 0 or tier is None or not tier.rates:
            continue
        who = who or whom(limits, identity, client_ip)
        made = charge(tier, who + [["rule", tier.name]] if spending.own else who, spending.cost)
        known = found.setdefault(tier.name, made)
        found[tier.name] = made if made.cost > known.cost else known
    return tuple(found.values())


def charge(tier: Tier, who: list[list[str]], cost: int = 1) -> Charge:
    """The charge. No text of a caller becomes a counter's name, and no two callers share one."""
    text = json.dumps(who)
    return Charge(tier, hashlib.blake2b(text.encode(), digest_size=16).hexdigest(), text, cost)


def at_cost(given: Charge, cost: int) -> Charge:
    """The same charge at another cost."""
    return given if given.cost == cost else replace(given, cost=cost)


def whom(limits: Limits, identity: Identity | None, client_ip: str | None) -> list[list[str]]:
    """Whom a call counts for. Two providers' equal subjects are two; so are a user and a tenant of the same name."""
    if identity is None:
        return [address(limits, client_ip)]
    return [_part(limits, by, identity, client_ip) for by in limits.by]


def address(limits: Limits, client_ip: str | None) -> list[str]:
    """How a client's address is counted. An IPv6 caller owns at least a /64: one limit for all of it."""
    try:
        parsed = ipaddress.ip_address(client_ip or "")
    except ValueError:
        return ["ip", ""]  # not what nginx sends: all of them share one limit
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.version == 4:
        return ["ip", str(parsed)]
    return ["ip", str(ipaddress.ip_network((parsed.packed, limits.ipv6_prefix), strict=False))]


def _part(limits: Limits, by: By, identity: Identity, client_ip: str | None) -> list[str]:
    """Where a caller has no such thing he is counted as the user he is: nobody shares with strangers."""
    if by.kind == "ip":
        return address(limits, client_ip)
    values = {
        "client_id": identity.client,
        "api_key": identity.client if identity.method == "api_key" else "",
        "tenant": ",".join(map(_no_comma, sorted(identity.tenants))),
    }
    value = as_text(claim_at(identity.claims, by.claim)) if by.kind == "claim" else values.get(by.kind)
    if not value:
        return ["user", identity.provider, identity.key or identity.user_id]
    return [by.kind, identity.provider, value, *by.claim]


def _no_comma(tenant: str) -> str:
    """A tenant that is called `a,b` is not the two tenants a and b."""
    return tenant.replace("\\", "\\\\").replace(",", "\\,")
