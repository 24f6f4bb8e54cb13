"""What is remembered of an API key makes no difference but in time: each call is decided as the first one would be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.core import known
from authsvc.core.apikeys import ApiKey
from authsvc.core.callers import ApiKeys
from authsvc.core.claims import Condition
from authsvc.core.gate import Gate
from authsvc.core.known import Known, KnownKeys
from authsvc.core.model import Decision, Identity, Reason
from authsvc.core.provider import Strength
from authsvc.core.ratelimit import By, Limits, Rate, Tier, charge
from authsvc.core.rbac import Rule, rule
from keyworld import ANNOUNCED, BROWNED_OUT, GRACE, OVER, PLAN, RECORDS, SILENT, TEXTS, key_call, keys
from worlds import NOW, FakeCounters, decide, gate, token

TEXT, RECORD = TEXTS["good"], RECORDS["good"]
READERS = (rule("/admin", None, ["admin"]), rule("/*", None, ["reader"]))
TIERS = Limits((Tier("pro", (Rate(9),), Condition(("plan",), "in", ("pro",))), Tier("free", (Rate(5),))))


@dataclass
class Book:
    """The port KeyBook: the records as they are now. Another list of them is another book."""

    records: tuple[ApiKey, ...] = (RECORD,)

    def get(self, digest: bytes, /) -> ApiKey | None:
        return next((one for one in self.records if one.digest == digest), None)


def world(**rest: Any) -> tuple[Book, Gate]:
    book, settings = Book(), {"rules": READERS, "limits": TIERS, "extract": {"X-Plan": ("plan",)}, **rest}
    plan = settings.pop("plan", None)
    return book, gate(api_keys=ApiKeys(lambda now: book, plan), **settings)


def reason(deciding: Gate, now: float = NOW, target: str = "/orders") -> Reason:
    return decide(deciding, key_call(TEXT, target=target), now).reason


def test_whom_a_key_speaks_for_is_worked_out_once():
    _, deciding = world()
    first, headers = deciding.decide(key_call(TEXT), NOW)
    again, the_same = deciding.decide(key_call(TEXT), NOW + 1)
    assert (first.reason, again.reason) == (Reason.ALLOWED, Reason.ALLOWED)
    assert again.identity is first.identity
    assert the_same is headers


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"revoked": NOW}, Reason.REVOKED_API_KEY, id="revoked"),
        pytest.param({"revoked": NOW + 99}, Reason.REVOKED_API_KEY, id="revoked, whatever the instant"),
        pytest.param({"expires": NOW}, Reason.EXPIRED_API_KEY, id="expired"),
        pytest.param({"replaced_by": "0" * 16, "until": NOW}, Reason.REPLACED_API_KEY, id="replaced"),
        pytest.param({"roles": ()}, Reason.ROLE_REQUIRED, id="the role is gone"),
        pytest.param({"plan": "x" * 4000}, Reason.IDENTITY_TOO_LARGE, id="headers are too large"),
        pytest.param({"digest": b"0" * 32}, Reason.UNKNOWN_API_KEY, id="it is in the book no more"),
    ],
)
def test_what_the_file_says_now_holds_for_a_key_that_was_good(changes, expected):
    book, deciding = world()
    assert reason(deciding) is Reason.ALLOWED
    book.records = (replace(RECORD, **changes),)
    assert reason(deciding) is expected
    book.records = (RECORD,)
    assert reason(deciding) is Reason.ALLOWED


@pytest.mark.parametrize(
    ("ends", "expected"), [("expires", Reason.EXPIRED_API_KEY), ("until", Reason.REPLACED_API_KEY)]
)
def test_its_end_comes_while_it_is_remembered(ends, expected):
    book, deciding = world()
    book.records = (replace(RECORD, **{ends: NOW + 10}),)
    assert [reason(deciding, NOW + passed) for passed in (0, 9.9)] == [Reason.ALLOWED] * 2
    assert [reason(deciding, NOW + passed) for passed in (10, 1e6)] == [expected] * 2
    assert reason(deciding, NOW) is Reason.ALLOWED  # the clock was set back


def test_keys_end_while_one_is_remembered():
    _, deciding = world(plan=PLAN)
    expected = {
        SILENT: (Reason.ALLOWED, []),
        ANNOUNCED: (Reason.ALLOWED, ["Deprecation", "Sunset", "Link"]),
        BROWNED_OUT: (Reason.API_KEYS_PAUSED, ["Deprecation", "Sunset", "Link"]),
        BROWNED_OUT + 600: (Reason.ALLOWED, ["Deprecation", "Sunset", "Link"]),
        GRACE: (Reason.ALLOWED, ["Deprecation", "Sunset", "Link", "X-Auth-Warning"]),
        OVER: (Reason.API_KEYS_ENDED, ["Deprecation", "Sunset", "Link"]),
    }
    for now, told in expected.items():
        found = decide(deciding, key_call(TEXT), now)
        assert (found.reason, [name for name, _ in found.notices]) == told


def test_roles_and_plan_that_changed_reach_headers_and_limits_at_once():
    counters = FakeCounters()
    book, deciding = world(counters=counters)
    assert reason(deciding) is Reason.ALLOWED
    book.records = (replace(RECORD, roles=("reader", "admin"), plan="pro"),)
    decision, headers = deciding.decide(key_call(TEXT), NOW)
    assert (decision.identity.roles, decision.tier) == (("reader", "admin"), "pro")
    assert dict(headers)["X-User-Roles"] == '["reader", "admin"]'
    assert dict(headers)["X-Plan"] == "pro"
    assert [tier for tier, _, _ in counters.spent] == ["free", "pro"]
    assert reason(deciding, target="/admin") is Reason.ALLOWED


def test_who_was_admitted_by_one_rule_is_not_by_another():
    _, deciding = world()
    for _ in range(3):
        assert reason(deciding) is Reason.ALLOWED
        assert reason(deciding, target="/admin") is Reason.ROLE_REQUIRED


def test_a_public_path_admits_to_no_other():
    _, deciding = world(rules=(rule("/open", None, ()), *READERS[:1]), deny_by_default=True)
    for _ in range(2):
        assert reason(deciding, target="/open") is Reason.PUBLIC
        assert reason(deciding, target="/admin") is Reason.ROLE_REQUIRED


def test_a_rule_that_asks_how_somebody_signed_in_refuses_a_remembered_key_too():
    strong = replace(rule("/strong", None, None), asks=replace(READERS[0].asks, strength=Strength(mfa=True)))
    _, deciding = world(rules=(strong, *READERS))
    assert reason(deciding) is Reason.ALLOWED
    assert reason(deciding, target="/strong") is Reason.STEP_UP_REQUIRED
    assert reason(deciding, target="/strong") is Reason.STEP_UP_REQUIRED


def test_where_callers_are_counted_by_address_each_address_counts_for_itself():
    counters = FakeCounters()
    _, deciding = world(limits=replace(TIERS, by=(By("ip"),)), counters=counters)
    for address in ("192.0.2.1", "192.0.2.2"):
        assert decide(deciding, key_call(TEXT, client_ip=address)).allowed
    assert len({who for _, who, _ in counters.spent}) == 2


def test_beside_a_token_what_is_remembered_is_that_of_the_credential_in_force():
    deciding = gate(api_keys=keys(), rules=READERS)
    by_token = deciding.decide(key_call("good", token(roles=["reader"])), NOW)
    by_key = deciding.decide(key_call("good"), NOW)
    for _ in range(2):
        assert deciding.decide(key_call("good", token(roles=["reader"])), NOW) == by_token
        assert deciding.decide(key_call("good"), NOW) == by_key
    assert (dict(by_token[1])["X-User-Id"], dict(by_key[1])["X-User-Id"]) == ("u-1", "acme")


def test_a_key_that_was_sent_as_a_token_is_none():
    deciding = gate(api_keys=keys())
    assert decide(deciding, key_call("good")).allowed
    assert decide(deciding, key_call(None, TEXT)).reason is Reason.MALFORMED_TOKEN
    assert decide(deciding, key_call(token())).reason is Reason.MALFORMED_API_KEY


steps = st.tuples(
    st.sampled_from(["good", "other", "bare", "mistyped", "unknown"]),
    st.sampled_from(["/orders", "/admin", "/open"]),
    st.sampled_from([NOW, NOW + 5, NOW + 10, SILENT, ANNOUNCED, BROWNED_OUT, GRACE, OVER]),
    st.fixed_dictionaries(
        {},
        optional={
            "roles": st.sampled_from([(), ("reader",), ("admin",)]),
            "plan": st.sampled_from(["", "pro"]),
            "expires": st.just(NOW + 10),
            "until": st.just(NOW + 5),
            "revoked": st.just(NOW),
        },
    ),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(steps, min_size=2, max_size=8))
def test_a_gate_that_remembers_decides_as_one_that_was_made_just_now(taken):
    rules: tuple[Rule, ...] = (*READERS[:1], rule("/open", None, ()), READERS[1])
    book, deciding = world(rules=rules, plan=PLAN)
    for name, target, now, changes in taken:
        book.records = tuple(replace(record, **changes) for record in RECORDS.values())
        for _ in range(2):  # the second time it is remembered
            assert deciding.decide(key_call(name, target=target), now) == anew(book, rules, name, target, now)


def anew(book: Book, rules: Any, name: str, target: str, now: float) -> tuple[Decision, list[tuple[str, str]]]:
    _, fresh = world(rules=rules)
    fresh = replace(fresh, who=replace(fresh.who, api_keys=ApiKeys(lambda _: book, PLAN)))
    return fresh.decide(key_call(name, target=target), now)


def test_memory_stays_bounded_and_the_oldest_go_first():
    remembered, asked = KnownKeys(), list[str]()

    def identify(record: ApiKey) -> Identity:
        asked.append(record.owner)
        return Identity("api_key", record.owner, "", (), {})

    records = [ApiKey(number.to_bytes(32, "big"), str(number)) for number in range(known.MOST_KEYS + 1)]
    for record in records:
        remembered.of(record, identify)
    asked.clear()
    remembered.of(records[-1], identify)
    remembered.of(records[1000], identify)
    assert asked == []
    remembered.of(records[0], identify)
    assert asked == ["0"]


def test_what_calls_under_some_rules_are_charged_to_is_never_told_of_others():
    caller, one, other = Known(), (charge(TIERS.tiers[0], [["user", "main", "ann"]]),), ()
    assert caller.charges((1,)) is None
    caller.admit((1,), one)
    assert caller.charges((2,)) is None
    caller.admit((2,), other)
    for rules, charged in (((1,), one), ((2,), other), ((1,), one), ((3,), None), ((2,), other), ((2,), other)):
        assert caller.charges(rules) == charged
    for number in range(known.MOST_RULES * 2):
        caller.admit((number, 0), one)
    assert len(caller.admitted) == known.MOST_RULES
