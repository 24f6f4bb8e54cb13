"""HTTP/1.1 as bytes: a request's head becomes a WSGI environ, an answer becomes bytes.

The only importer of gunicorn_h1c.

A head is taken only where there is one way to read it. gunicorn's C parser is quick and checks most of that; what it
lets through and gunicorn's Python parser does not (a bare LF, a folded field, two spaces in a row) is refused here.
Bodies are never read: `Head.last` says that nothing after this head may be read as another request.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from gunicorn_h1c import H1CProtocol, LimitRequestHeaders, LimitRequestLine

from authsvc.wsgi import WsgiApp

Environ = dict[str, Any]
Fields = list[tuple[str, str]]

HEAD_BYTES = 65536  # nginx takes at most 32 kB from a client, and passes less on
_NO_BODY = io.BytesIO()

_TARGET = re.compile(rb"[\x21-\x7e]+")  # RFC 9112 3.2
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_PRINTABLE = bytes(range(0x20, 0x7F))
_VALUE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")  # RFC 9110 5.5
_STATUS = re.compile(r"[2-5][0-9]{2}(?: [ \t\x21-\x7e\x80-\xff]*)?")  # RFC 9112 4; interim answers are not ours
_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade",
}  # fmt: skip
_OF_CONNECTION = {"HTTP_EXPECT", "HTTP_CONNECTION", "HTTP_TRANSFER_ENCODING", "CONTENT_LENGTH"}
_CGI = {b"CONTENT-TYPE": "CONTENT_TYPE", b"CONTENT-LENGTH": "CONTENT_LENGTH"}


class Refusal(Exception):
    """What was sent is no request that is answered here. `status` is the answer; the connection ends with it."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


_BAD_REQUEST = "400 Bad Request"
_TOO_LARGE = "431 Request Header Fields Too Large"


class Head:
    """The head of one request, complete and checked."""

    __slots__ = ("_fields", "_target", "last", "method", "minor_version")

    def __init__(self, method: bytes, target: bytes, minor_version: int, fields: list[tuple[bytes, bytes]]) -> None:
        self.method = str(method, "latin-1")
        self.minor_version = minor_version
        self._target, self._fields = target, fields
        self.last = True

    def environ(self, base: Environ) -> Environ:
        """A new WSGI environ, named as gunicorn names: a field sent twice is joined by a comma, `_` in a name drops it.

        Raises `Refusal` where the fields contradict each other, and settles `last`.
        """
        environ = base.copy()
        environ["REQUEST_METHOD"] = self.method
        environ["RAW_URI"], environ["PATH_INFO"], environ["QUERY_STRING"] = _parts(self._target)
        if self.minor_version == 0:
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        for name, value in self._fields:
            key = _KEYS[name]
            if key in environ:
                environ[key] = f"{environ[key]},{str(value, 'latin-1')}"
            elif key:
                environ[key] = str(value, "latin-1")
        self.last = self._is_last(environ)
        return environ

    def _is_last(self, environ: Environ) -> bool:
        if environ.keys().isdisjoint(_OF_CONNECTION):  # as nginx asks
            return self.minor_version == 0 or self.method == "CONNECT"
        if environ.get("HTTP_EXPECT", "100-continue").lower() != "100-continue":
            raise Refusal("417 Expectation Failed")
        announced = _announces_body(environ, self.minor_version)
        close = "close" in environ.get("HTTP_CONNECTION", "").lower()
        return announced or close or self.minor_version == 0 or self.method == "CONNECT"


def _announces_body(environ: Environ, minor_version: int) -> bool:
    """Whether a body follows. Raises `Refusal` where it is not certain how long it is (RFC 9112 6)."""
    codings, length = environ.get("HTTP_TRANSFER_ENCODING"), environ.get("CONTENT_LENGTH")
    if codings is not None and (codings.lower() != "chunked" or length is not None or minor_version == 0):
        raise Refusal(_BAD_REQUEST)
    if length is not None and not (length.isascii() and length.isdigit()):
        raise Refusal(_BAD_REQUEST)
    return codings is not None or bool(length and length.strip("0"))


class _Made(dict[Any, str]):
    """What `make` makes of names, as many as `most`. To find one takes half the time that `lru_cache` takes."""

    def __init__(self, make: Callable[[Any], str], most: int) -> None:
        super().__init__()
        self._make, self._most = make, most

    def __missing__(self, name: Any) -> str:
        made = self._make(name)
        if len(self) >= self._most:
            self.clear()
        self[name] = made
        return made


def _key(name: bytes) -> str:
    """The name in the environ, empty where the field is dropped: X_User_Id must not pass for X-User-Id."""
    if not name:  # a folded line: the C parser gives it as a field without a name (RFC 9112 5.2)
        raise Refusal(_BAD_REQUEST)
    upper = name.upper()
    return "" if b"_" in name else _CGI.get(upper) or "HTTP_" + str(upper, "ascii").replace("-", "_")


_KEYS = _Made(_key, 1024)


@lru_cache(maxsize=64)
def _parts(target: bytes) -> tuple[str, str, str]:
    """The target as it was sent, its path with the escapes undone as WSGI wants it, and its query."""
    if _TARGET.fullmatch(target) is None:
        raise Refusal(_BAD_REQUEST)
    text = str(target, "ascii")
    try:
        parts = urlsplit("." + text if text.startswith("//") else text)
    except ValueError:
        raise Refusal(_BAD_REQUEST) from None
    path = parts.path[1:] if text.startswith("//") else parts.path
    return text, str(unquote_to_bytes(path), "latin-1"), parts.query


class Heads:
    """Cuts what one client sends into heads, one at a time. `rest` is what came after the last one."""

    __slots__ = ("_held", "_line_bytes", "_parser", "rest")

    def __init__(self, line_bytes: int, fields: int, field_bytes: int) -> None:
        self._line_bytes = line_bytes
        self._parser = H1CProtocol(
            on_headers_complete=_skip_body,
            limit_request_line=line_bytes,
            limit_request_fields=fields,
            limit_request_field_size=field_bytes,
            limit_remaining=0,  # no bound of its own: what is fed at once is bounded already
        )
        self._held = self.rest = b""

    @property
    def fresh(self) -> bool:
        """Whether what comes next begins a head."""
        return not self._held

    def read(self, data: bytes) -> Head | None:
        """The head that `data` completes, or `None` while some of it is missing. Raises `Refusal`."""
        parser = self._parser
        held = self._held + data if self._held else data
        self._feed(data)
        rest = parser.remaining()
        length = len(held) - len(rest)
        if length > HEAD_BYTES:
            raise Refusal(_TOO_LARGE)
        if not parser.is_complete:
            self._held = held
            return None
        method, target, fields, version = parser.method, parser.path, parser.headers, parser.http_version
        parser.reset()
        self._held, self.rest = b"", rest
        _check_lines(held, length, b"%b %b HTTP/1." % (method, target), len(fields))
        if len(method) + len(target) + len("  HTTP/1.1") > self._line_bytes:
            raise Refusal("414 URI Too Long")
        return Head(method, target, version[1], fields)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except LimitRequestLine:
            raise Refusal("414 URI Too Long") from None
        except LimitRequestHeaders:
            raise Refusal(_TOO_LARGE) from None
        except ValueError:  # what both ParseErrors of the parser are
            raise Refusal(_BAD_REQUEST) from None


def _skip_body() -> bool:
    return True


def _check_lines(held: bytes, length: int, first: bytes, fields: int) -> None:
    """Each line ends with CRLF, and the first has single spaces. One empty line may stand before it (RFC 9112 2.2)."""
    start = 2 if held.startswith(b"\r\n") else 0
    if held.count(b"\r\n", start, length) != fields + 2 or not held.startswith(first, start):
        raise Refusal(_BAD_REQUEST)


def base_environ(multiprocess: bool, software: str) -> Environ:
    """What is the same for every request of a worker."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": _NO_BODY,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,  # what must wait is asked in a thread
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "SERVER_SOFTWARE": software,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": "",
    }


class Answer:
    """What an app answers to one request: `head` lacks the empty line at its end, so that a field can be added."""

    __slots__ = ("_fields", "_pieces", "_status", "body", "head")

    def __init__(self, app: WsgiApp, environ: Environ, method: str) -> None:
        """Asks the app. Raises whatever it raises, and `ValueError` or `TypeError` for an answer that is none."""
        self._status = ""
        self._fields: Fields = []
        self._pieces: list[bytes] = []
        told = app(environ, self._start)
        try:
            self._pieces.extend(told)
        finally:
            if hasattr(told, "close"):
                told.close()
        self.head, self.body = _to_bytes(self._status, self._fields, b"".join(self._pieces), method == "HEAD")

    def _start(self, status: str, fields: Fields, exc_info: object = None) -> Callable[[bytes], None]:
        if self._status and exc_info is None:
            raise ValueError("start_response was called twice")
        self._status, self._fields = status, fields
        return self._pieces.append


def _to_bytes(status: str, fields: Fields, body: bytes, is_head: bool) -> tuple[bytes, bytes]:
    line, bodiless = _status_line(status)
    prefixes = _OF_HEAD if is_head else _PREFIXES if body else _OF_NOTHING
    lines = [prefix + value for name, value in fields if (prefix := prefixes[name])]
    if bodiless or is_head:
        body = b""
    else:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([line, *lines, ""]).encode("latin-1")
    if len(head.translate(None, _PRINTABLE)) != 2 * len(lines) + 2 and not _legal("".join(lines)):  # the CRLFs are left
        raise ValueError("a header of the answer holds a control character")
    return head, body


def _legal(text: str) -> bool:
    """Whether it may stand in a header's value."""
    return _VALUE.fullmatch(text) is not None


@lru_cache(maxsize=64)
def _status_line(status: str) -> tuple[str, bool]:
    """The first line, and whether an answer of this status has no body (RFC 9110 6.4.1)."""
    if _STATUS.fullmatch(status) is None:
        raise ValueError(f"no status: {status!r}")
    return f"HTTP/1.1 {status}", status[:3] in ("204", "304")


def _prefix(name: str) -> str:
    """What stands before a value; empty for a field that the server alone writes."""
    return "" if name.lower() == "content-length" else _prefix_of_head(name)


def _prefix_of_nothing(name: str) -> str:
    """The same where no body follows, which has no type either (RFC 9110 section 8.3)."""
    return "" if name.lower() == "content-type" else _prefix(name)


def _prefix_of_head(name: str) -> str:
    """The same for an answer to HEAD, whose length is the app's to tell."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"no name of a header: {name!r}")
    return "" if name.lower() in _HOP_BY_HOP or name.lower() == "date" else f"{name}: "


_PREFIXES, _OF_HEAD, _OF_NOTHING = _Made(_prefix, 256), _Made(_prefix_of_head, 256), _Made(_prefix_of_nothing, 256)
