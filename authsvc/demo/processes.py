"""Start and stop the programs around authsvc: nginx and memcached, each in a folder or port of its own.

Every process started here is stopped by the same `with` block. Works as root and as anybody else.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

START_DEADLINE_S = 10.0
_MODULES = Path("/usr/lib/nginx/modules")  # where Debian keeps them
STOP_DEADLINE_S = 5.0  # after that the process is killed: nobody waits for a demo to end


class NotFound(Exception):
    """A program is not installed; the message says what to do."""


class NotStarted(Exception):
    """A program was started and did not come up; the message holds what it said."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connect(address: tuple[str, int] | Path, timeout_s: float) -> socket.socket:
    """A connection by TCP, or to the unix socket of this path. Raises `OSError` where nobody listens."""
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout_s)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(timeout_s)
        made.connect(str(address))
    except OSError:
        made.close()
        raise
    return made


def wait_for(address: tuple[str, int] | Path, deadline_s: float = START_DEADLINE_S) -> bool:
    """True as soon as somebody listens, False when `deadline_s` seconds have passed."""
    give_up = time.monotonic() + deadline_s
    while time.monotonic() < give_up:
        try:
            connect(address, 0.5).close()
            return True
        except OSError:
            time.sleep(0.01)
    return False


@cache
def find_nginx() -> Path:
    """An nginx that has auth_request: $AUTHSVC_NGINX, then PATH, then /usr/sbin."""
    path = _find("nginx", "AUTHSVC_NGINX")
    if "--with-http_auth_request_module" not in nginx_build(path):
        raise NotFound(f'"{path}" is built without auth_request; point AUTHSVC_NGINX at another nginx')
    return path


@cache
def lua_lines() -> str:
    """The load_module lines that give nginx Lua: none for OpenResty, which is built with it."""
    if "lua" in nginx_build(find_nginx()):
        return ""
    modules = [_MODULES / "ndk_http_module.so", _MODULES / "ngx_http_lua_module.so"]
    if not all(module.exists() for module in modules):
        raise NotFound("nginx has no Lua; install OpenResty, or libnginx-mod-http-lua on Debian")
    return "".join(f"load_module {module};\n" for module in modules)


@cache
def find_memcached() -> Path:
    return _find("memcached", "AUTHSVC_MEMCACHED")


def nginx_build(path: Path) -> str:
    """What `nginx -V` says: version and configure arguments."""
    return _output([str(path), "-V"])


def _find(program: str, variable: str) -> Path:
    named = os.environ.get(variable)
    for place in [named] if named else [shutil.which(program), f"/usr/sbin/{program}", f"/usr/bin/{program}"]:
        if place and os.access(place, os.X_OK):
            return Path(place)
    raise NotFound(f"{program} not found; install it, or point {variable} at it")


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 our own command
    return done.stdout + done.stderr


class Process:
    """A program that listens on a port of this machine, for as long as the `with` block lasts.

    What it prints goes to the file `output`, or nowhere; `environment` is added to ours. A program that is slow to
    come and go has deadlines of its own.
    """

    start_deadline_s = START_DEADLINE_S
    stop_deadline_s = STOP_DEADLINE_S

    def __init__(
        self,
        command: Sequence[str | Path],
        port: int,
        output: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.port = port
        self.output = output
        self._environment = {**os.environ, **(environment or {})}
        self._running: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        with open(self.output or os.devnull, "ab") as output:
            self._running = subprocess.Popen(  # noqa: S603 our own command
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment
            )
        if not self._came_up(self._running):
            self.stop()
            place = self.address if isinstance(self.address, Path) else f"port {self.port}"
            raise NotStarted(f"{self.command[0]} did not listen on {place}\n{self.last_words()}")

    def stop(self) -> None:
        if self._running is None:
            return
        self._running.terminate()
        try:
            self._running.wait(self.stop_deadline_s)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    def last_words(self) -> str:
        """What the program left behind that explains a failure."""
        return self.output.read_text("utf-8", "replace")[-4000:] if self.output else ""

    @property
    def address(self) -> tuple[str, int] | Path:
        """Where it listens."""
        return "127.0.0.1", self.port

    @property
    def pid(self) -> int:
        """The process that was started; 0 when it is not running."""
        return self._running.pid if self._running else 0

    def _came_up(self, process: subprocess.Popen[bytes]) -> bool:
        give_up = time.monotonic() + self.start_deadline_s
        while process.poll() is None and time.monotonic() < give_up:
            if wait_for(self.address, deadline_s=0.1):
                return process.poll() is None
        return False


class Memcached(Process):
    def __init__(self, port: int | None = None) -> None:
        port = port or free_port()
        command = [str(find_memcached()), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "64"]
        as_root = ["-u", "root"] if os.geteuid() == 0 else []  # memcached refuses to be root unasked
        super().__init__([*command, *as_root], port)

    def stop(self) -> None:
        if self._running is not None:
            self._running.kill()  # it holds nothing that lasts, and where it is asked to stop it takes a second
        super().stop()


class Nginx(Process):
    """nginx with a folder of its own: `files` go beside the configuration, logs and temp files into it too.

    `config` must keep what it writes relative to that folder and write its errors to error.log, as
    nginx/demo.conf does; BASE_CONFIG is the part that sees to that.
    """

    def __init__(self, config: str, port: int, files: Mapping[str, str] | None = None) -> None:
        # 0755: started by root, nginx works as another user and must be able to enter
        self.folder = Path(tempfile.mkdtemp(prefix="authsvc-nginx-"))
        self.folder.chmod(0o755)
        for name, text in {**(files or {}), "nginx.conf": config}.items():
            (self.folder / name).write_text(text)
        place = ["-p", str(self.folder), "-e", "error.log", "-c", "nginx.conf"]
        super().__init__([find_nginx(), *place, "-g", "daemon off;"], port)

    def stop(self) -> None:
        super().stop()
        if self.folder.exists():
            self._last_words = self._read_errors()
            shutil.rmtree(self.folder, ignore_errors=True)

    def last_words(self) -> str:
        return self.error_log

    @property
    def error_log(self) -> str:
        return self._read_errors() if self.folder.exists() else self._last_words

    def _read_errors(self) -> str:
        log = self.folder / "error.log"
        return log.read_text(errors="replace") if log.exists() else ""


BASE_CONFIG = """\
worker_processes 1;
pid nginx.pid;
error_log error.log info;
events { worker_connections 512; }
"""
TEMP_PATHS = """\
    access_log off;
    client_body_temp_path temp_body;
    proxy_temp_path temp_proxy;
    fastcgi_temp_path temp_fastcgi;
    uwsgi_temp_path temp_uwsgi;
    scgi_temp_path temp_scgi;
"""
