"""The whole way of a call: rule, identity, admission, quota, decision."""

from dataclasses import fields, replace

import pytest
from test_paths import AMBIGUOUS

from authsvc.core import ratelimit, rbac, response
from authsvc.core.claims import Condition, Demand
from authsvc.core.identify import Way
from authsvc.core.model import Decision, MustWait, Quota, QuotaPolicy, Reason, Request, StepUp
from authsvc.core.provider import RoleClaim, Strength
from authsvc.core.ratelimit import Limits, Rate, Spending, Tier
from authsvc.core.rbac import Asks, rule
from keys import key
from worlds import (
    ISSUER,
    NOW,
    FakeCounters,
    FakeIntrospects,
    FakeKeys,
    KeysByProvider,
    call,
    decide,
    gate,
    key_set,
    provider,
    reason,
    token,
)

RULES = (
    rule("/", None, []),
    rule("/api/public/*", None, []),
    rule("/public/*", None, []),
    rule("/orders", ["GET"], ["reader"]),
    rule("/orders", ["POST"], ["writer"]),
    rule("/admin/*", None, ["admin"]),
)
FREE, VISITOR = Tier("free", (Rate(10, 60),)), Tier("visitor", (Rate(5, 60),))
LIMITS = Limits((FREE,), anonymous=VISITOR)
USED_UP = Quota(QuotaPolicy("free", 10, 60), 0, 17, refused=True)
LEFT = Quota(QuotaPolicy("free", 10, 60), 9, 60)


@pytest.mark.parametrize(
    ("method", "target", "roles", "expected"),
    [
        ("GET", "/", None, Reason.PUBLIC),
        ("GET", "/public/x", None, Reason.PUBLIC),
        ("GET", "/orders", None, Reason.NO_CREDENTIALS),
        ("GET", "/orders", ["reader"], Reason.ALLOWED),
        ("HEAD", "/orders/", ["reader"], Reason.ALLOWED),
        ("POST", "/orders", ["reader"], Reason.ROLE_REQUIRED),
        ("POST", "/orders", ["writer"], Reason.ALLOWED),
        ("DELETE", "/orders", ["reader", "writer", "admin"], Reason.METHOD_NOT_ALLOWED),
        ("DELETE", "/orders", None, Reason.METHOD_NOT_ALLOWED),
        ("GET", "/admin/x", ["reader"], Reason.ROLE_REQUIRED),
        ("GET", "/admin/x", ["admin"], Reason.ALLOWED),
        ("GET", "/%61dmin/x", ["reader"], Reason.ROLE_REQUIRED),
        ("GET", "/admin/", ["reader"], Reason.ROLE_REQUIRED),
        ("GET", "/admin?x=/public/", None, Reason.NO_CREDENTIALS),
        ("GET", "/admin?x=/public/", ["reader"], Reason.ROLE_REQUIRED),
        ("GET", "/elsewhere", None, Reason.NO_CREDENTIALS),
        ("GET", "/elsewhere", [], Reason.ALLOWED),
        ("GET", "/publicity", None, Reason.NO_CREDENTIALS),
        ("GET", "/DASHBOARDS/", None, Reason.NO_CREDENTIALS),
    ],
)
def test_a_call_is_decided_by_rule_and_roles(method, target, roles, expected):
    bearer = None if roles is None else token(roles=roles)
    assert decide(gate(rules=RULES), call(bearer, method, target)).reason is expected


def test_what_a_refusal_does_not_say_is_as_in_any_decision():
    decision = decide(gate(), Request(None, None))
    expected = Decision(Reason.MISSING_CONTEXT, detail=decision.detail)
    said = {one.name: getattr(decision, one.name) for one in fields(Decision)}
    assert said == {one.name: getattr(expected, one.name) for one in fields(Decision)}


@pytest.mark.parametrize(
    ("target", "served", "roles", "expected"),
    [
        ("/orders", "/orders/", ["reader"], Reason.ALLOWED),
        ("/alias/x", "/admin/x", ["reader"], Reason.ROLE_REQUIRED),
        ("/alias/x", "/admin/x", ["admin"], Reason.ALLOWED),
        ("/admin/x", "/public/x", ["reader"], Reason.ROLE_REQUIRED),
        ("/public/x", "/admin/x", None, Reason.NO_CREDENTIALS),
        ("/public/x", "/public/y", None, Reason.PUBLIC),
        ("/public/x", "/public/../admin", None, Reason.AMBIGUOUS_PATH),
        ("/public/x", "", None, Reason.AMBIGUOUS_PATH),
    ],
)
def test_where_nginx_serves_another_path_both_must_be_allowed(target, served, roles, expected):
    bearer = None if roles is None else token(roles=roles)
    request = replace(call(bearer, "GET", target), served=served)
    assert decide(gate(rules=RULES), request).reason is expected


@pytest.mark.parametrize("target", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_no_ambiguous_target_is_allowed_to_anyone_even_where_all_is_public(target):
    for rules in (RULES, (rule("/*", None, []),)):
        decision = decide(gate(rules=rules), call(token(roles=["admin", "reader", "writer"]), target=target))
        assert decision.reason is (Reason.AMBIGUOUS_PATH if target else Reason.MISSING_CONTEXT)


@pytest.mark.parametrize("target", ["/elsewhere", "/DASHBOARDS/", "/x"])
def test_what_no_rule_governs_is_refused_where_the_default_is_deny(target):
    """Malcolm CVE-2026-63177 and #1081."""
    decision = decide(gate(rules=RULES, deny_by_default=True), call(token(roles=["admin"]), target=target))
    assert decision.reason is Reason.NO_RULE


@pytest.mark.parametrize(
    ("method", "target"),
    [(None, "/public/x"), ("GET", None), (None, None), ("", "/public/x"), ("GET", "")],
    ids=["no method", "no target", "neither", "an empty method", "an empty target"],
)
def test_what_nginx_did_not_say_is_never_guessed(method, target):
    """Authelia CVE-2021-32637, Istio CVE-2026-31838: absent and sent twice are both None here."""
    assert decide(gate(rules=RULES), call(token(), method, target)).reason is Reason.MISSING_CONTEXT


@pytest.mark.parametrize("method", ["get", "GET ", "GET\n", "GET,POST", "G\0T", "ＧＥＴ", "1", "A" * 33])
def test_a_method_that_is_none_is_refused_even_on_a_public_path(method):
    assert decide(gate(rules=RULES), call(token(), method, "/public/x")).reason is Reason.INVALID_METHOD


def test_a_decision_knows_its_way():
    decision = decide(gate(rules=RULES), call(token(roles=["reader"]), "POST", "/orders/?q=1"))
    assert (decision.path, decision.rule, decision.wanted) == ("/orders", "POST /orders", ("writer",))
    assert decision.detail == "the rule asks for writer; the caller has reader"
    assert decision.identity.user_id == "u-1"


def test_a_missing_scope_is_said_with_what_would_do():
    scoped = gate(providers=[provider(roles=(RoleClaim(("scope",)),))], rules=RULES)
    decision = decide(scoped, call(token(scope="openid"), target="/orders"))
    assert (decision.reason, decision.wanted) == (Reason.INSUFFICIENT_SCOPE, ("reader",))


# Public paths ------------------------------------------------------------------------------------------------------


def test_a_good_token_on_a_public_path_names_the_caller():
    decision, headers = gate(rules=RULES).decide(call(token(), target="/public/x"), NOW)
    assert (decision.reason, decision.ignored, dict(headers)["X-User-Id"]) == (Reason.PUBLIC, None, "u-1")


@pytest.mark.parametrize(
    ("authorization", "ignored"),
    [
        (None, None),
        ("Basic dTpw", Reason.UNSUPPORTED_CREDENTIALS),
        ("Bearer x", Reason.MALFORMED_TOKEN),
        (f"Bearer {token(exp=NOW - 3600)}", Reason.EXPIRED),
    ],
)
def test_a_bad_credential_on_a_public_path_names_nobody(authorization, ignored):
    request = Request("GET", "/public/x", authorization)
    decision, headers = gate(rules=RULES).decide(request, NOW)
    assert (decision.reason, decision.ignored, decision.identity) == (Reason.PUBLIC, ignored, None)
    assert {"X-User-Id": "", "X-User-Roles": ""}.items() <= dict(headers).items()


def test_without_keys_a_public_path_stays_open_and_names_nobody():
    decision = decide(gate(FakeKeys(), rules=RULES), call(token(), target="/public/x"))
    assert (decision.reason, decision.ignored) == (Reason.PUBLIC, Reason.KEYS_UNAVAILABLE)


# Keys --------------------------------------------------------------------------------------------------------------


def test_without_keys_nothing_is_allowed():
    decision = decide(gate(FakeKeys()), call(token()))
    assert (decision.reason, decision.retry_after_s, decision.allowed) == (Reason.KEYS_UNAVAILABLE, 5, False)


def test_a_first_download_brings_the_key():
    keys = FakeKeys(None, key_set(key()))
    assert reason(token(), gate(keys)) is Reason.ALLOWED
    assert keys.downloads == 1


def test_a_known_key_needs_no_download():
    keys = FakeKeys(key_set(key()), key_set(key()))
    assert reason(token(), gate(keys)) is Reason.ALLOWED
    assert keys.downloads == 0


def test_a_new_key_is_found_by_one_download():
    new = key(kid="k2", number=1)
    keys = FakeKeys(key_set(key()), key_set(key(), new))
    assert reason(token(signer=new), gate(keys)) is Reason.ALLOWED
    assert keys.downloads == 1


def test_a_call_that_may_not_wait_causes_no_download_and_counts_nothing():
    keys, counters = FakeKeys(known=None, downloadable=key_set(key())), FakeCounters()
    hasty = replace(call(token()), may_wait=False)
    with pytest.raises(MustWait):
        gate(keys=keys, counters=counters, limits=LIMITS).decide(hasty, NOW)
    assert (keys.downloads, counters.spent) == (0, [])


def test_a_key_that_was_replaced_under_its_kid_is_found_by_one_download():
    keys = FakeKeys(key_set(key()), key_set(key(number=1)))
    assert reason(token(signer=key(number=1)), gate(keys)) is Reason.ALLOWED


@pytest.mark.parametrize("downloadable", [None, key_set(key())], ids=["in the cool-down", "after a download"])
def test_an_unknown_key_is_refused(downloadable):
    assert reason(token({"kid": "k9"}), gate(FakeKeys(key_set(key()), downloadable))) is Reason.UNKNOWN_KEY


@pytest.mark.parametrize("downloadable", [None, key_set(key())], ids=["in the cool-down", "after a download"])
def test_a_forged_signature_is_refused(downloadable):
    forged = token(signer=key(number=1))
    assert reason(forged, gate(FakeKeys(key_set(key()), downloadable))) is Reason.INVALID_SIGNATURE


def test_an_unknown_key_cannot_be_judged_while_the_provider_is_down():
    down = FakeKeys(key_set(key()), failure="it does not answer")
    decision = decide(gate(down), call(token({"kid": "k9"})))
    assert (decision.reason, decision.allowed) == (Reason.KEYS_UNAVAILABLE, False)
    assert "it does not answer" in decision.detail
    assert reason(token(), gate(down)) is Reason.ALLOWED


def test_a_key_that_vanished_with_the_download_is_unknown():
    forged = token(signer=key(number=1))
    keys = FakeKeys(key_set(key()), key_set(key(kid="k2", number=2)))
    assert reason(forged, gate(keys)) is Reason.UNKNOWN_KEY


def test_the_keys_of_one_provider_never_verify_the_tokens_of_another():
    """Both use the same kid; RFC 8725 section 3.8."""
    other = provider(name="other", issuer="https://other.example.com")
    keys = KeysByProvider({"main": key_set(key()), "other": key_set(key(number=1))})
    both = gate(keys, providers=[provider(), other])
    assert reason(token(), both) is Reason.ALLOWED
    assert reason(token(iss=other.issuer, signer=key(number=1)), both) is Reason.ALLOWED
    assert reason(token(signer=key(number=1)), both) is Reason.INVALID_SIGNATURE
    assert reason(token(iss=other.issuer), both) is Reason.INVALID_SIGNATURE


def test_the_settings_of_one_provider_never_serve_the_tokens_of_another():
    strict = provider(
        name="other", issuer="https://other.example.com", audiences=frozenset({"x"}), algorithms=frozenset({"ES256"})
    )
    both = gate(providers=[provider(), strict])
    assert reason(token(iss=strict.issuer), both) is Reason.UNSUPPORTED_ALGORITHM
    assert reason(token(aud="x"), both) is Reason.WRONG_AUDIENCE


def test_an_issuer_that_differs_by_a_slash_is_explained_and_refused():
    decision = decide(gate(), call(token(iss=ISSUER + "/")))
    assert decision.reason is Reason.UNKNOWN_ISSUER
    assert "slash" in decision.detail


# Quota -------------------------------------------------------------------------------------------------------------

ANN, STRANGER = '[["user", "main", "u-1"]]', '[["ip", "192.0.2.1"]]'


def test_an_allowed_call_is_counted_once():
    counters = FakeCounters((LEFT,))
    decision = decide(gate(limits=LIMITS, counters=counters), call(token()))
    assert (decision.reason, decision.tier, decision.quotas) == (Reason.ALLOWED, "free", (LEFT,))
    assert counters.spent == [("free", ANN, 1)]


def test_a_call_over_the_limit_is_refused_with_its_wait():
    decision, headers = gate(limits=LIMITS, counters=FakeCounters((USED_UP,))).decide(call(token()), NOW)
    assert (decision.reason, decision.retry_after_s, decision.quotas) == (Reason.RATE_LIMITED, 17, (USED_UP,))
    assert (decision.detail, headers) == ("tier free: 10/minute is used up", [])


def test_of_several_windows_that_refuse_the_longest_wait_is_told():
    hour = Quota(QuotaPolicy("free-hour", 20, 3600), 0, 1800, refused=True)
    decision = decide(gate(limits=LIMITS, counters=FakeCounters((USED_UP, hour, LEFT))), call(token()))
    assert (decision.reason, decision.retry_after_s) == (Reason.RATE_LIMITED, 1800)
    assert decision.detail == "tier free: 20/hour is used up"
    assert decision.quotas == (USED_UP, hour, LEFT)


def test_a_refused_call_is_not_counted():
    counters = FakeCounters((LEFT,))
    deciding = gate(rules=RULES, limits=LIMITS, counters=counters)
    for request in (call(), call("x"), call(token(), target="/admin"), call(token(), "DELETE"), call(target="//")):
        assert not decide(deciding, request).allowed
    assert counters.spent == []


def test_a_caller_without_identity_is_counted_by_address():
    counters = FakeCounters((LEFT,))
    assert decide(gate(rules=RULES, limits=LIMITS, counters=counters), call(target="/public")).allowed
    assert counters.spent == [("visitor", STRANGER, 1)]


def test_a_forged_token_on_a_public_path_does_not_spend_another_callers_quota():
    counters = FakeCounters((LEFT,))
    decide(gate(rules=RULES, limits=LIMITS, counters=counters), call(token(signer=key(number=1)), target="/public"))
    assert counters.spent == [("visitor", STRANGER, 1)]


def test_an_unlimited_caller_is_not_counted():
    counters = FakeCounters((USED_UP,))
    decision = decide(gate(limits=Limits((Tier("staff"),)), counters=counters), call(token()))
    assert (decision.reason, decision.tier, counters.spent) == (Reason.ALLOWED, "", [])


def test_where_the_store_is_down_and_counting_is_a_must_nothing_is_allowed():
    decision = decide(gate(limits=LIMITS, counters=FakeCounters(down=True)), call(token()))
    assert (decision.reason, decision.allowed) == (Reason.LIMITS_UNAVAILABLE, False)


def test_where_the_counter_lets_a_call_through_uncounted_it_is_allowed():
    decision = decide(gate(limits=LIMITS, counters=FakeCounters()), call(token()))
    assert (decision.reason, decision.tier, decision.quotas) == (Reason.ALLOWED, "free", ())


# What rules say of limits --------------------------------------------------------------------------------------------

OWN = Tier("rules.2", (Rate(3, 60),))
SPENDERS = (
    rule("/health", None, None, spending=Spending(cost=0)),
    rule("/search/*", None, None, spending=Spending(cost=5)),
    rule("/export/*", None, None, spending=Spending(cost=2, own=OWN)),
    rule("/endless", None, None, spending=Spending(own=Tier("rules.3"))),
    rule("/export-of-guests", None, [], spending=Spending(own=OWN)),
)
ANN_THERE = '[["user", "main", "u-1"], ["rule", "rules.2"]]'


@pytest.mark.parametrize(
    ("target", "served", "spent"),
    [
        pytest.param("/x", None, [("free", ANN, 1)], id="a rule that says nothing counts one"),
        pytest.param("/health", None, [], id="an exempt rule counts nothing"),
        pytest.param("/search/x", None, [("free", ANN, 5)], id="a rule may count more"),
        pytest.param("/export/x", None, [("rules.2", ANN_THERE, 2)], id="a rule's own limit is in place of the tier"),
        pytest.param("/endless", None, [], id="a rule's own limit may be none"),
        pytest.param("/health", "/search/x", [("free", ANN, 5)], id="an exempt rule exempts only itself"),
        pytest.param("/x", "/search/x", [("free", ANN, 5)], id="of two rules the higher cost counts"),
        pytest.param("/search/x", "/x", [("free", ANN, 5)], id="whichever comes first"),
        pytest.param("/x", "/y", [("free", ANN, 1)], id="two rules of one tier count once"),
        pytest.param("/x", "/export/x", [("free", ANN, 1), ("rules.2", ANN_THERE, 2)], id="two limits count each"),
        pytest.param("/export/x", "/export/y", [("rules.2", ANN_THERE, 2)], id="the same limit twice counts once"),
    ],
)
def test_a_call_is_charged(target, served, spent):
    counters = FakeCounters((LEFT,))
    request = replace(call(token(), target=target), served=served)
    assert decide(gate(rules=SPENDERS, limits=LIMITS, counters=counters), request).allowed
    assert counters.spent == spent


def test_a_rules_own_limit_holds_for_callers_without_identity_too_and_each_address_apart():
    counters = FakeCounters((LEFT,))
    assert decide(gate(rules=SPENDERS, counters=counters), call(target="/export-of-guests")).allowed
    assert counters.spent == [("rules.2", '[["ip", "192.0.2.1"], ["rule", "rules.2"]]', 1)]


def test_a_call_that_counts_several_is_refused_with_its_cost():
    counters = FakeCounters((USED_UP,))
    decision = decide(gate(rules=SPENDERS, limits=LIMITS, counters=counters), call(token(), target="/search/x"))
    assert decision.detail == "tier free: 10/minute has no room for a call that counts 5"


def test_where_one_of_two_limits_refuses_the_call_is_refused_and_both_are_told():
    refusing = FakeCounters((LEFT,), by_tier={"rules.2": (USED_UP,)})
    request = replace(call(token(), target="/x"), served="/export/x")
    decision = decide(gate(rules=SPENDERS, limits=LIMITS, counters=refusing), request)
    assert (decision.reason, decision.tier) == (Reason.RATE_LIMITED, "rules.2")
    assert decision.quotas == (LEFT, USED_UP)


# Shadow --------------------------------------------------------------------------------------------------------------

SHADOWY = Limits((replace(FREE, shadow=True),))


@pytest.mark.parametrize(("answer", "shadow"), [((LEFT,), ""), ((USED_UP,), "free"), ((), "")])
def test_in_shadow_nobody_is_refused_or_told_and_it_is_known_who_would_have_been(answer, shadow):
    counters = FakeCounters(answer)
    decision, headers = gate(limits=SHADOWY, counters=counters).decide(call(token()), NOW)
    assert (decision.reason, decision.shadow, decision.tier) == (Reason.ALLOWED, shadow, "free")
    assert (decision.quotas, decision.retry_after_s) == ((), None)
    assert not {"RateLimit", "Retry-After"} & dict(response.render(decision, headers)[1]).keys()
    assert counters.spent == [("free", ANN, 1)]


def test_a_limit_in_shadow_hides_no_other_that_refuses():
    counters = FakeCounters((USED_UP,))
    request = replace(call(token(), target="/x"), served="/export/x")
    decision = decide(gate(rules=SPENDERS, limits=SHADOWY, counters=counters), request)
    assert (decision.reason, decision.shadow, decision.tier) == (Reason.RATE_LIMITED, "free", "rules.2")


def test_in_shadow_nobody_is_refused_even_where_the_store_is_down_and_counting_is_a_must():
    assert decide(gate(limits=SHADOWY, counters=FakeCounters(down=True)), call(token())).allowed


# Receipts ------------------------------------------------------------------------------------------------------------


def asked_twice(first, second, limits=LIMITS, answer=(LEFT,), **changes):
    """What is spent when nginx asks again with the receipt of its first answer, and the second decision."""
    counters = FakeCounters(answer)
    deciding = gate(rules=SPENDERS, limits=limits, counters=counters)
    decision = decide(deciding, replace(call(token(), id="r-1"), **first))
    again = replace(call(token(), id="r-1"), receipt=decision.receipt, **first)
    return decide(deciding, replace(again, **second, **changes)), counters.spent


@pytest.mark.parametrize("answer", [(LEFT,), ()], ids=["counted", "let through uncounted"])
def test_a_request_that_nginx_asks_about_again_is_counted_once_and_told_the_same(answer):
    decision, spent = asked_twice({"target": "/x"}, {"served": "/y"}, answer=answer)
    assert (decision.reason, decision.quotas, len(spent)) == (Reason.ALLOWED, answer, 1)


def test_in_shadow_a_request_is_counted_once_too():
    assert len(asked_twice({"target": "/x"}, {"served": "/y"}, SHADOWY)[1]) == 1


@pytest.mark.parametrize(
    "second",
    [
        pytest.param({"id": "r-2"}, id="of another request"),
        pytest.param({"id": ""}, id="of a request without an id"),
        pytest.param({"authorization": f"Bearer {token(sub='u-2')}"}, id="of another user"),
        pytest.param({"target": "/search/x"}, id="for a path that counts more"),
        pytest.param({"target": "/export/x"}, id="for a rule with its own limit"),
        pytest.param({"receipt": "junk"}, id="that is junk"),
        pytest.param({"receipt": ""}, id="that is not there"),
    ],
)
def test_a_receipt_pays_for_nothing(second):
    assert len(asked_twice({"target": "/x"}, second)[1]) == 2


def test_the_receipt_of_a_rule_does_not_pay_for_the_tier():
    spent = asked_twice({"target": "/export/x"}, {"served": "/x"})[1]
    assert spent == [("rules.2", ANN_THERE, 2), ("free", ANN, 1)]


def test_after_two_redirects_all_receipts_are_there_and_nothing_is_counted_twice():
    counters, receipt = FakeCounters((LEFT,)), ""
    deciding = gate(rules=SPENDERS, limits=LIMITS, counters=counters)
    for served in (None, "/export/x", "/export/y", "/export/x"):
        decision = decide(deciding, replace(call(token(), target="/x", id="r-1"), served=served, receipt=receipt))
        receipt = decision.receipt
    assert counters.spent == [("free", ANN, 1), ("rules.2", ANN_THERE, 2)]
    assert len(receipt.split(" ")) == 2


def test_a_refused_call_gets_no_receipt():
    decision = decide(gate(limits=LIMITS, counters=FakeCounters((USED_UP,))), call(token(), id="r-1"))
    assert decision.receipt == ""
    assert "X-Auth-Receipt" not in dict(response.render(decision, [])[1])


def test_a_request_without_an_id_gets_no_receipt_whatever_it_sent():
    request = call(token(), receipt="whatever it sent")
    assert decide(gate(limits=LIMITS, counters=FakeCounters((LEFT,))), request).receipt == ""


def test_an_identity_too_large_for_the_headers_is_refused():
    decision, headers = gate().decide(call(token(roles=[f"{number:0100}" for number in range(40)])), NOW)
    assert (decision.reason, headers) == (Reason.IDENTITY_TOO_LARGE, [])


def test_no_name_that_json_can_hold_breaks_the_counting():
    """Half a surrogate pair is good JSON and no good UTF-8."""
    who = gate().who.identify(Request("GET", "/", f"Bearer {token(sub=chr(0xD800))}"), NOW, Way())
    (charge,) = ratelimit.charges(LIMITS, [Spending()], who, None)
    assert charge.subject.isascii()


def test_the_default_rule_is_never_public():
    assert not rbac.DEFAULT.public


# Opaque tokens (RFC 7662) --------------------------------------------------------------------------------------------

TENANT_ID = "72f988bf-86f1-41af-91ab-2d7cd011db47"
OPAQUE = "ory_at_x7Yz-_.~+/=="
TOLD = {"sub": "u-1", "aud": "orders-api", "exp": NOW + 60, "roles": ["reader"], "client_id": "web"}


def told(**changes):
    """What a provider says of a good token; a claim of `...` is left out."""
    return {name: value for name, value in {"active": True, **TOLD, **changes}.items() if value is not ...}


def introspecting(answer=None, down=False, rules=(), **changes):
    introspects = FakeIntrospects(answer, down)
    return gate(providers=[provider(opaque=True, **changes)], introspects=introspects, rules=rules), introspects


def test_an_opaque_token_speaks_for_whom_its_provider_says():
    deciding, introspects = introspecting(told(), rules=RULES)
    decision, headers = deciding.decide(call(OPAQUE), NOW)
    assert (decision.reason, decision.provider, decision.identity.client) == (Reason.ALLOWED, "main", "web")
    assert dict(headers)["X-User-Id"] == "u-1"
    assert introspects.asked == [("main", OPAQUE)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, Reason.ALLOWED, id="good"),
        pytest.param({"exp": ...}, Reason.ALLOWED, id="without exp: it was asked just now"),
        pytest.param({"exp": NOW - 59}, Reason.ALLOWED, id="expired within the skew"),
        pytest.param({"exp": NOW - 61}, Reason.EXPIRED, id="expired"),
        pytest.param({"exp": None}, Reason.INVALID_CLAIM, id="exp null"),
        pytest.param({"exp": str(int(NOW + 60))}, Reason.INVALID_CLAIM, id="exp as a text"),
        pytest.param({"exp": True}, Reason.INVALID_CLAIM, id="exp true"),
        pytest.param({"exp": 10**4000}, Reason.INVALID_CLAIM, id="exp beyond all time"),
        pytest.param({"nbf": NOW + 61}, Reason.NOT_YET_VALID, id="not valid yet"),
        pytest.param({"iat": NOW + 61}, Reason.ISSUED_IN_FUTURE, id="issued in the future"),
        pytest.param({"aud": ["x", "orders-api"]}, Reason.ALLOWED, id="several audiences"),
        pytest.param({"aud": "other"}, Reason.WRONG_AUDIENCE, id="another audience"),
        pytest.param({"aud": ...}, Reason.WRONG_AUDIENCE, id="no audience"),
        pytest.param({"aud": None}, Reason.WRONG_AUDIENCE, id="audience null"),
        pytest.param({"aud": {"orders-api": True}}, Reason.WRONG_AUDIENCE, id="audience as an object"),
        pytest.param({"iss": ISSUER}, Reason.ALLOWED, id="its issuer"),
        pytest.param({"iss": ISSUER + "/"}, Reason.UNKNOWN_ISSUER, id="another issuer"),
        pytest.param({"iss": [ISSUER]}, Reason.UNKNOWN_ISSUER, id="issuer in a list"),
        pytest.param({"iss": None}, Reason.UNKNOWN_ISSUER, id="issuer null"),
        pytest.param({"iss": ""}, Reason.UNKNOWN_ISSUER, id="issuer empty"),
        pytest.param({"cnf": {"jkt": "x"}}, Reason.BOUND_TOKEN, id="bound to a key"),
        pytest.param({"cnf": {"jkt": "x"}, "token_type": "DPoP"}, Reason.BOUND_TOKEN, id="a DPoP token"),
        pytest.param({"cnf": None}, Reason.BOUND_TOKEN, id="bound to null"),
        pytest.param({"token_type": "bearer"}, Reason.ALLOWED, id="token_type bearer"),
        pytest.param({"token_type": "Bearer", "token_use": "access_token"}, Reason.ALLOWED, id="as Hydra says it"),
        pytest.param({"typ": "Bearer", "token_type": "Bearer"}, Reason.ALLOWED, id="as Keycloak says it"),
        pytest.param({"token_type": "access_token"}, Reason.ALLOWED, id="as Glewlwyd says it"),
        pytest.param({"token_type": None, "token_use": None}, Reason.ALLOWED, id="token_type and token_use null"),
        pytest.param({"token_use": "refresh_token", "token_type": "Bearer"}, Reason.WRONG_TOKEN_TYPE, id="refresh 1"),
        pytest.param({"token_type": "refresh_token"}, Reason.WRONG_TOKEN_TYPE, id="a refresh token at Glewlwyd"),
        pytest.param({"token_type": ["Bearer"]}, Reason.WRONG_TOKEN_TYPE, id="token_type in a list"),
        pytest.param({"token_type": "id_token"}, Reason.WRONG_TOKEN_TYPE, id="an ID token"),
        pytest.param({"token_use": "id"}, Reason.WRONG_TOKEN_TYPE, id="an ID token by token_use"),
        pytest.param({"typ": "ID"}, Reason.WRONG_TOKEN_TYPE, id="an ID token by typ"),
        pytest.param({"typ": "Refresh"}, Reason.WRONG_TOKEN_TYPE, id="a refresh token by typ"),
        pytest.param({"token_type": "DPoP"}, Reason.WRONG_TOKEN_TYPE, id="a DPoP token without cnf"),
        pytest.param({"sub": ...}, Reason.ALLOWED, id="no sub, but a client"),
        pytest.param({"sub": ..., "client_id": ...}, Reason.MISSING_CLAIM, id="neither sub nor client"),
        pytest.param({"sub": None}, Reason.MISSING_CLAIM, id="sub null"),
        pytest.param({"sub": ""}, Reason.MISSING_CLAIM, id="sub empty"),
        pytest.param({"sub": ..., "client_id": ["web"]}, Reason.MISSING_CLAIM, id="no sub, and a client in a list"),
        pytest.param({"sub": "u" * 513}, Reason.INVALID_CLAIM, id="sub too long"),
        pytest.param({"roles": []}, Reason.ROLE_REQUIRED, id="no role"),
        pytest.param({"roles": {"reader": False}}, Reason.ROLE_REQUIRED, id="a role that is false"),
    ],
)
def test_what_a_provider_says_of_an_opaque_token_is_checked_like_a_jwt(changes, expected):
    assert reason(OPAQUE, introspecting(told(**changes), rules=RULES)[0]) is expected


def test_a_token_without_sub_speaks_for_its_client():
    deciding, _ = introspecting(told(sub=...))
    assert decide(deciding, call(OPAQUE)).identity.user_id == "client:web"  # no user is called so


def test_a_token_that_is_not_active_is_refused():
    decision = decide(introspecting(None)[0], call(OPAQUE))
    assert (decision.reason, decision.provider, decision.identity) == (Reason.INACTIVE_TOKEN, "main", None)


def test_where_the_provider_cannot_be_asked_nothing_is_allowed():
    deciding, _ = introspecting(told(), down=True, rules=RULES)
    decision = decide(deciding, call(OPAQUE))
    assert (decision.reason, decision.retry_after_s, decision.allowed) == (Reason.INTROSPECTION_UNAVAILABLE, 5, False)
    public = decide(deciding, call(OPAQUE, target="/public/x"))
    assert (public.reason, public.ignored, public.identity) == (
        Reason.PUBLIC,
        Reason.INTROSPECTION_UNAVAILABLE,
        None,
    )


@pytest.mark.parametrize(
    ("iss", "tid", "expected"),
    [
        (f"https://login.example.com/{TENANT_ID}", TENANT_ID, Reason.ALLOWED),
        (f"https://login.example.com/{TENANT_ID}", TENANT_ID.replace("7", "8"), Reason.UNKNOWN_ISSUER),
        (f"https://login.example.com/{TENANT_ID}", ..., Reason.UNKNOWN_ISSUER),
        ("https://login.example.com/{tenantid}", TENANT_ID, Reason.UNKNOWN_ISSUER),
    ],
)
def test_an_issuer_template_binds_introspected_claims_too(iss, tid, expected):
    template = ("https://login.example.com/{tenantid}",)
    deciding, _ = introspecting(told(iss=iss, tid=tid), issuer=template[0], issuer_templates=template)
    assert reason(OPAQUE, deciding) is expected


ONLY_WEB = Demand((Condition(("client_id",), "in", ("web",)),), Reason.IDENTITY_SOURCE_NOT_ALLOWED, "not web")


@pytest.mark.parametrize(
    ("changes", "answer", "expected"),
    [
        ({"demands": (ONLY_WEB,)}, {}, Reason.ALLOWED),
        ({"demands": (ONLY_WEB,)}, {"client_id": "cli"}, Reason.IDENTITY_SOURCE_NOT_ALLOWED),
        ({"clients": frozenset({"web"})}, {"client_id": "cli"}, Reason.CLIENT_NOT_ALLOWED),
        ({"tenant_claim": ("org",), "tenants": frozenset({"acme"})}, {"org": "evil"}, Reason.TENANT_NOT_ALLOWED),
        ({"subject_types": frozenset({"user"})}, {}, Reason.SUBJECT_TYPE_NOT_ALLOWED),
        ({"strength": Strength(mfa=True)}, {}, Reason.STEP_UP_REQUIRED),
        ({"strength": Strength(mfa=True)}, {"amr": ["mfa"]}, Reason.ALLOWED),
        ({"strength": Strength(max_age_s=60)}, {"auth_time": NOW - 600}, Reason.STEP_UP_REQUIRED),
    ],
    ids=str,
)
def test_what_the_provider_entry_demands_holds_for_opaque_tokens_too(changes, answer, expected):
    assert reason(OPAQUE, introspecting(told(**answer), **changes)[0]) is expected


@pytest.mark.parametrize(
    "bearer",
    [
        token(),
        token(exp=NOW - 3600),
        token(signer=key(number=1)),
        token(iss="https://other.example.com"),
        "a.b.c",
        "..",
        "a.b.c.d.e",
        "....",
        token() + "=",
        "x" * 4097,
        "a b",
        "a,b",
        "=",
        "",
        "é",
        'a"b',
        "a\n",
        "a=b",
    ],
    ids=lambda bearer: repr(bearer[:9]) + str(len(bearer)),
)
def test_a_jwt_and_what_can_be_no_token_never_go_to_introspection(bearer):
    """Else a token of one provider would be shown to another, and garbage would make the service ask."""
    deciding, introspects = introspecting(told())
    assert reason(bearer, deciding) is reason(bearer)
    assert introspects.asked == []


@pytest.mark.parametrize("bearer", [OPAQUE, "x", "a.b", "a.b.c.d", "x" * 4096, "A1._~+/-=="])
def test_an_opaque_token_is_malformed_where_no_provider_introspects(bearer):
    introspects = FakeIntrospects(told())
    assert reason(bearer, gate(introspects=introspects)) is Reason.MALFORMED_TOKEN
    assert introspects.asked == []
    assert reason(bearer, introspecting(told())[0]) is Reason.ALLOWED


def test_an_opaque_token_goes_to_the_provider_that_introspects_and_to_no_other():
    other = provider(name="other", issuer="https://other.example.com", opaque=True, audiences=frozenset({"x"}))
    third = provider(name="third", issuer="https://third.example.com", opaque=True)
    introspects = FakeIntrospects(told())
    deciding = gate(providers=[provider(), other, third], introspects=introspects)
    assert reason(OPAQUE, deciding) is Reason.WRONG_AUDIENCE
    assert introspects.asked == [("other", OPAQUE)]


def test_an_introspected_token_of_a_sibling_provider_is_refused():
    """The endpoint may know tokens of both; this entry's settings are for one."""
    sibling = provider(name="sibling", issuer="https://sibling.example.com")
    introspects = FakeIntrospects(told(iss=sibling.issuer))
    deciding = gate(providers=[provider(opaque=True), sibling], introspects=introspects)
    decision = decide(deciding, call(OPAQUE))
    assert decision.reason is Reason.UNKNOWN_ISSUER
    assert decision.detail == "main introspected a token of 'https://sibling.example.com'"


# What providers and rules ask for ------------------------------------------------------------------------------------

GOLD, FRESH = Strength(acr=("gold",)), Strength(max_age_s=300)
STRONG_RULES = (
    rule("/", None, []),
    rule("/public/*", None, []),
    rule("/gold/*", None, None, Asks(strength=GOLD)),
    rule("/fresh/*", None, ["reader"], Asks(strength=FRESH)),
    rule("/plain/*", None, None),
    rule("/open-but-strange/*", None, [], Asks(providers=("other",), strength=GOLD)),
)


@pytest.mark.parametrize(
    ("target", "served", "claims", "expected"),
    [
        ("/gold/x", None, {"acr": "gold"}, Reason.ALLOWED),
        ("/gold/x", None, {}, Reason.STEP_UP_REQUIRED),
        ("/fresh/x", None, {"auth_time": NOW}, Reason.ALLOWED),
        ("/fresh/x", None, {"auth_time": NOW - 900}, Reason.STEP_UP_REQUIRED),
        ("/fresh/x", None, {"roles": []}, Reason.ROLE_REQUIRED),
        ("/plain/x", None, {}, Reason.ALLOWED),
        ("/gold/x", "/fresh/x", {"acr": "gold", "auth_time": NOW}, Reason.ALLOWED),
        ("/gold/x", "/fresh/x", {"acr": "gold"}, Reason.STEP_UP_REQUIRED),
        ("/gold/x", "/fresh/x", {"auth_time": NOW}, Reason.STEP_UP_REQUIRED),
        ("/plain/x", "/gold/x", {}, Reason.STEP_UP_REQUIRED),
        ("/gold/x", "/plain/x", {}, Reason.STEP_UP_REQUIRED),
        ("/public/x", "/gold/x", {}, Reason.STEP_UP_REQUIRED),
        ("/gold/x", "/public/x", {}, Reason.STEP_UP_REQUIRED),
        ("/public/x", "/gold/x", {"acr": "gold"}, Reason.ALLOWED),
        ("/public/x", None, {}, Reason.PUBLIC),
        ("/open-but-strange/x", None, {}, Reason.PUBLIC),
        ("/open-but-strange/x", "/gold/x", {"acr": "gold"}, Reason.PROVIDER_NOT_ALLOWED),
    ],
)
def test_a_sign_in_must_be_strong_enough_for_the_path_asked_for_and_the_one_served(target, served, claims, expected):
    request = call(token(**claims), target=target, served=served)
    assert decide(gate(rules=STRONG_RULES), request).reason is expected


def test_a_step_up_is_told_with_the_rule_that_asks_for_it():
    request = call(token(acr="bronze"), target="/plain/x", served="/gold/x")
    decision, headers = gate(rules=STRONG_RULES).decide(request, NOW)
    assert (decision.rule, decision.path, headers) == ("/gold/*", "/plain/x -> /gold/x", [])
    assert (decision.step_up, decision.identity.user_id) == (StepUp(("gold",)), "u-1")


@pytest.mark.parametrize(
    ("changes", "lacking", "enough"),
    [
        ({"strength": Strength(acr=("gold",))}, {"acr": "bronze"}, {"acr": "gold"}),
        ({"strength": Strength(mfa=True)}, {"amr": ["pwd"]}, {"amr": ["pwd", "mfa"]}),
        ({"strength": Strength(max_age_s=300)}, {"auth_time": NOW - 900}, {"auth_time": NOW - 30}),
        ({"strength": Strength(max_age_s=0)}, {"auth_time": 10**4000}, {"auth_time": NOW}),
    ],
    ids=str,
)
@pytest.mark.parametrize("target", ["/plain/x", "/elsewhere", "/fresh/x", "/public/x", "/"])
def test_what_a_provider_asks_for_holds_on_every_path_but_public_ones(changes, lacking, enough, target):
    deciding = gate(providers=[provider(**changes)], rules=STRONG_RULES)
    fresh = {"auth_time": NOW, **lacking}
    weak, strong = (
        decide(deciding, call(token(**told), target=target)) for told in (fresh, {"auth_time": NOW, **enough})
    )
    if target in ("/public/x", "/"):
        assert (weak.reason, weak.ignored, weak.identity) == (Reason.PUBLIC, Reason.STEP_UP_REQUIRED, None)
        assert (strong.reason, strong.ignored, strong.identity.user_id) == (Reason.PUBLIC, None, "u-1")
    else:
        assert (weak.reason, weak.identity) == (Reason.STEP_UP_REQUIRED, None)
        assert strong.reason is Reason.ALLOWED


def test_what_one_provider_asks_for_is_not_asked_of_another():
    other = provider(name="other", issuer="https://other.example.com", strength=Strength(mfa=True))
    keys = KeysByProvider({"main": key_set(key()), "other": key_set(key())})
    both = gate(keys, providers=[provider(), other])
    assert reason(token(), both) is Reason.ALLOWED
    assert reason(token(iss=other.issuer), both) is Reason.STEP_UP_REQUIRED
    assert reason(token(iss=other.issuer, amr=["mfa"]), both) is Reason.ALLOWED


@pytest.mark.parametrize(("xms_cc", "expected"), [(["CP1"], 401), (..., 403)])
def test_a_claims_challenge_goes_to_a_client_that_can_take_it(xms_cc, expected):
    entra = provider(authorization_uri="https://login.example.com/authorize", own_client_id="app-1")
    deciding = gate(providers=[entra], rules=[rule("/*", None, None, Asks(strength=Strength(acr=("c1",))))])
    decision, headers = deciding.decide(call(token(acrs=["c2"], xms_cc=xms_cc)), NOW)
    status, sent = response.render(decision, headers)
    assert status == expected
    assert ("insufficient_claims" in dict(sent).get("WWW-Authenticate", "")) is (expected == 401)


def test_the_next_step_of_a_demand_reaches_the_operator_and_not_the_caller():
    demand = Demand((Condition(("scp",)),), Reason.WRONG_TOKEN_TYPE, "it has no scp", "ask for secret-scope")
    decision, headers = gate(providers=[provider(demands=(demand,))]).decide(call(token()), NOW)
    assert (decision.reason, decision.next_step) == (Reason.WRONG_TOKEN_TYPE, "ask for secret-scope")
    assert "secret-scope" not in str(response.render(decision, headers))


@pytest.mark.parametrize(
    ("asks", "wanted"),
    [
        (Asks(), ("admin",)),
        (Asks(all_scopes=("a", "b")), ("a", "b")),
        (Asks(any_scope=("x", "y")), ("x",)),
        (Asks(all_scopes=("a",), any_scope=("x", "y")), ("a", "x")),
    ],
)
def test_a_decision_knows_what_to_ask_the_issuer_for(asks, wanted):
    deciding = gate(rules=[rule("/*", None, ["admin"], asks)])
    assert decide(deciding, call(token(roles=["admin"]))).wanted == wanted


def test_a_missing_scope_is_named_to_the_caller():
    deciding = gate(rules=[rule("/*", None, None, Asks(all_scopes=("orders:read",), any_scope=("a", "b")))])
    decision, headers = deciding.decide(call(token(scope="b")), NOW)
    assert decision.reason is Reason.INSUFFICIENT_SCOPE
    assert dict(response.render(decision, headers)[1])["WWW-Authenticate"].endswith('scope="orders:read a"')


HOSTILE = [None, True, False, 0, 1, -1, 10**4299, 1e308, "", "x", "\ud800", [], [[]], [None], ["x"], {}, {"x": {}}]
HOSTILE += [{"x": False}, {"admin": False}, {"": True}, [{"admin": True}], {"a": {"a": {"a": ["x"]}}}]
ALL_CLAIMS = ["sub", "aud", "tid", "azp", "scope", "scp", "acr", "acrs", "amr", "auth_time", "xms_cc", "roles", "org"]
ALL_CLAIMS += ["email", "idp", "typ", "token_use", "nonce", "oid", "hasgroups", "_claim_names", "exp", "nbf", "iat"]

# A provider that looks at every claim there is, a rule that does, and a token that is good enough for both.
STRICTEST = {
    "issuer_templates": ("https://login.example.com/{tenantid}",),
    "key_issuer": "https://login.example.com/{tenantid}",
    "demands": (
        Demand((Condition(("scp",)),), Reason.WRONG_TOKEN_TYPE, "no scp"),
        Demand((Condition(("idp",), "same", ("iss",)),), Reason.GUEST_NOT_ALLOWED, "a guest"),
        Demand((Condition(("idp",), "not_in", ("live",)),), Reason.GUEST_NOT_ALLOWED, "a guest"),
    ),
    "clients": frozenset({"web"}),
    "tenant_claim": ("tid",),
    "tenants": frozenset({TENANT_ID}),
    "app_if": (Condition(("idtyp",), "in", ("app",)),),
    "subject_types": frozenset({"user"}),
    "strength": Strength(("gold",), mfa=True, max_age_s=300),
    "key_claims": (("tid",), ("oid",)),
    "overage_if": (Condition(("_claim_names", "groups")), Condition(("hasgroups",), "in", ("true",))),
    "authorization_uri": "https://login.example.com/authorize",
}
EVERYTHING = Asks(
    any_scope=("a", "b"),
    all_scopes=("a",),
    providers=("main",),
    tenants=(TENANT_ID,),
    clients=("web",),
    require=(Condition(("org", "name"), "in", ("acme",)),),
    strength=Strength(("gold",), True, 60),
)
BEST = {
    "iss": f"https://login.example.com/{TENANT_ID}", "sub": "u-1", "aud": "orders-api", "exp": NOW + 60,
    "tid": TENANT_ID, "azp": "web", "scp": "a", "acr": "gold", "amr": ["mfa"], "auth_time": NOW, "oid": "o-1",
    "roles": ["reader"], "org": {"name": "acme"},
}  # fmt: skip
NEEDED = {"iss", "aud", "exp", "tid", "azp", "scp", "acr", "amr", "auth_time", "roles", "org"}


@pytest.mark.parametrize("claim", [*ALL_CLAIMS, "iss"])
@pytest.mark.parametrize("opaque", [False, True], ids=["in a JWT", "introspected"])
def test_no_value_of_any_claim_gets_past_a_provider_that_asks_for_everything(claim, opaque):
    """The good token is allowed; with a claim replaced by these values, it is decided, and no more than before."""
    deciding, introspects = introspecting(rules=[rule("/*", None, ["reader"], EVERYTHING)], **STRICTEST)
    for value in (..., *HOSTILE):
        introspects.answer = {name: one for name, one in {**BEST, claim: value}.items() if one is not ...}
        bearer = OPAQUE if opaque else token(**{**BEST, claim: value})
        decision = decide(deciding, call(bearer))
        left_out = opaque and claim in ("iss", "exp") and value is ...  # who introspects need not say these
        assert not decision.allowed or claim not in NEEDED or left_out
        assert not decision.allowed or decision.identity.user_id in ("u-1", "x", "\ud800")


def test_the_best_token_passes_the_strictest_provider():
    deciding, _ = introspecting(BEST, rules=[rule("/*", None, ["reader"], EVERYTHING)], **STRICTEST)
    assert reason(OPAQUE, deciding) is reason(token(**BEST), deciding) is Reason.ALLOWED
