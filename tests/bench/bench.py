"""Requests a second and CPU a request, beside nginx alone and beside other gateways: `make bench`.

Every row takes its turn in each round, so that what drifts hits all of them, and goes on taking turns until enough of
them were quiet: nobody else computed on the machine's cores. Medians of the quietest are shown, and ratios within one
run are what to trust. All on loopback, with a unix socket between nginx and who answers. nginx answers the allowed
calls itself (a 43-byte picture), so that no API blurs the figures. Fails when a single call was answered otherwise than
it should be, or when a row of authsvc's own cannot be had. A peer that is not installed is told and left out.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from authsvc.demo.processes import NotFound, NotStarted
from machine import facts
from peers import PEERS, versions
from plot import svg
from promises import Result
from quiet import QUIET, Watch
from report import between_marks, headline, markdown, text
from rows import OURS, Offer, World, refuses_strangers
from wrk import Figures, Loader, medians, quietest

OFFERS = (*OURS, *PEERS)
PACED = ("A", "C", "C1", "W", "O")  # also measured at half of C's rate
# What is compared takes turns that are near: a neighbour's work comes and goes in seconds.
TURNS = ("O", "A", "C1", "B1", "C", "B", "L", "L1", "R", "Q", "T", "J", "K", "G", "W", "X", "Y", "U", "V")
Say = Callable[[str], object]


class Bench:
    """What runs, and what it has shown so far."""

    def __init__(self, options: argparse.Namespace, world: World, watch: Watch, say: Say) -> None:
        self._options, self._watch, self._say = options, watch, say
        self.left_out, self.missing, self.loaders = list[str](), 0, dict[str, Loader]()
        for offer in chosen(options.only):
            self._open(offer, world)
        self.runs: dict[str, list[Figures]] = {key: [] for key in self.loaders}
        self.paced: dict[str, list[Figures]] = {key: [] for key in self.loaders if key in PACED}
        self.rate = 0

    def _open(self, offer: Offer, world: World) -> None:
        try:
            row = offer.make(world)
            refuses_strangers(row, offer.open)
        except (NotFound, NotStarted) as why:
            self.missing += offer in OURS and isinstance(why, NotStarted)
            self.left_out.append(f"left out: {offer.key} {offer.name}: {' '.join(str(why).split())}")
            self._say(self.left_out[-1])
            return
        self._say(f"  ready: {offer.key} {offer.name}")
        self.loaders[offer.key] = Loader(row, self._options.connections, self._watch)

    def run(self) -> None:
        for key, loader in self.loaders.items():
            loader.warm(1)
            self._say(f"  warm: {key}")
        others = [key for key in self.loaders if key not in TURNS]
        self._take_turns([key for key in TURNS if key in self.loaders] + others, self.runs)
        if "C" in self.runs:
            self.rate = round(self._shown(self.runs["C"]).requests_s / 2)
            self._take_turns(list(self.paced), self.paced, self.rate)

    def _take_turns(self, keys: list[str], runs: dict[str, list[Figures]], rate: int = 0) -> None:
        for number in range(turns_at_most(self._options)):
            for key in keys:
                if sum(one.slowed <= QUIET for one in runs[key]) < self._options.rounds:
                    runs[key].append(self.loaders[key].measure(self._options.seconds, rate))
                    self._tell(number, key, runs[key][-1])

    def _tell(self, number: int, key: str, figures: Figures) -> None:
        wrong = f"  {figures.errors} wrong answers" if figures.errors else ""
        noisy = f"  the machine was slowed, {figures.slowed:.2f}" if figures.slowed > QUIET else ""
        figures_said = f"{figures.requests_s:8.0f} requests/s {figures.service_us:6.1f} µs"
        self._say(f"  round {number + 1}  {key:<2} {figures_said}{noisy}{wrong}")

    def _shown(self, runs: list[Figures]) -> Figures:
        of_all = sum(one.errors for one in runs)
        return replace(medians(quietest(runs, self._options.rounds)), errors=of_all)

    def result(self, known: list[str]) -> Result:
        o = self._options
        whole = Result(
            facts=known,
            shape=f"medians of {o.rounds} x {o.seconds} s, the quietest of up to {turns_at_most(o)} turns,"
            f" {o.connections} connections, {o.workers} workers",
            names={offer.key: offer.name for offer in OFFERS if offer.key in self.runs},
            bare={offer.key: offer.bare for offer in OFFERS},
            figures={key: self._shown(runs) for key, runs in self.runs.items()},
            rate=self.rate,
            paced={key: self._shown(runs) for key, runs in self.paced.items() if runs},
            left_out=self.left_out,
            missing=self.missing,
            judged_by=o.rounds,
        )
        return replace(whole, rounds=[self._round(whole, number) for number in range(turns_at_most(o))])

    def _round(self, whole: Result, number: int) -> Result:
        figures, paced = (
            {key: of[number] for key, of in runs.items() if number < len(of)} for runs in (self.runs, self.paced)
        )
        return replace(whole, figures=figures, paced=paced)


def turns_at_most(options: argparse.Namespace) -> int:
    return options.rounds * options.patience


def chosen(only: str) -> list[Offer]:
    """The rows of these keys. Raises `KeyError` with those that nobody has."""
    wanted = [key.strip() for key in only.split(",") if key.strip()]
    if unknown := set(wanted) - {offer.key for offer in OFFERS}:
        raise KeyError(", ".join(sorted(unknown)))
    return [offer for offer in OFFERS if not wanted or offer.key in wanted]


def measured(options: argparse.Namespace, say: Say) -> tuple[Result, dict[str, list[Figures]]]:
    known = [*facts(), *filter(None, [versions()])]
    if options.plain:
        known.append("all of authsvc is plain Python")
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="authsvc-bench-")))
        world = World(running, folder, options.workers, turns_at_most(options), options.seconds, options.plain)
        bench = Bench(options, world, running.enter_context(Watch()), say)
        bench.run()
    return bench.result(known), bench.runs


def write(result: Result, folder: Path) -> None:
    (folder / "performance-table.md").write_text(markdown(result), "utf-8")
    (folder / "performance.svg").write_text(svg(result), "utf-8")
    readme = folder.parent / "README.md"
    if readme.exists():
        readme.write_text(between_marks(readme.read_text("utf-8"), headline(result)), "utf-8")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    keys = "\n".join(f"  {offer.key:<3} {offer.name}" for offer in OFFERS)
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n{keys}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5, help="length of a run (5)")
    parser.add_argument("--rounds", type=int, default=3, help="quiet runs of each; medians are shown (3)")
    parser.add_argument(
        "--patience", type=int, default=4, help="at most this many times as many runs, to find them (4)"
    )
    parser.add_argument("--connections", type=int, default=32, help="kept open at once (32)")
    parser.add_argument("--workers", type=int, default=2, help="workers of authsvc (2)")
    parser.add_argument(
        "--plain", action="store_true", help="authsvc as it lies here, which needs no minute to compile"
    )
    parser.add_argument("--only", default="", metavar="KEYS", help="these rows, such as A,C,R,R0")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="table and picture go there")
    parser.add_argument("--json", action="store_true", help="every run as JSON on standard output")
    return parser.parse_args(words)


def main() -> int:
    options = arguments()
    if shutil.which("wrk") is None:
        print("bench: wrk not found; on Debian or Ubuntu: sudo apt-get install wrk", file=sys.stderr)
        return 1
    try:
        result, runs = measured(options, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyError as unknown:
        print(f"bench: no row is called {unknown.args[0]}; --help lists them", file=sys.stderr)
        return 2
    except (NotFound, NotStarted) as trouble:
        print(f"bench: {trouble}", file=sys.stderr)
        return 1
    if options.write:
        write(result, options.write)
    if options.json:
        every = {key: [asdict(one) for one in all_] for key, all_ in runs.items()}
        print(json.dumps({**asdict(replace(result, rounds=[])), "runs": every}))
    else:
        print(f"\n{text(result)}")
    return 1 if result.errors or result.missing else 0


if __name__ == "__main__":
    sys.exit(main())
