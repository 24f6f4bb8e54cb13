"""How long keys live, and when the provider is asked again. Keys are letters, instants are seconds after NOW.

What holds for every schedule of downloads is in test_key_properties.py.
"""

import json
from dataclasses import replace
from functools import reduce
from itertools import permutations
from math import inf

import pytest

from authsvc.core import jwks, keylife, signature, strict
from authsvc.core.jwks import Dropped
from authsvc.core.keylife import CLOCK_SLACK_S, Attempt, KeyTimes, State
from keys import jwk, key
from keys import signature as signed
from worlds import NOW

TIMES = KeyTimes(cache_ttl_s=3600, refresh_interval_s=300, max_stale_s=86400)
SOURCE = "https://id.example.com/jwks"
DECADE_S = 10 * 365 * 86400
SYMMETRIC = {"kty": "oct", "kid": "s", "k": "AA"}
PRIVATE = {"kty": "RSA", "d": "AA"}
ENCRYPTING = {"kty": "RSA", "kid": "e", "use": "enc"}


def signer(letter):
    return key("ES256", letter, ord(letter) - ord("a"))


def listing(letters, at, *others):
    """What a good download brings that began then and lists these keys, and other entries."""
    entries = [jwk(signer(letter)) for letter in letters]
    keys = jwks.admit({"keys": [*entries, *others]}, ["ES256"], NOW + at, SOURCE)
    return State(keys, Attempt(NOW + at, NOW + at + 300, "ok", ""))


def failure(at):
    return State(None, Attempt(NOW + at, NOW + at + 10, "timeout", "no whole answer within 3 s"))


def joined(*states, retain_s=3600.0):
    return reduce(lambda one, other: keylife.join(one, other, retain_s), states, State())


def known(*downloads):
    return joined(*(listing(letters, at) for letters, at in downloads))


def flushed(state, listed):
    return keylife.flush(state, listed, 3600.0)


def kids(keys):
    return None if keys is None else "".join(one.kid for one in keys.keys)


def lived(state):
    """When each key was first and last listed."""
    return {one.kid: (one.first_at - NOW, one.listed_at - NOW) for one in state.keys.keys}


def plain(state):
    """All that counts of a state, in plain values; verifiers are made anew wherever a state is loaded."""
    keys = state.keys
    listed = keys and [(k.digest, k.kid, k.kty, k.jwk, k.listed_at, k.first_at, k.source) for k in keys.keys]
    return state.attempt, listed, keys and (keys.fetched_at, keys.floor, keys.dropped)


def table(cases):
    """Parameters for cases by their sentence."""
    return {"argvalues": cases.values(), "ids": cases.keys()}


# What two processes know, joined -------------------------------------------------------------------------------------


def test_where_nobody_knows_anything_nothing_is_known_and_the_state_says_so():
    assert joined(State(), State()) == State()
    assert State().attempt.error == "no download has ended yet"


RETENTION = {
    "of one download all": ([("ab", 0)], "ab"),
    "a new key is added": ([("a", 0), ("ab", 60)], "ab"),
    "a key that the newest does not list stays": ([("ab", 0), ("b", 3599)], "ba"),
    "until cache_ttl after it was last listed": ([("ab", 0), ("b", 3600)], "b"),
    "it counts from when it was last listed": ([("ab", 0), ("ab", 3000), ("b", 6599)], "ba"),
    "further downloads do not keep it": ([("a", 0), ("b", 1800), ("b", 3599), ("b", 3600)], "b"),
    "gone and listed again it is good": ([("a", 0), ("b", 4000), ("ab", 8000)], "ab"),
    "the one listed last comes first": ([("a", 0), ("b", 60), ("c", 120)], "cba"),
    "of those listed last all, then the others": ([("abc", 0), ("bc", 60), ("ac", 120)], "acb"),
}


@pytest.mark.parametrize(("downloads", "there"), **table(RETENTION))
def test_in_whatever_order_downloads_arrive_the_same_is_known(downloads, there):
    assert {kids(known(*order).keys) for order in permutations(downloads)} == {there}


def test_a_key_knows_when_it_was_first_and_last_listed():
    for order in permutations([("ab", 0), ("ab", 60), ("b", 120)]):
        assert lived(known(*order)) == {"a": (0, 60), "b": (0, 120)}


def test_when_a_key_was_first_listed_is_forgotten_by_who_knew_it_as_gone():
    """The one thing that depends on the order. It is only shown, and who heard of both tells the others."""
    first, gone, again = listing("a", 0), listing("b", 5000), listing("a", 4000)
    assert lived(joined(first, gone, again)) == {"a": (4000, 4000), "b": (5000, 5000)}
    assert lived(joined(first, again, gone)) == {"a": (0, 4000), "b": (5000, 5000)}


def test_what_the_newest_download_dropped_is_what_is_dropped():
    older, newer = listing("a", 0, SYMMETRIC), listing("a", 60, ENCRYPTING)
    for state in (joined(older, newer), joined(newer, older)):
        assert state.keys.dropped == (Dropped("e", "not a signing key"),)


def test_of_keys_with_one_kid_the_one_listed_last_is_tried_first():
    first, second = (
        State(jwks.admit({"keys": [jwk(key("ES256", "k", number))]}, ["ES256"], NOW + number * 60)) for number in (0, 1)
    )
    verifiers = [state.keys.keys[0].verifiers["ES256"] for state in (second, first)]
    for state in (joined(first, second), joined(second, first)):
        assert state.keys.candidates("k", "ES256") == verifiers


def many(prefix, count, at):
    """A download of as many keys; one key many times, since making them takes long."""
    (one,) = listing("a", at).keys.keys
    keys = tuple(replace(one, kid=f"{prefix}{n}", digest=f"{prefix}{n}") for n in range(count))
    return State(jwks.KeySet(keys, NOW + at), Attempt(NOW + at))


def test_of_more_than_a_hundred_keys_those_listed_last_are_known():
    state = joined(many("a", 60, 0), many("b", 60, 60))
    names = [one.kid for one in state.keys.keys]
    assert len(names) == 100
    assert {f"b{n}" for n in range(60)} < set(names)


def test_which_keys_are_beyond_a_hundred_does_not_depend_on_the_order_in_which_they_are_listed_or_arrive():
    """The provider turned its list around, and 99 newer keys leave room for one of it."""
    old, newest = many("a", 2, 0), many("b", 99, 120)
    turned = State(replace(many("a", 2, 60).keys, keys=many("a", 2, 60).keys.keys[::-1]))
    assert {joined(*order).keys.keys[-1].kid for order in permutations([old, turned, newest])} == {"a0"}


def test_a_failed_attempt_takes_nothing_and_is_told():
    before = listing("ab", 0)
    for state in (joined(before, failure(60)), joined(failure(60), before)):
        assert plain(state)[1:] == plain(before)[1:]
        assert state.attempt == failure(60).attempt


def test_the_last_attempt_is_the_one_that_began_last():
    states = [failure(0), listing("a", 60), failure(120), State()]
    assert {joined(*order).attempt for order in permutations(states)} == {failure(120).attempt}
    assert joined(failure(0), listing("a", 60)).attempt.outcome == "ok"


# A flush -------------------------------------------------------------------------------------------------------------

FLUSHES = {
    "what is not listed is dropped": (lambda: flushed(known(("ab", 0)), listing("b", 60)), "b"),
    "where nothing was known": (lambda: flushed(State(), listing("b", 60)), "b"),
    "where only a failure was known": (lambda: flushed(failure(30), listing("b", 60)), "b"),
    "whoever still knows it": (
        lambda: joined(flushed(known(("ab", 0)), listing("b", 60)), known(("ab", 0), ("b", 30))),
        "b",
    ),
    "an older download that ends late does not bring it back": (
        lambda: joined(flushed(known(("ab", 0)), listing("b", 60)), listing("ab", 59)),
        "b",
    ),
    "nor does a copy that had newer downloads": (
        lambda: joined(flushed(known(("ab", 0)), listing("b", 60)), known(("ab", 0), ("b", 90))),
        "b",
    ),
    "listed again after the flush it is good again": (
        lambda: joined(flushed(known(("ab", 0)), listing("b", 60)), listing("ab", 61)),
        "ab",
    ),
    "listed by a download that began later than the flush's it stays": (
        lambda: flushed(known(("ab", 61)), listing("b", 60)),
        "ab",
    ),
    "a second flush drops what the first left": (
        lambda: flushed(flushed(known(("abc", 0)), listing("bc", 60)), listing("c", 120)),
        "c",
    ),
    "an earlier flush that arrives late takes nothing more": (
        lambda: joined(flushed(known(("abc", 0)), listing("c", 120)), flushed(State(), listing("bc", 60))),
        "c",
    ),
    "what is listed no more after a flush stays for cache_ttl like any other": (
        lambda: joined(flushed(known(("ab", 0)), listing("ab", 60)), listing("b", 120)),
        "ba",
    ),
}


@pytest.mark.parametrize(("made", "there"), **table(FLUSHES))
def test_a_flush_drops_what_is_not_listed(made, there):
    assert kids(made().keys) == there


def test_a_flush_is_something_later_and_stays_known():
    before, listed = known(("ab", 0), ("ab", 60)), listing("b", 60)
    after = flushed(before, listed)
    assert after.keys.floor == NOW + 60
    assert keylife.ahead(after, before)
    assert joined(after, known(("a", 300))).keys.floor == NOW + 60


# Who knows more ------------------------------------------------------------------------------------------------------

LATER = {
    "nothing is not ahead of nothing": (State, State, False),
    "anything is ahead of nothing": (lambda: failure(0), State, True),
    "nothing is not ahead of anything": (State, lambda: failure(0), False),
    "a state is not ahead of itself": (lambda: listing("a", 0), lambda: listing("a", 0), False),
    "a later download": (lambda: listing("a", 60), lambda: listing("a", 0), True),
    "an earlier download": (lambda: listing("a", 0), lambda: listing("a", 60), False),
    "a later failure, though its keys are older": (
        lambda: joined(listing("a", 0), failure(120)),
        lambda: listing("a", 60),
        True,
    ),
    "newer keys, though its last attempt is older": (
        lambda: listing("a", 60),
        lambda: joined(listing("a", 0), failure(120)),
        True,
    ),
    "a retained key is nothing later": (lambda: known(("ab", 0), ("b", 60)), lambda: listing("b", 60), False),
}


@pytest.mark.parametrize(("one", "other", "ahead"), **table(LATER))
def test_who_knows_something_later_is_ahead(one, other, ahead):
    assert keylife.ahead(one(), other()) is ahead


ADDS = {
    "nothing adds nothing to nothing": (State, State, False),
    "anything adds to nothing": (lambda: listing("a", 0), State, True),
    "nothing adds nothing to anything": (State, lambda: listing("a", 0), False),
    "a state adds nothing to itself": (lambda: listing("a", 0), lambda: listing("a", 0), False),
    "a failure later adds": (lambda: failure(60), lambda: listing("a", 0), True),
    "a failure before adds nothing": (lambda: failure(-60), lambda: listing("a", 0), False),
    "a download later adds, though of fewer keys": (lambda: listing("a", 60), lambda: listing("ab", 0), True),
    "a download before adds the key that only it lists": (lambda: listing("ab", 0), lambda: listing("a", 60), True),
    "a download before adds nothing where its keys are known": (
        lambda: listing("a", 0),
        lambda: listing("ab", 60),
        False,
    ),
    "an empty state adds nothing to a failure": (State, lambda: failure(0), False),
}


@pytest.mark.parametrize(("one", "other", "adds"), **table(ADDS))
def test_who_knows_something_later_or_another_key_adds_to_what_is_known(one, other, adds):
    assert keylife.adds(one(), other()) is adds


# What may verify now -------------------------------------------------------------------------------------------------

ROTATED = [("ab", 0), ("b", 60)]  # a is listed no more
USABLE = {
    "at once": (ROTATED, 60, "ba"),
    "just before cache_ttl has passed since it was listed": (ROTATED, 3599, "ba"),
    "one that is listed no more ends cache_ttl after it was": (ROTATED, 3600, "b"),
    "an outage never takes a listed key": (ROTATED, 60 + 86400, "b"),
    "until max_stale": (ROTATED, 60 + 86401, None),
    "where all are listed all stay": ([("ab", 0)], 86400, "ab"),
    "a reading from before the download": (ROTATED, -1000, "ba"),
}


@pytest.mark.parametrize(("downloads", "now", "there"), **table(USABLE))
def test_listed_keys_verify_until_max_stale_and_the_others_until_cache_ttl(downloads, now, there):
    assert kids(keylife.usable(known(*downloads).keys, NOW + now, TIMES)) == there


@pytest.mark.parametrize("now", [60, 3599, 3600, 60 + 86400, 60 + 86401])
def test_failed_attempts_never_shorten_what_is_usable(now):
    outage = joined(known(*ROTATED), *(failure(at) for at in range(70, now, 3000)))
    assert kids(keylife.usable(outage.keys, NOW + now, TIMES)) == kids(
        keylife.usable(known(*ROTATED).keys, NOW + now, TIMES)
    )


def test_where_there_are_no_keys_none_are_usable():
    assert keylife.usable(None, NOW, TIMES) is None


def test_where_all_keys_are_usable_they_are_not_copied():
    keys = known(*ROTATED).keys
    assert keylife.usable(keys, NOW + 60, TIMES) is keys


@pytest.mark.parametrize(
    ("now", "since", "until"),
    [
        (-9000, -inf, 3600),
        (60, -inf, 3600),
        (3600, 3600, 3660),
        (3659, 3600, 3660),
        (3660, 3660, inf),
        (99999, 3660, inf),
    ],
)
def test_what_is_kept_is_kept_until_the_next_key_ends(now, since, until):
    keys = known(("abc", 0), ("bc", 60), ("c", 90)).keys
    found = keylife.kept(keys, NOW + now, TIMES)
    assert (found.since, found.until) == (NOW + since, NOW + until)
    assert found.holds(keys, NOW + now)
    assert not found.holds(replace(keys), NOW + now)
    assert not found.holds(keys, found.until)
    assert found.since == -inf or not found.holds(keys, found.since - 1)


def test_each_key_ends_when_it_is_said_to():
    keys = known(*ROTATED).keys
    ends = {one.kid: keylife.expires_at(one, keys, TIMES) - NOW for one in keys.keys}
    assert ends == {"a": 3600, "b": 60 + 86400}
    for kid, end in ends.items():
        assert kid in kids(keylife.usable(keys, NOW + end - 1, TIMES))
        assert kid not in (kids(keylife.usable(keys, NOW + end + 1, TIMES)) or "")


@pytest.mark.parametrize(("now", "stale"), [(0, False), (3600, False), (3601, True), (-60, False)])
def test_keys_are_stale_when_the_provider_has_not_answered_for_cache_ttl(now, stale):
    assert keylife.stale(known(("a", 0)).keys, NOW + now, TIMES) is stale


# When to ask again ---------------------------------------------------------------------------------------------------

DUE = {
    "at first": (State(), 0, True),
    "just after a download": (listing("a", 0), 0, False),
    "just before the next": (listing("a", 0), 299, False),
    "the next": (listing("a", 0), 300, True),
    "long after": (listing("a", 0), 90000, True),
    "just after a failure": (failure(0), 1, False),
    "the next after a failure": (failure(0), 10, True),
    "just after one, less a tenth of the interval as jitter": (listing("a", 0), -30, False),
    "in a process whose clock is behind, with jitter": (listing("a", 0), -CLOCK_SLACK_S - 29, False),
    "by a clock that was set back by an hour": (listing("a", 0), -3600, True),
    "by a clock that was set back by ten years": (listing("a", 0), -DECADE_S, True),
    "by a clock that was set back after a failure": (failure(0), -3600, True),
}


@pytest.mark.parametrize(("state", "now", "due"), **table(DUE))
def test_a_download_is_due_when_its_time_has_come_or_cannot_come(state, now, due):
    assert keylife.due(state, NOW + now, TIMES) is due


@pytest.mark.parametrize("interval_s", [1, 30, 60, 300, 86400])
def test_in_a_fleet_whose_clocks_differ_nobody_asks_again_at_once(interval_s):
    """Else the process whose clock is behind would ask all the time, and its older instants would count for nothing."""
    state = State(None, Attempt(NOW, NOW + interval_s, "ok", ""))
    for behind in (0, 1, 30, 59.9):
        assert not keylife.due(state, NOW - behind, KeyTimes(refresh_interval_s=interval_s))


PAUSES = {
    "no max-age": (None, 300, 300),
    "max-age 0": (0, 300, 60),
    "max-age 15": (15, 300, 60),
    "max-age 60": (60, 300, 60),
    "max-age 200": (200, 300, 200),
    "max-age 300": (300, 300, 300),
    "max-age 20000": (20000, 300, 300),
    "max-age of 10 years": (DECADE_S, 300, 300),
    "max-age beyond counting": (float("inf"), 300, 300),
    "max-age below 0": (-1, 300, 60),
    "no max-age, an interval of 20 s": (None, 20, 20),
    "max-age 0, an interval of 20 s": (0, 20, 20),
    "max-age 30, an interval of 20 s": (30, 20, 20),
    "max-age 20000, an interval of a day": (20000, 86400, 20000),
}


@pytest.mark.parametrize(("max_age_s", "interval_s", "pause_s"), **table(PAUSES))
def test_the_provider_may_ask_for_a_shorter_pause_but_not_for_a_longer_one(max_age_s, interval_s, pause_s):
    assert keylife.pause_s(max_age_s, KeyTimes(refresh_interval_s=interval_s)) == pause_s


RETRIES = {
    "with keys": (listing("a", 0), 300, 10),
    "with keys and a failure": (joined(listing("a", 0), failure(60)), 300, 10),
    "without keys": (State(), 300, 2),
    "without keys after a failure": (failure(0), 300, 2),
    "with keys, an interval of 5 s": (listing("a", 0), 5, 5),
    "without keys, an interval of 1 s": (State(), 1, 1),
}


@pytest.mark.parametrize(("state", "interval_s", "retry_s"), **table(RETRIES))
def test_a_failed_download_is_tried_again_soon_and_sooner_without_keys(state, interval_s, retry_s):
    assert keylife.retry_s(state, KeyTimes(refresh_interval_s=interval_s)) == retry_s


# A clock that was set back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [State(), failure(0), failure(CLOCK_SLACK_S), listing("ab", 0), known(("a", 0), ("b", CLOCK_SLACK_S))],
)
def test_a_state_whose_instants_have_come_or_come_within_a_minute_is_not_changed(state):
    assert keylife.not_after(state, NOW) is state


TO_COME = {
    "a failure": failure(7200),
    "a download": listing("ab", 7200),
    "downloads before and after": known(("ab", -600), ("bc", 7200)),
    "a failure after a good download": joined(listing("ab", -600), failure(7200)),
    "a flush": flushed(known(("ab", -600)), listing("b", 7200)),
}


@pytest.mark.parametrize("state", **table(TO_COME))
def test_by_a_clock_that_was_set_back_no_instant_is_to_come_and_no_key_is_lost(state):
    back = keylife.not_after(state, NOW)
    keys = back.keys.keys if back.keys else ()
    instants = [back.attempt.begun_at, *(at for one in keys for at in (one.first_at, one.listed_at))]
    assert max(instants) <= NOW
    assert back.keys is None or max(back.keys.fetched_at, back.keys.floor) <= NOW
    assert kids(back.keys) == kids(state.keys)
    assert keylife.usable(back.keys, NOW, TIMES) == back.keys
    assert keylife.due(back, NOW, TIMES)


def test_earlier_instants_stay_when_the_clock_was_set_back():
    back = keylife.not_after(known(("ab", -600), ("bc", 2400)), NOW)
    assert lived(back) == {"a": (-600, -600), "b": (-600, 0), "c": (0, 0)}


def test_by_a_clock_that_was_set_back_a_download_counts_again():
    before = listing("ab", 7200)
    ignored = joined(before, listing("bc", 60))
    assert kids(ignored.keys) == "ab"  # two hours before the newest, as it seems
    heeded = joined(keylife.not_after(before, NOW), listing("bc", 60))
    assert (kids(heeded.keys), heeded.keys.fetched_at) == ("bca", NOW + 60)


def test_by_a_clock_that_was_set_back_a_flush_stays_in_force():
    back = keylife.not_after(flushed(known(("ab", -600)), listing("b", 7200)), NOW)
    assert kids(joined(back, known(("ab", -600))).keys) == "b"


# What an operator hears ----------------------------------------------------------------------------------------------

UNSAFE = "key 's' is not used: a symmetric key does not belong in a published set"
NEWS = {
    "at first, of keys nothing": (None, listing("ab", 60), []),
    "at first, of unsafe keys only": (None, listing("a", 60, SYMMETRIC, ENCRYPTING), [UNSAFE]),
    "where nothing changed": (known(("ab", 0)), listing("ab", 60), []),
    "where the order changed": (known(("ab", 0)), listing("ba", 60), []),
    "a key came": (known(("a", 0)), listing("ab", 60), ["key 'b' is new"]),
    "a key went": (known(("ab", 0)), listing("b", 60), ["key 'a' is listed no more"]),
    "one came and one went": (known(("a", 0)), listing("b", 60), ["key 'b' is new", "key 'a' is listed no more"]),
    "a key went and stays for a while": (
        known(("ab", 0)),
        known(("ab", 0), ("b", 60)),
        ["key 'a' is listed no more"],
    ),
    "it went long ago": (known(("ab", 0), ("b", 30)), listing("b", 60), []),
    "it went and came again": (known(("ab", 0), ("b", 30)), listing("ab", 60), ["key 'a' is new"]),
    "an unsafe key came": (known(("a", 0)), listing("a", 60, SYMMETRIC), [UNSAFE]),
    "an unsafe key is still there": (listing("a", 0, SYMMETRIC), listing("a", 60, SYMMETRIC), []),
    "an unsafe key went": (listing("a", 0, SYMMETRIC), listing("a", 60), []),
    "an unsafe key without kid": (
        known(("a", 0)),
        listing("a", 60, PRIVATE),
        ["a key without kid is not used: the provider publishes a private key"],
    ),
    "a key that is not ours to use": (known(("a", 0)), listing("a", 60, ENCRYPTING), []),
    "a key without kid": (
        known(("a", 0)),
        listing("a", 60, jwk(signer("b"), kid=None)),
        ["a key without kid is new"],
    ),
    "a kid with a line break": (
        known(("a", 0)),
        listing("a", 60, jwk(signer("b"), kid="b\nc")),
        [r"key 'b\nc' is new"],
    ),
}


@pytest.mark.parametrize(("before", "after", "lines"), **table(NEWS))
def test_the_news_of_a_download_are_what_changed(before, after, lines):
    assert keylife.news(before and before.keys, after.keys) == lines


# Through a shared store ----------------------------------------------------------------------------------------------


def loaded(state, algorithms=("ES256",)):
    return keylife.load(strict.json_object(keylife.dump(state)), algorithms)


STATES = {
    "nothing": State(),
    "a failure": failure(0),
    "a download": listing("ab", 0),
    "several, and a failure": joined(known(("ab", 0), ("bc", 60)), failure(120)),
    "with keys that are not used": listing("a", 0, SYMMETRIC, PRIVATE, ENCRYPTING, None),
    "a key without kid": listing("a", 0, jwk(signer("b"), kid=None)),
    "after a flush": flushed(known(("ab", 0)), listing("bc", 60)),
    "an instant between two seconds": listing("a", 0.123456),
}


@pytest.mark.parametrize("state", **table(STATES))
def test_a_state_goes_through_the_shared_store_unchanged(state):
    again = loaded(state)
    assert plain(again) == plain(state)
    assert not keylife.ahead(again, state)
    assert not keylife.ahead(state, again)


def test_a_loaded_key_verifies():
    (verifier,) = loaded(listing("a", 0)).keys.candidates("a", "ES256")
    assert signature.matches(verifier, b"signed", signed(b"signed", signer("a")))
    assert not signature.matches(verifier, b"signed", signed(b"signed", signer("b")))


def members(value):
    """The names of all members, at any depth."""
    if isinstance(value, dict):
        return set(value) | members(list(value.values()))
    return set().union(*map(members, value)) if isinstance(value, list) else set()


def test_no_private_member_is_in_a_dump():
    private = [jwk(signer("b"), d="c2VjcmV0"), jwk(key("RS256"), p="c2VjcmV0"), {**SYMMETRIC, "k": "c2VjcmV0"}]
    dumped = keylife.dump(listing("a", 0, *private))
    assert not members(json.loads(dumped)) & {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
    assert b"c2VjcmV0" not in dumped


def test_a_loaded_state_is_admitted_afresh_for_the_algorithms_of_now():
    state = listing("a", 0)
    assert set(loaded(state, ["ES256", "RS256"]).keys.keys[0].verifiers) == {"ES256"}
    with pytest.raises(ValueError, match="no usable key"):
        loaded(state, ["RS256"])


def test_without_keys_any_algorithms_will_do():
    assert loaded(failure(0), []) == failure(0)


GOOD = json.loads(keylife.dump(listing("a", 0, SYMMETRIC)))
ENTRY, ATTEMPT = GOOD["keys"][0], GOOD["attempt"]
WRONG = {
    "nothing": {},
    "a list": [],
    "null": None,
    "the format before": {"fetched_at": NOW, "keys": [{"jwk": ENTRY["jwk"], "listed_at": NOW}]},
    "an attempt that is null": {**GOOD, "attempt": None},
    "an attempt that is a list": {**GOOD, "attempt": [1, 2, "ok", ""]},
    "an attempt with a member of a later version": {**GOOD, "attempt": {**ATTEMPT, "by": "worker 7"}},
    "an attempt that began soon": {**GOOD, "attempt": {**ATTEMPT, "begun_at": "soon"}},
    "an attempt whose next is null": {"attempt": {**ATTEMPT, "next_at": None}},
    "an attempt below 0": {**GOOD, "attempt": {**ATTEMPT, "begun_at": -1}},
    "keys that are null": {**GOOD, "keys": None},
    "keys that are a text": {**GOOD, "keys": "a"},
    "keys that are an object": {**GOOD, "keys": ENTRY},
    "a key that is a number": {**GOOD, "keys": [1]},
    "a key that is null": {**GOOD, "keys": [{**ENTRY, "jwk": None}]},
    "a symmetric key": {**GOOD, "keys": [{**ENTRY, "jwk": SYMMETRIC}]},
    "a private key": {**GOOD, "keys": [{**ENTRY, "jwk": {**ENTRY["jwk"], "d": "AA"}}]},
    "a key off its curve": {**GOOD, "keys": [{**ENTRY, "jwk": {**ENTRY["jwk"], "x": ENTRY["jwk"]["y"]}}]},
    **{
        f"a key without {name}": {**GOOD, "keys": [{n: value for n, value in ENTRY.items() if n != name}]}
        for name in ENTRY
    },
    **{f"without {name}": {n: value for n, value in GOOD.items() if n != name} for name in GOOD if name != "keys"},
    **{
        f"{name} {value!r:.20}": {**GOOD, name: value}
        for name in ("fetched_at", "floor")
        for value in (None, "now", "nan", float("nan"), float("inf"), -1, 10**400, [1])
    },
    **{
        f"a key's {name} {value!r:.20}": {**GOOD, "keys": [{**ENTRY, name: value}]}
        for name in ("first_at", "listed_at")
        for value in (None, "nan", float("nan"), 10**400)
    },
    "dropped that is null": {**GOOD, "dropped": None},
    "dropped that are numbers": {**GOOD, "dropped": [1]},
    "dropped with a member of a later version": {**GOOD, "dropped": [{**GOOD["dropped"][0], "since": 1}]},
}


@pytest.mark.parametrize("document", **table(WRONG))
def test_what_is_no_dumped_state_is_not_loaded(document):
    with pytest.raises((ValueError, KeyError, TypeError)):
        keylife.load(document, ["ES256"])


@pytest.mark.parametrize("ahead_s", [-100, 0, 30])
def test_what_begins_now_is_later_than_all_that_is_known(ahead_s):
    """Also where another clock of the fleet is ahead: what the provider says now must win the join."""
    known = State(None, Attempt(NOW + ahead_s, NOW + 300, "ok", ""))
    begun_at = keylife.after(known, NOW)
    assert begun_at >= NOW
    assert keylife.ahead(State(None, Attempt(begun_at, NOW + 300, "ok", "")), known)
