"""What authsvc is measured with: one row for each way of calling it, and those it is compared with behind nginx.

Rows of the same configuration share one running authsvc. Nothing is started, and no token signed, before a row needs
it. Between nginx and whoever answers there is a unix socket, for the null ceiling too.
"""

import http.client
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import compiled
from authsvc import nginx
from authsvc.adapters.keyfile import editing
from authsvc.core.apikeys import ApiKey
from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import BASE_CONFIG, TEMP_PATHS, Memcached, Nginx, NotFound, NotStarted, free_port, lua_lines
from authsvc.demo.stack import CACHE, Authsvc, demo_environment
from minting import CALLERS, Mint, Tokens
from wrk import Row, fresh_a_run

MANY = 100_000
START_DEADLINE_S = 60.0  # 10,000 rules take a while
CACHE_FILE = "authsvc-cache-http.conf"
CONFIG = """\
authentication:
  oidc:
    providers:
%(providers)s
    extract_headers:
      - {claim: organization_id, header: X-Org-ID}
      - {claim: plan, header: X-Subscription-Plan}
  api_keys: {keys_file: %(keys)s}
authorization:
  rbac:
    rules:
%(rules)s
      - {path: /api/orders, allowed_roles: [user]}
rate_limit:
  tiers:
    limited: {limit: 100000000/hour, matching_claim: plan=limited}
    twice: {limit: [10000000/minute, 100000000/hour], matching_claim: plan=twice}
    enterprise: {limit: unlimited, matching_claim: plan=enterprise}
    others: {limit: 1000/hour}
"""
PROVIDER = """\
      - name: demo%(number)s
        issuer: %(issuer)s
        audience: ${DEMO_AUDIENCE}
        jwks_uri: ${DEMO_ISSUER}/keys
        allow_insecure_http: true
"""
RULE = "      - {path: /api/section-%s/*, allowed_roles: [admin]}\n"
FRONT = """\
    include authsvc-http.conf;
    server {
        listen 127.0.0.1:%(port)s backlog=1024;
        keepalive_requests 100000000;
        include authsvc-server.conf;
        location /api/ { include authsvc-location.conf; empty_gif; }
    }
"""
API = """\
    server {
        listen unix:%(path)s;
        listen 127.0.0.1:%(port)s;
        keepalive_requests 100000000;
        location / { empty_gif; }
    }
"""
BEFORE_API = """\
    upstream api { server unix:%s; keepalive 64; }
"""
TO_API = 'proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";'
NO_AUTH = """\
    server {
        listen 127.0.0.1:%(port)s backlog=1024;
        keepalive_requests 100000000;
        location /api/ { empty_gif; }
    }
"""
NULL = """\
    server {
        listen unix:%(path)s;
        listen 127.0.0.1:%(port)s;
        keepalive_requests 100000000;
        add_header X-Auth-Status 200;
        add_header X-Auth-Reason allowed;
        add_header X-User-Id user-123;
        add_header X-User-Email user-123@example.com;
        add_header X-User-Roles '["user"]';
        add_header X-User-Issuer demo;
        add_header X-User-Tenant acme;
        add_header X-Auth-Method oidc;
        add_header X-Org-ID org-7;
        add_header X-Subscription-Plan enterprise;
        location / { return 200 ""; }
    }
"""


@dataclass(frozen=True, slots=True)
class Door:
    """An nginx and whom it asks."""

    nginx: Nginx
    service: int = 0

    def row(self, tokens: Tokens, memcached: int = 0, refused: bool = False, fresh: Tokens | None = None) -> Row:
        return Row(self.nginx.port, tokens, self.nginx.pid, self.service, memcached, refused, fresh)


class World:
    """Everything that runs, each part from the moment it is asked for until `running` ends. `plain` is for all of
    authsvc's rows."""

    def __init__(
        self, running: ExitStack, folder: Path, workers: int, turns: int, seconds: int, plain: bool = False
    ) -> None:
        self.running, self.folder, self.workers, self._all_plain = running, folder, workers, plain
        folder.chmod(0o755)  # started by root, nginx works as another user and must reach the sockets
        self.issuer = running.enter_context(Issuer())
        self.mint = running.enter_context(Mint(self.issuer, folder))
        self.memcached = running.enter_context(Memcached())
        self._fresh = turns * fresh_a_run(seconds)
        self._doors = dict[str, Door]()

    # ---- who answers

    @cached_property
    def null(self) -> Door:
        return Door(self.nginx(FRONT, f"unix:{self.folder}/null.sock"), self._null.pid)

    @cached_property
    def _null(self) -> Nginx:
        return self.nginx(NULL, path=self.folder / "null.sock")

    @cached_property
    def null_before_api(self) -> Door:
        return Door(self.nginx(self._before_api, f"unix:{self.folder}/null.sock"), self._null.pid)

    @cached_property
    def before_api(self) -> Door:
        """The same authsvc, behind an nginx that hands allowed calls to an API."""
        path, service = self.folder / "main" / "authsvc.sock", self.authsvc().service
        return Door(self.nginx(self._before_api, f"unix:{path}"), service)

    @cached_property
    def _before_api(self) -> str:
        path = self.folder / "api.sock"
        self.nginx(API, path=path)
        return BEFORE_API % path + FRONT.replace("empty_gif;", TO_API)

    @cached_property
    def no_auth(self) -> Door:
        return Door(self.nginx(NO_AUTH))

    @cached_property
    def plain(self) -> Door:
        """authsvc as AUTHSVC_COMPILE=0 leaves it."""
        return self.authsvc("plain", plain=True)

    @cached_property
    def alone(self) -> Door:
        """authsvc with one worker, as it is served where nothing else is said."""
        return self.authsvc("alone", workers=1)

    def authsvc(
        self,
        name: str = "main",
        worker: str = "fast",
        rules: int = 10,
        issuers: int = 1,
        plain: bool = False,
        workers: int = 0,
    ) -> Door:
        """authsvc behind an nginx; the one of a name is started once."""
        if name not in self._doors:
            (folder := self.folder / name).mkdir(mode=0o755)
            served = self._served(self._config(rules, issuers), folder, worker, plain, workers)
            self._doors[name] = Door(self.nginx(FRONT, served.upstream), served.pid)
        return self._doors[name]

    @cached_property
    def keeping(self) -> Door:
        """An nginx that keeps decisions; authsvc allows it for five seconds."""
        if CACHE_FILE not in nginx.render(nginx.DEFAULT_HEADERS):
            raise NotFound("this authsvc makes no files for an nginx that keeps decisions")
        (folder := self.folder / "keeping").mkdir(mode=0o755)
        config = self._config(10, 1).replace("authorization:\n", "authorization:\n  decision_cache: 5s\n")
        served = self._served(config, folder, "fast")
        front = FRONT.replace("authsvc-http.conf;", f"authsvc-http.conf; include {CACHE_FILE};", 1)
        front = front.replace("authsvc-server.conf", "authsvc-cache-server.conf")
        return Door(self.nginx(front, served.upstream, lua_lines()), served.pid)

    def nginx(self, server: str, upstream: str = "127.0.0.1:1", modules: str = "", **blanks: Any) -> Nginx:
        port = free_port()
        base = modules + BASE_CONFIG.replace("error.log info", "error.log error")
        inside = server % {"port": port, **blanks}
        files = nginx.render(nginx.DEFAULT_HEADERS, upstream=upstream)
        return self.running.enter_context(Nginx(f"{base}http {{\n{TEMP_PATHS}{inside}}}\n", port, files))

    def _served(self, config: str, folder: Path, worker: str, plain: bool = False, workers: int = 0) -> Authsvc:
        plain = plain or self._all_plain
        installed = {} if plain else {"PYTHONPATH": str(compiled.folder()), "PYTHONSAFEPATH": "1"}
        environment = {**demo_environment(self.issuer, self.memcached), **installed}
        workers = workers or self.workers
        served = Authsvc(config, folder, environment, workers, worker=worker, path=folder / "authsvc.sock")
        served.start_deadline_s = START_DEADLINE_S
        self.running.enter_context(served).wait_for("/readyz")
        if compiled.runs_in(served.pid) is plain:
            raise NotStarted("what was built is not what runs")
        return served

    def _config(self, rules: int, issuers: int) -> str:
        providers = [PROVIDER % {"number": n, "issuer": self.issuer_url(n)} for n in range(issuers)]
        blanks = {
            "providers": "".join(providers).rstrip(),
            "keys": self.api_keys[1],
            "rules": "".join(RULE % number for number in range(rules - 1)).rstrip(),
        }
        return CONFIG % blanks + CACHE

    # ---- with which tokens

    def issuer_url(self, number: int) -> str:
        return self.issuer.url + (f"/{number}" if number else "")

    def tokens(self, plan: str, count: int = CALLERS) -> Tokens:
        return self.mint.tokens(f"{plan}-{count}", count, plan=plan)

    def fresh(self, alg: str) -> Tokens:
        return self.mint.tokens(f"fresh-{alg}", self._fresh, alg)

    @cached_property
    def expired(self) -> Tokens:
        return self.mint.tokens("expired", exp=int(time.time()) - 3600)

    @cached_property
    def api_keys(self) -> tuple[Tokens, Path]:
        """What callers send, and the file by which authsvc knows it."""
        tokens, digests = self.mint.api_keys()
        file = self.folder / "api-keys.jsonl"
        with editing(str(file)) as draft:
            for number, digest in enumerate(digests):
                draft.put(ApiKey(digest, f"owner-{number}", roles=("user",), plan="enterprise"))
        os.chmod(file, 0o600)
        return tokens, file

    # ---- rows

    def full(self, door: Door, tokens: Tokens | None = None) -> Row:
        """The full decision: token, RBAC, a tiered limit in memcached with leases, metrics and audit."""
        return door.row(tokens or self.tokens("limited"), self.memcached.pid)

    def unlimited(self, door: Door) -> Row:
        return door.row(self.tokens("enterprise"), self.memcached.pid)

    def first_sight(self, door: Door, alg: str) -> Row:
        return door.row(self.tokens("enterprise"), self.memcached.pid, fresh=self.fresh(alg))


class Offer(NamedTuple):
    """A row before it is built. `bare` is the key of the same front without authentication."""

    key: str
    name: str
    make: Callable[[World], Row]
    bare: str = "Z"
    open: bool = False  # to anybody, as the null ceiling is


def refuses_strangers(row: Row, is_open: bool = False) -> None:
    """Or else it would be measured how quickly a door stands open."""
    good = row.tokens.first
    tampered = good[:-20] + ("A" if good[-20] != "A" else "B") + good[-19:]
    for what, sent in (("without a token", {}), ("with a tampered token", {"Authorization": tampered})):
        connection = http.client.HTTPConnection("127.0.0.1", row.port, timeout=5)
        connection.request("GET", "/api/orders", headers=sent)
        status = connection.getresponse().status
        connection.close()
        if status != (200 if is_open else 401):
            raise NotStarted(f"a caller {what} is answered {status}")


def _hundred_issuers(world: World) -> Row:
    urls = [world.issuer_url(number) for number in range(100)]
    tokens = world.mint.of_many_issuers(urls, plan="limited")
    return world.full(world.authsvc("issuers", issuers=100), tokens)


OURS = (
    Offer("A", "null ceiling", lambda w: w.null.row(w.tokens("enterprise")), open=True),
    Offer("B", "JWT, unlimited", lambda w: w.unlimited(w.authsvc())),
    Offer("C", "JWT, limited: the full decision", lambda w: w.full(w.authsvc())),
    Offer("D", "JWT, two limits", lambda w: w.full(w.authsvc(), w.tokens("twice"))),
    Offer("E", "API key, unlimited", lambda w: w.authsvc().row(w.api_keys[0], w.memcached.pid)),
    Offer("F", "refused (expired)", lambda w: w.authsvc().row(w.expired, w.memcached.pid, refused=True)),
    Offer("G", "as C, gunicorn's gthread", lambda w: w.full(w.authsvc("threads", worker="threads"))),
    Offer("H", "as C, 1 token", lambda w: w.full(w.authsvc(), w.tokens("limited", 1))),
    Offer("I", "as C, 100,000 tokens", lambda w: w.full(w.authsvc(), w.tokens("limited", MANY))),
    Offer("J", "as C, 10,000 rules", lambda w: w.full(w.authsvc("rules", rules=10_000))),
    Offer("K", "as C, 100 providers", _hundred_issuers),
    Offer("L", "as B, first sight of RS256", lambda w: w.first_sight(w.authsvc(), "RS256")),
    Offer("M", "as B, first sight of ES256", lambda w: w.first_sight(w.authsvc(), "ES256")),
    Offer("N", "as B, first sight of EdDSA", lambda w: w.first_sight(w.authsvc(), "EdDSA")),
    # nothing that is counted is kept
    Offer("O", "as B, decision cache in nginx", lambda w: w.unlimited(w.keeping)),
    Offer("U", "as A, before an API", lambda w: w.null_before_api.row(w.tokens("enterprise")), open=True),
    Offer("V", "as C, before an API", lambda w: w.full(w.before_api)),
    Offer("C1", "as C, one worker", lambda w: w.full(w.alone)),
    Offer("B1", "as B, one worker", lambda w: w.unlimited(w.alone)),
    Offer("L1", "as L, one worker", lambda w: w.first_sight(w.alone, "RS256")),
    Offer("W", "as C, plain Python", lambda w: w.full(w.plain)),
    Offer("X", "as B, plain Python", lambda w: w.unlimited(w.plain)),
    Offer("Y", "as L, plain Python", lambda w: w.first_sight(w.plain, "RS256")),
    Offer("Z", "nginx without auth_request", lambda w: w.no_auth.row(w.tokens("enterprise")), open=True),
)
