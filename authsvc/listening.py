"""Whether `authsvc serve` can listen where it is told to, found out before gunicorn is started, and said in words.

A unix socket that somebody else listens on is no hindrance: gunicorn puts its own in that one's place.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Mapping

TRIES = 5  # gunicorn's own patience: whoever is started again may meet what is about to end
_PLACE = re.compile(r"(?:tcp://)?(?P<host>[\w.-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_UNIX = re.compile(r"unix:(//)?")
_ANOTHER = "choose another place with --bind (and with --upstream of authsvc nginx)"
_HINTS = {
    errno.EADDRINUSE: f"stop what listens there, or {_ANOTHER}",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose another one with --bind, such as 127.0.0.1:8000",
    errno.EACCES: f"authsvc's user may not listen there: {_ANOTHER}",
}


def is_place(text: str) -> bool:
    """Whether it has the form of one: host:port, unix:/path, or the number of an open socket as fd://N."""
    if _UNIX.match(text) or text.startswith("fd://"):
        return bool(_UNIX.sub("", text, 1)) and (not text.startswith("fd://") or text[5:].isdigit())
    found = _PLACE.fullmatch(text)
    return bool(text) and found is not None and int(found["port"] or 0) < 65536


def hindrance(
    bind: str,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """Why nobody can listen there, and what to do; "" where it can be done. What is in use is tried for a while."""
    if any(name in environ for name in ("LISTEN_FDS", "GUNICORN_FD")):  # systemd or another gunicorn has done it
        return ""
    for left in reversed(range(TRIES)):
        problem = _problem(bind)
        if problem is None or problem.errno != errno.EADDRINUSE or not left:
            break
        if left == TRIES - 1:
            say(f"{bind} is in use; trying again for {left} s")
        sleep(1)
    if problem is None:
        return ""
    reason = (problem.strerror or "no reason given").lower()
    return f"cannot listen on {bind}: {reason}: {_HINTS.get(problem.errno or 0, _ANOTHER)}"


def _problem(bind: str) -> OSError | None:
    try:
        _try(bind)
    except OSError as problem:
        return problem
    return None


def _try(place: str) -> None:
    """Raises `OSError`."""
    if _UNIX.match(place):
        _try_path(_UNIX.sub("", place, 1))
    elif found := _PLACE.fullmatch(place):
        host = found["host"].strip("[]")
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, int(found["port"] or 8000)))


def _try_path(path: str) -> None:
    folder = os.path.dirname(path) or "."
    os.stat(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        raise FileExistsError(errno.EEXIST, "a file is in the way")
