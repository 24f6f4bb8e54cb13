"""The promises about keys, row by row: a simulated provider, real memcached, several gunicorn workers behind nginx."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from authsvc.adapters.keyring import LEASE_S
from authsvc.demo.behaviours import Behaviour
from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import Memcached
from authsvc.demo.stack import CONFIG, Authsvc, Stack, stack
from faults import ask, dead, empty, get, hung, places, poisoned, put
from waiting import within

ROUNDS = 12  # calls on connections of their own, so that every worker is asked


def with_times(**settings: int) -> str:
    """CONFIG with other times for its keys."""
    lines = "".join(f"    {name}: {value}\n" for name, value in settings.items())
    return CONFIG.replace("    extract_headers:", f"{lines}    extract_headers:")


def good(running: Stack, **changes: Any) -> str:
    """A token without a limit, for tests that call as often as they can."""
    return running.issuer.token(plan="enterprise", **changes)


def statuses(running: Stack, token: str, rounds: int = ROUNDS) -> set[int]:
    return {ask(running.nginx.port, token).status for _ in range(rounds)}


def reasons(running: Stack, token: str) -> set[str]:
    return {json.loads(ask(running.nginx.port, token).body)["reason"] for _ in range(ROUNDS)}


def readyz(authsvc: Authsvc, provider: str = "demo") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(authsvc.get("/readyz")[1])["providers"][provider]
    return found


def metric(authsvc: Authsvc, name: str, **labels: str) -> float:
    """A sample of /metrics; 0 where there is none yet."""
    shown = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    found = re.search(rf"(?m)^{name}\{{{re.escape(shown)}\}} (\S+)$", authsvc.get("/metrics")[1].decode())
    return float(found[1]) if found else 0.0


def keys_command(running: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "authsvc", "keys", *words, "-c", str(running.authsvc.config_file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@contextmanager
def provider_behaves(issuer: Issuer, behaviour: Behaviour) -> Iterator[None]:
    issuer.behave(behaviour)
    try:
        yield
    finally:
        issuer.behave(Behaviour.OK)


def settled(running: Stack, workers: int) -> None:
    """Until the last worker has its keys: one that starts later asks the provider, and writes to memcached."""
    assert within(10, lambda: running.authsvc.last_words().count("Booting worker") == workers)
    assert within(5, lambda: bool(places(memcached_of(running))))
    time.sleep(1.5)


def memcached_of(running: Stack) -> Memcached:
    assert running.memcached is not None
    return running.memcached


# ---- start


def test_started_while_the_provider_is_down_it_takes_the_sealed_copy_and_says_so() -> None:
    with stack(with_times(jwks_refresh_interval=1)) as running:
        token = good(running)
        with provider_behaves(running.issuer, Behaviour.DOWN):
            running.authsvc.stop()
            running.authsvc.start()
            running.authsvc.wait_for("/readyz")
            assert statuses(running, token) == {200}
            assert within(5, lambda: "cannot connect" in readyz(running.authsvc)["last_error"])
            assert readyz(running.authsvc)["from"] == "memcached"
        assert within(15, lambda: readyz(running.authsvc)["last_error"] == "")


def test_started_without_provider_and_without_any_copy_it_answers_503_and_recovers_by_itself() -> None:
    with Issuer() as issuer:
        issuer.behave(Behaviour.DOWN)
        with stack(issuer=issuer, ready="/healthz") as running:
            assert running.authsvc.get("/readyz")[0] == 503
            assert "cannot connect" in readyz(running.authsvc)["problem"]
            assert reasons(running, issuer.token()) == {"keys_unavailable"}
            issuer.behave(Behaviour.OK)
            assert within(5, lambda: running.authsvc.get("/readyz")[0] == 200)
            assert within(5, lambda: statuses(running, issuer.token()) == {200})


@pytest.mark.parametrize("behaviour", [Behaviour.OK, Behaviour.ERROR, Behaviour.HANG])
def test_sixteen_workers_that_start_at_once_ask_the_provider_once(behaviour: Behaviour) -> None:
    with Issuer() as issuer:
        issuer.behave(behaviour)
        began: list[float] = []
        watch = threading.Thread(
            target=lambda: within(30, lambda: bool(issuer.asked)) and began.append(time.monotonic())
        )
        watch.start()
        with stack(issuer=issuer, workers=16, ready="/healthz") as running:
            assert running.audit() == []
            assert within(10, lambda: running.authsvc.last_words().count("Booting worker") == 16)
            time.sleep(1.5)  # the last of them reads its config and starts to look for keys
            watch.join()
            asked, took_s = issuer.asked.count("/.well-known/openid-configuration"), time.monotonic() - began[0]
            again = 0 if behaviour is Behaviour.OK else int((took_s + 0.1) / LEASE_S)  # where the start took that long
            assert 1 <= asked <= 1 + again


# ---- the background


def test_a_fleet_refreshes_once_an_interval_and_everybody_picks_it_up() -> None:
    with stack(with_times(jwks_refresh_interval=2), workers=3) as running:
        running.issuer.rotate()
        before = running.issuer.fetches
        time.sleep(6.5)
        assert 2 <= running.issuer.fetches - before <= 4
        forced = metric(running.authsvc, "authsvc_key_events_total", provider="demo", event="forced")
        assert statuses(running, good(running), 30) == {200}
        assert metric(running.authsvc, "authsvc_key_events_total", provider="demo", event="forced") == forced


# ---- new keys, old keys


def test_a_new_key_is_accepted_at_its_first_use_by_every_worker() -> None:
    with stack(workers=3) as running:
        old = good(running)
        running.issuer.rotate()
        assert statuses(running, good(running)) == {200}
        assert statuses(running, old) == {200}
        assert running.issuer.fetches == 2


def test_a_key_that_is_listed_no_more_lives_as_long_as_the_cache_ttl_says() -> None:
    with stack(with_times(jwks_cache_ttl=4, jwks_refresh_interval=1, jwks_refresh_cooldown=1)) as running:
        old = good(running)
        running.issuer.rotate(keep_old=False)
        withdrawn = time.monotonic()
        while time.monotonic() < withdrawn + 2:
            assert statuses(running, old, 2) == {200}
        assert within(6, lambda: statuses(running, old, 6) == {401})
        assert reasons(running, old) == {"unknown_key"}
        assert statuses(running, good(running)) == {200}


def test_when_flush_is_done_every_worker_has_dropped_a_withdrawn_key() -> None:
    with stack(workers=3) as running:
        running.issuer.rotate()
        old = good(running, signed_by="key-1")
        assert statuses(running, old) == statuses(running, good(running)) == {200}
        running.issuer.withdraw()
        assert statuses(running, old) == {200}  # withdrawn at the provider, which nobody has asked since
        done = keys_command(running, "flush", "demo")
        assert (done.returncode, done.stdout) == (0, "demo: dropped key-1; in force: key-2\n")
        assert statuses(running, old, 40) == {401}
        assert statuses(running, good(running), 20) == {200}


def test_a_flush_is_not_undone_by_an_older_copy_that_somebody_puts_back() -> None:
    with stack(workers=3) as running:
        settled(running, 3)
        memcached = memcached_of(running)
        (place,) = places(memcached)
        before_flush = get(memcached, place)
        old = good(running)
        running.issuer.rotate(keep_old=False)
        assert keys_command(running, "flush").returncode == 0
        time.sleep(1.0)
        put(memcached, place, before_flush)
        time.sleep(1.0)
        assert statuses(running, old, 30) == {401}
        assert get(memcached, place) != before_flush
        assert metric(running.authsvc, "authsvc_key_events_total", provider="demo", event="outdated") >= 1


def test_flush_refuses_and_drops_nothing_while_the_provider_does_not_say_what_is_good() -> None:
    with stack() as running, provider_behaves(running.issuer, Behaviour.ERROR):
        done = keys_command(running, "flush")
        assert done.returncode == 1
        assert "nothing was flushed: the provider does not say what is still good" in done.stderr
        assert statuses(running, good(running)) == {200}


def test_flush_without_memcached_says_what_to_do_instead() -> None:
    with stack() as running, dead(memcached_of(running)):
        done = keys_command(running, "flush")
        assert done.returncode == 1
        assert "memcached holds nothing of this fleet, or does not answer" in done.stderr


# ---- a provider that is ill


ILL = [behaviour for behaviour in Behaviour if behaviour is not Behaviour.OK]


def test_a_provider_in_any_state_keeps_its_good_keys_up_to_max_stale_then_503_and_then_recovers() -> None:
    """All at once: eleven providers of one authsvc, each ill in its own way, and one that is well."""
    with ExitStack() as lasting:
        issuers = {one.name.lower(): lasting.enter_context(Issuer(audience="all")) for one in Behaviour}
        times = "jwks_refresh_interval: 1\n    jwks_max_stale: 8"
        config = _config_of(issuers).replace("    providers:", f"    {times}\n    providers:")
        running = lasting.enter_context(stack(config))
        for behaviour in ILL:
            issuers[behaviour.name.lower()].behave(behaviour)
        fell_ill = time.monotonic()
        tokens = {name: issuer.token() for name, issuer in issuers.items()}
        while time.monotonic() < fell_ill + 5:
            answers = {name: ask(running.nginx.port, token).status for name, token in tokens.items()}
            assert answers == dict.fromkeys(issuers, 200)
        time.sleep(fell_ill + 9.5 - time.monotonic())
        expected = {name: 200 if name == "ok" else 503 for name in issuers}
        assert {name: ask(running.nginx.port, token).status for name, token in tokens.items()} == expected
        _assert_outcomes_are_told(running, issuers)
        for issuer in issuers.values():
            issuer.behave(Behaviour.OK)
        assert within(20, lambda: all(ask(running.nginx.port, token).status == 200 for token in tokens.values()))


def _config_of(issuers: dict[str, Issuer]) -> str:
    listed = "".join(
        f"      - {{name: {name}, issuer: '{issuer.url}', audience: all, allow_insecure_http: true}}\n"
        for name, issuer in issuers.items()
    )
    return f"authentication:\n  oidc:\n    providers:\n{listed}"


OUTCOMES = {
    "down": "unreachable", "hang": "timeout", "error": "status_5xx", "html": "not_json", "half": "broken",
    "garbage": "not_json", "empty": "no_keys", "redirect": "redirect", "bomb": "compressed", "drip": "timeout",
}  # fmt: skip


def told_of(running: Stack, name: str) -> tuple[float, float]:
    """How many keys of a provider there are, and how old: up to one and a half seconds late."""
    samples = ("authsvc_keys", "authsvc_keys_age_seconds")
    keys, age_s = (metric(running.authsvc, sample, provider=name) for sample in samples)
    return keys, age_s


def _assert_outcomes_are_told(running: Stack, issuers: dict[str, Issuer]) -> None:
    for name, outcome in OUTCOMES.items():
        assert metric(running.authsvc, "authsvc_key_refreshes_total", provider=name, outcome=outcome) >= 1, name
        assert within(3, lambda name=name: told_of(running, name)[0] == 0), name  # type: ignore[misc]
        assert told_of(running, name)[1] > 8, name
        assert readyz(running.authsvc, name)["problem"], name
    assert not any(path.startswith("/elsewhere") for path in issuers["redirect"].asked)
    assert readyz(running.authsvc, "ok")["keys"] == 1


# ---- a memcached that is ill


def test_an_emptied_memcached_gets_the_keys_back_and_nobody_asks_the_provider() -> None:
    with stack() as running:
        settled(running, 2)
        memcached = memcached_of(running)
        (place,) = places(memcached)
        fetches = running.issuer.fetches
        empty(memcached)
        assert within(3, lambda: len(get(memcached, place)) > 100)
        assert statuses(running, good(running)) == {200}
        assert running.issuer.fetches == fetches


def test_poisoned_entries_are_refused_counted_and_replaced() -> None:
    with stack() as running:
        memcached = memcached_of(running)
        with poisoned(memcached):
            ends = time.monotonic() + 3
            while time.monotonic() < ends:
                assert statuses(running, good(running), 4) == {200}
                assert statuses(running, running.issuer.forged_token(), 2) == {401}
        assert metric(running.authsvc, "authsvc_key_events_total", provider="demo", event="tampered") >= 1
        assert within(5, lambda: json.loads(keys_command(running, "show", "--json").stdout)[0]["shared"])


@pytest.mark.parametrize("ill", [dead, hung], ids=["dead", "hung"])
def test_without_memcached_a_rotation_is_followed_all_the_same(ill: Any) -> None:
    with stack() as running, ill(memcached_of(running)):
        running.issuer.rotate()
        assert statuses(running, good(running)) == {200}
        assert running.issuer.fetches <= 1 + 2  # at the start, and once in each of two processes


# ---- what an operator sees


def test_keys_show_tells_of_every_key_and_of_what_is_not_used() -> None:
    with stack(with_times(jwks_refresh_interval=1)) as running:
        running.issuer.rotate(keep_old=False)
        running.issuer.extra = [{"kty": "oct", "kid": "shared-secret", "k": "AAAA"}]
        assert within(5, lambda: "shared-secret" in keys_command(running, "show").stdout)
        text = keys_command(running, "show").stdout
        assert re.search(r"key-2 +RSA +RS256 +\S+Z +\S+Z +\S+Z +http://127.0.0.1:\d+/keys", text)
        assert re.search(r"key-1 +RSA", text)
        assert "not used: shared-secret: a symmetric key does not belong in a published set" in text
        (told,) = json.loads(keys_command(running, "show", "--json").stdout)
        assert [(key["kid"], key["listed"]) for key in told["keys"]] == [("key-2", True), ("key-1", False)]
        assert told["shared"] is True
        assert told["last_outcome"] == "ok"
        said = running.authsvc.last_words()
        assert "demo: key 'key-2' is new" in said
        assert "demo: key 'key-1' is listed no more" in said
        assert said.count("key 'shared-secret' is not used: a symmetric key") == 1


def test_keys_show_asks_the_provider_where_nothing_is_shared_and_says_so() -> None:
    with stack() as running, dead(memcached_of(running)):
        done = keys_command(running, "show")
        assert done.returncode == 0
        assert "does not answer: this is what the provider lists now" in done.stdout
        assert "key-1" in done.stdout
