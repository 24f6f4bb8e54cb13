"""The shape of a provider's entry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from authsvc.adapters.schema.parts import ClaimName, ConditionShape, Seconds, Shape, Text, Texts

ProviderType = Literal[
    "oidc", "auth0", "okta", "entra", "azure-b2c", "entra-external", "keycloak", "google", "cognito",
    "github-actions", "gitlab-ci", "kubernetes",
]  # fmt: skip


class RoleShape(Shape):
    claim: ClaimName
    """Where roles are: a list, one text, or an object whose names are the roles."""
    prefix: str = ""
    """Goes before each of these roles."""


class IntrospectionShape(Shape):
    url: Text
    """The provider's introspection endpoint (RFC 7662)."""
    client_id: Text
    """The client by which authsvc asks."""
    secret_file: Text
    """A file with that client's secret."""
    cache: Annotated[int, Field(ge=0, le=300)] = 30
    """Seconds that a positive answer is remembered, and never beyond the token's exp."""


class ProviderShape(Shape):
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
