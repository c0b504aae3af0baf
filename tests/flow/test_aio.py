"""pyclustershell.aio: awaits, iterations, and everything that ends them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from pyclustershell import (
    EventHandler,
    NodeSet,
    SSHOptions,
    Task,
    TaskError,
    task_self,
    task_wait,
)
from pyclustershell.aio import Lines, NodeEnded, NodeOutput, NodeStarted, Run, Session
from pyclustershell.exceptions import EngineCapacityError, TaskAbortedError, WorkerError
from pyclustershell.loopback import LoopbackCluster
from pyclustershell.results import Results
from tests.helpers.sh import SHELL
from tests.helpers.waiting import wait_until
from tests.servers.leaks import no_leaks
from tests.servers.passwords import PasswordServer
from tests.servers.trees import local_process_runs

NODES = "node[1-4]"
#: More than any window, pipe and budget: 20 MB.
LINES = 20_000
MUCH = f"yes {999 * 'x'} | head -n {LINES}"

Body = Callable[[Session], Awaitable[Any]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    with LoopbackCluster(NODES, shell=SHELL) as cluster:
        yield cluster


def new_loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The kinds of event loops that this system has."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "selector": asyncio.SelectorEventLoop
    }
    if sys.platform == "win32":
        loops["proactor"] = asyncio.ProactorEventLoop
    with contextlib.suppress(ImportError):
        import uvloop

        # The first loop of a process opens a pipe that serves all of them, and stays open.
        uvloop.new_event_loop().close()
        loops["uvloop"] = uvloop.new_event_loop
    return loops


LOOPS = new_loops()


class Runner:
    """Runs a coroutine function with a session, on a new event loop, and looks for leaks."""

    def __init__(
        self, cluster: LoopbackCluster, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        self._cluster = cluster
        self._new_loop = new_loop

    def __call__(self, body: Body, **options: Any) -> Any:
        with no_leaks():
            loop = self._new_loop()
            try:
                return loop.run_until_complete(self._main(body, options))
            finally:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()

    async def _main(self, body: Body, options: dict[str, Any]) -> Any:
        options = {"info": {"ssh_kill_grace": 0.5}, **options}
        async with Session(**options) as session:
            self._cluster.configure(session)
            result = await body(session)
        assert asyncio.all_tasks() - {asyncio.current_task()} == set()
        return result


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def run_on_each(request: pytest.FixtureRequest, cluster: LoopbackCluster) -> Runner:
    """Runs on each kind of event loop."""
    return Runner(cluster, request.param)


@pytest.fixture
def run(cluster: LoopbackCluster) -> Runner:
    """Runs on the usual event loop."""
    return Runner(cluster, asyncio.new_event_loop)


class Marked:
    """A command that notes its process identifiers, and runs until it is ended."""

    def __init__(self, directory: Path, before: str = "") -> None:
        self._directory = directory
        self.command = (
            f"{before}echo $$ >{directory.as_posix()}/$PYCLUSTERSHELL_NODE; echo up; sleep 60"
        )

    def _pids(self) -> list[int]:
        texts = [path.read_text() for path in self._directory.iterdir()]
        return [int(text) for text in texts if text.endswith("\n")]

    def is_running(self, count: int = 4) -> bool:
        """True if it runs on so many nodes."""
        return [local_process_runs(pid) for pid in self._pids()] == [True] * count

    async def wait_until_running(self, count: int = 4) -> None:
        """Wait until it runs on so many nodes."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, wait_until, lambda: self.is_running(count))
        await loop.shutdown_default_executor()

    def is_gone(self) -> bool:
        """True if it ran and runs no more."""
        pids = self._pids()
        return bool(pids) and not any(local_process_runs(pid) for pid in pids)


@pytest.fixture
def marked(tmp_path: Path) -> Marked:
    return Marked(tmp_path)


# -- results ---------------------------------------------------------------------------------------


def test_await_gives_results(run_on_each: Runner, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "back").mkdir()

    async def body(session: Session) -> None:
        results = await session.run("echo out; echo err >&2; exit 3", NODES)
        assert results.gathered() == [("out", NodeSet(NODES))]
        assert results.gathered("stderr") == [("err", NodeSet(NODES))]
        assert results.failures() == [("exit status 3", NodeSet(NODES))]
        assert (await session.run("echo here"))["localhost"].text == "here"
        assert (await session.copy(tmp_path / "file", "copied", NODES)).ok == NodeSet(NODES)
        back = await session.rcopy("copied", tmp_path / "back", NODES)
        assert back.ok == NodeSet(NODES)
        assert len(list((tmp_path / "back").iterdir())) == 4

    run_on_each(body)


def test_many_awaits_share_the_fanout_and_the_connections(run_on_each: Runner) -> None:
    async def body(session: Session) -> None:
        awaits = (session.run(f"echo {n}", f"node{n % 4 + 1}") for n in range(100))
        found = await asyncio.gather(*awaits)
        texts = [next(iter(results.values())).text for results in found]
        assert texts == [str(n) for n in range(100)]
        assert session.task.stats().open <= 4

    run_on_each(body, fanout=4)


def test_wrong_arguments_disturb_nobody_else(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(session: Session) -> None:
        # It ends when it is told to.
        async with session.start("cat", NODES) as other:
            await session.run("true", "node1")
            await try_all(session)
            other.write(b"out\n")
            other.end()
            assert (await other).gathered() == [("out", NodeSet(NODES))]

    async def try_all(session: Session) -> None:
        for error, arguments in (
            (ValueError, {"nodes": ""}),
            (TypeError, {"nodes": "node1", "timeout": "five"}),
            (TypeError, {"nodes": "node1", "tiemout": 5}),
            (WorkerError, {"nodes": "node1", "remote": False}),
        ):
            with pytest.raises(error):
                await session.run("echo %x", **arguments)
        with pytest.raises(TypeError, match="no handler=: iterate"):
            await read_all(session.lines("true", "node1", handler=EventHandler()))
        with pytest.raises(TypeError, match="no handler=: iterate"):
            await session.start("true", "node1", handler=EventHandler()).__aenter__()
        with pytest.raises(TypeError, match="hostname= takes no coroutine function"):
            await session.run("true", "node1", ssh=SSHOptions(hostname=answer))

        def refuse(*_arguments: object) -> None:
            raise EngineCapacityError("too few")

        with monkeypatch.context() as patch:
            patch.setattr("pyclustershell.task.capacity.ensure_descriptors", refuse)
            with pytest.raises(EngineCapacityError):
                await session.run("true", NODES)

    run(body)


async def answer(node: str) -> str:
    """Answer for a node."""
    return f"of {node}"


def test_options_are_checked_at_once() -> None:
    with pytest.raises(TypeError, match="did you mean 'password'"):
        Session(pasword="x")
    with pytest.raises(ValueError, match="buffer=0"):
        Session(buffer=0)


def test_a_session_is_used_between_its_beginning_and_its_end(cluster: LoopbackCluster) -> None:
    async def main() -> None:
        session = Session()
        with pytest.raises(TaskError, match="async with"):
            await session.run("true")
        with pytest.raises(TaskError, match="async with"):
            session.start("true")
        await session.close()
        async with session:
            with pytest.raises(TaskError, match="before"):
                await session.__aenter__()
        with pytest.raises(TaskError, match="closed"):
            await session.run("true")
        await session.close()
        assert repr(session) == "<Session: 0 running, closed>"

    asyncio.run(main())


async def _run_to_end(session: Session, command: str) -> None:
    await session.run(command, NODES)


async def _read_lines(session: Session, command: str) -> None:
    await read_all(session.lines(command, NODES))


async def _start(session: Session, command: str) -> None:
    async with session.start(command, NODES):
        pass


async def _copy(session: Session, _command: str) -> None:
    await session.copy(__file__, "/nonexistent", NODES)


async def _close(session: Session, _command: str) -> None:
    await session.close()


@pytest.mark.parametrize("use", [_run_to_end, _read_lines, _start, _copy, _close])
def test_another_event_loop_is_refused_before_anything_starts(
    use: Callable[[Session, str], Awaitable[Any]], run: Runner, tmp_path: Path
) -> None:
    mark = tmp_path / "started"

    async def body(session: Session) -> None:
        def elsewhere() -> None:
            # A limit, so that a hang is a failure.
            asyncio.run(asyncio.wait_for(use(session, f"touch {mark}"), 20))

        with pytest.raises(TaskError, match="belongs to another event loop: make one per loop"):
            await asyncio.get_running_loop().run_in_executor(None, elsewhere)
        await asyncio.get_running_loop().shutdown_default_executor()
        assert not session._jobs
        assert (await session.run("true", NODES)).ok == NodeSet(NODES)

    run(body)
    assert not mark.exists()


def test_a_run_of_another_event_loop_is_refused(run: Runner) -> None:
    async def next_event(running: Run) -> None:
        async for _ in running:
            break

    async def wait(running: Run) -> None:
        await running

    async def leave(running: Run) -> None:
        await running.__aexit__(None, None, None)

    async def body(session: Session) -> None:
        loop = asyncio.get_running_loop()
        async with session.start("cat", NODES) as running:
            for use in (next_event, wait, Run.drain, leave):

                def elsewhere(use: Callable[[Run], Awaitable[None]] = use) -> None:
                    asyncio.run(asyncio.wait_for(use(running), 20))

                with pytest.raises(TaskError, match="another event loop"):
                    await loop.run_in_executor(None, elsewhere)
            await loop.shutdown_default_executor()
            running.end()
            assert (await running).ok == NodeSet(NODES)

    run(body)


def test_what_ends_the_tasks_run_fails_the_awaits_with_it(run: Runner) -> None:
    def fail() -> None:
        raise KeyError("a bug")

    async def body(session: Session) -> None:
        first = asyncio.ensure_future(session.run("sleep 60", NODES))
        second = asyncio.ensure_future(read_all(session.lines("sleep 60", NODES)))
        await asyncio.sleep(0.1)
        session.task.post(fail)
        for future in (first, second):
            with pytest.raises(KeyError, match="a bug"):
                await future
        # The session goes on.
        assert (await session.run("echo out", NODES)).ok == NodeSet(NODES)
        third = asyncio.ensure_future(session.run("sleep 60", NODES))
        await asyncio.sleep(0)
        threading.Thread(target=session.task.abort).start()
        with pytest.raises(TaskAbortedError):
            await third

    run(body)


# -- lines -----------------------------------------------------------------------------------------


async def read_all(lines: Lines) -> list[tuple[Any, str, bytes]]:
    """Read all lines."""
    return [item async for item in lines]


@pytest.mark.posix_only("its commands are for a POSIX shell")
def test_lines_come_as_they_are_printed(run_on_each: Runner, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = f"echo a; until [ -e {go} ]; do sleep 0.02; done; echo b >&2; exit 2"

    async def body(session: Session) -> None:
        lines = session.lines(command, "node1")
        found = []
        async for item in lines:
            found.append(item)
            assert lines.results is None
            go.touch()
        assert found == [("node1", "stdout", b"a"), ("node1", "stderr", b"b")]
        results: Optional[Results] = lines.results
        assert results is not None
        assert (results["node1"].rc, results["node1"].stdout) == (2, b"")
        with pytest.raises(RuntimeError, match="before"):
            await read_all(lines)

    run_on_each(body)


def test_lines_of_a_node_that_cannot_be_reached(run: Runner) -> None:
    async def body(session: Session) -> None:
        session.task.configure_ssh("node1", port=1)
        lines = session.lines("echo up", NODES)
        found = await read_all(lines)
        assert sorted(node for node, stream, _line in found if stream == "stdout") == [
            "node2",
            "node3",
            "node4",
        ]
        [(node, _, line)] = [item for item in found if item[1] == "stderr"]
        assert (node, b"Connection refused" in line) == ("node1", True)
        assert lines.results is not None
        assert lines.results.unreached == NodeSet("node1")

    run(body)


@pytest.mark.posix_only("its commands are for a POSIX shell")
def test_break_ends_the_commands(run_on_each: Runner, marked: Marked) -> None:
    async def body(session: Session) -> None:
        async with session.lines(marked.command, NODES) as lines:
            await asyncio.sleep(0)
            nodes = set()
            async for node, _stream, _line in lines:
                nodes.add(node)
                if len(nodes) == 4:
                    break
        # The block waits for the end.
        assert marked.is_gone()
        assert lines.results is not None
        assert lines.results.nodes(lambda result: result.aborted) == NodeSet(NODES)

    run_on_each(body)


@pytest.mark.posix_only("its commands are for a POSIX shell")
def test_break_without_a_block_ends_them_in_the_background(
    run_on_each: Runner, marked: Marked
) -> None:
    async def body(session: Session) -> None:
        lines = session.lines(marked.command, "node1")
        async for _ in lines:
            break
        # Python has dropped the iterator, and the event loop closes it in its next passes.
        for _ in range(3):
            await asyncio.sleep(0)
        assert "ended" in repr(lines)

    run_on_each(body)
    # The session waits for the end.
    assert marked.is_gone()


def test_lines_that_nobody_reads_start_nothing(run: Runner, marked: Marked) -> None:
    async def body(session: Session) -> None:
        session.lines(marked.command, NODES)
        async with session.lines(marked.command, NODES):
            pass

    run(body)
    assert not marked.is_gone()
    assert not marked.is_running()


# -- runs ------------------------------------------------------------------------------------------


def test_input_and_events(run_on_each: Runner) -> None:
    async def body(session: Session) -> None:
        async with session.start("cat; exit 4", "node[1-2]") as running:
            for wrong in ("text", 5):
                with pytest.raises(TypeError, match="takes bytes"):
                    running.write(wrong)  # type: ignore[arg-type]
            running.write(b"a\nb\n")
            running.end()
            events = [event async for event in running]
            results = await running
        for node in ("node1", "node2"):
            assert [event for event in events if event.node == node] == [
                NodeStarted(node),
                NodeOutput(node, "stdout", b"a"),
                NodeOutput(node, "stdout", b"b"),
                NodeEnded(node, results[node]),
            ]
        assert results.gathered() == [("a\nb", NodeSet("node[1-2]"))]
        assert results["node1"].rc == 4

    run_on_each(body)


@pytest.mark.posix_only("its commands are for a POSIX shell")
def test_drain_waits_for_slow_readers(run_on_each: Runner) -> None:
    block = bytes(1 << 20)

    async def body(session: Session) -> None:
        async with session.start("wc -c | tr -d ' '", "node[1-2]") as running:
            for _ in range(8):
                running.write(block)
                await running.drain()
                # What is left in the queues is less than two blocks.
                assert all(client.stdin.size <= 2 << 20 for client in running.worker._clients)
            running.end()
            results = await running
            await running.drain()
        assert results.gathered() == [(str(8 << 20), NodeSet("node[1-2]"))]

    run_on_each(body)


def test_drain_ends_with_the_command(run: Runner) -> None:
    async def body(session: Session) -> None:
        async with session.start("sleep 0.2", "node1") as running:
            running.write(bytes(8 << 20))
            await running.drain()

    run(body)


@pytest.mark.posix_only("its commands are for a POSIX shell")
def test_the_results_come_although_nobody_reads_the_events(run: Runner) -> None:
    async def body(session: Session) -> None:
        async with session.start(MUCH, NODES, keep_output=False) as running:
            assert (await running).ok == NodeSet(NODES)
        async with session.start(MUCH, "node1") as running:
            async for event in running:
                if isinstance(event, NodeOutput):
                    break
            assert len((await running)["node1"].stdout) == 1000 * LINES - 1

    run(body, buffer=100_000)


def test_an_iteration_goes_on_after_a_break(run: Runner) -> None:
    async def body(session: Session) -> None:
        async with session.start("seq 1000", "node1") as running:
            lines = []
            while len(lines) < 1000:
                async for event in running:
                    if isinstance(event, NodeOutput):
                        lines.append(int(event.line))
                        if len(lines) % 7 == 0:
                            break
            assert lines == list(range(1, 1001))

    run(body)


def test_two_iterations_at_once_are_refused(run: Runner) -> None:
    async def read(running: Run) -> int:
        return len([event async for event in running if isinstance(event, NodeEnded)])

    async def body(session: Session) -> None:
        async with session.start("cat", NODES) as running:
            first = asyncio.ensure_future(read(running))
            second = asyncio.ensure_future(read(running))
            # The first waits, as cat has not ended. A limit, so that a hang is a failure.
            with pytest.raises(RuntimeError, match="another iteration"):
                await asyncio.wait_for(second, 20)
            running.end()
            assert await first == 4

    run(body)


def test_one_task_reads_while_another_one_waits(run: Runner) -> None:
    async def read(running: Run) -> int:
        return len([event async for event in running if isinstance(event, NodeOutput)])

    async def body(session: Session) -> None:
        async with session.start("seq 50000", NODES) as running:
            reader = asyncio.ensure_future(read(running))
            await asyncio.sleep(0)
            results = await running
            assert await reader == 200_000
        assert results.ok == NodeSet(NODES)

    run(body, buffer=100_000)


def test_leaving_the_block_ends_the_commands(run_on_each: Runner, marked: Marked) -> None:
    async def body(session: Session) -> None:
        async with session.start(marked.command, NODES) as running:
            await marked.wait_until_running()
        assert marked.is_gone()
        assert (await running).nodes(lambda result: result.aborted) == NodeSet(NODES)
        with pytest.raises(RuntimeError, match="before"):
            await running.__aenter__()

    run_on_each(body)


def test_a_run_starts_with_its_block(run: Runner) -> None:
    async def body(session: Session) -> None:
        running = session.start("true", NODES)
        with pytest.raises(RuntimeError, match="async with"):
            await running

    run(body)


# -- cancellation ----------------------------------------------------------------------------------

STUBBORN = "trap '' TERM; "


async def run_it(session: Session, command: str) -> None:
    await session.run(command, NODES)


async def read_lines(session: Session, command: str) -> None:
    async for _ in session.lines(command, NODES):
        pass


async def await_run(session: Session, command: str) -> None:
    async with session.start(command, NODES) as running:
        await running


async def iterate_run(session: Session, command: str) -> None:
    async with session.start(command, NODES) as running:
        async for _ in running:
            pass


WAYS = [run_it, read_lines, await_run, iterate_run]


@pytest.mark.parametrize("before", ["", STUBBORN], ids=["willing", "stubborn"])
@pytest.mark.parametrize("way", WAYS)
def test_a_cancellation_ends_the_commands_first(
    run_on_each: Runner, tmp_path: Path, way: Callable[[Session, str], Any], before: str
) -> None:
    marked = Marked(tmp_path, before)

    async def body(session: Session) -> None:
        other = asyncio.ensure_future(session.run("sleep 1; echo out", NODES))
        task = asyncio.ensure_future(way(session, marked.command))
        await marked.wait_until_running()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # once more does not cut it short
        with pytest.raises(asyncio.CancelledError):
            await task
        assert marked.is_gone()
        assert (await other).gathered() == [("out", NodeSet(NODES))]

    run_on_each(body)


@pytest.mark.parametrize("way", WAYS)
def test_a_cancellation_before_the_turn(run: Runner, way: Callable[[Session, str], Any]) -> None:
    async def body(session: Session) -> None:
        first = asyncio.ensure_future(session.run("sleep 60", "node1"))
        await asyncio.sleep(0.05)
        task = asyncio.ensure_future(way(session, "true"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not first.done()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    run(body, fanout=1)


def test_wait_for_ends_the_commands(run: Runner, marked: Marked) -> None:
    async def body(session: Session) -> None:
        running = session.run(marked.command, NODES)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(running, 1.5)
        assert marked.is_gone()

    run(body)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout() is newer")
def test_timeout_and_task_groups(run_on_each: Runner, marked: Marked) -> None:
    async def fail_later() -> None:
        await marked.wait_until_running()
        raise KeyError

    async def body(session: Session) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await session.run("sleep 60", NODES)
        with pytest.raises(ExceptionGroup) as caught:  # noqa: F821, PT012 of Python 3.11
            async with asyncio.TaskGroup() as group:
                group.create_task(session.run(marked.command, NODES))
                group.create_task(fail_later())
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert marked.is_gone()
        assert (await session.run("echo out", NODES)).ok == NodeSet(NODES)

    run_on_each(body)


def test_closing_ends_what_runs(run_on_each: Runner, marked: Marked) -> None:
    async def body(session: Session) -> None:
        tasks = [asyncio.ensure_future(way(session, "sleep 60")) for way in WAYS]
        tasks.append(asyncio.ensure_future(session.run(marked.command, NODES)))
        await marked.wait_until_running()
        await session.close()
        for task in tasks:
            # Aborted nodes are results.
            await task
        assert tasks[-1].result().nodes(lambda result: result.aborted) == NodeSet(NODES)
        with pytest.raises(TaskError, match="closed"):
            await session.run("true", NODES)

    run_on_each(body)
    assert marked.is_gone()


def test_a_cancelled_main_leaves_nothing(cluster: LoopbackCluster, marked: Marked) -> None:
    async def main() -> None:
        async with Session(info={"ssh_kill_grace": 0.5}) as session:
            cluster.configure(session)
            await asyncio.gather(
                session.run(marked.command, "node[1-2]"),
                read_all(session.lines(marked.command, "node[3-4]")),
            )

    async def cancel() -> None:
        task = asyncio.ensure_future(main())
        await marked.wait_until_running()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with no_leaks():
        asyncio.run(cancel())
    assert marked.is_gone()


# -- sessions that are not closed ------------------------------------------------------------------

#: Ways to leave a session open while a command runs, and the exit status of such a program.
FORGETFUL = {
    "return": ("return", 0),
    "exception": ("raise ZeroDivisionError", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "interrupt": ("signal.raise_signal(signal.SIGINT); await asyncio.sleep(60)", -signal.SIGINT),
    "stopped loop": ("asyncio.get_running_loop().stop(); await asyncio.sleep(60)", 1),
}


@pytest.mark.posix_only("its commands are for a POSIX shell")
@pytest.mark.parametrize("way", FORGETFUL)
def test_a_program_ends_although_a_session_is_open(
    way: str, cluster: LoopbackCluster, marked: Marked
) -> None:
    statement, status = FORGETFUL[way]
    program = f"""
import asyncio, signal, sys
from pyclustershell.aio import Session
async def main():
    global session, lines
    session = Session(config_files={cluster.ssh_config!r}, info={{"ssh_kill_grace": 1}})
    await session.__aenter__()
    lines = session.lines({marked.command!r}, {NODES!r}).__aiter__()
    for _ in range(4):
        await lines.__anext__()
    {statement}
asyncio.new_event_loop().run_until_complete(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == status, done.stderr
    assert marked.is_gone()


def test_a_session_that_is_forgotten_ends_with_a_warning(cluster: LoopbackCluster) -> None:
    async def main() -> None:
        session = Session()
        cluster.configure(await session.__aenter__())
        assert (await session.run("echo out", "node1")).ok == NodeSet("node1")
        del session
        gc.collect()

    def forget() -> None:
        asyncio.run(main())
        wait_until(lambda: all(it.name != "pyclustershell task" for it in threading.enumerate()))

    with no_leaks(), pytest.warns(ResourceWarning, match="was not closed: use 'async with'"):
        forget()


def test_task_wait_does_not_wait_for_sessions(run: Runner) -> None:
    async def body(session: Session) -> None:
        await session.run("true")
        task_wait()

    run(body)


# -- backpressure ----------------------------------------------------------------------------------


def watched_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many bytes wait for an iteration whenever some are added."""
    sizes = []
    from pyclustershell.aio import stream

    original = stream.Stream._flush

    def flush(self: Any) -> None:
        original(self)
        sizes.append(self._sent - self._taken)

    monkeypatch.setattr(stream.Stream, "_flush", flush)
    return sizes


@pytest.mark.parametrize("nodes", [NODES, None], ids=["over SSH", "a local command"])
def test_a_slow_consumer_holds_back_its_own_commands(
    run_on_each: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nodes: Optional[str]
) -> None:
    sizes = watched_sizes(monkeypatch)
    note = tmp_path / "end"
    buffer = 100_000

    async def body(session: Session) -> None:
        async with session.lines(f"{MUCH}; touch {note}", nodes) as lines:
            count = 0
            async for _ in lines:
                if count == 0:
                    # The others are not held back: the same command, and as many bytes.
                    results = await session.run(MUCH, nodes)
                    assert all(len(r.stdout) == 1000 * LINES - 1 for r in results.values())
                    assert not note.exists()
                count += 1
            assert count == LINES * len(results)

    run_on_each(body, buffer=buffer)
    # In one pass, each of four nodes may send what is in its window.
    assert max(sizes) < buffer + 4 * 65536 * 1.2


# -- coroutine functions ---------------------------------------------------------------------------


def test_passwords_may_be_coroutine_functions(run_on_each: Runner) -> None:
    asked = []

    async def password(node: str) -> str:
        asked.append((node, threading.current_thread() is threading.main_thread()))
        await asyncio.sleep(0.01)
        return "secret"

    with PasswordServer(["password"], password="secret") as server:
        options = server.options()

        async def body(_session: Session) -> None:
            async with Session(**options, password=password) as session:
                assert (await session.run("true", "n1")).ok == NodeSet("n1")
            async with Session(**options) as session:
                for _ in range(3):
                    ssh = SSHOptions(password=password)
                    assert (await session.run("true", "n2", ssh=ssh)).ok == NodeSet("n2")
                # One connection for all three.
                assert session.task.stats().opened == 1

        run_on_each(body)
    assert asked == [("n1", True), ("n2", True)]


def test_closing_does_not_wait_for_an_answer(run: Runner) -> None:
    begun = []

    async def password(node: str) -> str:
        begun.append(node)
        await asyncio.sleep(60)
        return ""

    with PasswordServer(["password"]) as server:

        async def body(_session: Session) -> None:
            async with Session(**server.options(password=password)) as session:
                task = asyncio.ensure_future(session.run("true", "n1"))
                while not begun:
                    await asyncio.sleep(0.01)
            assert (await task)["n1"].rc is None

        run(body)


# -- resume() inside of a loop ---------------------------------------------------------------------


def test_resume_inside_of_a_running_loop_warns() -> None:
    async def main(act: Callable[[Task], Any]) -> None:
        act(task_self())

    for act in (lambda task: task.run("true"), lambda task: task.resume()):
        with pytest.warns(RuntimeWarning, match="blocks the event loop"):
            asyncio.run(main(act))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task_self().run("true")


def test_a_thread_of_its_own_does_not_warn() -> None:
    async def main() -> None:
        task = Task()
        task.shell("true")
        task.resume()
        task.abort(kill=True)

    asyncio.run(main())
