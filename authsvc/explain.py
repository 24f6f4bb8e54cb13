"""`authsvc explain`: what the gate decided, step by step, in words, and what to do about a no.

It asks the same gate as nginx does and prints its decision; it decides nothing itself and counts nothing.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from authsvc import explainkeys, limitstool
from authsvc.adapters.config import Settings
from authsvc.adapters.keystate import KeyStatus
from authsvc.adapters.store import MemoryStore
from authsvc.adapters.yamlfile import visible
from authsvc.core import jwt, keeping, ratelimit, rbac, strict
from authsvc.core.claims import claim_at
from authsvc.core.identify import Way
from authsvc.core.model import Decision, Identity, Reason, Refused, Request, Unavailable
from authsvc.core.response import Headers, face, render
from authsvc.core.signature import ALGORITHMS
from authsvc.explainkeys import Step, span
from authsvc.nextsteps import FOR_API_KEYS, FOR_KEYS, NEXT_STEPS
from authsvc.service import Service

_ASK_FOR_ALGORITHM = "ask the issuer for RS256 or ES256"
_OF_SCOPES = "the rule asks for the scope"
_SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})
_ABOUT_TIMES = frozenset({Reason.EXPIRED, Reason.NOT_YET_VALID, Reason.ISSUED_IN_FUTURE})
_ABOUT_ROLES = frozenset({Reason.ROLE_REQUIRED, Reason.INSUFFICIENT_SCOPE})
_AT_LIMIT = frozenset({Reason.RATE_LIMITED, Reason.LIMITS_UNAVAILABLE})
_OF_COUNTS = frozenset(
    {
        "X-Auth-Receipt",
        "X-Accel-Expires",
        "RateLimit",
        "RateLimit-Policy",
        *(f"X-RateLimit-{n}" for n in ("Limit", "Remaining", "Reset")),
    }
)
_SHOWN = 10  # of a list of roles, scopes or audiences
_LATE_KEYS_S = 1.0  # a download that was given up ends a moment later, and only then says why


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision in words."""

    decision: Decision
    next_step: str
    steps: list[Step]
    headers: Headers

    @property
    def allowed(self) -> bool:
        return self.decision.allowed

    def as_json(self) -> dict[str, Any]:
        return {
            "allowed": self.allowed,
            "status": face(self.decision.reason).status,
            "reason": self.decision.reason.value,
            "detail": self.decision.detail,
            "next_step": self.next_step,
            "steps": [asdict(step) for step in self.steps],
            "headers": dict(self.headers),
        }

    def as_text(self) -> str:
        marks = {True: "✓", False: "✗", None: "·"}
        lines = [f"{marks[step.passed]} {step.name:<9} {visible(step.text)}" for step in self.steps]
        shown = face(self.decision.reason)
        told = visible(self.decision.detail) or shown.title.lower()
        lines.append(f"\n{shown.status} {self.decision.reason.value}: {told}")
        if self.next_step:
            lines.append(f"next: {self.next_step}")
        return "\n".join([*lines, "", *(f"{name}: {value}" for name, value in self.headers if value)])


def explain(
    settings: Settings, method: str, target: str, token: str | None, ip: str, api_key: str | None = None
) -> Explanation:
    """How this call would be decided now. Downloads the keys of the token's issuer only."""
    now = time.time()
    authorization = None if token is None else f"Bearer {token}"
    service = Service(settings, store=MemoryStore())
    request = Request(method, target, authorization, ip, "explain", api_key=api_key)
    decision, identity_headers = service.gate.decide(request, now)
    _, headers = render(decision, identity_headers)
    ignored = _ignored(service, request, now) if decision.ignored else ""
    words = _Words(service, token)
    decision.detail = words.of(decision.reason, decision.detail, decision)
    if decision.ignored:
        ignored = f"credential ignored: {decision.ignored.value}: {words.of(decision.ignored, ignored)}"
    sent = [_token_step(token, now, words)] if token is not None or api_key is None else []
    sent += [explainkeys.key_step(service.gate.who.api_keys, api_key, now)] if api_key is not None else []
    steps = _steps(settings, f"{method} {decision.path}", decision, sent, ignored, ip)
    counted_nothing = [(name, value) for name, value in headers if name not in _OF_COUNTS]
    return Explanation(decision, _next_step(decision, token, words), steps, counted_nothing)


def _ignored(service: Service, request: Request, now: float) -> str:
    """What was wrong with a credential that a public path did without."""
    try:
        service.gate.who.identify(request, now, Way())
    except (Refused, Unavailable) as trouble:
        return trouble.detail
    return ""


def _next_step(decision: Decision, token: str | None, words: _Words) -> str:
    reason = decision.reason
    if decision.next_step:
        return decision.next_step
    if reason is Reason.UNSUPPORTED_ALGORITHM and _alg(token) not in ALGORITHMS:
        return _ASK_FOR_ALGORITHM
    if reason is Reason.KEYS_UNAVAILABLE:
        return FOR_KEYS.get(words.download().outcome, NEXT_STEPS[reason])
    by_key = decision.identity is not None and decision.identity.method == "api_key"
    return FOR_API_KEYS.get(reason, NEXT_STEPS.get(reason, "")) if by_key else NEXT_STEPS.get(reason, "")


@dataclass(frozen=True, slots=True)
class _Words:
    """Says of a refusal what its own text leaves out."""

    service: Service
    token: str | None

    def of(self, reason: Reason, detail: str, decision: Decision | None = None) -> str:
        if reason in _ABOUT_TIMES:
            return re.sub(r"\b(\d+) s\b", lambda seconds: span(int(seconds[1])), detail)
        if reason in _ABOUT_ROLES and decision and decision.identity and not detail.startswith(_OF_SCOPES):
            return f"the rule asks for {_some(decision.wanted, ' or ')}; {self._roles(decision.identity)}"
        if reason is Reason.UNSUPPORTED_ALGORITHM:
            return _about_alg(_alg(self.token)) or detail
        if reason is Reason.KEYS_UNAVAILABLE:  # a download may end, and say more, just after the call gave up
            return f"{detail.partition('yet: ')[0]}yet: {self._why_no_keys()}"
        return detail

    def _roles(self, identity: Identity) -> str:
        """The caller's roles; where there are none, which claim was looked at."""
        if identity.roles:
            return f"the caller has {_some(identity.roles)}"
        if identity.method == "api_key":
            return "the caller has no role: his key was made without any"
        provider = next(known for known in self.service.settings.providers if known.name == identity.provider)
        claim = " or ".join(".".join(source.path) for source in provider.roles)
        missing = all(claim_at(identity.claims, source.path) is None for source in provider.roles)
        return f"the caller has no role: the token {'has no claim' if missing else 'lists none in'} {claim}"

    def _why_no_keys(self) -> str:
        return self.download().problem or "they came too late for this call, ask again"

    def download(self) -> KeyStatus:
        """How the download of this token's keys went, once it has ended."""
        token = jwt.parse(self.token or "")
        provider = self.service.gate.who.providers.find(token.issuer, token.claims).name
        ends = time.monotonic() + _LATE_KEYS_S
        while (found := self.service.ready()[provider]).outcome == "none" and time.monotonic() < ends:
            time.sleep(0.02)
        return found


def _alg(token: str | None) -> str:
    """The alg that a token's header names, also where it is none that can be verified."""
    try:
        alg = strict.json_object(strict.base64url((token or "").partition(".")[0])).get("alg")
    except ValueError:
        return ""
    return alg[:100] if isinstance(alg, str) else ""


def _about_alg(alg: str) -> str:
    """Why tokens with this algorithm are never verified; empty where some are."""
    if alg in _SYMMETRIC:
        return f"alg {alg} is symmetric: whoever can check such a token could also make one"
    if alg in ALGORITHMS:
        return ""
    return f"alg {alg!r} is none that authsvc verifies" if alg else "the token's header names no alg"


def _some(names: Iterable[str], between: str = ", ") -> str:
    """The first names of a list that may be long."""
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return between.join(listed[:_SHOWN]) + more


def _steps(settings: Settings, call: str, decision: Decision, sent: list[Step], ignored: str, ip: str) -> list[Step]:
    return [
        Step("call", bool(decision.path), call if decision.path else decision.detail),
        _rule_step(settings, decision),
        *sent,
        _identity_step(decision, ignored),
        _admit_step(decision),
        _limit_step(settings, decision, ip),
        *([_kept_step(decision)] if settings.policy.keeps else []),
        *([explainkeys.other_step(decision, decision.other)] if decision.other else []),
    ]


def _rule_step(settings: Settings, decision: Decision) -> Step:
    for number, rule in enumerate(settings.policy.rules):
        if rule.name == decision.rule:
            roles = "everyone" if rule.public else _some(rule.roles or ("any valid identity",), " or ")
            return Step("rule", True, ", ".join([f"rules.{number} {rule.name} for {roles}", *_asked(rule.asks)]))
    if decision.rule:
        return Step("rule", True, "no rule governs this path: any valid identity passes (default: authenticated)")
    return Step("rule", False, decision.detail) if decision.path else Step("rule", None, "not reached")


def _asked(asks: rbac.Asks) -> list[str]:
    """What the rule asks beside roles."""
    lists = (
        ("scopes", asks.all_scopes, " and "),
        ("scope", asks.any_scope, " or "),
        ("provider", asks.providers, " or "),
    )
    more = (("tenant", asks.tenants, " or "), ("client", asks.clients, " or "), ("acr", asks.strength.acr, " or "))
    said = [f"{name} {_some(values, between)}" for name, values, between in (*lists, *more) if values]
    said += map(str, asks.require)
    said += ["a second factor"] if asks.strength.mfa else []
    longest = asks.strength.max_age_s
    return said + ([f"signed in within {span(longest)}"] if longest is not None else [])


def _token_step(token: str | None, now: float, words: _Words) -> Step:
    """What the token says of itself; whether that is true is the next step's matter."""
    if token is None:
        return Step("token", None, "none was given")
    try:
        parsed = jwt.parse(token)
    except Refused as refused:
        return Step("token", False, words.of(refused.reason, refused.detail))
    kid = "no kid" if parsed.kid is None else f"kid {parsed.kid!r}"
    says = [f"alg {parsed.alg}", kid, f"iss {parsed.issuer!r}", _audience(parsed.claims.get("aud"))]
    return Step("token", None, f"says {', '.join(says)}, {_expiry(parsed.claims.get('exp'), now)}")


def _audience(audience: Any) -> str:
    if audience is None:
        return "no aud"
    return f"aud {_some(map(repr, audience)) if isinstance(audience, list) else repr(audience)}"


def _expiry(expires: Any, now: float) -> str:
    if type(expires) not in (int, float) or not 0 <= expires < 2**53:  # a larger one has no seconds left to count
        return "no usable exp"
    return f"expires in {span(expires - now)}" if expires > now else f"expired {span(now - expires)} ago"


def _identity_step(decision: Decision, ignored: str) -> Step:
    identity = decision.identity
    if identity is not None:
        roles = _some(identity.roles) or "none"
        by = "by API key" if identity.method == "api_key" else f"of {identity.provider}"
        return Step("identity", True, f"{identity.user_id} {by}, roles: {roles}")
    if ignored:
        return Step("identity", False, ignored)
    if decision.provider or face(decision.reason).status == 401:
        return Step("identity", False, decision.detail)
    return Step("identity", None, "anonymous" if _reached_limit(decision) else "not reached")


def _admit_step(decision: Decision) -> Step:
    if decision.identity is not None and not _reached_limit(decision):
        return Step("admitted", False, decision.detail)
    reached = _reached_limit(decision)
    return Step("admitted", True if reached else None, "the rule is satisfied" if reached else "not reached")


def _reached_limit(decision: Decision) -> bool:
    return decision.allowed or decision.reason in _AT_LIMIT


def _limit_step(settings: Settings, decision: Decision, ip: str) -> Step:
    if not decision.allowed:
        at_limit = decision.reason in _AT_LIMIT
        return Step("limit", False if at_limit else None, decision.detail if at_limit else "not reached")
    if not decision.quotas and not decision.tier:
        tier = ratelimit.tier_for(settings.limits, decision.identity)
        unlimited = tier is not None and not tier.rates
        return Step("limit", True, f"tier {tier.name}: unlimited" if tier and unlimited else "no limit applies")
    where = _asking(settings, decision, ip)
    return Step("limit", True, f"{_tier(settings, decision)} (what is used is not asked here{where})")


def _asking(settings: Settings, decision: Decision, ip: str) -> str:
    """The command that tells what is used, to be pasted: a caller may be called what a shell takes for its own."""
    words = limitstool.words_for(settings, decision.identity, ip, decision.tier) if settings.memcached else []
    ended = ["--", *words] if any(word.startswith("-") for word in words) else words
    return f": see authsvc limits show {shlex.join(ended)}" if words else ""


def _kept_step(decision: Decision) -> Step:
    if decision.keep_s:
        return Step("kept", True, f"nginx may keep this yes for {span(decision.keep_s + keeping.GRANULARITY_S)}")
    why = "refused" if not decision.allowed else "open to everyone" if decision.reason is Reason.PUBLIC else ""
    why = why or ("counted" if decision.tier else "under a rule or with a credential whose answers are not kept")
    return Step("kept", None, f"never by nginx: the call is {why}")


def _tier(settings: Settings, decision: Decision) -> str:
    own = (rule.spending.own for rule in settings.policy.rules if rule.spending.own)
    known = {tier.name: tier for tier in (*settings.limits.tiers, *own, settings.limits.anonymous) if tier}
    tier = known[decision.tier]
    mode = ", in shadow: nobody is refused" if tier.shadow else ""
    return f"tier {tier.name}: {' and '.join(map(str, tier.rates))}{mode}"
