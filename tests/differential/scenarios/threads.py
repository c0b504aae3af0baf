"""Tasks with threads of their own, and calls from other threads."""

from __future__ import annotations

import threading
from typing import Any

from ClusterShell.Task import Task, task_cleanup, task_self, task_terminate, task_wait

from tests.differential.trace import Trace, TraceHandler, in_thread, note_task


def own_thread_and_join(trace: Trace) -> None:
    task = Task()
    task.shell("echo one; exit 2", key="k", handler=TraceHandler(trace))
    task.resume()
    task.join()
    note_task(trace, task)
    trace.note("running", bool(task.running()))
    task.abort(kill=True)


def own_thread_and_task_wait(trace: Trace) -> None:
    tasks = [Task(), Task()]
    for number, task in enumerate(tasks):
        task.shell(
            f"sleep 0.2; echo {number}; exit {number}", key=number, handler=TraceHandler(trace)
        )
        task.resume()
    task_wait()
    for task in tasks:
        note_task(trace, task)
    task_cleanup()


def task_wait_class_method(trace: Trace) -> None:
    task = Task()
    task.shell("sleep 0.2; echo one", key="k")
    task.resume()
    Task.wait(threading.current_thread())
    note_task(trace, task)
    task_cleanup()


def join_of_a_task_that_never_ran(trace: Trace) -> None:
    task = Task()
    task.join()
    trace.note("joined")
    task_cleanup()


def own_thread_runs_twice(trace: Trace) -> None:
    task = Task()
    for number in range(2):
        task.shell(f"echo {number}", key=number, handler=TraceHandler(trace))
        task.resume()
        task_wait()
        note_task(trace, task)
    task_cleanup()


def own_thread_over_ssh(trace: Trace) -> None:
    task = Task()
    task.set_info("ssh_options", trace.ssh_options)
    task.shell("echo one; exit 2", nodes="node[1-2]", handler=TraceHandler(trace))
    task.resume()
    task_wait()
    note_task(trace, task)
    task_cleanup()


def handlers_run_on_the_tasks_thread(trace: Trace) -> None:
    task = Task()
    threads: list[Any] = []

    def on_read(worker: Any, *_: Any) -> None:
        threads.append(threading.current_thread() is task.thread)
        threads.append(task_self() is task)

    task.shell("echo one", key="k", handler=TraceHandler(trace, ev_read=on_read))
    task.resume()
    task_wait()
    trace.note("threads", threads)
    task_cleanup()


def shell_from_another_thread_while_it_runs(trace: Trace) -> None:
    task = Task()
    begun = threading.Event()
    task.shell(
        "echo one; sleep 0.5", key=1, handler=TraceHandler(trace, ev_read=lambda *_: begun.set())
    )
    task.resume()
    begun.wait(10)
    task.shell("echo two", key=2, handler=TraceHandler(trace))
    task_wait()
    note_task(trace, task)
    task_cleanup()


def set_info_from_another_thread(trace: Trace) -> None:
    task = Task()
    task.set_info("USER_key", 1)
    task.shell("true", key="k")
    task.resume()
    task_wait()
    trace.note("info", task.info("USER_key"))
    task.set_default("USER_key", 2)
    trace.note("default", task.default("USER_key"))
    task_cleanup()


def timer_from_another_thread(trace: Trace) -> None:
    task = Task()
    trace.label(task.timer(0.1, TraceHandler(trace)), "t")
    task.resume()
    task_wait()
    task_cleanup()


def abort_from_another_thread(trace: Trace) -> None:
    task = Task()
    begun = threading.Event()
    task.shell("echo on; exec sleep 60", key="k", handler=_setting(begun, trace))
    task.resume()
    begun.wait(10)
    task.abort()
    task_wait()
    trace.note("running", bool(task.running()))
    task_cleanup()


def kill_from_another_thread(trace: Trace) -> None:
    task = Task()
    begun = threading.Event()
    task.shell("echo on; exec sleep 60", key="k", handler=_setting(begun, trace))
    task.resume()
    begun.wait(10)
    task.abort(kill=True)
    task.thread.join(10)
    trace.note("alive", task.thread.is_alive())


def suspend_and_resume(trace: Trace) -> None:
    task = Task()
    begun, closed = threading.Event(), threading.Event()
    task.shell("echo 1; exec sleep 60", key="k", handler=_setting(begun, trace))
    task.resume()
    begun.wait(10)
    trace.note("suspended", task.suspend())
    handler = TraceHandler(trace, ev_close=lambda *_: closed.set())
    task.shell("echo while suspended", key="second", handler=handler)
    trace.note("closed", closed.wait(0.2))
    task.resume()
    trace.note("closed", closed.wait(10))
    task.abort()
    task_cleanup()


def suspend_lets_commands_go_on(trace: Trace) -> None:
    task = Task()
    begun = threading.Event()
    handler = TraceHandler(trace, ev_read=lambda *_: begun.set())
    task.shell("echo 1; sleep 0.3; echo 2", key="k", handler=handler)
    task.resume()
    begun.wait(10)
    trace.note("suspended", task.suspend())
    task.resume()
    task_wait()
    note_task(trace, task)
    task_cleanup()


def suspend_of_a_task_that_does_not_run(trace: Trace) -> None:
    task = Task()
    trace.note("suspended", task.suspend())
    task_cleanup()


def excepthook(trace: Trace) -> None:
    task = Task()
    told: list[Any] = []
    done = threading.Event()

    def hook(kind: Any, value: Any, traceback: Any) -> None:
        told.append([kind.__name__, str(value)])
        done.set()

    def fail(*_: Any) -> None:
        raise LookupError("on purpose")

    task.excepthook = hook
    trace.note("set", task.excepthook is hook)
    task.shell("echo one; exec sleep 60", key="k", handler=TraceHandler(trace, ev_read=fail))
    task.resume()
    done.wait(10)
    trace.note("told", told)


def task_timeout_in_its_own_thread(trace: Trace) -> None:
    task = Task()
    told: list[Any] = []
    done = threading.Event()
    task.excepthook = lambda kind, value, tb: (told.append(kind.__name__), done.set())
    task.shell("exec sleep 60", key="k", handler=TraceHandler(trace))
    task.resume(0.3)
    done.wait(10)
    trace.note("told", told)


def task_self_and_task_of_a_thread(trace: Trace) -> None:
    task = task_self()
    trace.note("same", task is task_self())
    trace.note("same by thread", Task(thread=threading.current_thread()) is task)
    trace.note("thread", task.thread is threading.current_thread())
    others: list[Any] = []
    in_thread(lambda: others.append(task_self()))
    trace.note("another", others[0] is task)
    task_terminate()
    trace.note("new", task is task_self())


def task_self_in_another_thread_runs_there(trace: Trace) -> None:
    def run() -> None:
        task_self().run("echo one; exit 2", key="k", handler=TraceHandler(trace))
        note_task(trace, task_self())
        task_terminate()

    in_thread(run)


def abort_with_kill_in_a_handler(trace: Trace) -> None:
    task = task_self()
    handler = TraceHandler(trace, ev_read=lambda *_: task.abort(kill=True))
    task.shell("echo one; exec sleep 60", key="k", handler=handler)
    task.resume()
    trace.note("given up", task_self() is task)
    task_self().run("echo two", key="k")
    note_task(trace, task_self())


def port_between_two_tasks(trace: Trace) -> None:
    receiver = Task()

    def on_msg(port: Any, msg: Any) -> None:
        if msg == "end":
            receiver.remove_port(port)

    port = trace.label(receiver.port(TraceHandler(trace, ev_msg=on_msg)), "p")
    receiver.resume()

    def on_read(worker: Any, node: Any, sname: str, msg: bytes) -> None:
        trace.note("msg", bool(port.msg(msg)))

    task_self().run("echo one; echo two", key="k", handler=TraceHandler(trace, ev_read=on_read))
    trace.note("end", bool(port.msg_send("end")))
    task_wait()
    trace.note("closed", bool(port.msg("late")))
    task_cleanup()


def port_messages_start_commands(trace: Trace) -> None:
    receiver = Task()

    def on_msg(port: Any, msg: Any) -> None:
        receiver.shell(msg, key=msg, handler=TraceHandler(trace))
        receiver.remove_port(port)

    port = receiver.port(TraceHandler(trace, ev_msg=on_msg))
    trace.label(port, "p")
    receiver.resume()
    port.msg("echo from a message")
    task_wait()
    note_task(trace, receiver)
    task_cleanup()


def _setting(event: threading.Event, trace: Trace) -> TraceHandler:
    return TraceHandler(trace, ev_read=lambda *_: event.set())
