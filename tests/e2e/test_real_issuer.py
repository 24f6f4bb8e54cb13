"""Tokens of an issuer that others wrote (npm oidc-provider), of each algorithm. What rotates is in test_rotation.py."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from authsvc.demo.stack import CONFIG, Stack, stack
from real_issuers import OidcProvider, RealIssuer, needs_node

CONFIG_FOR_REAL = (
    CONFIG.replace("issuer: ${DEMO_ISSUER}", "${REAL_ENTRY}")
    .replace("${DEMO_AUDIENCE}", "https://api.example.test")
    .replace("    extract_headers:", "    jwks_refresh_cooldown: 1\n    extract_headers:")
    .replace("pro: {limit: 10000/hour", "pro: {limit: unlimited")
)
ISSUERS = [
    pytest.param(partial(OidcProvider, alg), marks=needs_node, id=f"oidc-provider-{alg}")
    for alg in ("RS256", "PS256", "ES256", "Ed25519")
]  # Keycloak and glewlwyd are in test_three_servers.py


@contextmanager
def real_stack(issuer: RealIssuer, workers: int, config: str = CONFIG_FOR_REAL) -> Iterator[Stack]:
    """Everything around this issuer, which is started and stopped with it."""
    with issuer:
        environment = {"REAL_ENTRY": "\n        ".join(issuer.entry)}
        with stack(config, workers=workers, environment=environment) as running:
            yield running


def status(running: Stack, token: str, path: str = "/api/admin/x") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", running.nginx.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("new_issuer", ISSUERS)
def test_a_token_by_client_credentials_passes_and_a_changed_one_does_not(new_issuer: Callable[[], RealIssuer]) -> None:
    issuer = new_issuer()
    with real_stack(issuer, workers=1) as running:
        token = issuer.token()
        assert status(running, token) == 200
        head, claims, made = token.split(".")
        assert status(running, f"{head}.{claims}.{made[:-8]}AAAAAAAA") == 401
        assert status(running, f"{head}.{claims[:-4]}.{made}") == 401
