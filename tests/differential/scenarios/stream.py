"""StreamWorker: pipes and files of the script's own."""

from __future__ import annotations

import os
from typing import Any

from ClusterShell.Task import task_self
from ClusterShell.Worker.Worker import StreamWorker

from tests.differential.trace import Trace, TraceHandler, note_task


def _stream(trace: Trace, handler: Any = None, **kwargs: Any) -> Any:
    handler = TraceHandler(trace) if handler is None else handler
    return trace.label(StreamWorker(handler=handler, **kwargs), "s")


def _ended_pipe(data: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


class _WorkerOnly(TraceHandler):
    """ev_close gets a StreamClient in ClusterShell: known, and not told of here."""

    def ev_close(self, worker: Any, timedout: bool) -> None:
        self.trace.note("ev_close", timedout)


def one_reader(trace: Trace) -> None:
    worker = _stream(trace, _WorkerOnly(trace), key="k")
    worker.set_reader("stdout", _ended_pipe(b"one\ntwo\nrest"))
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())
    trace.note("read", worker.read())
    trace.note("key_buffer", task_self().key_buffer("k"))


def two_named_readers(trace: Trace) -> None:
    worker = _stream(trace, _WorkerOnly(trace), key="k")
    worker.set_reader("first", _ended_pipe(b"one\n"))
    worker.set_reader("second", _ended_pipe(b"two\n"))
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())
    trace.catch("read", worker.read, sname="first")
    trace.catch("read stdout", worker.read)


def stdout_and_stderr(trace: Trace) -> None:
    worker = _stream(trace, _WorkerOnly(trace), key="k")
    worker.set_reader("stdout", _ended_pipe(b"out\n"))
    worker.set_reader("stderr", _ended_pipe(b"err\n"))
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())
    trace.note("read", [worker.read(), worker.read(sname="stderr")])
    trace.note("current", [worker.current_msg, worker.current_errmsg, worker.current_rc])


def writer_and_reader(trace: Trace) -> None:
    reader, writer = os.pipe()

    class Stop(_WorkerOnly):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            super().ev_read(worker, node, sname, msg)
            worker.set_write_eof("out")

    worker = _stream(trace, Stop(trace), key="k")
    worker.set_reader("in", reader)
    worker.set_writer("out", writer, retain=False)
    worker.write(b"through the pipe\n", "out")
    task_self().schedule(worker)
    task_self().resume()


def write_to_all_writers(trace: Trace) -> None:
    (r1, w1), (r2, w2) = os.pipe(), os.pipe()
    worker = _stream(trace, _WorkerOnly(trace), key="k")
    worker.set_writer("a", w1)
    worker.set_writer("b", w2)
    worker.write(b"to both")
    worker.set_write_eof()
    task_self().schedule(worker)
    task_self().resume()
    trace.note("received", [os.read(r1, 100), os.read(r2, 100)])


def reader_that_does_not_retain(trace: Trace) -> None:
    reader, writer = os.pipe()
    worker = _stream(trace, _WorkerOnly(trace), key="k")
    worker.set_reader("background", reader, retain=False)
    worker.set_reader("stdout", _ended_pipe(b"one\n"))
    task_self().schedule(worker)
    task_self().resume()
    os.close(writer)
    note_task(trace, task_self())


def descriptor_left_open(trace: Trace) -> None:
    reader = _ended_pipe(b"one\n")
    worker = _stream(trace, _WorkerOnly(trace), key="k")
    worker.set_reader("stdout", reader, closefd=False)
    task_self().schedule(worker)
    task_self().resume()
    trace.note("still open", os.read(reader, 1))


def file_objects(trace: Trace) -> None:
    worker = _stream(trace, _WorkerOnly(trace), key="k")
    # ClusterShell keeps the descriptor only, which is closed with its file.
    file = os.fdopen(_ended_pipe(b"one\n"), "rb", 0)
    worker.set_reader("stdout", file, closefd=False)
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())


def timeout(trace: Trace) -> None:
    reader, _writer = os.pipe()
    worker = _stream(trace, _WorkerOnly(trace), key="k", timeout=0.3)
    worker.set_reader("stdout", reader)
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())
    trace.note("did_timeout", worker.did_timeout())


def abort(trace: Trace) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one\n")

    class Abort(_WorkerOnly):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            super().ev_read(worker, node, sname, msg)
            worker.abort()

    worker = _stream(trace, Abort(trace), key="k")
    worker.set_reader("stdout", reader)
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())


def without_a_key(trace: Trace) -> None:
    worker = _stream(trace, _WorkerOnly(trace))
    worker.set_reader("stdout", _ended_pipe(b"one\n"))
    task_self().schedule(worker)
    task_self().resume()
    note_task(trace, task_self())
    trace.note("read", worker.read())


def new_stream_while_it_runs(trace: Trace) -> None:
    class More(_WorkerOnly):
        def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
            trace.catch("set_reader", worker.set_reader, "more", 0)
            trace.catch("set_writer", worker.set_writer, "more", 0)

    worker = _stream(trace, More(trace), key="k")
    worker.set_reader("stdout", _ended_pipe(b"one\n"))
    task_self().schedule(worker)
    task_self().resume()
