"""Bearer tokens: a strict compact-JWS parser and the claim checks.

The order of checks is the cost of an attack: everything in `parse` and `check_header` needs no key, no
signature and no download, so that garbage cannot make the service work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from authsvc.core import signature, strict
from authsvc.core.jwks import MAX_KID
from authsvc.core.model import Identity, Reason, Refused

MAX_TOKEN = 8192  # nginx itself takes header lines up to 8 KiB (large_client_header_buffers)
MAX_USER_ID = 512
_ACCESS_TYPES = frozenset({"at+jwt"})
_ACCEPTED_TYPES = _ACCESS_TYPES | {"jwt"}  # RFC 9068 section 2.1; most providers still say JWT
_FOREIGN_CLAIM_TYPES = frozenset({"id", "refresh", "offline", "logout"})  # Keycloak's payload `typ`
_SCOPE_CLAIMS = frozenset({"scope", "scp"})

ClaimPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Provider:
    """One issuer and what its tokens must be like. `skew_s` is how far two clocks may differ, in seconds."""

    name: str
    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    jwks_uri: str | None = None
    ca_file: str | None = None
    allow_insecure_http: bool = False
    skew_s: float = 60
    user_claim: ClaimPath = ("sub",)
    email_claim: ClaimPath = ("email",)
    roles_claim: ClaimPath = ("roles",)
    qualify_user_id: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart. Nothing in it is proved: neither header nor claims."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    alg: str
    kid: str | None
    issuer: str


def bearer(authorization: str | None) -> str | None:
    """The token of an Authorization header, or `None` where none was sent (RFC 6750 section 2.1)."""
    if authorization is None or not authorization.strip(" \t"):
        return None
    scheme, _, token = authorization.strip(" \t").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(Reason.UNSUPPORTED_CREDENTIALS, "the Authorization header does not say Bearer")
    return token.strip(" ")


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
        header, claims = (strict.json_object(strict.base64url(part)) for part in segments[:2])
        made = strict.base64url(segments[2])
    except ValueError as problem:
        raise Refused(Reason.MALFORMED_TOKEN, f"the token is no JWT: {_plain(problem)}") from None
    return _token(header, claims, f"{segments[0]}.{segments[1]}".encode(), made)


def _plain(problem: ValueError) -> str:
    """Library texts may quote what was sent; only our own, fixed ones are passed on."""
    return str(problem) if type(problem) is ValueError else "its JSON cannot be read"


def _token(header: dict[str, Any], claims: dict[str, Any], signing_input: bytes, made: bytes) -> Token:
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
    if "typ" in token.header and _type_of(token) not in _ACCEPTED_TYPES:  # RFC 8725 section 3.11
        raise Refused(Reason.WRONG_TOKEN_TYPE, "the header's typ is not that of an access token")


def _type_of(token: Token) -> str:
    typ = token.header.get("typ")
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""


def signed_by_any(token: Token, candidates: Iterable[signature.Verifier]) -> bool:
    """Whether one of these keys made the token's signature."""
    return any(signature.matches(key, token.signing_input, token.signature) for key in candidates)


def check_claims(token: Token, provider: Provider, now: float) -> None:
    """Kind, times and audience of a token whose signature was good. Raises `Refused`."""
    _check_kind(token)
    _check_times(token.claims, provider.skew_s, now)
    _check_audience(token.claims, provider)
    if "cnf" in token.claims:  # RFC 7800: bound to a key whose proof we cannot see
        raise Refused(Reason.BOUND_TOKEN, "the token is bound to a key (cnf) and must not pass as a bearer token")


def _check_kind(token: Token) -> None:
    """ID, refresh and logout tokens of the right issuer are still not access tokens (RFC 8725 section 3.12)."""
    claims, kind = token.claims, token.claims.get("typ")
    says_access = _type_of(token) in _ACCESS_TYPES or kind == "Bearer"
    foreign = isinstance(kind, str) and kind.lower() in _FOREIGN_CLAIM_TYPES
    id_token = "at_hash" in claims or "c_hash" in claims or ("nonce" in claims and not says_access)
    if foreign or id_token or claims.get("token_use", "access") != "access" or "events" in claims:
        raise Refused(Reason.WRONG_TOKEN_TYPE, "this is an ID, refresh or logout token, not an access token")


def _check_times(claims: Mapping[str, Any], skew_s: float, now: float) -> None:
    """RFC 7519 sections 4.1.4 to 4.1.6."""
    expires, starts, issued = (_instant(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None:
        raise Refused(Reason.MISSING_CLAIM, "the token has no exp")
    if now >= expires + skew_s:
        raise Refused(Reason.EXPIRED, f"the token expired {now - expires:.0f} s ago")
    if starts is not None and now < starts - skew_s:
        raise Refused(Reason.NOT_YET_VALID, f"the token is valid in {starts - now:.0f} s (nbf)")
    if issued is not None and now < issued - skew_s:
        raise Refused(Reason.ISSUED_IN_FUTURE, f"the token was issued {issued - now:.0f} s from now (iat)")


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2): a number, never a string, a boolean or null."""
    if name not in claims:
        return None
    value = claims[name]
    if type(value) not in (int, float) or not 0 <= value < 2**53:
        raise Refused(Reason.INVALID_CLAIM, f"the token's {name} is not a time")
    return float(value)


def _check_audience(claims: Mapping[str, Any], provider: Provider) -> None:
    """RFC 7519 section 4.1.3: one of ours must be among them, exactly."""
    audience = claims.get("aud")
    if audience is None:
        raise Refused(Reason.WRONG_AUDIENCE, "the token has no aud")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise Refused(Reason.WRONG_AUDIENCE, "the token's aud is neither a string nor a list of strings")
    if provider.audiences.isdisjoint(named):
        wanted = " or ".join(sorted(provider.audiences))
        raise Refused(Reason.WRONG_AUDIENCE, f"the token is for {', '.join(named) or 'nobody'}; wanted is {wanted}")


def claim_at(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """The value at a path of member names, or `None`. A name is never split at its dots."""
    value: Any = claims
    for name in path:
        value = value.get(name) if isinstance(value, dict | Mapping) else None
    return value


def identity(token: Token, provider: Provider) -> Identity:
    """Who a verified token speaks for. Raises `Refused`."""
    subject = token.claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise Refused(Reason.MISSING_CLAIM, "the token has no sub")
    user = claim_at(token.claims, provider.user_claim)
    if not isinstance(user, str) or not user:
        raise Refused(Reason.MISSING_CLAIM, f"the token has no {'.'.join(provider.user_claim)} to name the user")
    if max(len(user), len(subject)) > MAX_USER_ID:
        raise Refused(Reason.INVALID_CLAIM, f"the user's name is longer than {MAX_USER_ID} characters")
    email = claim_at(token.claims, provider.email_claim)
    return Identity(
        provider=provider.name,
        user_id=f"{provider.name}:{user}" if provider.qualify_user_id else user,
        email=email if isinstance(email, str) else "",
        roles=_roles(claim_at(token.claims, provider.roles_claim), provider.roles_claim[-1]),
        claims=token.claims,
        scoped=provider.roles_claim[-1] in _SCOPE_CLAIMS,
    )


def _roles(value: Any, claim: str) -> tuple[str, ...]:
    """A list of roles, or one role; a string of scopes is split at its spaces (RFC 6749 section 3.3)."""
    if isinstance(value, str):
        return tuple(filter(None, value.split(" "))) if claim in _SCOPE_CLAIMS else (value,) if value else ()
    if isinstance(value, list):
        return tuple(role for role in value if isinstance(role, str) and role)
    return ()
