"""What is remembered and may be forgotten, within a bound."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """As many as `most`. What is full forgets its oldest tenth. Threads that put at once find some of it gone
    already."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.known: dict[K, V] = {}

    def put(self, key: K, value: V) -> None:
        known = self.known
        if len(known) >= self._most:
            for oldest in list(known)[: self._most // 10 + 1]:
                known.pop(oldest, None)
        known[key] = value
