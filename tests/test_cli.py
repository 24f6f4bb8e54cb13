"""The command line: exit codes, what goes where, and that no token is ever printed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authsvc.cli import main
from authsvc.demo.issuer import Issuer

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


def test_check_of_no_file_exits_1_and_says_so(tmp_path: Path) -> None:
    done = run("check", "-c", str(tmp_path / "none.yaml"))
    assert done.exit_code == 1
    assert "cannot be read: no such file or directory" in done.stderr


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
    assert [step["name"] for step in told["steps"]] == ["call", "rule", "token", "identity", "roles", "limit"]
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


@pytest.mark.parametrize("token", ["", "junk", "a.b.c", "....", "é", "\x00", "A" * 9000])
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
