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
    token = issuer.token("ann", **claims) if claims else None
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


def test_explain_shows_no_count_of_any_kind(issuer: Issuer) -> None:
    found = told(issuer, "/x", plan="gold")
    assert found.allowed
    assert not [name for name, _ in found.headers if "RateLimit" in name]


def test_explain_shows_no_receipt(issuer: Issuer) -> None:
    assert "X-Auth-Receipt" not in dict(told(issuer, "/x", plan="gold").headers)
