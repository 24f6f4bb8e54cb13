"""An auth service that answers as it is told, and remembers what it was asked.

It speaks just enough HTTP/1.1 for nginx, over TCP or a unix socket, and counts the connections made to it.
Every yes may carry a receipt of its own, that names the question it answers: see `receipt_for`.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

Headers = tuple[tuple[str, str], ...]
RECEIPT = "X-Auth-Receipt"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers = ()
    delay_s: float = 0.0
    body: bytes = b""

    def on_the_wire(self) -> bytes:
        length = () if self.status == 204 else (("Content-Length", str(len(self.body))),)
        lines = "".join(f"{name}: {value}\r\n" for name, value in (*self.headers, *length))
        return f"HTTP/1.1 {self.status} Told So\r\n{lines}\r\n".encode("latin-1") + self.body


@dataclass(frozen=True, slots=True)
class Question:
    line: str
    headers: Headers = field(repr=False)

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header.lower() == name.lower()]

    @property
    def request_id(self) -> str:
        return ",".join(self.all("X-Request-ID"))


class ScriptedAuth:
    def __init__(self, path: Path | None = None) -> None:
        self.answer = Answer(403)
        self.script: list[Answer] = []  # the next questions get these, in order; then `answer` again
        self.receipt_for: Callable[[Question, int], str] | None = None  # of the question and its number, from 1
        self.questions: list[Question] = []
        self.connections = 0
        self.hang_ups = 0  # so many of the next questions get no answer, only a closed connection
        self._path = path
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = self._listen(0)
        self.port = 0 if path else int(self._listener.getsockname()[1])

    @property
    def upstream(self) -> str:
        return f"unix:{self._path}" if self._path else f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()

    @property
    def receipts(self) -> list[str]:
        """What each question so far brought back: "" for none, joined by a comma where there were several."""
        return [",".join(question.all(RECEIPT)) for question in self.questions]

    def receipts_by_request(self) -> dict[str, list[str]]:
        """The same for each request of a client, in the order in which nginx asked."""
        found: dict[str, list[str]] = {}
        for question, receipt in zip(self.questions, self.receipts, strict=True):
            found.setdefault(question.request_id, []).append(receipt)
        return found

    def forget(self) -> None:
        """Like new, but for the connections."""
        self.answer, self.receipt_for = Answer(403), None
        self.script.clear()
        self.questions.clear()

    def die(self) -> None:
        """Stop listening and hang up on everybody, as a killed process does."""
        _hang_up(self._listener)
        self.drop_connections()

    def come_back(self) -> None:
        self._listener = self._listen(self.port)

    def drop_connections(self) -> None:
        for connection in list(self._open):
            _hang_up(connection)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX if self._path else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(str(self._path) if self._path else ("127.0.0.1", port))
        if self._path:
            self._path.chmod(0o777)  # nginx works as another user
        listener.listen(64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections += 1
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while question := _read_question(stream):
                with self._lock:
                    self.questions.append(question)
                    number = len(self.questions)
                if self.hang_ups > 0:
                    self.hang_ups -= 1
                    break
                answer = self._answer(question, number)
                time.sleep(answer.delay_s)
                connection.sendall(answer.on_the_wire())
        self._open.discard(connection)

    def _answer(self, question: Question, number: int) -> Answer:
        with self._lock:
            answer = self.script.pop(0) if self.script else self.answer
        if self.receipt_for is None or answer.status != 200:
            return answer
        return replace(answer, headers=(*answer.headers, (RECEIPT, self.receipt_for(question, number))))


def _read_question(stream: BinaryIO) -> Question | None:
    lines: list[str] = []
    while (line := stream.readline()) not in (b"", b"\r\n"):
        lines.append(line.decode("latin-1").rstrip("\r\n"))
    if not lines:
        return None
    pairs = (line.partition(":") for line in lines[1:])
    return Question(lines[0], tuple((name, value.strip()) for name, _, value in pairs))


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
