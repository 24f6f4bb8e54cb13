"""The figures as a picture: bars of requests a second and of CPU a request. Pure: figures in, SVG out."""

from collections.abc import Iterator
from html import escape

from promises import Result

ROW, BAR, TOP = 24, 14, 56
NAMES, PANEL, GAP = 250, 260, 74  # widths
WIDTH = NAMES + 2 * PANEL + 2 * GAP
PARTS = (
    ("service_us", "service", "#2f6f9f"),
    ("nginx_us", "nginx", "#9cc3dd"),
    ("memcached_us", "memcached", "#d9a441"),
)
STYLE = "text{font:12px sans-serif;fill:#222}.h{font-weight:bold}.n{text-anchor:end}.f{fill:#555}"


def svg(result: Result) -> str:
    keys = [key for key in result.names if key in result.figures]
    height = TOP + ROW * len(keys) + 12 + 16 * len(result.facts)
    body = "\n".join([*_heads(), *_bars(result, keys), *_facts(result, TOP + ROW * len(keys) + 20)])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    paper = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    return f"{head}\n<style>{STYLE}</style>\n{paper}\n{body}\n</svg>\n"


def _heads() -> Iterator[str]:
    right = NAMES + PANEL + GAP
    yield _text(NAMES, 20, "requests a second", "h")
    yield _text(right, 20, "CPU a request, µs", "h")
    for number, (_, name, colour) in enumerate(PARTS):
        yield _rect(right + 84 * number, 30, 10, 10, colour)
        yield _text(right + 84 * number + 14, 40, name)


def _bars(result: Result, keys: list[str]) -> Iterator[str]:
    most = max(result.figures[key].requests_s for key in keys)
    dearest = max(result.figures[key].all_us for key in keys)
    for number, key in enumerate(keys):
        f, y = result.figures[key], TOP + ROW * number
        yield _text(NAMES - 8, y + 11, f"{key}  {result.names[key]}", "n")
        width = PANEL * f.requests_s / most
        yield _rect(NAMES, y, width, BAR, "#2f6f9f" if key in "BCDEF" else "#8fa3ad")
        yield _text(NAMES + width + 5, y + 11, f"{f.requests_s:,.0f}")
        x = left = float(NAMES + PANEL + GAP)
        for part, _, colour in PARTS:
            yield _rect(x, y, PANEL * getattr(f, part) / dearest, BAR, colour)
            x += PANEL * getattr(f, part) / dearest
        yield _text(max(x, left) + 5, y + 11, f"{f.all_us:.0f}")


def _facts(result: Result, y: int) -> Iterator[str]:
    for number, fact in enumerate(result.facts):
        yield _text(8, y + 16 * number, fact, "f")


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind}>{escape(words)}</text>'
