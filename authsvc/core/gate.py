"""The one straight way of a call: rule, identity, admission, quota, decision.

`decide` turns every refusal and every trouble into a `Decision`, at one place. What it needs from the world it
names here as small protocols; it knows no adapter by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from authsvc.core import jwt, paths, ratelimit, rbac, response, stepup
from authsvc.core.claims import ClaimPath
from authsvc.core.jwks import KeySet
from authsvc.core.model import Claims, Decision, Identity, Quota, Reason, Refused, Request, Unavailable
from authsvc.core.provider import Provider, Providers, check, identity


class Keys(Protocol):
    """Where verified key sets come from."""

    def current(self, provider: str, now: float) -> KeySet | None:
        """What is known now, without any download."""
        ...

    def refresh(self, provider: str, now: float, may_wait: bool) -> KeySet | None:
        """What is known after at most one forced download: the same as before where the cool-down allows none.

        Raises `MustWait` where there would be one and the call may not wait.
        """
        ...

    def trouble(self, provider: str) -> str:
        """Why the last download failed, or "" where it did not."""
        ...


class Introspects(Protocol):
    """Who asks providers what their opaque tokens mean (RFC 7662)."""

    def claims(self, provider: str, token: str, now: float, may_wait: bool) -> Claims | None:
        """What the provider says of the token; `None` where it is not active. Raises `Unavailable`, and `MustWait`
        where the provider must be asked and the call may not wait."""
        ...


class Counters(Protocol):
    """Where calls are counted."""

    def spend(self, tier: ratelimit.Tier, counted: str, now: float) -> Quota | None:
        """Count one call, exactly. `None`: not limited. Raises `Unavailable` where it must be and cannot."""
        ...


@dataclass(slots=True)
class _Trail:
    """What is known so far, so that a refusal says it too."""

    path: str = ""
    provider: str = ""
    rule: str = ""
    wanted: tuple[str, ...] = ()
    by: Provider | None = None
    identity: Identity | None = None
    quota: Quota | None = None
    ignored: Reason | None = None
    headers: response.Headers = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gate:
    """Everything a decision depends on. A reload builds a new gate."""

    providers: Providers
    policy: rbac.Policy
    limits: ratelimit.Limits
    extract: Mapping[str, ClaimPath]
    keys: Keys
    counters: Counters
    introspects: Introspects | None = None

    def decide(self, request: Request, now: float) -> tuple[Decision, response.Headers]:
        """The decision, and the identity headers that go with a yes. Never raises what a request could cause, but for
        `MustWait` where the request may not wait."""
        trail = _Trail()
        try:
            reason = self._walk(request, now, trail)
            return _decision(reason, trail), trail.headers
        except Refused as refused:
            return _refusal(refused, trail), []
        except Unavailable as trouble:
            return _decision(trouble.reason, trail, trouble.detail, trouble.retry_after_s), []

    def _walk(self, request: Request, now: float, trail: _Trail) -> Reason:
        method, found = _call(request)
        trail.path = " -> ".join(found)
        rules = [self._rule(method, path, trail) for path in found]
        public = all(rule.public for rule in rules)
        if public:
            trail.identity = self._optional_identity(request, now, trail)
        else:
            trail.identity = self.identify(request, now, trail)
            for rule in rules:
                trail.rule, trail.wanted = rule.name, _wanted(rule)
                rbac.admit(rule, trail.identity)
                assert trail.by is not None
                stepup.check(rule.asks.strength, trail.identity, trail.by, now)
        trail.headers = response.identity_headers(trail.identity, self.extract)
        self._spend(request, now, trail)
        return Reason.PUBLIC if public else Reason.ALLOWED

    def _rule(self, method: str, path: str, trail: _Trail) -> rbac.Rule:
        rule = rbac.rule_for(self.policy, method, path)
        trail.rule, trail.wanted = rule.name, _wanted(rule)
        return rule

    def _optional_identity(self, request: Request, now: float, trail: _Trail) -> Identity | None:
        """On a public path a good credential is forwarded, a bad one is ignored and counted."""
        try:
            return self.identify(request, now, trail)
        except (Refused, Unavailable) as trouble:
            trail.provider = ""
            trail.ignored = None if trouble.reason is Reason.NO_CREDENTIALS else trouble.reason
            return None

    def identify(self, request: Request, now: float, trail: _Trail | None = None) -> Identity:
        """Who sent the credential of this call. Raises `Refused`, `Unavailable` or `MustWait`."""
        trail = trail or _Trail()
        text = jwt.bearer(request.authorization)
        if text is None:
            raise Refused(Reason.NO_CREDENTIALS, "no Authorization header was sent")
        if jwt.is_opaque(text) and self.providers.opaque is not None:
            trail.provider, trail.by = self.providers.opaque.name, self.providers.opaque
            assert self.introspects is not None
            claims = self.introspects.claims(trail.provider, text, now, request.may_wait)
            return _introspected(self.providers.opaque, claims, now)
        token = jwt.parse(text)
        provider = self.providers.find(token.issuer, token.claims)
        trail.provider, trail.by = provider.name, provider
        jwt.check_header(token, provider)
        self._check_signature(token, provider, now, request.may_wait)
        jwt.check_claims(token, provider, now)
        return _accepted(provider, token.claims, now)

    def _check_signature(self, token: jwt.Token, provider: Provider, now: float, may_wait: bool) -> None:
        """With the keys at hand; else once more with those of one forced download."""
        known, issuers = self.keys.current(provider.name, now), provider.key_issuers(token.claims)
        if _signed_by(known, token, issuers):
            return
        fresh = self.keys.refresh(provider.name, now, may_wait)
        if fresh != known and _signed_by(fresh, token, issuers):
            return
        latest = fresh or known
        trouble = self.keys.trouble(provider.name)
        if latest is None:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, f"no keys of {provider.name} could be had yet: {trouble}")
        if latest.candidates(token.kid, token.alg, issuers):
            raise Refused(Reason.INVALID_SIGNATURE, f"key {token.kid!r} of {provider.name} did not make this signature")
        if trouble:  # the key may be new and cannot be had now: nobody knows whether this token is bad
            raise Unavailable(Reason.KEYS_UNAVAILABLE, f"key {token.kid!r} may be new, and {trouble}")
        raise Refused(Reason.UNKNOWN_KEY, f"{provider.name} lists no {token.alg} key {token.kid!r}")

    def _spend(self, request: Request, now: float, trail: _Trail) -> None:
        tier = ratelimit.tier_for(self.limits, trail.identity)
        if tier is None or tier.limit is None:
            return
        counted = ratelimit.subject(self.limits, trail.identity, request.client_ip)
        trail.quota = self.counters.spend(tier, counted, now)
        if trail.quota is not None and trail.quota.refused:
            raise Refused(Reason.RATE_LIMITED, f"tier {tier.name}: {tier.limit} in {tier.window_s} s are used up")


def _signed_by(keys: KeySet | None, token: jwt.Token, issuers: frozenset[str] | None) -> bool:
    return keys is not None and jwt.signed_by_any(token, keys.candidates(token.kid, token.alg, issuers))


def _introspected(provider: Provider, claims: Claims | None, now: float) -> Identity:
    """Who an opaque token speaks for, by its provider's word; times, audience and demands are checked too."""
    if claims is None:
        raise Refused(Reason.INACTIVE_TOKEN, f"{provider.name} says that the token is not active")
    if "iss" in claims and not provider.accepts_issuer(str(claims["iss"]), claims):
        raise Refused(Reason.UNKNOWN_ISSUER, f"{provider.name} introspected a token of {str(claims['iss'])[:200]!r}")
    if isinstance(claims.get("client_id"), str):
        # RFC 7662 section 2.2: sub is optional; no client may be called as a user is
        claims = {"sub": f"client:{claims['client_id']}", **claims}
    jwt.check_introspected(claims, provider, now)
    return _accepted(provider, claims, now)


def _accepted(provider: Provider, claims: Claims, now: float) -> Identity:
    """The identity of a token whose claims are true, where it meets what the provider's config demands."""
    check(provider, claims)
    found = identity(provider, claims)
    stepup.check(stepup.Strength(provider.acr, provider.mfa, provider.max_age_s), found, provider, now)
    return found


def _wanted(rule: rbac.Rule) -> tuple[str, ...]:
    """What a caller may ask his issuer for: the roles, or the scopes where the rule names some."""
    return rule.asks.all_scopes + rule.asks.any_scope[:1] or rule.roles or ()


def _call(request: Request) -> tuple[str, list[str]]:
    """Method and canonical path; a second path where an internal redirect of nginx serves another one.

    Both must be allowed: else `rewrite ^/v1/(.*) /api/$1 last` would be a way around the rules for /api/.
    What nginx did not say, or said twice, is never guessed.
    """
    if not request.method or not request.target:
        raise Refused(Reason.MISSING_CONTEXT, "X-Original-Method or X-Original-URI is missing or was sent twice")
    if not rbac.METHOD.fullmatch(request.method):
        raise Refused(Reason.INVALID_METHOD, "the method is not a word in capitals")
    asked = paths.canonical(request.target)
    served = asked if request.served is None else paths.served(request.served)
    return request.method, [asked] if served == asked else [asked, served]


def _refusal(refused: Refused, trail: _Trail) -> Decision:
    decision = _decision(refused.reason, trail, refused.detail)
    return replace(decision, next_step=refused.next_step, step_up=refused.step_up)


def _decision(reason: Reason, trail: _Trail, detail: str = "", retry_after_s: int | None = None) -> Decision:
    quota = trail.quota
    if quota is not None and quota.refused:
        retry_after_s = quota.reset_s
    return Decision(
        reason=reason,
        path=trail.path,
        provider=trail.provider,
        rule=trail.rule,
        identity=trail.identity,
        quota=quota,
        wanted=trail.wanted,
        ignored=trail.ignored,
        retry_after_s=retry_after_s,
        detail=detail,
    )
