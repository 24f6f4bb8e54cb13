"""What `authsvc limits` prints, on a store without a fleet: nobody waits here, and no clock runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from authsvc import limitstool
from authsvc.adapters import config
from authsvc.adapters.fleet import Seen
from authsvc.adapters.limiter import Limiter
from authsvc.adapters.store import MemoryStore
from authsvc.cli import main
from authsvc.core import ratelimit
from authsvc.core.window import refused
from authsvc.demo.processes import free_port
from authsvc.limitstool import Row

NOW = 1_800_000_000.0  # the beginning of an hour
SEEN = Seen('[["user", "demo", "max"]]', "free", "free-second", 10, 10, 1, NOW - 3, NOW + 1, refused=True)


def told(seen: Seen) -> str:
    return limitstool.board([seen], NOW).splitlines()[1]


CONFIG = """\
authentication: {oidc: {providers: [{name: demo, issuer: "https://i.example/", audience: a}]}}
rate_limit: {tiers: {free: {%s}}}
"""


class World:
    """One tier, and ann who calls."""

    def __init__(self, tier: str = "limit: 4/hour") -> None:
        self.settings = config.parse(CONFIG % tier, "f", {})
        self.store = MemoryStore(clock=lambda: 0.0)
        self.limiter = Limiter(self.store)

    def passes(self, now: float) -> bool:
        charge = ratelimit.charge(self.settings.limits.tiers[0], [["user", "demo", "ann"]])
        return refused(Limiter(self.store).spend(charge, now)) is None

    def used_up(self, now: float) -> int:
        return sum(self.passes(now) for _ in range(1000))

    def show(self, now: float) -> list[Row]:
        return limitstool.show(self.settings, self.store, ["ann"], None, now)

    def table(self, now: float) -> list[str]:
        return limitstool.table(self.show(now), now).splitlines()


# ---- show


@pytest.mark.parametrize("tier", ["limit: 4/hour", "limit: 100/hour", "limit: [4/minute, 100/hour]"])
@pytest.mark.parametrize("first_at", [NOW, NOW + 1000.5, NOW + 3599])
@pytest.mark.parametrize("later_s", [0, 700, 3700])
def test_who_is_over_the_limit_is_told_the_second_from_which_his_next_call_passes(
    tier: str, first_at: float, later_s: int
) -> None:
    world = World(tier)
    world.used_up(first_at)
    now = first_at + later_s
    world.used_up(now)
    waits = [row.wait_s for row in world.show(now) if row.wait_s is not None]
    assert max(waits) > 0
    assert not world.passes(now + max(waits) - 1.01)
    assert world.passes(now + max(waits))


def test_who_is_within_the_limit_may_call_now() -> None:
    world = World()
    assert world.passes(NOW + 60)
    assert [(row.left, row.wait_s) for row in world.show(NOW + 60)] == [(3, 0)]
    assert [cell for cell in world.table(NOW + 60)[1].split("  ") if cell][-2].strip() == "now"


def test_the_table_tells_when_the_next_call_passes_and_when_the_window_ends() -> None:
    world = World()
    world.used_up(NOW + 60)
    (row,) = world.show(NOW + 60)
    assert (row.left, row.wait_s) == (0, 3540 + 900)  # in the next window, when a quarter of these four has faded
    assert "2027-01-15T09:15:00Z (in 4440 s)  2027-01-15T09:00:00Z (in 3540 s)" in world.table(NOW + 60)[1]
    assert row.as_json()["wait_s"] == 4440


def test_in_shadow_the_next_call_passes_now_and_it_is_told_when_else_it_would() -> None:
    world = World("limit: 4/hour, mode: shadow")
    world.used_up(NOW)
    assert "  now (shadow), else 2027-01-15T09:15:00Z (in 4500 s)  " in world.table(NOW)[1]


def test_what_is_left_is_of_calls_that_count_as_one_and_help_says_so() -> None:
    world = World()
    assert [world.passes(NOW), world.passes(NOW), world.passes(NOW)] == [True] * 3
    assert [(row.left, row.wait_s) for row in world.show(NOW)] == [(1, 0)]
    dear = ratelimit.charge(world.settings.limits.tiers[0], [["user", "demo", "ann"]], 2)
    assert refused(world.limiter.spend(dear, NOW)) is not None
    told = " ".join(CliRunner().invoke(main, ["limits", "show", "--help"]).stdout.split())
    assert "`left` and `next call passes` are of calls that count as one; a call of a rule with a cost" in told


def test_where_the_limit_is_none_at_all_no_call_ever_passes() -> None:
    world = World("limit: [0/hour, 5/minute]")
    world.store.incr(
        limitstool.window.window(ratelimit.Rate(0), limitstool._subject([["user", "demo", "ann"]]), NOW).current, 60
    )
    (row,) = world.show(NOW)
    assert row.as_json()["wait_s"] is None
    assert "  never  " in world.table(NOW)[1]


# ---- reset


def test_after_a_reset_it_is_told_what_was_counted_and_that_it_is_nothing_now() -> None:
    world = World("limit: [4/hour, 100/day]")
    world.used_up(NOW - 1800)
    world.used_up(NOW + 1800)
    rows = limitstool.reset(world.settings, world.store, ["ann"], None, NOW + 1800)
    assert limitstool.reset_table(rows).splitlines() == [
        "who          tier  limit    used was  before was  used is  left is",
        "ann of demo  free  4/hour   2         4           0        4",
        "ann of demo  free  100/day  6         0           0        100",
    ]
    assert [(row.as_reset_json()["used_was"], row.as_reset_json()["used"]) for row in rows] == [(2, 0), (6, 0)]
    assert world.show(NOW + 1800) == []
    assert world.used_up(NOW + 1800) == 4


# ---- without memcached


@pytest.mark.parametrize("words", [["show", "ann"], ["reset", "ann"], ["top"]])
def test_where_memcached_does_not_answer_it_is_told_which_one_and_what_to_do(tmp_path: Path, words: list[str]) -> None:
    place = f"127.0.0.1:{free_port()}"
    (tmp_path / "authsvc.yaml").write_text(CONFIG % "limit: 4/hour" + f"cache: {{memcached: {place!r}}}\n")
    done = CliRunner().invoke(main, ["limits", *words, "-c", str(tmp_path / "authsvc.yaml")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"the counts cannot be had: memcached at {place}")
    next_step = "start memcached, or correct cache.memcached; authsvc check --online tries each server"
    assert done.stderr.endswith(f": connection refused: {next_step}\n")


# ---- top


def test_who_is_refused_is_told_apart_from_who_would_be() -> None:
    assert told(SEEN) == "max of demo  free  10/second  10    refused  3 s ago"
    shadow = Seen(SEEN.who, "trial", "trial", 3, 3, 3600, NOW, NOW + 60, refused=True, shadow=True)
    assert told(shadow) == "max of demo  trial  3/hour  3     would be refused (shadow)  0 s ago"
    calm = Seen(SEEN.who, "trial", "trial", 1, 4, 3600, NOW, NOW + 60, refused=False, shadow=True)
    assert told(calm) == "max of demo  trial  4/hour  1     25 %  0 s ago"
