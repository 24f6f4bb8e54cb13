"""Tables, promises and picture, from figures made up here."""

import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from plot import svg  # noqa: E402 - the path above is needed first
from promises import PROMISES, Result, judged  # noqa: E402
from quiet import EVERY_S, Watch  # noqa: E402
from report import BEGIN, END, between_marks, headline, markdown, text  # noqa: E402
from wrk import Figures, medians, quietest  # noqa: E402


def figures(requests_s: float, service_us: float = 10, nginx_us: float = 30) -> Figures:
    return Figures(requests_s, 1.0, 2.0, nginx_us, service_us, 0)


RESULT = Result(
    facts=["2 cores, a machine <made up>"],
    shape="medians of 3 x 5 s",
    names={"A": "null", "C": "full", "R": "HAProxy", "Z": "nginx", "R0": "HAProxy without"},
    bare={"A": "Z", "C": "Z", "R": "R0", "Z": "Z", "R0": "Z"},
    figures={
        "A": figures(10_000), "C": figures(9_000, 40), "R": figures(8_000, 60, 0),
        "Z": figures(50_000, 0, 10), "R0": figures(40_000, 10, 0),
    },
    rate=4500,
    paced={"A": figures(4500), "C": figures(4500)},
    left_out=["left out: Q Envoy: not installed"],
)  # fmt: skip


def test_added_is_what_the_same_front_does_not_cost_without_authentication() -> None:
    assert [RESULT.added_us(key) for key in "ACR"] == [30, 60, 50]


def test_a_promise_is_judged_where_its_rows_were_measured() -> None:
    said = {words: (measured, kept) for words, _, measured, kept, *_ in judged(RESULT)}
    assert said["C, requests a second, of the null ceiling A"] == ("0.90", "yes")
    assert said["C, CPU a request in the service"] == ("40 µs", "yes")
    assert said["C, CPU added to nginx, of what R adds to HAProxy"] == ("1.20", "no")
    assert said["C, p99 at half of its rate, of A at the same"] == ("1.00", "yes")
    assert len(said) == 5 < len(PROMISES)


def test_one_worker_and_plain_python_are_judged_beside_two_workers_by_rows_of_their_own() -> None:
    more = {"C1": figures(8_000, 20), "W": figures(9_500, 30)}
    every = replace(RESULT, figures={**RESULT.figures, **more}, bare={**RESULT.bare, "C1": "Z", "W": "Z"})
    said = {words: rest for words, _, *rest in judged(every)}
    assert said["C, requests a second, of the null ceiling A"] == ["0.90", "yes", "0.80", "no", "0.95", "yes"]
    assert said["C, CPU added to nginx, of what R adds to HAProxy"] == ["1.20", "no", "0.80", "yes", "1.00", "yes"]
    assert said["C, p99 at half of its rate, of A at the same"] == ["1.00", "yes", "–", "–", "–", "–"]


def test_turns_in_which_the_machine_was_slowed_are_left_out_of_the_medians() -> None:
    turns = [
        replace(figures(requests_s), slowed=slowed) for requests_s, slowed in ((5, 1.7), (9, 1.1), (4, 1.8), (8, 1.2))
    ]
    assert quietest(turns, 2) == [turns[1], turns[3]]
    assert quietest(turns, 9) == sorted(turns, key=lambda one: one.slowed)  # all, where there are no more


def test_a_promise_is_judged_by_the_rounds_in_which_its_rows_were_least_slowed() -> None:
    """Rows of one round are slowed alike; a row that it does not need may have been slowed."""
    rounds = [
        replace(
            RESULT, figures={"A": replace(figures(10_000), slowed=null), "C": replace(figures(of_null), slowed=full)}
        )
        for of_null, null, full in ((9_000, 1.1, 1.1), (5_000, 1.1, 1.9), (8_800, 1.2, 1.1), (19_000, 1.8, 1.1))
    ]
    rounds.append(replace(RESULT, figures={"A": figures(10_000)}))  # C had no turn any more
    rounds[2].figures["R"] = replace(figures(1), slowed=2.0)
    said = {words: measured for words, _, measured, *_ in judged(replace(RESULT, rounds=rounds, judged_by=2))}
    assert said["C, requests a second, of the null ceiling A"] == "0.89"


def test_a_core_that_somebody_else_computes_on_is_felt() -> None:
    watch = Watch(cores=set())
    watch._taken = [0.1, 0.1]
    assert watch.lap() == 1.0
    watch._taken = [0.1, 0.2]
    assert watch.lap() == pytest.approx(1.5)
    assert watch.lap() == 1.0  # nothing was computed since


def test_one_sum_that_the_clock_cut_short_does_not_make_all_others_seem_slowed() -> None:
    watch = Watch(cores=set())
    watch._taken = [0.05] + [0.1] * 199
    assert watch.lap() == pytest.approx(1, abs=0.01)


def test_each_core_is_asked_again_and_again_until_the_watch_ends() -> None:
    with Watch() as watch:
        time.sleep(10 * EVERY_S)
        assert watch.lap() >= 1.0
        assert watch._all[0] > 0


def test_the_table_has_a_line_for_each_row_and_says_who_is_missing() -> None:
    said = text(RESULT)
    assert all(f"\n{key} " in said for key in RESULT.names)
    assert "left out: Q Envoy" in said
    assert "| C | full | 9000 | 90% | 1.00 | 2.00 | 40 | 30 | 0 | 70 | 60 | 1.00 | 0 |" in markdown(RESULT)
    assert "| C: full | 9000 | 90% | 2.00 | 40 µs | 70 µs |" in headline(RESULT)


def test_without_the_null_ceiling_there_are_still_figures() -> None:
    alone = replace(RESULT, figures={"R": RESULT.figures["R"]}, paced={})
    assert "| R | HAProxy | 8000 | – | 1.00 | 2.00 | 60 | 0 | 0 | 60 | – | 1.00 | 0 |" in markdown(alone)
    assert not judged(alone)


def test_only_what_is_between_the_marks_of_a_page_is_replaced() -> None:
    page = f"a\n{BEGIN}\nold\n{END}\nb\n"
    assert between_marks(page, "new") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    assert between_marks("no marks\n", "new") == "no marks\n"


def test_the_picture_is_well_formed_and_names_each_row() -> None:
    words = [one.text for one in ET.fromstring(svg(RESULT)).iter("{http://www.w3.org/2000/svg}text")]
    assert {f"{key}  {name}" for key, name in RESULT.names.items()} <= set(words)
    assert "2 cores, a machine <made up>" in words


def test_wrong_answers_of_all_runs_are_added_up() -> None:
    assert medians([replace(figures(1), errors=2), figures(3), figures(2)]) == replace(figures(2), errors=2)
