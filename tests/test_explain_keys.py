"""`authsvc explain --api-key`, the nginx files, and audit lines: what they say of a key, and that none repeats one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authsvc.adapters.keylines import to_line
from authsvc.cli import main
from authsvc.core.model import Reason
from authsvc.demo.issuer import Issuer
from authsvc.nextsteps import FOR_API_KEYS, NEXT_STEPS
from cases.kit import Door, settings_for
from keyworld import REASONS, RECORDS, SECRETS, TEXTS

CONFIG = """\
authentication:
  oidc:
    providers:
      - {{name: demo, issuer: "{url}", audience: "https://api.example.test", allow_insecure_http: true}}
  api_keys: {{keys_file: "{keys}"{more}}}
  migration: {{oidc_rollout: {percent}, both: {both}}}
authorization:
  rbac:
    rules: [{{path: /admin/*, allowed_roles: [admin]}}, {{path: /mfa, mfa: true}}, {{path: /pub, allowed_roles: []}}]
"""
ENDED = ', deprecation: {announce: 2020-01-01, sunset: 2021-01-01, link: "https://example.com/m"}'


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as started:
        yield started


class World:
    """A config with a file of keys."""

    def __init__(self, folder: Path, issuer: Issuer) -> None:
        self.file, self.keys, self.issuer = folder / "authsvc.yaml", folder / "keys.jsonl", issuer
        past = {"expired": {"expires": 1e9}, "replaced": {"until": 1e9}}
        self.keys.write_bytes(
            b"".join(to_line(replace(record, **past.get(name, {}))) for name, record in RECORDS.items())
        )
        self.text = ""
        self.config()

    def config(self, more: str = "", percent: int = 100, both: str = "prefer_oidc") -> None:
        self.text = CONFIG.format(url=self.issuer.url, keys=self.keys, more=more, percent=percent, both=both)
        self.file.write_text(self.text)

    def explain(self, *words: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(main, ["explain", "-c", str(self.file), *words], input=typed)

    def told(self, key: str, *words: str) -> str:
        return self.explain("--api-key", TEXTS.get(key, key), *(words or ("GET", "/x"))).stdout

    def line(self, **headers: str) -> dict[str, object]:
        """The audit line of a call to /admin/x."""
        door = Door(settings_for(self.text))
        door.ask("GET", "/admin/x", **headers)
        found: dict[str, object] = json.loads(door.lines[-1])
        return found


@pytest.fixture
def world(tmp_path: Path, issuer: Issuer) -> World:
    return World(tmp_path, issuer)


# ---- explain


def test_explain_of_a_good_key_shows_the_way(world: World) -> None:
    done = world.explain("--api-key", TEXTS["other"], "GET", "/admin/x")
    assert done.exit_code == 0
    for words in (
        f"✓ key       {RECORDS['other'].name} of umbrella",
        "✓ identity  umbrella by API key, roles: admin",
        "200 allowed",
        "X-Auth-Method: api_key",
    ):
        assert words in done.stdout
    assert " token " not in done.stdout


@pytest.mark.parametrize("key", [name for name in REASONS if REASONS[name] != "allowed"])
def test_explain_of_a_bad_key_says_why_and_what_to_do(world: World, key: str) -> None:
    done = world.explain("--api-key", TEXTS[key], "GET", "/x")
    assert done.exit_code == 1
    assert f"401 {REASONS[key]}: " in done.stdout
    assert f"next: {NEXT_STEPS[Reason(REASONS[key])]}" in done.stdout
    assert "✗ key " in done.stdout
    assert not any(secret in done.output for secret in SECRETS)


@pytest.mark.parametrize(("call", "reason"), [("/admin/x", Reason.ROLE_REQUIRED), ("/mfa", Reason.STEP_UP_REQUIRED)])
@pytest.mark.parametrize("key", ["good", "bare"])
def test_explain_of_a_key_that_is_not_enough_sends_nobody_to_the_issuer(
    world: World, call: str, reason: Reason, key: str
) -> None:
    told = world.told(key, "GET", call)
    assert reason.value in told
    step = FOR_API_KEYS.get(reason, "send a token in place of the key: behind a key nobody signs in")
    assert f"next: {step}" in told


def test_explain_says_that_a_key_has_no_role(world: World) -> None:
    assert "the caller has no role: his key was made without any" in world.told("bare", "GET", "/admin/x")


def test_explain_of_keys_that_have_ended_names_day_and_link(world: World) -> None:
    world.config(ENDED)
    told = world.told("good")
    assert "of acme, API keys are no longer accepted since Fri, 01 Jan 2021 00:00:00 GMT" in told
    assert "https://example.com/m" in told


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        ("announce: 2020-01-01", "API keys end on a day to be named"),
        ("announce: 2020-01-01, sunset: 2090-01-01", "API keys end Sun, 01 Jan 2090"),
        ("announce: 2020-01-01, sunset: 2021-01-01, grace: 36500d", "are accepted until Sun, 08 Dec 2120"),
    ],
)
def test_explain_says_how_far_the_end_of_keys_has_come(world: World, dates: str, said: str) -> None:
    world.config(f", deprecation: {{{dates}}}")
    assert said in world.told("good")


def test_explain_says_when_a_key_ends_by_itself(world: World) -> None:
    lines = [replace(RECORDS["good"], expires=4e9, replaced_by="0" * 16, until=3.9e9)]
    world.keys.write_bytes(b"".join(map(to_line, lines)))
    assert re.search(
        r"of acme, expires in \d+ days, replaced by ask_0{16}, works for another \d+ days", world.told("good")
    )


@pytest.mark.parametrize(
    ("percent", "key", "claims", "said"),
    [
        (100, "good", {}, "the token decides; the API key of acme is good as well, with other roles"),
        (100, "other", {"roles": ["user"]}, "the token decides; the API key of umbrella is good as well"),
        (100, "revoked", {}, "the token decides; the API key of acme would be refused: revoked_api_key"),
        (100, "unknown", {}, "the token decides; the API key would be refused: unknown_api_key"),
        (0, "good", {}, "the API key decides; the token of ann is good as well"),
        (0, "good", {"aud": "x"}, "the API key decides; the token would be refused: wrong_audience"),
    ],
)
def test_explain_says_which_of_two_decides_and_what_the_other_would_have_brought(
    world: World, percent: int, key: str, claims: dict[str, object], said: str
) -> None:
    world.config(percent=percent)
    token = world.issuer.token("ann", **claims)
    done = world.explain("--token", token, "--api-key", TEXTS[key], "GET", "/x")
    assert said in done.stdout
    assert token not in done.output
    assert not any(secret in done.output for secret in SECRETS)


def test_explain_speaks_json_of_both(world: World) -> None:
    typed = f"{world.issuer.token('ann')}\n{TEXTS['good']}\n"
    done = world.explain("--json", "--token", "-", "--api-key", "-", "GET", "/x", typed=typed)
    names = [step["name"] for step in json.loads(done.stdout)["steps"]]
    assert names == ["call", "rule", "token", "key", "identity", "admitted", "limit", "other"]
    assert not any(secret in done.output for secret in SECRETS)


@pytest.mark.parametrize("before", ["X-API-Key: ", "Authorization: ApiKey ", "apikey ", "x-acme-key:  ", ""])
def test_explain_takes_a_key_with_the_words_it_is_sent_with(world: World, before: str) -> None:
    assert "200 allowed" in world.told(before + TEXTS["good"])


@pytest.mark.parametrize(
    ("key", "said"), [("", "no API key was given: what follows --api-key is empty"), ("-", "no API key was given on")]
)
def test_explain_says_that_there_is_no_key(world: World, key: str, said: str) -> None:
    done = world.explain("--api-key", key, "GET", "/x", typed="\n")
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_explain_says_that_keys_are_off(world: World) -> None:
    text = re.sub(r"  (api_keys|migration): .*\n", "", world.text)
    world.file.write_text(text)
    told = world.told("good")
    assert "· key       API keys are not accepted here" in told
    assert "401 no_credentials" in told


def test_explain_says_why_a_key_on_a_public_path_was_ignored(world: World) -> None:
    told = world.told("revoked", "GET", "/pub")
    assert f"credential ignored: revoked_api_key: {RECORDS['revoked'].name} of acme was revoked" in told
    assert "200 public" in told


# ---- audit lines


@pytest.mark.parametrize("key", ["revoked", "expired", "replaced"])
def test_an_audit_line_says_whose_known_key_was_refused(world: World, key: str) -> None:
    line = world.line(**{"X-API-Key": TEXTS[key]})
    assert (line["outcome"], line["reason"], line["auth"]) == ("deny", REASONS[key], "api_key")
    assert (line["user"], line["client"]) == ("acme", RECORDS[key].id)


def test_an_audit_line_says_whose_key_has_ended(world: World) -> None:
    world.config(ENDED)
    line = world.line(**{"X-API-Key": TEXTS["other"]})
    assert (line["reason"], line["user"], line["client"], line["tenant"]) == (
        "api_keys_ended",
        "umbrella",
        RECORDS["other"].id,
        "t-1",
    )


@pytest.mark.parametrize("key", ["unknown", "mistyped", "malformed", "two"])
def test_an_audit_line_of_an_unknown_key_names_nobody(world: World, key: str) -> None:
    line = world.line(**{"X-API-Key": TEXTS[key]})
    assert (line["provider"], line["user"], line["client"], line["auth"]) == ("api_keys", "", "", "")


def test_an_audit_line_says_to_whom_oidc_is_not_open(world: World) -> None:
    world.config(percent=0)
    line = world.line(Authorization=f"Bearer {world.issuer.token('ann')}")
    assert (line["reason"], line["user"], line["auth"]) == ("oidc_not_open", "ann", "oidc")


@pytest.mark.parametrize(
    ("percent", "key", "other"),
    [
        (100, "revoked", ("api_key", "revoked_api_key", "acme", RECORDS["revoked"].id, [])),
        (100, "other", ("api_key", "allowed", "umbrella", RECORDS["other"].id, ["refused", "roles"])),
        (100, "unknown", ("api_key", "unknown_api_key", "", "", [])),
        (0, "other", ("oidc", "role_required", "ann", "demo-client", ["refused", "roles"])),
    ],
)
def test_an_audit_line_compares_two_credentials(
    world: World, percent: int, key: str, other: tuple[object, ...]
) -> None:
    world.config(percent=percent)
    token = world.issuer.token("ann", roles=["user"], azp="demo-client")
    line = world.line(Authorization=f"Bearer {token}", **{"X-API-Key": TEXTS[key]})
    names = ("other_auth", "other_reason", "other_user", "other_client", "differs")
    assert tuple(line[name] for name in names) == other


# ---- secrets


@pytest.mark.parametrize("percent", [0, 100])
@pytest.mark.parametrize("both", ["prefer_oidc", "require_same_owner", "refuse"])
@pytest.mark.parametrize("more", ["", ENDED])
def test_no_key_is_in_any_line_answer_or_metric(world: World, percent: int, both: str, more: str) -> None:
    world.config(more, percent, both)
    door = Door(settings_for(world.text))
    token, answers = world.issuer.token("ann"), []
    for text in TEXTS.values():
        for target in ("/x", "/admin/x", "/pub", "/mfa"):
            for sent in ({"X-API-Key": text}, {"Authorization": f"ApiKey {text}"}):
                answers.append(door.ask("GET", target, **sent))
            answers.append(door.ask("GET", target, token, **{"X-API-Key": text}))
    said = f"{[answer.headers for answer in answers]}{door.lines}{door.raw('GET', '/metrics').text}"
    assert not any(secret in said for secret in SECRETS)
    assert token not in said
    assert len(door.lines) == len(answers)


# ---- nginx


def test_nginx_reads_keys_from_the_header_of_the_config(world: World) -> None:
    world.config(", header: X-Acme-Key")
    done = CliRunner().invoke(main, ["nginx", "-c", str(world.file)])
    assert done.exit_code == 0
    assert "$http_x_acme_key" in done.stdout


def test_nginx_reads_keys_from_the_usual_header_where_there_are_none(world: World) -> None:
    world.file.write_text(re.sub(r"  (api_keys|migration): .*\n", "", world.text))
    done = CliRunner().invoke(main, ["nginx", "-c", str(world.file)])
    assert "$http_x_api_key" in done.stdout


# ---- the command line


@pytest.mark.parametrize("group", ["apikeys", "migration"])
def test_the_tools_for_keys_are_commands(group: str) -> None:
    done = CliRunner().invoke(main, [group, "--help"])
    assert done.exit_code == 0
    assert "Commands:" in done.stdout
