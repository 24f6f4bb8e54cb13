"""Floods, and faults in the middle of load: right answers only, and few downloads."""

from __future__ import annotations

import base64
import itertools
import json
import time
from contextlib import ExitStack, nullcontext
from typing import Any

import pytest

from authsvc.demo.issuer import Issuer
from authsvc.demo.stack import CONFIG, Stack, stack
from faults import dead, hung, wait_for_fleet
from load import Calls, callers, control, stood_still
from test_key_life import memcached_of, with_times
from waiting import within

pytestmark = pytest.mark.alone

FLOOD = 10_000
COOLDOWN_S = 70  # longer than a slow machine takes for the flood
WORKERS = 4
SLOWEST_S = 0.25


def forgeries(issuer: Issuer, count: int) -> list[str]:
    """Tokens that name a key nobody has; else they are as good as any."""
    _, claims, made = issuer.token(plan="enterprise").split(".")
    heads = (json.dumps({"alg": "RS256", "kid": f"random-{number}"}).encode() for number in range(count))
    return [f"{base64.urlsafe_b64encode(head).rstrip(b'=').decode()}.{claims}.{made}" for head in heads]


@pytest.mark.parametrize(
    ("memcached", "downloads"),
    [
        pytest.param(nullcontext, 1, id="one for the fleet, with memcached"),
        pytest.param(dead, WORKERS, id="one a process, with memcached dead"),
        pytest.param(hung, WORKERS, id="one a process, with memcached hung"),
    ],
)
def test_ten_thousand_random_kids_within_a_cooldown_make_at_most(memcached: Any, downloads: int) -> None:
    with ExitStack() as lasting:
        running = lasting.enter_context(stack(with_times(jwks_refresh_cooldown=COOLDOWN_S), workers=WORKERS))
        wait_for_fleet(memcached_of(running), WORKERS)  # each has its keys then: one that starts later downloads them
        lasting.enter_context(memcached(running.memcached))
        bad, good = Calls(), Calls()
        tokens = iter(forgeries(running.issuer, FLOOD))
        valid = running.issuer.token(plan="enterprise")
        before, started = running.issuer.fetches, time.monotonic()
        with (
            callers(2, running.nginx.port, lambda: valid, good, pause_s=0.02),
            callers(8, running.nginx.port, lambda: next(tokens, None), bad),
        ):
            assert within(60, lambda: len(bad.statuses) + len(bad.broken) == FLOOD)
        assert time.monotonic() - started < COOLDOWN_S - 1, "the flood took longer than a cool-down"
        assert running.issuer.fetches - before <= downloads
        assert set(bad.statuses) == {401}
        assert set(good.statuses) == {200}
        assert bad.broken == good.broken == []


def test_memcached_killed_and_restarted_under_load_changes_no_decision() -> None:
    """A limited tier, so that every allowed call wants memcached."""
    with stack(CONFIG.replace("pro: {limit: 10000/hour", "pro: {limit: 1000000/hour")) as running:
        with control(running.nginx.port) as meanwhile:
            slowest_s = slowest_in_two_outages(running)
        if slowest_s >= SLOWEST_S and stood_still(meanwhile):
            slowest_s = slowest_in_two_outages(running)
        assert slowest_s < SLOWEST_S


def slowest_in_two_outages(running: Stack) -> float:
    """Of calls that all get their right answers."""
    numbers = itertools.count()
    good, bad = Calls(), Calls()
    valid = [running.issuer.token(f"u-{number}", plan="pro") for number in range(20)]
    forged = running.issuer.forged_token(plan="pro")
    with (
        callers(4, running.nginx.port, lambda: valid[next(numbers) % 20], good, pause_s=0.005),
        callers(1, running.nginx.port, lambda: forged, bad, pause_s=0.02),
    ):
        time.sleep(1.5)
        for fault in (dead, hung):
            with fault(memcached_of(running)):
                time.sleep(2)
            time.sleep(2)
    assert len(good.statuses) > 500
    assert set(good.statuses) == {200}
    assert set(bad.statuses) == {401}
    assert good.broken == bad.broken == []
    print(f"slowest of {len(good.seconds)}: {max(good.seconds):.3f} s, p99 {good.percentile(0.99):.3f} s")
    return max(good.seconds + bad.seconds)


def test_after_a_restart_memcached_counts_again_within_two_seconds() -> None:
    with stack(CONFIG.replace("trial: {limit: 3/hour", "trial: {limit: 1/hour")) as running:
        assert running.memcached is not None
        with dead(running.memcached):
            assert _status(running, running.issuer.token("before", plan="trial")) == 200
        time.sleep(2)
        token = running.issuer.token("after", plan="trial")
        assert [_status(running, token) for _ in range(6)] == [200, 429, 429, 429, 429, 429]


def _status(running: Any, token: str) -> int:
    calls, tokens = Calls(), iter([token])
    with callers(1, running.nginx.port, lambda: next(tokens, None), calls):
        assert within(5, lambda: bool(calls.statuses or calls.broken))
    return calls.statuses[0]
