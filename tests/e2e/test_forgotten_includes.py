"""What somebody forgets in the nginx config must not open a door."""

from __future__ import annotations

import http.client

from authsvc.demo.processes import free_port
from authsvc.demo.stack import SERVER, stack


def status(port: int, path: str, token: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_server_without_its_include_answers_500_and_asks_nothing_of_the_api() -> None:
    """Else the question falls into `location /`, whose answer would count as a yes."""
    forgetful = free_port()
    second = SERVER.partition("    server {")[2].replace("%(port)s", str(forgetful))
    second = second.replace("        include authsvc-server.conf;\n", "").replace("return 404", "return 200 open")
    with stack(server=f"{SERVER}    server {{{second}", workers=1, with_memcached=False) as running:
        good = running.issuer.token(roles=["admin"])
        assert status(running.nginx.port, "/api/admin/x", good) == 200
        before = running.api.requests_seen
        for token in (good, "none"):
            assert status(forgetful, "/api/admin/x", token) == 500
        assert running.api.requests_seen == before
