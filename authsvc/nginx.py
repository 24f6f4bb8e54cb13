"""The nginx room: the include files that put authsvc in front of an API.

Everything is made from one list of identity headers, so that the list nginx copies, the list it clears and
the list authsvc sends cannot drift apart: a header missing from one of them is one a client may forge. This
room only makes text. It starts nothing, reads no file and knows no configuration format.
"""

import re
from collections.abc import Iterable, Sequence

from authsvc.nginx_templates import MADE_BY, TEMPLATES, UNAVAILABLE

DEFAULT_HEADERS = (
    "X-User-Id", "X-User-Email", "X-User-Roles", "X-User-Issuer", "X-User-Tenant", "X-Org-ID", "X-Subscription-Plan",
)  # fmt: skip

# What authsvc says beside the identity: the nginx variable, and the response header it is read from.
_VERDICT = (
    ("authsvc_status", "X-Auth-Status"),
    ("authsvc_reason", "X-Auth-Reason"),
    ("authsvc_error", "X-Auth-Error"),
    ("authsvc_challenge", "WWW-Authenticate"),
    ("authsvc_shadow", "X-Auth-Shadow"),
    ("authsvc_retry_after", "Retry-After"),
    ("authsvc_ratelimit", "RateLimit"),
    ("authsvc_ratelimit_policy", "RateLimit-Policy"),
    ("authsvc_x_ratelimit_limit", "X-RateLimit-Limit"),
    ("authsvc_x_ratelimit_remaining", "X-RateLimit-Remaining"),
    ("authsvc_x_ratelimit_reset", "X-RateLimit-Reset"),
)
# Headers that already have a meaning to nginx or to these files: an identity may not travel in them.
_TAKEN = frozenset(name.lower() for _, name in _VERDICT) | {
    "authorization", "x-api-key", "x-request-id", "host", "connection", "content-length", "content-type",
    "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "expect", "date", "server",
    "x-http-method-override", "x-http-method", "x-method-override",
    "x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-prefix", "x-served-path",
    "x-auth-receipt",
}  # fmt: skip
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*")
_UPSTREAM = re.compile(r"unix:/[\w./@+-]+|([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}")


def render(
    identity_headers: Sequence[str], *, upstream: str = "127.0.0.1:8000", forward_token: bool = False
) -> dict[str, str]:
    """File name -> text. Raises ValueError when a name could not be written into nginx safely."""
    headers = _checked_headers(identity_headers)
    blanks = {
        "upstream": _checked_upstream(upstream),
        "ask": _lines(_ask(headers)),
        "unavailable": UNAVAILABLE,
        "forget": _lines(_forget(headers)),
        "pass_on": _lines(_pass_on(headers, forward_token)),
        "strip": _lines(f'proxy_set_header {name} "";' for name in headers),
        "lua_identity": _lines((f'["{name.lower()}"] = "{_variable(name)}",' for name in headers), indent=8),
        "lua_verdict": _lines((f'["{name.lower()}"] = "{var}",' for var, name in _VERDICT), indent=8),
    }
    return {name: _fill(MADE_BY + template, blanks) for name, template in TEMPLATES.items()}


def _checked_headers(names: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    for name in names:
        # Underscores are refused too: nginx drops such headers by default, and WSGI folds them into dashes.
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f'identity header "{name}" is not a header name; use letters, digits, dashes')
        if name.lower() in _TAKEN:
            raise ValueError(f'identity header "{name}" has another meaning; choose one like "X-User-Team"')
        if name.lower() in seen:
            raise ValueError(f'identity header "{name}" is listed twice; header names ignore case')
        seen.add(name.lower())
    return list(names)


def _checked_upstream(upstream: str) -> str:
    if not _UPSTREAM.fullmatch(upstream):
        raise ValueError(f'upstream "{upstream}" is neither "host:port" nor "unix:/path"')
    return upstream


def _variable(name: str) -> str:
    return f"authsvc_id_{_folded(name)}"


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _ask(headers: Sequence[str]) -> Iterable[str]:
    pairs = [*_VERDICT, *((_variable(name), name) for name in headers)]
    yield from (f"auth_request_set ${var} $upstream_http_{_folded(name)};" for var, name in pairs)
    yield "auth_request_set $authsvc_upstream_status $upstream_status;"
    yield "auth_request_set $authsvc_receipt $authsvc_receipt_now;"


def _forget(headers: Sequence[str]) -> Iterable[str]:
    """Every variable the Lua code fills, empty: a variable that was never filled must never open a door.

    All but the receipt, which must outlive the redirect that runs these lines again.
    """
    names = [*(var for var, _ in _VERDICT), *map(_variable, headers), "authsvc_upstream_status"]
    return (f'set ${name} "";' for name in names)


def _pass_on(headers: Sequence[str], forward_token: bool) -> Iterable[str]:
    yield from (f"proxy_set_header {name} ${_variable(name)};" for name in headers)
    if not forward_token:
        yield "# The API gets the identity, not the secret it was read from."
        yield from ('proxy_set_header Authorization "";', 'proxy_set_header X-API-Key "";')


def _lines(lines: Iterable[str], indent: int = 0) -> str:
    return ("\n" + " " * indent).join(lines)


def _fill(template: str, blanks: dict[str, str]) -> str:
    return re.sub(r"<<(\w+)>>", lambda match: blanks[match[1]], template)
