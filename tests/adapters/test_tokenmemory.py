"""A verified token is remembered, and only for as long as verifying it again would say yes."""

import gc
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.adapters.tokenmemory import TokenMemory
from authsvc.core.identify import Remembered
from authsvc.core.model import Identity, Reason, Request
from authsvc.core.provider import Providers, Strength
from authsvc.core.rbac import rule
from keys import key
from worlds import NOW, FakeKeys, call, decide, gate, key_set, provider, token

KEYS = key_set(key())


def remembered(size=10):
    one = provider()
    return Remembered(Identity("main", "u-1", "", (), {}), Providers([one]), one, KEYS, 0.0, 100.0, size)


def decided(deciding, bearer, now=NOW):
    return deciding.decide(call(bearer), now)[0].reason


def test_a_token_that_comes_again_is_answered_from_memory():
    deciding = gate(FakeKeys(key_set(key())))
    bearer = token()
    first, _ = deciding.decide(call(bearer), NOW)
    again, headers = deciding.decide(call(bearer), NOW + 1)
    assert again.identity is first.identity
    assert (again.reason, again.provider) == (Reason.ALLOWED, "main")
    assert dict(headers)["X-User-Id"] == "u-1"


def test_what_was_worked_out_at_first_sight_is_not_made_again():
    deciding, bearer = gate(FakeKeys(key_set(key()))), token()
    first, again, third = (deciding.decide(call(bearer), NOW)[1] for _ in range(3))
    assert first is again is third


def test_a_token_that_one_rule_admitted_at_first_sight_is_judged_by_every_other():
    deciding = gate(rules=[rule("/admin", None, ["admin"]), rule("/*", None, ["reader"])])
    bearer = token(roles=["reader"])
    for _ in range(3):
        assert decided(deciding, bearer) is Reason.ALLOWED
        assert decide(deciding, call(bearer, target="/admin")).reason is Reason.ROLE_REQUIRED


@pytest.mark.parametrize(
    ("claims", "later", "expected"),
    [
        ({"exp": NOW + 300}, 359.9, Reason.ALLOWED),
        ({"exp": NOW + 300}, 360, Reason.EXPIRED),
        ({"nbf": NOW + 50, "iat": NOW}, -9.9, Reason.ALLOWED),
        ({"nbf": NOW + 50, "iat": NOW}, -10.1, Reason.NOT_YET_VALID),
        ({"iat": NOW}, -59, Reason.ALLOWED),
        ({"iat": NOW}, -61, Reason.ISSUED_IN_FUTURE),
    ],
)
def test_its_times_are_looked_at_on_each_hit(claims, later, expected):
    deciding = gate(FakeKeys(key_set(key())))
    bearer = token(**claims)
    assert decided(deciding, bearer) is Reason.ALLOWED
    assert decided(deciding, bearer, NOW + later) is expected


def test_with_another_key_set_it_is_verified_anew():
    keys = FakeKeys(key_set(key()))
    deciding, bearer = gate(keys), token()
    assert decided(deciding, bearer) is Reason.ALLOWED
    keys.known = keys.downloadable = key_set(key(kid="k2", number=1))
    assert decided(deciding, bearer) is Reason.UNKNOWN_KEY
    keys.known = key_set(key())
    assert decided(deciding, bearer) is Reason.ALLOWED


def test_without_any_keys_it_does_not_count():
    keys = FakeKeys(key_set(key()), failure="the provider is down")
    deciding, bearer = gate(keys), token()
    assert decided(deciding, bearer) is Reason.ALLOWED
    keys.known = None
    assert decided(deciding, bearer) is Reason.KEYS_UNAVAILABLE


def test_rules_and_limits_hold_for_it_as_for_any():
    deciding, bearer = gate(FakeKeys(key_set(key())), deny_by_default=True), token()
    assert [decided(deciding, bearer), decided(deciding, bearer)] == [Reason.NO_RULE] * 2


def test_where_a_sign_in_grows_too_old_nothing_is_remembered():
    deciding, bearer = gate(providers=[provider(strength=Strength(max_age_s=100))]), token(auth_time=NOW)
    assert decided(deciding, bearer) is Reason.ALLOWED
    assert len(deciding.who.memory) == 0
    assert decided(deciding, bearer, NOW + 170) is Reason.STEP_UP_REQUIRED


def test_what_was_refused_is_not_remembered():
    deciding = gate(FakeKeys(key_set(key()), key_set(key())))
    for bearer in (token(aud="other"), token(exp=NOW - 100), token(signer=key(number=1)), token(cnf={})):
        assert not deciding.decide(call(bearer), NOW)[0].allowed
    assert len(deciding.who.memory) == 0


def test_a_token_that_differs_in_one_character_is_another():
    deciding, bearer = gate(), token()
    assert decide(deciding, call(bearer)).allowed
    for at in range(0, len(bearer), 7):
        changed = bearer[:at] + ("A" if bearer[at] != "A" else "B") + bearer[at + 1 :]
        assert not decide(deciding, call(changed)).allowed


def test_no_token_is_shown():
    deciding, bearer = gate(), token()
    decide(deciding, call(bearer))
    assert bearer not in repr(deciding.who.memory)
    assert bearer not in repr(Request("GET", "/", bearer))


def test_a_flood_of_tokens_that_come_once_leaves_the_regulars():
    memory = TokenMemory(most=100, most_characters=10_000)
    regulars = [f"regular-{number}".encode() for number in range(75)]
    for name in regulars:
        memory.put(name, remembered())
        assert memory.get(name)
    for number in range(10_000):
        memory.put(f"once-{number}".encode(), remembered())
    assert all(map(memory.get, regulars))
    assert len(memory) == 100


def test_as_many_callers_in_turn_as_there_are_places_are_all_remembered():
    memory = TokenMemory(most=100, most_characters=10_000)
    for number in range(100):
        memory.put(f"t-{number}".encode(), remembered())
    for _ in range(3):
        assert all(memory.get(f"t-{number}".encode()) for number in range(100))


def test_of_too_many_regulars_those_go_that_did_not_come_lately():
    memory = TokenMemory(most=8, most_characters=10_000)
    for number in range(8):
        memory.put(f"t-{number}".encode(), remembered())
        memory.get(f"t-{number}".encode())
    memory.get(b"t-0")
    memory.put(b"new", remembered())
    assert memory.get(b"t-0")
    assert memory.get(b"t-1") is None


def test_a_token_too_long_for_its_share_is_not_kept():
    memory = TokenMemory(most=100, most_characters=400)
    memory.put(b"long", remembered(size=101))
    assert len(memory) == 0
    memory.put(b"fits", remembered(size=100))
    assert len(memory) == 1


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("pg"), st.integers(0, 30), st.integers(1, 60)), max_size=200))
def test_the_memory_never_exceeds_its_bounds(steps):
    memory = TokenMemory(most=12, most_characters=400)
    sizes = {}
    for step, name, size in steps:
        if step == "p":
            sizes[name] = size
            memory.put(str(name).encode(), remembered(size=size))
        else:
            found = memory.get(str(name).encode())
            assert found is None or found.size == sizes[name]
        parts = (memory._new, memory._regular)
        assert len(memory) <= 12
        assert sum(entry.size for part in parts for entry in part.entries.values()) <= 400


USUAL = {
    "sub": "auth0|66f1c3a09d2b4e7f8a15c0de",
    "azp": "kT3fQ9mZ7xW2vB5nL8pR1sD6gH4jC0aY",
    "scope": "openid profile email orders:read orders:write",
    "email": "ada.lovelace@customer.example.com",
    "org_id": "org_9ybsU1dN2dKfDkBi",
    "permissions": [f"orders:action-{number}" for number in range(6)],
}
LARGE = {
    **USUAL,
    "realm_access": {"roles": [f"role-{number}" for number in range(20)]},
    "resource_access": {f"app-{number}": {"roles": ["view", "edit", "manage"]} for number in range(12)},
}


@pytest.mark.parametrize("claims", [{}, USUAL, LARGE], ids=["small", "usual", "large"])
def test_a_remembered_token_takes_no_more_memory_than_is_said(claims):
    deciding = gate(FakeKeys(key_set(key("EdDSA"))))
    bearers = [token(signer=key("EdDSA"), **claims, jti=f"{number:024}") for number in range(300)]
    assert decided(deciding, bearers[0]) is decided(deciding, bearers[0]) is Reason.ALLOWED
    gc.collect()
    tracemalloc.start()
    try:
        for bearer in bearers[1:]:
            for _ in range(3):  # new, a regular, and with its headers
                decided(deciding, bearer)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < sum(1_000 + 6 * len(bearer) for bearer in bearers[1:])
