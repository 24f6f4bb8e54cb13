"""`authsvc migration`: the command line of the move from API keys to OIDC.

Exit codes: 0 done, 1 a log cannot be read or no line in it could be used, 2 misuse of the command line, 3 the file of
keys cannot be used.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import click

from authsvc.adapters.visible import visible
from authsvc.apikeytool import DEFAULT_FILE
from authsvc.options import json_option

if TYPE_CHECKING:
    from authsvc.auditlog import Counts, Span
    from authsvc.core.apikeys import ApiKey
    from authsvc.migrationledger import Ledger

SHOWN = 20  # rows of a list on a terminal
PARTS = ("callers", "methods", "refusals", "differences", "not-moved", "unused-keys")
_SPAN = re.compile(r"([0-9]{1,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NOTHING = "no line could be used: these are not audit lines of authsvc, or none of the time that was asked for"


def _seconds(text: str) -> int | None:
    span = _SPAN.fullmatch(text)
    return int(span[1]) * _SECONDS[span[2]] if span else None


def _when(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """A day, an instant, or a span before now."""
    if value is None:
        return None
    ago = _seconds(value)
    if ago is not None:
        return time.time() - ago
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no time: write 2027-06-30, 2027-06-30T12:00:00Z or 7d") from None


def _span(_: click.Context, __: click.Parameter, value: str) -> int:
    found = _seconds(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no span of time: write 7d, 12h, 30m or 0s")
    return found


Decorator = Callable[[Any], Any]
_since: Decorator = click.option("--since", callback=_when, help="2027-06-30 (UTC), an instant, or 7d before now.")
_until: Decorator = click.option("--until", callback=_when, help="The same; this instant itself is outside.")
_settled: Decorator = click.option(
    "--settled",
    default="7d",
    show_default=True,
    callback=_span,
    help="How long before the last line an owner must have stopped to call by key alone.",
)
_as_csv: Decorator = click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")


@click.group(short_help="Watch the move from API keys to OIDC.")
def migration() -> None:
    """Watch the move from API keys to OIDC, by the audit log."""


@migration.command(name="report", short_help="Say how far the move has come.")
@click.argument("logs", nargs=-1, required=True, metavar="LOG...")
@_since
@_until
@_settled
@click.option("--keys-file", envvar="AUTHSVC_KEYS_FILE", help="Also count good keys, and list those never used.")
@click.option("-n", "most", type=click.IntRange(1), help=f"Rows of each list. [default: {SHOWN}; all in JSON and CSV]")
@json_option
@_as_csv
@click.option("--part", default="callers", type=click.Choice(PARTS), show_default=True, help="Which list --csv prints.")
def show_report(
    logs: tuple[str, ...],
    since: float | None,
    until: float | None,
    settled: int,
    keys_file: str | None,
    most: int | None,
    as_json: bool,
    as_csv: bool,
    part: str,
) -> None:
    """Say who calls by key and who by token, what is refused, what differs where both are sent, and who has not moved.

    LOG is a file of audit lines, which may be compressed with gzip, or - for standard input. Exit 0 told, 1 where no
    line says anything, 3 where a file cannot be read.
    """
    from authsvc import migrationtool, migrationview

    _one_format(as_json, as_csv)
    keys = _keys(keys_file) if keys_file else None
    ledger, counts = _read(logs, _time(since, until))
    shown = most if as_json or as_csv else most or SHOWN
    report = migrationtool.report(ledger, counts, keys, time.time(), settled, shown)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    elif as_csv:
        click.echo(migrationview.part_csv(report, part), nl=False)
        _warn(migrationview.passed_over(counts))
    else:
        click.echo(migrationview.text(report, most or SHOWN))
    if not counts.used:
        _exit(1, [_NOTHING])


@migration.command(name="pending", short_help="List the owners who are still on keys.")
@click.argument("logs", nargs=-1, metavar="[LOG]...")
@_since
@_until
@_settled
@click.option(
    "--keys-file", default=DEFAULT_FILE, show_default=True, envvar="AUTHSVC_KEYS_FILE", help="The file of keys."
)
@click.option("--all", "everyone", is_flag=True, help="Also those who have moved.")
@json_option
@_as_csv
def show_pending(
    logs: tuple[str, ...],
    since: float | None,
    until: float | None,
    settled: int,
    keys_file: str,
    everyone: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List the owners with good keys who have not moved, with whom to write to.

    Without LOG all owners with good keys, since nothing is known of their calls. Exit 0 told, 1 where no line says
    anything, 3 where a file cannot be read.
    """
    from authsvc import migrationpending, migrationview

    _one_format(as_json, as_csv)
    keys = _keys(keys_file)
    ledger, counts = _read(logs, _time(since, until)) if logs else (None, None)
    if counts is not None:
        _warn(migrationview.passed_over(counts))
        if not counts.used:
            _exit(1, [_NOTHING])
    rows = migrationpending.pending(ledger, keys, time.time(), settled, everyone)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif as_csv:
        click.echo(migrationview.as_csv(migrationpending.Pending, rows), nl=False)
    else:
        click.echo(migrationview.table(migrationpending.Pending, rows) if rows else "nobody is still on keys")


def _one_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two forms of the same: choose one")


def _time(since: float | None, until: float | None) -> Span:
    from authsvc.auditlog import Span

    span = Span(float("-inf") if since is None else since, float("inf") if until is None else until)
    if span.since >= span.until:
        raise click.UsageError("--since is not before --until: no call can lie between them")
    return span


def _read(logs: Iterable[str], span: Span) -> tuple[Ledger, Counts]:
    from authsvc.auditlog import Counts, Unreadable, calls
    from authsvc.migrationledger import Ledger

    counts = Counts()
    try:
        return Ledger(calls(logs, span, counts)), counts
    except Unreadable as problem:
        _exit(3, [str(problem)])


def _keys(name: str) -> Iterable[ApiKey]:
    from authsvc.adapters.keyfile import load
    from authsvc.adapters.keylines import KeyFileError

    try:
        loaded = load(name)
    except KeyFileError as problem:
        _exit(3, problem.lines)
    loaded.file.close()
    return loaded.book


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(visible(line), err=True)


def _exit(code: int, lines: Iterable[str]) -> NoReturn:
    _warn(lines)
    sys.exit(code)
