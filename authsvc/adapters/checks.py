"""What in a well-shaped config does not mean what its author hopes, said so that it can be mended."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from authsvc.adapters import checkkeeping, checkkeys, checklimits, checkproviders, headernames
from authsvc.adapters.connection import BadTlsFile, TlsFiles, context_of
from authsvc.adapters.fetch import shown
from authsvc.adapters.schema import CacheShape, ConfigShape, RuleShape
from authsvc.adapters.yamlfile import Mistake, Path
from authsvc.core import rbac, rulecover, ruletree
from authsvc.core.callers import NAME

BUILT_IN = frozenset({"X-User-Id", "X-User-Email", "X-User-Roles", "X-User-Issuer", "X-User-Tenant"})
_PROVIDERS = checkproviders.PROVIDERS
_HEADERS: Path = ("authentication", "oidc", "extract_headers")
_RULES: Path = ("authorization", "rbac", "rules")
_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})", re.ASCII)
_HOST = re.compile(r"[\w.-]+", re.ASCII)
ASKS = ("scopes", "mfa", "max_age", "acr", "providers", "clients", "tenants", "require")


def check(shaped: ConfigShape) -> list[Mistake]:
    """Every mistake in what the settings say."""
    return [
        *checkproviders.check(shaped),
        *_headers(shaped),
        *_role_claims(shaped),
        *_rules(shaped),
        *checkkeys.check(shaped),
        *checklimits.check(shaped),
        *checkkeeping.check(shaped),
        *_cache(shaped),
    ]


def _headers(shaped: ConfigShape) -> Iterator[Mistake]:
    oidc = shaped.authentication.oidc
    seen: dict[str, int] = {}
    for number, entry in enumerate(oidc.extract_headers):
        at, name = (*_HEADERS, number, "header"), entry.header.lower()
        if not headernames.SHAPE.fullmatch(entry.header):
            yield Mistake(at, f"{entry.header!r} is no header name: use letters, digits and -")
        elif headernames.RESERVED.fullmatch(name):
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
    made: dict[int, rbac.Rule] = {}
    known = _known(shaped)
    for number, given in enumerate(shaped.authorization.rbac.rules):
        at = (*_RULES, number)
        yield from _methods(given, at)
        yield from _asks(known, given, at)
        if given.allowed_roles is None and "allowed_roles" in given.model_fields_set:
            yield Mistake((*at, "allowed_roles"), "is empty: write [] for everyone, or list roles")
        try:
            made[number] = rbac.rule(given.path, given.method, given.allowed_roles)
        except ValueError as problem:
            yield Mistake((*at, "path"), f"{given.path!r} cannot be matched: {problem}")
    yield from _covered(shaped, made)


def _covered(shaped: ConfigShape, rules: Mapping[int, rbac.Rule]) -> Iterator[Mistake]:
    """Rules that can never match, of those that have a path."""
    tree, numbers = ruletree.grown(rules.values()), list(rules)
    for place, (number, rule) in enumerate(rules.items()):
        first = rulecover.coverer(tree, rule, place)
        if first is not None:
            given = shaped.authorization.rbac.rules[number].path
            text = f"{given!r} can never match, rule {numbers[first]} covers it: move this rule before it"
            yield Mistake((*_RULES, number, "path"), text)


def _known(shaped: ConfigShape) -> dict[str, None]:
    """The names of providers, in their order."""
    oidc, keys = shaped.authentication.oidc, shaped.authentication.api_keys
    return dict.fromkeys([one.name for one in oidc.providers] + ([NAME] if keys else []))


def _asks(known: Collection[str], given: RuleShape, at: Path) -> Iterator[Mistake]:
    asked = [name for name in ASKS if getattr(given, name)]
    if given.allowed_roles == [] and asked:
        yield Mistake((*at, asked[0]), "asks something of nobody: allowed_roles: [] lets everyone pass, leave one out")
    yield from checkproviders.left_empty(given, ASKS, at)
    if given.scopes is not None and not (given.scopes.all or given.scopes.any):
        yield Mistake((*at, "scopes"), "names no scope: write a list, or any: or all: with one")
    for scope in ((given.scopes.all or []) + (given.scopes.any or [])) if given.scopes else ():
        if " " in scope:
            text = f"{scope!r} is no scope, for none has a blank: write [{', '.join(scope.split())}]"
            yield Mistake((*at, "scopes"), text)
    for number, name in enumerate(given.providers or ()):
        if name not in known:
            yield Mistake(
                (*at, "providers", number), f"{name!r} is no provider: known here are {', '.join(known) or 'none'}"
            )
    yield from checkproviders.conditions(given.require, (*at, "require"))


def _methods(given: RuleShape, at: Path) -> Iterator[Mistake]:
    for number, method in enumerate(given.method or ()):
        if method.upper() in ("*", "ALL", "ANY"):
            yield Mistake((*at, "method", number), f"{method!r} is no method: leave method out for all")
        elif not rbac.METHOD.fullmatch(method):
            text = f"{method!r} is no method: write it in capitals, such as GET"
            yield Mistake((*at, "method", number), text)


def _cache(shaped: ConfigShape) -> Iterator[Mistake]:
    for number, address in enumerate(shaped.cache.memcached or ()):
        found = _ADDRESS.fullmatch(address)
        socket = address.startswith(("/", "unix:/")) and "://" not in address
        if not socket and not (found and 0 < int(found["port"]) < 65536):
            text = f"{shown(address)!r} is no address: write {_address(address)}"
            yield Mistake(("cache", "memcached", number), text)
    if shaped.cache.secret and shaped.cache.secret_file:
        yield Mistake(("cache", "secret"), "stands beside secret_file: keep one of them")
    yield from _access(shaped.cache)


def _access(cache: CacheShape) -> Iterator[Mistake]:
    for name, other in (("username", "password_file"), ("password_file", "username")):
        if getattr(cache, name) and not getattr(cache, other):
            yield Mistake(("cache", name), f"stands alone: add {other}, or remove it")
    if cache.tls is None:
        return
    if cache.tls.key_file and not cache.tls.cert_file:
        yield Mistake(("cache", "tls", "key_file"), "stands alone: add cert_file, or remove it")
        return
    try:
        context_of(TlsFiles(cache.tls.ca_file, cache.tls.cert_file, cache.tls.key_file))
    except BadTlsFile as problem:
        yield Mistake(("cache", "tls"), str(problem))


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
