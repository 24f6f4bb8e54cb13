"""Bearer tokens: a strict compact-JWS parser and the claim checks.

The order of checks is the cost of an attack: everything in `parse` and `check_header` needs no key, no
signature and no download, so that garbage cannot make the service work.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from authsvc.core import signature, strict
from authsvc.core.claims import claim_at
from authsvc.core.jwks import MAX_KID
from authsvc.core.model import Reason, Refused
from authsvc.core.provider import Provider

MAX_TOKEN: Final = 8192  # nginx itself takes header lines up to 8 KiB (large_client_header_buffers)
MAX_OPAQUE: Final = 4096
_ACCESS_TYPES: Final = frozenset({"at+jwt"})
_FOREIGN_CLAIM_TYPES: Final = frozenset({"refresh", "offline", "logout"})  # Keycloak's payload `typ`, beside "id"
_ACCESS_USES: Final = frozenset({"access", "access_token", "bearer", "urn:ietf:params:oauth:token-type:access_token"})
_FOREIGN_TYPES: Final = frozenset({"refresh_token", "id_token"})  # Glewlwyd's payload `type`
_OPAQUE: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1


@dataclass(slots=True, init=False)  # not frozen: freezing takes four times as long
class Token:
    """A token taken apart. Nothing in it is proved: neither header nor claims."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    alg: str
    kid: str | None
    issuer: str

    def __init__(  # written out, for mypyc compiles nothing that a dataclass makes
        self,
        header: Mapping[str, Any],
        claims: Mapping[str, Any],
        signing_input: bytes,
        signature: bytes,
        alg: str,
        kid: str | None,
        issuer: str,
    ) -> None:
        self.header, self.claims, self.signing_input, self.signature = header, claims, signing_input, signature
        self.alg, self.kid, self.issuer = alg, kid, issuer


def bearer(authorization: str | None) -> str | None:
    """The token of an Authorization header, or `None` where none was sent (RFC 6750 section 2.1)."""
    if authorization is None or not authorization.strip(" \t"):
        return None
    scheme, _, token = authorization.strip(" \t").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(Reason.UNSUPPORTED_CREDENTIALS, "the Authorization header does not say Bearer")
    return token.strip(" ")


def is_opaque(text: str) -> bool:
    """Whether this may be a token that only its provider can read: a bearer token, and not of a JWT's parts."""
    return len(text) <= MAX_OPAQUE and text.count(".") not in (2, 4) and _OPAQUE.fullmatch(text) is not None


def digest(text: str) -> bytes:
    """What a token is remembered by: of its whole text, so that none passes for another."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def parse(text: str) -> Token:
    """Take a compact JWS apart (RFC 7515 section 7.1). Raises `Refused`."""
    if len(text) > MAX_TOKEN:
        raise Refused(Reason.TOKEN_TOO_LARGE, f"the token has {len(text)} bytes; {MAX_TOKEN} are accepted")
    segments = text.split(".")
    if len(segments) == 5:  # RFC 7516 section 9
        raise Refused(Reason.ENCRYPTED_TOKEN, "the token is encrypted (five parts): ask the issuer for a signed one")
    if len(segments) != 3:
        raise Refused(Reason.MALFORMED_TOKEN, "the token is no JWT: it does not have three parts")
    try:
        header, claims = _header(segments[0]), strict.json_object(strict.base64url(segments[1]))
        made = strict.base64url(segments[2])
    except ValueError as problem:
        raise Refused(Reason.MALFORMED_TOKEN, f"the token is no JWT: {_plain(problem)}") from None
    return _token(header, claims, f"{segments[0]}.{segments[1]}".encode(), made)


@lru_cache(64)
def _header(segment: str) -> Mapping[str, Any]:
    """The header of a token. All tokens of one key have the same one, mostly: 0.1 µs where reading it takes 3."""
    return strict.json_object(strict.base64url(segment))


def _plain(problem: ValueError) -> str:
    """Library texts may quote what was sent; only our own, fixed ones are passed on."""
    return str(problem) if type(problem) is ValueError else "its JSON cannot be read"


def _token(header: Mapping[str, Any], claims: Mapping[str, Any], signing_input: bytes, made: bytes) -> Token:
    if "crit" in header or "b64" in header:  # RFC 7515 section 4.1.11: we understand no extension
        raise Refused(Reason.CRITICAL_HEADER, "the token's header asks for an extension (crit)")
    alg, kid, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if not isinstance(alg, str) or alg not in signature.ALGORITHMS:
        raise Refused(Reason.UNSUPPORTED_ALGORITHM, "the token's alg is none that authsvc verifies")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise Refused(Reason.MALFORMED_TOKEN, "the token's kid is not a short string")
    if not isinstance(issuer, str) or not issuer:
        raise Refused(Reason.UNKNOWN_ISSUER, "the token has no iss")
    return Token(header, claims, signing_input, made, alg, kid, issuer)


def check_header(token: Token, provider: Provider) -> None:
    """What the header says against what this provider may send. Raises `Refused`."""
    if token.alg not in provider.algorithms:
        accepted = ", ".join(sorted(provider.algorithms))
        raise Refused(Reason.UNSUPPORTED_ALGORITHM, f"alg {token.alg} is not among this provider's: {accepted}")
    if _type_of(token) not in provider.token_types:  # RFC 8725 section 3.11
        raise Refused(Reason.WRONG_TOKEN_TYPE, "the header's typ is not that of an access token")
    for demand in provider.header_demands:
        demand.check(token.header)


def _type_of(token: Token) -> str | None:
    """The header's typ in small letters; "" where there is none, `None` where it is no text."""
    typ = token.header.get("typ", "")
    return (
        typ.lower().removeprefix("application/")
        if isinstance(typ, str) and (typ or "typ" not in token.header)
        else None
    )


def signed_by_any(token: Token, candidates: Iterable[signature.Verifier]) -> bool:
    """Whether one of these keys made the token's signature."""
    return any(signature.matches(key, token.signing_input, token.signature) for key in candidates)


def check_claims(token: Token, provider: Provider, now: float) -> tuple[float, float]:
    """Kind, times and audience of a token whose signature was good; from when and until when the times are right.

    Raises `Refused`.
    """
    _check_kind(token, provider)
    good = check_times(token.claims, provider.skew_s, now)
    check_audience(token.claims, provider)
    _check_unbound(token.claims)
    return good


def _check_unbound(claims: Mapping[str, Any]) -> None:
    if "cnf" in claims:  # RFC 7800: bound to a key whose proof we cannot see
        raise Refused(Reason.BOUND_TOKEN, "the token is bound to a key (cnf) and must not pass as a bearer token")


def check_introspected(claims: Mapping[str, Any], provider: Provider, now: float) -> None:
    """Times and audience of claims that the provider itself has told (RFC 7662 section 4). Raises `Refused`.

    It need not name an exp: it was asked just now. The audience it must name, or the token may be for another API.
    """
    _check_unbound(claims)
    _check_introspected_kind(claims)
    check_times({"exp": now + 1, **claims}, provider.skew_s, now)
    check_audience(claims, provider)


def _check_introspected_kind(claims: Mapping[str, Any]) -> None:
    """Refresh tokens are active too (RFC 7662 section 2.1): Hydra says so in token_use, Glewlwyd in token_type."""
    uses = [claims[name] for name in ("token_use", "token_type") if claims.get(name) is not None]
    foreign = _lower(claims.get("typ")) in _FOREIGN_CLAIM_TYPES | {"id"} or "at_hash" in claims or "events" in claims
    foreign = foreign or _lower(claims.get("type")) in _FOREIGN_TYPES
    if foreign or not all(_lower(use) in _ACCESS_USES for use in uses):
        raise Refused(Reason.WRONG_TOKEN_TYPE, "the provider does not call it an access token")


def _check_kind(token: Token, provider: Provider) -> None:
    """ID, refresh and logout tokens of the right issuer are still not access tokens (RFC 8725 section 3.12)."""
    claims, kind, use = token.claims, _lower(token.claims.get("typ")), token.claims.get("token_use", "access")
    says_access = _type_of(token) in _ACCESS_TYPES or claims.get("typ") == "Bearer" or "scp" in claims
    hashes = "at_hash" in claims or "c_hash" in claims
    id_token = kind == "id" or use == "id" or hashes or ("nonce" in claims and not says_access)
    foreign = kind in _FOREIGN_CLAIM_TYPES or use not in ("access", "id") or "events" in claims
    foreign = foreign or _lower(claims.get("type")) in _FOREIGN_TYPES
    if foreign or (id_token and not provider.id_tokens):
        raise Refused(Reason.WRONG_TOKEN_TYPE, "this is an ID, refresh or logout token, not an access token")


def _lower(value: Any) -> str:
    return value.lower() if isinstance(value, str) else ""


def check_times(claims: Mapping[str, Any], skew_s: float, now: float) -> tuple[float, float]:
    """RFC 7519 sections 4.1.4 to 4.1.6: now, and from when and until when it is so."""
    expires, starts, issued = _instant(claims, "exp"), _instant(claims, "nbf"), _instant(claims, "iat")
    if expires is None:
        raise Refused(Reason.MISSING_CLAIM, "the token has no exp")
    if now >= expires + skew_s:
        raise Refused(Reason.EXPIRED, f"the token expired {now - expires:.0f} s ago")
    if starts is not None and now < starts - skew_s:
        raise Refused(Reason.NOT_YET_VALID, f"the token is valid in {starts - now:.0f} s (nbf)")
    if issued is not None and now < issued - skew_s:
        raise Refused(Reason.ISSUED_IN_FUTURE, f"the token was issued {issued - now:.0f} s from now (iat)")
    return max(starts or 0.0, issued or 0.0) - skew_s, expires + skew_s


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2): a number, never a string, a boolean or null."""
    if name not in claims:
        return None
    value = claims[name]
    if type(value) not in (int, float) or not 0 <= value < 2**53:
        raise Refused(Reason.INVALID_CLAIM, f"the token's {name} is not a time")
    return float(value)


def check_audience(claims: Mapping[str, Any], provider: Provider) -> None:
    """RFC 7519 section 4.1.3: one of ours must be among them, exactly. Cognito's stands in client_id."""
    for path in provider.audience_claims:
        audience = claim_at(claims, path)
        if audience is not None:
            break
    else:
        raise _wrong_audience(f"the token has no {' or '.join(map('.'.join, provider.audience_claims))}", provider)
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise _wrong_audience(f"the token's {'.'.join(path)} is neither a string nor a list of strings", provider)
    if provider.audiences.isdisjoint(named):
        wanted = " or ".join(sorted(provider.audiences))
        raise _wrong_audience(f"the token is for {', '.join(named) or 'nobody'}; wanted is {wanted}", provider)


def _wrong_audience(text: str, provider: Provider) -> Refused:
    return Refused(Reason.WRONG_AUDIENCE, text, next_step=provider.audience_step)
