"""Issuers that others wrote, run by the tests: what they share, and the one from npm."""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from authsvc.demo.processes import Process, free_port

OIDC = Path(__file__).parent / "oidc"
FORM = "application/x-www-form-urlencoded"
API = "https://api.example.test"
OTHER = "https://other.example.test"  # another audience, which authsvc is not
SECRET = "a-secret-for-tests-only-0123456789"  # noqa: S105 of every client
PASSWORD = "a-password-for-tests-only"  # noqa: S105 of every user
SHORT_S = 3  # what a short token lives; server.mjs and acme-realm.json have it too
ROBOTS = {"admin": "robot", None: "guest"}  # the client by the role it has

needs_node = pytest.mark.skipif(
    not shutil.which("node") or not (OIDC / "node_modules").is_dir(),
    reason="needs node and `npm ci` in tests/e2e/oidc (make test does it where npm is installed)",
)


class RealIssuer(Process):
    """An issuer with the machine `robot`, an admin of API, the machine `guest`, which has no role, and the user `max`.

    It has an audience OTHER as well, and a client that is called as API is: an ID token for that one has the right
    audience and is no access token all the same.
    """

    url: str
    roles_claim: str  # as authsvc.yaml has it
    token_url: str

    @property
    def entry(self) -> list[str]:
        """The lines of its entry in authsvc.yaml, beside name and audience."""
        return [f"issuer: {self.url}", f"roles_claim: {self.roles_claim}", "require_typ: at+jwt"]

    def ask(self, method: str, url: str, body: str = "", headers: dict[str, str] | None = None) -> str:
        """The body of its answer. Raises ValueError where it refuses: a test must not go on without its rotation."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, url, body, headers or {})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status >= 400:
            raise ValueError(f"{method} {url} answers {response.status} {text}")
        return text

    def post(self, url: str, client: str, **form: str) -> dict[str, Any]:
        """What it answers to a form of this client."""
        answer: dict[str, Any] = json.loads(self.post_plain(url, client, **form))
        return answer

    def post_plain(self, url: str, client: str, **form: str) -> str:
        body = urlencode({**form, "client_id": client, "client_secret": SECRET})
        return self.ask("POST", url, body, {"Content-Type": FORM})

    def machine_token(self, client: str, **form: str) -> str:
        """By client credentials."""
        token: str = self.post(self.token_url, client, grant_type="client_credentials", **form)["access_token"]
        return token

    def token(self, audience: str = API, role: str | None = "admin") -> str:
        """An access token of a machine. `audience` is API or OTHER, `role` is admin or none."""
        raise NotImplementedError

    def short_token(self) -> str:
        """As `token`, for SHORT_S seconds."""
        raise NotImplementedError

    def id_token(self, client: str = "robot") -> str:
        """That `client`, which is robot or API, gets about max."""
        raise NotImplementedError

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

    def __init__(self, alg: str = "RS256") -> None:
        port = free_port()
        super().__init__(["node", OIDC / "server.mjs"], port, None, {"PORT": str(port), "ALG": alg})
        self.url = f"http://127.0.0.1:{port}"

    def token(self, audience: str = API, role: str | None = "admin") -> str:
        return self.machine_token(ROBOTS[role], scope="orders:read", resource=audience)

    def short_token(self) -> str:
        return self.machine_token("hasty", scope="orders:read", resource=API)

    def id_token(self, client: str = "robot") -> str:
        """By CIBA, where nobody needs a browser: max agrees at once."""
        asked = self.post("/backchannel", client, scope="openid", login_hint="max")["auth_req_id"]
        grant = "urn:openid:params:grant-type:ciba"
        token: str = self.post(self.token_url, client, grant_type=grant, auth_req_id=asked)["id_token"]
        return token

    def rotate(self) -> None:
        self.ask("POST", "/test/rotate")

    def withdraw(self) -> None:
        self.ask("POST", "/test/withdraw")


class InFolder(RealIssuer):
    """One that writes files, into a folder of its own, which goes away with it."""

    folder: Path

    def __init__(
        self, command: Sequence[str | Path], folder: Path, port: int, environment: dict[str, str] | None = None
    ) -> None:
        super().__init__(command, port, folder / "log", environment)
        self.folder = folder

    @staticmethod
    def new_folder(name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"authsvc-{name}-"))

    def stop(self) -> None:
        super().stop()
        if self.folder.exists():
            self._last_words = super().last_words()
            shutil.rmtree(self.folder, ignore_errors=True)

    def last_words(self) -> str:
        return super().last_words() if self.folder.exists() else self._last_words
