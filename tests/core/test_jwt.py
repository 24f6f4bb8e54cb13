"""Bearer tokens: the header that carries them, claims, and whom they speak for. Attacks are in test_jose_quirks.py."""

import pytest

from authsvc.core import jwt
from authsvc.core.identify import Way
from authsvc.core.model import Reason, Refused, Request
from authsvc.core.provider import RoleClaim
from worlds import NOW, gate, provider, token


def identity_of(provider_changes=None, **changed):
    deciding = gate(providers=[provider(**provider_changes or {})])
    return deciding.who.identify(Request("GET", "/", f"Bearer {token(**changed)}"), NOW, Way())


def refusal(provider_changes=None, **changed):
    with pytest.raises(Refused) as refused:
        identity_of(provider_changes, **changed)
    return refused.value


@pytest.mark.parametrize("header", [None, "", " ", "\t "])
def test_no_authorization_header_is_no_credential(header):
    assert jwt.bearer(header) is None


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER abc", "abc"),
        (" Bearer   abc  ", "abc"),
        ("Bearer", ""),
        ("Bearer a,Bearer b", "a,Bearer b"),
        ("Bearer a b", "a b"),
    ],
)
def test_a_bearer_token_is_found(header, found):
    assert jwt.bearer(header) == found


@pytest.mark.parametrize(
    "header",
    ["Basic dTpw", "DPoP abc", "abc", "Bearerabc", "Bearer\tabc", "Bearer: abc", "Basic x, Bearer abc", "ℬearer abc"],
)
def test_any_other_scheme_is_refused(header):
    with pytest.raises(Refused) as refused:
        jwt.bearer(header)
    assert refused.value.reason is Reason.UNSUPPORTED_CREDENTIALS


@pytest.mark.parametrize("header", ["Bearer", "Bearer a,Bearer b", "Bearer a b"])
def test_what_follows_bearer_and_is_no_token_is_refused(header):
    with pytest.raises(Refused) as refused:
        gate().who.identify(Request("GET", "/", header), NOW, Way())
    assert refused.value.reason is Reason.MALFORMED_TOKEN


def test_two_good_tokens_in_one_header_are_refused():
    with pytest.raises(Refused):
        gate().who.identify(Request("GET", "/", f"Bearer {token()},Bearer {token()}"), NOW, Way())


def test_an_identity_is_what_the_claims_say():
    found = identity_of(email="a@example.com")
    assert (found.provider, found.user_id, found.email, found.roles) == ("main", "u-1", "a@example.com", ("reader",))
    assert not found.scoped


def test_the_user_may_be_named_by_another_claim():
    path = {"user_claims": (("ext", "login.name"),)}
    assert identity_of(path, ext={"login.name": "ann"}).user_id == "ann"


@pytest.mark.parametrize(
    "ext", [{}, {"login.name": ""}, {"login.name": 7}, {"login": {"name": "ann"}}, [], None, "ann", ...]
)
def test_a_user_that_is_not_named_is_refused(ext):
    assert refusal({"user_claims": (("ext", "login.name"),)}, ext=ext).reason is Reason.MISSING_CLAIM


def test_a_named_user_needs_a_sub_too():
    assert refusal({"user_claims": (("login",),)}, login="ann", sub=...).reason is Reason.MISSING_CLAIM


def test_a_user_name_too_long_is_refused():
    assert refusal({"user_claims": (("login",),)}, login="a" * 513).reason is Reason.INVALID_CLAIM


def test_the_users_name_may_be_led_by_the_providers():
    assert identity_of({"qualify_user_id": True}).user_id == "main:u-1"


@pytest.mark.parametrize("email", [None, 1, ["a@example.com"], {}, ...])
def test_an_email_that_is_no_text_is_empty(email):
    assert identity_of(email=email).email == ""


@pytest.mark.parametrize(
    ("path", "changed", "roles"),
    [
        (("roles",), {"roles": ["a", "b"]}, ("a", "b")),
        (("roles",), {"roles": "a b"}, ("a b",)),
        (("roles",), {"roles": ""}, ()),
        (("roles",), {"roles": ...}, ()),
        (("roles",), {"roles": None}, ()),
        (("roles",), {"roles": {"admin": {"org": "acme"}, "a": False, "b": None, "": True}}, ("admin",)),
        (("roles",), {"roles": {"admin": False}}, ()),
        (("roles",), {"roles": True}, ("true",)),
        (("roles",), {"roles": 7}, ("7",)),
        (("roles",), {"roles": ["a", "", None, 1, ["admin"], {"admin": 1}, "b"]}, ("a", "1", "b")),
        (("roles",), {"roles": ["a", "b", "a"]}, ("a", "b")),
        (("realm_access", "roles"), {"realm_access": {"roles": ["a"]}}, ("a",)),
        (("realm_access", "roles"), {"realm_access": ["roles"]}, ()),
        (("realm_access", "roles"), {"realm_access": "roles"}, ()),
        (("https://example.com/roles",), {"https://example.com/roles": ["a"]}, ("a",)),
        (("scope",), {"scope": "a  b"}, ("a", "b")),
        (("scp",), {"scp": ["a", "b"]}, ("a", "b")),
        (("scope",), {"scope": " "}, ()),
    ],
)
def test_roles_are_read_from_where_the_provider_puts_them(path, changed, roles):
    found = identity_of({"roles": (RoleClaim(path),)}, **changed)
    assert (found.roles, found.scoped) == (roles, path[-1] in ("scope", "scp"))


def test_a_provider_without_audiences_accepts_no_token():
    assert refusal({"audiences": frozenset()}).reason is Reason.WRONG_AUDIENCE


def test_a_token_bound_to_a_key_is_no_bearer_token():
    assert refusal(cnf={"jkt": "x"}).reason is Reason.BOUND_TOKEN


def test_a_token_bound_to_null_is_no_bearer_token():
    assert refusal(cnf=None).reason is Reason.BOUND_TOKEN


def test_without_skew_a_token_ends_at_the_very_moment_of_exp():
    assert refusal({"skew_s": 0}, exp=NOW, iat=...).reason is Reason.EXPIRED
    assert identity_of({"skew_s": 0}, exp=NOW + 0.001, iat=..., nbf=NOW)


def test_a_token_without_iat_and_nbf_is_good():
    assert identity_of(iat=..., nbf=...)


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"aud": []}, "the token is for nobody; wanted is orders-api"),
        ({"aud": ["a", "b"]}, "the token is for a, b; wanted is orders-api"),
        ({"exp": NOW - 3600}, "the token expired 3600 s ago"),
        ({"nbf": NOW + 3600}, "the token is valid in 3600 s (nbf)"),
        ({"iat": NOW + 3600}, "the token was issued 3600 s from now (iat)"),
        ({"iss": "https://id.example.com/"}, "they differ by the slash at the end"),
        ({"iss": "x" * 1000}, "no provider has the issuer '" + "x" * 200 + "'"),
    ],
)
def test_a_refusal_tells_the_operator_what_is_wrong(changed, detail):
    assert refusal(**changed).detail.endswith(detail)


def test_what_a_token_says_is_not_in_its_printed_form():
    parsed = jwt.parse(token(sub="secret-name"))
    assert "secret-name" not in repr(parsed)
    assert "secret-word" not in repr(identity_of(diagnosis="secret-word"))
