"""memcached behind TLS and behind a password: who gets in, what is said of who does not, and what nobody is told."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from authsvc.adapters.connection import TIMEOUT_S, Access, BadTlsFile, TlsFiles
from authsvc.adapters.memcached import MemcachedStore
from authsvc.adapters.store import StoreDown
from helpers import in_threads, memcached_with
from hostile import Act, Authority, Hostile, drips, floods, hangs, says

pytestmark = pytest.mark.alone

PASSWORD = "correct-horse-7741"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


def tls_options(file: str, *more: str) -> tuple[str, ...]:
    return ("-Z", "-o", ",".join([f"ssl_chain_cert={file}", f"ssl_key={file}", *more]))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[str]:
    with memcached_with(*tls_options(authority.file())) as address:
        yield address


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A memcached that asks for a user name and a password."""
    file = tmp_path_factory.mktemp("auth") / "users"
    file.write_text(f"somebody:else\nauthsvc:{PASSWORD}\n")
    with memcached_with("-Y", str(file)) as address:
        yield address


def trusting(authority: Authority, **more: str) -> Access:
    return Access(tls=TlsFiles(ca_file=authority.ca_file, **more))


def login(password: str = PASSWORD) -> Access:
    return Access(username="authsvc", password=password)


def refused(address: str, access: Access, within_s: float = 3 * TIMEOUT_S) -> str:
    """What is said of a call that fails, and again of the next one, which fails at once."""
    store, started = MemcachedStore([address], access=access), time.monotonic()
    with pytest.raises(StoreDown) as first:
        store.incr("k", 60)
    assert time.monotonic() - started < within_s
    with pytest.raises(StoreDown) as second:
        store.incr_many([("k", 1, 60)])
    said = str(first.value).removeprefix(f"memcached at {address}: ")
    assert str(second.value) == f"memcached at {address} failed a moment ago: {said}"
    return said


# ---- TLS


def test_over_tls_all_goes_as_without(secure: str, authority: Authority, key: str) -> None:
    store = MemcachedStore([secure], access=trusting(authority))
    assert store.incr_many([(key, 1, 60), (key + ":more", 5, 60)]) == [1, 5]
    assert store.incr(key, 60) == 2
    large = bytes(range(256)) * 3000
    store.set(key, large, 60)
    assert store.get(key) == large
    assert store.swap(key, large, b"new", 60)
    store.delete([key])
    assert store.get_many([key, key + ":more"]) == {key + ":more": b"5"}


def test_threads_over_tls_lose_no_count(secure: str, authority: Authority, key: str) -> None:
    store, seen = MemcachedStore([secure], access=trusting(authority)), list[int]()
    store.incr(key, 60)
    in_threads(8, lambda _: seen.extend(store.incr(key, 60) for _ in range(50)))
    assert sorted(seen) == list(range(2, 402))


def test_a_ca_that_is_not_ours_is_refused(secure: str, stranger: Authority) -> None:
    assert "certificate does not fit" in refused(secure, trusting(stranger))


def test_without_a_ca_file_the_system_decides_whom_to_trust(secure: str) -> None:
    assert "certificate does not fit: unable to get local issuer certificate" in refused(secure, Access(tls=TlsFiles()))


def test_a_certificate_for_another_name_is_refused(secure: str, authority: Authority) -> None:
    said = refused(secure.replace("127.0.0.1", "localhost"), trusting(authority))
    assert "its certificate does not fit: Hostname mismatch" in said


def test_a_certificate_that_has_expired_is_refused(authority: Authority) -> None:
    with memcached_with(*tls_options(authority.file(expired=True))) as address:
        assert refused(address, trusting(authority)) == "its certificate does not fit: certificate has expired"


def test_a_server_without_tls_gets_nothing(authority: Authority) -> None:
    with memcached_with() as address:
        access = Access(tls=TlsFiles(authority.ca_file), username="authsvc", password=PASSWORD)
        assert refused(address, access) == "no TLS with it: wrong version number"


def test_a_server_with_tls_is_no_server_without(secure: str) -> None:
    refused(secure, Access())


def test_our_certificate_is_shown_where_it_is_asked_for(authority: Authority, stranger: Authority) -> None:
    options = tls_options(authority.file(), f"ssl_ca_cert={authority.ca_file}", "ssl_verify_mode=2")
    with memcached_with(*options) as address:
        ours = trusting(authority, cert_file=authority.file())
        assert MemcachedStore([address], access=ours).incr("k", 60) == 1
        assert "certificate" in refused(address, trusting(authority))
        assert "certificate" in refused(address, trusting(authority, cert_file=stranger.file()))
        assert MemcachedStore([address], access=ours).incr("k", 60) == 2


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(drips(b"", b"9"), id="drips a number"),
        pytest.param(drips(b"VALUE k 0 1000\r\n", b"x"), id="drips a value"),
        pytest.param(hangs(b"4"), id="stays in the middle of an answer"),
        pytest.param(floods(b"VALUE k 0 8000000000\r\n", b"x" * 65536), id="floods"),
        pytest.param(floods(b"", b"9" * 65536), id="floods a line"),
    ],
)
@pytest.mark.parametrize("encrypted", [False, True], ids=["without TLS", "with TLS"])
def test_within_the_timeout_a_call_is_done_with_a_server_that(act: Act, encrypted: bool, authority: Authority) -> None:
    access = trusting(authority) if encrypted else Access()
    with Hostile(act, authority.server() if encrypted else None, b"\r\n") as server:
        started = time.monotonic()
        with pytest.raises(StoreDown, match="takes too long|no memcached|failed a moment"):
            MemcachedStore([f"127.0.0.1:{server.port}"], access=access).incr("k", 60)
        assert MemcachedStore([f"127.0.0.1:{server.port}"], access=access).get_many(["k"]) == {}
        assert time.monotonic() - started < 2 * (TIMEOUT_S + 0.15)


def test_what_floods_over_tls_fills_no_memory(authority: Authority) -> None:
    sent = 0

    def flood(conn: socket.socket) -> None:
        nonlocal sent
        conn.sendall(b"VALUE k 0 8000000000\r\n")
        while True:
            sent += conn.send(b"x" * 65536)

    with Hostile(flood, authority.server(), b"\r\n") as server:
        refused(f"127.0.0.1:{server.port}", trusting(authority))
    assert sent < 40_000_000


def test_a_handshake_that_hangs_takes_one_timeout(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert refused(address, trusting(authority), TIMEOUT_S + 0.15) == "it takes too long"


def test_a_handshake_that_drips_takes_one_timeout(authority: Authority) -> None:
    with Hostile(drips(b"", b"\x16\x03\x03\x40\x00" + b"\x02" * 100), None, b"\x00") as server:
        refused(f"127.0.0.1:{server.port}", trusting(authority), TIMEOUT_S + 0.15)


@pytest.mark.parametrize(
    ("field", "content", "said"),
    [
        ("ca_file", None, "no such file or directory"),
        ("ca_file", "no certificate", "no certificate or crl found"),
        ("cert_file", None, "no such file or directory"),
        ("cert_file", "no certificate", "pem lib"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(field: str, content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadTlsFile) as trouble:
        MemcachedStore(["127.0.0.1:1"], access=Access(tls=TlsFiles(**{field: str(file)})))
    assert str(trouble.value).startswith(f'{field} "{file}"')
    assert said in str(trouble.value)


# ---- a password


def test_the_right_password_opens_every_connection(locked: str, key: str) -> None:
    store, seen = MemcachedStore([locked], access=login()), list[int]()
    in_threads(8, lambda _: seen.extend(store.incr(key, 60) for _ in range(50)))
    assert sorted(seen) == list(range(1, 401))


@pytest.mark.parametrize("password", ["wrong", "", PASSWORD + "x", PASSWORD[:-1], "x" * 5000, f"{PASSWORD}\r\nget k"])
def test_another_password_is_refused(locked: str, password: str) -> None:
    assert refused(locked, login(password)) == "it refuses the user name or the password"


def test_no_password_where_one_is_asked_for_is_told(locked: str) -> None:
    assert refused(locked, Access()) == "it asks for a user name and a password"


def test_a_server_that_asks_for_no_password_keeps_none() -> None:
    with memcached_with() as address:
        assert MemcachedStore([address], access=login()).incr("k", 60) == 1
        assert MemcachedStore([address]).get("auth") is None


def test_password_and_tls_go_together(authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"authsvc:{PASSWORD}\n")
    with memcached_with("-Y", str(file), *tls_options(authority.file())) as address:
        tls = TlsFiles(authority.ca_file)
        right = Access(tls=tls, username="authsvc", password=PASSWORD)
        assert MemcachedStore([address], access=right).incr("k", 60) == 1
        wrong = Access(tls=tls, username="authsvc", password="wrong")
        assert refused(address, wrong) == "it refuses the user name or the password"


def echoes(conn: socket.socket) -> None:
    conn.sendall(b"CLIENT_ERROR authsvc " + PASSWORD.encode() + b"\r\n")


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(echoes, id="repeats it"),
        pytest.param(says(b"SERVER_ERROR busy\r\n"), id="is busy"),
        pytest.param(says(b""), id="hangs up"),
        pytest.param(hangs(b"STO"), id="stays in the middle of an answer"),
        pytest.param(drips(b"", b"S"), id="drips"),
        pytest.param(floods(b"", b"S" * 65536), id="floods"),
    ],
)
def test_the_password_is_in_no_error_where_the_server(act: Act) -> None:
    with Hostile(act, None, b"\r\n") as server:
        address, access = f"127.0.0.1:{server.port}", login()
        store = MemcachedStore([address], access=access)
        started = time.monotonic()
        with pytest.raises(StoreDown) as trouble:
            store.incr("k", 60)
        assert time.monotonic() - started < TIMEOUT_S + 0.15
    texts = [*traceback.format_exception(trouble.value), repr(access), repr(store), *reprs(trouble.value)]
    assert [text for text in texts if PASSWORD in text] == []


def reprs(problem: BaseException | None) -> list[str]:
    """Of the whole chain of causes, told or not."""
    found = []
    while problem is not None:
        found.append(repr(problem) + str(vars(problem)))
        problem = problem.__context__
    return found
