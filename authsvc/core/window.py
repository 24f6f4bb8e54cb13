"""The arithmetic of a sliding window over two counters, and of leases of it.

What was counted in the previous window weighs less as the current one passes. A call counts first and is decided on
the value that the atomic count returned, so callers at once never get more than the limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from authsvc.core.model import Quota, QuotaPolicy
from authsvc.core.ratelimit import Rate

EXACT_UP_TO = 100  # so small a limit is never reserved ahead
UNUSED_SHARE = 100  # reserved and not used are at most one in so many of a limit, in the whole fleet


@dataclass(frozen=True, slots=True)
class Window:
    """The two counters of one subject at one moment. `elapsed` is the share of the current window gone by."""

    current: str
    previous: str
    number: int
    elapsed: float
    ttl_s: int


def window(rate: Rate, subject: str, now: float) -> Window:
    """The counters for `subject` at `now`; what stands in braces decides which server has them."""
    number, into = divmod(now, rate.period_s)
    name = f"authsvc:rate:{{{subject}}}:{rate.period_s}:"
    return Window(
        current=f"{name}{number:.0f}",
        previous=f"{name}{number - 1:.0f}",
        number=int(number),
        elapsed=into / rate.period_s,
        ttl_s=2 * rate.period_s + 60,  # the previous window is read during the whole of the current one
    )


def subject(counter: str) -> str:
    """Whose counter it is."""
    return counter.partition("{")[2].partition("}")[0]


def granted(rate: Rate, at: Window, previous: int, counted: int, asked: int) -> int:
    """How many of the `asked` calls fit, after which the count was `counted`.

    No more than the limit were admitted in the previous window, so a larger count cannot weigh more than that.
    """
    return max(min(_room(rate, at, previous) - (counted - asked), asked), 0)


def _room(rate: Rate, at: Window, previous: int) -> int:
    """How many calls the current window may have at this moment."""
    return math.floor(rate.limit - min(previous, rate.limit) * (1 - at.elapsed) + 1e-9)


def lease(rate: Rate, wanted: int, room: int, processes: int) -> int:
    """How many calls to reserve at once, where `room` were left a moment ago: fewer near the limit, 1 at it."""
    if rate.limit <= EXACT_UP_TO:
        return 1
    return max(1, min(wanted, rate.limit // (UNUSED_SHARE * processes), room // (4 * processes)))


def share(rate: Rate, processes: int) -> Rate:
    """What each process may admit by itself while they cannot count together."""
    return Rate(math.ceil(rate.limit / max(processes, 1)), rate.period_s)


def quota(policy: QuotaPolicy, rate: Rate, at: Window, previous: int, counted: int) -> Quota:
    """What is left after `counted` calls, which fitted, and when this window ends; where nothing is left, when another
    call fits."""
    left = max(_room(rate, at, previous) - counted, 0)
    reset_s = (1 - at.elapsed) * rate.period_s if left else wait_s(rate, at, previous, counted, 1)
    return Quota(policy, left, max(math.ceil(reset_s), 1))


def refusal(policy: QuotaPolicy, rate: Rate, at: Window, previous: int, counted: int, cost: int) -> Quota:
    """For a call of `cost` that does not fit where `counted` were there before it."""
    left = max(_room(rate, at, previous) - counted, 0)
    wait = math.ceil(wait_s(rate, at, previous, counted, cost))
    return Quota(policy, left, max(wait, 1), refused=True)


def wait_s(rate: Rate, at: Window, previous: int, counted: int, cost: int) -> float:
    """Seconds until the call fits: in this window as the previous fades, or in the next."""
    return rate.period_s * _wait(rate.limit, min(counted, rate.limit), min(previous, rate.limit), at.elapsed, cost)


def _wait(limit: int, admitted: int, previous: int, elapsed: float, cost: int) -> float:
    """The same as a share of a window."""
    if limit < cost:
        return 1 - elapsed
    room = limit - admitted - cost
    if room >= 0 and previous > 0:
        return max(1 - room / previous - elapsed, 0)
    return 1 - elapsed + max(1 - (limit - cost) / max(admitted, 1), 0)


def refused(quotas: tuple[Quota, ...]) -> Quota | None:
    """The one that keeps the caller waiting longest, where any refuses."""
    if not quotas:
        return None
    if len(quotas) == 1:  # as mostly: 0.07 µs instead of 0.6
        return quotas[0] if quotas[0].refused else None
    return _longest(quotas)


def _longest(quotas: tuple[Quota, ...]) -> Quota | None:
    """Apart from `refused`: a generator costs the function that holds it, whether it runs or not."""
    return max((quota for quota in quotas if quota.refused), key=lambda quota: quota.reset_s, default=None)
