"""What the tests of the adapters share: a real memcached and names that nobody used before."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from authsvc.demo.processes import Memcached

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
