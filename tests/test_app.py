"""The HTTP door answers 200, 401 or 403 without a body, whatever comes in, and writes down what it did."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from authsvc.adapters.journal import Journal
from authsvc.app import build_app
from authsvc.core.model import Reason, Request
from authsvc.core.response import Headers
from authsvc.demo.behaviours import Behaviour
from authsvc.demo.issuer import Issuer
from cases.kit import Door, settings_for

CONFIG = """\
authentication:
  oidc:
    providers:
      - {name: demo, issuer: "${ONE}", audience: "https://api.example.test", allow_insecure_http: true}
authorization: {rbac: {rules: [{path: /public/*, allowed_roles: []}, {path: /admin/*, allowed_roles: [admin]}]}}
"""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as started:
        yield started


@pytest.fixture
def door(issuer: Issuer) -> Door:
    return Door(settings_for(CONFIG, ONE=issuer.url))


METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO", "PROPFIND", "get"]
PATHS = ["/auth", "/auth/", "/", "/Auth", "/auth/x", "/nothing", "/authx", "//auth", "/%61uth/..", "/auth;x", "/é"]
SENT: list[dict[str, str]] = [
    {},
    {"X-Original-Method": "GET", "X-Original-URI": "/public/x"},
    {"X-Original-Method": "GET", "X-Original-URI": "/admin/x", "Authorization": "Bearer x"},
    {"Content-Length": "junk", "Content-Type": "\x01", "Accept": "text/nothing", "Range": "bytes=-1", "Host": ""},
    {"X-HTTP-Method-Override": "GET", "Expect": "100-continue", "If-None-Match": "*"},
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_path_is_answered_without_a_body(door: Door, method: str, path: str) -> None:
    for headers in SENT:
        answer = raw(door.app, method, path, headers)
        assert answer.status in (200, 401, 403)
        assert answer.headers["content-length"] == "0"
        assert answer.body == b""
        assert answer.headers["x-auth-reason"] in list(Reason)
        if path != "/auth":
            assert answer.status == 403


class Answer:
    """What a WSGI app answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def raw(app: Callable[..., Any], method: str, path: str, headers: dict[str, str], **environ: Any) -> Answer:
    """Ask the app as a server would, with nothing between that repairs or refuses."""
    asked: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path.encode().decode("latin-1"), "QUERY_STRING": ""}
    setup_testing_defaults(asked)
    asked |= {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()} | environ
    answer = Answer()

    def start(status: str, sent: list[tuple[str, str]], problem: Any = None) -> None:
        answer.status = int(status.split(" ")[0])
        answer.headers = {name.lower(): value for name, value in sent}

    answer.body = b"".join(app(asked, start))
    return answer


def test_a_call_that_may_not_wait_and_must_is_refused_and_marked_so_that_it_is_asked_again(
    issuer: Issuer, door: Door
) -> None:
    """By a server with one thread for all its calls: a key download must not hold the others up."""
    token = issuer.token()  # nobody has downloaded any key yet
    headers = {"X-Original-Method": "GET", "X-Original-URI": "/x", "Authorization": f"Bearer {token}"}
    environ: dict[str, Any] = {"authsvc.may_wait": False}
    seen: list[dict[str, Any]] = []

    def app(asked: dict[str, Any], start: Any) -> Any:
        seen.append(asked)
        return door.app(asked, start)

    assert raw(app, "GET", "/auth", headers, **environ).status == 403
    assert seen[0]["authsvc.must_wait"] is True
    assert raw(app, "GET", "/auth", headers).status == 200
    assert "authsvc.must_wait" not in seen[1]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"X-Original-Method": None}, id="no method"),
        pytest.param({"X-Original-URI": None}, id="no target"),
        pytest.param({"X-Original-Method": ""}, id="an empty method"),
        pytest.param({"X-Original-URI": ""}, id="an empty target"),
        pytest.param({"X-Original-Method": "GET,GET"}, id="a method sent twice"),
        pytest.param({"X-Original-Method": "GET, POST"}, id="two methods"),
        pytest.param({"X-Original-URI": "/public/x,/admin/x"}, id="two targets"),
        pytest.param({"X-Original-URI": "/public/x, /admin/x"}, id="two targets with a blank"),
        pytest.param({"X-Original-URI": "/public/x,/public/x"}, id="a target sent twice"),
    ],
)
def test_context_that_is_missing_or_doubled_refuses(door: Door, changed: dict[str, str | None]) -> None:
    whole = {"X-Original-Method": "GET", "X-Original-URI": "/public/x"} | changed
    answer = door.raw("GET", "/auth", {name: value for name, value in whole.items() if value is not None})
    assert answer.status_code == 403
    assert answer.headers["x-auth-reason"] in ("missing_context", "invalid_method")


def test_a_comma_within_a_path_is_no_second_target(door: Door) -> None:
    assert door.ask("GET", "/public/a,b").status_code == 200


def test_forwarded_headers_of_a_client_mean_nothing(door: Door) -> None:
    spoofed = {"X-Forwarded-Uri": "/public/x", "X-Forwarded-Method": "GET", "X-Rewrite-Url": "/public/x"}
    assert door.ask("GET", "/admin/x", **spoofed).headers["x-auth-reason"] == "no_credentials"
    assert door.raw("GET", "/auth", spoofed).headers["x-auth-reason"] == "missing_context"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer a.b.c",
        "Bearer a.b.c,Bearer a.b.c",
        "Basic YTpi",
        "bearer x y",
        "\x7f\x00",
        "Bearer " + "A" * 9000,
        "Bearer ....",
        "Bearer é",
        "Negotiate x",
    ],
)
def test_a_bad_credential_is_a_401_with_a_fixed_challenge(door: Door, authorization: str) -> None:
    sent = {"X-Original-Method": "GET", "X-Original-URI": "/x", "Authorization": authorization}
    answer = raw(door.app, "GET", "/auth", sent)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="api"')
    assert "A" * 50 not in str(answer.headers)


class Failing:
    """A service whose every part raises."""

    def __init__(self) -> None:
        self.journal = Journal(lines=io.StringIO())

    def answer(self, request: Request) -> tuple[int, Headers]:
        raise RuntimeError("secret in an exception")

    def at_once(self, head: bytes) -> str | None:
        return None

    def refuse(self, reason: Reason) -> tuple[int, Headers]:
        return 403, [("X-Auth-Status", "503"), ("X-Auth-Reason", reason.value)]

    def ready(self) -> dict[str, str]:
        raise RuntimeError("secret in an exception")


@pytest.mark.parametrize("path", ["/auth", "/readyz"])
def test_an_exception_at_the_door_is_a_403_that_tells_nothing(path: str) -> None:
    answer = raw(build_app(Failing()), "GET", path, {})
    assert (answer.status, answer.body) == (403, b"")
    assert answer.headers["x-auth-reason"] == "internal_error"
    assert "secret" not in str(answer.headers)


class Marking:
    """A service whose answer carries what a falcon response would have changed."""

    def __init__(self) -> None:
        self.journal = Journal(lines=io.StringIO())

    def answer(self, request: Request) -> tuple[int, Headers]:
        return 200, HEADERS

    def at_once(self, head: bytes) -> str | None:
        return None

    def refuse(self, reason: Reason) -> tuple[int, Headers]:
        return 403, HEADERS


HEADERS = [("X-Auth-Status", "200"), ("X-User-Id", "a b%20é")]


@pytest.mark.parametrize("method", METHODS)
def test_the_answer_is_what_the_service_says_and_nothing_of_it_is_changed_meanwhile(method: str) -> None:
    answer = raw(build_app(Marking()), method, "/auth", {})  # type: ignore[arg-type]
    assert (answer.status, answer.body) == (200, b"")
    told = {"content-length": "0", "content-type": "application/json"}
    assert answer.headers == {"x-auth-status": "200", "x-user-id": "a b%20é"} | told
    assert HEADERS == [("X-Auth-Status", "200"), ("X-User-Id", "a b%20é")]  # they may be a remembered token's


class BrokenStore:
    """A store that raises what nobody foresaw."""

    shared = False

    def get(self, key: str) -> bytes | None:
        raise ZeroDivisionError

    def set(self, key: str, value: bytes, ttl_s: int) -> None:
        raise ZeroDivisionError

    def add(self, key: str, value: bytes, ttl_s: int) -> bool:
        raise ZeroDivisionError

    def incr(self, key: str, ttl_s: int) -> int:
        raise ZeroDivisionError

    def decr(self, key: str) -> None:
        raise ZeroDivisionError


def test_an_unforeseen_error_in_a_decision_is_a_503_to_the_client_and_counted(issuer: Issuer) -> None:
    text = CONFIG + "rate_limit: {anonymous: {limit: 5/day}}\n"
    door = Door(settings_for(text, ONE=issuer.url), BrokenStore())
    answer = door.ask("GET", "/public/x")
    assert (answer.status_code, answer.headers["x-auth-status"]) == (403, "503")
    assert answer.headers["retry-after"] == "1"
    assert json.loads(door.lines[-1])["reason"] == "internal_error"
    assert 'authsvc_trouble_total{event="internal_error"} 1.0' in door.raw("GET", "/metrics").text


class FullDisk:
    """Where no line can be written."""

    def write(self, line: str) -> None:
        raise OSError("no space left")


def test_a_full_disk_does_not_decide_who_gets_in(issuer: Issuer) -> None:
    door = Door(settings_for(CONFIG, ONE=issuer.url), lines=FullDisk())
    assert door.ask("GET", "/x", issuer.token()).status_code == 200
    assert door.ask("GET", "/x").status_code == 401
    assert 'authsvc_trouble_total{event="journal_failed"} 2.0' in door.raw("GET", "/metrics").text


def test_keys_that_cannot_be_had_are_a_503_to_the_client() -> None:
    with Issuer() as dead:
        dead.behave(Behaviour.ERROR)
        answer = Door(settings_for(CONFIG, ONE=dead.url)).ask("GET", "/x", dead.token())
    assert (answer.status_code, answer.headers["x-auth-status"]) == (403, "503")
    assert answer.headers["x-auth-reason"] == "keys_unavailable"
    assert int(answer.headers["retry-after"]) > 0


# ---- what is written down


def test_an_audit_line_says_who_did_what_and_why(door: Door, issuer: Issuer) -> None:
    door.ask("GET", "/admin/%61?secret=1", issuer.token("ann", roles=["user"]))
    line = json.loads(door.lines[-1])
    assert line.pop("time").endswith("+00:00")
    assert isinstance(line.pop("latency_us"), int)
    assert line == {
        "request_id": "r-1",
        "outcome": "deny",
        "client": "",
        "tenant": "",
        "status": 403,
        "reason": "role_required",
        "method": "GET",
        "path": "/admin/a",
        "rule": "/admin/*",
        "provider": "demo",
        "user": "ann",
        "client_ip": "203.0.113.7",
        "tier": "",
        "shadow": "",
        "auth": "oidc",
        "ignored": "",
    }


def test_every_decision_is_one_line_of_json(door: Door, issuer: Issuer) -> None:
    odd = "a\nb\u2028\x00\ud83d"
    for sub in ("ann", odd):
        door.ask("GET", "/x", issuer.token(sub))
    door.ask("GET", "/x", **{"X-Request-ID": "x" * 5000})
    assert all(line.endswith("\n") and line.count("\n") == 1 and line.isascii() for line in door.lines)
    assert [json.loads(line)["outcome"] for line in door.lines] == ["allow", "allow", "deny"]
    assert json.loads(door.lines[1])["user"] == odd
    assert max(map(len, door.lines)) < 2000


def test_no_token_is_written_down_anywhere(door: Door, issuer: Issuer) -> None:
    good, expired = issuer.token(roles=["admin"]), issuer.token(exp=1000)
    forged = good[:-8] + "AAAAAAAA"
    for token in (good, expired, forged, "opaque-token-that-is-secret"):
        for target in ("/admin/x", "/public/x", f"/x?access_token={token}"):
            door.ask("GET", target, token)
    written = "".join(door.lines) + door.raw("GET", "/metrics").text + door.raw("GET", "/readyz").text
    for token in (good, expired, forged, "opaque-token-that-is-secret"):
        assert token not in written
        assert token.rpartition(".")[2] not in written
    assert len(door.lines) == 12


def test_allows_can_be_sampled_away_and_refusals_never(issuer: Issuer) -> None:
    door = Door(settings_for(CONFIG + "audit: {sample_allows: 0}\n", ONE=issuer.url))
    door.ask("GET", "/x", issuer.token())
    door.ask("GET", "/x")
    assert [json.loads(line)["outcome"] for line in door.lines] == ["deny"]


def test_metrics_count_by_outcome_reason_and_provider(door: Door, issuer: Issuer) -> None:
    door.ask("GET", "/x", issuer.token())
    door.ask("GET", "/x", issuer.token())
    door.ask("GET", "/x")
    door.ask("GET", "/public/x", "junk")
    text = door.raw("GET", "/metrics").text
    assert 'authsvc_decisions_total{outcome="allow",provider="demo",reason="allowed"} 2.0' in text
    assert 'authsvc_decisions_total{outcome="deny",provider="",reason="no_credentials"} 1.0' in text
    assert 'authsvc_ignored_credentials_total{reason="malformed_token"} 1.0' in text
    assert "authsvc_decision_seconds_count 4.0" in text


# ---- for operators


def test_it_says_that_it_is_alive(door: Door) -> None:
    answer = door.raw("GET", "/healthz")
    assert (answer.status_code, answer.text) == (200, "alive\n")


def test_it_is_ready_once_every_provider_has_keys(door: Door, issuer: Issuer) -> None:
    before = door.raw("GET", "/readyz")
    assert before.status_code == 503
    assert before.json["ready"] is False
    assert before.json["providers"]["demo"]["problem"] == "no download has ended yet"
    door.ask("GET", "/x", issuer.token())
    after = door.raw("GET", "/readyz")
    assert after.status_code == 200
    demo = {"keys": 1, "age_s": 0, "from": "provider", "stale": False, "last_error": "", "next_refresh_s": 300}
    assert after.json == {"ready": True, "config": "valid", "store": "memory", "providers": {"demo": demo}}


@pytest.mark.parametrize("path", ["/auth", "/healthz", "/readyz", "/metrics", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_it_keeps_the_rules_of_wsgi(door: Door, method: str, path: str) -> None:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": ""}
    environ |= {"HTTP_X_ORIGINAL_METHOD": "GET", "HTTP_X_ORIGINAL_URI": "/public/x"}
    setup_testing_defaults(environ)
    answered: list[str] = []

    def start(status: str, headers: list[tuple[str, str]], problem: Any = None) -> Callable[[bytes], object]:
        answered.append(status)
        return lambda data: None

    answer = validator(door.app)(environ, start)
    b"".join(answer)
    answer.close()
    assert len(answered) == 1
