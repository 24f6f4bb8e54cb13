"""Tokens of this process that were verified, so that a signature is checked once and not at each call.

What is remembered counts only with the very key set by which it was verified: a refresh, a rotation or a flush makes
another one, and then the token is verified anew. Times are looked at on each hit. It belongs to one configuration, and
is never shared between processes. Tokens lie here by their digests.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from authsvc.core.identify import Remembered

# A remembered token takes at most 1,000 bytes and six for each character of its text: 4.7 kB one of 900 characters,
# 12 kB Keycloak's of 2,100. So these bounds are 212 MB a worker at most, and 93 MB of tokens of 900 characters. One
# that is made of little lists takes twelve for each character, but only a provider can make such a token.
MOST_TOKENS = 20_000
MOST_CHARACTERS = 32_000_000
NEW_SHARE = 4  # one in so many places is for tokens that came once: a flood of such does not push out the regulars


class TokenMemory:
    """Bounded in number and in size. A token that comes again moves to the regulars; where these are too many, those go
    that did not come since this was looked at last."""

    def __init__(self, most: int = MOST_TOKENS, most_characters: int = MOST_CHARACTERS) -> None:
        self._new = _Part(most // NEW_SHARE, most_characters // NEW_SHARE)
        self._regular = _Part(most - most // NEW_SHARE, most_characters - most_characters // NEW_SHARE)
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> Remembered | None:
        """What is known of the token. Whether it still holds is for the caller to ask."""
        found = self._regular.entries.get(digest)
        if found is not None:
            found.used = True
            return found
        if digest in self._new.entries:
            with self._lock:
                found = self._new.take(digest)
                if found is not None:
                    self._regular.put(digest, found)
        return found

    def put(self, digest: bytes, entry: Remembered) -> None:
        with self._lock:
            known = self._regular.take(digest)
            (self._new if known is None else self._regular).put(digest, entry)

    def __len__(self) -> int:
        return len(self._new.entries) + len(self._regular.entries)


class _Part:
    """Entries in the order in which they came, within bounds."""

    def __init__(self, most: int, most_characters: int) -> None:
        self._most, self._most_characters = most, most_characters
        self.entries: OrderedDict[bytes, Remembered] = OrderedDict()  # a dict looks for its oldest for 2 µs
        self._characters = 0

    def take(self, digest: bytes) -> Remembered | None:
        found = self.entries.pop(digest, None)
        self._characters -= found.size if found else 0
        return found

    def put(self, digest: bytes, entry: Remembered) -> None:
        self.take(digest)
        if entry.size > self._most_characters or self._most < 1:
            return
        self.entries[digest] = entry
        self._characters += entry.size
        while len(self.entries) > self._most or self._characters > self._most_characters:
            self._evict()

    def _evict(self) -> None:
        """The oldest; one that was used since gets another turn."""
        digest, entry = self.entries.popitem(last=False)
        if entry.used:
            entry.used = False
            self.entries[digest] = entry
        else:
            self._characters -= entry.size
