"""A provider: which tokens are its own, what they must be like beyond a good signature, and whom they speak for.

What differs between Auth0, Okta, Entra, Keycloak and the others is data in these fields; no rule here knows a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from authsvc.core.claims import SCOPE_CLAIMS, ClaimPath, Condition, Demand, as_text, claim_at, scopes, texts
from authsvc.core.model import Claims, Identity, Reason, Refused

MAX_USER_ID: Final = 512
TENANT = "{tenantid}"
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as Entra spells it


@dataclass(frozen=True, slots=True)
class RoleClaim:
    """Where roles are: a list, one text, or an object with the roles as names. `prefix` goes before each of them."""

    path: ClaimPath
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class IssuerHint:
    """What to say to a token of an issuer that is not accepted, where it looks like a known mistake."""

    sign: Condition
    text: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Strength:
    """What a provider or a rule asks of a sign-in. One of `acr` must be in the token's acr or acrs; `max_age_s` is
    seconds."""

    acr: tuple[str, ...] = ()
    mfa: bool = False
    max_age_s: int | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. `skew_s` is how far two clocks may differ, in seconds; `None` for a list means that all will do."""

    name: str
    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    # whose tokens they are
    other_issuers: tuple[str, ...] = ()
    issuer_templates: tuple[str, ...] = ()  # with {tenantid}, which is the token's tid
    hints: tuple[IssuerHint, ...] = ()
    # where its keys are
    jwks_uri: str | None = None
    discovery_urls: tuple[str, ...] = ()
    jwks_hosts: frozenset[str] = frozenset()  # beside those of issuer and discovery
    token_file: str | None = None  # a bearer token for the downloads
    ca_file: str | None = None
    allow_insecure_http: bool = False
    key_issuer: str = ""  # what the `issuer` member of a JWK must be, with {tenantid}; empty: it does not count
    # what a token must be like
    skew_s: float = 60
    token_types: frozenset[str] = frozenset({"", "jwt", "at+jwt"})  # RFC 9068 section 2.1; most say JWT or nothing
    id_tokens: bool = False  # those who give nothing else, such as Google
    audience_claims: tuple[ClaimPath, ...] = (("aud",),)
    audience_step: str = ""  # what to do about a wrong audience at this provider
    header_demands: tuple[Demand, ...] = ()
    demands: tuple[Demand, ...] = ()
    clients: frozenset[str] | None = None
    tenant_claim: ClaimPath = ()
    tenants: frozenset[str] | None = None
    subject_types: frozenset[str] | None = None
    strength: Strength = Strength()
    opaque: bool = False  # whether its opaque tokens are introspected (RFC 7662)
    # whom it speaks for
    user_claims: tuple[ClaimPath, ...] = (("sub",),)  # the first that is there
    key_claims: tuple[ClaimPath, ...] = ()  # what tells users apart, together; else the user's id
    email_claim: ClaimPath = ("email",)
    roles: tuple[RoleClaim, ...] = (RoleClaim(("roles",)),)
    client_claims: tuple[ClaimPath, ...] = (("azp",), ("appid",), ("cid",), ("client_id",))
    app_if: tuple[Condition, ...] = ()  # one of these says that no user stands behind the token
    mfa_if: tuple[Condition, ...] = (Condition(("amr",), "contains", ("mfa",)),)
    overage_if: tuple[Condition, ...] = ()  # one of these says that the roles are not all in the token
    qualify_user_id: bool = False
    # how it asks for more (Entra's claims challenge)
    authorization_uri: str = ""
    own_client_id: str = ""

    def accepts_issuer(self, issuer: str, claims: Claims) -> bool:
        """Whether the token's iss is ours, byte for byte; in a template {tenantid} stands for the token's own tid."""
        if issuer == self.issuer or issuer in self.other_issuers:
            return TENANT not in issuer  # a template itself is nobody's issuer
        tenant = claims.get("tid")
        if not isinstance(tenant, str) or not _GUID.fullmatch(tenant):
            return False
        return any(issuer == template.replace(TENANT, tenant) for template in self.issuer_templates)

    def key_issuers(self, claims: Claims) -> frozenset[str] | None:
        """What the `issuer` of a JWK may be that verifies this token; `None` where it does not count."""
        if not self.key_issuer:
            return None
        tenant = as_text(claims.get("tid")) or ""
        if tenant not in str(claims.get("iss")).split("/"):  # tid counts as the tenant of iss only (Storm-0558)
            return frozenset({self.key_issuer})
        return frozenset({self.key_issuer, self.key_issuer.replace(TENANT, tenant)})


class Providers:
    """All providers, found by a token's issuer: with 100 of them as fast as with one.

    A template is found where the token's tenant is nowhere in it but in place of {tenantid}.
    """

    def __init__(self, providers: Iterable[Provider]) -> None:
        every = tuple(providers)
        self._named = {one.name: one for one in every}
        named = [(issuer, one) for one in every for issuer in (one.issuer, *one.other_issuers)]
        self._exact = {issuer: one for issuer, one in named if TENANT not in issuer}
        self._slashless = {issuer.rstrip("/"): issuer for issuer in reversed(self._exact)}
        self._templates = {template: one for one in reversed(every) for template in one.issuer_templates}
        self._hints = tuple(dict.fromkeys(hint for one in every for hint in one.hints))
        self.opaque = next((one for one in every if one.opaque), None)

    def named(self, name: str) -> Provider:
        """The one of this name. Raises `KeyError` where there is none."""
        return self._named[name]

    def find(self, issuer: str, claims: Claims) -> Provider:
        """Raises `Refused` where no provider has this issuer, and says what is near."""
        found = self._exact.get(issuer) or self._of_tenant(issuer, claims)
        if found is None:
            raise self._unknown(issuer, claims)
        return found

    def _of_tenant(self, issuer: str, claims: Claims) -> Provider | None:
        tenant = claims.get("tid")
        if not isinstance(tenant, str) or not _GUID.fullmatch(tenant):
            return None
        near = self._templates.get(issuer.replace(tenant, TENANT))
        return near if near is not None and near.accepts_issuer(issuer, claims) else None

    def _unknown(self, issuer: str, claims: Claims) -> Refused:
        near = self._slashless.get(issuer.rstrip("/"))
        if near is not None:
            text = f"iss is {issuer!r}, the config says {near!r}: they differ by the slash at the end"
            return Refused(Reason.UNKNOWN_ISSUER, text)
        for hint in self._hints:
            if hint.sign.holds(claims):
                return Refused(Reason.UNKNOWN_ISSUER, f"iss is {issuer[:200]!r}: {hint.text}", next_step=hint.next_step)
        return Refused(Reason.UNKNOWN_ISSUER, f"no provider has the issuer {issuer[:200]!r}")


def check(provider: Provider, claims: Claims) -> None:
    """What this provider demands of its tokens, after signature, times and audience. Raises `Refused`."""
    for demand in provider.demands:
        demand.check(claims)
    if provider.tenants is not None:
        _check_listed(Reason.TENANT_NOT_ALLOWED, "tenant", tenants(provider, claims), provider.tenants)
    if provider.clients is not None:
        _check_listed(Reason.CLIENT_NOT_ALLOWED, "client", (client(provider, claims),), provider.clients)
    if provider.subject_types is not None:
        found = (subject_type(provider, claims),)
        _check_listed(Reason.SUBJECT_TYPE_NOT_ALLOWED, "subject type", found, provider.subject_types)


def _check_listed(reason: Reason, what: str, found: tuple[str, ...], allowed: frozenset[str]) -> None:
    if allowed.isdisjoint(found):
        raise Refused(
            reason, f"the {what} is {', '.join(found) or 'not named'}; allowed is {' or '.join(sorted(allowed))}"
        )


def client(provider: Provider, claims: Claims) -> str:
    """The client that asked for the token; empty where the token does not say."""
    for path in provider.client_claims:
        text = as_text(claim_at(claims, path))
        if text:
            return text
    return ""


def tenants(provider: Provider, claims: Claims) -> tuple[str, ...]:
    """The tenant or organization that the token is for. Keycloak may name several."""
    return texts(claim_at(claims, provider.tenant_claim)) if provider.tenant_claim else ()


def subject_type(provider: Provider, claims: Claims) -> str:
    """`app` where the provider's evidence says so, else `user`; empty where this provider gives no evidence."""
    if not provider.app_if:
        return ""
    return "app" if any(condition.holds(claims) for condition in provider.app_if) else "user"


def identity(provider: Provider, claims: Claims) -> Identity:
    """Who a verified token speaks for. Raises `Refused`."""
    subject, user = claims.get("sub"), _user(provider, claims)
    if not isinstance(subject, str) or not subject:
        raise Refused(Reason.MISSING_CLAIM, "the token has no sub")
    if max(len(user), len(subject)) > MAX_USER_ID:
        raise Refused(Reason.INVALID_CLAIM, f"the user's name is longer than {MAX_USER_ID} characters")
    email = claim_at(claims, provider.email_claim)
    return Identity(
        provider=provider.name,
        user_id=f"{provider.name}:{user}" if provider.qualify_user_id else user,
        email=email if isinstance(email, str) else "",
        roles=_roles(provider.roles, claims),
        claims=claims,
        scoped=bool(provider.roles) and all(one.path[-1] in SCOPE_CLAIMS for one in provider.roles),
        key=_key(provider.key_claims, claims, user),
        scopes=scopes(claims),
        client=client(provider, claims),
        tenants=tenants(provider, claims),
        subject_type=subject_type(provider, claims),
        mfa=any(condition.holds(claims) for condition in provider.mfa_if),
        roles_incomplete=any(condition.holds(claims) for condition in provider.overage_if),
    )


def _user(provider: Provider, claims: Claims) -> str:
    for path in provider.user_claims:
        value = claim_at(claims, path)
        if isinstance(value, str) and value:
            return value
    named = " or ".join(".".join(path) for path in provider.user_claims)
    raise Refused(Reason.MISSING_CLAIM, f"the token has no {named} to name the user")


def _key(paths: tuple[ClaimPath, ...], claims: Claims, user: str) -> str:
    """What tells users apart: two must never share it, so an id in place of missing parts looks like no parts."""
    if not paths:
        return user
    parts = [as_text(claim_at(claims, path)) for path in paths]
    if not all(parts):
        return f":{user}"
    return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts if part)


def _roles(sources: tuple[RoleClaim, ...], claims: Claims) -> tuple[str, ...]:
    found = [source.prefix + role for source in sources for role in _roles_at(claim_at(claims, source.path), source)]
    return tuple(dict.fromkeys(found))


def _roles_at(value: object, source: RoleClaim) -> tuple[str, ...]:
    if isinstance(value, str) and source.path[-1] in SCOPE_CLAIMS:  # RFC 6749 section 3.3
        return tuple(filter(None, value.split(" ")))
    return texts(value)
