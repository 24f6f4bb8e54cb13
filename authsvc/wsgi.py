"""nginx's question as WSGI brings it, and what a server and the app say to each other beside WSGI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from authsvc.core.model import Request

MAY_WAIT = "authsvc.may_wait"  # a server with one thread for all sets it to False in the environ, and
MUST_WAIT = "authsvc.must_wait"  # where this is then True, it asks again from another thread, without the former
AT_ONCE = "at_once"  # an attribute of the app: asked with a request's head that came alone, as it was sent, it gives
# the head of the answer, up to its empty line, or None where it must be asked as WSGI has it
WsgiApp = Callable[..., Iterable[bytes]]


def to_request(environ: dict[str, Any]) -> Request:
    """The call that nginx describes. Only the headers that nginx was told to set count, never X-Forwarded-*."""
    get = environ.get
    return Request(
        method=get("HTTP_X_ORIGINAL_METHOD"),
        target=single_target(get("HTTP_X_ORIGINAL_URI")),
        served=get("HTTP_X_SERVED_PATH"),
        authorization=get("HTTP_AUTHORIZATION"),
        client_ip=single(get("HTTP_X_REAL_IP")),
        id=get("HTTP_X_REQUEST_ID", ""),
        may_wait=get(MAY_WAIT, True),
        receipt=get("HTTP_X_AUTH_RECEIPT", ""),
        api_key=get("HTTP_X_API_KEY"),
    )


def single(value: str | None) -> str | None:
    """A header sent twice arrives joined by a comma: then nobody knows which one is true."""
    return None if value is None or "," in value else value


def single_target(value: str | None) -> str | None:
    """A comma may stand in a path, but a comma before a slash is how two targets look when they are joined."""
    if value is None or "," not in value:
        return value
    return None if ",/" in value.partition("?")[0].replace(", ", ",") else value
