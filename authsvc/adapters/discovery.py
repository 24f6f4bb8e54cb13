"""Where a provider's keys are, and one download of them: discovery, then the key set, within one deadline."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from authsvc.adapters.fetch import DEADLINE_S, Fetched, FetchFailed, check_url, fetch_json, shown
from authsvc.core import jwks
from authsvc.core.provider import Provider


@dataclass(frozen=True, slots=True)
class Download:
    """A good answer: the keys, and for how many seconds the provider wants them used, where it says so."""

    keys: jwks.KeySet
    max_age_s: float | None


def download(provider: Provider, now: float) -> Download:
    """The provider's keys, found by discovery where the config names no `jwks_uri`. Raises `FetchFailed`.

    Where there are several discovery documents (policies of Azure AD B2C), all of them must answer.
    """
    ends = time.monotonic() + DEADLINE_S  # for all documents: a call may be waiting
    uris = (provider.jwks_uri,) if provider.jwks_uri else _discover_all(provider, ends)
    first, *others = [_keys(provider, uri, now, ends) for uri in uris]
    for other in others:
        keys = {key.digest: key for key in (*first.keys.keys, *other.keys.keys)}
        ages = [age for age in (first.max_age_s, other.max_age_s) if age is not None]
        dropped = first.keys.dropped + other.keys.dropped
        joined = replace(first.keys, keys=tuple(keys.values())[: jwks.MAX_KEYS], dropped=dropped)
        first = Download(joined, min(ages, default=None))
    return first


def documents(provider: Provider) -> tuple[str, ...]:
    """The addresses of its discovery documents (OpenID Connect Discovery 1.0 section 4)."""
    usual = provider.issuer.removesuffix("/") + "/.well-known/openid-configuration"
    return provider.discovery_urls or (usual,)


def _discover_all(provider: Provider, ends: float) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_discover(provider, url, ends) for url in documents(provider)))


def _keys(provider: Provider, uri: str, now: float, ends: float) -> Download:
    found = _get(provider, uri, ends)
    try:
        return Download(jwks.admit(found.document, provider.algorithms, now, shown(uri)), found.max_age_s)
    except ValueError as problem:
        raise FetchFailed("no_keys", f"{shown(uri)}: {problem}") from None


def _get(provider: Provider, url: str, ends: float) -> Fetched:
    return fetch_json(
        url,
        ca_file=provider.ca_file,
        allow_http=provider.allow_insecure_http,
        deadline_s=max(ends - time.monotonic(), 0.1),
        bearer=_token(provider),
    )


def _token(provider: Provider) -> str:
    """Read each time: Kubernetes writes a new one every hour."""
    if provider.token_file is None:
        return ""
    try:
        return Path(provider.token_file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise FetchFailed("token_file", f"the token file {provider.token_file} cannot be read") from None


def _discover(provider: Provider, url: str, ends: float) -> str:
    """OpenID Connect Discovery 1.0 section 4.3: the document's issuer must be ours byte for byte."""
    document = _get(provider, url, ends).document
    if document.get("issuer") not in (provider.issuer, *provider.other_issuers, *provider.issuer_templates):
        theirs = repr(document.get("issuer"))[:200]
        text = f"{shown(url)}: its issuer is {theirs}, the config says {provider.issuer!r}"
        raise FetchFailed("wrong_issuer", text)
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise FetchFailed("no_jwks_uri", f"{shown(url)}: it names no jwks_uri")
    check_url(uri, provider.allow_insecure_http)
    _check_host(uri, url, provider)
    return uri


def _check_host(uri: str, document: str, provider: Provider) -> None:
    """A document that was tampered with must not send us to any other host: that one must stand in the config."""
    theirs = urlsplit(uri).hostname or ""
    ours = {urlsplit(document).hostname or "", urlsplit(provider.issuer).hostname or "", *provider.jwks_hosts} - {""}
    if "%" in theirs or not any(theirs == host or theirs.endswith(f".{host}") for host in ours):
        text = f"its jwks_uri is {shown(uri)!r}, on another host than the issuer: if that is right, set jwks_uri"
        raise FetchFailed("other_host", f"{provider.issuer}: {text}")
