"""Limits of the system and of servers: descriptors, keys that expire, windows, memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paramiko.message import Message

from pyclustershell.event import EventHandler
from pyclustershell.exceptions import SessionError
from pyclustershell.task import Task
from tests.helpers.tasks import connect_to, fresh_task
from tests.servers import phases
from tests.servers.leaks import no_leaks
from tests.servers.phases import PhaseServer
from tests.servers.sshd import Sshd

ROOT = Path(__file__).parents[2]


@pytest.fixture
def task() -> Iterator[Task]:
    """A task that logs in with a password, and leaves nothing behind."""
    with no_leaks(), fresh_task() as task:
        task.configure_ssh(user="me", password="secret", agent=False, config_files=[])
        yield task


# -- descriptors -----------------------------------------------------------------------------------


def run_limited(sshd: Sshd, fanout: int, nodes: int) -> str:
    """Run a command in a process that may open 256 files. Returns its output."""
    code = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        from pyclustershell import task_self
        from pyclustershell.exceptions import EngineCapacityError
        with task_self() as task:
            task.set_info("ssh_options", "-F {sshd.ssh_config}")
            task.configure_ssh(connect_timeout=60)
            task.set_info("fanout", {fanout})
            try:
                task.run("sleep 0.5; echo ok", nodes="node[1-{nodes}]", timeout=60)
            except EngineCapacityError as error:
                print(error)
            print([(bytes(out), len(nodes)) for out, nodes in task.iter_buffers()])
            print([(failure.cause, nodes) for failure, nodes in task.iter_failures()])
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.posix_only("Windows has no limit of descriptors that can be set")
def test_256_descriptors_are_enough_for_64_nodes_at_once(sshd: Sshd) -> None:
    pytest.importorskip("resource", reason="a limit of open files is POSIX's")
    assert run_limited(sshd, 64, 80) == "[(b'ok', 80)]\n[]\n"


@pytest.mark.posix_only("Windows has no limit of descriptors that can be set")
def test_a_fanout_that_cannot_fit_says_so_before_anything_starts(sshd: Sshd) -> None:
    pytest.importorskip("resource", reason="a limit of open files is POSIX's")
    said, *results = run_limited(sshd, 200, 200).splitlines()
    assert "this process may open 256" in said
    assert "use a smaller fanout (now 200)" in said
    assert results == ["[]", "[]"]
    # The number of nodes counts if it is smaller than the fanout.
    assert run_limited(sshd, 200, 8).startswith("[(b'ok', 8)]")


# -- keys and windows ------------------------------------------------------------------------------


def test_a_server_that_wants_new_keys_every_16_kilobytes(tmp_path: Path) -> None:
    with Sshd(tmp_path, RekeyLimit="16K") as server, no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {server.ssh_config}")
        data = bytes(range(256)) * 2000
        worker: Any = task.shell("cat; echo end >&2", nodes="node[1-3]", stderr=True)
        worker.write(data)
        worker.set_write_eof()
        task.resume()
        assert list(task.iter_failures()) == []
        for node in ("node1", "node2", "node3"):
            assert task.node_buffer(node) == b"\n".join(
                line[:-1] if line.endswith(b"\r") else line for line in data.split(b"\n")
            )
            assert task.node_error(node) == b"end"


def test_windows_and_packets_of_one_byte(task: Task) -> None:
    got = bytearray()

    def take(peer: phases.Peer, payload: bytes) -> None:
        message = Message(payload)
        message.get_int()
        data = message.get_binary()
        assert len(data) == 1
        got.extend(data)
        peer.say(phases.WINDOW_ADJUST, peer.channel, 1)

    def finish(peer: phases.Peer, payload: bytes) -> None:
        for byte in bytes(got):
            peer.say(phases.CHANNEL_DATA, peer.channel, bytes([byte]))
            peer.say(phases.CHANNEL_EXTENDED_DATA, peer.channel, 1, bytes([byte]))
        for step in (phases.eof, phases.exit_status(0), phases.end):
            step(peer)

    rules = phases.command(phases.accept, window=1)
    rules = {**rules, phases.CHANNEL_DATA: take, phases.CHANNEL_EOF: finish}
    with PhaseServer(rules) as server:
        connect_to(task, server.address, server.known_host)
        said = b"".join(b"line %d\n" % number for number in range(200))
        worker: Any = task.shell("cat", nodes="node", stderr=True)
        worker.write(said)
        worker.set_write_eof()
        task.resume()
        assert task.max_retcode() == 0
        assert bytes(got) == said
        assert task.node_buffer("node") == task.node_error("node") == said[:-1]


# -- output ----------------------------------------------------------------------------------------


class Ends(EventHandler):
    """Counts output, and keeps none."""

    def __init__(self) -> None:
        self.size: dict[tuple[str, str], int] = {}

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        self.size[node, sname] = self.size.get((node, sname), 0) + len(msg)


def test_a_line_that_is_too_long_fails_its_node_only(sshd: Sshd) -> None:
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        task.set_info("line_limit", 1_000_000)
        long: Any = task.shell("echo begun; exec tr '\\0' x < /dev/zero", nodes="node[1-2]")
        short: Any = task.shell("head -c 900000 /dev/zero | tr '\\0' y", nodes="node[3-4]")
        task.resume()
        [(failure, nodes)] = task.iter_failures()
        assert isinstance(failure, SessionError)
        assert sorted(nodes) == ["node1", "node2"]
        assert failure.cause == "A line of stdout is longer than 1000000 bytes"
        assert "'line_limit'" in failure.sentence
        assert long.node_buffer("node1").startswith(b"begun")
        assert short.node_buffer("node3") == short.node_buffer("node4") == b"y" * 900_000
        assert task.num_timeout() == 0


def test_nuls_on_both_streams_with_a_slow_handler(sshd: Sshd) -> None:
    size = 3_000_000

    class Slow(Ends):
        """Takes as long for a line as a sum over all of it takes."""

        def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
            super().ev_read(worker, node, sname, msg)
            assert sum(msg) == 0

    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        task.set_default("stdout_msgtree", False)
        task.set_default("stderr_msgtree", False)
        slow = Slow()
        task.run(
            f"head -c {size} /dev/zero >&2 & head -c {size} /dev/zero; wait",
            nodes="node[1-4]",
            handler=slow,
            stderr=True,
        )
        assert task.max_retcode() == 0
        assert set(slow.size.values()) == {size}
        assert len(slow.size) == 8
