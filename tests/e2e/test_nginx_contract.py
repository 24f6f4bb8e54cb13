"""A real nginx with the shipped include files, between a scripted auth service and an echo API.

Every sentence holds for both variants, auth_request and OpenResty, unless it says otherwise.
"""

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from authsvc import nginx
from authsvc.core import paths
from authsvc.core.model import Decision, Reason, Refused, Request
from authsvc.demo.echo import EchoServer
from authsvc.demo.processes import BASE_CONFIG, TEMP_PATHS, Nginx, NotFound, free_port, lua_lines
from authsvc.questions import Questions
from scripted_auth import Answer, Headers, Question, ScriptedAuth

SHIPPED = Path(__file__).parents[2] / "nginx"
IDENTITY: Headers = (
    ("X-User-Id", "alice"),
    ("X-User-Email", "alice@example.com"),
    ("X-User-Roles", '["reader","writer"]'),
    ("X-User-Issuer", "https://issuer.example"),
    ("X-User-Tenant", "acme"),
    ("X-Auth-Method", "oidc"),
    ("X-Org-ID", "org-7"),
    ("X-Subscription-Plan", "gold"),
)
SPOOFED: Headers = tuple((name, "mallory") for name, _ in IDENTITY)
QUOTA: Headers = (("RateLimit", '"gold";r=41;t=30'), ("RateLimit-Policy", '"gold";q=100;w=60'))
CHALLENGE = 'Bearer realm="api", error="invalid_token"'
PROBLEM = '{"title":"Told so","detail":"with \\"quotes\\" and $dollars"}'


def say(status: int, meant: int, *more: tuple[str, str], delay_s: float = 0.0) -> Answer:
    verdict = (("X-Auth-Status", str(meant)), ("X-Auth-Reason", "told"), ("X-Auth-Error", PROBLEM))
    return Answer(status, (*(verdict[:2] if meant == 200 else verdict), *more), delay_s)


ALLOW = say(200, 200, *IDENTITY, *QUOTA)
UNAUTHENTICATED = say(401, 401, ("WWW-Authenticate", CHALLENGE))
FORBIDDEN = say(403, 403)
STEP_UP = say(403, 403, ("WWW-Authenticate", CHALLENGE))
LIMITED = say(403, 429, ("Retry-After", "17"), *QUOTA)
UNDECIDED = say(403, 503, ("Retry-After", "3"))

SERVERS = """
    server {
        listen 127.0.0.1:%(port)s;
        # Lines an operator may have, which must not reach into the question or the answers.
        proxy_cache everything;
        proxy_cache_valid any 1m;
        proxy_intercept_errors on;
        error_page 401 403 500 502 503 504 =200 /maintenance.html;
        location = /maintenance.html { return 200 "back soon"; }

        include authsvc-server.conf;

        location /api/ { include %(location)s; proxy_set_header Host $host; %(api)s }
        location /public/ { include authsvc-strip.conf; %(api)s }
        location /bare/ { %(api)s }
        location /gone/ { include %(location)s; proxy_pass http://127.0.0.1:%(nobody)s; error_page 502 @502; }
        location @502 { return 502 "the API is gone"; }
        location /broken/ { include %(location)s; set $nowhere ""; proxy_pass $nowhere; }
        location /walled/ { include %(location)s; deny all; %(api)s }
        location /proved/ { include %(location)s; try_files /.authsvc/none @proved; }
        location @proved { include authsvc-proof.conf; %(api)s }
    }
    server {
        listen 127.0.0.1:%(rewritten)s;
        rewrite ^(?!/api|/proved) /page last;
        location = /page { return 200 "a page for people"; }
        include authsvc-server.conf;
        location /api/ { include %(location)s; %(api)s }
        location /proved/ { include %(location)s; try_files /.authsvc/none @proved; }
        location @proved { include authsvc-proof.conf; %(api)s }
    }
    server {
        listen 127.0.0.1:%(gated)s;
        if ($authsvc_ambiguous_uri) { return 400; }
        location / { return 200 "through"; }
    }
"""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Headers
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def json(self) -> Any:
        return json.loads(self.body)

    def at_api(self, *names: str) -> list[tuple[str, str]]:
        """The headers of these names (any spelling of - and _) as they reached the API."""
        wanted = {name.lower() for name in names}
        return [(n, v) for n, v in self.json()["headers"] if n.lower().replace("_", "-") in wanted]


def call(port: int, path: str, method: str = "GET", headers: Headers = (), body: bytes = b"") -> Reply:
    """A request as written, byte by byte: client libraries tidy up what these tests need untidy."""
    length = (("Content-Length", str(len(body))),) if body else ()
    closing = () if any(name == "Connection" for name, _ in headers) else (("Connection", "close"),)
    pairs = (("Host", "api.example"), *headers, *length, *closing)
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head.encode("latin-1") + b"\r\n" + body)
        response = HTTPResponse(connection, method=method)
        response.begin()
        return Reply(response.status, tuple(response.getheaders()), response.read())


@dataclass
class Door:
    """nginx, and what stands behind it."""

    variant: str
    nginx: Nginx
    auth: ScriptedAuth
    api: EchoServer
    gated_port: int
    rewritten_port: int

    def call(self, path: str = "/api/x", method: str = "GET", headers: Headers = (), body: bytes = b"") -> Reply:
        return call(self.nginx.port, path, method, headers, body)

    def call_gated(self, path: str) -> Reply:
        return call(self.gated_port, path)


@contextmanager
def opened(variant: str, auth: ScriptedAuth, api: EchoServer, *, forward_token: bool = False) -> Iterator[Door]:
    lua = lua_lines() if variant == "openresty" else ""
    location = "authsvc-openresty.conf" if variant == "openresty" else "authsvc-location.conf"
    port, gated, rewritten = free_port(), free_port(), free_port()
    blanks: dict[str, object] = {
        "port": port,
        "gated": gated,
        "rewritten": rewritten,
        "nobody": free_port(),
        "location": location,
    }
    blanks["api"] = "proxy_cache off; proxy_intercept_errors off; proxy_pass http://api;"
    inside = (
        "proxy_cache_path cache keys_zone=everything:1m;\ninclude authsvc-http.conf;\n"
        f"upstream api {{ server 127.0.0.1:{api.port}; }}\n"
    )
    config = f"{lua}{BASE_CONFIG}http {{\n{TEMP_PATHS}{inside}{SERVERS % blanks}}}\n"
    files = nginx.render(nginx.DEFAULT_HEADERS, upstream=auth.upstream, forward_token=forward_token)
    with Nginx(config, port, files) as running:
        yield Door(variant, running, auth, api, gated, rewritten)


@pytest.fixture(scope="module")
def api() -> Iterator[EchoServer]:
    with EchoServer(0) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module", params=["auth_request", "openresty"])
def variant(request: pytest.FixtureRequest) -> str:
    if request.param == "openresty":
        try:
            lua_lines()
        except NotFound as missing:
            pytest.skip(str(missing))
    return str(request.param)


@pytest.fixture(scope="module")
def shared_door(variant: str, api: EchoServer) -> Iterator[Door]:
    with ScriptedAuth() as auth, opened(variant, auth, api) as door:
        yield door


@pytest.fixture
def door(shared_door: Door) -> Door:
    shared_door.auth.answer = ALLOW
    shared_door.auth.questions.clear()
    return shared_door


# ---- how it is asked ----


@pytest.mark.parametrize("credential", [("Authorization", "Bearer t"), ("X-API-Key", "k")], ids=["token", "api key"])
def test_nginx_asks_in_the_order_that_is_read_at_once(door: Door, credential: tuple[str, str]) -> None:
    targets = ("/api/x?a=1,2", "/api/x?a=1,2", "/api/y")
    for target in targets:
        assert door.call(target, headers=(credential,)).status == 200
    read: list[Request] = []
    answer = lambda request: (f"{read.append(request)}".encode(), Decision(Reason.NO_CREDENTIALS))  # noqa: E731
    questions = Questions(answer, lambda digest: None)
    for question in door.auth.questions:
        assert questions.at_once(as_sent(question))
    name, text = credential
    by_token: dict[str, Any] = {"authorization": text, "digest": sha256(b"t").digest()}
    sent = by_token if name == "Authorization" else {"api_key": text}
    assert read == [
        Request("GET", target, id=question.request_id, served=target[:6], client_ip="127.0.0.1", may_wait=False, **sent)
        for target, question in zip(targets, door.auth.questions, strict=True)
    ]


def as_sent(question: Question) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in question.headers)
    return f"{question.line}\r\n{fields}\r\n".encode("latin-1")


# ---- what the API gets ----


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param((), id="the client sends none"),
        pytest.param(SPOOFED, id="the client sends its own"),
        pytest.param((*SPOOFED, *SPOOFED), id="the client sends its own twice"),
        pytest.param((("x-user-id", "mallory"), ("X-USER-ROLES", "admin")), id="in other cases"),
        pytest.param((("X_User_Id", "mallory"), ("X_User-Roles", "admin")), id="with underscores"),
        pytest.param((("X.User.Id", "mallory"),), id="with dots"),
        pytest.param((("Connection", "X-User-Id, close"),), id="the client names one in Connection"),
    ],
)
def test_the_api_gets_exactly_the_identity_authsvc_gave(door: Door, sent: Headers) -> None:
    reply = door.call(headers=sent)
    assert reply.status == 200
    assert sorted(reply.at_api(*(name for name, _ in IDENTITY))) == sorted(IDENTITY)
    assert "mallory" not in reply.body.decode()


def test_a_header_authsvc_left_out_is_removed_and_not_taken_from_the_client(door: Door) -> None:
    door.auth.answer = say(200, 200, ("X-User-Id", "alice"))
    assert door.call(headers=SPOOFED).at_api(*(name for name, _ in IDENTITY)) == [("X-User-Id", "alice")]


def test_without_the_include_a_spoofed_header_would_arrive(door: Door) -> None:
    assert door.call("/bare/x", headers=SPOOFED).at_api("X-User-Id") == [("X-User-Id", "mallory")]


def test_the_strip_include_clears_every_identity_header_without_asking(door: Door) -> None:
    reply = door.call("/public/x", headers=(*SPOOFED, *SPOOFED))
    assert reply.status == 200
    assert reply.at_api(*(name for name, _ in IDENTITY)) == []
    assert door.auth.questions == []


def test_the_token_stops_at_nginx(door: Door) -> None:
    reply = door.call(headers=(("Authorization", "Bearer abc"), ("X-API-Key", "k-1")))
    assert reply.at_api("Authorization", "X-API-Key") == []


def test_the_token_goes_on_when_asked_for(variant: str, api: EchoServer) -> None:
    sent = (("Authorization", "Bearer abc"), ("X-API-Key", "k-1"))
    with ScriptedAuth() as auth, opened(variant, auth, api, forward_token=True) as door:
        auth.answer = ALLOW
        assert door.call(headers=sent).at_api("Authorization", "X-API-Key") == list(sent)


def test_a_method_override_does_not_reach_the_api(door: Door) -> None:
    names = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    reply = door.call(method="POST", headers=tuple((name, "DELETE") for name in names))
    assert (reply.json()["method"], reply.at_api(*names)) == ("POST", [])


def test_the_request_id_is_nginx_s_own_and_the_same_for_authsvc_and_the_api(door: Door) -> None:
    reply = door.call(headers=(("X-Request-ID", "mine"),))
    (asked,) = door.auth.questions
    assert [value for _, value in reply.at_api("X-Request-ID")] == asked.all("X-Request-ID")
    assert asked.all("X-Request-ID") != ["mine"]


def test_identity_headers_of_ten_kilobytes_fit(door: Door) -> None:
    roles = json.dumps(["r" * 98] * 100, separators=(",", ":"))
    door.auth.answer = say(200, 200, ("X-User-Roles", roles))
    assert door.call().at_api("X-User-Roles") == [("X-User-Roles", roles)]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_by_the_api_itself_keeps_its_body(door: Door, status: int) -> None:
    reply = door.call(f"/api/x?status={status}")
    assert (reply.status, reply.json()["method"]) == (status, "GET")
    assert reply.all("WWW-Authenticate") == (['Basic realm="echo"'] if status == 401 else [])


# ---- what authsvc gets ----


def test_authsvc_gets_only_the_listed_headers_and_the_client_cannot_write_them(door: Door) -> None:
    spoofed = (("X-Original-URI", "/public/"), ("X-Original-Method", "GET"), ("X-Real-IP", "6.6.6.6"))
    other = (("Cookie", "a=b"), ("X-Forwarded-Uri", "/"), ("X-Auth-Receipt", "counted"))
    secrets = (("Authorization", "Bearer abc"), ("X-API-Key", "k-1"))
    door.call("/api/a%20b?q=%2e", method="DELETE", headers=(*spoofed, *other, *secrets))
    (asked,) = door.auth.questions
    assert asked.line == "GET /auth HTTP/1.1"
    assert sorted(pair for pair in asked.headers if pair[0] != "X-Request-ID") == [
        ("Authorization", "Bearer abc"),
        ("Host", "authsvc"),
        ("X-API-Key", "k-1"),
        ("X-Original-Method", "DELETE"),
        ("X-Original-URI", "/api/a%20b?q=%2e"),
        ("X-Real-IP", "127.0.0.1"),
        ("X-Served-Path", "/api/a b"),
    ]


@pytest.mark.parametrize(
    "path", ["/api/../api/x", "/api//x", "/api/%2e/x", "/api/x%0d%0aX-User-Id:%20root", "/api/\xe9"]
)
def test_authsvc_gets_the_path_as_the_client_wrote_it(door: Door, path: str) -> None:
    door.call(path)
    assert [asked.all("X-Original-URI") for asked in door.auth.questions] == [[path]]


def test_absent_credentials_are_absent_and_not_empty(door: Door) -> None:
    door.call()
    (asked,) = door.auth.questions
    assert asked.all("Authorization") + asked.all("X-API-Key") == []


@pytest.mark.parametrize("size", [10, 200_000])
def test_the_body_goes_to_the_api_and_not_to_authsvc(door: Door, size: int) -> None:
    reply = door.call(method="POST", body=b"x" * size)
    (asked,) = door.auth.questions
    assert reply.json()["body_bytes"] == size
    assert asked.all("Content-Length") + asked.all("Transfer-Encoding") == []


def test_a_client_cannot_ask_authsvc_directly(door: Door) -> None:
    assert door.call("/_authsvc").status == 404
    assert door.auth.questions == []


# ---- what the client gets ----


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        pytest.param(ALLOW, 200, QUOTA, id="allowed with its quota"),
        pytest.param(UNAUTHENTICATED, 401, (("WWW-Authenticate", CHALLENGE),), id="401 with one challenge"),
        pytest.param(FORBIDDEN, 403, (), id="403"),
        pytest.param(STEP_UP, 403, (("WWW-Authenticate", CHALLENGE),), id="403 with a challenge"),
        pytest.param(LIMITED, 429, (("Retry-After", "17"), *QUOTA), id="429 with its quota"),
        pytest.param(UNDECIDED, 503, (("Retry-After", "3"),), id="503 when authsvc says so"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_the_client_gets_the_status_and_headers_authsvc_meant(
    door: Door, answer: Answer, status: int, expected: Headers, method: str
) -> None:
    door.auth.answer = answer
    reply = door.call(method=method)
    about = ("WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy")
    got = tuple((name, value) for name in about for value in reply.all(name))
    assert (reply.status, sorted(got)) == (status, sorted(expected))


REFUSALS = [
    pytest.param(UNAUTHENTICATED, id="401"),
    pytest.param(FORBIDDEN, id="403"),
    pytest.param(LIMITED, id="429"),
    pytest.param(UNDECIDED, id="503"),
]


@pytest.mark.parametrize("answer", REFUSALS)
@pytest.mark.parametrize("path", ["/api/x", "/api/report.html"])
def test_a_refusal_is_the_problem_authsvc_wrote_and_is_never_stored(door: Door, answer: Answer, path: str) -> None:
    door.auth.answer = answer
    reply = door.call(path)
    assert reply.body.decode() == PROBLEM + "\n"
    assert reply.all("Content-Type") == ["application/problem+json"]
    assert reply.all("Cache-Control") == ["no-store"]


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refusal_never_reaches_the_api(door: Door, answer: Answer) -> None:
    door.auth.answer = answer
    before = door.api.requests_seen
    door.call(method="POST", body=b"{}")
    assert door.api.requests_seen == before


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(Answer(401), 401, id="401"),
        pytest.param(Answer(403), 403, id="403"),
        pytest.param(Answer(403, (("X-Auth-Status", "429"),)), 429, id="429"),
        pytest.param(Answer(403, (("X-Auth-Status", "503"),)), 503, id="503"),
        pytest.param(Answer(403, (("X-Auth-Status", "200"),)), 403, id="403 that contradicts itself"),
        pytest.param(Answer(403, (("X-Auth-Status", "429, 200"),)), 403, id="403 that cannot be read"),
    ],
)
def test_a_refusal_without_a_problem_document_still_has_a_json_body(door: Door, answer: Answer, status: int) -> None:
    door.auth.answer = answer
    reply = door.call()
    assert reply.status == status
    assert "title" in reply.json()


# ---- when authsvc is in trouble ----


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(302, (("Location", "/login"),)), id="redirects"),
        pytest.param(Answer(400), id="says 400"),
        pytest.param(Answer(404), id="says 404"),
        pytest.param(Answer(500, body=b"Traceback"), id="says 500"),
        pytest.param(Answer(502), id="says 502"),
        pytest.param(Answer(503), id="says 503"),
        pytest.param(say(200, 200, *IDENTITY, delay_s=2.8), id="hangs"),
        pytest.param(Answer(200, (("X-User-Roles", "r" * 20_000),)), id="says more than nginx can hold"),
    ],
)
def test_the_client_gets_503_and_a_time_to_come_back_when_authsvc(door: Door, answer: Answer) -> None:
    door.auth.answer = answer
    before = door.api.requests_seen
    assert_unavailable(door.call())
    assert door.api.requests_seen == before


def test_the_client_gets_503_while_authsvc_is_dead_and_200_when_it_is_back(door: Door) -> None:
    door.auth.die()
    assert_unavailable(door.call())
    door.auth.come_back()
    assert door.call().status == 200


def assert_unavailable(reply: Reply) -> None:
    assert reply.status == 503
    assert reply.json()["status"] == 503
    assert reply.all("Retry-After") == ["5"]
    assert reply.all("Cache-Control") == ["no-store"]
    assert reply.all("Content-Type") == ["application/problem+json"]


STRANGERS = [
    pytest.param(Answer(200), id="200 without X-Auth-Status"),
    pytest.param(Answer(204), id="204 without X-Auth-Status"),
    pytest.param(Answer(200, (("X-Auth-Status", "403"),)), id="200 that means 403"),
    pytest.param(Answer(206, (("X-Auth-Status", "206"),)), id="206"),
]


@pytest.mark.parametrize("answer", STRANGERS)
def test_a_yes_without_the_mark_of_authsvc_carries_no_identity_and_openresty_refuses_it(
    door: Door, answer: Answer
) -> None:
    door.auth.answer = answer
    reply = door.call(headers=SPOOFED)
    if door.variant == "openresty":
        assert_unavailable(reply)
    else:  # pure nginx takes any 2xx for a yes; the API still sees nobody
        assert (reply.status, reply.at_api(*(name for name, _ in IDENTITY))) == (200, [])


@pytest.mark.parametrize("answer", STRANGERS)
def test_the_proof_include_refuses_a_yes_without_the_mark_of_authsvc(door: Door, answer: Answer) -> None:
    door.auth.answer = answer
    before = door.api.requests_seen
    assert_unavailable(door.call("/proved/x"))
    assert door.api.requests_seen == before


def test_the_proof_include_lets_a_marked_yes_through_with_the_raw_path_and_the_identity(door: Door) -> None:
    reply = door.call("/proved/a%20b/c?d=e", headers=(*SPOOFED, ("Authorization", "Bearer abc")))
    assert (reply.status, reply.json()["path"]) == (200, "/proved/a%20b/c?d=e")
    assert sorted(reply.at_api(*(name for name, _ in IDENTITY), "Authorization")) == sorted(IDENTITY)
    assert len(door.auth.questions) == 1
    assert reply.all("RateLimit") == [QUOTA[0][1]]


@pytest.mark.parametrize("answer", REFUSALS)
def test_the_proof_include_leaves_refusals_as_they_are(door: Door, answer: Answer) -> None:
    door.auth.answer = answer
    assert door.call("/proved/x").status == door.call("/api/x").status


def test_a_rewrite_that_swallows_the_question_opens_the_door_in_pure_nginx_only_without_proof(
    door: Door,
) -> None:
    door.auth.answer = FORBIDDEN
    assert_unavailable(call(door.rewritten_port, "/proved/x"))
    status = call(door.rewritten_port, "/api/x").status
    assert status == (503 if door.variant == "openresty" else 200)  # 200: the trap the include file warns of


def test_trouble_of_nginx_itself_after_a_yes_is_500_and_not_blamed_on_authsvc(door: Door) -> None:
    reply = door.call("/broken/x")
    assert (reply.status, reply.json()["title"], reply.all("Retry-After")) == (
        500,
        "Internal Server Error",
        [],
    )


def test_a_dead_api_is_the_operator_s_own_502(door: Door) -> None:
    reply = door.call("/gone/x")
    assert (reply.status, reply.body) == (502, b"the API is gone")


def test_a_deny_line_of_the_operator_is_a_json_403(door: Door) -> None:
    reply = door.call("/walled/x")
    assert reply.status == 403
    assert "title" in reply.json()


# ---- connections ----


def test_a_hundred_mixed_calls_open_no_new_connection_to_authsvc(door: Door) -> None:
    door.call()
    before = door.auth.connections
    for turn in range(100):
        door.auth.answer = (ALLOW, UNAUTHENTICATED, STEP_UP, LIMITED, UNDECIDED)[turn % 5]
        door.call(method=("GET", "POST")[turn % 2])
    assert door.auth.connections == before


def test_a_connection_authsvc_closed_in_the_meantime_is_not_noticed_by_the_client(door: Door) -> None:
    door.call()
    door.auth.drop_connections()
    assert door.call().status == 200


def test_a_connection_that_dies_under_the_question_is_tried_once_more(door: Door) -> None:
    door.call()
    door.auth.hang_ups = 1
    assert door.call().status == 200


def test_nginx_s_own_trouble_after_a_second_try_is_still_500(door: Door) -> None:
    door.call()
    door.auth.hang_ups = 1
    assert door.call("/broken/x").status == 500


def test_authsvc_can_listen_on_a_unix_socket(variant: str, api: EchoServer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with ScriptedAuth(Path(folder) / "auth.sock") as auth, opened(variant, auth, api) as door:
            auth.answer = ALLOW
            assert door.call().status == 200
            auth.answer = UNAUTHENTICATED
            assert door.call().status == 401


# ---- the outer gate ----

AMBIGUOUS = [
    "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a%2e%2e/b", "/a%2E/b", "/%252e", "/a%00b", "/a%0d%0ab",
    "/a%1fb", "/a%7fb", "/a%23b", "/a#b", "/a%3fb", "/a%3bb", "/a;b", "//a", "/a//b", "/a/./b", "/a/../b",
    "/a/..", "/a/.", "/a/..?q", "/a/b/..%2f..%2fc", "/caf\xe9", "/a/.?x=/y",
]  # fmt: skip
PLAIN = [
    "/", "/a", "/a/", "/a.b/c..d", "/.well-known/x", "/a/...", "/a%20b", "/caf%c3%a9", "/a?next=/x/../y",
    "/a?next=//b;c#d", "/a?q=%2f%2e%00", "/a?q=\xe9", "/a?q=\\", "/a-b_c~d!$&'()*+,=:@", "/A/B",
]  # fmt: skip


@pytest.mark.parametrize("path", AMBIGUOUS)
def test_the_gate_turns_away_a_path_that_can_be_read_in_two_ways(door: Door, path: str) -> None:
    assert door.call_gated(path).status == 400


@pytest.mark.parametrize("path", PLAIN)
def test_the_gate_lets_a_plain_path_through(door: Door, path: str) -> None:
    assert door.call_gated(path).status == 200


def test_the_gate_and_authsvc_agree_on_what_can_be_read_in_two_ways() -> None:
    assert [paths.canonical(path) for path in PLAIN]
    for path in AMBIGUOUS:
        with pytest.raises(Refused):
            paths.canonical(path)


# ---- the files in nginx/ ----


def test_the_shipped_files_are_what_render_makes() -> None:
    shipped = {path.name: path.read_text() for path in SHIPPED.glob("authsvc-*.conf")}
    assert shipped == nginx.render(nginx.DEFAULT_HEADERS)


def test_the_demo_configuration_runs_as_shipped(api: EchoServer) -> None:
    port = free_port()
    with ScriptedAuth() as auth:
        moved = {
            "127.0.0.1:8000": auth.upstream,
            "127.0.0.1:9000": f"127.0.0.1:{api.port}",
            "8080": str(port),
        }
        files = {path.name: path.read_text() for path in SHIPPED.glob("*.conf")}
        for old, new in moved.items():
            files = {name: text.replace(old, new) for name, text in files.items()}
        with Nginx(files["demo.conf"], port, files):
            auth.answer = ALLOW
            assert call(port, "/api/x").at_api("X-User-Id") == [("X-User-Id", "alice")]
            assert call(port, "/api/x").at_api("Host") == [("Host", "api.example")]
            assert call(port, "/public/x", headers=SPOOFED).at_api("X-User-Id") == []
            assert [call(port, path).status for path in ("/api/a%2fb", "/other")] == [400, 404]


# ---- what render() refuses ----


@pytest.mark.parametrize(
    ("headers", "upstream", "complaint"),
    [
        pytest.param(["X_User_Id"], "a:1", "is not a header name", id="an underscore"),
        pytest.param(["X-User-Id; return 200"], "a:1", "is not a header name", id="nginx syntax in a header"),
        pytest.param(["X-User-Id\n"], "a:1", "is not a header name", id="a line break"),
        pytest.param([""], "a:1", "is not a header name", id="nothing"),
        pytest.param(["authorization"], "a:1", "has another meaning", id="a header with a meaning"),
        pytest.param(["X-Auth-Receipt"], "a:1", "has another meaning", id="the receipt"),
        pytest.param(["X-RateLimit-Limit"], "a:1", "has another meaning", id="a header of the limiter"),
        pytest.param(["X-User-Id", "x-user-id"], "a:1", "is listed twice", id="a header twice"),
        pytest.param(["X-User-Id"], "a", 'neither "host:port" nor', id="an upstream without a port"),
        pytest.param(["X-User-Id"], "a:1; }", "neither", id="nginx syntax in the upstream"),
        pytest.param(["X-User-Id"], "http://a:1", "neither", id="an upstream with a scheme"),
    ],
)
def test_render_refuses(headers: list[str], upstream: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        nginx.render(headers, upstream=upstream)
