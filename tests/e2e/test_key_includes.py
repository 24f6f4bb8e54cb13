"""What nginx does for callers with API keys: the key goes to authsvc alone, and the notice that keys end to the client.

A real nginx with the shipped include files, between a scripted auth service and an echo API. Every sentence holds for
both variants, auth_request and OpenResty, unless it says otherwise.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from authsvc import nginx
from authsvc.cli import main
from authsvc.core.response import BASE_HEADERS
from authsvc.demo.echo import EchoServer
from authsvc.demo.processes import (
    BASE_CONFIG,
    TEMP_PATHS,
    Nginx,
    NotFound,
    find_nginx,
    free_port,
    lua_lines,
    nginx_build,
)
from scripted_auth import Answer, Headers, ScriptedAuth
from test_nginx_contract import QUOTA, Reply, call, say

DEPRECATION = ("Deprecation", "@1798761600")
SUNSET = ("Sunset", "Wed, 30 Jun 2027 00:00:00 GMT")
LINK = ("Link", '<https://docs.example/migrate>; rel="deprecation"; type="text/html"')
WARNING = ("X-Auth-Warning", "API keys ended on 2027-06-30: this one works until 2027-07-14")
NOTICE: Headers = (DEPRECATION, SUNSET, LINK, WARNING)

YES = say(200, 200, ("X-User-Id", "alice"), ("X-Auth-Method", "api_key"))
UNAUTHENTICATED = say(401, 401, ("WWW-Authenticate", 'Bearer realm="api"'))
FORBIDDEN = say(403, 403)
LIMITED = say(403, 429, ("Retry-After", "17"), *QUOTA)
BROWNED_OUT = say(403, 503, ("Retry-After", "600"))

CONFIG = """
    include authsvc-http.conf;
    upstream api { server 127.0.0.1:%(api)s; }
    upstream talkative { server 127.0.0.1:%(talkative)s; }
    server {
        listen 127.0.0.1:%(port)s;
        root /nonexistent;
        include authsvc-server.conf;
        location /api/ { %(asks)s proxy_pass http://api; }
        location /proved/ { %(asks)s try_files /.authsvc/none @proved; }
        location @proved { include authsvc-proof.conf; proxy_pass http://api; }
        location /tried/ { %(asks)s try_files $uri /api/x; }
        location /open/ { include authsvc-strip.conf; proxy_pass http://api; }
        location /bare/ { proxy_pass http://api; }
        location /talkative/ { %(asks)s proxy_pass http://talkative; }
        location /talkative-proved/ { %(asks)s try_files /.authsvc/none @talkative; }
        location @talkative { include authsvc-proof.conf; proxy_pass http://talkative; }
    }
    server {
        listen 127.0.0.1:%(talkative)s;
        default_type text/plain;
        location ~ /link { add_header Link "</style.css>; rel=preload"; add_header Link "</2>; rel=next"; return 200; }
        location ~ /deprecation { add_header Deprecation @1; return 200; }
        location ~ /sunset { add_header Sunset "Thu, 01 Jan 2099 00:00:00 GMT"; return 200; }
        location ~ /gone {
            add_header Deprecation @1 always;
            add_header Sunset "Thu, 01 Jan 2099 00:00:00 GMT" always;
            return 410;
        }
    }
"""


@dataclass
class Door:
    variant: str
    nginx: Nginx
    auth: ScriptedAuth

    def call(self, path: str = "/api/x", headers: Headers = (), method: str = "GET") -> Reply:
        return call(self.nginx.port, path, method, headers)

    @property
    def keys(self) -> list[str]:
        """The X-API-Key of each question so far."""
        return [value for question in self.auth.questions for value in question.all("X-API-Key")]

    @property
    def joins(self) -> bool:
        """Whether both of two keys arrive: with Lua always, else from nginx 1.23 on."""
        found = re.search(r"nginx/(\d+)\.(\d+)|openresty/(\d+)\.(\d+)", nginx_build(find_nginx()))
        assert found
        version = tuple(int(part) for part in found.groups() if part)
        return self.variant == "openresty" or version >= (1, 23)


@contextmanager
def opened(variant: str, api: EchoServer, key_header: str, forward_token: bool) -> Iterator[Door]:
    lua = lua_lines() if variant == "openresty" else ""
    location = "authsvc-openresty.conf" if variant == "openresty" else "authsvc-location.conf"
    port = free_port()
    blanks = {"asks": f"include {location};", "port": port, "api": api.port, "talkative": free_port()}
    with ScriptedAuth() as auth:
        files = nginx.render(
            nginx.DEFAULT_HEADERS, upstream=auth.upstream, forward_token=forward_token, key_header=key_header
        )
        with Nginx(f"{lua}{BASE_CONFIG}http {{\n{TEMP_PATHS}{CONFIG % blanks}}}\n", port, files) as running:
            yield Door(variant, running, auth)


Open = Callable[..., Door]


@pytest.fixture(scope="module", params=["auth_request", "openresty"])
def all_doors(request: pytest.FixtureRequest) -> Iterator[Open]:
    """A door for each way to render the files, opened when it is first asked for."""
    variant = str(request.param)
    try:
        assert variant == "auth_request" or lua_lines() is not None
    except NotFound as missing:
        pytest.skip(str(missing))
    doors: dict[tuple[str, bool], Door] = {}
    with EchoServer(0) as api, ExitStack() as stack:
        threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

        def open_one(key_header: str = "X-API-Key", *, forward_token: bool = False) -> Door:
            name = (key_header, forward_token)
            if name not in doors:
                doors[name] = stack.enter_context(opened(variant, api, key_header, forward_token))
            return doors[name]

        yield open_one
        api.shutdown()


@pytest.fixture
def open_door(all_doors: Open) -> Open:
    def like_new(key_header: str = "X-API-Key", *, forward_token: bool = False) -> Door:
        door = all_doors(key_header, forward_token=forward_token)
        door.auth.forget()
        door.auth.answer = YES
        return door

    return like_new


@pytest.fixture
def door(open_door: Open) -> Door:
    return open_door()


# ---- the notice that keys end ----


def notice(reply: Reply) -> Headers:
    return tuple((name, value) for name, _ in NOTICE for value in reply.all(name))


def with_headers(answer: Answer, *more: tuple[str, str]) -> Answer:
    return Answer(answer.status, (*answer.headers, *more))


STATUSES = [
    pytest.param(YES, 200, id="200"),
    pytest.param(UNAUTHENTICATED, 401, id="401"),
    pytest.param(FORBIDDEN, 403, id="403"),
    pytest.param(LIMITED, 429, id="429"),
    pytest.param(BROWNED_OUT, 503, id="503 of a brown-out"),
]
PATHS = [
    pytest.param("/api/x", id="plainly"),
    pytest.param("/proved/x", id="with the proof include"),
    pytest.param("/tried/x", id="after try_files"),
]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param((), id="nothing"),
        pytest.param((DEPRECATION,), id="no day yet"),
        pytest.param((DEPRECATION, SUNSET, LINK), id="a day"),
        pytest.param(NOTICE, id="grace"),
        pytest.param((WARNING,), id="only a warning"),
    ],
)
@pytest.mark.parametrize(("answer", "status"), STATUSES)
@pytest.mark.parametrize("path", PATHS)
def test_the_client_is_told_once_what_authsvc_says_of_the_end_of_keys(
    door: Door, path: str, answer: Answer, status: int, said: Headers
) -> None:
    door.auth.answer = with_headers(answer, *said)
    reply = door.call(path)
    assert (reply.status, notice(reply)) == (status, said)


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize(("answer", "status"), STATUSES)
def test_by_any_method(door: Door, answer: Answer, status: int, method: str) -> None:
    door.auth.answer = with_headers(answer, *NOTICE)
    reply = door.call(method=method)
    assert (reply.status, notice(reply)) == (status, NOTICE)


@pytest.mark.parametrize("status", [201, 404, 500])
@pytest.mark.parametrize("path", ["/api/x", "/proved/x"])
def test_beside_any_status_of_the_api(door: Door, path: str, status: int) -> None:
    door.auth.answer = with_headers(YES, *NOTICE)
    reply = door.call(f"{path}?status={status}")
    assert (reply.status, notice(reply)) == (status, NOTICE)


def test_a_refusal_keeps_its_challenge_and_its_quota_beside_it(door: Door) -> None:
    door.auth.answer = with_headers(UNAUTHENTICATED, *NOTICE)
    assert door.call().all("WWW-Authenticate") == ['Bearer realm="api"']
    door.auth.answer = with_headers(LIMITED, *NOTICE)
    reply = door.call()
    assert reply.all("RateLimit") + reply.all("Retry-After") == [QUOTA[0][1], "17"]


@pytest.mark.parametrize("refusal", [UNAUTHENTICATED, FORBIDDEN, LIMITED], ids=["401", "403", "429"])
def test_the_last_of_two_questions_counts(door: Door, refusal: Answer) -> None:
    door.auth.script = [with_headers(YES, *NOTICE), refusal]
    assert notice(door.call("/tried/x")) == ()
    door.auth.script = [YES, with_headers(refusal, *NOTICE)]
    assert notice(door.call("/tried/x")) == NOTICE


def test_while_authsvc_is_dead_nobody_is_told(door: Door) -> None:
    door.auth.answer = with_headers(YES, *NOTICE)
    door.auth.die()
    reply = door.call()
    door.auth.come_back()
    assert (reply.status, notice(reply)) == (503, ())


# ---- where the API has something to say itself ----

TALKATIVE = pytest.mark.parametrize("place", ["/talkative", "/talkative-proved"])


@TALKATIVE
def test_the_links_of_the_api_stay_beside_authsvc_s(door: Door, place: str) -> None:
    door.auth.answer = with_headers(YES, *NOTICE)
    reply = door.call(f"{place}/link")
    assert sorted(reply.all("Link")) == sorted(["</style.css>; rel=preload", "</2>; rel=next", LINK[1]])
    assert set(NOTICE) - set(notice(reply)) == set()


@TALKATIVE
@pytest.mark.parametrize(
    ("path", "theirs"),
    [
        pytest.param("/deprecation", (("Deprecation", "@1"),), id="Deprecation"),
        pytest.param("/sunset", (("Sunset", "Thu, 01 Jan 2099 00:00:00 GMT"),), id="Sunset"),
        pytest.param(
            "/gone", (("Deprecation", "@1"), ("Sunset", "Thu, 01 Jan 2099 00:00:00 GMT")), id="both, with an error"
        ),
    ],
)
def test_a_date_of_the_api_stays_alone_and_the_link_and_the_warning_still_say_it(
    door: Door, place: str, path: str, theirs: Headers
) -> None:
    door.auth.answer = with_headers(YES, *NOTICE)
    assert notice(door.call(place + path)) == (*theirs, LINK, WARNING)


# ---- the key ----

KEY_HEADERS = pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X-My-Key", "apikey", "X-Key-2"])


def spellings(name: str) -> tuple[str, ...]:
    written = (name, name.lower(), name.upper(), name.title())
    return tuple(dict.fromkeys((*written, *(each.replace("-", "_") for each in written), name.replace("-", "_", 1))))


@KEY_HEADERS
@pytest.mark.parametrize("path", ["/api/x", "/proved/x"])
def test_authsvc_gets_the_key_as_x_api_key(open_door: Open, name: str, path: str) -> None:
    door = open_door(name)
    for written in (name, name.lower(), name.upper()):
        assert door.call(path, ((written, "k-1"),)).status == 200
    assert door.keys == ["k-1"] * 3
    assert not any(question.all("X-My-Key") for question in door.auth.questions)


def test_after_an_internal_redirect_it_gets_the_key_again(open_door: Open) -> None:
    door = open_door("X-My-Key")
    assert door.call("/tried/x", (("X-My-Key", "k-1"),)).status == 200
    assert door.keys == ["k-1", "k-1"]


@pytest.mark.parametrize("name", ["X-My-Key", "Authorization"])
def test_a_key_in_a_header_that_the_operator_did_not_choose_is_none(open_door: Open, name: str) -> None:
    door = open_door(name)
    door.call(headers=(("X-API-Key", "k-1"), ("X-API-Key", "k-2"), ("X_My_Key", "k-3")))
    assert door.keys == []


@KEY_HEADERS
def test_no_key_is_none_and_not_an_empty_one(open_door: Open, name: str) -> None:
    door = open_door(name)
    door.call()
    door.call(headers=((name, ""),))
    assert [question.all("X-API-Key") for question in door.auth.questions] == [[], []]


def test_a_key_in_authorization_travels_as_a_token_does(open_door: Open) -> None:
    door = open_door("authorization")
    reply = door.call(headers=(("Authorization", "ApiKey k-1"),))
    assert [question.all("Authorization") for question in door.auth.questions] == [["ApiKey k-1"]]
    assert reply.at_api("Authorization") == []


@KEY_HEADERS
@pytest.mark.parametrize("path", ["/api/x", "/proved/x", "/tried/x", "/open/x"])
def test_neither_key_header_reaches_the_api_in_any_spelling(open_door: Open, name: str, path: str) -> None:
    door = open_door(name)
    for written in (*spellings(name), *spellings("X-API-Key")):
        reply = door.call(path, ((written, "the-secret-key"), ("Connection", f"{written}, close")))
        assert reply.status == 200
        assert "the-secret-key" not in reply.body.decode()


def test_without_an_include_the_key_would_reach_it(door: Door) -> None:
    assert door.call("/bare/x", (("X-API-Key", "k-1"),)).at_api("X-API-Key") == [("X-API-Key", "k-1")]


# ---- two keys on one call ----


@KEY_HEADERS
@pytest.mark.parametrize("path", ["/api/x", "/tried/x"])
@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(("k-1", "k-2"), id="two"),
        pytest.param(("k-1", "k-1"), id="one twice"),
        pytest.param(("", "k-2"), id="an empty one first"),
        pytest.param(("k-1", "k-2", "k-3"), id="three"),
    ],
)
def test_authsvc_sees_that_there_are_two_where_nginx_can_tell(
    open_door: Open, name: str, keys: tuple[str, ...], path: str
) -> None:
    """An nginx before 1.23, without Lua, shows the first only. Then that one is judged, and no other has any effect."""
    door = open_door(name)
    reply = door.call(path, tuple(((name, name.upper())[turn % 2], key) for turn, key in enumerate(keys)))
    shown = ", ".join(keys) if door.joins else keys[0]
    assert set(door.keys) == {shown} - {""}
    assert not any(key in reply.body.decode() for key in keys if key)


def test_a_second_key_cannot_hide_behind_many_headers(door: Door) -> None:
    """By default Lua is shown a hundred headers."""
    door.call(headers=(("X-API-Key", "k-1"), *((f"X-{turn}", "") for turn in range(300)), ("X-API-Key", "k-2")))
    assert door.keys == ["k-1, k-2" if door.joins else "k-1"]


def test_the_keys_of_one_call_are_not_those_of_the_next(door: Door) -> None:
    for sent, shown in ((("k-1", "k-2"), "k-1, k-2"), (("k-3",), "k-3"), ((), "")):
        door.auth.questions.clear()
        door.call(headers=tuple(("X-API-Key", key) for key in sent))
        assert ", ".join(door.keys) == (shown if door.joins else shown.split(", ")[0])


# ---- where the operator wants the API to get the key ----


@pytest.mark.parametrize("name", ["X-API-Key", "X-My-Key"])
@pytest.mark.parametrize("path", ["/api/x", "/proved/x"])
def test_a_forwarded_key_has_its_old_name_and_is_the_one_that_was_judged(open_door: Open, name: str, path: str) -> None:
    door = open_door(name, forward_token=True)
    both = (*((name, key) for key in ("k-1", "k-2")), ("X-API-Key", "k-3")) if name != "X-API-Key" else ()
    for sent in ((), ((name, "k-1"),), both):
        door.auth.questions.clear()
        reply = door.call(path, sent)
        assert [value for _, value in reply.at_api(name)] == door.keys
        assert reply.at_api("X-API-Key", name) == reply.at_api(name)


@pytest.mark.parametrize("name", ["X-API-Key", "Authorization"])
def test_a_forwarded_token_is_the_one_that_was_judged(open_door: Open, name: str) -> None:
    door = open_door(name, forward_token=True)
    reply = door.call(headers=(("Authorization", "Bearer a"), ("Authorization", "Bearer b")))
    if reply.status != 400:  # what nginx from 1.23 on says to that
        assert [question.all("Authorization") for question in door.auth.questions] == [["Bearer a"]]
        assert reply.at_api("Authorization") == [("Authorization", "Bearer a")]


def test_a_forwarded_key_reaches_an_open_place_too(open_door: Open) -> None:
    door = open_door("X-My-Key", forward_token=True)
    assert door.call("/open/x", (("X-My-Key", "k-1"),)).at_api("X-My-Key") == [("X-My-Key", "k-1")]


# ---- what a client makes up ----


@pytest.mark.parametrize("name", ["X-Auth-Warning", "X-Auth-Method"])
@pytest.mark.parametrize("path", ["/api/x", "/proved/x", "/tried/x", "/open/x"])
def test_a_forged_warning_or_method_never_reaches_the_api(door: Door, path: str, name: str) -> None:
    for written in spellings(name):
        reply = door.call(path, ((written, "forged"), (written, "forged"), ("Connection", f"{written}, close")))
        assert reply.status == 200
        assert "forged" not in f"{reply.headers}{reply.body.decode()}"


@pytest.mark.parametrize("path", ["/api/x", "/proved/x", "/tried/x"])
def test_the_api_is_told_the_method_and_not_the_warning(door: Door, path: str) -> None:
    door.auth.answer = with_headers(YES, *NOTICE)
    reply = door.call(path, (("X-Auth-Method", "oidc"),))
    assert reply.at_api("X-Auth-Method") == [("X-Auth-Method", "api_key")]
    assert reply.at_api(*(name.lower() for name, _ in NOTICE)) == []


def test_nothing_of_it_is_a_complaint_in_nginx_s_log(open_door: Open) -> None:
    for name in ("X-API-Key", "X-My-Key", "Authorization"):
        door = open_door(name)
        for path in ("/api/x", "/tried/x", "/proved/x", "/open/x", "/talkative/gone"):
            door.call(path)
        door.auth.answer = UNAUTHENTICATED
        door.call()
        assert "uninitialized" not in door.nginx.error_log
        assert "[warn]" not in door.nginx.error_log  # such as that the names of variables are too long for its hash


# ---- render ----


@pytest.mark.parametrize("forward_token", [False, True])
@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X-My-Key", "authorization", "Authorization"])
def test_no_file_sets_one_header_twice(name: str, forward_token: bool) -> None:
    """nginx would send it twice: the one it looks at, and an empty one."""
    files = nginx.render(nginx.DEFAULT_HEADERS, forward_token=forward_token, key_header=name)
    for text in files.values():
        names = Counter(header.lower() for header in re.findall(r"^ *proxy_set_header ([\w-]+)", text, re.MULTILINE))
        assert {header for header, count in names.items() if count > 1} == set()


def test_how_the_key_header_is_spelt_makes_no_difference() -> None:
    assert nginx.render([], key_header="x-aPi-key") == nginx.render([])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        pytest.param("", "is not a header name", id="nothing"),
        pytest.param("X_My_Key", "is not a header name", id="underscores, which nginx drops"),
        pytest.param("X-Key; return 200", "is not a header name", id="nginx syntax"),
        pytest.param("X-Key\n", "is not a header name", id="a line break"),
        pytest.param("Cookie", "has another meaning", id="a header that the API needs"),
        pytest.param("x-forwarded-for", "has another meaning", id="a header that a proxy in front writes"),
        pytest.param("X-Auth-Receipt", "has another meaning", id="a header of authsvc"),
        pytest.param("Link", "has another meaning", id="a header of an answer"),
        pytest.param("x-user-id", "is an identity header too", id="an identity header"),
    ],
)
def test_render_refuses_a_key_header(name: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f'^API key header "{re.escape(name)}" {complaint}; '):
        nginx.render(["X-User-Id"], key_header=name)


@pytest.mark.parametrize("name", ["Deprecation", "sunset", "Link", "X-Auth-Warning", "X-API-Key"])
def test_render_refuses_an_identity_in_a_header_of_the_notice(name: str) -> None:
    with pytest.raises(ValueError, match="has another meaning"):
        nginx.render([name])


# ---- the command line ----

YAML = """
authentication:
  oidc:
    providers:
      - {name: acme, issuer: "https://issuer.example", audience: api}
  api_keys: {keys_file: %(keys)s%(header)s}
authorization:
  rbac: {rules: [{path: /api/*, allowed_roles: [admin]}]}
"""


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("", "X-API-Key", id="none"),
        pytest.param(", header: X-My-Key", "X-My-Key", id="one"),
    ],
)
def test_authsvc_nginx_takes_the_key_header_from_the_config(tmp_path: Path, header: str, expected: str) -> None:
    keys, file = tmp_path / "keys.yaml", tmp_path / "authsvc.yaml"
    keys.touch()
    file.write_text(YAML % {"keys": keys, "header": header})
    done = CliRunner().invoke(main, ["nginx", "-c", str(file), "-o", str(tmp_path / "out")])
    assert (done.exit_code, done.stderr) == (0, "")
    made = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert made == nginx.render(BASE_HEADERS, key_header=expected)
