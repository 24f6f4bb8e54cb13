"""The generation of decisions: one word for all that they depend on beside the call itself.

nginx hears it with each answer. When it changes, because of a new config, a key that was listed or withdrawn, a flush
or a changed file of API keys, nginx forgets what it kept. It is made of contents alone, so that all processes of one
fleet with the same state say the same. It is opaque: nobody can tell from it what a config says.
"""

from __future__ import annotations

import hashlib
import json

from authsvc import __version__
from authsvc.adapters.keyfile import KeyFile
from authsvc.adapters.keyring import Keyring
from authsvc.core.jwks import KeySet

_Seen = tuple[bytes, tuple[KeySet | None, ...]]


class Generation:
    """Asked at each call: it is made anew where something else is in force, and that is told by what is identical."""

    def __init__(self, config_digest: str, keyring: Keyring, key_file: KeyFile | None) -> None:
        self._config, self._keyring, self._key_file = config_digest, keyring, key_file
        self._made: tuple[_Seen, str] | None = None

    def current(self) -> str:
        """To be asked before the decision: what changes meanwhile must not be called the new generation's."""
        book = self._key_file.digest if self._key_file else b""
        held, made = self._keyring.held(), self._made
        if made is not None and made[0][0] == book and all(a is b for a, b in zip(made[0][1], held, strict=True)):
            return made[1]
        word = _word([__version__, self._config, book.hex(), [_told(keys) for keys in held]])
        self._made = (book, held), word
        return word


def _word(parts: list[object]) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


def _told(keys: KeySet | None) -> list[object]:
    """The keys that the provider lists, and when others were flushed: how old they are differs between processes."""
    if keys is None:
        return []
    return [keys.floor, *sorted(key.digest for key in keys.keys if key.listed_at >= keys.fetched_at)]
