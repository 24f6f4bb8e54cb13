"""What in a well-shaped config does not mean what its author hopes, said so that it can be mended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from authsvc.adapters.fetch import LOOPBACK, shown
from authsvc.adapters.schema import ConfigShape, ProviderShape, RuleShape
from authsvc.adapters.yamlfile import Mistake, Path
from authsvc.core import ratelimit, rbac
from authsvc.core.signature import ALGORITHMS

BUILT_IN = frozenset({"X-User-Id", "X-User-Email", "X-User-Roles", "X-User-Issuer"})
_PROVIDERS: Path = ("authentication", "oidc", "providers")
_HEADERS: Path = ("authentication", "oidc", "extract_headers")
_RULES: Path = ("authorization", "rbac", "rules")
_TIERS: Path = ("rate_limit", "tiers")
_TENANT = re.compile(r"\{tenant[-_]?id\}")
_LEFT_IN = re.compile(r"\{tenant[-_]?id\}|<[^<>]+>|\bYOUR[_-][A-Z0-9_-]+")
_PLACEHOLDER = re.compile(rf"\{{[^}}]*\}}|{_LEFT_IN.pattern}")
_WELL_KNOWN = re.compile(r"/\.well-known/(openid-configuration|oauth-authorization-server)/?\Z")
_ANY_TENANT = re.compile(
    r"https://(login\.microsoftonline\.(com|us)|login\.partner\.microsoftonline\.cn|sts\.windows\.net)"
    r"/(?P<tenant>common|organizations|consumers)(/|\Z)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})", re.ASCII)
_DOTTED = re.compile(r"[\w-]+(\.[\w-]+)+")  # a URL has a : or a / as well
_HOST = re.compile(r"[\w.-]+", re.ASCII)
_HEADER_NAME = re.compile(r"(?=.{1,64}\Z)[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*")
# Names that mean something to HTTP, to nginx or to authsvc itself (RFC 9110 section 7.6.1).
_RESERVED = re.compile(
    r"connection|keep-alive|te|trailer|transfer-encoding|upgrade|content-.*|host|date|server|expect|age|vary|via"
    r"|authorization|cookie|set-cookie|www-authenticate|proxy-.*|retry-after|ratelimit.*|location|cache-control"
    r"|expires|x-auth-.*|x-accel-.*|x-original-.*|x-forwarded-.*|forwarded|x-real-ip|x-request-id|x-api-key"
    r"|x-user-id|x-user-issuer|x-served-path|x-(http-)?method(-override)?|x-rewrite-url|range|if-.*|accept.*"
)


def check(shaped: ConfigShape) -> list[Mistake]:
    """Every mistake in what the settings say."""
    return [
        *_providers(shaped),
        *_headers(shaped),
        *_role_claims(shaped),
        *_rules(shaped),
        *_tiers(shaped),
        *_cache(shaped),
    ]


def fill(url: str, tenant_id: str | None) -> str:
    """The URL with the tenant's id in place of {tenant-id}."""
    return url if tenant_id is None else _TENANT.sub(lambda _: tenant_id, url)


def _providers(shaped: ConfigShape) -> Iterator[Mistake]:
    oidc = shaped.authentication.oidc
    names: dict[str, int] = {}
    issuers: dict[str, int] = {}
    if oidc.enabled and not oidc.providers:
        yield Mistake(_PROVIDERS, "no provider: add one, or set enabled: false")
    for number, given in enumerate(oidc.providers):
        at = (*_PROVIDERS, number)
        if names.setdefault(given.name, number) != number:
            yield Mistake((*at, "name"), f"{given.name!r} is taken by another provider: choose another name")
        issuer = fill(given.issuer, given.tenant_id)
        if issuers.setdefault(issuer, number) != number:
            yield Mistake((*at, "issuer"), f"{issuer!r} is another provider's issuer: merge the two")
        yield from _urls(given, at)
        yield from _audiences(given, at)
        yield from _algorithms(given, at)


def _urls(given: ProviderShape, at: Path) -> Iterator[Mistake]:
    for name in ("tenant_id", "issuer", "jwks_uri"):
        if getattr(given, name) is None:
            continue
        url = fill(getattr(given, name), given.tenant_id)
        placeholder = _PLACEHOLDER.search(url)
        if placeholder:
            text = _holds(url, placeholder[0])
            if _TENANT.fullmatch(placeholder[0]) and name != "tenant_id":
                text += ", or add tenant_id: <guid> beside it"
            yield Mistake((*at, name), text)
            return  # said once for a provider
        if name != "tenant_id":
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
    for number, audience in enumerate(given.audience):
        placeholder = _LEFT_IN.search(audience)
        if placeholder:
            yield Mistake((*at, "audience", number), _holds(audience, placeholder[0]))


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


def _headers(shaped: ConfigShape) -> Iterator[Mistake]:
    oidc = shaped.authentication.oidc
    seen: dict[str, int] = {}
    for number, entry in enumerate(oidc.extract_headers):
        at, name = (*_HEADERS, number, "header"), entry.header.lower()
        if not _HEADER_NAME.fullmatch(entry.header):
            yield Mistake(at, f"{entry.header!r} is no header name: use letters, digits and -")
        elif _RESERVED.fullmatch(name):
            yield Mistake(at, f"{entry.header!r} has a meaning of its own: choose another name, such as X-Claim-Name")
        elif seen.setdefault(name, number) != number:
            yield Mistake(at, f"{entry.header!r} is filled twice: remove one of them")
        yield from _built_in(shaped, number)


def _built_in(shaped: ConfigShape, number: int) -> Iterator[Mistake]:
    """X-User-Roles and X-User-Email say what authsvc decided on, never another claim."""
    oidc = shaped.authentication.oidc
    entry = oidc.extract_headers[number]
    for name, setting in (("X-User-Roles", "roles_claim"), ("X-User-Email", "email_claim")):
        meant = (["roles"], ["email"], getattr(oidc, setting), shaped.authorization.rbac.roles_claim)
        if entry.header.lower() == name.lower() and (entry.header != name or entry.claim not in meant):
            text = f"{name} always carries what {setting} names: remove this entry, or set {setting}"
            yield Mistake((*_HEADERS, number, "claim"), text)


def _role_claims(shaped: ConfigShape) -> Iterator[Mistake]:
    oidc, rbac_claim = shaped.authentication.oidc, shaped.authorization.rbac.roles_claim
    both_said = rbac_claim is not None and "roles_claim" in oidc.model_fields_set
    if both_said and rbac_claim != oidc.roles_claim:
        at = ("authorization", "rbac", "roles_claim")
        yield Mistake(at, "differs from authentication.oidc.roles_claim: say it once, or the same in both places")


def _rules(shaped: ConfigShape) -> Iterator[Mistake]:
    earlier: list[tuple[int, rbac.Rule]] = []
    for number, given in enumerate(shaped.authorization.rbac.rules):
        at = (*_RULES, number)
        yield from _methods(given, at)
        if given.allowed_roles is None and "allowed_roles" in given.model_fields_set:
            yield Mistake((*at, "allowed_roles"), "is empty: write [] for everyone, or list roles")
        try:
            made = rbac.rule(given.path, given.method, given.allowed_roles)
        except ValueError as problem:
            yield Mistake((*at, "path"), f"{given.path!r} cannot be matched: {problem}")
            continue
        cover = rbac.covered_by(made, [rule for _, rule in earlier])
        if cover is not None:
            first = next(index for index, rule in earlier if rule is cover)
            yield Mistake(
                (*at, "path"), f"{given.path!r} can never match, rule {first} covers it: move this rule before it"
            )
        earlier.append((number, made))


def _methods(given: RuleShape, at: Path) -> Iterator[Mistake]:
    for number, method in enumerate(given.method or ()):
        if method.upper() in ("*", "ALL", "ANY"):
            yield Mistake((*at, "method", number), f"{method!r} is no method: leave method out for all")
        elif not rbac.METHOD.fullmatch(method):
            text = f"{method!r} is no method: write it in capitals, such as GET"
            yield Mistake((*at, "method", number), text)


def _tiers(shaped: ConfigShape) -> Iterator[Mistake]:
    limits = shaped.rate_limit
    taken: dict[str | None, str] = {}
    if limits.anonymous is not None:
        yield from _rate(limits.anonymous.limit, ("rate_limit", "anonymous", "limit"))
    for name, tier in limits.tiers.items():
        yield from _rate(tier.limit, (*_TIERS, name, "limit"))
        claim = tier.matching_claim
        at = (*_TIERS, name, "matching_claim") if claim else (*_TIERS, name)
        if claim is not None and not all(claim.partition("=")):
            yield Mistake(at, f"{claim!r} names no value: write claim=value, such as plan=free")
        elif taken.setdefault(claim, name) != name:
            which = f"{claim!r} is already matched by tier" if claim else "has no matching_claim, and neither has tier"
            yield Mistake(at, f"{which} {taken[claim]}: this one can never match")


def _rate(text: str, at: Path) -> Iterator[Mistake]:
    if text.isascii() and text.isdecimal():
        yield Mistake(at, f"{text!r} names no period: write {text}/hour")
        return
    try:
        ratelimit.parse_rate(text)
    except ValueError as problem:
        yield Mistake(at, f"{text!r} cannot be read: {problem}")


def _cache(shaped: ConfigShape) -> Iterator[Mistake]:
    for number, address in enumerate(shaped.cache.memcached or ()):
        found = _ADDRESS.fullmatch(address)
        socket = address.startswith(("/", "unix:/")) and "://" not in address
        if not socket and not (found and 0 < int(found["port"]) < 65536):
            text = f"{shown(address)!r} is no address: write {_address(address)}"
            yield Mistake(("cache", "memcached", number), text)
    if shaped.cache.secret and shaped.cache.secret_file:
        yield Mistake(("cache", "secret"), "stands beside secret_file: keep one of them")


def _address(written: str) -> str:
    """What to write for something that is no address of a memcached."""
    scheme, _, rest = written.rpartition("://")
    if scheme.lower() in ("unix", "file"):
        return f"unix:{rest}"
    parts = re.split(r"[,\s]+", written)
    if len(parts) > 1 and all(map(_ADDRESS.fullmatch, parts)):
        return f"[{', '.join(parts)}]"
    place = rest.rpartition("@")[2].partition("/")[0]
    if _ADDRESS.fullmatch(place) and scheme:
        return place
    return f"{place}:11211" if _HOST.fullmatch(place) else "host:port or the path of a unix socket"


def notes(shaped: ConfigShape) -> list[str]:
    """What is no mistake but may be meant otherwise."""
    return [
        f"{'.'.join(map(str, at))}: {claim[0]!r} is one name with a dot; for a path write {_as_path(claim[0])}"
        for at, claim in _claims(shaped)
        if claim and len(claim) == 1 and _DOTTED.fullmatch(claim[0])
    ]


def _as_path(name: str) -> str:
    return f"[{', '.join(name.split('.'))}]"


def _claims(shaped: ConfigShape) -> Iterator[tuple[Path, list[str] | None]]:
    """Every setting that names a claim, and where it stands."""
    oidc = shaped.authentication.oidc
    for name in ("user_claim", "email_claim", "roles_claim"):
        yield ("authentication", "oidc", name), getattr(oidc, name)
        for number, given in enumerate(oidc.providers):
            yield (*_PROVIDERS, number, name), getattr(given, name)
    for number, entry in enumerate(oidc.extract_headers):
        yield (*_HEADERS, number, "claim"), entry.claim
    yield ("authorization", "rbac", "roles_claim"), shaped.authorization.rbac.roles_claim
    yield ("rate_limit", "claim"), shaped.rate_limit.claim
