"""Keys come, rotate, vanish and outlive outages; a fleet downloads once, and a call waits for two seconds at most."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from authsvc.adapters import config
from authsvc.adapters.discovery import download
from authsvc.adapters.keyring import Keyring
from authsvc.adapters.memcached import MemcachedStore
from authsvc.adapters.store import MemoryStore, Store
from authsvc.core import keylife
from authsvc.core.keylife import Attempt, KeyTimes, State
from authsvc.core.model import MustWait, Reason
from authsvc.demo.behaviours import Behaviour
from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import Memcached, free_port
from authsvc.service import Service
from helpers import Clock, CountingStore, Patient, in_threads, paused
from rings import (
    TIMES,
    Heard,
    Recorded,
    Rings,
    asks,
    dead_store,
    gate_with,
    kids,
    provider_of,
    share,
    with_kid,
)
from waiting import within

# the second where the last download failed: the key may be new and cannot be had now
REFUSALS_OF_UNKNOWN_KEYS = (Reason.UNKNOWN_KEY, Reason.KEYS_UNAVAILABLE)
WAIT_S = 2.0  # what a call waits for keys at most
SLACK_S = 0.6  # threads on a busy machine


@pytest.fixture(params=["memory", "memcached"])
def store(request: pytest.FixtureRequest, address: str) -> Store:
    return MemoryStore() if request.param == "memory" else Patient([address])


@contextlib.contextmanager
def takes(at_most_s: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < at_most_s


# ---- start


def test_it_starts_with_the_providers_keys(make: Rings, clock: Clock) -> None:
    ring = make.quiet()
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    status = ring.status()["demo"]
    assert (status.problem, status.outcome, status.keys, status.taken_from) == ("", "ok", 1, "provider")
    assert ring.trouble("demo") == ""


def test_it_starts_without_the_provider_says_so_and_recovers_by_itself_soon(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    issuer.behave(Behaviour.ERROR)
    ring = make.started()
    assert ring.current("demo", clock.now) is None
    assert "500" in ring.status()["demo"].problem
    assert "500" in ring.status()["demo"].told()["problem"]
    issuer.behave(Behaviour.OK)
    clock.pass_(2.3)  # the pause while there are no keys, and its jitter
    assert within(5, lambda: ring.status()["demo"].problem == "")
    assert kids(ring.current("demo", clock.now)) == ["key-1"]


def test_one_provider_that_is_down_does_not_hold_up_the_others(issuer: Issuer, clock: Clock) -> None:
    gone = provider_of(issuer, name="gone", issuer="http://127.0.0.1:1", jwks_uri=f"http://127.0.0.1:{free_port()}/")
    ring = Keyring([provider_of(issuer), gone], TIMES, None, Heard(), clock)
    ring.start()
    ring.stop()
    assert ring.status()["demo"].problem == ""
    assert "cannot connect" in ring.status()["gone"].problem


@pytest.mark.alone
def test_several_providers_that_hang_hold_the_start_up_for_one_deadline(issuer: Issuer, clock: Clock) -> None:
    issuer.behave(Behaviour.HANG)
    ring = Keyring([provider_of(issuer, name=name) for name in "abc"], TIMES, None, Heard(), clock)
    with takes(WAIT_S + SLACK_S):
        ring.start()
    ring.stop()
    assert {status.outcome for status in ring.status().values()} == {"timeout"}


def test_without_any_provider_it_starts_too(clock: Clock) -> None:
    ring = Keyring([], TIMES, None, Heard(), clock)
    ring.start()
    ring.stop()
    assert ring.status() == {}


def test_with_the_provider_down_it_starts_on_the_fleets_copy_and_says_so(
    make: Rings, issuer: Issuer, clock: Clock, store: Store
) -> None:
    make.quiet(store)
    issuer.behave(Behaviour.DOWN)
    clock.pass_(400)
    ring = make.quiet(store)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    told = ring.status()["demo"].told()
    assert (told["from"], told["age_s"], told["stale"]) == ("memcached", 400, False)
    assert "cannot connect" in told["last_error"]


# ---- rotation and vanishing


def test_after_a_rotation_the_first_token_with_the_new_key_is_accepted(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    ring = make.quiet()
    gate, old = gate_with(ring, issuer), issuer.token()
    assert asks(gate, old, clock.now) is Reason.ALLOWED
    issuer.rotate()
    assert asks(gate, issuer.token(), clock.now) is Reason.ALLOWED
    assert asks(gate, old, clock.now) is Reason.ALLOWED
    assert issuer.fetches == 2


def test_a_rotation_under_the_same_kid_is_found_by_the_failing_signature(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    ring = make.quiet()
    issuer.rotate(keep_old=False)
    issuer.keys[0].kid = "key-1"
    assert asks(gate_with(ring, issuer), issuer.token(), clock.now) is Reason.ALLOWED


def test_a_new_key_is_accepted_at_the_next_refresh_without_any_token(make: Rings, issuer: Issuer, clock: Clock) -> None:
    heard = Heard()
    ring = make.started(heard=heard)
    issuer.rotate()
    clock.pass_(331)  # the interval and its jitter
    assert within(5, lambda: kids(ring.current("demo", clock.now)) == ["key-1", "key-2"])
    assert "forced" not in heard.events


def test_a_key_that_vanished_stays_until_the_cache_ttl_then_goes(make: Rings, issuer: Issuer, clock: Clock) -> None:
    ring = make.quiet()
    seen = clock.now
    issuer.rotate(keep_old=False)
    clock.pass_(100)
    ring.refresh("demo", clock.now)
    assert kids(ring.current("demo", clock.now)) == ["key-1", "key-2"]
    assert kids(ring.current("demo", seen + 3599)) == ["key-1", "key-2"]
    assert kids(ring.current("demo", seen + 3601)) == ["key-2"]


def test_keys_are_the_same_object_until_one_ends_since_tokens_are_remembered_with_it(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    ring = make.quiet()
    seen = clock.now
    issuer.rotate(keep_old=False)
    clock.pass_(100)
    ring.refresh("demo", clock.now)
    both, one = ring.current("demo", clock.now), ring.current("demo", seen + 3601)
    assert ring.current("demo", seen + 3602) is one
    assert ring.current("demo", seen + 9000) is one
    assert ring.current("demo", seen + 200) is both  # a clock that is set back
    assert ring.current("demo", seen + 100 + 86401) is None


def test_a_key_that_vanished_does_not_live_longer_by_more_downloads(make: Rings, issuer: Issuer, clock: Clock) -> None:
    ring = make.quiet()
    seen = clock.now
    issuer.rotate(keep_old=False)
    while clock.now < seen + 3601:
        clock.pass_(600)
        ring.refresh("demo", clock.now)
    assert kids(ring.current("demo", clock.now)) == ["key-2"]


def test_who_looked_just_before_anothers_download_gets_its_result_too(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    """Else a valid token would be refused: the set it was looked up in is old, and the cool-down has begun."""
    ring = make.quiet()
    issuer.rotate()
    seen = ring.current("demo", clock.now)
    ring.refresh("demo", clock.now)  # another call, with the new key
    assert kids(seen) == ["key-1"]
    assert kids(ring.refresh("demo", clock.now)) == ["key-1", "key-2"]


@pytest.mark.parametrize("back_s", [30, 59, 61, 3600])
def test_a_new_key_is_accepted_after_the_clock_was_set_back(
    make: Rings, issuer: Issuer, clock: Clock, back_s: float
) -> None:
    ring = make.quiet()
    issuer.rotate()
    clock.pass_(-back_s)
    assert kids(ring.refresh("demo", clock.now)) == ["key-1", "key-2"]
    assert ring.status()["demo"].next_refresh_s <= TIMES.refresh_interval_s + 60


def test_a_new_key_is_accepted_where_the_clock_is_behind_that_of_the_fleet(
    make: Rings, issuer: Issuer, clock: Clock, store: Store
) -> None:
    """What one of them downloads now is the newest, whatever the other's clock says of its own, earlier download."""
    behind = Clock(clock.now - 30)
    ahead, late = make.started(store), make.quiet(store, clock=behind)
    issuer.rotate()
    behind.pass_(5)
    assert kids(late.refresh("demo", behind.now)) == ["key-1", "key-2"]
    assert within(5, lambda: kids(ahead.current("demo", clock.now)) == ["key-1", "key-2"])
    assert issuer.fetches == 2


# ---- a provider in trouble

OUTCOMES = {
    Behaviour.DOWN: "unreachable",
    Behaviour.HANG: "timeout",
    Behaviour.ERROR: "status_5xx",
    Behaviour.HTML: "not_json",
    Behaviour.HALF: "broken",
    Behaviour.GARBAGE: "not_json",
    Behaviour.EMPTY: "no_keys",
    Behaviour.REDIRECT: "redirect",
    Behaviour.BOMB: "compressed",
    Behaviour.DRIP: "timeout",
    Behaviour.ENDLESS: "too_large",
}


def test_every_trouble_a_provider_can_have_is_in_the_table() -> None:
    assert OUTCOMES.keys() == set(Behaviour) - {Behaviour.OK}


@pytest.mark.alone
@pytest.mark.parametrize("behaviour", OUTCOMES, ids=lambda behaviour: behaviour.value)
def test_good_keys_stay_until_they_are_too_old_where_the_provider(
    make: Rings, issuer: Issuer, clock: Clock, behaviour: Behaviour
) -> None:
    heard = Heard()
    ring = make.quiet(heard=heard)
    issuer.behave(behaviour)
    clock.pass_(60)
    with takes(WAIT_S + SLACK_S):
        assert kids(ring.refresh("demo", clock.now)) == ["key-1"]
    assert within(5, lambda: heard.refreshes == ["ok", OUTCOMES[behaviour]])
    status = ring.status()["demo"]
    assert (status.problem, status.outcome, status.keys, status.age_s) == ("", OUTCOMES[behaviour], 1, 60)
    assert status.error == ring.trouble("demo") != ""
    assert asks(gate_with(ring, issuer), issuer.token(), clock.now) is Reason.ALLOWED
    clock.pass_(TIMES.max_stale_s - 60)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    clock.pass_(1)
    assert ring.current("demo", clock.now) is None
    assert ring.status()["demo"].problem == status.error
    assert asks(gate_with(ring, issuer), issuer.token(exp=None), clock.now) is Reason.KEYS_UNAVAILABLE


@pytest.mark.parametrize("behaviour", [Behaviour.ERROR, Behaviour.DOWN, Behaviour.HALF], ids=lambda one: one.value)
def test_after_a_start_without_keys_they_come_with_the_next_attempt_where_the_provider(
    make: Rings, issuer: Issuer, clock: Clock, behaviour: Behaviour
) -> None:
    issuer.behave(behaviour)
    ring = make.quiet()
    assert ring.current("demo", clock.now) is None
    issuer.behave(Behaviour.OK)
    clock.pass_(31)
    assert asks(gate_with(ring, issuer), issuer.token(), clock.now) is Reason.ALLOWED
    assert ring.trouble("demo") == ""


def test_keys_that_are_too_old_have_a_problem_also_where_nothing_failed(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    ring = make.quiet()
    clock.pass_(TIMES.max_stale_s + 1)
    assert ring.status()["demo"].problem == "its keys are too old"


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"kty": "oct", "k": "c2VjcmV0", "kid": "key-1"}, id="a symmetric key of its kid"),
        pytest.param({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "key-1"}, id="a short key of its kid"),
        pytest.param({"kty": "RSA", "kid": ["key-1"]}, id="a key that is none"),
        pytest.param({}, id="an empty one"),
    ],
)
@pytest.mark.parametrize("good_too", [True, False], ids=["beside it", "in its place"])
def test_a_good_key_survives(
    make: Rings, issuer: Issuer, clock: Clock, extra: dict[str, object], good_too: bool
) -> None:
    heard = Heard()
    ring = make.quiet(heard=heard)
    issuer.extra = [extra]
    issuer.keys = issuer.keys if good_too else []
    clock.pass_(60)
    assert kids(ring.refresh("demo", clock.now)) == ["key-1"]
    assert heard.refreshes == ["ok", "ok" if good_too else "no_keys"]


def test_good_keys_survive_an_outage_longer_than_the_cache_ttl(make: Rings, issuer: Issuer, clock: Clock) -> None:
    ring = make.quiet()
    issuer.behave(Behaviour.ERROR)
    for _ in range(20):
        clock.pass_(1000)
        ring.refresh("demo", clock.now)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]


def test_the_use_of_stale_keys_is_reported(make: Rings, issuer: Issuer, clock: Clock) -> None:
    heard = Heard()
    ring = make.quiet(heard=heard)
    clock.pass_(TIMES.cache_ttl_s)
    ring.current("demo", clock.now)
    assert (heard.events, ring.status()["demo"].stale) == ([], False)
    clock.pass_(1)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    assert (heard.events, ring.status()["demo"].stale) == (["stale_use"], True)


def test_what_befalls_keys_is_said_once(make: Rings, issuer: Issuer, clock: Clock) -> None:
    heard = Heard()
    ring = make.quiet(heard=heard)

    def twice() -> list[str]:
        """What two more downloads make it say."""
        heard.said.clear()
        for _ in range(2):
            clock.pass_(31)
            ring.refresh("demo", clock.now)
        return heard.said

    assert twice() == []
    issuer.behave(Behaviour.ERROR)
    failed = f"demo: the key download failed: {issuer.url}/keys: the answer is 500, not 200"
    assert [line.partition(";")[0] for line in twice()] == [failed]
    issuer.behave(Behaviour.HTML)
    assert [line.partition(" (")[0] for line in twice()] == [
        f"demo: the key download failed: {issuer.url}/keys: the answer is no usable JSON document"
    ]
    issuer.behave(Behaviour.OK)
    assert twice() == ["demo: the key download works again"]
    issuer.rotate()
    assert twice() == ["demo: key 'key-2' is new"]
    issuer.withdraw("key-1")
    assert twice() == ["demo: key 'key-1' is listed no more"]
    issuer.extra = [
        {**issuer.keys[0].jwk(), "d": "AQAB", "kid": "leaked"},
        {"kty": "oct", "k": "AQAB", "kid": "shared"},
    ]
    assert twice() == [
        "demo: key 'leaked' is not used: the provider publishes a private key",
        "demo: key 'shared' is not used: a symmetric key does not belong in a published set",
    ]
    assert not any("AQAB" in line for line in heard.said)


def test_at_the_start_nothing_is_said_of_good_keys_and_all_of_bad_ones(make: Rings, issuer: Issuer) -> None:
    heard = Heard()
    issuer.extra = [{"kty": "oct", "k": "AQAB"}]
    make.quiet(heard=heard)
    assert heard.said == ["demo: a key without kid is not used: a symmetric key does not belong in a published set"]


# ---- the pause between downloads


@pytest.mark.parametrize(
    ("cache_control", "pause_s"),
    [
        pytest.param(None, 300, id="nothing is said"),
        pytest.param("max-age=120", 120, id="less is asked for"),
        pytest.param("public, max-age=15, stale-while-revalidate=15", 60, id="fifteen seconds are asked for"),
        pytest.param("max-age=0", 60, id="none at all is asked for"),
        pytest.param("no-cache, no-store, must-revalidate", 300, id="no caching is asked for"),
        pytest.param("max-age=86400", 300, id="a day is asked for"),
        pytest.param("max-age=-5", 300, id="nonsense is asked for"),
    ],
)
def test_the_pause_where(make: Rings, issuer: Issuer, clock: Clock, cache_control: str | None, pause_s: float) -> None:
    issuer.cache_control = cache_control
    assert make.quiet().status()["demo"].next_refresh_s == pause_s


def test_a_provider_that_asks_for_a_shorter_pause_is_asked_again_after_it(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    issuer.cache_control = "max-age=1"
    make.started()
    clock.pass_(59)
    assert not within(0.7, lambda: issuer.fetches > 1)
    clock.pass_(8)  # the jitter is a tenth of the pause
    assert within(5, lambda: issuer.fetches == 2)


def test_the_background_tells_how_many_keys_there_are_and_how_old(make: Rings, issuer: Issuer, clock: Clock) -> None:
    heard = Heard()
    make.started(heard=heard)
    assert within(5, lambda: (1, 0) in heard.states)
    issuer.behave(Behaviour.ERROR)
    clock.pass_(100)
    assert within(5, lambda: (1, 100) in heard.states)
    clock.pass_(TIMES.max_stale_s)
    assert within(5, lambda: (0, TIMES.max_stale_s + 100) in heard.states)


def test_without_any_keys_the_background_tells_of_none(make: Rings, issuer: Issuer) -> None:
    heard = Heard()
    issuer.behave(Behaviour.ERROR)
    make.started(heard=heard)
    assert within(5, lambda: (0, 0) in heard.states)


# ---- one forced download per cool-down


@contextlib.contextmanager
def memcached_that_is(state: str, memcached: Memcached) -> Iterator[Store | None]:
    with contextlib.ExitStack() as stack:
        if state == "hanging":
            stack.enter_context(paused(memcached.pid))
        living = MemcachedStore([f"127.0.0.1:{memcached.port}"])
        yield {"up": living, "hanging": living, "down": dead_store()}.get(state)


@pytest.mark.alone
@pytest.mark.parametrize("state", ["not configured", "up", "down", "hanging"])
@pytest.mark.parametrize(
    "behaviour",
    [Behaviour.OK, Behaviour.ERROR, Behaviour.EMPTY, Behaviour.DOWN, Behaviour.HANG],
    ids=lambda behaviour: behaviour.value,
)
def test_a_thousand_random_kids_make_one_download_a_cooldown(
    make: Rings, issuer: Issuer, clock: Clock, memcached: Memcached, behaviour: Behaviour, state: str
) -> None:
    heard, token, calls = Heard(), issuer.token(), iter(range(10**6))
    with memcached_that_is(state, memcached) as store:
        ring = make.quiet(store, heard=heard)
        gate = gate_with(ring, issuer)
        clock.pass_(5)
        issuer.behave(behaviour)
        issuer.asked.clear()

        def call(count: int) -> None:
            for _ in range(count):
                assert asks(gate, with_kid(token, f"random-{next(calls)}"), clock.now) in REFUSALS_OF_UNKNOWN_KEYS

        with takes(WAIT_S + 2 * SLACK_S):
            in_threads(10, lambda _: call(100))
        assert within(5, lambda: len(heard.refreshes) == 2)
        clock.pass_(29.9)
        call(1)
        assert (heard.events.count("forced"), len(heard.refreshes)) == (1, 2)
        clock.pass_(0.2)
        call(1)
        assert within(5, lambda: len(heard.refreshes) == 3)
        assert heard.events.count("forced") == 2
        assert heard.events.count("cooldown") > 0
        assert len(issuer.asked) == (0 if behaviour is Behaviour.DOWN else 2)
        assert asks(gate, token, clock.now) is Reason.ALLOWED


def test_a_thousand_tokens_while_no_key_was_ever_had_make_one_download(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    issuer.behave(Behaviour.ERROR)
    gate, token = gate_with(make.quiet(), issuer), issuer.token()
    issuer.asked.clear()
    reasons = {asks(gate, token, clock.now) for _ in range(1000)}
    assert reasons == {Reason.KEYS_UNAVAILABLE}
    assert len(issuer.asked) == 1


@pytest.mark.alone
@pytest.mark.parametrize("state", ["not configured", "down", "hanging"])
def test_a_provider_that_hangs_holds_nobody_longer_than_the_deadline_with_memcached(
    make: Rings, issuer: Issuer, clock: Clock, memcached: Memcached, state: str
) -> None:
    issuer.drip_s = 0.5  # so that no single read takes a second, and the total deadline is what ends it
    issuer.behave(Behaviour.DRIP)
    with memcached_that_is(state, memcached) as store:
        ring = make(store)
        with takes(WAIT_S + SLACK_S):
            in_threads(4, lambda _: ring.refresh("demo", clock.now))
    assert len(issuer.asked) == 1


class Stuck(MemoryStore):
    """Once told so it answers no question until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.let_go.set()

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        self.let_go.wait(10)
        return super().get_many(keys)


def test_a_download_that_ended_well_is_no_trouble_although_the_fleet_cannot_be_told_in_time(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    store = Stuck()
    ring = make.quiet(store)
    issuer.rotate()
    clock.pass_(31)
    store.let_go.clear()
    assert kids(ring.refresh("demo", clock.now)) == ["key-1", "key-2"]
    assert ring.trouble("demo") == ""
    store.let_go.set()


@pytest.mark.alone
def test_while_the_provider_is_in_trouble_only_one_call_waits(make: Rings, issuer: Issuer, clock: Clock) -> None:
    ring = make.quiet()
    issuer.behave(Behaviour.ERROR)
    clock.pass_(31)
    ring.refresh("demo", clock.now)
    issuer.behave(Behaviour.HANG)
    clock.pass_(31)
    took_s: list[float] = []

    def call(_: int) -> None:
        started = time.monotonic()
        assert kids(ring.refresh("demo", clock.now)) == ["key-1"]
        took_s.append(time.monotonic() - started)

    in_threads(8, call)
    assert len([took for took in took_s if took > 0.5]) == 1


# ---- a fleet


def test_one_download_serves_two_processes(make: Rings, issuer: Issuer, clock: Clock, store: Store) -> None:
    one, two = make.quiet(store), make.quiet(store)
    assert issuer.fetches == 1
    assert kids(one.current("demo", clock.now)) == kids(two.current("demo", clock.now)) == ["key-1"]
    assert [ring.status()["demo"].taken_from for ring in (one, two)] == ["provider", "memcached"]


@pytest.mark.alone
@pytest.mark.parametrize(
    ("behaviour", "bound_s"),
    [(Behaviour.OK, 1.0), (Behaviour.ERROR, 1.0), (Behaviour.DOWN, 1.0), (Behaviour.HANG, WAIT_S + SLACK_S)],
    ids=lambda value: value.value if isinstance(value, Behaviour) else "",
)
def test_sixteen_processes_that_start_at_once_make_one_attempt_where_the_provider(
    make: Rings, issuer: Issuer, clock: Clock, address: str, behaviour: Behaviour, bound_s: float
) -> None:
    """Their clocks stand at a part of a millisecond, as clocks do."""
    clock.pass_(0.0006)
    issuer.behave(behaviour)
    heard = [Heard() for _ in range(16)]
    rings = [make(Patient([address]), heard=one) for one in heard]
    took_s: list[float] = []

    def start(number: int) -> None:
        started = time.monotonic()
        rings[number].start()
        took_s.append(time.monotonic() - started)

    in_threads(16, start)
    assert max(took_s) < bound_s
    assert sum(len(one.refreshes) for one in heard) == 1
    wanted = ["key-1"] if behaviour is Behaviour.OK else []
    assert all(kids(ring.current("demo", clock.now)) == wanted for ring in rings)


@pytest.mark.alone
def test_a_process_that_starts_during_anothers_download_waits_for_that_and_no_longer(
    make: Rings, issuer: Issuer, clock: Clock, address: str
) -> None:
    """Its clock is a little further: the marker must name the very moment that the download began."""
    later = Clock(clock.now + 0.2)
    clock.pass_(0.0006)
    one, two = make(Patient([address])), make(Patient([address]), clock=later)
    issuer.behave(Behaviour.HANG)
    threading.Thread(target=one.start).start()
    assert within(5, lambda: issuer.fetches == 1)
    threading.Timer(0.2, issuer.behave, [Behaviour.OK]).start()
    with takes(0.9):
        two.start()
    assert kids(two.current("demo", later.now)) == ["key-1"]
    assert issuer.fetches == 1


def test_a_forced_download_of_one_is_picked_up_by_the_other(
    make: Rings, issuer: Issuer, clock: Clock, store: Store
) -> None:
    one, two = make.started(store), make.started(store)
    issuer.rotate()
    clock.pass_(5)
    assert kids(one.refresh("demo", clock.now)) == ["key-1", "key-2"]
    assert within(5, lambda: kids(two.current("demo", clock.now)) == ["key-1", "key-2"])
    assert issuer.fetches == 2


def test_a_token_at_the_second_process_takes_what_the_first_downloaded(
    make: Rings, issuer: Issuer, clock: Clock, store: Store
) -> None:
    one, two = make.quiet(store), make.quiet(store)
    issuer.rotate()
    clock.pass_(5)
    one.refresh("demo", clock.now)
    assert asks(gate_with(two, issuer), issuer.token(), clock.now) is Reason.ALLOWED
    assert issuer.fetches == 2


@pytest.mark.alone
def test_a_fleet_forces_one_download_a_cooldown(make: Rings, issuer: Issuer, clock: Clock, address: str) -> None:
    rings = [make.quiet(Patient([address])) for _ in range(4)]
    issuer.behave(Behaviour.ERROR)
    for attempts in (2, 3):
        clock.pass_(31)
        with takes(1):
            in_threads(4, lambda number: [rings[number].refresh("demo", clock.now) for _ in range(50)])
        assert issuer.fetches == attempts


def test_a_fleet_refreshes_once_an_interval(make: Rings, issuer: Issuer, clock: Clock, address: str) -> None:
    times = KeyTimes(refresh_interval_s=10)
    rings = [make.started(Patient([address]), times=times) for _ in range(4)]
    for turn in range(2, 5):
        issuer.rotate()
        clock.pass_(11.1)
        newest = {f"key-{number}" for number in range(1, turn + 1)}
        assert within(5, lambda newest=newest: all(set(kids(r.current("demo", clock.now))) == newest for r in rings))
        assert not within(0.7, lambda turn=turn: issuer.fetches > turn)


@pytest.mark.alone
def test_a_fleet_of_real_clocks_with_a_short_interval_downloads_about_once_in_it(
    make: Rings, issuer: Issuer, address: str
) -> None:
    times = KeyTimes(refresh_interval_s=2)
    for _ in range(4):
        make.started(Patient([address]), times=times, clock=time.time)
    assert within(6, lambda: issuer.fetches >= 3)
    assert not within(1, lambda: issuer.fetches > 3)


def test_a_fleet_tries_once_again_after_a_failure(make: Rings, issuer: Issuer, clock: Clock, address: str) -> None:
    times = KeyTimes(refresh_interval_s=10)  # and the clock passes it by less than what makes a download overdue
    rings = [make.started(Patient([address]), times=times) for _ in range(4)]
    issuer.behave(Behaviour.ERROR)
    clock.pass_(11.1)
    assert within(5, lambda: issuer.fetches == 2)
    for attempts in (3, 4):
        assert not within(0.7, lambda attempts=attempts: issuer.fetches >= attempts)
        clock.pass_(keylife.RETRY_S * 1.1)
        assert within(5, lambda attempts=attempts: issuer.fetches == attempts)
    assert all(kids(ring.current("demo", clock.now)) == ["key-1"] for ring in rings)


@pytest.mark.alone
def test_a_flush_reaches_every_process_within_a_second_and_nothing_older_undoes_it(
    make: Rings, issuer: Issuer, clock: Clock, address: str
) -> None:
    store, heard = Recorded(Patient([address])), Heard()
    one, two = make.started(store, heard=heard), make.started(Patient([address]), heard=heard)
    issuer.rotate()
    clock.pass_(5)
    one.refresh("demo", clock.now)
    assert within(1, lambda: kids(two.current("demo", clock.now)) == ["key-1", "key-2"])
    issuer.withdraw("key-1")
    clock.pass_(5)
    shared, provider = share(store), provider_of(issuer)
    before = shared.read([provider])["demo"]
    listed = State(download(provider, clock.now).keys, Attempt(clock.now, clock.now + 300, "ok", ""))
    known = shared.open(provider, before, clock.now)
    flushed = shared.swap(provider, before, keylife.flush(known, listed, TIMES.cache_ttl_s))
    assert flushed is not None
    assert within(1, lambda: [kids(ring.current("demo", clock.now)) for ring in (one, two)] == [["key-2"]] * 2)
    store.set(store.place, before, 60)
    assert within(1, lambda: shared.read([provider])["demo"] != before)
    assert not within(0.7, lambda: any("key-1" in kids(ring.current("demo", clock.now)) for ring in (one, two)))
    assert "outdated" in heard.events
    assert kids(shared.open(provider, shared.read([provider])["demo"], clock.now).keys) == ["key-2"]


# ---- without memcached, and without a secret


def test_memcached_down_leaves_each_process_to_itself(make: Rings, issuer: Issuer, clock: Clock) -> None:
    heard = Heard()
    ring = make.started(dead_store(), heard=heard)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    assert "shared_unreachable" in heard.events
    issuer.rotate()
    clock.pass_(331)
    assert within(5, lambda: kids(ring.current("demo", clock.now)) == ["key-1", "key-2"])


@pytest.mark.alone
def test_a_memcached_that_hangs_neither_stops_the_start_nor_the_background(
    make: Rings, issuer: Issuer, clock: Clock, memcached: Memcached, address: str
) -> None:
    with paused(memcached.pid):
        with takes(1.5):
            ring = make.started(MemcachedStore([address]))
        assert kids(ring.current("demo", clock.now)) == ["key-1"]
        issuer.rotate()
        clock.pass_(331)
        assert within(3, lambda: kids(ring.current("demo", clock.now)) == ["key-1", "key-2"])


def test_without_a_secret_nothing_is_written_to_memcached(issuer: Issuer) -> None:
    store = CountingStore(MemoryStore())
    store.shared = True
    settings = config.parse(
        f"authentication: {{oidc: {{providers: [{{name: demo, issuer: '{issuer.url}', audience: '{issuer.audience}',"
        " allow_insecure_http: true}]}}\ncache: {memcached: '127.0.0.1:1'}\n",
        "f",
        {},
    )
    service = Service(settings, store=store, lines=io.StringIO())
    service.keyring.start()
    service.keyring.stop()
    assert {name: status.problem for name, status in service.ready().items()} == {"demo": ""}
    assert store.calls == []


# ---- fork


@pytest.mark.alone
def test_a_forked_child_goes_on_by_itself_also_where_a_download_ran(
    make: Rings, issuer: Issuer, clock: Clock, address: str
) -> None:
    ring = make.started(Patient([address]))
    issuer.rotate()
    issuer.behave(Behaviour.HANG)
    clock.pass_(31)
    waiting = threading.Thread(target=ring.refresh, args=("demo", clock.now))
    waiting.start()
    assert within(5, lambda: issuer.fetches == 2)  # now a thread holds the lock of forced downloads
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os._exit(0 if _goes_on(ring, clock) else 1)
        os._exit(2)
    waiting.join()
    issuer.behave(Behaviour.OK)
    assert os.waitpid(child, 0)[1] == 0


def _goes_on(ring: Keyring, clock: Clock) -> bool:
    """In the child: a call gets an answer soon, and the background brings the new key."""
    started = time.monotonic()
    if kids(ring.refresh("demo", clock.now)) != ["key-1"] or time.monotonic() - started > WAIT_S + SLACK_S:
        return False
    clock.pass_(400)
    return within(6, lambda: kids(ring.current("demo", clock.now)) == ["key-1", "key-2"])


# ---- what a review found


def test_in_the_cooldown_a_call_takes_what_another_process_has_just_found(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    """It must not wait for the next look of the background: its token is good."""
    store, provider = MemoryStore(), provider_of(issuer)
    ring = make.quiet(store)
    clock.pass_(31)
    ring.refresh("demo", clock.now)  # the cool-down begins
    issuer.rotate()
    found = State(download(provider, clock.now + 1).keys, Attempt(clock.now + 1, clock.now + 300, "ok", ""))
    shared = share(store)
    assert shared.swap(provider, shared.read([provider])["demo"], found)
    clock.pass_(1)
    assert kids(ring.refresh("demo", clock.now)) == ["key-1", "key-2"]


def test_who_may_not_wait_is_told_so_until_the_cooldown_begins(make: Rings, issuer: Issuer, clock: Clock) -> None:
    ring = make.quiet(MemoryStore())
    clock.pass_(31)
    with pytest.raises(MustWait):
        ring.refresh("demo", clock.now, may_wait=False)
    before = issuer.fetches
    ring.refresh("demo", clock.now)
    assert issuer.fetches == before + 1
    assert kids(ring.refresh("demo", clock.now, may_wait=False)) == ["key-1"]


def test_processes_with_nothing_but_keys_that_are_too_old_do_not_quarrel(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    store = Recorded(MemoryStore())
    heard = Heard()
    rings = [make.started(store, heard=heard) for _ in range(2)]
    issuer.behave(Behaviour.ERROR)
    clock.pass_(86_500)
    assert within(3, lambda: all(ring.status()["demo"].outcome == "status_5xx" for ring in rings))
    swaps = store.calls.count("swap")
    time.sleep(1.6)
    assert store.calls.count("swap") - swaps <= 2
    assert heard.events.count("outdated") <= 2
    assert [ring.current("demo", clock.now) for ring in rings] == [None, None]


def test_after_a_clock_was_set_back_the_fleets_copy_of_later_is_not_joined_again(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    store = MemoryStore()
    ring = make.quiet(store)
    clock.pass_(-7200)
    issuer.rotate(keep_old=False)
    assert kids(ring.refresh("demo", clock.now)) == ["key-1", "key-2"]
    clock.pass_(31)
    ring.refresh("demo", clock.now)
    assert kids(ring.current("demo", clock.now)) == ["key-1", "key-2"]
    assert ring.status()["demo"].next_refresh_s <= TIMES.refresh_interval_s


def test_a_key_that_one_process_still_retains_comes_back_into_the_fleets_copy(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    store = MemoryStore()
    old = make.started(store)
    issuer.rotate(keep_old=False)
    clock.pass_(60)
    provider, shared = provider_of(issuer), share(store)
    emptied = shared.read([provider])["demo"]
    new = State(download(provider, clock.now).keys, Attempt(clock.now, clock.now + 300, "ok", ""))
    assert shared.swap(provider, emptied, new)
    assert within(3, lambda: kids(old.current("demo", clock.now)) == ["key-1", "key-2"])
    assert within(
        3, lambda: kids(shared.open(provider, shared.read([provider])["demo"], clock.now).keys) == ["key-1", "key-2"]
    )


def test_a_process_that_starts_asks_the_provider_whatever_memcached_holds(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    """Somebody may have put back what was there before a key was withdrawn."""
    store = MemoryStore()
    make.quiet(store)
    issuer.rotate()
    clock.pass_(100)
    late = make.quiet(store)
    assert issuer.fetches == 2
    assert kids(late.current("demo", clock.now)) == ["key-1", "key-2"]


def test_a_forced_download_does_not_count_on_one_that_began_before_it(
    make: Rings, issuer: Issuer, clock: Clock
) -> None:
    """That one may have asked just before the key was there, and the cool-down would hide the key."""
    ring = make.quiet()
    issuer.behave(Behaviour.HANG)
    inner = ring._rings["demo"]
    running = ring._download(inner)
    assert within(5, lambda: len(issuer.asked) > 1)
    issuer.rotate()
    clock.pass_(31)
    caller = threading.Thread(target=lambda: ring.refresh("demo", clock.now))
    caller.start()
    issuer.behave(Behaviour.OK)
    caller.join(5)
    running.join(5)
    assert issuer.fetches >= 3
    assert kids(ring.current("demo", clock.now)) == ["key-1", "key-2"]
