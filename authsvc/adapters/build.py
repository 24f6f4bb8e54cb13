"""From a well-shaped config to the values of core/: providers with the fields of their type, and rules."""

from __future__ import annotations

import re
from typing import Any

from authsvc.adapters.presets import fields_of
from authsvc.adapters.schema import ConditionShape, ConfigShape, OidcShape, ProviderShape, RuleShape
from authsvc.core.claims import Condition, Demand, as_text
from authsvc.core.model import Reason
from authsvc.core.provider import Provider, RoleClaim
from authsvc.core.rbac import Asks, Rule
from authsvc.core.rbac import rule as rule_of
from authsvc.core.signature import ALGORITHMS
from authsvc.core.stepup import Strength

Fields = dict[str, Any]
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
    return found | {"mfa": given.mfa, "max_age_s": given.max_age, "acr": tuple(given.acr or ())}


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


def rule(given: RuleShape) -> Rule:
    """The rule. Raises `ValueError` with what is wrong with its path."""
    return rule_of(given.path, given.method, given.allowed_roles, asks(given))


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
