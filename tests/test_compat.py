"""``import ClusterShell`` gives this package, name by name."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyclustershell.compat import install_as_clustershell
from pyclustershell.compat.names import MODULES

#: Names of ClusterShell's modules that are not given, each with its reason.
LEFT_OUT = {
    # What ClusterShell's modules hold of the standard library's subprocess.
    "NodeUtils.DEVNULL": "subprocess's",
    "NodeUtils.PIPE": "subprocess's",
    "Worker.EngineClient.PIPE": "subprocess's",
    "Worker.EngineClient.STDOUT": "subprocess's",
    # Engine and clients share no streams here: clients register descriptors of their own.
    "Worker.EngineClient.EngineClientStream": "an internal of ClusterShell's engine",
    "Worker.EngineClient.EngineClientStreamDict": "an internal of ClusterShell's engine",
}


#: What ClusterShell's modules merely import, for their own use.
OF_ITS_OWN_USE = {
    *("ConfigParser", "DEVNULL", "EngineClientStream", "EngineClientStreamDict", "LOGGER"),
    *("NoOptionError", "NoSectionError", "PIPE", "Popen", "PropagationChannel"),
    *("PropagationTreeRouter", "STDOUT", "Template", "TreeWorker", "basestring", "filterfalse"),
    *("getfullargspec", "mul", "print_function", "product", "reduce", "set_nonblock_flag", "wraps"),
}

#: Modules with a name whose home is still to be written.
PENDING: dict[str, str] = {}


def run_python(code: str, *arguments: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, *arguments, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def ours(code: str) -> str:
    """What code prints after install_as_clustershell()."""
    return run_python(
        f"import pyclustershell.compat\npyclustershell.compat.install_as_clustershell()\n{code}"
    )


# -- the names -------------------------------------------------------------------------------------


def exported(module: ModuleType) -> set[str]:
    """The public names that a module defines, and does not merely import."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", module.__name__) == module.__name__
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_of_clustershell_is_there(name: str) -> None:
    if importlib.util.find_spec("ClusterShell") is None:
        pytest.skip("ClusterShell is not installed: pip install ClusterShell")
    theirs = importlib.import_module(f"ClusterShell.{name}".rstrip("."))
    left_out = {n.rpartition(".")[2] for n in LEFT_OUT if n.rpartition(".")[0] == name}
    assert exported(theirs) - set(MODULES[name]) == left_out


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(reason=PENDING[name]) if name in PENDING else ())
        for name in MODULES
    ],
)
def test_every_name_of_the_table_can_be_had(name: str) -> None:
    code = f"""
import importlib, json
module = importlib.import_module("ClusterShell.{name}".rstrip("."))
missing = []
for name in {sorted(MODULES[name])!r}:
    try:
        getattr(module, name)
    except (AttributeError, ImportError) as error:
        missing.append(f"{{name}}: {{error}}")
print(json.dumps(missing))
"""
    assert json.loads(ours(code)) == []


def test_classes_are_this_packages() -> None:
    code = """
from ClusterShell.Task import Task, task_self, TimeoutError
from ClusterShell.NodeSet import NodeSet
from ClusterShell.Worker.Ssh import WorkerSsh
import ClusterShell, pyclustershell.task, pyclustershell.nodeset, pyclustershell.worker.ssh
assert Task is pyclustershell.task.Task
assert NodeSet is pyclustershell.nodeset.NodeSet
assert WorkerSsh is pyclustershell.worker.ssh.WorkerSsh
print(ClusterShell.__version__, ClusterShell.__version_info__)
"""
    assert ours(code) == "1.10.1 (1, 10, 1)\n"


@pytest.mark.parametrize(
    ("caught", "raised"),
    [
        ("Task.TaskException", "Task.TimeoutError"),
        ("Task.TaskError", "Task.AlreadyRunningError"),
        ("Engine.Engine.EngineTimeoutException", "Task.TimeoutError"),
        ("Engine.Engine.EngineAlreadyRunningError", "Task.AlreadyRunningError"),
        ("Engine.Engine.EngineException", "Engine.Engine.EngineIllegalOperationError"),
        ("Worker.Worker.WorkerException", "Worker.Worker.WorkerError"),
        ("Worker.EngineClient.EngineClientException", "Worker.EngineClient.EngineClientError"),
        (
            "Worker.EngineClient.EngineClientError",
            "Worker.EngineClient.EngineClientNotSupportedError",
        ),
        ("NodeSet.NodeSetException", "NodeSet.NodeSetParseRangeError"),
        ("RangeSet.RangeSetException", "RangeSet.RangeSetPaddingError"),
        ("NodeUtils.GroupResolverError", "NodeUtils.GroupResolverSourceError"),
    ],
)
def test_except_clauses_keep_their_meaning(caught: str, raised: str) -> None:
    code = "import importlib\n"
    for variable, name in (("caught", caught), ("raised", raised)):
        module, _, attribute = name.rpartition(".")
        code += f"{variable} = importlib.import_module('ClusterShell.{module}').{attribute}\n"
    assert ours(code + "print(issubclass(raised, caught))") == "True\n"


@pytest.mark.parametrize(
    ("name", "selector"), [("epoll", "Epoll"), ("poll", "Poll"), ("select", "Select")]
)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all three")
def test_engines_by_name(name: str, selector: str) -> None:
    code = f"""
from ClusterShell.Engine.Factory import PreferredEngine
info = {{"fanout": 7}}
engine = PreferredEngine("{name}", info)
print(info["engine"], engine.fanout, type(engine._open()).__name__)
"""
    assert ours(code) == f"{name} 7 {selector}Selector\n"


def test_an_unknown_engine_is_refused() -> None:
    from pyclustershell.compat.engine import PreferredEngine

    with pytest.raises(ValueError, match="no engine 'kqueue', but epoll, poll, select"):
        PreferredEngine("kqueue", {})
    info: dict[str, Any] = {}
    PreferredEngine("auto", info).close()
    assert info["engine"] in PreferredEngine.engines


# -- the import ------------------------------------------------------------------------------------


def test_nothing_is_imported_before_it_is_used() -> None:
    code = """
import sys
import ClusterShell.Task, ClusterShell.Worker.Ssh, ClusterShell.NodeSet
print({"paramiko", "pyclustershell.task", "pyclustershell.nodeset"} & set(sys.modules))
"""
    assert ours(code) == "set()\n"


def test_it_can_be_called_twice() -> None:
    assert ours("pyclustershell.compat.install_as_clustershell(); import ClusterShell.Task") == ""


def test_a_star_import_brings_the_names() -> None:
    assert ours("from ClusterShell.Task import *\nprint(task_self.__name__)") == "task_self\n"


def test_a_star_import_brings_what_clustershells_does() -> None:
    code = f"""
import importlib, json
def names(module):
    for name, value in vars(importlib.import_module("ClusterShell." + module)).items():
        if not name.startswith("_") and not hasattr(value, "__spec__"):
            yield name
print(json.dumps({{module: list(names(module)) for module in {sorted(filter(None, MODULES))!r}}}))
"""
    theirs = {m: set(names) - OF_ITS_OWN_USE for m, names in json.loads(run_python(code)).items()}
    missing = ours(f"""
import importlib
for module, names in {theirs!r}.items():
    for name in names:
        if not hasattr(importlib.import_module("ClusterShell." + module), name):
            print(module, name)
""")
    pending = ["Worker.Ssh ScpClient"] if "Worker.Ssh" in PENDING else []
    assert missing.splitlines() == pending


def test_unknown_names_and_modules_are_import_errors() -> None:
    code = """
for statement in ("from ClusterShell.Task import task_slef", "import ClusterShell.Tsak"):
    try:
        exec(statement)
    except ImportError as error:
        print(error)
"""
    first, second = ours(code).splitlines()
    assert first.startswith("cannot import name 'task_slef' from 'ClusterShell.Task'")
    assert second == "pyclustershell has nothing in place of ClusterShell.Tsak"


def test_the_real_clustershell_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ClusterShell"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ClusterShell.NodeSet", ModuleType("ClusterShell.NodeSet"))
    before = list(sys.meta_path)
    with pytest.raises(ImportError, match=r"ClusterShell.NodeSet has already been imported"):
        install_as_clustershell()
    assert sys.meta_path == before


# -- python -m pyclustershell run ------------------------------------------------------------------


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyclustershell", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"},
    )


def test_a_script_runs_as_python_would_run_it(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "helper.py").write_text("name = 'found'\n")
    (tmp_path / "scripts" / "script.py").write_text(
        "import sys, helper\n"
        "from ClusterShell.Task import task_self\n"
        "print(__name__, sys.argv, helper.name, __file__, sys.path[0])\n"
        "task_self().run('echo local', key='k')\n"
        "print(type(task_self()).__module__, task_self().key_buffer('k').decode())\n"
        "sys.exit(3)\n"
    )
    done = run("run", "scripts/script.py", "-x", "--long=1", "word", cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "__main__ ['scripts/script.py', '-x', '--long=1', 'word'] found scripts/script.py "
        + str((tmp_path / "scripts").resolve()),
        "pyclustershell.task local",
    ]
    assert done.returncode == 3


def test_wrong_command_lines(tmp_path: Path) -> None:
    for arguments, message in (
        (("run", "nothing.py"), "there is no script nothing.py"),
        (("run",), "SCRIPT"),
        ((), "COMMAND"),
    ):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
