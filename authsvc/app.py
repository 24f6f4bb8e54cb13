"""The HTTP door: translation only. The only importer of falcon.

`/auth` decides, for any method. `/healthz`, `/readyz` and `/metrics` are for operators; the nginx includes expose
none of them. Everything else, and everything that goes wrong, is refused with 403.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import falcon

from authsvc.core.model import Reason, Request
from authsvc.core.response import Headers

WsgiApp = Callable[..., Iterable[bytes]]


class Answers(Protocol):
    """What the door needs from the service."""

    def answer(self, request: Request) -> tuple[int, Headers]: ...
    def refuse(self, reason: Reason) -> tuple[int, Headers]: ...
    def ready(self) -> dict[str, str]: ...
    @property
    def journal(self) -> Any: ...


def build_app(service: Answers) -> WsgiApp:
    """The WSGI app."""
    app = falcon.App(media_type="application/json")
    app.router_options.default_to_on_request = True
    app.req_options.strip_url_path_trailing_slash = False
    app.add_route("/auth", _Auth(service))
    app.add_route("/healthz", _Healthz())
    app.add_route("/readyz", _Readyz(service))
    app.add_route("/metrics", _Metrics(service))
    app.add_sink(_refusing(service, Reason.UNKNOWN_ENDPOINT), prefix=".*")
    for kind in (Exception, falcon.HTTPError, falcon.HTTPStatus):
        app.add_error_handler(kind, _on_error(service))
    return app


def to_request(environ: dict[str, Any]) -> Request:
    """The call that nginx describes. Only the headers that nginx was told to set count, never X-Forwarded-*."""
    return Request(
        method=environ.get("HTTP_X_ORIGINAL_METHOD"),
        target=_single_target(environ.get("HTTP_X_ORIGINAL_URI")),
        authorization=environ.get("HTTP_AUTHORIZATION"),
        client_ip=_single(environ.get("HTTP_X_REAL_IP")),
        id=environ.get("HTTP_X_REQUEST_ID", ""),
    )


def _single(value: str | None) -> str | None:
    """A header sent twice arrives joined by a comma: then nobody knows which one is true."""
    return None if value is None or "," in value else value


def _single_target(value: str | None) -> str | None:
    """A comma may stand in a path, but a comma before a slash is how two targets look when they are joined."""
    return None if value is None or ",/" in value.partition("?")[0].replace(", ", ",") else value


def _write(resp: falcon.Response, answer: tuple[int, Headers]) -> None:
    """Never a body: one byte of it would cost nginx its kept-alive connection."""
    status, headers = answer
    resp.status = status
    resp.set_headers(headers)
    resp.content_length = 0


class _Auth:
    def __init__(self, service: Answers) -> None:
        self._service = service

    def on_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        _write(resp, self._service.answer(to_request(req.env)))


class _Healthz:
    def on_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "alive\n"
        resp.content_type = "text/plain"


class _Readyz:
    def __init__(self, service: Answers) -> None:
        self._service = service

    def on_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """503 while a provider has no keys, and which one."""
        found = self._service.ready()
        resp.status = 503 if any(found.values()) else 200
        providers = {name: problem or "has keys" for name, problem in found.items()}
        resp.text = json.dumps({"ready": resp.status_code == 200, "config": "valid", "providers": providers}) + "\n"


class _Metrics:
    def __init__(self, service: Answers) -> None:
        self._service = service

    def on_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = self._service.journal.exposition()
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"


def _refusing(service: Answers, reason: Reason) -> Callable[..., None]:
    def sink(req: falcon.Request, resp: falcon.Response, **_: object) -> None:
        _write(resp, service.refuse(reason))

    return sink


def _on_error(service: Answers) -> Callable[..., None]:
    def handler(req: falcon.Request, resp: falcon.Response, problem: Exception, params: object) -> None:
        resp.data = resp.text = None
        _write(resp, service.refuse(Reason.INTERNAL_ERROR))

    return handler
