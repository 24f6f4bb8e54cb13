"""The WSGI app: translation only. The only importer of falcon.

`/auth` decides, for any method: door.py. `/healthz`, `/readyz` and `/metrics` are for operators; the nginx includes
expose none of them. Everything else, and everything that goes wrong, is refused with 403.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import falcon

from authsvc.core.model import Reason
from authsvc.core.response import Headers
from authsvc.door import Answers as OfDoor
from authsvc.door import Door
from authsvc.wsgi import AT_ONCE, WsgiApp

Sink = Callable[..., None]


class KeyState(Protocol):
    """How it stands with one provider's keys; `problem` is empty where there are some."""

    @property
    def problem(self) -> str: ...
    def told(self) -> dict[str, Any]: ...


class Answers(OfDoor, Protocol):
    """What the app needs from the service."""

    def ready(self) -> Mapping[str, KeyState]: ...
    def health(self) -> dict[str, str]: ...
    @property
    def journal(self) -> Any: ...


def build_app(service: Answers) -> WsgiApp:
    """The WSGI app: `/auth` by `Door`, the rest by falcon. A plain function, for some ask an app for its signature, and
    what is compiled has none."""
    door = Door(service, _falcon_app(service))

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return door(environ, start_response)

    setattr(app, AT_ONCE, door.at_once)
    return app


def _falcon_app(service: Answers) -> WsgiApp:
    """All endpoints are sinks, not routes: falcon answers OPTIONS on a route with 200 by itself, and here a 200 that
    nobody decided on is an open door.
    """
    app = falcon.App()
    app.add_sink(_refusing(service, Reason.UNKNOWN_ENDPOINT), prefix=_exactly(".*"))
    app.add_sink(_healthz, prefix=_exactly("/healthz"))
    app.add_sink(_readyz(service), prefix=_exactly("/readyz"))
    app.add_sink(_metrics(service), prefix=_exactly("/metrics"))  # the last one added is looked at first
    for kind in (Exception, falcon.HTTPError, falcon.HTTPStatus):
        app.add_error_handler(kind, _on_error(service))
    return app


def _exactly(path: str) -> re.Pattern[str]:
    return re.compile(f"(?s:{path})\\Z")


def _write(resp: falcon.Response, answer: tuple[int, Headers]) -> None:
    """Never a body: one byte of it would cost nginx its kept-alive connection."""
    status, headers = answer
    resp.status = status
    resp.set_headers(headers)
    resp.content_length = 0


def _refusing(service: Answers, reason: Reason) -> Sink:
    def sink(req: falcon.Request, resp: falcon.Response, **_: object) -> None:
        _write(resp, service.refuse(reason))

    return sink


def _healthz(req: falcon.Request, resp: falcon.Response, **_: object) -> None:
    resp.text = "alive\n"
    resp.content_type = "text/plain"


def _readyz(service: Answers) -> Sink:
    def sink(req: falcon.Request, resp: falcon.Response, **_: object) -> None:
        """503 while a provider has no keys, and which one."""
        found = service.ready()
        ready = not any(state.problem for state in found.values())
        resp.status = 200 if ready else 503
        providers = {name: state.told() for name, state in found.items()}
        resp.text = json.dumps({"ready": ready, **service.health(), "providers": providers}) + "\n"

    return sink


def _metrics(service: Answers) -> Sink:
    def sink(req: falcon.Request, resp: falcon.Response, **_: object) -> None:
        resp.data = service.journal.exposition()
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"

    return sink


def _on_error(service: Answers) -> Callable[..., None]:
    def handler(req: falcon.Request, resp: falcon.Response, problem: Exception, params: object) -> None:
        resp.data = resp.text = None
        _write(resp, service.refuse(Reason.INTERNAL_ERROR))

    return handler
