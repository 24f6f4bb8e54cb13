"""Who decides in place of whom is found in the tree as it is by comparing each rule with each before it."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.core import ruletree
from authsvc.core.rbac import Rule, rule
from authsvc.core.rulecover import coverer, crowding, takers


def covers(wide, narrow):
    """Whether every path that `narrow` matches is matched by `wide`."""
    size = len(wide.segments)
    fits = len(narrow.segments) >= size if wide.below else len(narrow.segments) == size and not narrow.below
    return fits and all(w in ("*", n) for w, n in zip(wide.segments, narrow.segments, strict=False))


def compared_coverer(rules, number):
    """The oracle: each rule against each before it, in their order."""
    left = rules[number].methods
    for place, one in enumerate(rules[:number]):
        if not covers(one, rules[number]):
            continue
        if one.methods is None:
            return place
        left = None if left is None else left - one.methods
        if left is not None and not left:
            return place
    return None


def compared_takers(rules, number):
    later = rules[number]
    takes = [
        one.methods is not None
        and one.segments != later.segments
        and covers(one, later)
        and (later.methods is None or bool(one.methods & later.methods))
        for one in rules[:number]
    ]
    return [place for place, does in enumerate(takes) if does]


METHODS = ["GET", "HEAD", "POST", "PUT"]
names = st.sampled_from(["a", "b", "*"])
some_methods = st.one_of(st.none(), st.frozensets(st.sampled_from(METHODS), min_size=1, max_size=2))
one_rule = st.builds(Rule, st.just("r"), st.lists(names, max_size=4).map(tuple), st.booleans(), some_methods, st.none())


@settings(deadline=None, max_examples=500)
@given(st.lists(one_rule, max_size=25))
def test_the_rule_that_covers_another_is_the_one_that_comparing_finds(rules):
    tree = ruletree.grown(rules)
    for number, one in enumerate(rules):
        assert coverer(tree, one, number) == compared_coverer(rules, number)


@settings(deadline=None, max_examples=500)
@given(st.lists(one_rule, max_size=25))
def test_of_rules_that_can_govern_those_that_decide_some_methods_are_those_that_comparing_finds(rules):
    rules = [one for number, one in enumerate(rules) if compared_coverer(rules, number) is None]
    tree = ruletree.grown(rules)
    for number in range(len(rules)):
        assert takers(tree, rules, number) == compared_takers(rules, number)


def test_a_rule_for_no_method_covers_nothing_and_is_covered_by_nothing():
    rules = [rule("/a", [], None), rule("/a", ["GET"], None), rule("/*", [], None)]
    tree = ruletree.grown(rules)
    assert [coverer(tree, one, number) for number, one in enumerate(rules)] == [None] * 3
    assert [takers(tree, rules, number) for number in range(3)] == [[]] * 3


def test_ten_thousand_rules_for_one_path_are_one_table():
    """Ends are looked at, not rules: else this would be a hundred million comparisons."""
    rules = [rule("/a", [f"M{number}"], None) for number in range(10_000)]
    tree = ruletree.grown(rules)
    assert not any(coverer(tree, one, number) for number, one in enumerate(rules))
    assert not any(takers(tree, rules, number) for number in range(10_000))


def test_ten_thousand_ordinary_rules_are_each_met_by_few():
    rules = [rule(f"/api/{area}/*/{name}", ["GET"], None) for area, name in product(range(100), range(100))]
    tree = ruletree.grown([*rules, rule("/api/*", None, None)])
    assert {coverer(tree, one, number) for number, one in enumerate(rules)} == {None}


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
    rules = [rule(path, methods, ["r"]) for path, methods in [*earlier, later]]
    assert coverer(ruletree.grown(rules), rules[-1], len(earlier)) == covering


@pytest.mark.parametrize(
    ("earlier", "later", "takes"),
    [
        pytest.param(("/api/*", ["GET"]), ("/api/admin/*", None), True, id="GET of a wider path"),
        pytest.param(("/api/*", ["GET"]), ("/api/admin/*", ["GET", "POST"]), True, id="one of two methods"),
        pytest.param(("/api/*", ["GET"]), ("/api/admin/*", ["POST"]), False, id="another method"),
        pytest.param(("/api/*", None), ("/api/admin/*", None), False, id="all methods: then it can never match"),
        pytest.param(("/api/admin/*", ["GET"]), ("/api/*", None), False, id="a narrower path"),
        pytest.param(("/x/*", ["GET"]), ("/api/*", None), False, id="another path"),
    ],
)
def test_an_earlier_rule_may_decide_some_methods_of_a_later(earlier, later, takes):
    rules = [rule(path, methods, ["r"]) for path, methods in (earlier, later)]
    assert takers(ruletree.grown(rules), rules, 1) == ([0] if takes else [])


def test_the_rule_is_found_with_which_a_call_could_meet_too_many_nodes():
    every = [rule("/" + "/".join(parts), None, None) for parts in product("a*", repeat=8)]  # 502 ways
    number = crowding(every, 256)
    assert number is not None
    assert crowding(every[:number], 256) is None
    assert crowding(every, 502) is None
    assert crowding([rule("/a" * 4000, None, None), rule("/*" * 256, None, None)], 256) is None
