"""An API that tells what reached it: `python -m authsvc.demo.echo PORT`.

It answers JSON with the method, the raw path, the headers exactly as received, and how many requests it has
seen. `?status=403` in the path makes it answer with that status, as an API that refuses by itself would.
"""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_WANTED_STATUS = re.compile(r"[?&]status=([2-5]\d\d)\b")


class EchoServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), _Echo)
        self.requests_seen = 0
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def count(self) -> int:
        with self._lock:
            self.requests_seen += 1
            return self.requests_seen


class _Echo(BaseHTTPRequestHandler):
    server: EchoServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = {
            "method": self.command,
            "path": self.path,
            "headers": list(self.headers.items()),
            "body_bytes": len(body),
            "count": self.server.count(),
        }
        wanted = _WANTED_STATUS.search(self.path)
        self._send(int(wanted[1]) if wanted else 200, json.dumps(told).encode() + b"\n")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="echo"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence: nginx already keeps an access log."""


for _method in _METHODS:
    setattr(_Echo, f"do_{_method}", _Echo.answer)


def main(arguments: list[str]) -> None:
    port = int(arguments[0]) if arguments else 9000
    host = arguments[1] if len(arguments) > 1 else "127.0.0.1"
    with EchoServer(port, host) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
