"""The same calls with tokens of three OIDC servers that others wrote: what passes, and why the rest does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from authsvc.demo.stack import Stack
from faults import ask
from glewlwyd_server import Glewlwyd, needs_glewlwyd
from keycloak_server import Keycloak, needs_keycloak
from real_issuers import API, OTHER, SHORT_S, OidcProvider, RealIssuer, needs_node
from test_key_life import keys_command
from test_real_issuer import CONFIG_FOR_REAL, real_stack
from waiting import within

CONFIG = CONFIG_FOR_REAL.replace("    extract_headers:", "    clock_skew_tolerance: 0\n    extract_headers:")
ROUNDS = 12
COOL_DOWN_S = 1.2  # longer than that of CONFIG
SERVERS = [
    pytest.param(OidcProvider, marks=needs_node, id="oidc-provider"),
    pytest.param(Glewlwyd, marks=needs_glewlwyd, id="glewlwyd"),
    pytest.param(Keycloak, marks=needs_keycloak, id="keycloak"),
]
Running = tuple[RealIssuer, Stack]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: Any) -> Iterator[Running]:
    """An issuer and everything around it, once for all tests: each of them gets tokens of its own."""
    issuer = request.param()
    with real_stack(issuer, workers=2, config=CONFIG) as running:
        yield issuer, running


def answered(running: Stack, token: str, path: str = "/api/admin/x") -> tuple[int, str]:
    """The status, and the reason of a refusal."""
    answer = ask(running.nginx.port, token, path)
    return answer.status, json.loads(answer.body).get("reason", "")


def answers(running: Stack, token: str) -> set[tuple[int, str]]:
    """Of as many calls, each on a connection of its own, as it takes to reach every worker."""
    return {answered(running, token) for _ in range(ROUNDS)}


def test_an_admin_passes(server: Running) -> None:
    issuer, running = server
    assert answered(running, issuer.token()) == (200, "")


def test_whoever_is_no_admin_is_known_and_refused(server: Running) -> None:
    issuer, running = server
    guest = issuer.token(role=None)
    reason = "insufficient_scope" if issuer.roles_claim == "scope" else "role_required"
    assert answered(running, guest) == (403, reason)
    assert answered(running, guest, "/api/orders") == (200, "")


def test_a_token_for_another_audience_is_refused(server: Running) -> None:
    issuer, running = server
    assert answered(running, issuer.token(OTHER)) == (401, "wrong_audience")


def test_a_token_passes_until_it_expires(server: Running) -> None:
    issuer, running = server
    token = issuer.short_token()
    assert answered(running, token) == (200, "")
    assert within(SHORT_S + 2, lambda: answered(running, token) == (401, "expired"))


def test_an_id_token_is_no_access_token(server: Running) -> None:
    issuer, running = server
    assert answered(running, issuer.id_token()) in {(401, "wrong_token_type"), (401, "wrong_audience")}


def test_an_id_token_whose_client_has_the_name_of_the_api_does_not_pass(server: Running) -> None:
    """Its audience is right. That of oidc-provider has no at_hash and no nonce either: only require_typ tells it from
    an access token, which is why the config of servers that follow RFC 9068 should have it."""
    issuer, running = server
    assert answered(running, issuer.id_token(API)) == (401, "wrong_token_type")


def test_after_a_rotation_new_and_old_tokens_pass(server: Running) -> None:
    issuer, running = server
    old = issuer.token()
    time.sleep(COOL_DOWN_S)
    issuer.rotate()
    assert answered(running, issuer.token()) == (200, "")
    assert answered(running, old) == (200, "")


def test_after_a_withdrawal_and_a_flush_the_old_token_is_refused(server: Running) -> None:
    issuer, running = server
    old = issuer.token()
    assert answered(running, old) == (200, "")
    issuer.rotate()
    issuer.withdraw()
    done = keys_command(running, "flush")
    assert (done.returncode, done.stderr) == (0, "")
    assert within(5, lambda: answers(running, old) == {(401, "unknown_key")})
    assert answers(running, issuer.token()) == {(200, "")}
