"""The one place that wires: config, store, keys, limits, gate, journal. And the WSGI entry for any gunicorn."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from authsvc.adapters import config
from authsvc.adapters.background import Background
from authsvc.adapters.fleet import Board, Fleet, Resets
from authsvc.adapters.introspection import Introspector
from authsvc.adapters.journal import Journal
from authsvc.adapters.keyfile import KeyFile
from authsvc.adapters.keyring import Keyring
from authsvc.adapters.keystate import KeyStatus
from authsvc.adapters.limiter import Limiter
from authsvc.adapters.memcached import MemcachedStore
from authsvc.adapters.recorder import Lines
from authsvc.adapters.sharedkeys import SharedKeys
from authsvc.adapters.store import MemoryStore, Store, StoreDown
from authsvc.adapters.tokenmemory import TokenMemory
from authsvc.answering import Answerer
from authsvc.app import build_app
from authsvc.core.callers import ApiKeys
from authsvc.core.gate import Gate
from authsvc.core.identify import Identifier
from authsvc.core.model import Decision, Reason
from authsvc.core.provider import Providers
from authsvc.core.receipt import Receipts
from authsvc.core.response import Headers, render
from authsvc.generation import Generation
from authsvc.wsgi import WsgiApp

DEFAULT_CONFIG = "authsvc.yaml"
SAY_AGAIN_S = 60
TEND_S = 0.8  # a reset reaches every process within a second


class Service:
    """A configured authsvc. `clock` gives seconds since the epoch; it is read once a request."""

    def __init__(
        self,
        settings: config.Settings,
        *,
        store: Store | None = None,
        lines: Lines | None = None,
        clock: Callable[[], float] = time.time,
        processes: int = 1,
        receipt_key: bytes = b"",
    ) -> None:
        self.settings, self._clock = settings, clock
        self.key_file: KeyFile | None = None
        self._said_at = float("-inf")
        self.journal = Journal(settings.sample_allows, lines)
        self._store = store = store or store_of(settings)
        shared = shared_keys(settings, store, self.journal.key_event)
        self.keyring = Keyring(settings.providers, settings.key_times, shared, self.journal, clock)
        self.fleet, self.board, self._resets = Fleet(store, processes), Board(), Resets()
        self.limiter = Limiter(
            store, settings.on_store_error, self._store_trouble, lambda: self.fleet.size, self.board.sample
        )
        self.gate = Gate(
            who=Identifier(
                Providers(settings.providers),
                self.keyring,
                Introspector(settings.introspection, self.journal.key_event),
                self._api_keys(settings),
                settings.rollout,
                TokenMemory(),
            ),
            policy=settings.policy,
            limits=settings.limits,
            extract=settings.extract,
            counters=self.limiter,
            receipts=Receipts(_receipt_key(settings, receipt_key)),
        )
        keeps = settings.policy.keeps  # else nginx need not know when to forget
        self._generation = Generation(settings.digest, self.keyring, self.key_file) if keeps else None
        self._answerer = Answerer(
            self.gate,
            self.journal,
            settings.rate_headers,
            self._generation.current if self._generation else None,
            clock=clock,
            timer=time.perf_counter,
        )
        self.answer, self.at_once = self._answerer.answer, self._answerer.questions.at_once
        self._background = Background("limits", self._tend, TEND_S, self.journal.say)

    def _api_keys(self, settings: config.Settings) -> ApiKeys | None:
        """Where keys are accepted at all. Raises `KeyFileError` where their file has mistakes."""
        given = settings.api_keys
        if given is None:
            return None
        self.key_file = KeyFile(given.file, self._key_file_event, digested=settings.policy.keeps)
        return ApiKeys(self.key_file.current, given.deprecation, given.both, given.qualify_user_id)

    def _key_file_event(self, event: str) -> None:
        self.journal.trouble(f"api_keys_{event}")
        for line in self.key_file.trouble if self.key_file else ():
            self.journal.say(f"{line}; the API keys in force stay")

    def start(self) -> None:
        """Load the keys, and begin what goes on in the background."""
        self.keyring.start()
        if self.key_file is not None:
            self.key_file.start(self._clock)
        self.journal.start()
        if self._store.shared:
            self._tend()  # so that the fleet is known before the first call
            self._background.start()

    def stop(self) -> None:
        self.keyring.stop()
        if self.key_file is not None:
            self.key_file.stop()
        self._background.stop()
        self.journal.stop()

    def _tend(self) -> None:
        """What the limits need beside the calls; while the store is down, nothing of it."""
        now = self._clock()
        self._store.probe()
        for act in (self._beat, self._forget, self._publish, self.limiter.tidy):
            with contextlib.suppress(StoreDown):  # each by itself: what hinders one must not hinder the others
                act(now)

    def _beat(self, now: float) -> None:
        self.fleet.beat(now)

    def _forget(self, now: float) -> None:
        self.limiter.forget(self._resets.news(self._store))

    def _publish(self, now: float) -> None:
        self.board.publish(self._store, self.fleet.place, now)

    def _store_trouble(self, event: str) -> None:
        """Counted always, said once a minute: calls go on, so nobody would notice else."""
        self.journal.trouble(event)
        now = self._clock()
        if now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            how = self.settings.on_store_error
            self.journal.say(
                f"limits go on as on_store_error: {how}, for the store is out of reach: {self._store_state()}"
            )

    def refuse(self, reason: Reason) -> tuple[int, Headers]:
        """The answer where there is nothing to decide on."""
        return render(Decision(reason), [])

    def ready(self) -> dict[str, KeyStatus]:
        """How it stands with each provider's keys."""
        return self.keyring.status()

    def health(self) -> dict[str, str]:
        """What is worth knowing and takes nobody out of service: the config's state and the store's."""
        config_state = "the file has mistakes, an older config is in force" if self.settings.outdated else "valid"
        found = {"config": config_state, "store": self._store_state()}
        if self.key_file is not None:
            trouble = "; ".join(self.key_file.trouble)
            found["api_keys"] = f"older ones are in force: {trouble}" if trouble else "as in the file"
        return found

    def _store_state(self) -> str:
        if not self.settings.memcached:
            return "memory"
        try:
            self._store.get("authsvc:health")
        except StoreDown as trouble:
            return str(trouble)
        return "; ".join(self._store.failing()) or "ok"


def store_of(settings: config.Settings) -> Store:
    """Where this config has its counters and its shared keys."""
    return MemcachedStore(settings.memcached, access=settings.access) if settings.memcached else MemoryStore()


def _receipt_key(settings: config.Settings, given: bytes) -> bytes:
    """What the fleet has in common, else this host's workers, else nobody: then another worker counts once more."""
    if settings.secret is not None:
        return hashlib.blake2b(b"authsvc receipt", key=settings.secret[:64]).digest()
    return given or os.urandom(32)


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


def start_app(settings: config.Settings, processes: int = 1, receipt_key: bytes = b"") -> WsgiApp:
    """The WSGI app with its keys loaded and its background threads running.

    `processes` are those of this host; where they have one `receipt_key`, each knows what another has counted.
    """
    _make_metrics_dir()
    service = Service(settings, processes=processes, receipt_key=receipt_key)
    service.start()
    return build_app(service)


def _make_metrics_dir() -> None:
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory:
        Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
