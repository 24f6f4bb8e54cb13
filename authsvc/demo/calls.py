"""The demo's calls: who calls what, what each will answer, and how to make one, by curl or from here."""

from __future__ import annotations

import http.client
import json
import shlex
import time
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from authsvc.demo.issuer import Issuer


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the demo. `expect` holds a status for each time it is made; `proof` is part of the last answer."""

    told: str
    token: str
    path: str
    expect: tuple[int, ...]
    proof: str
    method: str = "GET"
    header: tuple[str, str] | None = None

    def as_curl(self) -> str:
        """The line to paste; $API and the token's variable come from the tokens file."""
        parts = ["curl -i"]
        if self.method != "GET":
            parts.append(f"-X {self.method}")
        if "%" in self.path:
            parts.append("--path-as-is")
        if self.token:
            parts.append(f'-H "Authorization: Bearer ${self.token}"')
        if self.header:
            parts.append(f'-H "{self.header[0]}: {self.header[1]}"')
        line = " ".join([*parts, f"$API{self.path}"])
        times = len(self.expect)
        return f"for i in {' '.join(map(str, range(1, times + 1)))}; do {line}; done" if times > 1 else line

    @property
    def expected(self) -> str:
        return _in_short(self.expect)


CALLS = (
    Call("nobody", "", "/api/orders", (401,), "no_credentials"),
    Call("an admin", "ADMIN", "/api/admin/reports", (200,), 'the API sees ada ["admin"]'),
    Call("a user", "MEMBER", "/api/admin/reports", (403,), "role_required"),
    Call("a user", "MEMBER", "/api/users/42", (200,), 'the API sees max ["user"]'),
    Call("who claims to be admin", "MEMBER", "/api/orders", (200,), 'the API sees max ["user"]',
         header=("X-User-Roles", "admin")),
    Call("a GET rule stays shut", "MEMBER", "/api/users/42", (403,), "method_not_allowed", method="POST"),
    Call("an expired token", "EXPIRED", "/api/users/42", (401,), "expired"),
    Call("a forged token", "FORGED", "/api/users/42", (401,), "invalid_signature"),
    Call("nobody, public path", "", "/api/public/news", (200,), "the API sees nobody"),
    Call("a path with two meanings", "MEMBER", "/api/public/%2e%2e/admin/reports", (403,), "ambiguous_path"),
    Call("a trial of 3 an hour", "TRIAL", "/api/orders", (200, 200, 200, 429), "rate_limited"),
)  # fmt: skip


def tokens(issuer: Issuer) -> dict[str, str]:
    """Variable name -> token, fresh, good for an hour (but one)."""
    now = int(time.time())
    member: dict[str, Any] = {"roles": ["user"], "email": "max@example.com", "organization_id": "org-7", "plan": "pro"}
    return {
        "ADMIN": issuer.token("ada", roles=["admin"], email="ada@example.com", plan="enterprise"),
        "MEMBER": issuer.token("max", **member),
        "EXPIRED": issuer.token("max", **{**member, "iat": now - 7200, "exp": now - 3600}),
        "FORGED": _forged(issuer.token("max", **{**member, "roles": ["admin"]})),
        "TRIAL": issuer.token("tim", roles=["user"], email="tim@example.com", plan="trial"),
    }


def variables(issuer: Issuer, api_url: str) -> str:
    """What a shell must know to make the calls."""
    values = {"API": api_url, **tokens(issuer)}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def lines() -> str:
    """Every call as a line to paste, under what it will answer."""
    return "\n".join(f"# {call.told}: {call.expected}, {call.proof}\n{call.as_curl()}\n" for call in CALLS)


def told(issuer: Issuer, api_url: str) -> str:
    """All of it as one text to paste from."""
    return f"{variables(issuer, api_url)}\n{lines()}"


def _forged(token: str) -> str:
    """The same claims under a signature with one character changed."""
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] != 'B' else 'C'}{signature[1:]}"


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back: a status for each time, and what the last answer says."""

    statuses: tuple[int, ...]
    said: str

    @property
    def got(self) -> str:
        return _in_short(self.statuses)

    def fits(self, call: Call) -> bool:
        return self.statuses == call.expect and self.said == call.proof


def make(call: Call, port: int, token: str | None) -> Answers:
    """Make the call through nginx on `port`, as often as it says."""
    statuses, said = [], ""
    for _ in call.expect:
        status, body = _once(call, port, token)
        statuses.append(status)
        said = _said(status, body)
    return Answers(tuple(statuses), said)


def _once(call: Call, port: int, token: str | None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= dict([call.header]) if call.header else {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(call.method, call.path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _said(status: int, body: bytes) -> str:
    """Of a refusal its reason; of a yes who reached the API, in the API's own words."""
    try:
        answer: dict[str, Any] = json.loads(body)
    except ValueError:
        return "no JSON"
    if status != 200:
        return str(answer.get("reason", answer))
    shown = ("X-User-Id", "X-User-Roles")
    seen = " ".join(value for name, value in answer["headers"] if name in shown)
    return f"the API sees {seen or 'nobody'}"


def _in_short(statuses: tuple[int, ...]) -> str:
    """(200, 200, 429) as 200×2 429."""
    runs = [(status, len(list(group))) for status, group in groupby(statuses)]
    return " ".join(f"{status}×{count}" if count > 1 else str(status) for status, count in runs)
