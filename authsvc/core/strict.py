"""Strict readers for what strangers send: base64url and JSON with one meaning each."""

from __future__ import annotations

import json
import math
import re
from binascii import a2b_base64
from typing import Any, Final, NoReturn

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# From these digits to those that a2b_base64 reads. All else, its own + and / and = too, becomes what it refuses.
_USUAL: Final = bytes(byte if chr(byte) in _DIGITS else ord("!") for byte in range(256)).translate(
    bytes.maketrans(b"-_", b"+/")
)
# What may stand last, by how many are left over: bits that belong to no byte are 0.
_LAST: Final[tuple[set[str], ...]] = ({*_DIGITS, ""}, set(), set(_DIGITS[::16]), set(_DIGITS[::4]))
_JSON_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
MAX_DEPTH: Final = 32


def base64url(text: str) -> bytes:
    """Unpadded base64url in its one spelling (RFC 7515 section 2). Raises `ValueError`."""
    try:
        data = a2b_base64(text.encode("ascii").translate(_USUAL) + b"=" * (-len(text) % 4), strict_mode=True)
    except ValueError:  # both what encode and what a2b_base64 raise
        raise ValueError("not base64url") from None
    if text[-1:] not in _LAST[len(text) % 4]:  # RFC 4648 section 3.5: one token must not have two spellings
        raise ValueError("base64url with stray bits")
    return data


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8: no duplicate members at any depth, finite numbers only. Raises `ValueError`."""
    try:
        text = data.decode("utf-8")
        value = _read(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if _depth(text) > MAX_DEPTH:
        raise ValueError("nested too deep")
    return value


def _read(text: str) -> Any:
    """The JSON of a text. An object without blanks around it, as nearly all are, is read without the two expressions
    that look for them."""
    if text.startswith("{"):
        value, end = _JSON.raw_decode(text)
        if end == len(text):
            return value
    return _JSON.decode(text)


def _depth(text: str) -> int:
    """The nesting of a text that is JSON. Brackets within strings do not count: closing ones would hide others."""
    opened = text.count("{") + text.count("[")
    if opened <= MAX_DEPTH:
        return opened
    deepest = depth = 0
    for char in _JSON_STRING.sub("", text):
        depth += (char in "{[") - (char in "}]")
        deepest = max(deepest, depth)
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number too large")
    return value


# Made once: json.loads makes one at each call, which takes as long as to read the header of a token.
_JSON: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
