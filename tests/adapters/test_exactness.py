"""Sixteen threads in each of four processes of two services hammer one user, through the whole way of a call.

Each process has its own store, keys, limiter and receipts, and knows of the others only what memcached tells. Their
clocks stand still at one instant, so that a run tells of races and not of the end of a window.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import pytest

from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import Memcached
from hammer import THREADS, hammer

pytestmark = pytest.mark.alone

SERVICES, PROCESSES, RUNS = 2, 4, 20
CONFIG = """\
authentication:
  oidc:
    providers: [{{name: demo, issuer: "${{ISSUER}}", audience: "https://api.example.test", allow_insecure_http: true}}]
rate_limit:
  tiers:
    small: {{limit: 100/hour, matching_claim: plan=small}}
    large: {{limit: 10000/hour, matching_claim: plan=large}}
    both: {{limit: [100/minute, 150/hour], matching_claim: plan=both}}
  on_store_error: deny
cache: {{memcached: "127.0.0.1:{port}"}}
"""
Fleet = Callable[[str, str, int], int]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Calls as this user of this plan, so many by each thread; says how many passed."""
    now = float(int(time.time()))
    with Memcached() as memcached, Issuer() as issuer:
        text = CONFIG.format(port=memcached.port)
        pipes = [_worker(text, issuer.url, now) for _ in range(SERVICES * PROCESSES)]

        def run(user: str, plan: str, calls: int) -> int:
            token = issuer.token(user, plan=plan, iat=int(now), exp=int(now) + 3600)
            for pipe in pipes:
                pipe.send((token, calls))
            return sum(pipe.recv() for pipe in pipes)

        run("nobody", "small", 0)  # so that each has been counted as one of the fleet
        yield run
        for pipe in pipes:
            pipe.send(None)


def _worker(text: str, issuer: str, now: float) -> Connection:
    ours, theirs = multiprocessing.Pipe()
    arguments = (text, issuer, now, PROCESSES, theirs)
    multiprocessing.get_context("spawn").Process(target=hammer, args=arguments, daemon=True).start()
    return ours


@pytest.mark.parametrize("run", range(RUNS))
def test_of_100_an_hour_exactly_100_pass(fleet: Fleet, run: int) -> None:
    assert fleet(f"small-{run}", "small", 4) == 100


@pytest.mark.parametrize("run", range(3))
def test_of_10000_an_hour_with_leases_no_more_and_at_most_one_percent_less_pass(fleet: Fleet, run: int) -> None:
    calls = 10_000 // (SERVICES * PROCESSES * THREADS) + 22
    assert 9_900 <= fleet(f"large-{run}", "large", calls) <= 10_000


@pytest.mark.parametrize("run", range(5))
def test_of_several_windows_exactly_the_tightest_passes(fleet: Fleet, run: int) -> None:
    """Without costs that differ a call is refused only where the window is full."""
    assert fleet(f"both-{run}", "both", 4) == 100
