"""The names that users import, and the modules that an import loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pyclustershell

# A name is added with its feature, and never removed.
PUBLIC_NAMES = [
    "AlreadyRunningError",
    "AskOnce",
    "EventHandler",
    "ExecWorker",
    "MsgTree",
    "NodeResult",
    "NodeSet",
    "RangeSet",
    "RangeSetND",
    "Results",
    "SSHOptions",
    "StreamWorker",
    "Task",
    "TaskError",
    "TaskMsgTreeError",
    "TimeoutError",
    "WorkerPdsh",
    "WorkerPopen",
    "WorkerRsh",
    "WorkerSsh",
    "__version__",
    "expand",
    "fold",
    "grouplist",
    "install_as_clustershell",
    "task_cleanup",
    "task_self",
    "task_terminate",
    "task_wait",
]


def test_the_public_names() -> None:
    assert sorted(pyclustershell.__all__) == PUBLIC_NAMES
    assert dir(pyclustershell) == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(pyclustershell, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Tsak'"):
        _ = pyclustershell.Tsak


def test_errors_are_those_that_a_script_catches() -> None:
    from pyclustershell import exceptions

    assert issubclass(pyclustershell.TimeoutError, pyclustershell.TaskError)
    assert issubclass(pyclustershell.AlreadyRunningError, pyclustershell.TaskError)
    assert issubclass(pyclustershell.TaskError, exceptions.PyClusterShellError)


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has imported after running some code."""
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import pyclustershell",
        "from pyclustershell import *",
        "from pyclustershell import NodeSet; NodeSet('node[1-9]') & NodeSet('node[2-3]')",
        "from pyclustershell import task_self; task_self().run('true')",
        "from pyclustershell import WorkerSsh; WorkerSsh('node1', None, command='true')",
        "from pyclustershell import SSHOptions; SSHOptions(user='me')",
    ],
)
def test_paramiko_is_not_imported_before_it_is_needed(code: str) -> None:
    assert "paramiko" not in modules_after(code)


def test_node_sets_import_nothing_heavy() -> None:
    code = "import pyclustershell.nodeset; pyclustershell.nodeset.NodeSet('node[1-9]')"
    assert modules_after(code) & {"cryptography", "paramiko", "subprocess", "yaml"} == set()


def test_importing_the_package_imports_next_to_nothing() -> None:
    assert {
        m for m in modules_after("import pyclustershell") if m.startswith("pyclustershell")
    } == {
        "pyclustershell",
        "pyclustershell.version",
    }
