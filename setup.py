"""What pyproject.toml cannot say: the modules that every call runs through are made machine code, unless
AUTHSVC_COMPILE=0 says that they are to stay plain Python.

mypyc (https://mypyc.readthedocs.io) compiles the typed Python as it stands, and every module runs as plain Python too.
It takes what gunicorn's parser takes, a C compiler and Python's headers, and a minute. An editable install is never
compiled: it would go on with what was compiled before an edit.
"""

import atexit
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from tempfile import mkdtemp

from setuptools import Extension, setup

WANTED = os.environ.get("AUTHSVC_COMPILE", "1") != "0"
MYPY = "mypy~=2.4.0"  # mypyc comes with it; what another one makes of this was not tested
COMPILED = {
    "authsvc": ("answering", "connection", "door", "httpwire", "questions", "wsgi"),
    "authsvc/adapters": ("auditline", "keyring", "keystate", "limiter", "recorder", "tally", "tokenmemory"),
    "authsvc/core": (
        "bounded", "callers", "calls", "claims", "gate", "identify", "jwks", "jwt", "keeping", "keylife", "known",
        "model", "provider", "quotaheaders", "ratelimit", "rbac", "receipt", "response", "stepup", "strict", "window",
    ),
}  # fmt: skip


def compiled() -> list[Extension]:
    """The extension modules, where they are wanted and this is when they are built."""
    if not WANTED or not {"bdist_wheel", "build_ext"} & set(sys.argv):
        return []
    from mypyc.build import mypycify

    _check_compiler()
    files = [f"{folder}/{name}.py" for folder, names in COMPILED.items() for name in names]
    checks = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    return mypycify([*checks, *files], opt_level="3", debug_level="0", group_name="authsvc", target_dir=BUILD)


def _check_compiler() -> None:
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if not shutil.which(compiler) or not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        sys.exit(
            "authsvc: a C compiler and Python's headers are needed, for gunicorn_h1c too: apt-get install gcc"
            " python3-dev, or build the image from the Dockerfile"
        )


BUILD = mkdtemp(prefix="authsvc-build-")  # what an older build left in the source would get into this one
atexit.register(shutil.rmtree, BUILD, ignore_errors=True)
setup(ext_modules=compiled(), setup_requires=[MYPY] if WANTED else [], options={"build": {"build_base": BUILD}})
