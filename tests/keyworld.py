"""A small world with API keys: one of each kind, and a gate where they are accepted beside tokens."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from authsvc.core.apikeys import ApiKey, mint
from authsvc.core.callers import ApiKeys, Rollout
from authsvc.core.gate import Gate
from authsvc.core.migration import DAY_S, Deprecation, Window
from worlds import NOW, call, gate

FOREIGN = "sk-live-0123456789abcdef"  # imported, of another shape


def minted(seed: int, **record: Any) -> tuple[str, ApiKey]:
    text, digest = mint(bytes([seed]) * 32)
    return text, replace(ApiKey(digest, "acme", roles=("reader",)), **record)


_MADE = {
    "good": minted(1),
    "other": minted(2, owner="umbrella", roles=("admin",), plan="pro", tenant="t-1", scopes=("orders:read",)),
    "revoked": minted(3, revoked=NOW - 5),
    "expired": minted(4, expires=NOW),
    "replaced": minted(5, replaced_by="0" * 16, until=NOW),
    "bare": minted(6, roles=()),
    "of the user": minted(7, owner="u-1"),
}
RECORDS = {name: record for name, (_, record) in _MADE.items()} | {
    "foreign": ApiKey(hashlib.sha256(FOREIGN.encode()).digest(), "old")
}
TEXTS = {name: text for name, (text, _) in _MADE.items()} | {
    "foreign": FOREIGN,
    "unknown": mint(bytes([9]) * 32)[0],
    "mistyped": _MADE["good"][0][:-1] + ("a" if _MADE["good"][0][-1] != "a" else "b"),
    "malformed": "ask_nonsense",
    "two": f"{_MADE['good'][0]}, {_MADE['other'][0]}",
}
REASONS = {
    "good": "allowed",
    "other": "allowed",
    "foreign": "allowed",
    "of the user": "allowed",
    "revoked": "revoked_api_key",
    "expired": "expired_api_key",
    "replaced": "replaced_api_key",
    "unknown": "unknown_api_key",
    "mistyped": "mistyped_api_key",
    "malformed": "malformed_api_key",
    "two": "several_api_keys",
}
BOOK = {record.digest: record for record in RECORDS.values()}
SECRETS = [text.rpartition("_")[2] for name, text in TEXTS.items() if name not in ("two", "malformed")]

LINK = "https://example.com/migrate"
# Announced ten days ago, ends in ten days, then ten days of grace; a brown-out of ten minutes in five days.
PLAN = Deprecation(
    NOW - 10 * DAY_S,
    NOW + 10 * DAY_S,
    10 * DAY_S,
    LINK,
    (Window(NOW + 5 * DAY_S, NOW + 5 * DAY_S + 600),),
)
SILENT, ANNOUNCED, BROWNED_OUT, GRACE, OVER = (NOW + days * DAY_S for days in (-11, 0, 5, 15, 20))


def keys(both: Any = "prefer_oidc", plan: Deprecation | None = None) -> ApiKeys:
    return ApiKeys(lambda now: BOOK, plan, both)


def key_gate(both: Any = "prefer_oidc", percent: float = 100, plan: Deprecation | None = None, **rest: Any) -> Gate:
    """Keys and tokens side by side; OIDC is open to `percent` of users."""
    rollout = rest.pop("rollout", Rollout(percent))
    return gate(api_keys=keys(both, plan), rollout=rollout, **rest)


def key_call(key: str | None, bearer: str | None = None, **rest: Any) -> Any:
    """A call with the key of this name, or with this very text, and maybe a token."""
    return call(bearer, **{"api_key": TEXTS.get(key, key) if key is not None else None, **rest})
