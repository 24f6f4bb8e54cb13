"""What a start costs: `--help` loads nothing that it does not show, and a worker nothing that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

import pytest
from click.testing import CliRunner

from authsvc import cli

HEAVY = {
    "asyncio", "cryptography", "falcon", "gunicorn", "gunicorn_h1c", "jose", "prometheus_client", "pydantic",
    "pydantic_core", "pymemcache", "requests", "ssl", "urllib3", "uvloop", "yaml",
}  # fmt: skip


def loaded(statement: str) -> set[str]:
    """The modules that a new interpreter has loaded after the statement."""
    code = f"import contextlib, io, json, sys\nwith contextlib.redirect_stdout(io.StringIO()):\n    {statement}\n"
    code += "print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["serve", "--help"], ["keys", "--help"]], ids=" ".join)
def test_help_loads_no_heavy_module(words: list[str]) -> None:
    found = loaded(f"from authsvc.cli import main; main({words!r}, standalone_mode=False)")
    assert not {name.partition(".")[0] for name in found} & HEAVY
    assert not {name for name in found if name.startswith("authsvc.core")}


@pytest.mark.parametrize("name", cli.LATER)
def test_a_group_that_is_loaded_later_is_told_of_by_its_own_line(name: str) -> None:
    place, line = cli.LATER[name]
    assert getattr(import_module(place), name).short_help == line
    assert line in CliRunner().invoke(cli.main, ["--help"]).output
    assert len(CliRunner().invoke(cli.main, [name, "--help"]).output.split("Commands:")[1].splitlines()) > 2
