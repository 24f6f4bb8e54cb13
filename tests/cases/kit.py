"""A service on a demo issuer, for the tests at the door: what it is asked, what it answers, what it wrote."""

from __future__ import annotations

from typing import Any

from falcon import testing

from authsvc.adapters import config
from authsvc.adapters.config import Settings
from authsvc.adapters.store import MemoryStore, Store
from authsvc.app import build_app
from authsvc.service import Service


class Lines(list[str]):
    """Audit lines."""

    def write(self, line: str) -> None:
        self.append(line)


class Door:
    """The WSGI app of a config, asked as nginx asks."""

    def __init__(self, settings: Settings, store: Store | None = None, lines: Any = None) -> None:
        self.lines = Lines()
        self.service = Service(settings, store=store or MemoryStore(), lines=lines or self.lines)
        self.app = build_app(self.service)
        self._client = testing.TestClient(self.app)

    def ask(self, method: str, target: str, token: str | None = None, **headers: str) -> Any:
        sent = {"X-Original-Method": method, "X-Original-URI": target, "X-Real-IP": "203.0.113.7"}
        sent |= {"X-Request-ID": "r-1"} | ({"Authorization": f"Bearer {token}"} if token is not None else {})
        return self._client.simulate_get("/auth", headers=sent | headers)

    def raw(self, method: str, path: str, headers: dict[str, str] | None = None) -> Any:
        return self._client.simulate_request(method, path, headers=headers or {})


def settings_for(text: str, **issuers: str) -> Settings:
    """The settings in a text whose ${NAME}s are issuers' URLs."""
    return config.parse(text, "case", issuers)
