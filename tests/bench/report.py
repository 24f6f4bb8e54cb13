"""The figures as tables, for a terminal and for docs/performance-table.md. Pure: figures in, text out."""

from collections.abc import Iterable, Sequence

from promises import Result, judged
from quiet import QUIET

HEADS = (
    "requests/s",
    "of A",
    "p50 ms",
    "p99 ms",
    "service µs",
    "nginx µs",
    "memcached µs",
    "all µs",
    "added µs",
    "slowed",
    "errors",
)
PACED = ("requests/s", "p50 ms", "p99 ms", "service µs", "nginx µs", "memcached µs", "all µs", "slowed", "errors")
PROMISED = ("promised", "bound", "two workers", "kept", "one (C1, B1, L1)", "kept", "plain Python (W, X, Y)", "kept")
MADE = '<!-- Made by `make bench ARGS="--write docs"`. Do not edit. -->\n'
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
NOTE = (
    "µs are CPU a request, user and system, of all processes of that server. Service is authsvc, oauth2-proxy or the"
    " null nginx; of Envoy, HAProxy and Apache it is the whole proxy. All is the sum; added is what is beyond the same"
    " front without authentication (Z, Q0, R0, S0). Slowed is how many times as long as at best the machine took for"
    f" the same sum meanwhile: above {QUIET} somebody else computed on its cores."
)


def rows(result: Result) -> list[tuple[str, ...]]:
    return [(key, result.names[key], *_cells(result, key)) for key in result.names if key in result.figures]


def paced(result: Result) -> list[tuple[str, ...]]:
    lines = []
    for key, f in result.paced.items():
        times = (f"{f.requests_s:.0f}", f"{f.p50_ms:.2f}", f"{f.p99_ms:.2f}")
        costs = (f"{us:.0f}" for us in (f.service_us, f.nginx_us, f.memcached_us, f.all_us))
        lines.append((key, result.names[key], *times, *costs, f"{f.slowed:.2f}", str(f.errors)))
    return lines


def _cells(result: Result, key: str) -> Iterable[str]:
    f, null = result.figures[key], result.figures.get("A")
    yield f"{f.requests_s:.0f}"
    yield f"{f.requests_s / null.requests_s:.0%}" if null else "–"
    yield from (f"{f.p50_ms:.2f}", f"{f.p99_ms:.2f}")
    yield from (f"{us:.0f}" for us in (f.service_us, f.nginx_us, f.memcached_us, f.all_us))
    known = result.bare[key] in result.figures and result.bare[key] != key
    yield f"{result.added_us(key):.0f}" if known else "–"
    yield f"{f.slowed:.2f}"
    yield str(f.errors)


def text(result: Result) -> str:
    parts = ["\n".join([*result.facts, result.shape]), _columns(("", "", *HEADS), rows(result)), NOTE]
    if result.paced:
        parts += [f"At {result.rate} requests a second, half of what C reached:"]
        parts += [_columns(("", "", *PACED), paced(result))]
    if promises := judged(result):
        parts += [_columns(PROMISED, promises)]
    return "\n\n".join([*parts, *result.left_out])


def markdown(result: Result) -> str:
    parts = [MADE + "\n".join(f"- {fact}" for fact in [*result.facts, result.shape, *result.left_out])]
    parts += [_grid(("", "", *HEADS), rows(result)), NOTE]
    if result.paced:
        parts += [f"At {result.rate} requests a second, half of what C reached:"]
        parts += [_grid(("", "", *PACED), paced(result))]
    if promises := judged(result):
        parts += [_grid(PROMISED, promises)]
    return "\n\n".join(parts) + "\n"


def headline(result: Result, keys: str = "A B C C1 G I L J K Q R S P W") -> str:
    """The few lines that README shows."""
    heads = ("", "requests/s", "of A", "p99 ms", "CPU of the service", "CPU of all")
    lines = []
    for key, name, requests, of_a, _, p99, service, _, _, everything, *_ in rows(result):
        if key in keys.split():
            lines.append((f"{key}: {name}", requests, of_a, p99, f"{service} µs", f"{everything} µs"))
    return _grid(heads, lines)


def between_marks(page: str, lines: str) -> str:
    """The page with these lines between its marks; as it is where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{lines}\n{end}{after}" if end else page


def _columns(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[at]) for line in [heads, *lines]) for at in range(len(heads))]
    words = _words(heads, lines)

    def shown(line: Sequence[str]) -> str:
        cells = [c.ljust(widths[at]) if at in words else c.rjust(widths[at]) for at, c in enumerate(line)]
        return "  ".join(cells).rstrip()

    return "\n".join(shown(line) for line in [heads, *lines])


def _grid(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    words = _words(heads, lines)
    rule = ["---" if at in words else "--:" for at in range(len(heads))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, rule, *lines])


def _words(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> set[int]:
    """The columns that are no numbers, and stand to the left."""
    return {at for at in range(len(heads)) if not all(line[at][:1].isdigit() or line[at] == "–" for line in lines)}
