"""A connection to one memcached: by TCP, by TLS or on a unix socket, and logged in where the server asks for that.

Whatever the server does, each step takes TIMEOUT_S at the most: the connection, the TLS handshake, the log-in and each
answer. The password goes to the server and nowhere else: no error, no repr and no log holds it.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass, field

TIMEOUT_S = 0.15  # a loopback round trip takes 0.1 ms; what takes hundreds of times that is an outage
AT_EASE_S = TIMEOUT_S / 10  # until then nobody drips, and the socket's own timeout is near enough
MAX_ANSWER = 4 * 1024 * 1024  # memcached's items have 1 MB at the most; several may come at once
_MAX_LOGIN_ANSWER = 100
_OF_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "DECRYPT_ERROR")  # alerts of RFC 8446 6.2, as OpenSSL spells them


class LoginRefused(Exception):
    """The server took the connection and not our user name and password."""


class BadTlsFile(Exception):
    """A file of `TlsFiles` cannot be used; the text names it."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The CA to trust instead of the system's, and our own certificate where the server asks for one."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    """Where the key is not in `cert_file`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How each memcached is spoken to. TLS is for TCP: a unix socket leaves no machine."""

    tls: TlsFiles | None = None
    username: str = ""
    password: str = field(default="", repr=False)


def context_of(files: TlsFiles) -> ssl.SSLContext:
    """Certificate and host name are checked, always. Raises `BadTlsFile`."""
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
    except OSError as problem:
        raise BadTlsFile(f'ca_file "{files.ca_file}" cannot be used: {_reason(problem)}') from problem
    if files.cert_file:
        try:
            # The empty password is there for a locked key, which would else be asked for on the terminal.
            context.load_cert_chain(files.cert_file, files.key_file, password="")
        except OSError as problem:
            named = f'cert_file "{files.cert_file}" with key_file "{files.key_file or files.cert_file}"'
            raise BadTlsFile(f"{named} cannot be used: {_reason(problem)}") from problem
    return context


class Connection:
    """What pymemcache takes for its socket. One answer takes TIMEOUT_S and MAX_ANSWER bytes, however it comes: a
    server that drips must not hold every call, nor one that floods fill the memory."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(TIMEOUT_S)
        self._sock, self._send, self._recv = sock, sock.send, sock.recv
        self._hurried = False
        self._began, self._left = 0.0, 0

    def sendall(self, data: bytes) -> None:
        if self._hurried:
            self._sock.settimeout(TIMEOUT_S)
            self._hurried = False
        self._began, self._left = time.monotonic(), MAX_ANSWER
        sent = self._send(data)
        while sent < len(data):
            self._hurry()
            sent += self._send(memoryview(data)[sent:])

    def recv(self, size: int) -> bytes:
        """The clock is read each time, and the socket's timeout is changed only for an answer that comes in parts."""
        if time.monotonic() - self._began > AT_EASE_S:
            self._hurry()
        try:
            found = self._recv(size)
        except (BlockingIOError, ssl.SSLWantReadError):
            raise TimeoutError("the answer takes too long") from None
        self._left -= len(found)
        if self._left < 0:
            raise TimeoutError("the answer is too long")
        return found

    def _hurry(self) -> None:
        """Leave the next step only what remains of the time."""
        remaining = self._began + TIMEOUT_S - time.monotonic()
        self._hurried = True
        self._sock.settimeout(max(remaining, 0.0))  # at 0 what has come already is taken: it was us who were late

    def close(self) -> None:
        self._sock.close()


class Dialer:
    """Makes connections to one server."""

    def __init__(self, address: str, access: Access, context: ssl.SSLContext | None) -> None:
        self._target, self._context = target(address), context
        self._login = _login(access) if access.username else b""

    def __call__(self) -> Connection:
        """Raises `OSError`, of which `ssl.SSLError` is one, and `LoginRefused`."""
        sock = _unix(self._target) if isinstance(self._target, str) else _tcp(self._target, self._context)
        connection = Connection(sock)
        try:
            if self._login:
                _log_in(connection, self._login)
        except BaseException:
            connection.close()
            raise
        return connection


def target(address: str) -> str | tuple[str, int]:
    """The path of a unix socket, or host and port."""
    if address.startswith(("/", "unix:")):
        return address.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(TIMEOUT_S)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _tcp(place: tuple[str, int], context: ssl.SSLContext | None) -> socket.socket:
    sock = socket.create_connection(place, TIMEOUT_S)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(sock, server_hostname=place[0]) if context else sock
    except BaseException:
        sock.close()
        raise


def _login(access: Access) -> bytes:
    """memcached's protocol.txt, Authentication: a `set` whose value is user name and password.

    It has expired already, so that a memcached that asks for none keeps no password.
    """
    text = f"{access.username} {access.password}".encode()
    return b"set auth 0 -1 %d\r\n%b\r\n" % (len(text), text)


def _log_in(connection: Connection, login: bytes) -> None:
    """The answer is read here and told to nobody: it may repeat what was sent."""
    connection.sendall(login)
    answer = b""
    while b"\r\n" not in answer and len(answer) < _MAX_LOGIN_ANSWER:
        more = connection.recv(_MAX_LOGIN_ANSWER)
        if not more:
            raise ConnectionAbortedError("hung up")
        answer += more
    if answer != b"STORED\r\n":
        raise LoginRefused


def described(problem: Exception) -> str:
    """What went wrong with a connection, in words for an operator."""
    if isinstance(problem, LoginRefused):
        return "it refuses the user name or the password"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate does not fit: {problem.verify_message}"
    if isinstance(problem, ssl.SSLEOFError):
        return "it hung up on TLS, as it does where it asks for a certificate and does not like ours"
    if isinstance(problem, ssl.SSLError):
        refused = any(word in (problem.reason or "") for word in _OF_OUR_CERTIFICATE)
        return ("it refuses our certificate" if refused else "no TLS with it") + f": {_reason(problem)}"
    if isinstance(problem, TimeoutError):
        return "it takes too long"
    return _reason(problem) if isinstance(problem, OSError) else "it answers what no memcached would"


def _reason(problem: OSError) -> str:
    """The text of the system or of OpenSSL, without the place in their source."""
    text = (problem.reason if isinstance(problem, ssl.SSLError) else None) or problem.strerror or "it hung up"
    return text.partition(" (_ssl.c")[0].replace("_", " ").lower()
