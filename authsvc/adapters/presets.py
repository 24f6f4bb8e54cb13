"""What each type of provider means: from the few settings a person knows to the fields of a `Provider`.

A preset is data: issuers, where the keys are, what a token must be like, where its claims are. Texts in demands are for
`authsvc explain`. Each function gives the fields in which its provider differs from a plain OIDC issuer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from authsvc.adapters.schema.providers import ProviderShape
from authsvc.core.claims import Condition, Demand
from authsvc.core.model import Reason
from authsvc.core.provider import TENANT, IssuerHint, RoleClaim

Fields = dict[str, Any]
_RS256 = frozenset({"RS256"})
_DISCOVERY = ".well-known/openid-configuration"
_CLAIM = Condition


def fields_of(given: ProviderShape) -> Fields:
    """The fields that the type gives; settings of the config go before them. Settings are taken as complete."""
    return PRESETS[given.type](given)


def _kind(any_of: tuple[Condition, ...], text: str, next_step: str) -> Demand:
    return Demand(any_of, Reason.WRONG_TOKEN_TYPE, text, next_step)


def _has(*names: str) -> tuple[Condition, ...]:
    return tuple(_CLAIM((name,)) for name in names)


def _oidc(given: ProviderShape) -> Fields:
    return {"issuer": given.issuer or ""}


def _auth0(given: ProviderShape) -> Fields:
    first, *others = (f"https://{domain}/" for domain in given.domain or ())
    sources = tuple(f"{source}|" for source in given.identity_sources or ())
    return {
        "issuer": first,
        "other_issuers": tuple(others),
        "algorithms": frozenset({"RS256", "PS256"}),
        "demands": (
            _kind(
                _has("azp", "client_id"),
                "an access token names its client (azp)",
                "send the access token, not the ID token",
            ),
            *_sources(_CLAIM(("sub",), "starts", sources), given),
        ),
        "tenant_claim": ("org_id",),
        "app_if": (_CLAIM(("gty",), "in", ("client-credentials",)), _CLAIM(("sub",), "ends", ("@clients",))),
        "mfa_if": (),  # amr and acr are names that Auth0 does not let anyone set: name your own claim in mfa_if
        "roles": (RoleClaim(("permissions",)),),
        "audience_step": "request it with audience=<your API's identifier>; an ID token has the client's id there",
    }


def _okta(given: ProviderShape) -> Fields:
    org = (given.org_url or "").rstrip("/")
    text = "it is a token of the org authorization server, which only Okta itself may read"
    step = f"ask for it at an authorization server of your own, such as {org}/oauth2/default"
    return {
        "issuer": f"{org}/oauth2/{given.authorization_server or 'default'}",
        "algorithms": _RS256,
        "hints": (IssuerHint(_CLAIM(("iss",), "in", (org,)), text, step),),
        "demands": (
            _kind(_has("cid"), "an access token names its client (cid)", "send the access token, not the ID token"),
            _kind(
                (_CLAIM(("jti",), "starts", ("AT.",)), _CLAIM(("jti",), "absent")),
                "its jti does not begin with AT.",
                "send the access token, not the ID token",
            ),
            *_sources(_CLAIM(("idp",), "in", tuple(given.identity_sources or ())), given),
        ),
        "user_claims": (("uid",), ("sub",)),
        "app_if": (_CLAIM(("uid",), "absent"),),
        "mfa_if": (_CLAIM(("acr",), "in", ("urn:okta:loa:2fa:any", "phr", "phrh")),),
        "roles": (RoleClaim(("groups",)),),
        "audience_step": "see Security > API > the authorization server's audience",
    }


_ENTRA = "https://login.microsoftonline.com"
_ENTRA_V1 = "https://sts.windows.net"
_GRAPH_STEP = "the token is for Microsoft Graph: ask for your API's scope, such as api://<app-id>/.default"


def _entra(given: ProviderShape) -> Fields:
    named = tuple(tenant.lower() for tenant in given.tenants or (given.tenant_id or "",))  # as tokens spell it
    alone = named[0] if len(named) == 1 and named != ("any",) else ""
    fields = _microsoft(given) | {
        "hints": (_other_tenant(),),
        "issuer": f"{_ENTRA}/{alone or TENANT}/v2.0",
        "key_issuer": f"{_ENTRA}/{TENANT}/v2.0",
        "tenants": None if named == ("any",) else frozenset(named),
        "discovery_urls": (f"{_ENTRA}/{alone or 'common'}/v2.0/{_DISCOVERY}",),
        "authorization_uri": f"{_ENTRA}/common/oauth2/authorize",
        "own_client_id": (given.app_id or "").lower(),
    }
    if alone:
        return fields | {"other_issuers": (f"{_ENTRA_V1}/{alone}/",)}
    return fields | {"issuer_templates": (f"{_ENTRA}/{TENANT}/v2.0", f"{_ENTRA_V1}/{TENANT}/")}


def _other_tenant() -> IssuerHint:
    sign = _CLAIM(("iss",), "starts", (f"{_ENTRA}/", f"{_ENTRA_V1}/"))
    return IssuerHint(sign, "the token is of another Entra tenant", "name that tenant in tenants, if it is meant")


def _microsoft(given: ProviderShape) -> Fields:
    """What the tokens of Entra and of External ID have in common."""
    app, step = (given.app_id or "").lower(), "send the access token for your API, not the ID token"
    graph = Demand((_CLAIM(("nonce",), "absent"),), Reason.WRONG_TOKEN_TYPE, "its header has a nonce", _GRAPH_STEP)
    no_guest = (
        Demand(
            (_CLAIM(("idp",), "same", ("iss",)), *_own(given)),
            Reason.GUEST_NOT_ALLOWED,
            "idp says that this is a guest",
        ),
        Demand((_CLAIM(("acct",), "not_in", ("1",)),), Reason.GUEST_NOT_ALLOWED, "acct says that this is a guest"),
    )
    return {
        "audiences": frozenset({app, f"api://{app}", f"api://{app}/"} if app else ()),
        "algorithms": _RS256,
        "header_demands": (graph,),
        "demands": (
            _kind(_has("azp", "appid"), "an access token names its client (azp or appid)", step),
            _kind(_has("scp", "roles"), "it has neither scp nor roles", step),
            *(no_guest if given.guests == "deny" else ()),
            *_sources(_CLAIM(("idp",), "in", tuple(given.identity_sources or ())), given),
        ),
        "user_claims": (("oid",), ("sub",)),
        "key_claims": (("tid",), ("oid",)),
        "tenant_claim": ("tid",),
        "app_if": (_CLAIM(("idtyp",), "in", ("app",)), _CLAIM(("scp",), "absent")),
        "mfa_if": (_CLAIM(("amr",), "contains", ("mfa", "ngcmfa")),),
        "overage_if": (_CLAIM(("_claim_names", "groups")), _CLAIM(("hasgroups",), "in", ("true",))),
        "audience_step": "ask for a scope of your API, api://<app-id>/.default; its URI is under Expose an API",
    }


def _own(given: ProviderShape) -> tuple[Condition, ...]:
    """A tenant has two spellings, and idp may have the one that iss has not."""
    same, tenant = _CLAIM(("idp",), "same", ("iss",)), (given.tenant_id or "").lower()
    return (same, _CLAIM(("idp",), "in", (f"{_ENTRA}/{tenant}/v2.0", f"{_ENTRA_V1}/{tenant}/"))) if tenant else (same,)


def _external(given: ProviderShape) -> Fields:
    tenant = (given.tenant_id or "").lower()
    return _microsoft(given) | {
        "issuer": f"https://{tenant}.ciamlogin.com/{tenant}/v2.0",  # the id as host, whatever the authority's name
        "discovery_urls": (f"https://{given.subdomain}.ciamlogin.com/{tenant}/v2.0/{_DISCOVERY}",),
        "tenants": frozenset({tenant}),
    }


def _b2c(given: ProviderShape) -> Fields:
    tenant, policies = (given.tenant_id or "").lower(), tuple(given.policies or ())
    hosts = tuple(given.domain or (f"{given.subdomain}.b2clogin.com",))
    spelled = tuple(dict.fromkeys(form for policy in policies for form in (policy, policy.lower())))
    of_policy = (_CLAIM(("tfp",), "in", spelled), _CLAIM(("acr",), "in", spelled))
    not_another = (_CLAIM(("tfp",), "in", spelled), _CLAIM(("tfp",), "absent"))
    text = f"it was issued by another policy than {' or '.join(policies)}"
    step = "name the policy in policies, if it is meant"
    first, *others = (
        *(f"https://{host}/{tenant}/v2.0/" for host in hosts),
        *(f"https://{host}/tfp/{tenant}/{policy}/v2.0/" for host in hosts for policy in spelled),
    )
    return {
        "issuer": first,
        "other_issuers": tuple(others),
        "discovery_urls": tuple(
            f"https://{hosts[0]}/{given.subdomain}.onmicrosoft.com/{policy}/v2.0/{_DISCOVERY}" for policy in policies
        ),
        "audiences": frozenset({given.app_id.lower()} if given.app_id else ()),
        "algorithms": _RS256,
        "demands": (
            _kind(_has("scp"), "it has no scp", "ask for a scope of your API: without one B2C gives an ID token"),
            Demand(of_policy, Reason.IDENTITY_SOURCE_NOT_ALLOWED, text, step),
            Demand(not_another, Reason.IDENTITY_SOURCE_NOT_ALLOWED, text, step),  # acr may be what the client asked for
            *_sources(_CLAIM(("idp",), "in", tuple(given.identity_sources or ())), given),
        ),
        "mfa_if": (),
    }


def _keycloak(given: ProviderShape) -> Fields:
    clients = tuple(given.client_roles or ())
    realm = f"{(given.base_url or '').rstrip('/')}/realms/{given.realm}"
    audience = (given.audience or ["<your API>"])[0]
    same_realm = _CLAIM(("iss",), "ends", (f"/realms/{given.realm}",))
    other_host = "it is of this realm at another address"
    return {
        "issuer": realm,
        "hints": (
            IssuerHint(same_realm, other_host, "set Keycloak's --hostname, so that iss is the same for everyone"),
        ),
        "demands": (
            _kind((_CLAIM(("typ",), "in", ("Bearer",)),), "its typ is not Bearer", "send the access token"),
            Demand(
                _has("sub"), Reason.MISSING_CLAIM, "the token has no sub", "add the client scope basic to the client"
            ),
            *_sources(_CLAIM(("identity_provider",), "in", tuple(given.identity_sources or ())), given),
        ),
        "tenant_claim": ("organization",),
        "app_if": (
            _CLAIM(("sid",), "absent"),
            *_has("clientHost", "clientAddress"),
        ),
        "mfa_if": (_CLAIM(("amr",), "contains", ("mfa",)), _CLAIM(("amr",), "with_another", ("otp", "hwk", "swk"))),
        "roles": (
            RoleClaim(("realm_access", "roles")),
            *(RoleClaim(("resource_access", client, "roles"), f"{client}:") for client in clients),
        ),
        "audience_step": f"add an Audience mapper for {audience} to the client (its dedicated scope) in Keycloak",
    }


def _google(given: ProviderShape) -> Fields:
    domains = tuple(given.hosted_domain or ())
    text = f"hd is not {' or '.join(domains)}"
    step = "add the domain to hosted_domain, if it is meant; private accounts have none"
    of_domain = Demand((_CLAIM(("hd",), "in", domains),), Reason.TENANT_NOT_ALLOWED, text, step)
    return {
        "issuer": "https://accounts.google.com",
        "other_issuers": ("accounts.google.com",),
        "jwks_hosts": frozenset({"www.googleapis.com"}),
        "algorithms": _RS256,
        "id_tokens": True,  # its access tokens are opaque
        "demands": (of_domain,) if domains else (),
        "tenant_claim": ("hd",),
        "app_if": (_CLAIM(("email",), "ends", (".gserviceaccount.com",)), _CLAIM(("azp",), "same", ("sub",))),
        "mfa_if": (),
    }


def _cognito(given: ProviderShape) -> Fields:
    return {
        "issuer": f"https://cognito-idp.{given.region}.amazonaws.com/{given.user_pool_id}",
        "audiences": frozenset(given.clients or ()),
        "audience_claims": (("client_id",),),  # its access tokens have no aud
        "algorithms": _RS256,
        "demands": (
            _kind((_CLAIM(("token_use",), "in", ("access",)),), "token_use is not access", "send the access token"),
        ),
        "app_if": (_CLAIM(("username",), "absent"),),
        "mfa_if": (),
        "roles": (RoleClaim(("cognito:groups",)),),
    }


def _github(given: ProviderShape) -> Fields:
    server = (given.base_url or "").rstrip("/")
    return {
        "issuer": f"{server}/_services/token" if server else "https://token.actions.githubusercontent.com",
        "algorithms": _RS256,
        "id_tokens": True,
        "tenant_claim": ("repository_owner_id",),
        "app_if": _has("sub"),
        "mfa_if": (),
        "audience_step": "let the workflow ask with this audience: core.getIDToken('<your API>')",
    }


def _gitlab(given: ProviderShape) -> Fields:
    return {
        "issuer": (given.base_url or "https://gitlab.com").rstrip("/"),
        "algorithms": _RS256,
        "id_tokens": True,
        "tenant_claim": ("namespace_path",),
        "app_if": _has("job_id"),
        "mfa_if": (),
        "audience_step": "set aud below id_tokens in .gitlab-ci.yml",
    }


_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def _kubernetes(given: ProviderShape) -> Fields:
    legacy = _CLAIM(("iss",), "in", ("kubernetes/serviceaccount",))
    step = "use a projected token with an audience of its own (serviceAccountToken volume, kubectl create token)"
    # the pod's own token goes to the cluster's own address, never to one that the config names
    inside = not (given.issuer or given.jwks_uri or given.discovery_url)
    return {
        "issuer": given.issuer or "https://kubernetes.default.svc.cluster.local",
        "hints": (IssuerHint(legacy, "it is a token of a Secret, which never expires", step),),
        "jwks_uri": "https://kubernetes.default.svc/openid/v1/jwks" if inside else None,
        "ca_file": f"{_SERVICE_ACCOUNT}/ca.crt" if inside else None,
        "token_file": f"{_SERVICE_ACCOUNT}/token" if inside else None,
        "algorithms": frozenset({"RS256", "ES256"}),
        "tenant_claim": ("kubernetes.io", "namespace"),
        "app_if": (_CLAIM(("sub",), "starts", ("system:serviceaccount:",)),),
        "mfa_if": (),
    }


def _sources(sign: Condition, given: ProviderShape) -> tuple[Demand, ...]:
    """The demand behind identity_sources."""
    if not given.identity_sources:
        return ()
    text = f"the caller did not sign in by {' or '.join(given.identity_sources)} ({'.'.join(sign.path)})"
    return (Demand((sign,), Reason.IDENTITY_SOURCE_NOT_ALLOWED, text),)


PRESETS: Mapping[str, Callable[[ProviderShape], Fields]] = {
    "oidc": _oidc,
    "auth0": _auth0,
    "okta": _okta,
    "entra": _entra,
    "entra-external": _external,
    "azure-b2c": _b2c,
    "keycloak": _keycloak,
    "google": _google,
    "cognito": _cognito,
    "github-actions": _github,
    "gitlab-ci": _gitlab,
    "kubernetes": _kubernetes,
}
