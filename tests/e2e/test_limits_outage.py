"""memcached dies, hangs, comes back or is emptied under load: every call is decided by the chosen policy, and soon."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from authsvc.demo.processes import Memcached
from authsvc.demo.stack import Stack, stack
from faults import dead, empty, hung, wait_for_fleet
from load import Calls, callers, control, stood_still
from test_limits import CONFIG_HEAD, RULES, burst, fresh

pytestmark = pytest.mark.alone

LIMITS = """\
rate_limit:
  on_store_error: %s
  tiers:
    ten: {limit: 10/day, matching_claim: plan=ten}
    hundred: {limit: 100/day, matching_claim: plan=hundred}
    unlimited: {limit: unlimited}
"""
WORKERS = 2
BEFORE_S, DURING_S = 1.0, 3.0  # each caller meets a hung memcached once, which must be less than a call in a hundred
SLOWER_BY_S = 0.05  # what an outage may add to the p99
Fault = Callable[[Memcached], AbstractContextManager[None]]


@pytest.fixture(scope="module", params=["local", "allow", "deny"])
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def running(policy: str) -> Iterator[Stack]:
    with stack(CONFIG_HEAD + RULES + LIMITS % policy, workers=WORKERS) as started:
        if policy == "local":
            wait_for_fleet(memcached_of(started), WORKERS)
        yield started


def memcached_of(running: Stack) -> Memcached:
    assert running.memcached is not None
    return running.memcached


def load(running: Stack, tokens: list[str], seconds: float) -> Calls:
    """Calls of all these for a while, a few hundred a second."""
    calls, numbers = Calls(), itertools.count()
    with callers(8, running.nginx.port, lambda: tokens[next(numbers) % len(tokens)], calls, pause_s=0.01):
        time.sleep(seconds)
    return calls


def told(calls: Calls) -> str:
    p99, slowest = (f"{1000 * one:.0f} ms" for one in (calls.percentile(0.99), max(calls.seconds)))
    late = sum(one > 0.1 for one in calls.seconds)
    return f"p99 {p99} and slowest {slowest} of {len(calls.seconds)}, {late} over 100 ms"


def wait_until_counted_again(running: Stack) -> None:
    """Within two seconds of its return every worker counts in memcached again: exactly the limit passes."""
    ends = time.monotonic() + 2
    while (found := burst(running, running.issuer.token(fresh(), plan="ten"), 30)) != {200: 10, 429: 20}:
        assert set(found) <= {200, 429, 503}
        assert time.monotonic() < ends, f"still {found}"
        time.sleep(0.2)
    time.sleep(1)  # two shares of ten are ten as well: until each worker has looked again


RIGHT: dict[str, Callable[[Counter[int]], bool]] = {
    "local": lambda found: set(found) == {200, 429} and 5 <= found[200] <= 10 + WORKERS,
    "allow": lambda found: found == {200: 60},
    "deny": lambda found: found == {503: 60},
}


def greedy(running: Stack) -> Counter[int]:
    """What somebody who calls far too often gets; one without a limit gets everything meanwhile."""
    found = burst(running, running.issuer.token(fresh(), plan="ten"), 60)
    assert burst(running, running.issuer.token(fresh()), 20) == {200: 20}
    return found


@pytest.mark.parametrize("fault", [hung, dead])
def test_in_an_outage_every_call_is_decided_by_the_policy_and_the_slowest_percent_hardly_later(
    running: Stack, policy: str, fault: Fault
) -> None:
    """The load comes from callers who stay within their share, so that nothing but the policy decides."""
    slower_by_s, machine_stood_still = measured(running, policy, fault)
    if slower_by_s >= SLOWER_BY_S and machine_stood_still:
        slower_by_s, _ = measured(running, policy, fault)
    assert slower_by_s < SLOWER_BY_S


def measured(running: Stack, policy: str, fault: Fault) -> tuple[float, bool]:
    """What an outage adds to the p99, and whether that is no measure; what it must not change is the same."""
    tokens = [running.issuer.token(fresh(), plan="hundred") for _ in range(60)]
    before = load(running, tokens, BEFORE_S)
    with fault(memcached_of(running)):
        with control(running.nginx.port) as meanwhile:
            during = load(running, tokens, DURING_S)
        found = greedy(running)
    wait_until_counted_again(running)
    print(f"\n{policy}, {fault.__name__}: {told(before)} before; {told(during)} during; a greedy caller: {dict(found)}")
    assert (set(before.statuses), before.broken) == ({200}, [])
    assert (set(during.statuses), during.broken) == ({503 if policy == "deny" else 200}, [])
    assert RIGHT[policy](found), found
    return during.percentile(0.99) - before.percentile(0.99), stood_still(meanwhile)


def test_emptied_under_load_memcached_counts_from_nothing_and_nobody_notices(running: Stack, policy: str) -> None:
    tokens = [running.issuer.token(fresh(), plan="hundred") for _ in range(60)]
    ten = running.issuer.token(fresh(), plan="ten")
    assert burst(running, ten, 10) == {200: 10}
    calls, numbers = Calls(), itertools.count()
    with callers(4, running.nginx.port, lambda: tokens[next(numbers) % len(tokens)], calls, pause_s=0.01):
        time.sleep(0.2)
        empty(memcached_of(running))
        after = burst(running, ten, 20)
        time.sleep(1)
    assert after == {200: 10, 429: 10}
    assert (set(calls.statuses), calls.broken) == ({200}, [])
    with hung(memcached_of(running)):  # the fleet's own count is lost, too, and must not make each share the whole
        found = greedy(running)
    assert RIGHT[policy](found), found
