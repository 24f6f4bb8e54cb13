"""Rules: which one governs, who is admitted, what is never reached."""

from dataclasses import replace

import pytest

from authsvc.core import rbac
from authsvc.core.claims import Condition
from authsvc.core.model import Identity, Reason, Refused
from authsvc.core.provider import Strength
from authsvc.core.rbac import Asks, Policy, rule


def governing(rules, method, path, deny_by_default=False):
    return rbac.rule_for(Policy(tuple(rules), deny_by_default), method, path).name


def person(*roles, scoped=False):
    return Identity("main", "u-1", "", roles, {}, scoped)


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/", "/", True),
        ("/", "/a", False),
        ("/*", "/", True),
        ("/*", "/a/b/c", True),
        ("/admin", "/admin", True),
        ("/admin/", "/admin", True),
        ("/admin", "/admin/x", False),
        ("/admin", "/administrator", False),
        ("/admin", "/Admin", False),
        ("/admin/*", "/admin", True),
        ("/admin/*", "/admin/x", True),
        ("/admin/*", "/admin/x/y", True),
        ("/admin/*", "/administrator", False),
        ("/admin/*", "/", False),
        ("/*/x", "/a/x", True),
        ("/*/x", "/x", False),
        ("/*/x", "/a/b/x", False),
        ("/*/x/*", "/a/x/y", True),
        ("/a/*/c", "/a/b/c", True),
        ("/a/*/c", "/a/*/c", True),
        ("/a/b", "/a/*", False),
        ("/café", "/café", True),
    ],
)
def test_a_pattern_fits_whole_segments(pattern, path, fits):
    only = rule(pattern, None, ["r"])
    assert (governing([only], "GET", path) == only.name) is fits


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("admin", "starts with /"),
        ("", "starts with /"),
        ("//admin", "no empty segment"),
        ("/admin/*/", "nothing after"),
        ("//", "no empty segment"),
        ("/a//b", "no empty segment"),
        ("/a/../b", "names or a"),
        ("/./a", "names or a"),
        ("/a*", "names or a"),
        ("/**", "names or a"),
        ("/a%20b", "written decoded"),
        ("/a?x", "written decoded"),
        ("/a#x", "written decoded"),
        ("/a;x", "written decoded"),
        ("/a\\b", "written decoded"),
        ("/a\nb", "written decoded"),
        ("/cafe\u0301", "Unicode NFC"),
    ],
)
def test_a_pattern_that_could_never_mean_what_it_says_is_refused(pattern, problem):
    with pytest.raises(ValueError, match=problem):
        rule(pattern, None, None)


def test_the_first_rule_that_fits_method_and_path_governs():
    rules = [rule("/a", ["GET"], []), rule("/a", ["POST"], ["w"]), rule("/*", None, ["any"])]
    assert [governing(rules, m, "/a") for m in ("GET", "POST", "PUT")] == ["GET /a", "POST /a", "/*"]


def test_a_rule_for_get_governs_head():
    assert governing([rule("/a", ["GET"], ["r"])], "HEAD", "/a") == "GET /a"


def test_a_rule_for_post_does_not_govern_head():
    with pytest.raises(Refused) as refused:
        governing([rule("/a", ["POST"], ["r"])], "HEAD", "/a")
    assert refused.value.reason is Reason.METHOD_NOT_ALLOWED


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "DELETE", "TRACE", "CONNECT", "GETX"])
def test_a_rule_for_get_leaves_no_other_method_open(method):
    with pytest.raises(Refused) as refused:
        governing([rule("/a", ["GET"], [])], method, "/a")
    assert refused.value.reason is Reason.METHOD_NOT_ALLOWED


def test_a_path_without_a_rule_needs_an_identity_and_no_role():
    default = rbac.rule_for(Policy(()), "GET", "/x")
    assert (default.public, default.roles, default.name) == (False, None, "default")


def test_a_path_without_a_rule_is_refused_where_the_default_is_deny():
    with pytest.raises(Refused) as refused:
        governing([rule("/a", None, [])], "GET", "/b", deny_by_default=True)
    assert refused.value.reason is Reason.NO_RULE


@pytest.mark.parametrize(
    ("wanted", "has", "admitted"),
    [
        (None, (), True),
        (["admin"], ("admin",), True),
        (["admin", "ops"], ("x", "ops"), True),
        (["admin"], (), False),
        (["admin"], ("Admin",), False),
        (["admin"], ("admin ",), False),
        (["admin"], ("a", "administrator"), False),
        (["admin,ops"], ("admin", "ops"), False),
    ],
)
def test_one_of_the_wanted_roles_is_enough_and_needed(wanted, has, admitted):
    governing_rule = rule("/a", None, wanted)
    if admitted:
        rbac.admit(governing_rule, person(*has))
    else:
        with pytest.raises(Refused) as refused:
            rbac.admit(governing_rule, person(*has))
        assert refused.value.reason is Reason.ROLE_REQUIRED


def test_a_missing_scope_has_a_reason_of_its_own():
    with pytest.raises(Refused) as refused:
        rbac.admit(rule("/a", None, ["orders:read"]), person("openid", scoped=True))
    assert refused.value.reason is Reason.INSUFFICIENT_SCOPE


@pytest.mark.parametrize("method", ["get", "Get", "", "G T", "GET\n", "1GET", "GÉT", "A" * 33, "GET,POST"])
def test_a_method_is_a_short_word_in_capitals(method):
    assert not rbac.METHOD.fullmatch(method)


@pytest.mark.parametrize("method", ["GET", "M-SEARCH", "PROPFIND", "VERSION_CONTROL", "A" * 32])
def test_unusual_methods_are_methods(method):
    assert rbac.METHOD.fullmatch(method)


# What a rule asks for beside roles -----------------------------------------------------------------------------------


def caller(**changes):
    """One who meets all of ASKS, but for these changes."""
    good = {
        "provider": "main", "tenants": ("acme",), "client": "web", "roles": ("admin",), "scopes": ("a", "b", "x"),
        "claims": {"dept": "it", "plan": "gold"},
    }  # fmt: skip
    return Identity(**{"user_id": "u-1", "email": "", **good, **changes})


ASKS = Asks(
    any_scope=("x", "y"),
    all_scopes=("a", "b"),
    providers=("main", "other"),
    tenants=("acme", "umbrella"),
    clients=("web", "app"),
    require=(Condition(("dept",), "in", ("it", "hr")), Condition(("plan",))),
)


def refusal_of(asks, who, roles=("admin",)):
    with pytest.raises(Refused) as refused:
        rbac.admit(rule("/a", None, roles, asks), who)
    return refused.value.reason, refused.value.detail


def test_who_meets_all_that_a_rule_asks_for_is_admitted():
    rbac.admit(rule("/a", None, ["admin"], ASKS), caller())


def test_a_rule_that_asks_for_nothing_admits_anyone():
    nobody = caller(tenants=(), client="", roles=(), scopes=(), claims={})
    rbac.admit(rule("/a", None, None), nobody)
    rbac.admit(rule("/a", None, [], Asks()), nobody)


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        (
            {"provider": "evil"},
            Reason.PROVIDER_NOT_ALLOWED,
            "the rule asks for the provider main or other; the caller's is evil",
        ),
        ({"provider": "Main"}, Reason.PROVIDER_NOT_ALLOWED, None),
        (
            {"tenants": ("evil", "corp")},
            Reason.TENANT_NOT_ALLOWED,
            "the rule asks for the tenant acme or umbrella; the caller's is evil, corp",
        ),
        (
            {"tenants": ()},
            Reason.TENANT_NOT_ALLOWED,
            "the rule asks for the tenant acme or umbrella; the caller's is none",
        ),
        ({"tenants": ("acme,umbrella",)}, Reason.TENANT_NOT_ALLOWED, None),
        (
            {"client": "evil"},
            Reason.CLIENT_NOT_ALLOWED,
            "the rule asks for the client web or app; the caller's is evil",
        ),
        ({"client": ""}, Reason.CLIENT_NOT_ALLOWED, "the rule asks for the client web or app; the caller's is none"),
        ({"roles": ("user",)}, Reason.ROLE_REQUIRED, "the rule asks for admin; the caller has user"),
        ({"roles": ()}, Reason.ROLE_REQUIRED, "the rule asks for admin; the caller has no role"),
        (
            {"scopes": ("a", "y")},
            Reason.INSUFFICIENT_SCOPE,
            "the rule asks for the scope b; the token has a, y",
        ),
        (
            {"scopes": ("a", "b")},
            Reason.INSUFFICIENT_SCOPE,
            "the rule asks for the scope x or y; the token has a, b",
        ),
        (
            {"scopes": ()},
            Reason.INSUFFICIENT_SCOPE,
            "the rule asks for the scope a and b and x or y; the token has no scope",
        ),
        ({"scopes": ("a b x",)}, Reason.INSUFFICIENT_SCOPE, None),
        ({"claims": {"plan": "gold"}}, Reason.CLAIM_REQUIRED, "the rule asks that dept is it or hr"),
        ({"claims": {"dept": "it"}}, Reason.CLAIM_REQUIRED, "the rule asks that plan is there"),
        ({"claims": {"dept": ["it"], "plan": 1}}, Reason.CLAIM_REQUIRED, "the rule asks that dept is it or hr"),
        ({"claims": {"dept": "it", "plan": None}}, Reason.CLAIM_REQUIRED, "the rule asks that plan is there"),
    ],
    ids=str,
)
def test_each_thing_that_a_rule_asks_for_is_needed(changes, reason, detail):
    found = refusal_of(ASKS, caller(**changes))
    assert found == (reason, found[1] if detail is None else detail)


@pytest.mark.parametrize(
    ("asks", "scopes", "admitted"),
    [
        (Asks(any_scope=("a", "b")), ("b", "c"), True),
        (Asks(any_scope=("a", "b")), ("c",), False),
        (Asks(any_scope=("a",)), ("A",), False),
        (Asks(any_scope=("a",)), ("a:b", "ab"), False),
        (Asks(all_scopes=("a", "b")), ("b", "a"), True),
        (Asks(all_scopes=("a", "b")), ("b", "c"), False),
        (Asks(all_scopes=("a",), any_scope=("b", "c")), ("a", "c"), True),
        (Asks(all_scopes=("a",), any_scope=("b", "c")), ("b", "c"), False),
        (Asks(all_scopes=("a",), any_scope=("b", "c")), ("a",), False),
    ],
    ids=str,
)
def test_of_some_scopes_one_is_enough_and_of_others_all_are_needed(asks, scopes, admitted):
    who = caller(scopes=scopes)
    if admitted:
        rbac.admit(rule("/a", None, None, asks), who)
    else:
        assert refusal_of(asks, who, None)[0] is Reason.INSUFFICIENT_SCOPE


def test_roles_are_no_scopes_and_scopes_no_roles():
    assert refusal_of(Asks(any_scope=("admin",)), caller(scopes=()), None)[0] is Reason.INSUFFICIENT_SCOPE
    assert refusal_of(Asks(), caller(roles=(), scopes=("admin",)))[0] is Reason.ROLE_REQUIRED


def test_what_lacks_is_told_in_one_order():
    """From what says most about the caller to what he may get by asking for another token."""
    who = caller(provider="evil", tenants=(), client="", roles=(), scopes=(), claims={})
    found = []
    for mended in ("provider", "tenants", "client", "roles", "scopes"):
        found.append(refusal_of(ASKS, who)[0])
        who = replace(who, **{mended: getattr(caller(), mended)})
    assert found == [
        Reason.PROVIDER_NOT_ALLOWED,
        Reason.TENANT_NOT_ALLOWED,
        Reason.CLIENT_NOT_ALLOWED,
        Reason.ROLE_REQUIRED,
        Reason.INSUFFICIENT_SCOPE,
    ]
    assert refusal_of(ASKS, who)[0] is Reason.CLAIM_REQUIRED


@pytest.mark.parametrize("scoped", [True, False])
def test_where_groups_are_missing_from_the_token_a_lack_of_roles_is_told_as_that(scoped):
    who = caller(roles=("user",), roles_incomplete=True, scoped=scoped)
    assert refusal_of(Asks(), who) == (
        Reason.GROUPS_OVERAGE,
        "the rule asks for admin; the token could not hold all groups",
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"provider": "evil"}, Reason.PROVIDER_NOT_ALLOWED),
        ({"scopes": ()}, Reason.INSUFFICIENT_SCOPE),
        ({"claims": {}}, Reason.CLAIM_REQUIRED),
    ],
)
def test_missing_groups_are_no_excuse_for_anything_else(changes, reason):
    assert refusal_of(ASKS, caller(roles_incomplete=True, **changes))[0] is reason


def test_who_has_the_role_is_admitted_though_groups_are_missing():
    rbac.admit(rule("/a", None, ["admin"]), caller(roles_incomplete=True))
    rbac.admit(rule("/a", None, None), caller(roles=(), roles_incomplete=True))


def test_how_strongly_the_caller_signed_in_is_not_the_matter_of_admit():
    rbac.admit(rule("/a", None, None, Asks(strength=Strength(("gold",), True, 0))), caller())
