"""Receipts for counted calls, which nginx carries: after an internal redirect it asks again, and that costs nothing.

That no client can send one is up to nginx: the includes pass none of his headers on, and keep the receipt in a
variable that he cannot set. For where that line is broken, a receipt says three things. A stamp, which only authsvc can
make, of who was counted in which tier, at which cost and when: nginx tells it to nobody. The request's id, which nginx
makes up after the client has sent the request. And what was left, which is only told. A stamp that leaks all the same
is good for its caller, tier and cost, and for half an hour at most. It is made once for a caller, and not for each of
his calls: that spares a tenth of what a limited call takes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from authsvc.core.model import Quota
from authsvc.core.ratelimit import Charge, Tier

MOST: Final = 4  # a request that is redirected more often than that is counted again
MOST_ID: Final = 64  # characters of an id that stands in its receipt as it is
EPOCH_S: Final = 600  # a stamp holds in its own, and in those beside it, since a request takes time and clocks differ
_SHAPE = re.compile(  # of printable ASCII without a space
    r"(?P<stamp>[0-9a-f]{24}=(?P<cost>[0-9]{1,9});)(?P<named>_?[0-9A-Za-z]{1,64});"
    r"(?P<left>(?:r=[0-9]+;t=[0-9]+(?:,r=[0-9]+;t=[0-9]+)*)?)"
)
_LEFT = re.compile(r"r=([0-9]+);t=([0-9]+)")


@dataclass(frozen=True, slots=True)
class Paid:
    """So many calls were counted for a request, and what was left then."""

    cost: int = 0
    quotas: tuple[Quota, ...] = ()


NOTHING: Final = Paid()


class Receipts:
    """Those of one key; without one there are none."""

    def __init__(self, key: bytes = b"") -> None:
        self._has_key, self._begun = bool(key), hashlib.blake2b(key, digest_size=12)

    def issue(
        self, request_id: str, charge: Charge, quotas: tuple[Quota, ...], now: float, is_plain: bool = False
    ) -> str:
        """The receipt; "" where the request has no id that it could be bound to. `is_plain` is what is known of the
        id, as `Request` has it."""
        if not (self._has_key and request_id):
            return ""
        named = request_id if is_plain else _named(request_id)
        left = quotas[0].told() if len(quotas) == 1 else ",".join(map(Quota.told, quotas))
        return f"{self._stamp(charge, int(now) // EPOCH_S)}{named};{left}"

    def redeem(self, receipts: str, request_id: str, charge: Charge, now: float) -> Paid:
        """What is paid for this request in this tier, by the receipt that says most; nothing where none does."""
        paid = NOTHING
        for one in receipts.split(" ") if receipts and self._has_key and request_id else ():
            found = _SHAPE.fullmatch(one)
            if found is None or found["named"] != _named(request_id):
                continue
            cost = int(found["cost"])
            if self._genuine(found["stamp"], charge.pot, cost, int(now) // EPOCH_S):
                paid = max(paid, Paid(cost, _quotas(charge.tier, found["left"])), key=lambda known: known.cost)
        return paid

    def _stamp(self, charge: Charge, epoch: int) -> str:
        """Made once an epoch for a charge that is remembered, as that of a caller who comes again is."""
        if charge.stamped_by is not self or charge.stamped_in != epoch:
            charge.keep_stamp(self._made(charge.pot, charge.cost, epoch), epoch, self)
        return charge.stamp

    def _genuine(self, stamp: str, pot: str, cost: int, epoch: int) -> bool:
        return any(hmac.compare_digest(stamp, self._made(pot, cost, one)) for one in (epoch, epoch - 1, epoch + 1))

    def _made(self, pot: str, cost: int, epoch: int) -> str:
        """BLAKE2 needs no HMAC: nobody can go on with what was begun with a key (RFC 7693 section 1)."""
        mac = self._begun.copy()
        mac.update(f"{pot}\0{cost}\0{epoch}".encode())
        return f"{mac.hexdigest()}={cost};"


def _named(request_id: str) -> str:
    """The id of nginx as it is; one that could be mistaken for more than an id by its hash, which looks like no id."""
    if request_id.isalnum() and request_id.isascii() and len(request_id) <= MOST_ID:
        return request_id
    return f"_{hashlib.blake2b(request_id.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def add(receipts: str, made: str) -> str:
    """The receipts of a request with one more, the latest last; a few are kept, each once, and no other text."""
    kept = dict.fromkeys(filter(_SHAPE.fullmatch, (*receipts.split(" "), made)))
    return " ".join(list(kept)[-MOST:])


def _quotas(tier: Tier, left: str) -> tuple[Quota, ...]:
    """In each window of the tier; nothing where nothing was counted."""
    windows = zip(tier.policies, _LEFT.findall(left), strict=False)
    return tuple(Quota(policy, int(remaining), int(reset_s)) for policy, (remaining, reset_s) in windows)
