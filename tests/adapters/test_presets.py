"""What each type of provider makes of the few settings a person knows: issuers, keys, audiences, tenants, claims."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from authsvc.adapters import config
from authsvc.adapters.discovery import documents
from authsvc.adapters.presetinfo import INFO, SPECIAL
from authsvc.adapters.presets import PRESETS
from authsvc.adapters.schema import json_schema
from authsvc.core.claims import Condition
from authsvc.core.provider import Provider, RoleClaim, subject_type
from authsvc.core.signature import ALGORITHMS
from keys import jwk, key
from worlds import call, decide, gate, key_set, token

API = "https://api.example.com"
TENANT, OTHER = "72f988bf-86f1-41af-91ab-2d7cd011db47", "82229342-1101-4ab6-817b-70c0747630f3"
APP = "6e74172b-be56-4843-9ff4-e66a39bb12e3"
LOGIN, STS = "https://login.microsoftonline.com", "https://sts.windows.net"
WELL_KNOWN = ".well-known/openid-configuration"


def provider(given: str, oidc: str = "{}", rbac: str = "{}") -> Provider:
    """The provider of one entry, with settings beside it that hold for all."""
    entry = {"name": "main", **yaml.safe_load(f"{{{given}}}")}
    document = {
        "authentication": {"oidc": {"providers": [entry], **yaml.safe_load(oidc)}},
        "authorization": {"rbac": yaml.safe_load(rbac)},
    }
    (made,) = config.parse(yaml.safe_dump(document), "f", {}).providers
    return made


AUTH0 = f"type: auth0, domain: acme.eu.auth0.com, audience: {API}"
OKTA = "type: okta, org_url: https://acme.okta.com, audience: api://default"
ENTRA = f"type: entra, tenant_id: {TENANT}, app_id: {APP}"
MANY = f"type: entra, tenants: [{TENANT}, {OTHER}], app_id: {APP}"
ANY = f"type: entra, tenants: any, app_id: {APP}"
B2C = f"type: azure-b2c, subdomain: acme, tenant_id: {TENANT}, policies: [B2C_1_in], app_id: {APP}"
POLICIES = B2C.replace("[B2C_1_in]", "[B2C_1_in, B2C_1A_Reset]")
EXTERNAL = f"type: entra-external, subdomain: acme, tenant_id: {TENANT}, app_id: {APP}"
KEYCLOAK = "type: keycloak, base_url: https://sso.example.com, realm: acme, audience: orders-api"
GOOGLE = f"type: google, audience: {API}"
COGNITO = "type: cognito, region: eu-central-1, user_pool_id: eu-central-1_A, clients: [c1, c2]"
GITHUB = f"type: github-actions, audience: {API}"
GITLAB = f"type: gitlab-ci, audience: {API}"
KUBERNETES = f"type: kubernetes, audience: {API}"
OIDC = f"issuer: https://id.example.com/, audience: {API}"
OF_TYPE = {
    "auth0": AUTH0, "okta": OKTA, "entra": ENTRA, "entra-external": EXTERNAL, "azure-b2c": B2C, "keycloak": KEYCLOAK,
    "google": GOOGLE, "cognito": COGNITO, "github-actions": GITHUB, "gitlab-ci": GITLAB, "kubernetes": KUBERNETES,
    "oidc": OIDC,
}  # fmt: skip


def test_every_type_stands_everywhere() -> None:
    types = json_schema()["$defs"]["ProviderShape"]["properties"]["type"]["enum"]
    assert set(types) == set(INFO) == set(PRESETS) == set(OF_TYPE)


@pytest.mark.parametrize("kind", INFO)
def test_the_examples_of_a_type_make_a_provider(kind: str) -> None:
    settings = ", ".join(f"{one.name}: {one.example}" for one in INFO[kind].settings if one.needed)
    assert provider(f"type: {kind}, {settings}").issuer


@pytest.mark.parametrize("kind", INFO)
def test_a_setting_of_a_type_stands_in_the_schema_and_special_ones_belong_to_one(kind: str) -> None:
    known = json_schema()["$defs"]["ProviderShape"]["properties"]
    assert {one.name for one in INFO[kind].settings} <= set(known)
    assert {one.name for info in INFO.values() for one in info.settings} >= SPECIAL


# ---- issuers


@pytest.mark.parametrize(
    ("given", "issuers"),
    [
        pytest.param(AUTH0, ["https://acme.eu.auth0.com/"], id="auth0: with the slash"),
        pytest.param(
            AUTH0.replace("acme.eu.auth0.com", "[login.acme.example, acme.eu.auth0.com]"),
            ["https://login.acme.example/", "https://acme.eu.auth0.com/"],
            id="auth0: a custom domain beside the tenant's own",
        ),
        pytest.param(OKTA, ["https://acme.okta.com/oauth2/default"], id="okta: the default server"),
        pytest.param(
            f"{OKTA}, authorization_server: aus1", ["https://acme.okta.com/oauth2/aus1"], id="okta: a server by its id"
        ),
        pytest.param(
            OKTA.replace("acme.okta.com", "login.acme.example/"),
            ["https://login.acme.example/oauth2/default"],
            id="okta: a custom domain, written with a slash",
        ),
        pytest.param(
            f"{OKTA}, other_issuers: https://id.acme.example/oauth2/default",
            ["https://acme.okta.com/oauth2/default", "https://id.acme.example/oauth2/default"],
            id="okta: both domains during a move",
        ),
        pytest.param(ENTRA, [f"{LOGIN}/{TENANT}/v2.0", f"{STS}/{TENANT}/"], id="entra: versions 2 and 1"),
        pytest.param(
            f"type: entra, tenants: [{TENANT}], app_id: {APP}",
            [f"{LOGIN}/{TENANT}/v2.0", f"{STS}/{TENANT}/"],
            id="entra: a list of one tenant",
        ),
        pytest.param(EXTERNAL, [f"https://{TENANT}.ciamlogin.com/{TENANT}/v2.0"], id="external: the id is the host"),
        pytest.param(
            B2C,
            [
                f"https://acme.b2clogin.com/{TENANT}/v2.0/",
                f"https://acme.b2clogin.com/tfp/{TENANT}/B2C_1_in/v2.0/",
                f"https://acme.b2clogin.com/tfp/{TENANT}/b2c_1_in/v2.0/",
            ],
            id="b2c: with and without the policy",
        ),
        pytest.param(
            f"{B2C}, domain: login.acme.example",
            [
                f"https://login.acme.example/{TENANT}/v2.0/",
                f"https://login.acme.example/tfp/{TENANT}/B2C_1_in/v2.0/",
                f"https://login.acme.example/tfp/{TENANT}/b2c_1_in/v2.0/",
            ],
            id="b2c: a custom domain",
        ),
        pytest.param(
            f"{B2C}, domain: [login.acme.example, acme.b2clogin.com]",
            [
                f"https://login.acme.example/{TENANT}/v2.0/",
                f"https://acme.b2clogin.com/{TENANT}/v2.0/",
                f"https://login.acme.example/tfp/{TENANT}/B2C_1_in/v2.0/",
                f"https://login.acme.example/tfp/{TENANT}/b2c_1_in/v2.0/",
                f"https://acme.b2clogin.com/tfp/{TENANT}/B2C_1_in/v2.0/",
                f"https://acme.b2clogin.com/tfp/{TENANT}/b2c_1_in/v2.0/",
            ],
            id="b2c: a custom domain beside the tenant's own",
        ),
        pytest.param(KEYCLOAK, ["https://sso.example.com/realms/acme"], id="keycloak: a realm"),
        pytest.param(
            KEYCLOAK.replace("sso.example.com", "sso.example.com/auth/"),
            ["https://sso.example.com/auth/realms/acme"],
            id="keycloak: the old path, written with a slash",
        ),
        pytest.param(GOOGLE, ["https://accounts.google.com", "accounts.google.com"], id="google: both spellings"),
        pytest.param(COGNITO, ["https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_A"], id="cognito: a pool"),
        pytest.param(GITHUB, ["https://token.actions.githubusercontent.com"], id="github: github.com"),
        pytest.param(
            f"{GITHUB}, base_url: https://github.acme.example",
            ["https://github.acme.example/_services/token"],
            id="github: a server of one's own",
        ),
        pytest.param(
            f"{GITHUB}, issuer: https://token.actions.githubusercontent.com/acme",
            ["https://token.actions.githubusercontent.com/acme"],
            id="github: an enterprise",
        ),
        pytest.param(GITLAB, ["https://gitlab.com"], id="gitlab: gitlab.com"),
        pytest.param(f"{GITLAB}, base_url: https://git.acme.example/", ["https://git.acme.example"], id="gitlab: own"),
        pytest.param(KUBERNETES, ["https://kubernetes.default.svc.cluster.local"], id="kubernetes: inside"),
        pytest.param(
            f"{KUBERNETES}, issuer: https://oidc.eks.eu-west-1.amazonaws.com/id/A1",
            ["https://oidc.eks.eu-west-1.amazonaws.com/id/A1"],
            id="kubernetes: elsewhere",
        ),
        pytest.param(OIDC, ["https://id.example.com/"], id="oidc: byte for byte"),
    ],
)
def test_the_issuers_are(given: str, issuers: list[str]) -> None:
    made = provider(given)
    assert [made.issuer, *made.other_issuers] == issuers
    assert made.issuer_templates == ()


@pytest.mark.parametrize("given", [MANY, ANY], ids=["a list", "any"])
def test_several_tenants_have_templates_that_the_tokens_own_tid_fills(given: str) -> None:
    made = provider(given)
    assert made.issuer_templates == (f"{LOGIN}/{{tenantid}}/v2.0", f"{STS}/{{tenantid}}/")
    for issuer in (f"{LOGIN}/{OTHER}/v2.0", f"{STS}/{OTHER}/"):
        assert made.accepts_issuer(issuer, {"tid": OTHER})
        assert not made.accepts_issuer(issuer, {"tid": TENANT})
        assert not made.accepts_issuer(issuer, {})
    assert not made.accepts_issuer(made.issuer, {"tid": "{tenantid}"})
    assert not made.accepts_issuer(f"{LOGIN}/common/v2.0", {"tid": "common"})


PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"  # the tenant of personal accounts, which has keys of its own
TEMPLATE, OF_PERSONAL = f"{LOGIN}/{{tenantid}}/v2.0", f"{LOGIN}/{PERSONAL}/v2.0"


@pytest.mark.parametrize(
    ("given", "issuer", "tid", "key_issuer", "reason"),
    [
        pytest.param(MANY, f"{LOGIN}/{OTHER}/v2.0", OTHER, TEMPLATE, "allowed", id="on the list"),
        pytest.param(MANY, f"{STS}/{OTHER}/", OTHER, TEMPLATE, "allowed", id="on the list, version 1"),
        pytest.param(MANY, f"{STS}/{OTHER}/", OTHER, ..., "allowed", id="by a key that names no issuer"),
        pytest.param(MANY, f"{LOGIN}/{APP}/v2.0", APP, TEMPLATE, "tenant_not_allowed", id="not on the list"),
        pytest.param(MANY, f"{LOGIN}/{OTHER}/v2.0", TENANT, TEMPLATE, "unknown_issuer", id="tid of another"),
        pytest.param(MANY, f"{LOGIN}/{OTHER}/v2.0", OTHER, OF_PERSONAL, "unknown_key", id="by a key of another tenant"),
        pytest.param(ANY, f"{LOGIN}/{APP}/v2.0", APP, TEMPLATE, "allowed", id="any tenant"),
        pytest.param(ANY, OF_PERSONAL, PERSONAL, OF_PERSONAL, "allowed", id="a personal account by its own key"),
        pytest.param(ANY, f"{LOGIN}/{APP}/v2.0", APP, OF_PERSONAL, "unknown_key", id="any tenant by the personal key"),
        pytest.param(ANY, f"{LOGIN}/{APP}/v2.0", ..., TEMPLATE, "unknown_issuer", id="any tenant without tid"),
        pytest.param(ANY, TEMPLATE, "{tenantid}", TEMPLATE, "unknown_issuer", id="the template itself"),
        pytest.param(ANY, f"{LOGIN}/common/v2.0", "common", TEMPLATE, "unknown_issuer", id="common as tenant"),
        pytest.param(ANY, f"{LOGIN}/{APP}/v2.0/", APP, TEMPLATE, "unknown_issuer", id="a slash too many"),
        pytest.param(ENTRA, f"{STS}/{TENANT}/", TENANT, TEMPLATE, "allowed", id="the one tenant, version 1"),
        pytest.param(ENTRA, f"{LOGIN}/{OTHER}/v2.0", OTHER, TEMPLATE, "unknown_issuer", id="not the one tenant"),
    ],
)
def test_a_token_and_its_key_are_of_the_tenant_that_the_issuer_names(
    given: str, issuer: str, tid: Any, key_issuer: Any, reason: str
) -> None:
    made = provider(given)
    keys = key_set(jwk(key(), alg=..., issuer=key_issuer), algorithms=made.algorithms)
    bearer = token(iss=issuer, tid=tid, aud=APP, azp="spa", scp="read", oid="o-1")
    found = decide(gate(keys, providers=[made]), call(bearer))
    assert found.reason.value == reason, found.detail


# ---- where the keys are


@pytest.mark.parametrize(
    ("given", "urls"),
    [
        pytest.param(AUTH0, [f"https://acme.eu.auth0.com/{WELL_KNOWN}"], id="auth0"),
        pytest.param(OKTA, [f"https://acme.okta.com/oauth2/default/{WELL_KNOWN}"], id="okta"),
        pytest.param(ENTRA, [f"{LOGIN}/{TENANT}/v2.0/{WELL_KNOWN}"], id="entra: the tenant's own"),
        pytest.param(MANY, [f"{LOGIN}/common/v2.0/{WELL_KNOWN}"], id="entra: several tenants"),
        pytest.param(ANY, [f"{LOGIN}/common/v2.0/{WELL_KNOWN}"], id="entra: any tenant"),
        pytest.param(EXTERNAL, [f"https://acme.ciamlogin.com/{TENANT}/v2.0/{WELL_KNOWN}"], id="external: by its name"),
        pytest.param(
            POLICIES,
            [
                f"https://acme.b2clogin.com/acme.onmicrosoft.com/{policy}/v2.0/{WELL_KNOWN}"
                for policy in ("B2C_1_in", "B2C_1A_Reset")
            ],
            id="b2c: one a policy",
        ),
        pytest.param(KEYCLOAK, [f"https://sso.example.com/realms/acme/{WELL_KNOWN}"], id="keycloak"),
        pytest.param(
            f"{KEYCLOAK}, discovery_url: 'https://keycloak.internal/realms/acme/{WELL_KNOWN}'",
            [f"https://keycloak.internal/realms/acme/{WELL_KNOWN}"],
            id="keycloak: an address of its own inside",
        ),
        pytest.param(GOOGLE, [f"https://accounts.google.com/{WELL_KNOWN}"], id="google"),
        pytest.param(
            COGNITO, [f"https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_A/{WELL_KNOWN}"], id="cognito"
        ),
        pytest.param(GITHUB, [f"https://token.actions.githubusercontent.com/{WELL_KNOWN}"], id="github"),
        pytest.param(GITLAB, [f"https://gitlab.com/{WELL_KNOWN}"], id="gitlab"),
        pytest.param(
            f"{KUBERNETES}, issuer: https://oidc.eks.example/id/A1",
            [f"https://oidc.eks.example/id/A1/{WELL_KNOWN}"],
            id="kubernetes: elsewhere",
        ),
        pytest.param(OIDC, [f"https://id.example.com/{WELL_KNOWN}"], id="oidc"),
    ],
)
def test_discovery_is_at(given: str, urls: list[str]) -> None:
    made = provider(given)
    assert made.jwks_uri is None
    assert list(documents(made)) == urls


def test_inside_of_kubernetes_the_keys_are_downloaded_as_the_pod() -> None:
    made, account = provider(KUBERNETES), "/var/run/secrets/kubernetes.io/serviceaccount"
    assert made.jwks_uri == "https://kubernetes.default.svc/openid/v1/jwks"
    assert (made.token_file, made.ca_file) == (f"{account}/token", f"{account}/ca.crt")


def test_the_pods_token_is_never_sent_to_another_cluster() -> None:
    made = provider(f"{KUBERNETES}, issuer: https://oidc.eks.example/id/A1")
    assert (made.token_file, made.ca_file, made.jwks_uri) == (None, None, None)


@pytest.mark.parametrize("place", ["jwks_uri", "discovery_url"])
def test_the_pods_token_is_never_sent_to_an_address_from_the_config(place: str) -> None:
    made = provider(f"{KUBERNETES}, {place}: https://keys.example/x")
    assert made.token_file is None


def test_a_file_for_the_download_is_taken_from_the_config() -> None:
    made = provider(f"{KUBERNETES}, jwks_token_file: /t, ca_file: {__file__}")
    assert (made.token_file, made.ca_file) == ("/t", __file__)


def test_keys_that_the_config_names_are_taken_from_there() -> None:
    made = provider(f"{EXTERNAL}, jwks_uri: https://acme.ciamlogin.com/keys")
    assert made.jwks_uri == "https://acme.ciamlogin.com/keys"


def test_googles_keys_are_on_another_host_than_its_issuer() -> None:
    assert provider(GOOGLE).jwks_hosts == {"www.googleapis.com"}


@pytest.mark.parametrize(
    ("given", "bound"), [(ENTRA, True), (MANY, True), (ANY, True), (EXTERNAL, False), (OIDC, False)]
)
def test_the_issuer_of_a_key_counts_where_tenants_share_a_key_set(given: str, bound: bool) -> None:
    claims = {"iss": f"{LOGIN}/{TENANT}/v2.0", "tid": TENANT}
    issuers = provider(given).key_issuers(claims)
    assert issuers == ({f"{LOGIN}/{{tenantid}}/v2.0", f"{LOGIN}/{TENANT}/v2.0"} if bound else None)


# ---- which tokens


@pytest.mark.parametrize(
    ("given", "algorithms"),
    [
        (AUTH0, {"RS256", "PS256"}),
        (OKTA, {"RS256"}),
        (ENTRA, {"RS256"}),
        (EXTERNAL, {"RS256"}),
        (B2C, {"RS256"}),
        (KEYCLOAK, ALGORITHMS),
        (GOOGLE, {"RS256"}),
        (COGNITO, {"RS256"}),
        (GITHUB, {"RS256"}),
        (GITLAB, {"RS256"}),
        (KUBERNETES, {"RS256", "ES256"}),
        (OIDC, ALGORITHMS),
        (f"{OKTA}, algorithms: [PS512]", {"PS512"}),
    ],
)
def test_the_algorithms_are(given: str, algorithms: set[str]) -> None:
    assert provider(given).algorithms == algorithms


FORMS = {APP, f"api://{APP}", f"api://{APP}/"}


@pytest.mark.parametrize(
    ("given", "audiences"),
    [
        pytest.param(AUTH0, {API}, id="auth0"),
        pytest.param(ENTRA, FORMS, id="entra: the app in three forms"),
        pytest.param(f"{ENTRA}, audience: [api://orders]", FORMS | {"api://orders"}, id="entra: a URI beside the app"),
        pytest.param(
            f"type: entra, tenant_id: {TENANT}, audience: api://orders", {"api://orders"}, id="entra: a URI alone"
        ),
        pytest.param(EXTERNAL, FORMS, id="external: the app in three forms"),
        pytest.param(B2C, {APP}, id="b2c: the app"),
        pytest.param(COGNITO, {"c1", "c2"}, id="cognito: the clients"),
        pytest.param(f"{GOOGLE.replace(API, '[a, b]')}", {"a", "b"}, id="google: several"),
    ],
)
def test_the_audiences_are(given: str, audiences: set[str]) -> None:
    assert provider(given).audiences == audiences


@pytest.mark.parametrize("kind", OF_TYPE)
def test_only_cognito_looks_for_the_audience_elsewhere(kind: str) -> None:
    assert provider(OF_TYPE[kind]).audience_claims == ((("client_id",),) if kind == "cognito" else (("aud",),))


@pytest.mark.parametrize("kind", OF_TYPE)
def test_id_tokens_count_only_where_nothing_else_is_given(kind: str) -> None:
    assert provider(OF_TYPE[kind]).id_tokens == (kind in ("google", "github-actions", "gitlab-ci"))
    assert refused(B2C, {"tfp": "B2C_1_in"}) == "wrong_token_type"


def test_the_config_may_accept_id_tokens() -> None:
    assert provider(f"{OIDC}, accept_id_tokens: true").id_tokens


def test_the_strict_profile_accepts_nothing_but_at_jwt() -> None:
    assert provider(f"{OIDC}, require_typ: at+jwt").token_types == {"at+jwt"}


@pytest.mark.parametrize(
    ("given", "tenants", "claim"),
    [
        pytest.param(ENTRA, {TENANT}, ("tid",), id="entra: tenant_id"),
        pytest.param(MANY, {TENANT, OTHER}, ("tid",), id="entra: tenants"),
        pytest.param(ANY, None, ("tid",), id="entra: any"),
        pytest.param(EXTERNAL, {TENANT}, ("tid",), id="external"),
        pytest.param(AUTH0, None, ("org_id",), id="auth0"),
        pytest.param(f"{AUTH0}, tenants: [org_1, org_2]", {"org_1", "org_2"}, ("org_id",), id="auth0: organizations"),
        pytest.param(f"{KEYCLOAK}, tenants: acme", {"acme"}, ("organization",), id="keycloak: an organization"),
        pytest.param(f"{GITHUB}, tenants: '65'", {"65"}, ("repository_owner_id",), id="github: an owner"),
        pytest.param(f"{GITLAB}, tenants: group", {"group"}, ("namespace_path",), id="gitlab: a group"),
        pytest.param(f"{KUBERNETES}, tenants: shop", {"shop"}, ("kubernetes.io", "namespace"), id="kubernetes"),
        pytest.param(
            f"{OIDC}, tenants: a, tenant_claim: [org, id]", {"a"}, ("org", "id"), id="oidc: a claim of one's own"
        ),
        pytest.param(f"{AUTH0}, tenant_claim: org_name", None, ("org_name",), id="auth0: another claim"),
    ],
)
def test_the_tenants_are(given: str, tenants: set[str] | None, claim: tuple[str, ...]) -> None:
    made = provider(given)
    assert (made.tenants, made.tenant_claim) == (tenants, claim)


def test_a_list_of_clients_and_of_kinds_of_subject_is_taken_from_the_config() -> None:
    made = provider(f"{AUTH0}, clients: [spa, app], subject_types: [user]")
    assert (made.clients, made.subject_types) == ({"spa", "app"}, {"user"})


@pytest.mark.parametrize(
    ("kind", "claims", "expected"),
    [
        ("auth0", {"sub": "x@clients"}, "app"),
        ("auth0", {"gty": "client-credentials"}, "app"),
        ("auth0", {"sub": "auth0|1"}, "user"),
        ("okta", {"cid": "c", "sub": "c"}, "app"),
        ("okta", {"uid": "00u1"}, "user"),
        ("entra", {"idtyp": "app"}, "app"),
        ("entra", {"roles": ["r"]}, "app"),
        ("entra", {"scp": "s", "roles": ["r"]}, "user"),
        ("entra-external", {"roles": ["r"]}, "app"),
        ("keycloak", {"preferred_username": "service-account-m2m"}, "app"),
        ("keycloak", {"preferred_username": "service-account-m2m", "sid": "s"}, "user"),
        ("keycloak", {"sid": "s", "clientHost": "10.0.0.7"}, "app"),
        ("keycloak", {"preferred_username": "jane", "sid": "s"}, "user"),
        ("google", {"azp": "113", "sub": "113"}, "app"),
        ("google", {"azp": "web", "sub": "113"}, "user"),
        ("google", {"email": "ci@acme.iam.gserviceaccount.com"}, "app"),
        ("cognito", {"client_id": "c"}, "app"),
        ("cognito", {"username": "jane"}, "user"),
        ("github-actions", {"sub": "repo:a/b:ref:c"}, "app"),
        ("gitlab-ci", {"job_id": "1"}, "app"),
        ("kubernetes", {"sub": "system:serviceaccount:a:b"}, "app"),
        ("oidc", {"sub": "u"}, ""),
    ],
)
def test_user_or_app_by_the_providers_own_evidence(kind: str, claims: dict[str, Any], expected: str) -> None:
    assert subject_type(provider(OF_TYPE[kind]), claims) == expected


@pytest.mark.parametrize(
    ("kind", "claims", "shown"),
    [
        ("okta", {"acr": "urn:okta:loa:2fa:any"}, True),
        ("okta", {"acr": "phr"}, True),
        ("okta", {"amr": ["mfa"]}, False),
        ("entra", {"amr": ["pwd", "mfa"]}, True),
        ("entra", {"amr": ["ngcmfa"]}, True),
        ("entra", {"amr": ["pwd"], "acr": "1"}, False),
        ("keycloak", {"amr": ["pwd", "otp"]}, True),
        ("keycloak", {"amr": ["pwd"], "acr": "1"}, False),
        ("auth0", {"amr": ["mfa"]}, False),
        ("azure-b2c", {"amr": ["mfa"]}, False),
        ("cognito", {"amr": ["mfa"]}, False),
        ("oidc", {"amr": ["mfa"]}, True),
    ],
)
def test_a_second_factor_by_the_providers_own_evidence(kind: str, claims: dict[str, Any], shown: bool) -> None:
    assert any(condition.holds(claims) for condition in provider(OF_TYPE[kind]).mfa_if) is shown


def test_evidence_of_the_config_takes_the_place_of_the_types() -> None:
    made = provider(f"{AUTH0}, mfa: true, mfa_if: [{{claim: 'https://acme/amr', contains: mfa}}]")
    assert made.strength.mfa
    assert made.mfa_if == (Condition(("https://acme/amr",), "contains", ("mfa",)),)


def refused(given: str, claims: dict[str, Any]) -> str:
    """The reason of the first demand that these claims do not meet; empty where they meet all."""
    unmet = (one for one in provider(given).demands if not any(condition.holds(claims) for condition in one.any_of))
    return next((one.reason.value for one in unmet), "")


KEYCLOAK_TOKEN = {"typ": "Bearer", "sub": "u"}
ENTRA_TOKEN = {"azp": "c", "scp": "s", "iss": "https://sts.windows.net/x/"}


@pytest.mark.parametrize(
    ("given", "claims", "reason"),
    [
        (f"{ENTRA}, guests: deny", ENTRA_TOKEN, ""),
        (f"{ENTRA}, guests: deny", {**ENTRA_TOKEN, "idp": "https://sts.windows.net/x/"}, ""),
        (f"{ENTRA}, guests: deny", {**ENTRA_TOKEN, "idp": "live.com"}, "guest_not_allowed"),
        (f"{ENTRA}, guests: deny", {**ENTRA_TOKEN, "acct": 1}, "guest_not_allowed"),
        (f"{ENTRA}, guests: deny", {**ENTRA_TOKEN, "acct": 0}, ""),
        (ENTRA, {**ENTRA_TOKEN, "acct": 1, "idp": "live.com"}, ""),
        (f"{ENTRA}, identity_sources: [live.com]", ENTRA_TOKEN, "identity_source_not_allowed"),
        (f"{ENTRA}, identity_sources: [live.com]", {**ENTRA_TOKEN, "idp": "live.com"}, ""),
        (f"{AUTH0}, identity_sources: [google-oauth2]", {"azp": "c", "sub": "google-oauth2|1"}, ""),
        (f"{AUTH0}, identity_sources: [google]", {"azp": "c", "sub": "google-oauth2|1"}, "identity_source_not_allowed"),
        (f"{KEYCLOAK}, identity_sources: github", {**KEYCLOAK_TOKEN, "identity_provider": "github"}, ""),
        (f"{KEYCLOAK}, identity_sources: github", KEYCLOAK_TOKEN, "identity_source_not_allowed"),
        (POLICIES, {"scp": "s", "tfp": "B2C_1_in"}, ""),
        (POLICIES, {"scp": "s", "tfp": "b2c_1a_reset"}, ""),
        (POLICIES, {"scp": "s", "acr": "b2c_1_in"}, ""),
        (B2C, {"scp": "s", "tfp": "B2C_1A_Reset"}, "identity_source_not_allowed"),
        (f"{GOOGLE}, hosted_domain: acme.example", {"hd": "acme.example"}, ""),
        (f"{GOOGLE}, hosted_domain: acme.example", {}, "tenant_not_allowed"),
        (f"{OIDC}, require: [{{claim: ref, in: [main, next]}}]", {"ref": "next"}, ""),
        (f"{OIDC}, require: [{{claim: ref_protected, equals: true}}]", {"ref_protected": "true"}, ""),
        (f"{OIDC}, require: [{{claim: ref_protected, equals: true}}]", {"ref_protected": "false"}, "claim_required"),
        (f"{KEYCLOAK}, require: [{{claim: [a, b], contains: x}}]", {**KEYCLOAK_TOKEN, "a": {"b": ["x"]}}, ""),
        (f"{KEYCLOAK}, require: [{{claim: [a, b], contains: x}}]", KEYCLOAK_TOKEN, "claim_required"),
    ],
)
def test_what_a_provider_demands(given: str, claims: dict[str, Any], reason: str) -> None:
    assert refused(given, claims) == reason


# ---- whom it speaks for


@pytest.mark.parametrize(
    ("given", "roles"),
    [
        pytest.param(AUTH0, [RoleClaim(("permissions",))], id="auth0"),
        pytest.param(OKTA, [RoleClaim(("groups",))], id="okta"),
        pytest.param(ENTRA, [RoleClaim(("roles",))], id="entra"),
        pytest.param(KEYCLOAK, [RoleClaim(("realm_access", "roles"))], id="keycloak"),
        pytest.param(
            f"{KEYCLOAK}, client_roles: [orders-api, my.api]",
            [
                RoleClaim(("realm_access", "roles")),
                RoleClaim(("resource_access", "orders-api", "roles"), "orders-api:"),
                RoleClaim(("resource_access", "my.api", "roles"), "my.api:"),
            ],
            id="keycloak: with the roles of clients",
        ),
        pytest.param(COGNITO, [RoleClaim(("cognito:groups",))], id="cognito"),
        pytest.param(
            f"{AUTH0}, roles: [{{claim: 'https://acme/roles'}}, {{claim: permissions, prefix: 'perm:'}}]",
            [RoleClaim(("https://acme/roles",)), RoleClaim(("permissions",), "perm:")],
            id="several of the config",
        ),
    ],
)
def test_the_roles_are_at(given: str, roles: list[RoleClaim]) -> None:
    assert list(provider(given).roles) == roles


@pytest.mark.parametrize(
    ("own", "oidc", "rbac", "found"),
    [
        pytest.param("", "{}", "{}", "permissions", id="the type's"),
        pytest.param("", "{roles_claim: x}", "{}", "x", id="that for all, where it is written"),
        pytest.param("", "{}", "{roles_claim: x}", "x", id="that of rbac, where it is written"),
        pytest.param(", roles_claim: y", "{roles_claim: x}", "{}", "y", id="the provider's before that for all"),
        pytest.param(", roles_claim: y", "{}", "{roles_claim: x}", "y", id="the provider's before that of rbac"),
        pytest.param(", roles_claim: y", "{}", "{}", "y", id="the provider's before the type's"),
        pytest.param(", roles: [{claim: y}]", "{roles_claim: x}", "{}", "y", id="a list before that for all"),
    ],
)
def test_the_nearest_roles_claim_counts(own: str, oidc: str, rbac: str, found: str) -> None:
    assert provider(AUTH0 + own, oidc, rbac).roles == (RoleClaim((found,)),)


@pytest.mark.parametrize(
    ("given", "oidc", "found"),
    [
        pytest.param(AUTH0, "{}", [("sub",)], id="sub by default"),
        pytest.param(OKTA, "{}", [("uid",), ("sub",)], id="okta's uid, or sub"),
        pytest.param(ENTRA, "{}", [("oid",), ("sub",)], id="entra's oid, or sub"),
        pytest.param(OKTA, "{user_claim: email}", [("email",)], id="that for all before the type's"),
        pytest.param(
            f"{OKTA}, user_claim: sub", "{user_claim: email}", [("sub",)], id="the provider's before that for all"
        ),
        pytest.param(f"{OKTA}, user_claim: sub", "{}", [("sub",)], id="the provider's before the type's"),
    ],
)
def test_the_nearest_user_claim_counts(given: str, oidc: str, found: list[tuple[str, ...]]) -> None:
    assert list(provider(given, oidc).user_claims) == found


@pytest.mark.parametrize(
    ("given", "key"),
    [
        pytest.param(ENTRA, [("tid",), ("oid",)], id="entra's tid and oid"),
        pytest.param(EXTERNAL, [("tid",), ("oid",)], id="external's tid and oid"),
        pytest.param(OIDC, [], id="else the user's id"),
        pytest.param(f"{OIDC}, user_key: [org, [a, b]]", [("org",), ("a", "b")], id="of the config"),
        pytest.param(f"{ENTRA}, user_key: [oid]", [("oid",)], id="of the config before the type's"),
    ],
)
def test_users_are_told_apart_by(given: str, key: list[tuple[str, ...]]) -> None:
    assert list(provider(given).key_claims) == key


@pytest.mark.parametrize("claims", [{"_claim_names": {"groups": "src1"}}, {"hasgroups": True}, {"hasgroups": "true"}])
def test_entra_says_that_the_groups_did_not_fit(claims: dict[str, Any]) -> None:
    assert any(condition.holds(claims) for condition in provider(ENTRA).overage_if)
    assert not any(condition.holds({"groups": ["g"]}) for condition in provider(ENTRA).overage_if)


def test_entra_has_what_its_claims_challenge_needs() -> None:
    made = provider(ENTRA)
    assert made.authorization_uri == f"{LOGIN}/common/oauth2/authorize"
    assert made.own_client_id == APP
