"""The file of API keys changes under several workers: who has a key, and who has none any more, within a second in each
of them. A file with mistakes changes nothing, and no change loses a call.

Each worker is asked on a connection of its own, so that none is left out by chance.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from authsvc import apikeytool
from authsvc.core.apikeys import ApiKey
from authsvc.demo.stack import CONFIG, Stack, stack
from load import Calls
from test_main_job import call
from waiting import within
from wire import connect, read_answers

pytestmark = pytest.mark.alone

WORKERS = 3
WITHIN_S = 1.0  # the promise
ENOUGH = 30  # answers of each worker, once that second is over
OVERLAP_S = 4
LIMIT = "others: {limit: 1000/hour}"
KEYS = "  api_keys: {keys_file: ${KEYS}}\nauthorization:"
WITH_KEYS = CONFIG.replace(LIMIT, "others: {limit: unlimited}").replace("authorization:", KEYS, 1)


def key_id(key: str) -> str:
    return key.split("_")[1]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a worker said so many seconds after a change."""

    worker: int
    after_s: float
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything, and a connection to each worker."""

    running: Stack
    file: Path
    lines: dict[int, socket.socket]

    def new(self, owner: str, *roles: str) -> str:
        return apikeytool.issue(str(self.file), ApiKey(b"", owner, roles)).text

    def put(self, content: bytes) -> None:
        """At once: a worker that looked while it was being written would find nothing, and tell of that."""
        new = self.file.with_suffix(".new")
        new.write_bytes(content)
        new.rename(self.file)

    def revoke(self, key: str) -> None:
        apikeytool.revoke(str(self.file), key_id(key), time.time())

    def ask(self, worker: int, key: str) -> tuple[int, str]:
        sock = self.lines[worker]
        sock.sendall(
            b"GET /auth HTTP/1.1\r\nHost: x\r\nX-Original-Method: GET\r\nX-Original-URI: /api/orders\r\n"
            b"X-API-Key: " + key.encode() + b"\r\n\r\n"
        )
        [(status, head, _)] = read_answers(sock, 1)
        reason = re.search(rb"(?im)^x-auth-reason: (\S+)", head)
        assert reason
        return status, reason[1].decode()

    def watch(self, key: str) -> list[Answered]:
        """What all workers say of a key from now on, until each was asked often enough after that second."""
        begun, found, late = time.monotonic(), [], 0
        while late < ENOUGH:
            for worker in self.lines:
                sent_s = time.monotonic() - begun
                found.append(Answered(worker, sent_s, *self.ask(worker, key)))
            late += found[-WORKERS].after_s >= WITHIN_S
            time.sleep(0.01)
        return found

    def says(self, key: str) -> set[tuple[int, str]]:
        """What all workers say of a key now, each asked many times."""
        return {self.ask(worker, key) for _ in range(ENOUGH) for worker in self.lines}

    def until(self, key: str, status: int) -> None:
        assert within(5, lambda: all(self.ask(worker, key)[0] == status for worker in self.lines))


def later(answers: list[Answered]) -> set[tuple[int, str]]:
    """What was said once the second was over, by each worker many times."""
    late = [one for one in answers if one.after_s >= WITHIN_S]
    counts = Counter(one.worker for one in late)
    assert min(counts[worker] for worker in {one.worker for one in answers}) >= ENOUGH
    return {(one.status, one.reason) for one in late}


def slowest_s(answers: list[Answered], status: int) -> float:
    """When the last worker first said so."""
    first: defaultdict[int, float] = defaultdict(lambda: float("inf"))
    for one in answers:
        if one.status == status:
            first[one.worker] = min(first[one.worker], one.after_s)
    return max(first[worker] for worker in {one.worker for one in answers})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    file = tmp_path_factory.mktemp("keys") / "api-keys.jsonl"
    apikeytool.issue(str(file), ApiKey(b"", "first"))
    with ExitStack() as lasting:
        running = lasting.enter_context(stack(WITH_KEYS, workers=WORKERS, environment={"KEYS": str(file)}))
        yield Fleet(running, file, lasting.enter_context(lines_to_all(running)))


@contextmanager
def lines_to_all(running: Stack) -> Iterator[dict[int, socket.socket]]:
    """A connection to each worker: the kernel deals them out, so more are opened until each has one."""
    opened: list[socket.socket] = []
    found: dict[int, socket.socket] = {}

    def one_more() -> bool:
        opened.append(sock := connect(running.authsvc.port))
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        read_answers(sock, 1)
        found.setdefault(_served_by(running, sock), sock)
        return len(found) == WORKERS

    try:
        assert within(20, one_more)
        yield found
    finally:
        for sock in opened:
            sock.close()


def _workers(running: Stack) -> list[int]:
    pid = running.authsvc.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _served_by(running: Stack, sock: socket.socket) -> int:
    """The worker that holds the other end of a connection on this machine."""
    ours, theirs = (f":{port:04X}" for port in (sock.getsockname()[1], sock.getpeername()[1]))
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    [inode] = [row[9] for row in rows if row[1].endswith(theirs) and row[2].endswith(ours)]
    for worker in _workers(running):
        for entry in Path(f"/proc/{worker}/fd").iterdir():
            if _link(entry) == f"socket:[{inode}]":
                return worker
    raise AssertionError("no worker has this connection")


def _link(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except FileNotFoundError:  # closed just now
        return ""


# ---- what changes, and when


def test_a_new_key_is_good_in_every_worker_within_a_second(fleet: Fleet) -> None:
    answers = fleet.watch(fleet.new("newcomer"))
    assert later(answers) == {(200, "allowed")}
    assert {one.reason for one in answers} <= {"allowed", "unknown_api_key"}
    print(f"the last of {WORKERS} workers knew the new key after {slowest_s(answers, 200):.2f} s")


def test_a_revoked_key_is_refused_in_every_worker_within_a_second(fleet: Fleet) -> None:
    key, stays = fleet.new("leaver"), fleet.new("stayer")
    fleet.until(stays, 200)
    assert {status for worker in fleet.lines for status in [fleet.ask(worker, key)[0]]} == {200}
    fleet.revoke(key)
    answers = fleet.watch(key)
    assert later(answers) == {(401, "revoked_api_key")}
    print(f"the last of {WORKERS} workers refused the key after {slowest_s(answers, 401):.2f} s")
    assert call(fleet.running, "/api/orders", X_API_Key=key).json["reason"] == "revoked_api_key"
    assert fleet.says(stays) == {(200, "allowed")}


def test_after_a_rotation_both_keys_are_good_until_the_overlap_ends(fleet: Fleet) -> None:
    old = fleet.new("turner", "admin")
    fleet.until(old, 200)
    began = time.time()
    new = apikeytool.rotate(str(fleet.file), key_id(old), OVERLAP_S, None, began)[0].text
    fleet.until(new, 200)
    both = [(fleet.ask(worker, old)[0], fleet.ask(worker, new)[0]) for worker in fleet.lines]
    assert time.time() - began < OVERLAP_S - 1, "this machine is too slow to look into the overlap"
    assert set(both) == {(200, 200)}
    assert call(fleet.running, "/api/admin/x", X_API_Key=new).status == 200, "the new key has the roles of the old one"
    time.sleep(max(0.0, began + OVERLAP_S - time.time()))
    assert fleet.says(old) == {(401, "replaced_api_key")}
    assert fleet.says(new) == {(200, "allowed")}


# ---- what goes wrong


def test_a_broken_file_changes_nothing_and_says_so_until_it_is_mended(fleet: Fleet) -> None:
    good, gone = fleet.new("steady"), fleet.new("outgoing")
    fleet.until(gone, 200)  # else a worker that has not heard of it yet says 401 too
    fleet.revoke(gone)
    fleet.until(gone, 401)
    whole, before = fleet.file.read_bytes(), _events(fleet)
    pasted = "ask_0123456789abcdef_" + "A" * 43
    fleet.put(b"".join(whole.splitlines(keepends=True)[:1]) + f'{{"owner":"x","key":"{pasted}"}}\n'.encode())
    assert within(5, lambda: (_events(fleet) - before)["api_keys_refused"] == WORKERS), _events(fleet)
    assert fleet.says(good) == {(200, "allowed")}
    assert fleet.says(gone) == {(401, "revoked_api_key")}
    said = _log(fleet)
    assert said.count(f"{fleet.file}:2: sha256 is missing: add it; the API keys in force stay") == WORKERS
    assert pasted not in said
    before = _events(fleet)
    fleet.put(whole)
    assert within(5, lambda: (_events(fleet) - before)["api_keys_reloaded"] == WORKERS)
    assert fleet.says(good) == {(200, "allowed")}


def test_a_file_that_is_gone_takes_no_key_away(fleet: Fleet) -> None:
    good = fleet.new("calm")
    fleet.until(good, 200)
    before, aside = _events(fleet), fleet.file.with_suffix(".aside")
    fleet.file.rename(aside)
    try:
        assert within(5, lambda: (_events(fleet) - before)["api_keys_refused"] == WORKERS)
        assert fleet.says(good) == {(200, "allowed")}
        assert f"{fleet.file}: cannot be read: no such file or directory; the API keys in force stay" in _log(fleet)
    finally:
        aside.rename(fleet.file)
    key = fleet.new("after")
    assert later(fleet.watch(key)) == {(200, "allowed")}


def _events(fleet: Fleet) -> Counter[str]:
    """What befell the file, in all workers together."""
    text = fleet.running.authsvc.get("/metrics")[1].decode()
    rows = re.findall(r'^authsvc_trouble_total\{event="(api_keys_\w+)"\} (\S+)$', text, re.MULTILINE)
    return Counter({event: round(float(value)) for event, value in rows})


def _log(fleet: Fleet) -> str:
    """All that authsvc wrote to stdout and stderr."""
    assert fleet.running.authsvc.output is not None
    return fleet.running.authsvc.output.read_text("utf-8", "replace")


# ---- under load; the last test, since its reload replaces the workers


def test_reloads_and_changes_of_the_file_under_load_lose_no_call(fleet: Fleet) -> None:
    key = fleet.new("busy")
    fleet.until(key, 200)
    calls, over = Calls(), threading.Event()
    threads = [threading.Thread(target=_keep_calling, args=(fleet, key, calls, over), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    last = ""
    for number in range(3):
        last = fleet.new(f"more-{number}")
        os.kill(fleet.running.authsvc.pid, signal.SIGHUP)
        fleet.revoke(fleet.new(f"less-{number}"))
        time.sleep(0.5)
    over.set()
    for thread in threads:
        thread.join()
    assert calls.broken == []
    assert Counter(calls.statuses).keys() == {200}
    assert len(calls.statuses) > 200
    assert call(fleet.running, "/api/orders", X_API_Key=last).status == 200
    assert key.rpartition("_")[2] not in _log(fleet)


def _keep_calling(fleet: Fleet, key: str, calls: Calls, over: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", fleet.running.nginx.port, timeout=10)
    while not over.is_set():
        try:
            connection.request("GET", "/api/orders", headers={"X-API-Key": key})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as problem:
            calls.broken.append(repr(problem))
            connection.close()
            continue
        calls.statuses.append(response.status)
        over.wait(0.005)
    connection.close()
