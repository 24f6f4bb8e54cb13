"""What authsvc promises of its speed, as ratios within one run. Pure: figures in, words out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import NamedTuple

from wrk import Figures


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found out. `figures` are medians by the key of the row, `paced` those at `rate` requests a second."""

    facts: list[str]
    shape: str
    names: Mapping[str, str]  # of the rows, in their order
    bare: Mapping[str, str]  # the key of the same front without authentication, by the key of the row
    figures: Mapping[str, Figures]
    rate: int = 0
    paced: Mapping[str, Figures] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    missing: int = 0  # rows of authsvc's own that are left out
    rounds: list["Result"] = field(default_factory=list)  # what each of them said, of the rows that had a turn in it
    judged_by: int | None = None  # how many of them, the quietest; None for all

    def added_us(self, key: str) -> float:
        """CPU a request of all processes, beyond what the same front costs without authentication."""
        return self.figures[key].all_us - self.figures[self.bare[key]].all_us

    @property
    def errors(self) -> int:
        return sum(one.errors for one in [*self.figures.values(), *self.paced.values()])


class _Asked(dict[str, Figures]):
    """Figures that know how noisy it was while those that were asked for were measured."""

    slowed = 1.0

    def __getitem__(self, key: str) -> Figures:
        found = super().__getitem__(key)
        self.slowed = max(self.slowed, found.slowed)
        return found


class Keys(NamedTuple):
    """The rows of one way to run authsvc: the full decision, the same without a limit, and a first sight."""

    full: str
    unlimited: str
    first: str


INSTALLED, ALONE, PLAIN = Keys("C", "B", "L"), Keys("C1", "B1", "L1"), Keys("W", "X", "Y")
Value = Callable[[Result, Keys], float]


@dataclass(frozen=True, slots=True)
class Promise:
    """`value` of the figures named must be at least, or at most, `bound`: of authsvc as it is installed, and unless
    `alone` of one worker alone and of plain Python too."""

    words: str
    bound: float
    value: Value
    at_least: bool = False
    unit: str = ""
    alone: bool = False

    def judged(self, result: Result) -> tuple[str, ...] | None:
        """Words, bound, what was measured and whether it was kept, and both again of one worker and of plain Python;
        None where a row it needs was left out."""
        installed = self._judged(result, INSTALLED)
        if installed is None:
            return None
        bound = f"{'at least' if self.at_least else 'at most'} {self.bound:g}{self.unit}"
        others = [None if self.alone else self._judged(result, keys) for keys in (ALONE, PLAIN)]
        return self.words, bound, *installed, *(cell for other in others for cell in other or ("–", "–"))

    def _judged(self, result: Result, keys: Keys) -> tuple[str, str] | None:
        """The median of what the rounds say in which its rows were least slowed: those of one round are slowed alike,
        where the quietest of each may not be."""
        found = []
        for one in result.rounds or [result]:
            figures, paced = _Asked(one.figures), _Asked(one.paced)
            try:
                value = self.value(replace(one, figures=figures, paced=paced), keys)
            except (KeyError, ZeroDivisionError):
                continue
            found.append((max(figures.slowed, paced.slowed), value))
        if not found:
            return None
        measured = median(value for _, value in sorted(found)[: result.judged_by])
        kept = measured >= self.bound if self.at_least else measured <= self.bound
        return f"{measured:.{0 if self.unit else 2}f}{self.unit}", "yes" if kept else "no"


def _throughput(of: str, key: str = "") -> Value:
    return lambda r, keys: r.figures[key or keys.full].requests_s / r.figures[of].requests_s


def _service(of: str) -> Value:
    return lambda r, keys: r.figures[keys.full].service_us / r.figures[of].service_us


def _of_full(key: str) -> Value:
    return lambda r, keys: r.figures[key].service_us / r.figures[keys.full].service_us


def _limited(r: Result, keys: Keys) -> float:
    return r.figures[keys.full].service_us / r.figures[keys.unlimited].service_us


def _limited_in_all(r: Result, keys: Keys) -> float:
    return r.figures[keys.full].all_us / r.figures[keys.unlimited].all_us


def _first_sight(r: Result, keys: Keys) -> float:
    return r.figures[keys.first].service_us - r.figures[keys.unlimited].service_us


def _added(of: str) -> Value:
    return lambda r, keys: r.added_us(keys.full) / r.added_us(of)


def _p99(r: Result, keys: Keys) -> float:
    return r.paced[keys.full].p99_ms / r.paced["A"].p99_ms


PROMISES = (
    Promise("C, requests a second, of the null ceiling A", 0.85, _throughput("A"), at_least=True),
    Promise("V, requests a second, of U: the same before an API", 0.85, _throughput("U", "V"), True, alone=True),
    Promise("C, requests a second, of the same under gthread G", 4, _throughput("G"), at_least=True),
    Promise("C, CPU a request in the service", 50, lambda r, keys: r.figures[keys.full].service_us, unit=" µs"),
    Promise("limited C, CPU in the service, of unlimited B", 1.1, _limited),
    Promise("limited C, CPU in all, of unlimited B", 1.1, _limited_in_all),
    Promise("C, CPU in the service, of all that HAProxy R takes", 1, _service("R")),
    Promise("C, CPU in the service, of all that Envoy Q takes", 0.5, _service("Q")),
    Promise("C, CPU in the service, of all that Envoy T takes, its cache too small", 0.5, _service("T")),
    Promise("C, CPU added to nginx, of what R adds to HAProxy", 1, _added("R")),
    Promise("C, CPU added to nginx, of what Q adds to Envoy", 0.5, _added("Q")),
    Promise("first sight of an RS256 token L adds to B", 70, _first_sight, unit=" µs"),
    Promise("10,000 rules J, CPU in the service, of C", 1.1, _of_full("J"), alone=True),
    Promise("100 providers K, CPU in the service, of C", 1.1, _of_full("K"), alone=True),
    Promise("decision cache O, requests a second, of A", 1.2, _throughput("A", "O"), True, alone=True),
    Promise("C, p99 at half of its rate, of A at the same", 2, _p99),
)


def judged(result: Result) -> list[tuple[str, ...]]:
    return [line for promise in PROMISES if (line := promise.judged(result))]
