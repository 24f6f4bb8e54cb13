"""What holds of keys for every schedule of downloads, failures and flushes, in however many processes.

Keys are letters that verify nothing. Instants are whole seconds; no two attempts begin in the same one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

from hypothesis import example, given, settings
from hypothesis import strategies as st

from authsvc.core import keylife, strict
from authsvc.core.jwks import MAX_KEYS, AdmittedKey, KeySet, admit
from authsvc.core.keylife import Attempt, KeyTimes, State
from keys import jwk, key

RETAIN_S = 10.0  # of histories that take 40 s: keys come, go and come again within and beyond it
TIMES = KeyTimes(cache_ttl_s=RETAIN_S, max_stale_s=25)
LETTERS = "abcdef"


@dataclass(frozen=True)
class Event:
    """A download that began at `at`: what it listed, in which order; nothing where it failed."""

    at: int
    listed: str
    flushes: bool = False

    def state(self, copies: int = 1) -> State:
        """What it alone leads to; each letter as so many keys."""
        if not self.listed:
            return State(None, Attempt(self.at, self.at + 2, "timeout", "no answer"))
        found = State(KeySet(self._keys(copies), self.at), Attempt(self.at, self.at + 5, "ok", ""))
        return keylife.flush(State(), found, RETAIN_S) if self.flushes else found

    def _keys(self, copies: int) -> tuple[AdmittedKey, ...]:
        names = [f"{letter}{number}" for letter in self.listed for number in range(copies)]
        return tuple(AdmittedKey(name[0], "EC", name, {}, {}, self.at, self.at) for name in names)


def join(one: State, other: State) -> State:
    return keylife.join(one, other, RETAIN_S)


def joined(states) -> State:
    return reduce(join, states, State())


def counts(state: State, *, with_first: bool = True):
    """What counts of a state, in plain values and in the order in which keys are tried."""
    keys = state.keys and [(k.digest, k.listed_at, k.first_at if with_first else 0) for k in state.keys.keys]
    return state.attempt, keys, state.keys and (state.keys.fetched_at, state.keys.floor)


def digests(keys: KeySet | None) -> set[str]:
    return {one.digest for one in keys.keys} if keys else set()


listings = st.lists(st.sampled_from(LETTERS), unique=True, max_size=4).map("".join)
events = st.builds(Event, st.integers(1001, 1040), listings, st.integers(0, 4).map(lambda n: n == 0))
histories = st.lists(events, max_size=8, unique_by=lambda event: event.at)


@st.composite
def three_states(draw, copies: int = 1, flushes: bool = True, retain_s: float = RETAIN_S):
    """Three processes that each heard some of one history, in any order."""
    history = [event if flushes else replace(event, flushes=False) for event in draw(histories)]
    heard = st.lists(st.sampled_from(history), max_size=6) if history else st.just([])
    return [
        reduce(lambda one, other: keylife.join(one, other, retain_s), (e.state(copies) for e in draw(heard)), State())
        for _ in range(3)
    ]


# Joins ---------------------------------------------------------------------------------------------------------------


@given(states=three_states())
def test_who_joins_whom_does_not_matter(states):
    one, other, _ = states
    assert counts(join(one, other)) == counts(join(other, one))


@given(states=three_states())
def test_hearing_the_same_again_changes_nothing(states):
    one, other, _ = states
    both = join(one, other)
    for again in (one, other, both):
        assert set(counts(join(both, again))[1] or ()) == set(counts(both)[1] or ())
        assert counts(join(both, again))[0::2] == counts(both)[0::2]


@settings(max_examples=200)
@given(states=three_states())
def test_it_does_not_matter_who_joined_before(states):
    """When a key was first listed is left out: of a key that was gone in between it is known only to some."""
    one, two, three = states
    left, right = join(join(one, two), three), join(one, join(two, three))
    assert counts(left, with_first=False) == counts(right, with_first=False)


@given(states=three_states(flushes=False, retain_s=1000.0))
def test_where_no_key_was_gone_when_it_was_first_listed_is_known_to_all(states):
    one, two, three = states
    left = keylife.join(keylife.join(one, two, 1000.0), three, 1000.0)
    assert counts(left) == counts(keylife.join(one, keylife.join(two, three, 1000.0), 1000.0))


@settings(deadline=None)
@given(states=three_states(copies=25))
def test_it_does_not_matter_either_where_there_are_too_many_keys(states):
    """Up to 100 keys in a download, 150 in all."""
    one, two, three = states
    left, right = join(join(one, two), three), join(one, join(two, three))
    assert counts(left, with_first=False) == counts(right, with_first=False)
    assert left.keys is None or len(left.keys.keys) <= MAX_KEYS


@settings(max_examples=200)
@given(history=histories, data=st.data())
def test_what_is_known_follows_from_what_was_heard(history, data):
    """However often and in whatever order: each key lives for as long as the words of the join say."""
    heard = data.draw(st.permutations(history + history[:3]))
    known = joined(event.state() for event in heard)
    good = [event for event in history if event.listed]
    assert (known.keys is None) is (not good)
    assert known.attempt.begun_at == max((event.at for event in history), default=0.0)
    if known.keys is None:
        return
    newest = max(event.at for event in good)
    floor = max((event.at for event in good if event.flushes), default=0)
    last = {letter: max(e.at for e in good if letter in e.listed) for e in good for letter in e.listed}
    alive = {f"{letter}0": at for letter, at in last.items() if at >= floor and newest - at < RETAIN_S}
    assert {one.digest: one.listed_at for one in known.keys.keys} == alive
    assert (known.keys.fetched_at, known.keys.floor) == (newest, floor)
    assert [one.listed_at for one in known.keys.keys] == sorted(alive.values(), reverse=True) or len(heard) == 1


@settings(deadline=None)
@given(states=three_states(copies=25))
def test_no_join_loses_a_key_that_the_newest_download_lists(states):
    known, newest = joined(states), max((s.keys for s in states if s.keys), key=lambda k: k.fetched_at, default=None)
    for one in newest.keys if newest else ():
        assert one.listed_at < newest.fetched_at or one.digest in digests(known.keys)


@given(states=three_states(), now=st.integers(1000, 1080))
def test_nothing_below_the_floor_is_ever_usable(states, now):
    known = joined(states)
    floor = max((state.keys.floor for state in states if state.keys), default=0.0)
    usable = keylife.usable(known.keys, now, TIMES)
    assert all(one.listed_at >= floor for one in (usable.keys if usable else ()))


@given(states=three_states(), at=st.integers(1041, 1080), now=st.integers(1000, 1080))
def test_no_failure_takes_a_key(states, at, now):
    before = joined(states)
    after = join(before, Event(at, "").state())
    assert digests(keylife.usable(after.keys, now, TIMES)) == digests(keylife.usable(before.keys, now, TIMES))


@given(states=three_states(), now=st.integers(1000, 1080))
def test_while_what_is_kept_holds_it_is_what_is_usable(states, now):
    keys = joined(states).keys
    if keys is None:
        return
    found = keylife.kept(keys, now, TIMES)
    assert found.holds(keys, now)
    for at in range(990, 1090):
        if found.holds(keys, at):
            assert keylife.still_usable(found, at, TIMES) == keylife.usable(keys, at, TIMES)


@given(states=three_states(), now=st.integers(1000, 1080))
def test_time_alone_never_makes_a_key_usable(states, now):
    keys = joined(states).keys
    assert digests(keylife.usable(keys, now + 1, TIMES)) <= digests(keylife.usable(keys, now, TIMES))


@given(states=three_states())
def test_two_states_that_were_joined_are_both_not_ahead(states):
    one, other, _ = states
    both = join(one, other)
    assert not keylife.ahead(one, both)
    assert not keylife.ahead(other, both)
    assert keylife.ahead(both, one) is keylife.ahead(other, one)


# A clock that is set back --------------------------------------------------------------------------------------------


@given(states=three_states(), back=st.integers(0, 200), listed=listings.filter(bool))
def test_by_a_clock_that_was_set_back_the_next_download_counts(states, back, listed):
    state, now = joined(states), 1040 - back
    known = keylife.not_after(state, now)
    assert digests(known.keys) == digests(state.keys)
    assert counts(keylife.not_after(known, now)) == counts(known)
    at = now + keylife.CLOCK_SLACK_S + 1  # what was to come by less than that still counts
    after = join(known, Event(at, listed).state())
    assert {f"{letter}0" for letter in listed} <= digests(keylife.usable(after.keys, at, TIMES))
    assert after.attempt.begun_at == at


# A fleet -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What one process does in one second. A download may end late: after all else."""

    does: str
    process: int
    other: int = 0
    listed: str = "a"
    late: bool = False


PROCESSES = range(3)
steps = st.builds(
    Step,
    st.sampled_from(["rotate", "download", "download", "fail", "flush", "exchange", "exchange"]),
    st.sampled_from(PROCESSES),
    st.sampled_from(PROCESSES),
    listings.filter(bool),
    st.booleans(),
)
DONE = {
    "download": Event,
    "fail": lambda at, listed: Event(at, ""),
    "flush": lambda at, listed: Event(at, listed, True),
}


def fleet(schedule: list[Step]) -> tuple[list[State], list[Event]]:
    """What each process knows in the end, and what the provider was asked meanwhile."""
    states, late, asked, listed = [State()] * 3, [], [], "a"
    for at, step in enumerate(schedule, 1):
        if step.does == "rotate":
            listed = step.listed
        elif step.does == "exchange":
            states[step.process] = join(states[step.process], states[step.other])
        else:
            asked.append(DONE[step.does](at, listed))
            ended = step.process, asked[-1].state()
            if step.late:
                late.append(ended)
            else:
                states[step.process] = join(states[step.process], ended[1])
    for process, state in late:
        states[process] = join(states[process], state)
    return states, asked


def exchanged(states: list[State]) -> list[State]:
    """What they know when each has heard of each, twice: what one hears in the second round all have heard before."""
    for _ in range(2):
        for process in PROCESSES:
            states = [*states[:process], joined([states[process], *states]), *states[process + 1 :]]
    return states


@settings(max_examples=200, deadline=None)
@given(schedule=st.lists(steps, max_size=40))
@example([Step("download", 0), Step("rotate", 0, listed="b"), Step("flush", 1), Step("exchange", 2, 0)])
@example([Step("download", 0, late=True), Step("rotate", 0, listed="b"), Step("flush", 1), Step("exchange", 0, 1)])
@example([Step("download", 0), Step("flush", 1), Step("download", 2), Step("exchange", 2, 1), Step("exchange", 1, 0)])
def test_a_fleet_ends_with_one_knowledge_and_every_key_that_the_provider_lists(schedule):
    states, asked = fleet(schedule)
    ended, now = exchanged(states), len(schedule)
    assert all(set(counts(one)[1] or ()) == set(counts(ended[0])[1] or ()) for one in ended)
    assert all(counts(one)[0::2] == counts(ended[0])[0::2] for one in ended)
    good = [event for event in asked if event.listed]
    floor = max((event.at for event in good if event.flushes), default=0)
    since_flush = {f"{letter}0" for event in good if event.at >= floor for letter in event.listed}
    for one in ended:
        usable = digests(keylife.usable(one.keys, now, TIMES))
        assert usable <= since_flush
        if good and now - good[-1].at <= TIMES.max_stale_s:
            assert {f"{letter}0" for letter in good[-1].listed} <= usable


# A shared store ------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def real(event: Event) -> State:
    if not event.listed:
        return event.state()
    entries = [jwk(key("ES256", letter, LETTERS.index(letter))) for letter in event.listed]
    found = State(admit({"keys": entries}, ["ES256"], event.at, "there"), Attempt(event.at, event.at + 5, "ok", ""))
    return keylife.flush(State(), found, RETAIN_S) if event.flushes else found


@settings(max_examples=50, deadline=None)
@given(history=histories)
def test_every_state_goes_through_a_shared_store_unchanged(history):
    state = joined(map(real, history))
    assert counts(keylife.load(strict.json_object(keylife.dump(state)), ["ES256"])) == counts(state)


DUMPED = strict.json_object(keylife.dump(real(Event(1, "ab"))))
PLACES = [
    *((name,) for name in DUMPED),
    *(("attempt", name) for name in DUMPED["attempt"]),
    ("keys", 0),
    *(("keys", 0, name) for name in DUMPED["keys"][0]),
    *(("keys", 0, "jwk", name) for name in DUMPED["keys"][0]["jwk"]),
]


def changed(value, place, new):
    """A copy of a JSON value with something new in this place."""
    if not place:
        return new
    inner = changed(value[place[0]], place[1:], new)
    if isinstance(value, dict):
        return {**value, place[0]: inner}
    return [inner if number == place[0] else item for number, item in enumerate(value)]


@settings(max_examples=200, deadline=None)
@given(place=st.sampled_from(PLACES), new=json_values)
def test_whatever_lies_in_a_shared_store_is_a_state_that_joins_or_is_refused(place, new):
    try:
        state = keylife.load(changed(DUMPED, place, new), ["ES256"])
    except (ValueError, KeyError, TypeError):
        return
    for known in (join(state, real(Event(2, "b"))), keylife.not_after(state, 3)):
        keylife.usable(known.keys, 3, TIMES)
        assert keylife.ahead(known, State())
        assert counts(keylife.load(strict.json_object(keylife.dump(known)), ["ES256"])) == counts(known)
