"""The config file becomes values: every mistake at once, each with file:line:column and what to do next."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

from authsvc.adapters import build, checks, keynotes, warnings
from authsvc.adapters.connection import Access, TlsFiles
from authsvc.adapters.introspection import Introspection
from authsvc.adapters.limiter import OnStoreError
from authsvc.adapters.schema import CacheShape, ConfigShape, OidcShape, shape
from authsvc.adapters.yamlfile import Document, Mistake, Note, read, visible
from authsvc.core.callers import Rollout
from authsvc.core.claims import ClaimPath
from authsvc.core.keylife import KeyTimes
from authsvc.core.provider import Provider
from authsvc.core.ratelimit import Limits
from authsvc.core.rbac import DEFAULT, Policy
from authsvc.core.response import RateHeaders


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a config file says, as values of core/. `notes` are what `check` should say aloud."""

    providers: tuple[Provider, ...]
    policy: Policy
    limits: Limits
    extract: Mapping[str, ClaimPath]
    key_times: KeyTimes
    memcached: tuple[str, ...]
    access: Access
    on_store_error: OnStoreError
    rate_headers: RateHeaders
    sample_allows: float
    api_keys: build.KeySettings | None = None
    rollout: Rollout = Rollout()
    secret: bytes | None = field(default=None, repr=False)
    introspection: Mapping[str, Introspection] = field(default_factory=dict, repr=False)  # by provider
    notes: tuple[str, ...] = ()
    digest: str = field(default="", repr=False)  # of all that the file says; the same in every process
    outdated: bool = False  # the file has changed and has mistakes, so these older settings are still in force


class ConfigError(Exception):
    """The file has mistakes, or could not be read. `lines` say each of them as `file:line:column: setting: text`."""

    def __init__(self, lines: list[str], *, unread: bool = False) -> None:
        super().__init__("\n".join(lines))
        self.lines, self.unread = lines, unread


def load(path: str, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a file, with the notes of today. Raises `ConfigError` with every mistake."""
    environ = os.environ if environ is None else environ
    try:
        text = FilePath(path).read_text("utf-8")
    except OSError as problem:
        text = f"{path}: cannot be read: {(problem.strerror or 'no reason given').lower()}"
        raise ConfigError([text], unread=True) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8 text"], unread=True) from None
    with _no_collections():
        return parse(text, path, environ, time.time())


@contextmanager
def _no_collections() -> Iterator[None]:
    """The collector would look through a million values of 10,000 rules again and again: 2.8 s in place of 1.0 s."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def parse(text: str, path: str, environ: Mapping[str, str], now: float | None = None) -> Settings:
    """The settings in a text; `path` is only for messages, `now` for notes about days. Raises `ConfigError`."""
    document = read(text, environ, quick=True)
    shaped, mistakes = _understood(document)
    if mistakes:
        document = read(text, environ)
        shaped, mistakes = _understood(document)
    if mistakes or shaped is None:
        raise ConfigError([_line(path, document, mistake) for mistake in _in_order(document, mistakes)])
    made = _settings(shaped, environ)
    noted = [*_notes(shaped), *(keynotes.notes(shaped, now) if now is not None else ())]
    told = (_note(path, document, note) for note in noted)
    return replace(made, digest=_digest(document), notes=(*made.notes, *told))


def _understood(document: Document) -> tuple[ConfigShape | None, list[Mistake]]:
    if document.data is None and document.mistakes:  # of a file that cannot be read nothing else is known
        return None, document.mistakes
    shaped, misshapen = shape(document.data)
    meant = checks.check(shaped) if shaped else []
    found = misshapen + [mistake for mistake in meant if not _within(mistake, misshapen)]
    return shaped, document.mistakes + [one for one in found if not document.concerns_unread(one.path)]


def _digest(document: Document) -> str:
    text = json.dumps(document.data, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def _within(mistake: Mistake, others: list[Mistake]) -> bool:
    """Whether one of the others is about the same place, or one around it or within it."""
    return any(all(a == b for a, b in zip(mistake.path, other.path, strict=False)) for other in others)


def _in_order(document: Document, mistakes: list[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: mistake.at or document.locate(mistake.path))


def _line(file: str, document: Document, mistake: Mistake) -> str:
    line, column = mistake.at or document.locate(mistake.path)
    setting = visible(".".join(map(str, document.written(mistake.path))))
    return f"{file}:{line}:{column}: {setting + ': ' if setting else ''}{visible(mistake.text)}"


def _note(file: str, document: Document, note: Note) -> str:
    return _line(file, document, Mistake(note.path, note.text)) if note.path else visible(note.text)


def _settings(shaped: ConfigShape, environ: Mapping[str, str]) -> Settings:
    oidc = shaped.authentication.oidc
    secret, notes = _secret(shaped, environ)
    introspection, unread = _introspection(oidc)
    access, locked_out = _access(shaped.cache)
    return Settings(
        providers=tuple(build.provider(shaped, given) for given in oidc.providers) if oidc.enabled else (),
        policy=_policy(shaped),
        limits=build.limits(shaped.rate_limit),
        extract={e.header: tuple(e.claim) for e in oidc.extract_headers if e.header not in checks.BUILT_IN},
        key_times=KeyTimes(
            oidc.jwks_cache_ttl, oidc.jwks_refresh_interval, oidc.jwks_refresh_cooldown, oidc.jwks_max_stale
        ),
        memcached=tuple(shaped.cache.memcached or ()),
        access=access,
        on_store_error=shaped.rate_limit.on_store_error,
        rate_headers=shaped.rate_limit.headers,
        api_keys=build.api_keys(shaped.authentication),
        rollout=build.rollout(shaped.authentication.migration),
        sample_allows=shaped.audit.sample_allows,
        secret=secret,
        introspection=introspection,
        notes=tuple(notes + locked_out + unread),
    )


def _policy(shaped: ConfigShape) -> Policy:
    rbac, keep_s = shaped.authorization.rbac, shaped.authorization.decision_cache
    default = replace(DEFAULT, keep_s=keep_s)
    if not rbac.enabled:
        return Policy(default=default)
    shadow = shaped.rate_limit.mode == "shadow"
    rules = tuple(build.rule(given, f"rules.{number}", shadow, keep_s) for number, given in enumerate(rbac.rules))
    return Policy(rules, deny_by_default=rbac.default == "deny", default=default)


def _introspection(oidc: OidcShape) -> tuple[dict[str, Introspection], list[str]]:
    """By provider; where the secret cannot be read, opaque tokens get 503 and a note says why."""
    found, notes = {}, []
    for given in oidc.providers:
        asked = given.introspection
        if asked is None:
            continue
        secret = _text_of(asked.secret_file)
        if not secret:
            notes.append(f"introspection of {given.name}: no secret in {asked.secret_file}: opaque tokens get 503")
            continue
        found[given.name] = Introspection(
            url=asked.url,
            client_id=asked.client_id,
            secret=secret,
            ca_file=given.ca_file,
            allow_insecure_http=given.allow_insecure_http,
            cap_s=asked.cache,
        )
    return found, notes


def _access(cache: CacheShape) -> tuple[Access, list[str]]:
    """How memcached is spoken to; where the password cannot be read, it will refuse us, and a note says why."""
    tls = TlsFiles(cache.tls.ca_file, cache.tls.cert_file, cache.tls.key_file) if cache.tls else None
    if cache.username is None or cache.password_file is None:
        return Access(tls=tls), []
    password = _text_of(cache.password_file)
    note = "no password in cache.password_file: memcached will refuse us, and limits are counted in each process"
    return Access(tls=tls, username=cache.username, password=password), [] if password else [note]


def _text_of(file: str) -> str:
    """What a file holds, without the line's end; "" where it cannot be read."""
    try:
        return FilePath(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _secret(shaped: ConfigShape, environ: Mapping[str, str]) -> tuple[bytes | None, list[str]]:
    cache = shaped.cache
    text = cache.secret or environ.get("AUTHSVC_CACHE_SECRET", "")
    if cache.secret_file:
        try:
            text = FilePath(cache.secret_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            named = cache.secret_file.startswith(("/", "./", "../"))  # else it may be the secret itself
            return None, [f"cache.secret_file {cache.secret_file if named else ''} cannot be read: {_UNSHARED}"]
    if not cache.memcached:
        return None, []
    if len(text) < 32:
        problem = "is shorter than 32 characters" if text else "is not set (secret, secret_file, AUTHSVC_CACHE_SECRET)"
        return None, [f"the cache secret {problem}: {_UNSHARED}"]
    return text.encode(), []


_UNSHARED = "memcached is used for counters only, and each process downloads the keys for itself"


def _notes(shaped: ConfigShape) -> Iterator[Note]:
    rbac = shaped.authorization.rbac
    yield from warnings.notes(shaped)
    if not shaped.cache.memcached:
        yield Note("no cache.memcached: limits are counted in each process, so run one worker")
    if not rbac.enabled:
        yield Note("rbac is off: every path needs a valid identity, and any will do")
    elif rbac.default == "deny":
        yield Note("a path that no rule governs is refused (default: deny)")
    else:
        yield Note("a path that no rule governs needs a valid identity (default: authenticated)")
        if any(rule.allowed_roles for rule in rbac.rules):
            yield Note("paths are case-sensitive: if your API's are not, /API/Admin is no rule's; set default: deny")
