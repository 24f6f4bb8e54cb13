"""Counts calls in a store and remembers in the process what cannot change: closed windows, and who must wait."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Literal

from authsvc.adapters.store import MemoryStore, Store, StoreDown
from authsvc.core.model import Quota, Reason, Unavailable
from authsvc.core.ratelimit import Tier, Window, judge, window

OnStoreError = Literal["local", "allow", "deny"]
MAX_REMEMBERED = 50_000


class Limiter:
    """Spends one call of a tier. In steady state one round trip; none for a caller who is over the limit."""

    def __init__(
        self, store: Store, on_error: OnStoreError = "local", report: Callable[[str], None] = lambda event: None
    ) -> None:
        self._store, self._on_error, self._report = store, on_error, report
        self._local = MemoryStore()
        self._previous: dict[str, int] = {}
        self._waiting: dict[tuple[str, int], tuple[float, Quota]] = {}  # not the caller's name, which may be long
        self._lock = threading.Lock()

    def spend(self, tier: Tier, counted: str, now: float) -> Quota | None:
        """Count one call. `None` where the store is down and calls are let through meanwhile."""
        waiting = self._still_waiting(tier, counted, now)
        if waiting is not None:
            return waiting
        try:
            return self._count(self._store, self._previous, tier, counted, now)
        except StoreDown as trouble:
            self._report("store_error")
            if self._on_error == "allow":
                return None
            if self._on_error == "deny":
                raise Unavailable(Reason.LIMITS_UNAVAILABLE, str(trouble)) from trouble
            return self._count(self._local, {}, tier, counted, now)

    def _count(self, store: Store, remembered: dict[str, int], tier: Tier, counted: str, now: float) -> Quota:
        at = window(tier, counted, now)
        previous = self._previous_count(store, remembered, at)
        quota = judge(tier, at, store.incr(at.current, at.ttl_s), previous)
        if quota.refused:
            with contextlib.suppress(StoreDown):  # a refusal stands, whatever the store does afterwards
                store.decr(at.current)  # a refused call was not had, so it does not count
            self._remember_waiting(tier, counted, now, quota)
        return quota

    def _previous_count(self, store: Store, remembered: dict[str, int], at: Window) -> int:
        """The closed window's count: it changes no more, so it is asked for once."""
        known = remembered.get(at.previous)
        if known is None:
            text = store.get(at.previous)
            try:
                known = int(text or b"0")
            except ValueError:
                raise StoreDown("a counter holds no number") from None
            with self._lock:
                if len(remembered) >= MAX_REMEMBERED:
                    remembered.clear()
                remembered[at.previous] = known
        return known

    def _still_waiting(self, tier: Tier, counted: str, now: float) -> Quota | None:
        until, quota = self._waiting.get((tier.name, hash(counted)), (0.0, None))
        if quota is None or now >= until:
            return None
        return Quota(quota.policy, quota.limit, quota.window_s, 0, max(int(until - now) + 1, 1), refused=True)

    def _remember_waiting(self, tier: Tier, counted: str, now: float, quota: Quota) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_REMEMBERED:
                self._waiting.clear()
            self._waiting[(tier.name, hash(counted))] = (now + quota.reset_s, quota)
