"""The quick reader reads what the exact one reads, and a config may be large."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.adapters import config
from authsvc.adapters.yamlfile import _loader, _Quick, read

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "tests/bad_configs").glob("*.yaml")), ROOT / "authsvc.example.yaml"]
PIECES = [
    *(
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "# ",
        "a",
        "b",
        ": ",
        "key: v\n",
        "\n",
        "\n  ",
        "\n  - ",
        " ",
        "'",
        '"',
        ", ",
        "<<: ",
    ),
    *(
        "&a ",
        "*a",
        "*a ",
        "!x ",
        "!!str ",
        "!!int ",
        "!<tag:x> ",
        "\\n",
        "\\",
        "%",
        "@",
        "`",
        "~",
        "---\n",
        "...\n",
        "|\n  ",
    ),
    *(
        ">\n  ",
        "0x1f",
        "1_0",
        "1:2",
        "2027-01-01",
        "yes",
        "${A}",
        "é",
        "日本",
        "😀",
        "\t",
        "?",
        "? ",
        "!",
        "! ",
        "|#x",
        "\r\n",
        "\ufeff",
        "::",
    ),
    *("\xa0", "\u2028", "\ud800", "\0", "--- ", "=", "::", "|\n  ", "<<: "),
]


def compared(text):
    """Where the quick reader finds nothing wrong, there is nothing wrong, and both read the same."""
    quick, exact = read(text, {"A": "x"}, quick=True), read(text, {"A": "x"})
    if quick.mistakes:
        return
    assert not exact.mistakes
    assert same(quick.data, exact.data)
    assert quick.values.keys() == exact.values.keys()
    assert quick.keys == exact.keys


def same(one, other):
    """Equal, of the same types, and in the same order; nan too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or one != one)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_read_alike(file):
    compared(file.read_text("utf-8"))


@settings(deadline=None, max_examples=1000)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_text_is_read_alike(text):
    compared(text)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(FILES), st.integers(0, 600), st.integers(0, 3), st.sampled_from(PIECES))
def test_a_file_with_one_thing_replaced_is_read_alike(file, at, length, piece):
    text = file.read_text("utf-8")
    compared(text[:at] + piece + text[at + length :])


def test_the_quick_reader_is_that_of_usual_files_and_not_of_what_it_reads_otherwise():
    assert isinstance(_loader("a: [é, b]\n", True), _Quick)
    for text in ("a:\tb", "{a? b}", "a: \xa0", "a: b\r\n", "a: !", "[! , b]", "a: |#x", "a: >-2#x"):
        assert isinstance(_loader(text, True), yaml.SafeLoader)


def test_ten_thousand_rules_are_a_config():
    rules = "".join(
        f"      - path: /api/v1/area-{number % 97}/*/resource-{number}/*\n"
        f"        method: [GET, POST]\n        allowed_roles: [reader-{number % 13}, writer]\n        scopes: [api]\n"
        for number in range(10_000)
    )
    found = config.parse(
        f"authentication: {{oidc: {{enabled: false}}}}\nauthorization:\n  rbac:\n    rules:\n{rules}", "f", {}
    )
    assert len(found.policy.rules) == 10_000
    assert not any("decided by" in note for note in found.notes)
