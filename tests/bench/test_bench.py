"""The benchmark itself: that it runs, measures and sees no error. Its figures are nobody's promise."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.alone
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_it_measures_without_an_error() -> None:
    rows = "A,B,C,D,E,F,G,H,K,L,Z"  # of each kind of row one; no peer
    command = [
        sys.executable,
        Path(__file__).with_name("bench.py"),
        "--seconds",
        "1",
        "--rounds",
        "1",
        "--patience",
        "1",
        "--plain",
        "--json",
    ]
    done = subprocess.run([*command, "--only", rows], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert list(said["runs"]) == rows.split(",")
    for figures in [*said["figures"].values(), *said["paced"].values()]:
        assert figures["requests_s"] > 0
        assert figures["service_us"] + figures["nginx_us"] > 0
        assert figures["errors"] == 0
    assert said["paced"]["C"]["requests_s"] < said["figures"]["C"]["requests_s"]
    assert said["figures"]["L"]["service_us"] > said["figures"]["B"]["service_us"]  # each token was new


def test_a_row_that_nobody_has_is_told() -> None:
    command = [sys.executable, Path(__file__).with_name("bench.py"), "--only", "A,nobody"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "bench: no row is called nobody; --help lists them\n")
