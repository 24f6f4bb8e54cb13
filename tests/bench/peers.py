"""The peers that are measured in the same run, each with a configuration that does as little as it can.

What they do: find the bearer token, check its RS256 signature and its iss, aud and exp, answer. authsvc does RBAC, the
limit, the audit line and the metrics on top. Envoy, HAProxy and Apache do it in the proxy itself and answer with a
picture of the same size; each is measured a second time with the checks taken out, so that what it costs as a proxy can
be subtracted. oauth2-proxy stands behind the same nginx as authsvc.

`tests/bench/fetch` installs them. Who is missing is told and left out.
"""

import datetime
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authsvc.demo.processes import NotFound, Process, free_port
from minting import Mint, kid_of
from rows import Door, Offer, World
from wrk import Row

CACHE = Path.home() / ".cache/authsvc/bench"
PICTURE = "GIF89a" + "." * 37  # 43 bytes, as nginx's empty_gif


def find(program: str, variable: str) -> Path:
    places = [os.environ.get(variable), CACHE / "bin" / program, shutil.which(program), f"/usr/sbin/{program}"]
    for place in places:
        if place and os.access(place, os.X_OK):
            return Path(place)
    raise NotFound(f"{program} is not installed; tests/bench/fetch installs it, or point {variable} at it")


def _row(world: World, process: Process) -> Row:
    world.running.enter_context(process)
    return Row(process.port, world.tokens("enterprise"), service=process.pid)


def _written(world: World, name: str, text: str) -> Path:
    file = world.folder / name
    file.write_text(text)
    return file


# ---- Envoy


def envoy(world: World, cache: dict[str, int] | None) -> Row:
    """One thread: two cost as much a request, and on two cores they crowd the load generator."""
    port = free_port()
    config = _written(world, f"envoy-{port}.json", json.dumps(_envoy_config(world.mint, port, cache)))
    command = [find("envoy", "AUTHSVC_ENVOY"), "-c", config, "--concurrency", "1"]
    quiet = ["--log-level", "error", "--disable-hot-restart"]
    return _row(world, Process([*command, *quiet], port, world.folder / "envoy.log"))


def _envoy_config(mint: Mint, port: int, cache: dict[str, int] | None) -> dict[str, object]:
    kinds = "type.googleapis.com/envoy.extensions.filters"
    answer = {"status": 200, "body": {"inline_string": PICTURE}}
    route = {"match": {"prefix": "/"}, "direct_response": answer}
    filters = [] if cache is None else [_envoy_jwt(mint, kinds, cache)]
    filters += [{"name": "router", "typed_config": {"@type": f"{kinds}.http.router.v3.Router"}}]
    manager = {
        "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"static_resources": {"listeners": [{"address": address, "filter_chains": [chain]}]}}


def _envoy_jwt(mint: Mint, kinds: str, cache: dict[str, int]) -> dict[str, object]:
    provider = {
        "issuer": mint.issuer.url,
        "audiences": [mint.issuer.audience],
        "local_jwks": {"inline_string": mint.jwks()},
        "jwt_cache_config": cache,
    }
    rule = {"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}
    config = {"@type": f"{kinds}.http.jwt_authn.v3.JwtAuthentication", "providers": {"bench": provider}}
    return {"name": "jwt", "typed_config": {**config, "rules": [rule]}}


# ---- HAProxy

HAPROXY = """\
global
    nbthread 1
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend bench
    bind 127.0.0.1:%(port)s
%(checks)s
    http-request return status 200 content-type image/gif string "%(picture)s"
"""
# as HAProxy's own guide writes it
HAPROXY_CHECKS = """\
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
    http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }
    http-request deny deny_status 401 unless { var(txn.iss) -m str "%(issuer)s" }
    http-request deny deny_status 401 unless { var(txn.aud) -m str "%(audience)s" }
    http-request deny deny_status 401 unless { var(txn.bearer),jwt_verify(txn.alg,"%(key)s") -m int 1 }
    http-request deny deny_status 401 if { var(txn.exp),sub(txn.now) -m int lt 0 }
"""


def haproxy(world: World, checks: bool = True) -> Row:
    port, program = free_port(), find("haproxy", "AUTHSVC_HAPROXY")
    key = _written(world, "haproxy.pem", world.mint.public_pem())
    wanted = {"issuer": world.issuer.url, "audience": world.issuer.audience, "key": key}
    text = HAPROXY % {"port": port, "picture": PICTURE, "checks": HAPROXY_CHECKS % wanted if checks else ""}
    config = _written(world, f"haproxy-{checks}.cfg", text)
    return _row(world, Process([program, "-db", "-f", config], port, world.folder / "haproxy.log"))


# ---- Apache with mod_auth_openidc

APACHE = """\
ServerRoot %(folder)s
ServerName localhost
PidFile apache-%(port)s.pid
ErrorLog apache-%(port)s.log
Listen 127.0.0.1:%(port)s
%(user)s
%(modules)s
DocumentRoot %(folder)s/www
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
KeepAlive On
MaxKeepAliveRequests 0
%(checks)s
"""
APACHE_CHECKS = """\
OIDCCryptoPassphrase bench
OIDCOAuthVerifyCertFiles %(kid)s#%(certificate)s
OIDCOAuthRemoteUserClaim sub
<Location /api>
    AuthType oauth20
    <RequireAll>
        Require claim iss:%(issuer)s
        Require claim aud:%(audience)s
    </RequireAll>
</Location>
"""
APACHE_MODULES = ("mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc")


def apache(world: World, checks: bool = True) -> Row:
    program, modules, port = find("apache2", "AUTHSVC_APACHE"), Path("/usr/lib/apache2/modules"), free_port()
    if not (modules / "mod_auth_openidc.so").exists():
        raise NotFound("mod_auth_openidc is not installed; tests/bench/fetch installs it")
    (folder := world.folder / "apache/www/api").mkdir(parents=True, exist_ok=True)
    (folder / "orders").write_text(PICTURE)
    blanks = {
        "folder": world.folder / "apache", "port": port,
        "user": "User nobody\nGroup nogroup" if os.geteuid() == 0 else "",
        "modules": "\n".join(f"LoadModule {one}_module {modules}/mod_{one}.so" for one in APACHE_MODULES),
        "checks": _apache_checks(world) if checks else "",
    }  # fmt: skip
    config = _written(world, f"apache-{checks}.conf", APACHE % blanks)
    return _row(world, Process([program, "-DFOREGROUND", "-f", config], port, world.folder / "apache.log"))


def _apache_checks(world: World) -> str:
    certificate = _written(world, "apache.pem", _certificate(world.mint))
    wanted = {"issuer": world.issuer.url, "audience": world.issuer.audience, "kid": kid_of("RS256")}
    return APACHE_CHECKS % {**wanted, "certificate": certificate}


def _certificate(mint: Mint) -> str:
    """The RSA key in the only wrapping that mod_auth_openidc 2.4.12 takes from a file."""
    private, now = mint.keys["RS256"].private, datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    unsigned = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
    unsigned = unsigned.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return unsigned.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


# ---- oauth2-proxy

OAUTH2_PROXY = """\
    upstream asked { server unix:%(path)s; keepalive 64; }
    server {
        listen 127.0.0.1:%(port)s backlog=1024;
        keepalive_requests 100000000;
        location = /oauth2/auth {
            internal;
            proxy_pass http://asked;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-Original-URI $request_uri;
        }
        location /api/ {
            auth_request /oauth2/auth;
            auth_request_set $user $upstream_http_x_auth_request_user;
            auth_request_set $email $upstream_http_x_auth_request_email;
            empty_gif;
        }
    }
"""


class _Listening(Process):
    """On a unix socket, which everybody may enter then."""

    def __init__(self, command: Sequence[str | Path], path: Path, output: Path) -> None:
        super().__init__(command, 0, output)
        self._path = path

    @property
    def address(self) -> Path:
        return self._path

    def start(self) -> None:
        super().start()
        self._path.chmod(0o777)


def oauth2_proxy(world: World) -> Row:
    path, url = world.folder / "oauth2-proxy.sock", world.issuer.url
    flags = [
        f"--http-address=unix://{path}", "--provider=oidc", f"--oidc-issuer-url={url}", "--skip-oidc-discovery",
        f"--oidc-jwks-url={url}/keys", f"--login-url={url}/login", f"--redeem-url={url}/token",
        f"--client-id={world.issuer.audience}", "--client-secret=none", f"--cookie-secret={'b' * 32}",
        "--cookie-secure=false", "--email-domain=*", "--upstream=static://200", "--reverse-proxy",
        "--skip-jwt-bearer-tokens", "--set-xauthrequest", "--request-logging=false", "--auth-logging=false",
        "--standard-logging=false",
    ]  # fmt: skip
    program = find("oauth2-proxy", "AUTHSVC_OAUTH2_PROXY")
    asked = world.running.enter_context(_Listening([program, *flags], path, world.folder / "oauth2-proxy.log"))
    door = Door(world.nginx(OAUTH2_PROXY, path=path), asked.pid)
    return door.row(world.tokens("enterprise"))


PEERS = (
    Offer("P", "oauth2-proxy behind nginx", oauth2_proxy),
    Offer("Q", "Envoy jwt_authn, jwt_cache for all", lambda w: envoy(w, {"jwt_cache_size": 100_000}), "Q0"),
    Offer("T", "Envoy jwt_authn, jwt_cache of 100", lambda w: envoy(w, {}), "Q0"),  # its default, for 1000 tokens
    Offer("R", "HAProxy jwt_verify", haproxy, "R0"),
    Offer("S", "Apache mod_auth_openidc", apache, "S0"),
    Offer("Q0", "Envoy without", lambda w: envoy(w, None), "Q0", open=True),
    Offer("R0", "HAProxy without", lambda w: haproxy(w, checks=False), "R0", open=True),
    Offer("S0", "Apache without", lambda w: apache(w, checks=False), "S0", open=True),
)
VERSIONS = (
    ("Envoy", "envoy", "AUTHSVC_ENVOY", "--version"),
    ("HAProxy", "haproxy", "AUTHSVC_HAPROXY", "-v"),
    ("Apache", "apache2", "AUTHSVC_APACHE", "-v"),
    ("oauth2-proxy", "oauth2-proxy", "AUTHSVC_OAUTH2_PROXY", "--version"),
)


def versions() -> str:
    """Of each peer that is here."""
    said = []
    for name, program, variable, flag in VERSIONS:
        try:
            done = subprocess.run([find(program, variable), flag], capture_output=True, text=True, timeout=20)
        except (NotFound, OSError, subprocess.TimeoutExpired):
            continue
        number = re.search(r"\d+\.\d+[\w.+-]*", done.stdout + done.stderr)
        said.append(f"{name} {number[0] if number else '?'}")
    return ", ".join(said)
