"""A minute of calls with tokens of real issuers whose keys rotate three times: no good one out, no bad one in."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from keycloak_server import Keycloak, needs_keycloak
from load import Calls, callers, keep_calling
from real_issuers import OidcProvider, RealIssuer, needs_node
from test_real_issuer import real_stack

pytestmark = pytest.mark.alone

MINUTE_S = 60.0
ROTATIONS_S = (12.0, 28.0, 44.0)
FORGED_S = (4.0, 8.0, 18.0, 22.0, 34.0, 38.0, 50.0, 54.0)
APART_S = 2.0  # longer than the cool-down, also where Keycloak takes seconds to make a key

ISSUERS: dict[str, tuple[Callable[[], RealIssuer], pytest.MarkDecorator]] = {
    "oidc-provider": (partial(OidcProvider, "RS256"), needs_node),
    "keycloak": (Keycloak, needs_keycloak),
}


class Tokens:
    """Valid tokens: every fourth call gets a new one, the others those of the last half minute."""

    def __init__(self, issuer: RealIssuer) -> None:
        self._issuer, self._numbers, self._lock = issuer, itertools.count(), threading.Lock()
        self.made: deque[str] = deque([issuer.token()], maxlen=200)

    def __call__(self) -> str:
        number = next(self._numbers)
        if number % 4 == 0:
            self.made.append(self._issuer.token())
        return self.made[number % len(self.made)] if number % 4 == 1 else self.made[-1]


def forged(token: str, number: int) -> str:
    """The signature of one token under the claims of another, or bytes changed in it."""
    head, claims, made = token.split(".")
    return f"{head}.{claims}.{made[:-12]}{'AAAABBBBCCCC' if number % 2 else 'QQQQQQQQQQQQ'}"


@dataclass(slots=True)
class Minute:
    """What the callers of one issuer were answered."""

    good: Calls
    bad: Calls
    ready: int


def spend(new_issuer: Callable[[], RealIssuer]) -> Minute:
    """A forged token makes a download as well, and until the cool-down (1 s here) is over there is no other: so the
    forged ones keep away from the rotations by more than that."""
    issuer = new_issuer()
    with real_stack(issuer, workers=2) as running:
        tokens, good, bad = Tokens(issuer), Calls(), Calls()
        started = ended = time.monotonic()
        with callers(3, running.nginx.port, tokens, good, pause_s=0.01):
            for at in sorted((*ROTATIONS_S, *FORGED_S)):
                time.sleep(max(started + at - time.monotonic(), ended + APART_S - time.monotonic(), 0))
                if at in ROTATIONS_S:
                    issuer.rotate()
                else:
                    bogus = iter([forged(tokens.made[-1], number) for number in range(4)])
                    keep_calling(running.nginx.port, partial(next, bogus, None), bad, threading.Event())
                ended = time.monotonic()
            time.sleep(max(started + MINUTE_S - time.monotonic(), 0))
        return Minute(good, bad, running.authsvc.get("/readyz")[0])


@pytest.fixture(scope="module")
def minutes() -> dict[str, Future[Minute]]:
    """All that can be had at the same time, or it would be a minute for each."""
    there = {name: new for name, (new, needs) in ISSUERS.items() if not needs.mark.args[0]}
    with ThreadPoolExecutor(len(ISSUERS)) as pool:
        return {name: pool.submit(spend, new) for name, new in there.items()}


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs) for name, (_, needs) in ISSUERS.items()])
def test_for_a_minute_no_valid_token_is_refused_and_no_forged_one_accepted(
    minutes: dict[str, Future[Minute]], name: str
) -> None:
    minute = minutes[name].result()
    print(f"{name}: {len(minute.good.statuses)} calls, slowest {max(minute.good.seconds):.3f} s")
    assert set(minute.good.statuses) == {200}
    assert set(minute.bad.statuses) == {401}
    assert minute.good.broken == minute.bad.broken == []
    assert len(minute.good.statuses) > 1000
    assert len(minute.bad.statuses) == 4 * len(FORGED_S)
    assert minute.ready == 200
