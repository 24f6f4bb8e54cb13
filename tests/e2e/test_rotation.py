"""A minute of calls with tokens of real issuers whose keys rotate three times: no good one out, no bad one in."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import pytest

from keycloak_server import Keycloak, needs_keycloak
from load import Calls, callers
from real_issuers import OidcProvider, RealIssuer, needs_node
from test_real_issuer import real_stack

MINUTE_S = 60.0
ROTATIONS_S = (12.0, 28.0, 44.0)
FORGED_S = (4.0, 8.0, 18.0, 22.0, 34.0, 38.0, 50.0, 54.0)

ISSUERS = [
    pytest.param(partial(OidcProvider, "RS256"), marks=needs_node, id="oidc-provider"),
    pytest.param(Keycloak, marks=needs_keycloak, id="keycloak"),
]


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


@pytest.mark.parametrize("new_issuer", ISSUERS)
def test_for_a_minute_no_valid_token_is_refused_and_no_forged_one_accepted(
    new_issuer: Callable[[], RealIssuer],
) -> None:
    """A forged token makes a download as well, and until the cool-down (1 s here) is over there is no other: so the
    forged ones keep away from the rotations by more than that."""
    issuer = new_issuer()
    with real_stack(issuer, workers=2) as running:
        tokens, good, bad = Tokens(issuer), Calls(), Calls()
        started = time.monotonic()
        with callers(3, running.nginx.port, tokens, good, pause_s=0.01):
            for at in sorted((*ROTATIONS_S, *FORGED_S)):
                time.sleep(max(started + at - time.monotonic(), 0))
                if at in ROTATIONS_S:
                    issuer.rotate()
                    continue
                bogus = iter([forged(tokens.made[-1], number) for number in range(4)])
                with callers(1, running.nginx.port, partial(next, bogus, None), bad):
                    time.sleep(0.5)
            time.sleep(max(started + MINUTE_S - time.monotonic(), 0))
        assert set(good.statuses) == {200}
        assert set(bad.statuses) == {401}
        assert good.broken == bad.broken == []
        assert len(good.statuses) > 1000
        assert len(bad.statuses) == 4 * len(FORGED_S)
        assert running.authsvc.get("/readyz")[0] == 200
        print(f"{len(good.statuses)} calls, slowest {max(good.seconds):.3f} s")
