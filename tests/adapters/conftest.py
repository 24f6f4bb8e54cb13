"""What the tests of the adapters share: a real memcached and names that nobody used before."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import Memcached
from helpers import Clock
from rings import Rings

_numbers = itertools.count()


@pytest.fixture(scope="session")
def memcached() -> Iterator[Memcached]:
    """One server for the tests that leave it as they found it."""
    with Memcached() as server:
        yield server


@pytest.fixture
def address(memcached: Memcached) -> str:
    return f"127.0.0.1:{memcached.port}"


@pytest.fixture
def key() -> str:
    return f"test:{os.getpid()}:{next(_numbers)}"


_addresses: set[str] = set()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """At an address that no earlier test had: what that one left in memcached would be this one's."""
    with ExitStack() as tried:
        while True:
            started = tried.enter_context(Issuer())
            if started.url not in _addresses:
                break
        _addresses.add(started.url)
        yield started


@pytest.fixture
def clock() -> Clock:
    """Set to the true time, because the issuer's tokens are."""
    return Clock(float(int(time.time())))


@pytest.fixture
def make(issuer: Issuer, clock: Clock) -> Iterator[Rings]:
    """Makes keyrings, which are stopped in the end."""
    with Rings(issuer, clock) as made:
        yield made
