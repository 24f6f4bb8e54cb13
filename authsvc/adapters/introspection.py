"""Asks a provider about opaque tokens (RFC 7662), and remembers for a short while what it said.

A token and our own secret go into the one request that asks, and nowhere else: answers are remembered under digests,
and texts and events name neither. Calls that ask for the same token at once share one request. What failed is not
remembered, but an endpoint in trouble is left alone for a second, so that it does not hold every call.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from authsvc.adapters.fetch import DEADLINE_S, Fetched, FetchFailed, post_form, shown
from authsvc.core.model import MustWait, Reason, Unavailable

MAX_TOKEN = 4096
MAX_REMEMBERED = 10_000
REST_S = 1.0
_GRACE_S = 0.25  # a request that is cut off at its deadline still says what went wrong
_EARLIER_S = 5.0  # a call may have begun before the one that asked; far before, the clock was set back
_OPAQUE = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 section 2.1: b64token
# Trouble that a single token can cause: who sends such a one must not shut the endpoint for everybody.
_OF_ONE_TOKEN = frozenset({"not_json", "too_large"})
_OF_ONE_TOKEN_STATUS = frozenset({400, 413, 422})
_OURS_REFUSED = frozenset({401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """A provider's endpoint, and who we are there.

    A token that is good is remembered until its exp, and no longer than `cap_s`; one that is not, for `negative_s`.
    """

    url: str
    client_id: str
    secret: str = field(repr=False)
    ca_file: str | None = None
    allow_insecure_http: bool = False
    cap_s: float = 30  # how long a revoked token may still pass
    negative_s: float = 5  # a token may be asked for before the provider's own store has it everywhere


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was said of a token, `None` where it is not active, and until when that is remembered."""

    claims: Mapping[str, Any] | None = field(repr=False)
    asked_at: float
    until: float
    expires: float = math.inf

    def holds(self, now: float) -> bool:
        return self.asked_at - _EARLIER_S <= now < self.until

    def at(self, now: float) -> Mapping[str, Any] | None:
        return self.claims if now < self.expires else None


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why there is no answer; `lasting` where other tokens would most likely get none either."""

    text: str
    lasting: bool


_Result = _Answer | _Trouble


class _Flight:
    """A request that is under way, for all calls that wait for it."""

    def __init__(self, provider: str, key: bytes) -> None:
        self.provider, self.key = provider, key
        self.landed = threading.Event()
        self.result: _Result = _Trouble(f"no whole answer within {DEADLINE_S:g} s", lasting=True)  # if it never lands


class _Breaker:
    """Whether an endpoint may be asked now. After a rest one call finds out for all."""

    def __init__(self) -> None:
        self._rests_until = 0.0
        self.trouble = ""

    def lets_through(self, at: float) -> bool:
        if self.trouble:
            if at < self._rests_until:
                return False
            self._rests_until = at + DEADLINE_S + REST_S  # for the others, until it is known how this one went
        return True

    def hear(self, result: _Result, at: float) -> None:
        self.trouble = result.text if isinstance(result, _Trouble) and result.lasting else ""
        self._rests_until = at + REST_S


class _Memory:
    """Answers by digest, the oldest first. What is full makes a tenth of its room free at once."""

    def __init__(self, room: int) -> None:
        self._room, self._answers = room, dict[bytes, _Answer]()

    def get(self, key: bytes, now: float) -> _Answer | None:
        answer = self._answers.get(key)
        return answer if answer is not None and answer.holds(now) else None

    def keep(self, key: bytes, answer: _Answer, now: float) -> None:
        self._answers.pop(key, None)
        if len(self._answers) >= self._room:
            self._answers = {one: known for one, known in self._answers.items() if known.holds(now)}
            over = len(self._answers) - self._room * 9 // 10
            for oldest in list(itertools.islice(self._answers, max(over, 0))):
                del self._answers[oldest]
        self._answers[key] = answer


class Introspector:
    """What providers say of opaque tokens.

    `report` hears of each request "introspected" (whatever the answer) or "introspection_failed", and
    "introspection_remembered" of each call that needed none. Calls that share a request or are turned away while
    an endpoint rests are not reported.
    """

    def __init__(
        self,
        by_provider: Mapping[str, Introspection],
        report: Callable[[str, str], None],
        *,
        room: int = MAX_REMEMBERED,
        post: Callable[..., Fetched] = post_form,
    ) -> None:
        self._by_provider, self._report, self._post = by_provider, report, post
        self._memory, self._flights = _Memory(room), dict[bytes, _Flight]()
        self._breakers = {provider: _Breaker() for provider in by_provider}
        self._lock = threading.Lock()

    def claims(self, provider: str, token: str, now: float, may_wait: bool = True) -> Mapping[str, Any] | None:
        """What the provider says of an opaque token; `None` where it is not active. Raises `Unavailable`, or `MustWait`
        where the provider must be asked and the caller may not wait.

        Nobody is asked about a text that can be no bearer token.
        """
        if len(token) > MAX_TOKEN or not _OPAQUE.fullmatch(token):
            return None
        if provider not in self._by_provider:  # its secret could not be read: nobody is asked in the name of nobody
            raise _unavailable(provider, "the secret for the introspection endpoint could not be read")
        key = hashlib.sha256(f"{provider}\0{token}".encode()).digest()
        if not may_wait and self._memory.get(key, now) is None:
            raise MustWait
        found, ours = self._find(provider, key, token, now)
        if isinstance(found, _Answer):
            self._report(provider, "introspection_remembered")
            return found.at(now)
        if not found.landed.wait(DEADLINE_S + _GRACE_S):
            self._land(found, found.result, now)
        result = found.result
        if ours:
            self._report(provider, "introspected" if isinstance(result, _Answer) else "introspection_failed")
        if isinstance(result, _Trouble):
            raise _unavailable(provider, result.text)
        return result.at(now)

    def _find(self, provider: str, key: bytes, token: str, now: float) -> tuple[_Answer | _Flight, bool]:
        """An answer or a request that is there; else a new request, which is ours."""
        with self._lock:
            known = self._memory.get(key, now) or self._flights.get(key)
            return (known, False) if known else (self._take_off(provider, key, token, now), True)

    def _take_off(self, provider: str, key: bytes, token: str, now: float) -> _Flight:
        breaker = self._breakers[provider]
        if not breaker.lets_through(time.monotonic()):
            raise _unavailable(provider, f"{breaker.trouble} (it is asked again in a moment)")
        flight = _Flight(provider, key)
        # in a thread: a resolver that hangs knows no deadline, and must hold nobody
        threading.Thread(target=self._fly, args=(flight, token, now), name="authsvc-introspection", daemon=True).start()
        self._flights[key] = flight
        return flight

    def _fly(self, flight: _Flight, token: str, now: float) -> None:
        try:
            result = self._ask(self._by_provider[flight.provider], token, now)
        except FetchFailed as problem:
            result = _trouble(problem)
        except Exception as problem:  # noqa: BLE001 - whatever an answer can cause, those who wait must hear
            result = _Trouble(f"unforeseen {type(problem).__name__}", lasting=False)
        self._land(flight, result, now)

    def _ask(self, endpoint: Introspection, token: str, now: float) -> _Result:
        """RFC 7662 section 2.1."""
        found = self._post(
            endpoint.url,
            {"token": token, "token_type_hint": "access_token"},
            user=endpoint.client_id,
            password=endpoint.secret,
            ca_file=endpoint.ca_file,
            allow_http=endpoint.allow_insecure_http,
        )
        return _read(found.document, endpoint, now)

    def _land(self, flight: _Flight, result: _Result, now: float) -> None:
        with self._lock:
            if flight.landed.is_set():  # it was given up
                return
            del self._flights[flight.key]
            self._breakers[flight.provider].hear(result, time.monotonic())
            if isinstance(result, _Answer):
                self._memory.keep(flight.key, result, now)
            flight.result = result
            flight.landed.set()


def _read(document: dict[str, Any], endpoint: Introspection, now: float) -> _Result:
    """RFC 7662 section 2.2. Only JSON's own true makes a token good."""
    active, expires = document.get("active"), document.get("exp", math.inf)
    if not isinstance(active, bool):
        return _Trouble(f"{shown(endpoint.url)}: the answer does not say whether active is true or false", lasting=True)
    if active and type(expires) not in (int, float):  # a boolean is no time
        return _Trouble(f"{shown(endpoint.url)}: the answer's exp is not a time", lasting=False)
    if not active or expires <= now:
        return _Answer(None, now, now + endpoint.negative_s)
    return _Answer(MappingProxyType(document), now, min(expires, now + endpoint.cap_s), expires)


def _trouble(problem: FetchFailed) -> _Trouble:
    text = str(problem)
    if problem.status in _OURS_REFUSED:  # RFC 7662 section 2.3
        text += ": the endpoint does not accept our client_id and secret"
    return _Trouble(text, problem.outcome not in _OF_ONE_TOKEN and problem.status not in _OF_ONE_TOKEN_STATUS)


def _unavailable(provider: str, text: str) -> Unavailable:
    detail = f"{provider} could not say whether the token is good: {text}"
    return Unavailable(Reason.INTROSPECTION_UNAVAILABLE, detail)
