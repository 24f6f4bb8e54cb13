"""Keys come, rotate, vanish and outlive outages; a fleet downloads once; nobody can plant a key through memcached."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from authsvc.adapters import config
from authsvc.adapters.keyring import Keyring, KeyTimes
from authsvc.adapters.sharedkeys import SharedKeys
from authsvc.adapters.store import MemcachedStore, MemoryStore, Store
from authsvc.core import jwks
from authsvc.core.gate import Gate
from authsvc.core.jwt import Provider
from authsvc.core.model import Reason, Request
from authsvc.core.ratelimit import Limits
from authsvc.core.rbac import Policy
from authsvc.core.signature import ALGORITHMS
from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import free_port
from authsvc.service import Service
from helpers import Clock, CountingStore, in_threads
from waiting import within

TIMES = KeyTimes(cache_ttl_s=3600, refresh_interval_s=300, cooldown_s=30, max_stale_s=86400)
SECRET = b"a secret of more than thirty-two bytes"
# the second where the last download failed: the key may be new and cannot be had now
REFUSALS_OF_UNKNOWN_KEYS = (Reason.UNKNOWN_KEY, Reason.KEYS_UNAVAILABLE)
AUDIENCE = "https://api.example.test"


class CountedIssuer(Issuer):
    """Counts every question, the failing ones too; `discovery` and `key_set` replace what it answers."""

    def __init__(self) -> None:
        super().__init__(audience=AUDIENCE)
        self.asked: list[str] = []
        self.discovery: dict[str, Any] = {}
        self.key_set: dict[str, Any] | None = None
        self.hang_s = 0.0

    def respond(self, path: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(path)
        time.sleep(self.hang_s)
        status, document = super().respond(path)
        if status == 200 and path == "/keys" and self.key_set is not None:
            return 200, self.key_set
        return status, {**document, **self.discovery} if path != "/keys" else document


@pytest.fixture
def issuer() -> Iterator[CountedIssuer]:
    with CountedIssuer() as started:
        yield started


@pytest.fixture
def clock() -> Clock:
    return Clock(float(int(time.time())))


class Heard(list[str]):
    """What a keyring reports, without the provider's name."""

    def __call__(self, provider: str, event: str) -> None:
        self.append(event)


def provider_of(issuer: Issuer, /, **changes: Any) -> Provider:
    plain = Provider(
        "demo",
        issuer.url,
        frozenset({issuer.audience}),
        ALGORITHMS,
        jwks_uri=f"{issuer.url}/keys",
        allow_insecure_http=True,
    )
    return replace(plain, **changes)


MakeRing = Callable[..., Keyring]


@pytest.fixture
def make(issuer: Issuer, clock: Clock) -> Iterator[MakeRing]:
    """Makes keyrings that are stopped in the end."""
    made: list[Keyring] = []

    def build(
        shared: SharedKeys | None = None, times: KeyTimes = TIMES, heard: Heard | None = None, **changes: Any
    ) -> Keyring:
        listener = Heard() if heard is None else heard
        made.append(Keyring([provider_of(issuer, **changes)], times, shared, listener, clock))
        return made[-1]

    yield build
    for ring in made:
        ring.stop()


def share(store: Store, secret: bytes = SECRET, heard: Heard | None = None) -> SharedKeys:
    return SharedKeys(store, secret, TIMES.max_stale_s, Heard() if heard is None else heard)


def kids(keys: jwks.KeySet | None) -> list[str | None]:
    return sorted(key.kid or "" for key in keys.keys) if keys else []


def gate_with(ring: Keyring, issuer: Issuer) -> Gate:
    return Gate({issuer.url: provider_of(issuer)}, Policy(), Limits(), {}, ring, None)  # type: ignore[arg-type]


def asks(gate: Gate, token: str, now: float) -> Reason:
    return gate.decide(Request("GET", "/", f"Bearer {token}"), now)[0].reason


# ---- start


def test_it_starts_with_the_providers_keys(make: MakeRing, clock: Clock) -> None:
    ring = make()
    ring.start()
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    assert ring.status() == {"demo": ""}


def test_it_starts_without_the_provider_says_so_and_recovers_by_itself(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    issuer.failing = True
    ring = make()
    ring.start()
    assert ring.current("demo", clock.now) is None
    assert "500" in ring.status()["demo"]
    issuer.failing = False
    clock.pass_(10)  # the pause after a failure
    assert within(3, lambda: ring.status() == {"demo": ""})
    assert kids(ring.current("demo", clock.now)) == ["key-1"]


def test_one_provider_that_is_down_does_not_hold_up_the_others(issuer: Issuer, clock: Clock) -> None:
    gone = provider_of(issuer, name="gone", issuer="http://127.0.0.1:1", jwks_uri=f"http://127.0.0.1:{free_port()}/")
    ring = Keyring([provider_of(issuer), gone], TIMES, None, Heard(), clock)
    ring.start()
    ring.stop()
    assert ring.status()["demo"] == ""
    assert "cannot connect" in ring.status()["gone"]


def test_without_any_provider_it_starts_too(clock: Clock) -> None:
    ring = Keyring([], TIMES, None, Heard(), clock)
    ring.start()
    ring.stop()
    assert ring.status() == {}


# ---- discovery


def test_discovery_finds_the_keys(make: MakeRing, issuer: CountedIssuer, clock: Clock) -> None:
    ring = make(jwks_uri=None)
    ring.start()
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    assert kids(ring.current("demo", clock.now)) == ["key-1"]


@pytest.mark.parametrize(
    ("says", "because"),
    [
        pytest.param({"issuer": "https://evil.example"}, "its issuer is 'https://evil.example'", id="another issuer"),
        pytest.param({"issuer": None}, "its issuer is None", id="no issuer"),
        pytest.param({"jwks_uri": None}, "names no jwks_uri", id="no jwks_uri"),
        pytest.param({"jwks_uri": ["http://127.0.0.1/"]}, "names no jwks_uri", id="a list as jwks_uri"),
        pytest.param({"jwks_uri": "http://169.254.169.254/"}, "only https", id="a cloud's metadata"),
        pytest.param({"jwks_uri": "file:///etc/passwd"}, "only https", id="a file"),
        pytest.param({"jwks_uri": "https://[::1"}, "no URL", id="no URL"),
    ],
)
def test_discovery_is_refused_where_it_names(
    make: MakeRing, issuer: CountedIssuer, says: dict[str, Any], because: str
) -> None:
    issuer.discovery = says
    ring = make(jwks_uri=None)
    ring.start()
    assert because in ring.status()["demo"]
    assert issuer.fetches == 0


def test_discovery_compares_the_issuer_byte_for_byte(make: MakeRing, issuer: CountedIssuer) -> None:
    issuer.discovery = {"issuer": issuer.url + "/"}
    ring = make(jwks_uri=None)
    ring.start()
    assert f"its issuer is '{issuer.url}/', the config says '{issuer.url}'" in ring.status()["demo"]


# ---- rotation and vanishing


def test_after_a_rotation_the_first_token_with_the_new_key_is_accepted(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    ring = make()
    ring.start()
    gate, old = gate_with(ring, issuer), issuer.token()
    assert asks(gate, old, clock.now) is Reason.ALLOWED
    issuer.rotate()
    assert asks(gate, issuer.token(), clock.now) is Reason.ALLOWED
    assert asks(gate, old, clock.now) is Reason.ALLOWED
    assert issuer.fetches == 2


def test_a_rotation_under_the_same_kid_is_found_by_the_failing_signature(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    ring = make()
    ring.start()
    issuer.rotate(keep_old=False)
    issuer.keys[0].kid = "key-1"
    assert asks(gate_with(ring, issuer), issuer.token(), clock.now) is Reason.ALLOWED


def test_a_key_that_vanished_stays_until_the_cache_ttl_then_goes(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    ring = make()
    ring.start()
    seen = clock.now
    issuer.rotate(keep_old=False)
    clock.pass_(100)
    ring.refresh("demo", clock.now)
    assert kids(ring.current("demo", clock.now)) == ["key-1", "key-2"]
    assert kids(ring.current("demo", seen + 3599)) == ["key-1", "key-2"]
    assert kids(ring.current("demo", seen + 3601)) == ["key-2"]


def test_a_key_that_vanished_does_not_live_longer_by_more_downloads(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    ring = make()
    ring.start()
    seen = clock.now
    issuer.rotate(keep_old=False)
    while clock.now < seen + 3601:
        clock.pass_(600)
        ring.refresh("demo", clock.now)
    assert kids(ring.current("demo", clock.now)) == ["key-2"]


def test_keys_that_are_too_old_are_none_and_the_status_says_so(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    ring = make()
    ring.start()
    ring.stop()
    issuer.failing = True
    clock.pass_(86400)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    clock.pass_(1)
    assert ring.current("demo", clock.now) is None
    assert ring.status()["demo"] != ""


# ---- failures keep keys


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"keys": []}, id="an empty key set"),
        pytest.param({}, id="no key set"),
        pytest.param({"keys": {}}, id="keys that are no list"),
        pytest.param({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "key-1"}]}, id="a symmetric key"),
        pytest.param({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "key-1"}]}, id="a short key"),
        pytest.param({"keys": [None, 1, "x", []]}, id="keys that are none"),
        pytest.param({"keys": [{}] * 101}, id="more keys than anyone has"),
    ],
)
def test_good_keys_survive(make: MakeRing, issuer: CountedIssuer, clock: Clock, document: dict[str, Any]) -> None:
    heard = Heard()
    ring = make(heard=heard)
    ring.start()
    issuer.key_set = document
    clock.pass_(60)
    assert kids(ring.refresh("demo", clock.now)) == ["key-1"]
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    assert ring.status() == {"demo": ""}
    assert heard[-1] == "failed"


def test_good_keys_survive_an_outage_longer_than_the_cache_ttl(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    ring = make()
    ring.start()
    issuer.failing = True
    for _ in range(20):
        clock.pass_(1000)
        ring.refresh("demo", clock.now)
    assert kids(ring.current("demo", clock.now)) == ["key-1"]


# ---- one forced download per cool-down


def dead_store() -> Store:
    return MemcachedStore([f"127.0.0.1:{free_port()}"])


@pytest.mark.parametrize("memcached_down", [False, True], ids=["alone", "with memcached down"])
@pytest.mark.parametrize("provider", ["well", "failing", "empty"])
def test_a_thousand_random_kids_make_one_download_a_cooldown(
    make: MakeRing, issuer: CountedIssuer, clock: Clock, provider: str, memcached_down: bool
) -> None:
    ring = make(share(dead_store()) if memcached_down else None)
    ring.start()
    ring.stop()
    gate = gate_with(ring, issuer)
    issuer.failing = provider == "failing"
    issuer.key_set = {"keys": []} if provider == "empty" else None
    head, claims, made = issuer.token().split(".")
    issuer.asked.clear()

    def forge(number: int) -> str:
        header = json.dumps({"alg": "RS256", "kid": f"random-{number}"}).encode()
        return f"{base64.urlsafe_b64encode(header).rstrip(b'=').decode()}.{claims}.{made}"

    def call(number: int) -> None:
        for turn in range(100):
            assert asks(gate, forge(number * 100 + turn), clock.now) in REFUSALS_OF_UNKNOWN_KEYS

    in_threads(10, call)
    assert len(issuer.asked) == 1
    clock.pass_(29.9)
    asks(gate, forge(0), clock.now)
    assert len(issuer.asked) == 1
    clock.pass_(0.2)
    asks(gate, forge(0), clock.now)
    assert len(issuer.asked) == 2


def test_a_thousand_tokens_while_no_key_was_ever_had_make_one_download(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    issuer.failing = True
    ring = make()
    ring.start()
    ring.stop()
    gate, token = gate_with(ring, issuer), issuer.token()
    issuer.asked.clear()
    reasons = {asks(gate, token, clock.now) for _ in range(1000)}
    assert reasons == {Reason.KEYS_UNAVAILABLE}
    assert len(issuer.asked) == 1


# ---- a fleet


@pytest.fixture(params=["memory", "memcached"])
def store(request: pytest.FixtureRequest, address: str) -> Store:
    return MemoryStore() if request.param == "memory" else MemcachedStore([address])


def test_one_download_serves_two_processes(make: MakeRing, issuer: CountedIssuer, clock: Clock, store: Store) -> None:
    one, two = make(share(store)), make(share(store))
    one.start()
    two.start()
    assert issuer.fetches == 1
    assert kids(one.current("demo", clock.now)) == kids(two.current("demo", clock.now)) == ["key-1"]


def test_processes_that_start_at_the_same_moment_download_once(
    make: MakeRing, issuer: CountedIssuer, clock: Clock, store: Store
) -> None:
    rings = [make(share(store)) for _ in range(4)]
    in_threads(4, lambda number: rings[number].start())
    assert issuer.fetches == 1
    assert {tuple(kids(ring.current("demo", clock.now))) for ring in rings} == {("key-1",)}


def test_a_forced_download_of_one_is_picked_up_by_the_other(
    make: MakeRing, issuer: CountedIssuer, clock: Clock, store: Store
) -> None:
    one, two = make(share(store)), make(share(store))
    one.start()
    two.start()
    issuer.rotate()
    clock.pass_(5)
    assert kids(one.refresh("demo", clock.now)) == ["key-1", "key-2"]
    assert within(3, lambda: kids(two.current("demo", clock.now)) == ["key-1", "key-2"])
    assert issuer.fetches == 2


def test_a_token_at_the_second_process_takes_what_the_first_downloaded(
    make: MakeRing, issuer: CountedIssuer, clock: Clock, store: Store
) -> None:
    one, two = make(share(store)), make(share(store))
    one.start()
    two.start()
    two.stop()
    issuer.rotate()
    clock.pass_(5)
    one.refresh("demo", clock.now)
    assert asks(gate_with(two, issuer), issuer.token(), clock.now) is Reason.ALLOWED
    assert issuer.fetches == 2


def test_a_fleet_forces_one_download_a_cooldown(
    make: MakeRing, issuer: CountedIssuer, clock: Clock, address: str
) -> None:
    rings = [make(share(MemcachedStore([address]))) for _ in range(4)]
    for ring in rings:
        ring.start()
        ring.stop()
    issuer.failing = True
    issuer.asked.clear()
    clock.pass_(5)
    in_threads(4, lambda number: [rings[number].refresh("demo", clock.now) for _ in range(50)])
    assert len(issuer.asked) == 1


def test_memcached_down_leaves_each_process_to_itself(make: MakeRing, issuer: CountedIssuer, clock: Clock) -> None:
    heard = Heard()
    ring = make(share(dead_store(), heard=heard))
    ring.start()
    assert kids(ring.current("demo", clock.now)) == ["key-1"]
    assert "shared_unreachable" in heard


def test_without_a_secret_nothing_is_shared(make: MakeRing, clock: Clock) -> None:
    ring = make(None)
    ring.start()
    assert kids(ring.current("demo", clock.now)) == ["key-1"]


# ---- planted entries


class Recorded(CountingStore):
    """Remembers where values were set, so that a test can plant others."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.places: dict[str, bytes] = {}

    def set(self, key: str, value: bytes, ttl_s: int) -> None:
        self.places[key] = value
        super().set(key, value, ttl_s)


def planted(issuer: Issuer, clock: Clock, entry: Callable[[bytes], bytes]) -> tuple[jwks.KeySet | None, Heard]:
    """What is loaded where `entry` stands in place of the genuine value."""
    store, heard, provider = Recorded(MemoryStore()), Heard(), provider_of(issuer)
    shared = share(store, heard=heard)
    shared.save(provider, jwks.admit({"keys": [issuer.keys[0].jwk()]}, ALGORITHMS, clock.now))
    ((place, genuine),) = store.places.items()
    store.set(place, entry(genuine), 60)
    return shared.load(provider, clock.now), heard


def flipped(number: int) -> Callable[[bytes], bytes]:
    return lambda entry: entry[:number] + bytes([entry[number] ^ 1]) + entry[number + 1 :]


def test_the_genuine_entry_is_loaded(issuer: Issuer, clock: Clock) -> None:
    keys, heard = planted(issuer, clock, lambda entry: entry)
    assert kids(keys) == ["key-1"]
    assert heard == []


@pytest.mark.parametrize(
    "entry",
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
        pytest.param(lambda entry: b"junk", id="junk"),
        pytest.param(lambda entry: b"\xff\x00 \xfe" * 1000, id="bytes that are no text"),
        pytest.param(lambda entry: b"\x80\x04\x95.", id="a pickle"),
        pytest.param(lambda entry: entry[:65] + b"x" * 900_000, id="900 kB"),
    ],
)
def test_a_planted_entry_is_refused_and_reported(issuer: Issuer, clock: Clock, entry: Callable[[bytes], bytes]) -> None:
    keys, heard = planted(issuer, clock, entry)
    assert keys is None
    assert heard == ["tampered"]


def test_an_empty_entry_is_as_good_as_none(issuer: Issuer, clock: Clock) -> None:
    keys, heard = planted(issuer, clock, lambda _: b"")
    assert keys is None
    assert heard == []


def test_an_entry_sealed_with_another_secret_is_refused(issuer: Issuer, clock: Clock) -> None:
    store, heard, provider = MemoryStore(), Heard(), provider_of(issuer)
    keys = jwks.admit({"keys": [issuer.keys[0].jwk()]}, ALGORITHMS, clock.now)
    share(store, b"another secret, long enough to be accepted").save(provider, keys)
    assert share(store, heard=heard).load(provider, clock.now) is None
    assert heard == ["tampered"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"name": "other"}, id="of another name"),
        pytest.param({"issuer": "https://other.example"}, id="of another issuer"),
        pytest.param({"jwks_uri": "https://other.example/keys"}, id="with another source of keys"),
        pytest.param({"jwks_uri": None}, id="with discovery"),
    ],
)
def test_the_entry_does_not_pass_for_a_provider(issuer: Issuer, clock: Clock, changes: dict[str, Any]) -> None:
    """An entry that somebody copied to the place of another provider's."""
    store, heard = Recorded(MemoryStore()), Heard()
    shared, keys = share(store, heard=heard), jwks.admit({"keys": [issuer.keys[0].jwk()]}, ALGORITHMS, clock.now)
    shared.save(provider_of(issuer), keys)
    ((_, genuine),) = store.places.items()
    victim = provider_of(issuer, **changes)
    shared.save(victim, keys)
    place = [key for key in store.places if store.places[key] != genuine][0]
    store.set(place, genuine, 60)
    assert shared.load(victim, clock.now) is None
    assert heard == ["tampered"]


@pytest.mark.parametrize(
    "shift",
    [pytest.param(86401, id="older than keys may be"), pytest.param(-61, id="from the future")],
)
def test_a_genuine_entry_is_ignored_where_it_is(issuer: Issuer, clock: Clock, shift: float) -> None:
    store = MemoryStore()
    provider, keys = provider_of(issuer), jwks.admit({"keys": [issuer.keys[0].jwk()]}, ALGORITHMS, clock.now)
    share(store).save(provider, keys)
    assert share(store).load(provider, clock.now) is not None
    assert share(store).load(provider, clock.now + shift) is None


def test_a_replay_of_an_older_set_does_not_replace_a_newer(make: MakeRing, issuer: CountedIssuer, clock: Clock) -> None:
    store = Recorded(MemoryStore())
    ring = make(share(store))
    ring.start()
    place, old = next(iter(store.places.items()))
    issuer.rotate(keep_old=False)
    clock.pass_(3700)
    ring.refresh("demo", clock.now)
    store.set(place, old, 60)
    time.sleep(1.3)  # the background thread looks once a second
    assert kids(ring.current("demo", clock.now)) == ["key-2"]


def test_a_process_that_starts_on_a_replayed_set_downloads_the_new_one_at_once(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    store = Recorded(MemoryStore())
    make(share(store)).start()
    place, old = next(iter(store.places.items()))
    issuer.rotate(keep_old=False)
    clock.pass_(3700)
    store.set(place, old, 60)
    fresh = make(share(store))
    fresh.start()
    assert kids(fresh.current("demo", clock.now)) == ["key-2"]


@pytest.mark.parametrize("planted_time", [b"nan", b"inf", b"-inf", b"junk", b"", b"1e400", b"9" * 5000])
def test_a_planted_time_of_the_last_download_makes_no_exception(
    make: MakeRing, issuer: CountedIssuer, clock: Clock, planted_time: bytes
) -> None:
    store = Recorded(MemoryStore())
    ring = make(share(store))
    ring.start()
    ring.stop()
    (place,) = store.places
    store.set(f"{place}:forced", planted_time, 60)
    clock.pass_(5)
    started = time.monotonic()
    ring.refresh("demo", clock.now)
    ring.refresh("demo", clock.now)
    assert time.monotonic() - started < 0.5
    assert kids(ring.current("demo", clock.now)) == ["key-1"]


def test_no_private_member_of_a_key_is_ever_shared(issuer: CountedIssuer, clock: Clock) -> None:
    store = Recorded(MemoryStore())
    keys = jwks.admit({"keys": [{**issuer.keys[0].jwk(), "x5c": ["secret-looking"]}]}, ALGORITHMS, clock.now)
    share(store).save(provider_of(issuer), keys)
    ((_, entry),) = store.places.items()
    assert b"secret-looking" not in entry
    assert SECRET not in entry


@pytest.mark.parametrize("planted", [b"x", b"nan", b"inf", b"0", b"1", b"99999999999"])
def test_a_planted_marker_cannot_forbid_a_download(
    make: MakeRing, issuer: CountedIssuer, clock: Clock, planted: bytes
) -> None:
    """Whoever can write to memcached may delay the fleet for a while, but not keep a withdrawn key alive."""
    store = MemoryStore()
    ring = make(share(store))
    before = issuer.fetches
    for what in ("forced", "lease"):
        place = f"{SharedKeys._place(provider_of(issuer))}:{what}"
        store.set(place, planted, 10**6)
    clock.pass_(400)
    assert ring.refresh("demo", clock()) is not None
    assert issuer.fetches == before + 1


def test_a_provider_that_hangs_holds_nobody_longer_than_the_deadline(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    ring = make()
    issuer.hang_s = 4.0
    started = time.monotonic()
    in_threads(4, lambda _: ring.refresh("demo", clock()))
    assert time.monotonic() - started < 3.5
    assert len(issuer.asked) == 1


def test_without_a_secret_nothing_is_written_to_memcached(issuer: CountedIssuer) -> None:
    store = CountingStore(MemoryStore())
    store.shared = True
    settings = config.parse(
        f"authentication: {{oidc: {{providers: [{{name: demo, issuer: '{issuer.url}', audience: '{AUDIENCE}',"
        " allow_insecure_http: true}]}}\ncache: {memcached: '127.0.0.1:1'}\n",
        "f",
        {},
    )
    service = Service(settings, store=store, lines=io.StringIO())
    service.keyring.start()
    service.keyring.stop()
    assert service.ready() == {"demo": ""}
    assert store.calls == []


def test_who_looked_just_before_anothers_download_gets_its_result_too(
    make: MakeRing, issuer: CountedIssuer, clock: Clock
) -> None:
    """Else a valid token would be refused: the set it was looked up in is old, and the cool-down has begun."""
    ring = make()
    ring.start()
    issuer.rotate()
    seen = ring.current("demo", clock.now)
    ring.refresh("demo", clock.now)  # another call, with the new key
    assert kids(seen) == ["key-1"]
    assert kids(ring.refresh("demo", clock.now)) == ["key-1", "key-2"]
