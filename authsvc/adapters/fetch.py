"""Asks providers for JSON: discovery documents, key sets, and what they say of a token. The only importer of requests.

Rules: a total deadline by the clock, a size cap, no redirects, verified TLS, nothing from the environment
(no proxies, no .netrc), no compression. Whatever goes wrong is a `FetchFailed` with a text for the operator, in which
nothing stands of what was sent but the address.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError

from authsvc.core import strict

MAX_BYTES = 256 * 1024
DEADLINE_S = 2.0
READ_TIMEOUT_S = 1.0
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Cache-Control": "no-cache",  # a cache on the way may still have the set without the new key
    "User-Agent": "authsvc",
}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class FetchFailed(Exception):
    """The provider did not give a usable document; the text says why, `outcome` is one slug of a short list.

    `status` is that of an answer that was not 200, else 0.
    """

    def __init__(self, outcome: str, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.outcome, self.status = outcome, status


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document, and for how many seconds the provider wants it used; `None` where it does not say."""

    document: dict[str, Any]
    max_age_s: float | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is sent, which may hold secrets."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


def fetch_json(
    url: str, *, ca_file: str | None, allow_http: bool, deadline_s: float = DEADLINE_S, bearer: str = ""
) -> Fetched:
    """The JSON object at `url`, asked for with our own `bearer` token where there is one. Raises `FetchFailed`."""
    headers = {**_HEADERS, "Authorization": f"Bearer {bearer}"} if bearer else _HEADERS
    return _document(_Asked("GET", url, headers), ca_file, allow_http, deadline_s)


def post_form(
    url: str,
    form: Mapping[str, str],
    *,
    user: str,
    password: str,
    ca_file: str | None,
    allow_http: bool,
    deadline_s: float = DEADLINE_S,
) -> Fetched:
    """The JSON object with which `url` answers a form, sent with our own credentials. Raises `FetchFailed`."""
    headers = {**_HEADERS, "Authorization": _basic(user, password), "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode(form, errors="surrogatepass").encode("ascii")
    return _document(_Asked("POST", url, headers, body), ca_file, allow_http, deadline_s)


def _basic(user: str, password: str) -> str:
    """RFC 6749 section 2.3.1: each as in a form before they are joined, so that a colon in either divides nothing."""
    both = ":".join(quote_plus(part, errors="surrogatepass") for part in (user, password))
    return "Basic " + base64.b64encode(both.encode("ascii")).decode("ascii")


def _document(asked: _Asked, ca_file: str | None, allow_http: bool, deadline_s: float) -> Fetched:
    check_url(asked.url, allow_http)
    try:
        body, cache_control = _download(asked, ca_file, deadline_s)
    except (requests.RequestException, OSError, AttributeError, ValueError) as problem:
        # AttributeError: urllib3's file object loses its socket when the deadline closes it under a read
        outcome, text = _plain(problem)
        status = problem.status if isinstance(problem, _Unusable) else 0
        raise FetchFailed(outcome, f"{shown(asked.url)}: {text}", status) from None
    try:
        return Fetched(strict.json_object(body), max_age(cache_control))
    except ValueError as problem:
        kind = str(problem) if type(problem) is ValueError else "not JSON"
        text = f"the answer is no usable JSON document ({kind})"
        raise FetchFailed("not_json", f"{shown(asked.url)}: {text}") from None


def max_age(cache_control: str) -> float | None:
    """The seconds of the first max-age (RFC 9111 section 5.2.2.1). Directives such as no-cache count for nothing.

    Keycloak says no-cache always, and whoever obeyed asked it for every token.
    """
    found = re.search(r"(?i)(?:^|[\s,])max-age\s*=\s*\"?(\d{1,10})\b", cache_control)
    return float(found[1]) if found else None


def check_url(url: str, allow_http: bool) -> None:
    """https, or http to a loopback address where the config allows it. Raises `FetchFailed`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise FetchFailed("not_allowed", f"{shown(url)}: this is no URL") from None
    if "\\" in url or "@" in parts.netloc:  # where two readers of a URL may see two hosts
        raise FetchFailed("not_allowed", f"{shown(url)}: a URL with a user or a backslash is not fetched")
    if parts.scheme == "https" and parts.hostname:
        return
    if not (allow_http and parts.scheme == "http" and parts.hostname in LOOPBACK):
        text = "only https is fetched (http only on loopback with allow_insecure_http)"
        raise FetchFailed("not_allowed", f"{shown(url)}: {text}")


def shown(url: str) -> str:
    """A URL as it may be shown: short, and without user, password and query."""
    plain = re.sub(r"//[^/]*@", "//***@", re.sub(r"\?.*", "?...", url))
    return plain if len(plain) <= 200 else plain[:197] + "..."


class _Unusable(OSError):
    """An answer that is not taken; `outcome` is its slug."""

    def __init__(self, outcome: str, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.outcome, self.status = outcome, status


class _Deadline:
    """Cuts the connections of one download when its time is up, also in the middle of a dripping header."""

    def __init__(self, seconds: float) -> None:
        self.connections: list[Any] = []
        self.passed = False
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self.passed = True
        for connection in self.connections:
            sock = connection.sock or connection.held
            with contextlib.suppress(OSError, AttributeError):  # it may be closed already, or not open yet
                sock.shutdown(socket.SHUT_RDWR)  # unlike close, this wakes a thread that reads


class _Adapter(HTTPAdapter):
    """Tells the deadline which connections there are."""

    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        deadline = self._deadline

        class Watched(pool.ConnectionCls):  # type: ignore[misc]  # a class chosen at run time
            held: Any = None

            def _new_conn(self) -> Any:
                self.held = super()._new_conn()
                deadline.connections.append(self)
                if deadline.passed:  # the resolver took all the time there was, and nobody will cut this one
                    self.held.close()
                    raise _Unusable("timeout", "no time is left")
                return self.held

        pool.ConnectionCls = Watched
        return pool


def _download(asked: _Asked, ca_file: str | None, deadline_s: float) -> tuple[bytes, str]:
    ends = time.monotonic() + deadline_s
    with _Deadline(deadline_s) as deadline, requests.Session() as session:
        session.trust_env = False
        session.mount("https://", _Adapter(deadline))
        session.mount("http://", _Adapter(deadline))
        late = _Unusable("timeout", f"no whole answer within {deadline_s:g} s")
        try:
            found = _read(session, asked, ca_file, ends)
        except Exception:
            if deadline.passed or time.monotonic() >= ends:
                raise late from None
            raise
        if deadline.passed:  # a cut can look like an end
            raise late
        return found


def _read(session: requests.Session, asked: _Asked, ca_file: str | None, ends: float) -> tuple[bytes, str]:
    answer = session.request(
        asked.method,
        asked.url,
        headers=asked.headers,
        data=asked.body,
        timeout=READ_TIMEOUT_S,
        verify=ca_file or True,
        allow_redirects=False,
        stream=True,
    )
    if answer.status_code != 200:
        raise _bad_status(answer)
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise _Unusable("compressed", "the answer is compressed, though plain was asked for")
    try:
        body = _body(answer, ends)
    except ReadTimeoutError:  # requests translates these only where it reads by itself
        raise _Unusable("timeout", f"the answer paused for {READ_TIMEOUT_S:g} s") from None
    except HTTPError:
        raise _Unusable("broken", "the answer broke off") from None
    expected = answer.headers.get("Content-Length", "")
    if expected.isdigit() and int(expected) != len(body):
        raise _Unusable("broken", "the answer broke off")
    return body, answer.headers.get("Cache-Control", "")


def _body(answer: requests.Response, ends: float) -> bytes:
    body = b""
    while chunk := answer.raw.read1(16384):
        body += chunk
        if len(body) > MAX_BYTES:
            raise _Unusable("too_large", f"the answer is larger than {MAX_BYTES} bytes")
        if time.monotonic() >= ends:
            raise _Unusable("timeout", "the answer takes too long")
    return body


def _bad_status(answer: requests.Response) -> _Unusable:
    status = answer.status_code
    text = f"the answer is {status}, not 200"
    if 300 <= status < 400:
        return _Unusable("redirect", f"{text}: it redirects, and redirects are not followed", status)
    return _Unusable("status_5xx" if status >= 500 else "status", text, status)


def _plain(problem: Exception) -> tuple[str, str]:
    """A slug and a short text; library messages name addresses and classes nobody wants to read."""
    if isinstance(problem, _Unusable):
        return problem.outcome, str(problem)
    if isinstance(problem, requests.exceptions.SSLError):
        return "tls", "the TLS certificate is not trusted (set ca_file for a private CA)"
    if isinstance(problem, requests.exceptions.Timeout):
        return "timeout", "no answer in time"
    if isinstance(problem, requests.exceptions.ConnectionError):
        return "unreachable", "cannot connect, or the connection broke"
    if isinstance(problem, requests.RequestException) or not str(problem):
        return "broken", "the answer is no valid HTTP"
    return "broken", str(problem)
