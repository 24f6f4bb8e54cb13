"""Providers: whose a token is, what it must be like beyond its signature, and whom it speaks for."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc import build
from authsvc.core import provider as room
from authsvc.core.claims import Condition, Demand
from authsvc.core.model import Reason, Refused
from authsvc.core.provider import MAX_USER_ID, IssuerHint, Providers, RoleClaim
from keys import jwk, key
from worlds import ISSUER, NOW, claims, gate, key_set, provider, reason, token

OURS = "72f988bf-86f1-41af-91ab-2d7cd011db47"
THEIRS = "82229342-1101-4ab6-817b-70c0747630f3"
PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"
V2 = "https://login.example.com/{tenantid}/v2.0"
V1 = "https://sts.example.com/{tenantid}/"


def v2(tenant):
    return V2.replace("{tenantid}", tenant)


def v1(tenant):
    return V1.replace("{tenantid}", tenant)


def entra(**changes):
    """Several tenants of one issuer: iss is bound to tid."""
    settings = {
        "name": "entra",
        "issuer": V2,
        "issuer_templates": (V2, V1),
        "tenant_claim": ("tid",),
        "tenants": frozenset({OURS}),
    }
    return provider(**{**settings, **changes})


def refusal(asking, *arguments):
    with pytest.raises(Refused) as refused:
        asking(*arguments)
    return refused.value


# Whose a token is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("issuer", [ISSUER, "https://login.example.com/", "accounts.example.com"])
def test_each_issuer_of_a_provider_finds_it(issuer):
    ours = provider(other_issuers=("https://login.example.com/", "accounts.example.com"))
    assert Providers([ours, provider(name="b", issuer="https://b")]).find(issuer, {}) is ours
    assert ours.accepts_issuer(issuer, {})


@pytest.mark.parametrize(
    "issuer",
    [
        "https://login.example.com",
        "https://login.example.com//",
        "https://LOGIN.example.com/",
        "https://login.example.com/ ",
        "http://login.example.com/",
        "https://login.example.com/?",
        "https://login.example.com:443/",
        "https://login.example.com/x",
        "login.example.com/",
        "x" * 8000,
        "\ud800",
    ],
)
def test_any_other_spelling_of_an_issuer_is_refused(issuer):
    ours = provider(other_issuers=("https://login.example.com/",))
    assert refusal(Providers([ours]).find, issuer, {}).reason is Reason.UNKNOWN_ISSUER
    assert not ours.accepts_issuer(issuer, {})


@pytest.mark.parametrize("issuer", [v2(OURS), v1(OURS)])
def test_in_a_template_the_tenant_is_that_of_the_token(issuer):
    assert reason(token(iss=issuer, tid=OURS), gate(providers=[entra()])) is Reason.ALLOWED


@pytest.mark.parametrize(
    ("issuer", "tid"),
    [
        pytest.param(v2(OURS), ..., id="no tid"),
        pytest.param(v2(OURS), None, id="null"),
        pytest.param(v2(OURS), "", id="an empty tid"),
        pytest.param(v2(OURS), THEIRS, id="a tid of another tenant"),
        pytest.param(v2(THEIRS), OURS, id="an iss of another tenant"),
        pytest.param(v2(OURS), OURS.upper(), id="a tid in capitals"),
        pytest.param(v2(OURS.upper()), OURS, id="an iss in capitals"),
        pytest.param(v2(OURS), [OURS], id="a list"),
        pytest.param(v2(OURS), {OURS: True}, id="an object"),
        pytest.param(v2(OURS), True, id="a boolean"),
        pytest.param(v2(OURS), 10**4299, id="a huge number"),
        pytest.param(v2(OURS), OURS + "\n", id="a line feed after it"),
        pytest.param(v2(OURS), f" {OURS}", id="a space before it"),
        pytest.param(v2(OURS), f"{{{OURS}}}", id="braces around it"),
        pytest.param(v2(OURS), OURS.replace("-", ""), id="no hyphens"),
        pytest.param(v2(OURS), OURS.replace("7", "٧"), id="digits of another script"),
        pytest.param(v2("common"), "common", id="a tenant that is a word"),
        pytest.param(v2("{tenantid}"), "{tenantid}", id="the template as tid"),
        pytest.param(V2, OURS, id="the template as iss"),
        pytest.param(V1, OURS, id="the second template as iss"),
        pytest.param(v2("x/v2.0?"), "x/v2.0?", id="a tid that ends the path"),
        pytest.param("https://login.example.com/x/v2.0?/v2.0", "x/v2.0?", id="the same, written out"),
        pytest.param(v2(f"{OURS}/../{THEIRS}"), f"{OURS}/../{THEIRS}", id="a tid that climbs"),
        pytest.param(f"{v2(OURS)}/", OURS, id="a slash too many"),
        pytest.param(v1(OURS).rstrip("/"), OURS, id="a slash too few"),
        pytest.param(f"{v2(OURS)}\n", OURS, id="a line feed after iss"),
        pytest.param(f"https://evil.example.com/{OURS}/v2.0", OURS, id="another host"),
    ],
)
def test_no_other_tenant_and_no_trick_with_it_fits_a_template(issuer, tid):
    for tenants in (frozenset({OURS}), None):
        deciding = gate(providers=[entra(tenants=tenants)])
        assert reason(token(iss=issuer, tid=tid), deciding) is Reason.UNKNOWN_ISSUER


def test_a_tenant_that_fits_the_template_must_still_be_on_the_list():
    deciding = gate(providers=[entra()])
    assert reason(token(iss=v2(THEIRS), tid=THEIRS), deciding) is Reason.TENANT_NOT_ALLOWED


def test_a_tenant_has_one_spelling_or_one_user_would_be_two():
    deciding = gate(providers=[entra(tenants=None)])
    assert reason(token(iss=v2(OURS.upper()), tid=OURS.upper()), deciding) is Reason.UNKNOWN_ISSUER


def test_where_any_tenant_will_do_iss_and_tid_must_still_be_of_one():
    deciding = gate(providers=[entra(tenants=None)])
    assert reason(token(iss=v2(THEIRS), tid=THEIRS), deciding) is Reason.ALLOWED
    assert reason(token(iss=v2(THEIRS), tid=OURS), deciding) is Reason.UNKNOWN_ISSUER


def test_an_exact_issuer_goes_before_a_template_and_templates_in_their_order():
    exact = provider(name="exact", issuer=v2(OURS))
    second = entra(name="second", issuer="https://second")
    found = Providers([entra(), second, exact]).find
    assert found(v2(OURS), {"tid": OURS}).name == "exact"
    assert found(v2(THEIRS), {"tid": THEIRS}).name == "entra"
    assert found("https://second", {}).name == "second"


def many(count, kind=room.Provider):
    """So many providers, each of any tenant, with an issuer of its own too."""
    templates = [
        (f"https://v2-{n}.example.com/{{tenantid}}", f"https://v1-{n}.example.com/{{tenantid}}/") for n in range(count)
    ]
    return [
        kind(f"p{n}", f"https://{n}.example.com", frozenset(), frozenset(), issuer_templates=both)
        for n, both in enumerate(templates)
    ]


@pytest.mark.skipif(build() == "compiled", reason="nothing can inherit from what is compiled, so nobody can count")
@pytest.mark.parametrize(
    "issuer", ["https://{n}.example.com", "https://v2-{n}.example.com/{t}", "https://v1-{n}.example.com/{t}/"]
)
def test_of_a_hundred_providers_at_most_one_is_asked(issuer):
    asked = []

    class Asked(room.Provider):
        """A provider that says when it is asked whether an issuer is its own."""

        def accepts_issuer(self, issuer, claims):
            asked.append(self.name)
            return room.Provider.accepts_issuer(self, issuer, claims)

    providers = Providers(many(100, Asked))
    for number in (0, 57, 99):
        asked.clear()
        assert providers.find(issuer.format(n=number, t=OURS), {"tid": OURS}).name == f"p{number}"
        assert len(asked) <= 1
    asked.clear()
    refusal(providers.find, issuer.format(n=100, t=OURS), {"tid": OURS})
    assert not asked


@settings(deadline=None)
@given(
    st.sampled_from([0, 1, 2]),
    st.sampled_from(["https://{n}.example.com", "https://v2-{n}.example.com/{t}", "https://v1-{n}.example.com/{t}/"]),
    st.sampled_from([OURS, THEIRS, "{tenantid}", "x", "", None, 7]),
    st.sampled_from([OURS, THEIRS, "{tenantid}", ""]),
    st.sampled_from(["", "/", OURS, "{tenantid}"]),
)
def test_who_is_found_is_who_accepts(number, issuer, tid, tenant, end):
    ours = many(2)
    issuer = issuer.format(n=number, t=tenant) + end
    accepting = [one for one in ours if one.accepts_issuer(issuer, {"tid": tid})]
    if accepting:
        assert [Providers(ours).find(issuer, {"tid": tid})] == accepting
    else:
        assert refusal(Providers(ours).find, issuer, {"tid": tid}).reason is Reason.UNKNOWN_ISSUER


def test_a_template_without_the_placeholder_is_itself():
    fixed = provider(issuer_templates=("https://fixed",))
    assert Providers([fixed]).find("https://fixed", {"tid": OURS}) is fixed


@pytest.mark.parametrize(
    ("issuer", "told", "detail", "next_step"),
    [
        (ISSUER + "/", {}, "they differ by the slash at the end", ""),
        (ISSUER + "//", {"typ": "ID"}, "they differ by the slash at the end", ""),
        (v2(THEIRS), {"tid": THEIRS}, f"iss is '{v2(THEIRS)}': it is of another tenant", "name that tenant"),
        (v2(OURS), {"tid": [OURS]}, f"iss is '{v2(OURS)}': it is of another tenant", "name that tenant"),
        ("https://x", {"typ": "ID"}, "iss is 'https://x': it is an ID token", "send the access token"),
        ("y" * 8000, {"typ": "ID"}, f"iss is '{'y' * 200}': it is an ID token", "send the access token"),
        ("https://x", {"typ": ["ID"]}, "no provider has the issuer 'https://x'", ""),
        ("y" * 8000, {}, f"no provider has the issuer '{'y' * 200}'", ""),
    ],
    ids=["a slash", "two slashes", "a hint by iss", "a hint whatever tid is", "a hint by a claim", "a long iss"]
    + ["no hint", "a long iss without hint"],
)
def test_a_token_of_no_provider_is_told_what_is_near(issuer, told, detail, next_step):
    of_tenant = IssuerHint(
        Condition(("iss",), "starts", ("https://login.example.com/",)), "it is of another tenant", "name that tenant"
    )
    of_kind = IssuerHint(Condition(("typ",), "in", ("ID",)), "it is an ID token", "send the access token")
    ours = [provider(hints=(of_tenant,)), provider(name="b", issuer="https://b", hints=(of_kind,))]
    found = refusal(Providers(ours).find, issuer, {"iss": issuer, **told})
    assert (found.reason, found.next_step) == (Reason.UNKNOWN_ISSUER, next_step)
    assert found.detail.endswith(detail)


def test_the_first_provider_that_introspects_takes_the_opaque_tokens():
    plain, first, second = provider(), provider(name="a", opaque=True), provider(name="b", opaque=True)
    assert Providers([plain, first, second]).opaque is first
    assert Providers([plain]).opaque is None


# Whose a key is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "issuer", "tid", "expected"),
    [
        pytest.param(..., v2(OURS), OURS, Reason.ALLOWED, id="a key that names no issuer (v1)"),
        pytest.param(V2, v2(OURS), OURS, Reason.ALLOWED, id="a key for all tenants"),
        pytest.param(v2(OURS), v2(OURS), OURS, Reason.ALLOWED, id="a key of this tenant"),
        pytest.param(v2(OURS), v1(OURS), OURS, Reason.ALLOWED, id="a key of this tenant, an iss of v1"),
        pytest.param(v2(THEIRS), v2(OURS), OURS, Reason.UNKNOWN_KEY, id="a key of another tenant"),
        pytest.param(v2(PERSONAL), v2(OURS), OURS, Reason.UNKNOWN_KEY, id="a key for personal accounts"),
        pytest.param(v2(PERSONAL), v2(PERSONAL), PERSONAL, Reason.ALLOWED, id="a personal account"),
        pytest.param(v2(OURS) + "/", v2(OURS), OURS, Reason.UNKNOWN_KEY, id="an issuer with a slash too many"),
        pytest.param("https://evil", v2(OURS), OURS, Reason.UNKNOWN_KEY, id="a key of somebody else"),
    ],
)
def test_a_key_that_names_an_issuer_signs_for_that_issuer_only(named, issuer, tid, expected):
    keys = key_set(jwk(key(), issuer=named))
    deciding = gate(keys, providers=[entra(tenants=None, key_issuer=V2)])
    assert reason(token(iss=issuer, tid=tid), deciding) is expected


@pytest.mark.parametrize("tid", [PERSONAL, ..., None, [PERSONAL], "", "{tenantid}"])
def test_a_key_for_personal_accounts_signs_no_token_of_a_tenant_whatever_its_tid_says(tid):
    """Storm-0558: a consumer key made tokens of companies. Where iss is exact, nothing else binds tid to it."""
    single = provider(issuer=v2(OURS), other_issuers=(v1(OURS),), key_issuer=V2)
    keys = key_set(jwk(key(), issuer=v2(PERSONAL)))
    for issuer in (v2(OURS), v1(OURS)):
        assert reason(token(iss=issuer, tid=tid), gate(keys, providers=[single])) is Reason.UNKNOWN_KEY


def test_where_the_provider_asks_for_none_the_issuer_of_a_key_does_not_count():
    keys = key_set(jwk(key(), issuer="https://anything"))
    assert provider().key_issuers({"tid": OURS}) is None
    assert reason(token(), gate(keys)) is Reason.ALLOWED


# What a token must be like -------------------------------------------------------------------------------------------

FIRST = Demand((Condition(("azp",)), Condition(("appid",))), Reason.WRONG_TOKEN_TYPE, "no client", "send another")
SECOND = Demand((Condition(("idp",), "same", ("iss",)),), Reason.GUEST_NOT_ALLOWED, "a guest")


@pytest.mark.parametrize(
    ("told", "reason_"),
    [
        ({"azp": "c"}, None),
        ({"appid": "c", "idp": ISSUER}, None),
        ({"azp": "c", "idp": "live.com"}, Reason.GUEST_NOT_ALLOWED),
        ({"azp": "c", "idp": [ISSUER]}, Reason.GUEST_NOT_ALLOWED),
        ({"azp": "c", "idp": ""}, Reason.GUEST_NOT_ALLOWED),
        ({"azp": None}, Reason.WRONG_TOKEN_TYPE),
        ({"idp": "live.com"}, Reason.WRONG_TOKEN_TYPE),
    ],
)
def test_every_demand_must_be_met_and_the_first_that_is_not_is_told(told, reason_):
    ours = provider(demands=(FIRST, SECOND))
    if reason_ is None:
        room.check(ours, claims(**told))
    else:
        assert refusal(room.check, ours, claims(**told)).reason is reason_


@pytest.mark.parametrize(("header", "reason_"), [({}, Reason.ALLOWED), ({"nonce": "x"}, Reason.WRONG_TOKEN_TYPE)])
def test_the_header_may_be_demanded_too(header, reason_):
    graph = Demand((Condition(("nonce",), "absent"),), Reason.WRONG_TOKEN_TYPE, "for Graph", "ask for your API")
    assert reason(token(header), gate(providers=[provider(header_demands=(graph,))])) is reason_


@pytest.mark.parametrize(
    ("told", "found"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"azp": "a", "appid": "b", "cid": "c", "client_id": "d"}, "a", id="azp first"),
        pytest.param({"appid": "b", "cid": "c", "client_id": "d"}, "b", id="then appid (Entra v1)"),
        pytest.param({"cid": "c", "client_id": "d"}, "c", id="then cid (Okta)"),
        pytest.param({"client_id": "d"}, "d", id="then client_id (RFC 9068)"),
        pytest.param({"azp": "", "appid": None, "cid": "c"}, "c", id="what is empty is passed over"),
        pytest.param({"azp": 7}, "7", id="a number"),
        pytest.param({"azp": ["a"], "appid": {"a": True}}, "", id="a list and an object name none"),
        pytest.param({"azp": [["a"]], "appid": {"a": {"b": 1}}}, "", id="nested ones neither"),
    ],
)
def test_the_client_is_the_first_that_is_named(told, found):
    assert room.client(provider(), told) == found


@pytest.mark.parametrize(
    ("allowed", "told", "fits"),
    [
        (None, {}, True),
        (frozenset({"a"}), {"azp": "a"}, True),
        (frozenset({"a"}), {"azp": "b", "client_id": "a"}, False),
        (frozenset({"a"}), {"azp": "A"}, False),
        (frozenset({"a"}), {"azp": ["a"]}, False),
        (frozenset({"a"}), {}, False),
        (frozenset(), {"azp": "a"}, False),
        (frozenset(), {}, False),
    ],
)
def test_a_client_that_is_not_on_the_list_is_refused(allowed, told, fits):
    ours = provider(clients=allowed)
    if fits:
        room.check(ours, told)
    else:
        assert refusal(room.check, ours, told).reason is Reason.CLIENT_NOT_ALLOWED


@pytest.mark.parametrize(
    ("org", "found", "fits"),
    [
        ("acme", ("acme",), True),
        (["acme", "evil"], ("acme", "evil"), True),
        ({"acme": {"id": "1"}}, ("acme",), True),
        ({"evil": {"acme": True}, "acme": False}, ("evil",), False),
        ("acme,evil", ("acme,evil",), False),
        ("Acme", ("Acme",), False),
        ([["acme"]], (), False),
        ([{"acme": True}], (), False),
        (7, ("7",), False),
        (True, ("true",), False),
        ("", (), False),
        ([], (), False),
        (None, (), False),
        (..., (), False),
    ],
    ids=str,
)
def test_the_tenant_is_a_text_or_those_of_a_list_or_the_names_of_an_object(org, found, fits):
    told = {} if org is ... else {"org": org}
    ours = provider(tenant_claim=("org",), tenants=frozenset({"acme"}))
    assert room.tenants(ours, told) == found
    if fits:
        room.check(ours, told)
    else:
        assert refusal(room.check, ours, told).reason is Reason.TENANT_NOT_ALLOWED


def test_a_provider_without_tenants_names_none_and_a_list_of_none_lets_none_in():
    assert room.tenants(provider(), {"": "acme", "tid": "acme"}) == ()
    assert refusal(room.check, provider(tenants=frozenset({"acme"})), {}).reason is Reason.TENANT_NOT_ALLOWED


APP_IF = (Condition(("idtyp",), "in", ("app",)), Condition(("sub",), "ends", ("@clients",)))


@pytest.mark.parametrize(
    ("app_if", "told", "kind"),
    [
        (APP_IF, {"idtyp": "app"}, "app"),
        (APP_IF, {"sub": "x@clients"}, "app"),
        (APP_IF, {"idtyp": "user", "sub": "u"}, "user"),
        (APP_IF, {}, "user"),
        (APP_IF, {"idtyp": ["app"]}, "user"),
        ((), {"idtyp": "app"}, ""),
    ],
)
@pytest.mark.parametrize("allowed", [None, {"user"}, {"app"}, {"user", "app"}])
def test_user_and_app_are_told_apart_by_the_providers_evidence(app_if, told, kind, allowed):
    """Without evidence neither is taken for granted."""
    ours = provider(app_if=app_if, subject_types=None if allowed is None else frozenset(allowed))
    assert room.subject_type(ours, told) == kind
    if allowed is None or kind in allowed:
        room.check(ours, told)
    else:
        assert refusal(room.check, ours, told).reason is Reason.SUBJECT_TYPE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("changes", "told", "detail"),
    [
        ({"clients": frozenset({"b", "a"})}, {"azp": "c"}, "the client is c; allowed is a or b"),
        ({"clients": frozenset({"a"})}, {}, "the client is not named; allowed is a"),
        ({"tenant_claim": ("o",), "tenants": frozenset("a")}, {"o": ["x", "y"]}, "the tenant is x, y; allowed is a"),
        ({"subject_types": frozenset({"app"})}, {}, "the subject type is not named; allowed is app"),
    ],
)
def test_the_operator_reads_what_was_found_and_what_is_allowed(changes, told, detail):
    assert refusal(room.check, provider(**changes), told).detail == detail


def test_demands_go_before_tenant_client_and_subject_type():
    told, order = {}, []
    ours = provider(
        demands=(FIRST,), tenants=frozenset({"t"}), clients=frozenset({"c"}), subject_types=frozenset({"user"})
    )
    for mended in ({"demands": ()}, {"tenants": None}, {"clients": None}):
        order.append(refusal(room.check, ours, told).reason)
        ours = replace(ours, **mended)
    assert order == [Reason.WRONG_TOKEN_TYPE, Reason.TENANT_NOT_ALLOWED, Reason.CLIENT_NOT_ALLOWED]
    assert refusal(room.check, ours, told).reason is Reason.SUBJECT_TYPE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"aud": ..., "client_id": "orders-api"}, Reason.ALLOWED),
        ({"aud": "orders-api", "client_id": "other"}, Reason.ALLOWED),
        ({"aud": "other", "client_id": "orders-api"}, Reason.WRONG_AUDIENCE),
        ({"aud": [], "client_id": "orders-api"}, Reason.WRONG_AUDIENCE),
        ({"aud": "", "client_id": "orders-api"}, Reason.WRONG_AUDIENCE),
        ({"aud": False, "client_id": "orders-api"}, Reason.WRONG_AUDIENCE),
        ({"aud": {"orders-api": True}}, Reason.WRONG_AUDIENCE),
        ({"aud": ["orders-api", ["x"]]}, Reason.WRONG_AUDIENCE),
        ({"aud": ..., "client_id": {"orders-api": True}}, Reason.WRONG_AUDIENCE),
        ({"aud": ...}, Reason.WRONG_AUDIENCE),
    ],
    ids=str,
)
def test_the_audience_may_stand_in_another_claim_where_there_is_no_aud(told, expected):
    cognito = provider(audience_claims=(("aud",), ("client_id",)))
    assert reason(token(**told), gate(providers=[cognito])) is expected


@pytest.mark.parametrize("strict", [frozenset({"at+jwt"}), frozenset({"", "jwt", "at+jwt"})], ids=["strict", "usual"])
@pytest.mark.parametrize("typ", ["at+jwt", "application/AT+JWT", "JWT", ..., "", None, ["at+jwt"], "dpop+jwt", True])
def test_the_type_in_the_header_is_one_that_the_provider_sends(strict, typ):
    read = {"at+jwt": "at+jwt", "application/AT+JWT": "at+jwt", "JWT": "jwt", ...: ""}
    spelled = read.get(typ) if isinstance(typ, str) or typ is ... else None
    found = reason(token({"typ": typ}), gate(providers=[provider(token_types=strict)]))
    assert found is (Reason.ALLOWED if spelled in strict else Reason.WRONG_TOKEN_TYPE)


@pytest.mark.parametrize(
    ("told", "as_usual", "where_id_tokens_are_all_there_is"),
    [
        ({"nonce": "n"}, Reason.WRONG_TOKEN_TYPE, Reason.ALLOWED),
        ({"at_hash": "h"}, Reason.WRONG_TOKEN_TYPE, Reason.ALLOWED),
        ({"c_hash": "h"}, Reason.WRONG_TOKEN_TYPE, Reason.ALLOWED),
        ({"typ": "ID"}, Reason.WRONG_TOKEN_TYPE, Reason.ALLOWED),
        ({"token_use": "id"}, Reason.WRONG_TOKEN_TYPE, Reason.ALLOWED),
        ({"typ": "Refresh"}, Reason.WRONG_TOKEN_TYPE, Reason.WRONG_TOKEN_TYPE),
        ({"typ": "Offline"}, Reason.WRONG_TOKEN_TYPE, Reason.WRONG_TOKEN_TYPE),
        ({"typ": "logout"}, Reason.WRONG_TOKEN_TYPE, Reason.WRONG_TOKEN_TYPE),
        ({"token_use": "refresh"}, Reason.WRONG_TOKEN_TYPE, Reason.WRONG_TOKEN_TYPE),
        ({"token_use": ["access"]}, Reason.WRONG_TOKEN_TYPE, Reason.WRONG_TOKEN_TYPE),
        ({"events": {}}, Reason.WRONG_TOKEN_TYPE, Reason.WRONG_TOKEN_TYPE),
        ({"events": None}, Reason.WRONG_TOKEN_TYPE, Reason.WRONG_TOKEN_TYPE),
        ({"cnf": {}}, Reason.BOUND_TOKEN, Reason.BOUND_TOKEN),
        ({"aud": "other"}, Reason.WRONG_AUDIENCE, Reason.WRONG_AUDIENCE),
        ({"exp": ...}, Reason.MISSING_CLAIM, Reason.MISSING_CLAIM),
        ({"exp": NOW - 3600}, Reason.EXPIRED, Reason.EXPIRED),
        ({}, Reason.ALLOWED, Reason.ALLOWED),
    ],
    ids=str,
)
def test_a_provider_of_id_tokens_gives_no_refresh_or_logout_token_a_way_in(
    told, as_usual, where_id_tokens_are_all_there_is
):
    assert reason(token(**told)) is as_usual
    assert reason(token(**told), gate(providers=[provider(id_tokens=True)])) is where_id_tokens_are_all_there_is


# Whom it speaks for --------------------------------------------------------------------------------------------------


def identity(told=None, **changes):
    return room.identity(provider(**changes), claims(**told or {}))


@pytest.mark.parametrize(
    ("told", "user"),
    [
        ({"uid": "00u1", "login": "ann"}, "00u1"),
        ({"login": "ann"}, "ann"),
        ({"uid": "", "login": "ann"}, "ann"),
        ({"uid": None, "login": "ann"}, "ann"),
        ({"uid": ["00u1"], "login": "ann"}, "ann"),
        ({"uid": 7, "login": "ann"}, "ann"),
        ({}, "u-1"),
    ],
)
def test_the_user_is_named_by_the_first_claim_that_does(told, user):
    assert identity(told, user_claims=(("uid",), ("login",), ("sub",))).user_id == user


def test_where_no_claim_names_the_user_the_operator_reads_which_were_looked_for():
    changes = {"user_claims": (("uid",), ("ext", "login"))}
    found = refusal(lambda: identity({}, **changes))
    assert (found.reason, found.detail) == (Reason.MISSING_CLAIM, "the token has no uid or ext.login to name the user")


@pytest.mark.parametrize("sub", [..., None, "", 7, True, ["u-1"], {"u-1": True}])
def test_a_token_without_sub_speaks_for_nobody_even_where_another_claim_names_the_user(sub):
    told = {name: value for name, value in claims(uid="u", sub=sub).items() if value is not ...}
    found = refusal(room.identity, provider(user_claims=(("uid",),)), told)
    assert (found.reason, found.detail) == (Reason.MISSING_CLAIM, "the token has no sub")


@pytest.mark.parametrize(
    ("told", "fits"),
    [
        ({"sub": "a" * MAX_USER_ID}, True),
        ({"sub": "a" * (MAX_USER_ID + 1)}, False),
        ({"sub": "a", "uid": "u" * MAX_USER_ID}, True),
        ({"sub": "a", "uid": "u" * (MAX_USER_ID + 1)}, False),
        ({"sub": "a" * (MAX_USER_ID + 1), "uid": "u"}, False),
    ],
)
def test_a_name_of_512_characters_is_the_longest(told, fits):
    changes = {"user_claims": (("uid",), ("sub",))}
    if fits:
        assert identity(told, **changes)
    else:
        assert refusal(lambda: identity(told, **changes)).reason is Reason.INVALID_CLAIM


def test_the_key_of_a_user_is_his_id_where_nothing_else_is_asked_for():
    assert identity({"sub": "a:b%"}).key == "a:b%"
    assert identity({"uid": "x"}, user_claims=(("uid",),)).key == "x"


def test_the_key_of_a_user_is_made_of_all_its_claims():
    found = identity({"tid": OURS, "oid": "o-1"}, key_claims=(("tid",), ("oid",)))
    assert (found.key, found.user_id) == (f"{OURS}:o-1", "u-1")


# Different users, and what each might say to be taken for another.
USERS = [
    {"sub": "s", "tid": tid, "oid": oid}
    for tid, oid in [
        ("a", "b"),
        ("a:b", "c"),
        ("a", "b:c"),
        ("a%3Ab", "c"),
        ("a%3ab", "c"),
        ("a%253Ab", "c"),
        ("a%", "3Ab:c"),
        ("a:", "b"),
        ("a", ":b"),
        ("%", ":"),
        (":", "%"),
        ("%3A", "%25"),
        ("a", "b\0"),
    ]
] + [
    {"sub": sub, "tid": "a", "oid": oid}
    for sub, oid in [
        ("a:b", None),
        ("a%3Ab", ""),
        (":a:b", None),
        ("b", []),
        ("%3Aa:b", {"b": True}),
        ("a%253Ab:c", ["b"]),
    ]
]


def test_no_two_users_share_a_key_whatever_they_are_called():
    keys = [identity(told, key_claims=(("tid",), ("oid",))).key for told in USERS]
    assert [(one, other) for one, other in combinations(keys, 2) if one == other] == []


def test_who_lacks_a_part_of_the_key_falls_back_to_his_id_and_never_to_anothers_key():
    changes = {"key_claims": (("oid",),), "user_claims": (("uid",), ("sub",))}
    ann, eve = identity({"oid": "x"}, **changes), identity({"uid": "x"}, **changes)
    assert ann.key == "x"
    assert eve.key.endswith("x")
    assert ann.key != eve.key
    assert identity({"uid": "y"}, **changes).key != eve.key


@pytest.mark.parametrize(
    ("sources", "told", "roles"),
    [
        pytest.param((), {"roles": ["a"]}, (), id="no source"),
        pytest.param((RoleClaim(("g",)),), {"g": ["a", "b", "a"]}, ("a", "b"), id="each once"),
        pytest.param(
            (RoleClaim(("realm_access", "roles")), RoleClaim(("resource_access", "api", "roles"), "api:")),
            {"realm_access": {"roles": ["a"]}, "resource_access": {"api": {"roles": ["a", "b"]}}},
            ("a", "api:a", "api:b"),
            id="Keycloak's two places, the second with a prefix",
        ),
        pytest.param((RoleClaim(("g",)), RoleClaim(("h",))), {"g": ["a"], "h": ["b", "a"]}, ("a", "b"), id="merged"),
        pytest.param((RoleClaim(("g",), "p:"),), {"g": ["", None, [], {}]}, (), id="a prefix alone is no role"),
        pytest.param((RoleClaim(("g",), "p:"),), {"g": {"a": {"o": 1}, "b": False}}, ("p:a",), id="an object"),
        pytest.param((RoleClaim(("g",)),), {"g": {"admin": False, "x": {"admin": True}}}, ("x",), id="no inner name"),
        pytest.param((RoleClaim(("g",)),), {"g": [["admin"], {"admin": True}]}, (), id="nothing within a list"),
        pytest.param((RoleClaim(("g", "admin")),), {"g": ["admin"]}, (), id="a list is no object"),
        pytest.param((RoleClaim(("g",)),), {"g": "admin user"}, ("admin user",), id="a text is one role"),
        pytest.param((RoleClaim(("scope",), "s:"),), {"scope": " a  b a"}, ("s:a", "s:b"), id="scopes are split"),
        pytest.param((RoleClaim(("x", "scp")),), {"x": {"scp": "a b"}}, ("a", "b"), id="deeper scopes too"),
        pytest.param((RoleClaim(("scp",)),), {"scp": ["a", "b"]}, ("a", "b"), id="scopes as a list"),
        pytest.param((RoleClaim(("g",)),), {"g": [True, 1, 1.5]}, ("true", "1", "1.5"), id="numbers and booleans"),
    ],
)
def test_roles_of_all_places_are_one_list(sources, told, roles):
    assert identity(told, roles=sources).roles == roles


@pytest.mark.parametrize(
    ("sources", "scoped"),
    [
        ((RoleClaim(("scope",)),), True),
        ((RoleClaim(("scope",)), RoleClaim(("scp",))), True),
        ((RoleClaim(("scope",)), RoleClaim(("roles",))), False),
        ((), False),
    ],
)
def test_roles_are_scopes_only_where_all_of_them_are(sources, scoped):
    assert identity(roles=sources).scoped is scoped


@pytest.mark.parametrize(
    ("told", "incomplete"),
    [
        ({}, False),
        ({"_claim_names": {"groups": "src1"}}, True),
        ({"_claim_names": {"roles": "src1"}}, False),
        ({"_claim_names": "groups"}, False),
        ({"hasgroups": True}, True),
        ({"hasgroups": "true"}, True),
        ({"hasgroups": False}, False),
        ({"hasgroups": [True]}, False),
    ],
    ids=str,
)
def test_an_overage_of_groups_is_seen(told, incomplete):
    overage = (Condition(("_claim_names", "groups")), Condition(("hasgroups",), "in", ("true",)))
    assert identity(told, overage_if=overage).roles_incomplete is incomplete
    assert not identity(told).roles_incomplete


def test_an_identity_tells_all_that_rules_ask_about():
    told = {"azp": "web", "org": {"acme": {}, "evil": False}, "scope": "a", "scp": ["b"], "amr": ["pwd", "mfa"]}
    found = identity(told, tenant_claim=("org",), app_if=APP_IF)
    assert (found.client, found.tenants, found.scopes) == ("web", ("acme",), ("a", "b"))
    assert (found.subject_type, found.mfa, found.roles_incomplete) == ("user", True, False)


@pytest.mark.parametrize("amr", [..., None, [], ["pwd"], "pwd", "mfa pwd", [["mfa"]], {"mfa": False}, True, ["MFA"]])
def test_a_second_factor_is_never_assumed(amr):
    assert not room.identity(provider(), {"sub": "u", "amr": amr}).mfa
