"""Modules import their own layer or a lower one, as the design lists them, and never in a circle.

Every import counts: inside of functions, for type checkers only, and by ``import_module()``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import Optional

import pytest

from tests.helpers.programs import run_python

ROOT = Path(__file__).parents[2]
PACKAGE = "pyclustershell"

# By the first part of a module's name below the package; a module that stands on top and is not
# listed is a value.
LAYERS = {
    "engine": 1,
    "local": 2,
    "nodeset": 3,
    "rangeset": 3,
    "results": 3,
    "ssh": 4,
    "worker": 5,
    "task": 6,
    "aio": 7,
    "cli": 7,
    "compat": 7,
    "loopback": 7,
    "__main__": 7,
}
# The folders of ssh/ have an order as well; "" stands for the modules of ssh/ itself.
SSH_LAYERS = {
    "config": 0,
    "protocol": 1,
    "auth": 2,
    "connect": 2,
    "hostkeys": 2,
    "": 3,
    "sftp": 4,
}
VALUES_LAYER = 0  # exceptions, records, results, msgtree, event ...

# Third-party and standard modules that only some folders may import, inside a function or not.
CONFINED = {
    "asyncio": {"aio"},
    "cryptography": {"ssh", "loopback"},
    "paramiko": {"ssh", "loopback"},
    "subprocess": {"local"},
}

# Modules that import by a name that is computed, and why this cannot break the layers.
IMPORTS_BY_NAME = {
    f"{PACKAGE}": "the package's face: public names of any layer, each imported at first use",
    f"{PACKAGE}.compat": "the top layer: ClusterShell's names for this package's modules",
    f"{PACKAGE}.cli.wrappers": "the top layer: the programs of its own folder",
    f"{PACKAGE}.compat.CLI.Clush": "the top layer: workers by the name that a user gives",
    f"{PACKAGE}.compat.names": "the top layer: modules of the standard library",
    f"{PACKAGE}.worker.registry": "worker classes by name: its own folder's, or a user's module",
}

# Modules of the standard library that Windows does not have.
POSIX_ONLY = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "spwd"}
POSIX_ONLY |= {"syslog", "termios", "tty"}
# Layer 0 must not import these: descriptors, signals, the network.
NO_VALUES = {"asyncio", "select", "selectors", "signal", "socket", "ssl"}

# Only this module may ask for the operating system.
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


def layer(module: str) -> tuple[int, int]:
    """The layer of a module, and the order of its folder in that layer (in ssh/; 0 elsewhere)."""
    parts = module.split(".")
    if len(parts) < 2:
        return max(LAYERS.values()), 0
    order = SSH_LAYERS[folder(module).partition("/")[2]] if parts[1] == "ssh" else 0
    return LAYERS.get(parts[1], VALUES_LAYER), order


def folder(module: str) -> str:
    """The folder below the package that a module stands in: "" for those on top, "ssh/auth" ..."""
    path = MODULES[module].parent
    return "" if path.name == PACKAGE else path.relative_to(ROOT / PACKAGE).as_posix()


def imports(module: str, *, functions: bool = True) -> Iterator[tuple[str, int]]:
    """The absolute names of the modules that a module imports, each with its line.

    For ``from x import y`` this is x.y if that is one of MODULES, and x otherwise. Imports for type
    checkers count, and so does ``import_module("x")``.

    Args:
        module: a name of MODULES.
        functions: whether what is imported inside of functions counts.
    """
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = importers(tree)
    todo: list[ast.AST] = [tree]
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
            # Only type checkers see the body: it brings nothing at run time.
            todo += [*node.body, *node.orelse] if functions else node.orelse
        elif functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
            name = imported_by_string(node, package, called)
            if name is not None:
                yield name, node.lineno


# Functions that import the module that they are given by name, under whatever name they are called.
_IMPORTERS = ("import_module", "__import__", "resolve_name")


def importers(tree: ast.AST) -> set[str]:
    """The names under which a module calls what imports by name."""
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("importlib", "pkgutil")
        for alias in node.names
        if alias.name in _IMPORTERS
    }
    return {"__import__", "importlib.import_module", "pkgutil.resolve_name", *aliases}


def imported_by_string(node: ast.AST, package: str, called: set[str]) -> Optional[str]:
    """The module that a node imports by name; "" if the name is computed, None if it does not.

    Args:
        node: a call such as ``import_module("...")``, or ``sys.modules["..."]``.
        package: the package that relative names begin at.
        called: see importers().
    """
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "sys.modules":
        name: Optional[ast.expr] = node.slice
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in called:
        keywords = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
        name = next(iter([*node.args, *keywords]), None)
    else:
        return None
    if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
        return ""
    return resolve_name(name.value.partition(":")[0], package)


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


def test_no_circles_between_folders() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        for name in own_imports(module):
            graph.setdefault(folder(module), set()).add(folder(name))
    # The modules on top are values, which import no folder, and faces, which nothing imports.
    graph.pop("", None)
    for start, reached in graph.items():
        todo, seen = list(reached - {start}), set()
        while todo:
            place = todo.pop()
            assert place != start, f"{start} and a folder that it imports import each other"
            if place not in seen:
                seen.add(place)
                todo += graph.get(place, set()) - {place}


@pytest.mark.parametrize("module", MODULES)
def test_imports_by_a_computed_name_are_known(module: str) -> None:
    lines = [line for name, line in imports(module) if not name]
    assert lines == [] or module in IMPORTS_BY_NAME, f"line {lines}"


@pytest.mark.parametrize("module", MODULES)
def test_confined_modules_are_imported_in_one_place(module: str) -> None:
    place = module.split(".")[1] if "." in module else ""
    strays = [
        f"line {line}: {name}"
        for name, line in imports(module)
        if place not in CONFINED.get(name.split(".")[0], {place})
    ]
    assert strays == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_posix_only_at_import(module: str) -> None:
    found = {name.split(".")[0] for name, _ in imports(module, functions=False)}
    assert found & POSIX_ONLY == set()


@pytest.mark.parametrize("module", [name for name in MODULES if layer(name)[0] == VALUES_LAYER])
def test_values_need_the_standard_library_only(module: str) -> None:
    found = {name.split(".")[0] for name, _ in imports(module)} - {PACKAGE}
    assert found & NO_VALUES == set()
    if sys.version_info >= (3, 10):
        # PyYAML is imported when a group file is read.
        assert found - sys.stdlib_module_names - {"yaml"} == set()


# Functions that start a process without subprocess.
STARTERS = re.compile(r"os\.(popen|system|posix_spawnp?|spawn[lv]p?e?|exec[lv]p?e?|startfile)")


@pytest.mark.parametrize("module", [name for name in MODULES if folder(name) != "local"])
def test_processes_are_started_in_one_folder(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    called = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert [name for name in called if STARTERS.fullmatch(name)] == []


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
def test_only_one_module_asks_for_the_system(module: str) -> None:
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
        "from importlib import import_module as load\n"
        "from typing import TYPE_CHECKING\n"
        "import os.path\n"
        "from .engine import engine\n"
        "from . import results\n"
        "if TYPE_CHECKING:\n    import pty\nelse:\n    import fcntl\n"
        "def function():\n    import pwd\n    load('.printable', __package__)\n"
        "def by_name(name):\n"
        "    load(name=f'{__package__}.task')\n"
        "    __import__('subprocess'); pkgutil.resolve_name('paramiko:Transport')\n"
        "    sys.modules['pyclustershell.task.task']\n"
        "class Class:\n    import grp\n"
    )
    monkeypatch.setitem(MODULES, f"{PACKAGE}.module", path)
    expected = {"importlib", "typing", "os.path"}
    expected |= {f"{PACKAGE}.engine.engine", f"{PACKAGE}.results"}
    expected |= {"fcntl", "grp"}
    assert {name for name, _ in imports(f"{PACKAGE}.module", functions=False)} == expected
    expected |= {"pty", "pwd", f"{PACKAGE}.printable"}
    expected |= {"", "subprocess", "paramiko", f"{PACKAGE}.task.task"}
    assert {name for name, _ in imports(f"{PACKAGE}.module")} == expected


# -- what an import does ---------------------------------------------------------------------------


@pytest.mark.parametrize("module", [PACKAGE, *(m for m in MODULES if layer(m)[0] == VALUES_LAYER)])
def test_import_does_not_bring_paramiko(module: str) -> None:
    heavy = "{'paramiko', 'cryptography', 'subprocess', 'yaml', 'asyncio'}"
    assert run_python(f"import {module}, sys; print({heavy} & set(sys.modules))") == "set()\n"


@pytest.mark.posix_only("open() of compiled modules is seen there with other names")
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
