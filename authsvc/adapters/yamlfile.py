"""Reads a YAML file as plain data and remembers where everything stood. The only importer of PyYAML.

Duplicate keys, which YAML readers accept in silence, are mistakes here; `${NAME}` takes a value from the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from authsvc.adapters.visible import visible as visible  # who reads the file shows words of it

MAX_MIB = 4
MAX_VALUES = 200_000  # ten thousand rules of twenty values; a few aliases of aliases would make millions
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CURES = {  # a part of what PyYAML says, and what is said in its place
    r"character '\t'": "a tab: indent with spaces",
    "mapping values are not allowed here": "{}: check the indentation, and the blank after ':'",
    "could not find expected ':'": "{}: check the indentation, and the blank after ':'",
    "expected <block end>": "{}: check the indentation",
    "that cannot start any token": "{}: put quotes around the value",
}

Path = tuple[str | int, ...]
Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong: where it stands (path into the data, or a position of its own) and what to do."""

    path: Path
    text: str
    at: Position | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What is no mistake and worth knowing, and where it stands, if it does not concern the config as a whole."""

    text: str
    path: Path = ()


class _TooMuch(Exception):
    """The file stands for more values than any config has."""


@dataclass(slots=True)
class Document:
    """The data, the position of each value and of each key (line and column, from 1), and what was wrong already."""

    data: Any = None
    values: dict[Path, Position] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    unread: set[Path] = field(default_factory=set)

    def concerns_unread(self, path: Path) -> bool:
        """Whether a later mistake at `path` would only repeat that a value could not be read."""
        return any(path == known[: len(path)] or known == path[: len(known)] for known in self.unread)

    def written(self, path: Path) -> Path:
        """The path as the file has it: without the position in a list where one value stands for the list."""
        while path and isinstance(path[-1], int) and path not in self.values:
            path = path[:-1]
        return path

    def locate(self, path: Path) -> Position:
        """Where a path stands: its key, else its value, else the nearest part of it that exists."""
        while path and path not in self.values:
            path = path[:-1]
        return self.keys.get(path) or self.values.get(path) or (1, 1)


_IN_C: Any = getattr(yaml, "CSafeLoader", object)  # a PyYAML may be built without it


class _Quick(yaml.composer.Composer, _IN_C):  # type: ignore[misc]  # the base is chosen above
    """Scans and parses in C, a tenth of the time. Composes in Python: in C a deep nesting would end the process."""

    def __init__(self, text: str) -> None:
        _IN_C.__init__(self, text)
        yaml.composer.Composer.__init__(self)


_TOUCHING = re.compile(r"[|>][-+0-9]*#")


def _loader(text: str, quick: bool) -> Any:
    """The quick one for texts that both read alike: not with a tab or a ?, which only the one in C takes anywhere, nor
    with a !, of which it makes a text where nothing follows, nor with a comment that touches the | before it."""
    plain = quick and not set("?!") & set(text) and text.replace("\n", "").isprintable()
    alike = plain and _TOUCHING.search(text) is None
    return _Quick(text) if alike and _IN_C is not object else yaml.SafeLoader(text)


def read(text: str, environ: Mapping[str, str], *, quick: bool = False) -> Document:
    """Never raises for what stands in the file; look at `mistakes`.

    A `quick` reading may say of what is left empty that it stands elsewhere, and of what is no YAML another reason: who
    finds mistakes in it reads again.
    """
    document = Document()
    if len(text) > MAX_MIB * 1024 * 1024:
        document.mistakes.append(Mistake((), f"the file is larger than {MAX_MIB} MiB", (1, 1)))
        return document
    try:
        loader = _loader(text, quick)
        root = loader.get_single_node()
        if root is not None:
            document.data = _Reader(loader, document, environ).value(root, ())
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        document.mistakes.append(Mistake((), f"this is not YAML: {_said(problem)}", at))
    except _TooMuch:
        text = f"the file stands for more than {MAX_VALUES} values, each alias counted anew: shorten it"
        document.mistakes = [Mistake((), text, (1, 1))]
    except RecursionError:
        document.mistakes.append(Mistake((), "nested too deep", (1, 1)))
    except yaml.YAMLError:
        document.mistakes.append(Mistake((), "this is not YAML: it holds a character that YAML does not allow", (1, 1)))
    return document


def _said(problem: yaml.MarkedYAMLError) -> str:
    """The reader's words, and where the cause is a usual one, what to do about it."""
    said = (problem.problem or "it cannot be read").removeprefix("but ")
    alias = re.fullmatch(r"found undefined alias '(.*)'", said)
    if problem.context == "while scanning an alias":
        return "a * that starts a value means something else in YAML: put quotes around *"
    if alias:
        return f"{said}: put quotes around *{alias[1]}"
    return next((text.format(said) for cause, text in _CURES.items() if cause in said), said)


class _Reader:
    def __init__(self, loader: Any, document: Document, environ: Mapping[str, str]) -> None:
        self._loader, self._document, self._environ = loader, document, environ

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._document.values[path] = _at(node)
        if len(self._document.values) > MAX_VALUES:
            raise _TooMuch
        if len(path) > 20:
            return self._unread(node, path, "nested too deep")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                self._mistake(key_node, path, "a setting's name must be a word")
                continue
            if key in found:
                line = self._document.keys[(*path, key)][0]
                self._mistake(key_node, (*path, key), f"stands twice, first in line {line}: remove one of them")
                continue
            self._document.keys[(*path, key)] = _at(key_node)
            found[key] = self.value(value_node, (*path, key))
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError):  # `!!bool 1`, `!!timestamp x`
            return self._unread(node, path, "this value cannot be read: put it in quotes")
        return self._fill(value, node, path) if isinstance(value, str) else value

    def _fill(self, text: str, node: yaml.Node, path: Path) -> str:
        for name in _VARIABLE.findall(text):
            if name not in self._environ:
                self._unread(node, path, f"the environment has no {name}: set it, or write the value here")
        return _VARIABLE.sub(lambda match: self._environ.get(match[1], ""), text)

    def _unread(self, node: yaml.Node, path: Path, text: str) -> None:
        self._document.unread.add(path)
        self._mistake(node, path, text)

    def _mistake(self, node: yaml.Node, path: Path, text: str) -> None:
        self._document.mistakes.append(Mistake(path, text, _at(node)))


def _at(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1
