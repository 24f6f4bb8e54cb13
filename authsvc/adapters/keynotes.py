"""What is no mistake in the settings of API keys but is worth knowing today: the notes of `authsvc check`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from authsvc.adapters import build, keylines
from authsvc.adapters.keyfile import notes_of
from authsvc.adapters.schema import ConfigShape
from authsvc.adapters.yamlfile import Note
from authsvc.core.apikeys import verdict
from authsvc.core.callers import NAME
from authsvc.core.migration import DAY_S, Deprecation, http_date
from authsvc.core.provider import Strength

NEAR_S = 30 * DAY_S


def notes(shaped: ConfigShape, now: float) -> Iterator[Note]:
    """Nothing where keys are not accepted."""
    keys = build.api_keys(shaped.authentication)
    if keys is None:
        return
    if keys.deprecation:
        yield from map(Note, (*_end(keys.deprecation, now), *_brown_out(keys.deprecation, now)))
    rollout = build.rollout(shaped.authentication.migration)
    if not rollout.complete:
        yield Note(
            f"OIDC is open to {rollout.percent:g} % of users and those of beta: others get 401 oidc_not_open"
            " (migration.oidc_rollout)"
        )
    yield from _rules(shaped)
    yield from map(Note, _file(keys.file, now))


def _end(plan: Deprecation, now: float) -> Iterator[str]:
    if plan.sunset is None:
        return
    ended, over = http_date(plan.sunset), http_date(plan.over_at)
    if now >= plan.over_at:
        yield f"API keys are refused since {over}: remove api_keys from the config when nobody sends one any more"
    elif now >= plan.sunset:
        yield f"API keys ended on {ended}: they are still accepted until {over}, {_in(plan.over_at - now)}"
    elif plan.sunset - now <= NEAR_S:
        yield f"API keys end {_in(plan.sunset - now)}, on {ended}: authsvc migration pending says who still needs them"


def _brown_out(plan: Deprecation, now: float) -> Iterator[str]:
    """The next one, or the one that is going on."""
    coming = sorted((one.start, one.end) for one in plan.brown_outs if one.end > now)
    if not coming or coming[0][0] - now > NEAR_S:
        return
    start, end = coming[0]
    when = f"since {http_date(start)}" if start <= now else f"{_in(start - now)}, on {http_date(start)}"
    yield f"a brown-out refuses API keys for {(end - start) / 60:g} minutes: {when}"


def _in(seconds: float) -> str:
    days = int(seconds // DAY_S)
    return "within a day" if days == 0 else f"in {days} day{'s' if days > 1 else ''}"


def _rules(shaped: ConfigShape) -> Iterator[Note]:
    rules = shaped.authorization.rbac.rules if shaped.authorization.rbac.enabled else []
    for number, rule in enumerate(map(build.rule, rules)):
        if rule.asks.strength != Strength() and NAME in (rule.asks.providers or [NAME]):
            text = f"{rule.name}: asks how the user signed in, so callers with API keys are refused there"
            yield Note(text, ("authorization", "rbac", "rules", number))


def _file(name: str, now: float) -> Iterator[str]:
    try:
        with open(name, "rb") as file:
            yield from notes_of(name, os.fstat(file.fileno()))
            soon = sum(verdict(key, now) is None for key in keylines.expiring(file, now, now + NEAR_S))
    except (OSError, keylines.KeyFileError):  # it was there a moment ago: whoever reads it next says what is wrong
        return
    if soon:
        yield f"{name}: {soon} key{'s' if soon > 1 else ''} will expire within 30 days: authsvc apikeys list shows them"
