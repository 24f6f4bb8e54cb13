"""Counts calls in a store, and remembers in the process what spares a round trip: closed windows, leases, who waits."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from authsvc.adapters.store import MemoryStore, Store, StoreDown
from authsvc.core import window
from authsvc.core.bounded import Bounded
from authsvc.core.model import Quota, QuotaPolicy, Reason, Unavailable
from authsvc.core.ratelimit import Charge, Rate, policies
from authsvc.core.window import Window

OnStoreError = Literal["local", "allow", "deny"]
Quotas = tuple[Quota, ...]
MAX_REMEMBERED = 50_000
IDLE_S = 60.0  # a lease that is not used for so long is given back
MAX_LEASE = 1024
FIRST_PAUSE_S = 1.0  # that who was refused is not counted
GROWTH = 32  # the third reservation of a busy caller is of 1,024 calls,
AWAY = 4  # and who was away begins at a quarter of his last one: who comes once in a while soon reserves nothing


@dataclass(slots=True)
class _Pot:
    """What this process has reserved for one subject in one tier of one window, whatever a call costs.

    `left` calls are reserved in the window `at`, which ends at `ends_at`; `wanted` grows while a busy caller uses his
    leases up.
    """

    limiter: Limiter  # whose it is
    subject: str
    policy: QuotaPolicy
    left: int = 0
    wanted: int = 1
    at: Window | None = None
    ends_at: float = 0.0
    room: int = 0  # what was left of the limit when it was last counted
    reserving: bool = False  # a thread does, and its lease is enough for all of them
    forgotten: bool = False  # somebody set the counts back: what is on its way for it counts no more
    used_at: float = float("-inf")


@dataclass(slots=True)
class _Wait:
    """That a charge was refused lately.

    `pause_s` doubles while that happens again and again, for the first refusal may be due to another call of the caller
    that counted, was refused too, and gives back at this very moment.
    """

    subject: str
    quotas: Quotas
    since: float
    until: float
    pause_s: float


_Closed = Bounded[str, int]  # what closed windows have counted, by the names of their counters


class Limiter:
    """Spends calls of tiers. In steady state one round trip, none while a lease lasts, and none for who must wait.

    `processes` says how many count in the same store, `sample` hears of each charge that was counted there, `report`
    of each time that it could not be. `most` callers are remembered.
    """

    def __init__(
        self,
        store: Store,
        on_error: OnStoreError = "local",
        report: Callable[[str], None] = lambda event: None,
        processes: Callable[[], int] = lambda: 1,
        sample: Callable[[Charge, Sequence[Quota], float], None] = lambda charge, quotas, now: None,
        most: int = MAX_REMEMBERED,
    ) -> None:
        self._store, self._on_error, self._report = store, on_error, report
        self._processes, self._sample = processes, sample
        self._local = MemoryStore()
        self._closed: _Closed = Bounded(most)
        self._pots: Bounded[str, _Pot] = Bounded(most)
        self._waits: Bounded[str, _Wait] = Bounded(most)
        self._lent: dict[int, _Pot] = {}
        self._lock = threading.Lock()
        self._acquire, self._release = self._lock.acquire, self._lock.release  # for mypyc, which would look for them

    def spend(self, charge: Charge, now: float) -> Quotas:
        """Count one call in all windows of its tier, or in none where one refuses.

        Empty where the store is down and calls are let through meanwhile; `Unavailable` where they are not.
        """
        held = charge.held
        if isinstance(held, _Pot) and held.limiter is self and (quotas := self._leased(held, charge, now)):
            return quotas
        pot = self._pot(charge)
        return self._leased(pot, charge, now) or self._waiting(charge, now) or self._counted(pot, charge, now)

    def tidy(self, now: float) -> None:
        """Give back what was reserved for callers who do not come any more."""
        with self._lock:
            idle = [pot for pot in self._lent.values() if abs(now - pot.used_at) > IDLE_S and not pot.reserving]
            given = [(pot.at, self._take_lease(pot)) for pot in idle]
        for pot, (at, left) in zip(idle, given, strict=True):
            if at is not None and left and at.number == now // pot.policy.window_s:
                self._give_back(self._store, [at], left)

    def forget(self, subjects: Collection[str]) -> None:
        """Somebody changed the counts of these subjects."""
        if not subjects:
            return
        with self._lock:
            for key in [key for key, pot in list(self._pots.known.items()) if pot.subject in subjects]:
                self._forget(self._pots.known.pop(key))
            for pot in [pot for pot in self._lent.values() if pot.subject in subjects]:  # displaced from among those
                self._forget(pot)
            for key in [key for key, wait in list(self._waits.known.items()) if wait.subject in subjects]:
                self._waits.known.pop(key, None)
            for name in [name for name in list(self._closed.known) if window.subject(name) in subjects]:
                self._closed.known.pop(name, None)

    # ---- without a round trip

    def _pot(self, charge: Charge) -> _Pot:
        with self._lock:
            pot = self._pots.known.get(charge.pot) or _Pot(self, charge.subject, charge.tier.policies[0])
            self._pots.put(charge.pot, pot)
        charge.hold(pot)
        return pot

    def _leased(self, pot: _Pot, charge: Charge, now: float) -> Quotas:
        """From what is reserved, in the window in which it was."""
        cost = charge.cost
        if pot.left < cost:
            return ()
        policy, ends_in_s = pot.policy, pot.ends_at - now
        self._acquire()  # compiled, `with` takes longer
        try:
            if pot.left < cost or not 0 < ends_in_s <= policy.window_s:
                return ()
            pot.left -= cost
            pot.used_at = now
            left = pot.room + pot.left
        finally:
            self._release()
        if left > policy.limit:  # the room may be that of another window by now
            left = policy.limit
        whole = int(ends_in_s)
        return (Quota(policy, left, whole + 1 if ends_in_s > whole else whole),)

    def _forget(self, pot: _Pot) -> None:
        pot.forgotten = True
        self._take_lease(pot)

    def _take_lease(self, pot: _Pot) -> int:
        left, pot.left = pot.left, 0
        self._lent.pop(id(pot), None)
        return left

    def _waiting(self, charge: Charge, now: float) -> Quotas:
        wait = self._waits.known.get(charge.key)
        if wait is None or not wait.since <= now < wait.until:
            return ()
        gone = now - wait.since
        return tuple(Quota(q.policy, q.remaining, max(math.ceil(q.reset_s - gone), 1), q.refused) for q in wait.quotas)

    # ---- with one

    def _counted(self, pot: _Pot, charge: Charge, now: float) -> Quotas:
        asked = self._ask(pot, charge, now)
        try:
            quotas = self._count(self._store, self._closed, charge.tier.rates, asked, pot, charge, now)
            self._sample(charge, quotas, now)
            return quotas
        except StoreDown as trouble:
            self._report("store_error")
            if self._on_error == "allow":
                return ()
            if self._on_error == "deny":
                raise Unavailable(Reason.LIMITS_UNAVAILABLE, str(trouble)) from trouble
            rates = [window.share(rate, self._processes()) for rate in charge.tier.rates]
            return self._count(self._local, Bounded(MAX_REMEMBERED), rates, charge.cost, pot, charge, now)
        finally:
            if asked != charge.cost:
                pot.reserving = False

    def _ask(self, pot: _Pot, charge: Charge, now: float) -> int:
        """How many calls to reserve: more each time for a busy caller, where the tier has one window."""
        if not self._store.shared or len(charge.tier.rates) > 1:
            return charge.cost
        busy = 0 <= now - pot.used_at < IDLE_S
        pot.wanted = min(pot.wanted * GROWTH, MAX_LEASE) if busy else max(pot.wanted // AWAY, 1)
        most = window.lease(charge.tier.rates[0], pot.wanted * charge.cost, pot.room, self._processes())
        with self._lock:
            held = (
                pot.left if 0 < pot.ends_at - now <= pot.policy.window_s else 0
            )  # of a window that is over nothing counts
            asked = most - held  # what is too little for this call stays reserved
            if asked <= charge.cost or pot.reserving:
                return charge.cost
            pot.reserving = True
            self._lent[id(pot)] = pot  # so that a reset finds it, should it be displaced meanwhile
        return asked

    def _count(
        self, store: Store, closed: _Closed, rates: Sequence[Rate], asked: int, pot: _Pot, charge: Charge, now: float
    ) -> Quotas:
        """Reserve `asked`, or as many as fit where the call itself does."""
        at = [window.window(rate, charge.subject, now) for rate in rates]
        before = [_closed_count(store, closed, one) for one in at]
        counted = store.incr_many([(one.current, asked, one.ttl_s) for one in at])
        fit = min(map(window.granted, rates, at, before, counted, [asked] * len(at)))
        kept = fit if fit >= charge.cost else 0
        if kept < asked:
            self._give_back(store, at, asked - kept)
            counted = [count - (asked - kept) for count in counted]
        rows = list(zip(policies(charge.tier.name, rates), rates, at, before, counted, strict=True))
        return self._admit(pot, charge, rows, kept, now) if kept else self._refuse(store, pot, charge, rows, now)

    def _admit(self, pot: _Pot, charge: Charge, rows: Sequence[_Row], kept: int, now: float) -> Quotas:
        quotas = tuple(window.quota(*row) for row in rows)
        left = kept - charge.cost
        with self._lock:
            self._waits.known.pop(charge.key, None)
            pot.used_at, pot.room = now, quotas[0].remaining
            if left and not pot.forgotten:
                same = pot.at is not None and pot.at.number == rows[0][2].number
                pot.left, pot.at = left + (pot.left if same else 0), rows[0][2]
                pot.ends_at = (pot.at.number + 1.0) * pot.policy.window_s
                self._lent[id(pot)] = pot
        return tuple(Quota(q.policy, q.remaining + left, q.reset_s) for q in quotas)

    def _refuse(self, store: Store, pot: _Pot, charge: Charge, rows: Sequence[_Row], now: float) -> Quotas:
        """None of the windows counts the call. The process remembers that, for a while that doubles, to his time."""
        quotas = tuple(_told(row, charge.cost) for row in rows)
        if store is self._local:
            self._waits.known.pop(charge.key, None)  # the store may be back at any moment, and have room for him
            return quotas
        refused = [row for row, quota in zip(rows, quotas, strict=True) if quota.refused]
        wait_s = max(window.wait_s(*row[1:], charge.cost) for row in refused)
        with self._lock:
            last = self._waits.known.get(charge.key)
            again = bool(self._waiting(charge, now))  # calls at once are one refusal
            pause_s = FIRST_PAUSE_S if last is None else last.pause_s * (1 if again else 2)
            until = now + min(wait_s, pause_s)
            if not pot.forgotten:
                self._waits.put(charge.key, _Wait(charge.subject, quotas, now, until, pause_s))
        return quotas

    def _give_back(self, store: Store, at: Sequence[Window], count: int) -> None:
        with contextlib.suppress(StoreDown):  # what was decided stands, whatever the store does afterwards
            for one in at:
                store.decr(one.current, count)


# a window's policy and rate, its counters, the count before it, its own
_Row = tuple[QuotaPolicy, Rate, Window, int, int]


def _told(row: _Row, cost: int) -> Quota:
    policy, rate, at, before, counted = row
    fits = window.granted(rate, at, before, counted + cost, cost) == cost
    return window.quota(*row) if fits else window.refusal(policy, rate, at, before, counted, cost)


def _closed_count(store: Store, closed: _Closed, at: Window) -> int:
    """The closed window's count: it changes no more, so it is asked for once."""
    known = closed.known.get(at.previous)
    if known is None:
        text = store.get(at.previous)
        try:
            known = max(int(text or b"0"), 0)
        except ValueError:
            raise StoreDown("a counter holds no number") from None
        closed.put(at.previous, known)
    return known
