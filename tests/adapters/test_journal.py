"""What befalls keys is counted by provider and outcome, and no metric holds anything secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authsvc.adapters.journal import Journal
from authsvc.adapters.store import MemoryStore
from authsvc.core.model import Decision, Identity, Other, Reason, Request
from authsvc.core.response import face
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
    assert within(5, lambda: told(journal).get('authsvc_keys_age_seconds{provider="demo"}') == 31)
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


# ---- limits


def recorded(decision: Decision) -> tuple[dict[str, object], dict[str, float]]:
    """The audit line and the metrics of one decision."""
    lines: list[str] = []
    journal = Journal(lines=Written(lines))
    journal.record(Request("GET", "/x", id="r-1"), decision, 0.001, 1_800_000_000.0)
    return json.loads(lines[0]), told(journal)


class Written:
    """Where audit lines go."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, line: str) -> None:
        self._lines.append(line)


@pytest.mark.parametrize(
    ("decision", "tier", "shadow"),
    [
        pytest.param(Decision(Reason.ALLOWED), "", "", id="nothing was counted"),
        pytest.param(Decision(Reason.ALLOWED, tier="pro"), "pro", "", id="within the limit"),
        pytest.param(Decision(Reason.RATE_LIMITED, tier="rules.2"), "rules.2", "", id="over a rule's own limit"),
        pytest.param(Decision(Reason.ALLOWED, tier="pro", shadow="pro"), "pro", "pro", id="over a limit in shadow"),
    ],
)
def test_the_line_names_the_tier_and_what_shadow_would_have_refused(decision: Decision, tier: str, shadow: str) -> None:
    line, metrics = recorded(decision)
    assert (line["tier"], line["shadow"]) == (tier, shadow)
    counted = {name: value for name, value in metrics.items() if "shadow" in name}
    assert counted == ({f'authsvc_shadow_refusals_total{{tier="{shadow}"}}': 1} if shadow else {})


def test_a_receipt_and_a_counters_name_are_nowhere_in_the_line() -> None:
    line, _ = recorded(Decision(Reason.ALLOWED, tier="pro", receipt="0123456789ab=pro:1:1:1:1"))
    assert "0123456789ab" not in json.dumps(line)


@pytest.mark.parametrize("event", ["store_error", "internal_error"])
def test_trouble_is_counted(event: str) -> None:
    journal = Journal()
    journal.trouble(event)
    assert told(journal)[f'authsvc_trouble_total{{event="{event}"}}'] == 1


# ---- the audit line, which is put together and not dumped


texts = st.text(st.characters(), max_size=140) | st.sampled_from(['"', "\\", "\ud83d", "\x00\x7f", "\u2028", "{}", "é"])
identities = st.none() | st.builds(
    Identity,
    provider=texts,
    user_id=texts,
    email=texts,
    roles=st.just(()),
    claims=st.just({}),
    key=texts,
    client=texts,
    tenants=st.lists(texts, max_size=2).map(tuple),
    method=st.sampled_from(["oidc", "api_key"]),
)
others = st.none() | st.builds(
    Other, texts, st.sampled_from(Reason), identities, st.sampled_from([(), ("roles",), ("refused", "tier")])
)
decisions = st.builds(
    Decision,
    reason=st.sampled_from(Reason),
    path=texts,
    provider=texts,
    rule=texts,
    identity=identities,
    named=identities,
    tier=texts,
    shadow=texts,
    ignored=st.none() | st.sampled_from(Reason),
    other=others,
)
requests = st.builds(
    Request, st.none() | texts, st.none() | texts, client_ip=st.none() | texts, id=st.text(max_size=200)
)
moments = st.floats(0, 4e9) | st.integers(0, 4 * 10**9)


def dumped(request: Request, decision: Decision, seconds: float, now: float) -> str:
    """The line as json.dumps makes it of its fields."""
    who = decision.identity or decision.named
    fields: dict[str, object] = {
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "request_id": request.id[:128],
        "outcome": "allow" if decision.allowed else "deny",
        "status": face(decision.reason).status,
        "reason": decision.reason.value,
        "method": (request.method or "")[:32],
        "path": (decision.path or (request.target or "").partition("?")[0])[:200],
        "rule": decision.rule,
        "provider": decision.provider,
        "user": (who.key or who.user_id)[:128] if who else "",
        "client": who.client[:128] if who else "",
        "tenant": ",".join(who.tenants)[:128] if who else "",
        "auth": who.method if who else "",
        "client_ip": request.client_ip or "",
        "tier": decision.tier,
        "shadow": decision.shadow,
        "ignored": decision.ignored.value if decision.ignored else "",
        "latency_us": int(seconds * 1e6 + 0.5),
    }
    if decision.other is not None:
        named = decision.other.named
        fields["other_auth"] = decision.other.method
        fields["other_reason"] = decision.other.reason
        fields["other_user"] = (named.key or named.user_id)[:128] if named else ""
        fields["other_client"] = named.client[:128] if named else ""
        fields["differs"] = list(decision.other.differs)
    return json.dumps(fields) + "\n"


@given(requests, decisions, st.floats(0, 100), moments)
def test_the_line_is_what_json_dumps_makes_of_its_fields(
    request: Request, decision: Decision, seconds: float, now: float
) -> None:
    lines: list[str] = []
    Journal(lines=Written(lines)).record(request, decision, seconds, now)
    assert lines == [dumped(request, decision, seconds, now)]
    assert lines[0].isascii()
    assert lines[0].count("\n") == 1


def test_an_id_that_is_known_to_be_plain_is_written_as_any_other() -> None:
    lines: list[str] = []
    for plain in (False, True):
        request = Request("GET", "/x", id="0a" * 16, plain_id=plain)
        Journal(lines=Written(lines)).record(request, Decision(Reason.ALLOWED), 0.001, 1_800_000_000)
    assert lines[0] == lines[1]


@given(moments)
@example(1_800_000_000.9999996)
@example(1_800_000_000.0009999)
@example(1_799_999_999.9999998)
@example(2_251_799_814.5879993)
def test_the_time_is_that_of_the_nearest_microsecond_cut_to_milliseconds(now: float) -> None:
    lines: list[str] = []
    Journal(lines=Written(lines)).record(Request("GET", "/x"), Decision(Reason.ALLOWED), 0.001, now)
    assert json.loads(lines[0])["time"] == datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")


# ---- counted here first, told to the metrics a moment later


ALLOWS = 'authsvc_decisions_total{outcome="allow",provider="p",reason="allowed"}'
OF_ALLOWED = Decision(Reason.ALLOWED, provider="p")


def ask(journal: Journal, times: int = 1, seconds: float = 0.001) -> None:
    for _ in range(times):
        journal.record(Request("GET", "/x", id="r-1"), OF_ALLOWED, seconds, 1_800_000_000.0)


@pytest.mark.parametrize(
    ("seconds", "first"),
    [(0, "0.0001"), (0.0001, "0.0001"), (0.000100001, "0.00025"), (2.5, "2.5"), (2.51, "+Inf")],
)
def test_a_time_counts_in_every_bucket_that_is_wide_enough(seconds: float, first: str) -> None:
    journal = Journal(sample_allows=0)
    ask(journal, 3, seconds)
    found = {name: value for name, value in told(journal).items() if "_bucket" in name}
    names = list(found)
    wide = names[names.index(f'authsvc_decision_seconds_bucket{{le="{first}"}}') :]
    assert found == {name: 3 if name in wide else 0 for name in names}
    assert told(journal)["authsvc_decision_seconds_sum"] == pytest.approx(3 * seconds)


def test_without_anything_in_the_background_an_exposition_holds_all_that_was_counted() -> None:
    journal = Journal(sample_allows=0)
    for count in (1, 2, 2):
        ask(journal, count)
        told(journal)
    assert told(journal)[ALLOWS] == told(journal)["authsvc_decision_seconds_count"] == 5


def test_nothing_is_lost_or_counted_twice_where_many_count_and_many_flush() -> None:
    journal = Journal(sample_allows=0)
    over = threading.Event()

    def flush() -> None:
        while not over.is_set():
            journal.flush()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        counting = [threading.Thread(target=ask, args=(journal, 2000)) for _ in range(4)]
        flushing = [threading.Thread(target=flush) for _ in range(2)]
        for one in counting + flushing:
            one.start()
        for one in counting:
            one.join()
        over.set()
        for one in flushing:
            one.join()
    finally:
        sys.setswitchinterval(before)
    found = told(journal)
    assert found[ALLOWS] == found["authsvc_decision_seconds_count"] == 8000
    assert found["authsvc_decision_seconds_sum"] == pytest.approx(8)


def gathered(code: str, directory: Path) -> dict[str, float]:
    """What the metrics of all processes hold after a program of these lines."""
    head = (
        "import os, signal, sys, threading, time\n"
        "from authsvc.adapters.journal import Journal\n"
        "from authsvc.core.model import Decision, Reason, Request\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "def ask(journal, times):\n"
        "    for _ in range(times):\n"
        "        journal.record(Request('GET', '/x'), Decision(Reason.ALLOWED, provider='p'), 0.001, 1.8e9)\n"
        "journal = Journal(sample_allows=0)\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    subprocess.run([sys.executable, "-c", head + code], env=environment, timeout=30, check=True)
    shown = "import sys; from authsvc.adapters.journal import Journal; sys.stdout.buffer.write(Journal().exposition())"
    done = subprocess.run([sys.executable, "-c", shown], env=environment, capture_output=True, timeout=30, check=True)
    return samples(done.stdout.decode())


ENDS = {
    "it ends by itself": "",
    "it is told to stop": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)",
    "the journal is stopped and nothing else is done": "journal.stop(); os._exit(0)",
    "it is killed a second later": "time.sleep(1.2); os._exit(0)",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_has_told_all_that_it_counted_when(end: str, tmp_path: Path) -> None:
    found = gathered(f"journal.start()\nask(journal, 7)\n{ENDS[end]}", tmp_path)
    assert found[ALLOWS] == found["authsvc_decision_seconds_count"] == 7


def test_what_was_counted_before_a_fork_is_told_by_the_parent_alone(tmp_path: Path) -> None:
    code = (
        "journal.start()\n"
        "ask(journal, 5)\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        ask(journal, 10)\n"
        "        sys.exit(0)\n"
        "    os.wait()\n"
        "ask(journal, 100)\n"
    )
    found = gathered(code, tmp_path)
    assert found[ALLOWS] == found["authsvc_decision_seconds_count"] == 135


def test_forks_in_the_middle_of_counting_and_flushing_lose_nothing_and_hang_nowhere(tmp_path: Path) -> None:
    code = (
        "sys.setswitchinterval(1e-6)\n"
        "journal.start()\n"
        "over = threading.Event()\n"
        "def flush():\n"
        "    while not over.is_set(): journal.flush()\n"
        "threads = [threading.Thread(target=ask, args=(journal, 3000)) for _ in range(2)]\n"
        "flushing = threading.Thread(target=flush)\n"
        "for one in [*threads, flushing]: one.start()\n"
        "for _ in range(10):\n"
        "    if os.fork() == 0:\n"
        "        ask(journal, 10)\n"
        "        journal.stop()\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == 0\n"
        "for one in threads: one.join()\n"
        "over.set()\n"
    )
    found = gathered(code, tmp_path)
    assert found[ALLOWS] == found["authsvc_decision_seconds_count"] == 6100
