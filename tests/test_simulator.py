"""The simulated provider does to its callers what it says, and lets go of them when told."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from jose import jws
from jose.exceptions import JWSError

from authsvc.demo.behaviours import ANSWERS, Behaviour
from authsvc.demo.issuer import Issuer
from waiting import within

DISCOVERY = "/.well-known/openid-configuration"
SILENT = {Behaviour.DOWN, Behaviour.HANG}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as started:
        yield started


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kids(self) -> list[str]:
        return [key.get("kid", "") for key in self.json["keys"]]


def port_of(issuer: Issuer) -> int:
    return int(issuer.url.rpartition(":")[2])


def ask(issuer: Issuer, path: str = "/keys") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(issuer), timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def begin(issuer: Issuer, path: str = "/keys", timeout_s: float = 2) -> socket.socket:
    """A connection on which the request was sent."""
    connection = socket.create_connection(("127.0.0.1", port_of(issuer)), timeout=timeout_s)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def is_silent(connection: socket.socket, seconds: float = 0.2) -> bool:
    connection.settimeout(seconds)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    return False


def has_ended(connection: socket.socket) -> bool:
    """Whether the other end hangs up within two seconds."""
    connection.settimeout(2)
    try:
        while connection.recv(1 << 20):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


# ---- one check for each behaviour


def answers_well(issuer: Issuer) -> None:
    assert ask(issuer).kids == ["key-1"]
    assert ask(issuer, DISCOVERY).json == {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"}
    assert ask(issuer, "/else").status == 404


def refuses_the_connection(issuer: Issuer) -> None:
    with pytest.raises(ConnectionRefusedError):
        ask(issuer)


def reads_the_request_and_says_nothing(issuer: Issuer) -> None:
    with begin(issuer) as connection:
        assert within(5, lambda: issuer.asked == ["/keys"])
        assert is_silent(connection)


def answers_500(issuer: Issuer) -> None:
    assert ask(issuer).status == ask(issuer, DISCOVERY).status == 500


def answers_with_a_login_page(issuer: Issuer) -> None:
    answer = ask(issuer)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert b"password" in answer.body


def sends_half_and_hangs_up(issuer: Issuer) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(issuer)
    assert caught.value.partial.startswith(b'{"keys": [')
    assert abs(len(caught.value.partial) - (caught.value.expected or 0)) <= 1


def answers_with_bytes_that_are_no_json(issuer: Issuer) -> None:
    answer = ask(issuer)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(ValueError, match=r"codec|Expecting|Invalid|Extra"):
        answer.json  # noqa: B018
    assert ask(issuer).body != answer.body


def has_no_keys_but_discovery(issuer: Issuer) -> None:
    assert ask(issuer).json == {"keys": []}
    assert ask(issuer, DISCOVERY).json["issuer"] == issuer.url


def sends_elsewhere_where_the_keys_are(issuer: Issuer) -> None:
    answer = ask(issuer)
    assert (answer.status, answer.headers["Location"]) == (302, "/elsewhere/keys")
    assert ask(issuer, answer.headers["Location"]).kids == ["key-1"]
    assert issuer.asked == ["/keys", "/elsewhere/keys"]
    assert issuer.fetches == 1


def sends_little_that_inflates_to_much(issuer: Issuer) -> None:
    answer = ask(issuer)
    assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert len(answer.body) < 150_000
    unpacker, size, rest = zlib.decompressobj(wbits=31), 0, answer.body
    while rest:
        size += len(unpacker.decompress(rest, 1_000_000))
        rest = unpacker.unconsumed_tail
    assert size >= 100_000_000


def sends_one_byte_at_a_time(issuer: Issuer) -> None:
    issuer.drip_s = 0.02
    started = time.monotonic()
    with begin(issuer) as connection:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        got = 0
        while got < 5:  # who reads late finds several
            got += len(connection.recv(100))
            assert time.monotonic() - started > 0.9 * got * issuer.drip_s


def never_ends(issuer: Issuer) -> None:
    with begin(issuer) as connection:
        head = connection.recv(4096)
        assert b"200" in head
        assert b"Content-Length" not in head
        got = 0
        while got < 3_000_000:
            more = connection.recv(1 << 20)
            assert more != b""
            got += len(more)


CHECKS: list[tuple[Behaviour, Callable[[Issuer], None]]] = [
    (Behaviour.OK, answers_well),
    (Behaviour.DOWN, refuses_the_connection),
    (Behaviour.HANG, reads_the_request_and_says_nothing),
    (Behaviour.ERROR, answers_500),
    (Behaviour.HTML, answers_with_a_login_page),
    (Behaviour.HALF, sends_half_and_hangs_up),
    (Behaviour.GARBAGE, answers_with_bytes_that_are_no_json),
    (Behaviour.EMPTY, has_no_keys_but_discovery),
    (Behaviour.REDIRECT, sends_elsewhere_where_the_keys_are),
    (Behaviour.BOMB, sends_little_that_inflates_to_much),
    (Behaviour.DRIP, sends_one_byte_at_a_time),
    (Behaviour.ENDLESS, never_ends),
]


@pytest.mark.parametrize(
    ("behaviour", "check"),
    [pytest.param(*row, id=f"{row[0].name} {row[1].__name__.replace('_', ' ')}") for row in CHECKS],
)
def test_it_behaves_as_told_and_well_again_afterwards(
    issuer: Issuer, behaviour: Behaviour, check: Callable[[Issuer], None], capfd: pytest.CaptureFixture[str]
) -> None:
    issuer.behave(behaviour)
    assert issuer.behaviour is behaviour
    check(issuer)
    issuer.behave(Behaviour.OK)
    answers_well(issuer)
    assert capfd.readouterr().err == ""


def test_every_behaviour_has_an_answer_and_a_check() -> None:
    assert set(Behaviour) == set(ANSWERS) == {behaviour for behaviour, _ in CHECKS}


# ---- changes of behaviour


def test_it_goes_down_and_comes_back_on_the_same_port_many_times(issuer: Issuer) -> None:
    before = issuer.url
    for _ in range(10):
        issuer.behave(Behaviour.DOWN)
        refuses_the_connection(issuer)
        issuer.behave(Behaviour.OK)
        assert ask(issuer).status == 200
    assert issuer.url == before


def test_a_connection_that_was_kept_open_ends_when_it_goes_down(issuer: Issuer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(issuer), timeout=2)
    connection.request("GET", "/keys")
    connection.getresponse().read()
    assert connection.sock is not None  # it is kept open
    issuer.behave(Behaviour.DOWN)
    assert has_ended(connection.sock)
    connection.close()


def test_while_it_is_down_nobody_else_gets_its_port(issuer: Issuer) -> None:
    issuer.behave(Behaviour.DOWN)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port_of(issuer)))


def test_it_may_be_down_from_the_start() -> None:
    issuer = Issuer()
    issuer.behave(Behaviour.DOWN)
    with issuer:
        refuses_the_connection(issuer)
        issuer.behave(Behaviour.OK)
        answers_well(issuer)


def test_who_hangs_is_answered_once_it_behaves_otherwise(issuer: Issuer) -> None:
    issuer.behave(Behaviour.HANG)
    with begin(issuer) as connection:
        assert is_silent(connection, 0.1)
        issuer.behave(Behaviour.ERROR)
        connection.settimeout(2)
        assert b" 500 " in connection.recv(4096)
    assert issuer.fetches == 1


def test_who_hangs_is_hung_up_on_when_it_goes_down(issuer: Issuer) -> None:
    issuer.behave(Behaviour.HANG)
    with begin(issuer) as connection:
        assert is_silent(connection, 0.1)
        issuer.behave(Behaviour.DOWN)
        assert has_ended(connection)


@pytest.mark.alone
@pytest.mark.parametrize("behaviour", [Behaviour.HANG, Behaviour.DRIP, Behaviour.ENDLESS])
def test_closing_lets_go_of_everybody_at_once(behaviour: Behaviour) -> None:
    before = threading.active_count()
    with Issuer() as issuer:
        issuer.behave(behaviour)
        connections = [begin(issuer) for _ in range(5)]
        assert within(5, lambda: len(issuer.asked) == 5)
        started = time.monotonic()
    assert time.monotonic() - started < 0.5
    assert within(5, lambda: threading.active_count() <= before)
    for connection in connections:
        assert has_ended(connection)
        connection.close()


@pytest.mark.parametrize("behaviour", [Behaviour.HANG, Behaviour.DRIP, Behaviour.ENDLESS, Behaviour.BOMB])
def test_a_client_that_hangs_up_leaves_no_trace(
    issuer: Issuer, behaviour: Behaviour, capfd: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    issuer.drip_s = 0.01
    issuer.behave(behaviour)
    connection = begin(issuer)
    assert within(5, lambda: issuer.asked == ["/keys"])
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a farewell
    connection.close()
    issuer.behave(Behaviour.OK)
    assert within(5, lambda: threading.active_count() <= before)
    assert capfd.readouterr().err == ""


def test_failing_is_another_word_for_error(issuer: Issuer) -> None:
    issuer.failing = True
    assert issuer.behaviour is Behaviour.ERROR
    issuer.failing = False
    assert issuer.behaviour is Behaviour.OK
    assert not issuer.failing


# ---- counting


@pytest.mark.parametrize("behaviour", [each for each in Behaviour if each not in SILENT])
def test_a_request_for_keys_counts_however_it_is_answered(issuer: Issuer, behaviour: Behaviour) -> None:
    issuer.behave(behaviour)
    for path in (DISCOVERY, "/keys"):
        with begin(issuer, path) as connection:
            connection.recv(1)
    assert (issuer.fetches, issuer.asked) == (1, [DISCOVERY, "/keys"])


def test_a_hundred_requests_at_once_are_counted_as_a_hundred(issuer: Issuer) -> None:
    threads = [threading.Thread(target=lambda: [ask(issuer) for _ in range(10)]) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert issuer.fetches == len(issuer.asked) == 100


# ---- keys and tokens


def fits(issuer: Issuer, token: str) -> bool:
    """Whether the key set has the key that the token names, and it made the signature."""
    try:
        jws.verify(token, ask(issuer).json, ["RS256"])
    except JWSError:
        return False
    return True


def head_of(token: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))


def test_a_rotation_signs_with_a_new_key_and_publishes_the_old_too(issuer: Issuer) -> None:
    old = issuer.token()
    issuer.rotate()
    assert ask(issuer).kids == ["key-2", "key-1"]
    assert head_of(issuer.token())["kid"] == "key-2"
    assert fits(issuer, old)
    assert fits(issuer, issuer.token())


def test_a_rotation_can_drop_the_old_key(issuer: Issuer) -> None:
    old = issuer.token()
    issuer.rotate(keep_old=False)
    assert ask(issuer).kids == ["key-2"]
    assert not fits(issuer, old)


def test_withdrawing_leaves_the_newest_key(issuer: Issuer) -> None:
    issuer.rotate()
    issuer.rotate()
    issuer.withdraw()
    assert ask(issuer).kids == ["key-3"]


def test_a_withdrawn_key_still_signs_but_no_longer_fits(issuer: Issuer) -> None:
    issuer.rotate()
    assert fits(issuer, issuer.token(signed_by="key-1"))
    issuer.withdraw("key-1")
    token = issuer.token(signed_by="key-1")
    assert head_of(token)["kid"] == "key-1"
    assert not fits(issuer, token)


def test_when_the_signing_key_is_withdrawn_the_next_one_signs(issuer: Issuer) -> None:
    issuer.rotate()
    issuer.withdraw("key-2")
    assert head_of(issuer.token())["kid"] == "key-1"
    issuer.rotate()
    assert head_of(issuer.token())["kid"] == "key-3"


def test_it_can_publish_a_key_before_it_signs_with_it(issuer: Issuer) -> None:
    issuer.rotate()
    issuer.sign_with("key-1")
    assert ask(issuer).kids == ["key-2", "key-1"]
    assert head_of(issuer.token())["kid"] == "key-1"


def test_it_can_withdraw_its_only_key(issuer: Issuer) -> None:
    issuer.withdraw("key-1")
    assert ask(issuer).kids == []
    assert not fits(issuer, issuer.token())


def test_a_key_that_never_was_cannot_sign_or_be_withdrawn(issuer: Issuer) -> None:
    for act in (issuer.withdraw, issuer.sign_with, lambda kid: issuer.token(signed_by=kid)):
        with pytest.raises(KeyError):
            act("key-9")


def test_a_forged_token_names_the_right_key_and_does_not_fit(issuer: Issuer) -> None:
    forged = issuer.forged_token("eve", roles=["admin"])
    assert head_of(forged) == head_of(issuer.token())
    assert not fits(issuer, forged)


def test_a_token_can_name_a_key_that_nobody_knows(issuer: Issuer) -> None:
    assert head_of(issuer.token(header={"kid": "nobody"}))["kid"] == "nobody"


def test_extra_keys_come_before_the_signing_keys(issuer: Issuer) -> None:
    issuer.extra = [{"kty": "oct", "kid": "symmetric", "k": "c2VjcmV0"}, {"kty": "new", "kid": "unknown"}]
    assert ask(issuer).kids == ["symmetric", "unknown", "key-1"]


def test_cache_control_is_sent_with_the_key_set_alone(issuer: Issuer) -> None:
    issuer.cache_control = "max-age=7"
    assert ask(issuer).headers["Cache-Control"] == "max-age=7"
    assert ask(issuer, DISCOVERY).headers["Cache-Control"] is None
    issuer.behave(Behaviour.ERROR)
    assert ask(issuer).headers["Cache-Control"] is None
