"""`authsvc limits show|reset|top` beside a running fleet: the figures are those that were sent, whoever called."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from authsvc.adapters.fleet import BEAT_S, RESETS
from authsvc.cli import main
from authsvc.core import window
from authsvc.core.ratelimit import Rate, Tier, charge
from authsvc.demo.processes import Memcached
from authsvc.demo.stack import Stack, stack
from faults import dead, put, reconfigure
from test_limits import CONFIG_HEAD, LIMITS, RULES, burst, come_from, fresh
from test_main_job import call
from waiting import within

HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\nann of demo  five  5/day\u202e\u2028\x9b\x00"


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack(CONFIG_HEAD + RULES + LIMITS) as started:
        yield started


def limits(running: Stack, *words: str) -> Result:
    done = CliRunner().invoke(main, ["limits", words[0], "-c", str(running.authsvc.config_file), *words[1:]])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def as_json(running: Stack, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(limits(running, *words, "--json").stdout)
    return found


def memcached_of(running: Stack) -> Memcached:
    assert running.memcached is not None
    return running.memcached


def on_top(running: Stack) -> list[str]:
    return [row["who"] for row in as_json(running, "top", "-n", "1000")]


# ---- show


def test_show_tells_what_was_sent_by_window(running: Stack) -> None:
    sub = fresh()
    token = running.issuer.token(sub, plan="burst")
    assert limits(running, "show", sub).exit_code == 1
    burst(running, token, 3)
    # until a worker has told of him, each of the tiers that count by the day may be his
    assert within(3, lambda: {row["tier"] for row in as_json(running, "show", sub)} == {"burst"})
    rows = as_json(running, "show", sub)
    assert [(row["limit"], row["used"], row["before"], row["left"]) for row in rows] == [(4, 3, 0, 1), (10, 3, 0, 7)]
    assert [row["who"] for row in rows] == [f"{sub} of demo"] * 2
    text = limits(running, "show", sub)
    assert text.exit_code == 0
    assert f"{sub} of demo" in text.stdout
    assert "4/day" in text.stdout
    assert "10/365days" in text.stdout


def test_refused_calls_are_not_in_the_figures(running: Stack) -> None:
    sub = fresh()
    assert burst(running, running.issuer.token(sub, plan="fifty"), 80) == {200: 50, 429: 30}
    rows = [row for row in as_json(running, "show", sub) if row["tier"] == "fifty"]
    assert [(row["used"], row["left"]) for row in rows] == [(50, 0)]


def test_show_tells_of_a_rule_s_own_limit_and_of_an_address(running: Stack) -> None:
    sub = fresh()
    call(running, "/api/own/x", running.issuer.token(sub))
    assert [(row["limit"], row["used"]) for row in as_json(running, "show", sub)] == [(2, 1)]
    assert [come_from(running, "127.3.0.1") for _ in range(2)] == [200, 200]
    rows = as_json(running, "show", "127.3.0.1")
    assert [(row["who"], row["tier"], row["used"]) for row in rows] == [("ip 127.3.0.1", "anonymous", 2)]


MISTAKES = [
    pytest.param(["show", "nobody-at-all"], 1, "nothing is counted for nobody-at-all", id="an unknown user"),
    pytest.param(["reset", "nobody-at-all"], 1, "nothing was counted for nobody-at-all", id="reset of an unknown user"),
    pytest.param(["show", "ann", "web"], 2, "user_id", id="a word too many"),
    pytest.param(["show"], 2, "WHO", id="no word"),
    pytest.param(["show", "ann", "--provider", "no\x1b[2J"], 2, "is no provider", id="an unknown provider"),
    pytest.param(["show", HOSTILE], 1, "nothing is counted", id="an unknown user with a hostile name"),
]


@pytest.mark.parametrize(("words", "code", "said"), MISTAKES)
def test_what_names_nobody_is_told_in_words(running: Stack, words: list[str], code: int, said: str) -> None:
    done = limits(running, *words)
    assert (done.exit_code, said in done.output) == (code, True), done.output
    assert harmless(done.output)


def harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


# ---- reset


@pytest.mark.alone  # workers look every 0.9 s
def test_after_a_reset_the_user_passes_in_every_worker_within_a_second(running: Stack) -> None:
    sub = fresh()
    token = running.issuer.token(sub, plan="fifty")
    for _ in range(3):  # so that every worker remembers that he must wait
        burst(running, token, 60)
    done = as_json(running, "reset", sub)
    reset_at = time.monotonic()
    assert [(row["used_was"], row["used"], row["left"]) for row in done if row["tier"] == "fifty"] == [(50, 0, 50)]
    time.sleep(max(reset_at + 1 - time.monotonic(), 0))
    assert burst(running, token, 90) == {200: 50, 429: 40}
    assert limits(running, "reset", sub).exit_code == 0


def test_a_reset_forgets_one_user_and_nobody_else(running: Stack) -> None:
    one, other = fresh(), fresh()
    for sub in (one, other):
        burst(running, running.issuer.token(sub, plan="five"), 5)
    assert limits(running, "reset", one).exit_code == 0
    assert limits(running, "show", one).exit_code == 1
    assert {row["used"] for row in as_json(running, "show", other)} == {5}


# ---- top


def test_top_names_who_is_nearest_to_the_limit_first(running: Stack) -> None:
    subs = {fresh(): calls for calls in (1, 7, 4)}
    for sub, calls in subs.items():
        token = running.issuer.token(sub, plan="five")
        for _ in range(calls):
            call(running, "/api/orders", token)
    ours = [json.dumps([["user", "demo", sub]]) for sub in sorted(subs, key=lambda sub: -subs[sub])]
    assert within(4, lambda: [who for who in on_top(running) if who in ours] == ours)
    seen = {row["who"]: row for row in as_json(running, "top", "-n", "1000")}
    assert [(seen[who]["used"], seen[who]["limit"], seen[who]["refused"]) for who in ours] == [
        (5, 5, True),
        (4, 5, False),
        (1, 5, False),
    ]
    text = limits(running, "top").stdout
    assert "refused" in text
    assert "80 %" in text
    assert len(limits(running, "top", "-n", "2").stdout.splitlines()) == 3


def test_top_says_of_a_tier_in_shadow_that_nobody_is_refused_there(running: Stack) -> None:
    sub = fresh()
    assert burst(running, running.issuer.token(sub, plan="tried"), 9) == {200: 9}

    def told() -> list[str]:
        return [line for line in limits(running, "top", "-n", "1000").stdout.splitlines() if f"{sub} of demo" in line]

    assert within(4, lambda: any("would be refused (shadow)" in line for line in told())), told()


def test_a_hostile_name_is_shown_and_steers_no_terminal(running: Stack) -> None:
    sub = f"{fresh()}{HOSTILE}"
    assert call(running, "/api/orders", running.issuer.token(sub, plan="five")).status == 200
    assert within(3, lambda: json.dumps([["user", "demo", sub]]) in on_top(running))
    for words in (["top", "-n", "1000"], ["show", sub], ["reset", sub]):
        text = limits(running, *words).output
        lines = [line for line in text.splitlines() if sub.partition("\x1b")[0] in line]
        assert lines, f"{words} does not show him"
        assert harmless(text), repr(text)
        assert not [line for line in text.splitlines() if line.startswith("ann of demo")], "a line of his own making"


def entry(**changes: Any) -> bytes:
    """What a worker tells of a caller, with something amiss in it."""
    good = {"who": "[]", "tier": "t", "policy": "p", "used": 1, "limit": 1, "window_s": 1, "at": 1, "refused": True}
    return json.dumps([{**good, "ends_at": 9e14, **changes}]).encode()


PLAIN_JUNK = [b"", b"\xff\xfe\x00", b"null", b"7", b'"text"', b"{}", b"[[]]", b"[null, 3]", b"[" * 100_000, b"9" * 5000]
WRONG: list[dict[str, Any]] = [
    {"who": 1},
    {"who": "[[]]", "limit": -1, "window_s": -5, "at": float("nan"), "ends_at": float("inf")},
    {"who": "[7]", "tier": "\x1b[2J", "at": 1e14},
    {"who": '[["user"]]'},
    {"who": "[[{}, 1, 2]]"},
    {"who": "[" * 5000},
    {"limit": 0, "window_s": 0, "at": 0},
    {"used": 10**4000},
    {"at": -1e300},
    {"more": 1},
]
RESET_JUNK = b'[["x", 1], ["y"], 4, ["z", 1e999], [["w"], 1]]'
JUNK = [*PLAIN_JUNK, *(entry(**changes) for changes in WRONG), RESET_JUNK]


@pytest.mark.parametrize("place", ["authsvc:top:%d:1", "authsvc:fleet:%d", RESETS], ids=["board", "fleet", "resets"])
def test_junk_where_the_fleet_talks_breaks_neither_the_commands_nor_the_limits(running: Stack, place: str) -> None:
    sub = fresh()
    token = running.issuer.token(sub, plan="five")
    assert call(running, "/api/orders", token).status == 200
    for junk in JUNK:
        name = place % (time.time() // BEAT_S) if "%" in place else place
        put(memcached_of(running), name, junk)
        for words in (["top"], ["show", sub]):
            done = limits(running, *words)
            assert (done.exit_code, harmless(done.output)) == (0, True), f"{words} with {junk[:60]!r}: {done.output}"
    time.sleep(1)  # every worker has read the last of it
    assert limits(running, "reset", sub).exit_code == 0
    assert within(3, lambda: limits(running, "show", sub).exit_code == 1)
    assert burst(running, token, 8) == {200: 5, 429: 3}
    assert "unforeseen" not in running.authsvc.last_words()


def test_a_counter_that_holds_no_number_counts_as_none_and_a_reset_mends_it(running: Stack) -> None:
    sub = fresh()
    subject = charge(Tier(""), [["user", "demo", sub]]).subject
    put(memcached_of(running), window.window(Rate(5, 86400), subject, time.time()).current, b"junk")
    assert limits(running, "show", sub).exit_code == 1
    assert limits(running, "reset", sub).exit_code == 1
    assert burst(running, running.issuer.token(sub, plan="five"), 8) == {200: 5, 429: 3}


# ---- what it cannot do


def test_without_memcached_it_says_why_it_can_tell_nothing(running: Stack) -> None:
    commands = (["show", "ann"], ["reset", "ann"], ["top"])
    with dead(memcached_of(running)):
        for words in commands:
            done = limits(running, *words)
            assert (done.exit_code, "memcached" in done.output) == (1, True), f"{words}: {done.output}"
    text = running.authsvc.config_file.read_text("utf-8").partition("\ncache:")[0]
    alone = running.folder / "alone.yaml"
    alone.write_text(f"{text}\n", "utf-8")
    for words in commands:
        done = CliRunner().invoke(main, ["limits", *words, "-c", str(alone)])
        assert (done.exit_code, "no cache.memcached" in done.output) == (1, True), done.output


def test_by_two_things_a_caller_is_named_by_two_words(running: Stack) -> None:
    reconfigure(running, rate_limit=LIMITS.replace("rate_limit:\n", "rate_limit:\n  by: [user_id, client_id]\n"))
    sub = fresh()
    burst(running, running.issuer.token(sub, plan="five", azp="web"), 4)
    rows = as_json(running, "show", sub, "web")
    assert {(row["who"], row["used"]) for row in rows} == {(f"{sub} of demo, client_id web of demo", 4)}
    assert limits(running, "show", sub).exit_code == 2
    assert limits(running, "show", sub, "app").exit_code == 1
    assert limits(running, "reset", sub, "web").exit_code == 0
    assert limits(running, "show", sub, "web").exit_code == 1
