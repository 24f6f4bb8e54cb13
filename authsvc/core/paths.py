"""A raw request target becomes one canonical path, or is refused because two readers could read it two ways.

nginx decodes and resolves a target before it picks a location, but hands the raw bytes on to the API. Whoever
guards the one and serves the other is open to every trick in between. So nothing is repaired here: a path that
nginx, this service and the API could read differently is refused.
"""

from __future__ import annotations

import re
import unicodedata

from authsvc.core.model import Reason, Refused

MAX_TARGET = 8192

# Only visible ASCII may stand in a target (RFC 3986 section 2); a backslash, a semicolon and a hash are read
# differently by different servers.
_RAW_FORBIDDEN = re.compile(r"[^\x21-\x7e]|[\\;#]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Escapes of: / \ . ; ? # % and of control characters. Decoded early or late, each changes what the path means.
_FORBIDDEN_ESCAPE = re.compile(r"%(?:2[efEF35]|3[bfBF]|5[cC]|[01][0-9a-fA-F]|7[fF])")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_SERVED_FORBIDDEN = re.compile(r"[\\;?#%]")
_SPECIAL = re.compile(r"[/.\\;?#%]")


def canonical(target: str) -> str:
    """The decoded path of a raw request target, without query and without a final slash (`/` stays).

    Raises `Refused(AMBIGUOUS_PATH)`.
    """
    if len(target) > MAX_TARGET:
        raise _ambiguous("it is longer than 8192 bytes")
    path = target.partition("?")[0]
    if not path.startswith("/"):
        raise _ambiguous("it does not start with a slash")
    _refuse_forbidden(path)
    decoded = _decode(path) if "%" in path else path
    _refuse_segments(decoded)
    return decoded.rstrip("/") or "/"


def served(path: str) -> str:
    """The canonical path of what nginx serves, which it has decoded and sent as UTF-8 in a header (latin-1 here).

    Raises `Refused(AMBIGUOUS_PATH)`.
    """
    try:
        decoded = path.encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise _ambiguous("what is served in its place is not UTF-8") from None
    if not decoded.startswith("/") or _SERVED_FORBIDDEN.search(decoded):
        raise _ambiguous("what is served in its place holds a character that servers read differently")
    _refuse_lookalikes(decoded)
    _refuse_segments(decoded)
    return decoded.rstrip("/") or "/"


def _refuse_forbidden(path: str) -> None:
    for pattern, problem in (
        (_RAW_FORBIDDEN, "a character that servers read differently"),
        (_BAD_ESCAPE, "a percent sign without two hex digits"),
        (_FORBIDDEN_ESCAPE, "an escape that changes the path's meaning"),
    ):
        if pattern.search(path):
            raise _ambiguous(f"it holds {problem}")


def _decode(path: str) -> str:
    raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), path.encode("ascii"))
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _ambiguous("its escapes are not UTF-8") from None
    _refuse_lookalikes(decoded)
    return decoded


def _refuse_lookalikes(decoded: str) -> None:
    if not decoded.isprintable():  # C1 controls, line separators, bidirectional marks
        raise _ambiguous("it holds an escaped invisible character")
    if not unicodedata.is_normalized("NFC", decoded):  # a file system or framework may compose what no rule names
        raise _ambiguous("it holds a letter and its accent apart (it is not Unicode NFC)")
    if not decoded.isascii() and _SPECIAL.search(unicodedata.normalize("NFKC", _SPECIAL.sub("", decoded))):
        raise _ambiguous("it holds a character that looks like a slash or a dot to some servers")


def _refuse_segments(path: str) -> None:
    segments = path[1:].split("/")
    if "" in segments[:-1]:
        raise _ambiguous("it holds an empty segment")
    if "." in segments or ".." in segments:
        raise _ambiguous("it holds a dot segment")


def _ambiguous(detail: str) -> Refused:
    return Refused(Reason.AMBIGUOUS_PATH, f"the path can be read two ways: {detail}")
