"""Which rules decide in place of later ones: found in the tree of all rules, not by comparing each with each.

A rule covers another where it fits every path of that one. Who covers a rule stands in the tree along its own segments,
where a `*` of the rule is met by a `*` only. Comparing each with each took two minutes for 10,000 rules; this takes a
tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from authsvc.core.rbac import Rule
from authsvc.core.ruletree import NEVER, End, Tree


def coverer(tree: Tree, rule: Rule, number: int) -> int | None:
    """The number of the earlier rule because of which this one, of this number, never governs; `None` where it may.

    Where several together cover its methods, the last of them.
    """
    ends = _covering(tree, rule)
    wanted: Iterable[str | None] = (None,) if rule.methods is None else rule.methods
    last = max((_first(ends, method) for method in wanted), default=number)
    return last if last < number else None


def takers(tree: Tree, rules: Sequence[Rule], number: int) -> list[int]:
    """The earlier rules of other patterns that decide some methods of this one, on all of its paths.

    Of rules that can govern at all: of two that say the same, the first is found.
    """
    rule = rules[number]
    ends = [end for end in _covering(tree, rule) if not _own(end, rules, rule)]
    earlier = {other for end in ends for other in end.values() if other < number}
    return sorted(other for other in earlier if _takes(rules[other].methods, rule.methods))


def crowding(rules: Iterable[Rule], most: int) -> int | None:
    """The number of the first rule with which a call could meet more than `most` nodes beside one at each depth.

    By the bound in ruletree.py: one for each way in which rules place `*` among their first segments.
    """
    ways: set[tuple[int, int]] = set()
    for number, rule in enumerate(rules):
        placed = 0
        for depth, part in enumerate(rule.segments):
            placed = placed << 1 | (part == "*")
            if placed:
                ways.add((depth, placed))
        if len(ways) > most:
            return number
    return None


def _covering(tree: Tree, rule: Rule) -> list[End]:
    """The ends of all patterns that fit every path of the rule, its own too."""
    ends, live = [], [tree.root]
    for part in rule.segments:
        ends += [node.below for node in live]
        live = [child for node in live for child in (node.named.get(part), node.star) if child is not None]
    ends += [node.below for node in live]
    ends += [] if rule.below else [node.here for node in live]
    return [end for end in ends if end is not None]


def _first(ends: Iterable[End], method: str | None) -> int:
    return min(end.get(method, end.get(None, NEVER)) for end in ends)


def _own(end: End, rules: Sequence[Rule], rule: Rule) -> bool:
    return next((rules[number].segments == rule.segments for number in end.values()), True)


def _takes(earlier: frozenset[str] | None, later: frozenset[str] | None) -> bool:
    return earlier is not None and (later is None or not earlier.isdisjoint(later))
