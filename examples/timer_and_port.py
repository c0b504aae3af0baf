"""Send messages to a task in its own thread, and use a timer: python timer_and_port.py [NODES]."""

from __future__ import annotations

from typing import Any

from where import cluster

from pyclustershell import EventHandler, Task, task_self


class Desk(EventHandler):
    """Runs each command that it receives; None closes the port."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def ev_msg(self, port: Any, msg: Any) -> None:
        if msg is None:
            self.task.remove_port(port)  # now only the commands keep the run going
        else:
            self.task.shell(msg, key=msg, handler=self)

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None:
        print(f"{node} -> {msg.decode()}", flush=True)


class Clock(EventHandler):
    """Ticks three times."""

    ticks = 0

    def ev_timer(self, timer: Any) -> None:
        self.ticks += 1
        print(f"tick {self.ticks}", flush=True)
        if self.ticks == 3:
            timer.invalidate()


# A task with its own thread: resume() returns at once, and other threads send it messages.
desk = Task()
port = desk.port(Desk(desk))
desk.resume()
for order in ("echo one", "echo two"):
    port.msg(order)  # returns when the task has taken the message
port.msg(None)
desk.join()
desk.abort(kill=True)

# The calling thread's own task: a timer next to a command.
with cluster("node1") as nodes:
    task = task_self()
    task.timer(0.05, Clock(), interval=0.05)
    task.run("echo done", nodes=nodes)
    print(task.max_retcode())
