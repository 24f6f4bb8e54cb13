"""Debian's glewlwyd for the tests: its database is a file in a folder of its own, and its admin sets up the rest.

Its roles are OAuth scopes. Its keys are made here, for it takes them with the settings of its OIDC plugin; an EC and an
Ed25519 key are listed beside the RSA key that signs.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import backends

from authsvc.demo.processes import free_port
from keys import b64
from real_issuers import API, OTHER, PASSWORD, ROBOTS, SECRET, SHORT_S, InFolder

TABLES = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
MODULES = "/usr/lib/glewlwyd"
PLUGIN = "/api/mod/plugin"
SCOPES = {"admin": "admin", None: "read"}  # by the role that authsvc sees
LIVES_S = 300

Jwk = dict[str, Any]

needs_glewlwyd = pytest.mark.skipif(
    not shutil.which("glewlwyd") or not TABLES.exists(),
    reason="needs glewlwyd (.ci/run installs it; apt-get install --no-install-recommends glewlwyd)",
)

# It wants certificates named even where it does not use them.
CONFIG = """\
port={port}
bind_address="127.0.0.1"
external_url="http://127.0.0.1:{port}/"
login_url="login.html"
api_prefix="api"
log_mode="console"
log_level="WARNING"
cookie_secure=0
session_key="GLEWLWYD2_SESSION_ID"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="{modules}/user"
client_module_path="{modules}/client"
user_auth_scheme_module_path="{modules}/scheme"
plugin_module_path="{modules}/plugin"
use_secure_connection=false
secure_connection_key_file="cert.key"
secure_connection_pem_file="cert.pem"
hash_algorithm="SHA512"
database={{ type="sqlite3"; path="{folder}/database"; }};
"""


class Glewlwyd(InFolder):
    roles_claim = "scope"
    token_url = "/api/oidc/token"

    def __init__(self) -> None:
        port, folder = free_port(), self.new_folder("glewlwyd")
        super().__init__(["glewlwyd", f"--config-file={folder}/config"], folder, port)
        self.url = f"http://127.0.0.1:{port}/api/oidc"
        self._keys = _new_keys()

    def start(self) -> None:
        (self.folder / "config").write_text(CONFIG.format(port=self.port, folder=self.folder, modules=MODULES))
        database = sqlite3.connect(self.folder / "database")
        database.executescript(TABLES.read_text("utf-8"))
        database.close()
        super().start()
        try:
            self._set_up()
        except BaseException:
            self.stop()  # nobody else will: the `with` block is not entered
            raise

    def token(self, audience: str = API, role: str | None = "admin") -> str:
        return self.machine_token(ROBOTS[role], scope=SCOPES[role], resource=audience)

    def short_token(self) -> str:
        """How long a token lives is a matter of the whole plugin."""
        self._change_plugin(SHORT_S)
        try:
            return self.token()
        finally:
            self._change_plugin()

    def id_token(self, client: str = "robot") -> str:
        form = {"grant_type": "password", "username": "max", "password": PASSWORD, "scope": "openid"}
        token: str = self.post(self.token_url, client, **form)["id_token"]
        return token

    def rotate(self) -> None:
        self._keys = [*_new_keys(), *self._keys]
        self._change_plugin()

    def withdraw(self) -> None:
        self._keys = self._keys[:3]
        self._change_plugin()

    def _set_up(self) -> None:
        with self._admin() as admin:
            admin.tell("POST", PLUGIN, _plugin(self.url, self._keys, LIVES_S))
            for scope in SCOPES.values():
                admin.tell("POST", "/api/scope", {"name": scope, "description": scope, "password_required": False})
            for client in CLIENTS:
                admin.tell("POST", "/api/client", client)
            admin.tell("POST", "/api/user", MAX)

    def _change_plugin(self, lives_s: int = LIVES_S) -> None:
        with self._admin() as admin:
            admin.tell("PUT", f"{PLUGIN}/oidc", _plugin(self.url, self._keys, lives_s))
            admin.tell("PUT", f"{PLUGIN}/oidc/reset", {})

    def _admin(self) -> Admin:
        admin = Admin(f"http://127.0.0.1:{self.port}")
        admin.tell("POST", "/api/auth/", {"username": "admin", "password": "password"})  # as TABLES has it
        return admin


class Admin(requests.Session):
    """Glewlwyd's admin, who is known by a cookie."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.trust_env = False  # no proxy for loopback
        self._url = url

    def tell(self, method: str, path: str, what: dict[str, Any]) -> None:
        answer = self.request(method, self._url + path, json=what, timeout=10)
        if not answer.ok:
            raise ValueError(f"{method} {path} answers {answer.status_code} {answer.text}")


def _new_keys() -> list[Jwk]:
    """The one that signs is the first."""
    edwards = ed25519.Ed25519PrivateKey.generate()
    x, d = b64(edwards.public_key().public_bytes_raw()), b64(edwards.private_bytes_raw())
    made = [
        _jwk(rsa.generate_private_key(65537, 2048), "RS256"),
        _jwk(ec.generate_private_key(ec.SECP256R1()), "ES256"),
        {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x, "d": d},
    ]
    return [{**one, "kid": str(uuid4())} for one in made]


def _jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, alg: str) -> Jwk:
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    # jwk.construct makes a key of ours for RS256
    kind = backends.RSAKey if isinstance(key, rsa.RSAPrivateKey) else backends.ECKey
    made: Jwk = kind(text, alg).to_dict()
    return made


def _client(name: str, *scopes: str) -> dict[str, Any]:
    return {
        "client_id": name,
        "client_name": name,
        "client_secret": SECRET,
        "confidential": True,
        "enabled": True,
        "authorization_type": ["client_credentials", "password"],
        "scope": scopes,
        "token_endpoint_auth_method": ["client_secret_post"],
        "redirect_uri": [],
    }


CLIENTS = [_client("robot", "admin"), _client("guest", "read"), _client(API)]
MAX = {"username": "max", "password": PASSWORD, "email": "max@example.test", "enabled": True, "scope": ["openid"]}


def _plugin(issuer: str, keys: list[Jwk], lives_s: int) -> dict[str, Any]:
    parameters = {
        **SETTINGS,
        "iss": issuer,
        "jwks-private": json.dumps({"keys": keys}),
        "default-kid": keys[0]["kid"],
        "access-token-duration": lives_s,
    }
    return {"module": "oidc", "name": "oidc", "display_name": "oidc", "parameters": parameters}


SETTINGS = {
    "jwks-show": True,
    "allow-non-oidc": True,
    "subject-type": "public",
    "allowed-scope": ["openid", *SCOPES.values()],
    "jwt-type": "rsa",
    "jwt-key-size": "256",
    "refresh-token-duration": 600,
    "code-duration": 600,
    "refresh-token-rolling": True,
    "auth-type-code-enabled": False,
    "auth-type-token-enabled": False,
    "auth-type-id-token-enabled": True,
    "auth-type-none-enabled": False,
    "auth-type-password-enabled": True,
    "auth-type-client-enabled": True,
    "auth-type-device-enabled": False,
    "auth-type-refresh-enabled": False,
    "scope": [],
    "additional-parameters": [],
    "claims": [],
    "request-parameter-allow": False,
    "introspection-revocation-allowed": False,
    "resource-allowed": True,
    "resource-scope": {scope: [API, OTHER] for scope in SCOPES.values()},
    "resource-scope-and-client-property": False,
    "oauth-rar-allowed": False,
    "oauth-par-allowed": False,
}
