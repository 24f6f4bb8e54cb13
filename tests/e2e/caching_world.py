"""nginx that keeps decisions, before an authsvc in this process whose questions are counted, and an API that echoes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from authsvc import nginx
from authsvc.adapters import config
from authsvc.app import WsgiApp, build_app
from authsvc.core.response import BASE_HEADERS
from authsvc.demo.echo import EchoServer
from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import BASE_CONFIG, TEMP_PATHS, Nginx, free_port, lua_lines
from authsvc.service import Service
from in_process import WsgiServer, _serving
from scripted_auth import Headers
from test_nginx_contract import Reply, call

SERVER = """\
    include authsvc-http.conf;
    include authsvc-cache-http.conf;
    %(more)s
    upstream api { server 127.0.0.1:%(api)s; }
    log_format cached "$authsvc_cached";
    server {
        listen 127.0.0.1:%(port)s;
        include authsvc-cache-server.conf;
        error_page 500 502 503 =200 /fine;  # must not become a yes
        location = /fine { return 200; }
        set_real_ip_from 127.0.0.1;
        real_ip_header X-Test-Address;
        access_log cached.log cached;
        location /stripped/ { rewrite ^/stripped/(.*)$ $1 last; }
        location /moved/ {
            if ($http_x_route = admin) { rewrite ^ /api/admin/x last; }
            rewrite ^ /api/x last;
        }
        location /api/first/ { include %(location)s; try_files /none /api/then/$http_x_route; }
        location /api/ {
            include %(location)s;
            proxy_pass http://api;
            location /api/within/ { proxy_pass http://api; }
        }
    }
"""


@dataclass(slots=True)
class Caching:
    """All that runs. `asked` are the questions that reached authsvc."""

    folder: Path
    issuer: Issuer
    server: WsgiServer
    nginx: Nginx
    lua_asks: bool
    asked: list[str] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)

    def configure(self, text: str) -> WsgiApp:
        """A new config is in force from the next call on; the app is handed back, for workers that are late."""
        places = {"$ISSUER": self.issuer.url, "$AUDIENCE": self.issuer.audience, "$FOLDER": str(self.folder)}
        for name, value in places.items():
            text = text.replace(name, value)
        service = Service(config.parse(text, "authsvc.yaml", {}), lines=_Nowhere(), clock=time.time)
        service.start()
        self.services.append(service)
        app = build_app(service)

        def counted(environ: dict[str, Any], start: Any) -> Any:
            self.asked.append(f"{environ['HTTP_X_ORIGINAL_METHOD']} {environ['HTTP_X_ORIGINAL_URI']}")
            return app(environ, start)

        self.server.app = counted
        return counted

    def call(self, path: str, *, method: str = "GET", headers: Headers = ()) -> Reply:
        return call(self.nginx.port, path, method, headers)

    def was_asked(self, path: str, *, method: str = "GET", headers: Headers = ()) -> tuple[Reply, bool]:
        """The answer, and whether authsvc was asked for it."""
        before = len(self.asked)
        reply = self.call(path, method=method, headers=headers)
        return reply, len(self.asked) > before

    def warm(self, path: str = "/api/other", headers: Headers = ()) -> None:
        """One question, so that nginx has heard of the generation in force."""
        self.call(path, headers=headers)

    def kept_memory(self) -> bytes:
        """What lies in the memory that the processes of nginx share."""
        maps = Path(f"/proc/{self.nginx.pid}/maps").read_text().splitlines()
        shared = [line.split()[0].split("-") for line in maps if line.split()[1].endswith("s")]
        with open(f"/proc/{self.nginx.pid}/mem", "rb", 0) as memory:
            return b"".join(_read(memory, int(start, 16), int(end, 16)) for start, end in shared)


def _read(memory: BinaryIO, start: int, end: int) -> bytes:
    memory.seek(start)
    return memory.read(end - start)


class _Nowhere:
    def write(self, line: str) -> None: ...


@contextmanager
def caching(folder: Path, location: str = "authsvc-location.conf", more: str = "") -> Iterator[Caching]:
    """`more` stands in http { }."""
    with ExitStack() as running:
        issuer = running.enter_context(Issuer())
        api = running.enter_context(_serving(EchoServer(0)))
        server = running.enter_context(_serving(WsgiServer()))
        port = free_port()
        files = nginx.render(BASE_HEADERS, upstream=f"127.0.0.1:{server.port}")
        inside = SERVER % {"port": port, "api": api.server_address[1], "location": location, "more": more}
        door = running.enter_context(Nginx(f"{lua_lines()}{BASE_CONFIG}http {{\n{TEMP_PATHS}{inside}}}\n", port, files))
        found = Caching(folder, issuer, server, door, location == "authsvc-openresty.conf")
        yield found
        for service in found.services:
            service.stop()
