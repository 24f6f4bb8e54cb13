"""For how long nginx may keep a yes, and answer an equal call with it without asking.

Whoever is in doubt keeps nothing: what is said here holds where authsvc is not asked, so it must be true for all of
that time. A no is never kept, nor what everybody may call, nor what was counted. The pieces of time are whole seconds,
for X-Accel-Expires has no others.
"""

from __future__ import annotations

from collections.abc import Sequence

from authsvc.core.rbac import Rule

GRANULARITY_S = 1  # nginx looks at whole seconds of its clock: what it shall keep N seconds lives up to N + 1
DELAY_S = 3  # from our clock reading to nginx's, which waits 2.5 s for an answer; instants come nearer meanwhile
SHORTEST_S = GRANULARITY_S + 1  # of a setting: one second less is nothing
LONGEST_S = 60  # of a setting: so long may what was revoked still work


def allowed_s(rules: Sequence[Rule]) -> int:
    """What the config allows for a call that all of these rules govern; 0 where one of them does not.

    How fresh a sign-in is changes with the time, so under a rule that asks for it nothing is kept.
    """
    return min((0 if _varies(rule) else rule.keep_s for rule in rules), default=0)


def _varies(rule: Rule) -> bool:
    return rule.public or rule.asks.strength.max_age_s is not None


def seconds(at_most_s: int, until: float, now: float) -> int:
    """The value of X-Accel-Expires.

    No kept answer is there after `until`, nor older than `at_most_s` and half a second: what took longer to nginx is
    not kept.
    """
    return max(int(min(at_most_s, until - now - DELAY_S)) - GRANULARITY_S, 0)
