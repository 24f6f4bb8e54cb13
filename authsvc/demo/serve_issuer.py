"""The demo issuer as a program: `python -m authsvc.demo.serve_issuer PORT API_URL`.

It prints tokens and curl lines for them, and serves its keys on loopback until it is stopped.
"""

from __future__ import annotations

import signal
import sys
import threading

from authsvc.demo.calls import told
from authsvc.demo.issuer import Issuer

USAGE = "usage: python -m authsvc.demo.serve_issuer PORT API_URL"


def main(arguments: list[str]) -> None:
    if len(arguments) != 2 or not arguments[0].isdecimal():
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Issuer(int(arguments[0])) as issuer:
        print(told(issuer, arguments[1]), flush=True)
        stopped.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
