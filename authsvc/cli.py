"""The command line. Everything heavy is imported where it is used, so that `authsvc --help` is quick.

Exit codes: 0 yes or well, 1 no or mistakes found, 2 misuse of the command line, 3 the config cannot be used.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from authsvc import __version__, setup

if TYPE_CHECKING:
    from authsvc.adapters.config import Settings

_config: Callable[[Any], Any] = click.option(
    "-c",
    "--config",
    "file",
    default="authsvc.yaml",
    envvar="AUTHSVC_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The config file.",
)
_as_json: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")

_NOTHING_TYPED = "no token was given on standard input"


class _WithoutWords(click.Command):
    """A command that takes options only. Whoever gives it a word most likely means the config file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            ctx.fail(f"{ctx.args[0]!r} is a word too many: name the config file with -c {ctx.args[0]}")
        return rest


def _method(_: click.Context, __: click.Parameter, value: str) -> str:
    if value != value.upper():
        raise click.BadParameter(f"{value!r} is not in capitals: write {value.upper()}")
    return value


def _target(_: click.Context, __: click.Parameter, value: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise click.BadParameter(f"{value!r} is a full URL: write only the path, such as /api/x?y=1")
    return value


def _address(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no address: write one such as 203.0.113.7 or 2001:db8::7") from None
    return value


def _upstream(_: click.Context, __: click.Parameter, value: str) -> str:
    from authsvc.nginx import render

    try:
        render([], upstream=value)
    except ValueError:
        text = f"{value!r} is no address of authsvc: write host:port or unix:/path, without http://"
        raise click.BadParameter(text) from None
    return value


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="authsvc")
def main() -> None:
    """authsvc: the decision behind nginx's auth_request."""


@main.command(cls=_WithoutWords, short_help="Answer nginx.")
@_config
@click.option("--bind", default="127.0.0.1:8000", show_default=True, help="host:port or unix:/path")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="One a core is plenty.")
def serve(file: str, bind: str, workers: int) -> None:
    """Answer nginx."""
    if not _load(file).memcached and workers > 1:
        click.echo(f"authsvc: {workers} workers without memcached each count limits for themselves", err=True)
    from authsvc.server import serve as run

    run(file, bind, workers)


@main.command(cls=_WithoutWords, short_help="Say every mistake in the config file.")
@_config
@click.option("--online", is_flag=True, help="Ask each provider for its keys too.")
@_as_json
def check(file: str, online: bool, as_json: bool) -> None:
    """Say every mistake in the config file, and what holds where it is silent."""
    settings, mistakes = _checked(file)
    notes = list(settings.notes) if settings else []
    answers = _asked(settings) if online and settings else []
    if as_json:
        told = {"valid": not mistakes, "mistakes": mistakes, "notes": notes}
        asked = {"providers": [one.as_json() for one in answers]} if online else {}
        click.echo(json.dumps(told | asked))
    else:
        for line in mistakes:
            click.echo(line, err=True)
        for note in notes:
            click.echo(f"note: {note}")
        click.echo(f"{file}: {len(mistakes)} to mend" if mistakes else f"{file}: valid", err=bool(mistakes))
        for answer in answers:
            click.echo(answer.as_text(), err=not answer.ok)
    sys.exit(1 if mistakes or not all(one.ok for one in answers) else 0)


def _asked(settings: Settings) -> list[Any]:
    from authsvc.online import ask_all

    return ask_all(settings.providers)


@main.command(short_help="List the types of provider.")
@_as_json
def providers(as_json: bool) -> None:
    """List the types of provider: what each needs to know, and the first thing people get wrong there."""
    click.echo(json.dumps(setup.providers_json(), indent=2) if as_json else setup.providers_text())


def _setting_options(command: Any) -> Any:
    """An option for each setting that some type of provider takes."""
    for name, one in reversed(setup.all_settings().items()):
        names = [setup.option(name), *(["--tenant"] if name == "tenant_id" else [])]
        text = f"{setup.owners(name)}: such as {one.example}"
        command = click.option(*names, name, multiple=True, metavar="TEXT", help=text)(command)
    return command


@main.command(short_help="Write a config for a type of provider.")
@click.option("--type", "kind", required=True, type=click.Choice(setup.KINDS), help="See authsvc providers.")
@_setting_options
@click.option("--set", "also", multiple=True, metavar="NAME=VALUE", help="Any other setting of a provider.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write it here; never over another file.")
def init(kind: str, also: tuple[str, ...], output: str | None, **given: tuple[str, ...]) -> None:
    """Write a commented config for a provider of this type, and say what to do next.

    What --type needs, authsvc providers says. An option that is given twice makes a list.
    """
    try:
        text = setup.config(setup.entry(kind, given, also))
        if output is not None:
            setup.write(output, text)
    except setup.Unusable as problem:
        for line in problem.lines:
            click.echo(line, err=True)
        sys.exit(2)
    click.echo(text if output is None else f"wrote {output}\n", nl=False)
    click.echo(setup.next_steps(output or "authsvc.yaml"), err=True)


@main.command(short_help="Say step by step how a call would be decided.")
@_config
@click.option("--token", help="A bearer token; - reads it from standard input, where no history keeps it.")
@click.option("--ip", default="127.0.0.1", show_default=True, callback=_address, help="The client's address.")
@_as_json
@click.argument("method", callback=_method)
@click.argument("target", callback=_target)
def explain(file: str, token: str | None, ip: str, as_json: bool, method: str, target: str) -> None:
    """Say step by step how METHOD TARGET, such as GET /api/x?y=1, would be decided.

    Counts against no limit. Exit 0 allow, 1 deny.
    """
    token = _token(token)
    from authsvc.explain import explain as tell

    explanation = tell(_load(file), method, target, token, ip)
    click.echo(json.dumps(explanation.as_json(), indent=2) if as_json else explanation.as_text())
    sys.exit(0 if explanation.allowed else 1)


@main.command(cls=_WithoutWords, short_help="Print or write the nginx include files.")
@_config
@click.option(
    "--upstream",
    default="127.0.0.1:8000",
    show_default=True,
    callback=_upstream,
    help="Where nginx reaches authsvc: host:port or unix:/path",
)
@click.option("--forward-token", is_flag=True, help="Pass the bearer token on to the API.")
@click.option("-o", "--output", type=click.Path(file_okay=False), help="Write the files into this folder.")
def nginx(file: str, upstream: str, forward_token: bool, output: str | None) -> None:
    """Print the nginx include files for this config, or write them with -o."""
    files = _nginx_files(file, upstream, forward_token)
    if output is not None:
        _write(Path(output), files)
        return
    for name, text in files.items():
        click.echo(f"# ---- {name} ----\n{text}")


@main.group(short_help="Look at the providers' keys, or drop old ones.")
def keys() -> None:
    """Look at the keys that verify tokens, or have every process drop those that are listed no more."""


@keys.command(name="show", cls=_WithoutWords, short_help="Print the keys that are in force.")
@_config
@_as_json
def show_keys(file: str, as_json: bool) -> None:
    """Print each provider's keys as the fleet shares them. Exit 0 where every provider has some, else 1."""
    from authsvc.keytool import show

    found = show(_load(file))
    click.echo(json.dumps([one.as_json() for one in found], indent=2) if as_json else _paragraphs(found))
    sys.exit(0 if all(one.keys for one in found) else 1)


@keys.command(name="flush", short_help="Drop keys that their provider lists no more.")
@_config
@click.argument("provider", required=False)
def flush_keys(file: str, provider: str | None) -> None:
    """Ask PROVIDER, or all of them, and drop what it lists no more, within a second in every process of the fleet.

    For the day when a key was stolen: first withdraw it at the provider, then call this. Exit 0 done, 1 not.
    """
    from authsvc.keytool import flush

    settings = _load(file)
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


@main.command(short_help="Print the JSON Schema of the config file.")
def schema() -> None:
    """Print the JSON Schema of the config file, for editors."""
    from authsvc.adapters.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command(short_help="Run everything on loopback, with calls to paste.")
@click.option("--check", "only_check", is_flag=True, help="Run the printed calls, compare, exit 0 or 1.")
def demo(only_check: bool) -> None:
    """Run nginx, authsvc, an OIDC issuer and a small API on loopback, with ready-made calls."""
    from authsvc.demo.run import run

    sys.exit(run(only_check=only_check))


def _load(file: str) -> Settings:
    settings, mistakes = _checked(file)
    for line in mistakes:
        click.echo(line, err=True)
    return settings or sys.exit(3)


def _checked(file: str) -> tuple[Settings | None, list[str]]:
    """The settings, or else the mistakes in the file."""
    from authsvc.adapters.config import ConfigError, load

    try:
        return load(file), []
    except ConfigError as problem:
        return None, _told(file, problem.lines)


def _told(file: str, lines: list[str]) -> list[str]:
    """The mistakes, and how to name another file where there is none."""
    return lines if Path(file).exists() else [f"{line}: name it with -c" for line in lines]


def _token(given: str | None) -> str | None:
    """The token that was given or typed, without the words it is sent with."""
    if given is None:
        return None
    if not given.strip():
        raise click.BadParameter("no token was given: what follows --token is empty", param_hint="'--token'")
    typed = _first_line() if given == "-" else given
    token = re.sub(r"(?i)\A(authorization:\s*)?bearer\s+", "", typed.strip())
    if not token:
        raise click.BadParameter(_NOTHING_TYPED, param_hint="'--token'")
    return token


def _first_line() -> str:
    return sys.stdin.buffer.readline().decode("utf-8", "replace")


def _nginx_files(file: str, upstream: str, forward_token: bool) -> dict[str, str]:
    from authsvc.core.response import BASE_HEADERS
    from authsvc.nginx import render

    headers = [*BASE_HEADERS, *_load(file).extract]
    try:
        return render(headers, upstream=upstream, forward_token=forward_token)
    except ValueError as problem:
        click.echo(f"{file}: authentication.oidc.extract_headers: {problem}", err=True)
        sys.exit(3)


def _write(folder: Path, files: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
            click.echo(f"wrote {folder / name}")
    except OSError as problem:
        why = (problem.strerror or "no reason given").lower()
        sudo = "sudo, or " if isinstance(problem, PermissionError) else ""
        click.echo(f"cannot write {folder}: {why}: use {sudo}another folder with -o", err=True)
        sys.exit(2)
