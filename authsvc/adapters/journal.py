"""One audit line and the metrics of each decision. The only importer of prometheus-client.

Neither ever holds a token or a key: they are made from the decision, which has none. Decisions are counted in this
process first and reach the metrics a moment later; whoever asks this process for them misses none of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from authsvc.adapters.background import Background
from authsvc.adapters.recorder import Lines, Recorder, Stdout
from authsvc.adapters.tally import Tally
from authsvc.adapters.yamlfile import visible

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5)
FLUSH_S = 0.8  # what a worker counted is in every worker's metrics within a second


class _Seconds(Histogram):
    """A histogram that takes many observations at once: one by one they would cost what counting ahead saves."""

    def add(self, buckets: list[int], sum_s: float) -> None:
        self._sum.inc(sum_s)
        for value, count in zip(self._buckets, buckets, strict=True):
            if count:
                value.inc(count)


class Journal:
    """Writes audit lines and counts. `sample_allows` is the share of allowed calls that get a line (0 to 1)."""

    def __init__(self, sample_allows: float = 1.0, lines: Lines | None = None) -> None:
        self._tally, self._flushing = Tally(_BUCKETS), threading.Lock()
        self.record = Recorder(self._tally, Stdout() if lines is None else lines, sample_allows).record
        self._background = Background("metrics", self.flush, FLUSH_S, self.say)
        self.registry = CollectorRegistry()
        self._tallied = _tallied(self.registry)
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
        self._of_provider: dict[str, tuple[Gauge, Gauge]] = {}  # to look them up takes longer than to set them
        self._trouble = Counter("authsvc_trouble", "Troubles of our own", ["event"], registry=self.registry)
        self._seconds = _Seconds("authsvc_decision_seconds", "Time to decide", buckets=_BUCKETS, registry=self.registry)

    def start(self) -> None:
        """From here on what is counted reaches the metrics by itself: in a forked child too, and at the end."""
        self._background.start()
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_in_parent, after_in_child=self._after_in_child
        )
        atexit.register(self._flush_at_exit)

    def stop(self) -> None:
        self._background.stop()
        self.flush()

    def flush(self) -> None:
        """Tell the metrics what was counted. A second caller waits until the first has told all of it."""
        with self._flushing:
            taken = self._tally.take()
            for (counter, *labels), count in taken.by_name.items():
                self._tallied[counter].labels(*labels).inc(count.number)
            if any(taken.buckets):
                self._seconds.add(taken.buckets, taken.sum_s)

    def _flush_at_exit(self) -> None:
        with contextlib.suppress(OSError):  # the directory of the metrics may be gone by now
            self.flush()

    def _before_fork(self) -> None:
        self._flushing.acquire()
        self._tally.before_fork()

    def _after_in_parent(self) -> None:
        self._tally.after_in_parent()
        self._flushing.release()

    def _after_in_child(self) -> None:
        self._tally.after_in_child()
        self._flushing.release()

    def key_event(self, provider: str, event: str) -> None:
        self._events.labels(provider, event).inc()

    def key_refresh(self, provider: str, outcome: str) -> None:
        self._refreshes.labels(provider, outcome).inc()

    def key_state(self, provider: str, count: int, age_s: float) -> None:
        known = self._of_provider.get(provider)
        if known is None:
            known = self._of_provider[provider] = self._keys.labels(provider), self._age.labels(provider)
        keys, age = known
        keys.set(count)
        age.set(age_s)

    def say(self, text: str) -> None:
        """For the operator, on standard error."""
        with contextlib.suppress(OSError, ValueError):  # a full disk must not stop what goes on in the background
            print(f"authsvc: {visible(text)}", file=sys.stderr, flush=True)

    def trouble(self, event: str) -> None:
        self._trouble.labels(event).inc()

    def exposition(self) -> bytes:
        """Prometheus text: of all workers where `PROMETHEUS_MULTIPROC_DIR` is set, else of this process."""
        self.flush()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _tallied(registry: CollectorRegistry) -> dict[str, Counter]:
    """What is counted at calls, by the name that it has in the tally."""
    counters = {
        "decisions": ("authsvc_decisions", "Decisions", ["outcome", "reason", "provider"]),
        "ignored": ("authsvc_ignored_credentials", "Bad credentials on public paths", ["reason"]),
        "differences": ("authsvc_migration_differences", "Calls with a key and a token that disagree", ["in"]),
        "ending": ("authsvc_ending_keys", "Calls with an API key since the end was announced", ["phase"]),
        "shadows": ("authsvc_shadow_refusals", "Calls that shadow would have refused", ["tier"]),
    }
    return {key: Counter(name, text, labels, registry=registry) for key, (name, text, labels) in counters.items()}
