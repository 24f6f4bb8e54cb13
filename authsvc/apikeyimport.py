"""Existing API keys from a CSV into the file of keys: each mistake with its line, and with one nothing is stored."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from authsvc.adapters.keyfile import editing
from authsvc.adapters.keylines import KeyFileError, from_line, instant, to_line
from authsvc.core.apikeys import ApiKey, KeyRefused, digest_of

SHORTEST_IMPORTED = 16  # characters; a shorter text is guessed, and its digest gives it away
NEW = "authsvc apikeys new"
_COLUMNS = ("key", "sha256", "owner", "roles", "scopes", "plan", "tenant", "contact", "created", "expires")


class NotDone(Exception):
    """What was asked for cannot be done. `lines` say why and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__(lines[0])
        self.lines = lines


class Unread(NotDone):
    """A file that was named cannot be read."""


def import_csv(file: str, source: str, now: float) -> tuple[int, int]:
    """How many keys of the CSV were stored, and how many were there already. All of them, or none with a mistake."""
    mistakes: list[str] = []
    found = list(_records(source, now, mistakes))
    first: dict[bytes, int] = {}
    for number, key in found:
        if first.setdefault(key.digest, number) != number:
            mistakes.append(f"{source}:{number}: this key stands twice, first in line {first[key.digest]}")
    if mistakes:
        raise NotDone(*mistakes, f"{source}: {len(mistakes)} to mend, nothing was stored")
    with editing(file) as draft:
        new = [key for _, key in found if key.digest not in draft.book]
        for key in new:
            draft.put(key)
    return len(new), len(found) - len(new)


def _records(source: str, now: float, mistakes: list[str]) -> Iterator[tuple[int, ApiKey]]:
    """Line numbers and keys; what is wrong is added to the list."""
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            mistakes += _wrong_columns(source, list(rows.fieldnames or ()))
            for row in rows if not mistakes else ():
                try:
                    yield rows.line_num, _record(row, now)
                except (KeyFileError, NotDone) as problem:
                    mistakes += [f"{source}:{rows.line_num}: {line}" for line in problem.lines]
    except OSError as problem:
        raise Unread(f"{source}: cannot be read: {(problem.strerror or 'no reason given').lower()}") from None
    except (csv.Error, UnicodeDecodeError):
        raise Unread(f"{source}: is no CSV in UTF-8, nothing was stored") from None


def _wrong_columns(source: str, names: list[str]) -> Iterator[str]:
    """A column's name is not shown where it is none of ours: a file without a first line of names begins with a key."""
    if len(set(names)) != len(names) or not set(names) <= set(_COLUMNS):
        yield f"{source}:1: the first line names the columns, each once: known here are {', '.join(_COLUMNS)}"
    elif "owner" not in names or ("key" in names) == ("sha256" in names):
        yield f"{source}:1: the columns owner and either key or sha256 are needed"


def _record(row: Mapping[str, Any], now: float) -> ApiKey:
    if None in row or None in row.values():
        raise NotDone("this line has more or fewer cells than the first: put quotes around a cell with commas")
    digest = _digest_of(row["key"]) if "key" in row else _digest(row["sha256"].strip().lower())
    texts = {name: row[name].strip() for name in ("owner", "plan", "tenant", "contact") if name in row}
    if not texts["owner"]:
        raise NotDone("the owner is missing")
    roles, scopes = words(row.get("roles", "")), words(row.get("scopes", ""))
    key = ApiKey(digest=digest, **texts, roles=roles, scopes=scopes)
    key = replace(key, created=_when(row.get("created", "")) or now, expires=_when(row.get("expires", "")))
    from_line(to_line(key)[:-1])
    return key


def _digest_of(text: str) -> bytes:
    try:
        digest = digest_of(text.strip())
    except KeyRefused as refused:
        raise NotDone(f"the key cannot be used: {refused.detail}") from None
    if len(text.strip()) < SHORTEST_IMPORTED:
        raise NotDone(f"the key is too short to keep anybody out: give its owner a new one with {NEW}")
    return digest


def _digest(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise NotDone("sha256 does not fit: 64 hexadecimal digits are wanted; a plain key goes into a column key")
    return bytes.fromhex(text)


def _when(text: str) -> float | None:
    try:
        return instant(text.strip()) if text.strip() else None
    except ValueError:
        raise NotDone("a time does not fit: write 2027-06-30 or 2027-06-30T12:00:00Z") from None


def words(text: str) -> tuple[str, ...]:
    """`a, b` or `a b` or `a;b`, each once."""
    return tuple(dict.fromkeys(re.findall(r"[^\s,;]+", text)))
