"""The shape of what nginx may keep."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from authsvc.adapters.schema.migration import span_of
from authsvc.core.keeping import LONGEST_S, SHORTEST_S


def _as_kept(value: Any) -> Any:
    off = value is False or value == "off"  # as YAML reads it without quotes, and with them
    seconds = 0 if off else span_of(value)
    if seconds is None or not (off or SHORTEST_S <= seconds <= LONGEST_S):
        raise PydanticCustomError(
            "decision_cache", "write {least}s to {most}s, or off", {"least": SHORTEST_S, "most": LONGEST_S}
        )
    return seconds


def _as_written(seconds: int) -> str | bool:
    return f"{seconds}s" if seconds else False


KeptFor = Annotated[
    int,
    BeforeValidator(_as_kept),
    PlainSerializer(_as_written),
    WithJsonSchema({"type": ["string", "boolean"]}),
]
