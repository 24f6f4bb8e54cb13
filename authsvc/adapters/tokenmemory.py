"""Tokens of this process that were verified, so that a signature is checked once and not at each call.

What is remembered counts only with the very key set by which it was verified: a refresh, a rotation or a flush makes
another one, and then the token is verified anew. Times are looked at on each hit. It belongs to one configuration, and
is never shared between processes. Tokens lie here by their digests.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from authsvc.core.identify import Remembered

# A remembered token takes 1,600 bytes, six for each character of its text, its caller's headers once more (3 kB at
# most) and 450 for each of up to 16 sets of rules whose limits he uses: 4.5 kB one of 900 characters under one rule,
# 10 kB one of 570 under sixteen. So 20,000 tokens of 900 characters are 90 MB a worker. One that is made of little
# lists takes twelve for each character, but only a provider can make such a token.
MOST_TOKENS = 20_000
MOST_CHARACTERS = 32_000_000
NEW_SHARE: Final = 4  # one in so many places is for tokens that came once, however many regulars there are


class TokenMemory:
    """Bounded in number and size. Who comes again is a regular, and a flood of tokens that come once takes no place of
    theirs; but what regulars do not need is free for all, since many callers in turn are no flood. Of too many regulars
    those go that did not come since this was looked at last."""

    def __init__(self, most: int = MOST_TOKENS, most_characters: int = MOST_CHARACTERS) -> None:
        self._most, self._most_characters = most, most_characters
        self._new, self._regular = _Part(), _Part()
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
        if entry.size > self._most_characters // NEW_SHARE:
            return
        with self._lock:
            known = self._regular.take(digest)
            (self._new if known is None else self._regular).put(digest, entry)
            self._make_room()

    def _make_room(self) -> None:
        new, regular = self._new, self._regular
        most, characters = self._most, self._most_characters
        while new.exceeds(most - len(regular.entries), characters - regular.characters):
            too_many = regular.exceeds(most - most // NEW_SHARE, characters - characters // NEW_SHARE)
            (regular if too_many else new).evict()

    def __len__(self) -> int:
        return len(self._new.entries) + len(self._regular.entries)


class _Part:
    """Entries in the order in which they came."""

    def __init__(self) -> None:
        self.entries: OrderedDict[bytes, Remembered] = OrderedDict()  # a dict looks for its oldest for 2 µs
        self.characters = 0

    def take(self, digest: bytes) -> Remembered | None:
        found = self.entries.pop(digest, None)
        self.characters -= found.size if found else 0
        return found

    def put(self, digest: bytes, entry: Remembered) -> None:
        self.take(digest)
        self.entries[digest] = entry
        self.characters += entry.size

    def exceeds(self, most: int, most_characters: int) -> bool:
        return len(self.entries) > most or self.characters > most_characters

    def evict(self) -> None:
        """The oldest; one that was used since gets another turn."""
        digest, entry = self.entries.popitem(last=False)
        if entry.used:
            entry.used = False
            self.entries[digest] = entry
        else:
            self.characters -= entry.size
