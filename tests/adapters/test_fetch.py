"""Downloads from servers that mean harm: always a document or a FetchFailed, always within the deadline."""

from __future__ import annotations

import base64
import gzip
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from authsvc.adapters.fetch import Fetched, FetchFailed, fetch_json, max_age, post_form
from authsvc.demo.processes import free_port
from hostile import Act, Authority, Hostile, drips, floods, hangs, ok, says

DEADLINE_S = 0.4
BOUND_S = DEADLINE_S + 1.5
GOOD = b'{"keys": []}'
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def fetch(url: str, ca_file: str | None = None, allow_http: bool = True) -> Fetched:
    return fetch_json(url, ca_file=ca_file, allow_http=allow_http, deadline_s=DEADLINE_S)


def refused(url: str, ca_file: str | None = None, allow_http: bool = True) -> str:
    """The text of the failure, which came in time."""
    return failure(url, ca_file, allow_http)[1]


def failure(url: str, ca_file: str | None = None, allow_http: bool = True) -> tuple[str, str]:
    """Its slug and its text."""
    started = time.monotonic()
    with pytest.raises(FetchFailed) as caught:
        fetch(url, ca_file, allow_http)
    assert time.monotonic() - started < BOUND_S
    text = str(caught.value)
    assert text.startswith(url)
    assert not any(word in text for word in ("Error", "Exception", "urllib3", "object at 0x", "Traceback"))
    return caught.value.outcome, text.removeprefix(url + ": ")


def test_a_plain_good_answer_is_the_document() -> None:
    with Hostile(says(ok(GOOD, JSON))) as server:
        assert fetch(server.url).document == {"keys": []}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ok(GOOD), id="without a content type"),
        pytest.param(ok(GOOD, "Content-Type: text/plain"), id="with the wrong content type"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD, id="without a length, ended by hanging up"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD, id="in HTTP/1.0"),
        pytest.param(
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"key\r\n7\r\ns": []}\r\n0\r\n\r\n',
            id="in chunks",
        ),
        pytest.param(ok(GOOD, "Content-Encoding: identity"), id="that says it is not compressed"),
        pytest.param(ok(b" \n" + GOOD + b"\n"), id="with blanks around it"),
    ],
)
def test_a_good_answer_may_come(answer: bytes) -> None:
    with Hostile(says(answer)) as server:
        assert fetch(server.url).document == {"keys": []}


@pytest.mark.parametrize(
    ("answer", "because"),
    [
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "the answer is 302, not 200: it redirects, and redirects are not followed",
            id="a redirect",
        ),
        pytest.param(ok(GOOD, status="500 Oops"), "the answer is 500, not 200", id="an error of the server"),
        pytest.param(ok(GOOD, status="404 Not Found"), "the answer is 404, not 200", id="nothing there"),
        pytest.param(ok(GOOD, status="206 Partial"), "the answer is 206, not 200", id="a part"),
        pytest.param(ok(GOOD, status="203 Altered"), "the answer is 203, not 200", id="something altered on the way"),
        pytest.param(ok(b"<html>log in</html>"), "the answer is no usable JSON document (not JSON)", id="a web page"),
        pytest.param(ok(b"[]"), "the answer is no usable JSON document (not a JSON object)", id="a list"),
        pytest.param(ok(b"null"), "the answer is no usable JSON document (not a JSON object)", id="null"),
        pytest.param(ok(b""), "the answer is no usable JSON document (not JSON)", id="nothing"),
        pytest.param(ok(b"\xff\xfe{}"), "the answer is no usable JSON document (not JSON)", id="no UTF-8"),
        pytest.param(
            ok(b'{"keys": [], "keys": [1]}'),
            "the answer is no usable JSON document (a member appears twice)",
            id="a member twice",
        ),
        pytest.param(
            ok(b'{"keys": [{"kid": "a", "kid": "b"}]}'),
            "the answer is no usable JSON document (a member appears twice)",
            id="a member twice further down",
        ),
        pytest.param(
            ok(b"[" * 100_000), "the answer is no usable JSON document (nested too deep)", id="a deep nesting"
        ),
        pytest.param(
            ok(gzip.compress(GOOD), "Content-Encoding: gzip"),
            "the answer is compressed, though plain was asked for",
            id="a compressed body",
        ),
        pytest.param(
            ok(gzip.compress(b"[" + b"1," * 10_000_000 + b"1]"), "Content-Encoding: gzip"),
            "the answer is compressed, though plain was asked for",
            id="a compressed bomb",
        ),
        pytest.param(ok(b" " * 1_000_000), "the answer is larger than 262144 bytes", id="a body of 1 MB"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + GOOD, "the answer broke off", id="a body that broke off"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
            "the answer broke off",
            id="a chunk that broke off",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
            "the answer broke off",
            id="a chunk whose length is no number",
        ),
        pytest.param(b"", "cannot connect, or the connection broke", id="hanging up at once"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", "cannot connect, or the connection broke", id="another protocol"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + b"\r\n{}",
            "cannot connect, or the connection broke",
            id="a thousand headers",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n{}",
            "cannot connect, or the connection broke",
            id="a header of 100 kB",
        ),
    ],
)
def test_is_refused_with_a_plain_reason(answer: bytes, because: str) -> None:
    with Hostile(says(answer)) as server:
        assert refused(server.url) == because


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(hangs(), id="it takes the call and says nothing"),
        pytest.param(hangs(HEAD), id="it stops after the status"),
        pytest.param(hangs(HEAD + b"Content-Length: 12\r\n\r\n{"), id="it stops within the body"),
        pytest.param(drips(b"", HEAD), id="the status drips"),
        pytest.param(drips(HEAD, b"X-A: b\r\n"), id="the headers drip and never end"),
        pytest.param(drips(HEAD + b"Content-Length: 99999\r\n\r\n", b" "), id="the body drips"),
        pytest.param(drips(HEAD + b"\r\n", b" "), id="a body without length drips"),
        pytest.param(drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), id="chunks drip"),
        pytest.param(drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"), id="a chunk's extension drips"),
        pytest.param(drips(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"), id="100s drip"),
        pytest.param(floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), id="100 Continue without end"),
        pytest.param(floods(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 100), id="endless chunks"),
        pytest.param(floods(HEAD + b"\r\n", b" " * 10_000), id="an endless body"),
    ],
)
def test_a_server_that_takes_its_time_is_cut_off(act: Act) -> None:
    with Hostile(act) as server:
        refused(server.url)


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        pytest.param(says(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), "redirect", id="302"),
        pytest.param(says(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "redirect", id="304"),
        pytest.param(says(ok(GOOD, status="500 Oops")), "status_5xx", id="500"),
        pytest.param(says(ok(GOOD, status="503 Busy")), "status_5xx", id="503"),
        pytest.param(says(ok(GOOD, status="404 Not Found")), "status", id="404"),
        pytest.param(says(ok(GOOD, status="429 Slow down")), "status", id="429"),
        pytest.param(says(ok(GOOD, status="206 Partial")), "status", id="206"),
        pytest.param(says(ok(gzip.compress(GOOD), "Content-Encoding: gzip")), "compressed", id="gzip"),
        pytest.param(says(ok(GOOD, "Content-Encoding: br")), "compressed", id="brotli"),
        pytest.param(says(HEAD + b"Content-Length: 500\r\n\r\n" + GOOD), "broken", id="half a body"),
        pytest.param(says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}"), "broken", id="half a chunk"),
        pytest.param(says(ok(b" " * 1_000_000)), "too_large", id="a body of 1 MB"),
        pytest.param(floods(HEAD + b"\r\n", b" " * 10_000), "too_large", id="an endless body"),
        pytest.param(says(ok(b"<html>log in</html>")), "not_json", id="a web page"),
        pytest.param(says(ok(b"[]")), "not_json", id="a list"),
        pytest.param(says(ok(b'{"a": 1, "a": 2}')), "not_json", id="a member twice"),
        pytest.param(says(b""), "unreachable", id="hanging up at once"),
        pytest.param(says(b"SSH-2.0-OpenSSH_9.2\r\n"), "unreachable", id="another protocol"),
        pytest.param(hangs(), "timeout", id="silence"),
        pytest.param(hangs(HEAD + b"Content-Length: 12\r\n\r\n{"), "timeout", id="silence within the body"),
        pytest.param(drips(HEAD, b"X-A: b\r\n"), "timeout", id="dripping headers"),
        pytest.param(drips(HEAD + b"\r\n", b" "), "timeout", id="a dripping body"),
        pytest.param(hangs(HEAD + b"Content-Length: 12\r\n\r\n{"), "timeout", id="a body that pauses"),
    ],
)
def test_the_outcome_has_a_slug_for(act: Act, outcome: str) -> None:
    with Hostile(act) as server:
        assert failure(server.url)[0] == outcome


def test_the_outcome_has_a_slug_where_no_request_was_made_or_nobody_trusted(authority: Authority) -> None:
    assert failure(f"http://127.0.0.1:{free_port()}/keys")[0] == "unreachable"
    assert failure("http://192.0.2.1/keys")[0] == "not_allowed"
    assert failure("file:///etc/passwd")[0] == "not_allowed"
    with Hostile(says(ok(GOOD)), authority.server()) as server:
        assert failure(server.url)[0] == "tls"


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("max-age=0", 0, id="none"),
        pytest.param("max-age=86400", 86400, id="a day"),
        pytest.param("public, max-age=15, stale-while-revalidate=15", 15, id="among others"),
        pytest.param("public,max-age=15,must-revalidate", 15, id="without blanks"),
        pytest.param("PUBLIC, MAX-AGE=15", 15, id="in capitals"),
        pytest.param("max-age = 15", 15, id="with blanks around the sign"),
        pytest.param('max-age="15"', 15, id="quoted"),
        pytest.param("max-age=15, max-age=600", 15, id="twice, where the first counts"),
        pytest.param("no-cache, max-age=15", 15, id="beside no-cache"),
        pytest.param("no-cache", None, id="no-cache alone"),
        pytest.param("no-store, must-revalidate", None, id="no-store alone"),
        pytest.param("s-maxage=600", None, id="for shared caches alone"),
        pytest.param("x-max-age=600", None, id="another directive that ends like it"),
        pytest.param("max-age", None, id="no value"),
        pytest.param("max-age=", None, id="an empty value"),
        pytest.param("max-age=soon", None, id="a word"),
        pytest.param("max-age=15s", None, id="a unit"),
        pytest.param("max-age=-15", None, id="a negative one"),
        pytest.param("max-age=9999999999", 9999999999, id="three hundred years"),
        pytest.param("max-age=" + "9" * 5000, None, id="five thousand digits"),
        pytest.param("\x00\xff" * 1000, None, id="noise"),
    ],
)
def test_the_max_age_in(cache_control: str, seconds: float | None) -> None:
    assert max_age(cache_control) == seconds


def test_the_max_age_comes_with_the_document() -> None:
    with Hostile(says(ok(GOOD, "Cache-Control: public", "cache-control: max-age=15"))) as server:
        assert fetch(server.url) == Fetched({"keys": []}, 15)
    with Hostile(says(ok(GOOD))) as server:
        assert fetch(server.url) == Fetched({"keys": []}, None)


def test_a_tls_server_that_drips_is_cut_off_too(authority: Authority) -> None:
    with Hostile(drips(HEAD, b"X-A: b\r\n"), authority.server()) as server:
        assert refused(server.url, authority.ca_file) == f"no whole answer within {DEADLINE_S:g} s"


def test_a_tls_handshake_that_hangs_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused(f"https://127.0.0.1:{silent.getsockname()[1]}/keys")


def test_where_nobody_listens_it_fails_at_once() -> None:
    assert refused(f"http://127.0.0.1:{free_port()}/keys") == "cannot connect, or the connection broke"


def test_a_redirect_is_not_followed() -> None:
    with Hostile(says(ok(GOOD))) as other:
        to = f"HTTP/1.1 307 Moved\r\nLocation: {other.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with Hostile(says(to)) as server:
            refused(server.url)
        assert other.requests == []


def test_it_asks_for_plain_json_and_sends_no_credentials() -> None:
    with Hostile(says(ok(GOOD))) as server:
        fetch(server.url)
        head = server.requests[0].decode().lower()
    assert head.startswith("get /keys http/1.1\r\n")
    assert "accept-encoding: identity\r\n" in head
    assert "authorization" not in head
    assert "cookie" not in head


ONLY_HTTPS = "only https is fetched (http only on loopback with allow_insecure_http)"


@pytest.mark.parametrize(
    ("url", "allow_http"),
    [
        pytest.param("http://127.0.0.1:1/keys", False, id="http without permission"),
        pytest.param("http://192.0.2.1/keys", True, id="http to another machine"),
        pytest.param("http://127.0.0.1.example.test/keys", True, id="http to a name that looks like loopback"),
        pytest.param("http://169.254.169.254/keys", True, id="http to a cloud's metadata"),
        pytest.param("file:///etc/passwd", True, id="a file"),
        pytest.param("ftp://127.0.0.1/keys", True, id="ftp"),
        pytest.param("//127.0.0.1/keys", True, id="no scheme"),
        pytest.param("https:///keys", True, id="no host"),
        pytest.param("", True, id="nothing"),
    ],
)
def test_only_https_is_fetched(url: str, allow_http: bool) -> None:
    assert refused(url, allow_http=allow_http) == ONLY_HTTPS


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1@example.test/keys", "https://u:secret@issuer.test/", "http://127.0.0.7:1\\@127.0.0.1/"],
)
def test_a_url_that_two_readers_could_read_differently_is_not_fetched(url: str) -> None:
    with pytest.raises(FetchFailed, match="a user or a backslash") as refusal:
        fetch_json(url, ca_file=None, allow_http=True)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["https://[::1/keys", "https://127.0.0.1:99999/keys", "https://\x00/", "https://.../"])
def test_what_is_no_url_is_refused_and_not_an_exception(url: str) -> None:
    refused(url)


def test_a_private_ca_is_trusted_with_its_file_only(authority: Authority) -> None:
    with Hostile(says(ok(GOOD)), authority.server()) as server:
        assert fetch(server.url, authority.ca_file).document == {"keys": []}
        assert refused(server.url) == "the TLS certificate is not trusted (set ca_file for a private CA)"
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("host", "expired"),
    [
        pytest.param("other.example.test", False, id="for another name"),
        pytest.param("127.0.0.2", False, id="for another address"),
        pytest.param("127.0.0.1", True, id="that has expired"),
    ],
)
def test_a_certificate_of_the_right_ca_is_refused(authority: Authority, host: str, expired: bool) -> None:
    with Hostile(says(ok(GOOD)), authority.server(host, expired)) as server:
        assert "certificate" in refused(server.url, authority.ca_file)


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["that is missing", "that holds no certificate"])
def test_a_ca_file_is_reported(authority: Authority, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with Hostile(says(ok(GOOD)), authority.server()) as server:
        assert "ca_file" in refused(server.url, str(file))


def test_nothing_is_taken_from_the_environment(tmp_path: Path, authority: Authority) -> None:
    """Neither .netrc nor proxies nor another CA bundle."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login alice password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    code = (
        "import sys; from authsvc.adapters.fetch import fetch_json, FetchFailed\n"
        "print(fetch_json(sys.argv[1], ca_file=None, allow_http=True).document)\n"
        "try: fetch_json(sys.argv[2], ca_file=None, allow_http=True)\n"
        "except FetchFailed: print('refused')\n"
    )
    with (
        Hostile(says(ok(b'{"from": "proxy"}'))) as proxy,
        Hostile(says(ok(GOOD))) as server,
        Hostile(says(ok(GOOD)), authority.server()) as private,
    ):
        at = f"http://127.0.0.1:{proxy.port}"
        settings = {"HTTP_PROXY": at, "http_proxy": at, "ALL_PROXY": at, "HTTPS_PROXY": at, "NO_PROXY": ""}
        settings |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}
        settings |= {"REQUESTS_CA_BUNDLE": authority.ca_file, "CURL_CA_BUNDLE": authority.ca_file}
        done = subprocess.run(
            [sys.executable, "-c", code, server.url, private.url],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.stdout == "{'keys': []}\nrefused\n", done.stderr
        assert proxy.requests == []
        assert b"authorization" not in server.requests[0].lower()


# ---- forms: the same rules, and secrets


SECRET = "our-own-secret"


def post(url: str, ca_file: str | None = None, allow_http: bool = True) -> Fetched:
    return post_form(
        url,
        {"token": "a+b", "hint": "x y"},
        user="client",
        password=SECRET,
        ca_file=ca_file,
        allow_http=allow_http,
        deadline_s=DEADLINE_S,
    )


def post_failure(url: str, ca_file: str | None = None, allow_http: bool = True) -> FetchFailed:
    """How it failed, which was in time and told nothing of what was sent."""
    started = time.monotonic()
    with pytest.raises(FetchFailed) as caught:
        post(url, ca_file, allow_http)
    assert time.monotonic() - started < BOUND_S
    sent = ("a+b", "a%2Bb", SECRET, base64.b64encode(f"client:{SECRET}".encode()).decode())
    assert not any(word in f"{caught.value!r} {caught.value}" for word in sent)
    return caught.value


def listens(act: Act) -> Act:
    """Do so, then listen on: a connection that is closed with half a form unread takes the answer away again."""

    def then_listen(conn: socket.socket) -> None:
        act(conn)
        conn.shutdown(socket.SHUT_WR)
        while conn.recv(65536):
            pass

    return then_listen


def test_a_form_is_sent_with_our_credentials_and_answered_with_a_document() -> None:
    bodies: list[bytes] = []

    def answer(conn: socket.socket) -> None:
        asked = server.requests[-1].partition(b"\r\n\r\n")[2]
        while not asked.endswith(b"x+y"):
            asked += conn.recv(65536)
        bodies.append(asked)
        conn.sendall(ok(GOOD, "Cache-Control: max-age=15"))

    with Hostile(answer) as server:
        assert post(server.url) == Fetched({"keys": []}, 15)
        head = server.requests[0].decode().lower().partition("\r\n\r\n")[0] + "\r\n"
    assert bodies == [b"token=a%2Bb&hint=x+y"]
    assert head.startswith("post /keys http/1.1\r\n")
    assert "content-type: application/x-www-form-urlencoded\r\n" in head
    assert "content-length: 20\r\n" in head
    assert "accept: application/json\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert "authorization: basic " in head
    assert "cookie" not in head


@pytest.mark.parametrize(
    ("act", "outcome", "status"),
    [
        pytest.param(
            says(b"HTTP/1.1 307 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), "redirect", 307, id="307"
        ),
        pytest.param(says(ok(GOOD, status="500 Oops")), "status_5xx", 500, id="500"),
        pytest.param(says(ok(GOOD, status="401 Who")), "status", 401, id="401"),
        pytest.param(says(ok(gzip.compress(GOOD), "Content-Encoding: gzip")), "compressed", 0, id="gzip"),
        pytest.param(says(ok(b" " * 1_000_000)), "too_large", 0, id="a body of 1 MB"),
        pytest.param(says(ok(b"[]")), "not_json", 0, id="a list"),
        pytest.param(says(HEAD + b"Content-Length: 500\r\n\r\n" + GOOD), "broken", 0, id="half a body"),
        pytest.param(hangs(), "timeout", 0, id="silence"),
        pytest.param(drips(HEAD, b"X-A: b\r\n"), "timeout", 0, id="dripping headers"),
        pytest.param(drips(HEAD + b"\r\n", b" "), "timeout", 0, id="a dripping body"),
        pytest.param(floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "timeout", 0, id="100 without end"),
    ],
)
def test_a_form_fails_as_a_download_does(act: Act, outcome: str, status: int) -> None:
    with Hostile(listens(act)) as server:
        failed = post_failure(server.url)
        assert (failed.outcome, failed.status) == (outcome, status)


def test_a_form_goes_only_where_it_is_safe(authority: Authority) -> None:
    with Hostile(listens(says(ok(GOOD)))) as server:
        assert post_failure(server.url, allow_http=False).outcome == "not_allowed"
        assert post_failure("http://192.0.2.1/keys").outcome == "not_allowed"
        assert server.requests == []
    with Hostile(listens(says(ok(GOOD))), authority.server()) as server:
        assert post_failure(server.url).outcome == "tls"
        assert server.requests == []
        assert post(server.url, authority.ca_file).document == {"keys": []}


def test_a_form_is_sent_once_however_it_fails() -> None:
    with Hostile(says(b"")) as server:
        post_failure(server.url)
        assert len(server.requests) == 1


def test_what_cannot_be_text_is_sent_and_not_an_exception() -> None:
    with Hostile(listens(says(ok(GOOD)))) as server:
        settings = {"user": "a\ud800", "password": "b\r\nX: y", "ca_file": None, "allow_http": True}
        assert post_form(server.url, {"token": "\udc80\0"}, **settings).document == {"keys": []}
        assert b"\r\nx: y" not in server.requests[0].lower()
