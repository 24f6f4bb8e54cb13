"""The shape of API keys, and of the way from them to OIDC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from authsvc.adapters.schema.parts import ConditionShape, Shape, Text, Texts

_SPAN = re.compile(r"(\d{1,5})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _as_instant(value: Any) -> Any:
    """A day is its first second in UTC."""
    wrong = PydanticCustomError("instant", "write 2027-06-30, or 2027-06-30T12:00:00Z")
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise wrong from None
    if not isinstance(value, date) or value.year <= 1970:  # a datetime is a date too; headers count from 1970 on
        raise wrong
    when = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def span_of(value: Any) -> int | None:
    """The seconds of `14d` or `5s`; `None` where it is no such text."""
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def _as_span(value: Any) -> Any:
    found = span_of(value)
    if found is None:
        raise PydanticCustomError("span", "write 14d, 12h, 30m or 0s")
    return found


Instant = Annotated[float, BeforeValidator(_as_instant), WithJsonSchema({"type": "string"})]
Span = Annotated[int, BeforeValidator(_as_span), WithJsonSchema({"type": "string", "pattern": _SPAN.pattern})]


class BrownOutShape(Shape):
    start: Instant
    """When it begins, such as 2027-05-04T10:00:00Z."""
    minutes: Annotated[int, Field(ge=1, le=1440)]
    """How long it lasts."""


class DeprecationShape(Shape):
    announce: Instant
    """From this day on answers to callers with keys say that keys end."""
    sunset: Instant | None = None
    """The day on whose first second (UTC) keys end."""
    grace: Span = Field(default="0s", validate_default=True)
    """How long keys are still accepted after that, with a warning: 14d, 12h."""
    link: Text | None = None
    """Where callers can read what to do."""
    brown_outs: list[BrownOutShape] = []
    """Times before the end at which keys are refused, so that whoever still uses them notices."""


class ApiKeysShape(Shape):
    enabled: bool = True
    """Whether API keys are accepted."""
    header: Text = "X-API-Key"
    """The header in which clients send them; Authorization: ApiKey … always works too."""
    keys_file: Text | None = None
    """The file with the digests of the keys, made by authsvc apikeys."""
    deprecation: DeprecationShape | None = None
    """When keys end."""


class BetaShape(ConditionShape):
    claim: Texts | None = None  # type: ignore[assignment] # a claim is one way to name them
    """Users with this claim: equals, in or contains say which value."""
    users: Texts | None = None
    """Users by their ids."""


class MigrationShape(Shape):
    oidc_rollout: Annotated[float, Field(ge=0, le=100)] = 100
    """To how many users OIDC is open, in percent: always the same ones, and raising it takes nobody out."""
    beta: list[BetaShape] = []
    """Users to whom OIDC is open in any case: {users: [...]}, or a condition on a claim."""
    both: Literal["prefer_oidc", "require_same_owner", "refuse"] = "prefer_oidc"
    """What holds where a call has a key and a token."""
