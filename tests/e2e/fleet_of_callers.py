"""200 callers on their way from API keys to OIDC: with keys, tokens or both, good ones and bad."""

from __future__ import annotations

import calendar
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from authsvc import apikeytool
from authsvc.core.apikeys import ApiKey, mint
from authsvc.demo.issuer import Issuer

SIZE = 200
Roles = tuple[str, ...]
READER: Roles = ("reader",)
ADMIN: Roles = ("admin", "reader")
ALWAYS, NEVER = float("-inf"), float("inf")
NAMED = tuple(f"t-{number:02}" for number in range(5))  # users to whom OIDC is open before all others


def at(text: str) -> float:
    """`01-31` or `01-31 23:59:59` in 2027, in UTC."""
    day, _, clock = text.partition(" ")
    month, number = map(int, day.split("-"))
    hour, minute, second = map(int, (clock or "00:00:00").split(":"))
    return float(calendar.timegm((2027, month, number, hour, minute, second)))


ANNOUNCE, SUNSET, OVER = at("03-01"), at("06-30"), at("07-14")
PAUSE, PAUSE_ENDS = at("05-04 10:00:00"), at("05-04 10:30:00")
OVERLAP_ENDS, EXPIRES, REVOKED_LATER = at("01-24"), at("05-20"), at("01-25")


# ---- who calls


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is sent. From `until` on it is refused for `problem`."""

    text: str = field(repr=False)
    owner: str
    roles: Roles = READER
    plan: str = "pro"
    until: float = NEVER
    problem: str = ""

    @property
    def id(self) -> str:
        """An imported key has another text; its id is the beginning of its digest, as that of all."""
        body = self.text if not self.text.startswith("ask_") else f"ask_{self.text.split('_')[2]}"
        return hashlib.sha256(body.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is made for each call. It is refused for `problem`, if it has one."""

    user: str
    client: str = "web-app"
    roles: Roles = READER
    plan: str = "pro"
    beta: bool = False
    problem: str = ""

    def made(self, issuer: Issuer, now: float) -> str:
        start = int(now)
        claims: dict[str, Any] = {"roles": list(self.roles), "plan": self.plan, "client_id": self.client}
        claims |= {"beta": self.beta or None, "iat": start - 5, "exp": start + 300}
        if self.problem == "malformed_token":
            return "no.token"
        if self.problem == "invalid_signature":
            return issuer.forged_token(self.user, **claims)
        if self.problem == "expired":
            claims["exp"] = start - 3600
        if self.problem == "wrong_audience":
            claims["aud"] = "https://x.test"
        return issuer.token(self.user, **claims)


@dataclass(frozen=True, slots=True)
class Caller:
    """One of the fleet. Once callers move, he sends `later` in place of all else; `spare` he never sends."""

    name: str
    path: str = "/api/orders"
    key: Key | None = None
    token: Token | None = None
    twice: bool = False  # the key in both headers
    scheme: bool = False  # the key as Authorization: ApiKey
    later: Token | None = None
    spare: Key | None = None

    def moved(self) -> Caller:
        return self if self.later is None else replace(self, key=None, token=self.later)

    def headers(self, issuer: Issuer, now: float) -> dict[str, str]:
        sent = {}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token.made(issuer, now)}"
        if self.key is not None and not self.scheme:
            sent["X-API-Key"] = self.key.text
        if self.key is not None and (self.scheme or self.twice):
            sent["Authorization"] = f"ApiKey {self.key.text}"
        return sent


# ---- the fleet and its file of keys


@dataclass(frozen=True, slots=True)
class Fleet:
    """The callers, and the file of their keys. `revoked_later` are those that are revoked on the way."""

    file: str
    callers: tuple[Caller, ...]
    revoked_later: tuple[str, ...]


def fleet(folder: Path) -> Fleet:
    """All callers; their keys are made by the operator's own tool."""
    file = str(folder / "api-keys.jsonl")
    callers = (*_by_key(file), *_by_bad_key(file), *_imported(file, folder), *_by_token(), *_by_both(file), *_odd(file))
    later = tuple(one.key.id for one in callers if one.key and one.key.until == REVOKED_LATER)
    return Fleet(file, callers, later)


def contact(owner: str) -> str:
    return f"ops@{owner}.test"


def _new(file: str, owner: str, plan: str = "pro", roles: Roles = READER, **rest: Any) -> Key:
    record = ApiKey(b"", owner, roles, plan=plan, contact=contact(owner), created=at("01-01"), **rest)
    return Key(apikeytool.issue(file, record).text, owner, roles, plan)


def _by_key(file: str) -> Iterator[Caller]:
    """20 owners with three keys each; eight of them will move, and four others with two keys of three."""
    paths = ("/api/orders", "/api/orders", "/api/public/news")
    for number in range(60):
        owner, nth = f"acme-{number // 3:02}", number % 3
        path, roles = paths[nth], READER
        if number // 3 % 5 == 0 and nth < 2:  # the second key of such an owner lacks the role
            path, roles = "/api/admin/x", ADMIN if nth == 0 else roles
        moves = number < 24 or (number < 36 and nth < 2)
        later = Token(f"{owner}-job-{nth}", client=owner, roles=roles) if moves else None
        key = _new(file, owner, roles=roles)
        yield Caller(f"key-{number:02}", path, key, scheme=number % 4 == 1, later=later)


def _by_bad_key(file: str) -> Iterator[Caller]:
    for number in range(6):
        key = _new(file, "gone", revoked=at("01-02"))
        path = "/api/public/news" if number == 0 else "/api/orders"
        yield Caller(f"revoked-{number}", path, replace(key, until=ALWAYS, problem="revoked_api_key"))
    for number in range(4):
        key = _new(file, f"leaver-{number % 2}")
        yield Caller(f"revoked-later-{number}", key=replace(key, until=REVOKED_LATER, problem="revoked_api_key"))
    for number in range(7):
        ends = at("01-03") if number < 5 else EXPIRES
        key = replace(_new(file, "brief", expires=ends), until=ends, problem="expired_api_key")
        yield Caller(f"expired-{number}", key=key)
    for number in range(4):
        old = _new(file, f"turner-{number}")
        new, _ = apikeytool.rotate(file, old.id, int(OVERLAP_ENDS - at("01-05")), None, at("01-05"))
        used, spare = replace(old, until=OVERLAP_ENDS, problem="replaced_api_key"), replace(old, text=new.text)
        yield Caller(f"rotated-{number}", key=used if number < 3 else spare, spare=spare)
    for number in range(3):
        text = _new(file, "acme-00").text
        wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
        yield Caller(f"mistyped-{number}", key=Key(wrong, "acme-00", until=ALWAYS, problem="mistyped_api_key"))
        elsewhere = mint(os.urandom(32))[0]
        yield Caller(f"unknown-{number}", key=Key(elsewhere, "nobody", until=ALWAYS, problem="unknown_api_key"))
    yield Caller("malformed", key=Key("ask_of_no_shape", "nobody", until=ALWAYS, problem="malformed_api_key"))


def _imported(file: str, folder: Path) -> Iterator[Caller]:
    source = folder / "legacy.csv"
    texts = [f"legacy-{os.urandom(16).hex()}" for _ in range(4)]
    rows = (f"{text},legacy-{number},reader,pro,{contact(f'legacy-{number}')}" for number, text in enumerate(texts))
    source.write_text("\n".join(("key,owner,roles,plan,contact", *rows)) + "\n")
    apikeytool.import_csv(file, str(source), at("01-01"))
    return (Caller(f"imported-{number}", key=Key(text, f"legacy-{number}")) for number, text in enumerate(texts))


_BAD_TOKENS = ("invalid_signature", "expired", "invalid_signature", "wrong_audience", "malformed_token") * 2


def _by_token() -> Iterator[Caller]:
    for number in range(46):
        roles = ("admin",) if number % 8 == 0 else ("reader",)
        path = "/api/admin/x" if number % 4 == 0 else "/api/public/news" if number % 15 == 7 else "/api/orders"
        yield Caller(f"token-{number:02}", path, token=Token(f"t-{number:02}", roles=roles, beta=5 <= number < 10))
    for number, problem in enumerate(_BAD_TOKENS):
        path = "/api/public/news" if number == 0 else "/api/orders"
        yield Caller(f"bad-token-{number}", path, token=Token(f"b-{number}", problem=problem))


def _by_both(file: str) -> Iterator[Caller]:
    """Of each twelve the token is like the key, has other roles, or another plan; each third has another owner."""
    for number in range(36):
        owner = f"duo-{number // 2:02}"
        kind, path = number // 12, "/api/admin/x" if number % 6 < 2 else "/api/orders"
        roles = ADMIN if kind == 1 or number % 12 < 6 else READER
        user, client = ((f"{owner}", "web-app"), (f"d-{number:02}", owner), (f"d-{number:02}", "web-app"))[number % 3]
        token = Token(user, client, roles, "pro", beta=number % 12 == 5)
        if kind == 1:
            token = replace(token, roles=READER)
        if kind == 2:
            token = replace(token, plan="free")
        yield Caller(f"both-{number:02}", path, _new(file, owner, roles=roles), token)


def _odd(file: str) -> Iterator[Caller]:
    for number in range(8):
        token = Token(f"o-{number}", problem=_BAD_TOKENS[number])
        yield Caller(f"good-key-bad-token-{number}", key=_new(file, f"odd-{number // 2}"), token=token)
    for number in range(6):
        key = replace(_new(file, "gone", revoked=at("01-02")), until=ALWAYS, problem="revoked_api_key")
        token = Token(f"p-{number}", problem="" if number < 4 else "invalid_signature")
        yield Caller(f"bad-key-{number}", key=key, token=token)
    yield Caller("nobody")
    yield Caller("twice", key=_new(file, "acme-01"), twice=True)
