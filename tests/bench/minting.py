"""Keys and tokens for the benchmark. Signed afresh in each run by all cores, written to files, and gone with them.

An RSA signature takes a third of a millisecond, so 100,000 tokens take about half a minute.
"""

import itertools
import os
import sys
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from authsvc.core import apikeys  # noqa: E402 - keys is beside this folder
from authsvc.demo.issuer import Issuer  # noqa: E402
from keys import TestKey, jwk, key, sign  # noqa: E402

ALGORITHMS = ("RS256", "ES256", "EdDSA")
CALLERS = 1000
LIVES_S = 2 * 3600  # longer than a run
CHUNK = 500
REQUEST = "GET /api/orders HTTP/1.1\r\nHost: bench\r\nAuthorization: %s\r\n\r\n\0"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A file of requests, each with another one and each ended by a zero byte, as tokens.lua reads it."""

    file: Path
    count: int
    first: str  # what its first request has in Authorization


class Mint:
    """An issuer on loopback that publishes a key of each algorithm, and what is signed with them."""

    def __init__(self, issuer: Issuer, folder: Path) -> None:
        self.issuer, self._folder = issuer, folder
        self.keys = {alg: key(alg, kid_of(alg)) for alg in ALGORITHMS}
        issuer.extra = [jwk(one) for one in self.keys.values()]
        self._made, self._serials = dict[str, Tokens](), itertools.count()
        known = {alg: _know(one) for alg, one in self.keys.items()}
        self._pool = ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _learn, (known,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def tokens(self, name: str, count: int = CALLERS, alg: str = "RS256", **claims: Any) -> Tokens:
        """Tokens of `CALLERS` callers in turn, each another; those of a name are made once."""
        if name not in self._made:
            bodies = [self._claims(serial, claims) for serial in itertools.islice(self._serials, count)]
            self._made[name] = self._write(name, self._signed(alg, bodies))
        return self._made[name]

    def of_many_issuers(self, issuers: list[str], **claims: Any) -> Tokens:
        bodies = [{**self._claims(number, claims), "iss": issuers[number % len(issuers)]} for number in range(CALLERS)]
        return self._write("issuers", self._signed("RS256", bodies))

    def api_keys(self) -> tuple[Tokens, list[bytes]]:
        """API keys, and the digests by which authsvc knows them."""
        minted = [apikeys.mint(os.urandom(32)) for _ in range(CALLERS)]
        return self._write("keys", [f"ApiKey {text}" for text, _ in minted]), [digest for _, digest in minted]

    def public_pem(self) -> str:
        """The RSA key, for who takes no JWKS."""
        public = self.keys["RS256"].private.public_key()
        return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())

    def jwks(self) -> str:
        with urllib.request.urlopen(f"{self.issuer.url}/keys", timeout=5) as answer:
            return str(answer.read().decode())

    def _claims(self, serial: int, more: dict[str, Any]) -> dict[str, Any]:
        now, caller = int(time.time()), serial % CALLERS
        return {
            "jti": os.urandom(8).hex(), "iss": self.issuer.url, "aud": self.issuer.audience, "sub": f"user-{caller}",
            "iat": now, "exp": now + LIVES_S,
            "email": f"user-{caller}@example.com", "email_verified": True,
            "roles": ["user"], "organization_id": "org-7", "plan": "enterprise", **more,
        }  # fmt: skip

    def _signed(self, alg: str, bodies: list[dict[str, Any]]) -> list[str]:
        chunks = [bodies[start : start + CHUNK] for start in range(0, len(bodies), CHUNK)]
        return list(itertools.chain.from_iterable(self._pool.map(partial(_headers, alg), chunks)))

    def _write(self, name: str, lines: list[str]) -> Tokens:
        file = self._folder / f"{name}.requests"
        file.write_text("".join(REQUEST % line for line in lines), newline="")
        return Tokens(file, len(lines), lines[0])


def _know(signer: TestKey) -> bytes:
    """A private key as another process can have it."""
    return bytes(signer.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


_KEYS: dict[str, TestKey] = {}


def _learn(known: dict[str, bytes]) -> None:
    """In each process of the pool, once."""
    for alg, pem in known.items():
        _KEYS[alg] = TestKey(load_pem_private_key(pem, None), alg, kid_of(alg))


def _headers(alg: str, bodies: list[dict[str, Any]]) -> list[str]:
    return [f"Bearer {sign({'typ': 'at+jwt'}, body, _KEYS[alg])}" for body in bodies]


def kid_of(alg: str) -> str:
    return f"bench-{alg}"
