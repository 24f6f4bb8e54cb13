"""Questions in the very shape that the includes give them, answered without WSGI: for our own worker.

The includes send a question's fields in one order: first who asks (token or API key, and address), then what is asked
(method, target, served path), at last the request's id. So the parts are read for themselves, and what came before is
known again: what is asked as it was read then, who asks by the digest of the token or key that stood in the same bytes.
The decision is made by the same gate each time: whether the token is still good, what the rules say and what is left of
a limit.

Whatever has another shape is not answered here: it is read as every request is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from authsvc.core.bounded import Bounded
from authsvc.core.model import Decision, Forgotten, Mark, MustWait, Reason, Request
from authsvc.wsgi import single, single_target

MOST_CALLERS = 20_000  # 250 bytes each
MOST_CALLS = 4096
MOST_CALL_BYTES = 512  # of one that is remembered
MOST_BYTES = 16384  # of a whole head

_METHOD = b"\r\nX-Original-Method: "
_ID = 32 + len("\r\n\r\n")  # $request_id of nginx, and the end of the head
# Plain enough to be read in one way: nothing to trim, nothing but ASCII.
_CALL = re.compile(
    rb"\r\nX-Original-Method: ([A-Z]{1,32})"
    rb"\r\nX-Original-URI: (/[!-~]*)"
    rb"\r\nX-Served-Path: (/(?:[ -~]*[!-~])?)"
    rb"\r\nX-Request-ID: "
)
_LINE = b"GET /auth HTTP/1.1\r\n"
_CONTROLS = bytes({*range(32), 127} - set(b"\r\n"))  # those that end lines are looked for in each line
_NAMES = {"Host", "Authorization", "X-API-Key", "X-Real-IP"}  # all that may stand in the first part


@dataclass(slots=True)
class _Caller:
    digest: bytes
    by_key: bool
    client_ip: str | None


@dataclass(slots=True)
class _Call(Mark):
    method: str
    target: str | None
    served: str


class Questions:
    """`answer` gives the head of an answer, up to its empty line, and the decision. It may raise `MustWait`, and
    `Forgotten` for a digest."""

    def __init__(self, answer: Callable[[Request], tuple[bytes, Decision]]) -> None:
        self._answer = answer
        self._callers: Bounded[bytes, _Caller] = Bounded(MOST_CALLERS)
        self._calls: Bounded[bytes, _Call] = Bounded(MOST_CALLS)

    def at_once(self, head: bytes) -> bytes | None:
        """The head of the answer; `None` where the question has another shape or has to wait. All that was sent must be
        this one head."""
        start = _start_of_call(head)
        call = self._call(head[start:-_ID]) if start > 0 else None
        if call is None:
            return None
        who = hashlib.sha256(head[:start]).digest()
        caller = self._callers.known.get(who)
        request_id = str(head[-_ID:-4], "ascii")
        try:
            told = None if caller is None else self._again(who, caller, call, request_id)
            return told or self._new(who, head[:start], call, request_id)
        except MustWait:
            return None

    def _again(self, who: bytes, caller: _Caller, call: _Call, request_id: str) -> bytes | None:
        try:
            return self._answer(
                Request(
                    method=call.method,
                    target=call.target,
                    client_ip=caller.client_ip,
                    id=request_id,
                    served=call.served,
                    may_wait=False,
                    digest=caller.digest,
                    by_key=caller.by_key,
                    mark=call,
                )
            )[0]
        except Forgotten:
            self._callers.known.pop(who, None)
            return None

    def _new(self, who: bytes, first: bytes, call: _Call, request_id: str) -> bytes | None:
        """By the credential itself. Whom it is good for is known when these bytes come again."""
        fields = _fields(first)
        if fields is None:
            return None
        request = Request(
            method=call.method,
            target=call.target,
            authorization=fields.get("Authorization"),
            client_ip=single(fields.get("X-Real-IP")),
            id=request_id,
            served=call.served,
            may_wait=False,
            api_key=fields.get("X-API-Key"),
            mark=call,
        )
        told, decision = self._answer(request)
        identity = decision.identity
        if decision.digest is not None and identity is not None and decision.reason is Reason.ALLOWED:
            self._callers.put(who, _Caller(decision.digest, identity.method == "api_key", request.client_ip))
        return told

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
    """Where the second part begins, in a whole head with an id as nginx makes them at its end; -1 in anything else.
    Looked for from the end: the first part, with the token, is the longer one, and must not hold a second such line."""
    start, length = head.rfind(_METHOD), len(head)
    if not 0 <= start < length - _ID or length > MOST_BYTES or not head.endswith(b"\r\n\r\n"):
        return -1
    return start if head[length - _ID : length - 4].isalnum() else -1  # of ASCII; there is one way to read that


def _fields(first: bytes) -> dict[str, str] | None:
    """What the first part says; `None` where it holds anything that could be read in more than one way."""
    if not first.startswith(_LINE) or not first.isascii() or len(first.translate(None, _CONTROLS)) < len(first):
        return None
    fields: dict[str, str] = {}
    for line in str(first[len(_LINE) :], "ascii").split("\r\n"):
        name, _, value = line.partition(": ")
        if name not in _NAMES or name in fields or not value or value.strip(" ") != value:
            return None
        if "\r" in value or "\n" in value:
            return None
        fields[name] = value
    return fields
