"""Lets the rest of a misshapen config be checked in the same run, so that all its mistakes are told at once.

What does not fit its shape is replaced by a stopgap or left out. The result is only ever checked, never used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from authsvc.adapters.yamlfile import Path

STOPGAP = "STOPGAP"
_ROUNDS = 6  # each mends what the one before left: first a stopgap, then nothing at all

Misfit = tuple[Path, str]  # where, and pydantic's name for what is wrong


def fit(data: Any, misfits: Callable[[Any], Sequence[Misfit]]) -> Any:
    """A copy of `data` in which `misfits` finds nothing more, or `None` where that cannot be had."""
    data = copy.deepcopy(data)
    for number in range(_ROUNDS):
        found = misfits(data)
        if not found:
            return data
        for path, kind in reversed(found):  # from the end, so that list positions stay true
            _mend(data, *_again(path, kind, number))
    return None


def _again(path: Path, kind: str, number: int) -> Misfit:
    """What no stopgap fits, and what must not be missing, takes that with it which it is a part of."""
    return (path[:-1], "extra_forbidden") if kind == "missing" and number > 1 and len(path) > 1 else (path, kind)


def _mend(data: Any, path: Path, kind: str) -> None:
    try:
        for part in path[:-1]:
            data = data[part]
        if kind == "extra_forbidden" or (kind != "missing" and data[path[-1]] in (STOPGAP, {})):
            del data[path[-1]]
        else:
            data[path[-1]] = {} if kind in ("model_type", "dict_type") else STOPGAP
    except (KeyError, IndexError, TypeError):
        return  # an earlier mending has taken it away
