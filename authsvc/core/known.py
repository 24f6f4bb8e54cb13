"""What is worked out once of a caller whose credential comes again: his headers, and what his calls are charged to.

Nothing here says that a credential is good. That is asked at each call, of the token's memory or of the book of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from authsvc.core.apikeys import ApiKey
from authsvc.core.bounded import Bounded
from authsvc.core.model import Identity, Prepared
from authsvc.core.ratelimit import Charge

MOST_KEYS = 4096  # as many as the book of keys keeps decoded


@dataclass(slots=True, kw_only=True)
class Known:
    """Belongs to one gate: to its policy, its limits and the headers that it makes."""

    headers: list[tuple[str, str]] | None = None  # what the API is told of him
    charges: dict[tuple[int, ...], tuple[Charge, ...]] = field(default_factory=dict)  # by the rules that admitted him
    prepared: Prepared = field(default_factory=Prepared)


@dataclass(slots=True)
class KnownKey(Known):
    """Whom an API key speaks for, by this very record of it."""

    record: ApiKey
    identity: Identity


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
