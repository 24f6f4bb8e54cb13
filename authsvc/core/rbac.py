"""Rules: which one governs a method and a path, and whether an identity satisfies it. First match wins."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from authsvc.core import ruletree
from authsvc.core.claims import Condition
from authsvc.core.model import Identity, Reason, Refused
from authsvc.core.provider import Strength
from authsvc.core.ratelimit import Spending

_COUNTED = Spending()
METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Asks:
    """What a rule asks for beside roles; what is empty asks nothing. One of `any_scope`, all of `all_scopes`."""

    any_scope: tuple[str, ...] = ()
    all_scopes: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    require: tuple[Condition, ...] = ()
    strength: Strength = Strength()


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a path. `methods` of `None` are all; `roles` of `None` are any identity, of `()` everyone.

    `name` is how audit lines and `explain` call it, `asks` what the caller must be beside his roles, `spending` what
    it says of limits, and for `keep_s` seconds nginx may keep a yes.
    """

    name: str
    segments: tuple[str, ...]
    below: bool
    methods: frozenset[str] | None
    roles: tuple[str, ...] | None
    asks: Asks = Asks()
    spending: Spending = Spending()
    keep_s: int = 0

    @property
    def public(self) -> bool:
        return self.roles == ()


DEFAULT = Rule("default", (), True, None, None)


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules in their order. For a path that no rule governs `default` holds, or nothing (`deny_by_default`)."""

    rules: tuple[Rule, ...] = ()
    deny_by_default: bool = False
    default: Rule = DEFAULT
    tree: ruletree.Tree = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", ruletree.grown(self.rules))

    @property
    def keeps(self) -> bool:
        """Whether nginx may keep any decision."""
        return any(rule.keep_s for rule in (*self.rules, self.default))


def rule(
    path: str,
    methods: Iterable[str] | None,
    roles: Sequence[str] | None,
    asks: Asks = Asks(),
    spending: Spending = _COUNTED,
) -> Rule:
    """A rule for a path pattern. Raises `ValueError` with what is wrong with the pattern.

    `*` stands for one segment; a final `/*` for the prefix itself and everything below it.
    """
    if not path.startswith("/"):
        raise ValueError("a path starts with /")
    if path.endswith("/*/") or "//" in path:
        raise ValueError("a path has no empty segment, and nothing after a final /*")
    below = path.endswith("/*")
    segments = tuple(part for part in path.removesuffix("/*").rstrip("/").split("/")[1:])
    for part in segments:
        if part in ("", ".", "..") or ("*" in part and part != "*"):
            raise ValueError("a path's segments are names or a * that stands for one whole segment")
        if not part.isprintable() or set(part) & set("?#%;\\"):
            raise ValueError("a path is written decoded, without query, escapes or ; and \\")
        if not unicodedata.is_normalized("NFC", part):
            raise ValueError("a path's letters are written with their accents, as Unicode NFC has them")
    named = None if methods is None else tuple(methods)
    title = path if named is None else f"{'|'.join(named)} {path}"
    return Rule(title, segments, below, _with_head(named), None if roles is None else tuple(roles), asks, spending)


def _with_head(methods: Iterable[str] | None) -> frozenset[str] | None:
    """HEAD needs what GET needs (RFC 9110 section 9.3.2)."""
    if methods is None:
        return None
    named = frozenset(methods)
    return named | {"HEAD"} if "GET" in named else named


def rule_for(policy: Policy, method: str, path: str) -> Rule:
    """The rule that governs this call. Raises `Refused` where the path is governed, but not for this method."""
    found = ruletree.firsts(policy.tree, method, path)
    first = min(found, default=ruletree.NEVER)
    if first != ruletree.NEVER:
        return policy.rules[first]
    if found:  # a rule for GET must not leave POST open
        raise Refused(Reason.METHOD_NOT_ALLOWED, f"rules govern this path, but none of them for {method}")
    if policy.deny_by_default:
        raise Refused(Reason.NO_RULE, "no rule governs this path, and default is deny")
    return policy.default


def admit(governing: Rule, identity: Identity) -> None:
    """Raises `Refused` where the caller is not whom the rule asks for. How he signed in is stepup's matter."""
    asks = governing.asks
    _one_of(Reason.PROVIDER_NOT_ALLOWED, "provider", asks.providers, (identity.provider,))
    _one_of(Reason.TENANT_NOT_ALLOWED, "tenant", asks.tenants, identity.tenants)
    _one_of(Reason.CLIENT_NOT_ALLOWED, "client", asks.clients, (identity.client,))
    _admit_roles(governing.roles or (), identity)
    _admit_scopes(asks, identity)
    for condition in asks.require:
        if not condition.holds(identity.claims):
            raise Refused(Reason.CLAIM_REQUIRED, f"the rule asks that {condition}")


def _one_of(reason: Reason, what: str, wanted: tuple[str, ...], found: tuple[str, ...]) -> None:
    if wanted and not set(wanted) & set(found):
        raise Refused(
            reason, f"the rule asks for the {what} {' or '.join(wanted)}; the caller's is {_listed(found, 'none')}"
        )


def _admit_roles(wanted: tuple[str, ...], identity: Identity) -> None:
    if not wanted or set(wanted) & set(identity.roles):
        return
    if identity.roles_incomplete:
        raise Refused(
            Reason.GROUPS_OVERAGE, f"the rule asks for {' or '.join(wanted)}; the token could not hold all groups"
        )
    reason = Reason.INSUFFICIENT_SCOPE if identity.scoped else Reason.ROLE_REQUIRED
    raise Refused(
        reason, f"the rule asks for {' or '.join(wanted)}; the caller has {_listed(identity.roles, 'no role')}"
    )


def _admit_scopes(asks: Asks, identity: Identity) -> None:
    if not asks.all_scopes and not asks.any_scope:
        return
    has = set(identity.scopes)
    lacking = tuple(scope for scope in asks.all_scopes if scope not in has)
    if asks.any_scope and not has & set(asks.any_scope):
        lacking += (" or ".join(asks.any_scope),)
    if lacking:
        text = (
            f"the rule asks for the scope {' and '.join(lacking)}; the token has {_listed(identity.scopes, 'no scope')}"
        )
        raise Refused(Reason.INSUFFICIENT_SCOPE, text)


def _listed(found: tuple[str, ...], none: str) -> str:
    return ", ".join(filter(None, found)) or none
