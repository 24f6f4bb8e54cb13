"""What the credential that is not in force would have brought about: told, and without any weight."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.core.claims import Condition
from authsvc.core.model import Other, Quota, QuotaPolicy, Reason
from authsvc.core.provider import Strength
from authsvc.core.ratelimit import Limits, Rate, Tier
from authsvc.core.rbac import Asks, rule
from keyworld import REASONS, RECORDS, TEXTS, key_call, key_gate
from worlds import NOW, FakeCounters, FakeKeys, call, decide
from worlds import token as signed

ADMINS, READERS, EVERYBODY = ([rule("/orders", None, roles)] for roles in (["admin"], ["reader"], ()))
TIERS = Limits((Tier("pro", (Rate(10, 60),), Condition(("plan",), "in", ("pro",))), Tier("free", (Rate(5, 60),))))


def other(deciding, key, bearer, **rest):
    found = decide(deciding, key_call(key, bearer, **rest)).other
    return None if found is None else (found.method, found.reason.value, found.named, found.differs)


def told(deciding, key, bearer):
    """Without whom it names."""
    method, reason, _, differs = other(deciding, key, bearer)
    return method, reason, differs


# ---- the token decides


@pytest.mark.parametrize(
    ("key", "token", "rules", "expected"),
    [
        pytest.param("good", {}, READERS, ("api_key", "allowed", ()), id="both pass alike"),
        pytest.param("other", {}, (), ("api_key", "allowed", ("roles", "tier")), id="both pass, as somebody else"),
        pytest.param("bare", {}, (), ("api_key", "allowed", ("roles",)), id="the key has no role"),
        pytest.param("bare", {}, READERS, ("api_key", "role_required", ("refused", "roles")), id="and lacks it"),
        pytest.param(
            "other", {}, ADMINS, ("api_key", "allowed", ("refused", "roles", "tier")), id="only the key passes"
        ),
        pytest.param("good", {}, ADMINS, ("api_key", "role_required", ()), id="neither passes"),
        pytest.param("revoked", {}, (), ("api_key", "revoked_api_key", ("refused",)), id="the key is revoked"),
        pytest.param("revoked", {}, ADMINS, ("api_key", "revoked_api_key", ()), id="neither passes, for two reasons"),
        pytest.param("revoked", {"exp": NOW - 1000}, (), ("api_key", "revoked_api_key", ()), id="both are bad"),
        pytest.param("revoked", {"iss": "x"}, (), ("api_key", "revoked_api_key", ()), id="the token is of nobody"),
    ],
)
def test_of_the_key_where_the_token_decides(key, token, rules, expected):
    deciding = key_gate(percent=100, rules=rules, limits=TIERS)
    assert told(deciding, key, signed(**token)) == expected


# ---- the key decides


@pytest.mark.parametrize(
    ("key", "token", "rules", "expected"),
    [
        pytest.param("good", {"exp": NOW - 1000}, (), ("oidc", "expired", ("refused",)), id="the token is bad"),
        pytest.param("good", {}, (), ("oidc", "allowed", ()), id="the token is not open, and told as if it were"),
        pytest.param("good", {}, ADMINS, ("oidc", "role_required", ()), id="neither would pass"),
        pytest.param(
            "revoked", {}, (), ("oidc", "allowed", ("refused",)), id="the key is refused, and the token not open"
        ),
        pytest.param("revoked", {"iss": "x"}, (), ("oidc", "unknown_issuer", ()), id="both are bad"),
    ],
)
def test_of_the_token_where_the_key_decides(key, token, rules, expected):
    assert told(key_gate(percent=0, rules=rules, limits=TIERS), key, signed(**token)) == expected


def test_a_provider_that_is_down_is_told_of_too():
    deciding = key_gate(percent=0, keys=FakeKeys(None, None, failure="down"))
    assert other(deciding, "good", signed()) == ("oidc", "keys_unavailable", None, ("refused",))


# ---- whom it names


def test_the_other_one_is_named_where_it_is_known():
    assert other(key_gate(), "good", signed())[2].client == RECORDS["good"].id
    assert other(key_gate(), "revoked", signed())[2].client == RECORDS["revoked"].id
    assert other(key_gate(), "unknown", signed())[2] is None
    assert other(key_gate(percent=0), "good", signed(sub="ann"))[2].user_id == "ann"
    assert other(key_gate(percent=0), "good", "junk")[2] is None


# ---- where nothing is compared


@pytest.mark.parametrize("mode", ["require_same_owner", "refuse"])
def test_where_both_must_agree_nothing_is_compared(mode):
    for key in ("good", "of the user", "revoked"):
        assert other(key_gate(mode), key, signed()) is None


@pytest.mark.parametrize("request_", [key_call("good"), call(signed()), call()], ids=["key", "token", "nothing"])
def test_one_credential_is_compared_with_nothing(request_):
    assert decide(key_gate(), request_).other is None


def test_where_no_rule_governs_nobody_is_asked_who_he_is():
    assert other(key_gate(deny_by_default=True), "good", signed()) is None


# ---- public paths


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("good", ("api_key", "allowed", ())),
        ("other", ("api_key", "allowed", ("roles", "tier"))),
        ("revoked", ("api_key", "revoked_api_key", ())),
    ],
)
def test_on_a_public_path_nobody_would_have_been_refused(key, expected):
    deciding = key_gate(rules=EVERYBODY, limits=TIERS)
    assert decide(deciding, key_call(key, signed())).reason is Reason.PUBLIC
    assert told(deciding, key, signed()) == expected


# ---- headers that would not fit


@pytest.mark.parametrize("rules", [(), EVERYBODY])
def test_an_other_one_that_does_not_fit_into_the_headers_would_have_been_refused(rules):
    many = [f"role-{number:04}" for number in range(300)]
    deciding = key_gate(rules=rules)
    big = signed(roles=many)
    assert decide(deciding, key_call(None, big)).reason is Reason.IDENTITY_TOO_LARGE
    record = replace(RECORDS["good"], roles=tuple(many))
    api_keys = replace(deciding.who.api_keys, book=lambda now: {record.digest: record})
    shadowed = replace(deciding, who=replace(deciding.who, api_keys=api_keys))
    assert told(shadowed, "good", signed()) == ("api_key", "identity_too_large", ("refused", "roles"))


# ---- rules on how somebody signed in


def test_a_key_beside_a_token_would_have_been_refused_by_a_rule_on_signing_in():
    rules = [rule("/orders", None, None, Asks(strength=Strength(acr=("c1",))))]
    deciding = key_gate(rules=rules)
    assert decide(deciding, key_call("good", signed(acr="c1"))).allowed
    assert told(deciding, "good", signed(acr="c1")) == ("api_key", "step_up_required", ("refused",))


# ---- limits


FULL = (Quota(QuotaPolicy("free", 5, 60), 0, 30, refused=True),)


@pytest.mark.parametrize(("percent", "who"), [(100, "u-1"), (0, "acme")])
def test_only_the_one_that_decides_is_counted(percent, who):
    counters = FakeCounters()
    deciding = key_gate(percent=percent, limits=TIERS, counters=counters)
    assert decide(deciding, key_call("good", signed())).allowed
    ((tier, subject, cost),) = counters.spent
    assert (tier, cost) == ("free", 1)
    assert who in subject


def test_a_limit_that_is_reached_is_no_difference():
    deciding = key_gate(limits=TIERS, counters=FakeCounters(FULL))
    assert decide(deciding, key_call("good", signed())).reason is Reason.RATE_LIMITED
    assert told(deciding, "good", signed()) == ("api_key", "allowed", ())


def test_a_call_that_is_refused_counts_for_nobody():
    counters = FakeCounters()
    decide(key_gate(limits=TIERS, counters=counters, rules=ADMINS), key_call("other", signed()))
    decide(key_gate(limits=TIERS, counters=counters), key_call("revoked", "junk"))
    assert counters.spent == []


# ---- it has no weight


@settings(deadline=None, max_examples=300)
@given(
    key=st.sampled_from(sorted(TEXTS)),
    bearer=st.sampled_from([signed(), signed(sub="ann"), signed(exp=NOW - 1000), signed(roles=["admin"]), "junk"]),
    percent=st.sampled_from([0, 30, 100]),
    rules=st.sampled_from([(), ADMINS, READERS, EVERYBODY]),
    full=st.booleans(),
)
def test_the_other_one_changes_nothing_in_a_decision(key, bearer, percent, rules, full):
    """But for what is said of it, the decision is that of the one in force alone."""

    def decided(request):
        deciding = key_gate(percent=percent, rules=rules, limits=TIERS, counters=FakeCounters(FULL if full else ()))
        decision, headers = deciding.decide(request, NOW)
        return decision, headers

    both, headers = decided(key_call(key, bearer))
    if both.other is None:  # a public path, and what was in force is not good
        assert both.ignored is not None
        return
    alone = key_call(key) if both.other.method == "oidc" else key_call(None, bearer)
    single, its_headers = decided(alone)
    other, both.other = both.other, None
    assert both == single
    assert headers == its_headers
    assert isinstance(other, Other)
    assert set(other.differs) <= {"refused", "roles", "tier"}
    if other.reason.value in REASONS.values() and other.reason is not Reason.ALLOWED:
        assert REASONS[key] == other.reason.value
