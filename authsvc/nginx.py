"""The nginx room: the include files that put authsvc in front of an API.

Everything is made from one list of identity headers, so that the list nginx copies, the list it clears and
the list authsvc sends cannot drift apart: a header missing from one of them is one a client may forge. This
room only makes text. It starts nothing, reads no file and knows no configuration format.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

from authsvc.nginx_cache import CACHE_HTTP, CACHE_SERVER
from authsvc.nginx_openresty import OPENRESTY
from authsvc.nginx_templates import MADE_BY, TEMPLATES, UNAVAILABLE

DEFAULT_HEADERS = (
    "X-User-Id", "X-User-Email", "X-User-Roles", "X-User-Issuer", "X-User-Tenant", "X-Auth-Method",
    "X-Org-ID", "X-Subscription-Plan",
)  # fmt: skip
KEY_HEADER = "X-API-Key"  # in the question an API key always has this name, whatever clients call it
_TOKEN_HEADER = "Authorization"  # noqa: S105 - a header's name

# What authsvc says beside the identity: the nginx variable, and the response header it is read from. Variables have
# at most 14 characters where that can be had: two such share a bucket of nginx's hash. With the longer names of before,
# nginx 1.22 warned of its `variables_hash` at each start in 35 of 120 sets of identity headers; with these, in none.
_VERDICT = (
    ("authsvc_status", "X-Auth-Status"),
    ("authsvc_reason", "X-Auth-Reason"),
    ("authsvc_error", "X-Auth-Error"),
    ("authsvc_challenge", "WWW-Authenticate"),
    ("authsvc_shadow", "X-Auth-Shadow"),
    ("authsvc_retry", "Retry-After"),
    ("authsvc_ratelimit", "RateLimit"),
    ("authsvc_policy", "RateLimit-Policy"),
    ("authsvc_x_max", "X-RateLimit-Limit"),
    ("authsvc_x_left", "X-RateLimit-Remaining"),
    ("authsvc_x_wait", "X-RateLimit-Reset"),
    ("authsvc_depr", "Deprecation"),
    ("authsvc_sunset", "Sunset"),
    ("authsvc_link", "Link"),
    ("authsvc_warn", "X-Auth-Warning"),
)
# What an nginx that keeps decisions says again, beside the identity: all that goes with a yes that is not counted.
_KEPT = ("X-Auth-Status", "X-Auth-Reason", "Deprecation", "Sunset", "Link", "X-Auth-Warning")
# Headers that already have a meaning to nginx or to these files: an identity may not travel in them.
_TAKEN = frozenset(name.lower() for _, name in _VERDICT) | {
    "authorization", "x-api-key", "x-request-id", "host", "connection", "content-length", "content-type",
    "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "expect", "date", "server",
    "x-http-method-override", "x-http-method", "x-method-override",
    "x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-prefix", "x-served-path",
    "x-auth-receipt", "x-auth-generation", "x-accel-expires",
}  # fmt: skip
# Nor may a key: it would be taken away from the API, or a proxy in front writes it.
_NO_KEY = frozenset(
    {"accept", "cookie", "forwarded", "origin", "range", "referer", "user-agent", "via", "x-forwarded-for",
     "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-original-method"}
)  # fmt: skip
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*")
_UPSTREAM = re.compile(r"unix:/[\w./@+-]+|([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}")


def render(
    identity_headers: Sequence[str],
    *,
    upstream: str = "127.0.0.1:8000",
    forward_token: bool = False,
    key_header: str = KEY_HEADER,
) -> dict[str, str]:
    """File name -> text. Raises ValueError when a name could not be written into nginx safely.

    `key_header` is where clients send an API key. In Authorization it travels as the token does.
    """
    headers = _checked_headers(identity_headers)
    key_header = _checked_key_header(key_header, headers)
    kept = [*_KEPT, *headers]
    blanks = {
        "upstream": _checked_upstream(upstream),
        "key_source": f"http_{_folded(key_header)}",
        "key_header": key_header.lower(),
        "key": '""' if key_header == _TOKEN_HEADER else "$authsvc_key",
        "ask": _lines(_ask(headers)),
        "unavailable": UNAVAILABLE,
        "kept_empty": _lines(f'set $authsvc_k{number} "";' for number in range(len(kept))),
        "kept_pattern": _kept_pattern(len(kept)),
        "kept_fields": ", ".join(f'"{name}"' for name in kept),
        "forget": _lines(_forget(headers)),
        "pass_on": _lines(_pass_on(headers, forward_token, key_header)),
        "strip": _lines(_strip(headers, forward_token, key_header)),
        "made": _digest([*kept, key_header, upstream]),
        "lua_identity": _lines((f'["{name.lower()}"] = "{_variable(name)}",' for name in headers), indent=8),
        "lua_verdict": _lines((f'["{name.lower()}"] = "{var}",' for var, name in _VERDICT), indent=8),
    }
    cached = {"authsvc-cache-http.conf": CACHE_HTTP, "authsvc-cache-server.conf": CACHE_SERVER}
    templates = {**TEMPLATES, "authsvc-openresty.conf": OPENRESTY, **cached}
    return {name: _fill(MADE_BY + template, blanks) for name, template in templates.items()}


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


def _checked_key_header(name: str, identity: Sequence[str]) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f'API key header "{name}" is not a header name; use letters, digits, dashes')
    lower, secrets = name.lower(), {known.lower(): known for known in (_TOKEN_HEADER, KEY_HEADER)}
    if lower in (_TAKEN - secrets.keys()) | _NO_KEY:
        raise ValueError(f'API key header "{name}" has another meaning; choose one like "{KEY_HEADER}"')
    if lower in map(str.lower, identity):
        raise ValueError(f'API key header "{name}" is an identity header too; choose one like "{KEY_HEADER}"')
    return secrets.get(lower, name)  # one spelling each, for nginx would send a header of two spellings twice


def _checked_upstream(upstream: str) -> str:
    if not _UPSTREAM.fullmatch(upstream):
        raise ValueError(f'upstream "{upstream}" is neither "host:port" nor "unix:/path"')
    return upstream


def _digest(parts: Sequence[str]) -> str:
    """What was kept with other files than these is never taken."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _variable(name: str) -> str:
    return f"authsvc_id_{_folded(name)}"


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _ask(headers: Sequence[str]) -> Iterable[str]:
    """From the answer, or from what was kept of an earlier one: never is there both."""
    pairs = [*_VERDICT, *((_variable(name), name) for name in headers)]
    places = {name: f"$authsvc_k{number}" for number, name in enumerate([*_KEPT, *headers])}
    for var, name in pairs:
        yield f"auth_request_set ${var} {places.get(name, '')}$upstream_http_{_folded(name)};"
    yield "auth_request_set $authsvc_code $upstream_status;"
    yield "auth_request_set $authsvc_receipt $authsvc_receipt_now;"


def _kept_pattern(count: int) -> str:
    return "^" + "".join(rf"(?<authsvc_k{number}>[^\n]*)\n" for number in range(count)) + "$"


def _forget(headers: Sequence[str]) -> Iterable[str]:
    """Every variable the Lua code fills, empty: a variable that was never filled must never open a door.

    All but the receipt, which must outlive the redirect that runs these lines again.
    """
    names = [*(var for var, _ in _VERDICT), *map(_variable, headers), "authsvc_code"]
    return (f'set ${name} "";' for name in names)


def _pass_on(headers: Sequence[str], forward_token: bool, key_header: str) -> Iterable[str]:
    yield from (f"proxy_set_header {name} ${_variable(name)};" for name in headers)
    secrets = dict.fromkeys([_TOKEN_HEADER, *_key_headers(key_header)], '""')
    if forward_token:
        yield "# The API gets the secret that authsvc judged, and no second one."
        secrets |= {key_header: "$authsvc_key", _TOKEN_HEADER: "$http_authorization"}
    else:
        yield "# The API gets the identity, not the secret it was read from."
    yield from (f"proxy_set_header {name} {value};" for name, value in secrets.items())


def _strip(headers: Sequence[str], forward_token: bool, key_header: str) -> Iterable[str]:
    yield from (f'proxy_set_header {name} "";' for name in headers)
    if not forward_token:
        yield "# Nor does an API key go where authsvc does not look at it; with --forward-token it does."
        yield from (f'proxy_set_header {name} "";' for name in _key_headers(key_header))


def _key_headers(key_header: str) -> list[str]:
    """Those that hold nothing but an API key: never Authorization."""
    return [KEY_HEADER, *({key_header} - {KEY_HEADER, _TOKEN_HEADER})]


def _lines(lines: Iterable[str], indent: int = 0) -> str:
    return ("\n" + " " * indent).join(lines)


def _fill(template: str, blanks: dict[str, str]) -> str:
    return re.sub(r"<<(\w+)>>", lambda match: blanks[match[1]], template)
