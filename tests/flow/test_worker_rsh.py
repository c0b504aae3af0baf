"""WorkerRsh, over a small rsh of the test's own that runs everything on this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.exceptions import NodeError
from pyclustershell.task import Task
from pyclustershell.worker.rsh import WorkerRsh
from tests.helpers.recorder import Recorder
from tests.helpers.tasks import fresh_task, run_worker
from tests.servers.leaks import no_leaks

pytestmark = pytest.mark.posix_only("its rsh is a script of a POSIX shell")

# As rsh does, it joins its arguments, and knows nothing of the command's exit status.
RSH = """#!/bin/sh
while getopts l:n option; do
    case $option in l) USER_NAME=$OPTARG ;; esac
done
shift $((OPTIND - 1))
NODE=$1; shift
export NODE USER_NAME
[ "$NODE" = down ] && { echo "$NODE: Connection refused" >&2; exit 1; }
sh -c "$*"
exit 0
"""

# "host:path" is the directory of that name, next to the script.
RCP = """#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$@" >> calls
for last; do :; done
args=$(echo "$@" | sed 's/\\([a-z0-9]*\\):/\\1/g; s/bob@//')
exec cp $args
"""


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Task]:
    for name, text in (("rsh", RSH), ("rcp", RCP)):
        program = tmp_path / name
        program.write_text(text)
        program.chmod(0o755)
    with no_leaks(), fresh_task() as task:
        task.set_info("rsh_path", f"{tmp_path}/rsh -n")
        task.set_info("rcp_path", f"{tmp_path}/rcp")
        yield task


def run(task: Task, nodes: str, handler: Any = None, **kwargs: Any) -> WorkerRsh:
    return run_worker(task, WorkerRsh(nodes, handler, **kwargs))


def test_output_and_return_codes(task: Task) -> None:
    handler = Recorder()
    worker = run(task, "n[1-2]", handler, command="echo on $NODE; (exit ${NODE#n})")
    assert handler.of("n2") == [
        ("pickup", "n2"),
        ("read", "n2", "stdout", b"on n2"),
        ("hup", "n2", 2),
    ]
    assert handler.events[-1] == ("close", "WorkerRsh", False)
    assert dict(worker.iter_node_retcodes()) == {"n1": 1, "n2": 2}


@pytest.mark.parametrize("stderr", [True, False])
def test_stderr(task: Task, stderr: bool) -> None:
    worker = run(task, "n1", command="echo out; echo err >&2; (exit 3)", stderr=stderr)
    if stderr:
        assert (worker.node_buffer("n1"), worker.node_error("n1")) == (b"out", b"err")
    else:
        assert worker.node_buffer("n1") == b"out\nerr"
    assert worker.node_retcode("n1") == 3


def test_output_without_a_newline_at_its_end(task: Task) -> None:
    worker = run(task, "n1", command="printf 'one\ntwo'; (exit 4)")
    assert worker.node_buffer("n1") == b"one\ntwo"
    assert worker.node_retcode("n1") == 4


def test_no_output(task: Task) -> None:
    handler = Recorder()
    worker = run(task, "n1", handler, command="(exit 5)")
    assert handler.of("n1") == [("pickup", "n1"), ("hup", "n1", 5)]
    assert worker.node_buffer("n1") is None


def test_the_status_of_rsh_counts_if_rsh_fails(task: Task) -> None:
    worker = run(task, "down,n1", command="true")
    assert dict(worker.iter_node_retcodes()) == {"down": 1, "n1": 0}
    assert worker.node_buffer("down") == b"down: Connection refused"


def test_percent_signs_are_left_alone(task: Task) -> None:
    worker = run(task, "n[1-2]", command="echo %h %hosts 100%")
    [(buffer, nodes)] = worker.iter_buffers()
    assert (bytes(buffer), str(nodes)) == (b"%h %hosts 100%", "n[1-2]")


def test_user_and_options(task: Task) -> None:
    task.set_info("rsh_user", "bob")
    assert run(task, "n1", command="echo $USER_NAME").node_buffer("n1") == b"bob"
    task.set_info("rsh_path", "echo")
    task.set_info("rsh_options", "-x 'two words'")
    worker = run(task, "n1", command="true")
    assert worker.node_buffer("n1") == b"-l bob -x two words n1 true ; echo XXRETCODE: $?"


def test_the_programs_path_may_begin_with_a_tilde(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    task.set_info("rsh_path", "~/rsh")
    assert run(task, "n1", command="echo $NODE").node_buffer("n1") == b"n1"


def test_standard_input(task: Task) -> None:
    worker = WorkerRsh("n[1-2]", None, command="cat")
    worker.write(b"line\n")
    worker.set_write_eof()
    task.schedule(worker)
    task.resume()
    assert worker.node_buffer("n2") == b"line"


def test_time_runs_out(task: Task) -> None:
    command = "echo on; test $NODE = n1 || exec sleep 60"
    worker = run(task, "n[1-2]", command=command, timeout=0.5)
    assert list(worker.iter_keys_timeout()) == ["n2"]
    assert worker.node_retcode("n1") == 0


def test_there_is_no_rsh(task: Task) -> None:
    task.set_info("rsh_path", "/nonexistent/rsh")
    worker = run(task, "n[1-2]", command="true")
    assert worker.node_retcode("n1") == 255
    [(failure, nodes)] = worker.iter_failures()
    assert isinstance(failure, NodeError)
    assert "/nonexistent/rsh" in failure.cause
    assert str(nodes) == "n[1-2]"


def test_as_the_tasks_distant_worker(task: Task) -> None:
    task.set_default("distant_worker", WorkerRsh)
    worker = task.run("echo on $NODE", nodes="n[1-2]", stdin=False)
    assert isinstance(worker, WorkerRsh)
    assert task.node_buffer("n2") == b"on n2"


# -- copies --


def test_copies(task: Task, tmp_path: Path) -> None:
    for node in ("n1", "n2"):
        (tmp_path / node).mkdir()
    (tmp_path / "source").write_text("contents")
    worker = run(task, "n[1-2]", source=f"{tmp_path}/source", dest="/dest")
    assert worker.task.max_retcode() == 0
    assert (tmp_path / "n2" / "dest").read_text() == "contents"


def test_a_copied_directory_with_options_and_user(task: Task, tmp_path: Path) -> None:
    (tmp_path / "n1").mkdir()
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "file"
    file.write_text("contents")
    os.utime(file, (1000, 1000))
    task.set_info("rsh_user", "bob")
    task.set_info("rcp_options", "-f")
    worker = run(task, "n1", source=f"{tmp_path}/source", dest="/", preserve=True)
    assert worker.node_retcode("n1") == 0
    assert (tmp_path / "n1" / "source" / "file").stat().st_mtime == 1000
    assert (tmp_path / "calls").read_text() == f"-r -p -f {tmp_path}/source bob@n1:/\n"


def test_reverse_copies_have_the_nodes_names(task: Task, tmp_path: Path) -> None:
    for node in ("n1", "n2"):
        (tmp_path / node).mkdir()
        (tmp_path / node / "file").write_text(f"of {node}")
    (tmp_path / "dest").mkdir()
    run(task, "n[1-2]", source="/file", dest=f"{tmp_path}/dest", reverse=True)
    assert (tmp_path / "dest" / "file.n2").read_text() == "of n2"
