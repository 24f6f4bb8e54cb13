"""Questions of a caller who came before, answered without a look at his token: for our own worker, beside WSGI.

The includes send a question's fields in one order: first who asks (token or API key, and address), then what is asked
(method, target, served path), at last the request's id. Where the first part came before, byte for byte, it holds the
same token and the same address, and the decision begins at the token's digest. It is made by the same gate: whether
the token is still good, what the rules say and what is left of a limit is looked at each time.

Whatever has another shape, or is not known, is not answered here: it is read as every request is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from authsvc.core.bounded import Bounded
from authsvc.core.model import Request
from authsvc.wsgi import single_target

MOST_CALLERS = 20_000  # 250 bytes each
MOST_CALLS = 4096
MOST_CALL_BYTES = 512  # of one that is remembered
MOST_BYTES = 16384  # of a whole head

_METHOD = b"\r\nX-Original-Method: "
_HEX = b"0123456789abcdef"
_ID = 32 + len("\r\n\r\n")  # $request_id of nginx, and the end of the head
# Plain enough to be read in one way: nothing to trim, nothing but ASCII.
_CALL = re.compile(
    rb"\r\nX-Original-Method: ([A-Z]{1,32})"
    rb"\r\nX-Original-URI: (/[!-~]*)"
    rb"\r\nX-Served-Path: (/(?:[ -~]*[!-~])?)"
    rb"\r\nX-Request-ID: "
)
_CREDENTIALS = {b"authorization", b"x-api-key"}  # one of them stands in the first part,
_ONCE = {b"host", b"x-real-ip", *_CREDENTIALS}  # and nothing but these, each field once


@dataclass(slots=True)
class _Caller:
    digest: bytes
    by_key: bool
    client_ip: str | None


@dataclass(slots=True)
class _Call:
    method: str
    target: str | None
    served: str


class Repeats:
    """`answer` is asked where the caller is known: it gives what is to be sent, or `None` where it needs the token."""

    def __init__(self, answer: Callable[[Request], str | None]) -> None:
        self._answer = answer
        self._callers: Bounded[bytes, _Caller] = Bounded(MOST_CALLERS)
        self._calls: Bounded[bytes, _Call] = Bounded(MOST_CALLS)

    def again(self, head: bytes) -> str | None:
        """The head of the answer to a request, up to the empty line, where this is one that came before; all that was
        sent must be this one head."""
        start = _start_of_call(head)
        call = self._call(head[start:-_ID]) if start > 0 else None
        if call is None:
            return None
        who = hashlib.sha256(head[:start]).digest()
        caller = self._callers.known.get(who)
        if caller is None:
            return None
        told = self._answer(
            Request(
                method=call.method,
                target=call.target,
                client_ip=caller.client_ip,
                id=str(head[-_ID:-4], "ascii"),
                served=call.served,
                may_wait=False,
                digest=caller.digest,
                by_key=caller.by_key,
            )
        )
        if told is None:
            self._callers.known.pop(who, None)
        return told

    def learn(self, head: bytes, digest: bytes, by_key: bool, client_ip: str | None) -> None:
        """That this head, which was read as every request is, came from this address with the token or the API key of
        this digest. What follows the first part could say who asks too where it is not plain: that is not learned."""
        start = _start_of_call(head)
        if start <= 0 or self._call(head[start:-_ID]) is None:
            return
        first = head[:start]
        if first.startswith(b"GET /auth HTTP/1.1\r\n") and _plain(first.split(b"\r\n")[1:]):
            self._callers.put(hashlib.sha256(first).digest(), _Caller(digest, by_key, client_ip))

    def _call(self, part: bytes) -> _Call | None:
        known = self._calls.known.get(part)
        if known is not None:
            return known
        found = _CALL.fullmatch(part)
        if found is None:
            return None
        method, target, served = (str(text, "ascii") for text in found.groups())
        call = _Call(method, single_target(target), served)
        if len(part) <= MOST_CALL_BYTES:
            self._calls.put(part, call)
        return call


def _start_of_call(head: bytes) -> int:
    """Where the second part begins, in a whole head with an id of nginx's at its end; -1 in anything else."""
    start, length = head.find(_METHOD), len(head)
    if not 0 <= start < length - _ID or length > MOST_BYTES or not head.endswith(b"\r\n\r\n"):
        return -1
    return -1 if head[length - _ID : length - 4].translate(None, _HEX) else start


def _plain(fields: list[bytes]) -> bool:
    """Whether each is there once, none of them empty, and none that would change how the others are read."""
    named = {name.lower(): value.strip(b" \t") for name, _, value in (field.partition(b":") for field in fields)}
    once = len(named) == len(fields) and all(named.values())
    return once and _ONCE.issuperset(named) and len(_CREDENTIALS.intersection(named)) == 1
