"""One audit line and the metrics of each decision. The only importer of prometheus-client.

Neither ever holds a token or a key: they are made from the decision, which has none.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import zlib
from datetime import UTC, datetime
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from authsvc.adapters.yamlfile import visible
from authsvc.core.model import Decision, Request
from authsvc.core.response import face

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5)


class Lines(Protocol):
    """Where audit lines go."""

    def write(self, line: str, /) -> object: ...


class _Stdout:
    """One write a line: whole among those of other workers, and out before the answer is."""

    def write(self, line: str) -> None:
        os.write(1, line.encode("ascii"))


class Journal:
    """Writes audit lines and counts. `sample_allows` is the share of allowed calls that get a line (0 to 1)."""

    def __init__(self, sample_allows: float = 1.0, lines: Lines | None = None) -> None:
        self._sample, self._lines = sample_allows, _Stdout() if lines is None else lines
        self.registry = CollectorRegistry()
        self._decisions = Counter(
            "authsvc_decisions", "Decisions", ["outcome", "reason", "provider"], registry=self.registry
        )
        self._ignored = Counter(
            "authsvc_ignored_credentials", "Bad credentials on public paths", ["reason"], registry=self.registry
        )
        self._events = Counter("authsvc_key_events", "What befell keys", ["provider", "event"], registry=self.registry)
        self._refreshes = Counter(
            "authsvc_key_refreshes", "Key downloads by how they went", ["provider", "outcome"], registry=self.registry
        )
        self._keys = Gauge(
            "authsvc_keys",
            "Usable keys, in the worker that has fewest",
            ["provider"],
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self._age = Gauge(
            "authsvc_keys_age_seconds",
            "Since the provider last answered well, in the worker that knows least",
            ["provider"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._trouble = Counter("authsvc_trouble", "Troubles of our own", ["event"], registry=self.registry)
        self._seconds = Histogram(
            "authsvc_decision_seconds", "Time to decide", buckets=_BUCKETS, registry=self.registry
        )

    def record(self, request: Request, decision: Decision, seconds: float, now: float) -> None:
        """One decision: counted always, written always where it refuses, else by sample."""
        self._decisions.labels(_outcome(decision), decision.reason.value, decision.provider).inc()
        self._seconds.observe(seconds)
        if decision.ignored:
            self._ignored.labels(decision.ignored.value).inc()
        if not decision.allowed or self._sampled(request.id):
            self._lines.write(_line(request, decision, seconds, now))

    def _sampled(self, request_id: str) -> bool:
        """The same request is in or out wherever it is asked."""
        return self._sample >= 1 or zlib.crc32(request_id.encode("utf-8", "replace")) < self._sample * 2**32

    def key_event(self, provider: str, event: str) -> None:
        self._events.labels(provider, event).inc()

    def key_refresh(self, provider: str, outcome: str) -> None:
        self._refreshes.labels(provider, outcome).inc()

    def key_state(self, provider: str, count: int, age_s: float) -> None:
        self._keys.labels(provider).set(count)
        self._age.labels(provider).set(age_s)

    def say(self, text: str) -> None:
        """For the operator, on standard error."""
        with contextlib.suppress(OSError, ValueError):  # a full disk must not stop what goes on in the background
            print(f"authsvc: {visible(text)}", file=sys.stderr, flush=True)

    def trouble(self, event: str) -> None:
        self._trouble.labels(event).inc()

    def exposition(self) -> bytes:
        """Prometheus text: of all workers where `PROMETHEUS_MULTIPROC_DIR` is set, else of this process."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _outcome(decision: Decision) -> str:
    return "allow" if decision.allowed else "deny"


def _path(request: Request, decision: Decision) -> str:
    """The canonical path; what was sent in its place where it has none. Never the query, which may hold secrets."""
    return decision.path or (request.target or "").partition("?")[0]


def _line(request: Request, decision: Decision, seconds: float, now: float) -> str:
    identity, quota = decision.identity, decision.quota
    fields = {
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "request_id": request.id[:128],
        "outcome": _outcome(decision),
        "status": face(decision.reason).status,
        "reason": decision.reason.value,
        "method": (request.method or "")[:32],
        "path": _path(request, decision)[:200],
        "rule": decision.rule,
        "provider": decision.provider,
        "user": (identity.key or identity.user_id)[:128] if identity else "",
        "client": identity.client[:128] if identity else "",
        "tenant": ",".join(identity.tenants)[:128] if identity else "",
        "client_ip": request.client_ip or "",
        "tier": quota.policy if quota else "",
        "ignored": decision.ignored.value if decision.ignored else "",
        "latency_us": round(seconds * 1e6),
    }
    return json.dumps(fields) + "\n"
