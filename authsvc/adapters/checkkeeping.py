"""What in the settings of nginx's cache does not mean what its author hopes: mistakes, and notes of `authsvc check`."""

from __future__ import annotations

from collections.abc import Iterator

from authsvc.adapters.schema import ConfigShape, RuleShape
from authsvc.adapters.yamlfile import Mistake, Path

_RULES: Path = ("authorization", "rbac", "rules")


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


def notes(shaped: ConfigShape) -> Iterator[str]:
    """Where decisions may be kept: what that means, and whose are never kept because they are counted."""
    rbac, for_all = shaped.authorization.rbac, shaped.authorization.decision_cache
    rules = rbac.rules if rbac.enabled else []
    kept = [(f"rules.{number}", one) for number, one in enumerate(rules) if _kept(one, for_all) and not _never(one)]
    if not kept and not for_all:
        return
    yield (
        "decision_cache: what nginx answers by itself is not counted, not audited and in no metric; "
        "it needs authsvc-cache-http.conf and authsvc-cache-server.conf in nginx, and its Lua module"
    )
    counted = [name for name, tier in shaped.rate_limit.tiers.items() if _counts(tier.limit)]
    asked = [name for name, one in kept if one.rate_limit is None or one.rate_limit.cost]
    asked += ["paths that no rule governs"] if for_all and (not rbac.enabled or rbac.default != "deny") else []
    if counted and asked:
        yield (
            f"decision_cache keeps nothing of callers who are counted (tiers {', '.join(counted)}) in "
            f"{', '.join(asked)}: write rate_limit: exempt where a kept answer matters more than the count"
        )


def _kept(given: RuleShape, for_all: int) -> int:
    return for_all if given.decision_cache is None else given.decision_cache


def _counts(limit: list[str] | None) -> bool:
    return limit is not None and limit != ["unlimited"]
