"""The command line: exit codes, what goes where, and that no token is ever printed."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from authsvc import __version__, nginx
from authsvc.cli import main
from authsvc.core import gate
from authsvc.core.model import Reason
from authsvc.demo.behaviours import Behaviour
from authsvc.demo.issuer import Issuer
from authsvc.nextsteps import NEXT_STEPS

CONFIG = """\
authentication:
  oidc:
    providers:
      - {{name: demo, issuer: "{url}", audience: "https://api.example.test", allow_insecure_http: true}}
    extract_headers: [{{claim: organization_id, header: X-Org-ID}}, {{claim: plan, header: X-Subscription-Plan}}]
authorization: {{rbac: {{rules: [{{path: /admin/*, allowed_roles: [admin]}}]}}}}
"""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as started:
        yield started


@pytest.fixture
def good(tmp_path: Path, issuer: Issuer) -> str:
    (tmp_path / "good.yaml").write_text(CONFIG.format(url=issuer.url))
    return str(tmp_path / "good.yaml")


@pytest.fixture
def bad(good: str, tmp_path: Path) -> str:
    text = Path(good).read_text() + "cache: {memcached: nowhere}\naudit: {sample_allows: 1}\n"
    (tmp_path / "bad.yaml").write_text(text.replace("header: X-Org-ID", "header: Connection"))
    return str(tmp_path / "bad.yaml")


def run(*words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, list(words), input=typed)


def test_check_of_a_good_config_says_what_holds_and_exits_0(good: str) -> None:
    done = run("check", "-c", good)
    assert done.exit_code == 0
    assert "note: a path that no rule governs needs a valid identity (default: authenticated)" in done.stdout
    assert done.stdout.endswith(f"{good}: valid\n")
    assert done.stderr == ""


def test_check_of_a_bad_config_says_every_mistake_on_stderr_and_exits_1(bad: str) -> None:
    done = run("check", "-c", bad)
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert [line.removeprefix(bad).split(": ")[1] for line in lines[:2]] == [
        "authentication.oidc.extract_headers.0.header",
        "cache.memcached",
    ]
    assert lines[2] == f"{bad}: 2 to mend"
    assert done.stdout == ""


def test_check_speaks_json(good: str, bad: str) -> None:
    yes, no = run("check", "--json", "-c", good), run("check", "--json", "-c", bad)
    assert (yes.exit_code, no.exit_code) == (0, 1)
    assert json.loads(yes.stdout)["valid"] is True
    assert len(json.loads(no.stdout)["mistakes"]) == 2


def test_check_of_no_file_exits_3_and_says_so(tmp_path: Path) -> None:
    done = run("check", "-c", str(tmp_path / "none.yaml"))
    assert done.exit_code == 3
    assert done.stderr == f"{tmp_path / 'none.yaml'}: cannot be read: no such file or directory: name it with -c\n"
    (tmp_path / "latin.yaml").write_bytes(b"\xe4")
    assert run("check", "-c", str(tmp_path / "latin.yaml"), "--json").exit_code == 3


NEEDING_A_CONFIG = [
    ["check"], ["check", "--online", "--json"], ["serve"], ["explain", "GET", "/x"], ["nginx"],
    ["keys", "show"], ["keys", "flush"], ["limits", "show", "ann"], ["limits", "reset", "ann"], ["limits", "top"],
]  # fmt: skip
NEEDING_ANOTHER_FILE = [
    ["apikeys", "list", "-f", "{}"],
    ["apikeys", "revoke", "-f", "{}", "ask_d5ead6fdd3d16630"],
    ["apikeys", "rotate", "-f", "{}", "ask_d5ead6fdd3d16630"],
    ["apikeys", "import", "-f", "unused.jsonl", "{}"],
    ["migration", "report", "{}"],
    ["migration", "report", "--keys-file", "{}", "-"],
    ["migration", "pending", "--keys-file", "{}"],
]


@pytest.mark.parametrize(
    "words", [*([*words, "-c", "{}"] for words in NEEDING_A_CONFIG), *NEEDING_ANOTHER_FILE], ids=" ".join
)
def test_a_file_that_is_not_there_is_3_whichever_command_was_to_read_it(words: list[str], tmp_path: Path) -> None:
    with chdir(tmp_path):
        done = run(*(word.format(tmp_path / "none") for word in words), typed="")
    assert done.exit_code == 3
    assert f"{tmp_path / 'none'}: cannot be read: no such file or directory" in done.output
    assert list(tmp_path.iterdir()) == []


def test_explain_of_an_allowed_call_exits_0_and_shows_the_way(good: str, issuer: Issuer) -> None:
    token = issuer.token("ann", roles=["admin"])
    done = run("explain", "-c", good, "--token", "-", "GET", "/admin/x", typed=token + "\n")
    assert done.exit_code == 0
    for words in ("rules.0 /admin/* for admin", "kid 'key-1'", "ann of demo, roles: admin", "200 allowed"):
        assert words in done.stdout
    assert 'X-User-Roles: ["admin"]' in done.stdout
    assert token not in done.output
    assert token.rpartition(".")[2] not in done.output


def test_explain_of_a_refused_call_exits_1_and_says_what_to_do(good: str, issuer: Issuer) -> None:
    token = issuer.token("ann", roles=["user"])
    done = run("explain", "-c", good, "--token", token, "GET", "/admin/x")
    assert done.exit_code == 1
    assert "403 role_required: the rule asks for admin; the caller has user" in done.stdout
    assert "next: give the caller the role" in done.stdout
    assert token not in done.output


def test_explain_speaks_json(good: str, issuer: Issuer) -> None:
    token = issuer.token(aud="other")
    done = run("explain", "--json", "-c", good, "--token", "-", "GET", "/x", typed=token)
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (told["allowed"], told["status"], told["reason"]) == (False, 401, "wrong_audience")
    assert [step["name"] for step in told["steps"]] == ["call", "rule", "token", "identity", "admitted", "limit"]
    assert token not in done.output


@pytest.mark.parametrize(
    ("claims", "exit_code"),
    [
        pytest.param({"exp": 10**400}, 1, id="an exp of four hundred digits"),
        pytest.param({"exp": True}, 1, id="an exp that is true"),
        pytest.param({"exp": "soon"}, 1, id="an exp that is a word"),
        pytest.param({"exp": None}, 1, id="no exp"),
        pytest.param({"aud": ["\x1b[2J\x07\r\n200 allowed"]}, 1, id="an audience that steers the terminal"),
        pytest.param({"sub": "\x1b[2J\r\n"}, 0, id="a user that steers the terminal"),
        pytest.param({"sub": ["x"]}, 1, id="a user that is a list"),
    ],
)
def test_explain_survives(good: str, issuer: Issuer, claims: dict[str, object], exit_code: int) -> None:
    done = run("explain", "-c", good, "--token", issuer.token(**claims), "GET", "/x")
    assert done.exit_code == exit_code
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert all(line.isprintable() for line in done.stdout.splitlines())


@pytest.mark.parametrize("token", ["junk", "a.b.c", "....", "é", "\x00", "A" * 9000])
def test_explain_survives_what_is_no_token(good: str, token: str) -> None:
    done = run("explain", "-c", good, "--token", token, "GET", "/x")
    assert done.exit_code == 1
    assert "401" in done.stdout


def test_the_schema_is_json() -> None:
    done = run("schema")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["title"] == "ConfigShape"


def test_nginx_lists_every_header_the_config_can_emit(good: str) -> None:
    done = run("nginx", "-c", good)
    assert done.exit_code == 0
    for header in ("X-User-Id", "X-User-Email", "X-User-Roles", "X-User-Issuer", "X-Org-ID", "X-Subscription-Plan"):
        assert f"proxy_set_header {header} " in done.stdout


def test_nginx_writes_the_same_files_into_a_folder(good: str, tmp_path: Path) -> None:
    done = run("nginx", "-c", good, "-o", str(tmp_path / "out"))
    assert done.exit_code == 0
    printed = run("nginx", "-c", good).stdout
    files = list((tmp_path / "out").iterdir())
    assert files
    assert all(file.read_text() in printed for file in files)


def test_nginx_says_which_files_it_takes_to_keep_decisions(good: str, tmp_path: Path) -> None:
    plain = run("nginx", "-c", good)
    file = Path(good)
    file.write_text(file.read_text().replace("authorization: {", "authorization: {decision_cache: 5s, "))
    keeping = run("nginx", "-c", good)
    assert (plain.stderr, keeping.stdout) == ("", plain.stdout)
    assert keeping.stderr == (
        "decision_cache is set: include authsvc-cache-http.conf too, and authsvc-cache-server.conf in place of "
        "authsvc-server.conf; without them nginx keeps nothing\n"
    )
    assert run("nginx", "-c", good, "-o", str(tmp_path / "out")).stderr == keeping.stderr


def test_nginx_says_what_to_do_where_it_may_not_write(good: str) -> None:
    done = run("nginx", "-c", good, "-o", "/sys/authsvc")  # not even root may write there
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("cannot write /sys/authsvc: ")
    assert done.stderr.endswith(": use sudo, or another folder with -o\n")


def test_nginx_says_that_a_file_is_in_the_way_of_its_folder(good: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("nginx", "-c", good, "-o", str(tmp_path / "file" / "out"))
    assert done.exit_code == 2
    assert done.stderr == f"cannot write {tmp_path / 'file' / 'out'}: not a directory: use another folder with -o\n"


@pytest.mark.parametrize("upstream", ["nonsense", "http://127.0.0.1:8000", "a:1;", ""])
def test_nginx_refuses_an_upstream_that_nginx_could_not_reach(good: str, upstream: str) -> None:
    done = run("nginx", "-c", good, "--upstream", upstream)
    assert done.exit_code == 2
    assert f"{upstream!r} is no address of authsvc: write host:port or unix:/path, without http://" in in_a_line(done)


@pytest.mark.parametrize("name", sorted(nginx._TAKEN))
def test_a_header_that_nginx_cannot_use_is_refused_by_check(good: str, tmp_path: Path, name: str) -> None:
    file = tmp_path / "taken.yaml"
    file.write_text(Path(good).read_text().replace("X-Org-ID", name))
    assert run("check", "-c", str(file)).exit_code == 1


def told_of(good: str, token: str, *words: str) -> str:
    """What explain prints for a token on a path that needs the role admin."""
    return run("explain", "-c", good, "--token", token, *(words or ("GET", "/admin/x"))).stdout


def unsigned(header: dict[str, object]) -> str:
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{head}.e30.AAAA"


def test_explain_says_why_there_are_no_keys(tmp_path: Path, issuer: Issuer) -> None:
    file, slashed = tmp_path / "slash.yaml", f"{issuer.url}/"
    file.write_text(CONFIG.format(url=slashed) + "  # a slash too many\n")
    token = issuer.token("ann", iss=slashed)
    why = f"its issuer is {issuer.url!r}, the config says {slashed!r}"
    for path in ("/admin/x", "/x"):
        lines = run("explain", "-c", str(file), "--token", token, "GET", path).stdout.splitlines()
        assert sum(why in line for line in lines) == 2  # in the identity step and in the summary
        assert "next: write the issuer in the config exactly as the provider does, to the last slash" in lines


def test_explain_says_why_there_are_no_keys_when_nobody_answers(tmp_path: Path, issuer: Issuer) -> None:
    (tmp_path / "gone.yaml").write_text(CONFIG.format(url="http://127.0.0.1:1"))
    told = told_of(str(tmp_path / "gone.yaml"), issuer.token(iss="http://127.0.0.1:1"))
    assert "503 keys_unavailable: no keys of demo could be had yet: http://127.0.0.1:1/.well-known" in told
    assert "cannot connect" in told
    assert "next: see whether this machine reaches the provider" in told


def test_explain_sends_to_the_provider_when_it_is_out_of_order(tmp_path: Path) -> None:
    with Issuer() as broken:
        broken.behave(Behaviour.ERROR)
        (tmp_path / "broken.yaml").write_text(CONFIG.format(url=broken.url))
        told = told_of(str(tmp_path / "broken.yaml"), broken.token())
    assert "the answer is 500, not 200\nnext: see what is wrong at the provider" in told


def test_explain_says_why_a_credential_on_a_public_path_was_ignored(good: str, issuer: Issuer) -> None:
    file = Path(good)
    file.write_text(file.read_text().replace("allowed_roles: [admin]", "allowed_roles: []"))
    told = told_of(good, issuer.token(aud="other"))
    assert "✗ identity  credential ignored: wrong_audience: the token is for other; wanted is https://api" in told
    assert "200 public" in told


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"alg": "HS256"}, "alg HS256 is symmetric"),
        ({"alg": "none"}, "alg 'none' is none that authsvc verifies"),
        ({"alg": ["RS256"]}, "the token's header names no alg"),
        ({}, "the token's header names no alg"),
    ],
)
def test_explain_names_an_algorithm_that_is_never_verified(good: str, header: dict[str, object], said: str) -> None:
    told = told_of(good, unsigned(header))
    assert f"401 unsupported_algorithm: {said}" in told
    assert "next: ask the issuer for RS256 or ES256" in told


def test_explain_leaves_the_algorithms_of_the_provider_to_the_config(good: str, issuer: Issuer) -> None:
    file = Path(good)
    file.write_text(file.read_text().replace("allow_insecure", "algorithms: [ES256], allow_insecure"))
    told = told_of(good, issuer.token())
    assert "alg RS256 is not among this provider's: ES256" in told
    assert "next: add the algorithm to the provider's algorithms" in told


def test_explain_shows_no_rate_limit_since_nothing_was_counted(good: str, issuer: Issuer) -> None:
    file = Path(good)
    file.write_text(file.read_text() + "rate_limit: {tiers: {free: {limit: 5/hour}}}\n")
    told = told_of(good, issuer.token(roles=["admin"]))
    assert "✓ limit     tier free: 5/hour" in told
    assert "RateLimit" not in told


def test_explain_has_a_next_step_for_every_refusal_it_can_meet() -> None:
    not_met = {"allowed", "public", "unknown_endpoint", "limits_unavailable", "internal_error"}
    assert {reason.value for reason in Reason} - {reason.value for reason in NEXT_STEPS} == not_met


@pytest.mark.parametrize("before", ["Bearer ", "bearer  ", "Authorization: Bearer "])
def test_explain_takes_a_token_with_the_words_it_is_sent_with(good: str, issuer: Issuer, before: str) -> None:
    pasted = before + issuer.token("ann", roles=["admin"])
    assert "200 allowed" in told_of(good, pasted)
    typed = run("explain", "-c", good, "--token", "-", "GET", "/admin/x", typed=f" {pasted}\n")
    assert "200 allowed" in typed.stdout


def in_a_line(done: Result) -> str:
    return " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--token", "-", "GET", "/x"], "no token was given on standard input"),
        (["--token", "", "GET", "/x"], "no token was given: what follows --token is empty"),
        (["get", "/x"], "'get' is not in capitals: write GET"),
        (["/x"], "'/x' is a path: write the method before it, such as GET /x"),
        (["/x", "GET"], "'/x' is a path: write the method before it, such as GET /x"),
        (["GET", "https://a.example/api/x"], "write only the path, such as /api/x?y=1"),
        (["--ip", "nonsense", "GET", "/x"], "'nonsense' is no address"),
    ],
)
def test_explain_says_how_it_wants_to_be_asked(good: str, words: list[str], said: str) -> None:
    done = run("explain", "-c", good, *words, typed="\n")
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in in_a_line(done)


def test_explain_shows_ten_roles_and_counts_the_others(good: str, issuer: Issuer) -> None:
    told = told_of(good, issuer.token(roles=[f"r{number}" for number in range(25)]))
    assert "r0, r1, r2, r3, r4, r5, r6, r7, r8, r9 and 15 more" in told
    assert "r10" not in told.partition("\n\n")[0]


def test_explain_of_a_call_without_the_role_never_reaches_the_limit(good: str, issuer: Issuer) -> None:
    assert "· limit     not reached" in told_of(good, issuer.token(roles=["user"]))


@pytest.mark.parametrize(
    ("claims", "said"),
    [({}, "the caller has no role: the token has no claim roles"), ({"roles": []}, "the token lists none in roles")],
)
def test_explain_names_the_claim_in_which_no_role_was(
    good: str, issuer: Issuer, claims: dict[str, object], said: str
) -> None:
    assert said in told_of(good, issuer.token(**claims))


def test_explain_says_times_in_words(good: str, issuer: Issuer) -> None:
    now = int(time.time())
    assert "no aud, expires in 59 min" in told_of(good, issuer.token(aud=None))
    told = told_of(good, issuer.token(exp=now - 185))
    assert "aud 'https://api.example.test', expired 3 min ago" in told
    assert "401 expired: the token expired 3 min ago" in told
    assert "the token is valid in 2 h (nbf)" in told_of(good, issuer.token(nbf=now + 7260 + 60))
    assert "expired 5 h ago" in told_of(good, issuer.token(exp=now - 5 * 3600))


def test_explain_says_at_the_call_what_is_wrong_with_it(good: str) -> None:
    lines = run("explain", "-c", good, "GET", "/a/../b").stdout.splitlines()
    assert lines[0] == "✗ call      the path can be read two ways: it holds a dot segment"
    assert lines[1] == "· rule      not reached"


def test_help_says_every_command_in_a_whole_line() -> None:
    done = run("--help")
    assert done.exit_code == 0
    assert "..." not in done.stdout.partition("Commands:")[2]


@pytest.mark.parametrize("command", ["serve", "check", "explain", "nginx"])
def test_help_names_the_variable_for_the_config(command: str) -> None:
    assert "env var: AUTHSVC_CONFIG" in run(command, "--help").stdout


@pytest.mark.parametrize("command", ["serve", "check", "nginx"])
def test_a_stray_word_is_taken_for_the_config_file(command: str, good: str) -> None:
    done = run(command, good)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"name the config file with -c {good}" in done.stderr


@pytest.mark.parametrize("command", [["check"], ["explain", "GET", "/x"], ["nginx"], ["serve"]])
def test_a_config_that_is_not_there_is_to_be_named(command: list[str], tmp_path: Path) -> None:
    done = run(command[0], "-c", str(tmp_path / "none.yaml"), *command[1:])
    line = f"{tmp_path / 'none.yaml'}: cannot be read: no such file or directory: name it with -c"
    assert done.stderr.splitlines()[0] == line


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["nonsense"], id="an unknown command"),
        pytest.param(["check", "--nonsense"], id="an unknown option"),
        pytest.param(["explain", "GET"], id="a missing word"),
        pytest.param(["explain", "GET", "/x", "more"], id="a word too many"),
        pytest.param(["serve", "--workers", "many"], id="no number of workers"),
        pytest.param(["serve", "--workers", "0"], id="no worker"),
    ],
)
def test_misuse_exits_2_and_says_so_on_stderr(words: list[str]) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Usage:" in done.stderr


@pytest.mark.parametrize("command", [["explain", "GET", "/x"], ["nginx"], ["serve"]])
def test_a_config_that_cannot_be_used_exits_3(bad: str, tmp_path: Path, command: list[str]) -> None:
    for file in (bad, str(tmp_path / "none.yaml")):
        done = run(command[0], "-c", file, *command[1:])
        assert done.exit_code == 3
        assert done.stdout == ""
        assert done.stderr.startswith(file + ":")


def test_the_config_may_come_from_the_environment(good: str) -> None:
    assert CliRunner(env={"AUTHSVC_CONFIG": good}).invoke(main, ["check"]).exit_code == 0


def test_it_runs_as_a_module_and_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from authsvc.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print([m for m in ('falcon', 'jose', 'requests', 'pydantic', 'yaml') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.endswith("[]\n"), done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "authsvc", "--version"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0
    assert done.stdout == f"authsvc {__version__}, {'plain Python' if gate.__file__.endswith('.py') else 'compiled'}\n"


def commands_of(group: click.Group, *words: str) -> Iterator[list[str]]:
    """Every command below it, by the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        _, found, _ = group.resolve_command(context, [name])
        if isinstance(found, click.Group):
            yield from commands_of(found, *words, name)
        else:
            yield [*words, name]


@pytest.mark.parametrize("words", list(commands_of(main)), ids=" ".join)
def test_every_command_that_may_not_end_well_tells_its_exit_codes(words: list[str]) -> None:
    told = re.findall(r"[Ee]xit \d", run(*words, "--help").output)
    assert bool(told) is (words not in (["schema"], ["providers"]))


def test_help_tells_what_the_exit_codes_mean_as_readme_does() -> None:
    told = " ".join(run("--help").output.split())
    for words in ("0 yes or well", "1 no or mistakes found", "2 misuse of the command line", "cannot be read"):
        assert words in told
