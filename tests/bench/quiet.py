"""How quiet the machine is while something is measured on it.

Who else computes on its cores cannot be seen from inside a virtual machine: what a neighbour takes by the other half of
a core is no stolen time. But it is felt: the same sum takes more CPU time, up to twice as much.
"""

import os
import threading
import time
from statistics import fmean

QUIET = 1.25  # at most this many times as long as at best
EVERY_S = 0.02
SUM = range(4000)  # 0.13 ms on a Xeon of 2.1 GHz: less than a hundredth of a core


class Watch:
    """Computes the same short sum on each core, again and again until it is left, and notes what it takes."""

    def __init__(self, cores: set[int] | None = None) -> None:
        self._cores = os.sched_getaffinity(0) if cores is None else cores
        self._taken, self._ended = list[float](), threading.Event()
        self._all = list[float]()  # sorted

    def __enter__(self) -> "Watch":
        for core in self._cores:
            threading.Thread(target=self._watch, args=(core,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def lap(self) -> float:
        """How many times as long the sum took since the last lap, on average, as it took at best; 1 if it was not
        computed meanwhile. At best is what one in a hundred undercuts: one alone may be a slip of the clock."""
        taken, self._taken = self._taken, []
        if not taken:
            return 1.0
        self._all = sorted(self._all + taken)
        return fmean(taken) / self._all[len(self._all) // 100]

    def _watch(self, core: int) -> None:
        os.sched_setaffinity(0, {core})  # of this thread
        while not self._ended.wait(EVERY_S):
            began, total = time.thread_time(), 0
            for number in SUM:
                total += number * number
            self._taken.append(time.thread_time() - began)
