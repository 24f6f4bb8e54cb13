"""The benchmark itself: that it runs, measures all of them and sees no error. Its figures are nobody's promise."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_it_measures_all_of_them_without_an_error() -> None:
    command = [sys.executable, Path(__file__).with_name("bench.py"), "--seconds", "1", "--rounds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert list(runs) == ["A null", "B unlimited", "C limited", "D two limits", "E API key", "F refused", "G threads"]
    for [figures] in runs.values():
        assert figures["requests_s"] > 0
        assert figures["answerer_us"] > 0
        assert figures["errors"] == 0
    assert runs["D two limits"][0]["memcached_us"] > 0  # each call was counted
