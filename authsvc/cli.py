"""The command line. Everything heavy is imported where it is used, so that `authsvc --help` is quick.

Exit codes: 0 yes or well, 1 no or mistakes found, 2 misuse of the command line, 3 the config cannot be used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from authsvc import __version__

if TYPE_CHECKING:
    from authsvc.adapters.config import Settings

_config: Callable[[Any], Any] = click.option(
    "-c",
    "--config",
    "file",
    default="authsvc.yaml",
    envvar="AUTHSVC_CONFIG",
    show_default=True,
    help="The config file.",
)
_as_json: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="authsvc")
def main() -> None:
    """authsvc: the decision behind nginx's auth_request."""


@main.command()
@_config
@click.option("--bind", default="127.0.0.1:8000", show_default=True, help="host:port or unix:/path")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="One a core is plenty.")
def serve(file: str, bind: str, workers: int) -> None:
    """Answer nginx."""
    if not _load(file).memcached and workers > 1:
        click.echo(f"authsvc: {workers} workers without memcached each count limits for themselves", err=True)
    from authsvc.server import serve as run

    run(file, bind, workers)


@main.command()
@_config
@_as_json
def check(file: str, as_json: bool) -> None:
    """Say every mistake in the config file, and what holds where it is silent."""
    from authsvc.adapters.config import ConfigError, load

    try:
        notes, mistakes = list(load(file).notes), []
    except ConfigError as problem:
        notes, mistakes = [], problem.lines
    if as_json:
        click.echo(json.dumps({"valid": not mistakes, "mistakes": mistakes, "notes": notes}))
    else:
        for line in mistakes:
            click.echo(line, err=True)
        for note in notes:
            click.echo(f"note: {note}")
        click.echo(f"{file}: {len(mistakes)} to mend" if mistakes else f"{file}: valid", err=bool(mistakes))
    sys.exit(1 if mistakes else 0)


@main.command()
@_config
@click.option("--token", help="A bearer token; - reads it from standard input, where no history keeps it.")
@click.option("--ip", default="127.0.0.1", show_default=True, help="The client's address.")
@_as_json
@click.argument("method")
@click.argument("target")
def explain(file: str, token: str | None, ip: str, as_json: bool, method: str, target: str) -> None:
    """Say step by step how METHOD TARGET would be decided. Counts against no limit. Exit 0 allow, 1 deny."""
    from authsvc.explain import explain as tell

    if token == "-":  # noqa: S105 - a dash is no secret
        token = sys.stdin.readline().strip()
    explanation = tell(_load(file), method, target, token, ip)
    click.echo(json.dumps(explanation.as_json(), indent=2) if as_json else explanation.as_text())
    sys.exit(0 if explanation.allowed else 1)


@main.command()
@_config
@click.option("--upstream", default="127.0.0.1:8000", show_default=True, help="Where nginx reaches authsvc.")
@click.option("--forward-token", is_flag=True, help="Pass the bearer token on to the API.")
@click.option("-o", "--output", type=click.Path(file_okay=False), help="Write the files into this folder.")
def nginx(file: str, upstream: str, forward_token: bool, output: str | None) -> None:
    """Print the nginx include files for this config, or write them with -o."""
    from authsvc.core.response import BASE_HEADERS
    from authsvc.nginx import render

    headers = [*BASE_HEADERS, *_load(file).extract]
    for name, text in render(headers, upstream=upstream, forward_token=forward_token).items():
        if output is None:
            click.echo(f"# ---- {name} ----\n{text}")
        else:
            Path(output).mkdir(parents=True, exist_ok=True)
            Path(output, name).write_text(text, "utf-8")
            click.echo(f"wrote {Path(output, name)}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the config file, for editors."""
    from authsvc.adapters.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@click.option("--check", "only_check", is_flag=True, help="Run the printed calls, compare, exit 0 or 1.")
def demo(only_check: bool) -> None:
    """Run nginx, authsvc, an OIDC issuer and a small API on loopback, with ready-made calls."""
    from authsvc.demo.run import run

    sys.exit(run(only_check=only_check))


def _load(file: str) -> Settings:
    from authsvc.adapters.config import ConfigError, load

    try:
        return load(file)
    except ConfigError as problem:
        for line in problem.lines:
            click.echo(line, err=True)
        sys.exit(3)
