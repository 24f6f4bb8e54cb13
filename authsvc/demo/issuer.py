"""A small OIDC issuer for the demo and for tests: discovery, a key set that can rotate, and signed tokens.

It answers discovery and keys over HTTP on loopback; tokens are made by calling `token`. It proves nothing about real
issuers, for which the tests start a real one.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa


def b64(data: bytes) -> str:
    """Unpadded base64url (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class SigningKey:
    """An RSA key that signs RS256 and shows its public half as a JWK."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwk(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        n, e = (value.to_bytes((value.bit_length() + 7) // 8, "big") for value in (numbers.n, numbers.e))
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": b64(n), "e": b64(e)}

    def sign(self, claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
        head = {"alg": "RS256", "typ": "at+jwt", "kid": self.kid, **(header or {})}
        signing_input = ".".join(b64(json.dumps(part).encode()) for part in (head, claims))
        made = self._key.sign(signing_input.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signing_input}.{b64(made)}"


class Issuer:
    """An issuer on a loopback port. `fetches` counts downloads of its key set; `failing` makes it answer 500."""

    def __init__(self, port: int = 0, audience: str = "https://api.example.test") -> None:
        self.audience = audience
        self.keys = [SigningKey("key-1")]
        self.fetches = 0
        self.failing = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, document = issuer.respond(self.path)
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Silent: the demo's output belongs to the calls."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def respond(self, path: str) -> tuple[int, dict[str, Any]]:
        if self.failing:
            return 500, {"error": "out of order"}
        if path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            self.fetches += 1
            return 200, {"keys": [key.jwk() for key in self.keys]}
        return 404, {"error": "not found"}

    def rotate(self, keep_old: bool = True) -> None:
        """A new key signs from now on."""
        fresh = SigningKey(f"key-{int(self.keys[0].kid.rpartition('-')[2]) + 1}")
        self.keys = [fresh, *(self.keys if keep_old else [])]

    def token(self, sub: str = "user-1", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """An access token, good for an hour; `claims` replace or add, a value of `None` removes."""
        now = int(time.time())
        base = {"iss": self.url, "aud": self.audience, "sub": sub, "iat": now, "exp": now + 3600}
        merged = {name: value for name, value in {**base, **claims}.items() if value is not None}
        return self.keys[0].sign(merged, header)

    def __enter__(self) -> Issuer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
