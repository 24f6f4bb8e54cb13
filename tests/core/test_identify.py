"""Which caller a call is, by every combination of key, token, mode, rollout and beta, told against a plain table."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.core import jwt, migration
from authsvc.core.callers import ApiKeys, Rollout
from authsvc.core.migration import DAY_S, Deprecation, Window, phase
from authsvc.core.model import Forgotten, Identity, MustWait, Prepared, Reason, Request
from authsvc.core.provider import Strength
from authsvc.core.rbac import Asks, rule
from keyworld import (
    ANNOUNCED,
    BOOK,
    BROWNED_OUT,
    GRACE,
    LINK,
    OVER,
    PLAN,
    REASONS,
    RECORDS,
    SECRETS,
    SILENT,
    TEXTS,
    key_call,
    key_gate,
    keys,
)
from worlds import NOW, FakeIntrospects, FakeKeys, call, claims, decide, gate, key_set, provider
from worlds import key as a_key
from worlds import token as signed


def _named(inside: bool) -> str:
    """A user inside the first half of the rollout, or outside."""
    names = (f"u-{number}" for number in range(100))
    return next(name for name in names if migration.in_rollout(f"main:{name}", 50) is inside)


EARLY, LATE = _named(True), _named(False)


@cache
def a_token(kind: str) -> str | None:
    if kind == "none":
        return None
    if kind == "expired":
        return signed(sub=EARLY, exp=NOW - 1000)
    if kind == "malformed":
        return "junk"
    return signed(sub=kind)


TOKENS = ("none", EARLY, LATE, "expired", "malformed")
KEYS = ("none", "good", "of the user", "revoked", "expired", "replaced", "unknown", "mistyped", "malformed")
MODES = ("prefer_oidc", "require_same_owner", "refuse")
BETAS = {"nobody": frozenset(), "the late user": frozenset({LATE})}
NAMED = {EARLY: EARLY, LATE: LATE, "good": "acme", "of the user": "u-1"}


def by_token(kind: str, percent: float, beta: str) -> str:
    if kind not in (EARLY, LATE):
        return {"none": "no_credentials", "expired": "expired", "malformed": "malformed_token"}[kind]
    is_open = percent == 100 or kind in BETAS[beta] or (kind == EARLY and percent == 50)
    return "allowed" if is_open else "oidc_not_open"


def by_key(kind: str) -> str:
    return "no_credentials" if kind == "none" else REASONS[kind]


def expected(mode: str, token: str, key: str, percent: float, beta: str) -> tuple[str, str]:
    """The reason, and who the caller is where it is a yes; told without any code of authsvc."""
    of_token, of_key = by_token(token, percent, beta), by_key(key)
    if key == "none":
        who, reason = token, of_token
    elif token == "none":
        who, reason = key, of_key
    elif mode == "refuse":
        who, reason = "", "two_credentials"
    elif mode == "require_same_owner":
        who, reason = token, of_token if of_token != "allowed" else of_key
        if reason == "allowed" and NAMED[key] != NAMED[token]:
            reason = "different_owners"
    elif of_token == "allowed" or (percent == 100 and of_key != "allowed"):
        who, reason = token, of_token
    else:
        who, reason = key, of_key
    return reason, NAMED[who] if reason == "allowed" else ""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("percent", [0, 50, 100])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("token", TOKENS)
def test_every_combination_is_decided_as_the_table_says(mode, percent, beta, token):
    deciding = key_gate(mode, rollout=Rollout(percent, users=BETAS[beta]))
    for key in KEYS:
        found = decide(deciding, key_call(None if key == "none" else key, a_token(token)))
        who = found.identity.user_id if found.identity else ""
        assert (found.reason.value, who) == expected(mode, token, key, percent, beta), key
        assert found.allowed is (found.reason is Reason.ALLOWED)


def test_the_table_knows_a_user_on_each_side():
    assert EARLY == "u-1" or LATE == "u-1"  # the key of the user is one of them


# ---- a wrong 200 is impossible

times = st.sampled_from([NOW, SILENT, ANNOUNCED, BROWNED_OUT, GRACE, OVER, OVER - 1, NOW - 100 * DAY_S])


@settings(max_examples=400, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    percent=st.sampled_from([0, 50, 99.9, 100]),
    beta=st.sampled_from(sorted(BETAS)),
    token=st.sampled_from(TOKENS),
    key=st.sampled_from(["none", *TEXTS]),
    scheme=st.sampled_from(["Bearer", "ApiKey", "Basic", ""]),
    plan=st.sampled_from([None, PLAN]),
    now=times,
    rules=st.sampled_from([(), (rule("/*", None, ["admin"]),), (rule("/*", None, ()),)]),
)
def test_a_yes_is_always_one_of_a_credential_that_is_good_by_itself(
    mode, percent, beta, token, key, scheme, plan, now, rules
):
    """Whatever is sent together: who is let in would be let in by his own credential alone."""
    rollout = Rollout(percent, users=BETAS[beta])
    made = {"plan": plan, "rollout": rollout, "rules": rules}
    bearer, text = a_token(token), TEXTS.get(key)
    authorization = f"{scheme} {bearer or ''}".strip() if scheme else bearer
    request = Request("GET", "/orders", authorization, "192.0.2.1", api_key=text)
    found = decide(key_gate(mode, **made), request, now)
    if not found.allowed:
        return
    identity = found.identity
    if identity is None:
        assert found.reason is Reason.PUBLIC
    elif identity.method == "api_key":
        by_itself = decide(key_gate(mode, **made), Request("GET", "/orders", api_key=text), now)
        assert by_itself.allowed
        assert by_itself.identity == identity
        assert plan is None or phase(plan, now) in (
            migration.Phase.SILENT,
            migration.Phase.ANNOUNCED,
            migration.Phase.GRACE,
        )
    else:
        by_itself = decide(key_gate(mode, **made), Request("GET", "/orders", authorization), now)
        assert by_itself.allowed
        assert by_itself.identity == identity
        assert rollout.open_to(identity)
    if mode != "prefer_oidc" and text and bearer and scheme == "Bearer" and identity is not None:
        assert mode == "require_same_owner"
        assert decide(key_gate(mode, **made), Request("GET", "/orders", api_key=text), now).identity is not None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80), st.sampled_from(MODES), st.sampled_from([0, 100]))
def test_any_two_texts_make_a_decision_and_never_a_yes(authorization, key, mode, percent):
    found = decide(key_gate(mode, percent), Request("GET", "/orders", authorization, api_key=key))
    assert not found.allowed


# ---- where keys are off


@pytest.mark.parametrize("key", ["good", "revoked", "malformed"])
def test_without_api_keys_a_key_means_nothing(key):
    assert decide(gate(), key_call(key)).reason is Reason.NO_CREDENTIALS
    assert decide(gate(), key_call(key, signed())).identity.method == "oidc"
    with_scheme = call(authorization=f"ApiKey {TEXTS[key]}")
    assert decide(gate(), with_scheme).reason is Reason.UNSUPPORTED_CREDENTIALS


def test_without_api_keys_nothing_is_compared_and_everybodys_token_counts():
    found = decide(gate(rollout=Rollout(0)), key_call("good", signed()))
    assert (found.reason, found.other) == (Reason.ALLOWED, None)


# ---- how a key is sent


def test_a_key_may_be_sent_in_authorization():
    found = decide(key_gate(), call(authorization=f"ApiKey {TEXTS['good']}"))
    assert (found.reason, found.identity.user_id, found.provider) == (Reason.ALLOWED, "acme", "api_keys")


@pytest.mark.parametrize(
    ("authorization", "key", "reason"),
    [
        pytest.param(f"ApiKey {TEXTS['good']}", TEXTS["good"], "several_api_keys", id="the same key in two headers"),
        pytest.param(f"ApiKey {TEXTS['good']}", TEXTS["other"], "several_api_keys", id="two keys in two headers"),
        pytest.param(None, TEXTS["two"], "several_api_keys", id="two keys joined by a comma"),
        pytest.param(None, f"{TEXTS['good']},{TEXTS['good']}", "several_api_keys", id="one key twice"),
        pytest.param(f"ApiKey {TEXTS['two']}", None, "several_api_keys", id="two keys after one scheme"),
        pytest.param("ApiKey", None, "malformed_api_key", id="a scheme without a key"),
        pytest.param(None, "", "no_credentials", id="an empty header"),
        pytest.param("", "", "no_credentials", id="two empty headers"),
        pytest.param("", TEXTS["good"], "allowed", id="an empty Authorization beside a good key"),
        pytest.param(f"Bearer {signed()}, ApiKey {TEXTS['good']}", None, "malformed_token", id="both in one header"),
    ],
)
@pytest.mark.parametrize("percent", [0, 100])
@pytest.mark.parametrize("mode", MODES)
def test_how_a_key_was_sent_is_never_guessed(authorization, key, reason, percent, mode):
    found = decide(key_gate(mode, percent), call(authorization=authorization, api_key=key))
    assert found.reason.value == reason


# ---- opaque tokens, waiting, and who else is asked

OPAQUE = provider(opaque=True)


@pytest.mark.parametrize(
    ("answer", "percent", "reason", "method"),
    [
        pytest.param(claims(sub=EARLY), 100, "allowed", "oidc", id="an active one"),
        pytest.param(claims(sub=EARLY), 0, "allowed", "api_key", id="an active one that is not open"),
        pytest.param(None, 0, "allowed", "api_key", id="one that is not active while OIDC is tried"),
        pytest.param(None, 100, "allowed", "api_key", id="one that is not active"),
    ],
)
def test_an_opaque_token_beside_a_key(answer, percent, reason, method):
    deciding = key_gate(percent=percent, providers=[OPAQUE], introspects=FakeIntrospects(answer))
    found = decide(deciding, key_call("good", "opaque"))
    assert (found.reason.value, found.identity.method if found.identity else "") == (reason, method)


@pytest.mark.parametrize("mode", ["prefer_oidc", "require_same_owner"])
@pytest.mark.parametrize("key", ["good", "revoked"])
@pytest.mark.parametrize("percent", [0, 100])
def test_a_call_that_may_not_wait_is_asked_again_with_both(mode, key, percent):
    for deciding, bearer in (
        (key_gate(mode, percent, keys=FakeKeys(None, key_set(a_key()))), signed()),
        (key_gate(mode, percent, providers=[OPAQUE], introspects=FakeIntrospects(claims())), "opaque"),
    ):
        with pytest.raises(MustWait):
            decide(deciding, key_call(key, bearer, may_wait=False))


def test_a_key_alone_never_waits_for_a_provider():
    deciding = key_gate(keys=FakeKeys(None, None))
    assert decide(deciding, key_call("good", may_wait=False)).allowed


def test_where_one_of_two_is_refused_unseen_nobody_is_asked():
    asked = FakeKeys(None, key_set(a_key()))
    assert decide(key_gate("refuse", keys=asked), key_call("good", signed())).reason is Reason.TWO_CREDENTIALS
    assert asked.downloads == 0


@pytest.mark.parametrize(
    ("percent", "key", "reason"),
    [
        (0, "good", "allowed"),
        (100, "good", "allowed"),
        (0, "revoked", "revoked_api_key"),
        (100, "revoked", "keys_unavailable"),
    ],
)
def test_a_provider_that_is_down_matters_where_the_key_is_no_good(percent, key, reason):
    found = decide(key_gate(percent=percent, keys=FakeKeys(None, None, failure="down")), key_call(key, signed()))
    assert found.reason.value == reason
    assert (found.retry_after_s is None) is (found.reason is not Reason.KEYS_UNAVAILABLE)


# ---- public paths

EVERYBODY = [rule("/orders", None, ())]


@pytest.mark.parametrize("key", REASONS)
def test_on_a_public_path_a_good_key_is_forwarded_and_a_bad_one_ignored(key):
    found = decide(key_gate(rules=EVERYBODY), key_call(key))
    assert found.reason is Reason.PUBLIC
    good = REASONS[key] == "allowed"
    assert (found.identity is not None) is good
    assert found.ignored == (None if good else Reason(REASONS[key]))
    assert found.named is None


@pytest.mark.parametrize("now", [BROWNED_OUT, OVER])
def test_on_a_public_path_a_key_that_has_ended_says_nothing_to_the_caller(now):
    found = decide(key_gate(rules=EVERYBODY, plan=PLAN), key_call("good"), now)
    assert (found.reason, found.identity, found.provider) == (Reason.PUBLIC, None, "")
    assert (found.notices, found.link, found.retry_after_s) == ((), "", None)


def test_on_a_public_path_a_token_that_is_not_open_yet_is_ignored():
    found = decide(key_gate(percent=0, rules=EVERYBODY), call(signed()))
    assert (found.reason, found.ignored) == (Reason.PUBLIC, Reason.OIDC_NOT_OPEN)


@pytest.mark.parametrize("mode", ["refuse", "require_same_owner"])
def test_on_a_public_path_two_credentials_that_do_not_go_together_are_ignored(mode):
    found = decide(key_gate(mode, rules=EVERYBODY), key_call("good", signed()))
    assert (found.reason, found.identity, found.other) == (Reason.PUBLIC, None, None)
    assert found.ignored in (Reason.TWO_CREDENTIALS, Reason.DIFFERENT_OWNERS)


# ---- for audit: whom a refused credential names


@pytest.mark.parametrize("key", ["revoked", "expired", "replaced"])
@pytest.mark.parametrize("bearer", [None, "junk"])
def test_a_known_key_that_is_refused_is_named_and_is_nobody(key, bearer):
    found = decide(key_gate(percent=0), key_call(key, bearer))
    assert (found.identity, found.named.client, found.named.user_id) == (None, RECORDS[key].id, "acme")


def test_a_user_to_whom_oidc_is_not_open_is_named_and_is_nobody():
    found = decide(key_gate(percent=0), call(signed(sub="ann")))
    assert (found.identity, found.named.user_id, found.named.method) == (None, "ann", "oidc")


@pytest.mark.parametrize("bearer", [signed(exp=NOW - 1000), "junk", signed(signer=a_key("RS256", number=1))])
def test_a_token_that_is_not_verified_names_nobody(bearer):
    assert decide(key_gate(), call(bearer)).named is None


def test_who_was_let_in_is_not_named_beside():
    assert decide(key_gate(), key_call("good")).named is None
    assert decide(key_gate(rules=[rule("/*", None, ["admin"])]), key_call("good")).named is None


# ---- what callers with keys hear


def names(found):
    return [name for name, _ in found.notices]


TOLD = ["Deprecation", "Sunset", "Link"]


@pytest.mark.parametrize(
    ("now", "told"),
    [(SILENT, []), (ANNOUNCED, TOLD), (BROWNED_OUT, TOLD), (GRACE, [*TOLD, "X-Auth-Warning"]), (OVER, TOLD)],
)
@pytest.mark.parametrize("roles", [["reader"], ["admin"]])
def test_callers_with_good_keys_hear_that_keys_end_on_yes_and_on_no(now, told, roles):
    found = decide(key_gate(plan=PLAN, rules=[rule("/*", None, roles)]), key_call("good"), now)
    assert names(found) == told
    if now not in (BROWNED_OUT, OVER):
        assert found.allowed is (roles == ["reader"])


@pytest.mark.parametrize("now", [ANNOUNCED, BROWNED_OUT, GRACE, OVER])
@pytest.mark.parametrize("key", ["revoked", "unknown", "mistyped", "malformed", "two"])
def test_others_do_not(now, key):
    found = decide(key_gate(plan=PLAN), key_call(key), now)
    assert (found.reason.value, found.notices, found.link, found.retry_after_s) == (REASONS[key], (), "", None)


@pytest.mark.parametrize("now", [ANNOUNCED, GRACE, OVER])
def test_callers_with_tokens_do_not_either_whatever_key_they_send_along(now):
    fresh = signed(iat=now - 10, exp=now + 300)
    assert names(decide(key_gate(plan=PLAN), key_call("good", fresh), now)) == []
    assert names(decide(key_gate(plan=PLAN), call(fresh), now)) == []


@pytest.mark.parametrize("now", [ANNOUNCED, GRACE])
def test_a_caller_whose_key_decides_hears_of_the_end_though_he_has_a_token(now):
    assert names(decide(key_gate(percent=0, plan=PLAN), key_call("good", signed()), now))[:3] == TOLD


def test_a_brown_out_says_when_keys_work_again():
    found = decide(key_gate(plan=PLAN), key_call("good"), BROWNED_OUT + 60.5)
    assert (found.reason, found.retry_after_s, found.link) == (Reason.API_KEYS_PAUSED, 540, LINK)


def test_keys_that_have_ended_name_the_link_and_no_time():
    found = decide(key_gate(plan=PLAN), key_call("good"), OVER)
    assert (found.reason, found.retry_after_s, found.link) == (Reason.API_KEYS_ENDED, None, LINK)


def test_the_end_is_told_to_one_who_must_send_both():
    found = decide(key_gate("require_same_owner", plan=PLAN), key_call("good", signed(exp=OVER + 300)), OVER)
    assert (found.reason, found.link, names(found)) == (Reason.API_KEYS_ENDED, LINK, TOLD)


@settings(deadline=None)
@given(st.floats(NOW, NOW + 100 * DAY_S), st.sampled_from(sorted(TEXTS)))
def test_no_key_is_good_after_the_end_of_grace_in_a_brown_out_or_after_its_own_end(now, key):
    found = decide(key_gate(plan=PLAN), key_call(key), now)
    paused = any(one.start <= now < one.end for one in PLAN.brown_outs)
    assert found.allowed is (REASONS.get(key, "allowed") == "allowed" and now < PLAN.over_at and not paused)


@settings(deadline=None)
@given(
    st.floats(0, 30 * DAY_S),
    st.floats(0, 30 * DAY_S),
    st.lists(st.tuples(st.floats(0, 20 * DAY_S), st.floats(1, DAY_S)), max_size=3),
    st.floats(-DAY_S, 60 * DAY_S),
)
def test_retry_after_is_told_in_brown_outs_only_and_keys_work_then_or_there_is_another(sunset, grace, outs, after):
    windows = tuple(Window(NOW + start, min(NOW + start + length, NOW + sunset + grace)) for start, length in outs)
    windows = tuple(one for one in windows if one.start < one.end)
    plan = Deprecation(NOW, NOW + sunset, grace, "", windows)
    found = decide(key_gate(plan=plan), key_call("good"), NOW + after)
    assert (found.retry_after_s is not None) is (found.reason is Reason.API_KEYS_PAUSED)
    assert found.retry_after_s is None or found.retry_after_s >= 1


# ---- rules that ask how somebody signed in


@pytest.mark.parametrize(
    "strength",
    [Strength(mfa=True), Strength(acr=("c1",)), Strength(max_age_s=900), Strength(("c1",), True, 900)],
    ids=["mfa", "acr", "max_age", "all"],
)
def test_a_key_never_meets_a_rule_that_asks_how_somebody_signed_in(strength):
    text, record = TEXTS["good"], RECORDS["good"]
    lying = {"acr": "c1", "acrs": ["c1"], "amr": ["mfa"], "auth_time": NOW - 1, "mfa": True}
    book = {record.digest: replace(record, claims=lying)}
    deciding = gate(api_keys=ApiKeys(lambda now: book), rules=[rule("/orders", None, None, Asks(strength=strength))])
    found = decide(deciding, key_call(text))
    assert found.reason is Reason.STEP_UP_REQUIRED
    assert found.next_step == "send a token in place of the key: behind a key nobody signs in"
    assert (found.step_up.acr_values, found.step_up.max_age_s) == (strength.acr, strength.max_age_s)


def test_a_rule_that_asks_nothing_of_the_kind_lets_a_key_pass():
    asks = Asks(providers=("api_keys",))
    assert decide(key_gate(rules=[rule("/orders", None, ["reader"], asks)]), key_call("good")).allowed
    assert not decide(key_gate(rules=[rule("/orders", None, ["reader"], asks)]), call(signed())).allowed


# ---- secrets


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize("bearer", [None, "junk"])
def test_no_decision_holds_a_secret(mode, key, bearer):
    for now in (NOW, OVER):
        found = repr(decide(key_gate(mode, 0, PLAN), key_call(key, bearer), now))
        assert not any(secret in found for secret in SECRETS)
        assert TEXTS[key] not in found
        assert not any(secret in repr(key_call(key)) for secret in SECRETS)


def test_who_a_caller_is_by_comes_from_one_place():
    found = decide(key_gate(), key_call("good")).identity
    assert isinstance(found, Identity)
    assert key_gate().who.provider(found).name == "api_keys"
    assert key_gate().who.provider(decide(gate(), call(signed())).identity).name == "main"
    assert keys().book(NOW) is BOOK


# ---- by what is known of it, where an earlier call brought the credential


def known_again(deciding, first, now=NOW):
    """What comes of the same call with what is known of its credential in place of it."""
    known = deciding.decide(first, NOW)[0]
    given = {"digest": known.digest} if known.digest else {"remembered": known.prepared}
    return known, deciding.decide(replace_credential(first, **given), now)[0]


def replace_credential(first, **given):
    return Request(first.method, first.target, client_ip=first.client_ip, **given)


@pytest.mark.parametrize("rollout", [100, 50])
def test_a_remembered_token_is_known_by_what_is_remembered(rollout):
    for deciding in (gate(), key_gate(percent=rollout)):
        deciding.decide(call(a_token(EARLY)), NOW)
        known, again = known_again(deciding, call(a_token(EARLY)))
        assert again == known
        assert again.identity is known.identity
        assert again.prepared is known.prepared
        assert again.prepared is not None


def test_a_token_is_remembered_from_its_verification_on_whoever_worked_out_its_digest():
    text = a_token(EARLY)
    for deciding in (gate(), key_gate()):
        first = replace(call(text), digest=jwt.digest(text))
        assert deciding.who.recall(first.digest) is None
        assert decide(deciding, first) == decide(gate(), call(text))
        assert deciding.who.recall(first.digest) is decide(deciding, call(text)).prepared is not None
    assert replace(gate().who, memory=None).recall(jwt.digest(text)) is None


@pytest.mark.parametrize("now", [NOW + 1000, NOW - 1000])
def test_a_token_that_is_good_no_more_is_asked_for(now):
    deciding = gate()
    deciding.decide(call(a_token(EARLY)), NOW)
    with pytest.raises(Forgotten):
        known_again(deciding, call(a_token(EARLY)), now)


def test_what_nobody_knows_is_nobody():
    of_a_key = decide(key_gate(), key_call("good")).prepared
    of_another_gate = decide(gate(), call(a_token(EARLY))).prepared  # whose keys are not ours
    assert of_a_key is not None
    assert of_another_gate is not None
    for sent in (
        {"digest": b"x" * 32},
        {"remembered": Prepared()},
        {"remembered": of_a_key},
        {"remembered": of_another_gate},
    ):
        for deciding in (gate(), key_gate()):
            with pytest.raises(Forgotten):
                deciding.decide(Request("GET", "/orders", **sent), NOW)


def test_a_token_that_was_verified_for_another_config_is_nobodys_though_its_keys_are_ours():
    shared = FakeKeys(key_set(a_key()))
    for other in (provider(), provider(audiences=frozenset({"another"})), provider(name="other")):
        ours, theirs = gate(shared), gate(shared, providers=[other])
        remembered = decide(ours, call(a_token(EARLY))).prepared
        assert decide(ours, Request("GET", "/orders", remembered=remembered)).reason is Reason.ALLOWED
        with pytest.raises(Forgotten):
            theirs.decide(Request("GET", "/orders", remembered=remembered), NOW)


def test_a_memory_that_two_configs_share_tells_neither_what_the_other_one_verified():
    shared = FakeKeys(key_set(a_key()))
    ours, theirs = gate(shared), gate(shared, providers=[provider(audiences=frozenset({"another"}))])
    theirs = replace(theirs, who=replace(theirs.who, memory=ours.who.memory))
    for _ in range(2):
        assert decide(ours, call(a_token(EARLY))).reason is Reason.ALLOWED
        assert decide(theirs, call(a_token(EARLY))).reason is Reason.WRONG_AUDIENCE


def test_a_token_to_which_oidc_is_not_open_is_refused_to_who_is_remembered_too():
    deciding = key_gate(percent=50)
    refused = [decide(deciding, call(a_token(LATE))) for _ in range(2)][1]
    again = decide(deciding, replace_credential(call(), remembered=refused.prepared))
    assert again.reason is refused.reason is Reason.OIDC_NOT_OPEN
    assert again == refused


@pytest.mark.parametrize(
    ("now", "told"),
    [(SILENT, True), (ANNOUNCED, True), (BROWNED_OUT, False), (GRACE, True), (OVER, False)],
    ids=["silent", "announced", "browned out", "grace", "over"],
)
def test_a_key_is_known_by_its_digest_until_keys_end(now, told):
    deciding = key_gate(plan=PLAN)
    if not told:
        with pytest.raises(Forgotten):
            known_again(deciding, key_call("good"), now)
        return
    _, again = known_again(deciding, key_call("good"), now)
    assert again == decide(deciding, key_call("good"), now)
    assert again.reason is Reason.ALLOWED


def test_a_keys_digest_is_nobody_where_keys_are_not_accepted():
    with pytest.raises(Forgotten):
        gate().decide(Request("GET", "/orders", digest=RECORDS["good"].digest), NOW)


@pytest.mark.parametrize("name", ["revoked", "expired", "replaced"])
def test_a_key_that_is_good_no_more_is_asked_for(name):
    with pytest.raises(Forgotten):
        key_gate().decide(Request("GET", "/orders", digest=RECORDS[name].digest), NOW)


def test_of_two_credentials_none_is_known_by_a_digest():
    deciding = key_gate()
    for _ in range(3):
        assert decide(deciding, key_call("of the user", a_token(EARLY))).digest is None
