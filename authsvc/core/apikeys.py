"""API keys: what one looks like, which are good now, and whom they speak for.

A key is `ask_<id>_<secret>`: 256 random bits, and an id that is the beginning of their digest. So the id is public,
says which key is meant, and is the checksum too: a typo is told from a revoked key without any look-up, and whoever
scans for leaks knows what he found. Only SHA-256 digests are kept. For 256 random bits that is enough, and no slow
hash is needed. Texts name a key by `ask_<id>` only, and no error holds what was sent.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Protocol

from authsvc.core.model import Identity

PREFIX = "ask_"  # authsvc key
ENTROPY_BYTES = 32
MAX_KEY = 512
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET = 43  # digits that hold 256 bits
_ID = 16  # hexadecimal digits: among a million keys two ids are the same once in thirty million times
OURS = re.compile(rf"{PREFIX}([0-9a-f]{{{_ID}}})_([0-9A-Za-z]{{{_SECRET}}})")
_FOREIGN = re.compile(r"[!-+\--~]+")  # what a header can carry; a comma joins two headers (RFC 9110 section 5.3)


@unique
class KeyProblem(StrEnum):
    """Why a key is not accepted. The value is the slug that callers, logs and metrics see."""

    MALFORMED = "malformed_api_key"
    CHECKSUM = "mistyped_api_key"
    SEVERAL = "several_api_keys"
    UNKNOWN = "unknown_api_key"
    REVOKED = "revoked_api_key"
    EXPIRED = "expired_api_key"
    REPLACED = "replaced_api_key"


class KeyRefused(Exception):
    """What they sent is no good key. `detail` names at most its public part, and `key` is its record, if any."""

    def __init__(self, problem: KeyProblem, detail: str, key: ApiKey | None = None) -> None:
        super().__init__(problem.value)
        self.problem, self.detail, self.key = problem, detail, key


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is stored of a key. Instants are seconds since the epoch.

    `revoked` counts at once, whatever its instant. A key that was `replaced_by` another is good `until` then.
    """

    digest: bytes = field(repr=False)
    owner: str
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    plan: str = ""
    tenant: str = ""
    contact: str = ""
    created: float | None = None
    expires: float | None = None
    revoked: float | None = None
    replaced_by: str = ""
    until: float | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.digest.hex()[:_ID]

    @property
    def name(self) -> str:
        """What may be shown: the public part of a key of ours, and what a foreign one is called here."""
        return PREFIX + self.id


class KeyBook(Protocol):
    """All keys, by digest. Immutable: a change makes another book."""

    def get(self, digest: bytes, /) -> ApiKey | None: ...


def mint(entropy: bytes) -> tuple[str, bytes]:
    """The whole text of a new key, made of random bytes, and its digest."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a key takes {ENTROPY_BYTES} random bytes")
    secret = _base62(entropy)
    digest = _digest(PREFIX + secret)
    return f"{PREFIX}{digest.hex()[:_ID]}_{secret}", digest


def _base62(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    for _ in range(_SECRET):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def digest_of(text: str) -> bytes:
    """The digest by which a key is found, ours or a foreign one. Raises `KeyRefused`.

    Without the id in it, for that is made of it. No key has two spellings: alone, what is digested is not accepted.
    """
    match = OURS.fullmatch(text)
    if match is None:
        return _foreign(text)
    digest = _digest(PREFIX + match[2])
    if digest.hex()[:_ID] != match[1]:
        raise KeyRefused(KeyProblem.CHECKSUM, "id and secret do not belong together: the key was mistyped")
    return digest


def _foreign(text: str) -> bytes:
    """A key that was imported may have any shape but that of several keys, or of a broken one of ours."""
    ours = text.startswith(PREFIX)
    if "," in text or len(text.split()) > 1 or (ours and text.count(PREFIX) > 1):
        raise KeyRefused(KeyProblem.SEVERAL, "two keys were sent in one header, or one twice")
    if len(text) > MAX_KEY or not _FOREIGN.fullmatch(text) or ours:
        raise KeyRefused(KeyProblem.MALFORMED, "it has the shape of no key")
    return _digest(text)


def verdict(key: ApiKey, now: float) -> KeyProblem | None:
    """Why the key is not good now; `None` where it is."""
    if key.revoked is not None:
        return KeyProblem.REVOKED
    if key.expires is not None and now >= key.expires:
        return KeyProblem.EXPIRED
    if key.until is not None and now >= key.until:
        return KeyProblem.REPLACED
    return None


def admit(book: KeyBook, text: str, now: float) -> ApiKey:
    """The record of a key that is good now. Raises `KeyRefused`."""
    digest = digest_of(text)
    key = _found(book, digest)
    if key is None:
        named = (
            f"there is no key {PREFIX}{digest.hex()[:_ID]}" if text.startswith(PREFIX) else "no imported key is this"
        )
        raise KeyRefused(KeyProblem.UNKNOWN, named)
    problem = verdict(key, now)
    if problem is not None:
        raise KeyRefused(problem, f"{key.name} of {key.owner} {_SAYS[problem]}", key)
    return key


def again(book: KeyBook, digest: bytes, now: float) -> ApiKey | None:
    """The record of a key that an earlier call brought, where it is good now."""
    key = _found(book, digest)
    return key if key is not None and verdict(key, now) is None else None


def _found(book: KeyBook, digest: bytes) -> ApiKey | None:
    """A look-up by digest tells nobody how near a guess was; the comparison takes the same time wherever two differ."""
    key = book.get(digest)
    return key if key is not None and hmac.compare_digest(key.digest, digest) else None


_SAYS: Mapping[KeyProblem, str] = {
    KeyProblem.REVOKED: "was revoked",
    KeyProblem.EXPIRED: "has expired",
    KeyProblem.REPLACED: "was replaced, and the time for both is over",
}


def identity(key: ApiKey, provider: str, qualify: bool = False) -> Identity:
    """Whom a good key speaks for, as rules, tiers and headers know callers. `provider` is the name keys go by there;
    with `qualify` it stands before the owner's, as that of a token's provider does before its user's.

    Keys of one owner share his limits. What the key says itself counts before its free claims.
    """
    named = {"sub": key.owner, "plan": key.plan, "tenant": key.tenant}
    return Identity(
        provider=provider,
        user_id=f"{provider}:{key.owner}" if qualify else key.owner,
        key=key.owner,
        email="",
        roles=key.roles,
        claims={**key.claims, **{name: value for name, value in named.items() if value}},
        scopes=key.scopes,
        client=key.id,
        tenants=(key.tenant,) if key.tenant else (),
        subject_type="app",
        method="api_key",
    )
