"""The parts of the command line that are groups of their own; cli.py adds them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from authsvc.options import WithoutWords, config_option, json_option, load_or_exit

if TYPE_CHECKING:
    from authsvc.adapters.config import Settings
    from authsvc.adapters.store import Store

_PROVIDER = click.option("--provider", metavar="NAME", help="Whose user it is, where several have one so named.")
_TRY_EACH = "start memcached, or correct cache.memcached; authsvc check --online tries each server"
_WHO = click.argument("who", nargs=-1, required=True, metavar="WHO...")


@click.group(short_help="Look at the providers' keys, or drop old ones.")
def keys() -> None:
    """Look at the keys that verify tokens, or have every process drop those that are listed no more."""


@keys.command(name="show", cls=WithoutWords, short_help="Print the keys that are in force.")
@config_option
@json_option
def show_keys(file: str, as_json: bool) -> None:
    """Print each provider's keys as the fleet shares them.

    Exit 0 where every provider has some, else 1; 3 where the config cannot be used.
    """
    from authsvc.keytool import show

    found = show(load_or_exit(file))
    click.echo(json.dumps([one.as_json() for one in found], indent=2) if as_json else _paragraphs(found))
    sys.exit(0 if all(one.keys for one in found) else 1)


@keys.command(name="flush", short_help="Drop keys that their provider lists no more.")
@config_option
@click.argument("provider", required=False)
def flush_keys(file: str, provider: str | None) -> None:
    """Ask PROVIDER, or all of them, and drop what it lists no more, within a second in every process of the fleet.

    For the day when a key was stolen: first withdraw it at the provider, then call this. Exit 0 done, 1 not, 3 where
    the config cannot be used.
    """
    from authsvc.keytool import flush

    settings = load_or_exit(file)
    chosen = [one for one in settings.providers if provider in (None, one.name)]
    if not chosen:
        known = ", ".join(one.name for one in settings.providers) or "none"
        raise click.BadParameter(f"{provider!r} is no provider of {file}: it has {known}", param_hint="'PROVIDER'")
    done = [flush(settings, one) for one in chosen]
    for one in done:
        click.echo(one.as_text(), err=bool(one.problem))
    sys.exit(1 if any(one.problem for one in done) else 0)


def _paragraphs(found: Iterable[Any]) -> str:
    return "\n\n".join(one.as_text() for one in found)


@click.group(short_help="Look at what is counted for callers.")
def limits() -> None:
    """Look at what is counted for a caller, or count from nothing again."""


@limits.command(name="show", short_help="Print what is counted for a caller.")
@_WHO
@_PROVIDER
@config_option
@json_option
def show_limits(who: tuple[str, ...], provider: str | None, file: str, as_json: bool) -> None:
    """Print what is counted for a caller: a user's id, or what `by` in the config names.

    `left` and `next call passes` are of calls that count as one; a call of a rule with a cost counts as that many, and
    may be refused while something is left.

    Exit 0 where something is, 1 where nothing is or memcached does not say, 3 where the config cannot be used.
    """
    from authsvc import limitstool

    settings, store = _counting(file)
    now = time.time()
    rows = _told(lambda: limitstool.show(settings, store, who, provider, now))
    told = [row.as_json() for row in rows] if as_json else limitstool.table(rows, now)
    _print(rows, told, f"nothing is counted for {_named(who)}")


@limits.command(name="reset", short_help="Count from nothing again for a caller.")
@_WHO
@_PROVIDER
@config_option
@json_option
def reset_limits(who: tuple[str, ...], provider: str | None, file: str, as_json: bool) -> None:
    """Count from nothing again for a caller, in every process within a second. Prints what was counted.

    Exit 0 done, 1 where nothing was counted or memcached does not say, 3 where the config cannot be used.
    """
    from authsvc import limitstool

    settings, store = _counting(file)
    now = time.time()
    rows = _told(lambda: limitstool.reset(settings, store, who, provider, now))
    told = [row.as_reset_json() for row in rows] if as_json else limitstool.reset_table(rows)
    _print(rows, told, f"nothing was counted for {_named(who)}")


@limits.command(name="top", short_help="Print who is nearest to his limit.")
@click.option("-n", "count", default=20, show_default=True, help="How many.")
@config_option
@json_option
def top_limits(count: int, file: str, as_json: bool) -> None:
    """Print who is nearest to his limit or over it, of those whom the processes of the fleet saw lately.

    Exit 0 told, 1 where memcached does not say, 3 where the config cannot be used.
    """
    from dataclasses import asdict

    from authsvc import limitstool

    _, store = _counting(file)
    now = time.time()
    seen = _told(lambda: limitstool.top(store, now))[:count]
    if as_json:
        click.echo(json.dumps([asdict(one) for one in seen], indent=2))
    else:
        click.echo(limitstool.board(seen, now) if seen else "nobody was counted lately")


def _print(rows: list[Any], told: str | list[dict[str, Any]], nothing: str) -> NoReturn:
    """A text, or what is to be JSON."""
    if isinstance(told, str):
        click.echo(told if rows else nothing, err=not rows)
    else:
        click.echo(json.dumps(told, indent=2))
    sys.exit(0 if rows else 1)


def _named(who: Iterable[str]) -> str:
    """As it was typed, which may be a caller's own choice of characters."""
    from authsvc.adapters.yamlfile import visible

    return visible(" ".join(who))


def _told(act: Any) -> Any:
    """What comes of it; what goes wrong, in words."""
    from authsvc.adapters.store import StoreDown
    from authsvc.limitstool import Unclear

    try:
        return act()
    except Unclear as problem:
        raise click.UsageError(str(problem)) from None
    except StoreDown as problem:
        click.echo(f"the counts cannot be had: {problem}: {_TRY_EACH}", err=True)
        sys.exit(1)


def _counting(file: str) -> tuple[Settings, Store]:
    """The config, and the memcached where its fleet counts."""
    from authsvc.service import store_of

    settings = load_or_exit(file)
    if not settings.memcached:
        click.echo("no cache.memcached: each process counts for itself, and nobody else can look at it", err=True)
        sys.exit(1)
    return settings, store_of(settings)
