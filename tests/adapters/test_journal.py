"""What befalls keys is counted by provider and outcome, and no metric holds anything secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from authsvc.adapters.journal import Journal
from authsvc.adapters.store import MemoryStore
from authsvc.demo.behaviours import Behaviour
from authsvc.demo.issuer import Issuer
from helpers import Clock
from rings import SECRET, Rings
from waiting import within


def samples(text: str) -> dict[str, float]:
    """The numbers of an exposition by name and labels, without the times at which counters were made."""
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines if "_created" not in name}


def told(journal: Journal) -> dict[str, float]:
    return samples(journal.exposition().decode())


def test_refreshes_are_counted_by_outcome() -> None:
    journal = Journal()
    for outcome in ("ok", "ok", "timeout"):
        journal.key_refresh("demo", outcome)
    journal.key_refresh("other", "ok")
    found = told(journal)
    assert found['authsvc_key_refreshes_total{outcome="ok",provider="demo"}'] == 2
    assert found['authsvc_key_refreshes_total{outcome="timeout",provider="demo"}'] == 1
    assert found['authsvc_key_refreshes_total{outcome="ok",provider="other"}'] == 1


def test_the_number_of_keys_and_their_age_are_those_of_now() -> None:
    journal = Journal()
    journal.key_state("demo", 3, 120.5)
    journal.key_state("demo", 2, 0.5)
    found = told(journal)
    assert found['authsvc_keys{provider="demo"}'] == 2
    assert found['authsvc_keys_age_seconds{provider="demo"}'] == 0.5


@pytest.mark.parametrize("event", ["forced", "cooldown", "tampered", "outdated", "shared_unreachable", "stale_use"])
def test_events_of_keys_are_counted(event: str) -> None:
    journal = Journal()
    journal.key_event("demo", event)
    assert told(journal)[f'authsvc_key_events_total{{event="{event}",provider="demo"}}'] == 1


def test_a_keyring_counts_in_the_journal_and_nothing_of_a_key_is_in_the_metrics(
    make: Rings, issuer: Issuer, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = Journal()
    issuer.extra = [{**issuer.keys[0].jwk(), "d": "private-part", "kid": "leaked"}]
    ring = make.started(MemoryStore(), heard=journal)  # type: ignore[arg-type]
    issuer.behave(Behaviour.ERROR)
    clock.pass_(31)
    ring.refresh("demo", clock.now)
    ring.refresh("demo", clock.now)
    assert within(1, lambda: told(journal).get('authsvc_keys_age_seconds{provider="demo"}') == 31)
    found = told(journal)
    assert found['authsvc_keys{provider="demo"}'] == 1
    assert found['authsvc_key_refreshes_total{outcome="ok",provider="demo"}'] == 1
    assert found['authsvc_key_refreshes_total{outcome="status_5xx",provider="demo"}'] == 1
    assert found['authsvc_key_events_total{event="forced",provider="demo"}'] == 1
    assert found['authsvc_key_events_total{event="cooldown",provider="demo"}'] == 1
    out, said = capfd.readouterr()
    assert out == ""
    assert said.startswith("authsvc: demo: key 'leaked' is not used: the provider publishes a private key\n")
    for text in (journal.exposition().decode(), said):
        assert not any(word in text for word in ("private-part", issuer.keys[0].jwk()["n"], SECRET.decode()))
    assert "key-1" not in journal.exposition().decode()  # kids are the provider's text, and no end of labels


def test_of_several_workers_the_one_that_knows_least_is_told(tmp_path: Path) -> None:
    code = (
        "import os, sys; from authsvc.adapters.journal import Journal\n"
        "for keys, age in ((3, 10.0), (1, 200.0), (2, 20.0)):\n"
        "    if os.fork() == 0:\n"
        "        journal = Journal()\n"
        "        journal.key_state('demo', keys, age)\n"
        "        journal.key_refresh('demo', 'ok')\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "sys.stdout.buffer.write(Journal().exposition())\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=20, check=True
    )
    found = samples(done.stdout)
    assert found['authsvc_keys{provider="demo"}'] == 1
    assert found['authsvc_keys_age_seconds{provider="demo"}'] == 200
    assert found['authsvc_key_refreshes_total{outcome="ok",provider="demo"}'] == 3


def test_what_a_provider_says_steers_no_terminal_and_forges_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    Journal().say('demo: it names \'ftp://x/\n{"outcome": "allow"}\x1b[31m\'')
    assert capfd.readouterr().err.count("\n") == 1
