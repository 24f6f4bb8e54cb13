"""One word for all that decisions depend on beside the call: the same where all of it is the same, and else another."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from authsvc.adapters import config
from authsvc.adapters.keyfile import editing
from authsvc.core import apikeys
from authsvc.core.apikeys import ApiKey
from authsvc.core.model import Reason, Request
from authsvc.demo.issuer import Issuer
from authsvc.service import Service

CONFIG = """\
authentication:
  oidc: {providers: [{name: demo, issuer: "%s", audience: a, allow_insecure_http: true}]}
  api_keys: {keys_file: "%s"}
authorization: {decision_cache: %s}
"""


class Nowhere:
    def write(self, line: str) -> None: ...


def generation(service: Service) -> str:
    """What the answer to an anonymous call says."""
    status, headers = service.answer(Request("GET", "/x"))
    assert (status, dict(headers)["X-Accel-Expires"]) == (401, "0")
    return dict(headers).get("X-Auth-Generation", "")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.jsonl"
    add_key(file)
    return file


def add_key(file: Path) -> None:
    with editing(str(file)) as draft:
        draft.put(ApiKey(apikeys.mint(os.urandom(32))[1], "acme"))


def made(issuer: Issuer, key_file: Path, kept_for: str = "5s") -> Service:
    service = Service(config.parse(CONFIG % (issuer.url, key_file, kept_for), "f", {}), lines=Nowhere())
    service.keyring.start()
    return service


def test_processes_with_the_same_state_say_the_same_and_a_change_is_another_word(key_file: Path) -> None:
    with Issuer() as issuer:
        one, two = made(issuer, key_file), made(issuer, key_file)
        first = generation(one)
        assert first == generation(one) == generation(two)
        assert len(first) == 24
        assert generation(made(issuer, key_file, "6s")) != first
        add_key(key_file)
        time.sleep(0.6)  # it is looked at every half second
        for service in (one, two):
            generation(service)  # a file that changed is read by the call that finds it
            service.gate.who.api_keys.book(time.time())
        changed = generation(one)
        assert changed != first
        assert changed == generation(two) == generation(made(issuer, key_file))
        issuer.rotate()
        assert generation(made(issuer, key_file)) != changed


def test_nothing_is_said_where_nothing_may_be_kept(key_file: Path) -> None:
    with Issuer() as issuer:
        assert generation(made(issuer, key_file, "off")) == ""
        assert dict(made(issuer, key_file).refuse(Reason.INTERNAL_ERROR)[1])["X-Accel-Expires"] == "0"
