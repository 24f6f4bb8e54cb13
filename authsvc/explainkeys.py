"""What `authsvc explain` says of an API key, and of the second credential of a call. It repeats no key, only its id."""

from __future__ import annotations

from dataclasses import dataclass

from authsvc.core import apikeys, migration
from authsvc.core.apikeys import ApiKey, KeyRefused
from authsvc.core.callers import ApiKeys
from authsvc.core.migration import Deprecation, Phase
from authsvc.core.model import Decision, Other, Reason


@dataclass(frozen=True, slots=True)
class Step:
    """One question on the way; `passed` of `None` means it was not reached, or there was nothing to ask."""

    name: str
    passed: bool | None
    text: str


def span(seconds: float) -> str:
    """7265 as `2 h`: as coarse as a reader needs it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def key_step(keys: ApiKeys | None, text: str, now: float) -> Step:
    """What is known of the key that was sent."""
    if keys is None:
        return Step("key", None, "API keys are not accepted here, and it is not looked at: see authentication.api_keys")
    if not text.strip(" \t"):
        return Step("key", None, "none was given")
    try:
        found = apikeys.admit(keys.book(now), text, now)
    except KeyRefused as refused:
        return Step("key", False, refused.detail)
    state = migration.phase(keys.deprecation, now)
    good = state not in migration.REFUSING
    return Step("key", good, ", ".join([f"{found.name} of {found.owner}", *_ends(found, keys.deprecation, state, now)]))


def _ends(key: ApiKey, plan: Deprecation | None, state: Phase, now: float) -> list[str]:
    said = [f"expires in {span(key.expires - now)}"] if key.expires is not None else []
    if key.until is not None:
        said.append(f"replaced by {apikeys.PREFIX}{key.replaced_by}, works for another {span(key.until - now)}")
    if plan is None or state is Phase.SILENT:
        return said
    return [*said, _STATES[state].format(over=_day(plan.over_at), sunset=_day(plan.sunset))]


_STATES = {
    Phase.ANNOUNCED: "API keys end {sunset}",
    Phase.GRACE: "API keys ended {sunset} and are accepted until {over}",
    Phase.BROWNED_OUT: "API keys are refused for some minutes now, and end {sunset}",
    Phase.OVER: "API keys are no longer accepted since {over}",
}


def _day(instant: float | None) -> str:
    return "on a day to be named" if instant in (None, float("inf")) else migration.http_date(instant or 0)


def other_step(decision: Decision, other: Other) -> Step:
    """Which of two credentials decided, and what the other one would have brought about."""
    ours, theirs = ("token", "API key") if other.method == "api_key" else ("API key", "token")
    named = f" of {other.named.user_id}" if other.named else ""
    would = "is good as well" if other.reason is Reason.ALLOWED else f"would be refused: {other.reason.value}"
    differs = [name for name in other.differs if name != "refused"]
    unlike = f", with other {' and another '.join(differs)}" if differs else ""
    return Step("other", None, f"the {ours} decides; the {theirs}{named} {would}{unlike}")
