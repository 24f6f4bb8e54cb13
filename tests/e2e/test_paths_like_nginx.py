"""A path that authsvc lets through is the same path to nginx, to authsvc and to the API behind them."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from authsvc.core.model import Refused
from authsvc.core.paths import canonical
from authsvc.demo.echo import EchoServer
from authsvc.demo.processes import BASE_CONFIG, TEMP_PATHS, Nginx, free_port

PIECES = r"""/ // /./ /../ . .. %2e %2E %2f %2F %5c \ ; ;x=1 %3b a A admin public %61 % %2 %zz %00 %0d%0a %20 %c3%a9
    %c0%ae %ff # %23 ?x=/../ %25 ~ * %252e %e2%80%a8 , : @ + & = $ ! ' ( )""".split()  # noqa: SIM905 - a table to read, not a list to scroll
PIECES.append("é".encode().decode("latin-1"))

SERVER = """http {{
{temp}  server {{
    listen 127.0.0.1:{port};
    location / {{ set $seen $uri; proxy_set_header X-Seen $seen; proxy_pass http://127.0.0.1:{echo}; }}
  }}
}}
"""


@pytest.fixture(scope="module")
def door() -> Iterator[int]:
    echo = EchoServer(0)
    threading.Thread(target=echo.serve_forever, args=(0.05,), daemon=True).start()
    port = free_port()
    with Nginx(BASE_CONFIG + SERVER.format(temp=TEMP_PATHS, port=port, echo=echo.port), port):
        yield port
    echo.shutdown()
    echo.server_close()


def random_targets(count: int) -> list[str]:
    """The same targets in every run; half of them nearly plain, so that many are let through."""
    rng = random.Random(20261123)
    plain = ["a", "A", "admin", "/", "%61", "%20", "%c3%a9", ",", "~", "*", "?x=/../"]
    targets = []
    for number in range(count):
        pieces = PIECES if number % 2 else plain
        targets.append("/" + "".join(rng.choice(pieces) for _ in range(rng.randint(1, 6))))
    return targets


def ask(port: int, target: str) -> dict[str, object] | None:
    """What the API got, or `None` where nginx refused by itself."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return json.loads(body) if b" 200 " in head.splitlines()[0] else None


def test_whatever_is_let_through_is_one_path_to_all_three(door: int) -> None:
    agreed = 0
    for target in random_targets(1500):
        try:
            ours = canonical(target)
        except Refused:
            continue
        told = ask(door, target)
        assert told is not None, f"authsvc reads {target!r}, nginx refuses it"
        seen = dict(told["headers"])["X-Seen"].encode("latin-1").decode()  # type: ignore[call-overload]
        api = unquote(str(told["path"]).partition("?")[0])
        assert {(seen.rstrip("/") or "/"), (api.rstrip("/") or "/")} == {ours}, target
        agreed += 1
    assert agreed > 300, "too few targets were let through for the test to say anything"
