"""Issuers that others wrote, run by the tests: what they share, and the one from npm."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
from pathlib import Path

import pytest

from authsvc.demo.processes import Process, free_port

OIDC = Path(__file__).parent / "oidc"
FORM = "application/x-www-form-urlencoded"

needs_node = pytest.mark.skipif(
    not shutil.which("node") or not (OIDC / "node_modules").is_dir(),
    reason="needs node and `npm ci` in tests/e2e/oidc (make test does it where npm is installed)",
)


class RealIssuer(Process):
    """An issuer with the client `robot`, which is an admin of https://api.example.test."""

    url: str
    roles_claim: str  # as authsvc.yaml has it
    token_url: str
    token_request = "grant_type=client_credentials"

    def ask(self, method: str, url: str, body: str = "", headers: dict[str, str] | None = None) -> str:
        """The body of its answer. Raises ValueError where it refuses: a test must not go on without its rotation."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, url, body, headers or {})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status >= 400:
            raise ValueError(f"{method} {url} answers {response.status} {text}")
        return text

    def token(self) -> str:
        """By client credentials, as a machine gets one."""
        secret = base64.b64encode(b"robot:a-secret-for-tests-only-0123456789").decode()
        headers = {"Authorization": f"Basic {secret}", "Content-Type": FORM}
        token: str = json.loads(self.ask("POST", self.token_url, self.token_request, headers))["access_token"]
        return token

    def rotate(self) -> None:
        """A new key signs from now on; the old ones stay listed."""
        raise NotImplementedError

    def withdraw(self) -> None:
        """Only the key that signs stays listed."""
        raise NotImplementedError


class OidcProvider(RealIssuer):
    """npm's oidc-provider."""

    roles_claim = "roles"
    token_url = "/token"
    token_request = "grant_type=client_credentials&scope=orders:read"

    def __init__(self, alg: str = "RS256") -> None:
        port = free_port()
        super().__init__(["node", OIDC / "server.mjs"], port, None, {"PORT": str(port), "ALG": alg})
        self.url = f"http://127.0.0.1:{port}"

    def rotate(self) -> None:
        self.ask("POST", "/test/rotate")

    def withdraw(self) -> None:
        self.ask("POST", "/test/withdraw")
