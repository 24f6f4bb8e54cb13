"""nginx asks again after an internal redirect: with two workers, with memcached and without, the call counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from authsvc.demo.stack import SERVER, Stack, stack
from faults import dead, wait_for_fleet
from test_limits import CONFIG_HEAD, LIMITS, RULES, burst, fresh
from test_main_job import call

PLACES = """
        root /nonexistent;
        location /v1/ { rewrite ^/v1/(.*)$ /api/$1 last; }
        location /tried/ { include authsvc-location.conf; try_files $uri /api/index; }
        location /named/ { include authsvc-location.conf; try_files $uri @asks; }
        location /twice/ { include authsvc-location.conf; try_files $uri /tried/x; }
        location /proved/ { include authsvc-location.conf; try_files $uri @proved; }
        location /missing/ { include authsvc-location.conf; error_page 404 = /api/x; }
        location /costs/ { include authsvc-location.conf; try_files $uri /api/costly/x; }
        location /open/ { include authsvc-location.conf; try_files $uri /api/free/x; }
        location @asks { include authsvc-location.conf; proxy_pass http://api; }
        location @proved { include authsvc-proof.conf; proxy_pass http://api; }
        location / { return 404; }"""
# Where the client goes, and how often nginx asks on the way.
KINDS = {
    "no redirect": ("/api/x", 1),
    "rewrite last": ("/v1/x", 1),
    "try_files to a URI": ("/tried/x", 2),
    "try_files to a named location": ("/named/x", 2),
    "try_files, then try_files": ("/twice/x", 3),
    "try_files to a named location with the proof include": ("/proved/x", 1),
    "error_page": ("/missing/x", 2),
    "try_files to an exempt path": ("/open/x", 2),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack(CONFIG_HEAD + RULES + LIMITS, server=SERVER.replace("        location / { return 404; }", PLACES)) as up:
        yield up


def asked(running: Stack, sub: str) -> set[int]:
    """How often nginx asked about each of this user's calls that were allowed."""
    lines = [line for line in running.audit() if line["user"] == sub and line["outcome"] == "allow"]
    return set(Counter(line["request_id"] for line in lines).values())


@pytest.mark.parametrize(("path", "questions"), KINDS.values(), ids=KINDS)
def test_a_redirected_call_counts_once_whichever_worker_is_asked(running: Stack, path: str, questions: int) -> None:
    sub = fresh()
    token = running.issuer.token(sub, plan="five")
    assert burst(running, token, 30, path) == {200: 5, 429: 25}
    assert asked(running, sub) == {questions}
    assert call(running, "/api/orders", token).status == 429


def test_the_headers_are_those_of_the_moment_when_the_call_was_counted(running: Stack) -> None:
    token = running.issuer.token(fresh(), plan="five")
    answers = [call(running, "/tried/x", token) for _ in range(6)]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == [
        "r=4",
        "r=3",
        "r=2",
        "r=1",
        "r=0",
        "r=0",
    ]


def test_a_call_that_is_led_to_a_costlier_path_costs_what_that_path_does(running: Stack) -> None:
    """And not that much on top of what the first question, which knew nothing of it, had cost."""
    token = running.issuer.token(fresh(), plan="fifty")
    assert [call(running, "/costs/x", token).status for _ in range(17)] == [200] * 16 + [429]


def test_with_memcached_dead_too_a_call_counts_once_in_the_worker_that_counted_it(running: Stack) -> None:
    assert running.memcached is not None
    tokens = {path: running.issuer.token(fresh(), plan="fifty") for path, _ in KINDS.values()}
    wait_for_fleet(running.memcached, 2)
    with dead(running.memcached):
        found = {path: burst(running, token, 120, path) for path, token in tokens.items()}
    for path, statuses in found.items():
        assert set(statuses) == {200, 429}, path
        assert 25 <= statuses[200] <= 50, f"{path}: each of two workers admits 25, and got {statuses}"
