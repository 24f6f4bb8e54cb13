"""Questions in the shape of the includes are answered at once, and just as any server would answer them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authsvc import questions as questions_module
from authsvc.adapters.limiter import Limiter
from authsvc.adapters.store import MemoryStore
from authsvc.answering import Answerer
from authsvc.connection import Connection, Shared
from authsvc.core import jwt
from authsvc.core.callers import ApiKeys, Rollout
from authsvc.core.claims import Condition
from authsvc.core.gate import Gate
from authsvc.core.jwks import KeySet
from authsvc.core.model import Decision, Prepared, Reason, Request
from authsvc.core.provider import Strength
from authsvc.core.ratelimit import Limits, Rate, Spending, Tier
from authsvc.core.rbac import Asks, rule
from authsvc.core.response import Headers, RateHeaders, render
from authsvc.door import Door
from authsvc.httpwire import Heads, base_environ
from keys import key
from keyworld import BOOK, BROWNED_OUT, GRACE, OVER, PLAN, RECORDS, SILENT, TEXTS, keys
from test_worker import Loop, Transport
from worlds import NOW, FakeCounters, FakeKeys, KeysByProvider, claims, gate, key_set, token

RULES = (
    rule("/public/*", None, []),
    rule("/orders/*", ["GET"], ["reader"]),
    rule("/orders/*", ["POST"], ["writer"], spending=Spending(cost=3)),
    replace(rule("/free/*", None, ["reader"], spending=Spending(cost=0)), keep_s=9),
    rule("/fresh/*", None, None, Asks(strength=Strength(max_age_s=60))),
    rule("/admin/*", None, ["admin"]),
)
LIMITS = Limits(
    (
        Tier("two", (Rate(50, 60), Rate(500, 3600)), Condition(("plan",), "in", ("two",))),
        Tier("watched", (Rate(3, 60),), Condition(("plan",), "in", ("watched",)), shadow=True),
        Tier("free", (), Condition(("plan",), "in", ("free",))),
        Tier("one", (Rate(40, 60),)),
    )
)
TOKENS = (
    token(sub="reader"),
    token(sub="writer", roles=["reader", "writer"], plan="two", auth_time=NOW - 30),
    token(sub="admin", roles=["admin"], plan="free"),
    token(sub="ümlaut", roles=["reader"], plan="watched"),
    token(sub="short", exp=NOW + 20),
    "no token",
)
CREDENTIALS = (
    *(f"Authorization: Bearer {one}" for one in TOKENS),
    *(f"X-API-Key: {TEXTS[name]}" for name in ("good", "other", "foreign", "revoked", "unknown", "mistyped", "two")),
    f"Authorization: ApiKey {TEXTS['good']}",
    f"Authorization: Bearer {TOKENS[0]}\r\nX-API-Key: {TEXTS['good']}",
    None,
)


@dataclass
class Written:
    """The port Journal."""

    decisions: list[tuple[Request, Decision]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def record(self, request: Request, decision: Decision, seconds: float, now: float) -> None:
        self.decisions.append((request, decision))

    def trouble(self, event: str) -> None:
        self.troubles.append(event)

    def say(self, text: str) -> None:
        self.troubles.append(text)


class OnFullDisk(Written):
    """Keeps what it is told, and fails each time."""

    def record(self, request: Request, decision: Decision, seconds: float, now: float) -> None:
        self.decisions.append((request, decision))
        raise OSError

    def trouble(self, event: str) -> None:
        self.troubles.append(event)
        raise OSError


class Answers:
    """What the door needs, of a gate."""

    def __init__(self, answerer: Answerer) -> None:
        self.answer, self.at_once = answerer.answer, answerer.questions.at_once

    def refuse(self, reason: Reason) -> tuple[int, Headers]:
        return render(Decision(reason), [])


class World:
    """A gate behind a connection of our worker's. `knows` is whether the server knows of `at_once`, `by_wsgi` how
    often it was asked as WSGI has it."""

    def __init__(
        self,
        deciding: Gate,
        style: RateHeaders = "ietf",
        generation: str = "",
        knows: bool = True,
        journal: Written | None = None,
    ) -> None:
        self.now, self.gate, self.journal = NOW, deciding, journal or Written()
        word = (lambda: generation) if generation else None
        self.answerer = Answerer(deciding, self.journal, style, word, clock=lambda: self.now, timer=lambda: 0.0)
        door = Door(Answers(self.answerer), _elsewhere)
        self.app: Any = door if knows else door.__call__
        self.by_wsgi = 0
        self.shared = Shared(self._asked, base_environ(False, "x"), Loop(), self._trouble, keepalive_s=75, most=9)  # type: ignore[arg-type]
        if knows:
            self.shared._at_once = door.at_once
        self.transport = Transport()
        self.connection = Connection(self.shared, Heads(4094, 100, 16384))
        self.connection.connection_made(self.transport)

    @property
    def by_token(self) -> int:
        """How many were decided by the credential itself."""
        asked = [request for request, _ in self.journal.decisions if request.remembered is None]
        return sum(request.digest is None or request.authorization is not None for request in asked)

    def _asked(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.by_wsgi += 1
        return self.app(environ, start)

    def _trouble(self, what: str, problem: Exception) -> None:
        raise problem

    def ask(self, sent: bytes) -> tuple[int, frozenset[bytes]]:
        """Status and header lines of the one answer."""
        before = len(self.transport.written)
        self.connection.data_received(sent)
        [answer] = self.transport.written[before:]
        line, *fields = answer.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert len(set(fields)) == len(fields)
        return int(line.split(b" ")[1]), frozenset(one for one in fields if not one.startswith(b"Date: "))


def _elsewhere(environ: dict[str, Any], start: Any) -> list[bytes]:
    start("403 Forbidden", [])
    return []


def question(
    who: str | None, method: str = "GET", target: str = "/orders/1", id_: int = 1, ip: str = "192.0.2.1", **more: Any
) -> bytes:
    """As the includes ask: with a token, or with the fields of other credentials."""
    credential = who if who is None or ": " in who else f"Authorization: Bearer {who}"
    served = more.get("served", target.partition("?")[0])
    fields = [
        "Host: authsvc",
        *([] if credential is None else [credential]),
        f"X-Real-IP: {ip}",
        f"X-Original-Method: {method}",
        f"X-Original-URI: {target}",
        f"X-Served-Path: {served}",
        f"X-Request-ID: {id_:032x}",
    ]
    return "\r\n".join(["GET /auth HTTP/1.1", *fields, "", ""]).encode("latin-1")


def judge(keys_known: KeySet | None = None, **rest: Any) -> Gate:
    return gate(FakeKeys(keys_known or key_set(key())), rules=RULES, limits=LIMITS, **rest)


def limited(**rest: Any) -> Gate:
    return judge(counters=Limiter(MemoryStore(lambda: 0.0)), **rest)


# ---- the same answer


asked = st.tuples(
    st.sampled_from(CREDENTIALS),
    st.sampled_from(("GET", "GET", "POST", "get")),
    st.sampled_from(
        (
            "/orders/1",
            "/orders/2?page=1,2",
            "/orders/a,/b",
            "/orders//x",
            "/public/x",
            "/free/1",
            "/fresh/1",
            "/admin/x?q=/,/",
            "/%6frders/1",
            "/orders/é",
        )
    ),
    st.sampled_from(("192.0.2.1", "2001:db8::1")),
    st.sampled_from((None, "/orders/1", "/orders/1 2", "/admin/x", "/ ")),
    st.floats(0, 30),
)
STYLES = ("ietf", "both", "x", "off")


@settings(deadline=None)
@given(
    st.lists(asked, min_size=1, max_size=40),
    st.sampled_from(STYLES),
    st.sampled_from(("", "a1b2")),
    st.sampled_from((None, None, PLAN)),
    st.sampled_from((50, 100)),
    st.booleans(),
)
def test_a_worker_that_knows_callers_again_answers_as_one_that_reads_every_credential(
    questions, style, generation, plan, percent, both
):
    rest: dict[str, Any] = {"api_keys": keys(plan=plan), "rollout": Rollout(percent)} if both else {}
    knowing = World(limited(**rest), style, generation)
    reading = World(limited(**rest), style, generation, knows=False)
    for number, (who, method, target, ip, served, later) in enumerate(questions):
        sent = question(who, method, target, number, ip, **({"served": served} if served else {}))
        assert knowing.ask(sent) == reading.ask(sent)
        knowing.now = reading.now = reading.now + later / 4
    assert knowing.journal.decisions == [
        (forgetful(r, s), d)
        for (r, d), (s, _) in zip(reading.journal.decisions, knowing.journal.decisions, strict=True)
    ]
    assert not knowing.journal.troubles + reading.journal.troubles
    assert reading.by_wsgi == len(questions)


def forgetful(request: Request, other: Request) -> Request:
    """The same request as one that was known by its credential has it, where the other was."""
    if other.digest is not None and other.authorization is not None:
        assert other.digest == jwt.digest(jwt.bearer(other.authorization) or "")
        request.digest = other.digest
    elif other.digest is not None or other.remembered is not None:
        request.authorization = request.api_key = None
        request.digest, request.may_wait = other.digest, False
    return request


@pytest.mark.parametrize("who", CREDENTIALS)
def test_a_question_in_the_shape_of_the_includes_needs_no_wsgi(who):
    world = World(limited(api_keys=keys()))
    for number, target in enumerate(("/orders/1", "/orders/2?q=1,2", "/public/x", "/admin/x", "/orders//x")):
        world.ask(question(who, target=target, id_=number))
    assert world.by_wsgi == 0


def test_a_caller_is_known_again_whatever_he_asks_for():
    world = World(limited())
    world.ask(question(TOKENS[0]))  # verified and remembered
    before = world.by_token
    for number in range(20):
        status, fields = world.ask(question(TOKENS[0], target=f"/orders/{number}?q={number}", id_=100 + number))
        assert status == 200
        assert b"X-User-Id: reader" in fields
    assert world.by_token == before == 1


# ---- whatever differs is read


KNOWN = question(TOKENS[0], id_=7)
OTHERS = {
    "an id with a dash": KNOWN[:-6] + b"a-\r\n\r\n",
    "an id with a letter that is not ascii": KNOWN[:-6] + b"a\xe9\r\n\r\n",
    "an id that is too short": KNOWN[:-5] + b"\r\n\r\n",
    "a receipt": KNOWN[:-2] + b"X-Auth-Receipt: x\r\n\r\n",
    "a field more": KNOWN[:-2] + b"X-More: 1\r\n\r\n",
    "two requests in one piece": KNOWN + KNOWN,
    "half a request behind it": KNOWN + b"GET /au",
    "an address twice": KNOWN.replace(b"X-Original-M", b"X-Real-IP: 192.0.2.9\r\nX-Original-M"),
    "an id twice": KNOWN[:-2] + b"X-Request-ID: " + b"a" * 32 + b"\r\n\r\n",
    "a method twice": KNOWN.replace(b"X-Original-M", b"X-Original-Method: GET\r\nX-Original-M"),
    "a target twice": KNOWN.replace(b"X-Served", b"X-Original-URI: /orders/1\r\nX-Served"),
    "no served path": KNOWN.replace(b"X-Served-Path: /orders/1\r\n", b""),
    "an empty served path": KNOWN.replace(b"X-Served-Path: /orders/1", b"X-Served-Path: "),
    "a method in small letters": KNOWN.replace(b"Method: GET", b"Method: get"),
    "a bare lf": KNOWN.replace(b"1\r\nX-Served", b"1\nX-Served"),
    "a bare lf at the end": KNOWN[:-2] + b"\n",
    "a folded target": KNOWN.replace(b"/orders/1\r\nX-S", b"/orders/1\r\n /admin/x\r\nX-S"),
    "a letter that is not ascii": KNOWN.replace(b"/orders/1\r\nX-S", b"/orders/\xc3\xa9\r\nX-S"),
    "http 1.0": KNOWN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "another path": KNOWN.replace(b"/auth", b"/Auth"),
    "another method of ours": KNOWN.replace(b"GET /auth", b"POST /auth"),
    "another host": KNOWN.replace(b"Host: authsvc", b"Host: authsvd"),
    "another address": KNOWN.replace(b"192.0.2.1", b"192.0.2.2"),
    "an api key too": KNOWN.replace(b"X-Real", b"X-API-Key: ak_x\r\nX-Real"),
    "connection close": KNOWN.replace(b"X-Real", b"Connection: close\r\nX-Real"),
    "a body": KNOWN.replace(b"X-Real", b"Content-Length: 5\r\nX-Real") + b"hello",
    "a letter of the token less": KNOWN.replace(TOKENS[0].encode(), TOKENS[0].encode()[:-1]),
    "another token": question(TOKENS[1], id_=7),
    "no token": question(None, id_=7),
    "bearer in small letters": KNOWN.replace(b"Bearer", b"bearer"),
    "two spaces after bearer": KNOWN.replace(b"Bearer", b"Bearer "),
    "no host": KNOWN.replace(b"Host: authsvc\r\n", b""),
    "an empty line first": b"\r\n" + KNOWN,
    **{
        f"{name} in a token": KNOWN.replace(b"Bearer e", b"Bearer " + put + b"e")
        for name, put in {"a nul": b"\0", "a tab": b"\t", "an escape": b"\x1b", "a delete": b"\x7f"}.items()
    },
    "a bare cr in a token": KNOWN.replace(b"Bearer e", b"Bearer \re"),
    "a bare lf in a token": KNOWN.replace(b"Bearer e", b"Bearer \ne"),
    "an underscore for a dash": KNOWN.replace(b"X-Original-Method", b"X_Original_Method"),
}


def told(world: World, sent: bytes) -> bytes:
    before = len(world.transport.written)
    world.connection.data_received(sent)
    return re.sub(rb"Date: [^\r]*", b"", b"".join(world.transport.written[before:]))


UNANSWERED = {"a bare lf", "a bare lf at the end", "a folded target"} | {
    name for name in OTHERS if name.endswith("in a token") and name != "a tab in a token"
}
PLAIN = {  # questions like any of the includes'
    "another host", "another address", "an api key too", "a letter of the token less", "another token", "no token",
    "bearer in small letters", "no host",
}  # fmt: skip


ELSEWHERE = {"another address"}  # the same token


@pytest.mark.parametrize("what", OTHERS)
def test_what_differs_from_a_known_question_is_read_as_any_other(what: str) -> None:
    sent = OTHERS[what]
    knowing, reading = World(judge()), World(judge(), knows=False)
    for number in range(3):
        assert told(knowing, question(TOKENS[0], id_=number)) != b""
        reading.connection.data_received(question(TOKENS[0], id_=number))
    assert (known := knowing.by_token) == 1
    assert sorted(told(knowing, sent).split(b"\r\n")) == sorted(told(reading, sent).split(b"\r\n"))
    assert knowing.by_token - known == (0 if what in ELSEWHERE else reading.by_token - 3)


@pytest.mark.parametrize("what", OTHERS)
def test_what_has_another_shape_than_the_questions_of_the_includes_is_read_as_wsgi_has_it(what):
    world = World(judge(api_keys=keys()))
    world.connection.data_received(OTHERS[what])
    assert (world.by_wsgi == 0) is (what in PLAIN or what in UNANSWERED)


@pytest.mark.parametrize("octet", [*range(32), *range(127, 256)])
def test_nobody_is_told_at_once_whose_first_part_holds_an_octet_that_is_not_printable_ascii(octet):
    world = World(judge())
    assert world.answerer.questions.at_once(KNOWN) is not None
    for before in (b"vc\r\nAuth", b"Bearer e", b"192.0"):
        assert KNOWN.count(before) == 1
        changed = KNOWN.replace(before, before[:2] + bytes([octet]) + before[2:])
        assert world.answerer.questions.at_once(changed) is None


NOWHERE = KNOWN.replace(b"X-Real-IP: 192.0.2.1\r\n", b"")  # nothing stands behind the credential
AT = NOWHERE.index(b"\r\nX-Original-M")


@settings(deadline=None)
@given(
    st.sampled_from([KNOWN, NOWHERE]),
    st.integers(0, len(KNOWN) - 1),
    st.binary(min_size=0, max_size=3),
    st.integers(0, 3),
)
@example(NOWHERE, AT, b"\r", 0)
@example(NOWHERE, AT, b"\r\r", 0)
@example(NOWHERE, AT, b"\n", 0)
@example(NOWHERE, AT, b"\r\n", 0)
@example(NOWHERE, AT, b"\r\n ", 0)
@example(NOWHERE, AT + 1, b"\r", 0)
@example(KNOWN, AT, b"\r", 0)
@example(KNOWN, KNOWN.index(b"\r\nX-Original-M"), b"\r", 0)
def test_a_known_question_with_any_bytes_changed_is_answered_as_by_a_server_that_reads(first, at, put, over):
    sent = first[:at] + put + first[at + over :]
    knowing, reading = World(judge()), World(judge(), knows=False)
    for world in (knowing, reading):
        for _ in range(3):
            world.connection.data_received(first)
    assert sorted(told(knowing, sent).split(b"\r\n")) == sorted(told(reading, sent).split(b"\r\n"))


def test_a_known_question_in_two_pieces_is_answered_once_wherever_it_is_cut():
    world = World(judge())
    for number in range(3):
        world.connection.data_received(question(TOKENS[0], id_=number))
    for at in range(1, len(KNOWN)):
        before = len(world.transport.written)
        world.connection.data_received(KNOWN[:at])
        assert len(world.transport.written) == before
        world.connection.data_received(KNOWN[at:])
        assert [one[:12] for one in world.transport.written[before:]] == [b"HTTP/1.1 200"]


GOOD_KEY = TEXTS["good"]


@pytest.mark.parametrize("blank", ["Authorization: ", "Authorization: \t", "X-API-Key: ", "X-API-Key:  \t"])
@pytest.mark.parametrize(
    "credential",
    [f"X-API-Key: {GOOD_KEY}", f"Authorization: ApiKey {GOOD_KEY}", f"Authorization: Bearer {TOKENS[0]}"],
)
@pytest.mark.parametrize("place", [b"X-Original-Method", b"X-Served-Path", b"X-Request-ID", b"\r\n\r\n"])
def test_a_credential_that_does_not_stand_in_the_first_part_is_not_learned_of_it(blank, credential, place):
    world = World(judge(api_keys=keys()))
    for number in range(3):
        sent = question(blank, id_=number)
        at = sent.rindex(place) + (2 if place == b"\r\n\r\n" else 0)
        world.connection.data_received(sent[:at] + credential.encode() + b"\r\n" + sent[at:])
        assert world.ask(question(blank, id_=100 + number))[0] == 401


def test_an_address_that_does_not_stand_in_the_first_part_is_not_learned_of_it():
    world = World(judge())
    for number in range(3):
        world.connection.data_received(
            question(TOKENS[0], id_=number).replace(b"X-Request", b"X-Real-IP: 9.9.9.9\r\nX-Request")
        )
    for number in range(3):
        world.ask(question(TOKENS[0], id_=number))
    assert world.journal.decisions[-1][0].client_ip == "192.0.2.1"


def test_where_the_shortcut_fails_the_head_is_read_as_any_other():
    world = known(judge())
    troubles: list[str] = []
    world.shared.trouble = lambda what, problem: troubles.append(f"{what}: {problem!r}")

    def failing(head: bytes) -> str | None:
        raise ZeroDivisionError

    world.shared._at_once = failing
    before = world.by_token
    assert world.ask(question(TOKENS[0]))[0] == 200
    assert (world.by_token - before, len(troubles)) == (1, 1)


# ---- what was true must still be


def known(deciding: Gate, bearer: str = TOKENS[0], **more: Any) -> World:
    world = World(deciding)
    for number in range(3):
        assert world.ask(question(bearer, id_=number, **more))[0] == 200
    assert world.by_token == 1
    return world


def reason(world: World) -> Reason:
    return world.journal.decisions[-1][1].reason


def test_a_token_ends_while_its_caller_is_known():
    world = known(judge(), TOKENS[4])
    world.now = NOW + 20 + 60  # its end, and the skew
    assert world.ask(question(TOKENS[4]))[0] == 401
    assert reason(world) is Reason.EXPIRED


def test_a_key_is_withdrawn_while_a_caller_is_known():
    held = {"main": key_set(key())}
    world = known(gate(KeysByProvider(held), rules=RULES))
    held["main"] = key_set(key(kid="k2", number=1))
    assert world.ask(question(TOKENS[0]))[0] == 401
    assert reason(world) is Reason.UNKNOWN_KEY


def test_another_key_set_with_the_same_key_verifies_him_anew():
    held = FakeKeys(key_set(key()))
    world = known(gate(held, rules=RULES))
    held.known = key_set(key(), key(kid="k2", number=1))
    assert [world.ask(question(TOKENS[0], id_=number))[0] for number in range(9, 12)] == [200] * 3
    assert world.by_token == 2


def test_a_limit_is_reached_while_a_caller_is_known():
    world = World(limited())
    statuses = [world.ask(question(TOKENS[0], id_=number))[0] for number in range(50)]
    assert statuses == [200] * 40 + [403] * 10
    assert reason(world) is Reason.RATE_LIMITED
    assert world.by_token == 1


def test_a_caller_with_a_key_is_known_again_until_it_is_revoked():
    book = dict(BOOK)
    world = World(judge(api_keys=ApiKeys(lambda now: book)))
    good = f"X-API-Key: {TEXTS['good']}"
    assert [world.ask(question(good, id_=number))[0] for number in range(9)] == [200] * 9
    assert world.by_token == 1
    book[RECORDS["good"].digest] = replace(RECORDS["good"], revoked=NOW)
    assert world.ask(question(good))[0] == 401
    assert reason(world) is Reason.REVOKED_API_KEY
    del book[RECORDS["good"].digest]
    assert world.ask(question(good))[0] == 401
    assert reason(world) is Reason.UNKNOWN_API_KEY


@pytest.mark.parametrize(("now", "status"), [(SILENT, 200), (BROWNED_OUT, 401), (GRACE, 200), (OVER, 401)])
def test_keys_end_for_a_known_caller_as_it_was_announced(now, status):
    world = World(judge(api_keys=keys(plan=PLAN)))
    good = f"X-API-Key: {TEXTS['good']}"
    for number in range(3):
        world.ask(question(good, id_=number))
    before, world.now = world.by_token, now
    answered, fields = world.ask(question(good))
    assert answered == status
    assert any(one.startswith(b"X-Auth-Warning: ") for one in fields) is (now == GRACE)
    assert any(one.startswith(b"Deprecation: ") for one in fields) is (now != SILENT)
    assert world.by_token - before == (0 if status == 200 else 1)


def test_what_is_remembered_of_nobody_opens_no_door():
    """Whoever says that he knows the caller: the credential itself is asked for."""
    world, good = World(judge(api_keys=keys())), f"X-API-Key: {TEXTS['good']}"
    world.answerer.questions._recall = lambda digest: Prepared()
    assert [world.ask(question(TOKENS[number], id_=number))[0] for number in (0, 5)] == [200, 401]
    world.ask(question(good))
    [text] = world.answerer.questions._keys.known
    world.answerer.questions._keys.known[text] = b"x" * 32
    before = world.by_token
    assert world.ask(question(good, id_=9))[0] == 200
    assert world.by_token == before + 1


def test_a_key_opens_no_door_where_keys_are_not_accepted_whatever_is_known_of_it():
    world = World(judge())
    for name in ("X-API-Key: ", "Authorization: ApiKey "):
        for number in range(3):
            world.answerer.questions._keys.put(sha256(TEXTS["good"].encode()).digest(), RECORDS["good"].digest)
            assert world.ask(question(name + TEXTS["good"], id_=number))[0] == 401


def test_a_path_that_he_may_not_is_refused_to_a_known_caller():
    world = known(judge())
    for target, wanted in (("/admin/x", Reason.ROLE_REQUIRED), ("/orders//x", Reason.AMBIGUOUS_PATH)):
        assert world.ask(question(TOKENS[0], target=target))[0] == 403
        assert reason(world) is wanted
    assert world.ask(question(TOKENS[0], method="DELETE"))[0] == 403
    assert world.by_token == 1


def test_a_served_path_that_he_may_not_is_refused_to_a_known_caller():
    world = known(judge())
    assert world.ask(question(TOKENS[0], served="/admin/x"))[0] == 403
    assert reason(world) is Reason.ROLE_REQUIRED


def test_who_was_forgotten_is_verified_by_his_token():
    world = known(judge())
    world.gate.who.memory._regular.entries.clear()  # type: ignore[union-attr]
    assert world.ask(question(TOKENS[0], id_=8))[0] == 200
    assert world.by_token == 2


def test_the_oldest_places_are_forgotten_and_answered_all_the_same():
    world = World(judge())
    places = world.answerer.questions._places[0]
    places._most = 2
    for number in range(30):
        assert world.ask(question(TOKENS[0], id_=number, ip=f"192.0.2.{number % 3}"))[0] == 200
        assert world.journal.decisions[-1][0].client_ip == f"192.0.2.{number % 3}"
        assert len(places.known) <= 2


@pytest.mark.parametrize(
    ("ip", "kept"),
    [
        ("192.0.2.1", 1),
        ("2001:db8::ffff:192.0.2.1", 1),
        ("unix:", 1),
        ("a" * 46, 0),
        ("a" * 4000, 0),
        ("g", 0),
        ("1,2", 0),
    ],
)
def test_a_place_is_remembered_where_nginx_could_have_sent_it(ip, kept):
    world = World(judge())
    for number in range(2):
        assert world.ask(question(TOKENS[0], id_=number, ip=ip))[0] == 200
    assert world.by_wsgi == 0
    assert len(world.answerer.questions._places[0].known) == kept


def test_a_known_credential_from_another_place_is_seen_there():
    world = known(judge())
    for ip in ("192.0.2.1", "192.0.2.9", "2001:db8::9", "192.0.2.1"):
        world.ask(question(TOKENS[0], ip=ip))
        assert world.journal.decisions[-1][0].client_ip == ip
    world.ask(question(TOKENS[0]).replace(b"X-Real-IP: 192.0.2.1\r\n", b""))
    assert world.journal.decisions[-1][0].client_ip is None


def test_long_calls_are_answered_and_not_remembered():
    world = known(judge())
    for length in (questions_module.MOST_CALL_BYTES, 8000, questions_module.MOST_BYTES):
        status, _ = world.ask(question(TOKENS[0], target="/orders/" + "x" * length, served="/orders/1"))
        assert status in (200, 403, 431)
    assert all(len(part) <= questions_module.MOST_CALL_BYTES for part in world.answerer.questions._calls.known)


def test_no_credential_lies_in_what_is_remembered_of_questions():
    world = World(limited(api_keys=keys()))
    basic = ["Authorization: Basic YTpi", f"Authorization: Basic YTpi\r\nX-API-Key: {TEXTS['good']}"]
    twice = [f"{one}\r\n{other}" for one in CREDENTIALS[:3] for other in CREDENTIALS[6:9]]  # type: ignore[str-bytes-safe]
    sent = [one for one in (*CREDENTIALS, *basic, *twice) if one is not None]
    for number, one in enumerate(sent * 3):
        world.ask(question(one, id_=number))
        world.ask(question(one, id_=number, ip=TEXTS["good"]))
    kept, secrets = world.answerer.questions, {word for one in sent for word in re.split(r"\r\n|: | ", one)}
    places = [place for known in kept._places for place in known.known]
    held = b" ".join((*places, *kept._keys.known, *kept._keys.known.values(), *kept._calls.known))
    found = {word for word in secrets if word.encode() in held}
    assert found <= {"Authorization", "Bearer", "ApiKey", "X-API-Key", "no"}
    assert len(places) == 3


def test_an_unforeseen_error_is_a_refusal_to_a_known_caller_too():
    class Counters:
        broken = False

        def spend(self, charge: Any, now: float) -> Any:
            return 1 // 0 if self.broken else ()

    counters: Any = Counters()
    world = known(judge(counters=counters))
    counters.broken = True
    status, fields = world.ask(question(TOKENS[0]))
    assert status == 403
    assert b"X-Auth-Reason: internal_error" in fields
    assert claims()["sub"].encode() not in b"".join(fields)


def test_a_call_whose_answer_cannot_be_put_together_is_refused_and_counted_once():
    world = World(limited())
    object.__setattr__(world.gate, "extract", {"X-Bad\r\nX-User-Id": ("sub",)})
    for number in range(2):
        status, fields = world.ask(question(TOKENS[0], id_=number))
        assert status == 403
        assert b"X-Auth-Reason: internal_error" in fields
        assert not [one for one in fields if one.startswith((b"X-User", b"X-Bad"))]
    assert (len(world.journal.decisions), world.by_wsgi) == (2, 0)
    assert world.journal.troubles == ["internal_error"] * 2


@pytest.mark.parametrize(
    ("extract", "status", "trouble"),
    [
        ({}, 200, ["journal_failed"]),
        ({"X-Bad\r\nX-User-Id": ("sub",)}, 403, ["journal_failed", "internal_error"]),
    ],
)
def test_where_nothing_can_be_written_down_a_call_is_answered_and_counted_once(extract, status, trouble):
    counters = FakeCounters()
    world = World(judge(extract=extract, counters=counters), journal=OnFullDisk())
    assert world.ask(question(TOKENS[0]))[0] == status
    assert (len(counters.spent), len(world.journal.decisions), world.by_wsgi) == (1, 1, 0)
    assert world.journal.troubles == trouble
