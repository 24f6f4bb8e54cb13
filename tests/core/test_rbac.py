"""Rules: which one governs, who is admitted, what is never reached."""

import pytest

from authsvc.core import rbac
from authsvc.core.model import Identity, Reason, Refused
from authsvc.core.rbac import Policy, rule


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


@pytest.mark.parametrize(
    ("earlier", "later", "covering"),
    [
        ([("/*", None)], ("/a", None), 0),
        ([("/*", None)], ("/a", ["GET"]), 0),
        ([("/a/*", None)], ("/a", None), 0),
        ([("/a/*", None)], ("/a/b/*", None), 0),
        ([("/a", None)], ("/a/*", None), None),
        ([("/*/b", None)], ("/a/b", None), 0),
        ([("/a/b", None)], ("/*/b", None), None),
        ([("/a", ["GET"])], ("/a", None), None),
        ([("/a", ["GET"])], ("/a", ["POST"]), None),
        ([("/a", ["GET"])], ("/a", ["HEAD"]), 0),
        ([("/a", ["GET"]), ("/a", ["POST"])], ("/a", ["GET", "POST"]), 1),
        ([("/a", ["GET"]), ("/b", ["POST"])], ("/a", ["GET", "POST"]), None),
        ([("/a", ["GET"]), ("/a", None)], ("/a", ["GET", "POST"]), 1),
        ([], ("/a", None), None),
    ],
)
def test_a_rule_that_never_matches_is_found(earlier, later, covering):
    rules = [rule(path, methods, ["r"]) for path, methods in earlier]
    found = rbac.covered_by(rule(*later, ["r"]), rules)
    assert found == (None if covering is None else rules[covering])
