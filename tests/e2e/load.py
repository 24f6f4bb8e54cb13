"""Callers that call all the time, each on a connection it keeps, and what they were answered."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Calls:
    """Statuses and seconds of the calls so far, in the order in which they ended."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


STOOD_STILL_S = 0.03  # for an answer of nginx alone, which takes a millisecond or two


@contextmanager
def control(port: int) -> Iterator[Calls]:
    """What nginx answers by itself meanwhile. Where even that comes late, the machine stood still, and no measure of
    authsvc counts."""
    calls = Calls()
    with callers(1, port, lambda: "", calls, pause_s=0.005, path="/"):
        yield calls


def stood_still(calls: Calls) -> bool:
    return max(calls.seconds) > STOOD_STILL_S


def keep_calling(
    port: int,
    next_token: Callable[[], str | None],
    calls: Calls,
    over: threading.Event,
    pause_s: float = 0.0,
    path: str = "/api/orders",
) -> None:
    """Until there is no further token or it is over. `pause_s` lies between two calls."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while not over.is_set() and (token := next_token()) is not None:
        started = time.monotonic()
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as problem:
            calls.broken.append(repr(problem))
            connection.close()
            continue
        calls.seconds.append(time.monotonic() - started)
        calls.statuses.append(response.status)
        over.wait(pause_s)
    connection.close()


@contextmanager
def callers(
    count: int,
    port: int,
    next_token: Callable[[], str | None],
    calls: Calls,
    pause_s: float = 0.0,
    path: str = "/api/orders",
) -> Iterator[None]:
    """`count` callers in threads, while the block lasts."""
    over = threading.Event()
    arguments = (port, next_token, calls, over, pause_s, path)
    threads = [threading.Thread(target=keep_calling, args=arguments, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
