"""Strict readers for what strangers send: base64url and JSON with one meaning each."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any, NoReturn

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# What may stand last, by how many are left over: bits that belong to no byte are 0.
_LAST: tuple[set[str], ...] = ({*_DIGITS, ""}, set(), set(_DIGITS[::16]), set(_DIGITS[::4]))
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
MAX_DEPTH = 32


def base64url(text: str) -> bytes:
    """Unpadded base64url in its one spelling (RFC 7515 section 2). Raises `ValueError`."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise ValueError("not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:  # pragma: no cover - the check above leaves nothing to object to
        raise ValueError("not base64url") from None
    if text[-1:] not in _LAST[len(text) % 4]:  # RFC 4648 section 3.5: one token must not have two spellings
        raise ValueError("base64url with stray bits")
    return data


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8: no duplicate members at any depth, finite numbers only. Raises `ValueError`."""
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if _depth(text) > MAX_DEPTH:
        raise ValueError("nested too deep")
    return value


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
