"""Opaque tokens of a real issuer, which authsvc asks about (RFC 7662)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from authsvc.demo.stack import CONFIG, Stack, stack
from faults import ask
from real_issuers import SECRET, OidcProvider, needs_node

pytestmark = needs_node
CACHE_S = 2
ENTRY = """https://api.example.test
        roles_claim: roles
        introspection:
          {url: "${REAL_ISSUER}/token/introspection", client_id: asker, secret_file: "${SECRET_FILE}", cache: 2}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OidcProvider, Stack]]:
    secret = Path(tmp_path_factory.mktemp("secret")) / "asker"
    secret.write_text(f"{SECRET}\n", "utf-8")
    config = CONFIG.replace("${DEMO_ISSUER}", "${REAL_ISSUER}").replace("${DEMO_AUDIENCE}\n", ENTRY)
    with OidcProvider() as issuer:
        environment = {"REAL_ISSUER": issuer.url, "SECRET_FILE": str(secret)}
        with stack(config, environment=environment) as running:
            yield issuer, running


def told(running: Stack, token: str, path: str = "/api/admin/x") -> tuple[int, str]:
    answer = ask(running.nginx.port, token, path)
    return answer.status, "" if answer.status == 200 else json.loads(answer.body)["reason"]


def test_an_opaque_token_passes_with_the_roles_that_its_issuer_tells(server: tuple[OidcProvider, Stack]) -> None:
    issuer, running = server
    token = issuer.machine_token("secretive")
    assert token.count(".") == 0
    assert told(running, token) == (200, "")
    assert told(running, issuer.token()) == (200, "")  # JWTs are verified as ever


def test_an_opaque_token_that_nobody_issued_is_not_active(server: tuple[OidcProvider, Stack]) -> None:
    _, running = server
    assert told(running, "nobody-issued-this-one") == (401, "inactive_token")


def test_a_revoked_token_passes_no_longer_than_the_cache_says(server: tuple[OidcProvider, Stack]) -> None:
    issuer, running = server
    token = issuer.machine_token("secretive")
    assert told(running, token) == (200, "")
    issuer.post_plain("/token/revocation", "secretive", token=token)
    time.sleep(CACHE_S + 0.1)
    assert told(running, token) == (401, "inactive_token")


def test_while_the_issuer_is_down_an_opaque_token_gets_503(server: tuple[OidcProvider, Stack]) -> None:
    issuer, running = server
    token = issuer.machine_token("secretive")
    issuer.stop()
    try:
        assert told(running, token) == (503, "introspection_unavailable")
    finally:
        issuer.start()
