"""nginx may serve another path than the client asked for: then both must be allowed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from authsvc.demo.stack import SERVER, Stack, stack

ALIASES = SERVER.replace(
    "        location / { return 404; }",
    """
        location /v1/ { rewrite ^/v1/(.*)$ /api/$1 last; }
        location /api/page { include authsvc-location.conf; root /nonexistent; try_files $uri /api/admin/fallback; }
        location /api/spa { include authsvc-location.conf; root /nonexistent; try_files $uri /api/index; }
        location /lost/ { root /nonexistent; error_page 404 = /api/admin/lost; }
        location / { return 404; }""",
)


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack(server=ALIASES, workers=1, with_memcached=False) as started:
        yield started


def ask(running: Stack, path: str, role: str | None) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", running.nginx.port, timeout=10)
    token = running.issuer.token(roles=[role]) if role else "none"
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        body = response.read()
        return response.status, json.loads(body) if body.startswith(b"{") else {}
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/v1/admin/x", "/api/page", "/v1/%61dmin/x"])
def test_a_redirect_within_nginx_is_no_way_around_a_rule(running: Stack, path: str) -> None:
    before = running.api.requests_seen
    status, answer = ask(running, path, "user")
    assert (status, answer["reason"]) == (403, "role_required")
    assert running.api.requests_seen == before
    assert ask(running, path, "admin")[0] == 200


def test_an_error_page_within_nginx_is_no_way_around_a_rule_either(running: Stack) -> None:
    before = running.api.requests_seen
    assert ask(running, "/lost/x", "user")[0] == 403  # nginx's own page: it follows only one error_page a request
    assert running.api.requests_seen == before
    assert ask(running, "/lost/x", "admin")[0] == 200


def test_an_alias_of_a_public_path_needs_what_the_asked_path_needs(running: Stack) -> None:
    assert ask(running, "/v1/public/x", None)[0] == 401
    assert ask(running, "/v1/public/x", "user")[0] == 200


def test_a_redirect_to_a_path_the_caller_may_see_passes(running: Stack) -> None:
    status, answer = ask(running, "/api/spa", "user")
    assert (status, answer["path"]) == (200, "/api/index")


@pytest.mark.parametrize("path", ["/api/caf%c3%a9", "/api/a%20b", "/v1/caf%c3%a9", "/api/%e2%82%ac"])
def test_a_path_beyond_ascii_is_the_same_path_to_both(running: Stack, path: str) -> None:
    assert ask(running, path, "user")[0] == 200


def test_the_audit_line_names_both_paths(running: Stack) -> None:
    ask(running, "/v1/orders", "user")
    assert running.audit()[-1]["path"] == "/v1/orders -> /api/orders"


CARELESS = SERVER.replace(
    "        location / { return 404; }",
    """
        location /nest/ {
            include authsvc-location.conf;
            location /nest/admin/ { proxy_pass http://api; }
        }
        location /n/ { rewrite ^/n/(.*)$ /nest/$1 last; }
        location /lim/ {
            include authsvc-location.conf;
            limit_except GET { deny 192.0.2.1; }
            proxy_pass http://api;
        }
        location /brk/ {
            rewrite ^/brk/(.*)$ /api/$1 break;
            include authsvc-location.conf;
            proxy_pass http://api;
        }
        location / { return 404; }""",
)


@pytest.mark.parametrize("forgotten", [False, True], ids=["with the server include", "without the server include"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/n/admin/x"), ("POST", "/lim/x"), ("GET", "/brk/admin/x")])
def test_where_the_served_path_is_not_known_the_answer_is_500(forgotten: bool, method: str, path: str) -> None:
    """auth_request reaches places that the rest of the include does not."""
    server = CARELESS.replace("location / { return 404; }", "location / { return 200 open; }")
    server = server.replace("include authsvc-server.conf;", "set $authsvc_server no;") if forgotten else server
    with stack(server=server, workers=1, with_memcached=False) as careless:
        before = careless.api.requests_seen
        connection = http.client.HTTPConnection("127.0.0.1", careless.nginx.port, timeout=10)
        connection.request(method, path, headers={"Authorization": f"Bearer {careless.issuer.token(roles=['user'])}"})
        assert connection.getresponse().status == 500
        connection.close()
        assert careless.api.requests_seen == before


def test_a_space_at_the_end_of_the_served_path_is_not_lost_on_the_way(running: Stack) -> None:
    assert ask(running, "/v1/orders%20", "user")[0] == 403
