"""The command line. Everything heavy is imported where it is used, so that `authsvc --help` is quick.

Exit codes: 0 yes or well, 1 no or mistakes found, 2 misuse of the command line, 3 the config cannot be used, or a file
that was named cannot be read.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from authsvc import __version__, build, commands, setup
from authsvc.options import WithoutWords, checked, config_option, json_option, load_or_exit

if TYPE_CHECKING:
    from authsvc.adapters.config import Settings

_WORKER = "fast; or threads, which auto takes where uvloop or gunicorn_h1c is missing."
_TO_KEEP = (
    "decision_cache is set: include authsvc-cache-http.conf too, and authsvc-cache-server.conf in place of "
    "authsvc-server.conf; without them nginx keeps nothing"
)


def _version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"authsvc {__version__}, {build()}")
        context.exit()


def _method(_: click.Context, __: click.Parameter, value: str) -> str:
    if "/" in value:
        raise click.BadParameter(f"{value!r} is a path: write the method before it, such as GET {value}")
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


def _bind(_: click.Context, __: click.Parameter, value: str) -> str:
    from authsvc.listening import is_place

    if not is_place(value):
        raise click.BadParameter(f"{value!r} is no place to listen: write host:port or unix:/path, without http://")
    return value


class _Main(click.Group):
    """Imports the groups of `LATER` when they are called. For `--help` they are a line each: 80 ms in place of 120."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Also what a shell asks that completes a line."""
        if args and args[0] in LATER:
            self.add_command(getattr(import_module(LATER[args[0]][0]), args[0]))
        return super().resolve_command(ctx, args)


LATER = {
    "apikeys": ("authsvc.apikeytool", "Make, list, revoke, rotate and import API keys."),
    "migration": ("authsvc.migrationcommands", "Watch the move from API keys to OIDC."),
}


_CODES = """Exit codes: 0 yes or well, 1 no or mistakes found, 2 misuse of the command line, 3 the config cannot be used
or a file that was named cannot be read."""


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_CODES)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def main() -> None:
    """authsvc: the decision behind nginx's auth_request."""


for _group in (commands.keys, commands.limits):
    main.add_command(_group)
for _name, (_, _what) in LATER.items():
    main.add_command(click.Group(_name, short_help=_what))


@main.command(cls=WithoutWords, short_help="Answer nginx.")
@config_option
@click.option("--bind", default="127.0.0.1:8000", show_default=True, callback=_bind, help="host:port or unix:/path")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="One a core is plenty.")
@click.option("--worker", default="auto", type=click.Choice(["auto", "fast", "threads"]), help=_WORKER)
def serve(file: str, bind: str, workers: int, worker: str) -> None:
    """Answer nginx.

    Exit 0 where it was told to stop, 1 where it cannot listen, 3 where the config cannot be used.
    """
    settings = load_or_exit(file)
    _can_listen(bind)
    if not settings.memcached and workers > 1:
        click.echo(f"authsvc: {workers} workers without memcached each count limits for themselves", err=True)
    from authsvc.server import serve as run

    run(file, settings, bind, workers, worker)


def _can_listen(bind: str) -> None:
    from authsvc.listening import hindrance

    problem = hindrance(bind, lambda text: click.echo(f"authsvc: {text}", err=True))
    if problem:
        click.echo(f"authsvc: {problem}", err=True)
        sys.exit(1)


@main.command(cls=WithoutWords, short_help="Say every mistake in the config file.")
@config_option
@click.option("--online", is_flag=True, help="Ask each provider for its keys too, and try each memcached.")
@json_option
def check(file: str, online: bool, as_json: bool) -> None:
    """Say every mistake in the config file, and what holds where it is silent.

    Exit 0 well, 1 with a mistake, or a provider or memcached that does not do, 3 where the file cannot be read.
    """
    settings, mistakes, code = checked(file)
    notes = list(settings.notes) if settings else []
    asked = _asked(settings) if online else {}
    answers = [one for each in asked.values() for one in each]
    if as_json:
        told = {"valid": not mistakes, "mistakes": mistakes, "notes": notes}
        click.echo(json.dumps(told | {what: [one.as_json() for one in each] for what, each in asked.items()}))
    else:
        for line in mistakes:
            click.echo(line, err=True)
        for note in notes:
            click.echo(f"note: {note}")
        if code != 3:
            click.echo(f"{file}: {len(mistakes)} to mend" if mistakes else f"{file}: valid", err=bool(mistakes))
        for answer in answers:
            click.echo(answer.as_text(), err=not answer.ok)
    sys.exit(code or (0 if all(one.ok for one in answers) else 1))


def _asked(settings: Settings | None) -> dict[str, list[Any]]:
    """Providers and servers; none of a config that cannot be used."""
    if settings is None:
        return {"providers": [], "memcached": []}
    from authsvc.online import ask_all
    from authsvc.onlinestore import try_all

    return {"providers": ask_all(settings.providers), "memcached": try_all(settings.memcached, settings.access)}


@main.command(short_help="List the types of provider.")
@json_option
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

    What --type needs, authsvc providers says. An option that is given twice makes a list. Exit 0 done, 2 where
    something is missing, does not fit, or cannot be written.
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
@config_option
@click.option("--token", help="A bearer token; - reads it from standard input, where no history keeps it.")
@click.option("--api-key", "key", help="An API key, or - as for --token; with both, the token is typed first.")
@click.option("--ip", default="127.0.0.1", show_default=True, callback=_address, help="The client's address.")
@json_option
@click.argument("method", callback=_method)
@click.argument("target", callback=_target)
def explain(file: str, token: str | None, key: str | None, ip: str, as_json: bool, method: str, target: str) -> None:
    """Say step by step how METHOD TARGET, such as GET /api/x?y=1, would be decided.

    Counts against no limit. Exit 0 allow, 1 deny, 3 where the config cannot be used.
    """
    token = _secret(token, "token", r"(authorization:\s*)?bearer\s+")
    key = _secret(key, "api-key", r"(authorization:\s*)?apikey\s+|[a-z0-9-]+:\s+")
    from authsvc.explain import explain as tell

    explanation = tell(load_or_exit(file), method, target, token, ip, key)
    click.echo(json.dumps(explanation.as_json(), indent=2) if as_json else explanation.as_text())
    sys.exit(0 if explanation.allowed else 1)


@main.command(cls=WithoutWords, short_help="Print or write the nginx include files.")
@config_option
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
    """Print the nginx include files for this config, or write them with -o.

    Exit 0 done, 2 where they cannot be written, 3 where the config cannot be used.
    """
    settings = load_or_exit(file)
    files = _nginx_files(file, settings, upstream, forward_token)
    if output is not None:
        _write(Path(output), files)
    else:
        for name, text in files.items():
            click.echo(f"# ---- {name} ----\n{text}")
    if settings.policy.keeps:
        click.echo(_TO_KEEP, err=True)


@main.command(short_help="Print the JSON Schema of the config file.")
def schema() -> None:
    """Print the JSON Schema of the config file, for editors."""
    from authsvc.adapters.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command(short_help="Run everything on loopback, with calls to paste.")
@click.option("--check", "only_check", is_flag=True, help="Run the printed calls, compare, exit 0 or 1.")
def demo(only_check: bool) -> None:
    """Run nginx, authsvc, an OIDC issuer and a small API on loopback, with ready-made calls.

    Exit 0 well, 1 where a call is not answered as it should be, or a program is missing.
    """
    from authsvc.demo.run import run

    sys.exit(run(only_check=only_check))


def _secret(given: str | None, option: str, sent_with: str) -> str | None:
    """The token or key that was given or typed, without the words it is sent with."""
    if given is None:
        return None
    name, hint = option.replace("api-key", "API key"), f"'--{option}'"
    if not given.strip():
        raise click.BadParameter(f"no {name} was given: what follows --{option} is empty", param_hint=hint)
    typed = _line() if given == "-" else given
    secret = re.sub(rf"(?i)\A({sent_with})", "", typed.strip())
    if not secret:
        raise click.BadParameter(f"no {name} was given on standard input", param_hint=hint)
    return secret


def _line() -> str:
    return sys.stdin.buffer.readline().decode("utf-8", "replace")


def _nginx_files(file: str, settings: Settings, upstream: str, forward_token: bool) -> dict[str, str]:
    from authsvc.core.response import BASE_HEADERS
    from authsvc.nginx import KEY_HEADER, render

    headers = [*BASE_HEADERS, *settings.extract]
    key_header = settings.api_keys.header if settings.api_keys else KEY_HEADER
    try:
        return render(headers, upstream=upstream, forward_token=forward_token, key_header=key_header)
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
