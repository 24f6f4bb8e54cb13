"""The whole way of a call: rule, identity, admission, quota, decision."""

from dataclasses import replace

import pytest
from test_paths import AMBIGUOUS

from authsvc.core import ratelimit, rbac
from authsvc.core.model import Quota, Reason, Request
from authsvc.core.ratelimit import Limits, Tier
from authsvc.core.rbac import rule
from keys import key
from worlds import (
    ISSUER,
    NOW,
    FakeCounters,
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
FREE, VISITOR = Tier("free", 10, 60), Tier("visitor", 5, 60)
LIMITS = Limits((FREE,), anonymous=VISITOR)
USED_UP = Quota("free", 10, 60, 0, 17, refused=True)
LEFT = Quota("free", 10, 60, 9, 60)


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
    scoped = gate(providers=[provider(roles_claim=("scope",))], rules=RULES)
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
        name="other", issuer="https://other.example.com", audiences=frozenset({"x"}), algorithms={"ES256"}
    )
    both = gate(providers=[provider(), strict])
    assert reason(token(iss=strict.issuer), both) is Reason.UNSUPPORTED_ALGORITHM
    assert reason(token(aud="x"), both) is Reason.WRONG_AUDIENCE


def test_an_issuer_that_differs_by_a_slash_is_explained_and_refused():
    decision = decide(gate(), call(token(iss=ISSUER + "/")))
    assert decision.reason is Reason.UNKNOWN_ISSUER
    assert "slash" in decision.detail


# Quota -------------------------------------------------------------------------------------------------------------


def test_an_allowed_call_is_counted_once():
    counters = FakeCounters(LEFT)
    decision = decide(gate(limits=LIMITS, counters=counters), call(token()))
    assert (decision.reason, decision.quota) == (Reason.ALLOWED, LEFT)
    assert counters.spent == [("free", "claim\0main\0u-1")]


def test_a_call_over_the_limit_is_refused_with_its_wait():
    decision, headers = gate(limits=LIMITS, counters=FakeCounters(USED_UP)).decide(call(token()), NOW)
    assert (decision.reason, decision.retry_after_s, decision.quota) == (Reason.RATE_LIMITED, 17, USED_UP)
    assert headers == []


def test_a_refused_call_is_not_counted():
    counters = FakeCounters(LEFT)
    deciding = gate(rules=RULES, limits=LIMITS, counters=counters)
    for request in (call(), call("x"), call(token(), target="/admin"), call(token(), "DELETE"), call(target="//")):
        assert not decide(deciding, request).allowed
    assert counters.spent == []


def test_a_caller_without_identity_is_counted_by_address():
    counters = FakeCounters(LEFT)
    assert decide(gate(rules=RULES, limits=LIMITS, counters=counters), call(target="/public")).allowed
    assert counters.spent == [("visitor", "ip\x00192.0.2.1")]


def test_a_forged_token_on_a_public_path_does_not_spend_another_callers_quota():
    counters = FakeCounters(LEFT)
    decide(gate(rules=RULES, limits=LIMITS, counters=counters), call(token(signer=key(number=1)), target="/public"))
    assert counters.spent == [("visitor", "ip\x00192.0.2.1")]


def test_an_unlimited_caller_is_not_counted():
    counters = FakeCounters(USED_UP)
    limits = Limits((Tier("staff", None),))
    assert decide(gate(limits=limits, counters=counters), call(token())).allowed
    assert counters.spent == []


def test_where_the_store_is_down_and_counting_is_a_must_nothing_is_allowed():
    decision = decide(gate(limits=LIMITS, counters=FakeCounters(down=True)), call(token()))
    assert (decision.reason, decision.allowed) == (Reason.LIMITS_UNAVAILABLE, False)


def test_where_the_counter_lets_a_call_through_uncounted_it_is_allowed():
    decision = decide(gate(limits=LIMITS, counters=FakeCounters(None)), call(token()))
    assert (decision.reason, decision.quota) == (Reason.ALLOWED, None)


def test_an_identity_too_large_for_the_headers_is_refused():
    decision, headers = gate().decide(call(token(roles=["x" * 100] * 40)), NOW)
    assert (decision.reason, headers) == (Reason.IDENTITY_TOO_LARGE, [])


def test_no_name_that_json_can_hold_breaks_the_counting():
    """Half a surrogate pair is good JSON and no good UTF-8."""
    who = gate().identify(f"Bearer {token(sub=chr(0xD800))}", NOW)
    assert ratelimit.window(FREE, ratelimit.subject(LIMITS, who, None), NOW)


def test_the_default_rule_is_never_public():
    assert not rbac.DEFAULT.public
