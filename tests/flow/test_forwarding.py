"""Agent forwarding, with a real ssh-agent and a real server behind the first one."""

from __future__ import annotations

import logging
import shlex
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pyclustershell.event import EventHandler
from pyclustershell.ssh.auth.forwarding import agent_to_forward
from pyclustershell.ssh.config.options import SSHOptions
from pyclustershell.ssh.config.resolution import resolve
from pyclustershell.ssh.config.sshconfig import ConfigCache
from pyclustershell.task import Task
from tests.helpers.needs import require
from tests.helpers.tasks import fresh_task
from tests.servers.agent import running_agent
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd, make_key


@pytest.fixture
def task(sshd: Sshd) -> Iterator[Task]:
    with no_leaks(), fresh_task() as task:
        task.set_info("ssh_options", f"-F {sshd.ssh_config}")
        yield task


def inner_ssh(server: Sshd, address: str, command: str) -> str:
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    return f"ssh {options} -o BatchMode=yes -p {server.port} {address} {shlex.quote(command)}"


def test_the_way_on_from_many_nodes(sshd: Sshd, task: Task) -> None:
    with running_agent(sshd.key) as agent:
        task.configure_ssh(forward_agent=agent.path)
        for _ in range(2):  # over new connections and over old ones
            task.run(inner_ssh(sshd, "127.0.9.9", "echo in"), nodes="node[1-12]", timeout=40)
            assert [(bytes(text), len(nodes)) for text, nodes in task.iter_buffers()] == [
                (b"in", 12)
            ]
        task.close()


def test_the_agent_of_the_keys_is_the_one_that_is_forwarded(sshd: Sshd, task: Task) -> None:
    with running_agent(sshd.key) as agent:
        task.set_info("ssh_options", f"-F {sshd.ssh_config} -A")
        task.configure_ssh("node1", agent=agent.path)
        task.configure_ssh("node2", agent=False)
        task.run("echo ${SSH_AUTH_SOCK:+there}", nodes="node[1-2]", timeout=30)
        assert task.node_buffer("node1") == b"there"
        assert task.node_buffer("node2") == b""
        task.close()


def test_nothing_is_forwarded_unless_it_is_asked_for(
    sshd: Sshd, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_agent(sshd.key) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.path)
        task.run("echo ${SSH_AUTH_SOCK:-none}", nodes="node1", timeout=30)
        assert task.node_buffer("node1") == b"none"
        task.close()


def test_a_server_that_forbids_it(task: Task, tmp_path: Path) -> None:
    with running_agent() as agent, Sshd(tmp_path, nodes=1, AllowAgentForwarding="no") as server:
        task.set_info("ssh_options", f"-F {server.ssh_config}")
        task.configure_ssh(forward_agent=agent.path)
        task.run("echo ${SSH_AUTH_SOCK:-none}", nodes="node1", timeout=30)
        assert task.node_buffer("node1") == b"none"
        task.close()


def test_an_agent_is_told_the_origin_of_requests(sshd: Sshd, task: Task, tmp_path: Path) -> None:
    elsewhere = make_key(tmp_path / "elsewhere")
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[127.0.1.1]:{sshd.port} {sshd.host_key}\nelsewhere {elsewhere}\n")
    with running_agent() as agent:
        task.configure_ssh(forward_agent=agent.path)
        # Keys for some hosts only: one that is not the node, then one that is.
        agent.add("-H", known_hosts, "-h", "elsewhere", sshd.key)
        task.run("ssh-add -l", nodes="node1", timeout=30)
        assert task.node_buffer("node1") == b"The agent has no identities."
        agent.add("-D")
        hop = f"[127.0.1.1]:{sshd.port}"
        agent.add("-H", known_hosts, "-h", hop, "-h", f"{hop}>{hop}", sshd.key)
        task.run(inner_ssh(sshd, "127.0.1.1", "echo in"), nodes="node1", timeout=30)
        assert task.node_buffer("node1") == b"in"
        task.close()


def test_a_host_whose_key_has_changed_gets_no_agent(
    sshd: Sshd, task: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_key(tmp_path / "other")
    with running_agent(sshd.key) as agent:
        task.configure_ssh(
            forward_agent=agent.path,
            host_key_policy="off",
            known_hosts=[f"pyclustershell-tests {other}"],
        )
        with caplog.at_level(logging.WARNING):
            task.run("echo ${SSH_AUTH_SOCK:-none}", nodes="node1", timeout=30)
        assert task.node_buffer("node1") == b"none"
        assert "node1: its host key has changed, so the agent is not forwarded" in caplog.text
        task.close()


class _Next(EventHandler):
    """When the command on node1 has ended, lets node2 use the agent of that connection."""

    def ev_close(self, worker: Any, timedout: bool) -> None:
        path, listed = bytes(worker.node_buffer("node1")).decode().split("\n")
        assert "ED25519" in listed
        command = f"test -S {path} && SSH_AUTH_SOCK={path} timeout 5 ssh-add -l"
        worker.task.shell(command, nodes="node2", timeout=30)


def test_the_agent_is_not_served_after_the_command(sshd: Sshd, task: Task) -> None:
    with running_agent(sshd.key) as agent:
        task.configure_ssh("node1", forward_agent=agent.path)
        command = "echo $SSH_AUTH_SOCK; ssh-add -l"
        task.shell(command, nodes="node1", timeout=30, handler=_Next())
        # The run goes on, and the connection to node1 is idle.
        task.resume()
        assert task.node_retcode("node2") != 0
        assert b"ED25519" not in bytes(task.node_buffer("node2"))
        task.close()


# -- errors ----------------------------------------------------------------------------------------


def test_an_agent_that_is_gone(
    sshd: Sshd, task: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task.configure_ssh(forward_agent=tmp_path / "none")
    with caplog.at_level(logging.WARNING):
        task.run("ssh-add -l 2>&1; echo on", nodes="node1", timeout=30)
    assert bytes(task.node_buffer("node1")).endswith(b"\non")
    assert "node1: agent forwarding: the agent cannot be reached" in caplog.text
    task.close()


@pytest.fixture
def mute_agent() -> Iterator[str]:
    """The socket of an agent that never answers."""
    require("ssh-agent")  # also for the ssh-add of the nodes
    with tempfile.TemporaryDirectory(prefix="agent-") as directory:
        with closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(f"{directory}/s")
            server.listen(64)
            yield f"{directory}/s"


def test_an_agent_that_hangs_delays_nobody_else(sshd: Sshd, task: Task, mute_agent: str) -> None:
    task.configure_ssh(forward_agent=mute_agent, auth_timeout=2)
    # More than there are threads to wait for the agent.
    waiting = task.shell("ssh-add -l 2>&1; echo over", nodes="node[1-12]", timeout=40)
    others = task.shell("echo ok", nodes="node[20-29]", timeout=10)
    task.resume()
    assert [rc for rc, _ in others.iter_retcodes()] == [0]
    assert all(bytes(b).endswith(b"\nover") for b, _ in waiting.iter_buffers())
    assert len(list(waiting.iter_retcodes())) == 1
    task.close()


REMOTE = """
import os, socket, sys
def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(os.environ["SSH_AUTH_SOCK"])
    return sock
"""


def remotely(code: str) -> str:
    return f"python3 -c {shlex.quote(REMOTE + code)}"


def test_a_request_that_makes_no_sense_ends_its_channel(
    sshd: Sshd, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    code = "s = connect(); s.sendall(b'\\xff' * 4); print(s.recv(1)); "
    code += "s = connect(); s.sendall(b'\\0\\0\\0\\1'); s.sendall(b'\\x0b'); print(s.recv(5)[4])"
    with running_agent(sshd.key) as agent:
        task.configure_ssh(forward_agent=agent.path)
        with caplog.at_level(logging.WARNING):
            task.run(remotely(code), nodes="node1", timeout=30)
        assert bytes(task.node_buffer("node1")) == b"b''\n12"
        assert "the remote host's request claims to have" in caplog.text
        task.close()


def test_a_server_may_not_open_any_number_of_channels(sshd: Sshd, task: Task) -> None:
    code = """
kept = [connect() for _ in range(40)]
answers = []
for sock in kept:
    try:
        sock.sendall(b"\\0\\0\\0\\1\\x0b")
        answers.append(sock.recv(5))
    except OSError:
        answers.append(b"")
print(sum(map(bool, answers)))
"""
    with running_agent(sshd.key) as agent:
        task.configure_ssh(forward_agent=agent.path)
        task.run(remotely(code), nodes="node1", timeout=30)
        assert task.node_buffer("node1") == b"16"
        # Those that have been closed count no more.
        task.run(remotely(code), nodes="node1", timeout=30)
        assert task.node_buffer("node1") == b"16"
        task.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"forward_agent": False}, None),
        ({"forward_agent": True}, "/env"),
        ({"forward_agent": True, "agent": "/own"}, "/own"),
        ({"forward_agent": True, "agent": False}, None),
        ({"forward_agent": "/other", "agent": False}, "/other"),
    ],
)
def test_which_agent(
    options: dict[str, object], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/env")
    given = SSHOptions(config_files="none", **options)  # type: ignore[arg-type]
    assert agent_to_forward(resolve("node1", given, config_cache=ConfigCache())) == expected
