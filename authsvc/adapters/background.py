"""Does something again and again in a thread of its own, in a forked child too, whatever goes wrong meanwhile."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable


class Background:
    """`act` is called every `period_s` seconds, a tenth more or less; `say` hears what it did not foresee."""

    def __init__(self, name: str, act: Callable[[], None], period_s: float, say: Callable[[str], None]) -> None:
        self._name, self._act, self._period_s, self._say = name, act, period_s, say
        self._stop = threading.Event()

    def start(self) -> None:
        self._spawn()
        os.register_at_fork(after_in_child=self._after_fork)

    def stop(self) -> None:
        self._stop.set()

    def _spawn(self) -> None:
        threading.Thread(target=self._run, name=f"authsvc-{self._name}", daemon=True).start()

    def _after_fork(self) -> None:
        if not self._stop.is_set():
            self._stop = threading.Event()
            self._spawn()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s * random.uniform(0.9, 1.1)):  # noqa: S311 - jitter, not a secret
            try:
                self._act()
            except Exception as problem:  # noqa: BLE001 - this thread must outlive whatever happens
                self._say(f"unforeseen {type(problem).__name__} in the background of the {self._name}")
