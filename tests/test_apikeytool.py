"""`authsvc apikeys`: what goes where, exit codes, and that a key is shown once and never again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authsvc.adapters.keyfile import load
from authsvc.apikeytool import apikeys
from authsvc.core.apikeys import OURS, ApiKey, KeyProblem, KeyRefused, admit

PLAIN = "sk-live-0123456789abcdef"
DAY_S = 86400


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "keys.jsonl")


def run(file: str, *words: str) -> Result:
    return CliRunner().invoke(apikeys, [words[0], "-f", file, *words[1:]])


def made(file: str, *words: str) -> str:
    """The text of a new key."""
    return run(file, "new", "--owner", "acme", *words).stdout.strip()


def public(text: str) -> str:
    return text[:20]


def problem(file: str, text: str, now: float | None = None) -> KeyProblem | None:
    try:
        admit(load(file).book, text, time.time() if now is None else now)
    except KeyRefused as refused:
        return refused.problem
    return None


def stored(file: str) -> list[ApiKey]:
    return list(load(file).book)


# ---- new


def test_a_new_key_stands_alone_on_stdout_and_works(file: str) -> None:
    done = run(file, "new", "--owner", "acme")
    text = done.stdout.removesuffix("\n")
    assert done.exit_code == 0
    assert OURS.fullmatch(text)
    assert problem(file, text) is None
    assert done.stderr.splitlines() == [
        f"{public(text)} of acme is stored in {file}",
        "this is the only time that the key is shown",
    ]


def test_the_file_holds_all_that_was_said_and_no_secret(file: str) -> None:
    words = "--roles reader,writer --roles admin --scopes orders:read --plan pro --tenant t-1 --contact a@acme.test"
    text = made(file, *words.split(), "--expires", "2099-06-30")
    (key,) = stored(file)
    assert (key.owner, key.roles, key.scopes) == ("acme", ("reader", "writer", "admin"), ("orders:read",))
    assert (key.plan, key.tenant, key.contact) == ("pro", "t-1", "a@acme.test")
    assert key.expires == 4_086_460_800
    assert text.rpartition("_")[2] not in Path(file).read_text()


def test_two_keys_are_never_the_same(file: str) -> None:
    assert len({made(file) for _ in range(5)}) == len(stored(file)) == 5


@pytest.mark.parametrize(("span", "seconds"), [("90d", 90 * DAY_S), ("12h", 43200), ("5m", 300), ("7s", 7)])
def test_expires_may_be_a_span_from_now_on(file: str, span: str, seconds: int) -> None:
    text = made(file, "--expires", span)
    assert problem(file, text, time.time() + seconds - 3) is None
    assert problem(file, text, time.time() + seconds + 1) is KeyProblem.EXPIRED


MISUSES = {
    "no owner": (["new"], "Missing option '--owner'"),
    "no time": (["new", "--owner", "a", "--expires", "soon"], "'soon' is no time: write 2027-06-30"),
    "no such day": (["new", "--owner", "a", "--expires", "2027-02-29"], "is no time"),
    "no span": (["rotate", "0" * 16, "--overlap", "a week"], "'a week' is no span of time: write 7d"),
    "no id": (["revoke", "acme"], "name a key by what list shows, such as ask_d5ead6fdd3d16630"),
}


@pytest.mark.parametrize(("words", "told"), MISUSES.values(), ids=MISUSES)
def test_misuse_exits_2_and_says_what_to_write(file: str, words: list[str], told: str) -> None:
    done = run(file, *words)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
    assert not Path(file).exists()


def test_what_the_file_cannot_hold_is_refused_and_no_key_is_shown(file: str) -> None:
    done = run(file, "new", "--owner", "x" * 201)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "owner does not fit" in done.stderr


def test_where_the_folder_of_the_file_is_missing_no_key_is_shown_and_it_is_to_be_made(tmp_path: Path) -> None:
    file = f"{tmp_path}/none/keys.jsonl"
    done = run(file, "new", "--owner", "acme")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == f"{file}: cannot be written: there is no folder '{tmp_path}/none': make it first\n"


def test_a_file_with_mistakes_exits_3_and_says_them(file: str) -> None:
    Path(file).write_text(f'{{"owner":"a","sha256":"{PLAIN}"}}\n')
    for words in (["new", "--owner", "a"], ["list"], ["revoke", "0" * 16]):
        done = run(file, *words)
        assert (done.exit_code, done.stdout) == (3, "")
        assert done.stderr.startswith(f"{file}:1: sha256 does not fit")
        assert PLAIN not in done.stderr


# ---- list


def test_list_shows_the_public_part_and_the_state_of_each_key(file: str) -> None:
    good, old, gone = made(file), made(file, "--expires", "2020-01-01"), made(file)
    run(file, "revoke", public(gone))
    rows = [line.split()[:3] for line in run(file, "list").stdout.splitlines()]
    assert rows == [
        ["key", "state", "owner"],
        [public(good), "good", "acme"],
        [public(old), "expired", "acme"],
        [public(gone), "revoked", "acme"],
    ]


def test_list_speaks_json_and_knows_one_owner_from_another(file: str) -> None:
    made(file, "--roles", "reader")
    run(file, "new", "--owner", "other")
    (told,) = json.loads(run(file, "list", "--json", "--owner", "acme").stdout)
    assert (told["owner"], told["roles"], told["state"], told["expires"]) == ("acme", ["reader"], "good", None)


def test_no_list_shows_a_secret_or_a_digest(file: str) -> None:
    text = made(file)
    (key,) = stored(file)
    for words in (["list"], ["list", "--json"]):
        shown = run(file, *words).output
        assert public(text) in shown
        assert text.rpartition("_")[2] not in shown
        assert key.digest.hex()[16:] not in shown


def test_an_owner_steers_no_terminal(file: str) -> None:
    run(file, "new", "--owner", "a\u202eb")
    assert "\u202e" not in run(file, "list").output


# ---- revoke


def test_a_revoked_key_is_good_no_more(file: str) -> None:
    text, other = made(file), made(file)
    done = run(file, "revoke", public(text))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"{public(text)} of acme is revoked\n")
    assert problem(file, text) is KeyProblem.REVOKED
    assert problem(file, other) is None


def test_to_revoke_twice_keeps_the_first_instant(file: str) -> None:
    text = made(file)
    run(file, "revoke", public(text))
    before = Path(file).read_bytes()
    done = run(file, "revoke", public(text).removeprefix("ask_"))
    assert (done.exit_code, done.stderr) == (0, f"{public(text)} of acme was already revoked\n")
    assert Path(file).read_bytes() == before


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_a_key_that_is_not_there_exits_1(file: str, command: str) -> None:
    made(file)
    done = run(file, command, "ask_" + "0" * 16)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{file} has no key ask_0000000000000000: authsvc apikeys list")


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_a_whole_key_as_a_word_is_refused_and_not_repeated(file: str, command: str) -> None:
    text = made(file)
    done = run(file, command, text)
    assert done.exit_code == 2
    assert public(text) in done.stderr
    assert text.rpartition("_")[2] not in done.output


# ---- rotate


def test_both_keys_work_until_the_overlap_is_over(file: str) -> None:
    old = made(file, "--roles", "reader", "--plan", "pro")
    done = run(file, "rotate", public(old), "--overlap", "2d")
    new, now = done.stdout.strip(), time.time()
    assert (problem(file, old), problem(file, new)) == (None, None)
    assert problem(file, old, now + 2 * DAY_S + 1) is KeyProblem.REPLACED
    assert problem(file, new, now + 2 * DAY_S + 1) is None
    first, second = stored(file)
    assert (second.owner, second.roles, second.plan) == (first.owner, first.roles, first.plan)
    assert first.replaced_by == second.id
    assert f"{public(old)} works until 20" in done.stderr


def test_a_week_is_the_usual_overlap_and_none_ends_the_old_key_at_once(file: str) -> None:
    slow, fast = made(file), made(file)
    run(file, "rotate", public(slow))
    run(file, "rotate", public(fast), "--overlap", "0s")
    assert problem(file, slow, time.time() + 7 * DAY_S - 5) is None
    assert problem(file, slow, time.time() + 7 * DAY_S + 1) is KeyProblem.REPLACED
    assert problem(file, fast, time.time() + 1) is KeyProblem.REPLACED


def test_a_key_is_rotated_once(file: str) -> None:
    old = made(file)
    new = run(file, "rotate", public(old)).stdout.strip()
    done = run(file, "rotate", public(old))
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"was rotated already, to {public(new)}: rotate that one" in done.stderr


def test_a_revoked_key_is_not_rotated(file: str) -> None:
    text = made(file)
    run(file, "revoke", public(text))
    done = run(file, "rotate", public(text))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is revoked: make another" in done.stderr


# ---- import


def imported(file: str, text: str, tmp_path: Path) -> Result:
    source = tmp_path / "old.csv"
    source.write_text(text, "utf-8")
    return run(file, "import", str(source))


def test_plain_keys_become_digests_and_go_on_working(file: str, tmp_path: Path) -> None:
    rows = f'\ufeffkey,owner,roles,expires\n{PLAIN},acme,"reader, writer",2099-01-01\nold-key-of-somebody,b,,\n'
    done = imported(file, rows, tmp_path)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"2 stored in {file}, 0 were there already\n")
    assert problem(file, PLAIN) is None
    assert problem(file, "old-key-of-somebody") is None
    assert [key.roles for key in stored(file)] == [("reader", "writer"), ()]
    assert PLAIN not in Path(file).read_text()


def test_digests_are_taken_as_they_are(file: str, tmp_path: Path) -> None:
    imported(file, f"sha256,owner\n{hashlib.sha256(PLAIN.encode()).hexdigest().upper()},acme\n", tmp_path)
    assert problem(file, PLAIN) is None


def test_to_import_again_changes_nothing(file: str, tmp_path: Path) -> None:
    imported(file, f"key,owner\n{PLAIN},acme\n", tmp_path)
    before = Path(file).read_bytes()
    done = imported(file, f"key,owner\n{PLAIN},other\n", tmp_path)
    assert (done.exit_code, done.stderr) == (0, f"0 stored in {file}, 1 were there already\n")
    assert Path(file).read_bytes() == before


IMPORTS = {
    "no names": (f"{PLAIN},acme\n", ":1: the first line names the columns, each once: known here are key, sha256"),
    "a name twice": ("key,owner,owner\n", ":1: the first line names the columns, each once"),
    "no owner column": (f"key\n{PLAIN}\n", ":1: the columns owner and either key or sha256 are needed"),
    "both kinds": (f"key,sha256,owner\n{PLAIN},x,a\n", ":1: the columns owner and either key or sha256"),
    "nothing": ("", ":1: the columns owner and either"),
    "no owner": (f"key,owner\n{PLAIN},\n", ":2: the owner is missing"),
    "too many cells": (f"key,owner\n{PLAIN},a,b\n", ":2: this line has more or fewer cells"),
    "too few cells": (f"key,owner\n{PLAIN}\n", ":2: this line has more or fewer cells"),
    "a short key": ("key,owner\nhunter2hunter2,a\n", ":2: the key is too short to keep anybody out"),
    "two keys": (f'key,owner\n"{PLAIN},{PLAIN}",a\n', ":2: the key cannot be used: two keys were sent"),
    "a mistyped key of ours": (f"key,owner\nask_{'0' * 16}_{'x' * 43},a\n", ":2: the key cannot be used: id and"),
    "a key for a digest": (f"sha256,owner\n{PLAIN},a\n", ":2: sha256 does not fit: 64 hexadecimal digits"),
    "no time": (f"key,owner,expires\n{PLAIN},a,{PLAIN}\n", ":2: a time does not fit: write 2027-06-30"),
    "a long plan": (f"key,owner,plan\n{PLAIN},a,{'x' * 201}\n", ":2: plan does not fit"),
    "twice": (f"key,owner\n{PLAIN},a\n{PLAIN},b\n", ":3: this key stands twice, first in line 2"),
}


@pytest.mark.parametrize(("text", "told"), IMPORTS.values(), ids=IMPORTS)
def test_with_a_mistake_nothing_is_imported_and_no_key_is_shown(
    file: str, tmp_path: Path, text: str, told: str
) -> None:
    done = imported(file, text, tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"{tmp_path}/old.csv{told}" in done.stderr
    assert PLAIN not in done.stderr
    assert "hunter2" not in done.stderr
    assert not Path(file).exists()


def test_all_mistakes_are_told_at_once(file: str, tmp_path: Path) -> None:
    done = imported(file, f"key,owner\n{PLAIN},\nx,a\n", tmp_path)
    assert done.stderr.splitlines()[-1].endswith("old.csv: 2 to mend, nothing was stored")


def test_a_csv_that_is_none_is_told(file: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"key,owner\n\xff\xfe,a\n")
    told = [run(file, "import", str(tmp_path / name)) for name in ("x.csv", "none.csv")]
    assert [done.exit_code for done in told] == [3, 3]
    assert "is no CSV in UTF-8, nothing was stored" in told[0].stderr
    assert "cannot be read: no such file or directory" in told[1].stderr


# ---- at once


def test_of_many_processes_that_make_keys_at_once_nobody_loses_one(file: str) -> None:
    words = [sys.executable, "-c", "from authsvc.apikeytool import apikeys; apikeys()", "new", "-f", file]
    root = Path(__file__).parents[1]
    running = [subprocess.Popen([*words, "--owner", f"o-{n}"], cwd=root, stdout=-1, stderr=-1) for n in range(6)]
    texts = [process.communicate(timeout=30)[0].decode().strip() for process in running]
    assert [problem(file, text) for text in texts] == [None] * 6
    assert {key.owner for key in stored(file)} == {f"o-{number}" for number in range(6)}
