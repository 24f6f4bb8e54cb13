"""What authsvc promises of its speed, as ratios within one run. Pure: figures in, words out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wrk import Figures


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found out. `figures` are medians by the key of the row, `paced` those at `rate` requests a second."""

    facts: list[str]
    shape: str
    names: Mapping[str, str]  # of the rows, in their order
    plain: Mapping[str, str]  # the key of the same front without authentication, by the key of the row
    figures: Mapping[str, Figures]
    rate: int = 0
    paced: Mapping[str, Figures] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    missing: int = 0  # rows of authsvc's own that are left out

    def added_us(self, key: str) -> float:
        """CPU a request of all processes, beyond what the same front costs without authentication."""
        return self.figures[key].all_us - self.figures[self.plain[key]].all_us

    @property
    def errors(self) -> int:
        return sum(one.errors for one in [*self.figures.values(), *self.paced.values()])


@dataclass(frozen=True, slots=True)
class Promise:
    """`value` of the figures named must be at least, or at most, `bound`."""

    words: str
    bound: float
    value: Callable[[Result], float]
    at_least: bool = False
    unit: str = ""

    def judged(self, result: Result) -> tuple[str, str, str, str] | None:
        """Words, bound, what was measured and whether it was kept; None where a row it needs was left out."""
        try:
            measured = self.value(result)
        except (KeyError, ZeroDivisionError):
            return None
        kept = measured >= self.bound if self.at_least else measured <= self.bound
        bound = f"{'at least' if self.at_least else 'at most'} {self.bound:g}{self.unit}"
        return self.words, bound, f"{measured:.{0 if self.unit else 2}f}{self.unit}", "yes" if kept else "no"


def _throughput(key: str, of: str) -> Callable[[Result], float]:
    return lambda r: r.figures[key].requests_s / r.figures[of].requests_s


def _service(key: str, of: str) -> Callable[[Result], float]:
    return lambda r: r.figures[key].service_us / r.figures[of].service_us


def _first_sight(key: str) -> Callable[[Result], float]:
    return lambda r: r.figures[key].service_us - r.figures["B"].service_us


def _added(key: str, of: str) -> Callable[[Result], float]:
    return lambda r: r.added_us(key) / r.added_us(of)


PROMISES = (
    Promise("C, requests a second, of the null ceiling A", 0.85, _throughput("C", "A"), at_least=True),
    Promise("V, requests a second, of U: the same before an API", 0.85, _throughput("V", "U"), at_least=True),
    Promise("C, requests a second, of the same under gthread G", 4, _throughput("C", "G"), at_least=True),
    Promise("C, CPU a request in the service", 50, lambda r: r.figures["C"].service_us, unit=" µs"),
    Promise("limited C, CPU in the service, of unlimited B", 1.1, _service("C", "B")),
    Promise("limited C, CPU in all, of unlimited B", 1.1, lambda r: r.figures["C"].all_us / r.figures["B"].all_us),
    Promise("C, CPU in the service, of all that HAProxy R takes", 1, _service("C", "R")),
    Promise("C, CPU in the service, of all that Envoy Q takes", 0.5, _service("C", "Q")),
    Promise("C, CPU in the service, of all that Envoy T takes, its cache too small", 0.5, _service("C", "T")),
    Promise("C, CPU added to nginx, of what R adds to HAProxy", 1, _added("C", "R")),
    Promise("C, CPU added to nginx, of what Q adds to Envoy", 0.5, _added("C", "Q")),
    Promise("first sight of an RS256 token L adds to B", 70, _first_sight("L"), unit=" µs"),
    Promise("10,000 rules J, CPU in the service, of C", 1.1, _service("J", "C")),
    Promise("100 providers K, CPU in the service, of C", 1.1, _service("K", "C")),
    Promise("decision cache O, requests a second, of A", 1.2, _throughput("O", "A"), at_least=True),
    Promise("C, p99 at half of its rate, of A at the same", 2, lambda r: r.paced["C"].p99_ms / r.paced["A"].p99_ms),
)


def judged(result: Result) -> list[tuple[str, str, str, str]]:
    return [line for promise in PROMISES if (line := promise.judged(result))]
