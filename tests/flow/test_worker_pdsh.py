"""WorkerPdsh, over the real pdsh, with an ssh that runs everything on this host."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import NodeSet
from pyclustershell.exceptions import WorkerError
from pyclustershell.records import Exited, TimedOut
from pyclustershell.task import Task
from pyclustershell.worker.pdsh import PdshLine, WorkerPdsh, parse_line
from tests.helpers.needs import require
from tests.helpers.recorder import Recorder
from tests.helpers.tasks import fresh_task, run_worker
from tests.servers.leaks import no_leaks

pytestmark = pytest.mark.posix_only("Windows has no pdsh")

SSH = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
while :; do
    case $1 in
        -o|-l) shift 2 ;;
        -*) shift ;;
        *) break ;;
    esac
done
NODE=$1; shift
export NODE
test "$NODE" = down && { echo "$NODE: Connection refused" >&2; exit 255; }
exec sh -c "$*"
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    require("pdsh")
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(SSH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PDSH_RCMD_TYPE", "ssh")
    with no_leaks(), fresh_task() as task:
        yield task


def run(task: Task, nodes: Any, handler: Any = None, **kwargs: Any) -> WorkerPdsh:
    return run_worker(task, WorkerPdsh(nodes, handler, **kwargs))


# -- the output of pdsh --


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"n1: text: more", PdshLine("n1", b"text: more")),
        (b"n1: ", PdshLine("n1", b"")),
        (b"n1: pdsh@here: n1: x", PdshLine("n1", b"pdsh@here: n1: x")),
        (b"pdsh@here: n1: ssh exited with exit code 3", PdshLine("n1", None, Exited(3))),
        (b"pdsh@here: n1: ssh killed by signal 9", PdshLine("n1", None, Exited(137))),
        (b"pdsh@here: n1: command timeout", PdshLine("n1", None, TimedOut())),
        (
            b"pdsh@here: n1: connect: Connection refused",
            PdshLine("n1", b"connect: Connection refused", Exited(255)),
        ),
        (b"rpdcp@here: n1: ssh exited with exit code 1", PdshLine("n1", None, Exited(1))),
        (b"sending SIGTERM to ssh n1", PdshLine(None, None)),
        (b"sending signal 15 to n1 [ssh] pid 4", PdshLine(None, None)),
        (b"pdsh@here: no remote hosts specified", PdshLine(None, None)),
        (b"pdcp@here: can't stat x", PdshLine(None, None)),
        (b"no label", PdshLine(None, None)),
    ],
)
def test_the_meaning_of_a_line(line: bytes, expected: PdshLine) -> None:
    assert parse_line(line) == expected


# -- commands --


@pytest.mark.parametrize("stderr", [True, False])
def test_output_and_return_codes(task: Task, stderr: bool) -> None:
    handler = Recorder()
    command = "echo out $NODE; echo err >&2; exit ${NODE#n}"
    worker = run(task, "n[0-2]", handler, command=command, stderr=stderr)
    events = handler.of("n2")
    assert events[0] == ("pickup", "n2")
    assert (
        sorted(events[1:3])
        == [
            ("read", "n2", "stderr" if stderr else "stdout", b"err"),
            ("read", "n2", "stdout", b"out n2"),
        ]
        or not stderr
    )
    assert len(events) == 4
    assert events[-1] == ("hup", "n2", 2)
    assert dict(worker.iter_node_retcodes()) == {"n0": 0, "n1": 1, "n2": 2}
    assert handler.events[0] == ("start",)
    assert handler.events[-1] == ("close", "WorkerPdsh", False)
    assert worker.node_buffer("n2") == (b"out n2" if stderr else b"out n2\nerr")
    assert task.max_retcode() == 2


def test_a_nodes_end_is_told_after_all_its_output(task: Task) -> None:
    handler = Recorder()
    # A full pipe of stdout, and the end comes on the other one.
    run(task, "n[1-8]", handler, command="seq 5000; exit 3", stderr=True)
    for node in NodeSet("n[1-8]"):
        events = handler.of(node)
        assert len(events) == 5002
        assert events[-2:] == [("read", node, "stdout", b"5000"), ("hup", node, 3)]


def test_lines_that_are_empty_or_look_like_pdshs_own(task: Task) -> None:
    worker = run(
        task, "n1", command="echo; echo a: b; echo pdsh@x: n1: ssh exited with exit code 9"
    )
    assert worker.node_buffer("n1") == b"\na: b\npdsh@x: n1: ssh exited with exit code 9"
    assert worker.node_retcode("n1") == 0


def test_a_signal_is_128_and_its_number(task: Task) -> None:
    assert run(task, "n1", command="kill -9 $$").node_retcode("n1") == 137


def test_a_node_that_cannot_be_reached(task: Task) -> None:
    worker = run(task, "down,n1", command="echo on", stderr=True)
    assert dict(worker.iter_node_retcodes()) == {"down": 255, "n1": 0}
    assert b"Connection refused" in (worker.node_error("down") or b"")


@pytest.mark.parametrize("nodes", ["n[1-2].example.com", "n1.a.example,n2.b.example"])
def test_domains(task: Task, nodes: str) -> None:
    worker = run(task, nodes, command="echo on $NODE; exit 2")
    for node in NodeSet(nodes):
        assert worker.node_buffer(node) == b"on " + node.encode()
        assert worker.node_retcode(node) == 2


def test_node_sets_in_steps_and_dimensions(task: Task) -> None:
    nodes = NodeSet("n[0-8/2],r[1-2]c[01-02]", autostep=3)
    worker = run(task, nodes, command="echo $NODE")
    assert {node: bytes(buffer) for node, buffer in worker.iter_node_buffers()} == {
        node: node.encode() for node in nodes
    }


def test_time_runs_out(task: Task) -> None:
    handler = Recorder()
    command = "echo on; test $NODE = n2 && exec sleep 60; exit 2"
    worker = run(task, "n[1-2]", handler, command=command, timeout=0.6)
    assert list(worker.iter_keys_timeout()) == ["n2"]
    assert dict(worker.iter_node_retcodes()) == {"n1": 2}
    assert handler.events[-1] == ("close", "WorkerPdsh", True)


def test_the_command_timeout_is_pdshs(task: Task) -> None:
    task.set_info("command_timeout", 1)
    for left in reversed(range(3)):
        try:
            worker = run(task, "n[1-2]", command="test $NODE = n1 || exec sleep 60")
            break
        except WorkerError as error:
            # pdsh 2.34 itself crashes now and then while it ends a command: SIGSEGV.
            if "exit status 139" not in str(error) or not left:
                raise
    assert list(worker.iter_keys_timeout()) == ["n2"]
    assert dict(worker.iter_node_retcodes()) == {"n1": 0}


def test_connect_timeout_and_fanout_are_handed_on(task: Task, tmp_path: Path) -> None:
    task.set_info("connect_timeout", 7)
    task.set_info("fanout", 1)
    worker = run(task, "n[1-4]", command=f"mkdir {tmp_path}/one && rmdir {tmp_path}/one")
    assert worker.task.max_retcode() == 0
    assert "ConnectTimeout=7" in (tmp_path / "bin" / "calls").read_text()


def test_abort_in_a_handler(task: Task) -> None:
    class Abort(Recorder):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            super().ev_read(worker, node, sname, msg)
            worker.abort()

    handler = Abort()
    run(task, "n[1-2]", handler, command="echo one; echo two; exec sleep 60")
    assert sum(event[0] == "read" for event in handler.events) == 1
    assert handler.events[-1] == ("close", "WorkerPdsh", False)


def test_nothing_can_be_written(task: Task) -> None:
    worker = WorkerPdsh("n1", None, command="cat")
    with pytest.raises(WorkerError, match="no standard input"):
        worker.write(b"x")
    with pytest.raises(WorkerError, match="no standard input"):
        worker.set_write_eof()


@pytest.mark.parametrize("path", ["/nonexistent/pdsh", "false", "pdsh -R none"])
def test_pdsh_itself_fails(task: Task, path: str) -> None:
    handler = Recorder()
    task.set_info("pdsh_path", path)
    task.schedule(WorkerPdsh("n[1-2]", handler, command="true"))
    with pytest.raises(WorkerError, match="pdsh"):
        task.resume()
    assert handler.events[-1] == ("close", "WorkerPdsh", False)
    task.set_info("pdsh_path", None)
    assert run(task, "n1", command="true").node_retcode("n1") == 0


def test_of_a_submitted_command_only_its_future_fails(task: Task) -> None:
    with Task() as service:
        service.set_info("pdsh_path", "false")
        other = service.submit("cat", key="other", stdin=True)
        failing = WorkerPdsh("n[1-2]", None, command="true")
        with pytest.raises(WorkerError, match="pdsh failed with exit status 1"):
            service.submit(failing).result(30)
        other.worker.write(b"out\n")
        other.worker.set_write_eof()
        assert other.result(30)["other"].text == "out"


# -- copies --


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    (path / "source").write_text("contents")
    os.utime(path / "source", (1000, 1000))
    return path


def test_copies(task: Task, directory: Path) -> None:
    handler = Recorder()
    source, dest = str(directory / "source"), str(directory / "dest")
    worker = run(task, "n1", handler, source=source, dest=dest, preserve=True)
    assert worker.node_retcode("n1") == 0
    assert (directory / "dest").read_text() == "contents"
    assert (directory / "dest").stat().st_mtime == 1000
    assert handler.events == [
        ("start",),
        ("pickup", "n1"),
        ("hup", "n1", 0),
        ("close", "WorkerPdsh", False),
    ]


def test_copies_of_directories(task: Task, directory: Path) -> None:
    (directory / "dest").mkdir()
    (directory / "tree" / "below").mkdir(parents=True)
    worker = run(task, "n1", source=str(directory / "tree"), dest=str(directory / "dest"))
    assert worker.node_retcode("n1") == 0
    assert (directory / "dest" / "tree" / "below").is_dir()


def test_a_copy_that_fails(task: Task, directory: Path) -> None:
    source = str(directory / "source")
    worker = run(task, "down,n1", source=source, dest="/nonexistent/x", stderr=True)
    assert dict(worker.iter_node_retcodes()) == {"down": errno.ENOENT, "n1": errno.ENOENT}
    assert worker.node_error("n1") == b"fatal: /nonexistent/x: No such file or directory"


def test_there_is_nothing_to_copy(task: Task, directory: Path) -> None:
    task.schedule(WorkerPdsh("n1", None, source=str(directory / "none"), dest="/tmp/x"))
    with pytest.raises(WorkerError, match="can't stat"):
        task.resume()


def test_reverse_copies_have_the_nodes_names(task: Task, directory: Path) -> None:
    source = str(directory / "source")
    (directory / "dest").mkdir()
    worker = run(task, "n[1-2]", source=source, dest=str(directory / "dest"), reverse=True)
    assert worker.task.max_retcode() == 0
    assert (directory / "dest" / "source.n2").read_text() == "contents"
