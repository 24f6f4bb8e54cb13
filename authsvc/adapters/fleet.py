"""What processes that count in one memcached tell each other there: how many they are, who is near his limit, and
whose counts an operator has set back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from authsvc.adapters.store import Store
from authsvc.core.model import Quota
from authsvc.core.ratelimit import Charge

BEAT_S = 10  # each process counts itself once in so many seconds
MAX_SIZE = 10_000
RESETS = "authsvc:limits:resets"
RESET_KEPT_S = 60
MAX_RESETS = 200
ROOM = 50  # callers that one process tells of
_MAX_WHO = 300
_MAX_NUMBER = 1e15  # more is no count and no time that a process told of


class Fleet:
    """How many processes there are, by their own count; `own` of them are known of anyway."""

    def __init__(self, store: Store, own: int = 1) -> None:
        self._store, self._own = store, own
        self._beat = -1
        self.size, self.place = own, ""

    def beat(self, now: float) -> None:
        """Be counted; again where the store lost the count. Raises `StoreDown`: the size stays as it was."""
        number = int(now // BEAT_S)
        counted = self._store.get(_beat(number))
        if number != self._beat or counted is None:
            self.place = f"{number}:{self._store.incr(_beat(number), 3 * BEAT_S)}"
            self._beat = number
            counted = self._store.get(_beat(number))
        before = self._store.get(_beat(number - 1))
        self.size = max(self._own, _size(counted or b"0"), _size(before or b"0"))


def _beat(number: int) -> str:
    return f"authsvc:fleet:{number}"


def _sizes(store: Store, number: int) -> list[int]:
    """How many have been counted so far, and how many were in the time before."""
    names = [_beat(number), _beat(number - 1)]
    found = store.get_many(names)
    return [_size(found.get(name, b"0")) for name in names]


def _size(text: bytes) -> int:
    return min(int(text), MAX_SIZE) if text.isdigit() and len(text) < 10 else 0


@dataclass(frozen=True, slots=True)
class Seen:
    """How it stood with one caller in one window. `at` and `ends_at` are seconds since the epoch.

    In `shadow` nobody is refused: the call passed that is told of as refused.
    """

    who: str
    tier: str
    policy: str
    used: int
    limit: int
    window_s: int
    at: float
    ends_at: float
    refused: bool
    shadow: bool = False

    @property
    def share(self) -> float:
        return _share(self.refused, self.used, self.limit)


def _share(refused: bool, used: int, limit: int) -> float:
    return 2.0 if refused else used / max(limit, 1)


_Known = tuple[Charge, Sequence[Quota], float]  # a caller's windows, as they stood at that time


class Board:
    """Who is nearest to his limit, as far as this process saw. Bounded, and good enough to find who to look at."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}

    def sample(self, charge: Charge, quotas: Sequence[Quota], now: float) -> None:
        """All windows are kept: which is nearest to its limit changes when a short one ends."""
        self._known[(charge.subject, charge.tier.name)] = (charge, quotas, now)
        if len(self._known) > 2 * ROOM:
            nearest = sorted(self._known.copy().items(), key=lambda item: _nearness(item[1], now))
            self._known = dict(nearest[-ROOM:])

    def publish(self, store: Store, place: str, now: float) -> None:
        """Tell the fleet. Raises `StoreDown`."""
        nearest = sorted(self._known.values(), key=lambda known: _nearness(known, now))[-ROOM:]
        text = json.dumps([asdict(seen) for known in nearest for seen in _live(known, now)])
        store.set(f"authsvc:top:{place}", text.encode(), 3 * BEAT_S)


def _live(known: _Known, now: float) -> list[Seen]:
    """His windows that have not ended."""
    charge, quotas, at = known
    return [_seen(charge, quota, at) for quota in quotas if at + quota.reset_s > now]


def _seen(charge: Charge, quota: Quota, at: float) -> Seen:
    tier, of, ends_at = charge.tier, quota.policy, at + quota.reset_s
    used, refused = of.limit - quota.remaining, quota.refused
    return Seen(
        charge.who[:_MAX_WHO], tier.name, of.name, used, of.limit, of.window_s, at, ends_at, refused, tier.shadow
    )


def _nearness(known: _Known, now: float) -> float:
    """The share of the window that he has used most of; less than none where all have ended."""
    _, quotas, at = known
    return max((_used_share(quota) for quota in quotas if at + quota.reset_s > now), default=-1)


def _used_share(quota: Quota) -> float:
    limit = quota.policy.limit
    return _share(quota.refused, limit - quota.remaining, limit)


def board_of(store: Store, now: float) -> list[Seen]:
    """What all processes told, the nearest to their limits first; of what several tell of one window, the latest. Of a
    caller's windows the one that is nearest to its limit and has not ended."""
    number = int(now // BEAT_S)
    sizes = zip((number, number - 1), _sizes(store, number), strict=True)
    places = [f"authsvc:top:{beat}:{place}" for beat, size in sizes for place in range(1, size + 1)]
    told = [seen for text in store.get_many(places).values() for seen in _read(text)]
    latest = {(seen.who, seen.tier, seen.policy): seen for seen in sorted(told, key=lambda seen: seen.at)}
    live = [seen for seen in latest.values() if seen.ends_at > now]
    nearest = {(seen.who, seen.tier): seen for seen in sorted(live, key=lambda seen: seen.share)}
    return sorted(nearest.values(), key=lambda seen: -seen.share)


def _read(text: bytes) -> list[Seen]:
    """Whoever can write to memcached may have put anything there."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        found = [Seen(**entry) for entry in json.loads(text)]
        return [seen for seen in found if _sane(seen)]
    return []


def _sane(seen: Seen) -> bool:
    kinds = {
        str: (seen.who, seen.tier, seen.policy),
        int: (seen.used, seen.limit, seen.window_s),
        bool: (seen.refused, seen.shadow),
    }
    times = all(type(value) in (int, float) for value in (seen.at, seen.ends_at))
    fits = times and all(type(value) is kind for kind, values in kinds.items() for value in values)
    return fits and all(
        abs(value) < _MAX_NUMBER for value in (seen.used, seen.limit, seen.window_s, seen.at, seen.ends_at)
    )


def announce_reset(store: Store, subjects: Sequence[str], now: float) -> None:
    """Have every process forget what it remembers of these. Raises `StoreDown`."""
    while True:
        known = store.get(RESETS)
        kept = [entry for entry in _resets(known) if entry[1] > now - RESET_KEPT_S]
        text = json.dumps([*kept, *([subject, now] for subject in subjects)][-MAX_RESETS:])
        if store.swap(RESETS, known, text.encode(), RESET_KEPT_S):
            return


class Resets:
    """What an operator has set back since this process looked last."""

    def __init__(self) -> None:
        self._done: set[tuple[str, float]] = set()

    def news(self, store: Store) -> set[str]:
        """The subjects. Raises `StoreDown`."""
        found = {(subject, at) for subject, at in _resets(store.get(RESETS))}
        new, self._done = found - self._done, found
        return {subject for subject, _ in new}


def _resets(text: bytes | None) -> list[tuple[str, float]]:
    found: list[Any] = []
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text or b"[]")
    return [(entry[0], entry[1]) for entry in found if _is_reset(entry)] if isinstance(found, list) else []


def _is_reset(entry: Any) -> bool:
    return isinstance(entry, list) and list(map(type, entry)) in ([str, float], [str, int])
