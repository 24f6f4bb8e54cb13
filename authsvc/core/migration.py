"""The arithmetic of the move from API keys to OIDC: who is in the rollout, and how far the end of keys has come."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import lru_cache

DAY_S = 86400
_LINK = re.compile(r"https?://[!#-;=?-~]+")  # nothing that could end the <…> around it
_WEEKDAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # the epoch was a Thursday
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def share_of(user_key: str) -> float:
    """A user's place between 0 and 100: always the same, and spread evenly over all users."""
    text = f"authsvc rollout\0{user_key}".encode("utf-8", "surrogatepass")  # JSON may hold half a surrogate pair
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big") * 100 / 2**48


def in_rollout(user_key: str, percent: float) -> bool:
    """Whether OIDC is open to this user. Who is in stays in when the percentage is raised."""
    return share_of(user_key) < percent


@unique
class Phase(StrEnum):
    """How far the end of API keys has come."""

    SILENT = "silent"  # nothing was announced
    ANNOUNCED = "announced"  # keys work, and answers name the day
    GRACE = "sunset_grace"  # the day is over, keys still work, with a warning
    BROWNED_OUT = "browned_out"  # keys are refused for some minutes, so that their users notice
    OVER = "over"  # keys are refused


@dataclass(frozen=True, slots=True)
class Window:
    """A brown-out, in seconds since the epoch; `end` is outside."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Deprecation:
    """When API keys end, in seconds since the epoch. Without `sunset` they are announced to end, but no day is set."""

    announce: float
    sunset: float | None = None
    grace_s: float = 0
    link: str = ""
    brown_outs: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        """Raises `ValueError`, in the words of the settings."""
        if self.sunset is not None and self.sunset < self.announce:  # RFC 9745 section 4
            raise ValueError("sunset is before announce: it is the later day")
        if self.grace_s < 0 or (self.grace_s and self.sunset is None):
            raise ValueError("grace is a time after sunset: name a sunset")
        if self.link and not _LINK.fullmatch(self.link):
            raise ValueError("link is no http(s) address in printable ASCII: write https://...")
        for one in self.brown_outs:
            if not self.announce <= one.start < one.end <= self.over_at:
                raise ValueError(
                    "a brown-out lies outside the time from announce to the end of grace, or has no length"
                )

    @property
    def over_at(self) -> float:
        """The first second in which no key works any more."""
        return float("inf") if self.sunset is None else self.sunset + self.grace_s


def phase(plan: Deprecation | None, now: float) -> Phase:
    """Where we are."""
    if plan is None or now < plan.announce:
        return Phase.SILENT
    if now >= plan.over_at:
        return Phase.OVER
    if any(one.start <= now < one.end for one in plan.brown_outs):
        return Phase.BROWNED_OUT
    return Phase.ANNOUNCED if plan.sunset is None or now < plan.sunset else Phase.GRACE


def changes_at(plan: Deprecation | None, now: float) -> float:
    """The next instant at which answers to callers with keys may change."""
    if plan is None:
        return float("inf")
    pauses = [instant for one in plan.brown_outs for instant in (one.start, one.end)]
    sunset = [] if plan.sunset is None else [plan.sunset]
    return min((at for at in (plan.announce, *sunset, plan.over_at, *pauses) if at > now), default=float("inf"))


REFUSING = frozenset({Phase.BROWNED_OUT, Phase.OVER})


def resumes_in_s(plan: Deprecation, now: float) -> int:
    """Whole seconds until keys work again after the brown-out of `now`, for Retry-After."""
    ends = [one.end for one in plan.brown_outs if one.start <= now < one.end]
    return int(-((now - max(ends)) // 1))


def headers(plan: Deprecation | None, now: float) -> list[tuple[str, str]]:
    """What answers to callers with keys carry, from the announcement on."""
    if plan is None or phase(plan, now) is Phase.SILENT:
        return []
    found = [("Deprecation", f"@{int(plan.announce)}")]  # RFC 9745 section 2.1: a date of RFC 9651
    if plan.sunset is not None:
        found.append(("Sunset", http_date(plan.sunset)))  # RFC 8594 section 3
    if plan.link:
        found.append(("Link", f'<{plan.link}>; rel="deprecation"; type="text/html"'))  # RFC 9745 section 3
    return found


@lru_cache(16)  # of a plan's days: 0.1 µs where making one takes 2, at each call with a key
def http_date(instant: float) -> str:
    """An instant from 1970 on as RFC 9110 section 5.6.7 writes it: `Wed, 30 Jun 2027 00:00:00 GMT`."""
    days, second = divmod(int(instant), DAY_S)
    year, month, day = _civil(days)
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f"{_WEEKDAYS[days % 7]}, {day:02} {_MONTHS[month - 1]} {year:04} {clock} GMT"


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day after 1970-01-01. Years begin in March here, so that a leap day is the last."""
    era, of_era = divmod(days + 719_468, 146_097)  # days from 0000-03-01 to the epoch; days of 400 years
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    return era * 400 + year + (month >= 10), (month + 2) % 12 + 1, day
