"""Modules import their own layer or a lower one, as the design lists them, and never in a circle.

What is imported for type checkers only does not count: a handler's methods may name the worker that
they get, and nothing of it exists at run time.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "pyclustershell"

# The first match counts: a module by its name, everything else by its sub-package.
LAYERS = {
    "transport": 2,
    "engine": 1,
    "worker": 3,
    "task": 4,
    "taskconnections": 4,
    "taskresults": 4,
    "taskscheduling": 4,
    "tasksettings": 4,
    "taskthread": 4,
    "tasktopology": 4,
    "compat": 5,
    "loopback": 5,
    "cli": 5,
    "__main__": 5,
}
VALUES_LAYER = 0  # modules on top that LAYERS does not name: exceptions, nodeset, results ...

# What only one place may import, at module level or inside a function.
CONFINED = {"paramiko": "transport", "subprocess": "transport", "cryptography": "transport"}

# Modules of the standard library that Windows does not have.
POSIX_ONLY = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "spwd"}
POSIX_ONLY |= {"syslog", "termios", "tty"}
# What a module of layer 0 has no use for: descriptors, threads' clocks, processes, the network.
NO_VALUES = {"asyncio", "select", "selectors", "signal", "socket", "ssl"}

# Who may ask what system this is: one module. (The other one asks how paths are quoted.)
MAY_ASK = {f"{PACKAGE}.platform"}
ASKS = {"sys.platform", "os.name", "os.uname", "platform.system"}


def modules() -> dict[str, Path]:
    """The package's modules by dotted name."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def layer(module: str) -> int:
    parts = module.split(".")
    return LAYERS.get(parts[1], VALUES_LAYER) if len(parts) > 1 else max(LAYERS.values())


def imports(module: str, *, functions: bool = True) -> Iterator[tuple[str, int]]:
    """The absolute names of what a module imports at run time, each with its line.

    Of ``from x import y``, that is x.y where this is a module of ours, and x otherwise.

    Args:
        module: a name of MODULES.
        functions: whether what is imported inside of functions counts.
    """
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if name in MODULES else base, node.lineno
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            todo += node.orelse
        elif functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)


def own_imports(module: str) -> dict[str, int]:
    """The modules of this package that a module imports, each with its line."""
    return {name: line for name, line in imports(module) if name in MODULES and name != module}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_to_the_same_layer_or_down(module: str) -> None:
    up = [
        f"line {line}: {module} (layer {layer(module)}) imports {name} (layer {layer(name)})"
        for name, line in own_imports(module).items()
        if layer(name) > layer(module)
    ]
    assert up == []


def test_no_circles() -> None:
    # Imports inside of functions make circles, too, which only do not show at import time.
    graph = {name: set(own_imports(name)) for name in MODULES}
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            circle = [*path[path.index(module) :], module]
            pytest.fail(" -> ".join(circle))
        if module not in done:
            for imported in sorted(graph[module]):
                walk(imported, [*path, module])
            done.add(module)

    for module in MODULES:
        walk(module, [])


@pytest.mark.parametrize("module", MODULES)
def test_confined_modules_are_imported_in_one_place(module: str) -> None:
    place = module.split(".")[1] if "." in module else ""
    strays = [
        f"line {line}: {name}"
        for name, line in imports(module)
        if CONFINED.get(name.split(".")[0], place) != place
    ]
    assert strays == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_posix_only_at_import(module: str) -> None:
    found = {name.split(".")[0] for name, _ in imports(module, functions=False)}
    assert found & POSIX_ONLY == set()


@pytest.mark.parametrize("module", [name for name in MODULES if layer(name) == VALUES_LAYER])
def test_values_need_the_standard_library_only(module: str) -> None:
    found = {name.split(".")[0] for name, _ in imports(module)} - {PACKAGE}
    assert found & NO_VALUES == set()
    if sys.version_info >= (3, 10):
        # PyYAML is an extra, imported when a group file is read.
        assert found - sys.stdlib_module_names - {"yaml"} == set()


def questions(path: Path) -> list[str]:
    """Where a file asks what system this is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    asked = [(node.lineno, ast.unparse(node)) for node in nodes if isinstance(node, ast.Attribute)]
    asked += [
        (node.lineno, f"{node.module}.{alias.name}")
        for node in nodes
        if isinstance(node, ast.ImportFrom) and not node.level
        for alias in node.names
    ]
    return [f"line {line}: {name}" for line, name in asked if name in ASKS]


@pytest.mark.parametrize("module", [name for name in MODULES if name not in MAY_ASK])
def test_only_one_module_asks_what_system_this_is(module: str) -> None:
    assert questions(MODULES[module]) == []


def test_this_test_sees_questions(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import os, sys\nfrom sys import platform\nsys.platform.startswith(os.name)\n")
    assert sorted(questions(path)) == [
        "line 2: sys.platform",
        "line 3: os.name",
        "line 3: sys.platform",
    ]


def test_this_test_sees_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "import os.path\n"
        "from .engine import engine\n"
        "from . import results\n"
        "if TYPE_CHECKING:\n    import pty\nelse:\n    import fcntl\n"
        "def function():\n    import pwd\n"
        "class Class:\n    import grp\n"
    )
    monkeypatch.setitem(MODULES, f"{PACKAGE}.module", path)
    expected = {"typing", "os.path", f"{PACKAGE}.engine.engine", f"{PACKAGE}.results"}
    expected |= {"fcntl", "grp"}
    assert {name for name, _ in imports(f"{PACKAGE}.module", functions=False)} == expected
    assert {name for name, _ in imports(f"{PACKAGE}.module")} == expected | {"pwd"}


# -- what an import does ---------------------------------------------------------------------------


def run_python(code: str) -> str:
    """Run code in a new interpreter; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.strip()


@pytest.mark.parametrize("module", [PACKAGE, *(m for m in MODULES if layer(m) == VALUES_LAYER)])
def test_import_does_not_bring_paramiko(module: str) -> None:
    heavy = "{'paramiko', 'cryptography', 'subprocess', 'yaml', 'asyncio'}"
    assert run_python(f"import {module}, sys; print({heavy} & set(sys.modules))") == "set()"


def test_import_reads_nothing_and_starts_nothing() -> None:
    code = f"""
import os, sys, sysconfig, threading
ours = {str(ROOT / PACKAGE)!r}
library = (ours, *sysconfig.get_paths().values(), *filter(None, sys.path))
code = (".py", ".pyc", ".so", ".pyi")
def audit(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork",
                 "socket.connect", "socket.bind", "socket.getaddrinfo", "_thread.start_new_thread"):
        print(event, arguments)
    if event == "open" and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        # importlib writes a .pyc under a temporary name: "module.cpython-311.pyc.140234".
        module = any(suffix in os.path.basename(path) for suffix in code)
        if not (module and path.startswith(library)):
            print("open", path)
sys.addaudithook(audit)
import {PACKAGE}
"""
    assert run_python(code) == ""
