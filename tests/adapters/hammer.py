"""A process with a service of its own and sixteen threads that call it, for the tests of exactness."""

from __future__ import annotations

import itertools
import sys
from multiprocessing.connection import Connection

from authsvc.adapters import config
from authsvc.core.model import Request
from authsvc.service import Service
from helpers import Patient, in_threads

THREADS = 16
SWITCH_S = 0.0005  # so that threads meet in the middle of what they do, ten times as often as with Python's default


class Nowhere:
    """Where audit lines go."""

    def write(self, line: str) -> None:
        pass


def hammer(text: str, issuer: str, now: float, processes: int, pipe: Connection) -> None:
    """Be a worker of a service with so many processes on its host: for each token and number of calls that come through
    the pipe, let every thread make as many, and say how many passed. The clock stands still."""
    sys.setswitchinterval(SWITCH_S)
    settings = config.parse(text, "hammer", {"ISSUER": issuer})
    store = Patient(settings.memcached)
    service = Service(settings, store=store, lines=Nowhere(), clock=lambda: now, processes=processes)
    service.start()
    while (told := pipe.recv()) is not None:
        service._tend()
        pipe.send(_passed(service, *told))
    service.stop()


def _passed(service: Service, token: str, calls: int) -> int:
    found: list[str] = []  # append is atomic
    ids = itertools.count()

    def act(number: int) -> None:
        for _ in range(calls):
            request = Request("GET", "/x", f"Bearer {token}", "192.0.2.1", f"r-{number}-{next(ids)}")
            found.append(dict(service.answer(request)[1])["X-Auth-Status"])

    if calls:
        in_threads(THREADS, act)
    assert set(found) <= {"200", "429"}
    return found.count("200")
