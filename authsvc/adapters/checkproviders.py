"""What in the providers of a config does not mean what its author hopes, said so that it can be mended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from authsvc.adapters import build
from authsvc.adapters.build import TENANT, fill
from authsvc.adapters.fetch import LOOPBACK, shown
from authsvc.adapters.presetinfo import INFO, SPECIAL, Setting
from authsvc.adapters.schema import ConfigShape, RuleShape
from authsvc.adapters.schema.parts import ConditionShape
from authsvc.adapters.schema.providers import ProviderShape
from authsvc.adapters.yamlfile import Mistake, Path
from authsvc.core.provider import Provider
from authsvc.core.signature import ALGORITHMS

PROVIDERS: Path = ("authentication", "oidc", "providers")
_LEFT_IN = re.compile(r"\{tenant[-_]?id\}|<[^<>]+>|\bYOUR[_-][A-Z0-9_-]+")
_PLACEHOLDER = re.compile(rf"\{{[^}}]*\}}|{_LEFT_IN.pattern}")
_WELL_KNOWN = re.compile(r"/\.well-known/(openid-configuration|oauth-authorization-server)/?\Z")
_ANY_TENANT = re.compile(
    r"https://(login\.microsoftonline\.(com|us)|login\.partner\.microsoftonline\.cn|sts\.windows\.net)"
    r"/(?P<tenant>common|organizations|consumers)(/|\Z)",
    re.IGNORECASE,
)
_NEVER = re.compile(r"(?!)")
# Audiences that a provider puts into tokens for everybody's APIs.
_SHARED = {
    "keycloak": re.compile("account|broker|realm-management"),
    "auth0": re.compile(r"https://[^/]+/(userinfo|api/v2/)"),
    "entra": re.compile(r"00000003-0000-0000-c000-000000000000|https://graph\.microsoft\.com/?"),
    "github-actions": re.compile(r"https://github\.com/[^/]+/?"),
}
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]{1,5})?"
)
_NAME = re.compile(r"(?!\.+\Z)[A-Za-z0-9_.@-]{1,200}")
_MICROSOFT = ("entra", "entra-external", "azure-b2c")
_HOSTS = ("domain", "subdomain")
_ADDRESSES = ("org_url", "base_url")
# A setting, what shows that another thing was written there, and what to do.
_TAKEN_FOR = (
    ("subdomain", re.compile(r"\A[^/:]*\."), "is a whole host name: write what stands before its first dot"),
    ("domain", re.compile(r"\A[\w-]+\Z"), "is not the whole host name: write it as acme.eu.auth0.com"),
    ("org_url", re.compile(r"://[^/]+/."), "has a path: leave it off, and name the server in authorization_server"),
    ("base_url", re.compile(r"/realms(/|\Z)"), "holds the realm: leave off what begins with /realms"),
)
_FOR_SOME = {
    "identity_sources": ("auth0", "okta", "keycloak", *_MICROSOFT),
    "guests": ("entra",),
}
NARROWING = (
    "clients", "tenants", "subject_types", "identity_sources", "hosted_domain", "require_typ", "acr", "max_age",
)  # fmt: skip
_NAMES = ("authorization_server", "realm", "region", "user_pool_id", "policies", "app_id")


def check(shaped: ConfigShape) -> Iterator[Mistake]:
    """Every mistake in the providers."""
    oidc = shaped.authentication.oidc
    names: dict[str, int] = {}
    issuers: dict[str, int] = {}
    if oidc.enabled and not oidc.providers:
        yield Mistake(PROVIDERS, "no provider: add one, or set enabled: false")
    for number, given in enumerate(oidc.providers):
        at = (*PROVIDERS, number)
        if names.setdefault(given.name, number) != number:
            yield Mistake((*at, "name"), f"{given.name!r} is taken by another provider: choose another name")
        found = [*_settings(given, at), *_urls(given, at), *_parts(given, at)]
        yield from left_empty(given, NARROWING, at)
        yield from found
        yield from _audiences(given, at)
        yield from _algorithms(given, at)
        yield from conditions(given.require, (*at, "require"))
        yield from conditions(given.mfa_if or [], (*at, "mfa_if"))
        if not found:
            yield from _taken(shaped, number, issuers)
            yield from _in_vain(given, build.provider(shaped, given), at)
    yield from _introspection(shaped)


def _settings(given: ProviderShape, at: Path) -> Iterator[Mistake]:
    """What the type needs and does not get, and what it gets and has no use for."""
    takes = {setting.name: setting for setting in INFO[given.type].settings}
    for name in sorted(SPECIAL & given.model_fields_set - takes.keys()):
        owners = " or ".join(kind for kind, info in INFO.items() if any(one.name == name for one in info.settings))
        yield Mistake(
            (*at, name), f"means nothing to type {given.type}, it belongs to {owners}: remove it or mend type"
        )
    for setting in takes.values():
        if setting.needed and getattr(given, setting.name) is None and not _instead(given, setting):
            what = "is empty" if setting.name in given.model_fields_set else "is missing"
            like = f"{what}, type {given.type} needs it: add it, such as {setting.name}: {setting.example}"
            usual = "is missing: add it" if what == "is missing" else "is empty: write a value"
            yield Mistake((*at, setting.name), usual if given.type == "oidc" else like)


def _instead(given: ProviderShape, setting: Setting) -> bool:
    """Whether another setting says it too."""
    if setting.name == "tenant_id" and given.type == "entra":
        return "tenants" in given.model_fields_set
    return setting.name == "app_id" and given.audience is not None


def _parts(given: ProviderShape, at: Path) -> Iterator[Mistake]:
    """Settings that become part of an address: a name where a name is wanted, and nothing that changes the address."""
    for name, value, place in _each(given, at):
        taken_for = next((text for one, sign, text in _TAKEN_FOR if one == name and sign.search(value)), "")
        if taken_for:
            yield Mistake(place, f"{shown(value)!r} {taken_for}")
        elif name in _HOSTS and not _HOST.fullmatch(value):
            yield Mistake(place, f"{shown(value)!r} is no host name: write it without https:// and without a path")
        elif name in _ADDRESSES:
            yield from _url(value, given, place)
        elif name in _NAMES and not _NAME.fullmatch(value):
            yield Mistake(place, f"{shown(value)!r} is no name: letters, digits and _ . @ - are wanted")
    if given.type in _MICROSOFT:
        yield from _tenants(given, at)
    pool, region = given.user_pool_id, given.region
    if pool and region and not pool.startswith(f"{region}_"):
        yield Mistake((*at, "user_pool_id"), f"{pool!r} is no pool of {region}: its id begins with its region")


def _each(given: ProviderShape, at: Path) -> Iterator[tuple[str, str, Path]]:
    for name in sorted(SPECIAL & given.model_fields_set):
        value = getattr(given, name)
        if isinstance(value, str):
            yield name, value, (*at, name)
        for number, one in enumerate(value if isinstance(value, list) else ()):
            yield name, one, (*at, name, number)


def _tenants(given: ProviderShape, at: Path) -> Iterator[Mistake]:
    """iss holds the tenant's id, never its name."""
    if (
        given.tenant_id is not None
        and not _GUID.fullmatch(given.tenant_id)
        and not _PLACEHOLDER.search(given.tenant_id)
    ):
        yield Mistake(
            (*at, "tenant_id"), f"{given.tenant_id!r} is no tenant's id: write the GUID (Overview > Tenant ID)"
        )
    if given.type != "entra" or given.tenants is None:
        return
    if given.tenant_id is not None:
        yield Mistake((*at, "tenants"), "stands beside tenant_id: keep one of them")
    for number, tenant in enumerate(given.tenants):
        if not _GUID.fullmatch(tenant) and given.tenants != ["any"]:
            yield Mistake((*at, "tenants", number), f"{tenant!r} is no tenant's id: write GUIDs, or any alone")


def _taken(shaped: ConfigShape, number: int, issuers: dict[str, int]) -> Iterator[Mistake]:
    made = build.provider(shaped, shaped.authentication.oidc.providers[number])
    for issuer in (made.issuer, *made.other_issuers, *made.issuer_templates):
        if issuers.setdefault(issuer, number) != number:
            yield Mistake((*PROVIDERS, number, "issuer"), f"{issuer!r} is another provider's issuer: merge the two")
            return


def _in_vain(given: ProviderShape, made: Provider, at: Path) -> Iterator[Mistake]:
    """What would be silently without effect, or would let nobody pass, with the tokens of this type."""
    if given.type == "cognito" and given.audience is not None:
        yield Mistake((*at, "audience"), "means nothing to type cognito, whose tokens have no aud: remove it")
    if given.type == "entra-external" and given.tenants is not None:
        yield Mistake((*at, "tenants"), "means nothing to type entra-external: tenant_id says it, remove it")
    for name, types in _FOR_SOME.items():
        if getattr(given, name) not in (None, "allow") and given.type not in types:
            text = f"means nothing to type {given.type}: remove it, and ask for a claim in require"
            yield Mistake((*at, name), text)
    if given.tenants is not None and not made.tenant_claim:
        yield Mistake((*at, "tenants"), f"type {given.type} names no tenant in its tokens: add tenant_claim")
    if given.subject_types is not None and not made.app_if:
        text = f"type {given.type} does not tell users from apps: remove it, and ask for a claim in require"
        yield Mistake((*at, "subject_types"), text)
    if given.roles is not None and given.roles_claim is not None:
        yield Mistake((*at, "roles"), "stands beside roles_claim: keep one of them")


def _introspection(shaped: ConfigShape) -> Iterator[Mistake]:
    asking = [number for number, given in enumerate(shaped.authentication.oidc.providers) if given.introspection]
    for number in asking:
        given = shaped.authentication.oidc.providers[number]
        assert given.introspection is not None
        at = (*PROVIDERS, number, "introspection")
        yield from _url(given.introspection.url, given, (*at, "url"))
        if number != asking[0]:
            yield Mistake(at, "stands at another provider too, and an opaque token does not say whose it is: keep one")


def left_empty(given: ProviderShape | RuleShape, names: tuple[str, ...], at: Path) -> Iterator[Mistake]:
    """Who writes `clients:` and nothing after it means to let some in, not all."""
    for name in names:
        if name in given.model_fields_set and getattr(given, name) is None:
            yield Mistake((*at, name), f"is empty: write a value, or remove {name}")


def conditions(given: list[ConditionShape], at: Path) -> Iterator[Mistake]:
    """Each asks exactly one thing."""
    for number, one in enumerate(given):
        yield from one_question(one, (*at, number))


def one_question(given: ConditionShape, at: Path) -> Iterator[Mistake]:
    asked = (("equals", given.equals), ("in", given.in_), ("contains", given.contains))
    said = [name for name, value in asked if value is not None]
    if len(said) != 1:
        text = f"has {' and '.join(said)}: keep one of them" if said else "asks nothing: add equals, in or contains"
        yield Mistake(at, text)


def _urls(given: ProviderShape, at: Path) -> Iterator[Mistake]:
    for name in ("tenant_id", "issuer", "jwks_uri", "discovery_url"):
        if getattr(given, name) is None:
            continue
        url = fill(getattr(given, name), given.tenant_id)
        placeholder = _PLACEHOLDER.search(url)
        if placeholder:
            text = _holds(url, placeholder[0])
            if TENANT.fullmatch(placeholder[0]) and name != "tenant_id":
                text += ", or add tenant_id: <guid> beside it"
            yield Mistake((*at, name), text)
            return  # said once for a provider
        if name == "discovery_url":
            yield from _url(url, given, (*at, name))
        elif name != "tenant_id":
            yield from _another_address(url, (*at, name)) or _url(url, given, (*at, name))


def _holds(text: str, placeholder: str) -> str:
    return f"{shown(text)!r} holds the placeholder {placeholder}: put the value there"


def _another_address(url: str, at: Path) -> list[Mistake]:
    """An address that people know and take for the issuer or the keys."""
    document, tenant = _WELL_KNOWN.search(url), _ANY_TENANT.match(url)
    if document and at[-1] == "issuer":
        return [Mistake(at, f"{shown(url)!r} is the discovery document: leave {document[0]} off")]
    if document:
        return [Mistake(at, f"{shown(url)!r} is the discovery document: leave {at[-1]} out, discovery finds the keys")]
    if tenant and at[-1] == "issuer":
        text = f"{shown(url)!r} is no token's iss: the token's iss holds your tenant's id: put it there"
        return [Mistake(at, f"{text} in place of {tenant['tenant']}")]
    return []


def _audiences(given: ProviderShape, at: Path) -> Iterator[Mistake]:
    for number, audience in enumerate(given.audience or ()):
        placeholder = _LEFT_IN.search(audience)
        if placeholder:
            yield Mistake((*at, "audience", number), _holds(audience, placeholder[0]))
        elif _SHARED.get(given.type, _NEVER).fullmatch(audience) or audience == "*":
            text = f"{audience!r} is in tokens for other APIs too, and theirs would pass here: write your own API's"
            yield Mistake((*at, "audience", number), text)


def _url(url: str, given: ProviderShape, at: Path) -> Iterator[Mistake]:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port != 0 else None  # reading the port checks it
    except ValueError:
        parts, host = urlsplit(""), None
    if not host or parts.scheme not in ("http", "https") or not url.isascii() or not url.isprintable() or " " in url:
        yield Mistake(at, f"{shown(url)!r} is no URL: write it as https://host/path")
    elif parts.query and at[-1] == "issuer" or parts.fragment or "@" in parts.netloc or "\\" in url:
        yield Mistake(at, f"{shown(url)!r} has a user, query or fragment: remove it")
    elif parts.scheme == "http" and not (given.allow_insecure_http and host in LOOPBACK):
        yield Mistake(
            at,
            f"{shown(url)!r} is not https: use https (http only on loopback with allow_insecure_http: true)",
        )


def _algorithms(given: ProviderShape, at: Path) -> Iterator[Mistake]:
    for number, alg in enumerate(given.algorithms or ()):
        if alg not in ALGORITHMS:
            known = ", ".join(sorted(ALGORITHMS))
            yield Mistake((*at, "algorithms", number), f"{alg!r} cannot be verified: choose among {known}")
