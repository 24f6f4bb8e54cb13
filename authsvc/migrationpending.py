"""`authsvc migration pending`: the owners who are still on API keys, for the mail-out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from authsvc.core.apikeys import ApiKey, verdict
from authsvc.migrationledger import MAX_NAME, SETTLED_S, Ledger, Owner, State
from authsvc.migrationtool import ends, iso


@dataclass(frozen=True, slots=True)
class Pending:
    """An owner with good keys, for the mail-out. `expires` is when the first of his keys ends by itself.

    `last_seen`, `calls` and `state` are of calls with his keys, and empty where no log was read.
    """

    owner: str
    contact: str
    tenant: str
    plan: str
    keys: tuple[str, ...]
    last_seen: str
    calls: int | None
    expires: str
    state: str


@dataclass(slots=True)
class _Held:
    """What the good keys of an owner say. As `ApiKey`s a million of them would take 1.3 GB."""

    keys: list[str] = field(default_factory=list)
    contacts: list[str] = field(default_factory=list)
    tenants: list[str] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    ends: float = float("inf")

    def add(self, key: ApiKey) -> None:
        self.keys.append(key.name)
        for texts, text in ((self.contacts, key.contact), (self.tenants, key.tenant), (self.plans, key.plan)):
            if text and text not in texts:
                texts.append(text)
        self.ends = min(self.ends, ends(key))


def pending(
    ledger: Ledger | None, keys: Iterable[ApiKey], now: float, settled_s: float = SETTLED_S, everyone: bool = False
) -> list[Pending]:
    """Owners with good keys who have not moved, by name; with `everyone` also those who have."""
    held: dict[str, _Held] = {}
    for key in keys:
        if verdict(key, now) is None:
            held.setdefault(key.owner, _Held()).add(key)
    rows = (_pending(name, held[name], ledger, settled_s) for name in sorted(held))
    return [row for row in rows if everyone or row.state != State.MOVED]


def _pending(name: str, held: _Held, ledger: Ledger | None, settled_s: float) -> Pending:
    seen = (ledger.owners.get(name[:MAX_NAME]) or Owner()).seen if ledger else None
    return Pending(
        owner=name,
        contact="; ".join(held.contacts),
        tenant="; ".join(held.tenants),
        plan="; ".join(held.plans),
        keys=tuple(held.keys),
        last_seen=iso(seen.last) if seen else "",
        calls=seen.calls if seen else None,
        expires=iso(held.ends),
        state=ledger.state(name, settled_s) if ledger else "",
    )
