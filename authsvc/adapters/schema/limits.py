"""The shape of limits: tiers, whom they count, and what a rule says of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from authsvc.adapters.schema.parts import ClaimName, ConditionShape, Shape, Texts

_KINDS = ("user_id", "client_id", "tenant", "api_key", "ip")
_CLAIM = {"type": "object", "properties": {"claim": {}}, "required": ["claim"], "additionalProperties": False}
_BY = {"anyOf": [{"enum": list(_KINDS)}, _CLAIM]}
_BYS = {"anyOf": [*_BY["anyOf"], {"type": "array", "items": _BY, "minItems": 1}]}


class _Or:
    """In the JSON Schema: what may stand there instead."""

    def __init__(self, **other: Any) -> None:
        self._other = other

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [self._other, handler(core)]}


class ByShape(Shape):
    kind: Literal["user_id", "client_id", "tenant", "api_key", "ip", "claim"] = "claim"
    claim: ClaimName | None = None


def _as_bys(value: Any) -> Any:
    return [_as_by(one) for one in value] if isinstance(value, list) else [_as_by(value)]


def _as_by(value: Any) -> Any:
    if isinstance(value, str) and value in _KINDS:
        return {"kind": value}
    if isinstance(value, dict) and list(value) == ["claim"]:
        return value
    near = f"{{claim: {value}}}" if isinstance(value, str) else "{claim: name}"
    raise PydanticCustomError(
        "by_type", "write user_id, client_id, tenant, api_key, ip or {near}, or a list of them", {"near": near}
    )


def _as_condition(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    claim, _, wanted = value.partition("=")
    if not (claim and wanted):
        raise PydanticCustomError("claim_value", "write claim=value, such as plan=free")
    return {"claim": claim, "contains": wanted}


def _as_rule_limit(value: Any) -> Any:
    return {"cost": 0} if value == "exempt" else value


def _as_off(value: Any) -> Any:
    return "off" if value is False else value  # as YAML reads off without quotes


By = Annotated[list[ByShape], Field(min_length=1), BeforeValidator(_as_bys), WithJsonSchema(_BYS)]
Matching = Annotated[ConditionShape, BeforeValidator(_as_condition), _Or(type="string", pattern=".=.")]
Mode = Literal["enforce", "shadow"]


def _by_user() -> list[ByShape]:
    return [ByShape(kind="user_id")]


class LimitShape(Shape):
    limit: Texts
    """N/second, N/minute, N/hour, N/day, N/15minutes, with burst M after it, or unlimited; a list holds all of them."""


class AnonymousShape(LimitShape):
    ipv6_prefix: Annotated[int, Field(ge=32, le=128)] = 64
    """How much of an IPv6 address is one caller."""


class TierShape(LimitShape):
    matching_claim: Matching | None = None
    """claim=value, or a condition as in require; the tier without one takes everybody else."""
    mode: Mode | None = None
    """shadow counts and tells who would be refused, and refuses nobody; as the mode of all where it is left out."""


class RuleLimitShape(Shape):
    limit: Texts | None = None
    """The rule's own limit, in place of the tier's."""
    cost: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    """How many calls one call counts as; 0 is the same as exempt."""


RuleLimit = Annotated[RuleLimitShape, BeforeValidator(_as_rule_limit), _Or(const="exempt")]


class RateLimitShape(Shape):
    by: By = Field(default_factory=_by_user, json_schema_extra={"default": "user_id"})
    """What calls are counted by: user_id, client_id, tenant, api_key, ip, {claim: name}, or a list of them."""
    mode: Mode = "enforce"
    """shadow counts and tells who would be refused, and refuses nobody."""
    headers: Annotated[Literal["ietf", "x", "both", "off"], BeforeValidator(_as_off)] = "ietf"
    """What callers are told: RateLimit and RateLimit-Policy, or X-RateLimit-*, both, or nothing but Retry-After."""
    tiers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")], TierShape] = {}
    """Limits by name; the first whose matching_claim fits, else the one without it, else the strictest."""
    anonymous: AnonymousShape | None = None
    """The limit by client address for callers without identity, on public paths."""
    on_store_error: Literal["local", "allow", "deny"] = "local"
    """While memcached is out of reach: each process admits its share, or all pass, or none."""
