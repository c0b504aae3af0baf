"""Spread: commands and copies by several processes, and all that ends them."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import active_children, get_context
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any, Callable

import paramiko
import pytest

from pyclustershell import AskOnce, EventHandler, NodeSet, Results, Task, TaskError
from pyclustershell.exceptions import NodeSetParseError, ShardError
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.spread import Spread, run_shard
from pyclustershell.spread.slots import assign, shared
from tests.helpers.needs import require
from tests.helpers.programs import ROOT
from tests.helpers.sh import SHELL
from tests.helpers.waiting import wait_until
from tests.servers.leaks import no_leaks
from tests.servers.processes import node_path
from tests.servers.sshd import Sshd

NODES = "node[1-60]"
NAME = "echo $PYCLUSTERSHELL_NODE"
MIXED = (
    'case "$PYCLUSTERSHELL_NODE" in *7) echo bad >&2; exit 3;; *9) exec sleep 30;; esac; '
    "echo one; echo two"
)

pytestmark = pytest.mark.posix_only("the commands are for a POSIX shell")


@pytest.fixture(scope="module", autouse=True)
def tracker() -> None:
    """Start the process that multiprocessing has in each program: it stays to its end."""
    ensure_running()


def answer(node: str) -> str:
    """A password: a function that other processes can import."""
    return f"secret of {node}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster(NODES, shell=SHELL) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def spread(cluster: LoopbackCluster) -> Iterator[Spread]:
    with no_leaks(), Spread(2, config_files=cluster.ssh_config) as spread:
        yield spread


def pids(spread: Spread) -> list[int]:
    """The numbers of the worker processes."""
    processes = spread._processes
    assert processes is not None
    return [slot.pid for slot in processes.slots if slot.pid is not None]


def running(home: str) -> bool:
    """True if a command of a node has left its mark and runs."""
    return os.path.exists(os.path.join(home, "mark"))


def comparable(results: Results) -> dict[str, tuple[Any, ...]]:
    """All of the results but times."""
    return {
        node: (it.rc, it.stdout, it.stderr, it.cause, it.timed_out, it.aborted, it.started is None)
        for node, it in results.items()
    }


# -- results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [False, True])
def test_results_are_those_of_one_task(
    cluster: LoopbackCluster, spread: Spread, live: bool
) -> None:
    nodes = NodeSet("node[1-20],node99")  # node99 has no address
    with Task() as task:
        task.configure_ssh(config_files=cluster.ssh_config)
        expected = task.submit(MIXED, nodes=nodes, timeout=1, stderr=True).result()
    lines: list[tuple[str, str, bytes]] = []
    found = spread.run(
        MIXED,
        nodes,
        timeout=1,
        stderr=True,
        on_line=(lambda *line: lines.append(line)) if live else None,
    )
    assert comparable(found) == comparable(expected)
    assert found["node9"].timed_out
    assert found.failures() == expected.failures()
    if live:
        assert ("node1", "stdout", b"one") in lines
        assert ("node7", "stderr", b"bad") in lines


def test_each_node_is_told_once_and_shards_as_they_end(spread: Spread) -> None:
    told: list[str] = []
    shards: list[Results] = []
    found = spread.run(
        NAME, NODES, on_result=lambda it: told.append(it.node), on_shard=shards.append
    )
    assert found.ok == NodeSet(NODES)
    assert sorted(told) == sorted(NodeSet(NODES))
    assert [len(shard) for shard in shards] == [30, 30]
    assert found["node7"].text == "node7"
    with spread.start(NAME, NODES) as run:
        assert sorted(len(shard) for shard in run.as_completed()) == [30, 30]
        assert run.results() == found or len(run.results()) == 60
        assert run.done()


def test_the_second_command_makes_no_connection(spread: Spread) -> None:
    first = spread.run(NAME, NODES)
    again = spread.run(NAME, NODES)
    part = spread.run(NAME, "node[1-31]")
    assert len(first) == 60
    assert {it.authenticating for it in (*again.values(), *part.values())} == {0.0}


def test_a_handler_has_the_events_of_a_worker(spread: Spread) -> None:
    events: list[tuple[Any, ...]] = []

    class Record(EventHandler):
        def ev_start(self, worker: Any) -> None:
            events.append(("start",))

        def ev_pickup(self, worker: Any, node: str) -> None:
            events.append(("pickup", node))

        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            events.append(("read", node, sname, msg))

        def ev_hup(self, worker: Any, node: str, rc: int) -> None:
            events.append(("hup", node, rc))

        def ev_close(self, worker: Any, timedout: bool) -> None:
            events.append(("close", timedout))

    spread.run("echo out; exit 2", "node[1-4]", handler=Record())
    assert events[0] == ("start",)
    assert events[-1] == ("close", False)
    for number in range(1, 5):
        node = f"node{number}"
        assert [it[0] for it in events if it[1:2] == (node,)] == ["pickup", "read", "hup"]


def test_input(spread: Spread) -> None:
    data = b"line\n" * 50_000
    found = spread.run("wc -c", "node[1-6]", input=data)
    assert {it.text.strip() for it in found.values()} == {str(len(data))}
    assert spread.run("cat", "node1")["node1"].ok, "the input is empty otherwise"


def test_copies_go_both_ways(
    cluster: LoopbackCluster, spread: Spread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "back").mkdir()
    assert spread.copy("file", "copied", "node[1-6]").ok == NodeSet("node[1-6]")
    assert spread.rcopy("copied", "back", "node[1-6]").ok == NodeSet("node[1-6]")
    assert {path.read_text() for path in (tmp_path / "back").iterdir()} == {"text"}
    assert len(list((tmp_path / "back").iterdir())) == 6


def test_real_sshd(sshd: Sshd) -> None:
    with no_leaks(), Spread(2, config_files=str(node_path(sshd.ssh_config))) as spread:
        first = spread.run("echo up", "node[1-30]")
        assert first.failures() == []
        assert first.gathered() == [("up", NodeSet("node[1-30]"))]
        again = spread.run("echo up", "node[1-30]")
        assert {it.authenticating for it in again.values()} == {0.0}


# -- failures and ends -----------------------------------------------------------------------------


def test_a_killed_process_fails_its_nodes_once_and_is_replaced(
    cluster: LoopbackCluster, spread: Spread
) -> None:
    spread.run("rm -f ~/mark", NODES)
    before = pids(spread)
    told: list[str] = []
    run = spread.start(
        "echo x >> ~/mark; exec sleep 1.5", NODES, on_result=lambda it: told.append(it.node)
    )
    wait_until(lambda: all(running(cluster.home(node)) for node in NodeSet(NODES)))
    os.kill(before[0], signal.SIGKILL)
    found = run.results(30)
    assert sorted(told) == sorted(NodeSet(NODES))
    assert len(found.ok) == len(found.failed) == 30
    cause = "The worker process was killed by SIGKILL while the command may have been running"
    assert found.failures() == [(cause, found.failed)]
    assert {type(found[node].failure) for node in found.failed} == {ShardError}
    again = spread.run("cat ~/mark", NODES)
    assert again.gathered() == [("x", NodeSet(NODES))], "no command was run twice"
    assert len(pids(spread)) == 2
    assert pids(spread)[1] == before[1]
    assert pids(spread)[0] != before[0]


def test_an_idle_process_that_was_killed_fails_nothing(spread: Spread) -> None:
    spread.run(NAME, NODES)
    for pid in pids(spread):
        os.kill(pid, signal.SIGKILL)
    assert spread.run(NAME, NODES).ok == NodeSet(NODES)


def test_cancel_ends_the_commands_on_the_nodes(cluster: LoopbackCluster, spread: Spread) -> None:
    spread.run("rm -f ~/mark", "node[1-8]")
    run = spread.start("echo $$ > ~/mark; exec sleep 60", "node[1-8]")
    marks = [Path(cluster.home(f"node{number}"), "mark") for number in range(1, 9)]
    wait_until(lambda: all(mark.exists() and mark.read_text() for mark in marks))
    run.cancel()
    found = run.results(20)
    run.wait_until_gone()
    assert found.failures() == [("aborted", NodeSet("node[1-8]"))]
    for mark in marks:
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.read_text()), 0)
    assert spread.run(NAME, NODES).ok == NodeSet(NODES)


def test_after_so_many_failures_nothing_more_is_started(cluster: LoopbackCluster) -> None:
    with Spread(2, fanout=4, config_files=cluster.ssh_config) as spread:
        spread.run("rm -f ~/mark", NODES)
        found = spread.run("echo x >> ~/mark; sleep 0.2; exit 1", NODES, max_failures=3)
        unstarted = found.nodes(lambda it: it.cause == "aborted before its start")
        ran = found.nodes(lambda it: it.cause == "exit status 1")
        assert len(found) == len(unstarted) + len(ran) == 60
        assert 3 <= len(ran) < 60
        assert unstarted == NodeSet.fromlist(
            node for node in NodeSet(NODES) if not running(cluster.home(node))
        )


def test_shards_that_wait_are_not_started_either(cluster: LoopbackCluster) -> None:
    with Spread(1, shard_size=2, config_files=cluster.ssh_config) as spread:
        found = spread.run("exit 1", "node[1-10]", max_failures=2)
        assert len(found) == 10
        assert len(found.unreached) >= 6


def test_an_exception_of_a_callback_ends_the_run(spread: Spread) -> None:
    def fail(_result: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        spread.run("echo x; exec sleep 0.2", "node[1-10]", on_result=fail)
    with pytest.raises(KeyError, match="mine"):
        spread.run("true", "node[1-10]", on_shard=fail)
    assert spread.run(NAME, NODES).ok == NodeSet(NODES)


def test_fanout_is_shared_out(cluster: LoopbackCluster) -> None:
    with Spread(3, fanout=2, config_files=cluster.ssh_config) as spread:
        assert spread.run(NAME, "node[1-6]").ok == NodeSet("node[1-6]")
        assert len(pids(spread)) == 2
        with pytest.raises(TaskError, match="make a new Spread"):
            spread.set_info("fanout", 9)
    assert shared(7, 3) == [3, 2, 2]


def test_nodes_keep_to_their_process() -> None:
    known: dict[str, int] = {}
    assert assign(["a", "b", "c", "d"], known, 2) == [["a", "c"], ["b", "d"]]
    assert assign(["c", "a", "e", "f"], known, 2) == [["c", "a"], ["e", "f"]]
    assert assign(["f"], known, 2) == [[], ["f"]]


def test_a_closed_spread_says_so(cluster: LoopbackCluster) -> None:
    spread = Spread(1, config_files=cluster.ssh_config)
    spread.close()
    spread.close()
    with pytest.raises(TaskError, match="closed"):
        spread.run("true", "node1")


# -- the end of the program ------------------------------------------------------------------------

HEAD = """
import sys, threading
from pyclustershell.spread import Spread

def main():
    spread = Spread(2, config_files=sys.argv[1])
    spread.run('true', 'node[1-4]')
    print(*[slot.pid for slot in spread._processes.slots], flush=True)
    {end}

if __name__ == '__main__':
    main()
"""


def start_head(cluster: LoopbackCluster, tmp_path: Path, end: str) -> subprocess.Popen[str]:
    script = tmp_path / "head.py"
    script.write_text(HEAD.replace("{end}", end))
    return subprocess.Popen(
        [sys.executable, str(script), cluster.ssh_config],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def gone(pid: int) -> bool:
    """True if a process has ended, or only waits for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
@pytest.mark.parametrize("end", ["kill", "interrupt", "none"])
def test_the_end_of_the_program_leaves_no_process(
    cluster: LoopbackCluster, tmp_path: Path, end: str
) -> None:
    mark = Path(cluster.home("node1"), "mark")
    mark.unlink(missing_ok=True)
    last = "pass" if end == "none" else "spread.run('echo $$ > ~/mark; exec sleep 60', 'node[1-4]')"
    with start_head(cluster, tmp_path, last) as head:
        assert head.stdout is not None
        workers = [int(word) for word in head.stdout.readline().split()]
        assert len(workers) == 2
        if end != "none":
            wait_until(lambda: mark.exists() and mark.read_text())
            head.send_signal(signal.SIGKILL if end == "kill" else signal.SIGINT)
        head.wait(30)
    for pid in workers:
        wait_until(functools.partial(gone, pid))
    if end != "none":
        wait_until(functools.partial(gone, int(mark.read_text())))


def test_a_program_without_a_guard_is_told(cluster: LoopbackCluster, tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import sys\nfrom pyclustershell.spread import Spread\n"
        f"Spread(1, config_files={cluster.ssh_config!r}).run('true', 'node1')\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "does its work below 'if __name__ ==" in done.stderr.splitlines()[-1]


# -- other executors -------------------------------------------------------------------------------


def threads() -> Executor:
    return ThreadPoolExecutor(2)


def processes() -> Executor:
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


@pytest.mark.parametrize("make", [threads, processes])
def test_other_executors(cluster: LoopbackCluster, make: Callable[[], Executor]) -> None:
    with no_leaks(), make() as executor:
        with Spread(executor=executor, shard_size=7, config_files=cluster.ssh_config) as spread:
            lines: list[Any] = []
            shards: list[Results] = []
            found = spread.run(
                "echo out; exit 2",
                NODES,
                on_shard=shards.append,
                on_line=lambda *line: lines.append(line),
            )
            assert found.failures() == [("exit status 2", NodeSet(NODES))]
            assert found.gathered() == [("out", NodeSet(NODES))]
            assert len(shards) == 9
            assert len(lines) == 60
            assert spread.run("true", NODES).ok == NodeSet(NODES)


def test_cancel_with_threads(cluster: LoopbackCluster) -> None:
    with no_leaks(), ThreadPoolExecutor(1) as executor:
        with Spread(executor=executor, shard_size=4, config_files=cluster.ssh_config) as spread:
            Path(cluster.home("node1"), "mark").unlink(missing_ok=True)
            with spread.start("echo x > ~/mark; exec sleep 60", "node[1-8]") as run:
                wait_until(lambda: running(cluster.home("node1")))
            assert len(run.results(20).failed) == 8


def test_a_worker_of_an_executor_dies(cluster: LoopbackCluster) -> None:
    executor = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with executor, Spread(executor=executor, config_files=cluster.ssh_config) as spread:
        pid = executor.submit(os.getpid).result()
        Path(cluster.home("node1"), "mark").unlink(missing_ok=True)
        with spread.start("echo x > ~/mark; exec sleep 60", "node[1-8]") as run:
            wait_until(lambda: running(cluster.home("node1")))
            os.kill(pid, signal.SIGKILL)
            found = run.results(30)
        assert len(found.failed) == 8
        assert {type(it.failure) for it in found.values()} == {ShardError}
        later = spread.run("true", "node[1-8]")
        assert "BrokenProcessPool" in later.failures()[0][0]


def test_a_worker_of_dask_dies_and_nothing_runs_twice(cluster: LoopbackCluster) -> None:
    require("distributed")
    distributed: Any = importlib.import_module("distributed")
    with Spread(1, config_files=cluster.ssh_config) as spread:
        spread.run("rm -f ~/mark", NODES)
    workers = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with workers, distributed.Client(workers) as client:
        options = {"shard_size": 10, "config_files": cluster.ssh_config}
        with Spread(executor=client.get_executor(), **options) as spread:
            with spread.start("echo x >> ~/mark; sleep 1", NODES) as run:
                names = list(NodeSet(NODES))
                wait_until(lambda: sum(running(cluster.home(node)) for node in names) >= 20)
                os.kill(next(iter(workers.workers.values())).pid, signal.SIGKILL)
                found = run.results(50)
            assert len(found) == 60
            assert {type(it.failure) for it in found.values()} == {ShardError, type(None)}
            again = spread.run("cat ~/mark", NODES)
            assert {it.text for it in again.values()} == {"x"}


def test_run_shard_takes_plain_data(cluster: LoopbackCluster) -> None:
    with Spread(1, config_files=cluster.ssh_config) as spread:
        settings = spread._settings()
    from pyclustershell.spread.shard import kept_tasks

    found = run_shard("node[1-3]", {"command": NAME}, settings, {}, "a key")
    kept_tasks.close(settings)
    assert found.ok == NodeSet("node[1-3]")


# -- what cannot be sent ---------------------------------------------------------------------------


def local_function(node: str) -> str:
    return node


class Vault:
    """An object that holds something open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def ask(self, node: str) -> str:
        return node

    def __call__(self, node: str) -> str:
        return node


KEY = paramiko.ECDSAKey.generate()
UNSENDABLE: list[tuple[dict[str, Any], str]] = [
    (
        {"password": lambda node: "correct horse"},
        "password= is a lambda.*use a text, or a function",
    ),
    ({"password": AskOnce(lambda node: "x")}, "password= is a lambda"),
    ({"password": Vault()}, "password= has a Vault object"),
    ({"password": Vault().ask}, "password= has a method object"),
    ({"user": functools.partial(lambda name, node: name, "me")}, "user= is a lambda"),
    ({"pkeys": [KEY]}, "pkeys= has a key object.*use the path of the key, or its PEM text"),
    ({"keyboard_interactive": lambda *_: []}, "keyboard_interactive= is a lambda"),
    ({"info": {"print_debug": lambda task, line: None}}, "print_debug= is a lambda.*logging"),
]


@pytest.mark.parametrize(("options", "error"), UNSENDABLE)
def test_settings_that_cannot_be_sent(options: dict[str, Any], error: str) -> None:
    with no_leaks(), pytest.raises(TypeError, match=error) as caught:
        Spread(2, **options)
    assert "correct horse" not in str(caught.value)


def test_a_function_inside_of_a_function_and_one_of_the_main_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def inside(node: str) -> str:
        return node

    with pytest.raises(TypeError, match=r"hostname= is .*inside, a function or class inside"):
        Spread(2, hostname=inside)
    monkeypatch.setattr(local_function, "__module__", "__main__")
    with pytest.raises(TypeError, match="user= is local_function of the main program"):
        with ThreadPoolExecutor(1) as executor:
            Spread(executor=executor, user=local_function)


def test_secrets_and_functions_that_can_be_sent() -> None:
    with Spread(
        2, password=answer, passphrase="correct horse", user=functools.partial(max, "a")
    ) as spread:
        spread.configure_ssh("node1", password="correct horse")
        assert "correct horse" not in repr(spread)
        assert "correct horse" not in repr(spread._task.settings_snapshot())


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda it: it.run("true", ""), ValueError, "there is no node"),
        (lambda it: it.run("true", "node[1-"), NodeSetParseError, "node"),
        (lambda it: it.run(["true"], "node1"), TypeError, "command="),
        (lambda it: it.run("true", "node1", timeout="x"), TypeError, "timeout"),
        (lambda it: it.run("true", "node1", nonsense=1), TypeError, "nonsense"),
        (lambda it: it.run("true", "node1", max_failures=0), ValueError, "max_failures=0: use 1"),
        (lambda it: it.run("true", "node1", on_result=3), TypeError, "on_result"),
        (lambda it: it.run("true", "node1", input=socket), TypeError, "input="),
        (lambda it: it.rcopy("a", "/no/such/directory", "node1"), ValueError, "directory"),
        (lambda it: it.set_info("fanuot", 3), ValueError, "fanout"),
        (lambda it: it.configure_ssh(pasword="x"), TypeError, "password"),
    ],
)
def test_wrong_arguments(
    spread: Spread, call: Callable[[Spread], Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        call(spread)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"processes": 0}, ValueError, "processes=0: use 1 or more"),
        ({"processes": "auto"}, TypeError, "processes='auto': use a whole number"),
        ({"shard_size": -1}, ValueError, "shard_size=-1"),
        ({"executor": object()}, TypeError, "has no submit"),
        ({"executor": ThreadPoolExecutor}, TypeError, "has no submit"),
        ({"processes": 2, "executor": ThreadPoolExecutor(1)}, ValueError, "leave it out"),
        ({"info": {"fanout": 0}}, ValueError, "fanout"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with no_leaks(), pytest.raises(error, match=text):
        Spread(**options)


def test_nothing_is_left_behind(cluster: LoopbackCluster) -> None:
    before = set(active_children())
    with no_leaks():
        with Spread(2, config_files=cluster.ssh_config) as spread:
            spread.run(NAME, NODES)
            spread.start("exec sleep 60", "node[1-4]")
    assert set(active_children()) <= before
