"""nginx asks again after an internal redirect: the receipt tells authsvc that the request has been counted.

A real nginx with the shipped include files, between a scripted auth service, which writes a receipt on every yes, and
an echo API. Every sentence holds for both variants, auth_request and OpenResty, unless it says otherwise.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse

import pytest

from authsvc import nginx
from authsvc.demo.echo import EchoServer
from authsvc.demo.processes import BASE_CONFIG, TEMP_PATHS, Nginx, NotFound, free_port, lua_lines
from scripted_auth import RECEIPT, Answer, Headers, Question, ScriptedAuth
from test_nginx_contract import QUOTA, Reply, call, say
from waiting import within

YES = say(200, 200, ("X-User-Id", "alice"), *QUOTA)
OLD_QUOTA: Headers = (("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "41"), ("X-RateLimit-Reset", "30"))
LIMITED = say(403, 429, ("Retry-After", "17"), *QUOTA)
RATE_NAMES = (
    "RateLimit-Policy", "RateLimit", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset",
)  # fmt: skip

CONFIG = """
    include authsvc-http.conf;
    log_format shadows "$request_uri $authsvc_shadow";
    upstream api { server 127.0.0.1:%(api)s; }
    upstream talkative { server 127.0.0.1:%(talkative)s; }
    server {
        listen 127.0.0.1:%(port)s;
        root /nonexistent;
        include authsvc-server.conf;

        location /api/ { %(asks)s proxy_pass http://api; }
        location /open/ { include authsvc-strip.conf; proxy_pass http://api; }
        location /logged/ { %(asks)s access_log shadows.log shadows; proxy_pass http://api; }
        location /talkative/ { %(asks)s proxy_pass http://talkative; }

        location /rewritten/ { rewrite ^/rewritten/(.*)$ /api/$1 last; }
        location /open-tried/ { try_files $uri /api/x; }
        location /tried/ { %(asks)s try_files $uri /api/x; }
        location /tried-named/ { %(asks)s try_files $uri @asks; }
        location /tried-proved/ { %(asks)s try_files $uri @proved; }
        location /tried-rewritten/ { %(asks)s try_files $uri /rewritten/x; }
        location /tried-twice/ { %(asks)s try_files $uri /tried/x; }
        location /missing/ { %(asks)s error_page 404 = /api/x; }
        location /missing-named/ { %(asks)s error_page 404 = @asks; }
        location /missing-rewritten/ { %(asks)s error_page 404 = /rewritten/x; }
        location /intercepted/ {
            %(asks)s
            proxy_intercept_errors on;
            error_page 404 = /api/x;
            proxy_pass http://talkative/missing;
        }
        location /accelerated/ { %(asks)s proxy_pass http://talkative/accelerated/; }
        location /indexed/ { %(asks)s index /api/x; }
        location /outer/ {
            %(asks)s
            location /outer/inner/ {
                %(asks)s
                try_files $uri /api/x;
                location /outer/inner/core/ { %(asks)s proxy_pass http://api; }
            }
        }
        location /into-nested/ { %(asks)s try_files $uri /outer/inner/core/x; }
        location /through-nested/ { %(asks)s try_files $uri /outer/inner/x; }
        location /mixed/ { include authsvc-location.conf; try_files $uri /tried/x; }
        location /mixed-back/ { %(asks)s try_files $uri /mixed/x; }
        location @asks { %(asks)s proxy_pass http://api; }
        location @proved { include authsvc-proof.conf; proxy_pass http://api; }

        # An operator who answers a refusal with another protected page. The first error_page counts.
        location /guarded/ { error_page 401 403 500 = /api/x; %(asks)s proxy_pass http://api; }
        location /to-guarded/ { %(asks)s try_files $uri /guarded/x; }
    }
    server {
        listen 127.0.0.1:%(talkative)s;
        default_type text/plain;
        add_header X-Auth-Receipt forged always;
        add_header X-Auth-Status 200 always;
        location /accelerated/ { add_header X-Accel-Redirect /api/x; add_header X-Auth-Receipt forged; return 200; }
        location /missing { return 404; }
        location /talkative/new { add_header RateLimit '"api";r=1;t=2'; return 200; }
        location /talkative/old { add_header X-RateLimit-Limit 7; return 200; }
        location /talkative/busy { add_header Retry-After 9 always; return 429; }
    }
"""

# Where the client goes, and how often nginx asks on the way.
KINDS = [
    pytest.param("/api/x", 1, id="no redirect"),
    pytest.param("/rewritten/x", 1, id="rewrite last"),
    pytest.param("/open-tried/x", 1, id="try_files in an open location"),
    pytest.param("/tried/x", 2, id="try_files"),
    pytest.param("/tried-named/x", 2, id="try_files to a named location"),
    pytest.param("/tried-proved/x", 1, id="try_files to a named location with the proof include"),
    pytest.param("/tried-rewritten/x", 2, id="try_files, then rewrite last"),
    pytest.param("/tried-twice/x", 3, id="try_files, then try_files"),
    pytest.param("/missing/x", 2, id="error_page"),
    pytest.param("/missing-named/x", 2, id="error_page to a named location"),
    pytest.param("/missing-rewritten/x", 2, id="error_page, then rewrite last"),
    pytest.param("/intercepted/x", 2, id="error_page for an answer of the API that has a receipt of its own"),
    pytest.param("/accelerated/x", 2, id="X-Accel-Redirect by an API that writes a receipt of its own"),
    pytest.param("/indexed/", 2, id="index"),
    pytest.param("/outer/inner/core/x", 1, id="a nested location"),
    pytest.param("/outer/inner/x", 2, id="try_files in a nested location"),
    pytest.param("/into-nested/x", 2, id="try_files into a nested location"),
    pytest.param("/through-nested/x", 3, id="try_files into a nested location, then try_files"),
    pytest.param("/mixed/x", 3, id="try_files from auth_request to this variant"),
    pytest.param("/mixed-back/x", 4, id="try_files from this variant to auth_request and back"),
]


@dataclass
class Door:
    variant: str
    nginx: Nginx
    auth: ScriptedAuth

    def call(self, path: str, headers: Headers = ()) -> Reply:
        return call(self.nginx.port, path, headers=headers)


def numbered(question: Question, number: int) -> str:
    return f"r-{number}"


def named(question: Question, number: int) -> str:
    """A receipt that tells whose it is."""
    return f"{question.request_id}.{number}"


@contextmanager
def opened(variant: str, auth: ScriptedAuth, api: EchoServer) -> Iterator[Door]:
    lua = lua_lines() if variant == "openresty" else ""
    location = "authsvc-openresty.conf" if variant == "openresty" else "authsvc-location.conf"
    port = free_port()
    blanks = {"asks": f"include {location};", "port": port, "api": api.port, "talkative": free_port()}
    files = nginx.render(nginx.DEFAULT_HEADERS, upstream=auth.upstream)
    with Nginx(f"{lua}{BASE_CONFIG}http {{\n{TEMP_PATHS}{CONFIG % blanks}}}\n", port, files) as running:
        yield Door(variant, running, auth)


@pytest.fixture(scope="module", params=["auth_request", "openresty"])
def shared_door(request: pytest.FixtureRequest) -> Iterator[Door]:
    try:
        assert request.param == "auth_request" or lua_lines() is not None
    except NotFound as missing:
        pytest.skip(str(missing))
    with ScriptedAuth() as auth, EchoServer(0) as api:
        threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        with opened(request.param, auth, api) as door:
            yield door
        api.shutdown()


@pytest.fixture
def door(shared_door: Door) -> Door:
    shared_door.auth.forget()
    shared_door.auth.answer, shared_door.auth.receipt_for = YES, numbered
    return shared_door


# ---- the receipt comes back ----


@pytest.mark.parametrize(("path", "questions"), KINDS)
def test_each_later_question_of_a_request_brings_the_last_receipt_back(door: Door, path: str, questions: int) -> None:
    reply = door.call(path)
    assert reply.status == 200
    assert door.auth.receipts == ["", "r-1", "r-2", "r-3"][:questions]
    assert len(door.auth.receipts_by_request()) == 1


@pytest.mark.parametrize(("path", "questions"), KINDS)
def test_a_receipt_of_the_client_s_own_never_arrives(door: Door, path: str, questions: int) -> None:
    spoofed = ((RECEIPT, "forged"), ("x-auth-receipt", "forged"), ("X_Auth_Receipt", "forged"))
    reply = door.call(path, headers=(*spoofed, ("Connection", "X-Auth-Receipt, close")))
    assert door.auth.receipts == ["", "r-1", "r-2", "r-3"][:questions]
    assert not any("forged" in value for question in door.auth.questions for _, value in question.headers)
    assert b"forged" not in reply.body


@pytest.mark.parametrize(("path", "questions"), KINDS)
def test_neither_the_api_nor_the_client_sees_a_receipt(door: Door, path: str, questions: int) -> None:
    door.auth.receipt_for = lambda question, number: "the-secret-receipt"
    reply = door.call(path)
    assert reply.at_api(RECEIPT) == []
    assert reply.all(RECEIPT) == []
    assert "the-secret-receipt" not in f"{reply.headers}{reply.body!r}"


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_a_refused_client_sees_no_receipt(door: Door, status: int) -> None:
    door.auth.answer = say(401 if status == 401 else 403, status, (RECEIPT, "forged"))
    reply = door.call("/api/x")
    assert reply.status == status
    assert "forged" not in f"{reply.headers}{reply.body!r}"


def test_an_open_location_hands_no_receipt_of_the_client_to_the_api(door: Door) -> None:
    assert door.call("/open/x", headers=((RECEIPT, "forged"),)).at_api(RECEIPT) == []


def test_a_receipt_of_four_hundred_bytes_of_any_printable_character_comes_back_as_it_was(door: Door) -> None:
    printable = "".join(map(chr, range(0x21, 0x7F)))
    receipt = (printable + ' $host "q" \\n 200/200/x ').ljust(399, "=") + ";"
    door.auth.receipt_for = lambda question, number: receipt
    door.call("/tried-twice/x")
    assert door.auth.receipts == ["", receipt, receipt]


def test_a_receipt_that_came_with_the_second_try_is_kept(door: Door) -> None:
    door.call("/api/x")
    door.auth.questions.clear()
    door.auth.hang_ups = 1
    assert door.call("/tried/x").status == 200
    assert door.auth.receipts == ["", "", "r-2"]


# ---- nobody else's ----


def test_two_requests_on_one_connection_do_not_share_a_receipt(door: Door) -> None:
    connection = HTTPConnection("127.0.0.1", door.nginx.port, timeout=10)
    for path in ("/tried/x", "/api/x", "/missing/x", "/tried-named/x"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.status, response.will_close) == (200, False)
        response.read()
    connection.close()
    assert door.auth.receipts == ["", "r-1", "", "", "r-4", "", "r-6"]
    assert len(door.auth.receipts_by_request()) == 4


def test_nor_do_requests_that_are_sent_at_once_on_one_connection(door: Door) -> None:
    paths = ["/tried/x", "/missing/x", "/api/x", "/tried-twice/x"]
    with socket.create_connection(("127.0.0.1", door.nginx.port), timeout=10) as connection:
        requests = [f"GET {path} HTTP/1.1\r\nHost: x\r\n{{}}\r\n" for path in paths]
        text = "".join(request.format("") for request in requests[:-1]) + requests[-1].format("Connection: close\r\n")
        connection.sendall(text.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 ") == len(paths)
    assert door.auth.receipts == ["", "r-1", "", "r-3", "", "", "r-6", "r-7"]


def test_nor_do_requests_at_the_same_time(door: Door) -> None:
    door.auth.receipt_for = named

    def many(path: str) -> list[int]:
        connection = HTTPConnection("127.0.0.1", door.nginx.port, timeout=10)
        return [_status(connection, path) for _ in range(25)]

    with ThreadPoolExecutor(8) as pool:
        statuses = [status for got in pool.map(many, ["/tried/x", "/tried-twice/x"] * 4) for status in got]
    assert set(statuses) == {200}
    by_request = door.auth.receipts_by_request()
    assert len(by_request) == 200
    for request_id, (first, *later) in by_request.items():
        assert first == ""
        assert later
        assert all(receipt.startswith(f"{request_id}.") for receipt in later)


def _status(connection: HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    response: HTTPResponse = connection.getresponse()
    response.read()
    return response.status


# ---- what is no yes neither makes a receipt nor takes one away ----

NO = [
    pytest.param(say(401, 401, (RECEIPT, "forged")), id="401"),
    pytest.param(say(403, 403, (RECEIPT, "forged")), id="403"),
    pytest.param(say(403, 429, (RECEIPT, "forged")), id="429"),
    pytest.param(say(403, 200, (RECEIPT, "forged")), id="403 that says 200"),
    pytest.param(say(403, 403, (RECEIPT, "x 200/200/forged")), id="403 with a receipt that looks like a yes"),
    pytest.param(say(500, 200, (RECEIPT, "forged")), id="500"),
    pytest.param(say(302, 200, (RECEIPT, "forged")), id="302"),
]


@pytest.mark.parametrize("answer", NO)
def test_a_no_makes_no_receipt(door: Door, answer: Answer) -> None:
    door.auth.script = [answer]
    door.call("/guarded/x")
    asked_again = 0 if door.variant == "openresty" else 1  # Lua answers by itself: no error_page, no later question
    assert door.auth.receipts == [""] * (1 + asked_again)


@pytest.mark.parametrize("answer", NO)
def test_a_no_wipes_no_receipt(door: Door, answer: Answer) -> None:
    door.auth.script = [YES, answer]
    door.call("/to-guarded/x")
    assert door.auth.receipts == ["", "r-1", "r-1"][: 2 if door.variant == "openresty" else 3]


def test_nor_does_an_auth_service_that_hangs_up(door: Door) -> None:
    def then_hang_up(question: Question, number: int) -> str:
        door.auth.hang_ups = 1000  # nginx tries each of its idle connections, and a new one
        return numbered(question, number)

    door.auth.receipt_for = then_hang_up
    reply = door.call("/to-guarded/x")
    door.auth.hang_ups = 0
    assert reply.status in (500, 503)
    first, *later = door.auth.receipts
    assert (first, set(later)) == ("", {"r-1"})


def test_a_yes_without_a_receipt_leaves_the_one_that_is_there(door: Door) -> None:
    door.auth.receipt_for = None
    door.auth.script = [say(200, 200, (RECEIPT, "only"))]
    assert door.call("/tried-twice/x").status == 200
    assert door.auth.receipts == ["", "only", "only"]


@pytest.mark.parametrize("answer", [Answer(200), Answer(204), Answer(206, (("X-Auth-Status", "200"),))])
def test_a_yes_without_authsvc_s_mark_makes_no_receipt(door: Door, answer: Answer) -> None:
    door.auth.receipt_for = None
    door.auth.script = [Answer(answer.status, (*answer.headers, (RECEIPT, "forged")))]
    door.call("/tried/x")
    assert set(door.auth.receipts) == {""}


# ---- what the limiter tells the client ----


def rates(reply: Reply) -> Headers:
    return tuple((name, value) for name in RATE_NAMES for value in reply.all(name))


@pytest.mark.parametrize("more", [(), OLD_QUOTA], ids=["the draft's headers", "and X-RateLimit-*"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/api/x", 200, id="200"),
        pytest.param("/tried/x", 200, id="200 after try_files"),
        pytest.param("/missing/x", 200, id="200 after error_page"),
        pytest.param("/tried-proved/x", 200, id="200 with the proof include"),
        pytest.param("/api/x?status=500", 500, id="an error of the API"),
        pytest.param("/api/x", 429, id="429"),
        pytest.param("/tried/x", 429, id="429 in an answer to the first of two questions"),
    ],
)
def test_the_client_is_told_its_quota(door: Door, path: str, status: int, more: Headers) -> None:
    told = LIMITED if status == 429 else YES
    door.auth.answer = Answer(told.status, (*told.headers, *more))
    reply = door.call(path)
    assert reply.status == status
    assert rates(reply) == tuple(
        sorted((pair for pair in door.auth.answer.headers if pair[0] in RATE_NAMES), key=_place)
    )


def _place(pair: tuple[str, str]) -> int:
    return RATE_NAMES.index(pair[0])


def test_a_refusal_at_the_second_question_tells_the_quota_too(door: Door) -> None:
    door.auth.script = [YES, LIMITED]
    reply = door.call("/tried/x")
    assert (reply.status, reply.all("Retry-After")) == (429, ["17"])
    assert rates(reply) == (QUOTA[1], QUOTA[0], ("Retry-After", "17"))


@pytest.mark.parametrize("answer", [say(200, 200), say(401, 401), say(403, 403)], ids=["200", "401", "403"])
def test_where_authsvc_says_nothing_of_a_quota_nginx_says_nothing(door: Door, answer: Answer) -> None:
    door.auth.answer = answer
    assert rates(door.call("/api/x")) == ()


def test_the_quota_of_the_api_stays_beside_authsvc_s_in_the_lists(door: Door) -> None:
    reply = door.call("/talkative/new")
    assert sorted(reply.all("RateLimit")) == sorted(['"api";r=1;t=2', QUOTA[0][1]])
    assert reply.all("RateLimit-Policy") == [QUOTA[1][1]]


def test_x_ratelimit_of_the_api_stays_alone(door: Door) -> None:
    door.auth.answer = say(200, 200, *QUOTA, *OLD_QUOTA)
    assert rates(door.call("/talkative/old")) == (QUOTA[1], QUOTA[0], ("X-RateLimit-Limit", "7"))


def test_a_429_of_the_api_keeps_its_own_retry_after(door: Door) -> None:
    reply = door.call("/talkative/busy")
    assert (reply.status, reply.all("Retry-After"), reply.all("RateLimit")) == (429, ["9"], [QUOTA[0][1]])


def test_what_a_limit_would_refuse_is_for_the_log_and_not_for_the_client_or_the_api(door: Door) -> None:
    door.auth.answer = say(200, 200, ("X-Auth-Shadow", "rate_limited"))
    reply = door.call("/logged/x")
    assert reply.status == 200
    assert "shadow" not in f"{reply.headers}{reply.body!r}".lower()
    assert b"rate_limited" not in reply.body
    log = door.nginx.folder / "shadows.log"  # written after the answer
    assert within(2, lambda: log.read_text() == "/logged/x rate_limited\n")


def test_nothing_of_it_is_a_complaint_in_nginx_s_log(door: Door) -> None:
    for path in ("/api/x", "/tried/x", "/mixed-back/x"):
        door.call(path)
    assert "uninitialized" not in door.nginx.error_log
