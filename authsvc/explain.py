"""`authsvc explain`: what the gate decided, step by step, in words, and what to do about a no.

It asks the same gate as nginx does and prints its decision; it decides nothing itself and counts nothing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from authsvc.adapters.config import Settings, visible
from authsvc.adapters.store import MemoryStore
from authsvc.core import jwt, ratelimit
from authsvc.core.model import Decision, Reason, Refused, Request
from authsvc.core.response import Headers, face, render
from authsvc.service import Service

# The next step for whoever meets this refusal.
NEXT_STEPS = {
    Reason.NO_CREDENTIALS: "send Authorization: Bearer <access token>",
    Reason.UNSUPPORTED_CREDENTIALS: "send Authorization: Bearer <access token>",
    Reason.EXPIRED: "get a fresh token; if it is fresh, compare the clocks",
    Reason.NOT_YET_VALID: "compare the clocks of issuer and authsvc; clock_skew_tolerance allows for a little",
    Reason.ISSUED_IN_FUTURE: "compare the clocks of issuer and authsvc; clock_skew_tolerance allows for a little",
    Reason.UNKNOWN_ISSUER: "compare the token's iss with the issuers in the config, to the last slash",
    Reason.WRONG_AUDIENCE: "ask the issuer for a token for your API, or add this audience to the provider",
    Reason.WRONG_TOKEN_TYPE: "send the access token, not the ID or refresh token",
    Reason.ENCRYPTED_TOKEN: "ask the issuer with your API's audience, then it gives a signed token",
    Reason.MALFORMED_TOKEN: "check that it is a JWT: an opaque token cannot be verified here",
    Reason.UNKNOWN_KEY: "check that jwks_uri belongs to this issuer; a new key is accepted at its first use",
    Reason.INVALID_SIGNATURE: "the token was changed, or signed by somebody else: get a new one",
    Reason.UNSUPPORTED_ALGORITHM: "add the algorithm to the provider's algorithms, or change it at the issuer",
    Reason.ROLE_REQUIRED: "give the caller the role, or check roles_claim if the role is elsewhere in the token",
    Reason.INSUFFICIENT_SCOPE: "ask the issuer for a token with one of these scopes",
    Reason.METHOD_NOT_ALLOWED: "add a rule for this path and method",
    Reason.NO_RULE: "add a rule for this path",
    Reason.AMBIGUOUS_PATH: "send the path in its plain form",
    Reason.KEYS_UNAVAILABLE: "see whether this machine reaches the provider; authsvc tries again by itself",
    Reason.RATE_LIMITED: "wait, or move the caller to another tier",
    Reason.IDENTITY_TOO_LARGE: "have the issuer put fewer or shorter values into the claims that become headers",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One question on the way; `passed` of `None` means it was not reached, or there was nothing to ask."""

    name: str
    passed: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision in words."""

    decision: Decision
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
            "next_step": NEXT_STEPS.get(self.decision.reason, ""),
            "steps": [asdict(step) for step in self.steps],
            "headers": dict(self.headers),
        }

    def as_text(self) -> str:
        marks = {True: "✓", False: "✗", None: "·"}
        lines = [f"{marks[step.passed]} {step.name:<9} {visible(step.text)}" for step in self.steps]
        shown = face(self.decision.reason)
        lines.append(
            f"\n{shown.status} {self.decision.reason.value}: {visible(self.decision.detail) or shown.title.lower()}"
        )
        if self.decision.reason in NEXT_STEPS:
            lines.append(f"next: {NEXT_STEPS[self.decision.reason]}")
        return "\n".join([*lines, "", *(f"{name}: {value}" for name, value in self.headers)])


def explain(settings: Settings, method: str, target: str, token: str | None, ip: str) -> Explanation:
    """How this call would be decided now. Downloads the keys of the token's issuer only."""
    now = time.time()
    authorization = None if token is None else f"Bearer {token}"
    service = Service(settings, store=MemoryStore())
    request = Request(method, target, authorization, ip, "explain")
    decision, identity_headers = service.gate.decide(request, now)
    _, headers = render(decision, identity_headers)
    return Explanation(decision, _steps(settings, request, decision, token, now), headers)


def _steps(settings: Settings, request: Request, decision: Decision, token: str | None, now: float) -> list[Step]:
    return [
        Step("call", bool(decision.path), f"{request.method} {decision.path or 'has no canonical path'}"),
        _rule_step(settings, decision),
        _token_step(token, now),
        _identity_step(decision),
        _admit_step(decision),
        _limit_step(settings, decision),
    ]


def _rule_step(settings: Settings, decision: Decision) -> Step:
    for number, rule in enumerate(settings.policy.rules):
        if rule.name == decision.rule:
            roles = "everyone" if rule.public else " or ".join(rule.roles or ("any valid identity",))
            return Step("rule", True, f"rules.{number} {rule.name} for {roles}")
    if decision.rule:
        return Step("rule", True, "no rule governs this path: any valid identity passes (default: authenticated)")
    return Step("rule", False if decision.path else None, decision.detail or "not reached")


def _token_step(token: str | None, now: float) -> Step:
    """What the token says of itself; whether that is true is the next step's matter."""
    if token is None:
        return Step("token", None, "none was given")
    try:
        parsed = jwt.parse(token)
    except Refused as refused:
        return Step("token", False, refused.detail)
    expires = parsed.claims.get("exp")
    is_time = isinstance(expires, int | float) and abs(expires) < 2**53  # a larger one has no seconds left to count
    left = f"{float(expires) - now:+.0f} s to exp" if expires is not None and is_time else "no usable exp"
    audience = parsed.claims.get("aud")
    return Step(
        "token", None, f"says alg {parsed.alg}, kid {parsed.kid!r}, iss {parsed.issuer!r}, aud {audience!r}, {left}"
    )


def _identity_step(decision: Decision) -> Step:
    identity = decision.identity
    if identity is None:
        status = face(decision.reason).status
        failed = decision.ignored is not None or status == 401 or decision.reason is Reason.KEYS_UNAVAILABLE
        text = f"credential ignored: {decision.ignored.value}" if decision.ignored else decision.detail or "anonymous"
        return Step("identity", False if failed else None, text if decision.rule else "not reached")
    roles = ", ".join(identity.roles) or "none"
    return Step("identity", True, f"{identity.user_id} of {identity.provider}, roles: {roles}")


def _admit_step(decision: Decision) -> Step:
    if decision.reason in (Reason.ROLE_REQUIRED, Reason.INSUFFICIENT_SCOPE):
        return Step("roles", False, decision.detail)
    reached = decision.identity is not None or decision.allowed
    return Step("roles", True if reached else None, "the rule is satisfied" if reached else "not reached")


def _limit_step(settings: Settings, decision: Decision) -> Step:
    if decision.identity is None and not decision.allowed:
        return Step("limit", None, "not reached")
    tier = ratelimit.tier_for(settings.limits, decision.identity)
    if tier is None or tier.limit is None:
        return Step("limit", True, f"tier {tier.name}: unlimited" if tier else "no limit applies")
    return Step("limit", True, f"tier {tier.name}: {tier.limit} in {tier.window_s} s (what is used is not asked here)")
