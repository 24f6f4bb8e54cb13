"""From a request to what nginx is told: decide, write down, render. Whatever happens, it is an answer, and never a yes
by accident."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from authsvc.core.gate import Gate
from authsvc.core.model import Decision, Forgotten, MustWait, Reason, Request
from authsvc.core.response import Headers, RateHeaders, head, render
from authsvc.questions import Questions

GENERATION = "X-Auth-Generation"
_FAILED = Decision(Reason.INTERNAL_ERROR, retry_after_s=1)


class Journal(Protocol):
    """Where decisions are written down and counted."""

    def record(self, request: Request, decision: Decision, seconds: float, now: float) -> None: ...
    def trouble(self, event: str) -> None: ...
    def say(self, text: str) -> None: ...


class Answerer:
    """Reads the clock once a request. `timer` gives seconds from anywhere, `generation` what nginx is told of all that
    decisions depend on, where it keeps some."""

    def __init__(
        self,
        gate: Gate,
        journal: Journal,
        rate_headers: RateHeaders,
        generation: Callable[[], str] | None,
        *,
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        self._gate, self._journal, self._rate_headers, self._generation = gate, journal, rate_headers, generation
        self._record = journal.record
        self._clock, self._timer = clock, timer
        self.questions = Questions(self._answer, gate.who.recall)

    def answer(self, request: Request) -> tuple[int, Headers]:
        """Status and headers. Raises `MustWait` where the request may not wait and would have to."""
        generation, decision, headers = self._decided(request)
        status, said = render(decision, headers, self._rate_headers)
        if generation:
            said.append((GENERATION, generation))
        return status, said

    def _answer(self, request: Request) -> tuple[bytes, Decision]:
        """The head of the same answer, and the decision."""
        generation, decision, headers = self._decided(request)
        try:
            said = head(decision, headers, self._rate_headers)
        except Exception:  # noqa: BLE001 - it is counted by now: who asked must not be asked to count it again
            self._trouble("internal_error")
            decision = _FAILED
            said = head(decision, [])
        return said + f"{GENERATION}: {generation}\r\n".encode() if generation else said, decision

    def _decided(self, request: Request) -> tuple[str, Decision, Headers]:
        # before the decision: what changes meanwhile is not this generation's
        generation = self._generation() if self._generation else ""
        now, started = self._clock(), self._timer()  # a MustWait leaves no trace: the call is asked again
        decision, headers = self._decide(request, now)
        try:
            self._record(request, decision, self._timer() - started, now)
        except Exception:  # noqa: BLE001 - a full disk must not decide who gets in
            self._trouble("journal_failed")
        return generation, decision, headers

    def _trouble(self, event: str) -> None:
        """Count it. Where even that fails, the answer stands all the same: who asked again would be counted again."""
        with contextlib.suppress(Exception):
            self._journal.trouble(event)

    def _decide(self, request: Request, now: float) -> tuple[Decision, Headers]:
        try:
            return self._gate.decide(request, now)
        except (MustWait, Forgotten):
            raise
        except Exception as problem:  # noqa: BLE001 - an unforeseen error is a refusal, with a counter of its own
            self._trouble("internal_error")
            self._journal.say(f"unforeseen {type(problem).__name__} in a decision")
            return Decision(Reason.INTERNAL_ERROR, retry_after_s=1), []
