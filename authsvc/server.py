"""gunicorn with settings that fit nginx's auth_request. With `authsvc.worker` the only importer of gunicorn."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from gunicorn.app.base import BaseApplication

from authsvc.adapters.config import ConfigError, Settings, load

KEEPALIVE_S = 75  # longer than nginx keeps its side (60), so that nginx never writes into a closing connection

SETTINGS: dict[str, Any] = {
    "threads": 4,  # of gthread; the fast worker has none but for calls that must wait
    "keepalive": KEEPALIVE_S,
    "timeout": 30,
    "graceful_timeout": 10,
    "limit_request_field_size": 16384,  # a token nginx let through must reach the app, which says what is wrong
    "forwarder_headers": "",  # no client header may move SCRIPT_NAME or PATH_INFO
    "secure_scheme_headers": {},  # nor wsgi.url_scheme, nor make a 400 of two that differ
    "http_parser": "python",  # for gthread: gunicorn_h1c 0.6.9 lets bare LF and folded fields through there
    "control_socket_disable": True,
    "proc_name": "authsvc",
}
# Python's own, but that all there is is looked through ten times less often. Nothing here is thrown away in circles.
COLLECTING = (700, 10, 100)
FAST = "authsvc.worker.Worker"  # by its name, for gunicorn says in its log what it is given
THREADS = "gthread"  # sync closes after each call
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the heartbeat file must not wait for a disk


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """`authsvc serve`: reads the config here, and builds the app in each worker, after the fork."""

    def __init__(self, config_file: str, settings: Settings, bind: str, workers: int, worker_class: str) -> None:
        self._config_file = config_file
        self._settings = _told(settings)
        self._receipt_key = os.urandom(32)  # the workers have it in common
        self._given = {"bind": bind, "workers": workers, "worker_class": worker_class}
        super().__init__()

    def load_config(self) -> None:
        settings = {**SETTINGS, **self._given, "child_exit": _child_exit}
        if os.path.isdir(_SHARED_MEMORY):
            settings["worker_tmp_dir"] = _SHARED_MEMORY
        for name, value in settings.items():
            self.cfg.set(name, value)

    def reload(self) -> None:
        """SIGHUP: the new config if it is good, else the one that is in force."""
        try:
            new = _told(load(self._config_file))
        except ConfigError as mistakes:
            _say(f"{mistakes}\nauthsvc: the config has mistakes; the one in force stays")
            new = replace(self._settings, outdated=True)
        if _told_to_nginx(new) != _told_to_nginx(self._settings):
            _say("authsvc: a header changed that nginx knows: make its files again (authsvc nginx) and reload nginx")
        self._settings = new
        super().reload()

    def load(self) -> Callable[..., Any]:
        from authsvc.service import start_app

        app = start_app(self._settings, self.cfg.workers, self._receipt_key)
        _keep()  # else one call in many thousand waits 40 ms while 10,000 rules are looked through,
        gc.set_threshold(*COLLECTING)  # or 100 ms while 20,000 remembered tokens are
        return app


def _told_to_nginx(settings: Settings) -> tuple[frozenset[str], str]:
    """The identity headers, and the header with the key of the client."""
    return frozenset(settings.extract), settings.api_keys.header if settings.api_keys else ""


def _told(settings: Settings) -> Settings:
    for note in settings.notes:
        _say(f"authsvc: {note}")
    return settings


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _keep() -> None:
    """What is loaded by now stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()


def worker_class(wanted: str) -> str:
    """What gunicorn calls a worker class. `fast` ends the process with exit code 3 where it cannot be had."""
    if wanted == "threads":
        return THREADS
    try:
        import_module(FAST.rpartition(".")[0])
    except ImportError as missing:
        _say(f"authsvc: the fast worker cannot be had: {missing}: pip install uvloop gunicorn_h1c")
        if wanted == "fast":
            raise SystemExit(3) from None
        _say("authsvc: gunicorn's gthread serves instead, at a fraction of the speed")
        return THREADS
    return FAST


def serve(config_file: str, settings: Settings, bind: str, workers: int, worker: str = "auto") -> None:
    """Run until told to stop, at first with these settings, which are those of the file. Metrics of all workers are
    gathered in a directory of this run.

    `worker` is `fast`, `threads`, or `auto`: the fast one where it can be had.
    Mistakes that the file has later are told and change nothing.
    """
    own = None
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        own = tempfile.mkdtemp(prefix="authsvc-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = own
    parent = os.getpid()
    try:
        server = Server(config_file, settings, bind, workers, worker_class(worker))
        import_module("authsvc.service")  # now that PROMETHEUS_MULTIPROC_DIR is set, at which metrics look once
        _keep()  # before the fork: what workers only read they have in common
        server.run()
    finally:
        if own and os.getpid() == parent:
            shutil.rmtree(own, ignore_errors=True)


def _child_exit(_server: object, worker: Any) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
