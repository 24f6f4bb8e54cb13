"""One moment in time for all tests, and ports. Keys and tokens are in keys.py, gates and fakes in worlds.py."""

from __future__ import annotations

import pytest

import ports
from authsvc.demo import processes
from worlds import NOW

processes.free_port = ports.free_port  # before any test has it by name


@pytest.fixture
def now() -> float:
    return NOW
