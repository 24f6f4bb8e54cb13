"""From a well-shaped config to the values of core/: providers with the fields of their type, and rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from authsvc.adapters.presets import fields_of
from authsvc.adapters.schema import AuthenticationShape, ConfigShape, OidcShape, RuleShape
from authsvc.adapters.schema.limits import RateLimitShape, RuleLimitShape
from authsvc.adapters.schema.migration import DeprecationShape, MigrationShape
from authsvc.adapters.schema.parts import ConditionShape
from authsvc.adapters.schema.providers import ProviderShape
from authsvc.core.callers import Both, Rollout
from authsvc.core.claims import Condition, Demand, as_text
from authsvc.core.migration import Deprecation, Window
from authsvc.core.model import Reason
from authsvc.core.provider import Provider, RoleClaim, Strength
from authsvc.core.ratelimit import By, Limits, Rate, Spending, Tier, parse_rate
from authsvc.core.rbac import Asks, Rule
from authsvc.core.rbac import rule as rule_of
from authsvc.core.signature import ALGORITHMS

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeySettings:
    """API keys: their file, the header in which clients send them, when they end, and what holds beside a token."""

    file: str
    header: str
    deprecation: Deprecation | None
    both: Both
    qualify_user_id: bool = False


TENANT = re.compile(r"\{tenant[-_]?id\}")


def fill(url: str, tenant_id: str | None) -> str:
    """The URL with the tenant's id in place of {tenant-id}."""
    return url if tenant_id is None else TENANT.sub(lambda _: tenant_id, url)


def provider(shaped: ConfigShape, given: ProviderShape) -> Provider:
    """The provider: what its entry says goes before its type, and that before what oidc says for all."""
    oidc = shaped.authentication.oidc
    fields: Fields = {"audiences": frozenset(), "algorithms": ALGORITHMS, **_usual(shaped), **fields_of(given)}
    fields |= _explicit_for_all(shaped) | _whose(given, fields) | _tokens(given, fields) | _who(given)
    return Provider(
        name=given.name,
        ca_file=fields.pop("ca_file", None) if given.ca_file is None else given.ca_file,
        allow_insecure_http=given.allow_insecure_http,
        skew_s=oidc.clock_skew_tolerance,
        email_claim=tuple(given.email_claim or oidc.email_claim),
        qualify_user_id=oidc.qualify_user_id,
        opaque=given.introspection is not None,
        **{name: value for name, value in fields.items() if name != "ca_file"},
    )


def _usual(shaped: ConfigShape) -> Fields:
    """What holds where nothing else is said."""
    oidc = shaped.authentication.oidc
    return {"user_claims": (tuple(oidc.user_claim),), "roles": (_role_claim(shaped, oidc),)}


def _role_claim(shaped: ConfigShape, oidc: OidcShape) -> RoleClaim:
    return RoleClaim(tuple(shaped.authorization.rbac.roles_claim or oidc.roles_claim))


def _explicit_for_all(shaped: ConfigShape) -> Fields:
    """Who writes roles_claim or user_claim for all providers means the typed ones too."""
    oidc = shaped.authentication.oidc
    fields: Fields = {}
    if "roles_claim" in oidc.model_fields_set or shaped.authorization.rbac.roles_claim:
        fields["roles"] = (_role_claim(shaped, oidc),)
    if "user_claim" in oidc.model_fields_set:
        fields["user_claims"] = (tuple(oidc.user_claim),)
    return fields


def _whose(given: ProviderShape, fields: Fields) -> Fields:
    """Issuers, and where the keys are."""
    found: Fields = {
        "issuer": fill(given.issuer or fields["issuer"], given.tenant_id),
        "other_issuers": (*fields.get("other_issuers", ()), *(given.other_issuers or ())),
    }
    if given.jwks_uri:
        found["jwks_uri"] = fill(given.jwks_uri, given.tenant_id)
    if given.discovery_url:
        found["discovery_urls"], found["jwks_uri"] = (given.discovery_url,), found.get("jwks_uri")
    if given.jwks_token_file:
        found["token_file"] = given.jwks_token_file
    return found


def _tokens(given: ProviderShape, fields: Fields) -> Fields:
    """What a token must be like."""
    found: Fields = {"demands": (*fields.get("demands", ()), *map(_demand, given.require))}
    for name in ("algorithms", "clients", "subject_types"):
        said = getattr(given, name)
        if said is not None:
            found[name] = frozenset(said)
    if given.audience is not None:  # beside those that app_id stands for
        found["audiences"] = fields["audiences"] | frozenset(given.audience)
    if given.tenants is not None and "tenants" not in fields:
        found["tenants"] = frozenset(given.tenants)
    if given.tenant_claim is not None:
        found["tenant_claim"] = tuple(given.tenant_claim)
    if given.require_typ is not None:
        found["token_types"] = frozenset({given.require_typ})
    if given.accept_id_tokens:
        found["id_tokens"] = True
    return found | {"strength": Strength(tuple(given.acr or ()), given.mfa, given.max_age)}


def _who(given: ProviderShape) -> Fields:
    """Whom the token speaks for."""
    found: Fields = {}
    if given.user_claim is not None:
        found["user_claims"] = (tuple(given.user_claim),)
    if given.user_key is not None:
        found["key_claims"] = tuple(tuple(claim) for claim in given.user_key)
    if given.roles_claim is not None:
        found["roles"] = (RoleClaim(tuple(given.roles_claim)),)
    if given.roles is not None:
        found["roles"] = tuple(RoleClaim(tuple(role.claim), role.prefix) for role in given.roles)
    if given.mfa_if is not None:
        found["mfa_if"] = tuple(condition(one) for one in given.mfa_if)
    return found


def condition(given: ConditionShape) -> Condition:
    """The condition; equals is in with one value."""
    if given.contains is not None:
        return Condition(tuple(given.claim), "contains", _texts(given.contains))
    return Condition(tuple(given.claim), "in", _texts([given.equals] if given.in_ is None else given.in_))


def _texts(values: list[Any]) -> tuple[str, ...]:
    return tuple(as_text(value) or "" for value in values)


def _demand(given: ConditionShape) -> Demand:
    asked = condition(given)
    return Demand((asked,), Reason.CLAIM_REQUIRED, f"the provider's require asks that {asked}")


def rule(given: RuleShape, name: str = "", shadow: bool = False, keep_s: int = 0) -> Rule:
    """The rule; `name` is that of its own limit, which may be in shadow, and nginx may keep a yes for `keep_s` where it
    says nothing else. Raises `ValueError`: its path is none."""
    spending = _spending(given.rate_limit, name, shadow)
    made = rule_of(given.path, given.method, given.allowed_roles, asks(given), spending)
    return replace(made, keep_s=keep_s if given.decision_cache is None else given.decision_cache)


def _spending(given: RuleLimitShape | None, name: str, shadow: bool) -> Spending:
    if given is None:
        return Spending()
    return Spending(given.cost, Tier(name, rates(given.limit), shadow=shadow) if given.limit else None)


def limits(given: RateLimitShape) -> Limits:
    """Tiers, whom they count, and the limit for nobody in particular."""
    in_shadow = given.mode == "shadow"
    tiers = tuple(
        Tier(name, rates(one.limit), _match(one.matching_claim), one.mode == "shadow" if one.mode else in_shadow)
        for name, one in given.tiers.items()
    )
    by = tuple(By(one.kind, tuple(one.claim or ())) for one in given.by)
    if given.anonymous is None:
        return Limits(tiers, by)
    anonymous = Tier("anonymous", rates(given.anonymous.limit), shadow=in_shadow)
    return Limits(tiers, by, anonymous, given.anonymous.ipv6_prefix)


def api_keys(given: AuthenticationShape) -> KeySettings | None:
    """Where keys are accepted, and until when. Raises `ValueError` where the days do not fit together."""
    keys = given.api_keys
    if keys is None or not keys.enabled or keys.keys_file is None:
        return None
    return KeySettings(
        keys.keys_file, keys.header, _deprecation(keys.deprecation), given.migration.both, given.oidc.qualify_user_id
    )


def _deprecation(given: DeprecationShape | None) -> Deprecation | None:
    if given is None:
        return None
    pauses = tuple(Window(one.start, one.start + 60 * one.minutes) for one in given.brown_outs)
    return Deprecation(given.announce, given.sunset, given.grace, given.link or "", pauses)


def rollout(given: MigrationShape) -> Rollout:
    """To whom OIDC is open."""
    beta = tuple(condition(one) for one in given.beta if one.claim)
    return Rollout(given.oidc_rollout, beta, frozenset(user for one in given.beta for user in one.users or ()))


def rates(texts: list[str]) -> tuple[Rate, ...]:
    """All windows of a limit. Raises `ValueError`."""
    return tuple(rate for text in texts for rate in parse_rate(text))


def _match(given: ConditionShape | None) -> Condition | None:
    return None if given is None else condition(given)


def asks(given: RuleShape) -> Asks:
    """What the rule asks for beside roles."""
    scopes = given.scopes
    return Asks(
        any_scope=tuple((scopes.any if scopes else None) or ()),
        all_scopes=tuple((scopes.all if scopes else None) or ()),
        providers=tuple(given.providers or ()),
        tenants=tuple(given.tenants or ()),
        clients=tuple(given.clients or ()),
        require=tuple(condition(one) for one in given.require),
        strength=Strength(tuple(given.acr or ()), given.mfa, given.max_age),
    )
