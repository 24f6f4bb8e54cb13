"""Keys and tokens for tests, made afresh in each run. Nothing here is used by the service."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
_SHAPES = {"RS": "RSA", "PS": "RSA", "ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "Ed": "Ed25519"}


@dataclass(frozen=True)
class TestKey:
    """A private key with the name and the algorithm it signs with."""

    __test__ = False
    private: Any
    alg: str
    kid: str | None


@cache
def _private(shape: str, number: int) -> Any:
    if shape == "RSA":
        return rsa.generate_private_key(65537, 2048)
    if shape == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(_CURVES[shape])


def key(alg: str = "RS256", kid: str | None = "k1", number: int = 0) -> TestKey:
    """The key of this number that fits `alg`; the same one each time it is asked for."""
    shape = _SHAPES.get(alg) or _SHAPES[alg[:2]]
    return TestKey(_private(shape, number), alg, kid)


def b64(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def uint(number: int, size: int = 0) -> str:
    """A Base64urlUInt (RFC 7518 section 2)."""
    return b64(number.to_bytes(max(size, (number.bit_length() + 7) // 8), "big"))


def jwk(signer: TestKey, **members: Any) -> dict[str, Any]:
    """The public JWK, with members added or replaced; a member of `...` is left out."""
    listed = {"kid": signer.kid, "alg": signer.alg, "use": "sig", **_numbers(signer.private.public_key()), **members}
    return {name: value for name, value in listed.items() if value is not ...}


def _numbers(public: Any) -> dict[str, str]:
    if isinstance(public, rsa.RSAPublicKey):
        return {"kty": "RSA", "n": uint(public.public_numbers().n), "e": uint(public.public_numbers().e)}
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
    curve = next(name for name, value in _CURVES.items() if value.name == public.curve.name)
    size, point = (public.curve.key_size + 7) // 8, public.public_numbers()
    return {"kty": "EC", "crv": curve, "x": uint(point.x, size), "y": uint(point.y, size)}


def signature(signing_input: bytes, signer: TestKey) -> bytes:
    """The signature of these bytes as JWS wants it (RFC 7518 section 3)."""
    alg, private = signer.alg, signer.private
    if alg.startswith("Ed"):
        return private.sign(signing_input)
    digest = _HASHES[alg[2:]]
    if alg.startswith("RS"):
        return private.sign(signing_input, padding.PKCS1v15(), digest)
    if alg.startswith("PS"):
        return private.sign(signing_input, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    r, s = decode_dss_signature(private.sign(signing_input, ec.ECDSA(digest)))
    size = (private.curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def raw_token(header: bytes, payload: bytes, signer: TestKey) -> str:
    """A compact JWS over exactly these bytes."""
    signing_input = f"{b64(header)}.{b64(payload)}"
    return f"{signing_input}.{b64(signature(signing_input.encode(), signer))}"


def sign(header: Mapping[str, Any], claims: Mapping[str, Any], signer: TestKey) -> str:
    """A compact JWS with the signer's alg and kid in its header, unless `header` says otherwise; `...` leaves out."""
    full = {"alg": signer.alg, "kid": signer.kid, "typ": "JWT", **header}
    named = {name: value for name, value in full.items() if value is not ...}
    return raw_token(dumps(named), dumps({n: v for n, v in claims.items() if v is not ...}), signer)


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()
