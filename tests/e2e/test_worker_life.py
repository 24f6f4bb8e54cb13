"""What gunicorn promises of a worker, kept by ours: nothing is lost at a stop, a reload or a death; time runs out."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from authsvc.demo.processes import Process, free_port
from authsvc.demo.stack import CONFIG, Stack, stack
from load import Calls, callers
from plain_server import PlainServer
from waiting import within
from wire import answers, connect, exchange, read_answers, read_until_quiet, statuses

PLAIN = b"GET /auth HTTP/1.1\r\nHost: x\r\n\r\n"
ECHO = PLAIN.replace(b"/auth", b"/echo")
SLOW = PLAIN.replace(b"/auth", b"/slow?1.5")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainServer]:
    with PlainServer("fast", tmp_path_factory.mktemp("worker")) as running:
        yield running


def worker_of(server: PlainServer) -> int:
    [(_, _, body)] = answers(exchange(server.port, ECHO, hang_up=True)[0])
    return int(json.loads(body)["pid"])


# ---- one worker and its clients


def test_a_kept_connection_serves_a_thousand_requests(server: PlainServer) -> None:
    with connect(server.port) as sock:
        for _ in range(1000):
            sock.sendall(PLAIN)
            [(status, _, body)] = read_answers(sock, 1)
            assert (status, body) == (200, b"")


def test_a_megabyte_reaches_a_client_that_reads_slowly(server: PlainServer) -> None:
    with connect(server.port) as sock:
        sock.sendall(PLAIN.replace(b"/auth", b"/large") + PLAIN)
        time.sleep(0.3)
        (first, _, body), (second, _, _) = read_answers(sock, 2)
        assert (first, len(body), second) == (200, 1_000_000, 200)


def test_a_client_that_never_reads_takes_no_memory_and_no_time_of_others(server: PlainServer) -> None:
    worker = worker_of(server)
    before = _resident_kb(worker)
    with connect(server.port) as deaf:
        deaf.setblocking(False)
        for _ in range(300):
            try:
                deaf.send(PLAIN.replace(b"/auth", b"/large") * 20)
            except BlockingIOError:
                time.sleep(0.002)
        assert statuses(exchange(server.port, PLAIN, hang_up=True)[0]) == [200]
        assert _resident_kb(worker) - before < 64_000


def _resident_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def test_an_answer_gets_through_although_the_client_sends_on(server: PlainServer) -> None:
    """Closing on bytes that were not read would reset the connection, and the answer would be lost."""
    with connect(server.port) as sock:
        sock.sendall(b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n" + b"x" * 20000)
        time.sleep(0.1)
        sock.sendall(b"x" * 20000)
        assert statuses(read_until_quiet(sock, 3)[0]) == [200]


def test_while_one_call_waits_for_a_provider_others_are_answered(server: PlainServer) -> None:
    with connect(server.port) as waits:
        started = time.monotonic()
        waits.sendall(SLOW + ECHO)
        for _ in range(20):
            assert statuses(exchange(server.port, PLAIN, hang_up=True)[0]) == [200]
        assert time.monotonic() - started < 1.4
        (_, head, first), (_, _, second) = read_answers(waits, 2)
        assert b"X-Guess" not in head
        assert "later" in json.loads(first)["thread"]
        assert "authsvc.may_wait" not in json.loads(first)
        assert json.loads(second)["authsvc.may_wait"] is False


def test_over_a_unix_socket_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "authsvc.sock"
    with PlainServer("fast", tmp_path, unix=path), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(ECHO)
        [(status, _, body)] = read_answers(sock, 1)
        assert status == 200
        assert json.loads(body)["REMOTE_ADDR"] == ""


def test_a_question_does_not_take_the_core_from_who_asks(server: PlainServer) -> None:
    assert os.sched_getscheduler(worker_of(server)) == os.SCHED_BATCH


def test_how_an_operator_has_its_time_shared_stays(tmp_path: Path) -> None:
    running = PlainServer("fast", tmp_path)
    running.command = ["chrt", "--idle", "0", *running.command]
    with running:
        assert os.sched_getscheduler(worker_of(running)) == os.SCHED_IDLE


def test_a_worker_whose_app_is_stuck_is_killed_and_replaced(tmp_path: Path) -> None:
    with PlainServer("fast", tmp_path, timeout=2) as running:
        before = worker_of(running)
        with connect(running.port) as stuck:
            stuck.sendall(PLAIN.replace(b"/auth", b"/stuck"))
            assert read_until_quiet(stuck, 10)[1]
        assert worker_of(running) != before


@pytest.mark.parametrize(("given", "used"), [([], "authsvc.worker.Worker"), (["--worker", "threads"], "gthread")])
def test_serve_takes_the_fast_worker_unless_told_otherwise(tmp_path: Path, given: list[str], used: str) -> None:
    config = tmp_path / "authsvc.yaml"
    config.write_text(
        "authentication: {oidc: {enabled: false}}\nauthorization: {rbac: {rules: [{path: /x, allowed_roles: []}]}}\n"
    )
    port = free_port()
    command = [sys.executable, "-m", "authsvc", "serve", "-c", config, "--bind", f"127.0.0.1:{port}", *given]
    with Process(command, port, tmp_path / "authsvc.log") as running:
        assert within(10, lambda: f"Using worker: {used}" in running.last_words())
        asked = b"GET /auth HTTP/1.1\r\nHost: x\r\nX-Original-Method: GET\r\nX-Original-URI: /x\r\n\r\n"
        assert statuses(exchange(port, asked, hang_up=True)[0]) == [200]


# ---- stop, reload, death


def test_at_a_stop_running_calls_are_answered_and_idle_connections_closed(tmp_path: Path) -> None:
    with PlainServer("fast", tmp_path) as running, connect(running.port) as idle, connect(running.port) as waits:
        idle.sendall(PLAIN)
        read_answers(idle, 1)
        waits.sendall(SLOW)
        time.sleep(0.3)
        os.kill(running.pid, signal.SIGTERM)
        [(status, head, _)] = read_answers(waits, 1)
        assert status == 200
        assert read_until_quiet(idle, 4) == (b"", True)
        assert b"Connection: close" in head
        assert within(10, lambda: _gone(running.port))


def _gone(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_at_a_reload_each_request_on_a_kept_connection_is_answered_and_the_last_one_says_so(tmp_path: Path) -> None:
    with PlainServer("fast", tmp_path) as running, connect(running.port) as kept:
        kept.sendall(ECHO)
        [(_, _, body)] = read_answers(kept, 1)
        before = json.loads(body)["pid"]
        os.kill(running.pid, signal.SIGHUP)
        head = b""
        while b"Connection: close" not in head:
            kept.sendall(ECHO)
            [(status, head, body)] = read_answers(kept, 1)
            assert (status, json.loads(body)["pid"]) == (200, before)
            time.sleep(0.05)
        assert read_until_quiet(kept, 10) == (b"", True)
        assert worker_of(running) != before


def test_a_stop_while_the_app_is_loaded_is_not_forgotten(tmp_path: Path) -> None:
    with PlainServer("fast", tmp_path, load_s=2) as running:
        assert within(5, lambda: "Booting worker" in running.last_words())
        time.sleep(0.5)
        started = time.monotonic()
        running.stop()
        assert time.monotonic() - started < 4  # killed it would be after 5


def test_a_quick_stop_waits_for_nobody(tmp_path: Path) -> None:
    with PlainServer("fast", tmp_path) as running, connect(running.port) as idle, connect(running.port) as waits:
        idle.sendall(PLAIN)
        read_answers(idle, 1)
        waits.sendall(PLAIN.replace(b"/auth", b"/slow?3"))
        time.sleep(0.3)
        os.kill(running.pid, signal.SIGINT)
        assert read_until_quiet(waits, 4) == (b"", True)


def test_half_a_minute_of_reloads_a_dead_worker_and_a_new_memcached_changes_no_answer() -> None:
    """Issue 7: no wrong decision, and no answer but the expected ones. The good ones are limited, with leases."""
    with stack(CONFIG, workers=2) as running, ExitStack() as calling:
        tokens = {
            "good": running.issuer.token("regular", plan="pro"),
            "expired": running.issuer.token("late", exp=int(time.time()) - 3600),
            "forged": running.issuer.forged_token("nobody"),
        }
        calls = {name: Calls() for name in tokens}
        for name, token in tokens.items():
            count = 4 if name == "good" else 1
            of_them = callers(count, running.nginx.port, lambda token=token: token, calls[name], pause_s=0.02)
            calling.enter_context(of_them)
        for trouble in (_reload, _kill_a_worker, _reload, _new_memcached, _reload):
            time.sleep(5)
            trouble(running)
        time.sleep(5)
        calling.close()
        assert {name: (set(one.statuses), one.broken) for name, one in calls.items()} == {
            "good": ({200}, []),
            "expired": ({401}, []),
            "forged": ({401}, []),
        }
        assert all(len(one.statuses) > 300 for one in calls.values())


def _reload(running: Stack) -> None:
    os.kill(running.authsvc.pid, signal.SIGHUP)


def _kill_a_worker(running: Stack) -> None:
    children = Path(f"/proc/{running.authsvc.pid}/task/{running.authsvc.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)


def _new_memcached(running: Stack) -> None:
    assert running.memcached is not None
    running.memcached.stop()
    running.memcached.start()
