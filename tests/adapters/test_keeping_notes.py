"""What `authsvc check` says of decision_cache, and what the settings mean."""

from __future__ import annotations

import pytest

from authsvc.adapters import config

CONFIG = """\
authentication: {oidc: {providers: [{name: demo, issuer: "https://i.example/", audience: a}]}}
authorization:
  decision_cache: %s
  rbac:
    default: %s
    rules:
      - {path: /a, allowed_roles: [r], decision_cache: 30s}
      - {path: /b, allowed_roles: [r]}
      - {path: /c, allowed_roles: [r], decision_cache: off}
      - {path: /d, allowed_roles: [r], rate_limit: exempt}
rate_limit: {tiers: {free: {limit: %s}}}
"""


def settings(for_all: str = "5s", default: str = "authenticated", limit: str = "5/hour") -> config.Settings:
    return config.parse(CONFIG % (for_all, default, limit), "f", {})


def notes(*given: str) -> list[str]:
    return [note for note in settings(*given).notes if "decision_cache: " in note]


@pytest.mark.parametrize(("for_all", "seconds"), [("5s", 5), ("1m", 60), ("off", 0), ("'off'", 0)])
def test_a_rule_says_it_for_itself_and_the_rest_as_all_do(for_all: str, seconds: int) -> None:
    policy = settings(for_all).policy
    assert [rule.keep_s for rule in (*policy.rules, policy.default)] == [30, seconds, 0, seconds, seconds]


def test_check_names_what_is_counted_and_so_never_kept() -> None:
    blind, counted = notes("5s")
    assert "not counted, not audited" in blind
    assert "nothing is kept until it includes authsvc-cache-http.conf and authsvc-cache-server.conf" in blind
    assert blind.startswith("f:3:3: authorization.decision_cache: ")
    assert "(tiers free) in rules.0 /a, rules.1 /b, paths that no rule governs: write rate_limit: exempt" in counted
    assert "(tiers free) in rules.0 /a: " in notes("off")[1]
    assert notes("off")[1].startswith("f:7:40: authorization.rbac.rules.0.decision_cache: keeps nothing of callers")
    assert "(tiers free) in rules.0 /a, rules.1 /b: " in notes("5s", "deny")[1]
    assert len(notes("5s", "deny", "unlimited")) == 1


def test_of_many_rules_that_keep_nothing_some_are_named() -> None:
    rules = "".join(f"      - {{path: /{number}, allowed_roles: [r]}}\n" for number in range(30))
    text = CONFIG % ("5s", "deny", "5/hour")
    made = config.parse(text[: text.index("      - ")] + rules + text[text.index("rate_limit: {tiers") :], "f", {})
    (note,) = (note for note in made.notes if "keeps nothing" in note)
    assert "in rules.0 /0, rules.1 /1, rules.2 /2, rules.3 /3, rules.4 /4, 25 more: write" in note


def test_nothing_is_said_where_nothing_is_kept() -> None:
    text = "authentication: {oidc: {providers: [{name: demo, issuer: 'https://i.example/', audience: a}]}}\n"
    made = config.parse(text, "f", {})
    assert not made.policy.keeps
    assert not [note for note in made.notes if "decision_cache" in note]
    alone = "authorization: {decision_cache: 5s, rbac: {enabled: false}}\n"
    assert config.parse(text + alone, "f", {}).policy.default.keep_s == 5


def test_the_digest_of_a_config_is_that_of_what_it_says() -> None:
    assert settings("5s").digest == settings("'5s'").digest
    assert settings("5s").digest != settings("6s").digest
