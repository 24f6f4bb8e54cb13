"""What must become of each call of the fleet, and what the report must say of all of them.

It is worked out here, from what each caller is: nothing of it is asked of authsvc.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet_of_callers import ANNOUNCE, NAMED, OVER, PAUSE, PAUSE_ENDS, SUNSET, Caller, Key, Token

SETTLED_S = 7 * 86400


# ---- what is in force


@dataclass(frozen=True, slots=True)
class Step:
    """One moment of the walk: what the config says, and whether callers have moved by then."""

    name: str
    now: float
    percent: float = 100
    beta: bool = False
    both: str = "prefer_oidc"
    ending: bool = False
    moved: bool = False

    @property
    def phase(self) -> str:
        if not self.ending or self.now < ANNOUNCE:
            return "silent"
        if self.now >= OVER:
            return "ended"
        if PAUSE <= self.now < PAUSE_ENDS:
            return "paused"
        return "announced" if self.now < SUNSET else "grace"


def place(user: str) -> float:
    """Where a user stands between 0 and 100. Were this to change, an update would take people out of the beta."""
    return int(hashlib.sha256(f"authsvc rollout\0demo:{user}".encode()).hexdigest()[:12], 16) / 16**12 * 100


def is_open(token: Token, step: Step) -> bool:
    early = step.beta and (token.beta or token.user in NAMED)
    return early or place(token.user) < step.percent


# ---- what must come of a call


@dataclass(frozen=True, slots=True)
class Good:
    """A credential that says who calls."""

    method: str
    user: str
    client: str
    roles: tuple[str, ...]
    plan: str


@dataclass(frozen=True, slots=True)
class Bad:
    """One that is refused. `method` is none where nobody can tell what it was meant to be; `named` is whom it names
    where authsvc knows it."""

    method: str
    reason: str
    named: Good | None = None


@dataclass(frozen=True, slots=True)
class Other:
    """What the other credential of a call with two would have brought about."""

    method: str
    reason: str
    user: str
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What must come of a call: `method` is how the report counts it, `told` what the caller hears of the end of keys.

    `who` calls, as the API hears it; `named` is he, or else whom a refused credential names, for audit alone.
    """

    reason: str
    method: str
    who: Good | None = None
    named: Good | None = None
    told: str = "silent"
    other: Other | None = None

    @property
    def allowed(self) -> bool:
        return self.reason in ("allowed", "public")

    @property
    def status(self) -> int:
        return 200 if self.allowed else 403 if self.reason == "role_required" else 401


def outcome(caller: Caller, step: Step) -> Outcome:
    """What must come of this caller's call at this step."""
    public = caller.path.startswith("/api/public/")
    chosen, beside = _in_force(caller, step)
    if isinstance(chosen, Bad):
        ends = chosen.reason.startswith("api_keys_")
        other = None if beside is None else _beside(beside, chosen, caller.path)
        told = step.phase if ends else "silent"
        refused = Outcome(chosen.reason, chosen.method, None, chosen.named, told, other)
        return Outcome("public", "none") if public else refused
    reason = "public" if public else _admitted(chosen, caller.path)
    told = step.phase if chosen.method == "api_key" else "silent"
    other = None if beside is None else _beside(beside, chosen, caller.path)
    return Outcome(reason, chosen.method, chosen, chosen, told, other)


def _in_force(caller: Caller, step: Step) -> tuple[Good | Bad, Good | Bad | None]:
    if caller.twice:
        return Bad("none", "several_api_keys"), None
    if caller.key is None and caller.token is None:
        return Bad("none", "no_credentials"), None
    if caller.key is None or caller.token is None:
        return _of_token(caller.token, step) if caller.token else _of_key(caller.key, step), None
    key, token = _of_key(caller.key, step), _of_token(caller.token, step)
    if step.both == "refuse":
        return Bad("none", "two_credentials"), None
    if step.both == "require_same_owner":
        return _of_one_owner(key, token), None
    by_token = isinstance(token, Good) or (step.percent == 100 and isinstance(key, Bad))
    if isinstance(token, Bad) and token.reason == "oidc_not_open" and token.named:
        token = token.named  # told as if OIDC were open to him
    return (token, key) if by_token else (key, token)


def _of_one_owner(key: Good | Bad, token: Good | Bad) -> Good | Bad:
    if isinstance(token, Bad) or isinstance(key, Bad):
        return token if isinstance(token, Bad) else key
    return token if key.user in (token.user, token.client) else Bad("oidc", "different_owners", token)


def _of_key(key: Key | None, step: Step) -> Good | Bad:
    assert key is not None
    owner = Good("api_key", key.owner, key.id, key.roles, key.plan)
    if step.now >= key.until:
        known = key.problem in ("revoked_api_key", "expired_api_key", "replaced_api_key")
        return Bad("api_key", key.problem, owner if known else None)
    if step.phase in ("paused", "ended"):
        return Bad("api_key", f"api_keys_{step.phase}", owner)
    return owner


def _of_token(token: Token, step: Step) -> Good | Bad:
    if token.problem:
        return Bad("none" if token.problem == "malformed_token" else "oidc", token.problem)
    user = Good("oidc", token.user, token.client, token.roles, token.plan)
    return user if is_open(token, step) else Bad("oidc", "oidc_not_open", user)


def _admitted(who: Good, path: str) -> str:
    return "role_required" if path.startswith("/api/admin/") and "admin" not in who.roles else "allowed"


def _beside(beside: Good | Bad, chosen: Good | Bad, path: str) -> Other:
    passed = isinstance(chosen, Good) and _admitted(chosen, path) == "allowed"
    if isinstance(beside, Bad):
        method = "oidc" if beside.method == "none" else beside.method
        return Other(method, beside.reason, beside.named.user if beside.named else "", ("refused",) if passed else ())
    reason = _admitted(beside, path)
    differs = {
        "refused": passed != (reason == "allowed"),
        "roles": isinstance(chosen, Good) and set(chosen.roles) != set(beside.roles),
        "tier": isinstance(chosen, Good) and chosen.plan != beside.plan,
    }
    return Other(beside.method, reason, beside.user, tuple(one for one, true in differs.items() if true))


# ---- what the report must say


@dataclass(frozen=True, slots=True)
class Made:
    """One call that was made."""

    step: Step
    caller: Caller
    outcome: Outcome


def figures(made: Iterable[Made]) -> dict[str, Any]:
    """The report's figures, in the words of its JSON; lists are sorted, for their order says nothing."""
    calls = list(made)
    owners = _by_owner(calls)
    states = {owner: _state(owner, ours, calls) for owner, ours in owners.items()}
    people = {one.user for one in _seen_tokens(calls)}
    good = len(people & {user for user, is_good in map(_token, calls) if is_good})
    return {
        "methods": [_method(name, calls) for name in ("oidc", "api_key", "none")],
        "callers": sorted(_callers(calls), key=str),
        "refusals": _refusals(calls),
        "both": _both(calls),
        "differences": _differences(calls),
        "owners": {name: list(states.values()).count(name) for name in ("keys_only", "partly", "moved")},
        "not_moved": sorted(
            (_straggler(one, owners[one], how) for one, how in states.items() if how != "moved"), key=str
        ),
        "all_callers": len({(one.method, one.user) for one in _named(calls)}),
        "oidc_share_of_calls": _share(calls),
        "oidc_share_of_callers": round((good + list(states.values()).count("moved")) / (len(people) + len(states)), 4),
    }


def _named(calls: Iterable[Made]) -> list[Good]:
    return [one.outcome.named for one in calls if one.outcome.named is not None]


def _method(name: str, calls: list[Made]) -> dict[str, Any]:
    ours = [one.outcome for one in calls if one.outcome.method == name]
    allowed = sum(one.allowed for one in ours)
    callers = len({one.named.user for one in ours if one.named})
    return {"method": name, "callers": callers, "calls": len(ours), "allowed": allowed, "refused": len(ours) - allowed}


def _callers(calls: list[Made]) -> Iterable[dict[str, Any]]:
    found: dict[tuple[str, str], list[Made]] = {}
    for one in calls:
        if one.outcome.named is not None:
            found.setdefault((one.outcome.method, one.outcome.named.user), []).append(one)
    for (method, user), theirs in found.items():
        times = [one.step.now for one in theirs]
        yield {
            "method": method,
            "provider": "demo" if method == "oidc" else "api_keys",
            "owner": user,
            "calls": len(theirs),
            "refused": sum(not one.outcome.allowed for one in theirs),
            "first_seen": iso(min(times)),
            "last_seen": iso(max(times)),
        }


def _refusals(calls: list[Made]) -> list[dict[str, Any]]:
    found = Counter((one.outcome.method, one.outcome.reason) for one in calls if not one.outcome.allowed)
    return sorted(({"method": m, "reason": r, "calls": count} for (m, r), count in found.items()), key=str)


def differences(calls: Iterable[Made]) -> Counter[str]:
    """How many calls differ in what."""
    return Counter(kind for one in calls if one.outcome.other for kind in one.outcome.other.differs)


def _both(calls: list[Made]) -> dict[str, int]:
    others = [one.outcome.other for one in calls if one.outcome.other]
    kinds = differences(calls)
    alike = sum(not one.differs for one in others)
    return {"calls": len(others), "alike": alike, **{kind: kinds[kind] for kind in ("refused", "roles", "tier")}}


def _differences(calls: list[Made]) -> list[dict[str, Any]]:
    names = ("differs", "in_force", "reason", "other", "other_reason")
    found: Counter[tuple[str, ...]] = Counter()
    for ours, other in ((one.outcome, one.outcome.other) for one in calls):
        for kind in other.differs if other else ():
            assert other is not None
            found[kind, ours.method, ours.reason, other.method, other.reason] += 1
    return sorted(({**dict(zip(names, pair, strict=True)), "calls": n} for pair, n in found.items()), key=str)


def _share(calls: list[Made]) -> float:
    allowed = Counter(one.outcome.method for one in calls if one.outcome.allowed)
    return round(allowed["oidc"] / (allowed["oidc"] + allowed["api_key"]), 4)


# ---- owners


def _owner(one: Made) -> str:
    """Whose known key was sent."""
    who, other = one.outcome.named, one.outcome.other
    if one.outcome.method == "api_key":
        return who.user if who else ""
    return other.user if other and other.method == "api_key" else ""


def _by_owner(calls: list[Made]) -> dict[str, list[Made]]:
    found: dict[str, list[Made]] = {}
    for one in calls:
        found.setdefault(_owner(one), []).append(one)
    found.pop("", None)
    return found


def _token(one: Made) -> tuple[str, bool]:
    """The user of a token that was understood, and whether it would do."""
    who, other = one.outcome.named, one.outcome.other
    if one.outcome.method == "oidc":
        return (who.user, one.outcome.allowed) if who else ("", False)
    return (other.user, other.reason == "allowed") if other and other.method == "oidc" else ("", False)


def _alone(ours: list[Made]) -> list[float]:
    """When an owner called with a key, and no token with it that would do."""
    return [one.step.now for one in ours if not _token(one)[1]]


def _state(owner: str, ours: list[Made], calls: list[Made]) -> str:
    """Moved: his last good token is later than his last call by key alone, and that is more than a week ago."""
    names = {_token(one)[0] for one in ours} - {""} | {owner}
    good = [one.step.now for one in ours if _token(one)[1]]
    for one in calls:
        who = one.outcome.who
        if who is not None and who.method == "oidc" and one.outcome.allowed and {who.user, who.client} & names:
            good.append(one.step.now)
    if not good:
        return "keys_only"
    alone = max(_alone(ours), default=float("-inf"))
    settled = calls[-1].step.now - alone > SETTLED_S
    return "moved" if max(good) > alone and settled else "partly"


def _straggler(owner: str, ours: list[Made], state: str) -> dict[str, Any]:
    alone = _alone(ours)
    return {
        "owner": owner,
        "state": state,
        "calls": len(ours),
        "by_key_alone": len(alone),
        "last_seen": iso(max(one.step.now for one in ours)),
        "last_by_key_alone": iso(max(alone)) if alone else "",
        "used_keys": len({one.caller.key.id for one in ours if one.caller.key}),
    }


def _seen_tokens(calls: list[Made]) -> list[Good]:
    """Those who call with tokens and are not known as the owner of a key, by name, by client or by a key beside."""
    owners = _by_owner(calls)
    known = {*owners, *(_token(one)[0] for ours in owners.values() for one in ours)}
    users = (one for one in _named(calls) if one.method == "oidc")
    return [one for one in users if one.user not in known and one.client not in owners]


def pending(calls: list[Made], good: dict[str, set[str]], contacts: dict[str, str]) -> list[dict[str, Any]]:
    """The owners with `good` keys who have not moved."""
    rows, owners = [], _by_owner(calls)
    for owner in sorted(good):
        ours = owners.get(owner, [])
        state = _state(owner, ours, calls) if ours else "unseen"
        if state != "moved":
            seen = iso(max(one.step.now for one in ours)) if ours else ""
            row = {"owner": owner, "contact": contacts[owner], "keys": good[owner], "last_seen": seen}
            rows.append(row | {"calls": len(ours), "state": state})
    return rows


def iso(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
