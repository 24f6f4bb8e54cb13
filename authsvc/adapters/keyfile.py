"""The file of API keys: read when it changes, and written by putting a whole new file in its place.

A file with mistakes never takes a good book away. Who writes holds a lock, and a crash at any moment leaves the old
file or the new one; a stray `<file>.new` is only ever written over.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from authsvc.adapters import keydiff
from authsvc.adapters.keylines import Book, KeyFileError, Lines, chunks, from_line, is_blank, read, to_line
from authsvc.core.apikeys import ApiKey

LOOK_S = 0.5  # a revocation reaches every process within a second
SAFE_MODE = 0o640

Signature = tuple[int, int, int]  # when it was written (ns), size, inode


@dataclass(frozen=True, slots=True)
class Loaded:
    """A book, and the file as it was then. The file stays open: what differs from it can be told later."""

    book: Book
    signature: Signature
    file: BinaryIO = field(repr=False)
    digest: bytes = b""  # of all that it holds, where somebody asked for that
    notes: tuple[str, ...] = ()


def load(path: str, before: Loaded | None = None, digested: bool = False) -> Loaded:
    """Raises `KeyFileError`."""
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(open(path, "rb"))
            status = os.fstat(file.fileno())
            book = _changed(before, file, path) or Book(read(file, path))
            digest = _digest(file) if digested else b""
        except OSError as problem:
            raise KeyFileError([f"{path}: cannot be read: {_why(problem)}"], unread=True) from None
        opened.pop_all()  # all is well: it stays open as long as the book
    return Loaded(book, _signature(status), file, digest, tuple(notes_of(path, status)))


def _digest(file: BinaryIO) -> bytes:
    """The same on every machine that has this file: 0.1 s for a million keys."""
    file.seek(0)
    return hashlib.file_digest(file, "blake2b").digest()  # type: ignore[arg-type]  # a file that was opened to read


def _why(problem: OSError) -> str:
    return (problem.strerror or "no reason given").lower()


def _signature(status: os.stat_result) -> Signature:
    return status.st_mtime_ns, status.st_size, status.st_ino


def notes_of(path: str, status: os.stat_result) -> Iterator[str]:
    """What is worth knowing of the file itself."""
    if status.st_mode & 0o777 & ~SAFE_MODE:
        yield f"{path}: others may read or write this file: chmod 640 {path}"


def _changed(before: Loaded | None, file: BinaryIO, path: str) -> Book | None:
    """The book before, with what differs; `None` where the file has to be read as a whole.

    So it is where the old file was written into: what it held when it was read is nowhere any more.
    """
    if before is None or _signature(os.fstat(before.file.fileno())) != before.signature:
        return None
    between = keydiff.changed(before.file, file)
    file.seek(0)
    try:
        removed, added = [_lines(part, path) for part in between] if between else (None, None)
    except KeyFileError:  # read again as a whole, so that places are told right
        return None
    return before.book.changed(removed, added) if removed is not None and added is not None else None


def _lines(part: bytes, path: str) -> Lines:
    return read(io.BytesIO(part), path)


class KeyFile:
    """The keys as the file has them now. `report` hears "reloaded" or "refused", where the last good book stays.

    `digested` says that somebody will ask for the file's digest. Raises `KeyFileError` where there is no good book to
    begin with.
    """

    def __init__(
        self, path: str, report: Callable[[str], None] = lambda event: None, *, digested: bool = False
    ) -> None:
        self.path, self._report, self._digested = path, report, digested
        self._loaded = load(path, digested=digested)
        self._seen: Signature | None = self._loaded.signature
        self._looked_at = float("-inf")
        self._looking, self._stopped = threading.Lock(), threading.Event()
        self.trouble: tuple[str, ...] = ()  # what is wrong with the file, where an older book is in force

    @property
    def notes(self) -> tuple[str, ...]:
        return self._loaded.notes

    @property
    def digest(self) -> bytes:
        return self._loaded.digest

    def current(self, now: float) -> Book:
        """The book to decide by. Reads the file where it has changed, while other threads go on with the last book."""
        if not 0 <= now - self._looked_at < LOOK_S and self._looking.acquire(blocking=False):
            try:
                self._looked_at = now
                self._look()
            finally:
                self._looking.release()
        return self._loaded.book

    def start(self, clock: Callable[[], float] = time.time) -> None:
        """Look by itself from now on, so that no call waits for a large file. Once in each process, after a fork."""
        threading.Thread(target=self._watch, args=(clock,), name="authsvc-keyfile", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self, clock: Callable[[], float]) -> None:
        while not self._stopped.wait(LOOK_S / 2):
            self.current(clock())

    def _look(self) -> None:
        found = _signature_at(self.path)
        if found == self._seen:
            return
        try:
            loaded = load(self.path, self._loaded, self._digested)
        except KeyFileError as problem:
            self._refuse(problem, found)
            return
        self._loaded.file.close()
        self._loaded, self._seen, self.trouble = loaded, loaded.signature, ()
        self._report("reloaded")

    def _refuse(self, problem: KeyFileError, found: Signature | None) -> None:
        """Once for each trouble. What could not be read is tried again: it may hold a revocation."""
        self._seen = None if problem.unread else found
        if self.trouble != tuple(problem.lines):
            self.trouble = tuple(problem.lines)
            self._report("refused")


def _signature_at(path: str) -> Signature | None:
    try:
        return _signature(os.stat(path))
    except OSError:
        return None


# ---- writing


class Draft:
    """The file as it will be: the book that it is now, and keys that come in or change."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.puts: dict[bytes, ApiKey] = {}

    def put(self, key: ApiKey) -> None:
        """Add a key, or write it anew. Raises `KeyFileError` where the file could not hold it."""
        from_line(to_line(key)[:-1])
        self.puts[key.digest] = key


@contextlib.contextmanager
def editing(path: str) -> Iterator[Draft]:
    """Change the file, alone: it is written in the end, unless that raises. Raises `KeyFileError`.

    Lines that do not change stay byte for byte as they are. A file that is not there is made.
    """
    real = os.path.realpath(path)  # a new file takes the place of the file, not that of a link to it
    if os.path.isdir(real):  # before its lock is made beside it
        raise KeyFileError([f"{real}: is a folder: name a file in it"])
    try:
        with _locked(real), contextlib.ExitStack() as opened:
            loaded = load(path) if os.path.lexists(real) else None
            if loaded:
                opened.enter_context(loaded.file)
            draft = Draft(loaded.book if loaded else Book({}))
            yield draft
            if draft.puts:
                _replace(real, loaded, draft)
    except OSError as problem:
        raise KeyFileError([f"{path}: cannot be written: {_no_folder(real) or _why(problem)}"]) from None


def _no_folder(real: str) -> str:
    folder = os.path.dirname(real)
    return "" if os.path.lexists(folder) else f"there is no folder {folder!r}: make it first"


@contextlib.contextmanager
def _locked(real: str) -> Iterator[None]:
    """Wait until nobody else writes. The lock ends with the process, however that ends."""
    lock = os.open(f"{real}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(real: str, loaded: Loaded | None, draft: Draft) -> None:
    new = f"{real}.new"
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            _like(file, loaded)
            file.writelines(_text(loaded, draft))
            file.flush()
            os.fsync(file.fileno())
        if _signature_at(real) != (loaded.signature if loaded else None):
            raise KeyFileError([f"{real}: somebody changed the file meanwhile: nothing was written, try again"])
        os.replace(new, real)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    _sync_folder(real)


def _like(file: BinaryIO, loaded: Loaded | None) -> None:
    """The same mode and owner as before: else a service that runs as somebody else could read it no more."""
    if loaded is None:
        return
    old, mine = os.fstat(loaded.file.fileno()), os.fstat(file.fileno())
    os.fchmod(file.fileno(), old.st_mode & 0o777)
    if (old.st_uid, old.st_gid) != (mine.st_uid, mine.st_gid):
        os.fchown(file.fileno(), old.st_uid, old.st_gid)


def _text(loaded: Loaded | None, draft: Draft) -> Iterator[bytes]:
    if loaded is not None:
        loaded.file.seek(0)
        changed = {digest.hex().encode(): key for digest, key in draft.puts.items() if digest in draft.book}
        for chunk in chunks(loaded.file):
            yield _rewritten(chunk, changed)
    yield from (to_line(key) for key in draft.puts.values() if key.digest not in draft.book)


def _rewritten(chunk: bytes, changed: dict[bytes, ApiKey]) -> bytes:
    if not any(digest in chunk for digest in changed):
        return chunk
    return b"".join(_rewritten_line(line, changed) for line in chunk.split(b"\n")[:-1])


def _rewritten_line(line: bytes, changed: dict[bytes, ApiKey]) -> bytes:
    if is_blank(line) or not any(digest in line for digest in changed):
        return line + b"\n"
    key = changed.get(from_line(line).digest.hex().encode())
    return line + b"\n" if key is None else to_line(key)


def _sync_folder(real: str) -> None:
    folder = os.open(os.path.dirname(real), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
