"""Each case is a config and calls with their answers; the gate, the HTTP door and `explain` must all agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from authsvc.adapters.store import MemoryStore
from authsvc.core.model import Request
from authsvc.core.response import face, render
from authsvc.demo.issuer import Issuer
from authsvc.explain import explain
from authsvc.service import Service
from cases.kit import Door, settings_for

FILES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))


@dataclass(frozen=True)
class Case:
    """One call: the config it is asked of, and what must come of it."""

    config: str
    given: dict[str, Any]

    def token(self, issuers: dict[str, Issuer]) -> str | None:
        if "token" in self.given:
            return str(self.given["token"])
        claims = self.given.get("claims")
        if "many_roles" in self.given:
            claims = {"roles": [f"r{number}" for number in range(self.given["many_roles"])]}
        return None if claims is None else issuers[self.given.get("issuer", "ONE")].token(**claims)

    @property
    def call(self) -> tuple[str, str]:
        method, _, target = self.given["call"].partition(" ")
        return method, target


def read(file: Path) -> Iterator[Any]:
    document = yaml.safe_load(file.read_text("utf-8"))
    config = yaml.safe_dump(document["config"])
    for given in document["requests"]:
        yield pytest.param(Case(config, given), id=f"{file.stem}: {given['says']}")


@pytest.fixture(scope="module")
def issuers() -> Iterator[dict[str, Issuer]]:
    with Issuer() as one, Issuer() as two, Issuer() as three:
        yield {"ONE": one, "TWO": two, "THREE": three}


@pytest.mark.parametrize("case", [case for file in FILES for case in read(file)])
def test_gate_door_and_explain_agree(case: Case, issuers: dict[str, Issuer]) -> None:
    settings = settings_for(case.config, **{name: issuer.url for name, issuer in issuers.items()})
    token, (method, target), times = case.token(issuers), case.call, case.given.get("times", 1)

    door = Door(settings)
    for _ in range(times):
        answer = door.ask(method, target, token)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    status = case.given["status"]
    assert headers["x-auth-status"] == str(status)
    assert headers["x-auth-reason"] == case.given["reason"]
    assert answer.status_code == (status if status in (200, 401) else 403)
    assert answer.content == b""
    assert headers["content-length"] == "0"
    for name, value in case.given.get("headers", {}).items():
        assert headers[name.lower()] == value
    if "policy" in case.given:
        assert headers.get("ratelimit-policy") == case.given["policy"]
    assert ("retry-after" in headers) == (status == 429)
    assert ("x-auth-error" in headers) == (status != 200)
    assert ("x-user-id" in headers) == (status == 200)

    decision = gate_decision(settings, method, target, token, times)
    assert (decision.reason.value, face(decision.reason).status) == (case.given["reason"], status)

    if times == 1:  # `explain` counts nothing, so it is never over a limit
        told = explain(settings, method, target, token, "203.0.113.7")
        assert told.as_json()["reason"] == case.given["reason"]
        assert told.as_json()["status"] == status
        assert told.allowed == (status == 200)
        shown = {name.lower(): value for name, value in told.headers}
        assert not any(name.startswith("ratelimit") for name in shown)
        assert shown.items() <= headers.items()
        assert told.allowed or told.next_step
        assert told.as_text().isascii() or "✓" in told.as_text() or "✗" in told.as_text()
        assert token is None or token not in told.as_text() + str(told.as_json()) or token == "junk"


def gate_decision(settings: Any, method: str, target: str, token: str | None, times: int) -> Any:
    """What the gate alone says, with a store and keys of its own."""
    service = Service(settings, store=MemoryStore())
    request = Request(method, target, None if token is None else f"Bearer {token}", "203.0.113.7", "r")
    for _ in range(times):
        decision, headers = service.gate.decide(request, time.time())
    assert render(decision, headers)[0] in (200, 401, 403)
    return decision
