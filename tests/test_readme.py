"""What README shows is true: its config, its commands, its reasons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from authsvc.adapters import config
from authsvc.cli import main
from authsvc.core.model import Reason

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_its_config_is_valid() -> None:
    block, *_ = re.findall(r"```yaml\n(.*?)```", README, re.S)  # those of the providers are for test_setup.py
    text = "\n".join(line.removeprefix("   ") for line in block.splitlines())
    assert config.parse(text, "README", {}).providers[0].name == "auth0"


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"authsvc (check|explain|serve|nginx|schema|demo|[a-z]+) -", README))
    assert named <= set(main.commands)
    assert {"check", "explain", "serve", "nginx"} <= named


@pytest.mark.parametrize(
    "reason", re.findall(r"`([a-z_]+)`", README.partition("## When something")[2].partition("##")[0])
)
def test_every_reason_it_names_exists(reason: str) -> None:
    assert reason in set(Reason) | {"reason"}


@pytest.mark.parametrize("target", re.findall(r"`make ([a-z-]+)", README))
def test_every_make_target_it_names_exists(target: str) -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text("utf-8")
    assert re.search(rf"^{target}:", makefile, re.M)
