"""What `authsvc limits` prints, on a store without a fleet: nobody waits here, and no clock runs."""

from __future__ import annotations

from authsvc import limitstool
from authsvc.adapters.fleet import Seen

NOW = 1_800_000_000.0
SEEN = Seen('[["user", "demo", "max"]]', "free", "free-second", 10, 10, 1, NOW - 3, NOW + 1, refused=True)


def told(seen: Seen) -> str:
    return limitstool.board([seen], NOW).splitlines()[1]


# ---- top


def test_who_is_refused_is_told_apart_from_who_would_be() -> None:
    assert told(SEEN) == "max of demo  free  10/second  10    refused  3 s ago"
    shadow = Seen(SEEN.who, "trial", "trial", 3, 3, 3600, NOW, NOW + 60, refused=True, shadow=True)
    assert told(shadow) == "max of demo  trial  3/hour  3     would be refused (shadow)  0 s ago"
    calm = Seen(SEEN.who, "trial", "trial", 1, 4, 3600, NOW, NOW + 60, refused=False, shadow=True)
    assert told(calm) == "max of demo  trial  4/hour  1     25 %  0 s ago"
