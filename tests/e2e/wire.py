"""Bytes to a server and back, without an HTTP client's good manners."""

from __future__ import annotations

import contextlib
import re
import socket
import time

CRLF2 = b"\r\n\r\n"


def connect(port: int, timeout_s: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout_s)


def read_until_quiet(sock: socket.socket, quiet_s: float) -> tuple[bytes, bool]:
    """What comes until nothing has come for so long; and whether the other side closed."""
    sock.settimeout(quiet_s)
    got = b""
    with contextlib.suppress(TimeoutError):
        while piece := _recv(sock):
            got += piece
        return got, True
    return got, False


def _recv(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except ConnectionResetError:
        return b""


def exchange(port: int, sent: bytes, *, hang_up: bool, quiet_s: float = 6) -> tuple[bytes, bool]:
    """All that is answered until the server closes, and whether it did. Who hangs up has said all: then it closes."""
    with connect(port) as sock:
        sock.sendall(sent)
        if hang_up:
            sock.shutdown(socket.SHUT_WR)
        return read_until_quiet(sock, quiet_s)


def read_answers(sock: socket.socket, count: int, timeout_s: float = 5.0) -> list[tuple[int, bytes, bytes]]:
    """Exactly so many answers: status, head and body of each."""
    got, ends = b"", time.monotonic() + timeout_s
    sock.settimeout(timeout_s)
    while len(found := answers(got)) < count and time.monotonic() < ends:
        piece = _recv(sock)
        assert piece, f"closed after {got!r}"
        got += piece
    assert len(found) == count
    return found


def answers(got: bytes) -> list[tuple[int, bytes, bytes]]:
    """The answers that are complete, in their order; interim ones are left out."""
    found = []
    while CRLF2 in got:
        head, _, rest = got.partition(CRLF2)
        line = re.match(rb"HTTP/1\.\d (\d{3})[ \r]", head + b"\r")
        assert line, f"no answer: {head!r}"
        status = int(line[1])
        length = 0 if status < 200 or status in (204, 304) else length_of(head)
        if len(rest) < length:
            break
        if status >= 200:
            found.append((status, head, rest[:length]))
        got = rest[length:]
    return found


def length_of(head: bytes) -> int:
    lengths: list[bytes] = re.findall(rb"(?im)^content-length: *(\d+) *\r?$", head)
    return int(lengths[0]) if lengths else 0


def statuses(got: bytes) -> list[int]:
    return [status for status, _, _ in answers(got)]
