"""What holds for every input, not only for those somebody thought of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authsvc.adapters.limiter import Limiter
from authsvc.adapters.store import MemoryStore
from authsvc.core import paths, ratelimit, rbac, response, rulecover, ruletree, window
from authsvc.core.claims import Condition, Demand
from authsvc.core.model import Decision, Identity, QuotaPolicy, Reason, Refused, Request, StepUp
from authsvc.core.provider import RoleClaim, Strength, identity
from authsvc.core.ratelimit import Charge, Rate, Tier
from authsvc.core.rbac import Asks, rule
from keys import b64, dumps, key, raw_token
from worlds import ISSUER, NOW, FakeIntrospects, claims, gate, key_set, provider, reason, token

ANY = gate(key_set(key(), key("ES256", "e"), key("EdDSA", "d")))
GOOD = token()
latin1 = st.binary(max_size=200).map(lambda data: data.decode("latin-1"))
anything = st.one_of(st.none(), st.text(max_size=200), latin1)


def json_of(leaves):
    """Values that JSON can hold, with these at their ends."""
    return st.recursive(
        leaves | st.none() | st.booleans() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )


json_values = json_of(st.integers() | st.floats())


# Whatever is sent, there is a decision, and it is no -----------------------------------------------------------------


@settings(max_examples=500)
@given(method=anything, target=anything, authorization=anything, ip=anything)
def test_any_request_without_a_good_token_is_decided_and_refused(method, target, authorization, ip):
    decision, headers = ANY.decide(Request(method, target, authorization, ip), NOW)
    assert not decision.allowed
    assert headers == []
    assert response.render(decision, headers)[0] in (401, 403)


@given(
    header=st.one_of(st.binary(max_size=80), json_values.map(dumps)),
    payload=st.binary(max_size=80),
    made=st.binary(max_size=80),
)
def test_any_three_parts_are_refused(header, payload, made):
    assert reason(f"{b64(header)}.{b64(payload)}.{b64(made)}", ANY) is not Reason.ALLOWED


MEMBERS = ["alg", "kid", "typ", "crit", "b64", "jwk", "zip", "cty"]


@settings(max_examples=300)
@given(header=st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=4))
def test_any_header_over_good_claims_without_a_signature_of_ours_is_refused(header):
    bearer = f"{b64(dumps({'alg': 'RS256', 'kid': 'k1', **header}))}.{b64(dumps(claims()))}.{b64(b'x' * 256)}"
    assert reason(bearer, ANY) is not Reason.ALLOWED


header_values = json_of(st.integers()) | st.sampled_from(
    ["RS256", "PS256", "ES256", "none", "k1", "e", "JWT", "at+jwt", "dpop+jwt"]
)


@settings(max_examples=500, deadline=None)
@given(header=st.dictionaries(st.sampled_from(MEMBERS), header_values, max_size=5))
def test_a_signature_of_ours_counts_only_under_a_header_that_says_so(header):
    full = {"alg": "RS256", "kid": "k1", **header}
    right = full["alg"] == "RS256" and full["kid"] in ("k1", None) and not {"crit", "b64"} & full.keys()
    typed = str(full.get("typ", "jwt")).lower() in ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
    assert (reason(raw_token(dumps(full), dumps(claims()), key()), ANY) is Reason.ALLOWED) is (right and typed)


CLAIMS = ["iss", "sub", "aud", "exp", "nbf", "iat", "roles", "email", "typ", "events", "cnf", "token_use", "nonce", "x"]


@settings(max_examples=300, deadline=None)
@given(changed=st.dictionaries(st.sampled_from(CLAIMS), json_values, max_size=4))
@example({"sub": "\ud800", "roles": ["\ud800"]})
@example({"aud": ["\ud800"]})
def test_any_signed_claims_are_decided_and_their_headers_can_be_sent(changed):
    """The issuer signs what its users typed: a decision, never an exception, and headers of printable ASCII."""
    deciding = gate(key_set(key()), extract={"X-User-X": ("x",)}, limits=ratelimit.Limits((Tier("t", (Rate(5),)),)))
    bearer = raw_token(dumps({"alg": "RS256", "kid": "k1"}), dumps({**claims(), **changed}), key())
    decision, headers = deciding.decide(Request("GET", "/", f"Bearer {bearer}"), NOW)
    status, sent = response.render(decision, headers)
    assert all(value.isascii() and (value.isprintable()) for _, value in sent)
    assert (status == 200) is decision.allowed
    if decision.allowed:
        assert all(changed.get(name, 1) is not None for name in ("iss", "sub", "aud", "exp"))


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(GOOD) - 1), char=st.characters(max_codepoint=0x17F) | st.sampled_from("ABab01-_.="))
def test_a_good_token_with_any_one_character_changed_is_refused(place, char):
    """Each token has one spelling only."""
    changed = GOOD[:place] + char + GOOD[place + 1 :]
    assert (reason(changed, ANY) is Reason.ALLOWED) is (changed == GOOD)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(GOOD)), more=st.text(min_size=1, max_size=3) | st.sampled_from(["=", "A", ".", "AAAA"]))
def test_a_good_token_with_anything_put_in_is_refused(place, more):
    changed = GOOD[:place] + more + GOOD[place:]
    if changed.strip(" ") != GOOD:  # spaces around a token belong to the header, not to it
        assert reason(changed, ANY) is not Reason.ALLOWED


# Paths ---------------------------------------------------------------------------------------------------------------

pieces = st.sampled_from(
    ["/", ".", "..", "%", "%2e", "%2F", "%5c", ";", "\\", "a", "A", "admin", "?", "#", "//", "%41", "%C3%A9", "%25"]
)
targets = st.lists(pieces, max_size=8).map("".join)


@settings(max_examples=500)
@given(target=st.one_of(targets, targets.map("/".__add__), latin1, st.text(max_size=50)))
def test_a_target_has_a_plain_path_or_is_refused(target):
    try:
        path = paths.canonical(target)
    except Refused:
        return
    assert path.startswith("/")
    assert path == "/" or not path.endswith("/")
    assert not {"", ".", ".."} & set(path[1:].split("/")) or path == "/"
    assert not set(path) & set("\\;?#%")
    assert path.isprintable()


@settings(max_examples=500)
@given(target=targets.map("/".__add__))
def test_a_path_in_plain_ascii_is_its_own_path(target):
    try:
        path = paths.canonical(target)
    except Refused:
        return
    if path.isascii() and " " not in path:
        assert paths.canonical(path) == path


@given(path=st.lists(st.text("abcXYZ09-_~é名", min_size=1, max_size=5), min_size=1, max_size=4), data=st.data())
def test_every_way_to_escape_a_path_is_the_same_path(path, data):
    plain = "/" + "/".join(path)
    escaped = "".join(
        char
        if char == "/" or (char.isascii() and data.draw(st.booleans()))
        else "".join(f"%{b:02x}" for b in char.encode())
        for char in plain
    )
    assert paths.canonical(escaped) == plain


# Roles ---------------------------------------------------------------------------------------------------------------

ROLES = ["a", "b", "c", "d"]
some_roles = st.lists(st.sampled_from(ROLES), unique=True)
some_rules = st.lists(
    st.builds(
        rule,
        st.sampled_from(["/", "/*", "/x", "/x/*", "/*/y", "/x/y"]),
        st.one_of(st.none(), st.lists(st.sampled_from(["GET", "POST", "HEAD"]), min_size=1)),
        st.one_of(st.none(), some_roles),
    ),
    max_size=5,
).map(tuple)
some_calls = st.tuples(
    st.sampled_from(["GET", "HEAD", "POST", "PUT"]), st.sampled_from(["/", "/x", "/x/y", "/z/y", "/x/y/z"])
)


def admitted(rules, call, roles) -> bool:
    try:
        rbac.admit(rbac.rule_for(rbac.Policy(rules), *call), Identity("p", "u", "", tuple(roles), {}))
    except Refused:
        return False
    return True


@given(rules=some_rules, call=some_calls, roles=some_roles, more=some_roles)
def test_more_roles_never_lose_access(rules, call, roles, more):
    assert admitted(rules, call, [*roles, *more]) or not admitted(rules, call, roles)


@given(rules=some_rules, call=some_calls, last=some_rules)
def test_rules_added_at_the_end_never_change_what_the_first_ones_decide(rules, call, last):
    try:
        governing = rbac.rule_for(rbac.Policy(rules), *call)
    except Refused:
        return
    assert governing is rbac.DEFAULT or rbac.rule_for(rbac.Policy(rules + last), *call) is governing


@given(rules=some_rules, call=some_calls)
def test_a_rule_that_is_called_unreachable_governs_no_call(rules, call):
    tree = ruletree.grown(rules)
    for place, later in enumerate(rules):
        if rulecover.coverer(tree, later, place) is not None and later not in rules[:place]:
            try:
                assert rbac.rule_for(rbac.Policy(rules[: place + 1]), *call) is not later
            except Refused:
                continue


# Providers and what they and rules ask for ---------------------------------------------------------------------------
# Claims come by introspection here: the way after the signature is the same, and a signature costs a millisecond.

TID = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
PATHS = [("x",), ("y",), ("x", "y"), ("tid",), ("acr",), ("iss",)]
claim_values = json_of(st.integers() | st.floats(allow_nan=False, allow_infinity=False)) | st.sampled_from(
    ["a", "b", TID, TID.upper(), ISSUER, f"{ISSUER}/{TID}", NOW, NOW - 100, 10**4299, ["a"], ["b", "a"], {"a": True}]
    + [{"a": False}, ["mfa"], "Bearer", "ID", "cp1"]
)
told_claims = st.dictionaries(
    st.sampled_from(
        ["iss", "sub", "aud", "exp", "nbf", "iat", "tid", "azp", "appid", "client_id", "scope", "scp", "acr", "acrs"]
        + ["amr", "auth_time", "xms_cc", "roles", "x", "y", "typ", "token_use", "token_type", "cnf", "email"]
    ),
    claim_values,
    max_size=6,
)
names = st.lists(st.sampled_from(["a", "b", "true", TID]), min_size=1, max_size=2, unique=True)
some_names = names.map(tuple)
conditions = st.builds(Condition, st.sampled_from(PATHS), st.sampled_from(["present", "absent"])) | st.builds(
    Condition,
    st.sampled_from(PATHS),
    st.sampled_from(["in", "not_in", "contains", "starts", "ends", "differs", "same"]),
    some_names,
)
demands = st.builds(
    Demand, st.lists(conditions, max_size=2).map(tuple), st.just(Reason.WRONG_TOKEN_TYPE), st.just("no"), st.just("")
)
strengths = st.builds(Strength, st.just(()) | some_names, st.booleans(), st.none() | st.sampled_from([0, 60, 3600]))
# What may be demanded in an entry of the config. None of it gives anybody anything.
DEMANDS = {
    "demands": st.lists(demands, max_size=2).map(tuple),
    "clients": st.none() | names.map(frozenset),
    "tenants": st.none() | names.map(frozenset),
    "subject_types": st.none() | st.sampled_from([frozenset({"user"}), frozenset({"app"}), frozenset({"user", "app"})]),
    "strength": strengths,
}
some_demands = st.fixed_dictionaries({}, optional=DEMANDS)
some_shapes = st.fixed_dictionaries(
    {},
    optional={
        "issuer_templates": st.just((f"{ISSUER}/{{tenantid}}",)),
        "tenant_claim": st.sampled_from(PATHS),
        "roles": st.lists(st.builds(RoleClaim, st.sampled_from([("roles",), ("scp",), ("x", "y")])), max_size=2).map(
            tuple
        ),
        "user_claims": st.just((("x",), ("sub",))),
        "key_claims": st.lists(st.sampled_from(PATHS), max_size=2).map(tuple),
        "app_if": st.lists(conditions, max_size=2).map(tuple),
        "mfa_if": st.lists(conditions, max_size=2).map(tuple),
        "overage_if": st.lists(conditions, max_size=1).map(tuple),
        "audience_claims": st.just((("aud",), ("client_id",))),
        "authorization_uri": st.just("https://login.example.com/authorize"),
        "id_tokens": st.booleans(),
    },
)
some_asks = st.fixed_dictionaries(
    {},
    optional={
        "any_scope": some_names,
        "all_scopes": some_names,
        "providers": some_names | st.just(("main",)),
        "tenants": some_names,
        "clients": some_names,
        "require": st.lists(conditions, min_size=1, max_size=2).map(tuple),
        "strength": strengths,
    },
)


def introspected(told, shape, asks=None, roles=None):
    """The decision on a token of which its provider says this, and its HTTP face."""
    deciding = gate(
        providers=[provider(opaque=True, **shape)],
        rules=[rule("/*", None, roles, Asks(**(asks or {})))],
        limits=ratelimit.Limits((Tier("t", (Rate(5),)),)),
        introspects=FakeIntrospects({"sub": "u-1", "aud": "orders-api", **told}),
    )
    decision, headers = deciding.decide(Request("GET", "/x", "Bearer opaque"), NOW)
    return decision, *response.render(decision, headers)


@settings(max_examples=500, deadline=None)
@given(told=told_claims, shape=some_shapes, asked=some_demands, asks=some_asks, roles=st.none() | some_names)
@example({"auth_time": 10**4299}, {}, {"strength": Strength(max_age_s=60)}, {}, None)
@example({}, {"mfa_if": (Condition(("x",)),)}, {"strength": Strength(mfa=True)}, {}, None)
@example({}, {}, {}, {"require": (Condition(("x",)),)}, None)
@example({"acr": 'a"\r\nb', "roles": ["\ud800"]}, {}, {}, {"strength": Strength(('a"', "b\r\n"))}, None)
def test_any_claims_are_decided_whatever_is_asked_for(told, shape, asked, asks, roles):
    decision, status, sent = introspected(told, {**shape, **asked}, asks, roles)
    assert status == (200 if decision.allowed else 401 if status == 401 else 403)
    assert all(value.isascii() and value.isprintable() for _, value in sent)


@settings(max_examples=500, deadline=None)
@given(told=told_claims, shape=some_shapes, few=some_demands, more=st.lists(demands, max_size=2), data=st.data())
def test_more_demands_of_a_provider_never_turn_a_refusal_into_an_allow(told, shape, few, more, data):
    """A setting that is not there yet is added, and so are demands to those that are."""
    added = {name: data.draw(DEMANDS[name], name) for name in DEMANDS if name not in {*few, "strength"}}
    added["strength"] = _stronger(few.get("strength", Strength()), data.draw(strengths))
    many = {**few, **added, "demands": (*few.get("demands", ()), *more)}
    assert introspected(told, {**shape, **few})[0].allowed or not introspected(told, {**shape, **many})[0].allowed


def _stronger(asked, more):
    """What the first asks for stays; what it does not ask for may be asked for now."""
    max_age_s = more.max_age_s if asked.max_age_s is None else asked.max_age_s
    return Strength(asked.acr or more.acr, asked.mfa or more.mfa, max_age_s)


@settings(max_examples=500, deadline=None)
@given(told=told_claims, shape=some_shapes, few=some_asks, more=some_asks, roles=st.none() | some_names)
def test_more_that_a_rule_asks_for_never_turns_a_refusal_into_an_allow(told, shape, few, more, roles):
    many = {**more, **few}
    assert introspected(told, shape, few)[0].allowed or not introspected(told, shape, many, roles)[0].allowed


@settings(max_examples=300, deadline=None)
@given(
    issuer=st.sampled_from([ISSUER, f"{ISSUER}/{TID}", f"{ISSUER}/{{tenantid}}", f"{ISSUER}/{TID.upper()}"]) | anything,
    tid=claim_values | st.text(max_size=40),
)
def test_a_template_accepts_one_issuer_for_a_tenant_and_none_for_what_is_no_tenant(issuer, tid):
    templated = provider(issuer=f"{ISSUER}/{{tenantid}}", issuer_templates=(f"{ISSUER}/{{tenantid}}",))
    for ours in (templated, provider(issuer_templates=templated.issuer_templates)):
        if ours.accepts_issuer(issuer or "", {"tid": tid}):
            assert issuer == f"{ISSUER}/{tid}" or issuer == ours.issuer == ISSUER


parts = st.text("ab:%25A3", max_size=5) | st.none()


@settings(max_examples=500)
@given(one=st.tuples(parts, parts, parts), other=st.tuples(parts, parts, parts))
@example(("a:b", "a", "b"), ("a:b", None, "b"))
@example(("x", "a:", "b"), ("x", "a", ":b"))
def test_two_users_never_share_a_key(one, other):
    ours = provider(key_claims=(("tid",), ("oid",)))
    users = [dict(zip(("sub", "tid", "oid"), ("s" + (user[0] or ""), *user[1:]), strict=True)) for user in (one, other)]
    told_apart = [(user["tid"], user["oid"]) if user["tid"] and user["oid"] else user["sub"] for user in users]
    keys = [identity(ours, claims(**user)).key for user in users]
    assert (keys[0] == keys[1]) is (told_apart[0] == told_apart[1])


@settings(max_examples=300)
@given(value=json_values, values=some_names)
def test_not_in_and_in_never_hold_for_the_same_value_and_no_condition_raises(value, values):
    both = [Condition(("x",), op, values).holds({"x": value, "a": value}) for op in ("in", "not_in")]
    assert not all(both)
    for op in ("present", "absent", "contains", "starts", "ends", "differs", "same"):
        assert Condition(("x",), op, values).holds({"x": value, "a": value}) in (True, False)


# Limits --------------------------------------------------------------------------------------------------------------
#
# What the sliding window promises. With `limit` L and windows of length W that begin at multiples of W:
#
#   1. Between two neighbouring beginnings, no more than L calls are admitted.
#   2. At each admitted call, those admitted in this window and the previous window's, weighed by the share of this one
#      that is still to come, are together no more than L.
#   3. So in any span of length W that ends when the share e of a window has passed, no more than L + e·L: at a
#      beginning there is no burst of twice the limit (as with fixed windows), and never are there more than 2·L.
#
# It does not promise L in every span of length W: two counters cannot know when in a window its calls were.


#
# What lies in leases counts as admitted from the moment of its reservation: of all three the counters know no less than
# was admitted. Several processes on one store keep the promises together, where their clocks agree; without that, the
# first one still. Where a tier has several windows, each of them keeps the promises by itself.


class Fleet:
    """Limiters, each a process, that count in one store."""

    def __init__(self, processes: int, rates: list[Rate], shared: bool = True) -> None:
        self.now = 1e9
        self.store = MemoryStore(lambda: self.now)
        self.store.shared = shared  # as if it were memcached, so that there are leases
        self.limiters = [Limiter(self.store, processes=lambda: processes) for _ in range(processes)]
        self.rates = tuple(rates)
        self.admitted: Counter[float] = Counter()  # how many calls' worth, by the instant

    def call(self, process: int, cost: int = 1) -> None:
        charge = Charge(Tier("t", self.rates), "x", "x", cost)
        quotas = self.limiters[process % len(self.limiters)].spend(charge, self.now)
        assert all(quota.reset_s >= 1 and 0 <= quota.remaining <= quota.policy.limit for quota in quotas)
        if window.refused(quotas) is None:
            self.admitted[self.now] += cost

    def tidy(self) -> None:
        for limiter in self.limiters:
            limiter.tidy(self.now)

    def in_window(self, rate: Rate, number: float) -> int:
        return sum(cost for at, cost in self.admitted.items() if at // rate.period_s == number)

    def counted(self, rate: Rate) -> int:
        return int(self.store.get(window.window(rate, "x", self.now).current) or 0)

    def reserved(self, rate: Rate) -> int:
        """What lies in leases of the window that is now."""
        pots = [pot for limiter in self.limiters for pot in limiter._lent.values()]
        return sum(pot.left for pot in pots if pot.at is not None and pot.at.number == self.now // rate.period_s)


def assert_no_window_is_overdrawn(fleet: Fleet) -> None:
    """The first promise, which holds whatever the clocks do."""
    for rate in fleet.rates:
        for number in {at // rate.period_s for at in fleet.admitted}:
            assert fleet.in_window(rate, number) <= rate.limit


def assert_promises_kept(fleet: Fleet) -> None:
    """All three, at each instant with an admitted call."""
    assert_no_window_is_overdrawn(fleet)
    for rate in fleet.rates:
        for now in fleet.admitted:
            number, share = now // rate.period_s, now / rate.period_s % 1
            here = sum(cost for at, cost in fleet.admitted.items() if at <= now and at // rate.period_s == number)
            recent = sum(cost for at, cost in fleet.admitted.items() if now - rate.period_s < at <= now)
            assert here + fleet.in_window(rate, number - 1) * (1 - share) <= rate.limit + 1e-3
            assert recent <= rate.limit * (1 + share) + 1e-3


gaps = st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.5, 1.0, 7.0, 9.99, 59.9, 60.0]) | st.floats(0, 130)
limits_of_all_sizes = st.integers(0, 12) | st.sampled_from([100, 101, 150, 400, 1000])
several_rates = st.lists(
    st.builds(Rate, limits_of_all_sizes, st.sampled_from([1, 7, 60])),
    min_size=1,
    max_size=3,
    unique_by=lambda r: r.period_s,
)
one_rate = st.builds(Rate, limits_of_all_sizes, st.sampled_from([1, 7, 60])).map(lambda rate: [rate])
# Who calls, at what cost, how often at once, and how long after the call before; or a process gives back idle leases.
acts = st.tuples(st.integers(0, 3), st.sampled_from([1, 1, 1, 2, 5, 20]), st.sampled_from([1, 1, 5, 40]), gaps)
schedules = st.lists(acts, max_size=40)


def run(fleet: Fleet, schedule: list[tuple[int, int, int, float]], after_each: Callable[[], None]) -> None:
    for process, cost, times, gap in schedule:
        fleet.now += gap
        for _ in range(times):
            fleet.call(process, cost)
        after_each()


def assert_nothing_is_lost(fleet: Fleet) -> None:
    for rate in fleet.rates:
        assert fleet.counted(rate) == fleet.in_window(rate, fleet.now // rate.period_s) + fleet.reserved(rate)


@settings(max_examples=300, deadline=None)
@given(processes=st.integers(1, 4), rates=one_rate | several_rates, start=st.floats(0, 120), schedule=schedules)
@example(1, [Rate(5, 60)], 59.9, [(0, 1, 10, 0.0), (0, 1, 10, 0.1), *[(0, 1, 1, 6.0)] * 20])
@example(2, [Rate(1000, 60)], 0.0, [(0, 1, 40, 0.1)] * 30 + [(1, 1, 40, 0.1)] * 10 + [(0, 1, 40, 3.0)] * 30)
def test_a_window_never_admits_more_than_it_promises(processes, rates, start, schedule):
    fleet = Fleet(processes, rates)
    fleet.now += start
    run(fleet, schedule, fleet.tidy)
    assert_promises_kept(fleet)


@settings(max_examples=300, deadline=None)
@given(processes=st.integers(1, 4), rates=one_rate | several_rates, schedule=schedules, tidies=st.booleans())
def test_what_the_store_counts_is_what_was_admitted_and_what_is_reserved(processes, rates, schedule, tidies):
    fleet = Fleet(processes, rates)

    def compare() -> None:
        if tidies:
            fleet.tidy()
        assert_nothing_is_lost(fleet)

    run(fleet, schedule, compare)


@settings(max_examples=200, deadline=None)
@given(
    processes=st.integers(1, 4),
    rates=one_rate | several_rates,
    schedule=st.lists(st.tuples(acts, st.floats(-200, 200)), max_size=40),
)
@example(1, [Rate(1000, 1)], [((0, 1, times, 0.0), at) for times, at in ((1, 0.0), (40, 0.0), (1, 2.0), (1, 0.0))])
def test_no_clock_that_jumps_overdraws_a_window(processes, rates, schedule):
    """Each call at an instant of its own, as with hosts whose clocks differ, or one that is set."""
    fleet = Fleet(processes, rates)
    for act, at in schedule:
        fleet.now = 1e9 + at
        run(fleet, [(*act[:3], 0.0)], fleet.tidy)
    assert_no_window_is_overdrawn(fleet)


@settings(max_examples=100, deadline=None)
@given(limit=limits_of_all_sizes, start=st.floats(0, 120), processes=st.integers(1, 4))
def test_a_new_caller_has_the_whole_limit_wherever_he_is_asked_for(limit, start, processes):
    fleet = Fleet(processes, [Rate(limit, 3600)])
    fleet.now += start
    for number in range(limit + 20):
        fleet.call(number)
    assert fleet.admitted.total() == limit


@settings(max_examples=100, deadline=None)
@given(
    limit=limits_of_all_sizes | st.sampled_from([10_000, 100_000]),
    processes=st.integers(1, 4),
    calls=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 1, 2, 3, 7, 50, 99])), max_size=400),
)
@example(10_000, 1, [(0, cost) for _ in range(4) for cost in range(1, 11) for _ in range(20)])
def test_what_all_processes_have_reserved_is_one_percent_of_the_limit_at_most_or_nothing(limit, processes, calls):
    """However many costs a caller's calls have."""
    rate = Rate(limit, 3600)
    fleet = Fleet(processes, [rate])
    for process, cost in calls:
        fleet.call(process, cost)
        assert fleet.reserved(rate) <= limit / 100


@given(limit=st.integers(0, 100), counted=st.integers(0, 200), previous=st.integers(0, 500), elapsed=st.floats(0, 1))
def test_one_more_call_never_leaves_more(limit, counted, previous, elapsed):
    at, rate, policy = window.Window("a", "b", 1, elapsed, 1), Rate(limit, 60), QuotaPolicy("p", limit, 60)
    one, two = (window.quota(policy, rate, at, previous, number) for number in (counted, counted + 1))
    fit, more = (window.granted(rate, at, previous, number, 1) for number in (counted + 1, counted + 2))
    assert one.remaining >= two.remaining
    assert fit >= more
    assert fit == (one.remaining > 0)
    assert 0 <= one.remaining <= limit
    assert 1 <= one.reset_s <= (61 if one.remaining else 121)  # a limit of one: the whole next window
    assert 1 <= window.refusal(policy, rate, at, previous, counted, 1).reset_s <= 121


# Header values -------------------------------------------------------------------------------------------------------

values = st.one_of(st.text(max_size=30), st.text(' %é\t\r\n\x00\x7f\ud800a2,05[]"', max_size=6))


@settings(max_examples=500)
@given(value=values)
def test_a_text_is_header_safe_and_can_be_read_back(value):
    """So no two texts look the same."""
    encoded = response.encode(value)
    assert encoded.isascii()
    assert not encoded or encoded.isprintable()
    assert encoded == encoded.strip()
    raw = bytearray()
    rest = encoded
    while rest:
        taken = 3 if rest[0] == "%" else 1
        raw += bytes.fromhex(rest[1:3]) if taken == 3 else rest[0].encode()
        rest = rest[taken:]
    assert raw.decode("utf-8", "surrogatepass") == value


@given(value=st.lists(values, max_size=4) | st.dictionaries(values, values, max_size=3) | st.booleans() | st.integers())
def test_any_other_value_is_header_safe_json(value):
    encoded = response.encode(value)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert json.loads(encoded) == value


@given(roles=st.lists(values, max_size=4), others=st.lists(values, max_size=4))
def test_no_two_lists_of_roles_look_the_same(roles, others):
    assert (response.encode(roles) == response.encode(others)) is (roles == others)


@pytest.mark.parametrize("reason_", Reason)
@given(detail=st.text(max_size=20), wanted=st.lists(st.text(max_size=10), max_size=3).map(tuple), age=st.integers())
@settings(max_examples=20)
def test_no_detail_and_no_role_and_no_context_breaks_a_header(reason_, detail, wanted, age):
    decision = Decision(reason_, detail=detail, next_step=detail, wanted=wanted, step_up=StepUp(wanted, age))
    status, headers = response.render(decision, [])
    assert status in (200, 401, 403)
    assert (status == 200) is (reason_ in (Reason.ALLOWED, Reason.PUBLIC))
    assert all(value.isascii() and value.isprintable() for _, value in headers)
