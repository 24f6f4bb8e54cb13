"""What pyproject.toml cannot say: AUTHSVC_COMPILE=1 makes machine code of the modules that every call runs through.

mypyc (https://mypyc.readthedocs.io) compiles the typed Python as it stands; nothing is written for it, and every module
runs as plain Python too. It takes a C compiler and Python's headers, and a minute.
"""

import os
import sys

from setuptools import Extension, setup

ASKED = os.environ.get("AUTHSVC_COMPILE", "") not in ("", "0")
MYPY = "mypy>=2.4"  # mypyc comes with it
COMPILED = {
    "authsvc": ("answering", "connection", "door", "httpwire", "questions", "wsgi"),
    "authsvc/adapters": ("auditline", "limiter", "recorder", "tally", "tokenmemory"),
    "authsvc/core": (
        "bounded", "callers", "calls", "claims", "gate", "identify", "jwt", "keeping", "known", "model", "provider", "ratelimit",
        "rbac", "receipt", "response", "stepup", "strict", "window",
    ),
}  # fmt: skip


def compiled() -> list[Extension]:
    """The extension modules, where they were asked for and this is when they are built."""
    if not ASKED:
        return []
    if "editable_wheel" in sys.argv:
        sys.exit("AUTHSVC_COMPILE is for wheels: an editable install would go on with what was compiled before an edit")
    if not {"bdist_wheel", "build_ext"} & set(sys.argv):
        return []
    from mypyc.build import mypycify

    files = [f"{folder}/{name}.py" for folder, names in COMPILED.items() for name in names]
    checks = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    return mypycify([*checks, *files], opt_level="3", debug_level="0", group_name="authsvc")


setup(ext_modules=compiled(), setup_requires=[MYPY] if ASKED else [])
