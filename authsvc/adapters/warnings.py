"""What is no mistake in a config but may be an open door, or a shut one: the notes of `authsvc check`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from authsvc.adapters import build, checkkeeping
from authsvc.adapters.schema import ConfigShape
from authsvc.adapters.schema.providers import ProviderShape
from authsvc.adapters.yamlfile import Note, Path
from authsvc.core import rbac, rulecover, ruletree
from authsvc.core.provider import Provider

_DOTTED = re.compile(r"[\w-]+(\.[\w-]+)+")  # a URL has a : or a / as well
# Issuers that give a token to whoever asks, for any audience he names.
_FOR_EVERYBODY = {
    "https://token.actions.githubusercontent.com": "every workflow on GitHub: add require on repository_owner_id",
    "https://gitlab.com": "every job on gitlab.com: add require on namespace_path",
    "https://accounts.google.com": "every Google account: add hosted_domain, or require on sub",
}
_PROVIDERS: Path = ("authentication", "oidc", "providers")
_RULES: Path = ("authorization", "rbac", "rules")
_MANY_NODES = 256  # of the tree of rules, for one call: 0.1 ms
_MUTABLE = frozenset({"email", "upn", "preferred_username", "unique_name"})


def notes(shaped: ConfigShape) -> Iterator[Note]:
    """All of them."""
    yield from _dotted(shaped)
    for number, given in enumerate(shaped.authentication.oidc.providers):
        for text in _provider(given, build.provider(shaped, given)):
            yield Note(f"{given.name}: {text}", (*_PROVIDERS, number))
    if shaped.authorization.rbac.enabled:
        yield from _rules(shaped)
    yield from _shadows(shaped)
    yield from checkkeeping.notes(shaped)


def _shadows(shaped: ConfigShape) -> Iterator[Note]:
    limits = shaped.rate_limit
    names = [name for name, one in limits.tiers.items() if (one.mode or limits.mode) == "shadow"]
    names += ["anonymous"] if limits.anonymous and limits.mode == "shadow" else []
    if names:
        yield Note(f"in shadow, where nobody is refused: {', '.join(names)}")


def _dotted(shaped: ConfigShape) -> Iterator[Note]:
    for at, claim in _claims(shaped):
        if claim and len(claim) == 1 and _DOTTED.fullmatch(claim[0]):
            path = ", ".join(claim[0].split("."))
            yield Note(f"{claim[0]!r} is one name with a dot; for a path write [{path}]", at)


def _claims(shaped: ConfigShape) -> Iterator[tuple[Path, list[str] | None]]:
    """Every setting that names a claim, and where it stands."""
    oidc = shaped.authentication.oidc
    at: Path = ("authentication", "oidc")
    for name in ("user_claim", "email_claim", "roles_claim"):
        yield (*at, name), getattr(oidc, name)
        for number, given in enumerate(oidc.providers):
            yield (*at, "providers", number, name), getattr(given, name)
    for number, entry in enumerate(oidc.extract_headers):
        yield (*at, "extract_headers", number, "claim"), entry.claim
    yield ("authorization", "rbac", "roles_claim"), shaped.authorization.rbac.roles_claim
    for number, by in enumerate(shaped.rate_limit.by):
        yield ("rate_limit", "by", number), by.claim
    for name, tier in shaped.rate_limit.tiers.items():
        if tier.matching_claim is not None:
            yield ("rate_limit", "tiers", name, "matching_claim"), tier.matching_claim.claim


def _provider(given: ProviderShape, made: Provider) -> Iterator[str]:
    if given.mfa and not made.mfa_if:
        yield f"tokens of type {given.type} show no second factor by themselves: add mfa_if, or nobody passes"
    narrowed = given.require or given.tenants or given.hosted_domain or given.clients
    if made.issuer in _FOR_EVERYBODY and not narrowed:
        yield f"its tokens are to be had by {_FOR_EVERYBODY[made.issuer]}"
    if made.issuer_templates and made.tenants is None:
        yield "any tenant's tokens are accepted, and roles, groups and MFA are what that tenant says: name tenants"
    for claim in (*made.user_claims, *made.key_claims):
        if claim[-1] in _MUTABLE:
            yield f"{claim[-1]} can be changed, and given to somebody else: use a claim that stays, such as sub"


def _rules(shaped: ConfigShape) -> Iterator[Note]:
    config = shaped.authorization.rbac
    rules = [build.rule(given) for given in config.rules]
    yield from _taken(rules)
    crowd = rulecover.crowding(rules, _MANY_NODES)
    if crowd is not None:
        text = "rules up to this one place * in so many ways that a call may take 0.1 ms to find its rule: use fewer *"
        yield Note(f"{rules[crowd].name}: {text}", (*_RULES, crowd))
    yield from _unmet(rules, [build.provider(shaped, given) for given in shaped.authentication.oidc.providers])
    governed = {rule.segments for rule in rules if rule.below}
    alone = [n for n, rule in enumerate(rules) if not rule.public and not rule.below and not _below(rule, governed)]
    if alone and config.default == "authenticated":
        names = ", ".join(rules[number].name for number in alone[:5])
        text = f"of these paths nothing below is governed, and any identity reaches it: {names}; write /*"
        yield Note(text, (*_RULES, alone[0]))
    if len(shaped.authentication.oidc.providers) > 1 and any(_of_anyone(rule) for rule in rules):
        text = "roles, tenants and clients in rules count whichever provider names them: add providers to the rules"
        yield Note(text, _RULES)


def _taken(rules: list[rbac.Rule]) -> Iterator[Note]:
    tree = ruletree.grown(rules)
    for number, later in enumerate(rules):
        for index in rulecover.takers(tree, rules, number):
            earlier = rules[index]
            methods = ", ".join(sorted(earlier.methods or ()))
            text = f"{later.name}: {methods} is decided by rules.{index} {earlier.name} before it"
            yield Note(text, (*_RULES, number))


def _unmet(rules: list[rbac.Rule], providers: list[Provider]) -> Iterator[Note]:
    """What the tokens of a provider that a rule concerns can never show."""
    asking = [(number, rule) for number, rule in enumerate(rules) if rule.asks.strength.mfa or rule.asks.tenants]
    for number, rule in asking:
        for one in providers:
            if rule.asks.providers and one.name not in rule.asks.providers:
                continue
            if rule.asks.strength.mfa and not one.mfa_if:
                text = f"{rule.name}: tokens of {one.name} show no second factor: add mfa_if to it"
                yield Note(text, (*_RULES, number))
            if rule.asks.tenants and not one.tenant_claim:
                text = f"{rule.name}: tokens of {one.name} name no tenant: add tenant_claim to it"
                yield Note(text, (*_RULES, number))


def _below(rule: rbac.Rule, governed: set[tuple[str, ...]]) -> bool:
    return any(rule.segments[:size] in governed for size in range(len(rule.segments) + 1))


def _of_anyone(rule: rbac.Rule) -> bool:
    return bool(rule.roles or rule.asks.tenants or rule.asks.clients) and not rule.asks.providers
