"""Reading claims: paths, texts and scopes; conditions on them, and demands that a token must meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authsvc.core.model import Claims, Reason, Refused

ClaimPath = tuple[str, ...]
SCOPE_CLAIMS = ("scope", "scp")
_OBJECTS = (dict, Mapping)  # a tuple: `dict | Mapping` would be made anew at each question
_NUMBERS = (int, float)


def claim_at(claims: Claims, path: ClaimPath) -> Any:
    """The value at a path of member names, or `None`. A name is never split at its dots."""
    if len(path) == 1:  # as mostly
        return claims.get(path[0])
    value: Any = claims
    for name in path:
        value = value.get(name) if isinstance(value, _OBJECTS) else None
    return value


def as_text(value: Any) -> str | None:
    """A text, a number or a boolean as text; nothing else has one. True and 1 are not the same: `true` and `1`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, _NUMBERS) else None


def texts(value: Any) -> tuple[str, ...]:
    """What a claim holds as texts: those of a list, the names of an object's members, or the one text it is."""
    if value is None:
        return ()
    if isinstance(value, str):  # and quicker than to ask whether it is an object
        return (value,) if value else ()
    if isinstance(value, list):
        return tuple(filter(None, map(as_text, value)))
    if isinstance(value, _OBJECTS):
        # Zitadel's roles and Keycloak's organizations are objects; {"admin": false} is not an admin
        return tuple(name for name, held in value.items() if name and not _denied(held))
    text = as_text(value)
    return (text,) if text else ()


def _denied(held: Any) -> bool:
    """Whether a member's value says that its name does not count. An empty object says nothing of the kind."""
    return held is None or (isinstance(held, bool | int | float | str) and not held)


def scopes(claims: Claims) -> tuple[str, ...]:
    """The scopes of `scope` and `scp`, each a string split at spaces (RFC 6749 section 3.3) or a list, once each."""
    found = []
    for name in SCOPE_CLAIMS:
        value = claims.get(name)
        for text in () if isinstance(value, dict) else texts(value):
            found += text.split(" ")
    return tuple(dict.fromkeys(filter(None, found))) if found else ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One question about a claim. `op` is a key of the table below; `values` are what it compares with, as texts."""

    path: ClaimPath
    op: str = "present"
    values: tuple[str, ...] = ()

    def holds(self, claims: Claims) -> bool:
        return _OPS[self.op](claim_at(claims, self.path), self.values, claims)

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} {_WORDS[self.op]} {' or '.join(self.values)}".rstrip()


def _is_none_of(value: Any, values: tuple[str, ...]) -> bool:
    """A list or an object is never plainly another value: it may hold one of these."""
    text = as_text(value)
    return value is None or (text is not None and text not in values)


_Op = Callable[[Any, tuple[str, ...], Claims], bool]
_OPS: Final[Mapping[str, _Op]] = {
    "present": lambda value, values, claims: value is not None,
    "absent": lambda value, values, claims: value is None,
    "in": lambda value, values, claims: as_text(value) in values,
    "not_in": lambda value, values, claims: _is_none_of(value, values),
    "contains": lambda value, values, claims: not set(values).isdisjoint(texts(value)),
    # otp beside pwd is a second factor, alone it is the only one
    "with_another": lambda value, values, claims: (
        not set(values).isdisjoint(texts(value)) and len(set(texts(value))) > 1
    ),
    "starts": lambda value, values, claims: isinstance(value, str) and value.startswith(values),
    "ends": lambda value, values, claims: isinstance(value, str) and value.endswith(values),
    "differs": lambda value, values, claims: value is not None and value != claims.get(values[0]),
    "same": lambda value, values, claims: value is None or value == claims.get(values[0]),
}
_WORDS = {
    "present": "is there", "absent": "is not there", "in": "is", "not_in": "is not", "contains": "has",
    "with_another": "has, beside another,",
    "starts": "begins with", "ends": "ends with",
    "differs": "is there and not the same as", "same": "is the same as",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Demand:
    """What a token must be like: one of the conditions holds. Else it is refused, with text and next step."""

    any_of: tuple[Condition, ...]
    reason: Reason
    text: str
    next_step: str = ""

    def check(self, claims: Claims) -> None:
        """Raises `Refused`."""
        if not any(condition.holds(claims) for condition in self.any_of):
            raise Refused(self.reason, self.text, next_step=self.next_step)
