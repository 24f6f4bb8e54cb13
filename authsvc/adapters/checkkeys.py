"""What in the settings of API keys, and of the way to OIDC, does not mean what its author hopes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from authsvc.adapters import build, checkproviders, headernames
from authsvc.adapters.keyfile import load
from authsvc.adapters.keylines import KeyFileError
from authsvc.adapters.schema import AuthenticationShape, ConfigShape
from authsvc.adapters.schema.migration import BetaShape
from authsvc.adapters.yamlfile import Mistake, Path
from authsvc.core.callers import NAME
from authsvc.core.response import BASE_HEADERS

_KEYS: Path = ("authentication", "api_keys")
_MAKE_IT = "authsvc apikeys new -f FILE --owner NAME makes it"
_MIGRATION: Path = ("authentication", "migration")


def check(shaped: ConfigShape) -> Iterator[Mistake]:
    """Every mistake."""
    given = shaped.authentication.api_keys
    yield from _left_empty(shaped.authentication, ("authentication",))
    for number, one in enumerate(shaped.authentication.migration.beta):
        yield from _beta(one, (*_MIGRATION, "beta", number))
    if given is None or not given.enabled:
        yield from _for_nothing(shaped)
        return
    for number, provider in enumerate(shaped.authentication.oidc.providers):
        if provider.name == NAME:
            at: Path = ("authentication", "oidc", "providers", number, "name")
            yield Mistake(at, f"{NAME!r} is what callers with API keys go by: choose another name")
    yield from _header(shaped, given.header)
    yield from _file(given.keys_file)
    try:
        build.api_keys(shaped.authentication)
    except ValueError as problem:
        yield Mistake((*_KEYS, "deprecation"), str(problem))


def _left_empty(shaped: AuthenticationShape, at: Path) -> Iterator[Mistake]:
    """What was begun and says nothing: who wrote it may think that keys end, or are accepted."""
    keys = shaped.api_keys
    ends = keys.deprecation if keys else None
    for part, name, path in (
        (shaped, "api_keys", at),
        (keys, "deprecation", _KEYS),
        (ends, "sunset", (*_KEYS, "deprecation")),
    ):
        if part is not None and name in part.model_fields_set and getattr(part, name) is None:
            yield Mistake((*path, name), "is empty: fill it in, or remove it")


def _for_nothing(shaped: ConfigShape) -> Iterator[Mistake]:
    for name in sorted(shaped.authentication.migration.model_fields_set):
        yield Mistake((*_MIGRATION, name), "means nothing without api_keys: add them, or remove this")


def _header(shaped: ConfigShape, name: str) -> Iterator[Mistake]:
    at: Path = (*_KEYS, "header")
    others = [*BASE_HEADERS, *(entry.header for entry in shaped.authentication.oidc.extract_headers)]
    if not headernames.SHAPE.fullmatch(name):
        yield Mistake(at, f"{name!r} is no header name: use letters, digits and -")
    elif name.lower() == "authorization":
        yield Mistake(at, "Authorization: ApiKey ... always works: remove this, or name another header")
    elif not headernames.for_a_key(name.lower()):
        yield Mistake(at, f"{name!r} has a meaning of its own: choose another name, such as X-API-Key")
    elif name.lower() in map(str.lower, others):
        yield Mistake(at, f"{name!r} tells the API who calls: choose another name, such as X-API-Key")


def _file(name: str | None) -> Iterator[Mistake]:
    at: Path = (*_KEYS, "keys_file")
    if name is None:
        yield Mistake(_KEYS, f"has no keys_file: name one; {_MAKE_IT}")
        return
    try:
        load(name).file.close()
    except KeyFileError as problem:
        hint = "" if os.path.exists(name) else f": {_MAKE_IT}"
        yield from (Mistake(at, line + hint) for line in problem.lines)


def _beta(given: BetaShape, at: Path) -> Iterator[Mistake]:
    asked = (("equals", given.equals), ("in", given.in_), ("contains", given.contains))
    alone = next((name for name, value in asked if value is not None), "")
    if given.claim and given.users:
        yield Mistake(at, "has claim and users: write two entries")
    elif given.claim:
        yield from checkproviders.one_question(given, at)
    elif not given.users:
        yield Mistake(at, "names nobody: write {users: [...]} or {claim: ..., equals: ...}")
    elif alone:
        yield Mistake((*at, alone), "means nothing without claim: add claim, and write users as another entry")
