"""The tree finds what a search through all rules in their order would, and meets few of them."""

from collections import Counter
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authsvc.core import paths, rbac, ruletree
from authsvc.core.model import Reason, Refused
from authsvc.core.rbac import Policy, Rule, rule


def said(policy, method, path):
    """The rule that governs, or why none does."""
    try:
        return rbac.rule_for(policy, method, path)
    except Refused as refused:
        return refused.reason


def searched(policy, method, path):
    """The same by the plain search through all rules that the tree is in place of."""
    parts = tuple(path.strip("/").split("/")) if path != "/" else ()
    fitting = [one for one in policy.rules if fits(one, parts)]
    for one in fitting:
        if one.methods is None or method in one.methods:
            return one
    if fitting:
        return Reason.METHOD_NOT_ALLOWED
    return Reason.NO_RULE if policy.deny_by_default else rbac.DEFAULT


def fits(one, parts):
    size = len(one.segments)
    if len(parts) != size and not (one.below and len(parts) > size):
        return False
    return all(want in ("*", part) for want, part in zip(one.segments, parts, strict=False))


# The same as a search ------------------------------------------------------------------------------------------------

METHODS = ["GET", "HEAD", "POST", "PUT"]
few_names = st.sampled_from(["a", "b", "*"])
any_name = st.one_of(few_names, st.text(max_size=3))
any_methods = st.one_of(st.none(), st.frozensets(st.sampled_from(METHODS)))  # none at all too: it governs, for nobody


def policies(names, most):
    segments = st.lists(names, max_size=most).map(tuple)
    one = st.builds(Rule, st.just("r"), segments, st.booleans(), any_methods, st.none())
    numbered = st.lists(one, max_size=12).map(lambda rules: tuple(replace(r, name=str(n)) for n, r in enumerate(rules)))
    return st.builds(Policy, numbered, st.booleans())


@settings(deadline=None)
@given(policy=policies(few_names, 4), method=st.sampled_from(METHODS), path=st.lists(few_names, max_size=6))
@example(Policy((Rule("0", ("a",), False, frozenset(), None),)), "GET", ["a"])
def test_the_tree_and_a_search_agree(policy, method, path):
    path = "/" + "/".join(path)
    assert said(policy, method, path) == searched(policy, method, path)


@settings(deadline=None)
@given(policy=policies(any_name, 3), method=st.one_of(st.sampled_from(METHODS), st.text()), path=st.text())
@example(Policy((Rule("0", ("",), False, None, None),)), "GET", "")
@example(Policy((Rule("0", ("", ""), True, None, None),)), "GET", "a//b")
def test_they_agree_on_names_methods_and_paths_that_nobody_would_write(policy, method, path):
    assert said(policy, method, path) == searched(policy, method, path)


@settings(deadline=None)
@given(policy=policies(any_name, 3), method=st.sampled_from(METHODS), rest=st.lists(any_name, max_size=3))
def test_they_agree_on_paths_made_from_the_rules(policy, method, rest):
    for one in policy.rules:
        path = "/".join(["", *one.segments, *rest])
        assert said(policy, method, path) == searched(policy, method, path)


@pytest.mark.parametrize(
    ("rules", "call", "governing"),
    [
        pytest.param(["/*/b", "/a/b"], "GET /a/b", 0, id="a * that comes first wins over a name"),
        pytest.param(["/a/b", "/*/b"], "GET /a/b", 0, id="a name that comes first wins over a *"),
        pytest.param(["/a/x", "/*/b"], "GET /a/b", 1, id="a name that leads nowhere does not hide a *"),
        pytest.param(["/a/*/c", "/a/b/d"], "GET /a/b/c", 0, id="nor one segment further on"),
        pytest.param(["/*", "/a/b/c"], "GET /a/b/c", 0, id="a wide rule that comes first wins over a deep one"),
        pytest.param(["/a/b/c", "/*"], "GET /a/b/c", 0, id="a deep rule that comes first wins over a wide one"),
        pytest.param(["/a/*", "/a"], "GET /a", 0, id="below or itself, first"),
        pytest.param(["/a", "/a/*"], "GET /a", 0, id="itself, first"),
        pytest.param(["/a", "/a/*"], "GET /a/b", 1, id="itself is not below"),
        pytest.param(["/*/*"], "GET /", Reason.NO_RULE, id="a * and a final * are one segment or more"),
        pytest.param(["/*/*"], "GET /a", 0, id="one segment is enough for a * and a final *"),
        pytest.param(["/*/b/*"], "GET /*/b/*", 0, id="a path spelled with *"),
        pytest.param(["/a/b"], "GET /a/*", Reason.NO_RULE, id="a * in a path stands for nothing"),
        pytest.param(["/a/*/c", "/a/x/c"], "GET /a/*/c", 0, id="a * in a path is one name among others"),
        pytest.param(["GET /a", "POST /a"], "POST /a", 1, id="two rules of one pattern for two methods"),
        pytest.param(["GET /a", "GET,POST /a"], "GET /a", 0, id="two rules of one pattern for one method"),
        pytest.param(["GET,POST /a", "/a"], "PUT /a", 1, id="all methods after some"),
        pytest.param(["/a", "GET /a"], "GET /a", 0, id="some methods after all"),
        pytest.param(["GET /a", "/*"], "POST /a", 1, id="another pattern governs the other methods"),
        pytest.param(["GET /a", "POST /b"], "POST /a", Reason.METHOD_NOT_ALLOWED, id="governed, not for this method"),
        pytest.param(["GET /a/*", "GET /*/b"], "PUT /a/b", Reason.METHOD_NOT_ALLOWED, id="governed twice, not for it"),
        pytest.param(["GET /a"], "HEAD /a", 0, id="HEAD needs what GET needs"),
        pytest.param(["HEAD /a", "GET /a"], "HEAD /a", 0, id="but for an earlier rule of its own"),
        pytest.param(["HEAD /a"], "GET /a", Reason.METHOD_NOT_ALLOWED, id="a rule for HEAD does not govern GET"),
        pytest.param([" /a"], "GET /a", Reason.METHOD_NOT_ALLOWED, id="a rule for no method shuts its path"),
        pytest.param(["/"], "GET /a", Reason.NO_RULE, id="the root alone"),
        pytest.param(["/*"], "GET /a/b/c", 0, id="the root and all below"),
        pytest.param(["/a/b/c"], "GET /a/b", Reason.NO_RULE, id="a path that ends before the rule does"),
        pytest.param(["/a/b"], "GET /a/b/c", Reason.NO_RULE, id="a path that goes on after the rule"),
        pytest.param(["/a/b"], "GET /a/b/c/d/e", Reason.NO_RULE, id="far on"),
        pytest.param([], "GET /", Reason.NO_RULE, id="no rule, the root"),
        pytest.param([], "GET /a/b", Reason.NO_RULE, id="no rule"),
    ],
)
def test_the_first_rule_that_fits_governs(rules, call, governing):
    made = [written(one) for one in rules]
    policy = Policy(tuple(made), deny_by_default=True)
    found = said(policy, *call.split(" "))
    assert found == searched(policy, *call.split(" "))
    assert found is (made[governing] if isinstance(governing, int) else governing)


def written(text):
    methods, _, path = text.rpartition(" ")
    return rule(path, None if text == path else [name for name in methods.split(",") if name], ["r"])


def test_a_policy_is_its_rules_and_its_default():
    rules = (rule("/a", None, None),)
    assert Policy(rules) == Policy(rules)
    assert Policy(rules) != Policy(rules, True)
    assert "tree" not in repr(Policy(rules))


def test_a_changed_policy_has_a_tree_of_its_own():
    changed = replace(Policy((rule("/a", None, None),)), rules=(rule("/b", None, None),))
    assert [said(changed, "GET", path).name for path in ("/a", "/b")] == ["default", "/b"]


# How many are met ----------------------------------------------------------------------------------------------------


class Watched(dict):
    """The names of a node, which tell at which depth they were asked for one."""

    def __init__(self, named, depth, met):
        super().__init__(named)
        self.depth, self.met = depth, met

    def get(self, name, default=None):
        self.met[self.depth] += 1
        return super().get(name, default)


def nodes(root):
    """Each node with its depth."""
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        children = [*node.named.values(), *([node.star] if node.star else [])]
        waiting += [(child, depth + 1) for child in children]


def met(rules, *calls):
    """How many nodes at each depth are asked where such a call goes on."""
    tree, found = ruletree.grown(rules), Counter()
    for node, depth in list(nodes(tree.root)):
        node.named = Watched(node.named, depth, found)
    for method, path in calls:
        ruletree.firsts(tree, method, path)
    return found


def placements(rules, depth):
    """In how many ways `*` is placed among the first segments of rules."""
    return len({tuple(part == "*" for part in one.segments[:depth]) for one in rules if len(one.segments) >= depth})


def ordinary(number):
    """Rules as people write them: for services, their resources, what lies below, and a rest."""
    shapes = ("GET /api/s{}/orders", "GET,POST /api/s{}/*/items", "/api/s{}/admin/*", "/team{}/*")
    rest = ["GET /api/*", "/health"]
    return [written(shapes[n % 4].format(n // 4)) for n in range(number - len(rest))] + [written(one) for one in rest]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/s0/orders"),
        ("GET", "/api/s1/17/items"),
        ("PUT", "/api/s1/admin/a/b/c"),
        ("DELETE", "/api/s0/orders"),
        ("GET", "/health"),
        ("GET", "/of/no/rule"),
        ("GET", "/"),
    ],
)
def test_ten_thousand_rules_cost_what_ten_do(method, path):
    few, many = ordinary(10), ordinary(10_000)
    assert met(few, (method, path)) == met(many, (method, path))
    assert met(many, (method, path)).total() <= 6


def test_ten_thousand_rules_of_one_pattern_are_one_table():
    rules = [rule("/a/*/c", [f"M{number}"], None) for number in range(10_000)]
    assert rbac.rule_for(Policy(tuple(rules)), "M9999", "/a/b/c") is rules[-1]
    assert len(list(nodes(ruletree.grown(rules).root))) == 4
    assert met(rules, ("M9999", "/a/b/c")) == {0: 1, 1: 1, 2: 1}


def every_placement():
    """`a` or `*` in each of 13 segments in every way, and longer ones with a `*` at many depths."""
    every = [rule("/" + "/".join(parts), ["GET"], None) for parts in product("a*", repeat=13)]
    longer = [["*" if (depth + n) % 3 else "a" for depth in range(14 + n % 50)] for n in range(10_000 - len(every))]
    return every + [rule("/" + "/".join(parts), ["GET"], None) for parts in longer]


def no_two_alike():
    """Long rules, each with its `*` where no other has them."""
    chance = Random(7)
    return [rule("/" + "/".join(chance.choices("a*", k=30)), ["GET"], None) for _ in range(1_000)]


@pytest.fixture(scope="module", params=[every_placement, no_two_alike])
def hostile(request):
    rules = request.param()
    height = max(len(one.segments) for one in rules)
    return Policy(tuple(rules)), [placements(rules, depth) for depth in range(height + 1)]


LONGEST = "/a" * (paths.MAX_TARGET // 2)


@pytest.mark.parametrize(
    "path", [LONGEST, LONGEST.replace("a", "x"), "/a" * 12 + "/x", "/a" * 30, "/a/x" * 20], ids=len
)
def test_no_path_meets_more_nodes_than_there_are_ways_to_place_a_star(hostile, path):
    policy, ways = hostile
    found = met(policy.rules, ("POST", path))
    assert all(count <= min(2**depth, ways[depth]) for depth, count in found.items())
    assert found.total() <= sum(len(one.segments) for one in policy.rules)  # what comparing each of them would look at
    assert said(policy, "POST", path) == searched(policy, "POST", path)
    assert said(policy, "GET", path) == searched(policy, "GET", path)


@settings(deadline=None)
@given(policy=policies(few_names, 5), method=st.sampled_from(METHODS), path=st.lists(few_names, max_size=7))
def test_of_any_rules_no_more_are_met_than_there_are_ways_to_place_a_star(policy, method, path):
    found = met(policy.rules, (method, "/" + "/".join(path)))
    assert all(count <= max(1, placements(policy.rules, depth)) for depth, count in found.items())


def test_a_long_path_is_followed_no_further_than_the_rules_reach():
    assert met([rule("/a/*", None, None), rule("/*/b", None, None)], ("GET", LONGEST)) == {0: 1, 1: 2}
    assert met([rule("/*", None, None)], ("GET", LONGEST)) == {0: 1}
    assert met([], ("GET", LONGEST)) == {0: 1}


def test_a_rule_may_be_as_long_as_a_path():
    longest = rule(LONGEST, None, None)
    assert rbac.rule_for(Policy((longest,), True), "GET", LONGEST) is longest
