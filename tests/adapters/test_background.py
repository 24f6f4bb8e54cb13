"""What goes on in the background goes on, whatever goes wrong."""

from __future__ import annotations

import os
import threading

from authsvc.adapters.background import Background
from waiting import within


class Act:
    """Fails every other time."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self) -> None:
        self.done += 1
        if self.done % 2:
            raise ZeroDivisionError("a text that is not said")


def test_it_is_done_again_and_again_though_it_fails_and_what_failed_is_said() -> None:
    act, said = Act(), list[str]()
    background = Background("limits", act, 0.01, said.append)
    background.start()
    assert within(5, lambda: act.done >= 4)
    background.stop()
    assert set(said) == {"unforeseen ZeroDivisionError in the background of the limits"}


def test_after_the_end_it_is_done_no_more_and_its_thread_is_gone() -> None:
    act = Act()
    background = Background("an-end", act, 0.01, lambda text: None)
    background.start()
    assert within(5, lambda: act.done >= 1)
    background.stop()
    assert within(5, lambda: "authsvc-an-end" not in {thread.name for thread in threading.enumerate()})
    done = act.done
    assert not within(0.1, lambda: act.done > done)


def test_in_a_forked_child_it_goes_on_and_where_it_had_ended_it_does_not() -> None:
    goes_on, ended = Act(), Act()
    backgrounds = [Background("fork", act, 0.01, lambda text: None) for act in (goes_on, ended)]
    for background in backgrounds:
        background.start()
    backgrounds[1].stop()
    child = os.fork()
    if child == 0:
        before = goes_on.done, ended.done
        good = within(5, lambda: goes_on.done > before[0] + 2) and ended.done <= before[1] + 1
        os._exit(0 if good else 1)
    backgrounds[0].stop()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
