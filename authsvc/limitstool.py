"""`authsvc limits show`, `reset` and `top`: what is counted for a caller, from the counters in memcached themselves."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from authsvc.adapters.config import Settings
from authsvc.adapters.fleet import Seen, announce_reset, board_of
from authsvc.adapters.store import Store
from authsvc.adapters.yamlfile import visible
from authsvc.core import ratelimit, window
from authsvc.core.callers import NAME
from authsvc.core.model import Identity, QuotaPolicy
from authsvc.core.ratelimit import By, Limits, Rate, Tier
from authsvc.core.window import Window

Who = list[list[str]]


class Unclear(ValueError):
    """The words name no caller."""


@dataclass(frozen=True, slots=True)
class Row:
    """One window of one tier for one caller. `used` and `before` are calls in this window and the one before.

    `wait_s` is how long this window refuses his next call, one that counts as one; `None` is for ever.
    """

    who: Who
    tier: str
    rate: Rate
    used: int
    before: int
    left: int
    ends_at: float
    wait_s: int | None
    shadow: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "who": told(self.who),
            "tier": self.tier,
            "limit": self.rate.limit,
            "period_s": self.rate.period_s,
            "used": self.used,
            "before": self.before,
            "left": self.left,
            "window_ends": _iso(self.ends_at),
            "wait_s": self.wait_s,
            "shadow": self.shadow,
        }

    def as_reset_json(self) -> dict[str, Any]:
        """After the reset: what was counted, and what is now."""
        who = {"who": told(self.who), "tier": self.tier, "limit": self.rate.limit, "period_s": self.rate.period_s}
        return {
            **who,
            "used_was": self.used,
            "before_was": self.before,
            "used": 0,
            "before": 0,
            "left": self.rate.limit,
        }


def show(settings: Settings, store: Store, words: Sequence[str], provider: str | None, now: float) -> list[Row]:
    """What is counted for the caller whom the words name, by each provider where none is given.

    Where the fleet has seen him lately only the tier he was in; else all the tiers he might be in. Raises `Unclear`
    and `StoreDown`.
    """
    seen = {one.who: one.tier for one in sorted(board_of(store, now), key=lambda one: one.at)}
    rows = []
    for who, tiers in _places(settings, words, provider):
        lately = seen.get(json.dumps(who))
        known = [tier for tier in tiers if tier.name == lately] or tiers
        rows += [row for tier in known for row in _rows(store, who, tier, now)]
    return [row for row in rows if row.used or row.before]


def reset(settings: Settings, store: Store, words: Sequence[str], provider: str | None, now: float) -> list[Row]:
    """Count from nothing again for this caller, in every process within a second. What was counted before.

    Raises `Unclear` and `StoreDown`.
    """
    found = show(settings, store, words, provider, now)
    subjects = []
    for who, tiers in _places(settings, words, provider):
        subjects.append(_subject(who))
        at = [window.window(rate, subjects[-1], now) for tier in tiers for rate in tier.rates]
        store.delete(sorted({name for one in at for name in (one.current, one.previous)}))
    announce_reset(store, subjects, now)
    return found


def top(store: Store, now: float) -> list[Seen]:
    """Who is nearest to his limit, of those whom the fleet saw lately. Raises `StoreDown`."""
    store.get("authsvc:health")  # must be answered: of the many boards, those that cannot be had are left out
    return board_of(store, now)


def table(rows: Sequence[Row], now: float) -> str:
    """For a terminal."""
    cells = [["who", "tier", "limit", "used", "before", "left", "next call passes", "window ends"]]
    for row in rows:
        counts = [str(row.used), str(row.before), str(row.left)]
        cells.append([told(row.who), row.tier, str(row.rate), *counts, _passes(row, now), _then(row.ends_at, now)])
    return columns(cells)


def reset_table(rows: Sequence[Row]) -> str:
    """For a terminal, after the reset: what was counted, and what is now."""
    cells = [["who", "tier", "limit", "used was", "before was", "used is", "left is"]]
    for row in rows:
        counts = [str(row.used), str(row.before), "0", str(row.rate.limit)]
        cells.append([told(row.who), row.tier, str(row.rate), *counts])
    return columns(cells)


def _passes(row: Row, now: float) -> str:
    if row.wait_s == 0:
        return "now"
    when = "never" if row.wait_s is None else _then(now + row.wait_s, now)
    return f"now (shadow), else {when}" if row.shadow else when


def _then(instant: float, now: float) -> str:
    return f"{_iso(instant)} (in {instant - now:.0f} s)"


def board(seen: Sequence[Seen], now: float) -> str:
    """Who is nearest to his limit, for a terminal."""
    cells = [["who", "tier", "limit", "used", "", "seen"]]
    for one in seen:
        rate = str(Rate(one.limit, one.window_s)) if one.window_s > 0 else "?"
        at = f"{max(now - one.at, 0):.0f} s ago"
        cells.append([_decoded(one.who), one.tier, rate, str(one.used), _share(one), at])
    return columns(cells)


def _share(one: Seen) -> str:
    if not one.refused:
        return f"{100 * one.share:.0f} %"
    return "would be refused (shadow)" if one.shadow else "refused"


def columns(cells: Sequence[Sequence[str]]) -> str:
    """Lines with the cells under one another. What a caller is called must not steer a terminal."""
    clean = [[visible(cell) for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in clean) for column in range(len(clean[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in clean]
    return "\n".join(lines)


def told(who: Who) -> str:
    """`ann of auth0`; several parts with commas between them."""
    return ", ".join(_part(part) for part in who)


def _part(part: list[str]) -> str:
    kind, *values = part
    if kind == "user":
        return f"{values[1]} of {values[0]}"
    if kind in ("client_id", "tenant", "claim"):
        return f"{kind if kind != 'claim' else '.'.join(values[2:])} {values[1]} of {values[0]}"
    return f"{kind} {' '.join(values)}"


def _decoded(text: str) -> str:
    """As a process told of him, which may have been cut."""
    try:
        return told(json.loads(text))
    except (ValueError, TypeError, IndexError, RecursionError):  # anybody may have put anything into memcached
        return text


def _places(settings: Settings, words: Sequence[str], provider: str | None) -> Iterator[tuple[Who, list[Tier]]]:
    """Each subject that the words may name, and the tiers that are counted under it."""
    limits = settings.limits
    own = [rule.spending.own for rule in settings.policy.rules if rule.spending.own]
    for who in _whom(settings, words, provider):
        yield who, [tier for tier in limits.tiers if tier.rates]
        yield from (([*who, ["rule", tier.name]], [tier]) for tier in own)
    if len(words) == 1 and _is_address(words[0]) and limits.anonymous is not None:
        yield [ratelimit.address(limits, words[0])], [limits.anonymous]


def words_for(settings: Settings, identity: Identity | None, ip: str, tier: str) -> list[str]:
    """The words by which `show` finds what is counted for this caller in a tier; none where no words do."""
    who = ratelimit.whom(settings.limits, identity, ip)
    words = [ip if part[0] == "ip" else part[2] for part in who]
    try:
        found = [at for at, tiers in _places(settings, words, None) if tier in (one.name for one in tiers)]
    except Unclear:
        return []
    return words if who in found or [*who, ["rule", tier]] in found else []


def _whom(settings: Settings, words: Sequence[str], provider: str | None) -> list[Who]:
    limits = settings.limits
    if len(words) != len(limits.by):
        if len(words) == 1 and _is_address(words[0]) and limits.anonymous is not None:
            return []
        wanted = " and ".join(".".join(by.claim) or by.kind for by in limits.by)
        raise Unclear(f"calls are counted by {wanted}: name the caller by {len(limits.by)} words, in this order")
    known = [one.name for one in settings.providers] + ([NAME] if settings.api_keys else [])
    if provider is not None and provider not in known:
        raise Unclear(f"{provider!r} is no provider: known here are {', '.join(known) or 'none'}")
    names = [provider] if provider else known
    found = [[_named(limits, by, name, word) for by, word in zip(limits.by, words, strict=True)] for name in names]
    return [who for number, who in enumerate(found) if who not in found[:number]]


def _named(limits: Limits, by: By, provider: str, word: str) -> list[str]:
    if by.kind == "ip":
        return ratelimit.address(limits, word)
    if by.kind == "user_id":
        return ["user", provider, word]
    return [by.kind, provider, word, *by.claim]


def _is_address(word: str) -> bool:
    try:
        return bool(ipaddress.ip_address(word))
    except ValueError:
        return False


def _subject(who: Who) -> str:
    return ratelimit.charge(Tier(""), who).subject


def _rows(store: Store, who: Who, tier: Tier, now: float) -> Iterator[Row]:
    for of, rate in zip(tier.policies, tier.rates, strict=True):
        at = window.window(rate, _subject(who), now)
        used, before = (_count(store.get(name)) for name in (at.current, at.previous))
        left = window.quota(of, rate, at, before, used).remaining
        wait_s = _wait_s(of, rate, at, before, used) if left < 1 else 0
        yield Row(who, tier.name, rate, used, before, left, _end(rate, at), wait_s, tier.shadow)


def _wait_s(of: QuotaPolicy, rate: Rate, at: Window, before: int, used: int) -> int | None:
    """What the next call would be told in Retry-After, where it does not fit."""
    return window.refusal(of, rate, at, before, used, 1).reset_s if rate.limit else None


def _count(text: bytes | None) -> int:
    return int(text) if text and text.strip().isdigit() else 0


def _end(rate: Rate, at: Window) -> float:
    return float((at.number + 1) * rate.period_s)


def _iso(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
