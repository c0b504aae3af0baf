"""Copies to nodes and back, over a real sshd; ClusterShell's with scp."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from ClusterShell.Task import task_self
from ClusterShell.Worker.Ssh import WorkerSsh

from tests.differential.trace import Trace, TraceHandler, old_handler


class _Place:
    """Directories for sources and for what is copied, which the nodes' account may write to."""

    def __init__(self, top: str) -> None:
        self.here = self._make(top, "here")
        self.there = self._make(top, "there")

    @staticmethod
    def _make(top: str, name: str) -> str:
        path = os.path.join(top, name)
        os.mkdir(path)
        os.chmod(path, 0o777)  # noqa: S103 for the nodes' account
        return path

    def file(self, name: str, contents: str = "contents", where: str = "") -> str:
        path = os.path.join(where or self.here, name)
        with open(path, "w") as file:
            file.write(contents)
        os.chmod(path, 0o644)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        return path

    def tree(self, where: str = "") -> str:
        top = os.path.join(where or self.here, "tree")
        os.makedirs(os.path.join(top, "sub", "empty"))
        self.file("one", "1", top)
        self.file("two", "2", os.path.join(top, "sub"))
        os.symlink("one", os.path.join(top, "link"))
        os.chmod(os.path.join(top, "one"), 0o755)  # noqa: S103 a program
        return top


@contextlib.contextmanager
def _place() -> Iterator[_Place]:
    os.umask(0o022)
    top = tempfile.mkdtemp(prefix="copy-")
    os.chmod(top, 0o755)  # noqa: S103 for the nodes' account
    try:
        yield _Place(top)
    finally:
        shutil.rmtree(top)


def _listing(top: str) -> list[Any]:
    """What is below a directory."""
    found = []
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            contents = open(path).read() if os.path.isfile(path) else None  # noqa: SIM115
            kept = int(status.st_mtime) == 1_000_000_000
            found.append([os.path.relpath(path, top), oct(status.st_mode), contents, kept])
    return sorted(found, key=lambda item: str(item[0]))


def _finish(trace: Trace, worker: Any) -> None:
    """Run, and note what does not name a directory of this run."""
    task = task_self()
    trace.label(worker, "copy")
    task.resume()
    trace.note("max_retcode", task.max_retcode())
    trace.note_unordered("retcodes", worker.iter_retcodes())
    trace.note("num_timeout", task.num_timeout())
    trace.note("command", worker.command)


def _copy(trace: Trace, source: str, dest: str, nodes: str = "node[1-2]", **kwargs: Any) -> None:
    kwargs.setdefault("handler", _Quiet(trace))
    _finish(trace, task_self().copy(source, dest, nodes, **kwargs))


def _rcopy(trace: Trace, source: str, dest: str, nodes: str = "node[1-2]", **kwargs: Any) -> None:
    kwargs.setdefault("handler", _Quiet(trace))
    _finish(trace, task_self().rcopy(source, dest, nodes, **kwargs))


class _Quiet(TraceHandler):
    """Without what is new here (progress), and what each has words of its own for."""

    def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
        pass

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        self.actions.setdefault("said", []).append(node)  # type: ignore[arg-type, attr-defined]


def a_file_into_a_directory(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.file("file"), place.there)
        trace.note("there", [item[:3] for item in _listing(place.there)])


def a_file_into_a_directory_with_a_slash(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.file("file"), place.there + "/")
        trace.note("there", [item[:3] for item in _listing(place.there)])


def a_file_to_a_new_name(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.file("file"), os.path.join(place.there, "new"))
        trace.note("there", [item[:3] for item in _listing(place.there)])


def a_file_over_a_file(trace: Trace) -> None:
    with _place() as place:
        old = place.file("old", "old", place.there)
        os.chmod(old, 0o666)  # noqa: S103 for the nodes' account
        _copy(trace, place.file("file"), old)
        trace.note("there", [item[:3] for item in _listing(place.there)])


def a_file_below_a_missing_directory(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.file("file"), os.path.join(place.there, "no", "such"))
        trace.note("there", _listing(place.there))


def a_file_into_a_missing_directory(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.file("file"), os.path.join(place.there, "missing/"))
        trace.note("there", _listing(place.there))


def a_missing_file(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, os.path.join(place.here, "missing"), place.there)
        trace.note("there", _listing(place.there))


def a_directory_into_a_directory(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.tree(), place.there, "node1")
        trace.note("there", [item[:3] for item in _listing(place.there)])


def a_directory_to_a_new_name(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.tree(), os.path.join(place.there, "new"), "node1")
        trace.note("there", [item[:3] for item in _listing(place.there)])


def a_directory_with_a_slash(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.tree() + "/", place.there, "node1")
        trace.note("there", [item[:3] for item in _listing(place.there)])


def a_directory_over_a_file(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.tree(), place.file("file", where=place.there), "node1")
        trace.note("there", [item[:3] for item in _listing(place.there)])


def preserve(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.tree(), place.there, "node1", preserve=True)
        trace.note("there", [item for item in _listing(place.there) if item[2] is not None])


def back_from_nodes(trace: Trace) -> None:
    with _place() as place:
        _rcopy(trace, place.file("file", where=place.there), place.here)
        trace.note("here", [item[:3] for item in _listing(place.here)])


def a_directory_back_from_nodes(trace: Trace) -> None:
    with _place() as place:
        _rcopy(trace, place.tree(place.there), place.here)
        trace.note("here", [item[:3] for item in _listing(place.here)])


def back_and_preserved(trace: Trace) -> None:
    with _place() as place:
        _rcopy(trace, place.tree(place.there), place.here, preserve=True)
        trace.note("here", [item for item in _listing(place.here) if item[2] is not None])


def a_missing_file_back(trace: Trace) -> None:
    with _place() as place:
        _rcopy(trace, os.path.join(place.there, "missing"), place.here)
        trace.note("here", _listing(place.here))


def back_to_what_is_no_directory(trace: Trace) -> None:
    with _place() as place:
        source = place.file("file", where=place.there)
        trace.catch("missing", task_self().rcopy, source, place.here + "/missing", "node1")
        trace.catch("a file", task_self().rcopy, source, place.file("file"), "node1")


def as_a_worker(trace: Trace) -> None:
    with _place() as place:
        source, dest = place.file("file"), os.path.join(place.there, "new")
        worker = WorkerSsh("node1", handler=_Quiet(trace), timeout=30, source=source, dest=dest)
        task_self().schedule(worker)
        _finish(trace, worker)
        trace.note("there", [item[:3] for item in _listing(place.there)])


def as_a_reverse_worker(trace: Trace) -> None:
    with _place() as place:
        source = place.file("file", where=place.there)
        worker = WorkerSsh("node1", None, source=source, dest=place.here, reverse=True)
        task_self().schedule(worker)
        _finish(trace, worker)
        trace.note("here", [item[:3] for item in _listing(place.here)])


def old_handlers(trace: Trace) -> None:
    with _place() as place:
        _copy(trace, place.file("file"), place.there, "node1", handler=old_handler(trace))


def one_node_cannot_be_reached(trace: Trace) -> None:
    with _place() as place:
        task_self().set_info("scp_options", "-oPort=1 -oConnectTimeout=5")
        handler = _Quiet(trace)
        worker = task_self().copy(place.file("file"), place.there, "node1", handler=handler)
        trace.label(worker, "copy")
        task_self().resume()
        trace.note("retcode is one of a failure", task_self().max_retcode() != 0)


def bad_arguments(trace: Trace) -> None:
    task = task_self()
    trace.catch("no nodes", task.copy, "/etc/hosts", "/tmp/", None)
    trace.catch("no nodes back", task.rcopy, "/etc/hosts", "/tmp/", None)
    trace.catch("neither", lambda: WorkerSsh("node1", None, timeout=1))
