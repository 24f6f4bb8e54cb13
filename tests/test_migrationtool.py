"""`authsvc migration`: its figures are those of the calls that were made, and nothing in a log can break or fool it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from authsvc import migrationcommands, migrationview
from authsvc.adapters.journal import Journal
from authsvc.adapters.keylines import to_line
from authsvc.auditlog import MAX_LINE, Call, Counts, Span, calls
from authsvc.core import rbac
from authsvc.core.apikeys import ApiKey, mint
from authsvc.core.callers import ApiKeys, Rollout
from authsvc.core.model import Decision, Identity, Other, Reason, Request
from authsvc.migrationcommands import migration
from authsvc.migrationledger import MAX_NAME, Ledger, State
from authsvc.migrationtool import NOTE, report
from worlds import NOW, call, gate, token

DAY_S = 86400
RULE = "GET /orders/*"


class Sink(list[str]):
    """Where the journal writes."""

    def write(self, line: str) -> None:
        self.append(line)


def record(decision: Decision, at: float = NOW, target: str = "/orders/1", verb: str = "GET") -> str:
    """The audit line of a decision, as authsvc writes it."""
    sink = Sink()
    decision = replace(decision, path=target, rule=decision.rule or RULE)
    Journal(lines=sink).record(Request(verb, target, id="r-1"), decision, 0.0001, at)
    return sink[0]


def by_key(owner: str, key: str = "1" * 16, reason: Reason = Reason.ALLOWED, token: Other | None = None) -> Decision:
    who = Identity("api_keys", owner, "", ("reader",), {}, client=key, method="api_key")
    return Decision(reason, provider="api_keys", identity=who, other=token)


def by_token(
    user: str, client: str = "app", reason: Reason = Reason.ALLOWED, key: Other | None = None, provider: str = "main"
) -> Decision:
    who = Identity(provider, user, "", ("reader",), {}, client=client)
    return Decision(reason, provider=provider, identity=who, other=key)


def other(method: str, user: str, reason: Reason = Reason.ALLOWED, *differs: str) -> Other:
    return Other(method, reason, Identity("", user, "", (), {}, method=method), differs)


def nobody(reason: Reason, provider: str = "") -> Decision:
    return Decision(reason, provider=provider)


def key(number: int, owner: str, **more: Any) -> ApiKey:
    return ApiKey(digest=mint(number.to_bytes(32, "big"))[1], owner=owner, **more)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "api-keys.jsonl"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def run(*words: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(migration, [str(word) for word in words], input=stdin)


def told(log: Path, lines: Iterable[str], *words: object) -> dict[str, Any]:
    """The report as JSON."""
    log.write_text("".join(lines))
    done = run("report", log, "--json", *words)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def mail_out(log: Path, lines: Iterable[str], keys_file: Path, keys: Sequence[ApiKey], *words: str) -> dict[str, Any]:
    """The rows of `pending --csv` by owner."""
    log.write_text("".join(lines))
    keys_file.write_bytes(b"".join(map(to_line, keys)))
    done = run("pending", log, "--keys-file", keys_file, "--csv", *words)
    assert done.exit_code == 0, done.output
    return {row["owner"]: row for row in csv.DictReader(io.StringIO(done.stdout), strict=True)}


# ---- the figures


def fleet() -> list[str]:
    """40 owners on keys, 30 with a good token beside it, 20 with a bad one, 10 who send both in turn; 50 users."""
    bad = Reason.ROLE_REQUIRED, "refused"
    made = []
    for number in range(40):
        made += [record(by_key(f"key-{number}", f"{number:016x}"), NOW + minute) for minute in range(3)]
    for number in range(30):
        made.append(record(by_token(f"good-{number}", key=other("api_key", f"owner-{number}")), NOW + 60))
        made.append(record(by_key(f"owner-{number}", token=other("oidc", f"good-{number}")), NOW + 61))
    made += [record(by_key(f"bad-{number}", token=other("oidc", f"b-{number}", *bad))) for number in range(20)]
    for number in range(10):
        made += [record(by_key(f"part-{number}")), record(by_token(f"part-{number}"), NOW + 1)]
    made += [record(by_token(f"user-{number}"), NOW + 2) for number in range(50)]
    made += [record(nobody(Reason.EXPIRED, "main"))] * 7 + [record(nobody(Reason.NO_CREDENTIALS))] * 5
    return made + [record(nobody(Reason.REVOKED_API_KEY, "api_keys"))] * 4


def test_the_figures_of_a_fleet_are_those_that_were_sent(log: Path) -> None:
    lines = fleet()
    found = told(log, lines)
    assert found["lines"] == {"used": len(lines), "outside": 0, "no_json": 0, "lacking": 0, "broken": []}
    methods = {row.pop("method"): row for row in found["methods"]}
    assert methods["api_key"] == {"callers": 100, "calls": 184, "allowed": 180, "refused": 4}
    assert methods["oidc"] == {"callers": 90, "calls": 97, "allowed": 90, "refused": 7}
    assert methods["none"] == {"callers": 0, "calls": 5, "allowed": 0, "refused": 5}
    assert found["oidc_share_of_calls"] == round(90 / 270, 4)
    assert found["owners"] == {"keys_only": 60, "partly": 10, "moved": 30}
    assert found["oidc_share_of_callers"] == round((50 + 30) / (50 + 100), 4)
    assert found["both"] == {"calls": 80, "alike": 60, "refused": 20, "roles": 0, "tier": 0}
    assert [tuple(row.values()) for row in found["refusals"]] == [
        ("oidc", "expired", 7),
        ("none", "no_credentials", 5),
        ("api_key", "revoked_api_key", 4),
    ]
    assert len(found["callers"]) == found["all_callers"] == 190
    assert sum(row["calls"] for row in found["callers"]) == len(lines) - 16
    assert len(found["not_moved"]) == 70


def test_a_caller_is_told_with_his_calls_and_the_first_and_the_last_of_them(log: Path) -> None:
    lines = [record(by_key("acme"), NOW + 60), record(by_key("acme", reason=Reason.RATE_LIMITED), NOW + 3600)]
    (row,) = told(log, [*lines, record(by_key("acme"), NOW)])["callers"]
    assert row == {
        "method": "api_key", "provider": "api_keys", "owner": "acme", "calls": 3, "refused": 1,
        "first_seen": "2027-01-15T08:00:00Z", "last_seen": "2027-01-15T09:00:00Z",
    }  # fmt: skip


def test_the_same_user_of_two_providers_is_two_callers(log: Path) -> None:
    found = told(log, [record(by_token("ann")), record(by_token("ann", provider="other"))])
    assert [(row["provider"], row["calls"]) for row in found["callers"]] == [("main", 1), ("other", 1)]


def test_a_user_to_whom_oidc_is_not_open_is_a_caller_who_is_not_on_it(log: Path) -> None:
    closed = replace(by_token("ann", reason=Reason.OIDC_NOT_OPEN), identity=None, named=by_token("ann").identity)
    found = told(log, [record(closed), record(by_token("bob"))])
    assert (found["oidc_share_of_callers"], found["oidc_share_of_calls"]) == (0.5, 1.0)
    assert found["refusals"] == [{"method": "oidc", "reason": "oidc_not_open", "calls": 1}]


def test_owners_whose_keys_have_ended_are_still_told(log: Path) -> None:
    ended = replace(by_key("acme", reason=Reason.API_KEYS_ENDED), identity=None, named=by_key("acme").identity)
    (row,) = told(log, [record(ended)])["not_moved"]
    assert (row["owner"], row["state"], row["used_keys"]) == ("acme", "keys_only", 1)


def test_differences_are_counted_by_kind_with_the_reasons_of_both_and_calls_to_look_at(log: Path) -> None:
    bad = other("oidc", "u-1", Reason.ROLE_REQUIRED, "refused", "roles")
    lines = [record(by_key("acme", token=bad), NOW + second, f"/orders/{second}") for second in range(5)]
    lines.append(record(by_token("u-2", key=other("api_key", "beta", Reason.ALLOWED, "tier"))))
    found = told(log, lines)
    assert found["both"] == {"calls": 6, "alike": 0, "refused": 5, "roles": 5, "tier": 1}
    first = next(row for row in found["differences"] if row["differs"] == "refused")
    examples = first.pop("examples")
    assert first == {
        "differs": "refused", "in_force": "api_key", "reason": "allowed",
        "other": "oidc", "other_reason": "role_required", "calls": 5,
    }  # fmt: skip
    assert [one["call"] for one in examples] == ["GET /orders/4", "GET /orders/3", "GET /orders/2"]
    assert (examples[0]["owner"], examples[0]["user"], examples[0]["request_id"]) == ("acme", "u-1", "r-1")
    last = found["differences"][-1]
    assert (last["differs"], last["examples"][0]["owner"], last["examples"][0]["user"]) == ("tier", "beta", "u-2")


def test_who_has_not_moved_is_told_with_his_keys_and_what_he_calls(log: Path, keys_file: Path) -> None:
    first, second, unused = (key(number, "acme") for number in range(3))
    revoked = key(3, "acme", revoked=NOW)
    keys_file.write_bytes(b"".join(map(to_line, (first, second, unused, revoked))))
    lines = [record(by_key("acme", first.id), NOW + number, f"/orders/{number}") for number in range(3)]
    lines.append(record(by_key("acme", second.id), NOW + 9, "/users", verb="POST"))
    found = told(log, lines, "--keys-file", keys_file)
    (row,) = found["not_moved"]
    assert (row["owner"], row["state"], row["calls"], row["by_key_alone"]) == ("acme", "keys_only", 4, 4)
    assert (row["used_keys"], row["good_keys"], row["last_seen"]) == (2, 3, "2027-01-15T08:00:09Z")
    assert [(one["call"], one["calls"]) for one in row["look_at"]] == [("GET /orders/2", 3), ("POST /users", 1)]
    assert [one["key"] for one in found["unused_keys"]] == [unused.name]


def test_the_real_gate_and_journal_write_what_is_read_here(log: Path) -> None:
    text, digest = mint(bytes(32))
    held = {digest: ApiKey(digest=digest, owner="acme", roles=("reader",))}
    rules = [rbac.rule("/orders", None, ["reader"])]
    deciding = gate(rules=rules, api_keys=ApiKeys(lambda now: held), rollout=Rollout(100))
    sink = Sink()
    journal = Journal(lines=sink)
    for request in (
        call(None, api_key=text),
        call(token(), api_key=text),
        call(token(roles=["nothing"]), api_key=text),
        call(token()),
        call(None, api_key=text[:-1] + "!"),
        call(),
    ):
        journal.record(request, deciding.decide(request, NOW)[0], 0.0001, NOW)
    found = told(log, sink)
    methods = {row["method"]: (row["allowed"], row["refused"]) for row in found["methods"]}
    assert methods == {"api_key": (1, 1), "oidc": (2, 1), "none": (0, 1)}
    assert found["owners"] == {"keys_only": 0, "partly": 1, "moved": 0}
    (row,) = found["not_moved"]
    assert (row["calls"], row["by_key_alone"], row["used_keys"]) == (3, 2, 1)
    assert (found["both"]["calls"], found["both"]["refused"]) == (2, 1)


# ---- who has moved


def of(*decisions: tuple[Decision, float]) -> Ledger:
    lines = [record(decision, NOW + at).encode() for decision, at in decisions]
    return Ledger(read(b"".join(lines))[0])


def read(data: bytes) -> tuple[list[Call], Counts]:
    """The calls of what is typed on standard input."""
    counts = Counts()
    with CliRunner().isolation(input=data):
        return list(calls(["-"], Span(), counts)), counts


GOOD, BAD = other("oidc", "u-1"), other("oidc", "u-1", Reason.EXPIRED, "refused")
LATER = (by_token("somebody"), 30 * DAY_S)
STATES = {
    "calls by key alone": (State.KEYS_ONLY, [(by_key("acme"), 0)]),
    "a token that would have been refused is none": (State.KEYS_ONLY, [(by_key("acme", token=BAD), 0)]),
    "a token that would have been accepted": (State.MOVED, [(by_key("acme", token=GOOD), 0)]),
    "a token in force, his key beside it": (State.MOVED, [(by_token("u-1", key=other("api_key", "acme")), 0)]),
    "a token in force that was refused": (
        State.KEYS_ONLY,
        [(by_token("u-1", reason=Reason.ROLE_REQUIRED, key=other("api_key", "acme")), 0)],
    ),
    "a token whose limit was used up is a good one": (
        State.MOVED,
        [(by_token("u-1", reason=Reason.RATE_LIMITED, key=other("api_key", "acme")), 0)],
    ),
    "a refused key is still a call by key": (State.KEYS_ONLY, [(by_key("acme", reason=Reason.RATE_LIMITED), 0)]),
    "tokens of a user with his name": (State.MOVED, [(by_key("acme"), 0), (by_token("acme"), 9 * DAY_S)]),
    "tokens of a client with his name": (State.MOVED, [(by_key("acme"), 0), (by_token("x", "acme"), 9 * DAY_S)]),
    "tokens of the user that he sent beside a key": (
        State.MOVED,
        [(by_key("acme", token=GOOD), 0), (by_key("acme"), DAY_S), (by_token("u-1"), 9 * DAY_S)],
    ),
    "refused tokens of a user with his name": (
        State.KEYS_ONLY,
        [(by_key("acme"), 0), (by_token("acme", reason=Reason.ROLE_REQUIRED), 9 * DAY_S)],
    ),
    "a call by key alone not long ago": (
        State.PARTLY,
        [(by_key("acme"), 0), (by_token("acme"), DAY_S), (by_token("x"), 7 * DAY_S)],
    ),
    "a call by key alone long ago": (
        State.MOVED,
        [(by_key("acme"), 0), (by_token("acme"), DAY_S), (by_token("x"), 7 * DAY_S + 1)],
    ),
    "a call by key alone after his last token": (
        State.PARTLY,
        [(by_token("acme"), 0), (by_key("acme"), DAY_S), LATER],
    ),
    "nobody named him": (State.UNSEEN, [LATER]),
}


@pytest.mark.parametrize(("state", "sent"), STATES.values(), ids=STATES)
def test_an_owner_is_as_far_as_his_calls_say(state: State, sent: list[tuple[Decision, float]]) -> None:
    assert of(*sent).state("acme", 7 * DAY_S) is state
    assert of(*reversed(sent)).state("acme", 7 * DAY_S) is state


def test_an_owner_whose_name_an_audit_line_cuts_is_still_known() -> None:
    assert of((by_key("x" * 200), 0)).state("x" * 200, DAY_S) is State.KEYS_ONLY
    assert len(next(iter(of((by_key("x" * 200), 0)).owners))) == MAX_NAME


# ---- pending


def test_pending_lists_owners_on_keys_with_whom_to_write_to(log: Path, keys_file: Path) -> None:
    keys = [
        key(1, "acme", contact="a@acme.test", tenant="t-1", plan="pro", expires=NOW + 90 * DAY_S),
        key(2, "acme", contact="b@acme.test", tenant="t-1", expires=NOW + 30 * DAY_S),
        key(3, "acme", revoked=1.0),
        key(4, "gone", revoked=1.0),
        key(5, "old", expires=1.0),
        key(6, "moved", contact="m@moved.test"),
        key(7, "silent", contact="s@silent.test"),
    ]
    lines = [record(by_key("acme", keys[0].id), NOW), record(by_key("acme", keys[1].id), NOW + 5)]
    lines += [record(by_key("moved", token=GOOD)), record(by_key("gone")), record(by_key("erased"))]
    rows = mail_out(log, lines, keys_file, keys)
    assert list(rows) == ["acme", "silent"]
    assert rows["acme"] == {
        "owner": "acme", "contact": "a@acme.test; b@acme.test", "tenant": "t-1", "plan": "pro",
        "keys": f"{keys[0].name} {keys[1].name}", "last_seen": "2027-01-15T08:00:05Z", "calls": "2",
        "expires": "2027-02-14T08:00:00Z", "state": "keys_only",
    }  # fmt: skip
    assert (rows["silent"]["calls"], rows["silent"]["last_seen"], rows["silent"]["state"]) == ("0", "", "unseen")
    rows = mail_out(log, lines, keys_file, keys, "--all")
    assert {name: row["state"] for name, row in rows.items()} == {
        "acme": "keys_only",
        "moved": "moved",
        "silent": "unseen",
    }


def test_pending_without_a_log_lists_all_owners_of_good_keys(keys_file: Path) -> None:
    keys_file.write_bytes(b"".join(map(to_line, (key(1, "b"), key(2, "a"), key(3, "c", revoked=1.0)))))
    done = run("pending", "--keys-file", keys_file, "--json")
    rows = json.loads(done.stdout)
    assert [(row["owner"], row["calls"], row["state"]) for row in rows] == [("a", None, ""), ("b", None, "")]


def test_pending_is_a_table_for_a_terminal_and_says_when_nobody_is_left(keys_file: Path) -> None:
    keys_file.write_bytes(to_line(key(1, "acme", contact="a@acme.test")))
    head, row = run("pending", "--keys-file", keys_file).stdout.splitlines()
    assert head.split()[:4] == ["owner", "contact", "tenant", "plan"]
    assert row.split()[:2] == ["acme", "a@acme.test"]
    keys_file.write_bytes(to_line(key(1, "acme", revoked=1.0)))
    done = run("pending", "--keys-file", keys_file)
    assert (done.exit_code, done.stdout) == (0, "nobody is still on keys\n")


def test_pending_says_nothing_where_no_line_could_be_used(log: Path, keys_file: Path) -> None:
    keys_file.write_bytes(to_line(key(1, "acme")))
    log.write_text("nothing of ours\n")
    done = run("pending", log, "--keys-file", keys_file, "--csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no line could be used" in done.stderr


# ---- CSV and text


FORMULAS = ["=1+1", "+49 30 1234", "-2", "@SUM(A1)", " =1", "\uff1d1+1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(log: Path, keys_file: Path, text: str) -> None:
    rows = mail_out(log, [record(by_key(text))], keys_file, [key(1, text, contact=text, plan='a "b", c')])
    (row,) = rows.values()
    assert (row["owner"], row["contact"], row["plan"]) == (f"'{text}", f"'{text}", 'a "b", c')


def test_a_cell_that_begins_with_a_tab_or_steers_a_terminal_does_neither(log: Path) -> None:
    log.write_text(record(by_key("\t=1")) + record(by_key("a\x1b[2J\r\nb")))
    done = run("report", log, "--csv")
    assert [row["owner"] for row in csv.DictReader(io.StringIO(done.stdout))] == ["'\\t=1", "a\\x1b[2J\\r\\nb"]


@given(st.lists(st.text(max_size=20).filter(bool), min_size=1, max_size=5))
def test_whatever_owners_are_called_the_csv_has_their_number_of_rows(names: list[str]) -> None:
    ledger = of(*((by_key(name), 0) for name in names))
    text = migrationview.part_csv(report(ledger, Counts(), None, NOW), "callers")
    rows = list(csv.DictReader(io.StringIO(text), strict=True))
    assert len(rows) == len(set(names))
    assert all(row["owner"] and row["owner"].isprintable() for row in rows)
    assert not [row for row in rows if row["owner"].lstrip().startswith(("=", "+", "-", "@", "\t"))]


@pytest.mark.parametrize("part", migrationcommands.PARTS)
def test_every_list_can_be_had_as_csv(log: Path, keys_file: Path, part: str) -> None:
    keys_file.write_bytes(to_line(key(1, "acme")))
    log.write_text("".join(fleet()))
    done = run("report", log, "--csv", "--part", part, "--keys-file", keys_file)
    rows = list(csv.DictReader(io.StringIO(done.stdout), strict=True))
    assert done.exit_code == 0
    assert len(rows) == {"callers": 190, "methods": 3, "refusals": 3, "differences": 1, "not-moved": 70}.get(part, 1)
    assert not [row for row in rows if None in row or None in row.values()]


def test_the_command_line_knows_the_lists_that_there_are() -> None:
    assert tuple(migrationview.PARTS) == migrationcommands.PARTS


def test_the_text_says_the_figures_in_words(log: Path, keys_file: Path) -> None:
    keys_file.write_bytes(to_line(key(1, "acme")))
    log.write_text("".join(fleet()))
    text = run("report", log, "--keys-file", keys_file).stdout
    for line in (
        "286 calls from 2027-01-15T08:00:00Z to 2027-01-15T08:01:01Z",
        f"note: {NOTE}",
        "OIDC: 33.3 % of allowed calls with a known caller",
        "OIDC: 53.3 % of callers, an owner of keys being one when he has moved",
        "owners of keys: 60 by keys only, 10 by both, 30 moved",
        "callers: 190, 20 of them here: -n shows more",
        "key and token on one call: 80 calls, 60 without a difference; 20 in refusal, 0 in roles, 0 in tier",
        "owners who have not moved: 70, 20 of them here: -n shows more",
        "good keys that no line names: 1",
    ):
        assert line in text.splitlines()
    assert "owners who have not moved: 70\n" in run("report", log, "-n", "100").stdout


def test_n_cuts_json_and_csv_too_and_the_longest_come_first(log: Path) -> None:
    found = told(log, fleet(), "-n", 2)
    assert [row["calls"] for row in found["callers"]] == [3, 3]
    assert (len(found["not_moved"]), found["all_callers"]) == (2, 190)
    assert len(run("report", log, "--csv", "-n", "2").stdout.splitlines()) == 3


def test_a_hostile_log_steers_no_terminal(log: Path) -> None:
    evil = "\x1b]0;x\x07\x9b2J\u202e\ud800"
    said = json.loads(record(by_key("acme", token=BAD)))
    hostile = {"user": evil, "path": evil, "rule": evil, "method": evil, "reason": evil, "other_user": evil}
    log.write_text(json.dumps(said | hostile | {"provider": evil, "request_id": evil, "other_reason": evil}) + "\n")
    for words in (["report", log], ["report", log, "--csv"], ["report", log, "--csv", "--part", "differences"]):
        done = run(*words)
        assert done.exit_code == 0
        assert all(char.isprintable() or char == "\n" for char in done.output)
    assert run("report", log, "--json").stdout.isascii()


# ---- what a log may be


def test_compressed_files_and_standard_input_count_like_any_other(log: Path, tmp_path: Path) -> None:
    log.write_text(record(by_key("a")))
    packed = tmp_path / "audit.log.1"  # rotated, whatever it is called
    packed.write_bytes(gzip.compress(record(by_key("b")).encode()) + gzip.compress(record(by_key("c")).encode()))
    for typed in (record(by_key("d")).encode(), gzip.compress(record(by_key("d")).encode())):
        done = run("report", log, packed, "-", "--json", stdin=typed)
        assert [row["owner"] for row in json.loads(done.stdout)["callers"]] == ["a", "b", "c", "d"]


JUNK = {
    "other words": (b"[2027-01-15] started\n", "no_json"),
    "no object": (b"[1]\n", "no_json"),
    "a line that was cut": (record(by_key("a")).encode()[:80] + b"\n", "no_json"),
    "bytes that are no text": (b'{"time": "\xff\xfe"}\n', "no_json"),
    "a line nested too deep": (b"[" * 50_000 + b"\n", "no_json"),
    "a line longer than any of ours": (b'{"time": "' + b"x" * 3 * MAX_LINE + b'"}\n', "no_json"),
    "an object of another program": (b'{"level": "info"}\n', "lacking"),
    "a line of an older authsvc": (record(by_key("a")).replace('"auth": "api_key", ', "").encode(), "lacking"),
    "a time that is none": (record(by_key("a")).replace("2027-01-15", "2027-13-15").encode(), "lacking"),
    "a time of no zone": (record(by_key("a")).replace("+00:00", "").encode(), "lacking"),
    "an auth that is none": (
        record(by_key("a")).replace('"auth": "api_key"', '"auth": ["oidc"]').encode(),
        "lacking",
    ),
    "a reason that is none": (record(by_key("a")).replace('"reason": "allowed"', '"reason": 7').encode(), "lacking"),
}


@pytest.mark.parametrize(("junk", "kind"), JUNK.values(), ids=JUNK)
def test_junk_is_counted_and_passed_over(junk: bytes, kind: str) -> None:
    good = record(by_key("a")).encode()
    found, counts = read(good + junk + b"\n \n" + good)
    assert len(found) == counts.used == 2
    assert (counts.no_json + counts.lacking, getattr(counts, kind)) == (1, 1)


def test_junk_is_told_in_the_report_and_on_standard_error_beside_csv(log: Path) -> None:
    log.write_bytes(record(by_key("a")).encode() + b"junk\n{}\n")
    lines = [
        "no JSON, and passed over: 1 lines",
        "without time, outcome, reason or auth, and passed over: 1 lines",
    ]
    assert set(lines) <= set(run("report", log).stdout.splitlines())
    done = run("report", log, "--csv")
    assert done.stderr.splitlines() == lines
    assert len(done.stdout.splitlines()) == 2


@given(st.binary(max_size=300))
def test_no_bytes_break_it(data: bytes) -> None:
    found, counts = read(data + b"\n" + record(by_key("a")).encode())
    assert counts.used <= 1
    report(Ledger(found), counts, None, NOW)


_LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(_LEAVES, lambda one: st.lists(one, max_size=2))
FIELDS = sorted(json.loads(record(by_key("a", token=BAD))))


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_no_values_break_it(values: dict[str, Any]) -> None:
    line = json.dumps(json.loads(record(by_key("a", token=BAD))) | values)
    found, counts = read(line.encode() + b"\n")
    assert counts.used + counts.lacking == 1
    migrationview.text(report(Ledger(found), counts, None, NOW), 20)


def test_a_log_that_is_damaged_is_read_as_far_as_it_goes(log: Path) -> None:
    packed = gzip.compress("".join(record(by_key(f"o-{number}")) for number in range(2000)).encode())
    log.write_bytes(packed[: len(packed) // 2])
    done = run("report", log)
    assert done.exit_code == 0
    assert f"{log}: damaged, was read as far as it goes" in done.stdout.splitlines()


# ---- times and misuse


def test_only_calls_of_the_time_that_is_asked_for_count(log: Path) -> None:
    lines = [record(by_key("acme"), NOW + hour * 3600) for hour in range(48)]  # 08:00 of the 15th and two days on
    found = told(log, lines, "--since", "2027-01-16", "--until", "2027-01-16T02:00:00Z")
    assert (found["lines"]["used"], found["lines"]["outside"]) == (2, 46)
    assert (found["first_seen"], found["last_seen"]) == ("2027-01-16T00:00:00Z", "2027-01-16T01:00:00Z")
    assert told(log, lines, "--since", "2027-01-16T01:00:00+01:00")["first_seen"] == "2027-01-16T00:00:00Z"
    assert "46 outside of the time" in run("report", log, "--since", "2027-01-17T06:00").stdout


def test_a_span_reaches_back_from_now() -> None:
    assert migrationcommands._seconds("7d") == 7 * DAY_S
    done = run("report", "-", "--since", "7d", stdin=record(by_key("a"), 1.0).encode())
    assert (done.exit_code, done.stderr.startswith("no line could be used")) == (1, True)
    assert "0 calls from never to never" in done.stdout


MISUSES = {
    "no log": (["report"], "Missing argument 'LOG...'"),
    "no time": (["report", "-", "--since", "soon"], "'soon' is no time: write 2027-06-30"),
    "no time between": (["report", "-", "--since", "2027-01-02", "--until", "2027-01-02"], "is not before --until"),
    "no span": (["report", "-", "--settled", "a week"], "'a week' is no span of time"),
    "two forms": (["report", "-", "--json", "--csv"], "choose one"),
    "no rows": (["report", "-", "-n", "0"], "-n"),
}


@pytest.mark.parametrize(("words", "told"), MISUSES.values(), ids=MISUSES)
def test_misuse_exits_2_and_says_what_to_write(words: list[str], told: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())


def test_a_log_or_a_file_of_keys_that_cannot_be_opened_exits_3(tmp_path: Path, log: Path) -> None:
    log.write_text(record(by_key("a")))
    missing = tmp_path / "no\x1b.log"
    for name in (missing, tmp_path):
        done = run("report", log, name)
        assert (done.exit_code, done.stdout) == (3, "")
        assert "cannot be read" in done.stderr
        assert "\x1b" not in done.stderr
    done = run("report", log, "--keys-file", missing)
    assert (done.exit_code, done.stdout) == (3, "")
    assert run("pending", "--keys-file", missing).exit_code == 3
