"""The shape of the config file: names, types and bounds, from which `authsvc schema` is made too.

The only importer of pydantic. What a value means, and what fits together, is config.py's matter.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from authsvc.adapters import stopgap
from authsvc.adapters.misfits import mistake, path_of
from authsvc.adapters.yamlfile import Mistake

_TEXT = {"type": "string", "minLength": 1}
_SCALAR = {"type": ["string", "boolean", "integer"]}
_VALUES = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR, "minItems": 1}]}
_ONE_OR_MORE = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}


def _as_list(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise PydanticCustomError("texts_type", "text is wanted, or a list of it")
    return [value] if isinstance(value, str) else value


def _as_values(value: Any) -> Any:
    return [value] if isinstance(value, str | bool | int) else value


def _as_all(value: Any) -> Any:
    if not isinstance(value, str | list | dict):
        raise PydanticCustomError("scopes_type", "a list of scopes is wanted, or any: or all: with one")
    return {"all": value} if isinstance(value, str | list) and value else {} if value == [] else value


ProviderType = Literal[
    "oidc", "auth0", "okta", "entra", "azure-b2c", "entra-external", "keycloak", "google", "cognito",
    "github-actions", "gitlab-ci", "kubernetes",
]  # fmt: skip
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1), BeforeValidator(_as_list), WithJsonSchema(_ONE_OR_MORE)]
ClaimName = Annotated[list[Text], Field(min_length=1), BeforeValidator(_as_list), WithJsonSchema(_ONE_OR_MORE)]
Value = str | bool | int
Values = Annotated[list[Value], Field(min_length=1), BeforeValidator(_as_values), WithJsonSchema(_VALUES)]
Seconds = Annotated[int, Field(ge=1, le=30 * 86400)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class ConditionShape(_Shape):
    claim: ClaimName
    """The claim: one name, or a list of names that leads down to it."""
    equals: Value | None = None
    """The value that it must have; numbers and booleans count as text."""
    in_: Annotated[Values | None, Field(alias="in")] = None
    """The values of which it must have one."""
    contains: Values | None = None
    """What a list (or the names of an object) must hold; one of these is enough."""


class RoleShape(_Shape):
    claim: ClaimName
    """Where roles are: a list, one text, or an object whose names are the roles."""
    prefix: str = ""
    """Goes before each of these roles."""


class IntrospectionShape(_Shape):
    url: Text
    """The provider's introspection endpoint (RFC 7662)."""
    client_id: Text
    """The client by which authsvc asks."""
    secret_file: Text
    """A file with that client's secret."""
    cache: Annotated[int, Field(ge=0, le=300)] = 30
    """Seconds that a positive answer is remembered, and never beyond the token's exp."""


class ProviderShape(_Shape):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
    """What you call this provider; sent to the API as X-User-Issuer."""
    type: ProviderType = "oidc"
    """Whose product it is; `authsvc providers` lists them and what each needs."""
    audience: Texts | None = None
    """Your API's identifier: one of these must be in the token's aud."""

    # what the types need; each takes some of these
    issuer: Text | None = None
    """The token's iss, byte for byte; the types other than oidc find it by themselves."""
    other_issuers: Texts | None = None
    """Further values of iss, such as a custom domain's."""
    domain: Texts | None = None
    """auth0, azure-b2c: the tenant's domain, such as acme.eu.auth0.com; a list where tokens come from several."""
    org_url: Text | None = None
    """okta: the organization's address, such as https://acme.okta.com."""
    authorization_server: Text | None = None
    """okta: the id of the authorization server; default where it is left out."""
    tenant_id: Text | None = None
    """Entra and B2C: the directory's id. oidc: fills the placeholder {tenant-id} in issuer and jwks_uri."""
    app_id: Text | None = None
    """entra, entra-external, azure-b2c: your API's application (client) id."""
    subdomain: Text | None = None
    """entra-external: what stands before .ciamlogin.com; azure-b2c: before .b2clogin.com."""
    policies: Texts | None = None
    """azure-b2c: the policies (user flows) whose tokens are accepted."""
    base_url: Text | None = None
    """keycloak: https://host, or https://host/auth; gitlab-ci, github-actions: your own server."""
    realm: Text | None = None
    """keycloak: the realm."""
    client_roles: Texts | None = None
    """keycloak: clients whose roles count too, as client:role."""
    region: Text | None = None
    """cognito: such as eu-central-1."""
    user_pool_id: Text | None = None
    """cognito: such as eu-central-1_Ab12Cd34E."""
    hosted_domain: Texts | None = None
    """google: the Workspace domains whose users are accepted."""

    # where the keys are
    jwks_uri: Text | None = None
    """Where the keys are; discovery finds it where it is left out."""
    discovery_url: Text | None = None
    """The discovery document, where it is not below the issuer."""
    jwks_token_file: Text | None = None
    """A file with a bearer token for these downloads, as Kubernetes wants one."""
    ca_file: Text | None = None
    """A PEM file with the private CA that signed the provider's certificate."""
    allow_insecure_http: bool = False
    """Allow http:// on a loopback address, for tests and demos."""

    # which tokens are accepted
    algorithms: Texts | None = None
    """Signature algorithms to accept; those of the type, or all asymmetric ones, where it is left out."""
    clients: Texts | None = None
    """The clients (azp, appid, cid, client_id) whose tokens are accepted; all where it is left out."""
    tenants: Texts | None = None
    """The tenants or organizations that are accepted; for entra: any, or a list, in place of tenant_id."""
    tenant_claim: ClaimName | None = None
    """The claim with the tenant or organization; the type knows it."""
    subject_types: Annotated[list[Literal["user", "app"]], Field(min_length=1)] | None = None
    """user, app or both, by the provider's own evidence."""
    guests: Literal["allow", "deny"] = "allow"
    """entra: whether guests of the tenant (B2B) are accepted."""
    identity_sources: Texts | None = None
    """How users may have signed in: auth0's connection, the idp or identity_provider of the others."""
    require: list[ConditionShape] = []
    """Conditions that every token of this provider must meet."""
    require_typ: Literal["at+jwt"] | None = None
    """at+jwt accepts only tokens by RFC 9068, which say so in their header."""
    accept_id_tokens: bool = False
    """For providers that give nothing else, such as Dex: their ID tokens count as access tokens."""
    mfa: bool = False
    """Whether every token must show a second factor."""
    mfa_if: list[ConditionShape] | None = None
    """What shows a second factor; one of these is enough. The type knows what its tokens say."""
    acr: Texts | None = None
    """One of these must be in the token's acr or acrs."""
    max_age: Seconds | None = None
    """Seconds since the user signed in (auth_time) at most."""
    introspection: IntrospectionShape | None = None
    """Ask the provider about opaque tokens; one provider of the config may have this."""

    # whom they speak for
    user_claim: ClaimName | None = None
    """The claim with the user's id for this provider; the type's, or that of oidc, where it is left out."""
    user_key: list[ClaimName] | None = None
    """The claims that together tell users apart, for limits and audit; the user's id where it is left out."""
    email_claim: ClaimName | None = None
    """The claim with the email address for this provider; that of oidc where it is left out."""
    roles_claim: ClaimName | None = None
    """The claim with the roles for this provider; the type's, or that of rbac or oidc, where it is left out."""
    roles: Annotated[list[RoleShape], Field(min_length=1)] | None = None
    """Several claims with roles, in place of roles_claim."""


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


class ScopesShape(_Shape):
    all: Texts | None = None
    """Every one of these is needed."""
    any: Texts | None = None
    """One of these is needed."""


class RuleShape(_Shape):
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


class AnonymousShape(_Shape):
    limit: Text
    """N/second, N/minute, N/hour, N/day or unlimited."""


class TierShape(AnonymousShape):
    matching_claim: Text | None = None
    """claim=value; the tier without one takes everybody else."""


class RateLimitShape(_Shape):
    by: Literal["user_id"] = "user_id"
    """What calls are counted by."""
    claim: ClaimName | None = None
    """A claim to count by, such as a tenant's; the user where it is left out."""
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
