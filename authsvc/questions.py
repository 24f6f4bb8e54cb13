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
from typing import Final

from authsvc.core.bounded import Bounded
from authsvc.core.model import Decision, Forgotten, Mark, MustWait, Prepared, Reason, Request
from authsvc.wsgi import single, single_target

MOST_PLACES = 20_000  # of one kind, 250 bytes each
MOST_KEYS = 4096
MOST_CALLS = 4096
MOST_CALL_BYTES = 512  # of one that is remembered
MOST_BYTES: Final = 16384  # of a whole head

_METHOD: Final = b"\r\nX-Original-Method: "
_END: Final = b"\r\n\r\n"
_ID: Final = 32 + 4  # $request_id of nginx, and the end of the head
# Plain enough to be read in one way: nothing to trim, nothing but ASCII.
_CALL: Final = re.compile(
    rb"\r\nX-Original-Method: ([A-Z]{1,32})"
    rb"\r\nX-Original-URI: (/[!-~]*)"
    rb"\r\nX-Served-Path: (/(?:[ -~]*[!-~])?)"
    rb"\r\nX-Request-ID: "
)
_SPACE: Final = 32
_LINE: Final = b"GET /auth HTTP/1.1\r\n"
_CONTROLS: Final = bytes({*range(32), 127})
_NAMES: Final = {"Host", "Authorization", "X-API-Key", "X-Real-IP"}  # all that may stand in the first part
# All that may stand before a credential that is known by its digest, and what it is then: field and scheme.
_START: Final = _LINE + b"Host: authsvc\r\n"
_TOKEN: Final = _START + b"Authorization: Bearer "
_OPENINGS: Final[tuple[bytes, ...]] = (_TOKEN, _START + b"Authorization: ApiKey ", _START + b"X-API-Key: ", b"")
# Whatever else stands behind it is not remembered: it may be long, or a secret.
_BEHIND: Final = re.compile(rb"(?:\r\nX-Real-IP: (?:[0-9A-Fa-f:.]{1,45}|unix:))?")
_Kinds = tuple[tuple[str, str], ...]
_KINDS: Final[_Kinds] = (("Authorization", "Bearer "), ("Authorization", "ApiKey "), ("X-API-Key", ""))
_BEARER: Final = 0
_NONE: Final = 3  # those between are API keys
_sha256: Final = hashlib.sha256  # Final, for mypyc: everything else is looked up by name at each call


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
    `Forgotten` where no credential is sent along. `recall` gives what is remembered of a token, by its digest."""

    def __init__(
        self, answer: Callable[[Request], tuple[bytes, Decision]], recall: Callable[[bytes], Prepared | None]
    ) -> None:
        self._answer, self._recall = answer, recall
        # What stands behind a credential, by what stands before it.
        self._places: tuple[Bounded[bytes, _Place], ...] = tuple(Bounded(MOST_PLACES) for _ in _OPENINGS)
        self._keys: Bounded[bytes, bytes] = Bounded(MOST_KEYS)  # SHA-256 of an API key, and the digest it is found by
        self._calls: Bounded[bytes, _Call] = Bounded(MOST_CALLS)

    def at_once(self, head: bytes) -> bytes | None:
        """The head of the answer; `None` where the question has another shape or has to wait. All that was sent must be
        this one head."""
        request_id = _id(head)
        kind = _kind(head)
        begins = len(_OPENINGS[kind])
        ends = head.find(b"\r", begins)
        # The first such line behind a credential. Were there a second one, no call would look like what is behind this.
        start = head.find(_METHOD, ends)
        call = self._call(head[start:-_ID]) if request_id and 0 <= ends <= start else None
        if call is None:
            return None
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
        digest = _sha256(sent).digest()
        token, key = None, None
        if place.kind == _BEARER:
            token = self._recall(digest)
        else:
            key = self._keys.known.get(digest)
        told = None if token is None and key is None else self._again(place, token, key, call, request_id)
        return told or self._new(place, sent, digest, call, request_id)

    def _again(
        self, place: _Place, token: Prepared | None, key: bytes | None, call: _Call, request_id: str
    ) -> bytes | None:
        """By what is remembered of the token, or by the digest of the key, alone."""
        try:
            return self._answer(
                Request(
                    method=call.method,
                    target=call.target,
                    client_ip=place.client_ip,
                    id=request_id,
                    served=call.served,
                    may_wait=False,
                    digest=key,
                    remembered=token,
                    mark=call,
                    plain_id=True,
                )
            )[0]
        except Forgotten:
            return None

    def _new(self, place: _Place, sent: bytes, digest: bytes, call: _Call, request_id: str) -> bytes | None:
        """By the credential itself."""
        if not _plain(sent):
            return None
        field, scheme = _KINDS[place.kind]
        value = scheme + sent.decode("ascii")
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
            plain_id=True,
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
                plain_id=True,
            )
        )[0]

    def _call(self, part: bytes) -> _Call | None:
        known = self._calls.known.get(part)
        if known is not None:
            return known
        found = _CALL.fullmatch(part)
        if found is None:
            return None
        method, target, served = (text.decode("ascii") for text in found.groups())
        call = _Call(method, single_target(target), served)
        if len(part) <= MOST_CALL_BYTES:
            self._calls.put(part, call)
        return call


def _id(head: bytes) -> str:
    """The id at the end of a whole head, where nginx made it; "" in anything else."""
    if not head.endswith(_END) or len(head) > MOST_BYTES:
        return ""
    found = head[-_ID:-4].decode("latin-1")
    return found if found.isalnum() and found.isascii() else ""  # there is one way to read that


def _kind(head: bytes) -> int:
    """Which of the openings a head has; all have the last one."""
    if head.startswith(_TOKEN):  # as mostly
        return _BEARER
    for kind in range(_BEARER + 1, _NONE):
        if head.startswith(_OPENINGS[kind]):
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
        name, _, value = line.decode("ascii").partition(": ")
        if name not in _NAMES or name in fields or not value or value.startswith(" "):
            return None
        fields[name] = value
    return fields
