"""What the commands have in common: how the config is named and read, and how a word too many is met."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from authsvc.adapters.config import Settings

config_option: Callable[[Any], Any] = click.option(
    "-c",
    "--config",
    "file",
    default="authsvc.yaml",
    envvar="AUTHSVC_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The config file.",
)
json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")


class WithoutWords(click.Command):
    """A command that takes options only. Whoever gives it a word most likely means the config file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            ctx.fail(f"{ctx.args[0]!r} is a word too many: name the config file with -c {ctx.args[0]}")
        return rest


def load_or_exit(file: str) -> Settings:
    """The settings. Prints the mistakes in the file and exits 3 where it has some."""
    settings, mistakes, _ = checked(file)
    for line in mistakes:
        click.echo(line, err=True)
    return settings or sys.exit(3)


def checked(file: str) -> tuple[Settings | None, list[str], int]:
    """The settings, or else the mistakes in the file; and what `authsvc check` exits with."""
    from authsvc.adapters.config import ConfigError, load

    try:
        return load(file), [], 0
    except ConfigError as problem:
        return None, _told(file, problem.lines), 3 if problem.unread else 1


def _told(file: str, lines: list[str]) -> list[str]:
    """The mistakes, and how to name another file where there is none."""
    return lines if Path(file).exists() else [f"{line}: name it with -c" for line in lines]
