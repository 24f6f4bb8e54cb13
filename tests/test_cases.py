"""Each case is a config and calls with their answers; the gate, the HTTP door and `explain` must all agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from authsvc.adapters.keylines import to_line
from authsvc.adapters.store import MemoryStore
from authsvc.core.model import Request
from authsvc.core.response import face, render
from authsvc.demo.issuer import Issuer
from authsvc.explain import explain
from authsvc.service import Service
from cases.kit import Door, settings_for
from keyworld import RECORDS, SECRETS
from keyworld import TEXTS as KEY_TEXTS

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

    def sent(self, issuers: dict[str, Issuer]) -> dict[str, str]:
        """The headers with credentials."""
        token, key = self.token(issuers), self.key
        found = {} if token is None else {"Authorization": f"Bearer {token}"}
        if key is not None:
            found[self.given.get("key_in", "X-API-Key")] = ("ApiKey " if "key_in" in self.given else "") + key
        return found

    @property
    def key(self) -> str | None:
        """The key of this name, or else this very text."""
        name = self.given.get("key")
        return None if name is None else KEY_TEXTS.get(name, name)

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


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The keys of keyworld; who is over there, is so by today's clock too."""
    past = {"expired": {"expires": 1e9}, "replaced": {"until": 1e9}}
    lines = [to_line(replace(record, **past.get(name, {}))) for name, record in RECORDS.items()]
    file = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    file.write_bytes(b"".join(lines))
    return str(file)


@pytest.mark.parametrize("case", [case for file in FILES for case in read(file)])
def test_gate_door_and_explain_agree(case: Case, issuers: dict[str, Issuer], keys_file: str) -> None:
    urls = {name: issuer.url for name, issuer in issuers.items()}
    settings = settings_for(case.config, KEYS=keys_file, TODAY=datetime.now(UTC).date().isoformat(), **urls)
    sent, (method, target), times = case.sent(issuers), case.call, case.given.get("times", 1)

    door = Door(settings)
    for _ in range(times):
        answer = door.ask(method, target, **sent)
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
    assert ("retry-after" in headers) == (status == 429 or case.given["reason"] == "api_keys_paused")
    assert ("x-auth-error" in headers) == (status != 200)
    assert ("x-user-id" in headers) == (status == 200)
    for name in case.given.get("lacks", ()):
        assert name.lower() not in headers
    assert not any(secret in f"{headers}{door.lines}" for secret in SECRETS)

    decision = gate_decision(settings, method, target, sent, times)
    assert (decision.reason.value, face(decision.reason).status) == (case.given["reason"], status)

    if times == 1 and "key_in" not in case.given:  # `explain` counts nothing, so it is never over a limit
        token = case.token(issuers)
        told = explain(settings, method, target, token, "203.0.113.7", case.key)
        assert told.as_json()["reason"] == case.given["reason"]
        assert told.as_json()["status"] == status
        assert told.allowed == (status == 200)
        shown = {name.lower(): value for name, value in told.headers if name != "X-Auth-Receipt"}
        assert not any("ratelimit" in name for name in shown)
        shown.pop("retry-after", None)  # of another second
        assert shown.items() <= headers.items()
        assert not any(secret in told.as_text() + str(told.as_json()) for secret in SECRETS)
        assert told.allowed or told.next_step
        assert told.as_text().isascii() or "✓" in told.as_text() or "✗" in told.as_text()
        assert token is None or token not in told.as_text() + str(told.as_json()) or token == "junk"


def gate_decision(settings: Any, method: str, target: str, sent: dict[str, str], times: int) -> Any:
    """What the gate alone says, with a store and keys of its own."""
    service = Service(settings, store=MemoryStore())
    authorization, key = sent.get("Authorization"), sent.get("X-API-Key")
    request = Request(method, target, authorization, "203.0.113.7", "r", api_key=key)
    for _ in range(times):
        decision, headers = service.gate.decide(request, time.time())
    assert render(decision, headers)[0] in (200, 401, 403)
    return decision
