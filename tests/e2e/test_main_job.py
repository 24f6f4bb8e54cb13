"""The main job with everything real: nginx asks, authsvc decides, the API gets an identity or nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from authsvc.demo.behaviours import Behaviour
from authsvc.demo.stack import CONFIG, Stack, stack
from waiting import within

IDENTITY = {
    "x-user-id",
    "x-user-email",
    "x-user-roles",
    "x-user-issuer",
    "x-user-tenant",
    "x-org-id",
    "x-subscription-plan",
}
# A trial tier large enough that a burst is more than a handful of calls.
TIGHT = CONFIG.replace("trial: {limit: 3/hour", "trial: {limit: 20/hour")


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack(TIGHT) as started:
        yield started


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.pairs = [(name.lower(), value) for name, value in response.getheaders()]
        self.headers = dict(self.pairs)
        self.body = response.read()

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def at_the_api(self) -> list[tuple[str, str]]:
        return [(name.lower(), value) for name, value in self.json["headers"]]


def call(running: Stack, path: str, token: str | None = None, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", running.nginx.port, timeout=10)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, headers=sent)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def raw(port: int, text: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(text.encode("latin-1"))
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_the_api_gets_exactly_our_identity_headers(running: Stack) -> None:
    token = running.issuer.token(
        "u-7", roles=["admin", "developer"], email="jane@x.test", plan="pro", organization_id="o-1"
    )
    answer = call(running, "/api/orders?x=1", token)
    assert answer.status == 200
    identity = {name: value for name, value in answer.at_the_api if name in IDENTITY}
    assert identity == {
        "x-user-id": "u-7",
        "x-user-email": "jane@x.test",
        "x-user-roles": '["admin", "developer"]',
        "x-user-issuer": "demo",
        "x-org-id": "o-1",
        "x-subscription-plan": "pro",
    }
    assert "authorization" not in dict(answer.at_the_api)
    assert answer.headers["ratelimit-policy"] == '"pro";q=10000;w=3600'


@pytest.mark.parametrize("path", ["/api/orders", "/api/public/page"])
def test_identity_headers_of_the_client_never_reach_the_api(running: Stack, path: str) -> None:
    token = "" if "public" in path else f"Authorization: Bearer {running.issuer.token('real')}\r\n"
    spoofed = "".join(
        f"{name}: evil\r\n"
        for name in ("X-User-Id", "x-user-id", "X-User-Id", "X_User_Id", "X.User.Id", "X-User-Roles", "X-Org-ID")
    )
    answer = raw(
        running.nginx.port,
        f"GET {path} HTTP/1.1\r\nHost: x\r\n{token}{spoofed}Connection: close, X-User-Id\r\n\r\n",
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert b"evil" not in body
    names = [name.lower() for name, _ in json.loads(body)["headers"]]
    assert names.count("x-user-id") == (0 if "public" in path else 1)


def test_a_call_without_a_token_is_401_with_a_bare_challenge(running: Stack) -> None:
    answer = call(running, "/api/orders")
    assert (answer.status, answer.json["reason"]) == (401, "no_credentials")
    assert [value for name, value in answer.pairs if name == "www-authenticate"] == ['Bearer realm="api"']


def test_an_expired_token_is_401_with_one_challenge_that_says_so(running: Stack) -> None:
    answer = call(running, "/api/orders", running.issuer.token(exp=int(time.time()) - 3600))
    assert (answer.status, answer.json["reason"]) == (401, "expired")
    challenges = [value for name, value in answer.pairs if name == "www-authenticate"]
    assert len(challenges) == 1
    assert 'error="invalid_token"' in challenges[0]


def test_a_missing_role_is_403_and_the_api_is_not_asked(running: Stack) -> None:
    before = running.api.requests_seen
    answer = call(running, "/api/admin/x", running.issuer.token(roles=["user"]))
    assert (answer.status, answer.json["reason"]) == (403, "role_required")
    assert running.api.requests_seen == before


def test_over_the_limit_is_429_with_retry_after_and_exactly_the_limit_got_through(running: Stack) -> None:
    token = running.issuer.token("greedy", plan="trial")
    answers = [call(running, "/api/orders", token) for _ in range(25)]
    assert [answer.status for answer in answers] == [200] * 20 + [429] * 5
    last = answers[-1]
    assert int(last.headers["retry-after"]) >= 1
    assert last.headers["ratelimit"].startswith('"trial";r=0;t=')
    assert last.json["reason"] == "rate_limited"
    assert int(last.headers["retry-after"]) >= int(last.headers["ratelimit"].rpartition("t=")[2])


def test_a_hundred_mixed_calls_open_no_new_connection_to_authsvc(running: Stack) -> None:
    user, bad = running.issuer.token("mixed", plan="enterprise"), "not.a.token"
    calls = [
        ("/api/orders", user),
        ("/api/orders", None),
        ("/api/orders", bad),
        ("/api/admin/x", user),
        ("/api/public/x", None),
    ]
    for path, token in calls:
        call(running, path, token)
    before = _connections(running)
    for number in range(100):
        call(running, *calls[number % len(calls)])
    assert _connections(running) == before


def _connections(running: Stack) -> set[str]:
    """The local ends of nginx's established connections to authsvc (from the kernel's table)."""
    port = f"{running.authsvc.port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return {row[1] for row in rows if row[2].endswith(f":{port}") and row[3] == "01"}


BAD_AUTHORIZATION = {
    "empty": "",
    "only_a_scheme": "Bearer",
    "basic": "Basic dXNlcjpwYXNz",
    "two_dots": "Bearer ..",
    "nine_thousand_bytes": "Bearer " + "a" * 7990,
    "bytes_above_ascii": "Bearer \xe9\xff.\xe9.\xe9",
    "five_parts": "Bearer a.b.c.d.e",
    "a_comma": "Bearer a,Bearer b",
}


@pytest.mark.parametrize("value", BAD_AUTHORIZATION.values(), ids=BAD_AUTHORIZATION)
def test_bad_credentials_are_401(running: Stack, value: str) -> None:
    request = f"GET /api/orders HTTP/1.1\r\nHost: x\r\nAuthorization: {value}\r\nConnection: close\r\n\r\n"
    assert b" 401 " in raw(running.nginx.port, request).splitlines()[0]


BAD_DIRECT = {
    "no_context": "",
    "method_twice": "X-Original-Method: GET\r\nX-Original-Method: GET\r\nX-Original-URI: /api/public/x\r\n",
    "uri_twice": "X-Original-Method: GET\r\nX-Original-URI: /api/public/x\r\nX-Original-URI: /api/admin/x\r\n",
    "no_uri": "X-Original-Method: GET\r\n",
    "empty_uri": "X-Original-Method: GET\r\nX-Original-URI: \r\n",
    "lower_case_method": "X-Original-Method: get\r\nX-Original-URI: /api/public/x\r\n",
    "uri_of_nine_thousand_bytes": "X-Original-Method: GET\r\nX-Original-URI: /api/public/" + "a" * 9000 + "\r\n",
    "a_health_check_user_agent": "User-Agent: kube-probe/1.29\r\n",
    "forwarded_headers_instead": "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /api/public/x\r\n",
    "script_name": "SCRIPT_NAME: /auth\r\nX-Original-Method: GET\r\nX-Original-URI: /api/orders\r\n",
}


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD", "FOO"])
@pytest.mark.parametrize("headers", BAD_DIRECT.values(), ids=BAD_DIRECT)
def test_asked_directly_and_badly_authsvc_refuses_with_401_or_403(running: Stack, headers: str, method: str) -> None:
    request = f"{method} /auth HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n"
    answer = raw(running.authsvc.port, request)
    assert answer.split(b" ", 2)[1] in (b"401", b"403")
    assert b"content-length: 0" in answer.lower()
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/", "/auth/", "/AUTH", "/auth/x", "/nope", "//auth"])
def test_unknown_endpoints_are_refused_with_403(running: Stack, path: str) -> None:
    for method in ("GET", "OPTIONS", "POST"):
        answer = raw(running.authsvc.port, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.split(b" ", 2)[1] == b"403"


AMBIGUOUS = [
    "/api/public/..%2f..%2fadmin",
    "/api/public/%2e%2e/admin",
    "/api/public//x",
    "/api/public/x;y",
    "/api/public/x%23/y",
    "/api/public/x%5cy",
    "/api/public/%252e%252e/admin",
    "/api/public/%c0%ae%c0%ae/admin",
    "/api/public/./../admin/x",
]


@pytest.mark.parametrize("path", AMBIGUOUS)
def test_an_ambiguous_path_never_gets_through_even_where_it_looks_public(running: Stack, path: str) -> None:
    before = running.api.requests_seen
    answer = raw(running.nginx.port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.split(b" ", 2)[1] in (b"400", b"401", b"403", b"404")
    assert running.api.requests_seen == before


def test_no_token_reaches_the_log_or_the_metrics(running: Stack) -> None:
    token = running.issuer.token("private")
    call(running, "/api/orders", token)
    written = running.authsvc.output.read_text("utf-8") if running.authsvc.output else ""
    assert '"user": "private"' in written
    metrics = running.authsvc.get("/metrics")[1].decode()
    for part in token.split("."):
        assert part not in written + metrics


def malformed(running: Stack) -> float:
    """How many calls were refused for a malformed token, as the metrics have it."""
    text = running.authsvc.get("/metrics")[1].decode()
    wanted = 'authsvc_decisions_total{outcome="deny",provider="",reason="malformed_token"}'
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(wanted))


def test_the_metrics_are_right_across_workers(running: Stack) -> None:
    time.sleep(2)  # each worker tells what it counted within a second, or hardly later where others work beside it
    before = malformed(running)
    for _ in range(40):
        call(running, "/api/orders", "not.a.token")
    assert within(5, lambda: malformed(running) == before + 40)
    assert not within(1, lambda: malformed(running) != before + 40)


def test_no_count_is_lost_when_workers_are_replaced_at_once(running: Stack) -> None:
    time.sleep(1)
    before = malformed(running)
    for _ in range(3):
        for _ in range(10):
            call(running, "/api/orders", "not.a.token")
        os.kill(running.authsvc.pid, signal.SIGHUP)
        time.sleep(0.5)
    assert within(5, lambda: malformed(running) == before + 30)


def test_no_call_is_lost_while_authsvc_reloads(running: Stack) -> None:
    token = running.issuer.token("reloading", plan="enterprise")
    parent = running.authsvc.pid
    statuses = set()
    for number in range(300):
        if number in (50, 150):
            os.kill(parent, signal.SIGHUP)
        statuses.add(call(running, "/api/orders", token).status)
        time.sleep(0.01)
    assert statuses == {200}


def test_when_authsvc_is_dead_the_client_gets_503_and_the_api_nothing() -> None:
    with stack(workers=1, with_memcached=False) as running:
        token = running.issuer.token()
        assert call(running, "/api/orders", token).status == 200
        running.authsvc.stop()
        before = running.api.requests_seen
        answer = call(running, "/api/orders", token)
        assert answer.status == 503
        assert "retry-after" in answer.headers
        assert running.api.requests_seen == before


def test_without_its_provider_authsvc_starts_says_so_and_answers_503_until_keys_come() -> None:
    with stack(CONFIG + "\n", workers=1, with_memcached=False, ready="/healthz", issuer=_failing()) as running:
        status, body = running.authsvc.get("/readyz")
        assert status == 503
        assert b"500" in body
        answer = call(running, "/api/orders", running.issuer.token())
        assert (answer.status, answer.json["reason"]) == (503, "keys_unavailable")
        assert "retry-after" in answer.headers
        running.issuer.behave(Behaviour.OK)
        running.authsvc.wait_for("/readyz")
        assert call(running, "/api/orders", running.issuer.token()).status == 200


def _failing() -> Any:
    from authsvc.demo.issuer import Issuer

    issuer = Issuer().__enter__()
    issuer.behave(Behaviour.ERROR)
    return issuer


def test_a_refused_token_is_counted_for_the_provider_it_names(running: Stack) -> None:
    call(running, "/api/orders", running.issuer.token(aud="https://elsewhere.test"))
    assert (running.audit()[-1]["reason"], running.audit()[-1]["provider"]) == ("wrong_audience", "demo")
    call(running, "/api/public/x;y?secret=1")
    assert running.audit()[-1]["path"] == "/api/public/x;y"


def test_readyz_tells_of_the_store_and_of_a_config_that_was_not_taken() -> None:
    with stack(workers=1) as running:
        assert json.loads(running.authsvc.get("/readyz")[1])["store"] == "ok"
        good = running.authsvc.config_file.read_text("utf-8")
        running.authsvc.config_file.write_text(good + "nonsense: 1\n", "utf-8")
        os.kill(running.authsvc.pid, signal.SIGHUP)
        assert within(8, lambda: b"has mistakes" in running.authsvc.get("/readyz")[1])
        assert call(running, "/api/orders", running.issuer.token()).status == 200
        more = good.replace("extract_headers:", "extract_headers:\n      - {claim: team, header: X-Team}")
        running.authsvc.config_file.write_text(more, "utf-8")
        os.kill(running.authsvc.pid, signal.SIGHUP)
        assert within(8, lambda: b'"valid"' in running.authsvc.get("/readyz")[1])
        assert "a header changed that nginx knows" in running.authsvc.output.read_text("utf-8")  # type: ignore[union-attr]
        running.memcached.stop()  # type: ignore[union-attr]
        assert "memcached at" in json.loads(running.authsvc.get("/readyz")[1])["store"]
