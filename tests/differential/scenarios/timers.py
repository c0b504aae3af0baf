"""Timers and ports on the calling thread's task."""

from __future__ import annotations

from typing import Any

from ClusterShell.Task import task_self

from tests.differential.trace import Trace, TraceHandler, note_task


def _timer(trace: Trace, name: str, fire: float, on_timer: Any = None, **kwargs: Any) -> Any:
    actions = {} if on_timer is None else {"ev_timer": on_timer}
    return trace.label(task_self().timer(fire, TraceHandler(trace, **actions), **kwargs), name)


def one_shot(trace: Trace) -> None:
    timer = _timer(trace, "t", 0.05)
    trace.note("valid", timer.is_valid())
    task_self().resume()


def in_the_order_of_their_times(trace: Trace) -> None:
    for delay in (0.3, 0.1, 0.2, 0.0):
        _timer(trace, f"t{delay}", delay)
    task_self().resume()


def repeating(trace: Trace) -> None:
    count = [0]

    def on_timer(timer: Any) -> None:
        count[0] += 1
        if count[0] == 4:
            timer.invalidate()
            trace.note("valid", timer.is_valid())

    timer = _timer(trace, "t", 0.02, on_timer, interval=0.03)
    task_self().resume()
    trace.note("valid", timer.is_valid())


def set_nextfire_in_its_event(trace: Trace) -> None:
    delays = [0.02, 0.05, 0.01]

    def on_timer(timer: Any) -> None:
        if delays:
            timer.set_nextfire(delays.pop())

    _timer(trace, "t", 0.02, on_timer)
    task_self().resume()


def set_nextfire_with_interval(trace: Trace) -> None:
    count = [0]

    def on_timer(timer: Any) -> None:
        count[0] += 1
        if count[0] == 1:
            timer.set_nextfire(0.02, 0.02)
        if count[0] == 4:
            timer.set_nextfire(0.02)

    _timer(trace, "t", 0.02, on_timer)
    task_self().resume()


def set_nextfire_from_another_event(trace: Trace) -> None:
    late = _timer(trace, "late", 60.0)
    _timer(trace, "early", 0.05, lambda timer: late.set_nextfire(0.05))
    task_self().resume()


def set_nextfire_after_invalidate(trace: Trace) -> None:
    timer = _timer(trace, "t", 60.0)
    timer.invalidate()
    trace.note("valid", timer.is_valid())
    trace.catch("set_nextfire", timer.set_nextfire, 0.1)
    task_self().resume()


def invalidate_from_another_event(trace: Trace) -> None:
    late = _timer(trace, "late", 60.0)
    _timer(trace, "early", 0.05, lambda timer: late.invalidate())
    task_self().resume()
    trace.note("valid", late.is_valid())


def invalidate_from_a_worker(trace: Trace) -> None:
    late = _timer(trace, "late", 60.0)
    handler = TraceHandler(trace, ev_close=lambda *_: late.invalidate())
    task_self().run("echo one", key="k", handler=handler)


def attributes(trace: Trace) -> None:
    handler = TraceHandler(trace)
    timer = task_self().timer(60.0, handler, interval=2.0, autoclose=True)
    trace.note("attributes", [timer.interval, timer.autoclose, timer.eh is handler])
    task_self().resume()


def autoclose(trace: Trace) -> None:
    timer = _timer(trace, "t", 60.0, autoclose=True)
    task_self().run("echo one", key="k", handler=TraceHandler(trace))
    trace.note("valid", timer.is_valid())


def autoclose_that_fires_in_time(trace: Trace) -> None:
    _timer(trace, "t", 0.05, autoclose=True)
    task_self().run("sleep 0.3", key="k", handler=TraceHandler(trace))


def repeating_autoclose_ends_with_the_last_worker(trace: Trace) -> None:
    ticks: list[Any] = []

    class Tick(TraceHandler):
        def ev_timer(self, timer: Any) -> None:
            ticks.append(timer)

    task_self().timer(0.02, Tick(trace), interval=0.02, autoclose=True)
    task_self().run("sleep 0.4", key="k", handler=TraceHandler(trace))
    trace.note("ticks", len(ticks) > 5)


def shell_in_ev_timer(trace: Trace) -> None:
    def on_timer(timer: Any) -> None:
        task_self().shell("echo from the timer", key="k", handler=TraceHandler(trace))

    _timer(trace, "t", 0.05, on_timer)
    task_self().resume()
    note_task(trace, task_self())


def timer_in_ev_timer(trace: Trace) -> None:
    _timer(trace, "first", 0.05, lambda timer: _timer(trace, "second", 0.05))
    task_self().resume()


def timer_in_ev_close(trace: Trace) -> None:
    handler = TraceHandler(trace, ev_close=lambda *_: _timer(trace, "t", 0.05))
    task_self().run("echo one", key="k", handler=handler)


def abort_in_ev_timer(trace: Trace) -> None:
    task = task_self()
    _timer(trace, "t", 0.1, lambda timer: task.abort())
    late = _timer(trace, "late", 60.0)
    trace.label(task.shell("exec sleep 60", key="k", handler=TraceHandler(trace)), "w")
    task.resume()
    trace.note("valid", late.is_valid())
    note_task(trace, task)


def worker_abort_in_ev_timer(trace: Trace) -> None:
    worker = trace.label(
        task_self().shell("exec sleep 60", key="k", handler=TraceHandler(trace)), "w"
    )
    _timer(trace, "t", 0.1, lambda timer: worker.abort())
    task_self().resume()


def handler_raises_in_ev_timer(trace: Trace) -> None:
    def fail(timer: Any) -> None:
        raise LookupError("on purpose")

    _timer(trace, "t", 0.05, fail)
    late = _timer(trace, "late", 60.0)
    trace.catch("resume", task_self().resume)
    trace.note("valid", late.is_valid())
    # ClusterShell would never end another run.


def task_timeout_clears_timers(trace: Trace) -> None:
    late = _timer(trace, "late", 60.0)
    trace.catch("resume", task_self().resume, 0.2)
    trace.note("valid", late.is_valid())
    task_self().resume()


def timer_of_the_next_run(trace: Trace) -> None:
    _timer(trace, "first", 0.05)
    task_self().resume()
    _timer(trace, "second", 0.05)
    task_self().resume()


def abort_clears_timers_before_the_run(trace: Trace) -> None:
    _timer(trace, "t", 0.05)
    task_self().abort()
    task_self().run("sleep 0.1", key="k")


# -- ports -----------------------------------------------------------------------------------------


def port_with_messages_from_a_handler(trace: Trace) -> None:
    task = task_self()

    def on_msg(port: Any, msg: Any) -> None:
        if msg == 3:
            task.remove_port(port)

    port = trace.label(task.port(TraceHandler(trace, ev_msg=on_msg)), "p")

    def on_timer(timer: Any) -> None:
        for number in range(1, 4):
            trace.note("msg_send", bool(port.msg_send(number)))

    _timer(trace, "t", 0.05, on_timer)
    task.resume()


def port_with_messages_before_the_run(trace: Trace) -> None:
    task = task_self()

    def on_msg(port: Any, msg: Any) -> None:
        if msg == "last":
            task.remove_port(port)

    port = trace.label(task.port(TraceHandler(trace, ev_msg=on_msg)), "p")
    for message in ("text", b"bytes", None, [1, {"two": 3}], "last"):
        trace.note("msg_send", bool(port.msg_send(message)))
    task.resume()


def port_autoclose(trace: Trace) -> None:
    task = task_self()
    trace.label(task.port(TraceHandler(trace), autoclose=True), "p")
    task.run("echo one", key="k")
    note_task(trace, task)


def port_that_nobody_closes(trace: Trace) -> None:
    task = task_self()
    trace.label(task.port(TraceHandler(trace)), "p")
    trace.catch("resume", task.resume, 0.2)


def port_is_started_once_and_outlives_the_run(trace: Trace) -> None:
    task = task_self()
    port = trace.label(task.port(TraceHandler(trace), autoclose=True), "p")
    task.run("echo one", key="k")
    port.msg_send("between the runs")
    task.run("sleep 0.1", key="k")


def port_opened_in_a_handler(trace: Trace) -> None:
    task = task_self()

    def on_start(worker: Any) -> None:
        port = trace.label(task.port(TraceHandler(trace), autoclose=True), "p")
        port.msg_send("hello")

    task.run("sleep 0.2", key="k", handler=TraceHandler(trace, ev_start=on_start))


def port_removed_before_the_run(trace: Trace) -> None:
    task = task_self()
    port = task.port(TraceHandler(trace))
    task.remove_port(port)
    trace.note("msg_send", bool(port.msg_send("late")))
    task.resume()


def handler_raises_in_ev_msg(trace: Trace) -> None:
    def fail(port: Any, msg: Any) -> None:
        raise LookupError("on purpose")

    task = task_self()
    port = task.port(TraceHandler(trace, ev_msg=fail))
    port.msg_send("hello")
    trace.catch("resume", task.resume)
    task.remove_port(port)
    task.run("echo usable", key="k")
    note_task(trace, task)


def handler_raises_in_ev_port_start(trace: Trace) -> None:
    def fail(port: Any) -> None:
        raise LookupError("on purpose")

    task = task_self()
    task.port(TraceHandler(trace, ev_port_start=fail))
    trace.catch("resume", task.resume)
