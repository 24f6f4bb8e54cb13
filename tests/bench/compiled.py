"""authsvc as it is installed, with machine code in it, which is what is measured. Built once for each source."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from authsvc.demo.processes import NotStarted

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "authsvc")
CACHE = Path.home() / ".cache" / "authsvc" / "bench"
LIBRARY = "authsvc__mypyc"  # what a process that runs it has loaded


def folder() -> Path:
    """Where it lies, to be put before everything on a process's path. Raises `NotStarted` where it cannot be built."""
    made = CACHE / f"compiled-{_digest()}"
    if not made.exists():
        with TemporaryDirectory(prefix="authsvc-bench-") as work:
            _build(Path(work), made)
    return made


def _digest() -> str:
    files = [ROOT / "setup.py", ROOT / "pyproject.toml", *sorted((ROOT / "authsvc").rglob("*.py"))]
    told = "\n".join(f"{file.relative_to(ROOT)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files)
    return hashlib.sha256(f"{sys.version}\n{told}".encode()).hexdigest()[:16]


def _build(work: Path, made: Path) -> None:
    source, wheels = work / "source", work / "wheels"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    environment = {**os.environ, "AUTHSVC_COMPILE": "1"}  # whatever is set: it is kept as what was compiled
    done = subprocess.run(
        [*pip, "-w", wheels, source], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise NotStarted(f"authsvc cannot be compiled: {done.stderr[-300:]}")
    for old in CACHE.glob("compiled-*"):
        shutil.rmtree(old)
    with zipfile.ZipFile(next(wheels.glob("authsvc-*.whl"))) as wheel:
        wheel.extractall(work / "unpacked")
    made.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(work / "unpacked", made)


def runs_in(pid: int) -> bool:
    """Whether a process, or one that it started, has it loaded."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return LIBRARY in Path(f"/proc/{pid}/maps").read_text() or any(runs_in(int(child)) for child in children)
