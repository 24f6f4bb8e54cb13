"""`authsvc keys show` and `keys flush`: what a fleet knows of its providers' keys, and how to make it forget.

Both speak with the fleet through what it shares in memcached, and with the providers; with no process of it directly.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from authsvc.adapters.config import Settings
from authsvc.adapters.discovery import download
from authsvc.adapters.fetch import FetchFailed
from authsvc.adapters.sharedkeys import Refused, SharedKeys
from authsvc.adapters.store import StoreDown
from authsvc.adapters.yamlfile import visible
from authsvc.core import keylife
from authsvc.core.jwks import AdmittedKey, KeySet
from authsvc.core.keylife import Attempt, KeyTimes, State
from authsvc.core.provider import Provider
from authsvc.service import shared_keys, store_of

NOT_SHARED = "nothing is shared (that takes cache.memcached and cache.secret)"
NOT_THIS_FLEET = (
    "memcached holds nothing of this fleet, or does not answer: flush with the fleet's own config and secret, "
    "and once memcached answers"
)
CLOCKS = "set the clocks by NTP, and flush again"
CONFIRM_S = 1.0
TRIES = 5  # while the processes of a busy fleet write too


@dataclass(frozen=True, slots=True)
class Shown:
    """One provider's keys as the fleet shares them; or, where `note` says why, as the provider lists them now."""

    provider: Provider
    state: State
    times: KeyTimes
    now: float
    note: str

    @property
    def keys(self) -> KeySet | None:
        return keylife.usable(self.state.keys, self.now, self.times)

    def as_json(self) -> dict[str, Any]:
        keys, attempt = self.keys, self.state.attempt
        return {
            "provider": self.provider.name,
            "issuer": self.provider.issuer,
            "shared": not self.note,
            "note": self.note,
            "age_s": round(self.now - keys.fetched_at) if keys else None,
            "next_refresh": _iso(attempt.next_at),
            "last_outcome": attempt.outcome,
            "last_error": attempt.error,
            "keys": [self._key(key, keys) for key in keys.keys] if keys else [],
            "not_used": [{"kid": one.kid, "problem": one.problem} for one in keys.dropped] if keys else [],
        }

    def _key(self, key: AdmittedKey, keys: KeySet) -> dict[str, Any]:
        return {
            "kid": key.kid,
            "type": " ".join([key.kty, *([key.jwk["crv"]] if "crv" in key.jwk else [])]),
            "algorithms": sorted(key.verifiers),
            "first_listed": _iso(key.first_at),
            "last_listed": _iso(key.listed_at),
            "expires": _iso(keylife.expires_at(key, keys, self.times)),
            "listed": key.listed_at >= keys.fetched_at,
            "source": key.source,
        }

    def as_text(self) -> str:
        told = self.as_json()
        lines = [f"{told['provider']}  {told['issuer']}", *([f"  {told['note']}"] if told["note"] else [])]
        age = "no usable keys" if told["age_s"] is None else f"{_count(told['keys'])}, {told['age_s']} s old"
        coming = "" if told["note"] else f"; next download {told['next_refresh']}"
        lines.append(f"  {age}{coming}; last one: {told['last_error'] or 'ok'}")
        rows = [_COLUMNS, *([_cell(key[name]) for name in _FIELDS] for key in told["keys"])]
        lines += _table(rows) if told["keys"] else []
        lines += [f"  not used: {one['kid'] or 'a key without kid'}: {one['problem']}" for one in told["not_used"]]
        return visible_lines(lines)


_COLUMNS = ["kid", "type", "algorithms", "first listed", "last listed", "expires", "source"]
_FIELDS = ["kid", "type", "algorithms", "first_listed", "last_listed", "expires", "source"]


def visible_lines(lines: Iterable[str]) -> str:
    """A kid is the provider's text: it must not steer a terminal."""
    return "\n".join(visible(line) for line in lines)


def _count(keys: list[Any]) -> str:
    return f"{len(keys)} key{'' if len(keys) == 1 else 's'}"


def _cell(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value if value is not None else "-")


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _iso(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def show(settings: Settings) -> list[Shown]:
    """What the fleet shares of each provider's keys; what the provider lists now where it shares nothing."""
    now, shared = time.time(), _shared(settings)
    entries = shared.read(settings.providers) if shared else {}
    return [_shown(settings, shared, provider, entries.get(provider.name), now) for provider in settings.providers]


def _shown(settings: Settings, shared: SharedKeys | None, provider: Provider, entry: bytes | None, now: float) -> Shown:
    if shared is None:
        note = f"{NOT_SHARED}: this is what the provider lists now"
    elif entry is None:
        note = "memcached holds nothing of it, or does not answer: this is what the provider lists now"
    else:
        try:
            return Shown(provider, shared.open(provider, entry, now), settings.key_times, now, "")
        except Refused as refused:
            note = f"the entry in memcached is {refused}: this is what the provider lists now"
    return Shown(provider, _listed(provider, now, settings.key_times), settings.key_times, now, note)


def _listed(provider: Provider, now: float, times: KeyTimes) -> State:
    """What the provider lists now; without keys where it does not answer well."""
    try:
        found = download(provider, now)
    except FetchFailed as problem:
        return State(None, Attempt(now, now, problem.outcome, str(problem)))
    return State(found.keys, Attempt(now, now + keylife.pause_s(found.max_age_s, times), "ok", ""))


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush did for one provider; `problem` is empty where it was done."""

    provider: str
    dropped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    problem: str = ""

    def as_text(self) -> str:
        if self.problem:
            return visible(f"{self.provider}: nothing was flushed: {self.problem}")
        dropped = f"dropped {', '.join(self.dropped)}" if self.dropped else "no shared key was beyond what is listed"
        return visible(f"{self.provider}: {dropped}; in force: {', '.join(self.kept)}")


def flush(settings: Settings, provider: Provider) -> Flushed:
    """Ask the provider now, and have every process of the fleet drop what it does not list."""
    shared = _shared(settings)
    if shared is None:
        return Flushed(provider.name, problem=f"{NOT_SHARED}: reload authsvc (SIGHUP), new workers know no old keys")
    try:
        return _flush(shared, provider, settings.key_times)
    except StoreDown as trouble:
        return Flushed(provider.name, problem=f"{trouble}: flush again once memcached answers")


def _flush(shared: SharedKeys, provider: Provider, times: KeyTimes) -> Flushed:
    for _ in range(TRIES):
        now = time.time()
        entry = shared.read([provider]).get(provider.name)
        if entry is None:
            return Flushed(provider.name, problem=NOT_THIS_FLEET)
        try:
            known = shared.open(provider, entry, now)
        except Refused as refused:
            if str(refused) == "outdated":
                return Flushed(provider.name, problem=f"this machine's clock is behind the fleet's: {CLOCKS}")
            known = State()  # somebody else's words: ours go in their place
        listed = _listed(provider, keylife.after(known, now), times)
        if listed.keys is None:
            text = f"the provider does not say what is still good: {listed.attempt.error}"
            return Flushed(provider.name, problem=text)
        state = keylife.flush(known, listed, times.cache_ttl_s)
        if shared.swap(provider, entry, state):
            return _confirmed(shared, provider, known, state)
    return Flushed(provider.name, problem="other processes write to memcached all the time: try again")


def _confirmed(shared: SharedKeys, provider: Provider, known: State, state: State) -> Flushed:
    """Every process has looked by now; where the fleet's copy is an older one again, somebody else writes there."""
    time.sleep(CONFIRM_S)
    assert state.keys is not None
    entry = shared.read([provider]).get(provider.name)
    seen = _open(shared, provider, entry, time.time()).keys
    if seen is None or seen.floor < state.keys.floor:
        text = "memcached lost it, or somebody put an older copy back: see who can write there, and flush again"
        return Flushed(provider.name, problem=text)
    kept = {key.digest for key in state.keys.keys}
    dropped = [key for key in (known.keys.keys if known.keys else ()) if key.digest not in kept]
    return Flushed(provider.name, _names(dropped), _names(state.keys.keys))


def _open(shared: SharedKeys, provider: Provider, entry: bytes | None, now: float) -> State:
    try:
        return shared.open(provider, entry, now) if entry is not None else State()
    except Refused:
        return State()


def _names(keys: Iterable[AdmittedKey]) -> tuple[str, ...]:
    return tuple("(no kid)" if key.kid is None else key.kid for key in keys)


def _shared(settings: Settings) -> SharedKeys | None:
    return shared_keys(settings, store_of(settings), lambda provider, event: None)
