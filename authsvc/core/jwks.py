"""Key sets: which published keys are admitted, and what each may verify. How long they live is in keylife.py.

A key is admitted alone: one bad key never takes the others with it (RFC 7517 section 5). Each admitted key is
pinned to the algorithms it may verify, and its verifiers are built here, once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from authsvc.core import signature

MAX_KEYS = 100
MAX_KID: Final = 256
MAX_MEMBER = 2000  # an RSA modulus of 8192 bits has 1366 characters; padding must not fill what a fleet shares
MAX_CANDIDATES: Final = 4  # keys that share a kid; each one tried costs a signature check
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class AdmittedKey:
    """One usable public key.

    `first_at` and `listed_at` are when the provider first and last listed it (seconds since the epoch), `source` the
    address where it did.
    """

    kid: str | None
    kty: str
    digest: str
    verifiers: Mapping[str, signature.Verifier] = field(repr=False)
    jwk: Mapping[str, Any] = field(repr=False)
    listed_at: float
    first_at: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A published key that is not used, and why. An `unsafe` one should not have been published at all."""

    kid: str | None
    problem: str
    unsafe: bool = False


@dataclass(frozen=True, slots=True)
class KeySet:
    """A provider's keys at one moment.

    `fetched_at` is when the provider was last asked and answered well. Keys that were last listed before `floor`
    were flushed and do not come back.
    """

    keys: tuple[AdmittedKey, ...]
    fetched_at: float
    dropped: tuple[Dropped, ...] = ()
    floor: float = 0.0

    def candidates(self, kid: str | None, alg: str, issuers: frozenset[str] | None = None) -> list[signature.Verifier]:
        """What may have made a signature with this kid and alg.

        Without a kid only where the provider lists exactly one key that fits: guessing among several would hide a
        misconfigured issuer. Where `issuers` are given, a key that names another issuer does not fit (Entra's shared
        key sets).
        """
        fitting = [key for key in self.keys if alg in key.verifiers and kid in (None, key.kid)]
        if issuers is not None:
            named = (None, *issuers)
            fitting = [key for key in fitting if key.jwk.get("issuer") in named]
        if kid is None and sum(key.listed_at >= self.fetched_at for key in fitting) != 1:
            return []
        return [key.verifiers[alg] for key in fitting][:MAX_CANDIDATES]


class _Unsafe(ValueError):
    """A key that nobody should publish."""


def admit(document: Mapping[str, Any], algorithms: Iterable[str], now: float, source: str = "") -> KeySet:
    """The admitted keys of a JWKS document from `source`. Raises `ValueError` where it holds no usable key."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("the document has no list of keys")
    if len(listed) > MAX_KEYS:
        raise ValueError(f"the document lists {len(listed)} keys, more than {MAX_KEYS}")
    allowed = frozenset(algorithms)
    keys: dict[str, AdmittedKey] = {}
    dropped = []
    for entry in listed:
        try:
            key = _admit_one(entry, allowed, now, source)
            keys[key.digest] = key
        except Exception as problem:  # noqa: BLE001 - whatever is wrong with one key, the others stay
            dropped.append(Dropped(_kid_of(entry), _reason(problem), isinstance(problem, _Unsafe)))
    if not keys:
        raise ValueError("the document lists no usable key")
    return KeySet(tuple(keys.values()), now, tuple(dropped))


def _admit_one(entry: Any, allowed: frozenset[str], now: float, source: str) -> AdmittedKey:
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    if entry.get("kty") == "oct":
        raise _Unsafe("a symmetric key does not belong in a published set")
    if not _PRIVATE_MEMBERS.isdisjoint(entry):
        raise _Unsafe("the provider publishes a private key")
    _check_purpose(entry)
    public = _public_members(entry)
    verifiers = {alg: signature.build(public, alg) for alg in sorted(_algorithms_of(public) & allowed)}
    if not verifiers:
        raise ValueError("no accepted algorithm fits this key")
    digest = hashlib.sha256(json.dumps(public, sort_keys=True).encode()).hexdigest()
    return AdmittedKey(public.get("kid"), public["kty"], digest, verifiers, public, now, now, source)


def _check_purpose(entry: Mapping[str, Any]) -> None:
    """RFC 7517 sections 4.2 and 4.3."""
    if entry.get("use", "sig") != "sig":
        raise ValueError("not a signing key")
    operations = entry.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise ValueError("its key_ops do not include verify")


def _public_members(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The members that count, each a string, and the key's numbers within bounds."""
    needed = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}.get(str(entry.get("kty")))
    if needed is None:
        raise ValueError("an unknown key type")
    public = {name: entry[name] for name in ("kty", *needed)}
    public.update({name: entry[name] for name in ("kid", "alg", "issuer") if entry.get(name) is not None})
    if not all(isinstance(value, str) for value in public.values()):
        raise ValueError("a member is not a string")
    if max(map(len, public.values())) > MAX_MEMBER:
        raise ValueError("a member is too long")
    if len(public.get("kid", "")) > MAX_KID:
        raise ValueError("its kid is longer than 256 characters")
    if public["kty"] == "RSA":
        _check_rsa(signature.uint(public["n"]), signature.uint(public["e"]))
    return public


def _check_rsa(modulus: int, exponent: int) -> None:
    """RFC 7518 section 3.3 asks for 2048 bits; the upper bounds keep one verification cheap."""
    if not 2048 <= modulus.bit_length() <= 8192:
        raise ValueError(f"an RSA modulus of {modulus.bit_length()} bits; 2048 to 8192 are accepted")
    if not (65537 <= exponent < 2**32 and exponent % 2 == 1):
        raise ValueError("an RSA exponent outside 65537 to 2^32")
    if modulus % 2 == 0 or _roca(modulus):
        raise ValueError("a weak RSA modulus")


# CVE-2017-15361: moduli made by a broken generator are powers of 65537 modulo each of these small primes.
_ROCA_PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_ROCA_RESIDUES = {prime: frozenset(pow(65537, power, prime) for power in range(prime)) for prime in _ROCA_PRIMES}


def _roca(modulus: int) -> bool:
    return all(modulus % prime in residues for prime, residues in _ROCA_RESIDUES.items())


def _algorithms_of(public: Mapping[str, Any]) -> frozenset[str]:
    """The algorithms this key may verify: its own `alg` if it names one, else all that fit type and curve."""
    shape = (public["kty"], public.get("crv", ""))
    fitting = frozenset(alg for alg, needs in signature.KEY_TYPES.items() if needs == shape)
    named = public.get("alg")
    if named is None:
        return fitting
    same = {"EdDSA", "Ed25519"} if named in ("EdDSA", "Ed25519") else {named}  # RFC 9864: two names, one algorithm
    return fitting & same


def _kid_of(entry: Any) -> str | None:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return kid[:64] if isinstance(kid, str) else None


def _reason(problem: Exception) -> str:
    return str(problem) if type(problem) in (ValueError, _Unsafe) else "it cannot be read as a key"
