"""A small OIDC issuer for the demo and for tests: it rotates and withdraws keys, fails, hangs and signs tokens.

It answers discovery and keys over HTTP on loopback, in the way that `behave` says; tokens are made by calling `token`.
It proves nothing about real issuers, for which the tests start a real one.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from authsvc.demo.behaviours import ANSWERS, ELSEWHERE, Behaviour, Exchange, bomb
from authsvc.demo.loopback import Loopback


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


class Mode(NamedTuple):
    """How it behaves now, and what tells those who wait that this is over."""

    behaviour: Behaviour
    over: threading.Event


class Issuer:
    """An issuer on a loopback port, which behaves well until told otherwise.

    `asked` holds the path of every request that arrived, `fetches` counts those for the key set. `keys` is what the key
    set publishes, newest first, after the raw JWKs in `extra`; `cache_control` is sent along. `drip_s` is the pause
    between two bytes of `Behaviour.DRIP`.
    """

    def __init__(self, port: int = 0, audience: str = "https://api.example.test") -> None:
        self.audience = audience
        self.keys = [SigningKey("key-1")]
        self.extra: list[dict[str, Any]] = []
        self.cache_control: str | None = None
        self.drip_s = 1.0
        self.fetches = 0
        self.asked = self._arrived = list[str]()  # two names: a subclass may keep another list as `asked`
        self._withdrawn: list[SigningKey] = []
        self._chosen: SigningKey | None = None
        self._numbers = itertools.count(2)
        self._counting, self._switching = threading.Lock(), threading.Lock()
        self._mode = Mode(Behaviour.OK, threading.Event())
        self._loopback = Loopback(port, self._answer)
        self.url = f"http://127.0.0.1:{self._loopback.port}"

    # ---- behaviour

    @property
    def behaviour(self) -> Behaviour:
        return self._mode.behaviour

    def behave(self, behaviour: Behaviour) -> None:
        """From now on; who hangs is answered in the new way, and a body that drips or never ends stops."""
        if behaviour is Behaviour.BOMB:
            bomb()  # it takes long to make, and who asked for it waits for a second only
        with self._switching:
            before, self._mode = self._mode, Mode(behaviour, threading.Event())
            if behaviour is Behaviour.DOWN:
                self._loopback.down()
            else:
                self._loopback.up()
            before.over.set()

    @property
    def failing(self) -> bool:
        """Short for `Behaviour.ERROR`."""
        return self.behaviour is Behaviour.ERROR

    @failing.setter
    def failing(self, failing: bool) -> None:
        self.behave(Behaviour.ERROR if failing else Behaviour.OK)

    # ---- keys and tokens

    @property
    def signer(self) -> SigningKey:
        """The newest key that is published, unless `sign_with` chose another."""
        return self._chosen or (self.keys or self._withdrawn)[0]

    def rotate(self, keep_old: bool = True) -> None:
        """A new key signs from now on."""
        if not keep_old:
            self._withdrawn = self.keys + self._withdrawn
        self.keys = [SigningKey(f"key-{next(self._numbers)}"), *(self.keys if keep_old else [])]
        self._chosen = None

    def withdraw(self, kid: str | None = None) -> None:
        """This key, or every one but the newest, vanishes from the key set; `signed_by` still finds it."""
        gone = self.keys[1:] if kid is None else [self._named(kid)]
        self.keys = [key for key in self.keys if key not in gone]
        self._withdrawn = gone + self._withdrawn
        if self._chosen in gone:
            self._chosen = None

    def sign_with(self, kid: str) -> None:
        """This key signs until the next rotation."""
        self._chosen = self._named(kid)

    def token(
        self, sub: str = "user-1", header: dict[str, Any] | None = None, signed_by: str | None = None, **claims: Any
    ) -> str:
        """An access token, good for an hour; `claims` replace or add, a value of `None` removes."""
        key = self.signer if signed_by is None else self._named(signed_by)
        return key.sign(self._claims(sub, claims), header)

    def forged_token(self, sub: str = "user-1", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that names the right key and was signed by another."""
        return self._impostor.sign(self._claims(sub, claims), {"kid": self.signer.kid, **(header or {})})

    @functools.cached_property
    def _impostor(self) -> SigningKey:
        return SigningKey("impostor")

    def _named(self, kid: str) -> SigningKey:
        return {key.kid: key for key in reversed(self.keys + self._withdrawn)}[kid]

    def _claims(self, sub: str, claims: dict[str, Any]) -> dict[str, Any]:
        now = int(time.time())
        base = {"iss": self.url, "aud": self.audience, "sub": sub, "iat": now, "exp": now + 3600}
        return {name: value for name, value in {**base, **claims}.items() if value is not None}

    # ---- answers

    def respond(self, path: str) -> tuple[int, dict[str, Any]]:
        """The good answer; what is made of it depends on the behaviour."""
        place = path.removeprefix(ELSEWHERE)
        if place == "/.well-known/openid-configuration":
            return 200, {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if place == "/keys":
            return 200, {"keys": [*self.extra, *(key.jwk() for key in self.keys)]}
        return 404, {"error": "not found"}

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._counting:
            self._arrived.append(handler.path)
            self.fetches += handler.path == "/keys"
        self._behave_to(handler, *self.respond(handler.path))

    def _behave_to(self, handler: BaseHTTPRequestHandler, status: int, document: dict[str, Any]) -> None:
        behaviour, over = self._mode

        def again() -> None:
            self._behave_to(handler, status, document)

        exchange = Exchange(handler, status, document, self.cache_control, self.drip_s, over, again)
        ANSWERS[Behaviour.OK if handler.path.startswith(ELSEWHERE) else behaviour](exchange)

    def __enter__(self) -> Issuer:
        if self.behaviour is not Behaviour.DOWN:
            self._loopback.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.behave(Behaviour.DOWN)
        self._loopback.close()
