"""Limits by other words of the config, taken up by SIGHUP: whom calls count for, the headers, and shadow for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from authsvc.adapters.config import load
from authsvc.demo.stack import Stack, stack
from faults import reconfigure
from test_limits import CONFIG_HEAD, LIMITS, NAMES, RULES, burst, come_from, fresh, told
from test_main_job import call


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack(CONFIG_HEAD + RULES + LIMITS) as started:
        yield started


def with_limits(running: Stack, *lines: str, limits: str = LIMITS) -> None:
    """The limits with further settings."""
    reconfigure(running, rate_limit=limits.replace("rate_limit:\n", "\n  ".join(("rate_limit:", *lines)) + "\n"))


# ---- what a reload changes, and what it does not


def test_a_reload_brings_other_limits_and_goes_on_counting_in_the_same_counters(running: Stack) -> None:
    token, other = (running.issuer.token(fresh(), plan="five") for _ in range(2))
    assert burst(running, token, 3) == {200: 3}
    assert burst(running, other, 8) == {200: 5, 429: 3}
    with_limits(running, limits=LIMITS.replace("five: {limit: 5/day", "five: {limit: 8/day"))
    answer = call(running, "/api/orders", token)
    assert (answer.headers["ratelimit-policy"], answer.headers["ratelimit"][:10]) == (
        '"five";q=8;w=86400',
        '"five";r=4',
    )
    assert burst(running, token, 8) == {200: 4, 429: 4}
    assert burst(running, other, 8) == {200: 3, 429: 5}
    with_limits(running, limits=LIMITS.replace("five: {limit: 5/day", "five: {limit: 2/day"))
    assert burst(running, token, 4) == {429: 4}


# ---- headers, and what calls are counted by: each row is one reload

HAVING = [
    pytest.param("ietf", "client_id", {"azp": "one"}, {"azp": "two"}, id="client_id, ietf"),
    pytest.param("x", "tenant", {"organization_id": "t1"}, {"organization_id": "t2"}, id="tenant, x"),
    pytest.param("both", "{claim: [team, name]}", {"team": {"name": "a"}}, {"team": {"name": "b"}}, id="claim, both"),
    pytest.param(
        "'off'", "[tenant, client_id]", {"organization_id": "l", "azp": "1"}, {"organization_id": "l", "azp": "2"},
        id="a list, off",
    ),
]  # fmt: skip
STYLES = {"ietf": set(NAMES[:2]), "x": set(NAMES[2:]), "both": set(NAMES), "'off'": set[str]()}


@pytest.mark.parametrize(("style", "by", "same", "other"), HAVING)
def test_callers_are_counted_by_what_they_have_in_common_and_told_in_the_style_of_the_config(
    running: Stack, style: str, by: str, same: dict[str, Any], other: dict[str, Any]
) -> None:
    with_limits(running, f"headers: {style}", f"by: {by}")
    assert told(call(running, "/api/orders")) == {}
    ann, bob, cid = (running.issuer.token(fresh(), plan="five", **claims) for claims in (same, same, other))
    answers = [call(running, "/api/orders", token) for token in (ann, bob, ann, bob, ann, bob)]
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert [told(answer).keys() for answer in answers] == [STYLES[style]] * 5 + [STYLES[style] | {"retry-after"}]
    if "x-ratelimit-limit" in STYLES[style]:
        assert [answer.headers["x-ratelimit-limit"] for answer in answers] == ["5"] * 6
        assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0"]
        assert answers[5].headers["x-ratelimit-reset"] == answers[5].headers["retry-after"]
        windows = call(running, "/api/orders", running.issuer.token(fresh(), plan="burst"))
        assert windows.headers["x-ratelimit-limit"] == "4", "the tightest of several windows"
    assert burst(running, cid, 7) == {200: 5, 429: 2}
    strangers = [running.issuer.token(fresh(), plan="five") for _ in range(2)]
    assert [burst(running, token, 6) for token in strangers] == [{200: 5, 429: 1}] * 2, "they share nothing"


def test_by_user_and_address_the_same_user_has_one_limit_at_each_address(running: Stack) -> None:
    with_limits(running, "by: [user_id, ip]")
    good: dict[str, Any] = {"Authorization": f"Bearer {running.issuer.token(fresh(), plan='five')}"}
    for address in ("127.2.0.1", "127.2.0.2"):
        assert [come_from(running, address, "/api/orders", **good) for _ in range(6)] == [200] * 5 + [429]


def test_off_needs_no_quotes_although_yaml_takes_it_for_a_no(running: Stack) -> None:
    text = running.authsvc.config_file.read_text("utf-8")
    unquoted = running.folder / "unquoted.yaml"
    unquoted.write_text(text.replace("rate_limit:\n", "rate_limit:\n  headers: off\n"), "utf-8")
    assert load(str(unquoted)).rate_headers == "off"


# ---- shadow


def test_in_shadow_for_all_nobody_is_refused_whatever_refuses(running: Stack) -> None:
    with_limits(running, "mode: shadow")
    token = running.issuer.token(fresh(), plan="five")
    assert burst(running, token, 12) == {200: 12}
    assert [come_from(running, "127.2.0.3") for _ in range(6)] == [200] * 6
    assert burst(running, token, 6, "/api/own/x") == {200: 6}, "a rule's own limit refused"
