"""`authsvc demo`, as a person runs it, and the demo of docker-compose.yml without its containers."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authsvc.demo.calls import CALLS
from authsvc.demo.processes import Memcached, free_port
from authsvc.demo.stack import Authsvc, stack

COMPOSE_CONFIG = Path(__file__).parents[2] / "deploy/compose/authsvc.yaml"
DEMO = [sys.executable, "-m", "authsvc", "demo"]


def check(**environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([*DEMO, "--check"], env=env, capture_output=True, text=True, timeout=60, check=False)


def assert_all_well(done: subprocess.CompletedProcess[str]) -> None:
    marks = [line[0] for line in done.stdout.splitlines() if line[:2] in ("✓ ", "✗ ")]
    assert (done.returncode, marks) == (0, ["✓"] * len(CALLS)), done.stdout + done.stderr


def test_every_call_is_answered_as_it_says() -> None:
    done = check()
    assert_all_well(done)
    assert "limits in memcached" in done.stdout


def test_without_memcached_it_counts_in_memory() -> None:
    done = check(AUTHSVC_MEMCACHED="/nonexistent")
    assert_all_well(done)
    assert "limits in memory" in done.stdout


def test_without_nginx_it_says_what_to_install() -> None:
    done = check(AUTHSVC_NGINX="/nonexistent")
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt-get install nginx-light" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def program(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Ctrl-C reaches it, also where this run was started by `nohup ... &`, which has its children ignore it."""

    def hear_ctrl_c() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=hear_ctrl_c
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def lines_until(running: subprocess.Popen[str], last: str) -> list[str]:
    assert running.stdout is not None
    lines = []
    for line in running.stdout:
        lines.append(line.strip())
        if lines[-1] == last:
            break
    return lines


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_printed_lines_do_in_a_shell_what_they_say() -> None:
    with program(DEMO) as demo:
        printed = lines_until(demo, "Ctrl-C ends it.")
        tokens = next(line for line in printed if line.startswith(". "))
        curls = [line for line in printed if "curl -i" in line]
        said = [re.findall(r"\b[2-5]\d\d(?:×\d)?", line) for line in printed if line.startswith("# ")]
        assert len(curls) == len(said) == len(CALLS)
        for call, curl, expected in zip(CALLS, curls, said, strict=True):
            shell = subprocess.run(["bash", "-c", f"{tokens}\n{curl}"], capture_output=True, text=True, timeout=20)
            assert tuple(map(int, re.findall(r"^HTTP/1.1 (\d+)", shell.stdout, re.MULTILINE))) == call.expect, curl
            assert " ".join(expected) == call.expected
        explain = next(line for line in printed if " explain -c " in line)
        assert explain.startswith(sys.executable)
        told = subprocess.run(["bash", "-c", f"{tokens}\n{explain}"], capture_output=True, text=True, timeout=20)
        assert told.returncode == 1
        assert "403 role_required: the rule asks for admin; the caller has user" in told.stdout
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=20) == 0
        assert not Path(tokens.removeprefix(". ")).exists()


def test_the_config_of_the_demo_stands_alone() -> None:
    with stack(ready="/healthz") as running:
        command = [sys.executable, "-m", "authsvc", "check", "-c", str(running.authsvc.config_file)]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert "${" not in running.authsvc.config_file.read_text("utf-8")


@pytest.mark.parametrize("words", [[], ["9100"], ["port", "http://api"]])
def test_the_issuer_as_a_program_says_how_it_is_called(words: list[str]) -> None:
    command = [sys.executable, "-m", "authsvc.demo.serve_issuer", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: python -m authsvc.demo.serve_issuer PORT API_URL\n"


def test_authsvc_of_the_compose_file_finds_the_issuer_that_starts_after_it(tmp_path: Path) -> None:
    port = free_port()
    with Memcached() as memcached:
        (tmp_path / "secret").write_text("s" * 64)
        config = COMPOSE_CONFIG.read_text("utf-8").replace(":9100", f":{port}")
        config = config.replace("memcached:11211", f"127.0.0.1:{memcached.port}")
        config = config.replace("/run/secrets/authsvc", str(tmp_path / "secret"))
        with Authsvc(config, tmp_path, {}) as authsvc:
            authsvc.wait_for("/healthz")
            assert authsvc.get("/readyz")[0] == 503
            with program([sys.executable, "-m", "authsvc.demo.serve_issuer", str(port), "http://api"]) as issuer:
                printed = lines_until(issuer, "")
                assert printed[0] == "API=http://api"
                assert {line.partition("=")[0] for line in printed} >= {call.token for call in CALLS}
                authsvc.wait_for("/readyz")
