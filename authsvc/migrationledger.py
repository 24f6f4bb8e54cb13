"""What is kept of an audit log to tell how far the move to OIDC has come: of a million lines only tallies.

Three rules hold:

- A call belongs to the owner of a key where a known key was sent, in force or beside a token.
- A token is good where it was in force and the call was allowed (or only its limit was used up), or where it was sent
  beside a key that was in force and would have been allowed. A call with a key and no good token is one by key alone.
- An owner has moved where his last good token is later than his last call by key alone, and that call lies longer than
  `settled_s` before the last line. His tokens are those that he sent beside a key, and those in whose user or client
  his own name stands: what `both: require_same_owner` takes for the same owner.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum, unique

from authsvc.auditlog import API_KEY, OIDC, Call

GOOD = frozenset({"allowed", "public", "rate_limited"})  # reasons that say nothing against the credential
SETTLED_S = 7 * 86400  # a weekly job by key alone is still seen
MAX_NAME = 128  # characters of an owner that an audit line holds
MOST_USERS, MOST_PLACES, MOST_EXAMPLES = 8, 5, 3  # kept of one owner, of one owner, and of one difference
_NEVER = float("-inf")


@unique
class State(StrEnum):
    """How far an owner is."""

    KEYS_ONLY = "keys_only"  # no good token of his was seen
    PARTLY = "partly"  # good tokens, and calls by key alone not long ago
    MOVED = "moved"
    UNSEEN = "unseen"  # no line names him


@dataclass(slots=True)
class Tally:
    """How often and when; `client` is the latest that asked for a token."""

    first: float = float("inf")
    last: float = _NEVER
    calls: int = 0
    allowed: int = 0
    client: str = ""

    def add(self, call: Call) -> None:
        if call.at < self.first:
            self.first = call.at
        if call.at > self.last:
            self.last = call.at
        self.calls += 1
        self.allowed += call.allowed
        self.client = call.client


@dataclass(slots=True)
class Place:
    """Calls with one HTTP method under one rule; `path` is that of the latest."""

    path: str = ""
    calls: int = 0


@dataclass(slots=True)
class Owner:
    """The calls that came with an owner's keys, and the users of the tokens beside them."""

    seen: Tally = field(default_factory=Tally)
    by_key_alone: int = 0
    last_by_key_alone: float = _NEVER
    last_good_token: float = _NEVER
    users: tuple[str, ...] = ()
    places: dict[tuple[str, str], Place] | None = None

    def add(self, call: Call) -> None:
        self.seen.add(call)
        user = _token_user(call)
        if user and user not in self.users and len(self.users) < MOST_USERS:
            self.users += (user,)
        if _token_is_good(call):
            self.last_good_token = max(self.last_good_token, call.at)
            return
        self.by_key_alone += 1
        self.last_by_key_alone = max(self.last_by_key_alone, call.at)
        self._look_at(call)

    def _look_at(self, call: Call) -> None:
        self.places = {} if self.places is None else self.places
        name = call.verb, call.rule
        if name in self.places or len(self.places) < MOST_PLACES:
            place = self.places.setdefault(name, Place())
            place.path, place.calls = call.path, place.calls + 1


@dataclass(frozen=True, slots=True)
class Pair:
    """What two credentials on one call came to, and in what they differ."""

    differs: str
    in_force: str
    reason: str
    other: str
    other_reason: str


@dataclass(slots=True)
class Pairs:
    """How many calls came to the same, and the latest of them."""

    calls: int = 0
    examples: deque[Call] = field(default_factory=lambda: deque(maxlen=MOST_EXAMPLES))


class Ledger:
    """All tallies: of callers by method, provider and user; of owners and tokens by name; of keys by id."""

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self.span = Tally()
        self.methods: Counter[tuple[str, bool]] = Counter()  # by method, and whether the call was allowed
        self.refusals: Counter[tuple[str, str]] = Counter()  # by method and reason
        self.callers: dict[tuple[str, str, str], Tally] = {}
        self.owners: dict[str, Owner] = {}
        self.keys: dict[str, str] = {}  # whose they are
        self.tokens: dict[str, float] = {}  # when one was good last, by its user and by its client
        self.both = 0
        self.kinds: Counter[str] = Counter()
        self.pairs: dict[Pair, Pairs] = {}
        for call in calls:
            self.add(call)

    def add(self, call: Call) -> None:
        self.span.add(call)
        self.methods[call.method, call.allowed] += 1
        if not call.allowed:
            self.refusals[call.method, call.reason] += 1
        if call.user:
            self._add_caller(call)
        owner = owner_of(call)
        if owner:
            self._add_owner(owner, call)
        self._compare(call)

    def _add_caller(self, call: Call) -> None:
        name = call.method, call.provider, call.user
        tally = self.callers.get(name)
        if tally is None:
            tally = self.callers[name] = Tally()
        tally.add(call)
        if call.method == OIDC and call.reason in GOOD:
            for text in filter(None, (call.user, call.client)):
                self.tokens[text] = max(self.tokens.get(text, _NEVER), call.at)

    def _add_owner(self, name: str, call: Call) -> None:
        owner = self.owners.get(name)
        if owner is None:
            owner = self.owners[name] = Owner()
        owner.add(call)
        key = call.client if call.method == API_KEY else call.other.client if call.other else ""
        if key:
            self.keys[key] = name

    def _compare(self, call: Call) -> None:
        if call.other is None:
            return
        self.both += 1
        self.kinds.update(call.other.differs or ("none",))
        for kind in call.other.differs:
            pair = Pair(kind, call.method, call.reason, call.other.method, call.other.reason)
            same = self.pairs.setdefault(pair, Pairs())
            same.calls += 1
            same.examples.append(call)

    def state(self, name: str, settled_s: float) -> State:
        """How far this owner is at the time of the last line."""
        name = name[:MAX_NAME]
        owner = self.owners.get(name, _NOBODY)
        good = max(owner.last_good_token, *(self.tokens.get(user, _NEVER) for user in (name, *owner.users)))
        if good == _NEVER:
            return State.KEYS_ONLY if owner.seen.calls else State.UNSEEN
        alone = owner.last_by_key_alone
        return State.MOVED if good > alone and self.span.last - alone > settled_s else State.PARTLY

    def others(self) -> Iterator[bool]:
        """Of each user of tokens who is not known as the owner of a key, whether one of them was good."""
        known = {*self.owners, *(user for owner in self.owners.values() for user in owner.users)}
        for (method, _, user), tally in self.callers.items():
            if method == OIDC and user not in known and tally.client not in self.owners:
                yield user in self.tokens


_NOBODY = Owner()


def owner_of(call: Call) -> str:
    """Whose known key was sent; nobody's where none was."""
    if call.method == API_KEY:
        return call.user
    return call.other.user if call.other and call.other.method == API_KEY else ""


def _token_user(call: Call) -> str:
    if call.method == OIDC:
        return call.user
    return call.other.user if call.other and call.other.method == OIDC else ""


def _token_is_good(call: Call) -> bool:
    if call.method == OIDC:
        return call.reason in GOOD
    return call.other is not None and call.other.method == OIDC and call.other.reason in GOOD
