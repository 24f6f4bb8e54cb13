"""One measured run: wrk in front, the CPU time of the servers before and after, and what came of it."""

import statistics
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from machine import cpu_s
from minting import Tokens
from quiet import Watch

WARM_UP_S = 2
FRESH_S, FRESH_A_SECOND = 2, 10_000  # a run with tokens never seen before, and how many are ready for it
SCRIPT = Path(__file__).with_name("tokens.lua")


@dataclass(frozen=True, slots=True)
class Row:
    """One of the things compared: where it listens, with which tokens it is asked, and the processes to look at."""

    port: int
    tokens: Tokens
    nginx: int = 0
    service: int = 0
    memcached: int = 0
    refused: bool = False  # whether each call should be
    fresh: Tokens | None = None  # asked with these instead once it is warm, each of them once


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, or the medians of several. CPU is microseconds a request; `slowed` is how many times as long as at best
    the machine's cores took for the same work meanwhile."""

    requests_s: float
    p50_ms: float
    p99_ms: float
    nginx_us: float
    service_us: float
    memcached_us: float
    slowed: float = 1.0
    errors: int = 0

    @property
    def all_us(self) -> float:
        return self.nginx_us + self.service_us + self.memcached_us


@dataclass(slots=True)
class Answers:
    """What wrk says of a run."""

    count: int
    duration_us: int
    p50_us: int
    p99_us: int
    refused: int  # or another status than 2xx and 3xx
    broken: int

    def wrong(self, row: Row) -> int:
        return self.broken + (self.count - self.refused if row.refused else self.refused)


@dataclass(slots=True)
class Loader:
    """Asks a row, going on each time where it stopped before: 100,000 tokens outlast one run."""

    row: Row
    connections: int
    watch: Watch
    _asked: int = 0
    _used: int = 0
    _wrong_while_warming: int = 0

    def warm(self, seconds: int) -> None:
        """For `seconds`, and on until each token came."""
        while self._asked < self.row.tokens.count:
            self._wrong_while_warming += self._ask(seconds).wrong(self.row)
            seconds = 5

    def measure(self, seconds: int, rate: int = 0) -> Figures:
        """`rate` requests a second, or as many as can be."""
        row, pids = self.row, (self.row.nginx, self.row.service, self.row.memcached)
        self._ask(min(seconds, WARM_UP_S), rate)
        self.watch.lap()
        before = [cpu_s(pid) for pid in pids]
        done = self._ask_fresh(seconds) if row.fresh else self._ask(seconds, rate)
        spent = [(cpu_s(pid) - start) * 1e6 / max(done.count, 1) for pid, start in zip(pids, before, strict=True)]
        slowed = self.watch.lap()
        errors, self._wrong_while_warming = done.wrong(row) + self._wrong_while_warming, 0
        requests_s, times_ms = done.count * 1e6 / done.duration_us, (done.p50_us / 1e3, done.p99_us / 1e3)
        return Figures(requests_s, *times_ms, *spent, slowed=slowed, errors=errors)

    def _ask(self, seconds: int, rate: int = 0) -> Answers:
        done = self._run(seconds, self.row.tokens, self._asked, 0, rate)
        self._asked += done.count
        return done

    def _ask_fresh(self, seconds: int) -> Answers:
        assert self.row.fresh
        take = fresh_a_run(seconds)
        done = self._run(min(seconds, FRESH_S), self.row.fresh, self._used, take, 0)
        self._used += take
        return done

    def _run(self, seconds: int, tokens: Tokens, begin: int, take: int, rate: int) -> Answers:
        at = f"http://127.0.0.1:{self.row.port}"
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "-s", SCRIPT, at, "--"]
        command += [tokens.file, str(begin), str(take), str(rate), str(self.connections)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
        [summary] = [line for line in done.stdout.splitlines() if line.startswith("summary ")]
        return Answers(*(int(number) for number in summary.split()[1:]))


def fresh_a_run(seconds: int) -> int:
    return min(seconds, FRESH_S) * FRESH_A_SECOND


def quietest(runs: list[Figures], count: int) -> list[Figures]:
    return sorted(runs, key=lambda run: run.slowed)[:count]


def medians(runs: list[Figures]) -> Figures:
    values = {field.name: statistics.median(getattr(run, field.name) for run in runs) for field in fields(Figures)}
    return Figures(**{**values, "errors": sum(run.errors for run in runs)})
