"""`authsvc migration report`: how far the move from API keys to OIDC has come.

By tallies of the audit log (see migrationledger.py) and the file of keys; nothing here reads a clock or a file.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from authsvc.auditlog import KINDS, METHODS, OIDC, Call, Counts
from authsvc.core.apikeys import ApiKey, verdict
from authsvc.migrationledger import MAX_NAME, SETTLED_S, Ledger, Owner, Pair, State, Tally, owner_of

NOTE = "counts are of the lines read: where audit.sample_allows is below 1 most allowed calls have none"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Method:
    """All calls whose callers were identified in one way; those of nobody have the method none."""

    method: str
    callers: int
    calls: int
    allowed: int
    refused: int


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller by one method."""

    method: str
    provider: str
    owner: str
    calls: int
    refused: int
    first_seen: str
    last_seen: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """How many calls were refused for one reason."""

    method: str
    reason: str
    calls: int


@dataclass(frozen=True, slots=True)
class Example:
    """A call to look for in the audit log."""

    time: str
    request_id: str
    call: str
    owner: str
    user: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Calls with two credentials that differ in one thing (`differs`), with the reasons of both."""

    differs: str
    in_force: str
    reason: str
    other: str
    other_reason: str
    calls: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What an owner calls by key alone: a call, and how many there were with its method under its rule."""

    call: str
    rule: str
    calls: int


@dataclass(frozen=True, slots=True)
class Straggler:
    """An owner who has not moved. `good_keys` is how many the file has of him, if it was given."""

    owner: str
    state: str
    calls: int
    by_key_alone: int
    last_seen: str
    last_by_key_alone: str
    used_keys: int
    good_keys: int | None
    look_at: tuple[Look, ...]


@dataclass(frozen=True, slots=True)
class Unused:
    """A good key that no line names."""

    key: str
    owner: str
    created: str
    expires: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the log says. `both` counts calls with two credentials, and those that differ by kind.

    The share of calls is one of allowed calls with a known caller. A caller is the owner of a key with all his tokens,
    who counts as one by OIDC when he has moved; or else a user of tokens, who does when one of them was good. Where
    lists are cut, `all_…` says how long they were.
    """

    lines: Counts
    note: str
    first_seen: str
    last_seen: str
    methods: tuple[Method, ...]
    oidc_share_of_calls: float | None
    oidc_share_of_callers: float | None
    all_callers: int
    callers: tuple[Caller, ...]
    refusals: tuple[Refusal, ...]
    both: dict[str, int]
    differences: tuple[Difference, ...]
    owners: dict[str, int]
    not_moved: tuple[Straggler, ...]
    all_unused_keys: int | None
    unused_keys: tuple[Unused, ...]


def report(
    ledger: Ledger,
    counts: Counts,
    keys: Iterable[ApiKey] | None,
    now: float,
    settled_s: float = SETTLED_S,
    most: int | None = None,
) -> Report:
    """What the log says. Of each long list the first `most`; `now` is the time at which keys are good or not."""
    states = {name: ledger.state(name, settled_s) for name in ledger.owners}
    owners = Counter(states.values())
    good, unused = _of_file(ledger, keys, now)
    return Report(
        lines=counts,
        note=NOTE,
        first_seen=iso(ledger.span.first),
        last_seen=iso(ledger.span.last),
        methods=_methods(ledger),
        oidc_share_of_calls=_share_of_calls(ledger),
        oidc_share_of_callers=_share_of_callers(ledger, owners),
        all_callers=len(ledger.callers),
        callers=_callers(ledger, most),
        refusals=tuple(Refusal(*name, calls) for name, calls in ledger.refusals.most_common()),
        both={"calls": ledger.both, "alike": ledger.kinds["none"], **{kind: ledger.kinds[kind] for kind in KINDS}},
        differences=_differences(ledger, most),
        owners={str(one): owners[one] for one in (State.KEYS_ONLY, State.PARTLY, State.MOVED)},
        not_moved=_stragglers(ledger, states, good, most),
        all_unused_keys=None if keys is None else len(unused),
        unused_keys=tuple(_first(unused, most, lambda one: (one.owner, one.key))),
    )


def _methods(ledger: Ledger) -> tuple[Method, ...]:
    callers = Counter(method for method, _, _ in ledger.callers)
    counted = ((one, ledger.methods[one, True], ledger.methods[one, False]) for one in METHODS)
    return tuple(Method(one, callers[one], yes + no, yes, no) for one, yes, no in counted)


def _share_of_calls(ledger: Ledger) -> float | None:
    identified = sum(ledger.methods[one, True] for one in METHODS if one != "none")
    return round(ledger.methods[OIDC, True] / identified, 4) if identified else None


def _share_of_callers(ledger: Ledger, owners: Counter[State]) -> float | None:
    others = list(ledger.others())
    everybody = len(others) + owners.total()
    return round((sum(others) + owners[State.MOVED]) / everybody, 4) if everybody else None


def _callers(ledger: Ledger, most: int | None) -> tuple[Caller, ...]:
    found = _first(ledger.callers.items(), most, lambda item: (-item[1].calls, item[0]))
    return tuple(_caller(name, tally) for name, tally in found)


def _caller(name: tuple[str, str, str], tally: Tally) -> Caller:
    return Caller(*name, tally.calls, tally.calls - tally.allowed, iso(tally.first), iso(tally.last))


def _differences(ledger: Ledger, most: int | None) -> tuple[Difference, ...]:
    found = _first(ledger.pairs.items(), most, lambda item: (-item[1].calls, _words(item[0])))
    return tuple(
        Difference(*_words(pair), same.calls, tuple(map(_example, reversed(same.examples)))) for pair, same in found
    )


def _words(pair: Pair) -> tuple[str, str, str, str, str]:
    return pair.differs, pair.in_force, pair.reason, pair.other, pair.other_reason


def _example(call: Call) -> Example:
    owner, other = owner_of(call), call.other.user if call.other else ""
    user = call.user if call.method == OIDC else other if call.other and call.other.method == OIDC else ""
    return Example(iso(call.at), call.request_id, f"{call.verb} {call.path}", owner, user)


def _stragglers(
    ledger: Ledger, states: dict[str, State], good: Counter[str] | None, most: int | None
) -> tuple[Straggler, ...]:
    """Those who call most by key alone first."""
    used = Counter(ledger.keys.values())
    behind = ((name, ledger.owners[name]) for name, state in states.items() if state is not State.MOVED)
    found = _first(behind, most, lambda item: (-item[1].by_key_alone, item[0]))
    return tuple(_straggler(name, one, states[name], used[name], good) for name, one in found)


def _straggler(name: str, owner: Owner, state: State, used: int, good: Counter[str] | None) -> Straggler:
    seen, places = owner.seen, sorted((owner.places or {}).items(), key=lambda item: (-item[1].calls, item[0]))
    return Straggler(
        owner=name,
        state=state,
        calls=seen.calls,
        by_key_alone=owner.by_key_alone,
        last_seen=iso(seen.last),
        last_by_key_alone=iso(owner.last_by_key_alone),
        used_keys=used,
        good_keys=None if good is None else good[name],
        look_at=tuple(Look(f"{verb} {one.path}", rule, one.calls) for (verb, rule), one in places),
    )


def _of_file(ledger: Ledger, keys: Iterable[ApiKey] | None, now: float) -> tuple[Counter[str] | None, list[Unused]]:
    """How many good keys each owner has, and those of all that were not used."""
    if keys is None:
        return None, []
    good: Counter[str] = Counter()
    unused = []
    for key in (key for key in keys if verdict(key, now) is None):
        good[key.owner[:MAX_NAME]] += 1
        if key.id not in ledger.keys:
            unused.append(Unused(key.name, key.owner, iso(key.created), iso(ends(key))))
    return good, unused


def ends(key: ApiKey) -> float:
    """When a key that is good now ends by itself."""
    return min(key.expires or float("inf"), key.until or float("inf"))


def iso(instant: float | None) -> str:
    """An instant in UTC; never, or at no time, is the empty text."""
    if instant is None or instant in (float("inf"), float("-inf")):
        return ""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _first(rows: Iterable[_T], most: int | None, order: Callable[[_T], Any]) -> Iterator[_T]:
    """The first rows in this order, or all."""
    return iter(sorted(rows, key=order) if most is None else heapq.nsmallest(most, rows, key=order))
