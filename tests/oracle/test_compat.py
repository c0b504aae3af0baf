"""``import ClusterShell`` gives this package, name by name."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyclustershell.compat import install_as_clustershell
from pyclustershell.compat.names import MODULES
from tests.helpers.programs import run_python

#: Names of ClusterShell's modules that are not given, each with its reason.
LEFT_OUT = {
    # Names of the standard library's subprocess in ClusterShell's modules.
    "NodeUtils.DEVNULL": "subprocess's",
    "NodeUtils.PIPE": "subprocess's",
    "Worker.EngineClient.PIPE": "subprocess's",
    "Worker.EngineClient.STDOUT": "subprocess's",
    # Engine and clients share no streams here: clients register descriptors of their own.
    "Worker.EngineClient.EngineClientStream": "an internal of ClusterShell's engine",
    "Worker.EngineClient.EngineClientStreamDict": "an internal of ClusterShell's engine",
    # Nothing runs on gateways here.
    "Propagation.ENCODING": "of the protocol of ClusterShell's gateways",
    "Propagation.PropagationChannel": "of the protocol of ClusterShell's gateways",
    "Propagation.PropagationTreeRouter": "of ClusterShell's gateways: see TopologyTree.router()",
    "Worker.Tree.MetaWorkerEventHandler": "an internal of ClusterShell's WorkerTree",
}


#: Names that ClusterShell's modules import for their own use.
OF_ITS_OWN_USE = {
    *("ConfigParser", "DEVNULL", "EngineClientStream", "EngineClientStreamDict", "LOGGER"),
    *("NoOptionError", "NoSectionError", "PIPE", "Popen", "PropagationChannel"),
    *("PropagationTreeRouter", "STDOUT", "Template", "TreeWorker", "basestring", "filterfalse"),
    *("getfullargspec", "mul", "print_function", "product", "reduce", "set_nonblock_flag", "wraps"),
    # Of gateways.
    *("Channel", "ENCODING", "MetaWorkerEventHandler", "RoutedMessageBase", "basename", "deque"),
    *("dirname", "isfile", "normpath"),
    *("ConfigurationMessage", "ControlMessage", "EndMessage", "ErrorMessage", "RetcodeMessage"),
    *("RoutingMessage", "StartMessage", "StdErrMessage", "StdOutMessage", "TimeoutMessage"),
}


def ours(code: str) -> str:
    """The output of code that runs after install_as_clustershell()."""
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


@pytest.mark.posix_only("ClusterShell's modules need POSIX")
@pytest.mark.needs("ClusterShell")
@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_of_clustershell_is_there(name: str) -> None:
    theirs = importlib.import_module(f"ClusterShell.{name}".rstrip("."))
    left_out = {n.rpartition(".")[2] for n in LEFT_OUT if n.rpartition(".")[0] == name}
    assert exported(theirs) - set(MODULES[name]) == left_out


@pytest.mark.parametrize("name", MODULES)
def test_every_name_of_the_table_can_be_imported(name: str) -> None:
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
    from pyclustershell.compat.engines import PreferredEngine

    with pytest.raises(KeyError, match="no engine 'kqueue', but epoll, poll, select"):
        PreferredEngine("kqueue", {})
    info: dict[str, Any] = {}
    PreferredEngine("auto", info).close()
    assert info["engine"] in PreferredEngine.engines


# -- the programs ----------------------------------------------------------------------------------

#: The modules of ClusterShell.CLI that are there.
PROGRAM_MODULES = ["Clubak", "Clush", "Config", "Display", "Nodeset", "OptionParser"]


def test_modules_of_the_programs_are_real_modules() -> None:
    code = f"""
import importlib, importlib.util, os, sys, types
for name in {PROGRAM_MODULES!r}:
    module = importlib.import_module("ClusterShell.CLI." + name)
    assert type(module) is types.ModuleType and sys.modules[module.__name__] is module
    assert os.path.basename(module.__file__) == name + ".py"
    assert importlib.util.find_spec(module.__name__).loader.get_code(module.__name__)
import ClusterShell.CLI
print(ClusterShell.CLI.Nodeset.__name__)
"""
    assert ours(code) == "ClusterShell.CLI.Nodeset\n"


def test_a_star_import_from_the_display_brings_its_constants() -> None:
    code = "from ClusterShell.CLI.Display import *\nprint(VERB_QUIET, VERB_DEBUG, THREE_CHOICES)"
    assert ours(code) == "0 3 ['', 'never', 'always', 'auto']\n"


@pytest.mark.parametrize("module", ["Nodeset", "Clubak"])
def test_main_of_a_program_exits_with_an_integer(module: str) -> None:
    code = f"""
import io, sys
from ClusterShell.CLI.{module} import main
sys.argv = ["prog", "-q"]
sys.stdin, sys.stderr = io.StringIO(""), io.StringIO()
try:
    main()
except SystemExit as stop:
    print(repr(stop.code), sys.stderr.getvalue().splitlines()[-1:])
"""
    expected = {"Nodeset": "2 ['prog: error: No command specified.']", "Clubak": "0 []"}
    assert ours(code) == f"{expected[module]}\n"


def test_an_unknown_module_of_the_programs_is_an_import_error() -> None:
    code = "try:\n    import ClusterShell.CLI.Gui\nexcept ImportError as error:\n    print(error)"
    assert ours(code) == "pyclustershell has nothing in place of ClusterShell.CLI.Gui\n"


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


@pytest.mark.posix_only("ClusterShell's modules need POSIX")
def test_a_star_import_brings_the_names_of_clustershells() -> None:
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
    assert missing.splitlines() == []


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
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
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
        "pyclustershell.task.task local",
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


def test_a_module_runs_as_python_m_would_run_it(tmp_path: Path) -> None:
    done = run("run", "-m", "ClusterShell.CLI.Nodeset", "-f", "n1", "n[", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'Nodeset.py: Parse error: missing bracket: "n["\n'


def test_a_console_script_of_clustershell_runs(tmp_path: Path) -> None:
    script = tmp_path / "nodeset"
    script.write_text("import sys\nfrom ClusterShell.CLI.Nodeset import main\nsys.exit(main())\n")
    done = run("run", str(script), "-f", "n1", "n2", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "n[1-2]\n", "")


class _OldForms:
    """A handler with old forms: records the number of different warnings before each event."""

    def __init__(self, caught: list[warnings.WarningMessage]) -> None:
        self.caught = caught
        self.events: list[tuple[str, int]] = []

    def _record(self, name: str) -> None:
        self.events.append((name, len({str(each.message) for each in self.caught})))

    def ev_start(self, worker: Any) -> None:
        self._record("start")

    def ev_pickup(self, worker: Any) -> None:
        self._record("pickup")

    def ev_read(self, worker: Any) -> None:
        self._record("read")

    def ev_hup(self, worker: Any) -> None:
        self._record("hup")

    def ev_timeout(self, worker: Any) -> None:
        self._record("timeout")

    def ev_close(self, worker: Any) -> None:
        self._record("close")


@pytest.mark.posix_only("ClusterShell's modules need POSIX")
@pytest.mark.needs("ClusterShell")
@pytest.mark.parametrize("command", ["echo one; echo two", "exec sleep 60"])
def test_old_forms_of_handlers_are_deprecated_when_they_are_in_clustershell(command: str) -> None:
    from ClusterShell.Task import task_self as their_task

    from pyclustershell import task_self

    def events(task: Any) -> list[tuple[str, int]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            handler = _OldForms(caught)
            task.shell(command, handler=handler, timeout=0.3 if "sleep" in command else None)
            task.resume()
            task.abort(kill=True)
        assert {each.category for each in caught} == {DeprecationWarning}
        return handler.events

    assert events(task_self()) == events(their_task())
