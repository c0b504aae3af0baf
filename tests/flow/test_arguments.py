"""Wrong arguments of public calls: the error names the argument, the value and what to use."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Callable

import pytest

from pyclustershell import (
    AskOnce,
    EventHandler,
    ExecWorker,
    NodeSet,
    Results,
    SSHOptions,
    StreamWorker,
    WorkerPopen,
    WorkerRsh,
    WorkerSsh,
)
from pyclustershell.defaults import DEFAULTS, INFO_KEYS, TASK_DEFAULTS, Defaults
from pyclustershell.exceptions import WorkerError
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.ssh.config.validators import ASKING
from pyclustershell.task import Task
from tests.helpers.recorder import Recorder
from tests.helpers.sh import sh
from tests.helpers.tasks import fresh_task
from tests.servers.leaks import no_leaks

Call = Callable[[Task], Any]


@pytest.fixture
def task() -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        yield task


#: Each way to make a worker, given further arguments.
MAKERS: dict[str, Callable[..., Any]] = {
    "shell on nodes": lambda task, **options: task.shell("true", nodes="n1", **options),
    "shell for nodes": lambda task, **options: task.shell(
        "true", nodes="n1", remote=False, **options
    ),
    "shell": lambda task, **options: task.shell("true", **options),
    "run": lambda task, **options: task.run("true", **options),
    "copy": lambda task, **options: task.copy("/etc/hosts", "/tmp/x", "n1", **options),
    "rcopy": lambda task, **options: task.rcopy("/etc/hosts", "/tmp", "n1", **options),
    "WorkerSsh": lambda _task, **options: WorkerSsh("n1", command="true", **options),
    "WorkerRsh": lambda _task, **options: WorkerRsh("n1", command="true", **options),
    "ExecWorker": lambda _task, **options: ExecWorker("n1", command="true", **options),
    "WorkerPopen": lambda _task, **options: WorkerPopen("true", **options),
    "StreamWorker": lambda _task, **options: StreamWorker(**options),
}


class Methods:
    """A handler class that is not derived from EventHandler."""

    def ev_read(self, worker: Any, node: Any, sname: str, msg: bytes) -> None: ...


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"timeout": "5"}, TypeError, "timeout='5' is a str: use a number of seconds, or None"),
        ({"timeout": True}, TypeError, "timeout=True is a bool: use a number"),
        ({"timeout": [5]}, TypeError, r"timeout=\[5\] is a list: use a number"),
        ({"timeout": float("nan")}, ValueError, "timeout=nan: use a number of seconds"),
        (
            {"handler": EventHandler},
            TypeError,
            r"EventHandler is a class: use .*, EventHandler\(\)",
        ),
        ({"handler": Methods}, TypeError, r"handler=Methods is a class: use .*, Methods\(\)"),
        ({"handler": "x"}, TypeError, r"handler='x' has no event, such as ev_read\(\): use"),
        ({"handler": print}, TypeError, "handler=<.*print> has no event"),
        ({"autoclose": "no"}, TypeError, "autoclose='no' is a str: use True or False"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_of_every_worker(
    maker: str, options: dict[str, Any], kind: type[Exception], message: str, task: Task
) -> None:
    with pytest.raises(kind, match=message):
        MAKERS[maker](task, **options)
    # Nothing was scheduled.
    assert task._engine.backlog == 0


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("timeout", [None, -1, 5, 2.5, Decimal(3), float("inf")], ids=str)
def test_seconds_are_any_numbers(maker: str, timeout: Any, task: Task) -> None:
    MAKERS[maker](task, timeout=timeout)
    task.abort()


CALLS: dict[str, tuple[Call, type[Exception], str]] = {
    "command": (lambda task: task.shell(5), TypeError, "command=5 is an int: use a string"),
    "list": (
        lambda task: task.shell(["ls", "-l"], nodes="n1"),
        TypeError,
        r"command=\['ls', '-l'\] is a list: use a string \(shlex.join\(\) makes one",
    ),
    "no command": (lambda task: task.shell(None), ValueError, "needs a command"),
    "nodes": (
        lambda task: task.shell("true", nodes=["n1", "n2"]),
        TypeError,
        r"such as 'node\[1-9\]', not \['n1', 'n2'\]: see NodeSet.fromlist\(\)",
    ),
    "node": (lambda task: task.shell("true", nodes=5), TypeError, "not 5$"),
    "stderr": (
        lambda task: task.shell("true", stderr="no"),
        TypeError,
        "stderr='no' is a str: use True or False",
    ),
    "stdin": (lambda task: task.shell("true", stdin="no"), TypeError, "stdin='no' is a str"),
    "remote": (lambda task: task.shell("true", remote="no"), TypeError, "remote='no' is"),
    "key": (lambda task: task.shell("true", key=[]), TypeError, r"key=\[\] is a list: use a key"),
    "ssh": (
        lambda task: task.shell("true", nodes="n1", ssh={"password": "secret"}),
        TypeError,
        r"^ssh= takes SSHOptions\(user=\.\.\., \.\.\.\), not a dict$",
    ),
    "source": (
        lambda task: task.copy(5, "/tmp", "n1"),
        TypeError,
        "source=5 is an int: use a path",
    ),
    "dest": (lambda task: task.copy("/etc", 5, "n1"), TypeError, "dest=5 is an int"),
    "zero byte in a command": (
        lambda task: task.shell("echo \0x", nodes="n1"),
        ValueError,
        r"^command=b'echo \\x00x' has a zero byte, .*: leave it out$",
    ),
    "zero byte in a source": (
        lambda task: task.copy("a\0b", "/tmp", "n1"),
        ValueError,
        r"^source=b'a\\x00b' has a zero byte",
    ),
    "zero byte in a destination": (
        lambda task: task.copy("/etc", b"/tmp/a\0b", "n1"),
        ValueError,
        r"^dest=b'/tmp/a\\x00b' has a zero byte",
    ),
    "zero byte in a source of nodes": (
        lambda task: task.rcopy("a\0b", "/tmp", "n1"),
        ValueError,
        r"^source=b'a\\x00b' has a zero byte",
    ),
    "zero byte in a path for scp": (
        lambda task: WorkerRsh("n1", None, source="a\0b", dest="/tmp"),
        ValueError,
        r"^source=b'a\\x00b' has a zero byte",
    ),
    "preserve": (
        lambda task: task.copy("/etc", "/tmp", "n1", preserve="no"),
        TypeError,
        "preserve='no' is a str",
    ),
    "fsync": (
        lambda task: task.copy("/etc", "/tmp", "n1", fsync="no"),
        TypeError,
        "fsync='no' is a str",
    ),
    "resume": (lambda task: task.resume("5"), TypeError, "timeout='5' is a str"),
    "run": (lambda task: task.run(timeout="5"), TypeError, "timeout='5' is a str"),
    "schedule": (
        lambda task: task.schedule(WorkerSsh),
        TypeError,
        r"schedule\(\) takes a worker such as WorkerSsh\(\.\.\.\), not <class",
    ),
    "fire": (lambda task: task.timer("5", Recorder()), TypeError, "fire='5' is a str"),
    "fire late": (
        lambda task: task.timer(-1, Recorder()),
        ValueError,
        "cannot fire in -1 seconds: use fire=0",
    ),
    "fire never": (
        lambda task: task.timer(float("inf"), Recorder()),
        ValueError,
        "cannot fire in inf seconds",
    ),
    "interval": (
        lambda task: task.timer(1, Recorder(), "2"),
        TypeError,
        "interval='2' is a str",
    ),
    "endless interval": (
        lambda task: task.timer(1, Recorder(), float("inf")),
        ValueError,
        "interval=inf never ends",
    ),
    "timer": (lambda task: task.timer(1, EventHandler), TypeError, "EventHandler is a class"),
    "port": (lambda task: task.port(EventHandler), TypeError, "EventHandler is a class"),
    "port autoclose": (
        lambda task: task.port(autoclose="no"),
        TypeError,
        "autoclose='no' is a str",
    ),
    "info": (
        lambda task: task.set_info("fanuot", 3),
        ValueError,
        r"unknown key 'fanuot': did you mean 'fanout'\? \(keys of your own begin with USER_\)",
    ),
    "info of the other kind": (
        lambda task: task.set_info("stderr", True),
        ValueError,
        r"'stderr' has no effect here: set it with set_default\(\)",
    ),
    "default of the other kind": (
        lambda task: task.set_default("fanout", 3),
        ValueError,
        r"'fanout' has no effect here: set it with set_info\(\)",
    ),
    "info key": (lambda task: task.set_info(5, 3), TypeError, "a key must be a string, not 5"),
    "info fanout": (lambda task: task.set_info("fanout", "3"), TypeError, "fanout must be an int"),
    "info grooming": (
        lambda task: task.set_info("grooming_delay", "3"),
        TypeError,
        "grooming_delay must be a number of seconds, not '3'",
    ),
    "info print": (
        lambda task: task.set_info("print_debug", 5),
        TypeError,
        "print_debug takes a function, not an int",
    ),
    "info user": (lambda task: task.set_info("ssh_user", 5), TypeError, "ssh_user must be a str"),
    "info options": (
        lambda task: task.set_info("ssh_options", ["-l"]),
        TypeError,
        "ssh_options must be a string",
    ),
    "default": (
        lambda task: task.set_default("stder", True),
        ValueError,
        r"unknown key 'stder': did you mean 'stderr'\?",
    ),
    "default value": (
        lambda task: task.set_default("stderr", "no"),
        TypeError,
        "stderr must be True or False, not 'no'",
    ),
    "default limit": (
        lambda task: task.set_default("port_qlimit", "x"),
        TypeError,
        "port_qlimit must be an integer, not 'x'",
    ),
    "match": (lambda task: list(task.iter_buffers("n1")), TypeError, "match_keys must be a"),
    "defaults": (
        lambda _task: Task(threading.Thread(), defaults="x"),
        TypeError,
        r"defaults= takes Defaults\(\), not 'x'",
    ),
    "closed": (
        lambda _task: WorkerPopen("true").when_closed(5),
        TypeError,
        r"when_closed\(\) takes a function, not an int",
    ),
    "set_key": (lambda _task: WorkerPopen("true").set_key([]), TypeError, r"key=\[\] is a list"),
    "stream set_key": (lambda _task: StreamWorker().set_key([]), TypeError, r"key=\[\] is a list"),
    "words": (
        lambda task: task.set_info("rsh_path", "'rsh"),
        ValueError,
        'rsh_path="\'rsh" cannot be split into words: No closing quotation',
    ),
    "keyword": (
        lambda task: task.shell("date +%s", nodes="n1", remote=False),
        WorkerError,
        r"unknown keyword %s in 'date \+%s': use .* %% for a percent sign",
    ),
    "keyword of a copy": (
        lambda _task: ExecWorker("n1", source="/tmp/%z", dest="/tmp"),
        WorkerError,
        "unknown keyword %z in '/tmp/%z'",
    ),
    "keyword of a destination": (
        lambda _task: ExecWorker("n1", source=b"/tmp", dest=b"/tmp/%"),
        WorkerError,
        "a lone % in '/tmp/%'",
    ),
    "name in a command": (
        lambda task: task.shell("echo %h", nodes="n1;id", remote=False),
        WorkerError,
        "'n1;id' contains ';', which may have a meaning to a shell",
    ),
    "handler": (
        lambda _task: setattr(WorkerPopen("true"), "eh", EventHandler),
        TypeError,
        "EventHandler is a class",
    ),
}


async def answer(*_arguments: Any) -> Any:
    """Answer, some day."""


async def answers(*_arguments: Any) -> Any:
    """Answer again and again."""
    yield None


class Asynchronous:
    """An object that can be called like a coroutine function."""

    async def __call__(self, *_arguments: Any) -> Any: ...

    async def ev_read(self, *_arguments: Any) -> Any: ...


#: What is called like a function, but gives a coroutine.
COROUTINES: dict[str, Any] = {
    "function": answer,
    "iterator": answers,
    "method": Asynchronous().ev_read,
    "object": Asynchronous(),
    "partial function": functools.partial(answer, 1),
    "partial object": functools.partial(Asynchronous(), 1),
}

#: Each place that takes a function.
CALLBACKS: dict[str, Callable[[Task, Any], Any]] = {
    "when_closed": lambda _task, it: WorkerPopen("true").when_closed(it),
    "when_gone": lambda _task, it: WorkerPopen("true").when_gone(it),
    "post": lambda task, it: task.post(it),
    "excepthook": lambda task, it: setattr(task, "excepthook", it),
    "print_debug": lambda task, it: task.set_info("print_debug", it),
    "Results.nodes": lambda _task, it: Results([]).nodes(it),
    "LoopbackCluster": lambda _task, it: LoopbackCluster("n1", handler=it),
    "AskOnce": lambda _task, it: AskOnce(it),
    **{
        f"configure_ssh {name}": lambda task, it, name=name: task.configure_ssh(**{name: it})
        for name in ("user", "port", "hostname", *ASKING)
    },
    **{
        f"ssh {name}": lambda task, it, name=name: task.shell(
            "true", nodes="n1", ssh=SSHOptions(**{name: it})
        )
        for name in ("user", "port", "hostname", *ASKING)
    },
}


@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("kind", COROUTINES)
def test_functions_are_no_coroutine_functions(callback: str, kind: str, task: Task) -> None:
    with pytest.raises(TypeError, match=r"coroutine function.*(use|only)"):
        CALLBACKS[callback](task, COROUTINES[kind])


class Derived(EventHandler):
    """A handler with an event that nothing would await."""

    async def ev_hup(self, worker: Any, node: str, rc: Any) -> None: ...


class Assigned(EventHandler):
    """A handler whose events are set later."""

    def __init__(self) -> None:
        setattr(self, "ev_timer", answer)  # noqa: B010


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (Derived(), r"Derived\.ev_hup"),
        (Asynchronous(), r"Asynchronous\.ev_read"),
        (Assigned(), "answer"),
    ],
)
def test_events_are_no_coroutine_functions(handler: Any, name: str, task: Task) -> None:
    message = rf"^{name}\(\) is a coroutine function, .*: use pyclustershell.aio.Session, or call"
    for call in (
        lambda: task.shell("true", handler=handler),
        lambda: task.timer(1, handler),
        lambda: task.port(handler),
    ):
        for _ in range(2):  # the class is remembered only if it is right
            with pytest.raises(TypeError, match=message):
                call()
    assert task._engine.backlog == 0


@pytest.mark.parametrize("call", CALLS)
def test_of_other_calls(call: str, task: Task) -> None:
    function, kind, message = CALLS[call]
    with pytest.raises(kind, match=message):
        function(task)
    assert task._engine.backlog == 0
    assert not len(task._engine.timers)


@pytest.mark.parametrize("name", ["popen", "ssh", "stream"])
def test_input_is_bytes(name: str, task: Task) -> None:
    reader, writer = os.pipe()
    stream = StreamWorker()
    stream.set_writer("stdin", writer)
    worker = {
        "popen": lambda: task.shell("cat"),
        "ssh": lambda: WorkerSsh("n1", command="cat"),
        "stream": lambda: stream,
    }[name]()
    with pytest.raises(
        TypeError, match=r"write\(\) takes bytes, such as text.encode\(\), not a str"
    ):
        worker.write("text")
    with pytest.raises(TypeError, match=r"write\(\) takes bytes, not an int"):
        worker.write(5)
    worker.write(bytearray(b"line"))
    with pytest.raises(ValueError, match="no stream 'stdim' to write to"):
        worker.write(b"", "stdim")
    os.close(reader)
    os.close(writer)
    task.abort()


def test_a_timer_that_is_set_again(task: Task) -> None:
    timer = task.timer(10, Recorder())
    with pytest.raises(TypeError, match="fire_delay='1' is a str: use a number of seconds"):
        timer.set_nextfire("1")
    with pytest.raises(TypeError, match="interval='1' is a str"):
        timer.set_nextfire(1, "1")
    timer.set_nextfire(-1)  # it is late: fire now
    task.resume()


def test_nodes_that_were_not_in_the_run(task: Task) -> None:
    worker = task.run("exit 3", nodes="node[1-9]", remote=False)
    near = "'node10' is not one of the {} 9 nodes: did you mean 'node1'"
    with pytest.raises(KeyError, match=near.format("worker's")):
        worker.node_retcode("node10")
    with pytest.raises(KeyError, match=near.format("worker's")):
        worker.node_failure("node10")
    with pytest.raises(KeyError, match=near.format("worker's")):
        worker.skipped("node10")
    with pytest.raises(KeyError, match=near.format("run's")):
        task.node_retcode("node10")
    with pytest.raises(KeyError, match="did you mean 'node1'"):
        worker.results()["node10"]
    # In ClusterShell, too, a node that is not there has no output.
    assert worker.node_buffer("node10") is None


def test_a_node_without_a_return_code_says_why(task: Task) -> None:
    worker = task.run("exec sleep 60", nodes="node1", remote=False, timeout=0.1)
    for getter in (worker.node_retcode, task.node_retcode):
        with pytest.raises(KeyError, match=r"'node1' has no return code: .*, it timed out, or"):
            getter("node1")


def test_a_handler_may_be_a_class_of_functions(task: Task) -> None:
    lines: list[bytes] = []

    class Static:
        @staticmethod
        def ev_read(worker: Any, node: Any, sname: str, msg: bytes) -> None:
            lines.append(msg)

    task.run("echo out", handler=Static)
    assert lines == [b"out"]


def test_keys_of_scripts_are_kept(task: Task) -> None:
    for key in ("USER_fanout", "myscript.limit", "x"):
        task.set_info(key, 1)
        task.set_default(key, 1)
        assert task.info(key) == task.default(key) == 1


def test_every_key_can_be_set_to_its_own_value(task: Task) -> None:
    for key in INFO_KEYS:
        if task.info(key) is not None:
            task.set_info(key, task.info(key))
    for key in TASK_DEFAULTS:
        task.set_default(key, task.default(key))


def test_defaults_are_checked_alike() -> None:
    defaults = Defaults([])
    with pytest.raises(TypeError, match="stderr must be True or False"):
        defaults.stderr = "no"
    with pytest.raises(TypeError, match="port_qlimit must be an integer"):
        defaults.port_qlimit = "5"
    assert DEFAULTS is not defaults


def test_a_negative_timeout_of_a_run_is_none(task: Task) -> None:
    """As in ClusterShell."""
    for timeout in (-1, -1.0, 0, None):
        task.shell(sh("true"))
        task.resume(timeout)
        assert task.max_retcode() == 0
    assert NodeSet() == NodeSet("")
