"""The types of provider are listed, and `init` writes for each of them a config that needs no correction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from authsvc.adapters.config import parse
from authsvc.adapters.presetinfo import INFO
from authsvc.adapters.schema import RuleShape
from authsvc.adapters.schema.providers import ProviderShape
from authsvc.cli import main
from authsvc.demo.issuer import Issuer
from authsvc.explain import Explanation, explain

IN_PLACE = {"tenants": "tenant_id"}  # one or the other
GUID = "aaaabbbb-0000-cccc-1111-dddd2222eeee"


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def options(settings: dict[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]


def examples(kind: str, *also: str) -> dict[str, str]:
    """The examples of what the type needs, and of these others."""
    return {one.name: one.example for one in INFO[kind].settings if one.needed or one.name in also}


def written(kind: str, *words: str) -> str:
    done = run("init", "--type", kind, *options(examples(kind)), *words)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def first_provider(text: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(text)["authentication"]["oidc"]["providers"][0]
    return found


# ---- providers


def test_providers_lists_every_type_with_what_it_needs_and_its_trap() -> None:
    lines = run("providers").stdout.splitlines()
    for kind, info in INFO.items():
        row = next(number for number, line in enumerate(lines) if line.split()[:1] == [kind])
        assert info.title in lines[row]
        assert all((one.name if one.needed else f"[{one.name}]") in lines[row].split() for one in info.settings)
        assert info.hint in lines[row + 1]


def test_providers_stays_within_a_terminal() -> None:
    assert max(map(len, run("providers").stdout.splitlines())) <= 120


def test_providers_speaks_json() -> None:
    told = json.loads(run("providers", "--json").stdout)
    assert [one["type"] for one in told] == list(INFO)
    entra = next(one for one in told if one["type"] == "entra")
    assert entra["product"] == "Microsoft Entra ID"
    assert {"name": "tenant_id", "example": GUID, "needed": True} in entra["settings"]
    assert entra["hint"] == INFO["entra"].hint


# ---- init


@pytest.mark.parametrize("kind", INFO)
def test_check_accepts_what_init_writes_for(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "authsvc.yaml"
    assert run("init", "--type", kind, *options(examples(kind)), "-o", str(file)).exit_code == 0
    done = run("check", "-c", str(file))
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, one.name) for kind, info in INFO.items() for one in info.settings if not one.needed]
)
def test_check_accepts_an_optional_setting(kind: str, name: str) -> None:
    given = examples(kind, name)
    given.pop(IN_PLACE.get(name, ""), None)
    done = run("init", "--type", kind, *options(given))
    assert done.exit_code == 0, done.stderr
    assert name in first_provider(done.stdout)
    parse(done.stdout, "authsvc.yaml", {})


@pytest.mark.parametrize("kind", INFO)
def test_what_is_commented_may_be_taken_in(kind: str) -> None:
    """Each commented line, alone, with the setting that it replaces left out."""
    lines = written(kind).splitlines()
    commented = [number for number, line in enumerate(lines) if re.match(r" *#(\w+:|-) ?", line)]
    assert len(commented) >= 5
    for number in commented:
        changed = list(lines)
        changed[number] = changed[number].replace("#", "", 1)
        name = changed[number].split(":")[0].strip(" -")
        gone = IN_PLACE.get(name) or ("default" if name == "default" else "no such line")
        kept = [line for at, line in enumerate(changed) if at == number or not line.strip().startswith(f"{gone}:")]
        parse("\n".join(kept), "authsvc.yaml", {})


@pytest.mark.parametrize("kind", INFO)
def test_the_roles_that_init_tells_of_are_those_that_hold(kind: str) -> None:
    text = written(kind)
    taken_in = re.sub(r"(?m)^( +)#(roles(_claim)?: )", r"\1\2", text)
    assert taken_in != text
    before, after = (parse(one, "authsvc.yaml", {}).providers[0] for one in (text, taken_in))
    assert before == after


@pytest.mark.parametrize("kind", INFO)
def test_every_line_of_a_config_is_short_and_its_trap_is_told(kind: str) -> None:
    text = written(kind)
    assert max(map(len, text.splitlines())) <= 120
    assert INFO[kind].hint in text


@pytest.mark.parametrize("kind", INFO)
def test_init_names_everything_that_is_missing_with_an_example(kind: str) -> None:
    done = run("init", "--type", kind)
    assert (done.exit_code, done.stdout) == (2, "")
    wanted = [(f"--{one.name.replace('_', '-')}", one.example) for one in INFO[kind].settings if one.needed]
    lines = [f"type {kind} needs {option}, such as {option} {example}" for option, example in wanted]
    assert sorted(done.stderr.splitlines()) == sorted(lines)


def test_there_is_an_option_for_every_setting_of_a_type() -> None:
    told = run("init", "--help").stdout
    assert all(f"--{one.name.replace('_', '-')}" in told for info in INFO.values() for one in info.settings)
    assert {one.name for info in INFO.values() for one in info.settings} <= ProviderShape.model_fields.keys()


def test_tenant_is_short_for_tenant_id() -> None:
    done = run("init", "--type", "entra", "--tenant", GUID, "--app-id", GUID)
    assert first_provider(done.stdout)["tenant_id"] == GUID


@pytest.mark.parametrize(
    ("words", "value"),
    [
        pytest.param(["--audience", "a"], "a", id="once"),
        pytest.param(["--audience", "a", "--audience", "b"], ["a", "b"], id="twice"),
        pytest.param(["--audience", "[a]"], ["a"], id="as a list of one"),
        pytest.param(["--audience", "[a, 'b', \"c\"]"], ["a", "b", "c"], id="as a list"),
        pytest.param(["--audience", "[a, b]", "--audience", "c"], ["a", "b", "c"], id="both"),
    ],
)
def test_a_list_may_be_given(words: list[str], value: object) -> None:
    done = run("init", "--type", "oidc", "--issuer", "https://id.example.com", *words)
    assert first_provider(done.stdout)["audience"] == value


@pytest.mark.parametrize(
    "value",
    ["yes", "null", "123", "1e3", "~", "a: b", "a #b", "- a", "'", '"', "\\", "{a", "*a", "&a", "!a", "%a", "@a",
     "é", "漢字", "🙂", " a ", "|", ">", "?", "a:", "0x10", "1:30", "=", "<<", "---", "...", "2026-01-01"],
)  # fmt: skip
def test_a_value_arrives_as_it_was_given(value: str) -> None:
    assert first_provider(written("auth0", "--set", f"ca_file={json.dumps(value)}"))["ca_file"] == value
    done = run("init", "--type", "oidc", "--issuer", "https://id.example.com", "--audience", value)
    assert first_provider(done.stdout)["audience"] == value


@pytest.mark.parametrize("value", ["a\nb", "a\x1bb", "\x00", "a\x85b", "\u2028"])
def test_a_value_that_cannot_be_printed_is_refused(value: str) -> None:
    done = run("init", "--type", "oidc", "--issuer", "https://id.example.com", "--audience", value)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "cannot be printed" in done.stderr


@pytest.mark.parametrize(
    ("pair", "name", "value"),
    [
        ("mfa=true", "mfa", True),
        ("max_age=900", "max_age", 900),
        ("ca_file=/etc/ca.pem", "ca_file", "/etc/ca.pem"),
        ("name=main", "name", "main"),
        ("algorithms=[RS256, ES256]", "algorithms", ["RS256", "ES256"]),
        ('clients="123"', "clients", "123"),
        ('require=[{"claim": "plan", "equals": "pro"}]', "require", [{"claim": "plan", "equals": "pro"}]),
        ("roles_claim=https://acme.example/roles", "roles_claim", "https://acme.example/roles"),
    ],
)
def test_set_takes_any_other_setting(pair: str, name: str, value: object) -> None:
    text = written("auth0", "--set", pair)
    parse(text, "authsvc.yaml", {})
    assert first_provider(text)[name] == value
    assert text.count("name: ") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tenant-id", "contoso", "--app-id", "x"], "--tenant-id: 'contoso' is no tenant's id: write the GUID"),
        (["--tenant", GUID, "--app-id", "x", "--realm", "x"], "--realm: means nothing to type entra"),
        (["--tenant", GUID, "--app-id", "x", "--set", "foo=1"], "--set foo=...: "),
        (["--tenant", GUID, "--app-id", "x", "--set", "mfa"], "--set mfa: write --set name=value"),
        (["--tenant", GUID, "--app-id", "x", "--set", "type=okta"], "--set type=okta: write --set name=value"),
        (["--tenant", GUID, "--app-id", "x", "--guests", "some"], "--guests: "),
        (["--tenant", GUID, "--app-id", "x", "--set", "max_age=soon"], "--set max_age=...: "),
    ],
)
def test_init_tells_a_mistake_by_the_option_that_made_it(words: list[str], said: str) -> None:
    done = run("init", "--type", "entra", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


def test_init_says_how_to_allow_http_on_loopback_by_an_option() -> None:
    words = ["init", "--type", "oidc", "--issuer", "http://127.0.0.1:9", "--audience", "x"]
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--set allow_insecure_http=true" in done.stderr
    assert run(*words, "--set", "allow_insecure_http=true").exit_code == 0


def test_what_stands_in_for_a_needed_setting_will_do() -> None:
    done = run("init", "--type", "entra", "--tenants", "any", "--audience", "api://orders")
    assert done.exit_code == 0
    parse(done.stdout, "authsvc.yaml", {})


def test_init_prints_the_config_alone_on_standard_output_and_the_next_steps_beside_it() -> None:
    done = run("init", "--type", "google", "--audience", "x")
    parse(done.stdout, "authsvc.yaml", {})
    for words in (
        "authsvc check --online -c authsvc.yaml",
        "authsvc nginx -c authsvc.yaml -o /etc/nginx/authsvc/",
        "authsvc serve -c authsvc.yaml",
        "include authsvc/authsvc-http.conf;",
        "include authsvc/authsvc-server.conf;",
        "include authsvc/authsvc-location.conf;",
    ):
        assert words in done.stderr


def test_the_next_steps_name_files_that_nginx_gets(tmp_path: Path) -> None:
    file = tmp_path / "authsvc.yaml"
    told = run("init", "--type", "google", "--audience", "x", "-o", str(file)).stderr
    assert f"authsvc serve -c {file}" in told
    made = {line.split()[2] for line in run("nginx", "-c", str(file)).stdout.splitlines() if line.startswith("# ----")}
    assert set(re.findall(r"include authsvc/([\w.-]+);", told)) <= made


def test_init_never_writes_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "authsvc.yaml").write_text("mine")
    done = run("init", "--type", "google", "--audience", "x", "-o", str(tmp_path / "authsvc.yaml"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"{tmp_path / 'authsvc.yaml'} is there already: name another file with -o, or move it away\n"
    assert (tmp_path / "authsvc.yaml").read_text() == "mine"


def test_init_says_where_it_may_not_write(tmp_path: Path) -> None:
    done = run("init", "--type", "google", "--audience", "x", "-o", str(tmp_path / "none" / "authsvc.yaml"))
    assert done.exit_code == 2
    assert done.stderr.endswith("no such file or directory: name another file with -o\n")


@pytest.mark.parametrize("words", [["init"], ["init", "--type", "nonsense"], ["providers", "x"], ["init", "x"]])
def test_misuse_exits_2(words: list[str]) -> None:
    assert run(*words).exit_code == 2


# ---- README.md, Providers

OTHER = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"
GITHUB = "https://token.actions.githubusercontent.com"
CLUSTER = "https://kubernetes.default.svc.cluster.local"
DOCS = (Path(__file__).parents[1] / "README.md").read_text()
# What people do wrong at each provider: which claims then differ from a good token's (None: are missing).
MISTAKES: dict[str, list[dict[str, Any]]] = {
    "auth0": [
        {"sent": "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..aXY.dGV4dA.dGFn"},
        {"aud": "Xk3ab9QzClientId", "nonce": "n-1", "azp": None},
        {"permissions": None},
    ],
    "okta": [
        {"iss": "https://acme.okta.com", "aud": "https://acme.okta.com"},
        {"aud": "0oa48e74ox4t7mQJX0g7", "at_hash": "x", "cid": None},
        {"groups": None},
    ],
    "entra": [
        {"aud": "00000003-0000-0000-c000-000000000000", "header": {"nonce": "x"}},
        {"iss": f"https://login.microsoftonline.com/{OTHER}/v2.0", "tid": OTHER},
        {"roles": None, "_claim_names": {"groups": "src1"}},
    ],
    "entra-external": [
        {"iss": f"https://login.microsoftonline.com/{GUID}/v2.0"},
        {"azp": None, "scp": None},
        {"aud": "00000003-0000-0000-c000-000000000000", "header": {"nonce": "x"}},
    ],
    "azure-b2c": [
        {"scp": None},
        {"tfp": "B2C_1_passwordreset"},
        {"iss": f"https://login.acme.example/{GUID}/v2.0/"},
    ],
    "keycloak": [
        {"aud": "account"},
        {"iss": "http://keycloak:8080/realms/acme"},
        {"sub": None},
    ],
    "google": [
        {"sent": "ya29.a0AfB-x"},
        {"aud": "32555940559.apps.googleusercontent.com"},
        {"hd": None},
    ],
    "cognito": [
        {"token_use": "id", "client_id": None, "aud": "57cbishk4j24pabc1234567890"},
        {"client_id": "2kd0b1lqmexample0000000000"},
        {"cognito:groups": None},
    ],
    "github-actions": [
        {"aud": "https://github.com/acme"},
        {"ref": "refs/heads/feature"},
        {"iss": f"{GITHUB}/acme"},
    ],
    "gitlab-ci": [
        {"aud": "https://vault.example.com"},
        {"ref_protected": "false"},
        {"iss": "https://gitlab.example.com"},
    ],
    "kubernetes": [
        {"iss": "kubernetes/serviceaccount", "aud": None, "exp": None},
        {"aud": CLUSTER},
        {"iss": "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"},
    ],
    "oidc": [
        {"iss": "https://id.example.com/"},
        {"aud": "https://other.example.com"},
        {"roles": None},
    ],
}
# A good access token of each type, beside iss, aud, sub and times.
GOOD: dict[str, dict[str, Any]] = {
    "auth0": {"azp": "Xk3ab9QzClientId", "permissions": ["admin"]},
    "okta": {"cid": "0oa48e74ox4t7mQJX0g7", "uid": "00u1", "groups": ["admin"]},
    "entra": {"azp": OTHER, "scp": "Orders.Read", "tid": GUID, "oid": "o-1", "roles": ["admin"]},
    "entra-external": {"azp": OTHER, "scp": "Orders.Read", "tid": GUID, "oid": "o-1", "roles": ["admin"]},
    "azure-b2c": {"azp": OTHER, "scp": "orders.read", "tfp": "B2C_1_signupsignin", "roles": ["admin"]},
    "keycloak": {"azp": "web", "typ": "Bearer", "realm_access": {"roles": ["admin"]}},
    "google": {"hd": "acme.example", "email": "ann@example.com"},
    "cognito": {
        "aud": None,
        "client_id": "57cbishk4j24pabc1234567890",
        "token_use": "access",
        "cognito:groups": ["admin"],
    },
    "github-actions": {"repository": "acme/orders", "ref": "refs/heads/main", "repository_owner_id": "65"},
    "gitlab-ci": {"project_path": "acme/orders", "ref_protected": "true", "namespace_path": "acme"},
    "kubernetes": {"sub": "system:serviceaccount:orders:worker"},
    "oidc": {"roles": ["admin"]},
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as started:
        yield started


def explained(issuer: Issuer, kind: str, mistake: Mapping[str, Any]) -> Explanation:
    """What `explain` says of this token with the config that stands in the document; its keys are the simulator's."""
    settings = parse(documented(kind), "authsvc.yaml", {})
    (provider,) = settings.providers
    here = replace(provider, jwks_uri=f"{issuer.url}/keys", token_file=None, ca_file=None, allow_insecure_http=True)
    usual = {"iss": provider.issuer, "aud": min(provider.audiences), **GOOD[kind]}
    claims = {**usual, **{name: value for name, value in mistake.items() if name not in ("header", "sent")}}
    token = mistake.get("sent") or issuer.token(header={"typ": "JWT", **mistake.get("header", {})}, **claims)
    return explain(replace(settings, providers=(here,)), "GET", "/api/admin/x", token, "127.0.0.1")


def section(kind: str) -> str:
    """A type's section in the document."""
    return DOCS.partition(f"(`type: {kind}`)\n")[2].partition("\n##")[0].replace("&lt;", "<")


def documented(kind: str) -> str:
    """The provider's lines in its section, with a rule."""
    entry = re.search(r"```yaml\n(.*?)```", section(kind), re.DOTALL)
    rule = re.search(r"```yaml\n(- \{?path.*?)```", section(kind), re.DOTALL)
    assert entry
    provider = entry[1].replace("\n", "\n      ")
    asked = (rule[1] if rule else "- {path: /api/admin/*, allowed_roles: [admin]}").replace("\n", "\n      ")
    return (
        f"authentication:\n  oidc:\n    providers:\n      {provider}\n"
        f"authorization:\n  rbac:\n    rules:\n      {asked}\n"
    )


@pytest.mark.parametrize("kind", INFO)
def test_the_config_in_the_document_accepts_a_good_token_of(kind: str, issuer: Issuer) -> None:
    told = explained(issuer, kind, {})
    assert told.allowed, told.as_text()


@pytest.mark.parametrize(
    ("kind", "mistake"), [(kind, mistake) for kind, mistakes in MISTAKES.items() for mistake in mistakes]
)
def test_the_document_quotes_explain(kind: str, mistake: dict[str, Any], issuer: Issuer) -> None:
    _, _, told = explained(issuer, kind, mistake).as_text().partition("\n\n")
    verdict, next_step, *_ = told.splitlines()
    text = " ".join(section(kind).split())
    assert f"`{verdict}`" in text
    assert f"{next_step.removeprefix('next: ')}" in text


@pytest.mark.parametrize("kind", INFO)
def test_the_document_tells_of_no_mistake_that_is_not_tried_here(kind: str) -> None:
    assert len(re.findall(r"(?m)^\| .* \| `\d{3} ", section(kind))) == len(MISTAKES[kind])


@pytest.mark.parametrize("name", RuleShape.model_fields)
def test_the_document_has_a_line_for_what_a_rule_may_ask(name: str) -> None:
    assert f"\n| `{name}` |" in DOCS
