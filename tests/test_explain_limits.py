"""What explain says of limits: which one holds, and nothing of what is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from authsvc.demo.issuer import Issuer
from authsvc.explain import Explanation, explain
from cases.kit import settings_for

CONFIG = """\
authentication:
  oidc:
    providers: [{name: demo, issuer: "${ONE}", audience: "https://api.example.test", allow_insecure_http: true}]
authorization:
  rbac:
    rules:
      - {path: /public/*, allowed_roles: []}
      - {path: /health, rate_limit: exempt}
      - {path: /export/*, rate_limit: {limit: [2/minute, 9/hour], cost: 2}}
rate_limit:
  headers: both
  tiers:
    staff: {limit: unlimited, matching_claim: plan=staff}
    gold: {limit: [10/second, 1000/15minutes], matching_claim: plan=gold}
    quiet: {limit: 5/hour, mode: shadow, matching_claim: plan=quiet}
    none: {limit: 0/day, matching_claim: plan=none}
    free: {limit: 100/hour burst 20}
  anonymous: {limit: 60/minute}
"""
UNUSED = "(what is used is not asked here)"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as one:
        yield one


def told(issuer: Issuer, target: str, config: str = CONFIG, **claims: Any) -> Explanation:
    token = issuer.token(**{"sub": "ann"} | claims) if claims else None
    return explain(settings_for(config, ONE=issuer.url), "GET", target, token, "203.0.113.7")


@pytest.mark.parametrize(
    ("target", "claims", "said"),
    [
        ("/x", {"plan": "other"}, f"tier free: 100/hour and 20/12minutes {UNUSED}"),
        ("/x", {"plan": "gold"}, f"tier gold: 10/second and 1000/15minutes {UNUSED}"),
        ("/x", {"plan": "staff"}, "tier staff: unlimited"),
        ("/x", {"plan": "quiet"}, f"tier quiet: 5/hour, in shadow: nobody is refused {UNUSED}"),
        ("/export/x", {"plan": "gold"}, f"tier rules.2: 2/minute and 9/hour {UNUSED}"),
        ("/export/x", {"plan": "staff"}, f"tier rules.2: 2/minute and 9/hour {UNUSED}"),
        ("/health", {"plan": "gold"}, "no limit applies"),
        ("/public/x", {}, f"tier anonymous: 60/minute {UNUSED}"),
        ("/x", {"plan": "none"}, "tier none: 0/day is used up"),
        ("/x", {}, "not reached"),
    ],
)
def test_explain_says_which_limit_holds(issuer: Issuer, target: str, claims: dict[str, str], said: str) -> None:
    (step,) = [step for step in told(issuer, target, **claims).steps if step.name == "limit"]
    assert step.text == said


FLEET = CONFIG + "cache: {memcached: 127.0.0.1:1}\n"
SHOW = "(what is used is not asked here: see authsvc limits show {})"


@pytest.mark.parametrize(
    ("by", "target", "claims", "named"),
    [
        ("user_id", "/x", {"sub": "max"}, "max"),
        ("user_id", "/x", {"sub": "auth0|max o'b"}, """'auth0|max o'"'"'b'"""),
        ("user_id", "/x", {"sub": "-c"}, "-- -c"),
        ("user_id", "/export/x", {"sub": "max"}, "max"),
        ("user_id", "/public/x", {}, "203.0.113.7"),
        ("ip", "/x", {"sub": "max"}, "203.0.113.7"),
        ("[{claim: org}, ip]", "/x", {"sub": "max", "org": "acme"}, "acme 203.0.113.7"),
    ],
)
def test_explain_names_the_command_that_tells_what_is_used(
    issuer: Issuer, by: str, target: str, claims: dict[str, str], named: str
) -> None:
    config = FLEET.replace("  headers: both\n", f"  by: {by}\n")
    (step,) = [step for step in told(issuer, target, config, **claims).steps if step.name == "limit"]
    assert step.text.endswith(SHOW.format(named))


def test_explain_names_no_command_where_none_tells_what_is_used(issuer: Issuer) -> None:
    """A user without the claim is counted as a user, and the words of `limits show` name a claim here."""
    config = FLEET.replace("  headers: both\n", "  by: {claim: org}\n")
    (step,) = [step for step in told(issuer, "/x", config, plan="other").steps if step.name == "limit"]
    assert step.text.endswith(UNUSED)


def test_explain_shows_no_count_of_any_kind(issuer: Issuer) -> None:
    found = told(issuer, "/x", plan="gold")
    assert found.allowed
    assert not [name for name, _ in found.headers if "RateLimit" in name]


def test_explain_shows_no_receipt(issuer: Issuer) -> None:
    assert "X-Auth-Receipt" not in dict(told(issuer, "/x", plan="gold").headers)
