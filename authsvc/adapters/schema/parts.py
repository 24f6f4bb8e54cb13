"""What settings are made of: texts, lists of them, claims, seconds, and conditions on claims."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

_TEXT = {"type": "string", "minLength": 1}
_SCALAR = {"type": ["string", "boolean", "integer"]}
_VALUES = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR, "minItems": 1}]}
_ONE_OR_MORE = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}


def as_list(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise PydanticCustomError("texts_type", "text is wanted, or a list of it")
    return [value] if isinstance(value, str) else value


def _as_values(value: Any) -> Any:
    return [value] if isinstance(value, str | bool | int) else value


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1), BeforeValidator(as_list), WithJsonSchema(_ONE_OR_MORE)]
ClaimName = Annotated[list[Text], Field(min_length=1), BeforeValidator(as_list), WithJsonSchema(_ONE_OR_MORE)]
Value = str | bool | int
Values = Annotated[list[Value], Field(min_length=1), BeforeValidator(_as_values), WithJsonSchema(_VALUES)]
Seconds = Annotated[int, Field(ge=1, le=30 * 86400)]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class ConditionShape(Shape):
    claim: ClaimName
    """The claim: one name, or a list of names that leads down to it."""
    equals: Value | None = None
    """The value that it must have; numbers and booleans count as text."""
    in_: Annotated[Values | None, Field(alias="in")] = None
    """The values of which it must have one."""
    contains: Values | None = None
    """What a list (or the names of an object) must hold; one of these is enough."""
