"""Limits: rates in words, whose tier is whose, whom a call counts for, and what it is charged to."""

import itertools
import math

import pytest

from authsvc.core import ratelimit
from authsvc.core.claims import Condition
from authsvc.core.model import Identity
from authsvc.core.ratelimit import By, Limits, Rate, Spending, Tier

DAY = 86400


def person(claims=None, user_id="u-1", provider="main", **more):
    return Identity(provider, user_id, "", (), claims or {}, **more)


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("100/hour", [(100, 3600)]),
        ("1/second", [(1, 1)]),
        ("0/day", [(0, DAY)]),
        ("5/minute", [(5, 60)]),
        ("unlimited", []),
        ("100/15minutes", [(100, 900)]),
        ("100/15 minutes", [(100, 900)]),
        ("100/1hour", [(100, 3600)]),
        ("7/90seconds", [(7, 90)]),
        ("7/2hours", [(7, 7200)]),
        ("1/365days", [(1, 365 * DAY)]),
        ("999999999999/31536000seconds", [(999999999999, 365 * DAY)]),
        ("100/hour burst 20", [(100, 3600), (20, 720)]),
        ("100/hour burst 1", [(100, 3600), (1, 36)]),
        ("7/minute burst 2", [(7, 60), (2, 17)]),
        ("10/second burst 9", None),
        ("1000/minute burst 17", [(1000, 60), (17, 1)]),
        ("10/day burst 9", [(10, DAY), (9, 77760)]),
    ],
)
def test_a_rate_is_read(text, rates):
    if rates is None:
        pytest.raises(ValueError, ratelimit.parse_rate, text)
    else:
        assert ratelimit.parse_rate(text) == tuple(Rate(*rate) for rate in rates)


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
        "1/hour ",
        "1/hour\n",
        "9999999999999/day",
        "1/999999999seconds",
        "1/-1hour",
        "Unlimited",
        "unlimited burst 5",
        "100/hour burst",
        "100/hour burst x",
        "100/hour  burst 5",
        "100/hour, 5/second",
    ],
)
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="a limit is N/second"):
        ratelimit.parse_rate(text)


@pytest.mark.parametrize("text", ["1/0hours", "1/366days", "1/8761hours", "1/31536001seconds", "1/99999999days"])
def test_a_period_is_a_second_to_365_days(text):
    with pytest.raises(ValueError, match="the period of a limit is 1 second to 365 days"):
        ratelimit.parse_rate(text)


@pytest.mark.parametrize("text", ["100/hour burst 0", "100/hour burst 100", "100/hour burst 101", "0/hour burst 1"])
def test_a_burst_is_less_than_its_limit_and_at_least_one(text):
    with pytest.raises(ValueError, match="less than the limit, and at least 1"):
        ratelimit.parse_rate(text)


@pytest.mark.parametrize(("text", "least"), [("1000/second burst 10", 1000), ("1000/minute burst 16", 17)])
def test_a_burst_shorter_than_a_second_is_refused(text, least):
    with pytest.raises(ValueError, match=f"at least {least}, a second's worth"):
        ratelimit.parse_rate(text)


def test_a_burst_never_makes_a_limit_stricter_in_the_long_run_and_never_has_its_period():
    for limit, burst, unit in itertools.product((2, 7, 10, 61, 1000), (1, 3, 9, 59, 999), ("minute", "hour", "day")):
        try:
            whole, part = ratelimit.parse_rate(f"{limit}/{unit} burst {burst}")
        except ValueError:
            continue
        assert part.limit / part.period_s >= whole.limit / whole.period_s
        assert 1 <= part.period_s < whole.period_s


@pytest.mark.parametrize(
    "text", ["100/hour", "0/day", "1/second", "7/15minutes", "7/90seconds", "3/2days", "1/365days"]
)
def test_a_rate_is_written_as_it_is_read(text):
    (rate,) = ratelimit.parse_rate(text)
    assert str(rate) == text


# Tiers ---------------------------------------------------------------------------------------------------------------


def tier(name, limit=1, period_s=3600, when=None):
    return Tier(name, (Rate(limit, period_s),), when)


def having(*path, value):
    return Condition(path, "contains", (value,))


GOLD = tier("gold", 1000, when=having("plan", value="gold"))
NESTED = tier("nested", 1000, when=having("org", "plan", value="gold"))
STAFF = Tier("staff", (), having("staff", value="true"))
FREE = tier("free", 10)
VISITOR = tier("visitor", 5)
TIERS = Limits((STAFF, GOLD, NESTED, FREE), anonymous=VISITOR)


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"plan": "gold"}, "gold"),
        ({"plan": ["silver", "gold"]}, "gold"),
        ({"plan": "gold", "staff": True}, "staff"),
        ({"staff": "true"}, "staff"),
        ({"staff": False}, "free"),
        ({"staff": 1}, "free"),
        ({"plan": "Gold"}, "free"),
        ({"plan": None}, "free"),
        ({"plan": {"gold": 1}}, "gold"),
        ({"plan": {"x": "gold"}}, "free"),
        ({"plan": [["gold"]]}, "free"),
        ({"plan": []}, "free"),
        ({"org": {"plan": "gold"}}, "nested"),
        ({"org": {"plan": ["x", "gold"]}}, "nested"),
        ({"org": "gold"}, "free"),
        ({}, "free"),
    ],
)
def test_the_first_tier_whose_claim_fits_is_the_callers(claims, name):
    assert ratelimit.tier_for(TIERS, person(claims)).name == name


@pytest.mark.parametrize(("value", "wanted"), [(7, "7"), (1.5, "1.5"), (True, "true"), (False, "false")])
def test_numbers_and_booleans_fit_as_they_are_written_in_json(value, wanted):
    limits = Limits((tier("it", when=having("c", value=wanted)), FREE))
    assert ratelimit.tier_for(limits, person({"c": value})).name == "it"


def test_where_no_tier_fits_the_strictest_holds():
    never = having("c", value="x")
    fast, slow = tier("fast", 100, 60, never), tier("slow", 100, 3600, never)
    both = Tier("both", (Rate(100, 60), Rate(5, 3600)), never)
    assert ratelimit.tier_for(Limits((STAFF, fast, slow)), person()).name == "slow"
    assert ratelimit.tier_for(Limits((fast, both, slow)), person()).name == "both"


@pytest.mark.parametrize(("rates", "pace"), [((), math.inf), ((Rate(0, 60),), 0), ((Rate(60, 60), Rate(10, 20)), 0.5)])
def test_a_tiers_pace_is_that_of_its_slowest_window(rates, pace):
    assert Tier("t", rates).pace == pace


def test_without_tiers_nobody_is_limited():
    assert ratelimit.tier_for(Limits(), person()) is None
    assert ratelimit.tier_for(Limits(), None) is None


def test_a_caller_without_identity_is_in_the_tier_for_such():
    assert ratelimit.tier_for(TIERS, None) is VISITOR


# Whom a call counts for ----------------------------------------------------------------------------------------------

ANN = person({"org": {"id": "o-1"}, "n": 42}, "ann", client="web", tenants=("acme",))
USER = ["user", "main", "ann"]
TEAM = By("claim", ("org", "id"))
V4 = "192.0.2.1"


@pytest.mark.parametrize(
    ("by", "who"),
    [
        pytest.param([By()], [USER], id="user_id"),
        pytest.param([By("client_id")], [["client_id", "main", "web"]], id="client_id"),
        pytest.param([By("tenant")], [["tenant", "main", "acme"]], id="tenant"),
        pytest.param([By("ip")], [["ip", V4]], id="ip"),
        pytest.param([TEAM], [["claim", "main", "o-1", "org", "id"]], id="a claim's path"),
        pytest.param([By("claim", ("n",))], [["claim", "main", "42", "n"]], id="a number counts as its text"),
        pytest.param([By("claim", ("x",))], [USER], id="a claim that is not there: the user"),
        pytest.param([By("claim", ("org",))], [USER], id="a claim that is no text: the user"),
        pytest.param([By("tenant"), By("ip")], [["tenant", "main", "acme"], ["ip", V4]], id="tenant and ip"),
        pytest.param([By("claim", ("x",)), By("client_id")], [USER, ["client_id", "main", "web"]], id="one is missing"),
    ],
)
def test_a_call_counts_by(by, who):
    assert ratelimit.whom(Limits(by=tuple(by)), ANN, V4) == who


def test_by_tenant_each_set_of_tenants_is_counted_apart():
    limits = Limits(by=(By("tenant"),))
    sets = [("a",), ("b",), ("a", "b"), ("b", "a"), ()]
    found = [ratelimit.whom(limits, person(tenants=one), None)[0][2] for one in sets]
    assert found == ["a", "b", "a,b", "a,b", "u-1"]


@pytest.mark.parametrize("kind", ["client_id", "tenant"])
def test_who_lacks_what_calls_are_counted_by_is_counted_as_the_user_he_is(kind):
    assert ratelimit.whom(Limits(by=(By(kind),)), person(user_id="bob"), V4) == [["user", "main", "bob"]]


@pytest.mark.parametrize("value", [None, "", ["a"], {}, []])
def test_where_the_counted_claim_names_nobody_the_user_is_counted(value):
    limits = Limits(by=(By("claim", ("tenant",)),))
    assert ratelimit.whom(limits, person({"tenant": value}), None) == [["user", "main", "u-1"]]


def test_a_user_is_counted_by_the_key_that_tells_users_apart_where_there_is_one():
    assert ratelimit.whom(Limits(), person(key="tid/oid"), None) == [["user", "main", "tid/oid"]]


@pytest.mark.parametrize("by", [(By(),), (By("tenant"),), (By("ip"), By())])
def test_a_caller_without_identity_is_counted_by_address_whatever_others_are_counted_by(by):
    assert ratelimit.whom(Limits(by=by), None, V4) == [["ip", V4]]


CALLERS = [
    (None, "192.0.2.1"),
    (None, "192.0.2.2"),
    (None, None),
    (person({"c": "a"}), V4),
    (person({"c": "b"}), V4),
    (person({"c": "a"}, provider="other"), V4),
    (person({}, "192.0.2.1"), V4),
    (person({}, "u-2"), V4),
    (person({}, "42"), V4),
    (person({"c": 42}, "u-2"), V4),
    (person({}, "acme"), V4),
    (person({"c": "acme"}), V4),
    (person(tenants=("acme",)), V4),
    (person(client="acme"), V4),
    (person(tenants=("a", "b")), V4),
    (person(tenants=("a,b",)), V4),
    (person(tenants=("a\\", "b")), V4),
    (person(tenants=("a\\,b",)), V4),
    (person({}, '["user", "main", "u-1"]'), V4),
    (person({}, 'u-1"], ["ip", "x'), V4),
    (person({}, "u-1\0main"), V4),
    (person({}, "\ud800"), V4),
]


def by_claim(who, ip):
    return ("claim", who.claims["c"]) if "c" in who.claims else who.user_id


@pytest.mark.parametrize(
    ("by", "told_apart"),
    [
        pytest.param([By("claim", ("c",))], by_claim, id="claim"),
        pytest.param([By("tenant")], lambda who, ip: who.tenants or who.user_id, id="tenant"),
        pytest.param([By("client_id")], lambda who, ip: (who.client,) if who.client else who.user_id, id="client_id"),
        pytest.param([By()], lambda who, ip: who.user_id, id="user_id"),
        pytest.param([By(), By("ip"), By("tenant")], lambda who, ip: (who.user_id, ip, who.tenants), id="a list"),
    ],
)
def test_no_two_callers_share_a_count(by, told_apart):
    """Two are the same where what they are counted by is; kinds and providers never mix."""
    limits, pairs = Limits(by=tuple(by)), set()
    for who, ip in CALLERS:
        meant = (who.provider, told_apart(who, ip)) if who else ("", ip)
        pairs.add((ratelimit.charge(FREE, ratelimit.whom(limits, who, ip)).subject, meant))
    assert len(pairs) == len({subject for subject, _ in pairs}) == len({meant for _, meant in pairs})


def test_each_combination_of_a_list_is_counted_apart():
    limits = Limits(by=(By(), By("ip")))
    calls = [(person(user_id=user), ip) for user in ("u-1", "u-2") for ip in ("192.0.2.1", "192.0.2.2", None)]
    assert len({str(ratelimit.whom(limits, who, ip)) for who, ip in calls}) == 6


@pytest.mark.parametrize(
    ("one", "other", "prefix", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", 64, True),
        ("2001:db8::1", "2001:db8:0:1::1", 64, False),
        ("2001:db8::1", "2001:db8:0:1::1", 48, True),
        ("2001:db8::1", "2001:db9::1", 32, False),
        ("2001:db8::1", "2001:db8::2", 128, False),
        ("2001:DB8:0::1", "2001:db8::1", 128, True),
        ("fe80::1%eth0", "fe80::1%eth1", 64, True),
        ("::ffff:192.0.2.1", "192.0.2.1", 64, True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", 64, False),
        ("::ffff:c000:201", "192.0.2.1", 32, True),
        ("192.0.2.1", "192.0.2.2", 32, False),
        ("not an address", "neither is this", 64, True),
        ("not an address", None, 64, True),
        ("192.0.2.1/24", "", 64, True),
    ],
)
def test_an_ipv6_network_is_one_caller_and_an_ipv4_address_is_one(one, other, prefix, same):
    limits = Limits(ipv6_prefix=prefix)
    assert (ratelimit.address(limits, one) == ratelimit.address(limits, other)) is same


# Charges -------------------------------------------------------------------------------------------------------------

OWN = tier("rules.0", 3)


def charged(*spendings, limits=TIERS, who=ANN):
    found = ratelimit.charges(limits, spendings, who, V4)
    return [(one.tier.name, one.cost) for one in found]


@pytest.mark.parametrize(
    ("spendings", "found"),
    [
        pytest.param([Spending()], [("free", 1)], id="one call"),
        pytest.param([Spending(5)], [("free", 5)], id="a call of a higher cost"),
        pytest.param([Spending(0)], [], id="an exempt one"),
        pytest.param([Spending(0, OWN)], [], id="an exempt one with a limit"),
        pytest.param([Spending(2, OWN)], [("rules.0", 2)], id="a limit of the rule's own"),
        pytest.param([Spending(1, Tier("rules.0"))], [], id="an own limit that is none"),
        pytest.param([Spending(), Spending(5)], [("free", 5)], id="two rules: the highest cost"),
        pytest.param([Spending(5), Spending()], [("free", 5)], id="two rules, in any order"),
        pytest.param([Spending(0), Spending()], [("free", 1)], id="an exempt rule and another"),
        pytest.param([Spending(), Spending(1, OWN)], [("free", 1), ("rules.0", 1)], id="two limits"),
        pytest.param([Spending(2, OWN), Spending(3, OWN)], [("rules.0", 3)], id="one limit twice"),
        pytest.param([], [], id="no rule"),
    ],
)
def test_a_call_is_charged_to_each_limit_once_at_the_highest_cost(spendings, found):
    assert charged(*spendings) == found


@pytest.mark.parametrize(
    ("limits", "who"),
    [(Limits(), ANN), (Limits((FREE,)), None), (Limits((STAFF,)), ANN), (TIERS, person({"staff": True}))],
    ids=["no tiers", "no tier for strangers", "an unlimited tier alone", "an unlimited tier"],
)
def test_who_has_no_limit_is_charged_nothing(limits, who):
    assert charged(Spending(), limits=limits, who=who) == []


def test_a_rules_own_limit_is_counted_apart_from_the_tier_and_from_other_rules():
    spendings = [Spending(), Spending(1, OWN), Spending(1, tier("rules.1", 3))]
    assert len({one.subject for one in ratelimit.charges(TIERS, spendings, ANN, V4)}) == 3


def test_a_charge_shows_no_name_of_a_caller():
    (charge,) = ratelimit.charges(TIERS, [Spending()], ANN, V4)
    assert "ann" not in repr(charge)
    assert charge.who == '[["user", "main", "ann"]]'


def test_what_a_charge_leads_to_is_no_part_of_it_and_no_other_charge_s():
    one, same = (ratelimit.charge(Tier("free", (Rate(5),)), [["user", "main", "ann"]]) for _ in range(2))
    one.hold("a lease")
    assert (one.held, same.held, ratelimit.at_cost(one, 3).held) == ("a lease", None, None)
    assert one == same
    assert hash(one) == hash(same)
    assert "a lease" not in repr(one)
