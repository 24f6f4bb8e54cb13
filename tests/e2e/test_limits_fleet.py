"""Three memcached, one of which is killed under load and comes back: who counted elsewhere notices nothing at all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from authsvc.core import window
from authsvc.core.ratelimit import Rate, Tier, charge
from authsvc.demo.processes import Memcached
from authsvc.demo.stack import Stack, stack
from faults import dead, get
from test_limits import CONFIG_HEAD, LIMITS, RULES, fresh
from test_main_job import call

pytestmark = pytest.mark.alone  # a memcached that is late by 150 ms is as good as dead, and the counts are not exact

CACHE = """\
cache:
  memcached: ["${ONE}", "${TWO}", "${THREE}"]
  secret: "${DEMO_SECRET}"
"""
LIMIT = 40  # so many that nobody has used up his own before a server is gone
MANY_A_DAY = f"many: {{limit: {LIMIT}/day, matching_claim: plan=many}}\n    "
MANY = LIMITS.replace("five: ", MANY_A_DAY + "five: ")
USERS = 24


@dataclass(frozen=True)
class Fleet:
    running: Stack
    servers: tuple[Memcached, ...]

    def round(self, users: dict[str, str]) -> dict[str, int]:
        """One call of each user, many at a time."""
        with ThreadPoolExecutor(12) as pool:
            answers = pool.map(lambda token: call(self.running, "/api/orders", token), users.values())
            return {user: answer.status for user, answer in zip(users, answers, strict=True)}

    def home(self, user: str) -> list[Memcached]:
        """Where this user is counted."""
        subject = charge(Tier(""), [["user", "demo", user]]).subject
        name = window.window(Rate(LIMIT, 86400), subject, time.time()).current
        return [server for server in self.servers if get(server, name)]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with ExitStack() as lasting:
        servers = tuple(lasting.enter_context(Memcached()) for _ in range(3))
        names = dict(zip(("ONE", "TWO", "THREE"), (f"127.0.0.1:{one.port}" for one in servers), strict=True))
        running = lasting.enter_context(stack(CONFIG_HEAD + RULES + MANY + CACHE, workers=3, environment=names))
        yield Fleet(running, servers)


def test_one_of_three_killed_under_load_loses_its_own_counts_and_no_call_goes_wrong(fleet: Fleet) -> None:
    users = {user: fleet.running.issuer.token(user, plan="many") for user in (fresh() for _ in range(USERS))}
    statuses: dict[str, list[int]] = {user: [] for user in users}

    def rounds(count: int, pause_s: float = 0.0) -> None:
        for _ in range(count):
            time.sleep(pause_s)
            for user, status in fleet.round(users).items():
                statuses[user].append(status)

    rounds(4)
    homes = {user: fleet.home(user) for user in users}
    assert {len(found) for found in homes.values()} == {1}, "each counter lies on one server"
    killed = fleet.servers[0]
    hit = {user for user, found in homes.items() if found == [killed]}
    assert 0 < len(hit) < USERS
    with ThreadPoolExecutor(1) as other:
        going_on = other.submit(rounds, 2 * LIMIT + 4, 0.05)  # two seconds at least to use the limit up
        time.sleep(0.1)
        with dead(killed):
            assert {len(found) < LIMIT for found in statuses.values()} == {True}, "killed too late to be noticed"
            going_on.result()
            passed = {user: statuses[user].count(200) for user in users}
    assert {status for found in statuses.values() for status in found} == {200, 429}
    assert {passed[user] for user in set(users) - hit} == {LIMIT}, "the others' counts are exact"
    assert all(LIMIT <= passed[user] <= 2 * LIMIT for user in hit), "what was counted there is lost once"
    assert any(passed[user] > LIMIT for user in hit), "nobody noticed that it was killed"
    for user in users:
        first_no = statuses[user].index(429)
        assert statuses[user][:first_no].count(200) >= LIMIT, "refused too early"
    time.sleep(1.2)  # the server is back, and each worker tries it once a second
    before = {user: statuses[user].count(200) for user in users}
    rounds(LIMIT + 4)
    again = {user: statuses[user].count(200) - before[user] for user in users}
    assert {again[user] for user in set(users) - hit} == {0}
    assert all(again[user] <= LIMIT for user in hit)


def test_after_its_return_each_server_counts_its_own_callers_again_exactly(fleet: Fleet) -> None:
    users = {user: fleet.running.issuer.token(user, plan="many") for user in (fresh() for _ in range(18))}
    found = [fleet.round(users) for _ in range(LIMIT + 4)]
    assert {Counter(one[user] for one in found)[200] for user in users} == {LIMIT}
    homes = Counter(server.port for user in users for server in fleet.home(user))
    assert set(homes) == {server.port for server in fleet.servers}
    assert sum(homes.values()) == len(users)
