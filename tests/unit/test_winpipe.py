"""The pipe of OpenSSH's agent for Windows, against an agent of the test."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from secrets import token_hex

import paramiko
import pytest
from paramiko.message import Message

from pyclustershell.loopback import LoopbackCluster
from pyclustershell.ssh.auth import agent
from pyclustershell.ssh.auth.agent import AgentClient, AgentError
from tests.helpers.tasks import fresh_task, outputs

if sys.platform != "win32":
    pytest.skip("only Windows has named pipes", allow_module_level=True)

import _winapi
from multiprocessing.connection import PipeConnection

NODES = "node[1-20]"


class PipeAgent:
    """An agent that serves one client after the other: meanwhile, the pipe is busy.

    Attributes:
        path: the name of its pipe.
    """

    def __init__(self, *keys: paramiko.PKey) -> None:
        self.path = rf"\\.\pipe\agent-{token_hex(8)}"
        self._keys = keys
        self._stopping = False
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self._listening.wait()

    def _serve(self) -> None:
        with Listener(self.path, family="AF_PIPE") as listener:
            self._listening.set()
            while not self._stopping:
                with listener.accept() as connection:
                    self._answer(connection)

    def _answer(self, connection: Connection) -> None:
        try:
            while True:
                # One message: the client writes each request at once.
                connection.send_bytes(self._reply(Message(connection.recv_bytes()[4:])))
        except (EOFError, OSError):
            pass  # the client has closed the pipe

    def _reply(self, request: Message) -> bytes:
        kind, reply = request.get_byte(), Message()
        if kind == b"\x0b":  # SSH_AGENTC_REQUEST_IDENTITIES
            reply.add_byte(b"\x0c")
            reply.add_int(len(self._keys))
            for key in self._keys:
                reply.add_string(key.asbytes())
                reply.add_string("a key")
        else:  # SSH_AGENTC_SIGN_REQUEST
            blob, data = request.get_string(), request.get_string()
            key = next(key for key in self._keys if key.asbytes() == blob)
            reply.add_byte(b"\x0e")
            reply.add_string(key.sign_ssh_data(data).asbytes())
        body = reply.asbytes()
        return len(body).to_bytes(4, "big") + body

    def stop(self) -> None:
        self._stopping = True
        AgentClient(self.path, 30.0).identities()  # ends accept()
        self._thread.join()


class VanishingAgent(PipeAgent):
    """An agent whose pipe has one instance, which it makes anew for each client."""

    def _serve(self) -> None:
        duplex = _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED
        messages = _winapi.PIPE_TYPE_MESSAGE | _winapi.PIPE_READMODE_MESSAGE
        while not self._stopping:
            instances, size, timeout = 1, 65536, 0
            handle = _winapi.CreateNamedPipe(
                self.path, duplex, messages, instances, size, size, timeout, _winapi.NULL
            )
            with PipeConnection(handle) as connection:
                self._listening.set()
                with contextlib.suppress(OSError):  # the client has come and gone
                    _winapi.ConnectNamedPipe(handle, overlapped=True).GetOverlappedResult(True)
                self._answer(connection)


@pytest.fixture
def key() -> paramiko.PKey:
    return paramiko.ECDSAKey.generate()


@pytest.fixture(params=[PipeAgent, VanishingAgent])
def pipe_agent(request: pytest.FixtureRequest, key: paramiko.PKey) -> Iterator[PipeAgent]:
    running = request.param(key)
    try:
        yield running
    finally:
        running.stop()


def test_keys_and_signatures(key: paramiko.PKey, pipe_agent: PipeAgent) -> None:
    client = AgentClient(pipe_agent.path, 30.0)
    (identity,) = client.identities()
    assert identity.blob == key.asbytes()
    signature = client.sign(identity.blob, b"x" * 100_000, key.get_name())
    assert key.verify_ssh_sig(b"x" * 100_000, Message(signature))


def test_a_busy_pipe_is_waited_for(pipe_agent: PipeAgent) -> None:
    client = AgentClient(pipe_agent.path, 60.0)
    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(lambda _: len(client.identities()), range(100)))
    assert found == [1] * 100


def test_a_pipe_that_stays_busy() -> None:
    path = rf"\\.\pipe\agent-{token_hex(8)}"
    with Listener(path, family="AF_PIPE"), open(path, "r+b", buffering=0):
        with pytest.raises(AgentError, match=r"cannot be reached: .*busy"):
            AgentClient(path, 0.05).identities()


def test_a_silent_agent() -> None:
    path = rf"\\.\pipe\agent-{token_hex(8)}"
    with Listener(path, family="AF_PIPE"):
        with pytest.raises(AgentError, match="cannot be reached: timed out"):
            AgentClient(path, 0.05).identities()


def test_no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    path = rf"\\.\pipe\agent-{token_hex(8)}"
    with pytest.raises(AgentError, match=r"cannot be reached: .*[Ff]ile"):
        AgentClient(path, 5.0).identities()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(agent, "WINDOWS_PIPE", path)
    assert agent.default_agent() is None
    with Listener(path, family="AF_PIPE"):
        assert agent.default_agent() == path
        with open(path, "r+b", buffering=0):  # the only instance is taken
            assert agent.default_agent() == path


def without_key_files(cluster: LoopbackCluster, directory: Path, agent_path: str = "") -> str:
    """The options of ssh to reach a cluster without its key."""
    lines = ["IdentityFile none", "IdentitiesOnly no"]
    lines += [f"IdentityAgent {agent_path}"] * bool(agent_path)
    # IdentityFile adds up: take the others away.
    own = Path(cluster.ssh_config).read_text().splitlines()
    lines += [line for line in own if "IdentityFile" not in line]
    config = directory / "config"
    config.write_text("\n".join(lines))
    return f'-F "{config}"'


@pytest.mark.parametrize("kind", [PipeAgent, VanishingAgent])
def test_twenty_nodes_use_one_agent(tmp_path: Path, kind: type[PipeAgent]) -> None:
    with LoopbackCluster(NODES) as cluster, fresh_task() as task:
        running = kind(paramiko.Ed25519Key(filename=cluster.identity_file))
        try:
            # A backslash is an escape in OpenSSH's configuration.
            path = running.path.replace("\\", "/")
            task.set_info("ssh_options", without_key_files(cluster, tmp_path, path))
            task.run("echo ok", nodes=NODES)
        finally:
            running.stop()
        assert [failure.args for failure, _ in task.iter_failures()] == []
        assert len(outputs(task)) == 20


def test_a_failure_without_an_agent_does_not_blame_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(agent, "WINDOWS_PIPE", rf"\\.\pipe\agent-{token_hex(8)}")
    with LoopbackCluster("node1") as cluster, fresh_task() as task:
        task.set_info("ssh_options", without_key_files(cluster, tmp_path))
        worker = task.shell("echo ok", nodes="node1", stderr=True)
        task.resume()
        assert worker.node_retcode("node1") == 255
        text = bytes(worker.node_error("node1"))
        assert b"Permission denied" in text
        assert b"no key to offer" in text
        assert b"pipe" not in text
