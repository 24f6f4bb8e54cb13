"""What is written down and counted of each decision. Made from the decision, which holds no token and no key."""

from __future__ import annotations

import os
import zlib
from typing import Final, Protocol

from authsvc.adapters.auditline import SAID, line
from authsvc.adapters.tally import Tally
from authsvc.core.model import Decision, Request

_write: Final = os.write  # Final, for mypyc


class Lines(Protocol):
    """Where audit lines go."""

    def write(self, line: str, /) -> object: ...


class Stdout:
    """One write a line: whole among those of other workers, and out before the answer is."""

    def write(self, line: str) -> None:
        _write(1, line.encode("ascii"))


class Recorder:
    """Counts each decision, and writes a line for each refusal, and for the share `sample_allows` of the others."""

    def __init__(self, tally: Tally, lines: Lines, sample_allows: float) -> None:
        self._tally, self._write, self._sample = tally, lines.write, sample_allows

    def record(self, request: Request, decision: Decision, seconds: float, now: float) -> None:
        said, tally = SAID[decision.reason], self._tally
        tally.time(("decisions", said.outcome, said.reason, decision.provider), seconds)
        if decision.other is not None:
            for difference in decision.other.differs:
                tally.count(("differences", difference))
        if decision.notices and decision.identity is not None:
            tally.count(("ending", "grace" if "X-Auth-Warning" in dict(decision.notices) else "announced"))
        if decision.shadow:
            tally.count(("shadows", decision.shadow))
        if decision.ignored is not None:
            tally.count(("ignored", decision.ignored.value))
        if self._sample >= 1 or not decision.allowed or self._sampled(request.id):
            self._write(line(request, decision, seconds, now))

    def _sampled(self, request_id: str) -> bool:
        """The same request is in or out wherever it is asked."""
        return zlib.crc32(request_id.encode("utf-8", "replace")) < self._sample * 2**32
