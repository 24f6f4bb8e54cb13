"""Asking about opaque tokens: an endpoint that answers well or means harm, and what is remembered of it."""

from __future__ import annotations

import base64
import gzip
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest

from authsvc.adapters.fetch import DEADLINE_S, Fetched
from authsvc.adapters.introspection import REST_S, Introspection, Introspector
from authsvc.core.model import MustWait, Reason, Unavailable
from authsvc.demo.processes import free_port
from helpers import in_threads
from hostile import Act, Authority, Hostile, drips, floods, hangs, ok, says
from waiting import within

NOW = 1_800_000_000.0
TOKEN = "2YotnFZFEjr1zCsicMWpAA"
SECRET = "our-own-secret-at-the-provider"
BOUND_S = DEADLINE_S + 1.5
HEAD = b"HTTP/1.1 200 OK\r\n"


class Endpoint(ThreadingHTTPServer):
    """Reads each form whole, then treats the connection as `act` says, which a test may change."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, act: Act, tls: ssl.SSLContext | None = None) -> None:
        self.act, self._tls = act, tls
        self.asked: list[tuple[str, dict[str, str], bytes]] = []  # request line, headers, body
        super().__init__(("127.0.0.1", 0), _Form)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.server_port}/introspect"

    def tokens(self) -> list[str]:
        return [dict(parse_qsl(body.decode()))["token"] for _, _, body in self.asked]

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that hangs up is no news
            super().handle_error(request, client_address)


class _Form(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers["content-length"]))
        self.server.asked.append((self.requestline, headers, body))
        self.server.act(self.connection)

    def log_message(self, *_: object) -> None:
        """Silent."""


class World:
    """An introspector of the providers given, and what it reported."""

    def __init__(self, *, post: Callable[..., Fetched] | None = None, room: int = 10_000, **endpoints: Introspection):
        self.events: list[tuple[str, str]] = []
        given: dict[str, Any] = {"post": post} if post else {}
        self.introspector = Introspector(endpoints, lambda *event: self.events.append(event), room=room, **given)

    def claims(self, token: str = TOKEN, now: float = NOW, provider: str = "demo") -> Mapping[str, Any] | None:
        return self.introspector.claims(provider, token, now)

    def trouble(self, token: str = TOKEN, now: float = NOW, provider: str = "demo") -> str:
        """The text of the failure, which came in time and tells no secret."""
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            self.claims(token, now, provider)
        assert time.monotonic() - started < BOUND_S
        assert caught.value.reason is Reason.INTROSPECTION_UNAVAILABLE
        begin = f"{provider} could not say whether the token is good: "
        assert caught.value.detail.startswith(begin)
        told = f"{caught.value!r} {caught.value} {caught.value.detail} {self.events}"
        assert not any(secret in told for secret in (token, SECRET, _basic("client", SECRET)))
        return caught.value.detail.removeprefix(begin)

    def count(self, event: str, provider: str = "demo") -> int:
        return self.events.count((provider, event))


def at(endpoint: Endpoint | str, **settings: Any) -> Introspection:
    url = endpoint if isinstance(endpoint, str) else endpoint.url
    return Introspection(
        **{"url": url, "client_id": "client", "secret": SECRET, "allow_insecure_http": True} | settings
    )


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def answers(**document: Any) -> Act:
    return says(ok(json.dumps(document).encode(), "Content-Type: application/json"))


def after(opened: threading.Event, act: Act) -> Act:
    """Do so once the test lets it."""

    def wait(conn: Any) -> None:
        opened.wait(10)
        act(conn)

    return wait


def late(act: Act) -> Act:
    """Do so a while after it was asked: who called at the same moment waits for it by then."""

    def wait(conn: Any) -> None:
        threading.Event().wait(0.3)
        act(conn)

    return wait


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Says of every token that it is active, and ada's."""
    with Endpoint(answers(active=True, sub="ada")) as started:
        yield started


@pytest.fixture
def world(endpoint: Endpoint) -> World:
    return World(demo=at(endpoint))


# ---- answers


@pytest.mark.parametrize(
    ("body", "claims"),
    [
        pytest.param(b'{"active": true}', {"active": True}, id="active, and nothing else"),
        pytest.param(
            b'{"active": true, "sub": "ada", "exp": 1800000060, "realm_access": {"roles": ["admin"]}}',
            {"active": True, "sub": "ada", "exp": 1800000060, "realm_access": {"roles": ["admin"]}},
            id="active, and whose",
        ),
        pytest.param(
            b'{"active": true, "exp": 1800000060.5}', {"active": True, "exp": 1800000060.5}, id="half a second"
        ),
        pytest.param(b'{"active": true, "exp": 1e300}', {"active": True, "exp": 1e300}, id="until the end of time"),
        pytest.param(b'{"active": false}', None, id="not active"),
        pytest.param(b'{"active": false, "sub": "ada", "exp": 1800000060}', None, id="not active, for all it says"),
        pytest.param(b'{"active": false, "exp": "never"}', None, id="not active, whatever its exp"),
        pytest.param(b'{"active": true, "exp": 1799999999}', None, id="active, though it expired a second ago"),
        pytest.param(b'{"active": true, "exp": 1800000000}', None, id="active, though it expires now"),
        pytest.param(b'{"active": true, "exp": -1}', None, id="active, though it expired before the epoch"),
    ],
)
def test_the_answer_is_taken(body: bytes, claims: dict[str, Any] | None) -> None:
    with Endpoint(says(ok(body))) as endpoint:
        world = World(demo=at(endpoint))
        assert world.claims() == claims
        assert world.events == [("demo", "introspected")]


def test_who_may_not_wait_gets_what_is_remembered_and_else_nobody_is_asked() -> None:
    with Endpoint(answers(active=True, sub="ada")) as endpoint:
        world = World(demo=at(endpoint))
        with pytest.raises(MustWait):
            world.introspector.claims("demo", TOKEN, NOW, may_wait=False)
        assert world.events == []
        assert world.claims() == world.introspector.claims("demo", TOKEN, NOW, may_wait=False)
        assert world.events == [("demo", "introspected"), ("demo", "introspection_remembered")]


UNSAID = "the answer does not say whether active is true or false"
NO_TIME = "the answer's exp is not a time"
NO_JSON = "the answer is no usable JSON document"
OURS = "the endpoint does not accept our client_id and secret"


@pytest.mark.parametrize(
    ("act", "because"),
    [
        pytest.param(answers(active="true"), UNSAID, id="true as a text"),
        pytest.param(answers(active="false"), UNSAID, id="false as a text"),
        pytest.param(answers(active=1), UNSAID, id="1"),
        pytest.param(answers(active=0), UNSAID, id="0"),
        pytest.param(answers(active=None), UNSAID, id="null"),
        pytest.param(answers(active=[True]), UNSAID, id="a list with true in it"),
        pytest.param(answers(sub="ada"), UNSAID, id="no active at all"),
        pytest.param(answers(Active=True), UNSAID, id="active in another case"),
        pytest.param(answers(active=True, exp="1800000060"), NO_TIME, id="exp as a text"),
        pytest.param(answers(active=True, exp=True), NO_TIME, id="exp as a boolean"),
        pytest.param(answers(active=True, exp=None), NO_TIME, id="exp as null"),
        pytest.param(says(ok(b'{"active": false, "active": true}')), f"{NO_JSON} (a member appears twice)", id="both"),
        pytest.param(says(ok(b'{"active": true, "exp": NaN}')), f"{NO_JSON} (not a JSON number)", id="exp is NaN"),
        pytest.param(says(ok(b'{"active": true, "exp": 1e999}')), f"{NO_JSON} (a number too large)", id="exp is 1e999"),
        pytest.param(says(ok(b"true")), f"{NO_JSON} (not a JSON object)", id="true alone"),
        pytest.param(says(ok(b'[{"active": true}]')), f"{NO_JSON} (not a JSON object)", id="a list"),
        pytest.param(says(ok(b"active=true")), f"{NO_JSON} (not JSON)", id="a form"),
        pytest.param(says(ok(b"eyJhbGciOiJub25lIn0.e30.")), f"{NO_JSON} (not JSON)", id="a JWT"),
        pytest.param(says(ok(b"")), f"{NO_JSON} (not JSON)", id="nothing"),
        pytest.param(says(ok(b'{"active": true}', status="500 Oops")), "the answer is 500, not 200", id="500"),
        pytest.param(says(ok(b'{"active": true}', status="404 Nothing")), "the answer is 404, not 200", id="404"),
        pytest.param(says(ok(b'{"active": true}', status="201 Made")), "the answer is 201, not 200", id="201"),
        pytest.param(says(ok(b"", status="401 Who")), f"the answer is 401, not 200: {OURS}", id="401"),
        pytest.param(says(ok(b"", status="403 No")), f"the answer is 403, not 200: {OURS}", id="403"),
        pytest.param(
            says(ok(gzip.compress(b'{"active": true}'), "Content-Encoding: gzip")),
            "the answer is compressed, though plain was asked for",
            id="compressed",
        ),
        pytest.param(
            says(ok(b'{"active": true}' + b" " * 300_000)), "the answer is larger than 262144 bytes", id="huge"
        ),
        pytest.param(
            floods(HEAD + b"\r\n", b" " * 10_000), "the answer is larger than 262144 bytes", id="an endless body"
        ),
        pytest.param(
            says(HEAD + b"Content-Length: 500\r\n\r\n" + b'{"active": true}'), "the answer broke off", id="half of it"
        ),
        pytest.param(says(b""), "cannot connect, or the connection broke", id="hanging up"),
        pytest.param(hangs(), "no answer in time", id="silence"),
        pytest.param(drips(HEAD, b"X-A: b\r\n"), "no whole answer within 2 s", id="headers that drip"),
        pytest.param(drips(HEAD + b"\r\n", b" "), "no whole answer within 2 s", id="a body that drips"),
    ],
)
def test_no_token_is_good_or_bad_where_the_answer_is(act: Act, because: str) -> None:
    with Endpoint(act) as endpoint:
        world = World(demo=at(endpoint))
        assert world.trouble() == f"{endpoint.url}: {because}"
        assert world.events == [("demo", "introspection_failed")]


def test_where_nobody_listens_it_fails_at_once() -> None:
    url = f"http://127.0.0.1:{free_port()}/introspect"
    assert World(demo=at(url)).trouble() == f"{url}: cannot connect, or the connection broke"


def test_a_redirect_is_not_followed_and_carries_nothing_away() -> None:
    with Endpoint(answers(active=True)) as other, Hostile(answers(active=True)) as another:
        for to in (other.url, another.url):
            for status in ("302 Found", "307 Moved", "308 Moved"):
                with Endpoint(says(ok(b"", f"Location: {to}", status=status))) as endpoint:
                    text = World(demo=at(endpoint)).trouble()
                    assert text.endswith(": it redirects, and redirects are not followed")
        assert other.asked == []
        assert another.requests == []


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/introspect", "http://127.0.0.1.example.test/", "ftp://127.0.0.1/", "https://u:p@127.0.0.1/"],
)
def test_nothing_is_sent_where_it_could_be_read_on_the_way(url: str) -> None:
    text = World(demo=at(url)).trouble()
    assert "only https is fetched" in text or "a URL with a user" in text


def test_http_needs_permission(endpoint: Endpoint) -> None:
    assert "only https is fetched" in World(demo=at(endpoint, allow_insecure_http=False)).trouble()
    assert endpoint.asked == []


def test_a_private_ca_is_trusted_with_its_file_only(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Endpoint(answers(active=True), authority.server()) as endpoint:
        assert "the TLS certificate is not trusted" in World(demo=at(endpoint)).trouble()
        assert endpoint.asked == []
        assert World(demo=at(endpoint, ca_file=authority.ca_file)).claims() == {"active": True}


def test_what_was_said_cannot_be_changed_by_who_reads_it(world: World) -> None:
    claims: Any = world.claims()
    with pytest.raises(TypeError):
        claims["sub"] = "root"
    assert world.claims() == {"active": True, "sub": "ada"}


# ---- the request


def test_the_endpoint_gets_a_form_with_our_credentials(endpoint: Endpoint, world: World) -> None:
    world.claims("a.b-c_d~e+f/g==")
    ((line, headers, body),) = endpoint.asked
    assert line == "POST /introspect HTTP/1.1"
    assert body == b"token=a.b-c_d~e%2Bf%2Fg%3D%3D&token_type_hint=access_token"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["accept"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["authorization"] == "Basic " + _basic("client", SECRET)
    assert "cookie" not in headers


@pytest.mark.parametrize(
    ("client_id", "secret", "sent"),
    [
        pytest.param("client", "secret", "client:secret", id="letters"),
        pytest.param("a-b_c.d~e", "0~Q.x-_", "a-b_c.d~e:0~Q.x-_", id="what needs no encoding, as Entra's secrets have"),
        pytest.param("a:b", "c:d", "a%3Ab:c%3Ad", id="colons"),
        pytest.param("https://api.test/", "a b", "https%3A%2F%2Fapi.test%2F:a+b", id="a URL and a blank"),
        pytest.param("a%3Ab", "100%", "a%253Ab:100%25", id="percent signs"),
        pytest.param("+=&", '"\\\r\n', "%2B%3D%26:%22%5C%0D%0A", id="signs and a line's end"),
        pytest.param("zoë", "пароль€", "zo%C3%AB:%D0%BF%D0%B0%D1%80%D0%BE%D0%BB%D1%8C%E2%82%AC", id="other scripts"),
        pytest.param("a\ud800", "b", "a%ED%A0%80:b", id="half a character"),
        pytest.param("client", "", "client:", id="no secret"),
    ],
)
def test_the_credentials_are_encoded_as_in_a_form_first(
    endpoint: Endpoint, client_id: str, secret: str, sent: str
) -> None:
    World(demo=at(endpoint, client_id=client_id, secret=secret)).claims()
    scheme, _, encoded = endpoint.asked[0][1]["authorization"].partition(" ")
    assert (scheme, base64.b64decode(encoded, validate=True).decode("ascii")) == ("Basic", sent)
    user, password = (unquote_plus(part, errors="surrogatepass") for part in sent.split(":"))
    assert (user, password) == (client_id, secret)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("a", id="one character"),
        pytest.param("a" * 4096, id="4096 characters"),
        pytest.param("AZaz09-._~+/", id="every kind of character"),
        pytest.param("a==", id="signs of equality at the end"),
        pytest.param("a" * 4000 + "=" * 96, id="many of them"),
        pytest.param("e30.e30.", id="what looks like a JWT"),
    ],
)
def test_the_endpoint_is_asked_about(endpoint: Endpoint, world: World, token: str) -> None:
    assert world.claims(token) == {"active": True, "sub": "ada"}
    assert endpoint.tokens() == [token]


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="nothing"),
        pytest.param("a" * 4097, id="4097 characters"),
        pytest.param("=", id="a sign of equality alone"),
        pytest.param("a=b", id="a sign of equality within"),
        pytest.param("a b", id="a blank"),
        pytest.param("a\n", id="a line's end"),
        pytest.param("a\0", id="a NUL"),
        pytest.param("a&token=b", id="a second member of the form"),
        pytest.param("a%3D", id="a percent sign"),
        pytest.param("a,b", id="a comma"),
        pytest.param("aé", id="a letter that is not ASCII"),
        pytest.param("a\u0661", id="a digit that is not ASCII"),
        pytest.param("a\udc80", id="half a character"),
    ],
)
def test_nobody_is_asked_about(endpoint: Endpoint, world: World, token: str) -> None:
    assert world.claims(token) is None
    assert endpoint.asked == []
    assert world.events == []


# ---- memory


@pytest.mark.parametrize(
    ("document", "settings", "later_s", "again"),
    [
        pytest.param({"active": True}, {}, 29.9, False, id="a good token within 30 s"),
        pytest.param({"active": True}, {}, 30, True, id="a good token after 30 s"),
        pytest.param({"active": True, "exp": NOW + 3600}, {}, 29.9, False, id="one good for an hour, within 30 s"),
        pytest.param({"active": True, "exp": NOW + 3600}, {}, 30, True, id="one good for an hour, after 30 s"),
        pytest.param({"active": True, "exp": NOW + 10}, {}, 9.9, False, id="one good for 10 s, before its exp"),
        pytest.param({"active": True, "exp": NOW + 10}, {}, 10, True, id="one good for 10 s, at its exp"),
        pytest.param({"active": True}, {"cap_s": 3}, 2.9, False, id="within a cap of 3 s"),
        pytest.param({"active": True}, {"cap_s": 3}, 3, True, id="after a cap of 3 s"),
        pytest.param({"active": True}, {"cap_s": 0}, 0, True, id="with no cap at all"),
        pytest.param({"active": False}, {}, 4.9, False, id="a bad token within 5 s"),
        pytest.param({"active": False}, {}, 5, True, id="a bad token after 5 s"),
        pytest.param({"active": False}, {"negative_s": 1}, 1, True, id="a bad token after 1 s"),
        pytest.param({"active": False}, {"negative_s": 0}, 0, True, id="a bad token that is not to be remembered"),
        pytest.param({"active": True, "exp": NOW - 1}, {}, 4.9, False, id="an expired token within 5 s"),
        pytest.param({"active": True, "exp": NOW - 1}, {}, 5, True, id="an expired token after 5 s"),
        pytest.param({"active": True, "exp": NOW}, {}, 4.9, False, id="one that expired just now, within 5 s"),
        pytest.param({"active": True}, {}, -1, False, id="by a call that began a second earlier"),
        pytest.param({"active": True}, {}, -3600, True, id="after the clock was set back by an hour"),
    ],
)
def test_a_second_call_asks_again_or_not(
    document: dict[str, Any], settings: dict[str, float], later_s: float, again: bool
) -> None:
    with Endpoint(answers(**document)) as endpoint:
        world = World(demo=at(endpoint, **settings))
        first = world.claims()
        second = world.claims(now=NOW + later_s)
        assert len(endpoint.asked) == 1 + again
        assert world.events[1:] == [("demo", "introspected" if again else "introspection_remembered")]
        assert second == (None if document.get("exp") == NOW + later_s else first)


def test_a_revoked_token_stops_to_pass_when_its_answer_is_forgotten(endpoint: Endpoint, world: World) -> None:
    assert world.claims() is not None
    endpoint.act = answers(active=False)
    assert world.claims(now=NOW + 29) is not None
    assert world.claims(now=NOW + 30) is None


def test_providers_share_no_answers() -> None:
    with Endpoint(answers(active=True)) as good, Endpoint(answers(active=False)) as bad:
        world = World(a=at(good), b=at(bad))
        for _ in range(2):
            assert world.claims(provider="a") == {"active": True}
            assert world.claims(provider="b") is None
        assert (len(good.asked), len(bad.asked)) == (1, 1)


def test_a_failure_is_not_remembered(endpoint: Endpoint, world: World) -> None:
    endpoint.act = says(ok(b"", status="400 Bad Request"))
    world.trouble()
    endpoint.act = answers(active=True)
    assert world.claims() == {"active": True}


def test_a_full_memory_forgets_the_oldest_and_no_more_than_a_tenth(endpoint: Endpoint) -> None:
    world = World(demo=at(endpoint), room=20)
    for number in range(21):
        world.claims(f"token-{number}", NOW + number / 100)
    endpoint.asked.clear()
    for number in reversed(range(21)):
        world.claims(f"token-{number}", NOW + 1)
    assert endpoint.tokens() == ["token-1", "token-0"]


def test_a_full_memory_forgets_what_holds_no_more_first(endpoint: Endpoint) -> None:
    world = World(demo=at(endpoint), room=20)
    for number in range(10):
        world.claims(f"good-{number}")
    endpoint.act = answers(active=False)
    for number in range(10):
        world.claims(f"bad-{number}")
    endpoint.act = answers(active=True)
    for number in range(8):
        world.claims(f"new-{number}", NOW + 6)
    endpoint.asked.clear()
    for number in range(10):
        world.claims(f"good-{number}", NOW + 7)
    assert endpoint.asked == []


def test_what_is_asked_for_again_is_young_again(endpoint: Endpoint) -> None:
    world = World(demo=at(endpoint), room=10)
    world.claims("first")
    for number in range(8):
        world.claims(f"token-{number}", NOW + 20)
    for token in ("first", "tenth", "one-more"):
        world.claims(token, NOW + 30)
    endpoint.asked.clear()
    world.claims("first", NOW + 31)
    world.claims("token-0", NOW + 31)
    assert endpoint.tokens() == ["token-0"]


def test_what_is_not_to_be_remembered_takes_no_room(endpoint: Endpoint) -> None:
    world = World(demo=at(endpoint, negative_s=0), room=10)
    world.claims("good")
    endpoint.act = answers(active=False)
    for number in range(20):
        world.claims(f"bad-{number}")
    assert world.claims("good") == {"active": True, "sub": "ada"}
    assert len(endpoint.asked) == 21


def held(thing: Any) -> Iterator[bytes]:
    """Every text that can be reached from this, except the settings."""
    if isinstance(thing, Introspection):
        return
    if isinstance(thing, str | bytes):
        yield thing if isinstance(thing, bytes) else thing.encode()
    elif isinstance(thing, Mapping):
        for pair in thing.items():
            yield from held(pair)
    elif isinstance(thing, list | tuple):
        for one in thing:
            yield from held(one)
    elif type(thing).__module__.startswith("authsvc"):
        names = [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]
        yield from held([getattr(thing, name) for name in names])


def test_no_token_is_kept_and_no_secret_shown(endpoint: Endpoint, world: World) -> None:
    world.claims()
    endpoint.act = answers(active="?")
    world.trouble("another-token")
    kept = list(held(world.introspector))
    assert b"ada" in kept
    assert not [text for text in kept if TOKEN.encode() in text or b"another-token" in text or SECRET.encode() in text]
    settings = at(endpoint)
    assert SECRET not in f"{settings!r} {settings} {replace(settings, client_id='b')!r} {world.introspector!r}"
    assert not any(word in str(world.events) for word in (TOKEN, "another-token", SECRET))


# ---- many calls at once


def test_calls_for_one_token_at_once_share_one_request(endpoint: Endpoint, world: World) -> None:
    said: list[Any] = []
    endpoint.act = late(answers(active=True, sub="ada"))
    in_threads(12, lambda _: said.append(world.claims()))
    assert said == [{"active": True, "sub": "ada"}] * 12
    assert len(endpoint.asked) == 1
    assert world.events == [("demo", "introspected")]


def test_calls_for_one_token_at_once_share_one_failure(endpoint: Endpoint, world: World) -> None:
    said: list[str] = []
    endpoint.act = late(says(ok(b"", status="400 Bad Request")))
    in_threads(12, lambda _: said.append(world.trouble()))
    assert set(said) == {f"{endpoint.url}: the answer is 400, not 200"}
    assert len(endpoint.asked) == 1
    assert world.events == [("demo", "introspection_failed")]


def test_a_call_that_waits_for_the_answer_of_another_sees_its_own_time(endpoint: Endpoint, world: World) -> None:
    said: dict[str, Any] = {}
    endpoint.act = late(answers(active=True, exp=NOW + 1))
    first = threading.Thread(target=lambda: said.update(first=world.claims()))
    first.start()
    assert within(5, lambda: len(endpoint.asked) == 1)
    assert world.claims(now=NOW + 1) is None
    first.join()
    assert said["first"] == {"active": True, "exp": NOW + 1}


def test_calls_for_different_tokens_do_not_wait_for_each_other(endpoint: Endpoint, world: World) -> None:
    together, good = threading.Barrier(8), answers(active=True)

    def meet(conn: Any) -> None:
        together.wait(2)
        good(conn)

    endpoint.act = meet
    in_threads(8, lambda number: world.claims(f"token-{number}"))
    assert world.count("introspected") == 8


def test_many_calls_for_few_tokens_ask_once_for_each(endpoint: Endpoint, world: World) -> None:
    def call_all(number: int) -> None:
        for step in range(20):
            assert world.claims(f"token-{(number + step) % 10}") == {"active": True, "sub": "ada"}

    in_threads(8, call_all)
    assert sorted(endpoint.tokens()) == [f"token-{number}" for number in range(10)]
    assert world.count("introspected") == 10


# ---- an endpoint in trouble


@pytest.mark.alone
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(says(ok(b"", status="500 Oops")), id="500"),
        pytest.param(says(ok(b"", status="429 Slow down")), id="429"),
        pytest.param(says(ok(b"", status="401 Who")), id="our credentials refused"),
        pytest.param(says(b""), id="hanging up"),
        pytest.param(answers(sub="ada"), id="the answer of something else"),
        pytest.param(hangs(), id="silence"),
    ],
)
def test_an_endpoint_is_left_alone_for_a_second_after(act: Act) -> None:
    with Endpoint(act) as endpoint:
        world = World(demo=at(endpoint))
        text = world.trouble()
        endpoint.act = answers(active=True)
        started = time.monotonic()
        for number in range(20):
            assert world.trouble(f"token-{number}") == f"{text} (it is asked again in a moment)"
        assert time.monotonic() - started < 0.5
        assert len(endpoint.asked) == 1
        assert world.events == [("demo", "introspection_failed")]
        assert within(REST_S + 1, lambda: _passes(world))
        assert time.monotonic() - started > REST_S - 0.2
        assert world.claims("token-1") == {"active": True}


def _passes(world: World) -> bool:
    try:
        return world.claims() is not None
    except Unavailable:
        return False


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(says(ok(b"", status="400 Bad Request")), id="is refused as a bad request"),
        pytest.param(says(ok(b"", status="422 Unprocessable")), id="cannot be processed"),
        pytest.param(says(ok(b"", status="413 Too large")), id="is too large for them"),
        pytest.param(says(ok(b" " * 300_000)), id="has too many claims"),
        pytest.param(says(ok(b'{"active": true, "x": 1e999}')), id="has a claim that is no JSON"),
        pytest.param(answers(active=True, exp="soon"), id="has an exp that is no time"),
    ],
)
def test_other_calls_go_on_where_one_token(endpoint: Endpoint, world: World, act: Act) -> None:
    """Else whoever finds such a token could shut everybody out by sending it once a second."""
    good, endpoint.act = endpoint.act, act
    world.trouble("such-a-token")
    endpoint.act = good
    assert world.claims() == {"active": True, "sub": "ada"}


def test_what_is_remembered_stays_good_while_the_endpoint_rests(endpoint: Endpoint, world: World) -> None:
    world.claims()
    endpoint.act = says(ok(b"", status="500 Oops"))
    world.trouble("another-token")
    assert world.claims() == {"active": True, "sub": "ada"}


def test_one_provider_in_trouble_does_not_hinder_another(endpoint: Endpoint) -> None:
    world = World(down=at(f"http://127.0.0.1:{free_port()}/"), demo=at(endpoint))
    world.trouble(provider="down")
    assert world.claims() == {"active": True, "sub": "ada"}


def test_after_its_rest_one_call_probes_and_the_others_are_turned_away(endpoint: Endpoint, world: World) -> None:
    good, opened = endpoint.act, threading.Event()
    endpoint.act = says(ok(b"", status="500 Oops"))
    world.trouble()
    endpoint.act = after(opened, good)
    threading.Event().wait(REST_S + 0.05)
    probe = threading.Thread(target=world.claims, args=("probe",))
    probe.start()
    assert within(5, lambda: len(endpoint.asked) == 2)
    in_threads(8, lambda number: world.trouble(f"token-{number}"))
    assert len(endpoint.asked) == 2
    opened.set()
    probe.join()
    in_threads(8, lambda number: world.claims(f"token-{number}"))
    assert len(endpoint.asked) == 10


def test_a_probe_that_fails_begins_another_rest(endpoint: Endpoint, world: World) -> None:
    endpoint.act = says(ok(b"", status="500 Oops"))
    world.trouble()
    threading.Event().wait(REST_S + 0.05)
    world.trouble("probe")
    endpoint.act = answers(active=True)
    world.trouble("one-more")
    assert endpoint.tokens() == [TOKEN, "probe"]


class HangingPost:
    """Stands in for a name that takes long to look up, which nothing can cut off: each request waits to be let go."""

    def __init__(self) -> None:
        self.gates: list[threading.Event] = []
        self.ended = 0

    def __call__(self, *_: object, **__: object) -> Fetched:
        gate = threading.Event()
        self.gates.append(gate)
        gate.wait(20)
        self.ended += 1
        return Fetched({"active": True, "number": self.gates.index(gate)}, None)


def test_a_resolver_that_hangs_holds_no_call_and_its_late_answer_counts_for_nothing() -> None:
    post, said = HangingPost(), []
    world = World(demo=at("https://slow.test/"), post=post)
    in_threads(4, lambda _: world.trouble())
    assert world.events == [("demo", "introspection_failed")]
    threading.Event().wait(REST_S + 0.05)
    second = threading.Thread(target=lambda: said.append(world.claims()))
    second.start()
    assert within(5, lambda: len(post.gates) == 2)
    post.gates[0].set()
    assert within(5, lambda: post.ended == 1)
    threading.Event().wait(0.1)
    third = threading.Thread(target=lambda: said.append(world.claims()))
    third.start()
    assert not within(0.1, lambda: bool(said))
    post.gates[1].set()
    second.join()
    third.join()
    assert said == [{"active": True, "number": 1}] * 2
    assert len(post.gates) == 2


def test_whatever_an_answer_causes_is_a_failure_and_not_an_exception() -> None:
    def breaking(*_: object, **__: object) -> Fetched:
        raise RuntimeError(f"{TOKEN} {SECRET}")

    assert World(demo=at("https://odd.test/"), post=breaking).trouble() == "unforeseen RuntimeError"


def test_a_provider_whose_secret_could_not_be_read_is_not_asked() -> None:
    with pytest.raises(Unavailable) as trouble:
        Introspector({}, lambda provider, event: None).claims("main", "opaque-token", 1_800_000_000.0)
    assert trouble.value.reason is Reason.INTROSPECTION_UNAVAILABLE
