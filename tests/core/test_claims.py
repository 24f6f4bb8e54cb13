"""Claims: texts and scopes, conditions on them and demands, whatever a token holds there."""

from types import MappingProxyType

import pytest

from authsvc.core import claims
from authsvc.core.claims import Condition, Demand
from authsvc.core.model import Reason, Refused

# The largest integer and the smallest that JSON can bring here: longer ones are refused when it is read.
HUGE = 10**4300 - 1
NESTED = [[["admin"]]]
NOT_THERE = ...


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("a",), {"b": {"c": 7}, "b.c": 8}),
        (("a", "b"), {"c": 7}),
        (("a", "b", "c"), 7),
        (("a", "b.c"), 8),
        (("a", "b", "c", "d"), None),
        (("a", "x", "c"), None),
        (("text", "upper"), None),
        (("list", "0"), None),
        (("null", "x"), None),
        (("",), None),
        (("proxy", "x"), 9),
    ],
    ids=lambda one: "/".join(one) if isinstance(one, tuple) else "",
)
def test_a_path_goes_through_objects_only_and_no_name_is_split(path, value):
    told = {"a": {"b": {"c": 7}, "b.c": 8}, "text": "x", "list": [1], "null": None, "proxy": MappingProxyType({"x": 9})}
    assert claims.claim_at(told, path) == value


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param("a b", ("a b",), id="a text is one and is not split"),
        pytest.param("", (), id="an empty text"),
        pytest.param(None, (), id="null"),
        pytest.param(True, ("true",), id="true"),
        pytest.param(False, ("false",), id="false"),
        pytest.param(0, ("0",), id="nought"),
        pytest.param(1, ("1",), id="one is not true"),
        pytest.param(-1.5, ("-1.5",), id="a fraction"),
        pytest.param(HUGE, ("9" * 4300,), id="a huge number"),
        pytest.param(-HUGE, ("-" + "9" * 4300,), id="a huge number below nought"),
        pytest.param(["a", 1, True, 1.5, ""], ("a", "1", "true", "1.5"), id="a list of texts and numbers"),
        pytest.param(["a", ["admin"], {"admin": True}, None, "a"], ("a", "a"), id="nothing within lists of a list"),
        pytest.param([], (), id="an empty list"),
        pytest.param(NESTED, (), id="nested lists"),
        pytest.param({"admin": {"id": 1}, "ops": {}}, ("admin", "ops"), id="the names of an object"),
        pytest.param({"admin": True, "ops": "x"}, ("admin", "ops"), id="the names of what is true"),
        pytest.param({"admin": False, "ops": None, "": True}, (), id="no name of what is false or null or nameless"),
        pytest.param({}, (), id="an empty object"),
        pytest.param(MappingProxyType({"admin": {}}), ("admin",), id="an object that cannot be written to"),
        pytest.param("\ud800", ("\ud800",), id="half a surrogate pair"),
    ],
)
def test_texts_are_what_a_claim_holds_on_its_surface(value, found):
    assert claims.texts(value) == found


@pytest.mark.parametrize(
    ("told", "found"),
    [
        pytest.param({}, (), id="neither"),
        pytest.param({"scope": "a b"}, ("a", "b"), id="scope as a string"),
        pytest.param({"scp": "a b"}, ("a", "b"), id="scp as a string (Entra)"),
        pytest.param({"scp": ["a", "b"]}, ("a", "b"), id="scp as a list (Okta)"),
        pytest.param({"scope": ["a", "b c"]}, ("a", "b", "c"), id="scope as a list"),
        pytest.param({"scope": "b a", "scp": ["a", "c"]}, ("b", "a", "c"), id="both, each scope once"),
        pytest.param({"scope": "  a   b "}, ("a", "b"), id="more spaces than needed"),
        pytest.param({"scope": "a\tb"}, ("a\tb",), id="a tab separates nothing"),
        pytest.param({"scope": "a\u00a0b"}, ("a\u00a0b",), id="a wide space separates nothing"),
        pytest.param({"scope": "a,b"}, ("a,b",), id="a comma separates nothing"),
        pytest.param({"scope": {"admin": True}}, (), id="an object names no scopes"),
        pytest.param({"scope": NESTED}, (), id="nested lists"),
        pytest.param({"scope": [{"admin": True}, None]}, (), id="objects in a list"),
        pytest.param({"scope": None, "scp": ""}, (), id="null and an empty text"),
        pytest.param({"scope": 7}, ("7",), id="a number"),
        pytest.param({"Scope": "a", "scopes": "b", "x": {"scope": "c"}}, (), id="other claims"),
    ],
)
def test_scopes_of_both_claims_are_one_set(told, found):
    assert claims.scopes(told) == found


# Conditions ----------------------------------------------------------------------------------------------------------
# For each op: what it compares with, the values for which it holds, and those for which it does not.

OPS = {
    "present": ((), ["", 0, False, [], {}, "x"], [NOT_THERE, None]),
    "absent": ((), [NOT_THERE, None], ["", 0, False, [], {}, "x"]),
    "in": (
        ("admin", "1", "true"),
        ["admin", "1", 1, "true", True],
        [NOT_THERE, None, "Admin", "admin ", "adm", "", "True", 1.0, False, ["admin"], NESTED, {"admin": True}, HUGE],
    ),
    "not_in": (
        ("admin", "1", "true"),
        [NOT_THERE, None, "user", "", "Admin", 0, 1.0, False, HUGE],
        ["admin", 1, True, "true", ["admin"], ["user"], NESTED, {"admin": True}, {"user": True}, [], {}],
    ),
    "contains": (
        ("admin", "true"),
        ["admin", ["x", "admin"], {"admin": True}, {"admin": {}}, True, [True]],
        [NOT_THERE, None, "administrator", "x admin", ["Admin"], ["admins"], NESTED, [{"admin": True}], []]
        + [{"admin": False}, {"admin": None}, {"x": "admin"}, {"x": {"admin": True}}, 1, HUGE],
    ),
    "with_another": (
        ("otp", "hwk"),
        [["pwd", "otp"], ["otp", "hwk"], {"pwd": True, "otp": True}],
        [NOT_THERE, None, "otp", ["otp"], ["otp", "otp"], ["pwd", "sms"], "pwd otp", {"otp": True, "pwd": False}, HUGE],
    ),
    "starts": (
        ("auth0|", "waad|"),
        ["auth0|1", "waad|", "auth0|waad|"],
        [NOT_THERE, None, "AUTH0|1", " auth0|1", "x|auth0|", "", ["auth0|1"], {"auth0|1": True}, True, 0, HUGE],
    ),
    "ends": (
        ("@clients", "@apps"),
        ["x@clients", "@apps"],
        [NOT_THERE, None, "x@clients ", "x@CLIENTS", "@clientsx", "", ["x@clients"], {"x@clients": True}, True, HUGE],
    ),
    "differs": (
        ("iss",),
        ["https://b", "", "https://A", "https://a/", ["https://a"], {}, 0, False, HUGE],
        [NOT_THERE, None, "https://a"],
    ),
    "same": (
        ("iss",),
        [NOT_THERE, None, "https://a"],
        ["https://b", "", "https://A", "https://a/", ["https://a"], {"https://a": True}, 0, False, True, HUGE],
    ),
}
HELD = [(op, values, value, True) for op, (values, held, _) in OPS.items() for value in held]
NOT_HELD = [(op, values, value, False) for op, (values, _, refused) in OPS.items() for value in refused]


@pytest.mark.parametrize(
    ("op", "values", "value", "holds"),
    [pytest.param(*one, id=f"{one[0]} {str(one[2])[:24]} {one[3]}") for one in HELD + NOT_HELD],
)
def test_a_condition_holds_for_exactly_what_it_says(op, values, value, holds):
    told = {"iss": "https://a"} if value is NOT_THERE else {"iss": "https://a", "x": value}
    assert Condition(("x",), op, values).holds(told) is holds


def test_every_op_is_in_the_table_above():
    assert OPS.keys() == claims._OPS.keys()


@pytest.mark.parametrize("op", OPS)
def test_a_condition_on_a_path_through_what_is_no_object_meets_nothing_there(op):
    """So `absent`, `not_in` and `same` hold there, as where the claim is not there at all."""
    condition = Condition(("x", "y", "z"), op, OPS[op][0])
    empty = condition.holds({"iss": "https://a"})
    for value in ("y", ["y"], {"y": "z"}, {"y": ["z"]}, {"y": {"z": None}}, True, HUGE):
        assert condition.holds({"iss": "https://a", "x": value}) is empty


@pytest.mark.parametrize(("other", "same"), [(NOT_THERE, False), (None, False), ("true", False), ("x", True)])
def test_the_other_claim_of_a_comparison_may_be_anything(other, same):
    told = {"idp": "x"} if other is NOT_THERE else {"idp": "x", "iss": other}
    assert Condition(("idp",), "same", ("iss",)).holds(told) is same
    assert Condition(("idp",), "differs", ("iss",)).holds(told) is not same


@pytest.mark.parametrize(("one", "other"), [(True, "true"), (1, "1"), (None, False), ("", None), (["a"], "a")])
def test_claims_of_two_kinds_are_never_the_same_unless_there_is_none(one, other):
    condition = Condition(("one",), "same", ("other",))
    assert condition.holds({"one": one, "other": other}) is (one is None)


@pytest.mark.parametrize("op", ["in", "contains", "starts", "ends"])
@pytest.mark.parametrize("value", ["", "x", [""], None, True])
def test_a_condition_without_values_holds_for_nothing(op, value):
    assert not Condition(("x",), op, ()).holds({"x": value})


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Condition(("a", "b.c")), "a.b.c is there"),
        (Condition(("a",), "absent"), "a is not there"),
        (Condition(("a",), "in", ("x",)), "a is x"),
        (Condition(("a",), "in", ("x", "y")), "a is x or y"),
        (Condition(("a",), "not_in", ("x", "y")), "a is not x or y"),
        (Condition(("amr",), "contains", ("mfa",)), "amr has mfa"),
        (Condition(("sub",), "starts", ("auth0|",)), "sub begins with auth0|"),
        (Condition(("sub",), "ends", ("@clients",)), "sub ends with @clients"),
        (Condition(("idp",), "differs", ("iss",)), "idp is there and not the same as iss"),
        (Condition(("idp",), "same", ("iss",)), "idp is the same as iss"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_condition_can_be_read(condition, text):
    assert str(condition) == text


@pytest.mark.parametrize("op", OPS)
def test_every_condition_can_be_read(op):
    assert str(Condition(("name",), op, ("value",))).startswith("name ")


# Demands -------------------------------------------------------------------------------------------------------------

SCP, ROLES = Condition(("scp",)), Condition(("roles",), "contains", ("app",))


@pytest.mark.parametrize(
    ("any_of", "told", "met"),
    [
        pytest.param((SCP,), {"scp": "a"}, True, id="the one that there is"),
        pytest.param((SCP, ROLES), {"roles": ["app"]}, True, id="the second"),
        pytest.param((SCP, ROLES), {"scp": "a", "roles": ["app"]}, True, id="both"),
        pytest.param((SCP, ROLES), {"roles": ["user"]}, False, id="none"),
        pytest.param((SCP, ROLES), {"scp": None, "roles": {"app": False}}, False, id="none by tricks"),
        pytest.param((), {"scp": "a"}, False, id="a demand without conditions is never met"),
    ],
)
def test_a_demand_is_met_by_one_of_its_conditions(any_of, told, met):
    demand = Demand(any_of, Reason.WRONG_TOKEN_TYPE, "no access token", "ask for a scope")
    if met:
        demand.check(told)
    else:
        with pytest.raises(Refused) as refused:
            demand.check(told)
        found = refused.value
        assert (found.reason, found.detail, found.next_step) == (
            Reason.WRONG_TOKEN_TYPE,
            "no access token",
            "ask for a scope",
        )
