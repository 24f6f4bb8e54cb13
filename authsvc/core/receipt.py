"""Receipts for counted calls, which nginx carries: after an internal redirect it asks again, and that costs nothing.

A receipt is bound to nginx's $request_id, to whom was counted and to the tier, by a MAC that only authsvc can make.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

from authsvc.core.model import Quota
from authsvc.core.ratelimit import Charge

MOST = 4  # a request that is redirected more often than that is counted again
_SHAPE = re.compile(r"[0-9a-f]{24}=[A-Za-z0-9_:.,-]{0,500}")


def issue(key: bytes, request_id: str, charge: Charge, quotas: Sequence[Quota]) -> str:
    """The receipt; "" where the request has no id that it could be bound to, or nobody has a key."""
    if not (key and request_id):
        return ""
    told = ",".join(f"{q.policy}:{q.limit}:{q.window_s}:{q.remaining}:{q.reset_s}" for q in quotas)
    return f"{_mac(key, request_id, charge, told)}={told}"


def add(receipts: str, made: str) -> str:
    """The receipts of a request with one more, the latest last; a few are kept, each once, and no other text."""
    kept = dict.fromkeys(filter(_SHAPE.fullmatch, (*receipts.split(" "), made)))
    return " ".join(list(kept)[-MOST:])


def redeem(key: bytes, receipts: str, request_id: str, charge: Charge) -> tuple[Quota, ...] | None:
    """The quotas as they were when this call was counted; `None` where none of the receipts says that it was."""
    for one in receipts.split(" ") if receipts and key and request_id else ():
        mac, _, told = one.partition("=")
        if mac.isascii() and told.isascii() and hmac.compare_digest(mac, _mac(key, request_id, charge, told)):
            return tuple(_quota(text) for text in told.split(",") if text)
    return None


def _mac(key: bytes, request_id: str, charge: Charge, told: str) -> str:
    text = f"{request_id}\0{charge.subject}\0{charge.tier.name}\0{charge.cost}\0{told}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=12).hexdigest()


def _quota(told: str) -> Quota:
    policy, limit, window_s, remaining, reset_s = told.split(":")
    return Quota(policy, int(limit), int(window_s), int(remaining), int(reset_s))
