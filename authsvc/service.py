"""The one place that wires: config, store, keys, limits, gate, journal. And the WSGI entry for any gunicorn."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from authsvc.adapters import config
from authsvc.adapters.introspection import Introspector
from authsvc.adapters.journal import Journal, Lines
from authsvc.adapters.keyring import Keyring
from authsvc.adapters.keystate import KeyStatus
from authsvc.adapters.limiter import Limiter
from authsvc.adapters.sharedkeys import SharedKeys
from authsvc.adapters.store import MemcachedStore, MemoryStore, Store, StoreDown
from authsvc.app import WsgiApp, build_app
from authsvc.core.gate import Gate
from authsvc.core.model import Decision, MustWait, Reason, Request
from authsvc.core.provider import Providers
from authsvc.core.response import Headers, render

DEFAULT_CONFIG = "authsvc.yaml"
SAY_AGAIN_S = 60


class Service:
    """A configured authsvc. `clock` gives seconds since the epoch; it is read once a request."""

    def __init__(
        self,
        settings: config.Settings,
        *,
        store: Store | None = None,
        lines: Lines | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self._clock = settings, clock
        self._said_at = float("-inf")
        self.journal = Journal(settings.sample_allows, lines)
        self._store = store = store or store_of(settings)
        shared = shared_keys(settings, store, self.journal.key_event)
        self.keyring = Keyring(settings.providers, settings.key_times, shared, self.journal, clock)
        self.gate = Gate(
            providers=Providers(settings.providers),
            policy=settings.policy,
            limits=settings.limits,
            extract=settings.extract,
            keys=self.keyring,
            counters=Limiter(store, settings.on_store_error, self._store_trouble),
            introspects=Introspector(settings.introspection, self.journal.key_event),
        )

    def _store_trouble(self, event: str) -> None:
        """Counted always, said once a minute: calls go on, so nobody would notice else."""
        self.journal.trouble(event)
        now = self._clock()
        if now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            how = self.settings.on_store_error
            self.journal.say(f"memcached does not answer: limits go on as on_store_error: {how}")

    def answer(self, request: Request) -> tuple[int, Headers]:
        """Status and headers for nginx. Whatever happens, it is an answer, and never a yes by accident.

        Raises `MustWait` where the request may not wait and would have to."""
        now, started = self._clock(), time.perf_counter()  # a MustWait leaves no trace: the call is asked again
        decision, headers = self._decide(request, now)
        try:
            self.journal.record(request, decision, time.perf_counter() - started, now)
        except Exception:  # noqa: BLE001 - a full disk must not decide who gets in
            self.journal.trouble("journal_failed")
        return render(decision, headers)

    def _decide(self, request: Request, now: float) -> tuple[Decision, Headers]:
        try:
            return self.gate.decide(request, now)
        except MustWait:
            raise
        except Exception as problem:  # noqa: BLE001 - an unforeseen error is a refusal, with a counter of its own
            self.journal.trouble("internal_error")
            self.journal.say(f"unforeseen {type(problem).__name__} in a decision")
            return Decision(Reason.INTERNAL_ERROR, retry_after_s=1), []

    def refuse(self, reason: Reason) -> tuple[int, Headers]:
        """The answer where there is nothing to decide on."""
        return render(Decision(reason), [])

    def ready(self) -> dict[str, KeyStatus]:
        """How it stands with each provider's keys."""
        return self.keyring.status()

    def health(self) -> dict[str, str]:
        """What is worth knowing and takes nobody out of service: the config's state and the store's."""
        config_state = "the file has mistakes, an older config is in force" if self.settings.outdated else "valid"
        return {"config": config_state, "store": self._store_state()}

    def _store_state(self) -> str:
        if not self.settings.memcached:
            return "memory"
        try:
            self._store.get("authsvc:health")
        except StoreDown as trouble:
            return str(trouble)
        return "ok"


def store_of(settings: config.Settings) -> Store:
    """Where this config has its counters and its shared keys."""
    return MemcachedStore(settings.memcached) if settings.memcached else MemoryStore()


def shared_keys(settings: config.Settings, store: Store, report: Callable[[str, str], None]) -> SharedKeys | None:
    """Keys are shared only where they can be authenticated."""
    if not store.shared or settings.secret is None:
        return None
    return SharedKeys(store, settings.secret, settings.key_times.max_stale_s, report)


def create_app(path: str | None = None) -> WsgiApp:
    """The WSGI app for the config file at `path`, `AUTHSVC_CONFIG` or `./authsvc.yaml`.

    Ends the process with exit code 3 where the config has mistakes.
    """
    file = path or os.environ.get("AUTHSVC_CONFIG") or DEFAULT_CONFIG
    try:
        settings = config.load(file)
    except config.ConfigError as mistakes:
        print("\n".join(mistakes.lines), file=sys.stderr)
        raise SystemExit(3) from None  # gunicorn's own code for a worker that cannot boot
    for note in settings.notes:
        print(f"authsvc: {note}", file=sys.stderr)
    return start_app(settings)


def start_app(settings: config.Settings) -> WsgiApp:
    """The WSGI app with its keys loaded and its background thread running."""
    _make_metrics_dir()
    service = Service(settings)
    service.keyring.start()
    return build_app(service)


def _make_metrics_dir() -> None:
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory:
        Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
