"""Counts calls in a store, and remembers in the process what spares a round trip: closed windows, leases, who waits."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from authsvc.adapters.store import MemoryStore, Store, StoreDown
from authsvc.core import window
from authsvc.core.model import Quota, Reason, Unavailable
from authsvc.core.ratelimit import Charge, Rate
from authsvc.core.window import Window

OnStoreError = Literal["local", "allow", "deny"]
Quotas = tuple[Quota, ...]
MAX_REMEMBERED = 50_000
IDLE_S = 60.0  # a lease that is not used for so long is given back
MAX_LEASE = 1024
GROWTH = 8  # the third reservation of a busy caller is of 64 calls; who was away begins at an eighth of his last one


@dataclass(slots=True)
class _Seat:
    """What this process knows of one subject in one tier.

    `left` calls are reserved in the window `at`; `wanted` grows while a busy caller uses his leases up. `pause_s`
    doubles while a caller is refused again and again, for the first refusal may be due to another call of his that
    counted, was refused too, and gives back at this very moment.
    """

    charge: Charge
    left: int = 0
    wanted: int = 1
    at: Window | None = None
    room: int = 0  # what was left of the limit when it was last counted
    reserving: bool = False  # a thread does, and its lease is enough for all of them
    forgotten: bool = False  # somebody set the counts back: what is on its way for it counts no more
    used_at: float = float("-inf")
    waits: Quotas = ()
    waits_from: float = 0.0
    waits_until: float = 0.0
    pause_s: float = 0.5


class _Memory(dict[Any, Any]):
    """What is full forgets its oldest tenth. Threads that put at once find some of it gone already."""

    def put(self, key: Any, value: Any) -> None:
        if len(self) >= MAX_REMEMBERED:
            for oldest in list(self)[: MAX_REMEMBERED // 10]:
                self.pop(oldest, None)
        self[key] = value


class Limiter:
    """Spends calls of tiers. In steady state one round trip, none while a lease lasts, and none for who must wait.

    `processes` says how many count in the same store, `sample` hears of each charge that was counted there, `report`
    of each time that it could not be.
    """

    def __init__(
        self,
        store: Store,
        on_error: OnStoreError = "local",
        report: Callable[[str], None] = lambda event: None,
        processes: Callable[[], int] = lambda: 1,
        sample: Callable[[Charge, Sequence[Quota], float], None] = lambda charge, quotas, now: None,
    ) -> None:
        self._store, self._on_error, self._report = store, on_error, report
        self._processes, self._sample = processes, sample
        self._local = MemoryStore()
        self._closed, self._seats = _Memory(), _Memory()
        self._lent: dict[int, _Seat] = {}
        self._lock = threading.Lock()

    def spend(self, charge: Charge, now: float) -> Quotas:
        """Count one call in all windows of its tier, or in none where one refuses.

        Empty where the store is down and calls are let through meanwhile; `Unavailable` where they are not.
        """
        seat = self._seats.get(charge.key) or self._seat(charge)
        return self._leased(seat, charge, now) or _waiting(seat, now) or self._counted(seat, charge, now)

    def tidy(self, now: float) -> None:
        """Give back what was reserved for callers who do not come any more."""
        with self._lock:
            idle = [seat for seat in self._lent.values() if abs(now - seat.used_at) > IDLE_S]
            given = [(seat.at, self._take_lease(seat)) for seat in idle]
        for seat, (at, left) in zip(idle, given, strict=True):
            if at is not None and left and at.number == now // seat.charge.tier.rates[0].period_s:
                self._give_back(self._store, [at], left)

    def forget(self, subjects: Collection[str]) -> None:
        """Somebody changed the counts of these subjects."""
        if not subjects:
            return
        with self._lock:
            for key in [key for key, seat in list(self._seats.items()) if seat.charge.subject in subjects]:
                seat = self._seats.pop(key)
                seat.forgotten = True
                self._take_lease(seat)
            for name in [name for name in list(self._closed) if window.subject(name) in subjects]:
                self._closed.pop(name, None)

    # ---- without a round trip

    def _seat(self, charge: Charge) -> _Seat:
        with self._lock:
            seat: _Seat = self._seats.get(charge.key) or _Seat(charge)
            self._seats.put(charge.key, seat)
        return seat

    def _leased(self, seat: _Seat, charge: Charge, now: float) -> Quotas:
        """From what is reserved, in the window in which it was."""
        if seat.left < charge.cost or seat.at is None:
            return ()
        tier, cost = charge.tier, charge.cost
        rate = tier.rates[0]
        ends_at = (seat.at.number + 1) * rate.period_s
        with self._lock:
            if seat.left < cost or not 0 < ends_at - now <= rate.period_s:
                return ()
            seat.left -= cost
            seat.used_at = now
            left = seat.room + seat.left
        if left > rate.limit:  # the room may be that of another window by now
            left = rate.limit
        return (Quota(tier.name, rate.limit, rate.period_s, left, math.ceil(ends_at - now)),)

    def _take_lease(self, seat: _Seat) -> int:
        left, seat.left = seat.left, 0
        self._lent.pop(id(seat), None)
        return left

    # ---- with one

    def _counted(self, seat: _Seat, charge: Charge, now: float) -> Quotas:
        asked = self._ask(seat, charge, now)
        try:
            quotas = self._count(self._store, self._closed, charge.tier.rates, asked, seat, now)
            self._sample(charge, quotas, now)
            return quotas
        except StoreDown as trouble:
            self._report("store_error")
            if self._on_error == "allow":
                return ()
            if self._on_error == "deny":
                raise Unavailable(Reason.LIMITS_UNAVAILABLE, str(trouble)) from trouble
            rates = [window.share(rate, self._processes()) for rate in charge.tier.rates]
            return self._count(self._local, _Memory(), rates, charge.cost, seat, now)
        finally:
            if asked != charge.cost:
                seat.reserving = False

    def _ask(self, seat: _Seat, charge: Charge, now: float) -> int:
        """How many calls to reserve: more each time for a busy caller, where the tier has one window."""
        if not self._store.shared or len(charge.tier.rates) > 1:
            return charge.cost
        busy = 0 <= now - seat.used_at < IDLE_S
        seat.wanted = min(seat.wanted * GROWTH, MAX_LEASE) if busy else max(seat.wanted // GROWTH, 1)
        asked = window.lease(charge.tier.rates[0], seat.wanted * charge.cost, seat.room, self._processes())
        asked -= asked % charge.cost
        with self._lock:
            if asked <= charge.cost or seat.reserving:
                return charge.cost
            seat.reserving = True
        return asked

    def _count(
        self, store: Store, closed: _Memory, rates: Sequence[Rate], asked: int, seat: _Seat, now: float
    ) -> Quotas:
        """Reserve `asked`, or as many as fit where the call itself does."""
        charge = seat.charge
        at = [window.window(rate, charge.subject, now) for rate in rates]
        before = [_closed_count(store, closed, one) for one in at]
        counted = store.incr_many([(one.current, asked, one.ttl_s) for one in at])
        fit = min(map(window.granted, rates, at, before, counted, [asked] * len(at)))
        kept = fit - fit % charge.cost
        if kept < asked:
            self._give_back(store, at, asked - kept)
            counted = [count - (asked - kept) for count in counted]
        rows = list(zip(window.policies(charge.tier), rates, at, before, counted, strict=True))
        return self._admit(seat, rows, kept, now) if kept else self._refuse(seat, rows, now)

    def _admit(self, seat: _Seat, rows: Sequence[_Row], kept: int, now: float) -> Quotas:
        quotas = tuple(window.quota(*row) for row in rows)
        left = kept - seat.charge.cost
        with self._lock:
            seat.waits, seat.pause_s, seat.used_at, seat.room = (), 0.5, now, quotas[0].remaining
            if left and not seat.forgotten:
                same = seat.at is not None and seat.at.number == rows[0][2].number
                seat.left, seat.at = left + (seat.left if same else 0), rows[0][2]
                self._lent[id(seat)] = seat
        return tuple(Quota(q.policy, q.limit, q.window_s, q.remaining + left, q.reset_s) for q in quotas)

    def _refuse(self, seat: _Seat, rows: Sequence[_Row], now: float) -> Quotas:
        """None of the windows counts the call. The process remembers that, for a while that doubles, to his time."""
        cost = seat.charge.cost
        quotas = tuple(_told(row, cost) for row in rows)
        wait_s = max(window.wait_s(*row[1:], cost) for row, quota in zip(rows, quotas, strict=True) if quota.refused)
        with self._lock:
            if not _waiting(seat, now):  # calls at once are one refusal
                seat.pause_s *= 2
            seat.waits, seat.waits_from = quotas, now
            seat.waits_until = now + min(wait_s, seat.pause_s)
        return quotas

    def _give_back(self, store: Store, at: Sequence[Window], count: int) -> None:
        with contextlib.suppress(StoreDown):  # what was decided stands, whatever the store does afterwards
            for one in at:
                store.decr(one.current, count)


_Row = tuple[str, Rate, Window, int, int]  # a window's name and rate, its counters, the count before it, its own


def _told(row: _Row, cost: int) -> Quota:
    policy, rate, at, before, counted = row
    fits = window.granted(rate, at, before, counted + cost, cost) == cost
    return window.quota(*row) if fits else window.refusal(policy, rate, at, before, counted, cost)


def _waiting(seat: _Seat, now: float) -> Quotas:
    if not seat.waits_from <= now < seat.waits_until:
        return ()
    gone = now - seat.waits_from
    return tuple(
        Quota(q.policy, q.limit, q.window_s, q.remaining, max(math.ceil(q.reset_s - gone), 1), q.refused)
        for q in seat.waits
    )


def _closed_count(store: Store, closed: _Memory, at: Window) -> int:
    """The closed window's count: it changes no more, so it is asked for once."""
    known: int | None = closed.get(at.previous)
    if known is None:
        text = store.get(at.previous)
        try:
            known = max(int(text or b"0"), 0)
        except ValueError:
            raise StoreDown("a counter holds no number") from None
        closed.put(at.previous, known)
    return known
