"""The one straight way of a call: rule, identity, admission, quota, decision.

`decide` turns every refusal and every trouble into a `Decision`, at one place. What it needs from the world it
names here as small protocols; it knows no adapter by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from authsvc.core import callers, keeping, ratelimit, rbac, receipt, response, stepup, window
from authsvc.core.calls import Call, Calls, asked, wanted
from authsvc.core.claims import ClaimPath
from authsvc.core.identify import Identifier, Way
from authsvc.core.model import Decision, Identity, Other, Quota, Reason, Refused, Request, Unavailable
from authsvc.core.provider import Provider


class Counters(Protocol):
    """Where calls are counted."""

    def spend(self, charge: ratelimit.Charge, now: float) -> tuple[Quota, ...]:
        """Count a call in all windows of its tier, or where one refuses, in none. Raises `Unavailable` where it must
        be counted and cannot; where it need not, nothing is said of any window."""
        ...


class _Trail(Decision):
    """A decision in the making, so that a refusal says all that is known so far. It begins as a refusal.

    Its fields begin as those of `Decision`. They are written out, for mypyc compiles nothing that a dataclass makes.
    """

    __slots__ = ("headers", "rules", "way")

    def __init__(self) -> None:
        self.reason = Reason.INTERNAL_ERROR
        self.path = self.provider = self.rule = self.tier = self.shadow = self.receipt = self.link = ""
        self.detail = self.next_step = ""
        self.identity = self.named = self.other = self.ignored = self.retry_after_s = self.step_up = None
        self.quotas, self.notices, self.wanted = (), (), ()
        self.keep_s = 0
        self.prepared = self.asked = self.digest = None
        self.way = Way()
        self.rules: tuple[rbac.Rule, ...] = ()
        self.headers: response.Headers | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """Everything a decision depends on. A reload builds a new gate."""

    who: Identifier
    policy: rbac.Policy
    limits: ratelimit.Limits
    extract: Mapping[str, ClaimPath]
    counters: Counters
    receipts: receipt.Receipts = field(default_factory=receipt.Receipts, repr=False, compare=False)
    calls: Calls = field(default_factory=Calls, repr=False, compare=False)
    # the one of `counters`: mypyc would look for it at each call
    _spend_in: Callable[[ratelimit.Charge, float], tuple[Quota, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_spend_in", self.counters.spend)

    def decide(self, request: Request, now: float) -> tuple[Decision, response.Headers]:
        """The decision, and the identity headers that go with a yes. Never raises what a request could cause, but for
        `MustWait` where the request may not wait, and `Forgotten` where it brings no credential but what was known."""
        trail = _Trail()
        try:
            trail.reason = self._walk(request, now, trail)
        except Refused as refused:
            _refuse(trail, refused)
        except Unavailable as trouble:
            trail.reason, trail.detail, trail.retry_after_s = trouble.reason, trouble.detail, trouble.retry_after_s
        way = trail.way
        trail.provider, trail.notices, trail.link = way.provider, way.notices, way.link
        if trail.retry_after_s is None:
            trail.retry_after_s = way.retry_after_s
        trail.digest, trail.prepared = way.digest, way.known
        if way.other is not None:
            trail.other = self._compared(trail, now)
        return trail, trail.headers or [] if trail.allowed else []

    def _walk(self, request: Request, now: float, trail: _Trail) -> Reason:
        call = self._call(request, trail)
        if call.public:
            trail.identity = self._optional_identity(request, now, trail)
        else:
            trail.identity = self.who.identify(request, now, trail.way)
        known = trail.way.known
        charges = None if known is None else known.charges(call.key)
        if not call.public and (charges is None or call.ages):  # who was charged by these rules was admitted by them
            self._admit(call, trail, now)
        trail.headers = self._headers(trail)
        self._spend(request, self._charges(request, call, trail) if charges is None else charges, now, trail)
        if call.keep_s and not trail.tier:  # who is counted, even in shadow, is asked about each time
            trail.keep_s = keeping.seconds(call.keep_s, self.who.good_until(request, trail.way, now), now)
        trail.asked = call.prepared  # not of a refusal, which may be by another of its rules
        return Reason.PUBLIC if call.public else Reason.ALLOWED

    def _call(self, request: Request, trail: _Trail) -> Call:
        """What is asked, and by which rules it is judged."""
        call = self.calls.known(request) or self._new_call(request, trail)
        trail.path, trail.rules, trail.rule, trail.wanted = call.path, call.rules, call.rules[-1].name, call.wanted
        return call

    def _new_call(self, request: Request, trail: _Trail) -> Call:
        method, found = asked(request)
        trail.path = " -> ".join(found)
        call = Call(trail.path, tuple(self._rule(method, path, trail) for path in found))
        self.calls.remember(request, call)
        return call

    def _admit(self, call: Call, trail: _Trail, now: float) -> None:
        assert trail.identity is not None
        for rule in call.rules:
            trail.rule, trail.wanted = rule.name, wanted(rule)
            _admit(rule, trail.identity, trail.way.by, now)

    def _compared(self, trail: _Trail, now: float) -> Other:
        """What the credential that was not in force would have brought about, but for limits."""
        other, ours = trail.way.other, trail.identity
        assert other is not None
        method = "oidc" if trail.way.by is callers.KEYS else "api_key"
        if not isinstance(other, Identity):
            passes = all(rule.public for rule in trail.rules)  # there it would have been ignored
            differs = ("refused",) if _passed(trail) is not passes else ()
            return Other(method, other.reason, other.named if isinstance(other, Refused) else None, differs)
        reason = self._admitted(trail.rules, other, now)
        differences = {
            "refused": _passed(trail) is not (reason is Reason.ALLOWED),
            "roles": ours is not None and set(other.roles) != set(ours.roles),
            "tier": ours is not None and self._tier(other) != self._tier(ours),
        }
        return Other(method, reason, other, tuple(name for name, differs in differences.items() if differs))

    def _tier(self, identity: Identity) -> str:
        tier = ratelimit.tier_for(self.limits, identity)
        return tier.name if tier else ""

    def _admitted(self, rules: tuple[rbac.Rule, ...], identity: Identity, now: float) -> Reason:
        try:
            for rule in () if all(rule.public for rule in rules) else rules:
                _admit(rule, identity, self.who.provider(identity), now)
            response.identity_headers(identity, self.extract)  # which may be too large
        except Refused as refused:
            return refused.reason
        return Reason.ALLOWED

    def _rule(self, method: str, path: str, trail: _Trail) -> rbac.Rule:
        rule = rbac.rule_for(self.policy, method, path)
        trail.rule, trail.wanted = rule.name, wanted(rule)
        return rule

    def _optional_identity(self, request: Request, now: float, trail: _Trail) -> Identity | None:
        """On a public path a good credential is forwarded, a bad one is ignored and counted."""
        try:
            return self.who.identify(request, now, trail.way)
        except (Refused, Unavailable) as trouble:
            trail.way = Way()
            trail.ignored = None if trouble.reason is Reason.NO_CREDENTIALS else trouble.reason
            return None

    def _headers(self, trail: _Trail) -> response.Headers:
        """What the API is told of the caller; of a remembered credential it is rendered once."""
        known = trail.way.known
        if known is None:
            return response.identity_headers(trail.identity, self.extract)
        if known.headers is None:
            known.headers = response.identity_headers(trail.identity, self.extract)
        return known.headers

    def _charges(self, request: Request, call: Call, trail: _Trail) -> tuple[ratelimit.Charge, ...]:
        """What the call is charged to; for a remembered credential and the same rules it is always the same."""
        known, spendings = trail.way.known, [rule.spending for rule in call.rules]
        found = ratelimit.charges(self.limits, spendings, trail.identity, request.client_ip)
        if known is not None and not self.limits.by_address:
            known.admit(call.key, found)
        return found

    def _spend(self, request: Request, charges: tuple[ratelimit.Charge, ...], now: float, trail: _Trail) -> None:
        """Count the call, once however often nginx asks about it."""
        for charge in charges:
            trail.tier = charge.tier.name
            quotas = self._counted(request, charge, now) if request.receipt else self._count(charge, now)
            refusal = window.refused(quotas)
            if refusal is None:
                made = self.receipts.issue(request.id, charge, quotas, now, request.plain_id)
                earlier = trail.receipt or request.receipt
                trail.receipt = receipt.add(earlier, made) if earlier else made
            if charge.tier.shadow:  # the caller does not see it
                trail.shadow = charge.tier.name if refusal else trail.shadow
                continue
            trail.quotas += quotas
            if refusal is not None:
                raise Refused(Reason.RATE_LIMITED, _used_up(charge, refusal))

    def _counted(self, request: Request, charge: ratelimit.Charge, now: float) -> tuple[Quota, ...]:
        """Of a call that was counted before an internal redirect only what it costs more now. Raises `Unavailable`."""
        paid = self.receipts.redeem(request.receipt, request.id, charge, now)
        if paid.cost >= charge.cost:
            return paid.quotas
        return self._count(ratelimit.at_cost(charge, charge.cost - paid.cost), now)

    def _count(self, charge: ratelimit.Charge, now: float) -> tuple[Quota, ...]:
        try:
            return self._spend_in(charge, now)
        except Unavailable:
            if not charge.tier.shadow:
                raise
            return ()  # shadow refuses nobody


def _admit(rule: rbac.Rule, identity: Identity, by: Provider | None, now: float) -> None:
    assert by is not None
    rbac.admit(rule, identity)
    stepup.check(rule.asks.strength, identity, by, now)


def _passed(decision: Decision) -> bool:
    """Whether the caller was whom the rules want; a limit is another matter."""
    return decision.allowed or decision.reason in (Reason.RATE_LIMITED, Reason.LIMITS_UNAVAILABLE)


def _used_up(charge: ratelimit.Charge, refusal: Quota) -> str:
    rate = ratelimit.Rate(refusal.policy.limit, refusal.policy.window_s)
    too_much = f"has no room for a call that counts {charge.cost}" if charge.cost > 1 else "is used up"
    return f"tier {charge.tier.name}: {rate} {too_much}"


def _refuse(trail: _Trail, refused: Refused) -> None:
    trail.reason, trail.detail, trail.next_step = refused.reason, refused.detail, refused.next_step
    trail.step_up, trail.named = refused.step_up, refused.named
    if refused.reason is Reason.RATE_LIMITED and (refusal := window.refused(trail.quotas)):
        trail.retry_after_s = refusal.reset_s
