"""nginx keeps decisions where decision_cache allows it, and nobody ever gets somebody else's, or one of yesterday."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authsvc.adapters.keyfile import editing
from authsvc.core import apikeys
from authsvc.core.apikeys import ApiKey
from authsvc.core.response import BASE_HEADERS
from authsvc.demo.processes import NotFound, lua_lines
from caching_world import Caching, caching
from scripted_auth import Headers
from waiting import within

CONFIG = """\
authentication:
  oidc:
    clock_skew_tolerance: 0
    providers: [{name: demo, issuer: $ISSUER, audience: $AUDIENCE, allow_insecure_http: true}]
  api_keys: {keys_file: $FOLDER/keys.jsonl}
authorization:
  decision_cache: 5s
  rbac:
    rules:
      - {path: /api/open/*, allowed_roles: []}
      - {path: /api/number/$NUMBER}
      - {path: /api/asked/*, decision_cache: off}
      - {path: /api/counted/*, rate_limit: {limit: 1000/hour}, decision_cache: off}
      - {path: /api/admin/*, allowed_roles: [admin]}
      - {path: /api/x, method: [POST, DELETE], allowed_roles: [writer]}
      - {path: /api/x, allowed_roles: [reader, writer]}
rate_limit:
  tiers:
    rest: {limit: unlimited}
    free: {limit: 1000/hour, matching_claim: plan=free}
"""


def _minted(folder: Path, **fields: Any) -> str:
    text, digest = apikeys.mint(os.urandom(32))
    with editing(str(folder / "keys.jsonl")) as draft:
        draft.put(ApiKey(digest, "acme", roles=("reader",), **fields))
    return text


@pytest.fixture(scope="module", autouse=True)
def lua() -> None:
    try:
        lua_lines()
    except NotFound as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module", params=["authsvc-location.conf", "authsvc-openresty.conf"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caching]:
    folder = tmp_path_factory.mktemp("caching")
    _minted(folder)
    with caching(folder, request.param) as found:
        yield found


@pytest.fixture
def world(shared: Caching) -> Caching:
    shared.configure(numbered())
    shared.warm()
    shared.asked.clear()
    return shared


_NUMBERS = itertools.count()


def numbered() -> str:
    """A config that was never in force: nginx does not keep the answers of one that was replaced lately."""
    return CONFIG.replace("$NUMBER", str(next(_NUMBERS)))


def bearer(world: Caching, sub: str, *roles: str, **claims: Any) -> Headers:
    return (("Authorization", f"Bearer {world.issuer.token(sub, roles=list(roles), **claims)}"),)


def test_an_equal_call_is_answered_without_asking_and_names_the_same_caller(world: Caching) -> None:
    alice = bearer(world, "alice", "reader", email="alice@example.com")
    first, asked = world.was_asked("/api/x", headers=alice)
    again, asked_again = world.was_asked("/api/x", headers=alice)
    assert (first.status, asked, again.status, asked_again) == (200, True, 200, False)
    told = ("X-User-Id", "X-User-Email", "X-User-Roles", "Authorization")
    assert again.at_api(*told) == first.at_api(*told)
    assert again.at_api("X-User-Id") == [("X-User-Id", "alice")]


def test_another_user_is_asked_about_and_is_himself(world: Caching) -> None:
    for name, status in (("alice", 200), ("bob", 200)):
        for _ in range(2):
            reply = world.call("/api/x", headers=bearer(world, name, "reader"))
            assert (reply.status, reply.at_api("X-User-Id")) == (status, [("X-User-Id", name)])
    carol = bearer(world, "carol")
    assert [world.call("/api/x", headers=carol).status for _ in range(2)] == [403, 403]
    assert world.call("/api/x").status == 401


@pytest.mark.parametrize(
    ("path", "method", "more", "status"),
    [
        ("/api/x", "POST", (), 403),
        ("/api/x", "DELETE", (), 403),
        ("/api/x", "HEAD", (), 200),
        ("/api/admin/x", "GET", (), 403),
        ("/api/x/", "GET", (), 200),
        ("/api/x?page=2", "GET", (), 200),
        ("/api/x", "GET", (("X-Test-Address", "192.0.2.7"),), 200),
        ("/api/x", "GET", (("X-API-Key", "ask_0000"),), 401),
    ],
    ids=["POST", "DELETE", "HEAD", "another path", "a slash", "a query", "another address", "a key beside the token"],
)
def test_any_other_input_is_another_question(
    world: Caching, path: str, method: str, more: Headers, status: int
) -> None:
    alice = bearer(world, "alice", "reader", jti=f"{path}{method}{more}")
    world.call("/api/x", headers=alice)
    assert world.was_asked("/api/x", headers=alice)[1] is False
    reply, asked = world.was_asked(path, method=method, headers=(*alice, *more))
    assert asked is True
    assert reply.status in (status, 200 if more and "X-API-Key" in more[0] else status)


def test_each_method_has_an_answer_of_its_own_that_is_kept_too(world: Caching) -> None:
    writer = bearer(world, "will", "writer")
    for method in ("GET", "POST", "DELETE"):
        assert [world.was_asked("/api/x", method=method, headers=writer)[1] for _ in range(2)] == [True, False]


def test_where_nginx_serves_another_path_that_is_another_question(world: Caching) -> None:
    alice = bearer(world, "alice", "reader", jti="moved")
    replies = [world.was_asked("/moved/x", headers=alice) for _ in range(2)]
    assert [(reply.status, asked) for reply, asked in replies] == [(200, True), (200, False)]
    reply, asked = world.was_asked("/moved/x", headers=(*alice, ("X-Route", "admin")))
    assert (reply.status, asked) == (403, True)


def test_a_text_in_another_header_is_another_credential(world: Caching) -> None:
    key = _minted(world.folder)
    time.sleep(0.6)  # the file is looked at every half second
    world.warm()
    as_key, as_token = (("X-API-Key", key),), (("Authorization", f"Bearer {key}"),)
    assert [world.was_asked("/api/x", headers=as_key)[0].status for _ in range(2)] == [200, 200]
    reply, asked = world.was_asked("/api/x", headers=as_token)
    assert (reply.status, asked) == (401, True)
    assert world.was_asked("/api/x", headers=(("X-API-Key", key[:-1]), ("Authorization", key[-1])))[0].status == 401


@pytest.mark.parametrize("path", ["/api/open/x", "/api/asked/x", "/api/counted/x", "/api/admin/x"])
def test_what_is_open_switched_off_counted_or_refused_is_never_kept(world: Caching, path: str) -> None:
    alice = bearer(world, "alice", "reader", jti=path)
    for headers in (alice, ()):
        assert [world.was_asked(path, headers=headers)[1] for _ in range(3)] == [True, True, True]


def test_who_is_counted_is_never_kept(world: Caching) -> None:
    free = bearer(world, "fred", "reader", plan="free")
    assert [world.was_asked("/api/x", headers=free)[1] for _ in range(3)] == [True, True, True]


def test_two_credentials_are_never_kept(world: Caching) -> None:
    key = _minted(world.folder)
    time.sleep(0.6)
    both = (*bearer(world, "alice", "reader"), ("X-API-Key", key))
    world.warm()
    replies = [world.was_asked("/api/x", headers=both) for _ in range(3)]
    assert [(reply.status, asked) for reply, asked in replies] == [(200, True)] * 3


def test_nothing_is_kept_for_longer_than_was_allowed(world: Caching) -> None:
    alice = bearer(world, "alice", "reader", jti="life")
    world.call("/api/x", headers=alice)
    kept_at, last_hit = time.monotonic(), 0.0  # it was kept before that
    while True:
        began = time.monotonic()
        if world.was_asked("/api/x", headers=alice)[1]:
            break
        last_hit = began
        time.sleep(0.02)
    assert last_hit - kept_at < 5
    assert time.monotonic() - kept_at > 3  # after the first call that was asked about again, however long it took


def test_an_answer_that_was_long_on_its_way_is_not_kept(world: Caching) -> None:
    """Its time runs from the decision, and nginx counts from when it came."""
    alice = bearer(world, "alice", "reader", jti="slow")
    app = world.configure(numbered())
    world.warm()

    def slow(environ: dict[str, Any], start: Any) -> Any:
        answer = app(environ, start)
        time.sleep(0.7)
        return answer

    world.server.app = slow
    assert world.was_asked("/api/x", headers=alice)[1] is True
    world.server.app = app
    assert [world.was_asked("/api/x", headers=alice)[1] for _ in range(2)] == [True, False]


def test_a_token_is_refused_from_its_last_second_on_although_it_was_kept(world: Caching) -> None:
    ends = int(time.time()) + 7
    alice = bearer(world, "alice", "reader", exp=ends)
    asked = []
    while time.time() < ends:
        reply, was_asked = world.was_asked("/api/x", headers=alice)
        assert reply.status == 200 or time.time() >= ends
        asked.append(was_asked)
        time.sleep(0.1)
    assert False in asked  # it was kept meanwhile
    assert world.call("/api/x", headers=alice).status == 401


def test_a_revoked_key_ends_with_the_next_question_whoever_asks_it(world: Caching) -> None:
    key = _minted(world.folder)
    time.sleep(0.6)
    headers: Headers = (("X-API-Key", key),)
    world.warm()
    assert [world.was_asked("/api/x", headers=headers)[1] for _ in range(2)] == [True, False]
    with editing(str(world.folder / "keys.jsonl")) as draft:
        digest = apikeys.digest_of(key)
        draft.put(ApiKey(digest, "acme", roles=("reader",), revoked=time.time()))
    time.sleep(0.6)
    world.warm()
    assert world.call("/api/x", headers=headers).status == 401


def test_a_revoked_key_that_nobody_asks_about_ends_with_decision_cache(world: Caching) -> None:
    key = _minted(world.folder)
    time.sleep(0.6)
    headers: Headers = (("X-API-Key", key),)
    world.warm()
    began = time.monotonic()
    assert world.call("/api/x", headers=headers).status == 200
    with editing(str(world.folder / "keys.jsonl")) as draft:
        draft.put(ApiKey(apikeys.digest_of(key), "acme", revoked=time.time()))
    while time.monotonic() < began + 8 and world.call("/api/x", headers=headers).status == 200:
        time.sleep(0.02)
    assert time.monotonic() - began < 5.5  # of which half a second is that of a busy machine


def test_a_changed_rule_holds_from_the_next_question_on(world: Caching) -> None:
    alice = bearer(world, "alice", "reader", jti="reload")
    assert [world.was_asked("/api/x", headers=alice)[1] for _ in range(2)] == [True, False]
    world.configure(numbered().replace("[reader, writer]", "[writer]"))
    assert world.call("/api/x").status == 401  # any question will do
    assert world.call("/api/x", headers=alice).status == 403


def test_a_worker_that_is_late_never_speaks_for_the_new_config(world: Caching) -> None:
    alice = bearer(world, "alice", "reader", jti="late")
    old = world.configure(numbered())
    world.warm()
    assert [world.was_asked("/api/x", headers=alice)[1] for _ in range(2)] == [True, False]
    new = world.configure(numbered().replace("[reader, writer]", "[writer]"))
    world.warm()
    for _ in range(5):  # they take turns, as workers do during a reload
        world.server.app = old
        assert world.was_asked("/api/x", headers=alice)[1] is True
        assert world.was_asked("/api/x", headers=alice)[1] is True  # not kept again
        world.server.app = new
        assert world.call("/api/x", headers=alice).status == 403


def test_a_config_without_the_cache_ends_all_of_it(world: Caching) -> None:
    alice = bearer(world, "alice", "reader", jti="off")
    assert [world.was_asked("/api/x", headers=alice)[1] for _ in range(2)] == [True, False]
    world.configure(numbered().replace("decision_cache: 5s", "decision_cache: off"))
    world.warm()
    assert [world.was_asked("/api/x", headers=alice)[1] for _ in range(3)] == [True, True, True]


def test_what_was_kept_is_found_again_after_it_was_replaced(world: Caching) -> None:
    """nginx keeps files open: none of them may outlive the one that took its place."""
    alice = bearer(world, "alice", "reader", jti="twice")
    for _ in range(2):
        while world.was_asked("/api/x", headers=alice)[1] is False:
            time.sleep(0.05)
        assert world.was_asked("/api/x", headers=alice)[1] is False


def test_a_reload_of_nginx_gives_nobody_what_was_another_s(world: Caching) -> None:
    alice, carol = bearer(world, "alice", "reader", jti="hup"), bearer(world, "carol", jti="hup")
    world.call("/api/x", headers=alice)
    os.kill(world.nginx.pid, signal.SIGHUP)
    time.sleep(0.5)
    assert [world.call("/api/x", headers=who).status for who in (alice, carol, alice, carol)] == [200, 403, 200, 403]


def test_no_credential_lies_in_what_nginx_keeps_and_no_file_does_at_all(world: Caching) -> None:
    token, key = bearer(world, "alice", "reader", email="alice@example.com"), _minted(world.folder)
    time.sleep(0.6)
    before = {file for file in world.nginx.folder.rglob("*") if file.is_file()}
    for headers in (token, (("X-API-Key", key),), (("Authorization", f"ApiKey {key}"),)):
        world.warm()
        assert [world.was_asked("/api/x", headers=headers)[1] for _ in range(2)] == [True, False]
    assert {file for file in world.nginx.folder.rglob("*") if file.is_file()} == before
    try:
        memory = world.kept_memory()
    except PermissionError:
        pytest.skip("this user may not read nginx's memory")
    secret = [part.encode() for part in (*token[0][1].split()[1].split("."), key, key.split("_")[2])]
    assert not [part for part in secret if part in memory]
    assert b"alice@example.com" in memory  # what the API is told does lie there


def test_a_call_that_nginx_redirects_names_its_caller_once_whatever_was_kept(world: Caching) -> None:
    """Two questions a call: the first is kept, the second is not yet, then both are."""
    for name in ("alice", "bob"):
        who = bearer(world, name, "reader", jti="redirected")
        for route, questions in (("a", 2), ("a", 0), ("b", 1), ("b", 0)):
            before = len(world.asked)
            reply = world.call("/api/first/x", headers=(*who, ("X-Route", route)))
            assert (reply.status, len(world.asked) - before) == (200, questions)
            assert reply.at_api("X-User-Id", "X-Auth-Method") == [("X-User-Id", name), ("X-Auth-Method", "oidc")]


def test_a_nested_location_that_asks_by_lua_hears_what_was_kept_too(world: Caching) -> None:
    """It inherits the question, but no `set`. One that asks by auth_request gets 500: see authsvc-server.conf."""
    who = bearer(world, "alice", "reader", jti="within")
    replies = [world.was_asked("/api/within/x", headers=who) for _ in range(2)]
    if not world.lua_asks:
        assert [(reply.status, asked) for reply, asked in replies] == [(500, False)] * 2
        return
    assert [(reply.status, asked) for reply, asked in replies] == [(200, True), (200, False)]
    assert replies[1][0].at_api(*BASE_HEADERS) == replies[0][0].at_api(*BASE_HEADERS)


@pytest.mark.parametrize("email", ["", "a$authsvc_k1\\1@x", "q\"'<%>{}@x", "zoë@ex\nample", "a" * 1500], ids=len)
def test_whatever_an_identity_says_is_told_again_letter_by_letter(world: Caching, email: str) -> None:
    who = bearer(world, "odd", "reader", "r,\n2", 'r"3', email=email, jti=str(len(email)))
    first, again = (world.was_asked("/api/x", headers=who) for _ in range(2))
    assert (first[0].status, first[1], again[0].status, again[1]) == (200, True, 200, False)
    assert again[0].at_api(*BASE_HEADERS) == first[0].at_api(*BASE_HEADERS)
    assert len(first[0].at_api("X-User-Roles")) == 1


def test_that_an_api_key_ends_is_told_with_each_answer(world: Caching) -> None:
    ends = "deprecation: {announce: 2020-01-01, sunset: 2100-01-01, link: 'https://example.com/move'}"
    world.configure(numbered().replace("keys.jsonl}", f"keys.jsonl, {ends}}}"))
    key = (("X-API-Key", _minted(world.folder)),)
    time.sleep(0.6)
    world.warm()
    first, again = (world.was_asked("/api/x", headers=key) for _ in range(2))
    assert (first[1], again[1]) == (True, False)
    for name in ("Deprecation", "Sunset", "Link"):
        assert len(first[0].all(name)) == 1
        assert again[0].all(name) == first[0].all(name)


def test_nginx_names_what_it_answered_by_itself_in_its_log(world: Caching) -> None:
    if world.lua_asks:
        pytest.skip("a variable of a question that Lua asks is not the call's")
    alice = bearer(world, "alice", "reader", jti="log")
    for _ in range(2):
        world.call("/api/x", headers=alice)
    assert within(5, lambda: "MISS\nHIT\n" in (world.nginx.folder / "cached.log").read_text())


NO_SHA256 = """\
init_by_lua_block {
    local ffi = require "ffi"
    local declare = ffi.cdef
    ffi.cdef = function(text) return declare((text:gsub("%s", "not_in_this_openssl"))) end
}"""


@pytest.mark.parametrize("name", ["EVP_MD_CTX_new", "EVP_MD_CTX_copy_ex", "EVP_DigestFinal_ex"])
def test_where_openssl_lacks_what_is_looked_up_another_hash_names_what_is_kept(tmp_path: Path, name: str) -> None:
    _minted(tmp_path)
    with caching(tmp_path, more=NO_SHA256 % name) as world:
        world.configure(numbered())
        world.warm()
        for who in ("alice", "bob"):
            replies = [world.was_asked("/api/x", headers=bearer(world, who, "reader")) for _ in range(2)]
            assert [(reply.status, asked) for reply, asked in replies] == [(200, True), (200, False)]
            assert [reply.at_api("X-User-Id") for reply, _ in replies] == [[("X-User-Id", who)]] * 2


def test_when_authsvc_cannot_be_understood_a_kept_yes_stands_and_nothing_else_is_one(world: Caching) -> None:
    """Even where nginx is told to answer its own errors with 200."""
    alice, bob = bearer(world, "alice", "reader", jti="away"), bearer(world, "bob", "reader", jti="away")
    assert world.call("/api/x", headers=alice).status == 200

    def broken(environ: dict[str, Any], start: Any) -> Any:
        start("200 OK", [("Content-Length", "0"), ("X-Auth-Status", "200"), ("X-Too-Long", "x" * 20_000)])
        return []

    world.server.app = broken
    assert [world.call("/api/x", headers=who).status for who in (alice, bob)] == [200, 503]


def test_what_asks_is_reached_by_no_other_way(world: Caching) -> None:
    """Not even where a line of the operator's makes a path without its slash of what the client sent."""
    alice = bearer(world, "alice", "reader", jti="stray")
    for name in ("_authsvc", "_authsvc_ask"):
        reply, asked = world.was_asked(f"/stripped/{name}", headers=alice)
        assert (reply.status, asked) == (500, False)
