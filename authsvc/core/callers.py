"""Callers with API keys beside callers with tokens: what was sent, which credential is in force, and what the other one
would have brought about.

The way from keys to OIDC is told by three values: how far OIDC is open (`Rollout`), what holds where both are sent
(`Both`), and when keys end (`migration.Deprecation`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from authsvc.core import apikeys, migration
from authsvc.core.apikeys import ApiKey, KeyBook, KeyRefused
from authsvc.core.claims import Condition
from authsvc.core.known import KnownKey, KnownKeys
from authsvc.core.migration import Deprecation, Phase
from authsvc.core.model import Identity, Reason, Refused, Request, Unavailable
from authsvc.core.provider import Provider

NAME = "api_keys"  # what stands in rules, audit lines and X-User-Issuer where a provider's name would
KEYS = Provider(NAME, "", frozenset(), frozenset())
Both = Literal["prefer_oidc", "require_same_owner", "refuse"]
Outcome = Identity | Refused | Unavailable


@dataclass(frozen=True, slots=True)
class Rollout:
    """To whom OIDC is open: a share of all users in percent, and those who try it before."""

    percent: float = 100
    beta: tuple[Condition, ...] = ()
    users: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        return self.percent >= 100

    def open_to(self, identity: Identity) -> bool:
        if self.complete or identity.user_id in self.users:
            return True
        if any(condition.holds(identity.claims) for condition in self.beta):
            return True
        return migration.in_rollout(f"{identity.provider}:{identity.key or identity.user_id}", self.percent)


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """API keys, where they are accepted at all. `book` gives the keys as they are now."""

    book: Callable[[float], KeyBook]
    deprecation: Deprecation | None = None
    both: Both = "prefer_oidc"
    qualify_user_id: bool = False
    known: KnownKeys = field(default_factory=KnownKeys, repr=False, compare=False)

    def identify(self, text: str, now: float) -> KnownKey:
        """Whom the key speaks for. Raises `Refused`; that keys have ended is told to good ones only.

        The key is looked for in the book, and its times and the plan's are looked at, at each call: 3 µs.
        """
        try:
            key = apikeys.admit(self.book(now), text, now)
        except KeyRefused as problem:
            named = None if problem.key is None else self._whom(problem.key)
            raise Refused(Reason(problem.problem.value), problem.detail, named=named) from None
        return self._not_ended(key, now)

    def again(self, digest: bytes, now: float) -> KnownKey | None:
        """Whom a key speaks for that an earlier call brought; `None` where it is good no more. Raises `Refused`."""
        key = apikeys.again(self.book(now), digest, now)
        return None if key is None else self._not_ended(key, now)

    def _not_ended(self, key: ApiKey, now: float) -> KnownKey:
        known = self.known.of(key, self._whom)
        found, phase = known.identity, migration.phase(self.deprecation, now)
        if phase is Phase.OVER:
            text = f"API keys have ended, {apikeys.PREFIX}{found.client} of {found.user_id} too"
            raise Refused(Reason.API_KEYS_ENDED, text, named=found)
        if phase is Phase.BROWNED_OUT:
            text = "API keys are refused for some minutes, as it was announced"
            raise Refused(Reason.API_KEYS_PAUSED, text, named=found)
        return known

    def good_until(self, digest: bytes, now: float) -> float:
        """Until when the key is good, and the answers to it are the same. 0 where it is good no more."""
        key = apikeys.again(self.book(now), digest, now)
        if key is None:
            return 0.0
        ends = [end for end in (key.expires, key.until) if end is not None]
        return min([*ends, migration.changes_at(self.deprecation, now)])

    def _whom(self, key: ApiKey) -> Identity:
        return apikeys.identity(key, NAME, self.qualify_user_id)


@dataclass(slots=True, init=False)
class Sent:
    """The credentials of one call: an Authorization header that may hold a token, and an API key."""

    authorization: str | None
    key: str | None

    def __init__(self, authorization: str | None, key: str | None) -> None:
        self.authorization, self.key = authorization, key


def sent(request: Request) -> Sent:
    """What was sent, by X-API-Key or as `Authorization: ApiKey …`. Raises `Refused` where both hold a key."""
    authorization, key = (request.authorization or "").strip(" \t"), (request.api_key or "").strip(" \t")
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "apikey":
        return Sent(authorization or None, key or None)  # an empty header is no credential beside the other one
    if key:
        raise Refused(Reason.SEVERAL_API_KEYS, "a key was sent in X-API-Key and another one in Authorization")
    return Sent(None, text.strip(" "))


def in_force(both: Both, token: Outcome, key: Outcome, rollout: Rollout) -> tuple[Outcome, Outcome | None]:
    """Which of two credentials decides, and the other one, to compare.

    A token that is no good takes nothing from who has a good key: he would pass without it.
    """
    if both == "require_same_owner":
        return _same_owner(token, key), None
    if isinstance(token, Identity) or (rollout.complete and not isinstance(key, Identity)):
        return token, key
    return key, _as_if_open(token)


def _as_if_open(token: Outcome) -> Outcome:
    """Whose token is good but OIDC not open to him yet: what it will bring is what the operator wants to know."""
    if isinstance(token, Refused) and token.reason is Reason.OIDC_NOT_OPEN and token.named is not None:
        return token.named
    return token


def _same_owner(token: Outcome, key: Outcome) -> Outcome:
    if not isinstance(token, Identity):
        return token
    if not isinstance(key, Identity):
        return key
    owner = key.key or key.user_id
    qualified = key.user_id != owner  # then a user's id has his provider before it
    user = token.user_id.removeprefix(f"{token.provider}:") if qualified else token.user_id
    if owner in (user, token.client):
        return token
    text = f"the key is {owner}'s, the token {token.user_id}'s, asked for by {token.client or 'no named client'}"
    return Refused(Reason.DIFFERENT_OWNERS, text, named=token)


def warning(plan: Deprecation, now: float) -> list[tuple[str, str]]:
    """For callers with keys between the day on which keys ended and the end of grace."""
    if migration.phase(plan, now) is not Phase.GRACE or plan.sunset is None:
        return []
    ended, over = migration.http_date(plan.sunset), migration.http_date(plan.over_at)
    link = f"; see {plan.link}" if plan.link else ""
    return [("X-Auth-Warning", f"API keys ended on {ended} and are accepted until {over}{link}")]
