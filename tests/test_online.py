"""`check --online` says of each provider what is good, what is wrong and what to do, in words."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from authsvc import online
from authsvc.adapters import discovery, fetch
from authsvc.cli import main
from authsvc.core.provider import Provider
from authsvc.demo.behaviours import Behaviour
from authsvc.demo.issuer import Issuer
from authsvc.online import Answer, ask, spelling
from keys import jwk, key

NOW = 1_800_000_000.0
PLACE = "/.well-known/openid-configuration"
RSA = frozenset({"RS256"})


class Saying(Issuer):
    """`says` changes the discovery document, `moved` is where all of it stands, `closed` the status of the rest."""

    def __init__(self, says: Mapping[str, Any] | None = None, moved: str = "", closed: int = 404) -> None:
        super().__init__()
        self.says, self.moved, self.closed = says or {}, moved, closed

    def respond(self, path: str) -> tuple[int, dict[str, Any]]:
        if not path.startswith(self.moved):
            return self.closed, {"error": "not here"}
        status, document = super().respond(path.removeprefix(self.moved))
        if status != 200 or "issuer" not in document:
            return status, document
        place = f"{self.url}{self.moved}"
        return status, {**document, "issuer": place, "jwks_uri": f"{place}/keys", **self.says}


@pytest.fixture(scope="module")
def good() -> Iterator[Issuer]:
    with Issuer() as started:
        yield started


def provider_of(issuer: Issuer, /, **changes: Any) -> Provider:
    settings = {"issuer": issuer.url, "audiences": frozenset({"orders-api"}), "algorithms": RSA}
    return Provider("main", **{**settings, "allow_insecure_http": True, **changes})


def answer(issuer: Issuer, /, **changes: Any) -> Answer:
    return ask(provider_of(issuer, **changes), NOW)


def said(issuer: Issuer, /, **changes: Any) -> str:
    return answer(issuer, **changes).as_text()


# ---- every outcome has its words


def slugs(module: Any) -> set[str]:
    """The outcomes that a module's source names: where it makes a failure, and where it translates a foreign one."""
    found = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS and node.args:
            found |= texts(node.args[0])
        if isinstance(node, ast.FunctionDef) and node.name == "_plain":
            returned = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
            found |= {slug for one in returned if isinstance(one, ast.Tuple) for slug in texts(one.elts[0])}
    return found


MAKERS = ("FetchFailed", "_Unusable")


def texts(node: ast.expr) -> set[str]:
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) else set()


def test_every_outcome_of_a_download_has_its_words_and_no_other_has() -> None:
    assert slugs(fetch) | slugs(discovery) == online.NEXT_STEPS.keys()


# ---- good


def test_a_provider_in_order_is_told_in_one_line(good: Issuer) -> None:
    assert said(good) == f"main: ok, 1 key from {good.url}/keys, RS256"


def test_a_provider_is_asked_once_for_each_document() -> None:
    with Issuer() as issuer:
        assert answer(issuer).ok
        assert issuer.asked == [PLACE, "/keys"]


def test_keys_that_are_not_used_are_told_with_the_reason() -> None:
    with Issuer() as issuer:
        issuer.extra = [{**issuer.keys[0].jwk(), "use": "enc", "kid": "enc-1"}, jwk(key("ES256"), kid="ec-1")]
        lines = said(issuer).splitlines()
    assert lines[0].endswith("/keys, RS256")
    assert lines[1:] == [
        "  not used: enc-1: not a signing key",
        "  not used: ec-1: no accepted algorithm fits this key",
    ]


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "s"}, "s: a symmetric key does not belong in a published set"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}, "a key without kid: the provider publishes a private"),
    ],
)
def test_a_key_that_nobody_should_publish_is_warned_of(extra: dict[str, Any], text: str) -> None:
    with Issuer() as issuer:
        issuer.extra = [extra]
        found = answer(issuer)
    assert found.ok
    assert f"  warning: {text}" in found.as_text()
    assert "whoever reads it can make tokens elsewhere: replace it at the provider" in found.as_text()


# ---- the issuer


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        ("https://x/", "https://x", "write it with the slash at the end"),
        ("https://x", "https://x/", "write it without the slash at the end"),
        ("https://x/Realm", "https://x/realm", "write it with the same capitals"),
        ("https://x/Realm/", "https://x/realm", "write it with the same capitals, and the same end"),
        ("https://x/a", "http://x/a", "write it with https://"),
        ("https://y/a", "https://x/a", "the provider calls itself y: write it with that host"),
        ("https://x:8443/a", "https://x/a", "the provider calls itself x:8443: write it with that host"),
        ("https://y/realms/a", "https://x/realms/a", "Keycloak calls itself y: set its --hostname to what its"),
        ("https://x/b", "https://x/a", "see what the iss of your tokens is, and write that"),
        ("https://x/{tenantid}/v2.0", "https://x/common/v2.0", "the document is that of all tenants"),
        ("", "https://x", "see what the iss of your tokens is"),
        ("https://[", "https://x", "see what the iss of your tokens is"),
    ],
)
def test_another_issuer_is_spelled_right(theirs: str, ours: str, words: str) -> None:
    assert spelling(theirs, ours).startswith(words)


def test_a_slash_too_few_is_said_with_both_spellings_and_the_line_to_write() -> None:
    with Saying() as issuer:
        issuer.says = {"issuer": f"{issuer.url}/"}
        lines = said(issuer).splitlines()
    assert lines == [
        f"main: the discovery document says its issuer is '{issuer.url}/', the config says '{issuer.url}'",
        f"  next: write it with the slash at the end: issuer: {issuer.url}/",
    ]


@pytest.mark.parametrize("theirs", [None, ["x"], 1, {}])
def test_a_document_without_an_issuer_is_told_as_it_is(theirs: Any) -> None:
    with Saying({"issuer": theirs}) as issuer:
        found = answer(issuer)
    assert found.outcome == "wrong_issuer"
    assert f"its issuer is {theirs!r}" in found.text
    assert found.next_step == online.NEXT_STEPS["wrong_issuer"]


def test_an_issuer_steers_no_terminal() -> None:
    with Saying({"issuer": "https://x\x1b[2J\r\nmain: ok"}) as issuer:
        assert all(line.isprintable() for line in said(issuer).splitlines())
        assert len(said(issuer).splitlines()) == 2


# ---- what is not there


@pytest.mark.parametrize(
    ("moved", "written", "other"),
    [
        pytest.param("/auth/realms/acme", "/realms/acme", "/auth", id="without the /auth that is needed"),
        pytest.param("/realms/acme", "/auth/realms/acme", "", id="with an /auth too many"),
        pytest.param("/sso/auth/realms/acme", "/sso/realms/acme", "/sso/auth", id="below another path"),
    ],
)
def test_keycloak_is_tried_with_and_without_auth(moved: str, written: str, other: str) -> None:
    with Saying(moved=moved) as issuer:
        found = answer(issuer, issuer=f"{issuer.url}{written}")
        base = f"{issuer.url}{other}"
    assert found.text == f"{issuer.url}{written}{PLACE}: the answer is 404, not 200"
    assert found.next_step == (f"{base}/realms/acme answers: write base_url: {base}, or issuer: {base}/realms/acme")


def test_a_realm_that_neither_form_knows_is_the_wrong_realm() -> None:
    with Saying(moved="/realms/Acme") as issuer:
        found = answer(issuer, issuer=f"{issuer.url}/realms/acme")
    assert found.next_step.endswith("does not answer either: compare the realm's name 'acme', capitals count")


@pytest.mark.parametrize(
    ("document", "advice"),
    [
        ("https://login.microsoftonline.com/x/v2.0", "Entra knows no such tenant"),
        ("https://acme.ciamlogin.com/x/v2.0", "External ID knows no such tenant"),
        ("https://acme.b2clogin.com/acme.onmicrosoft.com/B2C_1_x/v2.0", "B2C knows no such tenant or policy"),
        ("https://acme.okta.com/oauth2/default", "Okta knows no such authorization server"),
        ("https://acme.eu.auth0.com", "Auth0 knows no such tenant"),
        ("https://cognito-idp.eu-central-1.amazonaws.com/x", "Cognito knows no such user pool"),
    ],
)
@pytest.mark.parametrize("status", [400, 404])
def test_what_is_not_there_is_told_in_the_words_of_its_product(document: str, advice: str, status: int) -> None:
    provider = Provider("main", document, frozenset(), RSA, discovery_urls=(f"{document}{PLACE}",))
    words = online._status(provider, fetch.FetchFailed("status", f"the answer is {status}", status))
    assert words is not None
    assert words.next_step.startswith(advice)


@pytest.mark.parametrize(
    ("status", "changes", "words"),
    [
        (404, {}, "compare the address with the one the provider documents"),
        (418, {}, "compare the address with the one the provider documents"),
        (401, {}, "set jwks_token_file"),
        (403, {}, "set jwks_token_file"),
        (404, {"jwks_uri": "/nowhere"}, "compare jwks_uri with the provider's discovery document, or leave it out"),
    ],
)
def test_a_status_is_told_with_what_to_do(status: int, changes: dict[str, str], words: str) -> None:
    with Saying(moved="/elsewhere-altogether", closed=status) as issuer:
        absolute = {name: f"{issuer.url}{path}" for name, path in changes.items()}
        found = answer(issuer, **absolute)
    assert (found.outcome, words in found.next_step) == ("status", True)
    assert f"the answer is {status}, not 200" in found.text


# ---- what cannot be reached or read


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (Behaviour.DOWN, "unreachable"),
        (Behaviour.HANG, "timeout"),
        (Behaviour.ERROR, "status_5xx"),
        (Behaviour.HTML, "not_json"),
        (Behaviour.HALF, "broken"),
        (Behaviour.EMPTY, "no_keys"),
        (Behaviour.REDIRECT, "redirect"),
        (Behaviour.BOMB, "compressed"),
        (Behaviour.ENDLESS, "too_large"),
    ],
)
def test_a_provider_out_of_order_is_told_with_what_to_do(behaviour: Behaviour, outcome: str) -> None:
    with Issuer() as issuer:
        issuer.behave(behaviour)
        found = answer(issuer)
    assert (found.outcome, found.ok) == (outcome, False)
    assert found.next_step == online.NEXT_STEPS[outcome]


def test_a_server_that_speaks_no_tls_fails_in_words(good: Issuer) -> None:
    found = answer(good, issuer=good.url.replace("http://", "https://"))
    assert (found.outcome, found.next_step) == ("tls", online.NEXT_STEPS["tls"])


def test_a_host_without_an_address_is_told_apart_from_one_that_does_not_answer() -> None:
    """RFC 6761 section 6.4: .invalid has none. What a machine without any name server says of it is as good."""
    found = ask(Provider("main", "https://acme.invalid/", frozenset(), RSA), NOW)
    known = ("no name server knows 'acme.invalid'", "compare the host's name with the provider's")
    unanswered = ("no name server answers", "see whether this machine can look up host names")
    assert (found.text.rpartition(": ")[2], found.next_step) in (known, unanswered)


def test_a_token_file_that_is_not_there_is_told(good: Issuer) -> None:
    found = answer(good, token_file="/nowhere/token")
    assert (found.outcome, found.next_step) == ("token_file", online.NEXT_STEPS["token_file"])


@pytest.mark.parametrize(
    ("says", "outcome"),
    [({"jwks_uri": None}, "no_jwks_uri"), ({"jwks_uri": "ftp://x/"}, "not_allowed")],
)
def test_a_discovery_document_that_leads_nowhere(says: dict[str, Any], outcome: str) -> None:
    with Saying(says) as issuer:
        found = answer(issuer)
    assert (found.outcome, found.next_step) == (outcome, online.NEXT_STEPS[outcome])


def test_keys_on_another_host_are_named_as_they_are_to_be_written() -> None:
    with Saying({"jwks_uri": "https://keys.example/certs?a=b"}) as issuer:
        found = answer(issuer)
    assert found.outcome == "other_host"
    assert found.next_step.endswith("write that address into the config: jwks_uri: https://keys.example/certs?a=b")


# ---- no usable key


def test_keys_of_another_algorithm_are_told_with_the_setting() -> None:
    with Issuer() as issuer:
        issuer.keys = []
        issuer.extra = [jwk(key("ES256"), kid="ec-1"), {"kty": "AKP", "kid": "pq"}]
        lines = said(issuer).splitlines()
    assert lines == [
        "main: the provider's keys are for ES256; accepted is RS256",
        "  not used: pq: an unknown key type",
        "  not used: ec-1: is for ES256",
        "  next: add to the provider's algorithms what it signs with: ES256",
    ]


def test_where_no_key_is_good_each_has_its_reason() -> None:
    with Issuer() as issuer:
        enc = {**issuer.keys[0].jwk(), "use": "enc", "kid": "enc-1"}
        issuer.keys, issuer.extra = [], [enc, {"kty": "oct", "kid": "s", "k": "AAAA"}, "nonsense"]  # type: ignore[list-item]
        text = said(issuer)
    assert text.startswith(f"main: {issuer.url}/keys: the document lists no usable key\n")
    for line in (
        "not used: enc-1: not a signing key",
        "not used: a key without kid: not an object",
        "warning: s: a symmetric key does not belong in a published set: whoever reads it",
        f"next: {online.NEXT_STEPS['no_keys']}",
    ):
        assert f"  {line}" in text


def test_an_empty_key_set_is_told_as_empty() -> None:
    with Issuer() as issuer:
        issuer.keys = []
        assert "the document lists no usable key: its list of keys is empty" in said(issuer)


def test_too_many_keys_are_told() -> None:
    with Issuer() as issuer:
        issuer.extra = [{"kty": "oct"}] * 200
        assert "lists 201 keys, more than 100" in said(issuer)


# ---- opaque tokens


@pytest.mark.parametrize(
    ("issuer", "text"),
    [
        ("https://acme.eu.auth0.com/", "access tokens may be opaque: ask with an audience: audience=orders-api"),
        ("https://acme-x1.zitadel.cloud", "access tokens may be opaque: set the application's access token type"),
        ("https://acme.projects.oryapis.com", "access tokens may be opaque: set the access token strategy to jwt"),
    ],
)
def test_opaque_tokens_are_warned_of_where_they_are_usual(good: Issuer, issuer: str, text: str) -> None:
    provider = provider_of(good, issuer=issuer, discovery_urls=(f"{good.url}{PLACE}",))
    (warning,) = online._opaque(provider)
    assert warning.startswith(text)
    assert "introspection" not in warning


def test_where_the_provider_can_be_asked_about_opaque_tokens_the_address_is_told() -> None:
    with Saying({"introspection_endpoint": "https://x/introspect"}) as issuer:
        known = {"issuer": "https://acme.zitadel.cloud", "discovery_urls": (f"{issuer.url}{PLACE}",)}
        (warning,) = online._opaque(provider_of(issuer, **known))
        assert warning.endswith("; or set introspection, with url: https://x/introspect")
        assert online._opaque(provider_of(issuer, **known, opaque=True)) == ()
        assert online._opaque(provider_of(issuer)) == ()  # of any other issuer nothing is known


# ---- the command

CONFIG = """\
authentication:
  oidc:
    providers:
      - {{name: one, issuer: "{one}", audience: x, allow_insecure_http: true}}
      - {{name: two, issuer: "{two}", audience: x, allow_insecure_http: true}}
"""


def check(file: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["check", "-c", str(file), *words])


def test_check_online_tells_good_on_stdout_and_bad_on_stderr_and_exits_1(good: Issuer, tmp_path: Path) -> None:
    file = tmp_path / "authsvc.yaml"
    file.write_text(CONFIG.format(one=good.url, two="http://127.0.0.1:1"))
    done = check(file, "--online")
    assert done.exit_code == 1
    assert f"{file}: valid\none: ok, 1 key from {good.url}/keys, " in done.stdout
    assert done.stderr.startswith("two: http://127.0.0.1:1/.well-known/openid-configuration: cannot connect")
    assert f"  next: {online.NEXT_STEPS['unreachable']}\n" in done.stderr


def test_check_online_exits_0_where_every_provider_is_good(good: Issuer, tmp_path: Path) -> None:
    file = tmp_path / "authsvc.yaml"
    with Issuer() as other:
        file.write_text(CONFIG.format(one=good.url, two=other.url))
        done = check(file, "--online")
    assert (done.exit_code, done.stderr) == (0, "")


def test_check_online_speaks_json(good: Issuer, tmp_path: Path) -> None:
    file = tmp_path / "authsvc.yaml"
    file.write_text(CONFIG.format(one=good.url, two="http://127.0.0.1:1"))
    done = check(file, "--online", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["valid"]) == (1, True)
    assert [(one["provider"], one["outcome"]) for one in told["providers"]] == [("one", "ok"), ("two", "unreachable")]
    assert told["providers"][1]["next_step"] == online.NEXT_STEPS["unreachable"]


def test_check_without_online_asks_nobody(tmp_path: Path) -> None:
    file = tmp_path / "authsvc.yaml"
    with Issuer() as one, Issuer() as two:
        file.write_text(CONFIG.format(one=one.url, two=two.url))
        done = check(file, "--json")
        assert "providers" not in json.loads(done.stdout)
        assert one.asked == two.asked == []


def test_a_config_with_mistakes_asks_nobody(good: Issuer, tmp_path: Path) -> None:
    file = tmp_path / "authsvc.yaml"
    with Issuer() as other:
        file.write_text(CONFIG.format(one=other.url, two=good.url) + "nonsense: 1\n")
        done = check(file, "--online")
        assert other.asked == []
    assert done.exit_code == 1
    assert "1 to mend" in done.stderr
