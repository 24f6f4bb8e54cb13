"""The shape of the config file: names, types and bounds, from which `authsvc schema` is made too.

The only importer of pydantic. What a value means, and what fits together, is config.py's matter.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from authsvc.adapters import stopgap
from authsvc.adapters.yamlfile import Mistake, Path

_CACHE: Path = ("cache",)  # nothing that stands here is ever shown: it may be the secret, wrongly written
_TEXT = {"type": "string", "minLength": 1}
_ROLES = re.compile(r"[A-Za-z][\w.-]*(, *[A-Za-z][\w.-]*)*")
_WRITE = dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "write settings below it")
_WRITE |= {"list_type": "write a list", "string_pattern_mismatch": "write a name"}
_ONE_OR_MORE = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}


def _as_list(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise PydanticCustomError("texts_type", "text is wanted, or a list of it")
    return [value] if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1), BeforeValidator(_as_list), WithJsonSchema(_ONE_OR_MORE)]
ClaimName = Annotated[list[Text], Field(min_length=1), BeforeValidator(_as_list), WithJsonSchema(_ONE_OR_MORE)]
Seconds = Annotated[int, Field(ge=1, le=30 * 86400)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class ProviderShape(_Shape):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
    """What you call this provider; sent to the API as X-User-Issuer."""
    issuer: Text
    """The token's iss, byte for byte."""
    audience: Texts
    """Your API's identifier: one of these must be in the token's aud."""
    jwks_uri: Text | None = None
    """Where the keys are; discovery finds it where it is left out."""
    tenant_id: Text | None = None
    """Fills the placeholder {tenant-id} in issuer and jwks_uri."""
    algorithms: Texts | None = None
    """Signature algorithms to accept; all asymmetric ones where it is left out."""
    ca_file: Text | None = None
    """A PEM file with the private CA that signed the provider's certificate."""
    allow_insecure_http: bool = False
    """Allow http:// on a loopback address, for tests and demos."""
    user_claim: ClaimName | None = None
    """The claim with the user's id for this provider; that of oidc where it is left out."""
    email_claim: ClaimName | None = None
    """The claim with the email address for this provider; that of oidc where it is left out."""
    roles_claim: ClaimName | None = None
    """The claim with the roles for this provider; that of rbac or oidc where it is left out."""


class ExtractShape(_Shape):
    claim: ClaimName
    """The claim: one name, or a list of names that leads down to it."""
    header: Text
    """The header that carries it to the API, empty where the claim is absent."""


class OidcShape(_Shape):
    enabled: bool = True
    """Whether tokens of the providers are accepted."""
    providers: list[ProviderShape] = []
    """The issuers whose tokens are accepted."""
    jwks_cache_ttl: Seconds = 3600
    """Seconds that a key stays valid after the provider last listed it."""
    jwks_refresh_interval: Seconds = 300
    """Seconds between two background downloads."""
    jwks_refresh_cooldown: Annotated[int, Field(ge=1, le=3600)] = 30
    """Seconds between two downloads forced by tokens with an unknown key."""
    jwks_max_stale: Seconds = 86400
    """Seconds that keys are used after the provider last answered."""
    clock_skew_tolerance: Annotated[int, Field(ge=0, le=300)] = 60
    """Seconds that the provider's clock may differ from ours."""
    user_claim: ClaimName = ["sub"]
    """The claim with the user's id; sent to the API as X-User-Id."""
    email_claim: ClaimName = ["email"]
    """The claim with the email address; sent to the API as X-User-Email."""
    roles_claim: ClaimName = ["roles"]
    """The claim with the roles, such as roles or [realm_access, roles]; sent to the API as X-User-Roles."""
    qualify_user_id: bool = False
    """Send X-User-Id as provider:user, for APIs that do not read X-User-Issuer."""
    extract_headers: list[ExtractShape] = []
    """Further claims that the API gets as headers."""


class AuthenticationShape(_Shape):
    oidc: OidcShape = OidcShape()
    """Tokens of OpenID Connect providers."""


class RuleShape(_Shape):
    path: Text
    """The path, decoded: * within it is one segment, a final /* the prefix and everything below it."""
    method: Texts | None = None
    """One method or a list; all where it is left out. GET covers HEAD."""
    allowed_roles: list[Text] | None = None
    """One of these is needed; [] is everyone, even unauthenticated; left out is any valid identity."""


class RbacShape(_Shape):
    enabled: bool = True
    """Whether the rules hold; without them any valid identity will do."""
    default: Literal["authenticated", "deny"] = "authenticated"
    """What holds for a path that no rule governs."""
    roles_claim: ClaimName | None = None
    """The same as authentication.oidc.roles_claim: say it in one of the two places."""
    rules: list[RuleShape] = []
    """Who may call what; the first rule that fits wins."""


class AuthorizationShape(_Shape):
    rbac: RbacShape = RbacShape()
    """Rules by path, method and role."""


class TierShape(_Shape):
    limit: Text
    """N/second, N/minute, N/hour, N/day or unlimited."""
    matching_claim: Text | None = None
    """claim=value; the tier without one takes everybody else."""


class AnonymousShape(_Shape):
    limit: Text
    """N/second, N/minute, N/hour, N/day or unlimited."""


class RateLimitShape(_Shape):
    by: Literal["user_id"] = "user_id"
    """What calls are counted by."""
    claim: ClaimName = ["sub"]
    """The claim that tells one user from another when counting."""
    tiers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")], TierShape] = {}
    """Limits by name; the first whose matching_claim fits, else the one without it, else the strictest."""
    anonymous: AnonymousShape | None = None
    """The limit by client address for callers without identity, on public paths."""
    on_store_error: Literal["local", "allow", "deny"] = "local"
    """While memcached is out of reach: count in each process, allow all, or deny all."""


class CacheShape(_Shape):
    memcached: Texts | None = None
    """host:port, or the path of a unix socket; one or a list."""
    secret: Annotated[str, Field(min_length=32)] | None = None
    """Signs the keys shared through memcached; at least 32 characters."""
    secret_file: Text | None = None
    """A file with the secret, in place of secret."""


class AuditShape(_Shape):
    sample_allows: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of allowed calls that get an audit line; refusals always do."""


class ConfigShape(_Shape):
    """The authsvc configuration file."""

    authentication: AuthenticationShape = AuthenticationShape()
    """Whose tokens are accepted."""
    authorization: AuthorizationShape = AuthorizationShape()
    """Who may call what."""
    rate_limit: RateLimitShape = RateLimitShape()
    """How often a user may call."""
    cache: CacheShape = CacheShape()
    """What the workers share: counters, and the providers' keys."""
    audit: AuditShape = AuditShape()
    """What is written about each decision."""


def shape(data: Any) -> tuple[ConfigShape | None, list[Mistake]]:
    """The data in its shape, and all that does not fit it.

    With mistakes the shape is only good for looking for more of them; it is `None` where not even that can be had.
    """
    data = {} if data is None else data
    errors = _errors(data)
    if errors:
        data = stopgap.fit(data, lambda tried: [(_path(error), error["type"]) for error in _errors(tried)])
    shaped = None if data is None else ConfigShape.model_validate(data)
    return shaped, [_mistake(error) for error in errors]


def _errors(data: Any) -> list[dict[str, Any]]:
    try:
        ConfigShape.model_validate(data)
    except ValidationError as problems:
        return [dict(error) for error in problems.errors(include_url=False)]
    return []


def _path(error: dict[str, Any]) -> Path:
    return tuple(part for part in error["loc"] if part != "[key]")


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ConfigShape.model_json_schema()}


@cache
def _schema() -> dict[str, Any]:
    return ConfigShape.model_json_schema()


def _mistake(error: dict[str, Any]) -> Mistake:
    path, kind, value = _path(error), error["type"], error["input"]
    if kind == "missing":
        return Mistake(path, "is missing: add it")
    if kind == "extra_forbidden" and path[:1] == _CACHE:
        return Mistake(_CACHE, f"holds what is no setting: known here are {', '.join(_settings_at(_CACHE))}")
    if kind == "extra_forbidden":
        return Mistake(path, f"is no setting{_did_you_mean(path)}")
    if value is None or value == "":
        return Mistake(path, f"is empty: {_WRITE.get(kind, 'write a value')}{_or_leave_out(path)}")
    shown = "this" if path[:1] == _CACHE else _short(value)
    return Mistake(path, f"{shown} does not fit: {_hint(path, value) or _wanted(error)}")


def _or_leave_out(path: Path) -> str:
    """What else may be done about an empty setting; nothing where one is needed."""
    if not path or path[-1] == "" or isinstance(path[-1], int) or path[-1] in _place(path[:-1]).get("required", ()):
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
    return ""


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


def _did_you_mean(path: Path) -> str:
    """The nearest name that may stand at this place."""
    known = _settings_at(path[:-1])
    near = difflib.get_close_matches(str(path[-1]), known, 1, 0.6)
    return f": did you mean {near[0]}?" if near else f": known here are {', '.join(known)}"


def _settings_at(path: Path) -> list[str]:
    return list(_place(path).get("properties", {}))


def _place(path: Path) -> Any:
    """What the schema says about the settings at a path."""
    schema = _schema()
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
        if "$ref" in branch:
            place = branch
    if "$ref" in place:
        return schema["$defs"][place["$ref"].rpartition("/")[2]]
    return place


def _short(value: Any) -> str:
    """The offending value as it may be shown: short, and only of plain kinds."""
    if isinstance(value, dict | list):
        return "this"
    try:
        text = repr(value)
    except ValueError:  # an integer too long to be printed
        return "this number"
    return text if len(text) <= 60 else text[:57] + "..."
