"""The agent's protocol, against OpenSSH's ssh-agent and against an agent that the test scripts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import paramiko
import pytest
from paramiko.message import Message

from pyclustershell import platform
from pyclustershell.transport.auth import agent
from pyclustershell.transport.auth.agent import AgentClient, AgentError, AgentKey, Identity
from pyclustershell.transport.auth.keystore import KeyStore

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs Unix sockets")

Answer = Callable[[bytes], bytes]
DEADLINE = 10.0


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        yield Path(name)


class FakeAgent:
    """Answers one request per connection with what the test says, raw."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.requests: list[bytes] = []
        self._answers = answers
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._server.settimeout(DEADLINE)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._server.accept()
            with connection:
                size = int.from_bytes(connection.recv(4), "big")
                self.requests.append(connection.recv(size))
                for number in range(len(answer)):  # byte by byte
                    connection.send(answer[number : number + 1])

    def close(self) -> None:
        self._thread.join(DEADLINE)
        self._server.close()


@pytest.fixture
def fake(directory: Path) -> Iterator[Callable[..., tuple[AgentClient, FakeAgent]]]:
    made: list[FakeAgent] = []

    def make(*answers: bytes) -> tuple[AgentClient, FakeAgent]:
        made.append(FakeAgent(directory / "socket", *answers))
        return AgentClient(str(directory / "socket"), DEADLINE), made[-1]

    yield make
    for each in made:
        each.close()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


def strings(*parts: bytes) -> bytes:
    return b"".join(framed(part) for part in parts)


def test_identities(fake: Callable[..., tuple[AgentClient, FakeAgent]]) -> None:
    answer = b"\x0c" + (2).to_bytes(4, "big") + strings(b"blob1", b"me@here", b"blob2", b"\xff")
    client, server = fake(framed(answer))
    first, second = client.identities()
    assert first == Identity(b"blob1", "me@here")
    assert second.blob == b"blob2"
    assert server.requests == [b"\x0b"]


@pytest.mark.parametrize(
    ("algorithm", "flags"),
    [
        ("ssh-ed25519", 0),
        ("rsa-sha2-256", 2),
        ("rsa-sha2-512", 4),
        ("rsa-sha2-512-cert-v01@openssh.com", 4),
    ],
)
def test_sign(
    fake: Callable[..., tuple[AgentClient, FakeAgent]], algorithm: str, flags: int
) -> None:
    client, server = fake(framed(b"\x0e" + strings(b"signature")))
    key = AgentKey(client, Identity(strings(b"ssh-rsa", b"x"), "me"))
    assert key.sign_ssh_data(b"data", algorithm).asbytes() == b"signature"
    request = b"\x0d" + strings(key.blob, b"data") + flags.to_bytes(4, "big")
    assert server.requests == [request]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (framed(b"\x05"), "refused"),
        (framed(b""), "makes no sense"),
        (b"\xff\xff\xff\xff", "makes no sense"),
        (b"\0\0", "closed the connection"),
        (b"\0\0\0\x09\x0c", "closed the connection"),
    ],
)
def test_what_an_agent_may_do_wrong(
    fake: Callable[..., tuple[AgentClient, FakeAgent]], answer: bytes, message: str
) -> None:
    client, _ = fake(answer)
    with pytest.raises(AgentError, match=message):
        client.identities()


def test_an_agent_that_refuses_to_sign_fails_the_attempt_only(
    fake: Callable[..., tuple[AgentClient, FakeAgent]], caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = fake(framed(b"\x05"))
    key = AgentKey(client, Identity(strings(b"ssh-ed25519", b"x"), "me@here"))
    assert key.sign_ssh_data(b"data").asbytes() == b""
    assert "agent key 'me@here' cannot sign: the agent refused" in caplog.text


def test_an_agent_that_is_not_there(directory: Path) -> None:
    with pytest.raises(AgentError, match="cannot be reached: No such file"):
        AgentClient(str(directory / "socket")).identities()
    (directory / "file").touch()
    with pytest.raises(AgentError, match="cannot be reached: Connection refused"):
        AgentClient(str(directory / "file")).identities()


def test_an_agent_that_hangs(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "socket"))
        server.listen()
        with pytest.raises(AgentError, match="timed out"):
            AgentClient(str(directory / "socket"), 0.05).identities()


def test_the_default_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    assert agent.default_agent() == "/run/agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", "")
    assert agent.default_agent() is None


def test_keys_are_values(directory: Path) -> None:
    client, other = AgentClient("/a"), AgentClient("/b")
    identity = Identity(strings(b"ssh-ed25519", b"x"), "me")
    assert AgentKey(client, identity) == AgentKey(client, identity)
    assert hash(AgentKey(client, identity)) == hash(AgentKey(client, identity))
    assert AgentKey(client, identity) != AgentKey(other, identity)


@pytest.fixture
def ssh_agent(directory: Path) -> Iterator[Path]:
    """The socket of a running ssh-agent."""
    if shutil.which("ssh-agent") is None:
        pytest.skip("no ssh-agent")
    path = directory / "agent"
    command = ["ssh-agent", "-s", "-a", path]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pid = int(said.split("SSH_AGENT_PID=")[1].split(";")[0])
    yield path
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_openssh_agent(directory: Path, ssh_agent: Path, kind: str) -> None:
    path = directory / "key"
    command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "me@here", "-f", path]
    subprocess.run(command, check=True)
    environment = {**os.environ, "SSH_AUTH_SOCK": str(ssh_agent)}
    subprocess.run(["ssh-add", "-q", path], env=environment, check=True)
    client = AgentClient(str(ssh_agent), DEADLINE)
    (identity,) = client.identities()
    assert identity.comment == "me@here"
    key = AgentKey(client, identity)
    assert key.asbytes() == KeyStore().load(str(path)).public
    public = paramiko.PKey.from_type_string(key.get_name(), key.asbytes())
    algorithm = "rsa-sha2-512" if kind == "rsa" else key.get_name()
    signature = key.sign_ssh_data(b"data", algorithm)
    assert public.verify_ssh_sig(b"data", Message(signature.asbytes()))


# -- Windows, with a pipe and a Pageant of our own -------------------------------------------------


class Peer:
    """An agent behind a pipe or behind Pageant: what is written to it, and its answers."""

    def __init__(self, *answers: bytes, chunk: int = 100) -> None:
        self.written = b""
        self.closed = 0
        self._answers = b"".join(answers)
        self._chunk = chunk

    def write(self, data: bytes) -> int:
        self.written += data[: self._chunk]
        return len(data[: self._chunk])

    def read(self, size: int) -> bytes:
        taken, self._answers = self._answers[:size], self._answers[size:]
        return taken

    def send(self, data: bytes) -> None:  # as paramiko's PageantConnection has it
        self.written += data

    recv = read

    def close(self) -> None:
        self.closed += 1


IDENTITIES = framed(b"\x0c" + (1).to_bytes(4, "big") + strings(b"blob", b"me@here"))


@pytest.fixture
def _windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "WINDOWS", True)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.mark.usefixtures("_windows")
def test_the_pipe_of_openssh(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, opened = Peer(IDENTITIES, chunk=3), []

    def fake_open(path: str, mode: str, buffering: int) -> Peer:
        opened.append((path, mode, buffering))
        if len(opened) < 3:
            error = OSError(22, "all pipe instances are busy")
            error.winerror = 231
            raise error
        return peer

    monkeypatch.setattr(agent, "open", fake_open, raising=False)
    assert AgentClient(agent.WINDOWS_PIPE, 5.0).identities() == [Identity(b"blob", "me@here")]
    assert opened == [(r"\\.\pipe\openssh-ssh-agent", "r+b", 0)] * 3
    assert (peer.written, peer.closed) == (framed(b"\x0b"), 1)


@pytest.mark.usefixtures("_windows")
@pytest.mark.parametrize("code", [2, 231])
def test_a_pipe_that_is_not_there_or_stays_busy(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fake_open(*_arguments: object, **_options: object) -> Peer:
        error = OSError(2, "no such pipe")
        error.winerror = code
        raise error

    monkeypatch.setattr(agent, "open", fake_open, raising=False)
    with pytest.raises(AgentError, match="cannot be reached: no such pipe"):
        AgentClient(agent.WINDOWS_PIPE, 0.05).identities()


@pytest.mark.usefixtures("_windows")
@pytest.mark.parametrize("runs", [True, False])
def test_pageant(monkeypatch: pytest.MonkeyPatch, runs: bool) -> None:
    peer = Peer(IDENTITIES)
    module = SimpleNamespace(PageantConnection=lambda: peer, can_talk_to_agent=lambda: runs)
    monkeypatch.setattr(agent, "import_module", lambda name: {"paramiko.win_pageant": module}[name])
    assert agent.default_agent() == (agent.PAGEANT if runs else agent.WINDOWS_PIPE)
    assert AgentClient("Pageant").identities() == [Identity(b"blob", "me@here")]
    assert (peer.written, peer.closed) == (framed(b"\x0b"), 1)
