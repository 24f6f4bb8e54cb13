"""What in the settings of nginx's cache does not mean what its author hopes: mistakes, and notes of `authsvc check`."""

from __future__ import annotations

from collections.abc import Iterator

from authsvc.adapters import build
from authsvc.adapters.schema import ConfigShape, RuleShape
from authsvc.adapters.yamlfile import Mistake, Note, Path

_RULES: Path = ("authorization", "rbac", "rules")
_FOR_ALL: Path = ("authorization", "decision_cache")
_NAMED = 5  # of many rules


def check(shaped: ConfigShape) -> Iterator[Mistake]:
    """Rules that ask nginx to keep what is never kept."""
    for number, given in enumerate(shaped.authorization.rbac.rules):
        why = _never(given) if given.decision_cache else ""
        if why:
            yield Mistake((*_RULES, number, "decision_cache"), f"keeps nothing: {why}: remove it")


def _never(given: RuleShape) -> str:
    if given.allowed_roles == []:
        return "what is open to everyone is never kept"
    if given.max_age is not None:
        return "how fresh a sign-in is (max_age) must be asked each time"
    own = given.rate_limit
    return "the rule has a limit of its own, and what is counted is never kept" if own and _counts(own.limit) else ""


def notes(shaped: ConfigShape) -> Iterator[Note]:
    """Where decisions may be kept: what that means, and whose are never kept because they are counted."""
    rbac, for_all = shaped.authorization.rbac, shaped.authorization.decision_cache
    rules = rbac.rules if rbac.enabled else []
    kept = [number for number, one in enumerate(rules) if _kept(one, for_all) and not _never(one)]
    if not kept and not for_all:
        return
    yield Note(
        "what nginx answers by itself is not counted, not audited and in no metric; nothing is kept until it includes "
        "authsvc-cache-http.conf and authsvc-cache-server.conf, which take its Lua module",
        _FOR_ALL if for_all else (*_RULES, kept[0], "decision_cache"),
    )
    counted = [name for name, tier in shaped.rate_limit.tiers.items() if _counts(tier.limit)]
    asked = [number for number in kept if (own := rules[number].rate_limit) is None or own.cost]
    names = [f"rules.{number} {build.rule(rules[number]).name}" for number in asked[:_NAMED]]
    names += [f"{len(asked) - _NAMED} more"] if len(asked) > _NAMED else []
    names += ["paths that no rule governs"] if for_all and (not rbac.enabled or rbac.default != "deny") else []
    if counted and names:
        yield Note(
            f"keeps nothing of callers who are counted (tiers {', '.join(counted)}) in {', '.join(names)}: write "
            "rate_limit: exempt where a kept answer matters more than the count",
            _FOR_ALL if for_all else (*_RULES, asked[0], "decision_cache"),
        )


def _kept(given: RuleShape, for_all: int) -> int:
    return for_all if given.decision_cache is None else given.decision_cache


def _counts(limit: list[str] | None) -> bool:
    return limit is not None and limit != ["unlimited"]
