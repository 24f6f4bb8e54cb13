"""Where a provider's keys are, and one download of them: discovery, then the key set, within one deadline."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from authsvc.adapters.fetch import DEADLINE_S, Fetched, FetchFailed, check_url, fetch_json, shown
from authsvc.core import jwks
from authsvc.core.jwt import Provider


@dataclass(frozen=True, slots=True)
class Download:
    """A good answer: the keys, and for how many seconds the provider wants them used, where it says so."""

    keys: jwks.KeySet
    max_age_s: float | None


def download(provider: Provider, now: float) -> Download:
    """The provider's keys, found by discovery where the config names no `jwks_uri`. Raises `FetchFailed`."""
    ends = time.monotonic() + DEADLINE_S  # for both documents: a call may be waiting
    uri = provider.jwks_uri or _discover(provider)
    found = _get(provider, uri, max(ends - time.monotonic(), 0.1))
    try:
        return Download(jwks.admit(found.document, provider.algorithms, now, shown(uri)), found.max_age_s)
    except ValueError as problem:
        raise FetchFailed("no_keys", f"{shown(uri)}: {problem}") from None


def _get(provider: Provider, url: str, deadline_s: float) -> Fetched:
    return fetch_json(url, ca_file=provider.ca_file, allow_http=provider.allow_insecure_http, deadline_s=deadline_s)


def _discover(provider: Provider) -> str:
    """OpenID Connect Discovery 1.0 section 4.3: the document's issuer must be ours byte for byte."""
    url = provider.issuer.removesuffix("/") + "/.well-known/openid-configuration"
    document = _get(provider, url, DEADLINE_S).document
    if document.get("issuer") != provider.issuer:
        theirs = repr(document.get("issuer"))[:200]
        text = f"{shown(url)}: its issuer is {theirs}, the config says {provider.issuer!r}"
        raise FetchFailed("wrong_issuer", text)
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise FetchFailed("no_jwks_uri", f"{shown(url)}: it names no jwks_uri")
    check_url(uri, provider.allow_insecure_http)
    _check_host(uri, provider.issuer)
    return uri


def _check_host(uri: str, issuer: str) -> None:
    """A document that was tampered with must not send us to any other host: that one must stand in the config."""
    theirs, ours = urlsplit(uri).hostname or "", urlsplit(issuer).hostname or ""
    if theirs != ours and not theirs.endswith(f".{ours}"):
        text = f"its jwks_uri is {shown(uri)!r}, on another host than the issuer: if that is right, set jwks_uri"
        raise FetchFailed("other_host", f"{issuer}: {text}")
