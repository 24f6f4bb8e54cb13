"""Ports for what the tests start. Each process of a test run has a block of its own.

The kernel's "any free port" is free at that moment only: until its server binds it, or while a test has stopped the
server, the kernel may give it to another process, or to a connection. It gives away nothing below EPHEMERAL.
"""

from __future__ import annotations

import itertools
import socket
from functools import cache

FIRST, EPHEMERAL, BLOCK = 12_000, 32_000, 1_000


def free_port() -> int:
    """The next of our block that nobody holds; one that was given comes again only after all others."""
    for port in itertools.islice(_ours()[1], BLOCK):
        with socket.socket() as probe:
            if _bound(probe, port):
                return port
    raise OSError("every port of this block is taken")


@cache
def _ours() -> tuple[socket.socket, itertools.cycle[int]]:
    """Who holds the first port of a block has the block, for as long as the process lives."""
    for first in range(FIRST, EPHEMERAL, BLOCK):
        lock = socket.socket()
        if _bound(lock, first):
            return lock, itertools.cycle(range(first + 1, first + BLOCK))
        lock.close()
    raise OSError("every block of ports is taken")


def _bound(sock: socket.socket, port: int) -> bool:
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
