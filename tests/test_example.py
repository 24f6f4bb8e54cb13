"""The files that people copy: the example names every setting and is valid, the systemd unit runs what exists."""

from __future__ import annotations

import configparser
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from authsvc import cli
from authsvc.adapters import config
from authsvc.adapters.presetinfo import INFO, SPECIAL
from authsvc.adapters.schema import json_schema

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "authsvc.example.yaml"
UNIT = ROOT / "deploy" / "authsvc.service"
SCHEMA = json_schema()
Where = tuple[str, ...]  # a list's items and a tier's free name are *


def resolved(place: dict[str, Any]) -> dict[str, Any]:
    for branch in (place, *place.get("anyOf", [])):
        if isinstance(branch.get("items"), dict):  # a list, or nothing
            return branch
        if "$ref" in branch:
            found: dict[str, Any] = SCHEMA["$defs"][branch["$ref"].rpartition("/")[2]]
            return found
    return place


def settings(place: dict[str, Any], at: Where = ()) -> Iterator[tuple[Where, dict[str, Any]]]:
    """Every setting of the schema, with what the schema says about it."""
    place = resolved(place)
    for name, inner in place.get("properties", {}).items():
        yield (*at, name), inner
        yield from settings(inner, (*at, name))
    for inner in (place.get("items"), *place.get("patternProperties", {}).values(), place.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from settings(inner, (*at, "*"))


ALL = {at: said for at, said in settings(SCHEMA) if "matching_claim" not in at[:-1]}  # a condition: as in require


def written(data: Any, at: Where = ()) -> Iterator[tuple[Where, Any]]:
    """Every setting in a file, under the names that `settings` uses."""
    free = isinstance(data, list) or at == ("rate_limit", "tiers")
    for name, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        place = (*at, "*" if free else name)
        yield place, value
        yield from written(value, place)


def with_the_optional_ones() -> str:
    return re.sub(r"^( +)#(?=\w+:)", r"\1", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)


def without(text: str, names: Iterable[str]) -> str:
    """Without these settings of the provider, where each stands on one line."""
    return re.sub(rf"^ {{8}}({'|'.join(names)}): .*\n", "", text, flags=re.MULTILINE)


def test_the_walk_finds_settings_at_every_depth() -> None:
    assert len(ALL) > 45
    assert {
        ("cache", "memcached"),
        ("authentication", "oidc", "providers", "*", "tenant_id"),
        ("rate_limit", "tiers", "*", "matching_claim"),
        ("rate_limit", "anonymous", "limit"),
    } <= set(ALL)


def is_valid(at: Where) -> bool:
    place = {**ALL[at], "$defs": SCHEMA["$defs"]}
    return ALL[at].get("default") is None or jsonschema.Draft202012Validator(place).is_valid(ALL[at]["default"])


def test_every_default_of_the_schema_is_valid_by_the_schema() -> None:
    assert [at for at in ALL if not is_valid(at)] == []


@pytest.mark.parametrize("at", ALL, ids=".".join)
def test_the_schema_describes(at: Where) -> None:
    description = ALL[at].get("description", "")
    assert description.endswith(".")
    assert "\n" not in description


# ---- authsvc.example.yaml


def test_the_example_is_valid() -> None:
    result = CliRunner().invoke(cli.main, ["check", "-c", str(EXAMPLE)])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("valid\n")


def test_the_example_names_every_setting_and_no_other() -> None:
    named = {at for at, _ in written(yaml.safe_load(with_the_optional_ones())) if at[-1] != "*"}
    assert named == set(ALL)


def test_the_examples_optional_settings_are_valid_too() -> None:
    """But for one of two that say the same, and for what only other types take."""
    text = with_the_optional_ones().replace("  secret: ", "  #secret: ")
    text = without(text, [*SPECIAL, "subject_types", "identity_sources", "roles_claim"])
    text = re.sub(r"^  tls: .*\n", "", text, flags=re.MULTILINE)  # its files are read, and are not here
    text = text.replace("/etc/authsvc/ca.pem", str(EXAMPLE)).replace("/etc/authsvc/api-keys.jsonl", os.devnull)
    assert config.parse(text, "f", {}).memcached


@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_the_example_says_which_type_takes_a_setting(name: str) -> None:
    (line,) = (line for line in EXAMPLE.read_text("utf-8").splitlines() if line.startswith(f"        #{name}: "))
    takers = [kind for kind, info in INFO.items() if name in {setting.name for setting in info.settings}]
    assert all(kind in line.partition(" # ")[2] for kind in takers)


def test_the_example_shows_the_defaults() -> None:
    """Lists and tiers apart, which are empty by default, and what lies within a setting that is left out."""
    shown = dict(written(yaml.safe_load(EXAMPLE.read_text("utf-8"))))
    defaults = {at: said["default"] for at, said in ALL.items() if not isinstance(said.get("default"), dict | None)}
    expected = {at: default for at, default in defaults.items() if default != [] and (at[:-1] in shown or not at[:-1])}
    expected["rate_limit", "by"] = ["user_id"]  # as it is written, in place of what becomes of it
    assert len(expected) > 16
    assert {at: [shown[at]] if isinstance(default, list) else shown[at] for at, default in expected.items()} == expected


def test_what_the_example_leaves_out_shows_its_default_in_the_comment() -> None:
    shown, optional = (dict(written(yaml.safe_load(text))) for text in (EXAMPLE.read_text(), with_the_optional_ones()))
    left_out = {at: ALL[at]["default"] for at in set(ALL) - set(shown) if ALL[at].get("default") not in (None, [], "")}
    left_out = {at: default for at, default in left_out.items() if not isinstance(default, dict)}  # a section's
    assert left_out
    assert {at: optional[at] for at in left_out} == left_out


# ---- deploy/authsvc.service


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text("utf-8"))
    return parser


def test_the_unit_has_its_three_parts() -> None:
    assert unit().sections() == ["Unit", "Service", "Install"]


@pytest.mark.parametrize("line", ["ExecStartPre", "ExecStart"])
def test_the_units_command_line_is_understood(line: str) -> None:
    program, command, *arguments = shlex.split(unit()["Service"][line])
    assert program == "/opt/authsvc/bin/authsvc"
    context = cli.main.commands[command].make_context(command, arguments)  # raises on what it does not know
    assert context.params["file"] == "/etc/authsvc/authsvc.yaml"
    options = {word for word in arguments if word.startswith("-")}
    assert options <= set(re.findall(r"(?<!\S)--?[a-z]+", CliRunner().invoke(cli.main, [command, "--help"]).output))


def test_the_unit_checks_first_and_serves_on_loopback() -> None:
    service = unit()["Service"]
    assert service["ExecStartPre"].split()[1] == "check"
    assert service["ExecStart"].split()[1] == "serve"
    assert service["ExecStart"].endswith("--bind 127.0.0.1:8000")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["Type"] == "exec"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("User", "authsvc"),
        ("Restart", "on-failure"),
        ("RuntimeDirectory", "authsvc"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("PrivateTmp", "yes"),
    ],
)
def test_the_unit_gives_away_no_rights(setting: str, value: str) -> None:
    assert unit()["Service"][setting] == value
