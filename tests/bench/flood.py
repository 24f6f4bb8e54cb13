"""What a flood of tokens with random kids does to good callers: `make flood`.

10,000 such tokens in 10 s against 4 workers, beside callers with good tokens at a steady pace, in turns with quiet
spells of the same length. Says the p99 of the good callers in both, their ratio, and how often the provider was asked.
Fails when a good token was refused, a bad one passed, or the provider was asked more than once a cool-down.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

E2E = Path(__file__).parents[1] / "e2e"
sys.path[:0] = [str(E2E), str(E2E.parent)]

from authsvc.demo.stack import CONFIG, Stack, stack  # noqa: E402 - the path above is needed first
from load import Calls, callers  # noqa: E402
from machine import facts  # noqa: E402
from test_under_load import FLOOD, WORKERS, forgeries  # noqa: E402

SECONDS, ROUNDS, CONNECTIONS, COOLDOWN_S = 10, 3, 20, 30
GOOD_CALLERS, PAUSE_S = 4, 0.01


def spell(running: Stack, tokens: Path | None) -> tuple[Calls, list[int]]:
    """One spell of good calls; with a flood where there are tokens for one."""
    good, flood = Calls(), None
    valid = running.issuer.token(plan="enterprise")
    with callers(GOOD_CALLERS, running.nginx.port, lambda: valid, good, PAUSE_S):
        if tokens is None:
            subprocess.run(["sleep", str(SECONDS)], check=True)
        else:
            flood = wrk(running.nginx.port, tokens)
    return good, flood or []


def wrk(port: int, tokens: Path) -> list[int]:
    script = Path(__file__).with_name("flood.lua")
    rate = str(FLOOD * 115 // 100 // SECONDS)  # wrk adds its pause to the time of the answer, and falls behind
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    done = subprocess.run(
        [*command, "--", str(tokens), str(CONNECTIONS), rate], capture_output=True, text=True, check=True, timeout=60
    )
    [summary] = [line for line in done.stdout.splitlines() if line.startswith("summary ")]
    return [int(number) for number in summary.split()[1:]]


def main() -> int:
    if shutil.which("wrk") is None:
        print("flood: wrk not found; on Debian or Ubuntu: sudo apt-get install wrk", file=sys.stderr)
        return 1
    print("\n".join(facts()))
    wrong, ratios = 0, []
    with stack(CONFIG, workers=WORKERS) as running, tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(forgeries(running.issuer, FLOOD)))
        file.flush()
        spell(running, None)  # warm
        before = running.issuer.fetches
        for number in range(ROUNDS):
            quiet, _ = spell(running, None)
            flooded, (sent, _, _, _, refused, broken) = spell(running, Path(file.name))
            ratios.append(flooded.percentile(0.99) / quiet.percentile(0.99))
            wrong += sum(status != 200 for status in quiet.statuses + flooded.statuses) + (sent - refused) + broken
            print(
                f"round {number + 1}: {sent} bad tokens in {SECONDS} s; p99 of good ones quiet"
                f" {quiet.percentile(0.99) * 1e3:.1f} ms, flooded {flooded.percentile(0.99) * 1e3:.1f} ms",
                flush=True,
            )
        asked = running.issuer.fetches - before
    allowed = ROUNDS * 2 * SECONDS // COOLDOWN_S + 1
    print(f"p99 ratio {statistics.median(ratios):.2f} (median); downloads {asked} (at most {allowed}); wrong {wrong}")
    return 1 if wrong or asked > allowed else 0


if __name__ == "__main__":
    sys.exit(main())
