"""What nginx asks about: a method, a path or two, and the rules that govern them. Most calls are like earlier ones."""

from __future__ import annotations

from authsvc.core import keeping, paths, rbac
from authsvc.core.bounded import Bounded
from authsvc.core.model import Prepared, Reason, Refused, Request

MOST = 4096
MOST_CHARACTERS = 512  # of a target that is remembered: what strangers send may take up 5 MB of memory at most

_Asked = tuple[str | None, str, str | None]


class Call:
    """A call as far as it is the same for every caller: canonical path, and a rule for each path in it.

    `key` tells sets of rules apart, for as long as their policy lives. `ages` says that a rule asks how long ago the
    user signed in, so that who was admitted once need not be admitted again. `keep_s` is for how long nginx may keep a
    yes, as far as it depends on the rules.
    """

    __slots__ = ("ages", "keep_s", "key", "path", "prepared", "public", "rules", "wanted")

    def __init__(self, path: str, rules: tuple[rbac.Rule, ...]) -> None:
        self.path, self.rules = path, rules
        self.key = tuple(map(id, rules))
        self.public = all(rule.public for rule in rules)
        self.wanted = wanted(rules[-1])
        self.ages = any(rule.asks.strength.max_age_s is not None for rule in rules)
        self.keep_s = keeping.allowed_s(rules)
        self.prepared = Prepared()


class Calls:
    """Calls that were looked up: 0.6 us where making the path canonical and finding its rule take 6. Bounded; when it
    is full it forgets the oldest tenth. Belongs to one policy. What was refused is not remembered."""

    def __init__(self) -> None:
        self._calls: Bounded[_Asked, Call] = Bounded(MOST)

    def known(self, request: Request) -> Call | None:
        mark = request.mark
        marked = None if mark is None else mark.found
        if marked is not None and marked[0] is self:
            found: Call = marked[1]
            return found
        known = self._calls.known.get(_key(request))
        if known is not None and mark is not None:
            mark.found = self, known
        return known

    def remember(self, request: Request, call: Call) -> None:
        if len(request.target or "") + len(request.served or "") > MOST_CHARACTERS:
            return
        self._calls.put(_key(request), call)


def _key(request: Request) -> _Asked:
    """No rule looks at the query; but it counts in a target's length, which is bounded."""
    target = request.target or ""
    path = target.partition("?")[0] if len(target) <= MOST_CHARACTERS else target
    return request.method, path, request.served


def asked(request: Request) -> tuple[str, list[str]]:
    """Method and canonical path; a second path where an internal redirect of nginx serves another one.

    Both must be allowed: else `rewrite ^/v1/(.*) /api/$1 last` would be a way around the rules for /api/.
    What nginx did not say, or said twice, is never guessed.
    """
    if not request.method or not request.target:
        raise Refused(Reason.MISSING_CONTEXT, "X-Original-Method or X-Original-URI is missing or was sent twice")
    if not rbac.METHOD.fullmatch(request.method):
        raise Refused(Reason.INVALID_METHOD, "the method is not a word in capitals")
    path = paths.canonical(request.target)
    served = path if request.served is None else paths.served(request.served)
    return request.method, [path] if served == path else [path, served]


def wanted(rule: rbac.Rule) -> tuple[str, ...]:
    """What a caller may ask his issuer for: the roles, or the scopes where the rule names some."""
    return rule.asks.all_scopes + rule.asks.any_scope[:1] or rule.roles or ()
