"""What was sent, whom a key speaks for, to whom OIDC is open, and which of two credentials is in force."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.core import apikeys, callers
from authsvc.core.apikeys import ApiKey
from authsvc.core.callers import Rollout, Sent
from authsvc.core.claims import Condition
from authsvc.core.migration import share_of
from authsvc.core.model import Identity, Reason, Refused, Unavailable
from keyworld import ANNOUNCED, BROWNED_OUT, GRACE, LINK, OVER, PLAN, REASONS, RECORDS, SECRETS, SILENT, TEXTS, keys
from worlds import NOW, call


def user(name="u-1", **changes):
    return Identity(**{"provider": "main", "user_id": name, "email": "", "roles": (), "claims": {}, **changes})


def refusal(text, plan=None, now=NOW):
    with pytest.raises(Refused) as caught:
        keys(plan=plan).identify(text, now)
    return caught.value


# ---- what was sent


@pytest.mark.parametrize(
    ("authorization", "key", "found"),
    [
        pytest.param(None, None, Sent(None, None), id="nothing"),
        pytest.param("Bearer t", None, Sent("Bearer t", None), id="a token"),
        pytest.param(None, "k", Sent(None, "k"), id="a key"),
        pytest.param("Bearer t", "k", Sent("Bearer t", "k"), id="both"),
        pytest.param("ApiKey k", None, Sent(None, "k"), id="a key in Authorization"),
        pytest.param("apikey  k ", "", Sent(None, "k"), id="a scheme ignores case, and an empty key is none"),
        pytest.param("ApiKey", None, Sent(None, ""), id="a scheme without a key"),
        pytest.param("", "k", Sent(None, "k"), id="an empty Authorization beside a key is none"),
        pytest.param(" \t", "k", Sent(None, "k"), id="so is a blank one"),
        pytest.param("Bearer t", " ", Sent("Bearer t", None), id="a blank key beside a token is none"),
        pytest.param("Basic eA==", "k", Sent("Basic eA==", "k"), id="another scheme stays what it is"),
        pytest.param("ApiKeys k", None, Sent("ApiKeys k", None), id="a scheme is a whole word"),
        pytest.param("Bearer t, ApiKey k", None, Sent("Bearer t, ApiKey k", None), id="two joined headers stay one"),
    ],
)
def test_what_was_sent(authorization, key, found):
    assert callers.sent(call(authorization=authorization, api_key=key)) == found


@pytest.mark.parametrize("in_authorization", ["ApiKey k", "ApiKey other", "apikey"])
def test_keys_in_both_headers_are_refused_whether_or_not_they_are_the_same(in_authorization):
    with pytest.raises(Refused) as caught:
        callers.sent(call(authorization=in_authorization, api_key="k"))
    assert caught.value.reason is Reason.SEVERAL_API_KEYS


# ---- whom a key speaks for


def test_a_good_key_speaks_for_its_owner():
    found = keys().identify(TEXTS["other"], NOW).identity
    assert (found.user_id, found.provider, found.method) == ("umbrella", "api_keys", "api_key")
    assert (found.roles, found.scopes, found.tenants) == (("admin",), ("orders:read",), ("t-1",))
    assert found.client == RECORDS["other"].id


@pytest.mark.parametrize("name", [name for name in REASONS if REASONS[name] != "allowed"])
def test_a_bad_key_is_refused_with_its_reason(name):
    assert refusal(TEXTS[name]).reason.value == REASONS[name]


@pytest.mark.parametrize("name", ["revoked", "expired", "replaced"])
def test_the_refusal_of_a_known_key_names_its_owner_for_audit(name):
    named = refusal(TEXTS[name]).named
    assert (named.user_id, named.client, named.method) == ("acme", RECORDS[name].id, "api_key")


@pytest.mark.parametrize("name", ["unknown", "mistyped", "malformed", "two"])
def test_the_refusal_of_an_unknown_key_names_nobody(name):
    assert refusal(TEXTS[name]).named is None


@pytest.mark.parametrize(
    ("now", "reason"),
    [(SILENT, None), (ANNOUNCED, None), (BROWNED_OUT, "api_keys_paused"), (GRACE, None), (OVER, "api_keys_ended")],
)
def test_a_good_key_is_good_until_keys_end_but_for_brown_outs(now, reason):
    if reason is None:
        assert keys(plan=PLAN).identify(TEXTS["good"], now).identity.user_id == "acme"
    else:
        told = refusal(TEXTS["good"], PLAN, now)
        assert (told.reason.value, told.named.user_id) == (reason, "acme")


@pytest.mark.parametrize("now", [BROWNED_OUT, OVER])
@pytest.mark.parametrize("name", ["revoked", "unknown", "mistyped"])
def test_that_keys_have_ended_is_told_to_good_ones_only(name, now):
    assert refusal(TEXTS[name], PLAN, now).reason.value == REASONS[name]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("now", [NOW, OVER])
def test_no_refusal_holds_a_secret(name, now):
    try:
        told = repr(keys(plan=PLAN).identify(TEXTS[name], now))
    except Refused as refused:
        told = f"{refused} {refused.detail} {refused.next_step} {refused.named} {refused.args} {refused!r}"
    assert not any(secret in told for secret in SECRETS)
    assert TEXTS[name] not in told


# ---- to whom OIDC is open


def test_oidc_is_open_to_everybody_unless_said_otherwise():
    assert Rollout().complete
    assert Rollout().open_to(user())


@pytest.mark.parametrize(
    ("rollout", "named"),
    [
        pytest.param(Rollout(0), False, id="to nobody"),
        pytest.param(Rollout(0, users=frozenset({"u-1"})), True, id="to a named user"),
        pytest.param(Rollout(0, users=frozenset({"u-2"})), False, id="to another user"),
        pytest.param(Rollout(0, (Condition(("beta",), "in", ("true",)),)), True, id="by a claim"),
        pytest.param(Rollout(0, (Condition(("beta",), "in", ("false",)),)), False, id="by the claim's other value"),
        pytest.param(
            Rollout(0, (Condition(("x",), "in", ("1",)), Condition(("beta",), "in", ("true",)))),
            True,
            id="by one of two",
        ),
    ],
)
def test_oidc_is_open_to_those_who_try_it_before(rollout, named):
    assert rollout.open_to(user(claims={"beta": True})) is named


def test_the_share_of_users_goes_by_provider_and_by_what_tells_users_apart():
    for one in (user(), user(key="t:u-1"), user(provider="two")):
        at = share_of(f"{one.provider}:{one.key or one.user_id}")
        assert Rollout(at + 1e-9).open_to(one)
        assert not Rollout(at).open_to(one)


@settings(deadline=None)
@given(st.text(min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_raising_the_share_takes_nobody_out(name, one, two):
    few, many = sorted((one, two))
    assert Rollout(many).open_to(user(name)) or not Rollout(few).open_to(user(name))


# ---- which is in force

TOKEN, KEY = user(client="app"), user("acme", method="api_key", provider="api_keys")
BAD, DOWN, NO_KEY = Refused(Reason.EXPIRED), Unavailable(Reason.KEYS_UNAVAILABLE), Refused(Reason.REVOKED_API_KEY)


@pytest.mark.parametrize(
    ("token", "key", "percent", "chosen"),
    [
        pytest.param(TOKEN, KEY, 50, "token", id="a good token goes before a good key"),
        pytest.param(TOKEN, NO_KEY, 50, "token", id="a bad key does not harm a good token"),
        pytest.param(BAD, KEY, 50, "key", id="a bad token does not harm a good key while OIDC is tried"),
        pytest.param(DOWN, KEY, 50, "key", id="nor does a provider that is down"),
        pytest.param(BAD, NO_KEY, 50, "key", id="of two bad ones the key is told while OIDC is tried"),
        pytest.param(BAD, KEY, 100, "key", id="a bad token does not harm a good key when OIDC is open to all either"),
        pytest.param(DOWN, KEY, 100, "key", id="nor does a provider that is down then"),
        pytest.param(BAD, NO_KEY, 100, "token", id="of two bad ones the token is told once OIDC is open to all"),
    ],
)
def test_the_token_goes_before(token, key, percent, chosen):
    pair = (token, key) if chosen == "token" else (key, token)
    assert callers.in_force("prefer_oidc", token, key, Rollout(percent)) == pair


@pytest.mark.parametrize("percent", [0, 100])
@pytest.mark.parametrize(
    ("token", "key", "found"),
    [
        pytest.param(BAD, KEY, BAD, id="a bad token"),
        pytest.param(DOWN, KEY, DOWN, id="a token that nobody can judge"),
        pytest.param(TOKEN, NO_KEY, NO_KEY, id="a bad key"),
        pytest.param(BAD, NO_KEY, BAD, id="two bad ones"),
    ],
)
def test_where_both_must_have_one_owner_both_must_be_good(token, key, found, percent):
    assert callers.in_force("require_same_owner", token, key, Rollout(percent)) == (found, None)


@pytest.mark.parametrize("owner", ["u-1", "app"])
def test_the_owner_of_a_key_may_be_the_tokens_user_or_client(owner):
    assert callers.in_force("require_same_owner", TOKEN, user(owner), Rollout()) == (TOKEN, None)


def test_where_ids_are_qualified_the_owner_is_and_still_owns_the_token_of_his_name():
    record = ApiKey(b"0" * 32, "u-1")
    key = apikeys.identity(record, "api_keys", qualify=True)
    assert (key.user_id, key.key) == ("api_keys:u-1", "u-1")
    token = replace(user(), user_id="main:u-1", provider="main")
    assert callers.in_force("require_same_owner", token, key, Rollout()) == (token, None)
    plain = apikeys.identity(record, "api_keys")
    assert isinstance(callers.in_force("require_same_owner", token, plain, Rollout())[0], Refused)


@pytest.mark.parametrize("client", ["app", ""])
def test_another_owner_is_refused_and_the_token_named_for_audit(client):
    token = user(client=client)
    found, other = callers.in_force("require_same_owner", token, KEY, Rollout())
    assert isinstance(found, Refused)
    assert (found.reason, found.named, other) == (Reason.DIFFERENT_OWNERS, token, None)


# ---- what callers hear


def test_the_warning_belongs_to_the_time_of_grace_only():
    assert [bool(callers.warning(PLAN, now)) for now in (SILENT, ANNOUNCED, BROWNED_OUT, GRACE, OVER)] == [
        False,
        False,
        False,
        True,
        False,
    ]


def test_the_warning_names_both_days_and_the_link():
    ((name, text),) = callers.warning(PLAN, GRACE)
    assert name == "X-Auth-Warning"
    assert text == (
        "API keys ended on Mon, 25 Jan 2027 08:00:00 GMT and are accepted until Thu, 04 Feb 2027 08:00:00 GMT; "
        f"see {LINK}"
    )
