"""Limits: who is counted in which tier, and the arithmetic of the sliding window."""

import math

import pytest

from authsvc.core import ratelimit
from authsvc.core.model import Identity
from authsvc.core.ratelimit import Limits, Tier
from worlds import NOW


def person(claims=None, user_id="u-1", provider="main"):
    return Identity(provider, user_id, "", (), claims or {})


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/hour", (100, 3600)),
        ("1/second", (1, 1)),
        ("0/day", (0, 86400)),
        ("5/minute", (5, 60)),
        ("unlimited", (None, 3600)),
    ],
)
def test_a_rate_is_read(text, rate):
    assert ratelimit.parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "100",
        "/hour",
        "100/",
        "100/week",
        "-1/hour",
        "1.5/hour",
        "１/hour",
        "²/hour",
        "1e3/hour",
        " 1/hour",
        "9999999999999/day",
        "Unlimited",
    ],
)
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="a limit is"):
        ratelimit.parse_rate(text)


GOLD = Tier("gold", 1000, 3600, ("plan",), "gold")
STAFF = Tier("staff", None, 3600, ("staff",), "true")
FREE = Tier("free", 10, 3600)
VISITOR = Tier("visitor", 5, 3600)
TIERS = Limits((STAFF, GOLD, FREE), anonymous=VISITOR)


@pytest.mark.parametrize(
    ("claims", "tier"),
    [
        ({"plan": "gold"}, "gold"),
        ({"plan": ["silver", "gold"]}, "gold"),
        ({"plan": "gold", "staff": True}, "staff"),
        ({"staff": "true"}, "staff"),
        ({"staff": False}, "free"),
        ({"staff": 1}, "free"),
        ({"plan": "Gold"}, "free"),
        ({"plan": None}, "free"),
        ({"plan": {"gold": 1}}, "free"),
        ({"plan": [["gold"]]}, "free"),
        ({"plan": []}, "free"),
        ({}, "free"),
    ],
)
def test_the_first_tier_whose_claim_fits_is_the_callers(claims, tier):
    assert ratelimit.tier_for(TIERS, person(claims)).name == tier


@pytest.mark.parametrize(("value", "wanted"), [(7, "7"), (1.5, "1.5"), (True, "true"), (False, "false")])
def test_numbers_and_booleans_fit_as_they_are_written_in_json(value, wanted):
    limits = Limits((Tier("it", 1, 1, ("c",), wanted), FREE))
    assert ratelimit.tier_for(limits, person({"c": value})).name == "it"


def test_where_no_tier_fits_the_strictest_holds():
    fast, slow = Tier("fast", 100, 60, ("c",), "x"), Tier("slow", 100, 3600, ("c",), "y")
    assert ratelimit.tier_for(Limits((STAFF, fast, slow)), person()).name == "slow"


def test_without_tiers_nobody_is_limited():
    assert ratelimit.tier_for(Limits(), person()) is None
    assert ratelimit.tier_for(Limits(), None) is None


def test_a_caller_without_identity_is_in_the_tier_for_such():
    assert ratelimit.tier_for(TIERS, None) is VISITOR


def test_callers_are_counted_apart():
    limits = Limits(claim=("tenant",))
    counted = [
        ratelimit.subject(limits, None, "192.0.2.1"),
        ratelimit.subject(limits, None, "192.0.2.2"),
        ratelimit.subject(limits, None, None),
        ratelimit.subject(limits, person({"tenant": "a"}), "192.0.2.1"),
        ratelimit.subject(limits, person({"tenant": "b"}), "192.0.2.1"),
        ratelimit.subject(limits, person({"tenant": "a"}, provider="other"), "192.0.2.1"),
        ratelimit.subject(limits, person({}, user_id="192.0.2.1"), "192.0.2.1"),
        ratelimit.subject(limits, person({}, user_id="u-2"), "192.0.2.1"),
    ]
    assert len(set(counted)) == len(counted)


@pytest.mark.parametrize("tenant", [None, "", ["a"], {}])
def test_where_the_counted_claim_names_nobody_the_user_is_counted(tenant):
    assert ratelimit.subject(Limits(claim=("tenant",)), person({"tenant": tenant}), None).endswith("\0u-1")


@pytest.mark.parametrize("tenant", [42, "42"])
def test_a_number_counts_as_its_text(tenant):
    claimed = ratelimit.subject(Limits(claim=("tenant",)), person({"tenant": tenant}), None)
    assert claimed.endswith("\x0042")
    assert claimed != ratelimit.subject(Limits(claim=("tenant",)), person({}, user_id="42"), None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("not an address", "neither is this", True),
    ],
)
def test_an_ipv6_network_is_one_caller(one, other, same):
    limits = Limits()
    assert (ratelimit.subject(limits, None, one) == ratelimit.subject(limits, None, other)) is same


@pytest.mark.parametrize("name", ["u-1", "a b\r\nset x", "名", "\ud800", "x" * 500, "\0"])
def test_a_counters_name_is_short_ascii_whatever_the_callers_is(name):
    at = ratelimit.window(FREE, f"id\0main\0{name}", NOW)
    assert at.current.isascii()
    assert at.current.isprintable()
    assert len(at.current) <= 60


def test_the_counters_of_two_windows_and_two_lengths_differ():
    hour, minute = FREE, Tier("free", 10, 60)
    names = {ratelimit.window(tier, "x", NOW + s).current for tier in (hour, minute) for s in (0, 3600, 7200)}
    assert len(names) == 6
    assert ratelimit.window(hour, "x", NOW + 3600).previous == ratelimit.window(hour, "x", NOW).current


def test_a_counter_outlives_the_window_after_its_own():
    assert ratelimit.window(FREE, "x", NOW).ttl_s > 2 * FREE.window_s


def quota(counted, previous=0, elapsed=0.0, limit=10):
    tier = Tier("free", limit, 3600)
    return ratelimit.judge(tier, ratelimit.Window("a", "b", elapsed, 7260), counted, previous)


@pytest.mark.parametrize(
    ("counted", "previous", "elapsed", "remaining"),
    [
        (1, 0, 0.0, 9),
        (10, 0, 0.0, 0),
        (11, 0, 0.0, None),
        (1, 10, 0.0, None),
        (1, 9, 0.0, 0),
        (1, 10, 0.1, 0),
        (1, 10, 0.05, None),
        (5, 10, 0.5, 0),
        (6, 10, 0.5, None),
        (10, 10, 1.0, 0),
        (5, 10_000, 0.5, 0),
        (1, 1, 0.5, 8),
    ],
)
def test_the_previous_window_weighs_by_what_is_left_of_the_current_one(counted, previous, elapsed, remaining):
    found = quota(counted, previous, elapsed)
    assert found.refused is (remaining is None)
    assert found.remaining == (remaining or 0)


def test_a_limit_of_zero_or_none_given_refuses_every_call():
    assert quota(1, limit=0).refused
    assert quota(1, limit=None).refused


@pytest.mark.parametrize(
    ("counted", "previous", "elapsed", "limit", "reset_s"),
    [
        (1, 0, 0.25, 10, 2700),
        (1, 0, 1.0, 10, 1),
        (1, 10, 0.0, 10, 360),
        (6, 10, 0.5, 10, 360),
        (11, 0, 0.5, 10, 1800 + 360),
        (2, 0, 0.5, 1, 1800 + 3600),
        (1, 0, 0.5, 0, 1800),
    ],
)
def test_the_reset_says_when_there_is_more(counted, previous, elapsed, limit, reset_s):
    assert quota(counted, previous, elapsed, limit).reset_s == reset_s


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_a_refused_caller_who_waits_as_told_is_admitted(limit):
    """Count the calls admitted so far, refuse one, wait, try again: in the same window or in the next."""
    window_s = 3600
    for previous in range(limit + 1):
        for admitted in range(limit + 1):
            for percent in range(0, 100, 7):
                at = percent * window_s / 100
                refused = quota(admitted + 1, previous, percent / 100, limit)
                if not refused.refused:
                    continue
                later = at + refused.reset_s
                same = later < window_s
                counted, before = (admitted + 1, previous) if same else (1, admitted)
                assert later <= 2 * window_s + 1
                share = math.modf(min(later, 2 * window_s - 1e-9) / window_s)[0]
                assert not quota(counted, before, share, limit).refused
