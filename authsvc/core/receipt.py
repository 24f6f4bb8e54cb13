"""Receipts for counted calls, which nginx carries: after an internal redirect it asks again, and that costs nothing.

A receipt is bound to nginx's $request_id, to whom was counted and to the tier, by a MAC that only authsvc can make.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from authsvc.core.model import Quota
from authsvc.core.ratelimit import Charge, Tier

MOST = 4  # a request that is redirected more often than that is counted again
_SHAPE = re.compile(r"[0-9a-f]{24}=[0-9]{1,9};[rt=;,0-9]{0,500}")
_LEFT = re.compile(r"r=([0-9]+);t=([0-9]+)")


@dataclass(frozen=True, slots=True)
class Paid:
    """So many calls were counted for a request, and what was left then."""

    cost: int = 0
    quotas: tuple[Quota, ...] = ()


NOTHING = Paid()


class Receipts:
    """Those of one key; without one there are none."""

    def __init__(self, key: bytes = b"") -> None:
        self._has_key, self._begun = bool(key), hashlib.blake2b(key, digest_size=12)

    def issue(self, request_id: str, charge: Charge, quotas: Sequence[Quota]) -> str:
        """The receipt; "" where the request has no id that it could be bound to."""
        if not (self._has_key and request_id):
            return ""
        left = quotas[0].told() if len(quotas) == 1 else ",".join(map(Quota.told, quotas))
        return f"{self._mac(f'{request_id}{charge.asked}{left}')}={charge.cost};{left}"

    def redeem(self, receipts: str, request_id: str, charge: Charge) -> Paid:
        """What is paid for this request in this tier, by the receipt that says most; nothing where none does."""
        paid = NOTHING
        for one in receipts.split(" ") if receipts and self._has_key and request_id else ():
            mac, _, told = one.partition("=")
            ours = self._mac(f"{request_id}\0{charge.pot}\0{told}")  # as `issue` has it, of what was told then
            if mac.isascii() and told.isascii() and hmac.compare_digest(mac, ours):
                cost, _, left = told.partition(";")
                found = Paid(int(cost), _quotas(charge.tier, left))
                paid = max(paid, found, key=lambda known: known.cost)
        return paid

    def _mac(self, text: str) -> str:
        """BLAKE2 needs no HMAC: nobody can go on with what was begun with a key (RFC 7693 section 1)."""
        mac = self._begun.copy()  # 0.2 µs less than to begin anew
        mac.update(text.encode("utf-8", "surrogatepass"))
        return mac.hexdigest()


def add(receipts: str, made: str) -> str:
    """The receipts of a request with one more, the latest last; a few are kept, each once, and no other text."""
    kept = dict.fromkeys(filter(_SHAPE.fullmatch, (*receipts.split(" "), made)))
    return " ".join(list(kept)[-MOST:])


def _quotas(tier: Tier, left: str) -> tuple[Quota, ...]:
    """In each window of the tier; nothing where nothing was counted."""
    windows = zip(tier.policies, _LEFT.findall(left), strict=False)
    return tuple(Quota(policy, int(remaining), int(reset_s)) for policy, (remaining, reset_s) in windows)
