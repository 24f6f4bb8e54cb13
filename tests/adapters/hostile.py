"""A server on loopback that treats each connection as the test says, with TLS where a certificate is given."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Act = Callable[[socket.socket], None]


class Hostile:
    """`act` gets each connection once its request was read, up to `ending`; `requests` keeps what was asked."""

    def __init__(self, act: Act, tls: ssl.SSLContext | None = None, ending: bytes = b"\r\n\r\n") -> None:
        self._act, self._tls, self._ending = act, tls, ending
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/keys"

    def __enter__(self) -> Hostile:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(conn,), daemon=True).start()

    def _talk(self, conn: socket.socket) -> None:
        with contextlib.suppress(OSError), conn:
            if self._tls:
                conn = self._tls.wrap_socket(conn, server_side=True)
            asked = b""
            while self._ending not in asked and (more := conn.recv(65536)):
                asked += more
            self.requests.append(asked)
            with conn:
                self._act(conn)


class Relay:
    """Stands before another server; `sent` keeps what came from the client, as it came."""

    def __init__(self, behind: int) -> None:
        self._behind, self.sent = behind, list[bytes]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Relay:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(conn,), daemon=True).start()

    def _carry(self, conn: socket.socket) -> None:
        with conn, socket.create_connection(("127.0.0.1", self._behind)) as behind:
            threading.Thread(target=_pour, args=(behind, conn), daemon=True).start()
            while data := conn.recv(65536):
                self.sent.append(data)
                behind.sendall(data)


def _pour(source: socket.socket, into: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            into.sendall(data)


def says(answer: bytes) -> Act:
    """Send this and hang up."""
    return lambda conn: conn.sendall(answer)


def drips(start: bytes, then: bytes, pause_s: float = 0.02) -> Act:
    """Send `start`, then `then` over and over, one byte at a time."""

    def act(conn: socket.socket) -> None:
        over = threading.Event()
        conn.sendall(start)
        while True:
            for byte in then:
                conn.sendall(bytes([byte]))
                over.wait(pause_s)

    return act


def floods(start: bytes, then: bytes) -> Act:
    """Send `start`, then `then` without end."""

    def act(conn: socket.socket) -> None:
        conn.sendall(start)
        while True:
            conn.sendall(then)

    return act


def hangs(start: bytes = b"") -> Act:
    """Send `start`, then nothing, and stay."""

    def act(conn: socket.socket) -> None:
        conn.sendall(start)
        threading.Event().wait(20)

    return act


def ok(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Authority:
    """A private CA, and certificates that it signs for 127.0.0.1 or another name."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        made = self._builder(self._name, self._key.public_key(), 0).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.ca_file = str(folder / "ca.pem")
        Path(self.ca_file).write_bytes(self._signed(made))

    def server(self, host: str = "127.0.0.1", expired: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file(host, expired))
        return context

    def file(self, host: str = "127.0.0.1", expired: bool = False) -> str:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        made = self._builder(name, key.public_key(), -10 if expired else 0)
        made = made.add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        file = self._folder / f"{host}-{expired}.pem"
        file.write_bytes(self._signed(made) + _pem(key))
        return str(file)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        start = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days - 1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=5))
        )

    def _signed(self, made: x509.CertificateBuilder) -> bytes:
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _general_name(host: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    pem, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, plain, serialization.NoEncryption())
