"""What in well-shaped limits does not mean what its author hopes."""

from __future__ import annotations

from collections.abc import Iterator

from authsvc.adapters import build, checkproviders
from authsvc.adapters.schema import ConfigShape
from authsvc.adapters.schema.limits import TierShape
from authsvc.adapters.yamlfile import Mistake, Path
from authsvc.core import ratelimit
from authsvc.core.claims import Condition

_AT: Path = ("rate_limit",)


def check(shaped: ConfigShape) -> Iterator[Mistake]:
    """Every mistake in tiers, in the limit for nobody in particular, and in those of rules."""
    limits = shaped.rate_limit
    if limits.anonymous is not None:
        yield from _windows(limits.anonymous.limit, (*_AT, "anonymous", "limit"))
    taken: dict[Condition | None, str] = {}
    for name, tier in limits.tiers.items():
        yield from _windows(tier.limit, (*_AT, "tiers", name, "limit"))
        yield from _match(name, tier, taken)
    for number, rule in enumerate(shaped.authorization.rbac.rules):
        if rule.rate_limit is not None:
            at: Path = ("authorization", "rbac", "rules", number, "rate_limit")
            yield from _windows(rule.rate_limit.limit or [], (*at, "limit"))
            if rule.rate_limit.cost == 0 and rule.rate_limit.limit:
                yield Mistake((*at, "cost"), "0 counts nothing, so the limit beside it never holds: remove one of them")


def _match(name: str, tier: TierShape, taken: dict[Condition | None, str]) -> Iterator[Mistake]:
    given = tier.matching_claim
    at: Path = (*_AT, "tiers", name, "matching_claim") if given else (*_AT, "tiers", name)
    amiss = list(checkproviders.one_question(given, at)) if given else []
    yield from amiss
    made = build.condition(given) if given and not amiss else None
    if not amiss and taken.setdefault(made, name) != name:
        which = (
            f"'{_written(made)}' is already matched by tier" if made else "has no matching_claim, and neither has tier"
        )
        yield Mistake(at, f"{which} {taken[made]}: this one can never match")


def _written(condition: Condition) -> str:
    return f"{'.'.join(condition.path)}={' or '.join(condition.values)}"


def _windows(texts: list[str], at: Path) -> Iterator[Mistake]:
    periods: dict[int, tuple[int, str]] = {}
    for number, text in enumerate(texts):
        place = (*at, number)
        if text.isascii() and text.isdecimal():
            yield Mistake(place, f"{text!r} names no period: write {text}/hour")
            continue
        try:
            found = ratelimit.parse_rate(text)
        except ValueError as problem:
            yield Mistake(place, f"{text!r} cannot be read: {problem}")
            continue
        if not found and len(texts) > 1:
            yield Mistake(place, "'unlimited' stands beside a limit, which holds all the same: remove one of them")
        for rate in found:
            other, written = periods.setdefault(rate.period_s, (number, text))
            if other != number:
                yield Mistake(place, f"{text!r} has the same period as {written!r}: keep the smaller one")
