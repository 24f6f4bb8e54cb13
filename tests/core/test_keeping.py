"""For how long nginx may keep a decision: never for longer than the config allows, or than it is true."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.core import keeping, migration
from authsvc.core.apikeys import ENTROPY_BYTES, ApiKey, mint
from authsvc.core.callers import ApiKeys
from authsvc.core.migration import Deprecation, Window
from authsvc.core.model import Decision, Reason, Request
from authsvc.core.provider import Strength
from authsvc.core.ratelimit import Limits, Rate, Spending, Tier
from authsvc.core.rbac import Asks, Policy, rule
from authsvc.core.response import render
from worlds import AUDIENCE, NOW, FakeIntrospects, call, decide, gate, provider, token

KEPT = replace(rule("/kept/*", None, None), keep_s=5)
TEXT, DIGEST = mint(b"k" * ENTROPY_BYTES)
INFINITE = float("inf")


def kept(deciding=None, **changes):
    deciding = deciding or gate(rules=(KEPT,), limits=Limits())
    return decide(deciding, replace(call(token(), target="/kept/x"), **changes)).keep_s


@given(st.integers(0, 60), st.floats(0, 2e9), st.floats(0, 2e9), st.floats(0, keeping.DELAY_S - 0.001))
def test_what_nginx_keeps_ends_in_time_however_late_it_got_it(at_most_s, until, now, delay_s):
    seconds = keeping.seconds(at_most_s, until, now)
    assert seconds >= 0
    if seconds:
        longest_s = seconds + keeping.GRANULARITY_S
        assert longest_s <= at_most_s
        assert now + delay_s + longest_s <= until + 1e-6


@pytest.mark.parametrize(
    ("at_most_s", "left_s", "seconds"),
    [
        (5, 3600, 4),
        (5, INFINITE, 4),
        (60, 3600, 59),
        (2, 3600, 1),
        (0, 3600, 0),
        (5, 8, 4),
        (5, 7, 3),
        (5, 4, 0),
        (5, -9, 0),
    ],
)
def test_one_second_less_than_allowed_and_four_less_than_the_credential_lives(at_most_s, left_s, seconds):
    assert keeping.seconds(at_most_s, NOW + left_s, NOW) == seconds


def test_a_yes_is_kept_whether_its_token_was_seen_before_or_not():
    deciding = gate(rules=(KEPT,), limits=Limits())
    assert [kept(deciding), kept(deciding)] == [4, 4]


def test_the_shortest_of_all_rules_that_govern_a_call_holds():
    other = replace(rule("/other/*", None, None), keep_s=3)
    deciding = gate(rules=(KEPT, other, rule("/off/*", None, None)), limits=Limits())
    assert [kept(deciding, served=path) for path in ("/kept/y", "/other/x", "/off/x")] == [4, 2, 0]


@pytest.mark.parametrize(
    "governing",
    [
        rule("/kept/*", None, None),
        replace(rule("/kept/*", None, []), keep_s=5),
        replace(rule("/kept/*", None, None, Asks(strength=Strength(max_age_s=300))), keep_s=5),
        replace(rule("/kept/*", None, None, spending=Spending(own=Tier("own", (Rate(5, 60),)))), keep_s=5),
    ],
    ids=["nobody allowed it", "open to everyone", "a fresh sign-in", "a limit of its own"],
)
def test_a_yes_is_not_kept_where_the_rule_says_so_or_changes_with_time_or_counts(governing):
    deciding = gate(rules=(governing,), limits=Limits())
    decision = decide(deciding, call(token(auth_time=NOW), target="/kept/x"))
    assert (decision.allowed, decision.keep_s) == (True, 0)


@pytest.mark.parametrize("shadow", [False, True])
def test_who_is_counted_is_asked_about_each_time_even_in_shadow(shadow):
    limits = Limits((Tier("free", (Rate(10, 60),), shadow=shadow),))
    assert kept(gate(rules=(KEPT,), limits=limits)) == 0
    exempt = replace(rule("/kept/*", None, None, spending=Spending(cost=0)), keep_s=5)
    assert kept(gate(rules=(exempt,), limits=limits)) == 4


def test_what_no_rule_governs_is_kept_where_all_is():
    policy = Policy(default=replace(Policy().default, keep_s=5))
    deciding = replace(gate(limits=Limits()), policy=policy)
    assert (kept(deciding), policy.keeps, Policy().keeps, Policy((KEPT,)).keeps) == (4, True, False, True)


def test_a_provider_that_asks_for_fresh_sign_ins_and_an_opaque_token_are_asked_about_each_time():
    fresh = gate(rules=(KEPT,), limits=Limits(), providers=[provider(strength=Strength(max_age_s=300))])
    assert decide(fresh, call(token(auth_time=NOW), target="/kept/x")).keep_s == 0
    claims = {"sub": "u", "aud": AUDIENCE, "exp": NOW + 99, "token_use": "access"}
    opaque = gate(
        rules=(KEPT,),
        limits=Limits(),
        providers=[provider(opaque=True)],
        introspects=FakeIntrospects(claims),
    )
    decision = decide(opaque, call("opaque", target="/kept/x"))
    assert (decision.reason, decision.keep_s) == (Reason.ALLOWED, 0)


def with_keys(key, plan=None, both="prefer_oidc"):
    found = gate(rules=(KEPT,), limits=Limits())
    keys = ApiKeys(lambda now: {DIGEST: key}, plan, both)
    return replace(found, who=replace(found.who, api_keys=keys))


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [({}, 4), ({"expires": NOW + 6}, 2), ({"until": NOW + 7}, 3), ({"expires": NOW + 4}, 0), ({"revoked": 1.0}, 0)],
)
def test_a_key_is_not_kept_beyond_its_end(fields, seconds):
    deciding = with_keys(ApiKey(DIGEST, "acme", **fields))
    assert kept(deciding, authorization=None, api_key=TEXT) == seconds


@pytest.mark.parametrize("both", ["prefer_oidc", "require_same_owner"])
def test_two_credentials_are_never_kept(both):
    deciding = with_keys(ApiKey(DIGEST, "user-1"), both=both)
    assert kept(deciding, api_key=TEXT) == 0
    assert kept(deciding) == 4


@pytest.mark.parametrize("fields", [{}, {"expires": NOW + 6}], ids=["lasting", "ending"])
def test_a_yes_is_kept_as_long_for_a_credential_that_is_known(fields):
    for credential in ({"authorization": None, "api_key": TEXT}, {}):
        deciding = with_keys(ApiKey(DIGEST, "acme", **fields))
        known = [decide(deciding, call(token(), target="/kept/x", **credential)) for _ in range(2)][1]
        given = {"digest": known.digest} if known.digest else {"remembered": known.prepared}
        again = decide(deciding, Request("GET", "/kept/x", **given))
        assert (again.reason, again.keep_s) == (Reason.ALLOWED, known.keep_s)
        assert again.keep_s > 0


def test_a_key_that_is_gone_a_moment_later_is_good_until_nothing():
    assert ApiKeys(lambda now: {}).good_until(DIGEST, NOW) == 0


PLAN = Deprecation(NOW + 100, NOW + 300, 100, "https://x.example", (Window(NOW + 150, NOW + 160),))


@pytest.mark.parametrize(
    ("passed_s", "next_s"),
    [(0, 100), (100, 150), (150, 160), (160, 300), (300, 400), (400, INFINITE), (500, INFINITE)],
)
def test_the_next_day_of_the_plan_bounds_what_is_kept(passed_s, next_s):
    assert migration.changes_at(PLAN, NOW + passed_s) == NOW + next_s
    assert migration.changes_at(None, NOW) == migration.changes_at(Deprecation(NOW - 1), NOW) == INFINITE


def test_only_a_yes_that_says_so_is_rendered_as_one_that_may_be_kept():
    for reason in Reason:
        headers = dict(render(Decision(reason, keep_s=4), [])[1])
        assert headers["X-Accel-Expires"] == ("4" if reason in (Reason.ALLOWED, Reason.PUBLIC) else "0")
        assert dict(render(Decision(reason), [])[1])["X-Accel-Expires"] == "0"
