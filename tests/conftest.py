"""One moment in time for all tests, and ports. Keys and tokens are in keys.py, gates and fakes in worlds.py."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

import ports
from authsvc.demo import processes
from worlds import NOW

processes.free_port = ports.free_port  # before any test has it by name

# examples prove what is right, not how busy the machine is
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture
def now() -> float:
    return NOW
