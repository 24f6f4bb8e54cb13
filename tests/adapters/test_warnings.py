"""What `authsvc check` says of a config without mistakes that may be an open door."""

from __future__ import annotations

from itertools import product

import pytest

from authsvc.adapters import config

OIDC = "{name: main, issuer: 'https://id.example.com', audience: api}"


def notes(providers: str = OIDC, rules: str = "", default: str = "deny") -> str:
    text = (
        f"authentication: {{oidc: {{providers: [{providers}]}}}}\n"
        f"authorization: {{rbac: {{default: {default}, rules: [{rules}]}}}}\n"
    )
    return "\n".join(config.parse(text, "f", {}).notes)


@pytest.mark.parametrize(
    ("providers", "said"),
    [
        pytest.param("{name: a, type: github-actions, audience: api}", "every workflow on GitHub", id="GitHub"),
        pytest.param("{name: a, type: gitlab-ci, audience: api}", "every job on gitlab.com", id="gitlab.com"),
        pytest.param("{name: a, type: google, audience: api}", "every Google account", id="Google"),
        pytest.param(
            "{name: a, issuer: 'https://accounts.google.com', audience: api}", "every Google account", id="by hand"
        ),
        pytest.param(
            "{name: a, type: entra, tenants: any, app_id: 00001111-aaaa-2222-bbbb-3333cccc4444}",
            "any tenant's tokens are accepted",
            id="Entra of any tenant",
        ),
        pytest.param(
            OIDC.replace("audience", "user_claim: email, audience"), "email can be changed", id="an email as id"
        ),
        pytest.param(OIDC.replace("audience", "user_key: [upn], audience"), "upn can be changed", id="a upn as key"),
        pytest.param(OIDC.replace("audience", "mfa: true, mfa_if: [], audience"), "no second factor", id="no evidence"),
    ],
)
def test_a_provider_is_told_of(providers: str, said: str) -> None:
    assert said in notes(providers)


@pytest.mark.parametrize(
    "providers",
    [
        OIDC,
        "{name: a, type: github-actions, audience: api, tenants: ['65']}",
        "{name: a, type: gitlab-ci, audience: api, base_url: 'https://gitlab.example.com'}",
        "{name: a, type: google, audience: api, hosted_domain: acme.example}",
        "{name: a, type: google, audience: api, require: [{claim: sub, equals: '1'}]}",
    ],
)
def test_of_a_provider_that_is_narrowed_nothing_is_said(providers: str) -> None:
    assert notes(providers).splitlines() == notes().splitlines()


def test_a_wider_rule_that_decides_some_methods_of_a_later_one_is_told() -> None:
    rules = "{path: /*, method: GET, allowed_roles: []}, {path: /admin/*, allowed_roles: [admin]}"
    said = "f:2:91: authorization.rbac.rules.1: /admin/*: GET, HEAD is decided by rules.0 GET /* before it"
    assert said in notes(rules=rules).splitlines()


def test_a_note_says_where_what_it_speaks_of_stands() -> None:
    """Line and column, as a mistake does; what concerns the config as a whole stands nowhere."""
    rules = [f"      - {{path: /a-{number}/*, allowed_roles: [x]}}\n" for number in range(30)]
    rules[21] = rules[21].replace("allowed", "mfa: true, allowed")
    rules[27] = rules[27].replace("/*", "")
    head = f"authentication: {{oidc: {{providers: [{OIDC.replace('audience', 'mfa_if: [], audience')}]}}}}\n"
    found = config.parse(f"{head}authorization:\n  rbac:\n    rules:\n{''.join(rules)}", "the/file.yaml", {}).notes
    (factor,) = (note for note in found if "second factor" in note)
    assert factor.startswith("the/file.yaml:26:9: authorization.rbac.rules.21: /a-21/*: tokens of main show no")
    (alone,) = (note for note in found if "nothing below" in note)
    assert alone.startswith("the/file.yaml:32:9: authorization.rbac.rules.27: of these paths nothing below is governed")
    assert "a path that no rule governs needs a valid identity (default: authenticated)" in found


def test_rules_with_which_a_call_meets_many_nodes_are_told() -> None:
    paths = ["/" + "/".join(parts) for parts in product("a*", repeat=8)]
    text = ", ".join(f"{{path: '{path}', allowed_roles: [r]}}" for path in paths)
    assert "place * in so many ways" in notes(rules=text)
    assert "place * in so many ways" not in notes(rules="{path: /*/a/*, allowed_roles: [r]}")


def test_two_rules_for_one_path_and_different_methods_are_nothing_to_tell() -> None:
    rules = "{path: /a/*, method: GET, allowed_roles: [r]}, {path: /a/*, allowed_roles: [w]}"
    assert "decided by" not in notes(rules=rules)


def test_a_path_below_which_nothing_is_governed_is_told_unless_the_rest_is_shut() -> None:
    rules = "{path: /admin, allowed_roles: [admin]}, {path: /b, allowed_roles: [x]}, {path: /b/*, allowed_roles: [x]}"
    assert "any identity reaches it: /admin; write /*" in notes(rules=rules, default="authenticated")
    assert "any identity reaches it" not in notes(rules=rules)


def test_rules_that_do_not_say_whose_role_it_is_are_told_where_there_are_several_providers() -> None:
    two = f"{OIDC}, {{name: b, issuer: 'https://b.example.com', audience: api}}"
    rule = "{path: /a/*, allowed_roles: [admin]}"
    said = "whichever provider names them"
    assert said in notes(two, rule)
    assert said not in notes(OIDC, rule)
    assert said not in notes(two, rule.replace("allowed", "providers: [main], allowed"))


@pytest.mark.parametrize(
    ("kind", "audience"),
    [
        ("type: keycloak, base_url: 'https://h', realm: r", "account"),
        ("type: auth0, domain: acme.eu.auth0.com", "https://acme.eu.auth0.com/userinfo"),
        ("type: auth0, domain: acme.eu.auth0.com", "https://acme.eu.auth0.com/api/v2/"),
        ("type: github-actions", "https://github.com/acme"),
        ("issuer: 'https://id.example.com'", "*"),
    ],
)
def test_an_audience_that_is_in_everybodys_tokens_is_a_mistake(kind: str, audience: str) -> None:
    with pytest.raises(config.ConfigError) as mistakes:
        notes(f"{{name: a, {kind}, audience: '{audience}'}}")
    assert "is in tokens for other APIs too" in str(mistakes.value)


@pytest.mark.parametrize(
    ("asks", "said"),
    [("mfa: true", "show no second factor: add mfa_if"), ("tenants: [acme]", "name no tenant: add tenant_claim")],
)
def test_a_rule_that_a_provider_can_never_meet_is_told(asks: str, said: str) -> None:
    plain = OIDC.replace("audience", "mfa_if: [], audience")
    assert f"rules.0: /a/*: tokens of main {said}" in notes(plain, f"{{path: /a/*, {asks}}}")
    assert said not in notes(plain, "{path: /a/*, max_age: 60}")
