"""`authsvc providers` and `authsvc init`: which types of provider there are, and a first config for one of them.

Texts only. What is wrong with a setting the config's own check says; here it is told by the name of its option.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from authsvc.adapters.presetinfo import INFO, Info, Setting

Entry = dict[str, Any]  # a provider's settings, as they stand in the config

_AT = re.compile(r".*?: authentication\.oidc\.providers\.0\.(?P<name>\w+)(\.[\w.]+)?: (?P<text>.*)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})  # which YAML takes for something else


KINDS = tuple(INFO)


def all_settings() -> dict[str, Setting]:
    """Every setting that some type takes, by name; the example is that of the first such type."""
    found: dict[str, Setting] = {}
    for setting in (one for info in INFO.values() for one in info.settings):
        found.setdefault(setting.name, setting)
    return found


def owners(name: str) -> str:
    """The types that take it."""
    return ", ".join(kind for kind, info in INFO.items() if any(one.name == name for one in info.settings))


def option(name: str) -> str:
    """How a setting is called on the command line."""
    return f"--{name.replace('_', '-')}"


# ---- authsvc providers


def providers_json() -> list[dict[str, Any]]:
    return [
        {
            "type": kind,
            "product": info.title,
            "settings": [{"name": one.name, "example": one.example, "needed": one.needed} for one in info.settings],
            "hint": info.hint,
        }
        for kind, info in INFO.items()
    ]


def providers_text() -> str:
    rows = [("type", "product", "settings"), *((kind, info.title, _takes(info)) for kind, info in INFO.items())]
    hints = ["", *(info.hint for info in INFO.values())]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = []
    for row, hint in zip(rows, hints, strict=True):
        lines.append(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}")
        lines += [f"{'':<{widths[0]}}  {hint}"] if hint else []
    return "\n".join([*lines, "", "[brackets]: may be left out. Write a config: authsvc init --type <type>"])


def _takes(info: Info) -> str:
    return " ".join(one.name if one.needed else f"[{one.name}]" for one in info.settings)


# ---- authsvc init


class Unusable(Exception):
    """These settings make no config. `lines` say why, each by the option that is meant."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)


def entry(kind: str, given: Mapping[str, Sequence[str]], also: Sequence[str]) -> Entry:
    """A provider's settings from what was written after options, and after --set. Raises `Unusable`."""
    said: Entry = {"name": kind, "type": kind}
    said |= {name: _as_given(values) for name, values in given.items() if values}
    for pair in also:
        name, found, value = pair.partition("=")
        if not found or not re.fullmatch(r"[a-z_]+", name) or name == "type":
            raise Unusable([f"--set {pair}: write --set name=value with the name of a provider's setting"])
        said[name] = _as_value(value)
    if not all(text.isprintable() for text in _texts(said)):
        raise Unusable(["a setting holds a character that cannot be printed: write it without"])
    return said


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(one)


def _as_given(values: Sequence[str]) -> str | list[str]:
    """One text, or several: said several times, or as [a, b]."""
    listed = [one for value in values for one in _listed(value)]
    return listed if len(listed) > 1 or values[0].startswith("[") else values[0]


def _listed(value: str) -> list[str]:
    if not (value.startswith("[") and value.endswith("]")):
        return [value]
    return [one.strip().strip("\"'") for one in value[1:-1].split(",")]


def _as_value(text: str) -> Any:
    """JSON where it is some, such as true, 900 or {"url": ...}; else a text, or [a, b]."""
    try:
        value = json.loads(text)
    except ValueError:
        return _as_given([text])
    return text if value is None or isinstance(value, float) else value


def config(said: Entry) -> str:
    """A whole config with this provider, commented. Raises `Unusable`."""
    info = INFO[said["type"]]
    blanks = {
        "type": said["type"],
        "name": _yaml(said["name"]),
        "title": info.title,
        "hint": info.hint,
        "settings": "\n".join(f"        {line}" for line in _settings(said, info)),
        "rule": _RULES.get(said["type"], _RULE),
        "default": _DENY if said["type"] in _FOR_EVERYBODY else _AUTHENTICATED,
    }
    return re.sub(r"<<(\w+)>>", lambda match: blanks[match[1]], _TEMPLATE)


def _settings(said: Entry, info: Info) -> Iterator[str]:
    roles = _roles(said)  # finds what is wrong with the settings too
    for name, value in said.items():
        if name != "name":
            yield f"{name}: {_yaml(value)}"
    for setting in info.settings:
        if setting.name not in said:
            yield f"# {_about(setting.name)}"
            yield f"#{setting.name}: {setting.example}"
    if not {"roles", "roles_claim"} & said.keys():
        yield "# where roles come from; name another claim if yours are elsewhere"
        yield f"#{roles}"


def _about(name: str) -> str:
    """What the schema says of it."""
    from authsvc.adapters.schema.providers import ProviderShape

    text = (ProviderShape.model_fields[name].description or name).rstrip(".")
    return text[0].lower() + text[1:]


def _yaml(value: Any) -> str:
    """JSON is YAML; a plain word needs no quotes."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_yaml(name)}: {_yaml(held)}' for name, held in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


def _roles(said: Entry) -> str:
    """The setting that says what holds without it. Raises `Unusable` where the provider's settings are no good."""
    from authsvc.adapters.config import ConfigError, parse

    whole = {"authentication": {"oidc": {"providers": [said]}}}
    try:
        provider = parse(json.dumps(whole, ensure_ascii=False), "", os.environ).providers[0]
    except ConfigError as problem:
        raise Unusable([_by_option(line, said) for line in problem.lines]) from None
    found: list[dict[str, Any]] = [
        {"claim": list(one.path), **({"prefix": one.prefix} if one.prefix else {})} for one in provider.roles
    ]
    if len(found) == 1 and "prefix" not in found[0]:
        path = found[0]["claim"]
        return f"roles_claim: {_yaml(path if len(path) > 1 else path[0])}"
    return f"roles: {_yaml(found)}"


def _by_option(line: str, said: Entry) -> str:
    """A mistake in the config, said of the option that made it."""
    found = _AT.fullmatch(line)
    if found is None:
        return line
    name, text = found["name"], found["text"]
    setting = {one.name: one for one in INFO[said["type"]].settings}.get(name)
    called = option(name) if name in all_settings() else f"--set {name}=..."
    if setting is not None and text.startswith("is missing"):
        return f"type {said['type']} needs {called}, such as {called} {setting.example}"
    return f"{called}: {text.replace('allow_insecure_http: true', '--set allow_insecure_http=true')}"


_RULE = "- {path: /api/admin/*, allowed_roles: [admin]}"
# Of types whose tokens have no roles: what their rules ask for instead.
_FOR_EVERYBODY = ("google", "github-actions", "gitlab-ci")  # anybody gets their tokens, so nothing is open by itself
_DENY = "default: deny" + " " * 41 + "# a path that no rule governs is shut: anybody gets tokens"
_AUTHENTICATED = f"""default: authenticated{" " * 32}# a path that no rule governs: any valid identity
    #default: deny{" " * 40}# or nobody, the safer choice once every path has its rule"""
_RULES = {
    "google": """- path: /api/admin/*
        require: [{claim: email, in: [ann@example.com]}, {claim: email_verified, equals: true}]""",
    "github-actions": """- path: /api/admin/*
        require: [{claim: repository, equals: acme/orders}, {claim: ref, equals: refs/heads/main}]""",
    "gitlab-ci": """- path: /api/admin/*
        require: [{claim: project_path, equals: acme/orders}, {claim: ref_protected, equals: true}]""",
    "kubernetes": '- {path: /api/admin/*, require: [{claim: sub, equals: "system:serviceaccount:orders:worker"}]}',
}
_TEMPLATE = """\
# Written by authsvc init --type <<type>>. authsvc check says what is wrong; authsvc.example.yaml has all settings

authentication:
  oidc:
    providers:
      # <<title>>
      # mind: <<hint>>
      - name: <<name>>
<<settings>>
    #extract_headers: [{claim: plan, header: X-Plan}]     # further claims for your API

authorization:
  rbac:
    <<default>>
    rules:                                                # the first that fits path and method wins
      - {path: /api/public/*, allowed_roles: []}          # everyone, even unauthenticated
      <<rule>>
      #- {path: /api/orders/*, method: POST, scopes: [orders.write]}
      #- {path: /api/payments/*, mfa: true, max_age: 900} # a second factor, and signed in within 15 minutes

rate_limit:
  tiers:                                                  # counted by user; the first that fits wins
    #enterprise: {limit: unlimited, matching_claim: plan=enterprise}
    everyone: {limit: 1000/hour}

cache:
  memcached: 127.0.0.1:11211                              # counts for all processes; without it run one worker
  #secret_file: /etc/authsvc/secret                       # shares the keys too: openssl rand -hex 32
"""


def write(file: str, text: str) -> None:
    """Into a new file. Raises `Unusable`."""
    try:
        with Path(file).open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise Unusable([f"{file} is there already: name another file with -o, or move it away"]) from None
    except OSError as problem:
        why = (problem.strerror or "no reason given").lower()
        raise Unusable([f"cannot write {file}: {why}: name another file with -o"]) from None


def next_steps(file: str) -> str:
    """What to do with the config that was written."""
    return _NEXT.replace("<<file>>", file)


_NEXT = """\
next, where <<file>> is this config:
  authsvc check --online -c <<file>>
  sudo authsvc nginx -c <<file>> -o /etc/nginx/authsvc/
  authsvc serve -c <<file>>
and in nginx, then nginx -t && nginx -s reload:
  http { include authsvc/authsvc-http.conf;              # once
    server { include authsvc/authsvc-server.conf;        # once in each server
      location /api/ {
        include authsvc/authsvc-location.conf;           # in each protected location
        proxy_set_header Host $host;
        proxy_pass http://your_api;
  } } }"""
