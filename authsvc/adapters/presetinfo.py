"""What a person must know to set a provider up: which settings its type takes, with an example of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that only some types take. `example` stands in for its value; a list shows as one."""

    name: str
    example: str
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Info:
    """A type: whose product it is, and its settings. `hint` is the first thing people get wrong there."""

    title: str
    settings: tuple[Setting, ...]
    hint: str


_AUDIENCE = Setting("audience", "https://api.example.com")
_GUID = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
_APP = Setting("app_id", "00001111-aaaa-2222-bbbb-3333cccc4444")

INFO: Mapping[str, Info] = {
    "auth0": Info(
        "Auth0",
        (Setting("domain", "acme.eu.auth0.com"), _AUDIENCE),
        "a client that does not ask with audience= gets a token that nobody but Auth0 can read",
    ),
    "okta": Info(
        "Okta",
        (
            Setting("org_url", "https://acme.okta.com"),
            Setting("authorization_server", "default", needed=False),
            Setting("audience", "api://default"),
        ),
        "tokens of the org authorization server (issuer without /oauth2/) are for Okta only",
    ),
    "entra": Info(
        "Microsoft Entra ID",
        (
            Setting("tenant_id", _GUID),
            _APP,
            Setting("tenants", f"[{_GUID}]", needed=False),
            Setting("guests", "allow", needed=False),
        ),
        "a token for Microsoft Graph cannot be verified: ask for your own API's scope",
    ),
    "entra-external": Info(
        "Microsoft Entra External ID",
        (Setting("subdomain", "acme"), Setting("tenant_id", _GUID), _APP),
        "the issuer's host is the tenant's id, not the subdomain; the type knows that",
    ),
    "azure-b2c": Info(
        "Azure AD B2C",
        (
            Setting("subdomain", "acme"),
            Setting("tenant_id", _GUID),
            Setting("policies", "[B2C_1_signupsignin]"),
            _APP,
            Setting("domain", "login.acme.example", needed=False),
        ),
        "without a scope of your API B2C gives an ID token in place of an access token",
    ),
    "keycloak": Info(
        "Keycloak",
        (
            Setting("base_url", "https://sso.example.com"),
            Setting("realm", "acme"),
            Setting("audience", "orders-api"),
            Setting("client_roles", "[orders-api]", needed=False),
        ),
        "aud is only `account` until the client has an Audience mapper for your API",
    ),
    "google": Info(
        "Google",
        (
            Setting("audience", "407408718192.apps.googleusercontent.com"),
            Setting("hosted_domain", "acme.example", needed=False),
        ),
        "access tokens (ya29...) are opaque: callers send the ID token",
    ),
    "cognito": Info(
        "Amazon Cognito",
        (
            Setting("region", "eu-central-1"),
            Setting("user_pool_id", "eu-central-1_Ab12Cd34E"),
            Setting("clients", "[57cbishk4j24pabc1234567890]"),
        ),
        "its access tokens have no aud: the app clients' ids take its place",
    ),
    "github-actions": Info(
        "GitHub Actions",
        (_AUDIENCE, Setting("base_url", "https://github.example.com", needed=False)),
        "the default audience is shared by every workflow of an owner: have the workflow ask for yours",
    ),
    "gitlab-ci": Info(
        "GitLab CI",
        (_AUDIENCE, Setting("base_url", "https://gitlab.com", needed=False)),
        "jobs get a token only where id_tokens names your audience",
    ),
    "kubernetes": Info(
        "Kubernetes service accounts",
        (_AUDIENCE, Setting("issuer", "https://kubernetes.default.svc.cluster.local", needed=False)),
        "tokens of Secrets have neither exp nor aud: use projected ones",
    ),
    "oidc": Info(
        "any OpenID Connect issuer",
        (Setting("issuer", "https://id.example.com"), _AUDIENCE),
        "iss is compared byte for byte, to the last slash",
    ),
}

# Settings that only the types above take; on any other type they would be silently without effect.
SPECIAL = {
    "domain", "org_url", "authorization_server", "app_id", "subdomain", "policies", "base_url", "realm", "client_roles",
    "region", "user_pool_id", "hosted_domain",
}  # fmt: skip
