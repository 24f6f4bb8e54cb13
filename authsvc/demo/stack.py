"""The whole main job on loopback: issuer, memcached, authsvc under gunicorn, nginx, and the API behind it.

`with stack() as running:` starts all of it on free ports in a folder of its own, waits until it is ready, and stops
and removes everything afterwards. The demo, the end-to-end tests and the benchmark build on it.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from authsvc import nginx
from authsvc.adapters.config import load
from authsvc.core.response import BASE_HEADERS
from authsvc.demo.echo import EchoServer
from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import (
    BASE_CONFIG,
    START_DEADLINE_S,
    TEMP_PATHS,
    Memcached,
    Nginx,
    NotFound,
    NotStarted,
    Process,
    connect,
    find_nginx,
    free_port,
)

# ${...} is filled in before the file is written, so that `authsvc check -c` and `explain -c` can use it as it is.
CONFIG = """\
authentication:
  oidc:
    providers:
      - name: demo
        issuer: ${DEMO_ISSUER}
        audience: ${DEMO_AUDIENCE}
        allow_insecure_http: true      # the demo issuer is on loopback
    extract_headers:
      - {claim: organization_id, header: X-Org-ID}
      - {claim: plan, header: X-Subscription-Plan}
authorization:
  rbac:
    rules:
      - {path: /api/admin/*, allowed_roles: [admin]}
      - {path: /api/users/*, allowed_roles: [admin, user], method: GET}
      - {path: /api/billing/*, allowed_roles: [billing_admin]}
      - {path: /api/public/*, allowed_roles: []}
rate_limit:
  tiers:
    trial: {limit: 3/hour, matching_claim: plan=trial}
    free: {limit: 100/hour, matching_claim: plan=free}
    pro: {limit: 10000/hour, matching_claim: plan=pro}
    enterprise: {limit: unlimited, matching_claim: plan=enterprise}
    others: {limit: 1000/hour}         # whoever matches none of them
"""
CACHE = """\
cache:
  memcached: ${DEMO_MEMCACHED}
  secret: "${DEMO_SECRET}"
"""
SERVER = """\
    include authsvc-http.conf;
    upstream api { server 127.0.0.1:%(api)s; keepalive 16; }
    server {
        listen 127.0.0.1:%(port)s;
        include authsvc-server.conf;
        location /api/ {
            include authsvc-location.conf;
            proxy_set_header Host $host;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass http://api;
        }
        location / { return 404; }
    }
"""


class Authsvc(Process):
    """`authsvc serve` with this config, its ${...} filled from `environment`, on a port or on the unix socket `path`.

    Audit lines and what gunicorn says go to `output`.
    """

    def __init__(
        self,
        config: str,
        folder: Path,
        environment: Mapping[str, str],
        workers: int = 1,
        port: int | None = None,
        worker: str = "auto",
        path: Path | None = None,
    ) -> None:
        self.config_file = folder / "authsvc.yaml"
        self.config_file.write_text(Template(config).safe_substitute(environment), "utf-8")
        self._path, port = path, port or (0 if path else free_port())
        self.upstream = f"unix:{path}" if path else f"127.0.0.1:{port}"  # as `authsvc nginx` takes it
        serve = ["serve", "-c", str(self.config_file), "--bind", self.upstream, "--workers", str(workers)]
        serve += ["--worker", worker]
        # unbuffered: an audit line is in the file when the answer is out
        environment = {"PYTHONUNBUFFERED": "1", **environment}
        super().__init__([sys.executable, "-m", "authsvc", *serve], port, folder / "authsvc.log", environment)

    @property
    def address(self) -> tuple[str, int] | Path:
        return self._path or super().address

    def get(self, path: str) -> tuple[int, bytes]:
        """What an operator's endpoint answers; (0, b"") where nobody answers."""
        connection = http.client.HTTPConnection("authsvc", timeout=2)
        try:
            connection.sock = connect(self.address, 2)
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def wait_for(self, path: str) -> None:
        """Until `path` answers 200. Raises `NotStarted` with its last answer."""
        give_up = time.monotonic() + START_DEADLINE_S
        while (answer := self.get(path))[0] != 200:
            if time.monotonic() > give_up:
                raise NotStarted(f"authsvc {path} answers {answer}\n{self.last_words()}")
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and where. `folder` goes away with it."""

    folder: Path
    issuer: Issuer
    api: EchoServer
    authsvc: Authsvc
    nginx: Nginx
    memcached: Memcached | None

    @property
    def url(self) -> str:
        """The API as its callers see it: through nginx."""
        return f"http://127.0.0.1:{self.nginx.port}"

    def audit(self) -> list[dict[str, Any]]:
        """The audit lines so far."""
        assert self.authsvc.output is not None
        lines = self.authsvc.output.read_text("utf-8", "replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"time"')]


@contextmanager
def stack(
    config: str = CONFIG,
    *,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
    with_memcached: bool = True,
    server: str = SERVER,
    issuer: Issuer | None = None,
    ready: str = "/readyz",
) -> Iterator[Stack]:
    """Everything, running and ready.

    `config` may use ${DEMO_ISSUER} and ${DEMO_AUDIENCE}; CACHE is added to it where memcached runs, else one worker
    counts in memory. `server` is what stands inside nginx's http { }, with %(port)s and %(api)s. `issuer` is one that
    is entered already. `ready` is what must answer 200 first; "/healthz" for tests without keys.
    """
    find_nginx()
    with ExitStack() as running:
        folder = running.enter_context(_folder())
        issuer = issuer or running.enter_context(Issuer())
        api = running.enter_context(_api())
        memcached = _memcached(running) if with_memcached else None
        env = {**demo_environment(issuer, memcached), **(environment or {})}
        text = config + (CACHE if memcached and "\ncache:" not in config else "")
        authsvc = running.enter_context(Authsvc(text, folder, env, workers if memcached else 1))
        authsvc.wait_for(ready)
        door = running.enter_context(_nginx(server, authsvc, api.port, env))
        yield Stack(folder, issuer, api, authsvc, door, memcached)


def demo_environment(issuer: Issuer, memcached: Memcached | None) -> dict[str, str]:
    """What the ${...} of CONFIG and CACHE stand for."""
    return {
        "DEMO_ISSUER": issuer.url,
        "DEMO_AUDIENCE": issuer.audience,
        "DEMO_MEMCACHED": f"127.0.0.1:{memcached.port}" if memcached else "",
        "DEMO_SECRET": os.urandom(24).hex(),
    }


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="authsvc-stack-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _api() -> Iterator[EchoServer]:
    with EchoServer(0) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def _memcached(running: ExitStack) -> Memcached | None:
    try:
        return running.enter_context(Memcached())
    except NotFound:
        return None


def _nginx(server: str, authsvc: Authsvc, api_port: int, environment: Mapping[str, str]) -> Nginx:
    port = free_port()
    extract = load(str(authsvc.config_file), {**os.environ, **environment}).extract
    files = nginx.render([*BASE_HEADERS, *extract], upstream=authsvc.upstream)
    inside = server % {"port": port, "api": api_port}
    return Nginx(f"{BASE_CONFIG}http {{\n{TEMP_PATHS}{inside}}}\n", port, files)
