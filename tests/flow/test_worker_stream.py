"""StreamWorker and WorkerSimple: pipes, sockets and files of one's own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyclustershell import EventHandler
from pyclustershell.buffers import HIGH_WATER
from pyclustershell.exceptions import LineTooLongError, TimeoutError, WorkerError
from pyclustershell.task import Task
from pyclustershell.worker.stream import StreamClient, StreamWorker, WorkerSimple
from tests.helpers.recorder import Recorder
from tests.helpers.sh import sh
from tests.helpers.tasks import fresh_task, run_worker
from tests.servers.leaks import no_leaks

pytestmark = pytest.mark.posix_only("pipes: Windows waits for sockets only")


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


def ended_pipe(data: bytes) -> int:
    """A pipe's reading end, in which data and the end of file wait."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


# -- reading --


def test_lines_come_with_the_name_of_their_stream(task: Task) -> None:
    handler = Recorder()
    worker = StreamWorker(handler, key="k")
    worker.set_reader("first", ended_pipe(b"one\ntwo\r\nrest"))
    worker.set_reader("second", ended_pipe(b"2nd\n"))
    run_worker(task, worker)
    assert [event for event in handler.events if event[2:3] == ("first",)] == [
        ("read", "k", "first", b"one"),
        ("read", "k", "first", b"two"),
        ("read", "k", "first", b"rest"),
    ]
    assert ("read", "k", "second", b"2nd") in handler.events
    assert handler.events[:2] == [("start",), ("pickup", "k")]
    assert handler.events[-2:] == [("hup", "k", None), ("close", "StreamWorker", False)]


def test_stdout_and_stderr_are_kept(task: Task) -> None:
    worker = StreamWorker(None, key="k")
    worker.set_reader("stdout", ended_pipe(b"out\n"))
    worker.set_reader("stderr", ended_pipe(b"err\n"))
    run_worker(task, worker)
    assert (worker.read(), worker.read(sname="stderr")) == (b"out", b"err")
    assert (task.key_buffer("k"), task.key_error("k")) == (b"out", b"err")
    assert task.max_retcode() is None


def test_the_key_is_the_worker_unless_it_is_set(task: Task) -> None:
    worker = StreamWorker(None)
    worker.set_reader("stdout", ended_pipe(b"out\n"))
    run_worker(task, worker)
    assert task.key_buffer(worker) == b"out"
    worker = StreamWorker(None)
    worker.set_key(0)
    worker.set_reader("stdout", ended_pipe(b"out\n"))
    run_worker(task, worker)
    assert task.key_buffer(0) == worker.read() == b"out"


def test_a_descriptor_that_is_not_open_fails_its_worker_only(task: Task) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    handler = Recorder()
    wrong = StreamWorker(handler, key="wrong")
    wrong.set_reader("stdout", reader, closefd=False)
    task.schedule(wrong)
    other = task.shell(sh("echo out"), key="other")
    task.resume()
    cause = f"cannot watch stream 'stdout' (descriptor {reader}): "
    assert wrong.results()["wrong"].cause.startswith(cause)
    assert ("hup", "wrong", 255) in handler.events
    assert other.results()["other"].text == "out"


def test_a_regular_file_is_read_too(task: Task, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"line\n" * 50_000)
    handler = Recorder()
    worker = StreamWorker(handler)
    with path.open("rb") as file:
        worker.set_reader("stdout", file)
        run_worker(task, worker)
        assert file.closed
    assert sum(event[0] == "read" for event in handler.events) == 50_000


def test_a_stream_that_does_not_retain_ends_with_the_others(task: Task) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"partial")
    handler = Recorder()
    worker = StreamWorker(handler, key="k")
    worker.set_reader("background", reader, retain=False)
    worker.set_reader("stdout", ended_pipe(b""))
    run_worker(task, worker)
    os.close(writer)
    assert handler.events[-2:] == [("hup", "k", None), ("close", "StreamWorker", False)]


def test_files_stay_open_on_request(task: Task) -> None:
    reader = ended_pipe(b"one\n")
    with os.fdopen(ended_pipe(b"two\n"), "rb") as file:
        worker = StreamWorker(None)
        worker.set_reader("first", reader, closefd=False)
        worker.set_reader("second", file, closefd=False)
        run_worker(task, worker)
        assert not file.closed
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_without_a_stream_it_ends_at_once(task: Task) -> None:
    handler = Recorder()
    run_worker(task, StreamWorker(handler, key="k"))
    assert handler.events == [
        ("start",),
        ("pickup", "k"),
        ("hup", "k", None),
        ("close", "StreamWorker", False),
    ]


# -- writing --


def test_writing_to_one_stream_and_to_all(task: Task) -> None:
    (r1, w1), (r2, w2) = os.pipe(), os.pipe()
    handler = Recorder()
    worker = StreamWorker(handler, key="k")
    worker.set_writer("a", w1)
    worker.set_writer("b", w2)
    worker.write(b"both")
    worker.write(b" one", "a")
    worker.set_write_eof()
    run_worker(task, worker)
    assert (os.read(r1, 100), os.read(r2, 100)) == (b"both one", b"both")
    assert (os.read(r1, 100), os.read(r2, 100)) == (b"", b"")
    os.close(r1)
    os.close(r2)
    written = [event[1:] for event in handler.events if event[0] == "written"]
    assert written == [("k", "a", 8), ("k", "b", 4)]


def test_through_a_pipe_and_back(task: Task) -> None:
    class Stop(Recorder):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            super().ev_read(worker, node, sname, msg)
            if msg == b"last":
                worker.set_write_eof("out")

    reader, writer = os.pipe()
    handler = Stop()
    worker = StreamWorker(handler, key="k")
    worker.set_reader("in", reader)
    worker.set_writer("out", writer, retain=False)
    # More than the pipe holds, through a descriptor that blocks.
    worker.write(b"line\n" * 100_000 + b"last\n", "out")
    run_worker(task, worker)
    assert sum(event[0] == "read" for event in handler.events) == 100_001
    assert sum(event[3] for event in handler.events if event[0] == "written") == 500_005


def test_over_sockets(task: Task) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"question\n")
    handler = Recorder()
    worker = StreamWorker(handler, key="k")
    worker.set_reader("in", theirs)
    worker.set_writer("out", ours)
    worker.write(b"answer\n")
    worker.set_write_eof()
    task.schedule(worker)
    task.resume()
    assert ("read", "k", "in", b"answer") in handler.events
    assert ours.fileno() == -1


def test_large_writes_respect_input_full(task: Task) -> None:
    class Feeder(EventHandler):
        left = 64
        most = 0
        read = 0

        def feed(self, worker: Any) -> None:
            while self.left and not worker.input_full:
                self.left -= 1
                worker.write(bytes(1 << 16))
            if not self.left:
                worker.set_write_eof()

        def ev_start(self, worker: Any) -> None:
            self.feed(worker)
            self.most = 64 - self.left

        def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
            self.feed(worker)

    reader, writer = os.pipe()
    feeder = Feeder()
    sink = WorkerSimple(os.fdopen(reader, "rb"), None, None, "sink", None)
    task.schedule(sink)
    worker = StreamWorker(feeder)
    worker.set_writer("out", writer)
    run_worker(task, worker)
    assert feeder.most == HIGH_WATER // (1 << 16) + 1
    assert len(sink.read() or b"") == 64 << 16


def test_the_reader_has_gone(task: Task) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    handler = Recorder()
    worker = StreamWorker(handler, key="k")
    worker.set_writer("out", writer)
    worker.write(b"x")
    run_worker(task, worker)
    assert handler.events[-1] == ("close", "StreamWorker", False)
    worker.write(b"x", "out")  # dropped
    worker.set_write_eof("out")


def test_there_is_no_such_stream() -> None:
    worker = StreamWorker(None)
    worker.set_writer("out", 1, closefd=False)
    with pytest.raises(ValueError, match=r"'in'.*\['out'\]"):
        worker.write(b"x", "in")
    with pytest.raises(ValueError, match="'in'"):
        worker.set_write_eof("in")


# -- the end --


def test_time_runs_out(task: Task) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"partial")
    handler = Recorder()
    worker = StreamWorker(handler, key="k", timeout=0.1)
    worker.set_reader("stdout", reader)
    run_worker(task, worker)
    os.close(writer)
    assert worker.did_timeout()
    assert list(task.iter_keys_timeout()) == ["k"]
    assert handler.events[-3:] == [
        ("read", "k", "stdout", b"partial"),
        ("hup", "k", None),
        ("close", "StreamWorker", True),
    ]


def test_abort_in_a_handler(task: Task) -> None:
    class Abort(Recorder):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            super().ev_read(worker, node, sname, msg)
            worker.abort()
            worker.abort()

    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\n")
    handler = Abort()
    worker = StreamWorker(handler, key="k")
    worker.set_reader("stdout", reader)
    run_worker(task, worker)
    os.close(writer)
    assert handler.events[2:] == [
        ("read", "k", "stdout", b"one"),
        ("hup", "k", None),
        ("close", "StreamWorker", False),
    ]


def test_abort_before_the_start(task: Task) -> None:
    handler = Recorder()
    worker = StreamWorker(handler)
    worker.abort()
    worker.set_reader("stdout", ended_pipe(b"one\n"))
    task.schedule(worker)
    worker.abort()
    task.resume()
    assert handler.events == []


def test_the_runs_timeout_closes_the_streams(task: Task) -> None:
    reader, writer = os.pipe()
    worker = StreamWorker(None)
    worker.set_reader("stdout", reader)
    task.schedule(worker)
    with pytest.raises(TimeoutError):
        task.resume(0.1)
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)


def test_autoclose_ends_with_the_run(task: Task) -> None:
    reader, writer = os.pipe()
    handler = Recorder()
    worker = StreamWorker(handler, autoclose=True)
    worker.set_reader("stdout", reader)
    task.schedule(worker)
    task.run("true")
    os.close(writer)
    assert handler.events[-1] == ("close", "StreamWorker", False)


def test_an_exception_in_a_handler_closes_the_streams(task: Task) -> None:
    class Broken(EventHandler):
        def ev_written(self, worker: Any, node: Any, sname: str, size: int) -> None:
            raise BrokenPipeError("the handler's own")

    reader, writer = os.pipe()
    worker = StreamWorker(Broken())
    worker.set_writer("out", writer)
    worker.write(b"x")
    task.schedule(worker)
    with pytest.raises(BrokenPipeError, match="the handler's own"):
        task.resume()
    assert os.read(reader, 10) == b"x"
    assert os.read(reader, 10) == b""
    os.close(reader)


def test_streams_are_set_before_the_start(task: Task) -> None:
    class More(EventHandler):
        refused = 0

        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            for setter in (worker.set_reader, worker.set_writer):
                with pytest.raises(WorkerError, match="has started"):
                    setter("more", 0)
                self.refused += 1

    handler = More()
    worker = StreamWorker(handler)
    task.schedule(worker)
    worker.set_reader("stdout", ended_pipe(b"one\n"))
    task.resume()
    assert handler.refused == 2


# -- WorkerSimple and clients of one's own --


def test_worker_simple(task: Task) -> None:
    in_reader, in_writer = os.pipe()
    handler = Recorder()
    worker = WorkerSimple(
        os.fdopen(ended_pipe(b"out\n"), "rb"),
        os.fdopen(in_writer, "wb"),
        os.fdopen(ended_pipe(b"err\n"), "rb"),
        "k",
        handler,
        stderr=True,
    )
    assert worker.writer_fileno() == in_writer
    assert worker.reader_fileno() != worker.error_fileno()
    worker.write(b"in")
    worker.set_write_eof()
    run_worker(task, worker)
    assert (worker.read(), worker.error()) == (b"out", b"err")
    assert os.read(in_reader, 10) == b"in"
    os.close(in_reader)
    assert handler.events[-2:] == [("hup", "k", None), ("close", "WorkerSimple", False)]
    assert worker.current_node is None


def test_a_client_class_of_ones_own(task: Task) -> None:
    class Announced(StreamClient):
        def start(self, engine: Any) -> None:
            started.append(self.key)
            super().start(engine)

    started: list[Any] = []
    worker = StreamWorker(None, key="k", client_class=Announced)
    worker.set_reader("stdout", ended_pipe(b"one\n"))
    run_worker(task, worker)
    assert started == ["k"]
    assert repr(worker) == "<StreamWorker of stdout>"
    assert repr(worker.clients[0]) == "<Announced k: no open stream>"


def test_a_line_that_is_too_long_fails_its_worker_only(task: Task) -> None:
    task.set_info("line_limit", 100)
    long, short = Recorder(), Recorder()
    first = StreamWorker(long, key="long")
    first.set_reader("stdout", ended_pipe(b"begun\n" + bytes(60)))
    first.set_reader("news", ended_pipe(bytes(101)))
    second = StreamWorker(short, key="short")
    second.set_reader("stdout", ended_pipe(bytes(100)))
    task.schedule(first)
    run_worker(task, second)
    [(failure, keys)] = task.iter_failures()
    assert (type(failure), keys) == (LineTooLongError, ["long"])
    assert failure.cause == "A line of news is longer than 100 bytes"
    assert long.events[-2:] == [("hup", "long", 255), ("close", "StreamWorker", False)]
    assert short.events[-2:] == [("hup", "short", None), ("close", "StreamWorker", False)]
    assert second.read() == bytes(100)
