"""How long keys live: what two processes know of a provider's keys joined, retention, staleness, and when to ask again.

What is known is a `State`. States join: in any order, any number of times, the result is the same. So a late download,
an older copy from memcached or a second process can add what they know and never take a good key away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from authsvc.core.jwks import MAX_KEYS, AdmittedKey, Dropped, KeySet, admit

SHORTEST_PAUSE_S = 60.0  # a provider that says max-age=0 is not asked more often than this
RETRY_S = 10.0  # after a failed download, until the next in the background
EMPTY_RETRY_S = 2.0  # the same while there are no keys at all
CLOCK_SLACK_S = 60.0  # how far the clocks of a fleet may differ


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """How long keys live, in seconds; the defaults are the config's."""

    cache_ttl_s: float = 3600
    refresh_interval_s: float = 300
    cooldown_s: float = 30
    max_stale_s: float = 86400


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last download that ended: when it began, when the next is due, and how it went (`ok`, or why not)."""

    begun_at: float = 0.0
    next_at: float = 0.0
    outcome: str = "none"
    error: str = "no download has ended yet"


@dataclass(frozen=True, slots=True)
class State:
    """All that is known of one provider's keys."""

    keys: KeySet | None = None
    attempt: Attempt = Attempt()


def join(one: State, other: State, retain_s: float) -> State:
    """What both know.

    A key that the newest download did not list stays until `retain_s` seconds (over 0) after it was last listed.
    """
    attempt = max(one.attempt, other.attempt, key=lambda attempt: attempt.begun_at)
    if one.keys is None or other.keys is None:
        return State(one.keys or other.keys, attempt)
    newest, older = (one.keys, other.keys) if one.keys.fetched_at >= other.keys.fetched_at else (other.keys, one.keys)
    floor = max(newest.floor, older.floor)
    known: dict[str, AdmittedKey] = {}
    for key in newest.keys + older.keys:
        known[key.digest] = _same_key(known.get(key.digest, key), key)
    lives = [k for k in known.values() if k.listed_at >= floor and newest.fetched_at - k.listed_at < retain_s]
    lives.sort(key=_rank)
    return State(replace(newest, keys=tuple(lives[:MAX_KEYS]), floor=floor), attempt)


def _same_key(one: AdmittedKey, other: AdmittedKey) -> AdmittedKey:
    latest = one if one.listed_at >= other.listed_at else other
    return replace(latest, first_at=min(one.first_at, other.first_at))


def _rank(key: AdmittedKey) -> tuple[float, str, str]:
    """Of keys that share a kid the one listed last is tried first. No two keys are equal, so any join ends the same."""
    return -key.listed_at, key.kid or "", key.digest


def flush(state: State, listed: State, retain_s: float) -> State:
    """The state in which nothing counts that the download `listed` does not list, whoever still knows it."""
    assert listed.keys is not None
    return join(state, State(replace(listed.keys, floor=listed.keys.fetched_at), listed.attempt), retain_s)


def ahead(one: State, other: State) -> bool:
    """Whether `one` knows of something later than `other`."""
    return any(mine > theirs for mine, theirs in zip(_instants(one), _instants(other), strict=True))


def adds(one: State, other: State) -> bool:
    """Whether `one` knows of something later than `other`, or of a key that the other does not know."""
    return ahead(one, other) or not _digests(one) <= _digests(other)


def _digests(state: State) -> set[str]:
    return {key.digest for key in state.keys.keys} if state.keys else set()


def _instants(state: State) -> tuple[float, float, float]:
    keys = state.keys
    return state.attempt.begun_at, keys.fetched_at if keys else 0.0, keys.floor if keys else 0.0


def usable(keys: KeySet | None, now: float, times: KeyTimes) -> KeySet | None:
    """The keys that may verify now; `None` where the provider last answered more than `max_stale_s` ago.

    Keys that the last good download listed stay that long: an outage of the provider never removes a good key. Those
    that it listed no more end `cache_ttl_s` after they were last listed.
    """
    return None if keys is None else still_usable(kept(keys, now, times), now, times)


@dataclass(frozen=True, slots=True)
class Kept:
    """Of the keys `of` those that have not ended, from `since` until before `until` (seconds since the epoch). Before
    `fresh_until` they are neither stale nor too old."""

    of: KeySet
    keys: KeySet
    since: float
    until: float
    fresh_until: float

    def holds(self, keys: KeySet, now: float) -> bool:
        return self.of is keys and self.since <= now < self.until


def kept(keys: KeySet, now: float, times: KeyTimes) -> Kept:
    """The keys that have not ended, and how long that will be so. Where none has, they are `keys` itself."""
    ends = {key.digest: expires_at(key, keys, times) for key in keys.keys if key.listed_at < keys.fetched_at}
    living = tuple(key for key in keys.keys if now < ends.get(key.digest, inf))
    since = max((end for end in ends.values() if end <= now), default=-inf)
    until = min((end for end in ends.values() if now < end), default=inf)
    fresh_until = min(until, keys.fetched_at + min(times.cache_ttl_s, times.max_stale_s))
    return Kept(keys, keys if len(living) == len(keys.keys) else replace(keys, keys=living), since, until, fresh_until)


def still_usable(known: Kept, now: float, times: KeyTimes) -> KeySet | None:
    return None if now - known.of.fetched_at > times.max_stale_s else known.keys


def expires_at(key: AdmittedKey, keys: KeySet, times: KeyTimes) -> float:
    """When the key ends, if the provider does not list it again (seconds since the epoch)."""
    listed = key.listed_at >= keys.fetched_at
    return keys.fetched_at + times.max_stale_s if listed else key.listed_at + times.cache_ttl_s


def stale(keys: KeySet, now: float, times: KeyTimes) -> bool:
    """Whether the provider has not answered for longer than its answers are meant to be used."""
    return now - keys.fetched_at > times.cache_ttl_s


def due(state: State, now: float, times: KeyTimes) -> bool:
    """Whether the next download is due; also where `next_at` is out of reach, because the clock was set back.

    Within reach is also what a process set whose clock is ahead, and a `now` that is less some jitter.
    """
    longest = times.refresh_interval_s * 1.2 + CLOCK_SLACK_S
    return not state.attempt.next_at - longest < now < state.attempt.next_at


def pause_s(max_age_s: float | None, times: KeyTimes) -> float:
    """Until the next download after a good one. The provider may ask for a shorter pause than ours, never for longer.

    RFC 9111 section 5.2.2.1 gives `max_age_s`. A longer one is not followed: it would keep a withdrawn key alive.
    """
    ours = times.refresh_interval_s
    return ours if max_age_s is None else min(max(max_age_s, SHORTEST_PAUSE_S), ours)


def retry_s(state: State, times: KeyTimes) -> float:
    """Until the next download after a failed one."""
    return min(RETRY_S if state.keys else EMPTY_RETRY_S, times.refresh_interval_s)


def after(state: State, now: float) -> float:
    """Now, or a moment after all that is known, where a clock of the fleet is ahead of this one."""
    return max(now, max(_instants(state)) + 0.001)


def not_after(state: State, now: float) -> State:
    """The state without instants that are still to come, for a clock that was set back."""
    if max(_instants(state)) <= now + CLOCK_SLACK_S:
        return state
    attempt = replace(state.attempt, begun_at=min(state.attempt.begun_at, now))
    if state.keys is None:
        return State(None, attempt)
    earlier = tuple(
        replace(key, listed_at=min(key.listed_at, now), first_at=min(key.first_at, now)) for key in state.keys.keys
    )
    fetched_at, floor = min(state.keys.fetched_at, now), min(state.keys.floor, now)
    return State(replace(state.keys, keys=earlier, fetched_at=fetched_at, floor=floor), attempt)


def news(before: KeySet | None, after: KeySet) -> list[str]:
    """What an operator should hear when a download has ended: keys that came, went, or must not be published."""
    if before is None:
        return [f"{_named(one.kid)} is not used: {one.problem}" for one in after.dropped if one.unsafe]
    was = {key.digest for key in before.keys if key.listed_at >= before.fetched_at}
    listed = {key.digest: key for key in after.keys if key.listed_at >= after.fetched_at}
    came = [f"{_named(key.kid)} is new" for digest, key in listed.items() if digest not in was]
    went = [f"{_named(key.kid)} is listed no more" for key in before.keys if key.digest in was - listed.keys()]
    known = {(one.kid, one.problem) for one in before.dropped}
    unsafe = [one for one in after.dropped if one.unsafe and (one.kid, one.problem) not in known]
    return came + went + [f"{_named(one.kid)} is not used: {one.problem}" for one in unsafe]


def _named(kid: str | None) -> str:
    return f"key {kid!r}" if kid is not None else "a key without kid"


def dump(state: State) -> bytes:
    """The state as bytes for a shared store. Only public members are kept at admission, so no private one can leak."""
    document: dict[str, Any] = {"attempt": _plain(state.attempt)}
    if state.keys is not None:
        document |= {
            "fetched_at": state.keys.fetched_at,
            "floor": state.keys.floor,
            "keys": [{"jwk": dict(key.jwk), **_times(key)} for key in state.keys.keys],
            "dropped": [_plain(one) for one in state.keys.dropped],
        }
    return json.dumps(document, separators=(",", ":")).encode()


def _times(key: AdmittedKey) -> dict[str, Any]:
    return {"listed_at": key.listed_at, "first_at": key.first_at, "source": key.source}


def _plain(one: Attempt | Dropped) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def load(document: Mapping[str, Any], algorithms: Iterable[str]) -> State:
    """What `dump` wrote, admitted afresh. Raises `ValueError`, `KeyError` or `TypeError` where it is not that."""
    attempt = Attempt(**document["attempt"])
    attempt = replace(attempt, begun_at=_instant(attempt.begun_at), next_at=_instant(attempt.next_at))
    if "keys" not in document:
        return State(None, attempt)
    allowed = frozenset(algorithms)
    keys: list[AdmittedKey] = []
    for entry in document["keys"]:
        (key,) = admit({"keys": [entry["jwk"]]}, allowed, _instant(entry["listed_at"]), entry["source"]).keys
        keys.append(replace(key, first_at=_instant(entry["first_at"])))
    dropped = tuple(Dropped(**one) for one in document["dropped"])
    return State(KeySet(tuple(keys), _instant(document["fetched_at"]), dropped, _instant(document["floor"])), attempt)


def _instant(value: Any) -> float:
    if not 0 <= value < 2**53:  # nor is any text, which cannot be compared, nor NaN
        raise ValueError("not an instant")
    return float(value)
