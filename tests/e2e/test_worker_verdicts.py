"""Whatever is sent, our worker and gunicorn's gthread say the same of it; where ours is stricter, this says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hostile_requests import AGAIN, HEAD, REQUESTS
from plain_server import PlainServer
from wire import answers, exchange, statuses

# Where ours says something else: ours, then gthread's. Never a yes where gthread has a no.
OTHERWISE: dict[str, tuple[list[int], list[int]]] = {
    "http 1.2": ([400], [200]),  # there is no such version
    "an empty coding": ([400], [501]),
    "a hundred and one fields, some dropped": ([431], [200]),  # what is dropped was sent, and counts
    "five fields of seventy kilobytes": ([431], [200]),  # nginx takes 32 at most
    "three hundred fields": ([400], [431]),  # the C parser gives up at 256 without saying why
    "a broken chunk": ([200], [200, 400]),  # ours reads no body, so it does not see that it is broken
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, PlainServer]]:
    folder = tmp_path_factory.mktemp("workers")
    with ExitStack() as running:
        yield {name: running.enter_context(PlainServer(name, folder)) for name in ("fast", "threads")}


@pytest.mark.parametrize("name", REQUESTS)
def test_both_workers_say_the_same(servers: dict[str, PlainServer], name: str) -> None:
    sent = REQUESTS[name].encode("latin-1")
    ours, theirs = (statuses(exchange(server.port, sent, hang_up=True)[0]) for server in servers.values())
    assert (ours, theirs) in (OTHERWISE.get(name), (theirs, theirs))  # gunicorn_h1c 0.6.10 is nearer to gthread


# Nothing behind one of these may be taken for a request: not even where the second one is in order.
ENDS = [name for name, sent in REQUESTS.items() if sent.endswith(AGAIN)]
GOES_ON = {"an upgrade to a websocket", "a length of zero, and one more", "an answer without content"}


@pytest.mark.parametrize("name", sorted(set(ENDS) - GOES_ON))
def test_what_follows_is_no_request_and_the_connection_ends(servers: dict[str, PlainServer], name: str) -> None:
    got, closed = exchange(servers["fast"].port, REQUESTS[name].encode("latin-1"), hang_up=False)
    assert b"smuggled" not in got
    assert len(statuses(got)) == 1
    assert closed


ENVIRONS = {
    "as nginx asks": HEAD + "X-Original-Method: GET\r\nX-Original-URI: /api/x?y=1\r\nAuthorization: Bearer a.b.c\r\n",
    "fields twice": HEAD + "X-A: 1\r\nx-a: 2\r\nX-B:\r\nX-A: 3\r\nX-B: \r\n",
    "names with _": HEAD + "X_User_Id: evil\r\nX-User_Id: evil\r\nX-User-Id: good\r\n",
    "forwarders": HEAD + "SCRIPT_NAME: /echo\r\nPATH_INFO: /x\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9\r\n",
    "schemes": HEAD + "X-Forwarded-Protocol: ssl\r\nX-Forwarded-Ssl: on\r\nForwarded: proto=https\r\n",
    "spaces around": HEAD + "A:  \t b c \t \r\n",
    "raw bytes": HEAD + "A: \xe9\xff\x80\r\n",
    "content-type": HEAD + "Content-Type: text/plain\r\nContent-Length: 0\r\n",
    "a body": HEAD + "Content-Length: 5\r\n",
    "an absolute target": "GET http://a.test/echo?q#f HTTP/1.1\r\nHost: x\r\n",
    "a fragment": "GET /echo?a=b#c HTTP/1.1\r\nHost: x\r\n",
    "escapes": "GET /%65cho?%41=%zz HTTP/1.1\r\nHost: x\r\n",
    "http 1.0": "GET /echo HTTP/1.0\r\n",
    "another method": "PURGE /echo HTTP/1.1\r\nHost: x\r\n",
    "a name that is an attack elsewhere": HEAD + "Proxy: http://evil.test\r\nTransfer: x\r\n",
}
OF_THE_PROCESS = {"pid", "thread", "REMOTE_PORT", "SERVER_PORT", "authsvc.may_wait"}


@pytest.mark.parametrize("head", ENVIRONS.values(), ids=ENVIRONS)
def test_both_workers_give_the_app_the_same_environ(servers: dict[str, PlainServer], head: str) -> None:
    sent = head.replace("GET /auth ", "GET /echo ") + "\r\n"
    ours, theirs = (_environ(server, sent) for server in servers.values())
    assert {**ours, **dict.fromkeys(OF_THE_PROCESS)} == {**theirs, **dict.fromkeys(OF_THE_PROCESS)}
    assert (ours["wsgi.url_scheme"], ours["SCRIPT_NAME"], ours["PATH_INFO"]) == ("http", "", "/echo")


def _environ(server: PlainServer, sent: str) -> dict[str, Any]:
    [(status, _, body)] = answers(exchange(server.port, sent.encode("latin-1"), hang_up=True)[0])
    assert status == 200
    told: dict[str, Any] = json.loads(body)
    return told


def test_the_app_may_not_wait_in_the_loop_and_may_in_a_thread(servers: dict[str, PlainServer]) -> None:
    assert _environ(servers["fast"], HEAD.replace("/auth", "/echo") + "\r\n")["authsvc.may_wait"] is False
    assert "authsvc.may_wait" not in _environ(servers["threads"], HEAD.replace("/auth", "/echo") + "\r\n")


@pytest.mark.parametrize("worker", ["fast", "threads"])
def test_wsgiref_finds_nothing_wrong(servers: dict[str, PlainServer], worker: str) -> None:
    for head in ENVIRONS.values():
        sent = head.replace("/auth ", "/validated ").replace("/echo", "/validated")
        got = exchange(servers[worker].port, sent.encode("latin-1") + b"\r\n", hang_up=True)[0]
        assert statuses(got) == [200]
