"""Which names a header may have that an operator chooses."""

from __future__ import annotations

import re

SHAPE = re.compile(r"(?=.{1,64}\Z)[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*")
# Names that mean something to HTTP, to nginx or to authsvc itself (RFC 9110 section 7.6.1).
RESERVED = re.compile(
    r"connection|keep-alive|te|trailer|transfer-encoding|upgrade|content-.*|host|date|server|expect|age|vary|via"
    r"|authorization|cookie|set-cookie|www-authenticate|proxy-.*|retry-after|(x-)?ratelimit.*|location|cache-control"
    r"|expires|x-auth-.*|x-accel-.*|x-original-.*|x-forwarded-.*|forwarded|x-real-ip|x-request-id|x-api-key"
    r"|deprecation|sunset|link|x-user-id|x-user-issuer|x-user-tenant|x-served-path|x-(http-)?method(-override)?"
    r"|x-rewrite-url|range|if-.*|accept.*"
)
OF_KEYS = frozenset({"x-api-key"})  # reserved for keys, so a key may be there
_OF_CLIENTS = frozenset({"origin", "referer", "user-agent"})  # which the API would miss


def for_a_key(name: str) -> bool:
    """Whether an API key may travel in this header, in small letters: nothing else does."""
    return name in OF_KEYS or not (RESERVED.fullmatch(name) or name in _OF_CLIENTS)
