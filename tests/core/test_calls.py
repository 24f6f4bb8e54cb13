"""What a gate remembers of earlier calls changes how fast it decides, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.core import calls as calls_module
from authsvc.core.calls import MOST_CHARACTERS, Call, Calls
from authsvc.core.gate import Gate
from authsvc.core.model import Mark, Reason, Request
from authsvc.core.provider import Strength
from authsvc.core.ratelimit import Limits, Rate, Spending, Tier
from authsvc.core.rbac import Asks, rule
from worlds import NOW, call, gate, token

RULES = (
    rule("/public/*", None, []),
    rule("/orders", ["GET"], ["reader"]),
    rule("/orders", ["POST"], ["writer"], spending=Spending(cost=3)),
    rule("/fresh", None, None, Asks(strength=Strength(max_age_s=60))),
    rule("/scoped", None, None, Asks(all_scopes=("pay",))),
    rule("/admin/*", None, ["admin"], spending=Spending(own=Tier("few", (Rate(5, 60),)))),
)
BEARERS = (
    None,
    "no token",
    token(sub="reader", roles=["reader"], auth_time=NOW - 30),
    token(sub="writer", roles=["writer", "reader"], scope="pay"),
    token(sub="admin", roles=["admin"], auth_time=NOW),
    token(sub="short", roles=["reader", "admin"], exp=NOW + 20),
)
TARGETS = (
    "/orders",
    "/orders?page=2",
    "/orders/",
    "/public/x",
    "/fresh",
    "/scoped",
    "/admin/x",
    "/admin//x",
    "/nothing",
)
asked = st.tuples(
    st.sampled_from(BEARERS),
    st.sampled_from(("GET", "POST", "HEAD", "get", "DELETE")),
    st.sampled_from(TARGETS),
    st.sampled_from((None, None, "/orders", "/admin/x", "/public/../x")),
    st.sampled_from((0.0, 25.0, 50.0, 85.0, 600.0)),
)


def judge() -> Gate:
    limits = Limits((Tier("free", (Rate(10, 60),)),), anonymous=Tier("visitor", (Rate(5, 60),)))
    return gate(rules=RULES, deny_by_default=True, limits=limits)


@given(st.lists(asked, max_size=25))
def test_a_gate_that_has_seen_many_calls_decides_as_one_that_has_seen_none(questions):
    experienced = judge()
    for bearer, method, target, served, later_s in sorted(questions, key=lambda one: one[4]):
        request = replace(call(bearer, method, target), served=served)
        now = NOW + later_s
        assert experienced.decide(request, now) == judge().decide(request, now)
        assert experienced.decide(request, now) == judge().decide(request, now)


def test_who_signed_in_too_long_ago_is_refused_although_he_was_admitted_before():
    door, request = judge(), call(BEARERS[2], "GET", "/fresh")
    reasons = [door.decide(request, NOW + later_s)[0].reason for later_s in (0, 0, 20, 150)]
    assert reasons == [Reason.ALLOWED, Reason.ALLOWED, Reason.ALLOWED, Reason.STEP_UP_REQUIRED]


def test_a_target_that_is_too_long_is_refused_although_its_path_is_known():
    door = judge()
    assert [
        door.decide(call(BEARERS[2], "GET", f"/orders?{'x' * length}"), NOW)[0].reason for length in (1, 400, 9000)
    ] == [Reason.ALLOWED, Reason.ALLOWED, Reason.AMBIGUOUS_PATH]


@pytest.mark.parametrize(("length", "kept"), [(MOST_CHARACTERS, True), (MOST_CHARACTERS + 1, False)])
def test_long_targets_are_not_remembered(length, kept):
    known, request = Calls(), Request("GET", "/" + "x" * (length - 1))
    known.remember(request, Call("/x", RULES[:1]))
    assert (known.known(request) is not None) is kept


def test_the_oldest_are_forgotten_so_that_strangers_cannot_fill_the_memory():
    known, one = Calls(), Call("/x", RULES[:1])
    for number in range(calls_module.MOST * 2):
        known.remember(Request("GET", f"/{number}"), one)
        assert len(known._calls.known) <= calls_module.MOST
    assert known.known(Request("GET", f"/{calls_module.MOST * 2 - 1}")) is one
    assert known.known(Request("GET", "/0")) is None


def test_what_was_found_for_a_mark_is_found_by_who_found_it_and_by_nobody_else():
    ours, theirs, mark = Calls(), Calls(), Mark()
    request, one, other = Request("GET", "/x", mark=mark), Call("/x", RULES[:1]), Call("/x", RULES[1:2])
    assert ours.known(request) is None
    for known, call_ in ((ours, one), (theirs, other)):
        known.remember(request, call_)
    for known, call_ in ((ours, one), (ours, one), (theirs, other), (theirs, other), (ours, one)):
        assert known.known(request) is call_
        assert mark.found == (known, call_)
