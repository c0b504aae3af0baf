"""A forked child gives up what it inherits: each object, alone."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import closing
from typing import Any, Callable

import pytest

from pyclustershell.engine.delayed import DelayedCalls
from pyclustershell.engine.engine import READ, Engine
from pyclustershell.engine.threadpool import ThreadPool
from pyclustershell.engine.timer import Timer
from pyclustershell.exceptions import TaskError
from pyclustershell.local.child import ChildProcess
from pyclustershell.ssh.config.askonce import AnswerState, AskOnce
from pyclustershell.ssh.connect.tcpstream import TCPStream
from pyclustershell.task import Task, task_self
from tests.helpers.tasks import fresh_task

pytestmark = pytest.mark.posix_only("Windows has no fork")


def check_in_child(check: Callable[[], Any]) -> None:
    """Fork; fail unless the function returns a true value in the child."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_stream_sends_nothing_in_the_child() -> None:
    ours, theirs = socket.socketpair()
    engine = Engine()
    with closing(theirs):
        stream = TCPStream(ours, engine)
        stream.send(b"before")

        def in_child() -> bool:
            stream.abandon()  # as its link does
            stream.send(b"child")
            stream.flush()
            stream.close()
            stream.free()
            return stream.fileno() == -1

        check_in_child(in_child)
        stream.send(b" after")
        assert theirs.recv(100) == b"before after"
        stream.close()
        stream.free()
    engine.close()


def test_the_parents_selector_is_left_alone() -> None:
    engine = Engine()
    receiver, sender = socket.socketpair()
    with closing(receiver), closing(sender):
        seen: list[bytes] = []
        watch = engine.register(receiver, READ, lambda _events: seen.append(receiver.recv(10)))

        def in_child() -> bool:
            engine.unregister(watch)
            engine.post(seen.append, b"child")
            assert engine.watched_descriptors == frozenset()
            engine.run()
            return seen == [b"child"]

        check_in_child(in_child)
        sender.send(b"data")
        engine.timers.add(Timer(lambda: None, autoclose=False), 0.05)
        engine.run()
        assert seen == [b"data"]
        assert receiver.fileno() in engine.watched_descriptors
        engine.unregister(watch)
    engine.close()


def test_a_loop_that_forks_ends_in_the_child() -> None:
    engine = Engine()
    pids: list[int] = []
    later: list[int] = []

    def fork() -> None:
        pids.append(os.fork())

    parent = os.getpid()
    engine.timers.add(Timer(fork, autoclose=False), 0.0)
    engine.timers.add(Timer(lambda: later.append(os.getpid()), autoclose=False), 0.1)
    try:
        engine.run()
    except BaseException:
        if os.getpid() != parent:
            os._exit(3)
        raise
    if os.getpid() != parent:
        os._exit(0 if not later and not engine.running else 4)
    assert later == [parent]
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 0
    engine.close()


def test_delayed_calls_of_the_parent_are_not_made_in_the_child() -> None:
    calls = DelayedCalls()
    made = threading.Event()
    cancel = calls.call_later(0.2, made.set)

    def in_child() -> bool:
        own = threading.Event()
        calls.call_later(0.0, own.set)
        return own.wait(10) and not made.wait(0.5)

    check_in_child(in_child)
    assert made.wait(10)
    cancel()


def test_a_busy_thread_pool_works_in_the_child() -> None:
    pool = ThreadPool("test", 1)
    release, ended = threading.Event(), threading.Event()
    pool.submit(release.wait)
    pool.submit(ended.set)

    def in_child() -> bool:
        own = threading.Event()
        pool.submit(own.set)
        return own.wait(10) and not ended.is_set()

    check_in_child(in_child)
    release.set()
    assert ended.wait(10)


def test_locks_that_another_thread_holds_do_not_block_the_child() -> None:
    pool, calls = ThreadPool("test", 1), DelayedCalls()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with pool._lock, calls._changed:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def in_child() -> bool:
        own, other = threading.Event(), threading.Event()
        pool.submit(own.set)
        calls.call_later(0.0, other.set)
        return own.wait(10) and other.wait(10)

    check_in_child(in_child)
    release.set()
    thread.join()


def test_a_local_process_gets_no_signal_from_the_child() -> None:
    process = ChildProcess(["cat"], stdin=-1, stdout=-1)
    check_in_child(lambda: process.poll() is not None and process.stdin.closed)  # type: ignore[union-attr]
    assert process.poll() is None
    assert process.communicate(b"data") == (b"data", None)
    assert process.returncode == 0


def test_the_tasks_of_the_child() -> None:
    with fresh_task() as task:
        own = Task()

        def in_child() -> bool:
            assert task_self() is not task
            own.join()
            assert not own.suspend()
            with pytest.raises(TaskError, match="forked"):
                own.resume()
            task.run("exit 3", key="key")
            return task.max_retcode() == 3

        task.shell("true", key="of the parent")
        check_in_child(in_child)
        task.resume()
        assert task.max_retcode() == 0
        own.abort(kill=True)
        own.thread.join(10)


def test_a_port_of_the_parent_refuses_messages_in_the_child() -> None:
    with fresh_task() as task:
        port = task.port()
        check_in_child(lambda: not port.msg_send("message"))
        assert port.msg_send("message")


def test_an_answer_on_trial_is_tried_again_in_the_child() -> None:
    answers = AskOnce(lambda node: f"answer of {node}")
    assert answers("node1") == "answer of node1"
    assert answers.claim("node1", lambda: None) is AnswerState.UNTRIED

    def in_child() -> bool:
        # The answer is kept: nobody is asked again.
        return (
            answers("node2") == "answer of node1"
            and answers.claim("node2", lambda: None) is AnswerState.UNTRIED
        )

    check_in_child(in_child)
    assert answers.claim("node2", lambda: None) is AnswerState.ON_TRIAL


def test_a_program_that_starts_processes_while_it_forks() -> None:
    """The pipes of a process that is being started are not inherited: its start would hang."""
    stop = threading.Event()
    outputs: list[bytes] = []

    def start_processes() -> None:
        while not stop.is_set():
            process = ChildProcess(["echo", "out"], stdout=-1)
            outputs.append(process.communicate()[0])

    thread = threading.Thread(target=start_processes)
    thread.start()
    # Children that live on: what they have inherited stays open.
    receiver, sender = os.pipe()
    pids = []
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            os.close(sender)
            os.read(receiver, 1)
            os._exit(0)
        pids.append(pid)
    stop.set()
    thread.join(20)
    alive = thread.is_alive()
    os.close(sender)
    os.close(receiver)
    for pid in pids:
        os.waitpid(pid, 0)
    assert not alive
    assert set(outputs) == {b"out\n"}
