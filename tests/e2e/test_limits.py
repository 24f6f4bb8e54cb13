"""Limits as callers see them, through real nginx, two workers and memcached: what counts, and what they are told."""

from __future__ import annotations

import http.client
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from authsvc.demo.stack import CONFIG, SERVER, Stack, stack
from test_main_job import Answer, call
from waiting import within

CONFIG_HEAD = CONFIG.partition("authorization:")[0].replace(
    "        allow_insecure_http", "        tenant_claim: organization_id\n        allow_insecure_http"
)
RULES = """\
authorization:
  rbac:
    rules:
      - {path: /api/public/*, allowed_roles: []}
      - {path: /api/costly/*, rate_limit: {cost: 3}}
      - {path: /api/own/*, rate_limit: {limit: 2/day}}
      - {path: /api/free/*, rate_limit: exempt}
      - {path: /api/admin/*, allowed_roles: [admin]}
"""
LIMITS = """\
rate_limit:
  tiers:
    five: {limit: 5/day, matching_claim: plan=five}
    fifty: {limit: 50/day, matching_claim: plan=fifty}
    burst: {limit: [4/day, 10/365days], matching_claim: plan=burst}
    month: {limit: 3/30days, matching_claim: plan=month}
    blocked: {limit: 0/day, matching_claim: plan=blocked}
    tried: {limit: 2/day, matching_claim: plan=tried, mode: shadow}
    unlimited: {limit: unlimited}
  anonymous: {limit: 3/day, ipv6_prefix: 64}
"""
# The real_ip module makes any address the client's: that is how an IPv6 caller comes from loopback.
SERVERS = SERVER.replace(
    "        location / { return 404; }",
    """
        set_real_ip_from 127.0.0.9;
        real_ip_header X-Test-Address;
        log_format shadows "$http_x_mark $authsvc_shadow.";
        location /api/logged/ { include authsvc-location.conf; access_log shadows.log shadows; proxy_pass http://api; }
        location / { return 404; }""".replace('        log_format shadows "$http_x_mark $authsvc_shadow.";\n', ""),
).replace("    server {", '    log_format shadows "$http_x_mark $authsvc_shadow.";\n    server {', 1)
NAMES = ("ratelimit-policy", "ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
_numbers = itertools.count(1)


def fresh(name: str = "user") -> str:
    """Somebody whom no other test knows."""
    return f"{name}-{next(_numbers)}"


def burst(running: Stack, token: str | None, count: int, path: str = "/api/orders", **headers: str) -> Counter[int]:
    """Statuses of so many calls, many at a time, so that every worker is asked."""
    with ThreadPoolExecutor(12) as pool:
        return Counter(
            answer.status for answer in pool.map(lambda _: call(running, path, token, **headers), range(count))
        )


def told(answer: Answer) -> dict[str, str]:
    """What a caller is told of limits."""
    return {name: value for name, value in answer.headers.items() if name in (*NAMES, "retry-after")}


def come_from(running: Stack, address: str, path: str = "/api/public/x", **headers: str) -> int:
    """The status for a caller without identity at this address: his own, or what nginx's real_ip says it is."""
    known = address.startswith("127.")
    source = (address if known else "127.0.0.9", 0)
    connection = http.client.HTTPConnection("127.0.0.1", running.nginx.port, timeout=10, source_address=source)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request("GET", path, headers=sent if known else {**sent, "X-Test-Address": address})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack(CONFIG_HEAD + RULES + LIMITS, server=SERVERS) as started:
        yield started


# ---- what a caller is told


def test_over_the_limit_is_429_with_all_that_a_client_needs(running: Stack) -> None:
    token = running.issuer.token(fresh(), plan="five")
    answers = [call(running, "/api/orders", token) for _ in range(7)]
    assert [answer.status for answer in answers] == [200] * 5 + [429] * 2
    left = [re.fullmatch(r'"five";r=(\d+);t=(\d+)', answer.headers["ratelimit"]) for answer in answers]
    assert [found[1] for found in left if found] == ["4", "3", "2", "1", "0", "0", "0"]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"five";q=5;w=86400'}
    assert "retry-after" not in answers[0].headers
    for refused, found in zip(answers[5:], left[5:], strict=True):
        assert found is not None
        assert int(refused.headers["retry-after"]) >= int(found[2]) >= 1
        assert (refused.json["reason"], refused.json["status"]) == ("rate_limited", 429)


def test_of_several_windows_all_are_told_and_the_one_that_is_used_up_refuses(running: Stack) -> None:
    token = running.issuer.token(fresh(), plan="burst")
    answers = [call(running, "/api/orders", token) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 4 + [429] * 2
    assert answers[0].headers["ratelimit-policy"] == '"burst-day";q=4;w=86400, "burst-365days";q=10;w=31536000'
    assert [re.findall(r"r=(\d+)", answer.headers["ratelimit"]) for answer in answers] == [
        ["3", "9"], ["2", "8"], ["1", "7"], ["0", "6"], ["0", "6"], ["0", "6"],
    ]  # fmt: skip


def test_a_period_longer_than_memcached_can_keep_is_kept_all_the_same(running: Stack) -> None:
    assert burst(running, running.issuer.token(fresh(), plan="month"), 20) == {200: 3, 429: 17}


def test_a_limit_of_nothing_refuses_the_first_call(running: Stack) -> None:
    answer = call(running, "/api/orders", running.issuer.token(fresh(), plan="blocked"))
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_without_a_limit_nothing_is_told(running: Stack) -> None:
    assert told(call(running, "/api/orders", running.issuer.token(fresh()))) == {}


def test_a_call_without_a_good_token_hears_nothing_of_limits_and_counts_for_nobody(running: Stack) -> None:
    sub = fresh()
    forged = running.issuer.forged_token(sub, plan="five")
    answers = [call(running, "/api/orders", token) for token in (None, "nonsense", forged) for _ in range(3)]
    assert {answer.status for answer in answers} == {401}
    assert [told(answer) for answer in answers] == [{}] * 9
    assert burst(running, running.issuer.token(sub, plan="five"), 8) == {200: 5, 429: 3}


def test_a_refused_role_costs_nothing(running: Stack) -> None:
    token = running.issuer.token(fresh(), plan="five")
    assert burst(running, token, 9, "/api/admin/x") == {403: 9}
    assert burst(running, token, 9) == {200: 5, 429: 4}


def test_many_calls_at_once_never_get_more_than_the_limit_nor_less(running: Stack) -> None:
    token = running.issuer.token(fresh(), plan="fifty")
    assert burst(running, token, 200) == {200: 50, 429: 150}


# ---- what a rule says


def test_a_call_costs_what_its_rule_says_and_one_that_does_not_fit_costs_nothing(running: Stack) -> None:
    token = running.issuer.token(fresh(), plan="five")
    paths = ["/api/costly/x", "/api/costly/x", "/api/orders", "/api/orders", "/api/orders"]
    assert [call(running, path, token).status for path in paths] == [200, 429, 200, 200, 429]


def test_a_rule_s_own_limit_stands_apart_from_the_tier_s(running: Stack) -> None:
    token = running.issuer.token(fresh(), plan="five")
    assert burst(running, token, 6, "/api/own/x") == {200: 2, 429: 4}
    assert burst(running, token, 8) == {200: 5, 429: 3}
    unlimited = running.issuer.token(fresh())
    assert burst(running, unlimited, 6, "/api/own/x") == {200: 2, 429: 4}


def test_an_exempt_path_counts_nothing_and_is_open_to_those_who_have_used_up_theirs(running: Stack) -> None:
    token = running.issuer.token(fresh(), plan="five")
    assert burst(running, token, 20, "/api/free/x") == {200: 20}
    assert burst(running, token, 6) == {200: 5, 429: 1}
    answer = call(running, "/api/free/x", token)
    assert (answer.status, told(answer)) == (200, {})


# ---- shadow


def shadowed(running: Stack, tier: str = "tried") -> float:
    found = re.search(
        rf'authsvc_shadow_refusals_total{{tier="{tier}"}} (\S+)', running.authsvc.get("/metrics")[1].decode()
    )
    return float(found[1]) if found else 0.0


def test_in_shadow_nobody_is_refused_or_told_and_the_operator_sees_who_would_be(running: Stack) -> None:
    sub, before = fresh(), shadowed(running)
    token = running.issuer.token(sub, plan="tried")
    answers = [call(running, "/api/orders", token) for _ in range(6)]
    assert [(answer.status, told(answer)) for answer in answers] == [(200, {})] * 6
    assert within(5, lambda: shadowed(running) - before == 4)
    assert [line["shadow"] for line in running.audit() if line["user"] == sub] == [
        "",
        "",
        "tried",
        "tried",
        "tried",
        "tried",
    ]


def test_nginx_can_log_whom_shadow_would_refuse(running: Stack) -> None:
    token, mark = running.issuer.token(fresh(), plan="tried"), fresh("mark")
    for _ in range(4):
        assert call(running, "/api/logged/x", token, X_Mark=mark).status == 200
    log = running.nginx.folder / "shadows.log"  # written after the answer

    def logged() -> list[str]:
        return [line for line in log.read_text().splitlines() if line.startswith(f"{mark} ")]

    assert within(5, lambda: len(logged()) == 4)
    assert logged() == [f"{mark} ."] * 2 + [f"{mark} tried."] * 2


# ---- callers without identity


def test_callers_without_identity_share_the_limit_of_their_address_and_are_told_only_when_to_come_again(
    running: Stack,
) -> None:
    assert [come_from(running, "127.1.0.1") for _ in range(5)] == [200] * 3 + [429] * 2
    assert come_from(running, "127.1.0.2") == 200


def test_a_caller_without_identity_is_told_nothing_but_retry_after(running: Stack) -> None:
    answers = [call(running, "/api/public/x", X_Test_Address="9.9.9.9") for _ in range(4)]  # 127.0.0.1 is not trusted
    assert [answer.status for answer in answers] == [200] * 3 + [429]
    assert [told(answer) for answer in answers[:3]] == [{}] * 3
    assert told(answers[3]).keys() == {"retry-after"}


def test_no_header_of_the_client_moves_his_address(running: Stack) -> None:
    names = ("X_Forwarded_For", "X_Real_IP", "Forwarded", "X_Client_IP", "X_Test_Address")
    statuses = [come_from(running, "127.1.0.3", **dict.fromkeys(names, f"8.8.8.{number}")) for number in range(6)]
    assert statuses == [200] * 3 + [429] * 3


def test_an_ipv6_network_is_one_caller_and_the_next_one_another(running: Stack) -> None:
    inside = [f"2001:db8:0:1::{number:x}" for number in range(1, 4)] + ["2001:db8:0:1:ffff:ffff:ffff:ffff"]
    assert [come_from(running, address) for address in inside] == [200, 200, 200, 429]
    assert come_from(running, "2001:db8:0:2::1") == 200
    assert come_from(running, "2001:db8::1") == 200


def test_an_ipv4_address_counts_the_same_where_it_is_written_as_ipv6(running: Stack) -> None:
    assert [come_from(running, address) for address in ("10.9.8.7", "::ffff:10.9.8.7") * 2] == [200, 200, 200, 429]


def test_with_a_good_token_a_public_path_counts_for_the_user_and_with_a_bad_one_for_the_address(running: Stack) -> None:
    token = running.issuer.token(fresh(), plan="five")
    good: dict[str, Any] = {"Authorization": f"Bearer {token}"}
    assert [come_from(running, "127.1.0.4", **good) for _ in range(6)] == [200] * 5 + [429]
    assert [come_from(running, "127.1.0.4", Authorization="Bearer x.y.z") for _ in range(4)] == [200] * 3 + [429]
