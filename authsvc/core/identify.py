"""Who calls: by a token, by an API key, or by both, one of which is in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from authsvc.core import callers, jwt, migration, stepup
from authsvc.core.callers import ApiKeys, Outcome, Rollout
from authsvc.core.jwks import KeySet
from authsvc.core.known import Known, KnownKey
from authsvc.core.model import Claims, Forgotten, Identity, Prepared, Reason, Refused, Request, Unavailable
from authsvc.core.provider import Provider, Providers, check, identity


class Keys(Protocol):
    """Where verified key sets come from."""

    def current(self, provider: str, now: float) -> KeySet | None:
        """What is known now, without any download."""
        ...

    def refresh(self, provider: str, now: float, may_wait: bool) -> KeySet | None:
        """What is known after at most one forced download: the same as before where the cool-down allows none.

        Raises `MustWait` where there would be one and the call may not wait.
        """
        ...

    def trouble(self, provider: str) -> str:
        """Why the last download failed, or "" where it did not."""
        ...


class Introspects(Protocol):
    """Who asks providers what their opaque tokens mean (RFC 7662)."""

    def claims(self, provider: str, token: str, now: float, may_wait: bool) -> Claims | None:
        """What the provider says of the token; `None` where it is not active. Raises `Unavailable`, and `MustWait`
        where the provider must be asked and the call may not wait."""
        ...


class Remembered(Known):
    """A verified token, good from `since` until before `until` (seconds since the epoch, skew included), by the word of
    `provider`, which is one `of` those. `size` is that of its text; `used` is for its memory, which forgets."""

    __slots__ = ("identity", "keys", "of", "provider", "since", "size", "until", "used")

    def __init__(
        self,
        identity: Identity,
        of: Providers,
        provider: Provider,
        keys: KeySet,
        since: float,
        until: float,
        size: int,
    ) -> None:
        super().__init__()
        self.identity, self.of, self.provider, self.keys = identity, of, provider, keys
        self.since, self.until, self.size, self.used = since, until, size, False

    def holds(self, keys: KeySet | None, now: float) -> bool:
        return self.keys is keys and self.since <= now < self.until


class Memory(Protocol):
    """Where verified tokens are remembered, by their digests. Whether what is found still holds is for the caller to
    ask."""

    def get(self, digest: bytes) -> Remembered | None: ...
    def put(self, digest: bytes, entry: Remembered) -> None: ...


class Way:
    """What is known so far of the credential that is looked at, so that a refusal says it too.

    `other` is what came of the one that is not in force, where both were sent; `known` is what is remembered of the
    credential, be it since now; `digest` is by what a key was found. A token that is good now stays good before
    `until`, as far as it depends on the time.
    """

    __slots__ = ("by", "digest", "known", "link", "notices", "other", "provider", "retry_after_s", "until")

    def __init__(self) -> None:
        self.provider = self.link = ""
        self.by: Provider | None = None
        self.notices: tuple[tuple[str, str], ...] = ()
        self.retry_after_s: int | None = None
        self.other: Outcome | None = None
        self.known: Known | None = None
        self.digest: bytes | None = None
        self.until = 0.0


@dataclass(frozen=True, slots=True)
class Identifier:
    """Everything on which it depends who calls."""

    providers: Providers
    keys: Keys
    introspects: Introspects | None = None
    api_keys: ApiKeys | None = None
    rollout: Rollout = Rollout()
    memory: Memory | None = None
    # `get` and `current` of the two: mypyc would look for them at each call
    recall: Callable[[bytes], Remembered | None] = field(init=False, repr=False, compare=False)
    _current: Callable[[str, float], KeySet | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "recall", _nothing if self.memory is None else self.memory.get)
        object.__setattr__(self, "_current", self.keys.current)

    def identify(self, request: Request, now: float, way: Way) -> Identity:
        """Who sent the credential of this call. Raises `Refused`, `Unavailable`, `MustWait` or `Forgotten`."""
        if request.remembered is not None:
            return self._again(request.remembered, now, way)
        digest = request.digest
        if digest is not None and request.authorization is None:
            return self._by_key_digest(digest, now, way)
        if self.api_keys is None:
            return self._by_token(request.authorization, digest, request.may_wait, now, way)
        sent = callers.sent(request)
        if sent.key is None:
            return self._by_open_token(sent.authorization, digest, request.may_wait, now, way)
        if sent.authorization is None:
            return _by_key(self.api_keys, sent.key, now, way)
        return self._by_both(self.api_keys, sent.authorization, sent.key, request.may_wait, now, way)

    def provider(self, identity: Identity) -> Provider:
        """By whose word this is a caller."""
        return callers.KEYS if identity.method == "api_key" else self.providers.named(identity.provider)

    def good_until(self, request: Request, way: Way, now: float) -> float:
        """Until when at least the same credential brings the same, as far as it depends on the time; 0 where nobody
        knows: of two credentials, of an opaque token, of a sign-in that must be fresh."""
        if self.api_keys is None:
            return way.until
        if request.digest is None and request.remembered is None:
            sent = callers.sent(request)
            if sent.key is not None and sent.authorization is not None:
                return 0.0
        known = way.known
        return self.api_keys.good_until(known.record.digest, now) if isinstance(known, KnownKey) else way.until

    def _by_both(self, keys: ApiKeys, authorization: str, key: str, may_wait: bool, now: float, way: Way) -> Identity:
        """The credential in force decides; what the other one would have brought is compared afterwards."""
        if keys.both == "refuse":
            raise Refused(Reason.TWO_CREDENTIALS, "an API key and an Authorization header were sent")
        of_token, of_key = Way(), Way()
        by_token = _outcome(lambda: self._by_open_token(authorization, None, may_wait, now, of_token))
        by_key = _outcome(lambda: _by_key(keys, key, now, of_key))
        chosen, other = callers.in_force(keys.both, by_token, by_key, self.rollout)
        found = of_key if chosen is by_key else of_token
        way.provider, way.by, way.notices = found.provider, found.by, found.notices
        way.link, way.retry_after_s, way.other, way.known = found.link, found.retry_after_s, other, found.known
        if isinstance(chosen, Identity):
            return chosen
        raise chosen

    def _by_open_token(
        self, authorization: str | None, digest: bytes | None, may_wait: bool, now: float, way: Way
    ) -> Identity:
        return self._open_to(self._by_token(authorization, digest, may_wait, now, way))

    def _again(self, remembered: Prepared, now: float, way: Way) -> Identity:
        """Who sent a token that an earlier call brought, as if it came again."""
        if not isinstance(remembered, Remembered) or not self._holds(remembered, now, way):
            raise Forgotten
        return remembered.identity if self.api_keys is None else self._open_to(remembered.identity)

    def _by_key_digest(self, digest: bytes, now: float, way: Way) -> Identity:
        """Whom a key speaks for that an earlier call brought, as if it came again."""
        keys = self.api_keys
        if keys is None:
            raise Forgotten
        try:
            found = keys.again(digest, now)
        except Refused:  # why, is told to who brings the key
            found = None
        if found is None:
            raise Forgotten
        way.provider, way.by = callers.NAME, callers.KEYS
        return _of_key(keys, found, now, way)

    def _open_to(self, found: Identity) -> Identity:
        if not self.rollout.open_to(found):
            text = f"OIDC is open to {self.rollout.percent:g} % of users, and not to {found.user_id}"
            raise Refused(Reason.OIDC_NOT_OPEN, text, named=found)
        return found

    def _by_token(
        self, authorization: str | None, digest: bytes | None, may_wait: bool, now: float, way: Way
    ) -> Identity:
        text = jwt.bearer(authorization)
        if text is None:
            raise Refused(Reason.NO_CREDENTIALS, "no Authorization header was sent")
        if self.providers.opaque is not None and jwt.is_opaque(text):
            way.provider, way.by = self.providers.opaque.name, self.providers.opaque
            assert self.introspects is not None
            claims = self.introspects.claims(way.provider, text, now, may_wait)
            return _introspected(self.providers.opaque, claims, now)
        digest = digest or jwt.digest(text)
        known = self.recall(digest)
        if known is not None and self._holds(known, now, way):
            return known.identity
        return self._verified(text, digest, now, may_wait, way)

    def _holds(self, known: Remembered, now: float, way: Way) -> bool:
        """Whether the token is still good, by the keys of now; then it is the one that is looked at. Nothing is that
        another config has verified."""
        if known.of is not self.providers or not known.holds(self._current(known.provider.name, now), now):
            return False
        way.provider, way.by, way.known, way.until = known.provider.name, known.provider, known, known.until
        return True

    def _verified(self, text: str, digest: bytes, now: float, may_wait: bool, way: Way) -> Identity:
        token = jwt.parse(text)
        provider = self.providers.find(token.issuer, token.claims)
        way.provider, way.by = provider.name, provider
        jwt.check_header(token, provider)
        keys = self._check_signature(token, provider, now, may_wait)
        since, until = jwt.check_claims(token, provider, now)
        found = _accepted(provider, token.claims, now)
        lasts = provider.strength.max_age_s is None  # else the token becomes too old before it expires
        way.until = until if lasts else 0.0
        if self.memory is not None and lasts:
            way.known = Remembered(found, self.providers, provider, keys, since, until, len(text))
            self.memory.put(digest, way.known)
        return found

    def _check_signature(self, token: jwt.Token, provider: Provider, now: float, may_wait: bool) -> KeySet:
        """The keys by which it is good: those at hand, or else those of one forced download."""
        known, issuers = self._current(provider.name, now), provider.key_issuers(token.claims)
        if known is not None and _signed_by(known, token, issuers):
            return known
        fresh = self.keys.refresh(provider.name, now, may_wait)
        if fresh is not None and fresh != known and _signed_by(fresh, token, issuers):
            return fresh
        latest = fresh or known
        trouble = self.keys.trouble(provider.name)
        if latest is None:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, f"no keys of {provider.name} could be had yet: {trouble}")
        if latest.candidates(token.kid, token.alg, issuers):
            raise Refused(Reason.INVALID_SIGNATURE, f"key {token.kid!r} of {provider.name} did not make this signature")
        if trouble:  # the key may be new and cannot be had now: nobody knows whether this token is bad
            raise Unavailable(Reason.KEYS_UNAVAILABLE, f"key {token.kid!r} may be new, and {trouble}")
        raise Refused(Reason.UNKNOWN_KEY, f"{provider.name} lists no {token.alg} key {token.kid!r}")


def _nothing(digest: bytes) -> Remembered | None:
    """What is remembered of a token where none is."""
    return None


def _outcome(act: Callable[[], Identity]) -> Outcome:
    try:
        return act()
    except (Refused, Unavailable) as trouble:
        return trouble


def _by_key(keys: ApiKeys, text: str, now: float, way: Way) -> Identity:
    """Whom the key speaks for; whoever has a good one hears when keys end."""
    way.provider, way.by = callers.NAME, callers.KEYS
    plan = keys.deprecation
    try:
        found = keys.identify(text, now)
    except Refused as refused:
        if plan is not None and refused.reason in (Reason.API_KEYS_ENDED, Reason.API_KEYS_PAUSED):
            way.notices, way.link = tuple(migration.headers(plan, now)), plan.link
            paused = refused.reason is Reason.API_KEYS_PAUSED
            way.retry_after_s = migration.resumes_in_s(plan, now) if paused else None
        raise
    return _of_key(keys, found, now, way)


def _of_key(keys: ApiKeys, found: KnownKey, now: float, way: Way) -> Identity:
    if keys.deprecation is not None:
        way.notices = (*migration.headers(keys.deprecation, now), *callers.warning(keys.deprecation, now))
    way.known, way.digest = found, found.record.digest
    return found.identity


def _signed_by(keys: KeySet, token: jwt.Token, issuers: frozenset[str] | None) -> bool:
    return jwt.signed_by_any(token, keys.candidates(token.kid, token.alg, issuers))


def _introspected(provider: Provider, claims: Claims | None, now: float) -> Identity:
    """Who an opaque token speaks for, by its provider's word; times, audience and demands are checked too."""
    if claims is None:
        raise Refused(Reason.INACTIVE_TOKEN, f"{provider.name} says that the token is not active")
    if "iss" in claims and not provider.accepts_issuer(str(claims["iss"]), claims):
        raise Refused(Reason.UNKNOWN_ISSUER, f"{provider.name} introspected a token of {str(claims['iss'])[:200]!r}")
    if isinstance(claims.get("client_id"), str):
        # RFC 7662 section 2.2: sub is optional; no client may be called as a user is
        claims = {"sub": f"client:{claims['client_id']}", **claims}
    jwt.check_introspected(claims, provider, now)
    return _accepted(provider, claims, now)


def _accepted(provider: Provider, claims: Claims, now: float) -> Identity:
    """The identity of a token whose claims are true, where it meets what the provider's config demands."""
    check(provider, claims)
    found = identity(provider, claims)
    stepup.check(provider.strength, found, provider, now)
    return found
