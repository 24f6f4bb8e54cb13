"""One moment in time for all tests. Keys and tokens are in keys.py, gates and fakes in worlds.py."""

from __future__ import annotations

import pytest

from worlds import NOW


@pytest.fixture
def now() -> float:
    return NOW
