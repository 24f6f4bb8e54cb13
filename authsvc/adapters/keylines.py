"""API keys as lines of JSON, and a file of such lines as a book.

    {"owner":"acme","roles":["reader"],"plan":"pro","created":"2026-10-01","sha256":"d5ead6fdd3d16630…"}

Why lines and not YAML: PyYAML takes ten minutes for a million keys. A line can be read, searched with grep for an id
(the first 16 digits of sha256), added with >> and compared in a review; # begins a comment. Lines as `to_line` writes
them are read with one pattern (2 s and 340 MB for a million), all others, and those with claims, with JSON (40 µs
each). Both know the same keys. No text here ever quotes a value of the file: somebody may have put a key there.
"""

from __future__ import annotations

import json
import re
from binascii import unhexlify
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

from authsvc.core.apikeys import ApiKey
from authsvc.core.claims import as_text
from authsvc.core.strict import json_object

MAX_TOLD = 100  # mistakes; who sees a hundred knows enough
MAX_TEXT = 200
MOST_RECENT = 4096  # keys that are kept decoded: 3 MB
CHUNK = 1 << 16  # read at a time, so that no other thread waits longer than a millisecond

# What `to_line` writes, as a pattern. `(?:…|)` and `*+` are a third faster than `(?:…)?` and `*`.
_T = rb'"[^"\\\x00-\x1f\x7f]{1,%d}"' % MAX_TEXT
_L = rb"\[%b(?:,%b)*+\]" % (_T, _T)
_DAYS = rb"(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31"
_D = rb'"[12][0-9][0-9][0-9]-(?:%b)(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z|)"' % _DAYS
_PATTERN = rb"^\{(" + rb'"owner":%b,' % _T
_PATTERN += b"".join(rb'(?:"%b":%b,|)' % one for one in ((b"roles", _L), (b"scopes", _L), (b"plan", _T)))
_PATTERN += b"".join(rb'(?:"%b":%b,|)' % one for one in ((b"tenant", _T), (b"contact", _T), (b"created", _D)))
_PATTERN += b"".join(rb'(?:"%b":%b,|)' % one for one in ((b"expires", _D), (b"revoked", _D)))
_PATTERN += rb'(?:"replaced_by":"[0-9a-f]{16}","until":%b,|))"sha256":"([0-9a-f]{64})"\}\n' % _D
_WRITTEN = re.compile(_PATTERN, re.MULTILINE)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{16}")
_INSTANT = re.compile(r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?", re.ASCII)
_EXPIRES = re.compile(rb'"expires"\s*:\s*"([12][0-9]{3}-[0-9]{2}-[0-9]{2})')
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MEMBER = re.compile(r"[a-z_]{1,20}")


Lines = dict[bytes, bytes]  # by digest


class KeyFileError(Exception):
    """The file cannot be used. `lines` say all that is wrong with it, each with its place. `unread` where it was the
    system that refused it: the same file may be read a moment later."""

    def __init__(self, lines: list[str], *, unread: bool = False) -> None:
        super().__init__(f"{len(lines)} to mend in the file of API keys")
        self.lines, self.unread = lines, unread


class Book:
    """All keys by digest. A key is a line without braces and digest, and decoded when it is looked for: as a million
    `ApiKey`s they would take 0.8 GB."""

    __slots__ = ("_lines", "_recent")

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._recent: dict[bytes, ApiKey] = {}

    def get(self, digest: bytes, /) -> ApiKey | None:
        """To decode a line takes 13 µs, to remember what was decoded 0.2 µs."""
        key, line = self._recent.get(digest), self._lines.get(digest)
        if key is None and line is not None:
            if len(self._recent) >= MOST_RECENT:
                self._recent = {}
            key = self._recent[digest] = _decoded(line, digest)
        return key

    def named(self, key_id: str) -> ApiKey | None:
        """The key with this id; takes longer the more keys there are."""
        start = unhexlify(key_id)
        return next((self.get(digest) for digest in self._lines if digest.startswith(start)), None)

    def changed(self, removed: Iterable[bytes], added: Lines) -> Book | None:
        """A book without these and with those; `None` where it did not hold the former, or does hold the latter."""
        lines = dict(self._lines)
        if not all(lines.pop(digest, None) for digest in removed):
            return None
        count = len(lines) + len(added)
        lines.update(added)
        return Book(lines) if len(lines) == count else None

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[ApiKey]:
        return (_decoded(line, digest) for digest, line in self._lines.items())


def _decoded(line: bytes, digest: bytes) -> ApiKey:
    return _key(json.loads(b"{" + line[:-1] + b"}"), digest)


# ---- one line


def to_line(key: ApiKey) -> bytes:
    """A key as it stands in the file. What is empty is left out."""
    texts = {name: getattr(key, name) for name in ("owner", "roles", "scopes", "plan", "tenant", "contact")}
    instants = {name: written(getattr(key, name)) for name in ("created", "expires", "revoked")}
    ends = {"replaced_by": key.replaced_by, "until": written(key.until), "claims": dict(key.claims)}
    said = {name: value for name, value in {**texts, **instants, **ends}.items() if value}
    said["sha256"] = key.digest.hex()
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def written(instant: float | None) -> str:
    if instant is None:
        return ""
    text = datetime.fromtimestamp(int(instant), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return text.removesuffix("T00:00:00Z")


def instant(text: str) -> float:
    """`2027-06-30`, which is its first second in UTC, or `2027-06-30T12:00:00Z`. Raises `ValueError`."""
    if not _INSTANT.fullmatch(text):
        raise ValueError("no instant")
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()


def _key(said: Mapping[str, Any], digest: bytes) -> ApiKey:
    """Of members that are known to be good."""
    when: dict[str, Any] = {
        name: instant(said[name]) for name in ("created", "expires", "revoked", "until") if name in said
    }
    texts: dict[str, Any] = {
        name: said[name] for name in ("plan", "tenant", "contact", "replaced_by", "claims") if name in said
    }
    roles, scopes = tuple(said.get("roles", ())), tuple(said.get("scopes", ()))
    return ApiKey(digest=digest, owner=said["owner"], roles=roles, scopes=scopes, **texts, **when)


def from_line(line: bytes) -> ApiKey:
    """The key of one line, however it is written. Raises `KeyFileError` with all that is wrong with it."""
    try:
        said = json_object(line)
    except ValueError as problem:
        raise KeyFileError([f"is no key: {_why(problem)}"]) from None
    mistakes = list(_mistakes(said))
    if mistakes:
        raise KeyFileError(mistakes)
    return _key(said, unhexlify(said["sha256"]))


def _why(problem: ValueError) -> str:
    """In words that hold nothing of the line."""
    if isinstance(problem, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(problem, json.JSONDecodeError):
        return f"it is not JSON from column {problem.colno} on"
    return str(problem)


def _mistakes(said: Mapping[str, Any]) -> Iterator[str]:
    for name in said:
        if name not in _CHECKS:
            shown = name if _MEMBER.fullmatch(name) else "a member"
            yield f"{shown} is no setting: known here are {', '.join(_CHECKS)}"
    for name in ("owner", "sha256"):
        if name not in said:
            yield f"{name} is missing: add it"
    for name, (fits, wanted) in _CHECKS.items():
        if name in said and not fits(said[name]):
            yield f"{name} does not fit: {wanted}"
    if ("replaced_by" in said) != ("until" in said):
        yield "replaced_by and until belong together: which key took over, and until when both work"


def is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and not _CONTROL.search(value)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def _is_instant(value: object) -> bool:
    try:
        return isinstance(value, str) and instant(value) is not None
    except ValueError:
        return False


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _are_claims(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_text, value)) and all(_is_claim(one) for one in value.values())


def _is_claim(value: object) -> bool:
    return _are_texts(value) if isinstance(value, list) else as_text(value) is not None


_A_TEXT = (is_text, f"a text is wanted, 1 to {MAX_TEXT} characters, none of them a control character")
_A_LIST = (_are_texts, f"a list of texts is wanted, each 1 to {MAX_TEXT} characters")
_A_TIME = (_is_instant, "write 2027-06-30, its first second in UTC, or 2027-06-30T12:00:00Z")
_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "owner": _A_TEXT, "roles": _A_LIST, "scopes": _A_LIST, "plan": _A_TEXT, "tenant": _A_TEXT, "contact": _A_TEXT,
    "created": _A_TIME, "expires": _A_TIME, "revoked": _A_TIME,
    "replaced_by": (_matches(_ID), "the 16 hexadecimal digits of the other key's id are wanted"), "until": _A_TIME,
    "claims": (_are_claims, "claims are wanted (name: text, number, boolean or list of texts)"),
    "sha256": (_matches(_SHA256), "64 hexadecimal digits in small letters are wanted, and never a key itself"),
}  # fmt: skip


# ---- the whole file


def read(file: BinaryIO, name: str) -> Lines:
    """All lines by digest. Raises `KeyFileError`; the place of a mistake is told by `name` and line."""
    lines: Lines = {}
    mistakes: list[str] = []
    count = number = 0  # of keys, and of lines
    for chunk in chunks(file):
        found = _WRITTEN.findall(chunk) if _is_utf8(chunk) else []
        size = chunk.count(b"\n")
        if len(found) != size:
            found = list(_one_by_one(chunk, name, number, mistakes))
        lines.update([(unhexlify(digest), line) for line, digest in found])
        count, number = count + len(found), number + size
        if len(mistakes) > MAX_TOLD:
            break
    else:
        mistakes += _doubles(file, name) if len(lines) != count else []
    if mistakes:
        raise KeyFileError(mistakes if len(mistakes) <= MAX_TOLD else [*mistakes[:MAX_TOLD], f"{name}: and more"])
    return lines


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, the last of them ended even where the file does not."""
    while chunk := file.read(CHUNK):
        chunk += b"" if chunk.endswith(b"\n") else file.readline()
        yield chunk if chunk.endswith(b"\n") else chunk + b"\n"


def expiring(file: BinaryIO, since: float, until: float) -> Iterator[ApiKey]:
    """The keys that expire in this time. Raises `KeyFileError`. What expires on other days is not decoded."""
    first, last = written(since)[:10].encode(), written(until)[:10].encode()
    for chunk in chunks(file):
        for line in chunk.split(b"\n"):
            found = _EXPIRES.search(line)
            if found and first <= found[1] <= last and not is_blank(line):
                key = from_line(line)
                if key.expires is not None and since <= key.expires < until:
                    yield key


def _is_utf8(chunk: bytes) -> bool:
    try:
        return chunk.isascii() or bool(chunk.decode())
    except UnicodeDecodeError:
        return False


def _one_by_one(chunk: bytes, name: str, number: int, mistakes: list[str]) -> Iterator[tuple[bytes, bytes]]:
    """The lines and digests, each as if it stood in the file as it would be written; mistakes are added to the list."""
    for at, line in enumerate(chunk.split(b"\n")[:-1], number + 1):
        if is_blank(line):
            continue
        try:
            key = from_line(line)
        except KeyFileError as problem:
            mistakes += [f"{name}:{at}: {text}" for text in problem.lines]
            continue
        yield to_line(replace(key, digest=b""))[1 : -len('"sha256":""}\n')], key.digest.hex().encode()


def is_blank(line: bytes) -> bool:
    """Whether a line says nothing: it is empty, or a comment."""
    return not line.strip() or line.lstrip().startswith(b"#")


def _doubles(file: BinaryIO, name: str) -> Iterator[str]:
    """The keys that stand twice, or else nothing: the file's other mistakes are told without them."""
    first: dict[bytes, int] = {}
    file.seek(0)
    for number, line in enumerate((line for chunk in chunks(file) for line in chunk.split(b"\n")[:-1]), 1):
        digest = b"" if is_blank(line) else _digest(line)
        if first.setdefault(digest, number) != number and digest:
            yield f"{name}:{number}: this key stands twice, first in line {first[digest]}: remove one of them"


def _digest(line: bytes) -> bytes:
    try:
        return from_line(line).digest
    except KeyFileError:
        return b""
