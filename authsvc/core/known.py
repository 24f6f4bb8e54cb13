"""What is worked out once of a caller whose credential comes again: his headers, and what his calls are charged to.

Nothing here says that a credential is good. That is asked at each call, of the token's memory or of the book of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from authsvc.core.apikeys import ApiKey
from authsvc.core.bounded import Bounded
from authsvc.core.model import Identity, Prepared
from authsvc.core.ratelimit import Charge

MOST_KEYS = 4096  # as many as the book of keys keeps decoded
MOST_RULES: Final = 16  # sets of rules that are remembered for each credential


class Admitted:
    """What calls under some rules are charged to; that they were worked out means that these rules admitted him."""

    __slots__ = ("charges", "rules")

    def __init__(self, rules: tuple[int, ...], charges: tuple[Charge, ...]) -> None:
        self.rules, self.charges = rules, charges


class Known(Prepared):
    """Belongs to one gate: to its policy, its limits and the headers that it makes. `headers` is what the API is told
    of him."""

    __slots__ = ("admitted", "headers", "last")

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[tuple[str, str]] | None = None
        self.admitted: dict[tuple[int, ...], Admitted] = {}
        self.last: Admitted | None = None

    def charges(self, rules: tuple[int, ...]) -> tuple[Charge, ...] | None:
        """Of a call under these rules, where they admitted him before."""
        found = self.last  # one object, for threads: rules and charges of two must not be mixed
        if found is None or found.rules is not rules:
            found = self.admitted.get(rules)
            if found is None:
                return None
            self.last = found
        return found.charges

    def admit(self, rules: tuple[int, ...], charges: tuple[Charge, ...]) -> None:
        if len(self.admitted) < MOST_RULES:
            self.admitted[rules] = Admitted(rules, charges)


class KnownKey(Known):
    """Whom an API key speaks for, by this very record of it."""

    __slots__ = ("identity", "record")

    def __init__(self, record: ApiKey, identity: Identity) -> None:
        super().__init__()
        self.record, self.identity = record, identity


class KnownKeys:
    """Keys that were looked up: what follows from a record is the same for as long as it is the book's. When the file
    changes, the book has new records, and nothing of the old ones counts. Bounded; when it is full it forgets the
    oldest tenth."""

    def __init__(self) -> None:
        self._keys: Bounded[bytes, KnownKey] = Bounded(MOST_KEYS)

    def of(self, record: ApiKey, identify: Callable[[ApiKey], Identity]) -> KnownKey:
        """What is known by the record; at first it is whom the key speaks for, which `identify` says."""
        known = self._keys.known.get(record.digest)
        if known is None or known.record is not record:
            known = KnownKey(record, identify(record))
            self._keys.put(record.digest, known)
        return known
