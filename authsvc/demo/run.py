"""`authsvc demo`: everything on loopback, with calls to paste; with --check it makes the calls itself.

It needs nginx; without memcached it counts in memory. Nothing stays behind when it ends.
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
from textwrap import indent

from authsvc.demo.calls import CALLS, Call, lines, make, tokens, variables
from authsvc.demo.processes import NotFound, NotStarted
from authsvc.demo.stack import Stack, stack

_NO_NGINX = """\
authsvc demo: %s
  Debian, Ubuntu   sudo apt-get install nginx-light memcached
  Fedora           sudo dnf install nginx memcached
  macOS            brew install nginx memcached
then run it again (or `make demo`, which installs them where it may)"""


def run(only_check: bool) -> int:
    """0 when it ended well, 1 when a call was not answered as it should be or a program is missing."""
    signal.signal(signal.SIGTERM, _stop)  # so that the programs around us end with us
    try:
        with stack() as running:
            return _check(running) if only_check else _show(running)
    except NotFound as missing:
        print(_NO_NGINX % missing, file=sys.stderr)
    except NotStarted as trouble:
        print(f"authsvc demo: {trouble}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nstopped")
        return 0
    return 1


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _title(running: Stack) -> str:
    limits = "limits in memcached" if running.memcached else "limits in memory (memcached is not installed)"
    return f"curl → nginx → authsvc → API, all on this machine; {limits}"


def _check(running: Stack) -> int:
    known, failed = tokens(running.issuer), 0
    print(f"{_title(running)}\n")
    print(f"  {'call':<38} {'who':<24} {'expected':<9} {'got':<9} because")
    for call in CALLS:
        answers = make(call, running.nginx.port, known.get(call.token))
        good = answers.fits(call)
        failed += not good
        print(f"{'✓' if good else '✗'} {_row(call)} {answers.got:<9} {answers.said}")
    print(f"\n{len(CALLS) - failed} of {len(CALLS)} as expected")
    return 1 if failed else 0


def _row(call: Call) -> str:
    return f"{call.method + ' ' + call.path:<38} {call.told:<24} {call.expected:<9}"


def _explain_line(running: Stack) -> str:
    """To paste: it runs this authsvc, wherever it is installed."""
    words = [sys.executable, "-m", "authsvc", "explain", "-c", str(running.authsvc.config_file)]
    return f'{shlex.join(words)} --token "$MEMBER" GET /api/admin/reports'


def _show(running: Stack) -> int:
    file = running.folder / "tokens.sh"
    file.touch(mode=0o600)  # they are made-up tokens, but the habit is worth keeping
    file.write_text(variables(running.issuer, running.url), "utf-8")
    print(f"{_title(running)}\n\nIn another terminal, first this line, then any of those below it:\n\n  . {file}\n")
    print(indent(lines(), "  "))
    print(f"What was decided, step by step:\n\n  {_explain_line(running)}\n")
    print("The tokens are good for an hour.")
    print(f"Audit lines:  tail -f {running.authsvc.output}\nThe config:   {running.authsvc.config_file}")
    print("Ctrl-C ends it.", flush=True)
    while True:
        time.sleep(3600)
