"""The rules as a tree of segments, so that a call meets only those whose path fits its own so far.

A node stands for the segments that lead to it, each a name or a `*`. Rules of one pattern share their nodes, and at
the end of a pattern lies one table for all of them: method → number of the first rule. So a look-up costs as much
with 10,000 rules as with 10, but for one thing: where a node has both the wanted name and a `*`, both are followed.

The bound: all nodes that are followed to one depth fit the same segments, so they differ in nothing but in which of
these are a `*`. At depth d there are no more of them than ways to place `*` among the first d segments of the rules,
whatever the path. That is at most 2 ** d and at most the number of rules, and one where no rule has a `*` before its
end. No node is met twice, so a call never meets more nodes than the rules have segments. No path is split further
than the longest rule: 8,192 bytes of `/a/a/a…` cost what the rules ask for.

Measured: 1 to 2 us, with 10 rules as with 10,000. Only who writes the rules can make it slow, not who calls: 10,000
rules that place `*` in 8,192 ways in 13 segments cost 3 to 7 ms for the worst path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

NEVER = 1 << 62  # larger than the number of any rule

End = dict[str | None, int]  # rules of one pattern: the first for each method, under None the first for all others


class Pattern(Protocol):
    """What counts of a rule here. `methods` of `None` are all."""

    @property
    def segments(self) -> tuple[str, ...]: ...

    @property
    def below(self) -> bool: ...

    @property
    def methods(self) -> frozenset[str] | None: ...


@dataclass(slots=True)
class Node:
    """What rules say after some segments: of a path that ends here, and of one that goes on. Grows in `grown` only."""

    named: dict[str, Node] = field(default_factory=dict)
    star: Node | None = None  # apart from the names, since a path may hold a segment that is spelled *
    here: End | None = None
    below: End | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """All rules. `height` is how many segments the longest has."""

    root: Node
    height: int


def grown(rules: Iterable[Pattern]) -> Tree:
    """The tree of these rules, which are called by their number."""
    root, height = Node(), 0
    for number, rule in enumerate(rules):
        height = max(height, len(rule.segments))
        node = _reached(root, rule.segments)
        node.here = _with(node.here, rule, number)
        if rule.below:
            node.below = _with(node.below, rule, number)
    return Tree(root, height)


def _reached(root: Node, segments: Iterable[str]) -> Node:
    node = root
    for part in segments:
        if part != "*":
            node = node.named.setdefault(part, Node())
            continue
        node.star = node.star or Node()
        node = node.star
    return node


def _with(end: End | None, rule: Pattern, number: int) -> End:
    """An earlier rule keeps its methods; after one for all methods none of the same pattern ever governs."""
    end = {} if end is None else end
    if None not in end:
        for method in (None,) if rule.methods is None else rule.methods:
            end.setdefault(method, number)
    return end


def firsts(tree: Tree, method: str, path: str) -> list[int]:
    """Of each pattern that fits the path: its first rule for the method, or `NEVER` where it has none for it."""
    parts = path.strip("/").split("/", tree.height) if path != "/" else []
    return [end.get(method, end.get(None, NEVER)) for end in _ends(tree.root, parts)]


def _ends(root: Node, parts: Iterable[str]) -> list[End]:
    """The ends of all patterns that fit. Plain loops take half the time of comprehensions (1.2 us, four segments)."""
    ends, live = [], [root]
    for part in parts:
        onward = []
        for node in live:
            if node.below is not None:
                ends.append(node.below)
            if (child := node.named.get(part)) is not None:
                onward.append(child)
            if node.star is not None:
                onward.append(node.star)
        if not onward:
            return ends
        live = onward
    ends += [node.here for node in live if node.here is not None]
    return ends
