"""Who is in the rollout, how far the end of keys has come, and what the headers say."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.core.migration import (
    REFUSING,
    Deprecation,
    Phase,
    Window,
    headers,
    http_date,
    in_rollout,
    phase,
    resumes_in_s,
    share_of,
)

DAY_S = 86400
ANNOUNCE = 1_798_761_600  # 2027-01-01
SUNSET = 1_814_313_600  # 2027-06-30
BROWN_OUT = Window(SUNSET - 7 * DAY_S, SUNSET - 7 * DAY_S + 600)
LINK = "https://api.example.test/migrate?from=keys"
PLAN = Deprecation(ANNOUNCE, SUNSET, 14 * DAY_S, LINK, (BROWN_OUT,))

percents = st.floats(0, 100)


# ---- rollout


@given(st.text(), percents, percents)
def test_raising_the_percentage_never_takes_anyone_out(user, one, other):
    assert in_rollout(user, min(one, other)) <= in_rollout(user, max(one, other))


@given(st.text())
def test_at_0_percent_nobody_is_in_and_at_100_everybody(user):
    assert not in_rollout(user, 0)
    assert in_rollout(user, 100)


def shares(fleet, size):
    """The places of this many users, as a provider may number them."""
    return sorted(share_of(f"{fleet}\0u-{number}") for number in range(size))


FLEETS = [shares(f"provider-{number}", 10_000) for number in range(25)]


def off(places, percent):
    """By how many percentage points the share that is in differs from what was asked for."""
    return abs(bisect_left(places, percent) * 100 / len(places) - percent)


@pytest.mark.parametrize("percent", [1, 5, 10, 25])
def test_the_share_of_10_000_users_is_within_one_percentage_point(percent):
    assert max(off(fleet, percent) for fleet in FLEETS) <= 1


@pytest.mark.parametrize("percent", [40, 50, 60, 75])
def test_around_the_half_chance_alone_takes_one_fleet_in_twenty_beyond_one_point(percent):
    """The spread of 10,000 fair coins is half a point; no hash that knows one user at a time can do better."""
    found = [off(fleet, percent) for fleet in FLEETS]
    assert sum(one <= 1 for one in found) >= 22
    assert max(found) <= 2


@given(percent=percents)
def test_the_share_of_100_000_users_is_within_half_a_percentage_point_at_every_percentage(percent):
    assert off(MANY, percent) <= 0.5


MANY = shares("provider", 100_000)


def test_a_user_has_the_same_place_in_every_process_and_release():
    assert [round(share_of(f"u-{number}"), 2) for number in range(4)] == [88.17, 86.4, 91.55, 37.91]


def test_half_a_surrogate_pair_is_a_user_too():
    assert in_rollout("\ud800", 100)


# ---- phases


PHASES = [
    (ANNOUNCE - 1, Phase.SILENT),
    (ANNOUNCE, Phase.ANNOUNCED),
    (BROWN_OUT.start - 1, Phase.ANNOUNCED),
    (BROWN_OUT.start, Phase.BROWNED_OUT),
    (BROWN_OUT.end - 1, Phase.BROWNED_OUT),
    (BROWN_OUT.end, Phase.ANNOUNCED),
    (SUNSET - 1, Phase.ANNOUNCED),
    (SUNSET, Phase.GRACE),
    (SUNSET + 14 * DAY_S - 1, Phase.GRACE),
    (SUNSET + 14 * DAY_S, Phase.OVER),
    (SUNSET + 10_000 * DAY_S, Phase.OVER),
]


@pytest.mark.parametrize(("now", "expected"), PHASES)
def test_each_day_has_its_phase(now, expected):
    assert phase(PLAN, now) is expected


def test_without_a_plan_nothing_is_said_and_nothing_ends():
    assert phase(None, 2**40) is Phase.SILENT
    assert headers(None, 2**40) == []


def test_without_a_day_keys_are_announced_to_end_and_never_do():
    assert phase(Deprecation(ANNOUNCE), 2**40) is Phase.ANNOUNCED


def test_without_grace_keys_end_on_the_day():
    assert phase(Deprecation(ANNOUNCE, SUNSET), SUNSET) is Phase.OVER


def test_a_brown_out_during_grace_counts():
    window = Window(SUNSET + DAY_S, SUNSET + DAY_S + 60)
    assert phase(replace(PLAN, brown_outs=(window,)), window.start) is Phase.BROWNED_OUT


@st.composite
def plans(draw):
    announce = draw(st.integers(0, 2**32))
    sunset = draw(st.none() | st.integers(announce, announce + 2**28))
    grace = 0 if sunset is None else draw(st.integers(0, 2**24))
    last = announce + 2**28 if sunset is None else sunset + grace
    edges = sorted(draw(st.lists(st.integers(announce, last), unique=True, max_size=6)))
    return Deprecation(announce, sunset, grace, LINK, tuple(map(Window, edges[::2], edges[1::2])))


@given(plans(), st.integers(0, 2**33))
def test_a_key_is_never_accepted_after_the_end_of_grace_nor_in_a_brown_out(plan, now):
    works = phase(plan, now) not in REFUSING
    if works and now >= plan.announce:
        assert plan.sunset is None or now < plan.sunset + plan.grace_s
        assert not any(one.start <= now < one.end for one in plan.brown_outs)


@given(plans(), st.integers(0, 2**33), st.integers(0, 2**33))
def test_what_is_over_stays_over(plan, now, later):
    if phase(plan, now) is Phase.OVER:
        assert phase(plan, max(now, later)) is Phase.OVER


@given(plans(), st.integers(0, 2**33))
def test_who_waits_through_a_brown_out_as_told_is_beyond_it(plan, now):
    if phase(plan, now) is Phase.BROWNED_OUT:
        wait = resumes_in_s(plan, now)
        ends = [one.end for one in plan.brown_outs if one.start <= now < one.end]
        assert wait >= 1
        assert now + wait >= max(ends)


def test_the_wait_is_whole_seconds_rounded_up():
    assert resumes_in_s(PLAN, BROWN_OUT.end - 1.5) == 2


MISTAKES = {
    "sunset is before announce": {"sunset": ANNOUNCE - 1, "brown_outs": ()},
    "grace is a time after sunset": {"sunset": None},
    "link is no http": {"link": "https://x.test/>; rel=evil"},
    "a brown-out lies outside": {"brown_outs": (Window(ANNOUNCE - 1, ANNOUNCE + 1),)},
}


@pytest.mark.parametrize(("text", "changes"), MISTAKES.items())
def test_a_plan_that_cannot_be_meant_is_not_made(text, changes):
    with pytest.raises(ValueError, match=text):
        replace(PLAN, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"grace_s": -1},
        {"link": "javascript:alert(1)"},
        {"link": "https://x.test/a b"},
        {"link": "https://x.test/\r\nX-User-Id: root"},
        {"brown_outs": (Window(SUNSET, SUNSET),)},
        {"brown_outs": (Window(SUNSET, SUNSET + 15 * DAY_S),)},
    ],
)
def test_these_are_mistakes_too(changes):
    with pytest.raises(ValueError, match=" "):
        replace(PLAN, **changes)


# ---- headers


@pytest.mark.parametrize("now", [now for now, found in PHASES if found is not Phase.SILENT])
def test_from_the_announcement_on_answers_name_the_days_and_where_to_read(now):
    assert headers(PLAN, now) == [
        ("Deprecation", "@1798761600"),
        ("Sunset", "Wed, 30 Jun 2027 00:00:00 GMT"),
        ("Link", f'<{LINK}>; rel="deprecation"; type="text/html"'),
    ]


def test_before_the_announcement_answers_say_nothing():
    assert headers(PLAN, ANNOUNCE - 1) == []


def test_what_is_not_set_is_not_said():
    assert headers(Deprecation(ANNOUNCE), ANNOUNCE) == [("Deprecation", "@1798761600")]


@given(st.integers(0, 253_402_300_799))  # to the end of the year 9999
def test_a_date_is_written_as_mail_writes_it(instant):
    assert http_date(instant) == formatdate(instant, usegmt=True)


@pytest.mark.parametrize("instant", [0, 951_782_400, 951_868_800, 4_107_456_000, 4_107_542_400])
def test_the_days_around_the_end_of_february_are_right(instant):
    assert http_date(instant) == formatdate(instant, usegmt=True)
