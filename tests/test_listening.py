"""Where `authsvc serve` cannot listen it says so, and what to do, in place of five tries in gunicorn's words."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner

from authsvc.cli import main
from authsvc.listening import TRIES, hindrance, is_place
from authsvc.server import FAST, worker_class

CONFIG = "authentication: {oidc: {providers: [{name: main, issuer: 'https://id.example.com', audience: api}]}}\n"


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "f.yaml").write_text(CONFIG)
    return tmp_path / "f.yaml"


def told(bind: str) -> str:
    return hindrance(bind, lambda text: None, lambda seconds: None)


@pytest.mark.parametrize(
    "place",
    ["127.0.0.1:0", "localhost:0", ":0", "[::1]:0", "tcp://127.0.0.1:0", "fd://3", "unix:x.sock", "unix:///tmp/x"],
)
def test_where_it_can_be_done_nothing_hinders(place: str, tmp_path: Path) -> None:
    assert is_place(place)
    with chdir(tmp_path):
        assert told(place) == ""


@pytest.mark.parametrize("place", ["", "a:b", "http://127.0.0.1:8000", ":99999", "fd://x", "unix:", "a:1,b:2", "a b:1"])
def test_what_is_no_place_is_misuse_of_the_command_line(place: str, file: Path) -> None:
    assert not is_place(place)
    done = CliRunner().invoke(main, ["serve", "-c", str(file), "--bind", place])
    assert done.exit_code == 2
    assert "is no place to listen: write host:port or unix:/path" in " ".join(done.stderr.split())


def test_a_port_that_is_in_use_is_told_with_the_option(taken: str) -> None:
    said, slept = list[str](), list[float]()
    assert hindrance(taken, said.append, slept.append) == (
        f"cannot listen on {taken}: address already in use: stop what listens there, or choose another place with "
        "--bind (and with --upstream of authsvc nginx)"
    )
    assert said == [f"{taken} is in use; trying again for 4 s"]
    assert len(slept) == TRIES - 1


def test_who_ends_in_the_meantime_is_no_hindrance() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ending:
        place = f"127.0.0.1:{ending.getsockname()[1]}"
        assert hindrance(place, lambda text: None, lambda seconds: ending.close()) == ""


def test_systemd_may_have_listened_for_us(taken: str) -> None:
    assert hindrance(taken, lambda text: None, lambda seconds: None, {"LISTEN_FDS": "1"}) == ""


def test_other_hindrances_are_told_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "this machine has no such address" in told("192.0.2.1:0")  # RFC 5737: nobody's
    assert "no such file or directory: choose another place" in told(f"unix:{tmp_path}/no/x.sock")
    assert "a file is in the way: choose another place" in told(f"unix:{tmp_path}/file")
    assert "cannot listen on a.invalid:1: " in told("a.invalid:1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "authsvc's user may not listen there" in told(f"unix:{tmp_path}/x.sock")


def test_serve_ends_with_1_where_it_cannot_listen_and_says_nothing_of_gunicorn(taken: str, file: Path) -> None:
    command = [sys.executable, "-m", "authsvc", "serve", "-c", str(file), "--bind", taken]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"authsvc: {taken} is in use; trying again for 4 s",
        f"authsvc: cannot listen on {taken}: address already in use: stop what listens there, or choose another place "
        "with --bind (and with --upstream of authsvc nginx)",
    ]


def test_the_log_of_gunicorn_calls_our_worker_by_its_whole_name() -> None:
    assert worker_class("auto") == FAST == "authsvc.worker.Worker"
