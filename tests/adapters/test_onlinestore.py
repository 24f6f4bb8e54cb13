"""`check --online` says of each memcached whether authsvc could count there, and if not, why and what to do."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authsvc.adapters.connection import TIMEOUT_S, Access, TlsFiles
from authsvc.cli import main
from authsvc.demo.issuer import Issuer
from authsvc.onlinestore import Tried, try_one
from helpers import memcached_with
from hostile import Authority, Hostile, hangs, says

pytestmark = pytest.mark.alone

PASSWORD = "correct-horse-9902"
OPEN = Access()


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    with memcached_with() as address:
        yield address


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def guarded(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """With TLS, and with a password."""
    users, file = tmp_path_factory.mktemp("auth") / "users", authority.file()
    users.write_text(f"authsvc:{PASSWORD}\n")
    with memcached_with("-Y", str(users), "-Z", "-o", f"ssl_chain_cert={file},ssl_key={file}") as address:
        yield address


def unused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def amiss(tried: Tried) -> tuple[str, str]:
    assert not tried.ok
    assert PASSWORD not in repr(tried)
    return tried.text, tried.next_step


# ---- one server


def test_a_server_that_counts_is_told_in_one_line_and_keeps_nothing(plain: str) -> None:
    assert try_one(plain, OPEN).as_text() == f"memcached at {plain}: ok, it counts"
    host, _, port = plain.partition(":")
    with socket.create_connection((host, int(port))) as asked:
        asked.sendall(b"stats\r\n")
        time.sleep(0.2)
        assert b"STAT curr_items 0\r\n" in asked.recv(65536)


def test_tls_and_a_password_are_tried_as_they_are_configured(guarded: str, authority: Authority) -> None:
    access = Access(tls=TlsFiles(authority.ca_file), username="authsvc", password=PASSWORD)
    assert try_one(guarded, access).as_text() == f"memcached at {guarded}: ok, it counts, by TLS, logged in"


def test_a_password_that_is_refused_is_told(guarded: str, authority: Authority) -> None:
    access = Access(tls=TlsFiles(authority.ca_file), username="authsvc", password=f"not-{PASSWORD}")
    text, step = amiss(try_one(guarded, access))
    assert text == "it refuses the user name or the password"
    assert step.startswith("compare cache.username and the password in cache.password_file")


def test_a_password_that_is_missing_is_told(guarded: str, authority: Authority) -> None:
    text, step = amiss(try_one(guarded, Access(tls=TlsFiles(authority.ca_file))))
    assert text == "it asks for a user name and a password"
    assert "a user name and a password (cache.username)" in step


def test_a_certificate_that_nobody_trusts_is_told(guarded: str) -> None:
    text, step = amiss(try_one(guarded, Access(tls=TlsFiles())))
    assert text.startswith("its certificate does not fit: ")
    assert step.startswith("set cache.tls.ca_file to the CA of its certificate")


def test_tls_with_a_server_that_speaks_none_is_told(plain: str, authority: Authority) -> None:
    text, step = amiss(try_one(plain, Access(tls=TlsFiles(authority.ca_file))))
    assert (text, step.startswith("see whether it speaks TLS")) == ("no TLS with it: wrong version number", True)


def test_a_server_with_tls_that_is_spoken_to_without_is_told_to_be_none(guarded: str) -> None:
    assert amiss(try_one(guarded, OPEN))[1].startswith("see what answers there: a memcached that wants TLS")


@pytest.mark.parametrize("address", [unused(), "unix:/nowhere/memcached.sock"], ids=["a port", "a socket"])
def test_where_nobody_listens_it_is_told(address: str) -> None:
    assert amiss(try_one(address, OPEN))[1] == "see whether memcached runs, and listens at this address"


def test_a_host_that_has_no_address_is_told() -> None:
    assert amiss(try_one("cache.invalid:11211", OPEN))[1] == "see whether memcached runs, and listens at this address"


@pytest.mark.parametrize("act", [says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), hangs(b"")], ids=["nonsense", "nothing"])
def test_what_answers_like_no_memcached_is_told_within_the_time_out(act: object) -> None:
    with Hostile(act, None, b"\r\n") as server:  # type: ignore[arg-type]
        started = time.monotonic()
        _, step = amiss(try_one(f"127.0.0.1:{server.port}", OPEN))
        assert time.monotonic() - started < 2 * TIMEOUT_S + 0.2
    assert step.startswith("see what answers there")


def test_a_file_for_tls_that_is_gone_is_told(plain: str) -> None:
    text, step = amiss(try_one(plain, Access(tls=TlsFiles("/nowhere/ca.pem"))))
    assert (text, step) == ('ca_file "/nowhere/ca.pem" cannot be used: no such file or directory', "mend cache.tls")


# ---- the command


def check(folder: Path, servers: list[str], *words: str) -> Result:
    with Issuer() as issuer:
        provider = f'{{name: demo, issuer: "{issuer.url}", audience: x, allow_insecure_http: true}}'
        secret = "0123456789abcdef0123456789abcdef"
        cache = f"cache: {{memcached: {json.dumps(servers)}, secret: {secret}}}\n"
        (folder / "f.yaml").write_text(f"authentication: {{oidc: {{providers: [{provider}]}}}}\n{cache}")
        return CliRunner().invoke(main, ["check", "-c", str(folder / "f.yaml"), *words])


def test_check_online_tries_every_server_and_exits_1_where_one_does_not_do(plain: str, tmp_path: Path) -> None:
    gone = unused()
    done = check(tmp_path, [plain, gone], "--online")
    assert done.exit_code == 1
    assert done.stdout.endswith(f"memcached at {plain}: ok, it counts\n")
    assert done.stderr.splitlines() == [
        f"memcached at {gone}: connection refused",
        "  next: see whether memcached runs, and listens at this address",
    ]


def test_check_online_exits_0_where_every_server_counts(plain: str, tmp_path: Path) -> None:
    done = check(tmp_path, [plain], "--online")
    assert (done.exit_code, done.stderr) == (0, "")


def test_check_online_tells_of_servers_in_json(plain: str, tmp_path: Path) -> None:
    told = json.loads(check(tmp_path, [plain, unused()], "--online", "--json").stdout)
    assert [(one["server"] == plain, one["ok"]) for one in told["memcached"]] == [(True, True), (False, False)]


def test_check_without_online_tries_no_server(tmp_path: Path) -> None:
    done = check(tmp_path, [unused()], "--json")
    assert (done.exit_code, "memcached" in json.loads(done.stdout)) == (0, False)
