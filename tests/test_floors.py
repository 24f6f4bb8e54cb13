"""The shape of the source: imports point down, each library has one importer, core/ is pure, functions are short."""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "authsvc"
FILES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
CORE = {name: tree for name, tree in FILES.items() if name.startswith("core/")}
ADAPTERS = {name: tree for name, tree in FILES.items() if name.startswith("adapters/")}

# What core/ may use of the standard library: nothing in it reads a clock, a file, a socket or an environment.
PURE = {
    "__future__", "ast", "base64", "binascii", "collections", "dataclasses", "enum", "functools", "hashlib", "hmac",
    "ipaddress", "itertools", "json", "math", "re", "string", "typing", "unicodedata",
}  # fmt: skip
SIGNATURE_LIBRARIES = {"jose", "cryptography"}

# Each third-party library and the one module, or the one package with a / at its end, that imports it.
IMPORTERS = {
    "click": {"apikeytool.py", "cli.py", "commands.py", "migrationcommands.py", "options.py"},
    "falcon": {"app.py"},
    "gunicorn": {"server.py", "worker.py"},  # its settings and its arbiter; the worker that the arbiter starts
    "gunicorn_h1c": {"httpwire.py"},
    "jose": {"core/signature.py"},
    "pydantic": {"adapters/schema/"},
    "pydantic_core": {"adapters/schema/"},  # a part of pydantic
    "pymemcache": {"adapters/memcached.py"},
    "requests": {"adapters/fetch.py"},
    "uvloop": {"worker.py"},
    "urllib3": {"adapters/fetch.py"},  # what requests is made of, and what it lets through
    "yaml": {"adapters/yamlfile.py"},
    # Exception: gunicorn's child_exit hook in server.py must tell prometheus-client which worker ended.
    "prometheus_client": {"adapters/journal.py", "server.py"},
}
CLOCKS = {"time", "monotonic", "perf_counter", "now", "utcnow", "today", "time_ns", "process_time", "localtime"}
WORLDLY = {"open", "print", "input", "eval", "exec", "compile", "__import__"}


def imported(tree: ast.AST) -> set[str]:
    """Every module that is imported anywhere in the tree, lazily or for types only, as a dotted name."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that a floor can be read off them"
            names |= {node.module or ""} | {f"{node.module}.{one.name}" for one in node.names}
    return names


def tops(tree: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in imported(tree)}


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("name", CORE)
def test_core_uses_nothing_that_touches_the_world(name):
    allowed = PURE | {"authsvc"} | (SIGNATURE_LIBRARIES if name == "core/signature.py" else set())
    assert tops(CORE[name]) <= allowed


@pytest.mark.parametrize("name", CORE)
def test_core_imports_only_core(name):
    ours = {module for module in imported(CORE[name]) if module.startswith("authsvc")}
    assert all(module.startswith("authsvc.core") for module in ours)


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_import_only_adapters_and_core(name):
    ours = {module for module in imported(ADAPTERS[name]) if module.startswith("authsvc")}
    assert all(module.startswith(("authsvc.core", "authsvc.adapters")) for module in ours)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("demo/") and name != "cli.py"])
def test_nothing_but_the_command_line_imports_the_demo(name):
    assert not any(module.startswith("authsvc.demo") for module in imported(FILES[name]))


def importer(name: str) -> str:
    """The module, or its package where that is listed as one."""
    package = name.rpartition("/")[0] + "/"
    return package if any(package in places for places in IMPORTERS.values()) else name


@pytest.mark.parametrize("library", IMPORTERS)
def test_a_library_has_one_importer(library):
    assert {importer(name) for name, tree in FILES.items() if library in tops(tree)} == IMPORTERS[library]


def test_prometheus_client_is_imported_by_the_server_only_where_a_worker_ends():
    at_the_top = ast.Module([node for node in FILES["server.py"].body if not hasattr(node, "body")], [])
    assert "prometheus_client" not in tops(at_the_top)


def test_cryptography_is_imported_for_signatures_and_by_the_demo_that_makes_some():
    users = {name for name, tree in FILES.items() if "cryptography" in tops(tree)}
    assert {name for name in users if not name.startswith("demo/")} == {"core/signature.py"}


def test_no_other_library_is_imported_at_all():
    known = {*IMPORTERS, "cryptography", "authsvc"} | set(sys.stdlib_module_names)
    assert {top for tree in FILES.values() for top in tops(tree)} <= known


@pytest.mark.parametrize("name", CORE)
def test_core_reads_no_clock(name):
    called = [node.func for node in ast.walk(CORE[name]) if isinstance(node, ast.Call)]
    assert not {one.attr for one in called if isinstance(one, ast.Attribute)} & CLOCKS
    assert not {one.id for one in called if isinstance(one, ast.Name)} & (CLOCKS | WORLDLY)


@pytest.mark.parametrize("name", CORE)
def test_core_keeps_no_state_between_calls(name):
    assert not [node for node in ast.walk(CORE[name]) if isinstance(node, ast.Global | ast.Nonlocal)]


@pytest.mark.parametrize("name", FILES)
def test_no_function_is_longer_than_fifty_lines(name):
    assert {one.name: length(one) for one in functions(FILES[name]) if length(one) > 50} == {}


def test_half_of_the_functions_are_shorter_than_ten_lines():
    assert statistics.median(length(one) for tree in FILES.values() for one in functions(tree)) < 10


@pytest.mark.parametrize("name", FILES)
def test_no_file_reaches_350_lines(name):
    assert len((ROOT / name).read_text().splitlines()) < 350


def test_what_is_compiled_exists_and_imports_no_library_but_the_parser():
    """Each is compiled where nothing but mypy is installed: a library's types would be unknown there."""
    (given,) = [
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT.parent / "setup.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED"
    ]
    names = [f"{folder}/{name}.py".removeprefix("authsvc/") for folder, names in given.items() for name in names]
    used = {top for name in names for top in tops(FILES[name])} - set(sys.stdlib_module_names)
    assert used == {"authsvc", "gunicorn_h1c"}


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_what_it_is(name):
    assert ast.get_docstring(FILES[name]) or not FILES[name].body
