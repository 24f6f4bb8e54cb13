"""The HTTP face of a decision: one table of statuses and texts, and the headers.

The decision endpoint answers nginx with 200, 401 or 403 and nothing else; what the client should see stands in
`X-Auth-Status`. No text here ever comes from a token or from a library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted  # json.dumps of one text, without what dumps does before
from typing import Any, Final

from authsvc.core import quotaheaders
from authsvc.core.claims import ClaimPath, claim_at
from authsvc.core.model import Decision, Identity, Reason, Refused, StepUp
from authsvc.core.quotaheaders import Headers as Headers
from authsvc.core.quotaheaders import RateHeaders as RateHeaders

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3

HEADER_BUDGET: Final = 3072  # bytes of identity headers; nginx reads an answer's whole head into 4096 by default
STATUS_LINES: Final = {200: "200 OK", 401: "401 Unauthorized", 403: "403 Forbidden"}
NO_BODY: Final = [("Content-Length", "0")]
BASE_HEADERS = ("X-User-Id", "X-User-Email", "X-User-Roles", "X-User-Issuer", "X-User-Tenant", "X-Auth-Method")


@dataclass(frozen=True, slots=True)
class Face:
    """How a reason looks from outside: the client's status, a sentence, and the RFC 6750 error code."""

    status: int
    title: str
    error: str = ""


_BAD_TOKEN = "invalid_token"  # noqa: S105 - an error code of RFC 6750 section 3.1
_FACES: Final[Mapping[Reason, Face]] = {
    Reason.ALLOWED: Face(200, "The call is allowed"),
    Reason.PUBLIC: Face(200, "The path is open to everyone"),
    Reason.MISSING_CONTEXT: Face(403, "The proxy did not say which call this is"),
    Reason.UNKNOWN_ENDPOINT: Face(403, "authsvc is asked at /auth"),
    Reason.INVALID_METHOD: Face(403, "The method is not one that can be decided on"),
    Reason.AMBIGUOUS_PATH: Face(403, "The path can be read two ways"),
    Reason.NO_CREDENTIALS: Face(401, "A bearer token is needed"),
    Reason.UNSUPPORTED_CREDENTIALS: Face(401, "The credentials are not a bearer token", "invalid_request"),
    Reason.TOKEN_TOO_LARGE: Face(401, "The token is too large", _BAD_TOKEN),
    Reason.MALFORMED_TOKEN: Face(401, "The token is not a well-formed JWT", _BAD_TOKEN),
    Reason.ENCRYPTED_TOKEN: Face(401, "The token is encrypted, a signed one is needed", _BAD_TOKEN),
    Reason.CRITICAL_HEADER: Face(401, "The token asks for an unsupported extension", _BAD_TOKEN),
    Reason.UNSUPPORTED_ALGORITHM: Face(401, "The signature algorithm is not accepted", _BAD_TOKEN),
    Reason.WRONG_TOKEN_TYPE: Face(401, "The token is not an access token", _BAD_TOKEN),
    Reason.UNKNOWN_ISSUER: Face(401, "The token is from an issuer that is not accepted", _BAD_TOKEN),
    Reason.UNKNOWN_KEY: Face(401, "The issuer does not list the key that signed the token", _BAD_TOKEN),
    Reason.INVALID_SIGNATURE: Face(401, "The signature does not fit", _BAD_TOKEN),
    Reason.EXPIRED: Face(401, "The token has expired", _BAD_TOKEN),
    Reason.NOT_YET_VALID: Face(401, "The token is not valid yet", _BAD_TOKEN),
    Reason.ISSUED_IN_FUTURE: Face(401, "The token was issued in the future", _BAD_TOKEN),
    Reason.WRONG_AUDIENCE: Face(401, "The token is for another audience", _BAD_TOKEN),
    Reason.MISSING_CLAIM: Face(401, "The token lacks a required claim", _BAD_TOKEN),
    Reason.INVALID_CLAIM: Face(401, "A claim of the token is not valid", _BAD_TOKEN),
    Reason.INACTIVE_TOKEN: Face(401, "The token is not active", _BAD_TOKEN),
    Reason.MALFORMED_API_KEY: Face(401, "The API key has the shape of none"),
    Reason.MISTYPED_API_KEY: Face(401, "The API key was mistyped"),
    Reason.SEVERAL_API_KEYS: Face(401, "More than one API key was sent"),
    Reason.UNKNOWN_API_KEY: Face(401, "The API key is not known"),
    Reason.REVOKED_API_KEY: Face(401, "The API key was revoked"),
    Reason.EXPIRED_API_KEY: Face(401, "The API key has expired"),
    Reason.REPLACED_API_KEY: Face(401, "The API key was replaced by another one"),
    Reason.API_KEYS_PAUSED: Face(401, "API keys are refused for some minutes, to show who still uses them"),
    Reason.API_KEYS_ENDED: Face(401, "API keys are no longer accepted"),
    Reason.TWO_CREDENTIALS: Face(401, "An API key and a token were sent, one of them is needed"),
    Reason.DIFFERENT_OWNERS: Face(401, "The API key and the token belong to different owners"),
    Reason.OIDC_NOT_OPEN: Face(401, "Tokens are not open to this caller yet"),
    Reason.STEP_UP_REQUIRED: Face(
        401, "A stronger or fresher authentication is needed", "insufficient_user_authentication"
    ),
    Reason.CLAIMS_CHALLENGE: Face(401, "An authentication context is needed", "insufficient_claims"),
    Reason.BOUND_TOKEN: Face(401, "The token is bound to a key and is no bearer token", _BAD_TOKEN),
    Reason.ROLE_REQUIRED: Face(403, "The caller lacks a role for this path"),
    Reason.INSUFFICIENT_SCOPE: Face(403, "The token lacks a scope for this path", "insufficient_scope"),
    Reason.PROVIDER_NOT_ALLOWED: Face(403, "Tokens of this provider are not accepted on this path"),
    Reason.TENANT_NOT_ALLOWED: Face(403, "The caller's tenant is not accepted"),
    Reason.CLIENT_NOT_ALLOWED: Face(403, "The client that asked for the token is not accepted"),
    Reason.SUBJECT_TYPE_NOT_ALLOWED: Face(403, "Callers of this kind (user or app) are not accepted"),
    Reason.GUEST_NOT_ALLOWED: Face(403, "Guests are not accepted"),
    Reason.IDENTITY_SOURCE_NOT_ALLOWED: Face(403, "The way in which the caller signed in is not accepted"),
    Reason.CLAIM_REQUIRED: Face(403, "The token lacks a claim that this path needs"),
    Reason.GROUPS_OVERAGE: Face(403, "The caller is in too many groups for the token to list them"),
    Reason.AUTH_CONTEXT_REQUIRED: Face(403, "An authentication context is needed that the client cannot ask for"),
    Reason.METHOD_NOT_ALLOWED: Face(403, "The method is not allowed on this path"),
    Reason.NO_RULE: Face(403, "No rule allows this path"),
    Reason.IDENTITY_TOO_LARGE: Face(403, "The identity does not fit into the headers"),
    Reason.RATE_LIMITED: Face(429, "The limit is reached"),
    Reason.KEYS_UNAVAILABLE: Face(503, "The issuer's keys cannot be had right now"),
    Reason.INTROSPECTION_UNAVAILABLE: Face(503, "The token cannot be checked right now"),
    Reason.LIMITS_UNAVAILABLE: Face(503, "The limit cannot be checked right now"),
    Reason.INTERNAL_ERROR: Face(503, "The call cannot be decided right now"),
}


_BEGINNINGS: Final[Mapping[Reason, tuple[int, Headers]]] = {  # the status of a refusal, and what stands before all else
    reason: (
        401 if shown.status == 401 else 403,
        [("X-Auth-Status", str(shown.status)), ("X-Auth-Reason", reason.value), ("X-Accel-Expires", "0")],
    )
    for reason, shown in _FACES.items()
}
_KEPT: Final = 2  # where X-Accel-Expires stands in a beginning: nginx keeps nothing unless it is told to
_REMEMBERED = 1024  # texts that depend on the config and on reasons alone: 0.1 to 0.4 µs where making one takes up to 3


def face(reason: Reason) -> Face:
    """The status for the client, the sentence and the error code of a reason."""
    return _FACES[reason]


def render(decision: Decision, identity_headers: Headers, rate_headers: RateHeaders = "ietf") -> tuple[int, Headers]:
    """Status for nginx and headers."""
    headers = _BEGINNINGS[decision.reason][1].copy()
    if decision.allowed:
        headers += identity_headers
        if decision.keep_s:
            headers[_KEPT] = ("X-Accel-Expires", str(decision.keep_s))
    else:
        headers += _refusal(decision, face(decision.reason))
    return _status(decision), headers + _passing(decision, rate_headers)


def _status(decision: Decision) -> int:
    """Starts as a refusal: 200 is set here, and nowhere else."""
    status = _BEGINNINGS[decision.reason][0]
    if decision.allowed:
        status = 200
    return status


def head(decision: Decision, identity_headers: Headers, rate_headers: RateHeaders = "ietf") -> bytes:
    """The same as HTTP has it (RFC 9112 section 4), but for the empty line at its end. What is said at each yes to a
    remembered caller is put together once."""
    known = decision.prepared
    if known is None or decision.reason is not Reason.ALLOWED or decision.keep_s:
        status, headers = render(decision, identity_headers, rate_headers)
        return _head(status, headers)
    if not known.head:
        known.head = _head(_status(decision), _BEGINNINGS[Reason.ALLOWED][1] + identity_headers)
    passing = _passing_lines(decision, rate_headers)
    return known.head + passing.encode("ascii") if passing else known.head


def _head(status: int, headers: Headers) -> bytes:
    return f"HTTP/1.1 {STATUS_LINES[status]}\r\n{lines(NO_BODY + headers)}".encode("ascii")


def lines(headers: Headers) -> str:
    """As they stand in HTTP. Raises `ValueError` where one would be more than a line (RFC 9110 section 5.5)."""
    said = [f"{name}: {value}" for name, value in headers]
    if not (whole := "".join(said)).isascii() or not whole.isprintable():
        raise ValueError("a header of the answer is not printable ASCII")
    return "\r\n".join([*said, ""])


def _passing_lines(decision: Decision, rate_headers: RateHeaders) -> str:
    """The same as text. That of one window is put together here: 0.3 µs where the way below takes 1."""
    if decision.shadow or decision.notices or len(decision.quotas) > 1 or rate_headers != "ietf":
        return lines(_passing(decision, rate_headers))
    receipt = decision.receipt
    for quota in decision.quotas:
        if receipt:
            return f"X-Auth-Receipt: {receipt}\r\n{quota.policy.lines}{quota.told()}\r\n"
        return f"{quota.policy.lines}{quota.told()}\r\n"
    return f"X-Auth-Receipt: {receipt}\r\n" if receipt else ""


def _passing(decision: Decision, rate_headers: RateHeaders) -> Headers:
    """What differs from call to call."""
    headers: Headers = []
    if decision.receipt and decision.allowed:
        headers.append(("X-Auth-Receipt", decision.receipt))
    if decision.shadow:
        headers.append(("X-Auth-Shadow", decision.shadow))
    if decision.quotas and decision.identity is not None:  # else one could watch what others use
        headers += quotaheaders.headers(decision.quotas, rate_headers)
    headers += decision.notices
    return headers


def _refusal(decision: Decision, shown: Face) -> Headers:
    headers: Headers = [("X-Auth-Error", problem(decision.reason, decision.link))]
    if shown.status == 401 or shown.error:
        headers.append(("WWW-Authenticate", challenge(shown, decision.wanted, decision.step_up)))
    if decision.retry_after_s is not None:
        headers.append(("Retry-After", str(decision.retry_after_s)))
    return headers


@lru_cache(_REMEMBERED)
def challenge(shown: Face, wanted: tuple[str, ...] = (), step_up: StepUp | None = None) -> str:
    """RFC 6750 section 3: no error code where no credentials were sent; fixed texts, never a library's."""
    if step_up is not None and step_up.claims:
        return _claims_challenge(shown, step_up)
    parts = ['Bearer realm="api"']
    if shown.error:
        parts += [f'error="{shown.error}"', f'error_description="{shown.title}"']
    scopes = " ".join(filter(_SCOPE.fullmatch, wanted)) if shown.error == "insufficient_scope" else ""
    parts += [f'scope="{scopes}"'] if scopes else []
    return ", ".join(parts + _step_up(step_up))


def _step_up(step_up: StepUp | None) -> list[str]:
    """RFC 9470 section 3."""
    if step_up is None:
        return []
    values = " ".join(filter(_SCOPE.fullmatch, step_up.acr_values))
    parts = [f'acr_values="{values}"'] if values else []
    return parts + ([f'max_age="{step_up.max_age_s}"'] if step_up.max_age_s is not None else [])


def _claims_challenge(shown: Face, step_up: StepUp) -> str:
    """In the order and with the empty realm that Microsoft's client libraries were written for."""
    return (
        f'Bearer realm="", authorization_uri="{step_up.authorization_uri}", client_id="{step_up.client_id}", '
        f'error="{shown.error}", claims="{step_up.claims}"'
    )


@lru_cache(_REMEMBERED)
def problem(reason: Reason, link: str = "") -> str:
    """A problem document (RFC 9457) for a header, which nginx makes the body. `link` is where to read on."""
    shown = face(reason)
    found = {"status": shown.status, "title": shown.title, "reason": reason.value}
    return json.dumps({**found, "link": link} if link else found)


def identity_headers(identity: Identity | None, extract: Mapping[str, ClaimPath]) -> Headers:
    """Every header that may name a caller, empty where there is nothing to say.

    All of them are always sent, so that nginx overwrites whatever a client put there. Raises
    `Refused(IDENTITY_TOO_LARGE)`: a list that was cut could lose the one role that matters.
    """
    if identity is None:
        return [(name, "") for name in dict.fromkeys((*BASE_HEADERS, *extract))]
    headers = {
        "X-User-Id": _percent(identity.user_id),
        "X-User-Email": _percent(identity.email),
        "X-User-Roles": _listed(identity.roles),
        "X-User-Issuer": _percent(identity.provider),
        "X-User-Tenant": _tenants(identity.tenants),
        "X-Auth-Method": identity.method,
    }
    for name, path in extract.items():
        headers.setdefault(name, encode(claim_at(identity.claims, path)))  # no claim passes for one of the others
    size = 0
    for name, value in headers.items():  # a loop, for mypyc: what is mapped is called from outside
        size += len(name) + len(value) + len(": \r\n")
    if size > HEADER_BUDGET:
        raise Refused(Reason.IDENTITY_TOO_LARGE, f"the identity headers exceed {HEADER_BUDGET} bytes")
    return list(headers.items())


def _tenants(tenants: tuple[str, ...]) -> str:
    """The name of one, a list of several; one that begins like a list is put into a list."""
    only = "".join(tenants)
    return _percent(only) if len(tenants) < 2 and not only.startswith("[") else _listed(tenants)


def _listed(texts: tuple[str, ...]) -> str:
    """As `json.dumps` writes a list of texts, in a fifth of its time."""
    return f"[{', '.join(map(quoted, texts))}]"


def encode(value: Any) -> str:
    """A claim's value as a header value: printable ASCII, and no two texts and no two lists look the same.

    Text is percent-encoded UTF-8 where it is not printable ASCII (RFC 3986 section 2.1), a percent sign and outer
    spaces too; lists and objects are JSON in ASCII; booleans and numbers are as in JSON.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return _percent(value)
    return json.dumps(value)


def _percent(text: str) -> str:
    if text.isascii() and text.isprintable() and "%" not in text and text.strip(" ") == text:
        return text
    inner = text.strip(" ")
    start = len(text) - len(text.lstrip(" "))
    lead, tail = "%20" * start, "%20" * (len(text) - start - len(inner)) if inner else ""
    return lead + "".join(map(_percent_char, inner)) + tail


def _percent_char(char: str) -> str:
    if " " <= char <= "~" and char != "%":
        return char
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
