"""Says of a setting that does not fit its shape what is wrong with it and what to write. Knows the JSON Schema only."""

from __future__ import annotations

import difflib
import re
from datetime import date
from typing import Any

from authsvc.adapters.yamlfile import Mistake, Path
from authsvc.core import keeping

Schema = dict[str, Any]

_CACHE: Path = ("cache",)  # nothing that stands here is ever shown: it may be the secret, wrongly written
_MOSTLY_NEEDED = ("issuer", "audience")  # only some types of providers do without
_ELSEWHERE = {  # what people know from clients
    "client_secret": "verifying tokens needs no secret; introspection takes one in secret_file",
    "client_id": "your API's id goes into audience (app_id for Microsoft), the ids of its callers into clients",
}
_ROLES = re.compile(r"[A-Za-z][\w.-]*(, *[A-Za-z][\w.-]*)*")
_WRITE = dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "write settings below it")
_WRITE |= {"list_type": "write a list", "string_pattern_mismatch": "write a name"}


def path_of(error: dict[str, Any]) -> Path:
    """Where the error is, in the names and numbers of the file."""
    return tuple(part for part in error["loc"] if part != "[key]")


def mistake(error: dict[str, Any], schema: Schema) -> Mistake:
    """The mistake behind one error of the validation."""
    path, kind, value = path_of(error), error["type"], error["input"]
    if kind == "missing":
        return Mistake(path, "is missing: add it")
    if kind == "extra_forbidden" and path[:1] == _CACHE:
        return Mistake(_CACHE, f"holds what is no setting: known here are {', '.join(_settings_at(_CACHE, schema))}")
    if kind == "extra_forbidden":
        return Mistake(path, f"is no setting{_did_you_mean(path, schema)}")
    if value is None or value == "":
        return Mistake(path, f"is empty: {_WRITE.get(kind, 'write a value')}{_or_leave_out(path, schema)}")
    shown = "this" if path[:1] == _CACHE else _short(value)
    return Mistake(path, f"{shown} does not fit: {_hint(path, value) or _wanted(error)}")


def _or_leave_out(path: Path, schema: Schema) -> str:
    """What else may be done about an empty setting; nothing where one is needed."""
    if not path or path[-1] in ("", *_MOSTLY_NEEDED) or isinstance(path[-1], int):
        return ""
    if path[-1] in _place(path[:-1], schema).get("required", ()):
        return ""
    return f", or remove {path[-1]}"


def _hint(path: Path, value: Any) -> str:
    """What to write in place of a usual slip."""
    name = path[-1] if path else ""
    if name == "allowed_roles" and value in ("*", "any", "all"):
        return "leave allowed_roles out for any valid identity, or write [] for everyone, even unauthenticated"
    if name == "allowed_roles" and isinstance(value, str) and _ROLES.fullmatch(value):
        return f"write [{value}]"
    if name == "limit" and type(value) is int and 0 < value < 10**9:
        return f"write {value}/hour"
    return _kept_for(value) if name == "decision_cache" else ""


def _kept_for(value: Any) -> str:
    """A switch that should be a time, or a time without its unit."""
    if value is True or value in ("on", "yes", "true"):
        return "write for how long, such as 5s"
    fits = str(value) in map(str, range(keeping.SHORTEST_S, keeping.LONGEST_S + 1))
    return f"write {value}s" if fits else ""


def _wanted(error: dict[str, Any]) -> str:
    kinds = {
        "string_too_short": "{min_length} characters or more are wanted",
        "greater_than_equal": "{ge} is the least",
        "less_than_equal": "{le} is the most",
        "literal_error": "write {expected}",
        "string_type": "text is wanted, in quotes where YAML takes it for something else",
        "int_type": "a whole number is wanted",
        "float_type": "a number is wanted",
        "bool_type": "true or false is wanted",
        "list_type": "a list is wanted",
        "dict_type": "settings are wanted (name: value)",
        "model_type": "settings are wanted (name: value)",
        "model_attributes_type": "settings are wanted (name: value)",
        "string_pattern_mismatch": "letters, digits, - and _ are wanted, 32 at most",
        "too_short": "at least one entry is wanted",
    }
    if error["type"] in kinds:
        return kinds[error["type"]].format_map(error.get("ctx", {}))
    text: str = error["msg"]
    return text[0].lower() + text[1:]


def _did_you_mean(path: Path, schema: Schema) -> str:
    """The nearest name that may stand at this place."""
    known = _settings_at(path[:-1], schema)
    if path[-1] in _ELSEWHERE:
        return f": {_ELSEWHERE[path[-1]]}"
    near = _of_these_words(str(path[-1]), known) or difflib.get_close_matches(str(path[-1]), known, 1, 0.6)
    return f": did you mean {near[0]}?" if near else f": known here are {', '.join(known)}"


def _of_these_words(name: str, known: list[str]) -> list[str]:
    """The one setting that has all of the name's words, as `allowed_roles` has that of `role`; none where two have."""
    words = _words(name)
    found = [one for one in known if words <= _words(one)]
    return found if len(found) == 1 else []


def _words(name: str) -> set[str]:
    """In the singular."""
    return {word.removesuffix("s") for word in name.lower().split("_")}


def _settings_at(path: Path, schema: Schema) -> list[str]:
    return list(_place(path, schema).get("properties", {}))


def _place(path: Path, schema: Schema) -> Any:
    """What the schema says about the settings at a path."""
    place: Any = schema
    for part in path:
        place = _resolved(place, schema)
        if isinstance(part, int):
            place = place.get("items", {})
        else:
            place = place.get("properties", {}).get(part) or next(iter(place.get("patternProperties", {}).values()), {})
    return _resolved(place, schema)


def _resolved(place: Any, schema: dict[str, Any]) -> Any:
    for branch in place.get("anyOf", []):
        if "$ref" in branch or "items" in branch:
            place = branch
    if "$ref" in place:
        return schema["$defs"][place["$ref"].rpartition("/")[2]]
    return place


def _short(value: Any) -> str:
    """The offending value as it may be shown: short, and only of plain kinds."""
    if isinstance(value, dict | list):
        return "this"
    if isinstance(value, bool):
        return "true (which on and yes mean in YAML)" if value else "false (which off and no mean in YAML)"
    try:
        text = str(value) if isinstance(value, date) else repr(value)
    except ValueError:  # an integer too long to be printed
        return "this number"
    return text if len(text) <= 60 else text[:57] + "..."
