"""200 callers walk from API keys to OIDC, through real nginx, on a day of our choice: who passes, what he hears, and
what the report says of all of them.

The walk is made once; each test looks at one side of it.
"""

from __future__ import annotations

import csv
import http.client
import io
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from authsvc import apikeytool
from authsvc.adapters.keyfile import load
from authsvc.auditlog import Counts, Span, calls
from authsvc.demo.issuer import Issuer
from authsvc.migrationcommands import migration
from authsvc.migrationledger import Ledger
from authsvc.migrationpending import pending
from fleet_of_callers import (
    ANNOUNCE,
    NAMED,
    OVER,
    PAUSE,
    PAUSE_ENDS,
    REVOKED_LATER,
    SIZE,
    SUNSET,
    Caller,
    Fleet,
    at,
    contact,
    fleet,
)
from in_process import World, world
from migration_oracle import Made, Step, differences, figures, iso, outcome, place
from migration_oracle import pending as pending_by_hand

LINK = "https://docs.example.test/move"
CONFIG = """\
authentication:
  oidc:
    providers:
      - {name: demo, issuer: "${ISSUER}", audience: "${AUDIENCE}", allow_insecure_http: true}
  api_keys:
    keys_file: ${FOLDER}/api-keys.jsonl
"""
ENDING = f"""\
    deprecation:
      {{announce: 2027-03-01, sunset: 2027-06-30, grace: 14d, link: "{LINK}",
       brown_outs: [{{start: "2027-05-04T10:00:00Z", minutes: 30}}]}}
"""
BETA = f"    beta: [{{claim: beta, equals: true}}, {{users: [{', '.join(NAMED)}]}}]\n"
RULES = """\
authorization:
  rbac:
    rules:
      - {path: /api/public/*, allowed_roles: []}
      - {path: /api/admin/*, allowed_roles: [admin]}
rate_limit:
  tiers:
    pro: {limit: 100000/hour, matching_claim: plan=pro}
    free: {limit: 50000/hour, matching_claim: plan=free}
cache:
  memcached: ${MEMCACHED}
"""
STEPS = (
    Step("both at once", at("01-10 09:00:00")),
    Step("both of one owner", at("01-11 09:00:00"), both="require_same_owner"),
    Step("one credential a call", at("01-12 09:00:00"), both="refuse"),
    Step("beta", at("01-20 09:00:00"), 0, beta=True),
    Step("10 percent", REVOKED_LATER + 60, 10, beta=True),
    Step("50 percent", at("02-01 09:00:00"), 50, beta=True),
    Step("100 percent", at("02-08 09:00:00"), 100, beta=True),
    Step("some move", at("02-12 09:00:00"), moved=True),
    Step("two weeks later", at("02-26 09:00:00"), moved=True),
    Step("the last second before the announcement", ANNOUNCE - 1, ending=True, moved=True),
    Step("announced", ANNOUNCE, ending=True, moved=True),
    Step("brown-out", PAUSE, ending=True, moved=True),
    Step("the last second of the brown-out", PAUSE_ENDS - 1, ending=True, moved=True),
    Step("after the brown-out", PAUSE_ENDS, ending=True, moved=True),
    Step("the last second before the sunset", SUNSET - 1, ending=True, moved=True),
    Step("grace", SUNSET, ending=True, moved=True),
    Step("the last second of the grace", OVER - 1, ending=True, moved=True),
    Step("over", OVER, ending=True, moved=True),
)
NAMES = [step.name for step in STEPS]
SHARES = ("beta", "10 percent", "50 percent", "100 percent")


def config_of(step: Step) -> str:
    """Phase 1 says nothing of a rollout where it needs to say nothing of both."""
    migrates = f"  migration:\n    oidc_rollout: {step.percent:g}\n    both: {step.both}\n" + BETA * step.beta
    needed = step.both != "prefer_oidc" or step.beta
    return CONFIG + ENDING * step.ending + migrates * needed + RULES


# ---- the walk


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; headers that came several times are all there."""

    status: int
    headers: dict[str, list[str]]
    body: Any

    @property
    def at_the_api(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.body["headers"]} if self.status == 200 else {}


@dataclass(slots=True)
class Walk:
    """All that was sent and all that came back. `metrics` count from the last change of the config on."""

    fleet: Fleet
    log: Path
    made: list[Made] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    metrics: dict[str, str] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)  # calls that the API saw, by step
    pending: list[dict[str, Any]] = field(default_factory=list)
    pending_csv: list[dict[str, str]] = field(default_factory=list)
    errors: str = ""

    def at(self, name: str) -> list[tuple[Made, Answer]]:
        return [(one, told) for one, told in zip(self.made, self.answers, strict=True) if one.step.name == name]

    def between(self, first: str, last: str) -> list[Made]:
        """The calls of these steps and those between them."""
        names = NAMES[NAMES.index(first) : NAMES.index(last) + 1]
        return [one for one in self.made if one.step.name in names]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder = tmp_path_factory.mktemp("migration")
    found = Walk(fleet(folder), folder / "audit.log")
    with world(folder, STEPS[0].now) as running, ThreadPoolExecutor(4, "", _connect, (running,)) as pool:
        in_force = ""
        for step in STEPS:
            running.clock.now = step.now
            if step.now == REVOKED_LATER + 60:
                for key in found.fleet.revoked_later:
                    apikeytool.revoke(found.fleet.file, key, REVOKED_LATER)
            if config_of(step) != in_force:
                in_force = config_of(step)
                running.configure(in_force)
            _make_all(found, running, step, pool)
        found.errors = running.nginx.error_log
    return found


def _make_all(found: Walk, running: World, step: Step, pool: ThreadPoolExecutor) -> None:
    before = running.api.requests_seen
    callers = [one.moved() if step.moved else one for one in found.fleet.callers]
    found.answers += pool.map(lambda caller: _call(caller, running.issuer, step.now), callers)
    found.made += [Made(step, caller, outcome(caller, step)) for caller in callers]
    found.reached[step.name] = running.api.requests_seen - before
    assert running.service is not None
    found.metrics[step.name] = running.service.journal.exposition().decode()
    if step.name == "two weeks later":
        _look_at_pending(found, step.now)


def _look_at_pending(found: Walk, now: float) -> None:
    ledger = Ledger(calls([str(found.log)], Span(), Counts()))
    loaded = load(found.fleet.file)
    names = ("owner", "contact", "keys", "last_seen", "calls", "state")
    for row in pending(ledger, loaded.book, now):
        found.pending.append({name: getattr(row, name) for name in names} | {"keys": set(row.keys)})
    loaded.file.close()
    told = CliRunner().invoke(migration, ["pending", str(found.log), "--keys-file", found.fleet.file, "--csv"])
    assert told.exit_code == 0, told.output
    found.pending_csv = list(csv.DictReader(io.StringIO(told.stdout)))


_mine = threading.local()


def _connect(running: World) -> None:
    _mine.connection = http.client.HTTPConnection("127.0.0.1", running.nginx.port, timeout=10)


def _call(caller: Caller, issuer: Issuer, now: float) -> Answer:
    _mine.connection.request("GET", caller.path, headers=caller.headers(issuer, now))
    response = _mine.connection.getresponse()
    headers: dict[str, list[str]] = {}
    for name, value in response.getheaders():
        headers.setdefault(name.lower(), []).append(value)
    return Answer(response.status, headers, json.loads(response.read()))


# ---- who passes


def test_the_fleet_is_of_two_hundred_and_of_every_kind(walk: Walk) -> None:
    callers = walk.fleet.callers
    assert len(callers) == SIZE == len({one.name for one in callers})
    kinds = Counter((one.key is not None, one.token is not None) for one in callers)
    assert kinds == {(True, False): 93, (False, True): 56, (True, True): 50, (False, False): 1}
    reasons = {one.outcome.reason for one in walk.made}
    assert len(reasons) == 20, sorted(reasons)


@pytest.mark.parametrize("name", NAMES)
def test_the_right_callers_pass_and_others_hear_why_at(walk: Walk, name: str) -> None:
    wrong = [
        f"{one.caller.name}: {one.outcome.status} {one.outcome.reason}, but {told.status} {told.body}"
        for one, told in walk.at(name)
        if (told.status, _reason(told)) != (one.outcome.status, "" if one.outcome.allowed else one.outcome.reason)
    ]
    assert wrong == []


def _reason(told: Answer) -> str:
    return "" if told.status == 200 else str(told.body.get("reason"))


@pytest.mark.parametrize("name", NAMES)
def test_the_api_is_called_for_those_who_pass_and_for_nobody_else_at(walk: Walk, name: str) -> None:
    assert walk.reached[name] == sum(one.outcome.allowed for one, _ in walk.at(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_api_hears_who_calls_and_how_and_no_secret_at(walk: Walk, name: str) -> None:
    for one, told in walk.at(name):
        if told.status == 200:
            got = told.at_the_api
            heard = tuple(got.get(header, "") for header in ("x-auth-method", "x-user-id", "x-user-roles"))
            who = one.outcome.who
            assert heard == ((who.method, who.user, json.dumps(list(who.roles))) if who else ("", "", "")), one.caller
            assert {"authorization", "x-api-key", "x-auth-warning"}.isdisjoint(got), one.caller.name


def test_raising_the_percentage_takes_nobody_out(walk: Walk) -> None:
    let_in = [{one.caller.name for one, told in walk.at(name) if told.status == 200} for name in SHARES]
    by_token = [
        {one.caller.token.user for one, told in walk.at(name) if told.status == 200 and one.caller.token}
        for name in SHARES
    ]
    kept = {one.name for one in walk.fleet.callers if one.token is None or one.key is None}
    revoked = {one.name for one in walk.fleet.callers if one.key and one.key.until < at("02-02")}
    for before, after in zip(let_in, let_in[1:], strict=False):
        assert (before & kept) - revoked <= after
    assert [len(users) for users in by_token] == sorted(len(users) for users in by_token)


def test_the_share_that_is_let_in_is_the_percentage(walk: Walk) -> None:
    """Of those with a good token alone, who are neither named nor have the claim."""
    tokens = [one.token for one in walk.fleet.callers if one.token and one.key is None and one.path == "/api/orders"]
    open_to = {one.user for one in tokens if not one.problem and not one.beta and one.user not in NAMED}
    for name, percent in (("beta", 0), ("10 percent", 10), ("50 percent", 50), ("100 percent", 100)):
        refused = {one.caller.token.user for one, told in walk.at(name) if one.caller.token and _not_open(told)}
        assert refused & open_to == {user for user in open_to if place(user) >= percent}
        assert not refused & set(NAMED)


def _not_open(told: Answer) -> bool:
    return told.status == 401 and told.body["reason"] == "oidc_not_open"


# ---- what callers with keys hear


def http_date(instant: float) -> str:
    return format_datetime(datetime.fromtimestamp(instant, UTC), usegmt=True)


ENDS = {
    "deprecation": [f"@{int(ANNOUNCE)}"],
    "sunset": [http_date(SUNSET)],
    "link": [f'<{LINK}>; rel="deprecation"; type="text/html"'],
}


@pytest.mark.parametrize("name", NAMES)
def test_callers_with_keys_hear_when_keys_end_and_others_hear_nothing_at(walk: Walk, name: str) -> None:
    for one, told in walk.at(name):
        heard = {header: values for header, values in told.headers.items() if header in ENDS}
        assert heard == ({} if one.outcome.told == "silent" else ENDS), one.caller.name
        warned = told.headers.get("x-auth-warning", [])
        assert len(warned) == (one.outcome.told == "grace"), one.caller.name
        for text in warned:
            assert all(part in text for part in (http_date(SUNSET), http_date(OVER), LINK))


def test_refusals_because_of_the_end_name_the_link_and_when_to_come_back(walk: Walk) -> None:
    for name, wait in (("brown-out", "1800"), ("the last second of the brown-out", "1"), ("over", None)):
        ended = [told for one, told in walk.at(name) if one.outcome.reason in ("api_keys_paused", "api_keys_ended")]
        assert len(ended) > 20
        for told in ended:
            assert told.body["link"] == LINK
            assert told.headers.get("retry-after") == ([wait] if wait else None)


def test_the_end_of_keys_is_the_business_of_good_keys_only(walk: Walk) -> None:
    bad = [told for one, told in walk.at("over") if one.outcome.reason in ("revoked_api_key", "unknown_api_key")]
    assert len(bad) > 5
    assert not any("deprecation" in told.headers for told in bad)


# ---- audit lines, metrics, report, pending


def test_each_call_has_one_audit_line_and_no_line_holds_a_key(walk: Walk) -> None:
    text = walk.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == len(walk.made) == SIZE * len(STEPS)
    told = Counter((line["time"], line["reason"], line["auth"], line["user"]) for line in lines)
    sent = Counter(_line(one) for one in walk.made)
    assert told - sent == sent - told == Counter()
    for caller in walk.fleet.callers:
        assert caller.key is None or caller.key.text.split("_")[-1] not in text + walk.errors


def _line(one: Made) -> tuple[str, str, str, str]:
    who = one.outcome.named
    time = iso(one.step.now).replace("Z", ".000+00:00")
    return time, one.outcome.reason, who.method if who else "", who.user if who else ""


def test_audit_lines_tell_what_the_other_credential_would_have_brought(walk: Walk) -> None:
    lines = [json.loads(line) for line in walk.log.read_text().splitlines()]
    names = ("reason", "other_auth", "other_reason", "other_user", "differs")
    told = Counter(_same(*(line[name] for name in names)) for line in lines if "other_auth" in line)
    others = [(one.outcome.reason, one.outcome.other) for one in walk.made if one.outcome.other]
    sent = Counter(_same(why, o.method, o.reason, o.user, list(o.differs)) for why, o in others)
    assert told - sent == sent - told == Counter()


def _same(*parts: Any) -> str:
    return json.dumps(parts)


CONFIGS = {
    "both at once": ("both at once", "both at once"),
    "50 percent": ("50 percent", "50 percent"),
    "100 percent": ("100 percent", "100 percent"),
    "over": ("the last second before the announcement", "over"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_metrics_count_what_was_sent_until(walk: Walk, name: str) -> None:
    made, text = walk.between(*CONFIGS[name]), walk.metrics[name]
    outcomes = [one.outcome for one in made]
    reasons = Counter(one.reason for one in outcomes)
    assert _counted(text, "authsvc_decisions_total", "reason") == reasons
    assert _counted(text, "authsvc_migration_differences_total", "in") == differences(made)
    ending = Counter(one.told for one in outcomes if one.who and one.told != "silent")
    assert _counted(text, "authsvc_ending_keys_total", "phase") == ending


def _counted(text: str, metric: str, label: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for labels, value in re.findall(rf"^{metric}{{(.*)}} (\S+)$", text, re.MULTILINE):
        name = re.search(rf'\b{label}="([^"]*)"', labels)
        assert name
        found[name[1]] += round(float(value))
    return found


SPANS = {
    "of phase 1": ("both at once", "one credential a call"),
    "of the beta": ("beta", "50 percent"),
    "of all until two weeks after some moved": ("both at once", "two weeks later"),
    "of the end": ("announced", "over"),
    "of the whole walk": ("both at once", "over"),
}
FIGURES = ("methods", "refusals", "callers", "both", "differences", "owners", "not_moved", "all_callers",
           "oidc_share_of_calls", "oidc_share_of_callers")  # fmt: skip


@pytest.fixture(scope="module")
def reports(walk: Walk) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What the report says of a span of the walk, and what it must say."""
    return {name: (_reported(walk, *span), figures(walk.between(*span))) for name, span in SPANS.items()}


def _reported(walk: Walk, first: str, last: str) -> dict[str, Any]:
    since, until = (next(step.now for step in STEPS if step.name == name) for name in (first, last))
    span = ["--since", iso(since), "--until", iso(until + 1)]
    told = CliRunner().invoke(migration, ["report", str(walk.log), "--json", *span])
    assert told.exit_code == 0, told.output
    found: dict[str, Any] = json.loads(told.stdout)
    for row in found["differences"]:
        assert 1 <= len(row.pop("examples")) <= row["calls"]
    for row in found["not_moved"]:
        del row["good_keys"], row["look_at"]
    for name in ("refusals", "callers", "differences", "not_moved"):
        found[name].sort(key=str)
    return found


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("span", SPANS)
def test_the_report_says_what_was_sent(reports: Any, span: str, figure: str) -> None:
    told, sent = reports[span]
    assert told[figure] == sent[figure]


def test_pending_lists_the_owners_who_have_not_moved_and_whom_to_write_to(walk: Walk) -> None:
    made = walk.between("both at once", "two weeks later")
    good = _good_keys(walk.fleet.callers, at("02-26 09:00:00"))
    rows = pending_by_hand(made, good, {owner: contact(owner) for owner in good})
    assert walk.pending == rows
    listed = {row["owner"] for row in rows}
    assert listed.isdisjoint(f"acme-{number:02}" for number in range(8))
    assert {f"acme-{number:02}" for number in range(8, 20)} <= listed
    told = [tuple(row[name] for name in _IN_CSV) for row in walk.pending_csv]
    assert told == [tuple(str(row[name]) for name in _IN_CSV) for row in rows]


_IN_CSV = ("owner", "contact", "last_seen", "calls", "state")  # the keys are those that are good on the real day


def _good_keys(callers: Iterable[Caller], now: float) -> dict[str, set[str]]:
    """By owner."""
    found: dict[str, set[str]] = {}
    for key in (key for one in callers for key in (one.key, one.spare)):
        if key is not None and now < key.until:
            found.setdefault(key.owner, set()).add(f"ask_{key.id}")
    return found


def test_nginx_had_nothing_to_complain_of(walk: Walk) -> None:
    serious = [line for line in walk.errors.splitlines() if re.search(r"\[(warn|error|crit|alert|emerg)\]", line)]
    assert serious == []
