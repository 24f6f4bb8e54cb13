"""Requests a second and CPU a request, beside nginx alone: `make bench`, or `python tests/bench/bench.py --help`.

Three answerers stand behind the same nginx configuration and take turns in one sitting:

  A  null       an nginx that answers every question with 200 and the same headers: what auth_request costs at least
  B  unlimited  authsvc, callers of an unlimited tier
  C  limited    authsvc, callers of a limited tier, counted in memcached, with leases
  D  two limits authsvc, callers of a tier of two windows: a round trip to memcached each call
  E  API key    authsvc, callers of an unlimited tier with API keys
  F  refused    authsvc, expired tokens
  G  threads    as C, with gunicorn's gthread in place of our worker

1000 callers with a token each. nginx answers the allowed calls itself (a 43-byte picture), so that no API blurs the
figures. All on loopback. Fails when a single call was answered otherwise than it should be.
"""

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from authsvc import nginx
from authsvc.adapters.keyfile import editing
from authsvc.core import apikeys
from authsvc.core.apikeys import ApiKey
from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import BASE_CONFIG, TEMP_PATHS, Memcached, Nginx, NotFound, NotStarted, free_port
from authsvc.demo.stack import CACHE, CONFIG, Authsvc, demo_environment
from machine import cpu_s, facts

CALLERS = 1000
WARM_UP_S = 2
SCRIPT = Path(__file__).with_name("tokens.lua")
LIMITED = """\
    measured: {limit: 100000000/hour, matching_claim: plan=measured}
    measured2: {limit: [10000000/minute, 100000000/hour], matching_claim: plan=measured2}
"""
KEYS = "  api_keys: {keys_file: %s}\nauthorization:"
FRONT = """\
    include authsvc-http.conf;
    server {
        listen 127.0.0.1:%(port)s backlog=1024;
        keepalive_requests 100000000;
        include authsvc-server.conf;
        location /api/ { include authsvc-location.conf; empty_gif; }
    }
"""
NULL = """\
    server {
        listen 127.0.0.1:%(port)s;
        keepalive_requests 100000000;
        add_header X-Auth-Status 200;
        add_header X-Auth-Reason allowed;
        add_header X-User-Id user-123;
        add_header X-User-Email user-123@example.com;
        add_header X-User-Roles '["user"]';
        add_header X-User-Issuer demo;
        add_header X-User-Tenant acme;
        add_header X-Auth-Method oidc;
        add_header X-Org-ID org-7;
        add_header X-Subscription-Plan enterprise;
        location / { return 200 ""; }
    }
"""


@dataclass(frozen=True, slots=True)
class Answerer:
    """One of the things compared: how to reach it, with which tokens, and the processes to look at."""

    name: str
    front: Nginx
    pid: int
    memcached: int
    tokens: Path
    refused: bool = False  # whether each call should be


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, or the medians of several. CPU is microseconds a request."""

    requests_s: float
    p50_ms: float
    p99_ms: float
    nginx_us: float
    answerer_us: float
    memcached_us: float
    errors: int


def measure(what: Answerer, seconds: int, connections: int) -> Figures:
    wrk(what, min(seconds, WARM_UP_S), connections)
    pids = (what.front.pid, what.pid, what.memcached)
    before = [cpu_s(pid) for pid in pids]
    count, duration_us, p50, p99, refused, broken = wrk(what, seconds, connections)
    wrong = count - refused if what.refused else refused
    spent = [(cpu_s(pid) - start) * 1e6 / max(count, 1) for pid, start in zip(pids, before, strict=True)]
    return Figures(count * 1e6 / duration_us, p50 / 1000, p99 / 1000, *spent, errors=wrong + broken)


def wrk(what: Answerer, seconds: int, connections: int) -> list[int]:
    url = f"http://127.0.0.1:{what.front.port}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT), url, "--", str(what.tokens)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True)
    [summary] = [line for line in done.stdout.splitlines() if line.startswith("summary ")]
    return [int(number) for number in summary.split()[1:]]


def medians(runs: list[Figures]) -> Figures:
    values = {field.name: statistics.median(getattr(run, field.name) for run in runs) for field in fields(Figures)}
    return Figures(**{**values, "errors": sum(run.errors for run in runs)})


@contextmanager
def answerers(workers: int) -> Iterator[list[Answerer]]:
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="authsvc-bench-")))
        issuer, memcached = running.enter_context(Issuer()), running.enter_context(Memcached())
        null = running.enter_context(_nginx(NULL))
        keys, keys_file = _api_keys(folder)
        config = f"{CONFIG}{LIMITED}{CACHE}".replace("authorization:", KEYS % keys_file, 1)
        environment = demo_environment(issuer, memcached)
        served = []
        for worker in ("fast", "threads"):
            (folder / worker).mkdir()
            served.append(running.enter_context(Authsvc(config, folder / worker, environment, workers, worker=worker)))
            served[-1].wait_for("/readyz")
        fast, threads = served
        plans = ("enterprise", "measured", "measured2")
        free, limited, twice = (_tokens(issuer, plan, folder) for plan in plans)
        expired = _tokens(issuer, "enterprise", folder, "expired", exp=int(time.time()) - 3600)
        before = [running.enter_context(_nginx(FRONT, to.port)) for to in (null, fast, threads)]
        _refuses_strangers(before[1].port)
        yield [
            Answerer("A null", before[0], null.pid, 0, free),
            Answerer("B unlimited", before[1], fast.pid, memcached.pid, free),
            Answerer("C limited", before[1], fast.pid, memcached.pid, limited),
            Answerer("D two limits", before[1], fast.pid, memcached.pid, twice),
            Answerer("E API key", before[1], fast.pid, memcached.pid, keys),
            Answerer("F refused", before[1], fast.pid, memcached.pid, expired, refused=True),
            Answerer("G threads", before[2], threads.pid, memcached.pid, limited),
        ]


def _api_keys(folder: Path) -> tuple[Path, Path]:
    """Authorization headers with a key each, and the file by which authsvc knows them."""
    sent, known = folder / "keys.txt", folder / "api-keys.jsonl"
    minted = [apikeys.mint(os.urandom(32)) for _ in range(CALLERS)]
    sent.write_text("".join(f"ApiKey {text}\n" for text, _ in minted))
    with editing(str(known)) as draft:
        for number, (_, digest) in enumerate(minted):
            draft.put(ApiKey(digest, f"owner-{number}", plan="enterprise"))
    return sent, known


def _nginx(server: str, upstream_port: int = 1) -> Nginx:
    port = free_port()
    files = nginx.render(nginx.DEFAULT_HEADERS, upstream=f"127.0.0.1:{upstream_port}")
    base = BASE_CONFIG.replace("error.log info", "error.log error")
    inside = server % {"port": port}
    return Nginx(f"{base}http {{\n{TEMP_PATHS}{inside}}}\n", port, files)


def _refuses_strangers(port: int) -> None:
    """Or else it would be measured how quickly a door stands open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/api/orders")
    assert connection.getresponse().status == 401
    connection.close()


def _tokens(issuer: Issuer, plan: str, folder: Path, name: str = "", **claims: Any) -> Path:
    """Authorization headers with a token each."""
    file = folder / f"{name or plan}.txt"
    with file.open("w") as lines:
        for number in range(CALLERS):
            sub, email = f"user-{number}", f"user-{number}@example.com"
            token = issuer.token(sub, email=email, roles=["user"], organization_id="org-7", plan=plan, **claims)
            lines.write(f"Bearer {token}\n")
    return file


def run(options: argparse.Namespace, say: Callable[[str], object]) -> dict[str, list[Figures]]:
    runs: dict[str, list[Figures]] = {}
    with answerers(options.workers) as all_of_them:
        for number in range(options.rounds):
            for what in all_of_them:
                figures = measure(what, options.seconds, options.connections)
                runs.setdefault(what.name, []).append(figures)
                say(f"  round {number + 1}  {what.name:<12} {figures.requests_s:8.0f} requests/s")
    return runs


def table(runs: dict[str, list[Figures]]) -> str:
    heads = ("requests/s", "of A", "p50 ms", "p99 ms", "nginx µs", "of A", "answerer µs", "memcached µs", "errors")
    lines = [" " * 12 + "".join(f"{head:>13}" for head in heads)]
    base = medians(runs["A null"])
    for name, each in runs.items():
        f = medians(each)
        cells = (
            f"{f.requests_s:.0f}", f"{f.requests_s / base.requests_s:.0%}", f"{f.p50_ms:.2f}", f"{f.p99_ms:.2f}",
            f"{f.nginx_us:.0f}", f"{f.nginx_us / base.nginx_us:.0%}", f"{f.answerer_us:.0f}",
            f"{f.memcached_us:.0f}", str(f.errors),
        )  # fmt: skip
        lines.append(f"{name:<12}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="length of a run (5)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians are shown (3)")
    parser.add_argument("--connections", type=int, default=32, help="kept open at once (32)")
    parser.add_argument("--workers", type=int, default=2, help="workers of authsvc (2)")
    parser.add_argument("--json", action="store_true", help="every run as JSON on standard output")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if shutil.which("wrk") is None:
        print("bench: wrk not found; on Debian or Ubuntu: sudo apt-get install wrk", file=sys.stderr)
        return 1
    known = facts()
    try:
        runs = run(options, lambda line: print(line, file=sys.stderr, flush=True))
    except (NotFound, NotStarted) as trouble:
        print(f"bench: {trouble}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"machine": known, "runs": {k: [asdict(one) for one in v] for k, v in runs.items()}}))
    else:
        shape = f"{options.rounds} x {options.seconds} s, {options.connections} connections, {options.workers} workers"
        print("\n".join(["", *known, f"medians of {shape}, {CALLERS} tokens", "", table(runs)]))
    return 1 if any(each.errors for one in runs.values() for each in one) else 0


if __name__ == "__main__":
    sys.exit(main())
