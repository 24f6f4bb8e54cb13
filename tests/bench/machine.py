"""What the benchmark reads from Linux: the CPU time of a server's processes, and which machine this is."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system seconds of a process and all below it, so far; 0 where there is none."""
    if not pid:
        return 0.0
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        number = int(stat.parent.name)
        parents[number], used[number] = int(fields[1]), int(fields[11]) + int(fields[12])
    return sum(ticks for number, ticks in used.items() if _below(number, pid, parents)) / TICKS


def _below(number: int, top: int, parents: dict[int, int]) -> bool:
    while number and number != top:
        number = parents.get(number, 0)
    return number == top


def facts() -> list[str]:
    """Machine and versions, a line each."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("gunicorn", "falcon", "python-jose", "pymemcache"))
    programs = ", ".join(filter(None, (_first(["nginx", "-v"]), _first(["memcached", "-V"]), _first(["wrk", "-v"]))))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"{os.cpu_count()} cores, {_cpu_model()}; load before: {load}",
        # by its path: what distributions build is optimised, what pyenv builds unasked takes a fifth more
        f"{platform.python_implementation()} {platform.python_version()} ({os.path.realpath(sys.executable)})",
        packages,
        programs,
    ]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def _first(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except OSError:
        return ""
    words = (done.stdout + done.stderr).replace("nginx version: ", "").split(" Copyright")[0].split(" [")[0]
    return words.splitlines()[0].strip()
