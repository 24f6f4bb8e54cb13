"""Tokens as real providers make them get the verdict they must get: at the gate, at the HTTP door and by `explain`.

Each provider has its type and the few settings a person knows, and nothing beside. The tokens and key sets of the
first half lie outside of the repository; those of the second half are made up here, one rule a token.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from authsvc.adapters.config import Settings
from authsvc.adapters.store import MemoryStore
from authsvc.core.identify import Way
from authsvc.core.model import Decision, Reason, Request
from authsvc.core.response import face
from authsvc.demo.loopback import Loopback
from authsvc.explain import Explanation, explain
from authsvc.service import Service
from cases.kit import Door, settings_for
from keys import TestKey, jwk, key, sign

FILE = Path(__file__).parents[2] / "shared" / "fixtures" / "provider-tokens.json"
ENTRIES: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else []
TOKENS = {entry["id"]: entry for entry in ENTRIES if "keys" not in entry}
KEY_SETS = {entry["id"]: entry["keys"] for entry in ENTRIES if "keys" in entry}
needs_the_file = pytest.mark.skipif(not ENTRIES, reason=f"there is no {FILE}")

CONFIG = """\
authentication:
  oidc:
    providers:
      - {name: auth0, type: auth0, domain: acme-dev.eu.auth0.com, audience: "https://api.acme.example/orders"}
      - {name: okta, type: okta, org_url: https://acme.okta.com, audience: api://default}
      - name: okta-orders
        type: okta
        org_url: https://acme.okta.com
        authorization_server: aus9o8wzkhckw9TLa0h7
        audience: api://orders
      - name: entra
        type: entra
        tenant_id: 72f988bf-86f1-41af-91ab-2d7cd011db47
        app_id: 6e74172b-be56-4843-9ff4-e66a39bb12e3
      - name: b2c
        type: azure-b2c
        subdomain: acme
        tenant_id: 775527ff-9a37-4307-8b3d-cc311f58d925
        policies: [B2C_1_signup]
        app_id: 90c0fe63-bcf2-44d5-8fb7-b8bbc0b29dc6
      - name: external
        type: entra-external
        subdomain: acme
        tenant_id: aaaabbbb-0000-cccc-1111-dddd2222eeee
        app_id: 90c0fe63-bcf2-44d5-8fb7-b8bbc0b29dc6
      - {name: keycloak, type: keycloak, base_url: https://sso.acme.example, realm: acme, audience: orders-api}
      - name: google
        type: google
        audience: [407408718192.apps.googleusercontent.com, "https://api.acme.example"]
      - name: cognito
        type: cognito
        region: us-west-2
        user_pool_id: us-west-2_Example12
        clients: [57cbishk4j24pabc1234567890]
      - {name: github-actions, type: github-actions, audience: "https://api.acme.example"}
      - name: gitlab-ci
        type: gitlab-ci
        base_url: https://gitlab.example.com
        audience: https://api.acme.example
      - {name: kubernetes, type: kubernetes, audience: "https://api.acme.example"}
      - {name: dex, issuer: "https://dex.acme.example", audience: orders-api, accept_id_tokens: true}
      - name: glewlwyd
        issuer: http://127.0.0.1:9413/api/oidc
        audience: https://api.example.com
        allow_insecure_http: true
      - name: oidc-provider
        issuer: http://127.0.0.1:9411
        audience: https://api.example.com
        allow_insecure_http: true
authorization:
  rbac:
    rules:
      - {path: /admins/*, allowed_roles: [nobody-has-this]}
"""
KEY_SET_OF = {"auth0": "jwks-auth0", "entra": "jwks-entra-common", "keycloak": "jwks-keycloak-mixed"}
PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"  # the tenant of personal Microsoft accounts


# ---- keys, and a server that hands them out


@cache
def signer(name: str, alg: str, kid: str) -> TestKey:
    """A key of its own for every provider and kid; one key for RS256 and PS256, as Auth0 has it."""
    kind = "RS256" if alg in ("RS256", "PS256") else alg
    made = key(kind, kid, number=_number(name, kind, kid))
    return replace(made, alg=alg)


_numbers: dict[tuple[str, str, str], int] = {}


def _number(*what: str) -> int:
    return _numbers.setdefault(what, 100 + len(_numbers))


def filled(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A key of the file with numbers in place of its placeholders."""
    alg = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}.get(entry["kty"])
    if alg is None:  # such as AKP
        return dict(entry)
    listed = dict(entry)
    if any(used["header"].get("kid") == entry["kid"] and used["header"]["alg"] != alg for used in of_provider(name)):
        listed.pop("alg", None)  # Auth0's switch for those who sign with PS256 too: remove_alg_from_jwks
    numbers = jwk(signer(name, alg, entry["kid"]), kid=..., alg=..., use=...)
    return listed | numbers


def of_provider(name: str) -> list[dict[str, Any]]:
    return [token for token in TOKENS.values() if token["provider"] == name]


@cache
def key_set(name: str) -> bytes:
    """What a provider publishes: its key set of the file or the keys of its tokens, and one for what is made up."""
    listed = [filled(name, entry) for entry in KEY_SETS.get(KEY_SET_OF.get(name, ""), [])]
    known = {entry["kid"] for entry in listed}
    headers = [token["header"] for token in of_provider(name.removesuffix("-orders"))]
    used = {(header["kid"], header["alg"]) for header in headers if "kid" in header}
    listed += [jwk(signer(name, alg, kid)) for kid, alg in sorted(used) if kid not in known]
    listed += [jwk(signer(name, alg, f"made-up-{alg}")) for alg in MADE_UP_ALGORITHMS.get(name, ["RS256"])]
    return json.dumps({"keys": listed}).encode()


def hand_out(handler: BaseHTTPRequestHandler) -> None:
    body = key_set(handler.path.strip("/"))
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    """The config, with a server on loopback in place of the providers' own; all else is as the type made it."""
    server = Loopback(0, hand_out)
    server.up()
    place = {"allow_insecure_http": True, "token_file": None, "ca_file": None}
    made = settings_for(CONFIG)
    for one in made.providers:
        key_set(one.name)  # takes long to make, and who downloads it waits for a second only
    providers = tuple(
        replace(one, jwks_uri=f"http://127.0.0.1:{server.port}/{one.name}", **place) for one in made.providers
    )
    yield replace(made, providers=providers)
    server.close()


@pytest.fixture(scope="module")
def door(settings: Settings) -> Door:
    return Door(settings)


@pytest.fixture(scope="module")
def service(settings: Settings) -> Service:
    return Service(settings, store=MemoryStore())


# ---- the three who must agree


def agreed(service: Service, door: Door, token: str, target: str = "/orders") -> tuple[Decision, Explanation]:
    """What the gate says, once the HTTP door and `explain` have said the same."""
    decision, _ = service.gate.decide(Request("GET", target, f"Bearer {token}", "203.0.113.7", "r"), time.time())
    answer = door.ask("GET", target, token)
    told = explain(service.settings, "GET", target, token, "203.0.113.7")
    assert answer.headers["x-auth-reason"] == told.as_json()["reason"] == decision.reason.value
    assert answer.headers["x-auth-status"] == str(face(decision.reason).status) == str(told.as_json()["status"])
    assert (answer.status_code == 200) == told.allowed == decision.allowed
    assert ("x-user-id" in answer.headers) == decision.allowed
    assert told.allowed or told.next_step
    assert token not in told.as_text()
    return decision, told


# ---- the tokens of the file

_TIMES = ("iat", "nbf", "exp", "auth_time")


def provider_of(entry: Mapping[str, Any]) -> str:
    """Which provider of the config signs: of Okta's two authorization servers, that of the issuer."""
    orders = str((entry["payload"] or {}).get("iss", "")).endswith("/aus9o8wzkhckw9TLa0h7")
    return "okta-orders" if orders else str(entry["provider"])


def signed(entry: Mapping[str, Any]) -> str:
    """The entry as a token of now."""
    if "raw" in entry:
        return str(entry["raw"])
    claims, header = entry["payload"], entry["header"]
    later = int(time.time()) - claims.get("iat", 0)
    claims = {name: value + later if name in _TIMES else value for name, value in claims.items()}
    return sign({"typ": ..., **header}, claims, signer(provider_of(entry), header["alg"], header["kid"]))


# What is refused -> why, and a word of the next step.
REFUSED = {
    "auth0-opaque-jwe": ("encrypted_token", "audience"),
    "auth0-idtoken": ("wrong_token_type", "access token"),
    "okta-idtoken": ("wrong_token_type", "access token"),
    "entra-graph-nonce": ("wrong_token_type", "Microsoft Graph"),
    "entra-v2-other-tenant": ("unknown_issuer", "tenants"),
    "entra-v2-idtoken-same-app": ("wrong_token_type", "access token"),
    "keycloak-user-aud-account": ("wrong_audience", "Audience mapper for orders-api"),
    "keycloak-no-aud": ("wrong_audience", "Audience mapper for orders-api"),
    "keycloak-idtoken": ("wrong_token_type", "access token"),
    "cognito-idtoken": ("wrong_token_type", "access token"),
    "kubernetes-legacy-secret": ("unknown_issuer", "projected token"),
}


@needs_the_file
def test_the_table_of_refusals_is_about_those_that_must_be_refused() -> None:
    assert set(REFUSED) == {name for name, entry in TOKENS.items() if not entry["accept"]}


@pytest.mark.parametrize("name", list(TOKENS) or [pytest.param("", marks=needs_the_file)])
def test_a_token_of_the_file_gets_its_verdict(name: str, service: Service, door: Door) -> None:
    entry = TOKENS[name]
    decision, told = agreed(service, door, signed(entry))
    expected, step = REFUSED.get(name, ("allowed", ""))
    assert decision.reason.value == expected, decision.detail
    assert decision.allowed == entry["accept"]
    assert step in told.next_step


# What is accepted -> the claims with user, client and tenant, and what stands behind it.
SPEAKS_FOR = {
    "auth0-user-default": (["sub"], "azp", "org_id", "user", False),
    "auth0-m2m-ps256": (["sub"], "azp", "org_id", "app", False),
    "okta-custom-user": (["uid"], "cid", "", "user", True),
    "okta-custom-m2m": (["sub"], "cid", "", "app", False),
    "entra-v2-user": (["tid", "oid"], "azp", "tid", "user", False),
    "entra-v2-app": (["tid", "oid"], "azp", "tid", "app", False),
    "entra-v1-user-mfa": (["tid", "oid"], "appid", "tid", "user", True),
    "entra-v2-groups-overage": (["tid", "oid"], "azp", "tid", "user", False),
    "keycloak-user": (["sub"], "azp", "organization", "user", True),
    "keycloak-service-account": (["sub"], "azp", "", "app", False),
    "keycloak-rfc9068-eddsa": (["sub"], "azp", "", "user", False),
    "google-idtoken": (["sub"], "azp", "hd", "user", False),
    "google-service-account-idtoken": (["sub"], "azp", "", "app", False),
    "cognito-access": (["sub"], "client_id", "", "user", False),
    "github-actions": (["sub"], "", "repository_owner_id", "app", False),
    "gitlab-ci": (["sub"], "", "namespace_path", "app", False),
    "dex-idtoken": (["sub"], "", "", "", False),
    "glewlwyd-m2m": (["sub"], "client_id", "", "", False),
    "oidc-provider-m2m": (["sub"], "client_id", "", "", False),
}


@needs_the_file
def test_the_table_of_identities_is_about_those_that_must_be_accepted() -> None:
    assert set(SPEAKS_FOR) == {name for name, entry in TOKENS.items() if entry["accept"]}


@needs_the_file
@pytest.mark.parametrize("name", SPEAKS_FOR)
def test_an_accepted_token_speaks_for_its_caller(name: str, service: Service) -> None:
    user, client, tenant, kind, mfa = SPEAKS_FOR[name]
    claims = TOKENS[name]["payload"]
    found = service.gate.who.identify(Request("GET", "/", f"Bearer {signed(TOKENS[name])}"), time.time(), Way())
    parts = [claims[part].replace(":", "%3A") if len(user) > 1 else claims[part] for part in user]
    assert (found.key or found.user_id) == ":".join(parts)
    assert found.user_id == claims[user[-1]]
    assert found.client == claims.get(client, "")
    assert list(found.tenants) == (
        list(claims[tenant]) if isinstance(claims.get(tenant), dict) else _listed(claims, tenant)
    )
    assert (found.subject_type, found.mfa) == (kind, mfa)


def _listed(claims: Mapping[str, Any], name: str) -> list[str]:
    return [claims[name]] if name in claims else []


ROLES = {
    "auth0-user-default": ["permissions"],
    "okta-custom-user": ["groups"],
    "entra-v2-user": ["roles"],
    "entra-v2-app": ["roles"],
    "keycloak-user": ["realm_access", "roles"],
    "cognito-access": ["cognito:groups"],
    "oidc-provider-m2m": ["roles"],
}


@needs_the_file
@pytest.mark.parametrize(("name", "path"), ROLES.items(), ids=list(ROLES))
def test_the_type_knows_where_roles_are(name: str, path: list[str], service: Service) -> None:
    value = TOKENS[name]["payload"]
    for part in path:
        value = value[part]
    request = Request("GET", "/", f"Bearer {signed(TOKENS[name])}")
    assert list(service.gate.who.identify(request, time.time(), Way()).roles) == value


@needs_the_file
def test_a_rule_that_needs_a_role_refuses_where_the_groups_do_not_fit_and_says_why(
    service: Service, door: Door
) -> None:
    decision, told = agreed(service, door, signed(TOKENS["entra-v2-groups-overage"]), "/admins/x")
    assert decision.reason is Reason.GROUPS_OVERAGE
    assert "app roles" in told.next_step


@needs_the_file
def test_the_only_key_of_a_set_without_kid_and_use_is_enough(settings: Settings) -> None:
    (entry,) = KEY_SETS["jwks-no-use-no-kid"]
    made = replace(signer("plain", "RS256", ""), kid=None)
    body = json.dumps({"keys": [entry | jwk(made, kid=..., alg=..., use=...)]}).encode()
    assert b'"kid"' not in body
    assert b'"use"' not in body

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server = Loopback(0, answer)
    server.up()
    plain = next(one for one in settings.providers if one.name == "oidc-provider")
    alone = replace(settings, providers=(replace(plain, jwks_uri=f"http://127.0.0.1:{server.port}/"),))
    token = sign({"kid": ...}, claims("oidc-provider"), made)
    decision, _ = agreed(Service(alone, store=MemoryStore()), Door(alone), token)
    server.close()
    assert decision.allowed, decision.detail


# ---- tokens that are made up

MADE_UP_ALGORITHMS = {
    "keycloak": ["RS256", "PS256", "ES256", "EdDSA"],
    "kubernetes": ["RS256", "ES256"],
    "entra": ["RS256", "ES256"],
}
_ORG, _TID, _B2C, _CIAM = (
    "https://acme.okta.com", "72f988bf-86f1-41af-91ab-2d7cd011db47",
    "775527ff-9a37-4307-8b3d-cc311f58d925", "aaaabbbb-0000-cccc-1111-dddd2222eeee",
)  # fmt: skip
_APP, _API = "6e74172b-be56-4843-9ff4-e66a39bb12e3", "90c0fe63-bcf2-44d5-8fb7-b8bbc0b29dc6"
_LOGIN = "https://login.microsoftonline.com"
_OF_ENTRA = {"aud": _APP, "azp": "spa", "scp": "Orders.Read", "tid": _TID, "oid": "o-1", "ver": "2.0"}
GOOD: dict[str, dict[str, Any]] = {
    "auth0": {"iss": "https://acme-dev.eu.auth0.com/", "aud": "https://api.acme.example/orders", "azp": "spa"},
    "okta": {"iss": f"{_ORG}/oauth2/default", "aud": "api://default", "cid": "0oa1", "uid": "00u1", "jti": "AT.1"},
    "entra": {"iss": f"{_LOGIN}/{_TID}/v2.0", **_OF_ENTRA},
    "b2c": {
        "iss": f"https://acme.b2clogin.com/{_B2C}/v2.0/", "aud": _API, "azp": "spa", "scp": "read",
        "tfp": "B2C_1_signup",
    },
    "external": {"iss": f"https://{_CIAM}.ciamlogin.com/{_CIAM}/v2.0", **_OF_ENTRA, "aud": _API, "tid": _CIAM},
    "keycloak": {"iss": "https://sso.acme.example/realms/acme", "aud": "orders-api", "typ": "Bearer", "azp": "web"},
    "google": {"iss": "https://accounts.google.com", "aud": "https://api.acme.example", "azp": "1"},
    "cognito": {
        "iss": "https://cognito-idp.us-west-2.amazonaws.com/us-west-2_Example12", "token_use": "access",
        "client_id": "57cbishk4j24pabc1234567890", "username": "jane",
    },
    "github-actions": {"iss": "https://token.actions.githubusercontent.com", "aud": "https://api.acme.example"},
    "gitlab-ci": {"iss": "https://gitlab.example.com", "aud": "https://api.acme.example", "job_id": "1"},
    "kubernetes": {
        "iss": "https://kubernetes.default.svc.cluster.local", "aud": ["https://api.acme.example"],
        "sub": "system:serviceaccount:shop:orders", "kubernetes.io": {"namespace": "shop"},
    },
    "dex": {"iss": "https://dex.acme.example", "aud": "orders-api", "at_hash": "x", "groups": ["a"]},
    "glewlwyd": {"iss": "http://127.0.0.1:9413/api/oidc", "aud": "https://api.example.com", "type": "access_token"},
    "oidc-provider": {"iss": "http://127.0.0.1:9411", "aud": "https://api.example.com", "client_id": "m2m"},
}  # fmt: skip


def claims(provider: str, **changes: Any) -> dict[str, Any]:
    """A good access token of the provider, but for the changes."""
    now = int(time.time())
    return {"sub": "u-1", "iat": now, "exp": now + 300, **GOOD[provider], **changes}


def made_up(
    provider: str, reason: str, says: str, header: Mapping[str, Any] | None = None, alg: str = "RS256", **changes: Any
) -> Any:
    return pytest.param(provider, reason, header or {}, alg, changes, id=f"{provider}: {says}")


_BOUND = {"cnf": {"jkt": "2HR2BW5"}}
MADE_UP = [
    *(made_up(name, "allowed", "a good one") for name in GOOD),
    *(made_up(name, "bound_token", "bound to a DPoP key", **_BOUND) for name in GOOD),
    *(made_up(name, "missing_claim", "one that never expires", exp=...) for name in GOOD),
    *(made_up(name, "wrong_audience", "for another API", aud="https://other") for name in GOOD if name != "cognito"),
    *(made_up(name, "wrong_token_type", "a logout token", {"typ": "logout+jwt"}) for name in GOOD),
    *(made_up(name, "wrong_token_type", "a DPoP proof", {"typ": "dpop+jwt"}) for name in GOOD),
    made_up("auth0", "unknown_issuer", "of another tenant", iss="https://acme-prod.eu.auth0.com/"),
    made_up("auth0", "unknown_issuer", "without the slash", iss="https://acme-dev.eu.auth0.com"),
    made_up("auth0", "wrong_token_type", "an ID token for the API", azp=...),
    made_up("auth0", "allowed", "by RFC 9068", {"typ": "at+jwt"}, azp=..., client_id="spa"),
    made_up("auth0", "unknown_key", "with PS256 by a key for RS256", {"alg": "PS256"}),
    made_up("okta", "unknown_issuer", "of the org server", iss=_ORG),
    made_up("okta", "unknown_issuer", "of another authorization server", iss=f"{_ORG}/oauth2/aus1"),
    made_up("okta", "unknown_issuer", "with a slash at the end", iss=f"{_ORG}/oauth2/default/"),
    made_up("okta", "wrong_token_type", "for Okta itself", {"typ": "application/okta-internal-at+jwt"}),
    made_up("okta", "wrong_token_type", "an ID token for the API", cid=..., jti="ID.1"),
    made_up("okta", "wrong_token_type", "an ID token by its name", jti="ID.1"),
    made_up("okta", "wrong_audience", "of one server for the other", aud="api://orders"),
    made_up(
        "entra", "allowed", "of version 1", iss=f"https://sts.windows.net/{_TID}/", azp=..., appid="spa", ver="1.0"
    ),
    made_up("entra", "allowed", "for the URI with a slash", aud=f"api://{_APP}/"),
    made_up("entra", "allowed", "of an app without idtyp", scp=..., roles=["Orders.Read.All"]),
    made_up("entra", "allowed", "of a guest, by default", idp="https://sts.windows.net/other/"),
    made_up("entra", "unknown_issuer", "of version 1 without the slash", iss=f"https://sts.windows.net/{_TID}"),
    made_up("entra", "unknown_issuer", "of common", iss=f"{_LOGIN}/common/v2.0"),
    made_up("entra", "unknown_issuer", "of the template itself", iss=f"{_LOGIN}/{{tenantid}}/v2.0"),
    made_up("entra", "unknown_issuer", "of a personal account", iss=f"{_LOGIN}/{PERSONAL}/v2.0", tid=PERSONAL),
    made_up(
        "entra", "unknown_issuer", "of the cloud for governments", iss=f"https://login.microsoftonline.us/{_TID}/v2.0"
    ),
    made_up("entra", "tenant_not_allowed", "with another tenant in tid", tid=PERSONAL),
    made_up("entra", "tenant_not_allowed", "without tid", tid=...),
    made_up("entra", "wrong_token_type", "an ID token without nonce", azp=..., scp=...),
    made_up("entra", "wrong_token_type", "with neither scp nor roles", scp=...),
    made_up("entra", "wrong_token_type", "for Graph", {"nonce": "AQAB"}),
    made_up("entra", "unsupported_algorithm", "with ES256", alg="ES256"),
    made_up("b2c", "allowed", "that names the policy in acr", tfp=..., acr="b2c_1_signup"),
    made_up(
        "b2c", "allowed", "of an issuer with the policy", iss=f"https://acme.b2clogin.com/tfp/{_B2C}/b2c_1_signup/v2.0/"
    ),
    made_up("b2c", "allowed", "with the nonce of its sign-in", nonce="n"),
    made_up("b2c", "wrong_token_type", "an ID token with nonce", scp=..., nonce="n", at_hash="x"),
    made_up("b2c", "identity_source_not_allowed", "of another policy", tfp="B2C_1_passwordreset"),
    made_up("b2c", "identity_source_not_allowed", "of no policy", tfp=...),
    made_up("b2c", "wrong_token_type", "an ID token for the API", scp=...),
    made_up("b2c", "unknown_issuer", "of another tenant", iss=f"https://acme.b2clogin.com/{_TID}/v2.0/"),
    made_up("b2c", "unknown_issuer", "without the slash", iss=f"https://acme.b2clogin.com/{_B2C}/v2.0"),
    made_up("external", "unknown_issuer", "with the name as host", iss=f"https://acme.ciamlogin.com/{_CIAM}/v2.0"),
    made_up("external", "unknown_issuer", "of the workforce", iss=f"{_LOGIN}/{_CIAM}/v2.0"),
    made_up("external", "tenant_not_allowed", "with another tenant in tid", tid=_TID),
    made_up("external", "wrong_token_type", "an ID token for the API", scp=...),
    made_up("keycloak", "allowed", "of an ES256 client", alg="ES256"),
    made_up("keycloak", "allowed", "of a PS256 client", alg="PS256"),
    made_up("keycloak", "allowed", "of an EdDSA client", alg="EdDSA"),
    made_up("keycloak", "unknown_issuer", "of another realm", iss="https://sso.acme.example/realms/partners"),
    made_up("keycloak", "unknown_issuer", "of the inner address", iss="http://keycloak:8080/realms/acme"),
    made_up("keycloak", "unknown_issuer", "with the old path", iss="https://sso.acme.example/auth/realms/acme"),
    made_up("keycloak", "wrong_token_type", "a refresh token", typ="Refresh"),
    made_up("keycloak", "wrong_token_type", "an offline token", typ="Offline"),
    made_up("keycloak", "wrong_token_type", "an ID token for the API", typ="ID"),
    made_up("keycloak", "wrong_token_type", "without typ", typ=...),
    made_up("keycloak", "missing_claim", "without sub", sub=...),
    made_up("google", "allowed", "of the issuer without https://", iss="accounts.google.com"),
    made_up("google", "unknown_issuer", "of the issuer with a slash", iss="https://accounts.google.com/"),
    made_up("google", "wrong_audience", "for another client of Google's", aud="1.apps.googleusercontent.com"),
    made_up("google", "unknown_issuer", "of an identity platform's tenant", iss="https://securetoken.google.com/acme"),
    made_up(
        "cognito", "unknown_issuer", "of another pool", iss="https://cognito-idp.us-west-2.amazonaws.com/us-west-2_B"
    ),
    made_up(
        "cognito",
        "unknown_issuer",
        "of another region",
        iss="https://cognito-idp.eu-west-1.amazonaws.com/us-west-2_Example12",
    ),
    made_up("cognito", "wrong_audience", "of another client", client_id="another"),
    made_up("cognito", "wrong_audience", "of no client", client_id=...),
    made_up(
        "cognito",
        "wrong_audience",
        "of another client, with ours as aud",
        client_id="x",
        aud="57cbishk4j24pabc1234567890",
    ),
    made_up("cognito", "wrong_token_type", "an ID token with client_id", token_use="id"),
    made_up("cognito", "wrong_token_type", "without token_use", token_use=...),
    made_up("github-actions", "wrong_audience", "for the owner", aud="https://github.com/octo-org"),
    made_up(
        "github-actions", "unknown_issuer", "of an enterprise", iss="https://token.actions.githubusercontent.com/acme"
    ),
    made_up("github-actions", "unknown_issuer", "of a server", iss="https://github.acme.example/_services/token"),
    made_up("gitlab-ci", "unknown_issuer", "of gitlab.com", iss="https://gitlab.com"),
    made_up("gitlab-ci", "unknown_issuer", "with a slash", iss="https://gitlab.example.com/"),
    made_up("gitlab-ci", "wrong_audience", "for a cloud", aud="sts.amazonaws.com"),
    made_up("kubernetes", "allowed", "with ES256", alg="ES256"),
    made_up("kubernetes", "unknown_issuer", "of another cluster", iss="https://oidc.eks.eu-west-1.amazonaws.com/id/A1"),
    made_up("kubernetes", "wrong_audience", "for the API server", aud=["https://kubernetes.default.svc.cluster.local"]),
    made_up("kubernetes", "wrong_audience", "without aud", aud=...),
    made_up("dex", "unknown_issuer", "with a slash", iss="https://dex.acme.example/"),
    made_up("dex", "wrong_audience", "of another client", aud="web"),
    made_up("dex", "allowed", "for two clients", aud=["web", "orders-api"]),
    made_up("glewlwyd", "wrong_audience", "for its scope", aud="api:read"),
    made_up("glewlwyd", "wrong_token_type", "an ID token for the API", at_hash="x"),
    made_up("oidc-provider", "wrong_token_type", "an ID token for the API", nonce="n"),
    made_up("oidc-provider", "wrong_token_type", "a back-channel logout", events={"http://x": {}}),
    made_up("oidc-provider", "wrong_audience", "with an empty aud", aud=[]),
]


@pytest.mark.parametrize(("provider", "reason", "header", "alg", "changes"), MADE_UP)
def test_a_made_up_token_gets_its_verdict(
    provider: str, reason: str, header: dict[str, Any], alg: str, changes: dict[str, Any], service: Service, door: Door
) -> None:
    made = signer(provider, alg, f"made-up-{alg}")
    made = replace(made, alg=header.get("alg", alg))
    token = sign(header, claims(provider, **changes), made)
    decision, _ = agreed(service, door, token)
    assert decision.reason.value == reason, decision.detail


@pytest.mark.parametrize("text", ["ya29.a0AfH6SMC", "gho_16C7e42F292c69", "ory_at_x.y", "0" * 32])
def test_an_opaque_token_is_said_to_be_none_that_can_be_verified(text: str, service: Service, door: Door) -> None:
    decision, told = agreed(service, door, text)
    assert decision.reason is Reason.MALFORMED_TOKEN
    assert "opaque" in told.next_step


@needs_the_file
def test_a_key_for_personal_accounts_signs_for_no_tenant_of_ours(service: Service, door: Door) -> None:
    entry = next(entry for entry in KEY_SETS["jwks-entra-common"] if PERSONAL in entry["issuer"])
    decision, _ = agreed(service, door, sign({}, claims("entra"), signer("entra", "RS256", entry["kid"])))
    assert decision.reason is Reason.UNKNOWN_KEY


@pytest.mark.parametrize("name", [name for name in GOOD if name != "kubernetes"])
def test_the_key_of_one_provider_signs_for_no_other(name: str, service: Service, door: Door) -> None:
    forged = sign({"kid": "made-up-RS256"}, claims(name), signer("kubernetes", "RS256", "made-up-RS256"))
    assert agreed(service, door, forged)[0].reason is Reason.INVALID_SIGNATURE
