"""`authsvc check --online`: tries each memcached of the config as authsvc itself would, and says what to do.

The connection, TLS and the log-in are those of adapters/connection.py with its time-out; then something is counted in a
counter of its own and taken away again, for a server that answers and cannot count is no good either.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from authsvc.adapters.connection import (
    TIMEOUT_S,
    Access,
    BadTlsFile,
    Dialer,
    LoginRefused,
    context_of,
    described,
)
from authsvc.adapters.memcached import MemcachedStore
from authsvc.adapters.store import StoreDown
from authsvc.adapters.yamlfile import visible

_KEPT_S = 10  # so long the counter lives where it cannot be taken away

# How a connection can fail -> what to do about it; the first kind that fits.
NEXT_STEPS: tuple[tuple[type[Exception], str], ...] = (
    (LoginRefused, "compare cache.username and the password in cache.password_file with those of the server (-Y)"),
    (
        ssl.SSLCertVerificationError,
        "set cache.tls.ca_file to the CA of its certificate, and name the server as the certificate does",
    ),
    (ssl.SSLError, "see whether it speaks TLS (memcached -Z), and which certificates of ours it takes"),
    (TimeoutError, f"see whether this machine reaches it: authsvc waits {TIMEOUT_S} s, and then does without it"),
    (OSError, "see whether memcached runs, and listens at this address"),
)
_NO_MEMCACHED = (
    "see what answers there: a memcached that wants TLS (cache.tls), or a user name and a password (cache.username), "
    "serves nobody who comes without"
)


@dataclass(frozen=True, slots=True)
class Tried:
    """How one server did."""

    server: str
    ok: bool
    text: str
    next_step: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        lines = [f"memcached at {self.server}: {self.text}"] + ([f"  next: {self.next_step}"] if self.next_step else [])
        return "\n".join(map(visible, lines))


def try_all(servers: Iterable[str], access: Access) -> list[Tried]:
    """Each server, one after the other."""
    return [try_one(server, access) for server in servers]


def try_one(server: str, access: Access) -> Tried:
    try:
        Dialer(server, access, context_of(access.tls) if access.tls else None)().close()
        _count(MemcachedStore([server], access=access))
    except BadTlsFile as problem:
        return Tried(server, ok=False, text=str(problem), next_step="mend cache.tls")
    except StoreDown as problem:
        text = str(problem).removeprefix(f"memcached at {server}").removeprefix(":").strip()
        return Tried(server, ok=False, text=text, next_step=_NO_MEMCACHED)
    except (OSError, LoginRefused) as problem:
        step = next(step for kind, step in NEXT_STEPS if isinstance(problem, kind))
        return Tried(server, ok=False, text=described(problem), next_step=step)
    return Tried(server, ok=True, text=f"ok, it counts{_how(access, server)}")


def _count(store: MemcachedStore) -> None:
    """Raises `StoreDown`."""
    name = f"authsvc:check:{secrets.token_hex(8)}"
    if store.incr(name, _KEPT_S) != 1 or store.incr(name, _KEPT_S) != 2:
        raise StoreDown("what is counted there is not what it says")
    store.delete([name])


def _how(access: Access, server: str) -> str:
    """As far as the config asks for it; a unix socket has no TLS."""
    tls = access.tls is not None and not server.startswith(("/", "unix:"))
    ways = [way for way, used in (("by TLS", tls), ("logged in", access.username)) if used]
    return "".join(f", {way}" for way in ways)
