"""Every mistake in a config is said, at once, where it stands; a good config becomes the values it means."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.adapters import config
from authsvc.adapters.config import ConfigError, Settings
from authsvc.adapters.schema import json_schema
from authsvc.core.claims import Condition
from authsvc.core.keylife import KeyTimes
from authsvc.core.provider import RoleClaim
from authsvc.core.ratelimit import By, Limits, Rate, Spending, Tier
from authsvc.core.signature import ALGORITHMS

BAD = sorted((Path(__file__).parent.parent / "bad_configs").glob("*.yaml"))

EXAMPLE = """\
authentication:
  oidc:
    enabled: true
    providers:
      - name: auth0
        issuer: https://yourcompany.auth0.com/
        audience: https://api.yourcompany.com          # one, or a list
        jwks_uri: https://yourcompany.auth0.com/.well-known/jwks.json   # optional: discovery finds it
      - name: okta
        issuer: https://yourcompany.okta.com/oauth2/default
        audience: api://yourapi
        jwks_uri: https://yourcompany.okta.com/oauth2/default/v1/keys
      - name: azure
        issuer: https://login.microsoftonline.com/{tenant-id}/v2.0
        audience: api://your-client-id
        jwks_uri: https://login.microsoftonline.com/{tenant-id}/discovery/v2.0/keys
    jwks_cache_ttl: 3600
    jwks_refresh_interval: 300
    clock_skew_tolerance: 60
    user_claim: sub
    email_claim: email
    roles_claim: roles            # also [realm_access, roles]; a URL-named claim is one name, never split at its dots
    extract_headers:
      - {claim: email, header: X-User-Email}
      - {claim: roles, header: X-User-Roles}
      - {claim: organization_id, header: X-Org-ID}
      - {claim: plan, header: X-Subscription-Plan}
authorization:
  rbac:
    enabled: true
    roles_claim: roles
    rules:
      - {path: /api/admin/*, allowed_roles: [admin]}
      - {path: /api/users/*, allowed_roles: [admin, user], method: GET}
      - {path: /api/billing/*, allowed_roles: [billing_admin]}
      - {path: /api/public/*, allowed_roles: []}       # anyone, even unauthenticated
rate_limit:
  by: user_id
  tiers:
    free: {limit: 100/hour, matching_claim: plan=free}
    pro: {limit: 10000/hour, matching_claim: plan=pro}
    enterprise: {limit: unlimited, matching_claim: plan=enterprise}
cache:
  memcached: 127.0.0.1:11211      # or a list, or a unix socket; without it: memory, one worker, said at start-up
  secret_file: /run/secrets/authsvc # or secret, or AUTHSVC_CACHE_SECRET: authenticates what is shared through memcached
"""
WITH_TENANT = EXAMPLE.replace("      - name: azure\n", "      - name: azure\n        tenant_id: 1b2c-3d\n")
SMALL = """\
authentication:
  oidc:
    providers:
      - {name: demo, issuer: "https://issuer.example/", audience: "https://api.example"}
"""


def mistakes(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "f", environ or {})
    return caught.value.lines


def accepted(text: str, environ: dict[str, str] | None = None) -> Settings:
    return config.parse(text, "f", environ or {})


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_mistake_is_said_whole(file: Path) -> None:
    text = file.read_text("utf-8")
    expected = text.partition("\n")[0].removeprefix("# expect: ")
    assert mistakes(text) == [f"f:{expected}"]


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file() -> None:
    def body(name: str) -> str:
        (file,) = [file for file in BAD if file.stem == name]
        return file.read_text("utf-8").partition("\n")[2]

    text = body("algorithm_none") + "    extract_headers: [{claim: x, header: Host}, {claim: y, header: X-Y}]\n"
    text += "authorization: {rbac: {rules: [{path: a}, {path: /b, method: get}]}}\n"
    text += "rate_limit: {tiers: {free: {limit: 1/week}}}\ncache: {memcached: nowhere}\ncache: {}\n"
    places = [line.split(": ")[0] + ": " + line.split(": ")[1] for line in mistakes(text)]
    assert places == [
        "f:7:29: authentication.oidc.providers.0.algorithms.1",
        "f:8:34: authentication.oidc.extract_headers.0.header",
        "f:9:33: authorization.rbac.rules.0.path",
        "f:9:54: authorization.rbac.rules.1.method",
        "f:10:29: rate_limit.tiers.free.limit",
        "f:11:9: cache.memcached",
        "f:12:1: cache",
    ]


def test_mistakes_of_shape_are_said_at_once_too() -> None:
    text = SMALL + "    user_claims: sub\n    jwks_cache_ttl: soon\nrate_limits: {}\naudit: {sample_allows: 2}\n"
    assert [line.split(":")[1] for line in mistakes(text)] == ["5", "6", "7", "8"]


# ---- the example of the documentation


def test_the_example_is_accepted_but_for_its_placeholder() -> None:
    (line,) = mistakes(EXAMPLE)
    assert line == (
        "f:14:9: authentication.oidc.providers.2.issuer: 'https://login.microsoftonline.com/{tenant-id}/v2.0' holds "
        "the placeholder {tenant-id}: put the value there, or add tenant_id: <guid> beside it"
    )


def test_the_example_with_a_tenant_id_means_what_it_says() -> None:
    found = accepted(WITH_TENANT)
    azure = found.providers[2]
    assert azure.issuer == "https://login.microsoftonline.com/1b2c-3d/v2.0"
    assert azure.jwks_uri == "https://login.microsoftonline.com/1b2c-3d/discovery/v2.0/keys"
    assert [provider.name for provider in found.providers] == ["auth0", "okta", "azure"]
    assert [rule.name for rule in found.policy.rules] == [
        "/api/admin/*",
        "GET /api/users/*",
        "/api/billing/*",
        "/api/public/*",
    ]
    assert found.extract == {"X-Org-ID": ("organization_id",), "X-Subscription-Plan": ("plan",)}
    assert found.limits.tiers == (
        Tier("free", (Rate(100, 3600),), plan("free")),
        Tier("pro", (Rate(10000, 3600),), plan("pro")),
        Tier("enterprise", (), plan("enterprise")),
    )
    assert found.memcached == ("127.0.0.1:11211",)
    assert found.secret is None  # there is no such file here, and `check` says so
    assert "cache.secret_file /run/secrets/authsvc cannot be read" in found.notes[0]


def plan(name: str) -> Condition:
    return Condition(("plan",), "contains", (name,))


# ---- limits


def limits(text: str) -> Limits:
    return accepted(f"{SMALL}rate_limit: {{{text}}}\n").limits


@pytest.mark.parametrize(
    ("written", "by"),
    [
        ("user_id", [By()]),
        ("client_id", [By("client_id")]),
        ("tenant", [By("tenant")]),
        ("ip", [By("ip")]),
        ("{claim: org_id}", [By("claim", ("org_id",))]),
        ("{claim: [org, id]}", [By("claim", ("org", "id"))]),
        ("[user_id]", [By()]),
        ("[tenant, {claim: plan}, ip]", [By("tenant"), By("claim", ("plan",)), By("ip")]),
    ],
)
def test_calls_are_counted_by(written: str, by: list[By]) -> None:
    text = f"by: {written}"
    assert limits(text).by == tuple(by)
    assert schema_mistakes(f"{SMALL}rate_limit: {{{text}}}\n") == []


def test_calls_are_counted_by_user_where_nothing_is_said() -> None:
    assert accepted(SMALL).limits == Limits((), (By(),))


@pytest.mark.parametrize(
    ("written", "rates"),
    [
        ("100/hour", [Rate(100, 3600)]),
        ("100/15minutes", [Rate(100, 900)]),
        ("unlimited", []),
        ("[10/second, 1000/hour]", [Rate(10, 1), Rate(1000, 3600)]),
        ("100/hour burst 20", [Rate(100, 3600), Rate(20, 720)]),
        ("[100/hour burst 20, 500/day]", [Rate(100, 3600), Rate(20, 720), Rate(500, 86400)]),
        ("0/hour", [Rate(0, 3600)]),
    ],
)
def test_a_limit_has_one_window_or_several(written: str, rates: list[Rate]) -> None:
    text = f"tiers: {{t: {{limit: {written}}}}}, anonymous: {{limit: {written}}}"
    found = limits(text)
    assert found.tiers == (Tier("t", tuple(rates)),)
    assert found.anonymous == Tier("anonymous", tuple(rates))
    assert schema_mistakes(f"{SMALL}rate_limit: {{{text}}}\n") == []


@pytest.mark.parametrize(
    ("written", "when"),
    [
        ("plan=free", plan("free")),
        ("plan=a=b", plan("a=b")),
        ("{claim: plan, contains: free}", plan("free")),
        ("{claim: [org, plan], contains: free}", Condition(("org", "plan"), "contains", ("free",))),
        ("{claim: plan, equals: free}", Condition(("plan",), "in", ("free",))),
        ("{claim: level, in: [2, 3]}", Condition(("level",), "in", ("2", "3"))),
        ("{claim: staff, equals: true}", Condition(("staff",), "in", ("true",))),
    ],
)
def test_a_tier_is_for_callers_of_whom_a_condition_holds(written: str, when: Condition) -> None:
    text = f"tiers: {{t: {{limit: 1/hour, matching_claim: {written}}}}}"
    assert limits(text).tiers[0].when == when
    assert schema_mistakes(f"{SMALL}rate_limit: {{{text}}}\n") == []


@pytest.mark.parametrize(("written", "prefix"), [("", 64), (", ipv6_prefix: 48", 48), (", ipv6_prefix: 128", 128)])
def test_an_ipv6_network_is_one_caller(written: str, prefix: int) -> None:
    assert limits(f"anonymous: {{limit: 1/hour{written}}}").ipv6_prefix == prefix


@pytest.mark.parametrize(
    ("for_all", "of_one", "shadows"),
    [
        ("", "", []),
        ("mode: enforce, ", "", []),
        ("mode: shadow, ", "", ["a", "b", "anonymous"]),
        ("", ", mode: shadow", ["a"]),
        ("mode: shadow, ", ", mode: enforce", ["b", "anonymous"]),
        ("mode: enforce, ", ", mode: shadow", ["a"]),
    ],
)
def test_what_is_in_shadow_is_so_for_all_or_for_one_tier_and_is_noted(
    for_all: str, of_one: str, shadows: list[str]
) -> None:
    tiers = f"tiers: {{a: {{limit: 1/hour, matching_claim: x=y{of_one}}}, b: {{limit: 2/hour}}}}"
    found = accepted(f"{SMALL}rate_limit: {{{for_all}{tiers}, anonymous: {{limit: 1/day}}}}\n")
    assert found.limits.anonymous is not None
    assert [tier.name for tier in (*found.limits.tiers, found.limits.anonymous) if tier.shadow] == shadows
    noted = [f"in shadow, where nobody is refused: {', '.join(shadows)}"] if shadows else []
    assert [note for note in found.notes if "shadow" in note] == noted


@pytest.mark.parametrize("style", ["ietf", "x", "both", "'off'", "off"])
def test_callers_are_told_their_quotas_in_the_chosen_way(style: str) -> None:
    assert accepted(f"{SMALL}rate_limit: {{headers: {style}}}\n").rate_headers == style.strip("'")
    assert accepted(SMALL).rate_headers == "ietf"


@pytest.mark.parametrize(
    ("written", "spending"),
    [
        ("", Spending()),
        (", rate_limit: exempt", Spending(0)),
        (", rate_limit: {cost: 0}", Spending(0)),
        (", rate_limit: {cost: 5}", Spending(5)),
        (", rate_limit: {limit: 3/minute}", Spending(1, Tier("rules.1", (Rate(3, 60),)))),
        (", rate_limit: {limit: [3/minute, 9/hour], cost: 2}", Spending(2, Tier("rules.1", (Rate(3, 60), Rate(9))))),
        (", rate_limit: {limit: unlimited}", Spending(1, Tier("rules.1"))),
    ],
)
def test_a_rule_says_of_limits(written: str, spending: Spending) -> None:
    text = f"{SMALL}authorization: {{rbac: {{rules: [{{path: /a}}, {{path: /b{written}}}]}}}}\n"
    assert accepted(text).policy.rules[1].spending == spending
    assert schema_mistakes(text) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("by: plan", id="by something else"),
        pytest.param("by: []", id="by nothing"),
        pytest.param("by: [{claim: a, equals: b}]", id="by a claim and more"),
        pytest.param("headers: draft", id="headers that are none"),
        pytest.param("tiers: {t: {limit: []}}", id="no window"),
        pytest.param("tiers: {t: {limit: 1/hour, matching_claim: plan}}", id="a claim without a value"),
        pytest.param("claim: org_id", id="the setting that was there before by"),
    ],
)
def test_the_schema_refuses_limits(text: str) -> None:
    assert schema_mistakes(f"{SMALL}rate_limit: {{{text}}}\n")


# ---- providers


def test_two_tenants_of_one_issuer_are_two_providers() -> None:
    text = "authentication:\n  oidc:\n    providers:\n" + "".join(
        f"      - {{name: {name}, issuer: 'https://login.example/{{tenant-id}}/', tenant_id: {name}, audience: a}}\n"
        for name in ("one", "two")
    )
    assert [p.issuer for p in accepted(text).providers] == ["https://login.example/one/", "https://login.example/two/"]


def test_the_defaults_are_the_documented_ones() -> None:
    found = accepted(SMALL)
    (provider,) = found.providers
    assert found.key_times == KeyTimes(3600, 300, 30, 86400)
    assert provider.skew_s == 60
    assert (provider.user_claims, provider.email_claim, provider.roles) == (
        (("sub",),),
        ("email",),
        (RoleClaim(("roles",)),),
    )
    assert provider.algorithms == ALGORITHMS
    assert provider.jwks_uri is None
    assert not provider.allow_insecure_http
    assert found.limits == Limits((), (By("user_id"),), None, 64)  # by the claims that tell the provider's users apart
    assert found.on_store_error == "local"
    assert not found.policy.deny_by_default
    assert found.sample_allows == 1.0


@pytest.mark.parametrize(
    ("written", "means"),
    [
        pytest.param("groups", ("groups",), id="a name is one name"),
        pytest.param("[realm_access, roles]", ("realm_access", "roles"), id="a list is a way down"),
        pytest.param("https://example.com/roles", ("https://example.com/roles",), id="a URL is one name"),
        pytest.param("a.b.c", ("a.b.c",), id="dots do not split"),
    ],
)
def test_a_claims_name(written: str, means: tuple[str, ...]) -> None:
    assert accepted(SMALL + f"    roles_claim: {written}\n").providers[0].roles == (RoleClaim(means),)


@pytest.mark.parametrize(
    ("rbac", "note"),
    [
        pytest.param(
            "{}", "a path that no rule governs needs a valid identity (default: authenticated)", id="left out"
        ),
        pytest.param("{default: deny}", "a path that no rule governs is refused (default: deny)", id="deny"),
        pytest.param("{enabled: false}", "rbac is off: every path needs a valid identity, and any will do", id="off"),
    ],
)
def test_what_holds_for_other_paths_is_said_aloud(rbac: str, note: str) -> None:
    assert note in accepted(SMALL + f"authorization: {{rbac: {rbac}}}\n").notes


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        pytest.param("    roles_claim: realm_access.roles\n", "authentication.oidc.roles_claim", id="oidc"),
        pytest.param(
            "        roles_claim: [realm_access.roles]\n", "authentication.oidc.providers.0.roles_claim", id="own"
        ),
        pytest.param(
            "    extract_headers: [{claim: realm_access.roles, header: X-A}]\n",
            "authentication.oidc.extract_headers.0.claim",
            id="header",
        ),
        pytest.param(
            "rate_limit: {by: {claim: realm_access.roles}}\n", "rate_limit.by", id="what calls are counted by"
        ),
        pytest.param(
            "rate_limit: {tiers: {t: {limit: 1/hour, matching_claim: realm_access.roles=x}}}\n",
            "rate_limit.tiers.t.matching_claim",
            id="a tier's claim",
        ),
    ],
)
def test_a_claims_name_with_a_dot_is_noted(lines: str, place: str) -> None:
    text = SMALL.replace("{name", "name").replace(', issuer: "', '\n        issuer: "')
    text = text.replace(', audience: "', '\n        audience: "').replace('"}', '"') + lines
    note = f"{place}: 'realm_access.roles' is one name with a dot; for a path write [realm_access, roles]"
    where, _, said = accepted(text).notes[0].partition(": ")
    assert said == note
    line = int(where.split(":")[1])
    assert text.splitlines()[line - 1].strip().startswith((place.rpartition(".")[2], lines.strip()))


@pytest.mark.parametrize(
    ("more", "noted"), [("", True), (", mfa_if: [{claim: 'https://a/amr', contains: mfa}]", False)]
)
def test_a_second_factor_that_no_token_shows_is_noted(more: str, noted: bool) -> None:
    entry = f"{{name: demo, type: auth0, domain: acme.eu.auth0.com, audience: a, mfa: true{more}}}"
    found = accepted(f"authentication: {{oidc: {{providers: [{entry}]}}}}")
    note = "demo: tokens of type auth0 show no second factor by themselves: add mfa_if, or nobody passes"
    assert any(one.endswith(f":1:37: authentication.oidc.providers.0: {note}") for one in found.notes) is noted


@pytest.mark.parametrize("written", ["roles", "[a.b, c]", "https://example.com/roles", "cognito:groups", "urn:a.b:c"])
def test_another_claims_name_is_not_noted(written: str) -> None:
    assert not any("with a dot" in note for note in accepted(SMALL + f"    roles_claim: {written}\n").notes)


# ---- values from elsewhere


def test_a_variable_is_filled_in_wherever_it_stands() -> None:
    text = SMALL.replace("issuer.example", "${HOST}.example") + "cache: {memcached: '${CACHE}'}\n"
    found = accepted(text, {"HOST": "login", "CACHE": "10.0.0.1:1"})
    assert found.providers[0].issuer == "https://login.example/"
    assert found.memcached == ("10.0.0.1:1",)


def test_a_variables_value_is_never_read_as_yaml_or_filled_again() -> None:
    text = SMALL.replace("https://api.example", "${AUD}")
    found = accepted(text, {"AUD": "a, b]: {c} ${HOME} # d", "HOME": "/root"})
    assert found.providers[0].audiences == {"a, b]: {c} ${HOME} # d"}


SECRET = "a secret of more than thirty-two bytes"


@pytest.mark.parametrize("way", ["secret", "secret_file", "environment"])
def test_the_secret_comes(tmp_path: Path, way: str) -> None:
    (tmp_path / "s").write_text(SECRET + "\n")
    line = {"secret": f"secret: {SECRET}", "secret_file": f"secret_file: {tmp_path / 's'}"}.get(way, "")
    environ = {"AUTHSVC_CACHE_SECRET": SECRET} if way == "environment" else {}
    found = accepted(SMALL + f"cache:\n  memcached: 127.0.0.1:1\n  {line}\n", environ)
    assert found.secret == SECRET.encode()
    assert SECRET not in repr(found)


@pytest.mark.parametrize("cache", ["{memcached: '127.0.0.1:1'}", "{memcached: '127.0.0.1:1', secret_file: /nowhere}"])
def test_without_a_secret_it_says_that_keys_are_not_shared(cache: str) -> None:
    found = accepted(SMALL + f"cache: {cache}\n")
    assert found.secret is None
    assert "memcached is used for counters only" in found.notes[0]


def test_a_secret_that_does_not_fit_is_not_shown() -> None:
    (line,) = mistakes(SMALL + "cache: {secret: hunter2}\n")
    assert "hunter2" not in line


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a: [\n"], ids=["missing", "no text", "no YAML"])
def test_a_file_that_cannot_be_used_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "c.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.load(str(file), {})
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].startswith(f"{file}:")


def test_a_folder_in_place_of_a_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        config.load(str(tmp_path), {})


# ---- the schema for editors


def schema_mistakes(text: str) -> list[str]:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return [str(e.message) for e in jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(text))]


def test_the_schema_accepts_the_example() -> None:
    assert schema_mistakes(EXAMPLE) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(EXAMPLE.replace("jwks_cache_ttl", "jwks_cache_tll"), id="an unknown setting"),
        pytest.param(EXAMPLE.replace("authorization:", "authorisation:"), id="an unknown section"),
        pytest.param(EXAMPLE.replace("3600", "soon"), id="a wrong type"),
        pytest.param(EXAMPLE.replace("      - name: okta\n        issuer", "      - issuer"), id="a missing name"),
        pytest.param(EXAMPLE.replace("- name: okta\n", "- name: okta\n        type: Okta\n"), id="an unknown type"),
        pytest.param(EXAMPLE.replace("allowed_roles: []", "scopes: []"), id="an empty list of scopes"),
        pytest.param(EXAMPLE.replace("allowed_roles: []", "require: [{equals: x}]"), id="a condition without claim"),
        pytest.param(EXAMPLE.replace("limit: unlimited", "limits: unlimited"), id="an unknown setting of a tier"),
    ],
)
def test_the_schema_refuses(text: str) -> None:
    assert schema_mistakes(text)


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(json_schema()))["additionalProperties"] is False


# ---- hostile files


@pytest.mark.parametrize(
    ("text", "because"),
    [
        pytest.param(
            "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
            "the file stands for more than 200000 values",
            id="an alias bomb",
        ),
        pytest.param("a: &a [*a, *a, *a]\n", "the file stands for more than 200000 values", id="an alias of itself"),
        pytest.param("a: &a {b: *a}\n", "nested too deep", id="a ring of aliases"),
        pytest.param("[" * 100_000, "nested too deep", id="a deep nesting"),
        pytest.param("{a: " * 100_000, "nested too deep", id="a deep nesting of settings"),
        pytest.param("- " * 100_000, "nested too deep", id="a deep nesting of lists"),
        pytest.param("a: " + "x" * 5_000_000, "larger than 4 MiB", id="5 MB"),
        pytest.param("a: \0", "a character that YAML does not allow", id="a NUL"),
        pytest.param("a: \ud800", "a character that YAML does not allow", id="half a character"),
        pytest.param("!!python/object/apply:os.system ['echo hi']", "does not fit", id="a call as the file"),
        pytest.param("cache: !!python/object/new:os.system [x]", "does not fit", id="a call as a section"),
        pytest.param("".join(f"k{n}: 1\n" for n in range(15_000)), "is no setting", id="15000 unknown settings"),
        pytest.param(SMALL + "cache: {memcached: !!timestamp x}", "cannot be read", id="a date that is none"),
        pytest.param(SMALL + "cache: {memcached: !!int ''}", "cannot be read", id="a number that is none"),
    ],
)
def test_a_hostile_file_is_refused_soon(text: str, because: str) -> None:
    started = time.process_time()
    lines = mistakes(text)
    assert time.process_time() - started < 8
    assert any(because in line for line in lines)


LINE = re.compile(r"f:\d+:\d+: [^\n\r]+")


def assert_settings_or_lines(text: str) -> None:
    lines = None
    try:
        assert isinstance(config.parse(text, "f", {}), Settings)
    except ConfigError as problem:
        lines = problem.lines
    assert lines is None or (lines and all(LINE.fullmatch(line) for line in lines))


WORDS = st.sampled_from(
    re.findall(r"[\w/*:@.-]+", EXAMPLE)
    + ["{", "}", "[", "]", ": ", "- ", "\n", "\n  ", "\n    ", ", ", "&a ", "*a"]
    + ["!!bool x", "!!set ", "<<: ", "? ", "| ", "${X}", "~", "0x1F", ".inf", "1e999", "2001-01-01", "''", '"\\n"', "%"]
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=60).map("".join)))
def test_any_text_is_settings_or_mistakes_in_lines(text: str) -> None:
    assert_settings_or_lines(text)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_example_with_one_value_replaced_is_settings_or_mistakes(data: st.DataObject) -> None:
    leaf = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
    odd = st.recursive(leaf, lambda s: st.one_of(st.lists(s, max_size=3), st.dictionaries(st.text(), s, max_size=3)))
    root = yaml.safe_load(WITH_TENANT)
    place = root
    while True:
        name = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[name], dict | list) or not place[name] or data.draw(st.booleans()):
            break
        place = place[name]
    place[name] = data.draw(odd)
    assert_settings_or_lines(yaml.safe_dump(root))


def test_mistakes_of_shape_and_of_meaning_are_said_in_one_run() -> None:
    text = """\
authentication:
  oidc:
    providers:
      - {name: a, issuer: "http://x.test/", audiense: q}
authorization:
  rbac:
    rules:
      - {path: /api/*, allowed_roles: []}
      - {path: /api/x/*, method: 7}
      - nonsense
"""
    said = "\n".join(mistakes(text))
    for part in ("audience: is missing", "did you mean audience?", "is not https", "can never match", "7 does not fit"):
        assert part in said


@pytest.mark.parametrize(
    "written",
    [
        "cache: {SECRET}",
        "cache: {{{SECRET}: 1}}",
        "cache: {{secret: 12345}}",
        "cache: {{memcached: [{{a: {SECRET}}}]}}",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(written: str) -> None:
    secret = "SuperSecretSuperSecretSuperSecret"
    said = "\n".join(mistakes(written.format(SECRET=secret)))
    assert said
    assert secret not in said
    assert "12345" not in said
