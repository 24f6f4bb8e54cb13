"""What a fleet shares through memcached is sealed: nobody can plant a key, or forbid a download for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from authsvc.adapters.keyring import Keyring
from authsvc.adapters.sharedkeys import FORCED, REFRESH, Refused
from authsvc.adapters.store import MemoryStore, Store, StoreDown
from authsvc.core import jwks
from authsvc.core.keylife import Attempt, State
from authsvc.core.provider import Provider
from authsvc.core.signature import ALGORITHMS
from authsvc.demo.behaviours import Behaviour
from authsvc.demo.issuer import Issuer, SigningKey
from authsvc.demo.processes import Memcached
from helpers import Clock, CountingStore, Patient, in_threads
from rings import SECRET, TIMES, Heard, Recorded, Rings, dead_store, kids, provider_of, share
from waiting import within

NOW = 1_800_000_000.25
JWK = SigningKey("key-1").jwk()
PROVIDER = Provider("demo", "https://idp.example", frozenset({"api"}), ALGORITHMS, jwks_uri="https://idp.example/keys")


def state_of(now: float = NOW, jwk: dict[str, Any] = JWK) -> State:
    return State(jwks.admit({"keys": [jwk]}, ALGORITHMS, now, "source"), Attempt(now, now + 300, "ok", ""))


def sealed(provider: Provider = PROVIDER, secret: bytes = SECRET, state: State | None = None) -> bytes:
    entry = share(MemoryStore(), secret).swap(provider, None, state or state_of())
    assert entry is not None
    return entry


def refusal(entry: bytes, now: float = NOW, provider: Provider = PROVIDER) -> str:
    with pytest.raises(Refused) as caught:
        share(MemoryStore()).open(provider, entry, now)
    return str(caught.value)


# ---- entries


@pytest.fixture(params=["memory", "memcached"])
def store(request: pytest.FixtureRequest, memcached: Memcached) -> Iterator[Store]:
    """Empty, although every test has the same place in it."""
    if request.param == "memory":
        yield MemoryStore()
        return
    recorded = Recorded(Patient([f"127.0.0.1:{memcached.port}"]))
    yield recorded
    for place in recorded.written:
        recorded.set(place, b"", 1)
        recorded.swap(place, b"", b"", -1)


def test_what_one_puts_there_another_reads(store: Store) -> None:
    entry = share(store).swap(PROVIDER, None, state_of())
    assert share(store).read([PROVIDER]) == {"demo": entry}
    assert entry is not None
    found = share(store).open(PROVIDER, entry, NOW)
    assert (kids(found.keys), found.attempt) == (["key-1"], state_of().attempt)


def test_an_entry_is_replaced_only_by_who_has_seen_it(store: Store) -> None:
    one, other = share(store), share(store)
    first = one.swap(PROVIDER, None, state_of())
    assert other.swap(PROVIDER, None, state_of(NOW + 1)) is None
    second = other.swap(PROVIDER, first, state_of(NOW + 2))
    assert second is not None
    assert one.swap(PROVIDER, first, state_of(NOW + 3)) is None
    assert one.read([PROVIDER]) == {"demo": second}


def test_the_entries_of_several_providers_are_read_in_one_round_trip() -> None:
    store = CountingStore(MemoryStore())
    shared, others = share(store), [replace(PROVIDER, name=name) for name in ("a", "b", "c")]
    entries = {provider.name: shared.swap(provider, None, state_of()) for provider in others[:2]}
    store.calls.clear()
    assert shared.read(others) == entries
    assert store.calls == ["get_many"]


def test_where_memcached_is_down_nothing_is_read_and_putting_is_store_down() -> None:
    shared = share(dead_store())
    assert shared.read([PROVIDER]) == {}
    with pytest.raises(StoreDown):
        shared.swap(PROVIDER, None, state_of())
    with pytest.raises(StoreDown):
        shared.claim(PROVIDER, FORCED, NOW, 30)


def flipped(number: int) -> Callable[[bytes], bytes]:
    return lambda entry: entry[:number] + bytes([entry[number] ^ 1]) + entry[number + 1 :]


PLANTED = pytest.mark.parametrize(
    "plant",
    [
        pytest.param(flipped(0), id="a flipped bit in the seal"),
        pytest.param(flipped(64), id="a flipped bit between seal and keys"),
        pytest.param(flipped(65), id="a flipped bit at the start of the keys"),
        pytest.param(flipped(-2), id="a flipped bit near the end"),
        pytest.param(lambda entry: entry[65:], id="keys without a seal"),
        pytest.param(lambda entry: b" " + entry[65:], id="keys with an empty seal"),
        pytest.param(lambda entry: entry[:65], id="a seal without keys"),
        pytest.param(lambda entry: entry + b" ", id="one byte more"),
        pytest.param(lambda entry: entry[:-1], id="one byte less"),
        pytest.param(lambda entry: entry.upper(), id="capitals"),
        pytest.param(lambda entry: b"", id="nothing"),
        pytest.param(lambda entry: b"junk", id="junk"),
        pytest.param(lambda entry: b"\xff\x00 \xfe" * 1000, id="bytes that are no text"),
        pytest.param(lambda entry: b"\x80\x04\x95.", id="a pickle"),
        pytest.param(lambda entry: entry[:65] + b"x" * 900_000, id="900 kB"),
        pytest.param(lambda entry: sealed(secret=b"another secret, long enough to be accepted"), id="another's secret"),
    ],
)


@PLANTED
def test_a_planted_entry_is_tampered(plant: Callable[[bytes], bytes]) -> None:
    assert refusal(plant(sealed())) == "tampered"


def test_the_seal_of_a_marker_does_not_pass_for_one_of_an_entry_nor_for_another_marker() -> None:
    store, heard = Recorded(MemoryStore()), Heard()
    shared = share(store, heard=heard)
    for what in (FORCED, REFRESH):
        assert shared.claim(PROVIDER, what, NOW, 30) == NOW
    (forced,) = (value for place, value in store.written.items() if place.endswith(FORCED))
    (at,) = (place for place in store.written if place.endswith(REFRESH))
    assert refusal(forced) == "tampered"
    store.set(at, forced, 60)
    assert shared.claim(PROVIDER, REFRESH, NOW + 1, 30) == NOW + 1
    assert heard.events == ["tampered"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"name": "other"}, id="of another name"),
        pytest.param({"issuer": "https://other.example"}, id="of another issuer"),
        pytest.param({"jwks_uri": "https://other.example/keys"}, id="with another source of keys"),
        pytest.param({"jwks_uri": None}, id="with discovery"),
        pytest.param({"algorithms": frozenset({"RS256"})}, id="with other algorithms"),
    ],
)
def test_the_entry_does_not_pass_for_a_provider(changes: dict[str, Any]) -> None:
    """An entry that somebody copied to the place of another provider's."""
    assert refusal(sealed(), provider=replace(PROVIDER, **changes)) == "tampered"


@pytest.mark.parametrize(
    ("state", "shift", "good"),
    [
        pytest.param(state_of(), 0, True, id="of just now"),
        pytest.param(state_of(), 86400, True, id="as old as keys may be"),
        pytest.param(state_of(), 99999, True, id="older than keys may be, of which nothing is usable"),
        pytest.param(state_of(), -59, True, id="of a clock a little ahead"),
        pytest.param(state_of(), -61, False, id="from the future"),
        pytest.param(State(None, Attempt(NOW, NOW + 2, "timeout", "x")), -59, True, id="without keys, a little ahead"),
        pytest.param(State(None, Attempt(NOW, NOW + 2, "timeout", "x")), -61, False, id="without keys, of the future"),
        pytest.param(State(None, Attempt(NOW, NOW + 2, "timeout", "x")), 99999, True, id="without keys, and old"),
    ],
)
def test_a_genuine_entry(state: State, shift: float, good: bool) -> None:
    if good:
        assert share(MemoryStore()).open(PROVIDER, sealed(state=state), NOW + shift) == state or state.keys
    else:
        assert refusal(sealed(state=state), NOW + shift) == "outdated"


def test_no_private_member_of_a_key_and_no_secret_is_ever_shared() -> None:
    entry = sealed(state=state_of(jwk={**JWK, "x5c": ["secret-looking"]}))
    assert b"secret-looking" not in entry
    assert SECRET not in entry
    assert b"key-1" in entry


def test_who_has_another_secret_has_another_place_and_no_quarrel() -> None:
    store, theirs = MemoryStore(), b"another secret, long enough to be accepted"
    heard, others = Heard(), Heard()
    one, other = share(store, heard=heard), share(store, theirs, heard=others)
    entry = one.swap(PROVIDER, None, state_of())
    assert other.read([PROVIDER]) == {}
    assert other.swap(PROVIDER, None, state_of(NOW + 1)) is not None
    assert one.claim(PROVIDER, FORCED, NOW, 30) == other.claim(PROVIDER, FORCED, NOW, 30) == NOW
    assert one.read([PROVIDER]) == {"demo": entry}
    assert heard.events == others.events == []


# ---- markers


def test_one_of_eight_claims_wins_and_the_others_learn_when_that_was(store: Store) -> None:
    """In memcached a marker lasts for whole seconds, by its own clock: what counts is the time in the marker."""
    won: list[float] = []
    in_threads(8, lambda number: won.append(share(store).claim(PROVIDER, FORCED, NOW, 30)))
    assert sorted(won) == [NOW - 0.001] * 7 + [NOW]
    assert share(store).claim(PROVIDER, FORCED, NOW + 29.9, 30) == NOW
    won.clear()
    in_threads(8, lambda number: won.append(share(store).claim(PROVIDER, FORCED, NOW + 30, 30)))
    assert won.count(NOW + 30) == 1


@pytest.mark.parametrize("now", [NOW + part for part in (0.0004, 0.0006, 0.123456, 0.9999)])
def test_the_others_learn_the_exact_moment(now: float) -> None:
    """Rounded up, it would lie after the download that began then, and whoever waits for that would wait in vain."""
    store = MemoryStore()
    assert share(store).claim(PROVIDER, FORCED, now, 30) == now
    assert share(store).claim(PROVIDER, FORCED, now + 1, 30) == now


def test_a_forced_download_and_one_of_the_background_are_claimed_apart(store: Store) -> None:
    shared = share(store)
    assert shared.claim(PROVIDER, FORCED, NOW, 30) == shared.claim(PROVIDER, REFRESH, NOW, 5) == NOW


@pytest.mark.parametrize(
    ("back_s", "allowed"),
    [pytest.param(30, False, id="a little"), pytest.param(3600, True, id="an hour")],
)
def test_where_the_clock_was_set_back_a_marker_forbids_only(back_s: float, allowed: bool) -> None:
    shared = share(MemoryStore())
    shared.claim(PROVIDER, FORCED, NOW, 30)
    assert (shared.claim(PROVIDER, FORCED, NOW - back_s, 30) == NOW - back_s) is allowed


@pytest.mark.parametrize(
    "planted",
    [b"x", b"nan", b"inf", b"-inf", b"", b"1e400", b"9" * 5000, b"0", b"99999999999", b"%.3f" % NOW, b"\xff\x00 \xfe"],
)
@pytest.mark.parametrize("what", [FORCED, REFRESH])
def test_a_planted_marker_forbids_nothing_and_is_reported(store: Store, what: str, planted: bytes) -> None:
    recorded, heard = Recorded(store), Heard()
    shared = share(recorded, heard=heard)
    shared.claim(PROVIDER, what, NOW, 30)
    (place,) = recorded.written
    store.set(place, planted, 60)
    assert shared.claim(PROVIDER, what, NOW + 5, 30) == NOW + 5
    assert heard.events == ["tampered"]
    assert shared.claim(PROVIDER, what, NOW + 6, 30) == NOW + 5  # and it was replaced


def test_a_replayed_marker_forbids_nothing_once_its_own_time_is_over() -> None:
    store, heard = Recorded(MemoryStore()), Heard()
    shared = share(store, heard=heard)
    shared.claim(PROVIDER, FORCED, NOW, 30)
    ((place, marker),) = store.written.items()
    store.set(place, marker, 10**6)
    assert shared.claim(PROVIDER, FORCED, NOW + 31, 30) == NOW + 31
    store.set(place, marker, 10**6)
    assert shared.claim(PROVIDER, FORCED, NOW + 32, 30) == NOW + 32
    assert heard.events == []


# ---- what running processes make of it


@pytest.mark.alone
@pytest.mark.parametrize(
    "planted",
    [b"nan", b"inf", b"-inf", b"junk", b"", b"1e400", b"9" * 5000, b"0", b"1", b"99999999999"],
)
def test_a_planted_marker_neither_stops_nor_delays_a_forced_download(
    make: Rings, issuer: Issuer, clock: Clock, planted: bytes
) -> None:
    """Whoever can write to memcached must not keep a withdrawn key alive, nor a new one out."""
    store = Recorded(MemoryStore())
    ring = make.quiet(store)
    issuer.rotate()
    clock.pass_(400)
    for what in (FORCED, REFRESH):
        store.set(f"{store.place}:{what}", planted, 10**6)
    started = time.monotonic()
    assert kids(ring.refresh("demo", clock.now)) == ["key-1", "key-2"]
    ring.refresh("demo", clock.now)
    assert time.monotonic() - started < 0.5
    assert issuer.fetches == 2


def test_a_planted_marker_does_not_stop_the_refresh_in_the_background(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    store = Recorded(MemoryStore())
    ring = make.started(store)
    issuer.rotate()
    store.set(f"{store.place}:{REFRESH}", b"99999999999", 10**6)
    clock.pass_(331)
    assert within(5, lambda: kids(ring.current("demo", clock.now)) == ["key-1", "key-2"])


@PLANTED
def test_a_planted_entry_is_no_start(
    make: Rings, issuer: Issuer, clock: Clock, plant: Callable[[bytes], bytes]
) -> None:
    """The keys come from the provider, and the entry is replaced by a genuine one."""
    store, heard = Recorded(MemoryStore()), Heard()
    make.quiet(store)
    store.set(store.place, plant(store.written[store.place]), 60)
    clock.pass_(10)  # else the marker of the first download counts still
    ring = make.quiet(store, heard=heard)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    assert ring.status()["demo"].taken_from == "provider"
    assert set(heard.events) == {"tampered"}
    assert issuer.fetches == 2
    assert kids(share(store).open(provider_of(issuer), store.get(store.place) or b"", clock.now).keys) == ["key-1"]


@pytest.mark.alone
def test_a_tampered_entry_is_replaced_within_a_second_and_nothing_of_it_is_taken(
    make: Rings, issuer: Issuer, clock: Clock, address: str
) -> None:
    store, heard = Recorded(Patient([address])), Heard()
    ring = make.started(store, heard=heard)
    genuine = store.written[store.place]
    store.set(store.place, flipped(100)(genuine), 60)
    assert within(1, lambda: store.get(store.place) == genuine)
    assert heard.events == ["tampered"]
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    assert issuer.fetches == 1


@pytest.mark.alone
def test_a_memcached_that_was_flushed_is_filled_again_within_a_second(
    make: Rings, issuer: Issuer, clock: Clock, address: str
) -> None:
    store, heard = Recorded(Patient([address])), Heard()
    make.started(store, heard=heard)
    genuine, swaps = store.written[store.place], store.calls.count("swap")
    assert store.swap(store.place, genuine, b"", -1)  # expires at once
    assert within(1, lambda: store.calls.count("swap") > swaps + 1 and store.get(store.place) == genuine)
    assert heard.events == []
    issuer.behave(Behaviour.ERROR)
    assert kids(make.quiet(store).current("demo", clock.now)) == ["key-1"]


def test_a_replay_of_an_older_set_replaces_nothing_and_is_reported_and_replaced(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    store, heard = Recorded(MemoryStore()), Heard()
    ring = make.started(store, heard=heard)
    old = store.written[store.place]
    issuer.rotate(keep_old=False)
    clock.pass_(3700)
    ring.refresh("demo", clock.now)
    assert kids(ring.current("demo", clock.now)) == ["key-2"]
    newest = store.written[store.place]
    assert "outdated" not in heard.events
    store.set(store.place, old, 60)
    assert within(5, lambda: store.get(store.place) == newest)
    assert kids(ring.current("demo", clock.now)) == ["key-2"]
    assert heard.events.count("outdated") == 1
    assert issuer.fetches == 2


def test_a_process_that_starts_on_a_replayed_set_downloads_the_new_one_at_once(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    store = Recorded(MemoryStore())
    make.quiet(store)
    issuer.rotate(keep_old=False)
    clock.pass_(3700)
    assert kids(make.quiet(store).current("demo", clock.now)) == ["key-2"]


def test_a_genuine_entry_that_is_too_old_is_replaced(make: Rings, issuer: Issuer, clock: Clock) -> None:
    store, heard = Recorded(MemoryStore()), Heard()
    make.quiet(store)
    clock.pass_(TIMES.max_stale_s + 1)
    ring = make.quiet(store, heard=heard)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    assert set(heard.events) == {"outdated"}
    assert kids(share(store).open(provider_of(issuer), store.get(store.place) or b"", clock.now).keys) == ["key-1"]


def test_a_failure_that_a_clock_an_hour_ahead_has_shared_is_forgotten(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    """A machine boots with a wrong clock, trusts no certificate, says so to the fleet, and then gets the time."""
    store = Recorded(MemoryStore())
    issuer.behave(Behaviour.ERROR)
    make.quiet(store, clock=Clock(clock.now + 3600))
    issuer.behave(Behaviour.OK)
    ring = make.quiet(store)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    status = ring.status()["demo"]
    assert (status.outcome, status.error, status.next_refresh_s) == ("ok", "", 300)
    assert share(store).open(provider_of(issuer), store.get(store.place) or b"", clock.now).attempt.outcome == "ok"


def test_two_fleets_with_different_secrets_on_one_memcached_leave_each_other_alone(
    make: Rings, issuer: Issuer, clock: Clock, address: str
) -> None:
    store, heard, others = Recorded(Patient([address])), Heard(), Heard()
    theirs = share(store, b"another secret, long enough to be accepted", heard=others)
    ring = Keyring([provider_of(issuer)], TIMES, theirs, others, clock)
    ring.start()
    make.started(store, heard=heard)
    before = len(store.written)
    assert issuer.fetches == 2
    assert not within(1.2, lambda: bool(heard.events or others.events))
    assert len(store.written) == before
    ring.stop()


class Lying(MemoryStore):
    """A memcached in somebody else's hands: every place is taken, and no exchange works."""

    shared = True

    def add(self, key: str, value: bytes, ttl_s: int) -> bool:
        return False

    def swap(self, key: str, old: bytes | None, new: bytes, ttl_s: int) -> bool:
        return False


@pytest.mark.parametrize("lies", [None, b"junk", b"0" * 64 + b" 1800000000.0"])
def test_a_store_that_denies_every_exchange_forbids_no_download(lies: bytes | None) -> None:
    store = Lying()
    if lies is not None:
        place = f"{share(store)._place(PROVIDER)}:{FORCED}"
        store.set(place, lies, 60)
    assert share(store).claim(PROVIDER, FORCED, NOW, 30) == NOW
