"""Step-up: whether a sign-in was strong and fresh enough, and what exactly is asked for where it was not."""

import base64
import json

import pytest

from authsvc.core import provider as room
from authsvc.core import stepup
from authsvc.core.claims import Condition
from authsvc.core.model import Reason, Refused, StepUp
from authsvc.core.provider import Strength
from worlds import NOW, claims, provider

HUGE = 10**4300 - 1
ENTRA = {"authorization_uri": "https://login.example.com/common/oauth2/authorize", "own_client_id": "app-1"}
C1 = "eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWUsInZhbHVlIjoiYzEifX19"


def check(asked, told, **changes):
    ours = provider(**changes)
    stepup.check(asked, room.identity(ours, claims(**told)), ours, NOW)


def refusal(asked, told, **changes):
    with pytest.raises(Refused) as refused:
        check(asked, told, **changes)
    return refused.value


def test_where_nothing_is_asked_for_anything_will_do():
    check(Strength(), {})


# Contexts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        {"acr": "gold"},
        {"acr": "silver"},
        {"acrs": ["c1", "gold"]},
        {"acrs": "gold"},
        {"acr": "bronze", "acrs": ["silver"]},
        {"acr": ["bronze", "gold"]},
    ],
    ids=str,
)
def test_one_of_the_asked_contexts_is_enough(told):
    check(Strength(acr=("gold", "silver")), told)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"acr": None},
        {"acr": ""},
        {"acr": "bronze"},
        {"acr": "gold "},
        {"acr": "Gold"},
        {"acr": "gold silver"},
        {"acr": "gold,silver"},
        {"acr": "golden"},
        {"acr": [["gold"]]},
        {"acr": {"gold": False}},
        {"acr": [{"gold": True}]},
        {"acr": True},
        {"acr": HUGE},
        {"acr_values": "gold"},
        {"amr": ["gold"]},
        {"ext": {"acr": "gold"}},
    ],
    ids=lambda told: str(told)[:40],
)
def test_no_other_context_and_no_trick_with_it_is_enough(told):
    found = refusal(Strength(acr=("gold", "silver")), told)
    assert (found.reason, found.step_up) == (Reason.STEP_UP_REQUIRED, StepUp(("gold", "silver")))


@pytest.mark.parametrize(
    ("told", "detail"),
    [
        ({}, "the token's acr is not there; gold or silver is asked for"),
        ({"acr": "1", "acrs": ["c1"]}, "the token's acr is 1 or c1; gold or silver is asked for"),
    ],
)
def test_the_operator_reads_which_context_there_was(told, detail):
    assert refusal(Strength(acr=("gold", "silver")), told).detail == detail


# A second factor -----------------------------------------------------------------------------------------------------

BY_ACR = (
    Condition(("amr",), "contains", ("mfa",)),
    Condition(("acr",), "in", ("phr", "phrh")),
    Condition(("acrs",), "contains", ("c1",)),
    Condition(("acr",), "starts", ("urn:mfa:",)),
    Condition(("ext", "acr"), "in", ("no",)),
)


@pytest.mark.parametrize(
    ("mfa_if", "told", "shown"),
    [
        (None, {"amr": ["pwd", "mfa"]}, True),
        (None, {"amr": "mfa"}, True),
        (None, {"amr": ["pwd"]}, False),
        (None, {"amr": "pwd mfa"}, False),
        (None, {"amr": [["mfa"]]}, False),
        (None, {"amr": {"mfa": False}}, False),
        (None, {"acr": "mfa"}, False),
        (None, {}, False),
        (BY_ACR, {"acr": "phrh"}, True),
        (BY_ACR, {"acrs": ["c1"]}, True),
        (BY_ACR, {"acr": "urn:mfa:x"}, True),
        (BY_ACR, {"acr": "urn:mfa"}, False),
        ((), {"amr": ["mfa"], "acr": "phr"}, False),
        ((Condition(("mfa",)),), {"mfa": False}, True),
        ((Condition(("mfa",)),), {"amr": ["mfa"]}, False),
    ],
    ids=lambda one: str(one)[:40],
)
def test_a_second_factor_is_what_the_providers_evidence_shows(mfa_if, told, shown):
    changes = {} if mfa_if is None else {"mfa_if": mfa_if}
    if shown:
        check(Strength(mfa=True), told, **changes)
    else:
        assert refusal(Strength(mfa=True), told, **changes).reason is Reason.STEP_UP_REQUIRED


@pytest.mark.parametrize(
    ("mfa_if", "asked_for", "detail"),
    [
        (None, (), "the token shows no second factor; wanted is that amr has mfa"),
        (
            BY_ACR[:3],
            ("phr", "phrh", "c1"),
            "no second factor; wanted is that amr has mfa or acr is phr or phrh or acrs has c1",
        ),
        (BY_ACR[3:], (), "no second factor; wanted is that acr begins with urn:mfa: or ext.acr is no"),
        ((Condition(("mfa",)),), (), "no second factor; wanted is that mfa is there"),
        ((), (), "this provider's tokens never do: set mfa_if to what yours say"),
    ],
)
def test_the_context_that_would_show_a_second_factor_is_asked_for_where_it_has_a_name(mfa_if, asked_for, detail):
    found = refusal(Strength(mfa=True), {}, **({} if mfa_if is None else {"mfa_if": mfa_if}))
    assert found.step_up == StepUp(asked_for)
    assert found.detail.endswith(detail)


# Freshness -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth_time", "fits"),
    [
        pytest.param(NOW, True, id="now"),
        pytest.param(int(NOW), True, id="a whole number"),
        pytest.param(NOW - 300, True, id="at the limit"),
        pytest.param(NOW - 360, True, id="at the limit and the skew"),
        pytest.param(NOW - 360.5, False, id="after limit and skew"),
        pytest.param(NOW - 361, False, id="a second later"),
        pytest.param(NOW + 60, True, id="ahead by the skew"),
        pytest.param(NOW + 61, False, id="ahead by more"),
        pytest.param(..., False, id="missing"),
        pytest.param(None, False, id="null"),
        pytest.param(True, False, id="true"),
        pytest.param(str(int(NOW)), False, id="a text"),
        pytest.param([NOW], False, id="a list"),
        pytest.param({"auth_time": NOW}, False, id="an object"),
        pytest.param(0, False, id="nought"),
        pytest.param(-NOW, False, id="before all time"),
        pytest.param(NOW * 1000, False, id="milliseconds"),
        pytest.param(1e300, False, id="a float beyond all time"),
        pytest.param(HUGE, False, id="a number beyond all floats"),
        pytest.param(-HUGE, False, id="a number below all floats"),
        pytest.param(10**309, False, id="a number just beyond all floats"),
    ],
)
def test_a_sign_in_is_as_fresh_as_auth_time_says_give_or_take_the_skew(auth_time, fits):
    told = {} if auth_time is ... else {"auth_time": auth_time}
    if fits:
        check(Strength(max_age_s=300), told)
    else:
        found = refusal(Strength(max_age_s=300), told)
        assert (found.reason, found.step_up) == (Reason.STEP_UP_REQUIRED, StepUp((), 300))


@pytest.mark.parametrize(("skew_s", "age_s", "fits"), [(0, 0, True), (0, 1, False), (0, -1, False), (5, 5, True)])
def test_a_max_age_of_nought_asks_for_a_sign_in_just_now(skew_s, age_s, fits):
    asked, told = Strength(max_age_s=0), {"auth_time": NOW - age_s}
    if fits:
        check(asked, told, skew_s=skew_s)
    else:
        assert refusal(asked, told, skew_s=skew_s).step_up == StepUp((), 0)


@pytest.mark.parametrize(
    ("told", "detail"),
    [
        ({}, "the token does not tell when the user signed in (auth_time)"),
        ({"auth_time": True}, "the token does not tell when the user signed in (auth_time)"),
        ({"auth_time": NOW - 900}, "the user signed in 900 s ago; at most 300 s are accepted"),
    ],
)
def test_the_operator_reads_how_old_the_sign_in_is(told, detail):
    assert refusal(Strength(max_age_s=300), told).detail == detail


@pytest.mark.parametrize("claim", ["iat", "updated_at", "exp"])
def test_no_other_time_stands_for_auth_time(claim):
    assert refusal(Strength(max_age_s=300), {claim: NOW + 10}).reason is Reason.STEP_UP_REQUIRED


def test_all_that_is_asked_for_must_be_met():
    asked = Strength(("gold",), mfa=True, max_age_s=300)
    enough = {"acr": "gold", "amr": ["mfa"], "auth_time": NOW}
    check(asked, enough)
    for lacking in enough:
        told = {name: value for name, value in enough.items() if name != lacking}
        assert refusal(asked, told).reason is Reason.STEP_UP_REQUIRED


def test_a_challenge_asks_for_context_and_freshness_at_once():
    """Else the client would go for one and come back without the other."""
    asked = Strength(("gold",), max_age_s=300)
    assert refusal(asked, {"auth_time": NOW}).step_up == StepUp(("gold",), 300)
    assert refusal(asked, {"acr": "gold"}).step_up == StepUp(("gold",), 300)


# Entra ---------------------------------------------------------------------------------------------------------------


def test_the_claims_request_is_the_one_that_microsoft_documents():
    assert stepup.claims_request("c1") == C1


@pytest.mark.parametrize("context", ["c1", "c99", 'c"1', "c\r\n1", "é", "名", "\ud800", "x" * 1000])
def test_a_claims_request_is_json_in_base64_whatever_the_context_is(context):
    request = stepup.claims_request(context)
    assert request.isascii()
    assert request.isprintable()
    assert '"' not in request
    assert json.loads(base64.b64decode(request, validate=True)) == {
        "access_token": {"acrs": {"essential": True, "value": context}}
    }


CP1 = [["cp1"], ["CP1"], ["Cp1"], "cp1", "CP1", ["protapp", "cp1"]]
NOT_CP1 = [..., None, [], "", "cp2", ["cp2"], "cp1 cp2", ["cp1 "], [["cp1"]], [{"cp1": True}], {"cp1": False}, True]


@pytest.mark.parametrize("xms_cc", CP1, ids=str)
def test_a_client_that_can_take_a_claims_challenge_gets_one(xms_cc):
    found = refusal(Strength(acr=("c1", "c2")), {"acrs": ["c9"], "xms_cc": xms_cc}, **ENTRA)
    assert found.reason is Reason.CLAIMS_CHALLENGE
    assert found.step_up == StepUp(("c1", "c2"), None, C1, ENTRA["authorization_uri"], "app-1")


@pytest.mark.parametrize("xms_cc", NOT_CP1, ids=str)
def test_a_client_that_cannot_gets_a_plain_refusal(xms_cc):
    found = refusal(Strength(acr=("c1",)), {} if xms_cc is ... else {"xms_cc": xms_cc}, **ENTRA)
    assert (found.reason, found.step_up) == (Reason.AUTH_CONTEXT_REQUIRED, None)
    assert found.detail.endswith("the client does not take claims challenges (xms_cc)")


def test_at_entra_too_an_asked_context_is_enough():
    check(Strength(acr=("c1",)), {"acrs": ["c1", "c2"]}, **ENTRA)


@pytest.mark.parametrize(
    ("mfa_if", "reason"),
    [
        ((Condition(("acrs",), "contains", ("c1",)),), Reason.CLAIMS_CHALLENGE),
        ((Condition(("amr",), "contains", ("mfa",)),), Reason.AUTH_CONTEXT_REQUIRED),
        ((), Reason.AUTH_CONTEXT_REQUIRED),
    ],
)
def test_entra_is_asked_for_a_second_factor_where_a_context_stands_for_it(mfa_if, reason):
    found = refusal(Strength(mfa=True), {"xms_cc": ["cp1"]}, mfa_if=mfa_if, **ENTRA)
    assert found.reason is reason
    assert found.step_up == (StepUp(("c1",), None, C1, ENTRA["authorization_uri"], "app-1") if found.step_up else None)


@pytest.mark.parametrize("xms_cc", [["cp1"], []])
def test_an_old_sign_in_at_entra_is_challenged_as_rfc_9470_has_it(xms_cc):
    """A claims challenge names contexts and has no word for freshness."""
    found = refusal(Strength(max_age_s=300), {"xms_cc": xms_cc}, **ENTRA)
    assert (found.reason, found.step_up) == (Reason.STEP_UP_REQUIRED, StepUp((), 300))
