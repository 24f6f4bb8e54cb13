"""`authsvc check --online`: asks each provider for its keys, and says what is good, what is wrong and what to do.

The download is the one that authsvc makes itself; what else is asked here is only to find better words for a failure.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from authsvc.adapters.discovery import documents, download
from authsvc.adapters.fetch import FetchFailed, fetch_json, shown
from authsvc.adapters.yamlfile import visible
from authsvc.core import jwks
from authsvc.core.jwks import Dropped, KeySet
from authsvc.core.provider import TENANT, Provider
from authsvc.core.signature import ALGORITHMS

OK = "ok"
_DOCUMENT = ".well-known/openid-configuration"
_SEE_ISS = "see what the iss of your tokens is, and write that"
_BROWSER = "open this address in a browser: what answers there is no provider of tokens"

# How a download can fail -> what to do about it. Each outcome of fetch.py and discovery.py has its words.
NEXT_STEPS: Mapping[str, str] = {
    "unreachable": "see whether this machine reaches the host and port directly: authsvc uses no proxy",
    "timeout": "see whether this machine reaches the provider, and how fast: two seconds are all a call can wait",
    "tls": "compare the host name with the certificate's; for a private CA set ca_file to its PEM file",
    "status": "compare the address with the one the provider documents",
    "status_5xx": "see what is wrong at the provider, or at the proxy before it",
    "redirect": "write the address it redirects to, in issuer or jwks_uri: redirects are not followed",
    "compressed": "switch compression off for this address at the provider, or at the proxy before it",
    "too_large": f"{_BROWSER}, or lists far more keys than anybody needs",
    "broken": "see what stands between this machine and the provider: something cuts or changes the answer",
    "not_json": _BROWSER,
    "not_allowed": "write the address with https:// and without a user in it, in issuer or jwks_uri",
    "wrong_issuer": "write the issuer in the config exactly as the provider does, to the last slash",
    "no_jwks_uri": "set jwks_uri to the address of the keys: the provider's discovery document does not name it",
    "other_host": "if the keys are really there, write that address into the config",
    "token_file": "mend jwks_token_file: a file that authsvc may read, with the token and nothing else",
    "no_keys": "have the provider publish a public key for signatures, of an algorithm that is accepted",
}

_KEYCLOAK = re.compile(r"(?P<base>https?://.+?)/realms/(?P<realm>[^/]+)")
# Whose discovery document it is, by its address -> what is wrong where nothing is found below it.
_NOT_THERE: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"https://(login\.microsoftonline\.|sts\.windows\.)"),
        "Entra knows no such tenant: compare tenant_id with Overview > Tenant ID in the Entra admin center",
    ),
    (
        re.compile(r"https://[^/]+\.ciamlogin\.com/"),
        "External ID knows no such tenant: compare subdomain and tenant_id with the tenant's overview",
    ),
    (
        re.compile(r"https://[^/]+\.b2clogin\.com/"),
        "B2C knows no such tenant or policy: compare subdomain, tenant_id and policies (with their B2C_1_)",
    ),
    (
        re.compile(r"https://[^/]+/oauth2/"),
        "Okta knows no such authorization server: compare with the Issuer URI below Security > API",
    ),
    (
        re.compile(r"https://[^/]+\.auth0\.com/"),
        "Auth0 knows no such tenant: compare domain with an application's settings, region included",
    ),
    (
        re.compile(r"https://cognito-idp\."),
        "Cognito knows no such user pool: compare region and user_pool_id with the pool's overview",
    ),
)
# Whose access tokens may be opaque -> how to get others.
_MAY_BE_OPAQUE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"https://[^/]+\.auth0\.com/"), "ask with an audience: audience={audience}"),
    (re.compile(r"https://[^/]+\.zitadel\.cloud"), "set the application's access token type to JWT"),
    (re.compile(r"https://[^/]+\.oryapis\.com"), "set the access token strategy to jwt"),
)
# RFC 8037 appendix A.2. A key set tells why its keys are dropped only if one of them is good; this one is.
_GOOD = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "a good one"}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a provider answered; `outcome` is ok or a slug of `NEXT_STEPS`."""

    provider: str
    outcome: str
    text: str
    next_step: str = ""
    unused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.outcome == OK

    def as_json(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "outcome": self.outcome,
            "text": self.text,
            "next_step": self.next_step,
            "unused": list(self.unused),
            "warnings": list(self.warnings),
        }

    def as_text(self) -> str:
        lines = [f"{self.provider}: {self.text}"]
        lines += [f"  not used: {one}" for one in self.unused]
        lines += [f"  warning: {one}" for one in self.warnings]
        lines += [f"  next: {self.next_step}"] if self.next_step else []
        return "\n".join(map(visible, lines))


@dataclass(frozen=True, slots=True)
class _Words:
    """What a closer look found out about a failure."""

    text: str
    next_step: str
    dropped: tuple[Dropped, ...] = ()


def ask_all(providers: Iterable[Provider]) -> list[Answer]:
    """Each provider, one after the other."""
    return [ask(provider, time.time()) for provider in providers]


def ask(provider: Provider, now: float) -> Answer:
    """One download of this provider's keys, in words."""
    try:
        keys = download(provider, now).keys
    except FetchFailed as problem:
        look = _LOOKS.get(problem.outcome)
        words = (look and look(provider, problem)) or _Words(str(problem), NEXT_STEPS[problem.outcome])
        told = (words.text, words.next_step, *_told(words.dropped))
        return Answer(provider.name, problem.outcome, *told)
    unused, warnings = _told(keys.dropped)
    return Answer(provider.name, OK, _good(keys), "", unused, warnings + _opaque(provider))


def _good(keys: KeySet) -> str:
    count = "1 key" if len(keys.keys) == 1 else f"{len(keys.keys)} keys"
    sources = " and ".join(sorted({key.source for key in keys.keys}))
    return f"ok, {count} from {sources}, {_algorithms(keys)}"


def _algorithms(keys: KeySet) -> str:
    return ", ".join(sorted({alg for key in keys.keys for alg in key.verifiers}))


def _told(dropped: Iterable[Dropped]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Keys that are not used, and what to warn of."""
    named = [(one, f"{one.kid or 'a key without kid'}: {one.problem}") for one in dropped]
    advice = "whoever reads it can make tokens elsewhere: replace it at the provider"
    return tuple(text for _, text in named), tuple(f"{text}: {advice}" for one, text in named if one.unsafe)


def _opaque(provider: Provider) -> tuple[str, ...]:
    """Known only of products whose tokens are opaque unless a client or an application asks for others."""
    advice = next((advice for issuer, advice in _MAY_BE_OPAQUE if issuer.match(provider.issuer)), "")
    if not advice or provider.opaque:
        return ()
    return (opaque_warning(provider, advice, next(_documents(provider), {})),)


def opaque_warning(provider: Provider, advice: str, document: Mapping[str, Any]) -> str:
    text = f"access tokens may be opaque: {advice.format(audience=' or '.join(sorted(provider.audiences)))}"
    endpoint = document.get("introspection_endpoint")
    return f"{text}; or set introspection, with url: {endpoint}" if isinstance(endpoint, str) else text


# ---- a closer look at what failed


def _documents(provider: Provider) -> Iterator[dict[str, Any]]:
    """The discovery documents that can be had."""
    found = (_try(provider, url) for url in documents(provider))
    return (document for document in found if document is not None)


def _try(provider: Provider, url: str) -> dict[str, Any] | None:
    """Without the token of jwks_token_file, which goes only where discovery itself sends it."""
    try:
        return fetch_json(url, ca_file=provider.ca_file, allow_http=provider.allow_insecure_http).document
    except FetchFailed:
        return None


def _wrong_issuer(provider: Provider, _: FetchFailed) -> _Words | None:
    ours = (provider.issuer, *provider.other_issuers, *provider.issuer_templates)
    theirs = next((said for one in _documents(provider) if (said := one.get("issuer")) not in ours), None)
    if not isinstance(theirs, str):
        return None
    text = f"the discovery document says its issuer is {theirs[:200]!r}, the config says {provider.issuer!r}"
    return _Words(text, f"{spelling(theirs, provider.issuer)}: issuer: {theirs[:200]}")


def spelling(theirs: str, ours: str) -> str:
    """What to change in our spelling of an issuer so that it is theirs."""
    if theirs == f"{ours}/":
        return "write it with the slash at the end"
    if f"{theirs}/" == ours:
        return "write it without the slash at the end"
    if theirs.lower() == ours.lower():
        return "write it with the same capitals"
    if theirs.rstrip("/").lower() == ours.rstrip("/").lower():
        return "write it with the same capitals, and the same end"
    if TENANT in theirs:
        return "the document is that of all tenants, and no token's iss: write your tenant's id in place of {tenantid}"
    try:
        return _other_place(urlsplit(theirs), urlsplit(ours))
    except ValueError:  # no URL at all
        return _SEE_ISS


def _other_place(theirs: SplitResult, ours: SplitResult) -> str:
    if theirs.path != ours.path or not theirs.netloc:
        return _SEE_ISS
    if theirs.netloc == ours.netloc:
        return f"write it with {theirs.scheme}://"
    if "/realms/" in ours.path:
        return f"Keycloak calls itself {theirs.netloc}: set its --hostname to what its callers use, or write"
    return f"the provider calls itself {theirs.netloc}: write it with that host"


def _status(provider: Provider, problem: FetchFailed) -> _Words | None:
    """What it means that an address is not there; only Keycloak's can be guessed."""
    if problem.status in (401, 403):
        return _Words(str(problem), "it asks who we are: set jwks_token_file to a file with a token for it")
    if problem.status not in (400, 404):
        return None
    if provider.jwks_uri:
        return _Words(str(problem), "compare jwks_uri with the provider's discovery document, or leave it out")
    realm = _KEYCLOAK.fullmatch(provider.issuer)
    if realm:
        return _Words(str(problem), _other_base(provider, realm["base"], realm["realm"]))
    known = next((advice for place, advice in _NOT_THERE if place.match(documents(provider)[0])), "")
    return _Words(str(problem), known) if known else None


def _other_base(provider: Provider, base: str, realm: str) -> str:
    """Keycloak before 17 had /auth before all paths, and some keep it."""
    other = base.removesuffix("/auth") if base.endswith("/auth") else f"{base}/auth"
    if _try(provider, f"{other}/realms/{realm}/{_DOCUMENT}") is not None:
        return f"{other}/realms/{realm} answers: write base_url: {other}, or issuer: {other}/realms/{realm}"
    return f"{other}/realms/{realm} does not answer either: compare the realm's name {realm!r}, capitals count"


def _unreachable(provider: Provider, problem: FetchFailed) -> _Words | None:
    host = urlsplit(str(problem).split(": ")[0]).hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as unknown:
        if getattr(unknown, "errno", 0) == socket.EAI_AGAIN:
            return _Words(f"{problem}: no name server answers", "see whether this machine can look up host names")
        return _Words(f"{problem}: no name server knows {host!r}", "compare the host's name with the provider's")
    return None


def _other_host(provider: Provider, problem: FetchFailed) -> _Words | None:
    said = (one.get("jwks_uri") for one in _documents(provider))
    uri = next((uri for uri in said if isinstance(uri, str) and repr(shown(uri)) in str(problem)), None)
    return _Words(str(problem), f"{NEXT_STEPS['other_host']}: jwks_uri: {uri[:500]}") if uri else None


def _no_keys(provider: Provider, problem: FetchFailed) -> _Words | None:
    """Why none of the keys is used."""
    listed = _listed(provider, problem)
    if listed is None or len(listed) >= jwks.MAX_KEYS:
        return None
    if not listed:
        return _Words(f"{problem}: its list of keys is empty", NEXT_STEPS["no_keys"])
    found = jwks.admit({"keys": [*listed, _GOOD]}, ALGORITHMS, 0)
    others = KeySet(tuple(key for key in found.keys if key.kid != _GOOD["kid"]), 0)
    if not others.keys:
        return _Words(str(problem), NEXT_STEPS["no_keys"], found.dropped)
    theirs, ours = _algorithms(others), ", ".join(sorted(provider.algorithms))
    unfit = tuple(Dropped(key.kid, f"is for {_algorithms(KeySet((key,), 0))}") for key in others.keys)
    text = f"the provider's keys are for {theirs}; accepted is {ours}"
    return _Words(text, f"add to the provider's algorithms what it signs with: {theirs}", found.dropped + unfit)


def _listed(provider: Provider, problem: FetchFailed) -> list[Any] | None:
    """The keys as the provider lists them, at the address that the problem names."""
    uris = [provider.jwks_uri, *(one.get("jwks_uri") for one in _documents(provider))]
    meant = (uri for uri in uris if isinstance(uri, str) and str(problem).startswith(f"{shown(uri)}: "))
    document = next((_try(provider, uri) for uri in meant), None)
    listed = document.get("keys") if document else None
    return listed if isinstance(listed, list) else None


_LOOKS: Mapping[str, Callable[[Provider, FetchFailed], _Words | None]] = {
    "wrong_issuer": _wrong_issuer,
    "status": _status,
    "unreachable": _unreachable,
    "other_host": _other_host,
    "no_keys": _no_keys,
}
