"""Questions in the very shape that the includes give them, answered without WSGI: for our own worker.

The includes send a question's fields in one order: first who asks (token or API key, and address), then what is asked
(method, target, served path), at last the request's id. So the parts are read for themselves, and what came before is
known again by its bytes: what is asked, and what stands around a credential. The credential is known by its digest,
where somebody remembers it by that. The decision is made by the same gate each time: whether the token is still good,
what the rules say and what is left of a limit.

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

MOST_PLACES = 20_000  # of one kind, 250 bytes each
MOST_KEYS = 4096
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
_SPACE = ord(" ")
_LINE = b"GET /auth HTTP/1.1\r\n"
_CONTROLS = bytes({*range(32), 127})
_NAMES = {"Host", "Authorization", "X-API-Key", "X-Real-IP"}  # all that may stand in the first part
# All that may stand before a credential that is known by its digest, and what it is then: field and scheme.
_START = _LINE + b"Host: authsvc\r\n"
_OPENINGS = (
    _START + b"Authorization: Bearer ",
    _START + b"Authorization: ApiKey ",
    _START + b"X-API-Key: ",
    b"",
)
# Whatever else stands behind it is not remembered: it may be long, or a secret.
_BEHIND = re.compile(rb"(?:\r\nX-Real-IP: (?:[0-9A-Fa-f:.]{1,45}|unix:))?")
_KINDS = (("Authorization", "Bearer "), ("Authorization", "ApiKey "), ("X-API-Key", ""))
_BEARER, _NONE = 0, 3  # those between are API keys


@dataclass(slots=True)
class _Place:
    """What stands around the only credential of a question."""

    kind: int
    client_ip: str | None


@dataclass(slots=True)
class _Call(Mark):
    method: str
    target: str | None
    served: str


class Questions:
    """`answer` gives the head of an answer, up to its empty line, and the decision. It may raise `MustWait`, and
    `Forgotten` for a digest. `remembers` says whether somebody remembers a token by its digest."""

    def __init__(self, answer: Callable[[Request], tuple[bytes, Decision]], remembers: Callable[[bytes], bool]) -> None:
        self._answer, self._remembers = answer, remembers
        # What stands behind a credential, by what stands before it.
        self._places: tuple[Bounded[bytes, _Place], ...] = tuple(Bounded(MOST_PLACES) for _ in _OPENINGS)
        self._keys: Bounded[bytes, bytes] = Bounded(MOST_KEYS)  # SHA-256 of an API key, and the digest it is found by
        self._calls: Bounded[bytes, _Call] = Bounded(MOST_CALLS)

    def at_once(self, head: bytes) -> bytes | None:
        """The head of the answer; `None` where the question has another shape or has to wait. All that was sent must be
        this one head."""
        start = _start_of_call(head)
        call = self._call(head[start:-_ID]) if start > 0 else None
        if call is None:
            return None
        kind, request_id = _kind(head), str(head[-_ID:-4], "ascii")
        begins = len(_OPENINGS[kind])
        ends = head.find(b"\r", begins)
        place = self._places[kind].known.get(head[ends:start])
        try:
            if place is None:
                fields = _fields(head[:start])
                if fields is None:
                    return None
                if kind == _NONE or _BEHIND.fullmatch(head, ends, start) is None:
                    return self._by_fields(fields, call, request_id)
                place = _Place(kind, single(fields.get("X-Real-IP")))
                self._places[kind].put(head[ends:start], place)
            return self._by_credential(place, head[begins:ends], call, request_id)
        except MustWait:
            return None

    def _by_credential(self, place: _Place, sent: bytes, call: _Call, request_id: str) -> bytes | None:
        digest = hashlib.sha256(sent).digest()
        known = self._remembered(digest) if place.kind == _BEARER else self._keys.known.get(digest)
        told = None if known is None else self._again(place, known, call, request_id)
        return told or self._new(place, sent, digest, call, request_id)

    def _remembered(self, digest: bytes) -> bytes | None:
        return digest if self._remembers(digest) else None

    def _again(self, place: _Place, digest: bytes, call: _Call, request_id: str) -> bytes | None:
        """By the digest alone."""
        try:
            return self._answer(
                Request(
                    method=call.method,
                    target=call.target,
                    client_ip=place.client_ip,
                    id=request_id,
                    served=call.served,
                    may_wait=False,
                    digest=digest,
                    by_key=place.kind != _BEARER,
                    mark=call,
                )
            )[0]
        except Forgotten:
            return None

    def _new(self, place: _Place, sent: bytes, digest: bytes, call: _Call, request_id: str) -> bytes | None:
        """By the credential itself."""
        if not _plain(sent):
            return None
        field, scheme = _KINDS[place.kind]
        value = scheme + str(sent, "ascii")
        request = Request(
            method=call.method,
            target=call.target,
            authorization=value if field == "Authorization" else None,
            client_ip=place.client_ip,
            id=request_id,
            served=call.served,
            may_wait=False,
            api_key=value if field == "X-API-Key" else None,
            digest=digest if place.kind == _BEARER else None,
            mark=call,
        )
        told, decision = self._answer(request)
        if place.kind != _BEARER and decision.digest is not None and decision.reason is Reason.ALLOWED:
            self._keys.put(digest, decision.digest)
        return told

    def _by_fields(self, fields: dict[str, str], call: _Call, request_id: str) -> bytes:
        """By two credentials, or by none that is known by its digest."""
        return self._answer(
            Request(
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
        )[0]

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


def _kind(head: bytes) -> int:
    """Which of the openings a head has; all have the last one."""
    for kind, opening in enumerate(_OPENINGS):
        if head.startswith(opening):
            return kind
    return _NONE


def _plain(text: bytes) -> bool:
    """Whether this can be read in one way: printable ASCII, no blanks around it."""
    if not text.isascii() or len(text.translate(None, _CONTROLS)) < len(text):
        return False
    return bool(text) and text[0] != _SPACE and text[-1] != _SPACE


def _fields(first: bytes) -> dict[str, str] | None:
    """What the first part says; `None` where it holds anything that could be read in more than one way."""
    if not first.startswith(_LINE):
        return None
    fields: dict[str, str] = {}
    for line in first[len(_LINE) :].split(b"\r\n"):
        if not _plain(line):
            return None
        name, _, value = str(line, "ascii").partition(": ")
        if name not in _NAMES or name in fields or not value or value.startswith(" "):
            return None
        fields[name] = value
    return fields
