"""Audit lines as values: read from files, compressed ones too, or from standard input, one line at a time.

What is no audit line is counted and passed over: logs hold lines of other programs, of older versions and broken ones.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, cast

from authsvc.core.callers import NAME

OIDC, API_KEY, NONE = "oidc", "api_key", "none"
METHODS = (OIDC, API_KEY, NONE)
KINDS = ("refused", "roles", "tier")  # what may differ where both credentials were sent
MAX_LINE = 1 << 16  # bytes; the longest line that authsvc writes has half of that
_GZIP = b"\x1f\x8b"  # RFC 1952 section 2.3.1
_KNOWN: Mapping[str, str] = {name: name for name in (*METHODS, *KINDS)}  # so that a text is not kept a million times


class Unreadable(Exception):
    """A log that cannot be opened; the text says why."""


@dataclass(frozen=True, slots=True)
class Other:
    """The credential that was sent along and was not in force: the reason it would have got, and what would differ."""

    method: str
    reason: str
    user: str
    client: str
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One audit line. `method` is how the caller was identified; `verb` is that of HTTP."""

    at: float
    allowed: bool
    reason: str
    method: str
    provider: str
    user: str
    client: str
    verb: str
    path: str
    rule: str
    request_id: str
    other: Other | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """The times that are asked for, in seconds since the epoch; `until` is outside."""

    since: float = float("-inf")
    until: float = float("inf")


@dataclass(slots=True)
class Counts:
    """What became of the lines. `broken` names the files that could not be read to their end."""

    used: int = 0
    outside: int = 0
    no_json: int = 0
    lacking: int = 0
    broken: list[str] = field(default_factory=list)


def calls(names: Iterable[str], span: Span, counts: Counts) -> Iterator[Call]:
    """The calls of all logs that lie in the span; `-` is standard input. Raises `Unreadable`."""
    for name in names:
        with _opened(name) as file:
            for line in _to_the_end(file, name, counts):
                call = _call(line, counts) if not line.isspace() else None
                if call is None:
                    continue
                if span.since <= call.at < span.until:
                    counts.used += 1
                    yield call
                else:
                    counts.outside += 1


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """The bytes of a log, whether or not it is compressed, and whatever it is called."""
    with contextlib.ExitStack() as opened:
        try:
            file = _stdin(opened) if name == "-" else opened.enter_context(open(name, "rb"))
            packed = file.peek(2)[:2] == _GZIP
        except OSError as problem:
            raise Unreadable(f"{name}: cannot be read: {(problem.strerror or 'no reason given').lower()}") from None
        yield cast(BinaryIO, opened.enter_context(gzip.GzipFile(fileobj=file)) if packed else file)


def _stdin(opened: contextlib.ExitStack) -> io.BufferedReader:
    """Standard input as something that can be peeked at, whoever put what in its place; it is left open."""
    reader: io.BufferedReader = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
    opened.callback(reader.detach)
    return reader


def _to_the_end(file: BinaryIO, name: str, counts: Counts) -> Iterator[bytes]:
    try:
        yield from _lines(file)
    except (EOFError, OSError, zlib.error):  # a log that is still being compressed, or a damaged disk
        counts.broken.append("standard input" if name == "-" else name)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines; of one that is too long its beginning only, which is no JSON."""
    while line := file.readline(MAX_LINE):
        yield line
        while len(line) == MAX_LINE and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)


# ---- one line


def _call(line: bytes, counts: Counts) -> Call | None:
    """The call of a line, or `None` and one more to be told of."""
    try:
        said = json.loads(line.decode())
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        counts.no_json += 1
        return None
    try:
        return _told(said)
    except (KeyError, TypeError, ValueError, OverflowError):
        counts.lacking += 1
        return None


def _told(said: Mapping[str, Any]) -> Call:
    """Raises `KeyError`, `TypeError` or `ValueError` where time, outcome, reason or auth are missing or no such."""
    at = datetime.fromisoformat(said["time"])
    if at.tzinfo is None or said["outcome"] not in ("allow", "deny") or not _text(said, "reason"):
        raise ValueError
    provider = _text(said, "provider")
    return Call(
        at=at.timestamp(),
        allowed=said["outcome"] == "allow",
        reason=_text(said, "reason"),
        method=_method(said["auth"], provider),
        provider=provider,
        user=_text(said, "user"),
        client=_text(said, "client"),
        verb=_text(said, "method"),
        path=_text(said, "path"),
        rule=_text(said, "rule"),
        request_id=_text(said, "request_id"),
        other=_other(said),
    )


def _method(auth: str, provider: str) -> str:
    """Where nobody was identified, the provider tells which kind of credential was refused."""
    if auth not in (OIDC, API_KEY, ""):
        raise ValueError
    return _KNOWN[auth] if auth else API_KEY if provider == NAME else OIDC if provider else NONE


def _other(said: Mapping[str, Any]) -> Other | None:
    method = said.get("other_auth")
    if method not in (OIDC, API_KEY):
        return None
    differs = said.get("differs")
    kinds = tuple(kind for kind in KINDS if kind in differs) if isinstance(differs, list) else ()
    user, client = _text(said, "other_user"), _text(said, "other_client")
    return Other(_KNOWN[method], _text(said, "other_reason"), user, client, kinds)


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name, "")
    return value if isinstance(value, str) else ""
