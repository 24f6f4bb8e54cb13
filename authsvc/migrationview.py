"""The report on the move to OIDC, and the list of those to write to, as text and as CSV.

Names come from callers and from the log, which others may have written: none of them steers a terminal or becomes a
formula in a spreadsheet.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from authsvc.adapters.visible import visible
from authsvc.auditlog import Counts
from authsvc.migrationtool import Caller, Difference, Example, Look, Method, Refusal, Report, Straggler, Unused

# What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection), and their wide twins.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
PARTS: dict[str, tuple[str, type]] = {
    "callers": ("callers", Caller),
    "methods": ("methods", Method),
    "refusals": ("refusals", Refusal),
    "differences": ("differences", Difference),
    "not-moved": ("not_moved", Straggler),
    "unused-keys": ("unused_keys", Unused),
}


def part_csv(report: Report, part: str) -> str:
    """One of the report's tables."""
    name, kind = PARTS[part]
    return as_csv(kind, getattr(report, name))


def as_csv(kind: type, rows: Sequence[Any]) -> str:
    """RFC 4180 but for its line ends. The first line names the columns, also where nothing follows."""
    names = [one.name for one in fields(kind)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_safe(_cell(getattr(row, name))) for name in names] for row in rows)
    return text.getvalue()


def _safe(cell: str) -> str:
    return f"'{visible(cell)}" if cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA) else visible(cell)


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return ("; " if value and isinstance(value[0], Look | Example) else " ").join(map(_cell, value))
    if isinstance(value, Look):
        return f"{value.call} ({value.calls})"
    if isinstance(value, Example):
        return f"{value.time} {value.call} {value.request_id}".rstrip()
    return "" if value is None else str(value)


# ---- text


def text(report: Report, most: int) -> str:
    """The report for a terminal, with lists of at most so many lines."""
    parts = [*_lines(report), "", *_shares(report), "", table(Method, report.methods)]
    parts += _titled("callers", Caller, report.callers, report.all_callers, most)
    parts += _titled("refusals", Refusal, report.refusals, len(report.refusals), most)
    parts += _both(report)
    behind = report.owners["keys_only"] + report.owners["partly"]
    parts += _titled("owners who have not moved", Straggler, report.not_moved, behind, most)
    if report.all_unused_keys is not None:
        parts += _titled("good keys that no line names", Unused, report.unused_keys, report.all_unused_keys, most)
    return "\n".join(parts)


def _lines(report: Report) -> Iterator[str]:
    lines = report.lines
    yield f"{lines.used} calls from {report.first_seen or 'never'} to {report.last_seen or 'never'}"
    if lines.outside:
        yield f"{lines.outside} outside of the time that was asked for"
    yield from passed_over(lines)
    yield f"note: {report.note}"


def passed_over(counts: Counts) -> Iterator[str]:
    """What could not be used, in words."""
    if counts.no_json:
        yield f"no JSON, and passed over: {counts.no_json} lines"
    if counts.lacking:
        yield f"without time, outcome, reason or auth, and passed over: {counts.lacking} lines"
    for name in counts.broken:
        yield f"{visible(name)}: damaged, was read as far as it goes"


def _shares(report: Report) -> Iterator[str]:
    yield f"OIDC: {_percent(report.oidc_share_of_calls)} of allowed calls with a known caller"
    yield f"OIDC: {_percent(report.oidc_share_of_callers)} of callers, an owner of keys being one when he has moved"
    owners = report.owners
    yield f"owners of keys: {owners['keys_only']} by keys only, {owners['partly']} by both, {owners['moved']} moved"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _both(report: Report) -> list[str]:
    both = report.both
    if not both["calls"]:
        return []
    kinds = f"{both['refused']} in refusal, {both['roles']} in roles, {both['tier']} in tier"
    told = f"key and token on one call: {both['calls']} calls, {both['alike']} without a difference; {kinds}"
    return ["", told, *([table(Difference, report.differences)] if report.differences else [])]


def _titled(title: str, kind: type, rows: Sequence[Any], total: int, most: int) -> list[str]:
    shown = rows[:most]
    more = f", {len(shown)} of them here: -n shows more" if len(shown) < total else ""
    return ["", f"{title}: {total}{more}", *([table(kind, shown)] if shown else [])]


def table(kind: type, rows: Sequence[Any]) -> str:
    """Cells under one another, numbers to the right, and no more than the latest example."""
    names = [one.name for one in fields(kind)]
    cells = [[one.replace("_", " ") for one in names]]
    cells += [[visible(_cell(_short(getattr(row, name)))) or "-" for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [bool(rows) and isinstance(getattr(rows[0], name), int) for name in names]
    return "\n".join("  ".join(map(_pad, row, widths, right)).rstrip() for row in cells)


def _short(value: Any) -> Any:
    return value[:1] if isinstance(value, tuple) and value and isinstance(value[0], Example) else value


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)
