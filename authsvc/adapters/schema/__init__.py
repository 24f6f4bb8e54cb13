"""The shape of the config file: names, types and bounds, from which `authsvc schema` is made too.

This package is the only importer of pydantic. What a value means, and what fits together, is config.py's matter.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from authsvc.adapters import stopgap
from authsvc.adapters.misfits import mistake, path_of
from authsvc.adapters.schema.keeping import KeptFor
from authsvc.adapters.schema.limits import RateLimitShape, RuleLimit
from authsvc.adapters.schema.migration import ApiKeysShape, MigrationShape
from authsvc.adapters.schema.parts import ClaimName, ConditionShape, Seconds, Shape, Text, Texts
from authsvc.adapters.schema.providers import ProviderShape
from authsvc.adapters.yamlfile import Mistake


class ExtractShape(Shape):
    claim: ClaimName
    """The claim: one name, or a list of names that leads down to it."""
    header: Text
    """The header that carries it to the API, empty where the claim is absent."""


class OidcShape(Shape):
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


class AuthenticationShape(Shape):
    oidc: OidcShape = OidcShape()
    """Tokens of OpenID Connect providers."""
    api_keys: ApiKeysShape | None = None
    """API keys, beside tokens or alone."""
    migration: MigrationShape = MigrationShape()
    """The way from API keys to OIDC."""


def _as_all(value: Any) -> Any:
    if not isinstance(value, str | list | dict):
        raise PydanticCustomError("scopes_type", "a list of scopes is wanted, or any: or all: with one")
    return {"all": value} if isinstance(value, str | list) and value else {} if value == [] else value


class ScopesShape(Shape):
    all: Texts | None = None
    """Every one of these is needed."""
    any: Texts | None = None
    """One of these is needed."""


class RuleShape(Shape):
    path: Text
    """The path, decoded: * within it is one segment, a final /* the prefix and everything below it."""
    method: Texts | None = None
    """One method or a list; all where it is left out. GET covers HEAD."""
    allowed_roles: list[Text] | None = None
    """One of these is needed; [] is everyone, even unauthenticated; left out is any valid identity."""
    scopes: Annotated[ScopesShape, BeforeValidator(_as_all)] | None = None
    """The OAuth scopes that are needed: a list is all of them, or write all: or any:."""
    mfa: bool = False
    """Whether the token must show a second factor; else the caller is asked to sign in again (RFC 9470)."""
    max_age: Seconds | None = None
    """Seconds since the user signed in (auth_time) at most."""
    acr: Texts | None = None
    """One of these must be in the token's acr or acrs (Entra's authentication contexts)."""
    providers: Texts | None = None
    """The providers whose tokens are accepted here, by name."""
    clients: Texts | None = None
    """The clients whose tokens are accepted here."""
    tenants: Texts | None = None
    """The tenants or organizations that are accepted here."""
    require: list[ConditionShape] = []
    """Conditions on claims, all of which must hold."""
    rate_limit: RuleLimit | None = None
    """exempt, or {limit: N/minute} in place of the tier's, or {cost: N} for a call that counts as N."""
    decision_cache: KeptFor | None = None
    """For how long nginx may keep a yes here, such as 5s, or off; as authorization.decision_cache where left out."""


class RbacShape(Shape):
    enabled: bool = True
    """Whether the rules hold; without them any valid identity will do."""
    default: Literal["authenticated", "deny"] = "authenticated"
    """What holds for a path that no rule governs."""
    roles_claim: ClaimName | None = None
    """The same as authentication.oidc.roles_claim: say it in one of the two places."""
    rules: list[RuleShape] = []
    """Who may call what; the first rule that fits wins."""


class AuthorizationShape(Shape):
    rbac: RbacShape = RbacShape()
    """Rules by path, method and role."""
    decision_cache: KeptFor = Field(default=False, validate_default=True)
    """For how long nginx may keep a yes, such as 5s; what is counted, or open to everyone, is never kept."""


class TlsShape(Shape):
    ca_file: Text | None = None
    """A PEM file with the CA of memcached's certificate; the system's CAs where it is left out."""
    cert_file: Text | None = None
    """A PEM file with our own certificate, where memcached asks for one."""
    key_file: Text | None = None
    """Its key, where it is not in cert_file."""


class CacheShape(Shape):
    memcached: Texts | None = None
    """host:port, or the path of a unix socket; one or a list."""
    secret: Annotated[str, Field(min_length=32)] | None = None
    """Signs the keys shared through memcached; at least 32 characters."""
    secret_file: Text | None = None
    """A file with the secret, in place of secret."""
    tls: TlsShape | None = None
    """Speak TLS with memcached."""
    username: Text | None = None
    """Log in to memcached (-Y, ASCII authentication) by this name."""
    password_file: Text | None = None
    """A file with the password for it."""


class AuditShape(Shape):
    sample_allows: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of allowed calls that get an audit line; refusals always do."""


class ConfigShape(Shape):
    """The authsvc configuration file."""

    authentication: AuthenticationShape = AuthenticationShape()
    """Whose tokens are accepted."""
    authorization: AuthorizationShape = AuthorizationShape()
    """Who may call what."""
    rate_limit: RateLimitShape = Field(default_factory=RateLimitShape)
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
        data = stopgap.fit(data, lambda tried: [(path_of(error), error["type"]) for error in _errors(tried)])
    shaped = None if data is None else ConfigShape.model_validate(data)
    return shaped, [mistake(error, _schema()) for error in errors]


def _errors(data: Any) -> list[dict[str, Any]]:
    try:
        ConfigShape.model_validate(data)
    except ValidationError as problems:
        return [dict(error) for error in problems.errors(include_url=False)]
    return []


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ConfigShape.model_json_schema()}


@cache
def _schema() -> dict[str, Any]:
    return ConfigShape.model_json_schema()
