"""`authsvc apikeys new | list | revoke | rotate | import`: what an operator does with the file of API keys.

A key is shown once, alone on standard output, after its digest was stored; all other words go to standard error.
Exit codes: 0 done, 1 not done, 2 misuse of the command line, 3 a file cannot be used.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import click

from authsvc.adapters.keyfile import editing, load
from authsvc.adapters.keylines import Book, KeyFileError, instant, written
from authsvc.adapters.visible import visible
from authsvc.apikeyimport import NotDone, Unread, import_csv, words
from authsvc.core.apikeys import ENTROPY_BYTES, PREFIX, ApiKey, KeyProblem, mint, verdict

DEFAULT_FILE = "api-keys.jsonl"
_ID = re.compile(rf"(?:{PREFIX})?([0-9a-f]{{16}})(_.*)?", re.DOTALL)
_SPAN = re.compile(r"([0-9]{1,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_STATES = {None: "good", KeyProblem.REVOKED: "revoked", KeyProblem.EXPIRED: "expired", KeyProblem.REPLACED: "replaced"}


# ---- what the commands do


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key: its record, and the text that is shown once."""

    record: ApiKey
    text: str = field(repr=False)


def issue(file: str, record: ApiKey) -> Issued:
    """Store a new key with all that the record says but its digest."""
    text, digest = mint(os.urandom(ENTROPY_BYTES))
    issued = Issued(replace(record, digest=digest), text)
    with editing(file) as draft:
        draft.put(issued.record)
    return issued


def revoke(file: str, key_id: str, now: float) -> tuple[ApiKey, bool]:
    """The key as it is now, and whether that is new."""
    _must_be_there(file)
    with editing(file) as draft:
        key = _find(draft.book, key_id, file)
        if key.revoked is not None:
            return key, False
        draft.put(revoked := replace(key, revoked=now))
    return revoked, True


def rotate(file: str, key_id: str, overlap_s: float, expires: float | None, now: float) -> tuple[Issued, ApiKey]:
    """A new key for the same owner, and the old one as it is now: good until the overlap ends."""
    _must_be_there(file)
    text, digest = mint(os.urandom(ENTROPY_BYTES))
    with editing(file) as draft:
        old = _find(draft.book, key_id, file)
        problem = verdict(old, now)
        if problem is not None:
            raise NotDone(f"{old.name} is {_STATES[problem]}: make another with authsvc apikeys new")
        if old.replaced_by:
            raise NotDone(f"{old.name} was rotated already, to {PREFIX}{old.replaced_by}: rotate that one")
        new = replace(old, digest=digest, created=now, expires=old.expires if expires is None else expires)
        old = replace(old, replaced_by=new.id, until=now + overlap_s)
        draft.put(old)
        draft.put(new)
    return Issued(new, text), old


def _must_be_there(file: str) -> None:
    """Else a new one would be begun, in which no key is found."""
    try:
        open(file, "rb").close()
    except OSError as problem:
        raise Unread(f"{file}: cannot be read: {(problem.strerror or 'no reason given').lower()}") from None


def _find(book: Book, key_id: str, file: str) -> ApiKey:
    key = book.named(key_id)
    if key is None:
        raise NotDone(f"{file} has no key {PREFIX}{key_id}: authsvc apikeys list shows those that are there")
    return key


def shown(key: ApiKey, now: float) -> dict[str, Any]:
    """A key as it may be shown: without its digest."""
    told: dict[str, Any] = {"key": key.name, "state": _STATES[verdict(key, now)], "owner": key.owner}
    told |= {"roles": list(key.roles), "scopes": list(key.scopes)}
    told |= {"plan": key.plan, "tenant": key.tenant, "contact": key.contact}
    told |= {name: written(getattr(key, name)) or None for name in ("created", "expires", "revoked", "until")}
    return told | {"replaced_by": PREFIX + key.replaced_by if key.replaced_by else None, "claims": dict(key.claims)}


_LISTED = ("key", "state", "owner", "roles", "plan", "tenant", "created", "expires", "until")


def as_text(told: list[dict[str, Any]]) -> str:
    """A table of what `shown` gives; `until` is how long a key still works that was rotated."""
    rows = [list(_LISTED), *([_cell(one[name]) for name in _LISTED] for one in told)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _cell(value: Any) -> str:
    return visible(",".join(value) if isinstance(value, list) else str(value or "-")) or "-"


# ---- the command line


def _option_id(_: click.Context, __: click.Parameter, value: str) -> str:
    """The id of a key that was named by its public part. A whole key is refused, and not repeated."""
    match = _ID.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"name a key by what list shows, such as {PREFIX}d5ead6fdd3d16630")
    if match[2]:
        text = f"this is a whole key, and now in your shell's history: write {PREFIX}{match[1]} only"
        raise click.BadParameter(text)
    return match[1]


def _option_words(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return words(",".join(value))


def _option_when(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """A day, an instant, or a span from now on."""
    if value is None:
        return None
    span = _SPAN.fullmatch(value)
    if span is not None:
        return time.time() + int(span[1]) * _SECONDS[span[2]]
    try:
        return instant(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time: write 2027-06-30, 2027-06-30T12:00:00Z or 90d") from None


def _option_span(_: click.Context, __: click.Parameter, value: str) -> int:
    span = _SPAN.fullmatch(value)
    if span is None:
        raise click.BadParameter(f"{value!r} is no span of time: write 7d, 12h, 30m or 0s")
    return int(span[1]) * _SECONDS[span[2]]


_file: Callable[[Any], Any] = click.option(
    "-f", "--file", default=DEFAULT_FILE, show_default=True, envvar="AUTHSVC_KEYS_FILE", help="The file of keys."
)
_as_json: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
_expires: Callable[[Any], Any] = click.option(
    "--expires", callback=_option_when, help="2027-06-30 (its first second, UTC), an instant, or 90d from now."
)


class _Group(click.Group):
    """Tells in words what was not done, whichever command it was."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NotDone as problem:
            _exit(3 if isinstance(problem, Unread) else 1, problem.lines)
        except KeyFileError as problem:
            _exit(3, problem.lines)


def _exit(code: int, lines: Any) -> NoReturn:
    for line in lines:
        click.echo(visible(line), err=True)
    sys.exit(code)


@click.group(cls=_Group, short_help="Make, list, revoke, rotate and import API keys.")
def apikeys() -> None:
    """Make, list, revoke, rotate and import API keys. authsvc reads the file by itself when it changes."""


@apikeys.command(short_help="Make a key, and show it once.")
@_file
@click.option("--owner", required=True, help="Whom the key speaks for; sent to the API as X-User-Id.")
@click.option("--roles", multiple=True, callback=_option_words, help="Such as reader,writer.")
@click.option("--scopes", multiple=True, callback=_option_words, help="Such as orders:read.")
@click.option("--plan", default="", help="What tiers of rate_limit may match as plan=….")
@click.option("--tenant", default="", help="Sent to the API as X-User-Tenant.")
@click.option("--contact", default="", help="Whom to write to when keys end.")
@_expires
def new(file: str, **given: Any) -> None:
    """Make a key. It stands alone on standard output, and nobody can show it again.

    Exit 0 done, 3 where the file cannot be used.
    """
    issued = issue(file, ApiKey(digest=b"", created=time.time(), **given))
    _show(issued, f"{issued.record.name} of {issued.record.owner} is stored in {file}")


def _show(issued: Issued, *lines: str) -> None:
    click.echo(issued.text)
    for line in (*lines, "this is the only time that the key is shown"):
        click.echo(visible(line), err=True)


@apikeys.command(name="list", short_help="List all keys, by their public part.")
@_file
@click.option("--owner", help="Only those of this owner.")
@_as_json
def list_keys(file: str, owner: str | None, as_json: bool) -> None:
    """List the keys, good ones or not, by the part that may be shown.

    Exit 0 told, 3 where the file cannot be used.
    """
    now, book = time.time(), load(file).book
    told = [shown(key, now) for key in book if owner in (None, key.owner)]
    click.echo(json.dumps(told, indent=2) if as_json else as_text(told))


@apikeys.command(name="revoke", short_help="End a key now.")
@_file
@click.argument("key", callback=_option_id)
def revoke_key(file: str, key: str) -> None:
    """End KEY, such as ask_d5ead6fdd3d16630, within a second in every process.

    Exit 0 done, 1 where there is no such key, 3 where the file cannot be used.
    """
    record, done = revoke(file, key, time.time())
    click.echo(visible(f"{record.name} of {record.owner} {'is' if done else 'was already'} revoked"), err=True)


@apikeys.command(name="rotate", short_help="Replace a key; both work for a while.")
@_file
@click.option("--overlap", default="7d", show_default=True, callback=_option_span, help="How long the old one works.")
@_expires
@click.argument("key", callback=_option_id)
def rotate_key(file: str, overlap: int, expires: float | None, key: str) -> None:
    """Make a key like KEY, show it once, and end KEY when the overlap is over.

    Exit 0 done, 1 where KEY is not there or not good, 3 where the file cannot be used.
    """
    issued, old = rotate(file, key, overlap, expires, time.time())
    end = f"{old.name} works until {written(old.until)}"
    _show(issued, f"{issued.record.name} of {old.owner} is stored in {file}", end)


@apikeys.command(name="import", short_help="Take over keys from a CSV.")
@_file
@click.argument("source", metavar="CSV")
def import_keys(file: str, source: str) -> None:
    """Take over existing keys, of any shape, from a CSV with a first line of names.

    Columns: owner, and either key (plain) or sha256; roles, scopes, plan, tenant, contact, created, expires as you have
    them. Only digests are stored. Delete a CSV with plain keys afterwards.

    Exit 0 done, 1 with a mistake, and nothing is stored, 3 where a file cannot be used.
    """
    stored, known = import_csv(file, source, time.time())
    click.echo(f"{stored} stored in {file}, {known} were there already", err=True)
