"""Signatures: builds a verifying key from one JWK and checks a signature with it. Nothing else.

The only importer of python-jose, so that it can be replaced here. It is used for two calls only, `jwk.construct`
and `Key.verify`; its parsers and claim checks are never used. PS256/384/512 and EdDSA, which it lacks, are
registered as key classes over `cryptography`; so is RS256/384/512, for which it asks the key twice at each signature
whether it is public, and makes padding and hash anew.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from jose import backends, jwk
from jose.backends.base import Key

# RFC 7518 section 3.1 and RFC 8037/9864, asymmetric algorithms only: what a published key can verify.
KEY_TYPES: Mapping[str, tuple[str, str]] = {
    "RS256": ("RSA", ""),
    "RS384": ("RSA", ""),
    "RS512": ("RSA", ""),
    "PS256": ("RSA", ""),
    "PS384": ("RSA", ""),
    "PS512": ("RSA", ""),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
ALGORITHMS = frozenset(KEY_TYPES)

_HASHES: Mapping[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


class Verifier(Protocol):
    """A key bound to one algorithm."""

    def verify(self, msg: bytes, sig: bytes) -> bool: ...


def build(key: Mapping[str, Any], alg: str) -> Verifier:
    """A verifier for this JWK with this algorithm. Raises any exception where the key is no good."""
    built: Verifier = jwk.construct(dict(key), alg)
    return built


def matches(verifier: Verifier, signing_input: bytes, signature: bytes) -> bool:
    """Whether the signature fits. Whatever the library does with strange bytes, the answer is then no."""
    try:
        return verifier.verify(signing_input, signature) is True
    except Exception:  # noqa: BLE001 - an odd signature is a wrong one, whatever is raised
        return False


def uint(text: str) -> int:
    """A Base64urlUInt (RFC 7518 section 2)."""
    return int.from_bytes(octets(text), "big")


def octets(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class _RsaKey(Key):  # type: ignore[misc]  # jose ships no types
    """RSASSA-PKCS1-v1_5 (RFC 7518 section 3.3), and RSASSA-PSS (section 3.5): salt as long as the hash, MGF1 over the
    same hash."""

    def __init__(self, key: Mapping[str, Any], algorithm: str) -> None:
        self._hash = made = _HASHES[algorithm[2:]]
        pss = algorithm.startswith("PS")
        self._scheme = padding.PSS(padding.MGF1(made), made.digest_size) if pss else padding.PKCS1v15()
        self._key = RSAPublicNumbers(uint(key["e"]), uint(key["n"])).public_key()

    def verify(self, msg: bytes, sig: bytes) -> bool:
        try:
            self._key.verify(sig, msg, self._scheme, self._hash)
        except InvalidSignature:
            return False
        return True


class _Ed25519Key(Key):  # type: ignore[misc]  # jose ships no types
    """EdDSA with Ed25519 (RFC 8037 section 3.1)."""

    def __init__(self, key: Mapping[str, Any], algorithm: str) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(octets(key["x"]))

    def verify(self, msg: bytes, sig: bytes) -> bool:
        try:
            self._key.verify(sig, msg)
        except InvalidSignature:
            return False
        return True


def _register() -> None:
    for alg in (name for name, (kind, _) in KEY_TYPES.items() if kind == "RSA"):
        jwk.register_key(alg, _RsaKey)
    jwk.register_key("EdDSA", _Ed25519Key)
    jwk.register_key("Ed25519", _Ed25519Key)
    _require_backend(backends.ECKey, "CryptographyECKey")


def _require_backend(backend: type, name: str) -> None:
    """Without the cryptography extra jose falls back to slow pure-Python code of its own choosing."""
    if backend.__name__ != name:
        raise ImportError("python-jose runs without its cryptography backend: install python-jose[cryptography]")


_register()
