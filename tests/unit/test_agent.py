"""The agent's protocol, against OpenSSH's ssh-agent and against an agent that the test scripts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import paramiko
import pytest
from paramiko.message import Message

from pyclustershell import platform
from pyclustershell.ssh.auth import agent
from pyclustershell.ssh.auth.agent import AgentClient, AgentError, AgentKey, Identity
from pyclustershell.ssh.auth.keystore import KeyStore
from tests.helpers.needs import require

pytestmark = pytest.mark.posix_only("needs Unix sockets")

Answer = Callable[[bytes], bytes]
DEADLINE = 10.0


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        yield Path(name)


class FakeAgent:
    """Sends the test's raw reply to one request per connection."""

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
        (framed(b""), "reply claims to have 0 bytes"),
        (b"\xff\xff\xff\xff", "reply claims to have 4294967295 bytes"),
        (b"\0\0", "closed the connection"),
        (b"\0\0\0\x09\x0c", "closed the connection"),
        (framed(b"\x0c\xff\xff\xff\xff" + strings(b"blob", b"me")), "4294967295 keys, more than"),
        (framed(b"\x0c\0\0\x08\x01" + strings(b"", b"") * 2049), "2049 keys, more than 2048"),
        (framed(b"\x0c\0\0\0\x02" + strings(b"blob", b"me")), "reply is damaged"),
        (framed(b"\x0c\0\0\0\x01\xff\xff\xff\xff"), "reply is damaged"),
        (framed(b"\x0c"), "reply is damaged"),
        (b"\0\x04\0\x01", "reply claims to have 262145 bytes"),
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


def test_a_signature_that_is_cut_short(
    fake: Callable[..., tuple[AgentClient, FakeAgent]],
) -> None:
    client, _ = fake(framed(b"\x0e\0\0\0\x09sig"))
    with pytest.raises(AgentError, match="reply is damaged"):
        client.sign(b"blob", b"data", "ssh-ed25519")


def test_the_time_limit_is_that_of_the_whole_reply(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent sends a byte each second, by the clock of the test."""
    seconds = iter(range(100))
    monkeypatch.setattr(agent, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    limits: list[float] = []

    class Stream(socket.socket):
        def __init__(self) -> None:
            super().__init__()
            self.settimeout = limits.append  # type: ignore[method-assign, assignment]

        def sendall(self, data: bytes) -> None:  # type: ignore[override]
            pass

        def recv(self, size: int) -> bytes:  # type: ignore[override]
            if limits[-1] < 1:
                raise TimeoutError("timed out")
            return b"\0"

        def close(self) -> None:
            super().close()

    with Stream() as stream:
        monkeypatch.setattr(agent, "_connect", lambda path, timeout: stream)
        with pytest.raises(AgentError, match="timed out"):
            AgentClient("socket", 3.0).identities()
    assert limits == [2.0, 1.0, 0.001]


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
    require("ssh-agent")
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


# -- Windows, with a Pageant of our own (test_winpipe.py has the pipe) ----------------------------


class Pageant:
    """Takes what is sent, and gives the answer that the test wants."""

    def __init__(self, answer: bytes) -> None:
        self.sent = b""
        self.closed = 0
        self._answer = answer

    def send(self, data: bytes) -> None:
        self.sent += data

    def recv(self, size: int) -> bytes:
        taken, self._answer = self._answer[:size], self._answer[size:]
        return taken

    def close(self) -> None:
        self.closed += 1


IDENTITIES = framed(b"\x0c" + (1).to_bytes(4, "big") + strings(b"blob", b"me@here"))


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("has_pipe", [True, False])
def test_the_agents_of_windows(monkeypatch: pytest.MonkeyPatch, runs: bool, has_pipe: bool) -> None:
    monkeypatch.setattr(platform, "WINDOWS", True)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    pageant = Pageant(IDENTITIES)
    module = SimpleNamespace(PageantConnection=lambda: pageant, can_talk_to_agent=lambda: runs)
    monkeypatch.setattr(agent, "import_module", lambda name: {"paramiko.win_pageant": module}[name])
    pipes = SimpleNamespace(pipe_exists=lambda name: has_pipe and name == agent.WINDOWS_PIPE)
    monkeypatch.setitem(sys.modules, "pyclustershell.ssh.auth.winpipe", pipes)
    other = agent.WINDOWS_PIPE if has_pipe else None
    assert agent.default_agent() == (agent.PAGEANT if runs else other)
    assert AgentClient("Pageant", 5.0).identities() == [Identity(b"blob", "me@here")]
    assert (pageant.sent, pageant.closed) == (framed(b"\x0b"), 1)
