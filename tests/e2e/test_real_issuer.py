"""Tokens of a real third-party issuer (npm oidc-provider), whose keys rotate while calls run."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authsvc.demo.processes import Process, free_port
from authsvc.demo.stack import CONFIG, Stack, stack

HERE = Path(__file__).parent / "oidc"
CONFIG_FOR_REAL = (
    CONFIG.replace("${DEMO_ISSUER}", "${REAL_ISSUER}")
    .replace("${DEMO_AUDIENCE}", "https://api.example.test")
    .replace("    extract_headers:", "    jwks_refresh_cooldown: 1\n    extract_headers:")
    .replace("pro: {limit: 10000/hour", "pro: {limit: unlimited")
)

needs_node = pytest.mark.skipif(
    not shutil.which("node") or not (HERE / "node_modules").is_dir(),
    reason="needs node and `npm ci` in tests/e2e/oidc (make test does it where npm is installed)",
)


class RealIssuer(Process):
    def __init__(self, alg: str) -> None:
        port = free_port()
        super().__init__(["node", HERE / "server.mjs"], port, None, {"PORT": str(port), "ALG": alg})
        self.url = f"http://127.0.0.1:{port}"

    def _ask(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def token(self) -> str:
        """By client credentials, as a machine gets one."""
        secret = base64.b64encode(b"robot:a-secret-for-tests-only-0123456789").decode()
        headers = {"Authorization": f"Basic {secret}", "Content-Type": "application/x-www-form-urlencoded"}
        answer = self._ask("POST", "/token", "grant_type=client_credentials&scope=orders:read", headers)
        token: str = json.loads(answer)["access_token"]
        return token

    def rotate(self) -> None:
        self._ask("POST", "/test/rotate")

    def withdraw(self) -> None:
        self._ask("POST", "/test/withdraw")


@contextmanager
def real_stack(alg: str, workers: int) -> Iterator[tuple[RealIssuer, Stack]]:
    with (
        RealIssuer(alg) as issuer,
        stack(CONFIG_FOR_REAL, workers=workers, environment={"REAL_ISSUER": issuer.url}) as running,
    ):
        yield issuer, running


def status(running: Stack, token: str, path: str = "/api/admin/x") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", running.nginx.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


@needs_node
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "Ed25519"])
def test_a_token_by_client_credentials_passes_and_a_changed_one_does_not(alg: str) -> None:
    with real_stack(alg, workers=1) as (issuer, running):
        token = issuer.token()
        assert status(running, token) == 200
        head, claims, made = token.split(".")
        assert status(running, f"{head}.{claims}.{made[:-8]}AAAAAAAA") == 401
        assert status(running, f"{head}.{claims[:-4]}.{made}") == 401


@needs_node
def test_no_valid_token_is_refused_while_the_keys_rotate_under_load() -> None:
    with real_stack("RS256", workers=2) as (issuer, running):
        refused: list[int] = []
        made = 0
        stop = threading.Event()

        def caller() -> None:
            nonlocal made
            while not stop.is_set():
                answer = status(running, issuer.token())
                made += 1
                if answer != 200:
                    refused.append(answer)

        callers = [threading.Thread(target=caller) for _ in range(4)]
        old = issuer.token()
        for thread in callers:
            thread.start()
        for _ in range(4):
            time.sleep(1.5)  # longer than the cool-down of this test's config
            issuer.rotate()
        time.sleep(1.0)
        issuer.withdraw()
        time.sleep(0.5)
        stop.set()
        for thread in callers:
            thread.join()
        assert refused == []
        assert made > 100
        assert status(running, old) == 200  # its key is listed no more, but was a moment ago
