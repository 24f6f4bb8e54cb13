"""The HTTP face of a decision."""

import json

import pytest

from authsvc.core import response, stepup
from authsvc.core.model import Decision, Identity, Prepared, Quota, QuotaPolicy, Reason, Refused, StepUp

YES = [Reason.ALLOWED, Reason.PUBLIC]
NO = [reason for reason in Reason if reason not in YES]
SECRET = [("X-User-Id", "u-1")]


def person(claims=None, **changes):
    return Identity(
        **{"provider": "main", "user_id": "u-1", "email": "", "roles": (), "claims": claims or {}, **changes}
    )


def rendered(reason, **more):
    status, headers = response.render(Decision(reason, **more), SECRET)
    return status, dict(headers)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_face(reason):
    face = response.face(reason)
    assert face.status in (200, 401, 403, 429, 503)
    assert face.title


@pytest.mark.parametrize("reason", YES)
def test_a_yes_is_200_with_the_identity(reason):
    status, headers = rendered(reason)
    assert (status, headers["X-User-Id"], headers["X-Auth-Status"]) == (200, "u-1", "200")
    assert not {"WWW-Authenticate", "X-Auth-Error", "Retry-After"} & headers.keys()


@pytest.mark.parametrize("reason", NO)
def test_a_no_is_401_or_403_without_the_identity_whoever_it_is(reason):
    status, headers = rendered(reason, identity=person())
    assert status == (401 if response.face(reason).status == 401 else 403)
    assert "X-User-Id" not in headers
    assert headers["X-Auth-Status"] == str(response.face(reason).status)
    assert json.loads(headers["X-Auth-Error"])["reason"] == headers["X-Auth-Reason"] == reason.value


@pytest.mark.parametrize("reason", NO)
def test_a_401_always_has_a_challenge(reason):
    status, headers = rendered(reason)
    assert status != 401 or headers["WWW-Authenticate"].startswith('Bearer realm="api"')


@pytest.mark.parametrize(
    ("reason", "challenge"),
    [
        (Reason.NO_CREDENTIALS, 'Bearer realm="api"'),
        (Reason.UNSUPPORTED_CREDENTIALS, 'error="invalid_request"'),
        (Reason.EXPIRED, 'Bearer realm="api", error="invalid_token", error_description="The token has expired"'),
        (Reason.INSUFFICIENT_SCOPE, 'error="insufficient_scope"'),
    ],
)
def test_the_challenge_says_what_rfc_6750_asks_for(reason, challenge):
    shown = rendered(reason)[1]["WWW-Authenticate"]
    assert challenge in shown
    assert ("error" in shown) is (reason is not Reason.NO_CREDENTIALS)


def test_a_missing_scope_is_named():
    headers = rendered(Reason.INSUFFICIENT_SCOPE, wanted=("orders:read", 'a"b', "a b", "é", "a\nb", "x"))[1]
    assert headers["WWW-Authenticate"].endswith(', scope="orders:read x"')


def test_roles_are_not_named_to_the_caller():
    assert "admin" not in str(rendered(Reason.ROLE_REQUIRED, wanted=("admin",)))


def test_what_the_operator_reads_never_reaches_the_caller():
    assert "kid-7" not in str(rendered(Reason.UNKNOWN_KEY, detail="no key kid-7"))


def test_a_wait_is_said_in_retry_after():
    assert rendered(Reason.KEYS_UNAVAILABLE, retry_after_s=5)[1]["Retry-After"] == "5"


def test_a_problem_says_where_to_read_on_only_to_whom_it_concerns():
    for link in ("https://x.test/a", "", "https://x.test/b", ""):
        told = json.loads(rendered(Reason.API_KEYS_ENDED, link=link)[1]["X-Auth-Error"])
        assert told == {
            "status": 401,
            "title": "API keys are no longer accepted",
            "reason": "api_keys_ended",
            **({"link": link} if link else {}),
        }


@pytest.mark.parametrize("reason", [Reason.ALLOWED, Reason.ROLE_REQUIRED])
def test_nginx_hears_of_the_tier_that_shadow_would_have_refused(reason):
    assert rendered(reason, shadow="tried")[1]["X-Auth-Shadow"] == "tried"
    assert "X-Auth-Shadow" not in rendered(reason)[1]


def test_what_one_caller_is_told_never_reaches_the_next():
    mine = [("X-User-Id", "u-1")]
    notices = (("X-Auth-Warning", "soon"),)
    status, headers = response.render(Decision(Reason.ALLOWED, receipt="r", notices=notices), mine)
    headers.append(("X-Mine", "1"))
    again = response.render(Decision(Reason.ALLOWED), [])[1]
    assert (status, mine) == (200, [("X-User-Id", "u-1")])
    assert again == [("X-Auth-Status", "200"), ("X-Auth-Reason", "allowed"), ("X-Accel-Expires", "0")]
    refused = response.render(Decision(Reason.EXPIRED, retry_after_s=3), mine)[1]
    refused.clear()
    assert dict(response.render(Decision(Reason.EXPIRED), mine)[1]).keys() == {
        "X-Auth-Status",
        "X-Auth-Reason",
        "X-Accel-Expires",
        "X-Auth-Error",
        "WWW-Authenticate",
    }


# Quotas --------------------------------------------------------------------------------------------------------------

HOUR, SECOND = Quota(QuotaPolicy("gold-hour", 1000, 3600), 7, 60), Quota(QuotaPolicy("gold-second", 10, 1), 9, 1)
SPENT = Quota(QuotaPolicy("gold-second", 10, 1), 0, 1, refused=True)
LAST = Quota(QuotaPolicy("gold-hour", 1000, 3600), 0, 60)
IETF = {
    "RateLimit-Policy": '"gold-hour";q=1000;w=3600, "gold-second";q=10;w=1',
    "RateLimit": '"gold-hour";r=7;t=60, "gold-second";r=9;t=1',
}
X = {"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "60"}


def about_limits(decision, style="ietf"):
    return {name: value for name, value in response.render(decision, [], style)[1] if "RateLimit" in name}


@pytest.mark.parametrize("reason", [Reason.ALLOWED, Reason.PUBLIC, Reason.RATE_LIMITED])
@pytest.mark.parametrize(
    ("style", "told"),
    [("ietf", IETF), ("x", X), ("both", {**IETF, **X}), ("off", {})],
    ids=["ietf", "x", "both", "off"],
)
def test_the_quotas_are_told_on_yes_and_no_in_the_chosen_way(reason, style, told):
    assert about_limits(Decision(reason, identity=person(), quotas=(HOUR, SECOND)), style) == told


def test_one_window_is_one_entry():
    decision = Decision(Reason.ALLOWED, identity=person(), quotas=(Quota(QuotaPolicy("gold", 100, 3600), 7, 60),))
    assert about_limits(decision) == {"RateLimit-Policy": '"gold";q=100;w=3600', "RateLimit": '"gold";r=7;t=60'}


@pytest.mark.parametrize(
    ("quotas", "told"),
    [
        ((HOUR, SECOND), ("1000", "7", "60")),
        ((HOUR, SPENT), ("10", "0", "1")),
        ((LAST, SPENT), ("10", "0", "1")),
        ((Quota(QuotaPolicy("none", 0, 60), 0, 9), HOUR), ("0", "0", "9")),
    ],
    ids=[
        "the one with the smaller share left",
        "the one that refuses",
        "even where another has none left",
        "a limit of 0",
    ],
)
def test_older_clients_hear_of_the_tightest_window(quotas, told):
    found = about_limits(Decision(Reason.ALLOWED, identity=person(), quotas=quotas), "x")
    assert tuple(found[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")) == told


@pytest.mark.parametrize("style", ["ietf", "x", "both", "off"])
def test_nobody_without_identity_hears_of_quotas_but_of_his_wait(style):
    decision = Decision(Reason.RATE_LIMITED, quotas=(SPENT,), retry_after_s=1)
    assert about_limits(decision, style) == {}
    assert dict(response.render(decision, [], style)[1])["Retry-After"] == "1"


@pytest.mark.parametrize("reason", [Reason.ALLOWED, Reason.RATE_LIMITED])
def test_where_nothing_was_counted_nothing_is_told(reason):
    assert about_limits(Decision(reason, identity=person()), "both") == {}


@pytest.mark.parametrize("reason", YES)
def test_a_receipt_goes_with_a_yes(reason):
    assert rendered(reason, receipt="ab=free:1:1:1:1")[1]["X-Auth-Receipt"] == "ab=free:1:1:1:1"
    assert "X-Auth-Receipt" not in rendered(reason)[1]


@pytest.mark.parametrize("reason", NO)
def test_a_receipt_never_goes_with_a_no(reason):
    assert "X-Auth-Receipt" not in rendered(reason, receipt="ab=free:1:1:1:1")[1]


# Identity ------------------------------------------------------------------------------------------------------------


def test_every_identity_header_is_always_sent():
    headers = dict(response.identity_headers(None, {"X-User-Plan": ("plan",)}))
    assert headers == dict.fromkeys((*response.BASE_HEADERS, "X-User-Plan"), "")


def test_the_identity_is_told():
    who = person({"plan": {"name": "gold"}}, email="a@example.com", roles=("a", "b,c"))
    assert dict(response.identity_headers(who, {"X-User-Plan": ("plan", "name")})) == {
        "X-User-Id": "u-1",
        "X-User-Email": "a@example.com",
        "X-User-Roles": '["a", "b,c"]',
        "X-User-Issuer": "main",
        "X-User-Tenant": "",
        "X-Auth-Method": "oidc",
        "X-User-Plan": "gold",
    }


def test_no_claim_can_take_the_place_of_the_users_name():
    headers = response.identity_headers(person({"x": "admin"}), {"X-User-Id": ("x",), "X-User-Roles": ("x",)})
    assert dict(headers)["X-User-Id"] == "u-1"
    assert len(headers) == len(dict(headers)) == 6


@pytest.mark.parametrize("claims", [{"x": "a" * 3000}, {"x": ["role"] * 500}, {"x": "名" * 400}])
def test_headers_too_large_for_nginx_are_refused_and_never_cut(claims):
    with pytest.raises(Refused) as refused:
        response.identity_headers(person(claims), {"X-User-X": ("x",)})
    assert refused.value.reason is Reason.IDENTITY_TOO_LARGE


def test_headers_of_exactly_the_budget_pass():
    empty = sum(len(n) + len(v) + 4 for n, v in response.identity_headers(person(), {"X-User-X": ("x",)}))
    most = "a" * (response.HEADER_BUDGET - empty)
    assert response.identity_headers(person({"x": most}), {"X-User-X": ("x",)})
    with pytest.raises(Refused):
        response.identity_headers(person({"x": most + "a"}), {"X-User-X": ("x",)})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("", ""),
        ("plain text", "plain text"),
        ("a\r\nX-User-Roles: admin", "a%0D%0AX-User-Roles: admin"),
        ("José", "Jos%C3%A9"),
        ("名", "%E5%90%8D"),
        ("100%", "100%25"),
        ("a%20b", "a%2520b"),
        ("a ", "a%20"),
        (" a", "%20a"),
        ("  ", "%20%20"),
        (" a é ", "%20a %C3%A9%20"),
        ("\t", "%09"),
        ("\x7f", "%7F"),
        ("\xa0", "%C2%A0"),
        ("\x00", "%00"),
        ("\ud800", "%ED%A0%80"),
        ("\U0001f600", "%F0%9F%98%80"),
        (True, "true"),
        (7, "7"),
        (1.5, "1.5"),
        (["a", "b,c", "é"], '["a", "b,c", "\\u00e9"]'),
        ({"a": "\r\n\x7f"}, '{"a": "\\r\\n\\u007f"}'),
        ([], "[]"),
    ],
)
def test_a_value_is_plain_ascii_in_a_header(value, text):
    assert response.encode(value) == text


# Tenants -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tenants", "text"),
    [
        ((), ""),
        (("acme",), "acme"),
        (("acme", "umbrella"), '["acme", "umbrella"]'),
        (('["acme", "umbrella"]',), '["[\\"acme\\", \\"umbrella\\"]"]'),
        (("[acme",), '["[acme"]'),
        (("a\r\nX-User-Roles: admin",), "a%0D%0AX-User-Roles: admin"),
        (("a\r\nb", "c"), '["a\\r\\nb", "c"]'),
    ],
    ids=["none", "one", "several", "one that looks like several", "one that begins so", "a new line", "one of several"],
)
def test_the_tenant_is_told_and_one_never_looks_like_several(tenants, text):
    assert dict(response.identity_headers(person(tenants=tenants), {}))["X-User-Tenant"] == text


def test_no_claim_can_take_the_place_of_the_tenant():
    headers = response.identity_headers(person({"x": "evil"}, tenants=("acme",)), {"X-User-Tenant": ("x",)})
    assert dict(headers)["X-User-Tenant"] == "acme"


# Challenges ----------------------------------------------------------------------------------------------------------

STEP_UP_TITLE = "A stronger or fresher authentication is needed"
FOR_STEP_UP = f'Bearer realm="api", error="insufficient_user_authentication", error_description="{STEP_UP_TITLE}"'


def challenged(reason, step_up, **more):
    return rendered(reason, step_up=step_up, **more)[1]["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("step_up", "more"),
    [
        (None, ""),
        (StepUp(), ""),
        (StepUp(("gold",)), ', acr_values="gold"'),
        (StepUp(("gold", "silver")), ', acr_values="gold silver"'),
        (StepUp(("urn:okta:loa:2fa:any",), 0), ', acr_values="urn:okta:loa:2fa:any", max_age="0"'),
        (StepUp((), 300), ', max_age="300"'),
    ],
    ids=str,
)
def test_a_step_up_challenge_says_what_rfc_9470_asks_for(step_up, more):
    assert challenged(Reason.STEP_UP_REQUIRED, step_up) == FOR_STEP_UP + more


HOSTILE = [
    'a"b',
    'gold", error="x',
    "a\\",
    "a\r\nX-User-Roles: admin",
    "a\nb",
    "a\0b",
    "a b",
    "",
    " ",
    "é",
    "名",
    "\ud800",
    "a\x7f",
    "a\t",
]


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_a_context_that_cannot_stand_in_a_challenge_is_left_out(value):
    assert challenged(Reason.STEP_UP_REQUIRED, StepUp((value,))) == FOR_STEP_UP
    assert challenged(Reason.STEP_UP_REQUIRED, StepUp(("gold", value, "x"))) == f'{FOR_STEP_UP}, acr_values="gold x"'


@pytest.mark.parametrize("value", ["c1", *HOSTILE], ids=ascii)
def test_a_claims_challenge_is_what_microsofts_libraries_read(value):
    request = stepup.claims_request(value)
    asked = StepUp((value,), None, request, "https://login.example.com/common/oauth2/authorize", "app-1")
    assert challenged(Reason.CLAIMS_CHALLENGE, asked) == (
        'Bearer realm="", authorization_uri="https://login.example.com/common/oauth2/authorize", client_id="app-1", '
        f'error="insufficient_claims", claims="{request}"'
    )


@pytest.mark.parametrize("reason", [Reason.STEP_UP_REQUIRED, Reason.CLAIMS_CHALLENGE])
def test_a_challenge_reaches_the_client_as_401(reason):
    assert rendered(reason, step_up=StepUp(("gold",), 60))[0] == 401


def test_a_client_that_cannot_take_a_claims_challenge_gets_403_without_one():
    status, headers = rendered(Reason.AUTH_CONTEXT_REQUIRED)
    assert (status, headers["X-Auth-Status"]) == (403, "403")
    assert "WWW-Authenticate" not in headers


def test_roles_and_scopes_of_the_rule_are_not_told_in_a_step_up_challenge():
    assert challenged(Reason.STEP_UP_REQUIRED, StepUp(), wanted=("admin",)) == FOR_STEP_UP


@pytest.mark.parametrize("reason", NO)
def test_a_challenge_of_any_refusal_is_one_line_of_plain_ascii(reason):
    for step_up in (None, StepUp(tuple(HOSTILE), 5), StepUp((), None, "eyJ9", "https://login.example.com", "app-1")):
        for _, value in response.render(Decision(reason, step_up=step_up, wanted=tuple(HOSTILE)), [])[1]:
            assert value.isascii()
            assert value.isprintable()


@pytest.mark.parametrize("reason", YES)
def test_a_yes_has_no_challenge_whatever_was_asked_for(reason):
    assert "WWW-Authenticate" not in rendered(reason, step_up=StepUp(("gold",)))[1]


def test_each_reason_has_a_title_of_its_own():
    assert len({response.face(reason).title for reason in Reason}) == len(Reason)


# The same as text ----------------------------------------------------------------------------------------------------

DIFFERING = [
    {},
    {"receipt": "r"},
    {"receipt": "r", "quotas": (HOUR,), "tier": "gold"},
    {"quotas": (HOUR,)},
    {"receipt": "r", "quotas": (HOUR, SECOND)},
    {"quotas": (SPENT,), "retry_after_s": 1},
    {"shadow": "tried", "receipt": "r"},
    {"notices": (("Deprecation", "@1"), ("X-Auth-Warning", "soon")), "quotas": (HOUR,)},
    {"keep_s": 7},
]


@pytest.mark.parametrize("more", DIFFERING, ids=lambda more: " ".join(more) or "nothing")
@pytest.mark.parametrize("style", ["ietf", "x", "both", "off"])
@pytest.mark.parametrize("reason", [Reason.ALLOWED, Reason.PUBLIC, Reason.RATE_LIMITED, Reason.EXPIRED])
def test_an_answer_put_together_of_what_was_made_once_is_the_answer(reason, style, more):
    caller = Prepared()
    for known in (None, caller, caller):
        decision = Decision(reason, identity=person(), prepared=known, **more)
        status, headers = response.render(decision, SECRET, style)
        [first, *rest, last] = response.head(decision, SECRET, style).decode("ascii").split("\r\n")
        assert first == f"HTTP/1.1 {response.STATUS_LINES[status]}"
        assert sorted(rest) == sorted(f"{name}: {value}" for name, value in headers + response.NO_BODY)
        assert last == ""
    assert bool(caller.head) is (reason is Reason.ALLOWED and "keep_s" not in more)


def test_what_is_made_once_of_one_caller_is_not_told_to_another():
    first, second = Prepared(), Prepared()
    for known, name in ((first, "u-1"), (second, "u-2"), (first, "u-1")):
        decision = Decision(Reason.ALLOWED, identity=person(), prepared=known)
        assert f"X-User-Id: {name}\r\n".encode() in response.head(decision, [("X-User-Id", name)])


@pytest.mark.parametrize(
    "value", ["a\r\nX-User-Id: root", "a\nb", "a\rb", "a\x00", "a\x7f", "a\x85b", "\xe9", "\u2028"]
)
def test_a_header_that_would_be_more_than_a_line_is_never_put_together(value):
    with pytest.raises(ValueError, match="printable"):
        response.lines([("X-Fine", "1"), ("X-User-Id", value)])


@pytest.mark.parametrize("name", ['a"', "a\\", "a\r\nX-User-Id: root", "\xe9"])
def test_a_tier_whose_name_cannot_stand_in_a_header_is_none(name):
    with pytest.raises(ValueError, match="no name of a tier"):
        QuotaPolicy(name, 1, 60)
