"""Chaos: every state of the provider, times every state of memcached, times every kind of token. `make chaos`.

Two gunicorn workers behind nginx, started well; then provider and memcached fall ill; then callers come.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import pytest

from authsvc.demo.behaviours import Behaviour
from authsvc.demo.issuer import Issuer
from authsvc.demo.stack import CONFIG, Stack, stack
from faults import Answer, ask, dead, hung, poisoned, wait_for_fleet

pytestmark = pytest.mark.alone

PROVIDERS = ["ok", "down", "hang", "garbage", "rotated"]
MEMCACHED = {"ok": nullcontext, "down": dead, "hang": hung, "poisoned": poisoned}
TOKENS = ["good", "expired", "bad signature", "unknown kid"]
BEHAVIOURS = {"down": Behaviour.DOWN, "hang": Behaviour.HANG, "garbage": Behaviour.GARBAGE}

# A second provider, so that one's entry in memcached can be put in the place of the other's.
TWO = CONFIG.replace(
    "    extract_headers:",
    """\
      - {name: other, issuer: "${OTHER_ISSUER}", audience: other, allow_insecure_http: true}
    extract_headers:""",
)

# From the fetch that hangs until it is given up (2 s), and a memcached that hangs, nobody waits longer than this.
SLOWEST_S = 2.4
QUICK_S = 0.6  # a timeout of memcached (0.15 s), on a machine that runs other tests
WORKERS = 2
CALLS = 4  # of each kind, so that both workers are asked


@dataclass(frozen=True, slots=True)
class World:
    running: Stack
    provider: str


@pytest.fixture(scope="module", params=itertools.product(PROVIDERS, MEMCACHED), ids=" and memcached ".join)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    provider, memcached = request.param
    with ExitStack() as lasting:
        other = lasting.enter_context(Issuer(audience="other"))
        running = lasting.enter_context(stack(TWO, workers=WORKERS, environment={"OTHER_ISSUER": other.url}))
        assert running.memcached is not None
        wait_for_fleet(running.memcached, WORKERS)  # each has its keys then
        lasting.callback(running.issuer.behave, Behaviour.OK)
        running.issuer.behave(BEHAVIOURS.get(provider, Behaviour.OK))
        lasting.enter_context(MEMCACHED[memcached](running.memcached))
        if provider == "rotated":
            running.issuer.rotate()
        yield World(running, provider)


def token(issuer: Issuer, kind: str, number: int) -> str:
    if kind == "expired":
        return issuer.token(f"u-{number}", exp=int(time.time()) - 120)
    if kind == "bad signature":
        return issuer.forged_token(f"u-{number}")
    return issuer.token(f"u-{number}", {"kid": f"nobody-{number}"} if kind == "unknown kid" else None)


def expected(kind: str, provider: str) -> tuple[int, str]:
    """Status and reason. Of an unknown key nobody knows whether it is bad while its provider cannot be asked."""
    if kind == "unknown kid" and provider in BEHAVIOURS:
        return 503, "keys_unavailable"
    table = {"good": (200, ""), "expired": (401, "expired"), "bad signature": (401, "invalid_signature")}
    return table.get(kind, (401, "unknown_key"))


def slowest(kind: str, provider: str) -> float:
    """A call that may wait for a download may take as long as one; no other."""
    return SLOWEST_S if provider == "rotated" or kind in ("bad signature", "unknown kid") else QUICK_S


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, "" if answer.status == 200 else json.loads(answer.body)["reason"]


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_gets_its_right_answer_soon_while_the_provider_is(world: World, kind: str) -> None:
    port, issuer = world.running.nginx.port, world.running.issuer
    answers = [ask(port, token(issuer, kind, number)) for number in range(CALLS)]
    assert [told(answer) for answer in answers] == [expected(kind, world.provider)] * CALLS
    assert max(answer.seconds for answer in answers) < slowest(kind, world.provider)
