"""The loopback cluster, judged by clients that are not this package's: paramiko, asyncssh, ssh."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import paramiko
import pytest

from pyclustershell.exceptions import PyClusterShellError
from pyclustershell.loopback import LoopbackCluster
from tests.helpers.sh import SHELL
from tests.helpers.waiting import wait_until
from tests.servers.leaks import no_leaks as check_leaks
from tests.servers.trees import process_runs

DEADLINE = 20.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LoopbackCluster]:
    """A cluster for those tests that leave it as it was; all together leave nothing behind."""
    with check_leaks(), LoopbackCluster("node[1-3]", shell=SHELL) as running:
        yield running


@contextlib.contextmanager
def connected(cluster: LoopbackCluster, node: str = "node1") -> Iterator[paramiko.Transport]:
    """An authenticated connection of plain paramiko to one node."""
    sock = socket.create_connection(("127.0.0.1", cluster.port(node)), timeout=DEADLINE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = paramiko.Transport(sock)
    try:
        transport.start_client(timeout=DEADLINE)
        transport.auth_publickey(cluster.user, identity(cluster))
        yield transport
    finally:
        transport.close()
        transport.join(DEADLINE)


def identity(cluster: LoopbackCluster) -> paramiko.PKey:
    return paramiko.Ed25519Key(filename=cluster.identity_file)


def execute(transport: paramiko.Transport, command: str, **kwargs: Any) -> paramiko.Channel:
    channel = transport.open_session(**kwargs)
    channel.settimeout(DEADLINE)
    channel.exec_command(command)
    return channel


def read_all(recv: Callable[[int], bytes]) -> bytes:
    return b"".join(iter(lambda: recv(65536), b""))


def run(transport: paramiko.Transport, command: str) -> tuple[bytes, bytes, int]:
    """Standard output, standard error and exit status of a command with little output."""
    with execute(transport, command) as channel:
        return read_all(channel.recv), read_all(channel.recv_stderr), channel.recv_exit_status()


# -- the facade --


def test_stop_leaves_nothing(no_leaks: None) -> None:
    """Also with connections open and a command running."""
    with LoopbackCluster("node[1-3]", shell=SHELL) as cluster, connected(cluster) as transport:
        directory = Path(cluster.ssh_config).parent
        channel = execute(transport, "echo $$; exec sleep 600")
        pid = int(channel.recv(100))
        cluster.stop()
        assert not process_runs(pid)
        assert not directory.exists()
        wait_until(lambda: not transport.is_active())


def test_repr_says_what_it_is_doing() -> None:
    cluster = LoopbackCluster("node[1-3]", shell=SHELL)
    assert repr(cluster) == "<LoopbackCluster of 3 nodes: stopped>"
    with cluster, connected(cluster) as transport:
        channel = execute(transport, "read line")
        # The command is started after its request is granted.
        wait_until(lambda: "1 sessions" in repr(cluster))
        assert repr(cluster) == (
            "<LoopbackCluster of 3 nodes: <Server listening: 3 nodes, 1 connections, 1 sessions>>"
        )
        channel.close()


def test_start_again_with_other_keys() -> None:
    cluster = LoopbackCluster(["a"], shell=SHELL)
    keys = []
    for _ in range(2):
        with cluster, connected(cluster, "a") as transport:
            keys.append(transport.get_remote_server_key().get_base64())
            assert run(transport, "echo ok")[0] == b"ok\n"
    assert keys[0] != keys[1]


@pytest.mark.parametrize("nodes", ["b[1-2],a", ["b1", "b2", "a"], ("b1", "b2", "a", "b1")])
def test_nodes(nodes: Any) -> None:
    assert sorted(LoopbackCluster(nodes).nodes) == ["a", "b1", "b2"]


@pytest.mark.parametrize("nodes", [[], [""], ["a b"], ["../a"], ["-oa"], ["*"], ["a\nHost b"]])
def test_names_that_cannot_be_used(nodes: list[str]) -> None:
    with pytest.raises(ValueError, match="loopback"):
        LoopbackCluster(nodes)


def test_not_started() -> None:
    cluster = LoopbackCluster(["a"])
    for attribute in ("ssh_config", "identity_file", "known_hosts", "connections"):
        with pytest.raises(PyClusterShellError, match="not started"):
            getattr(cluster, attribute)
    with pytest.raises(PyClusterShellError, match="not started"):
        cluster.port("a")


def test_unknown_node(cluster: LoopbackCluster) -> None:
    with pytest.raises(KeyError):
        cluster.port("node4")


@pytest.mark.posix_only("Windows has no modes; the folder is the user's own")
def test_files_are_private(cluster: LoopbackCluster) -> None:
    directory = Path(cluster.ssh_config).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in (cluster.ssh_config, cluster.identity_file, cluster.known_hosts):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_ssh_config(cluster: LoopbackCluster) -> None:
    """Read by paramiko's parser, it says all that a client needs."""
    config = paramiko.SSHConfig.from_path(cluster.ssh_config).lookup("node2")
    assert config == {
        "hostname": "127.0.0.1",
        "port": str(cluster.port("node2")),
        "hostkeyalias": "node2",
        "user": "loopback",
        "identityfile": [Path(cluster.identity_file).as_posix()],
        "identitiesonly": "yes",
        "userknownhostsfile": Path(cluster.known_hosts).as_posix(),
        "stricthostkeychecking": "yes",
    }


def test_configure_quotes_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A temporary directory with a blank in its name is one word of the option string."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "two words"))
    (tmp_path / "two words").mkdir()
    info = {}

    class Task:
        def set_info(self, info_key: str, value: object) -> None:
            info[info_key] = value

    with LoopbackCluster(["a"], shell=SHELL) as cluster:
        cluster.configure(Task())
        assert info == {"ssh_options": f"-F '{cluster.ssh_config}'"}


def test_each_node_has_its_own_host_key(cluster: LoopbackCluster) -> None:
    known = paramiko.HostKeys(cluster.known_hosts)
    for node in cluster.nodes:
        with connected(cluster, node) as transport:
            assert known.check(node, transport.get_remote_server_key())
    assert len(set(Path(cluster.known_hosts).read_text().split()[2::3])) == len(cluster.nodes)


# -- authentication --


def test_other_keys_are_refused(cluster: LoopbackCluster, tmp_path: Path) -> None:
    with LoopbackCluster(["a"], shell=SHELL) as other:
        key = identity(other)
    assert refusal(cluster, lambda t: t.auth_publickey("loopback", key)) == ["publickey"]


def test_other_users_are_refused(cluster: LoopbackCluster) -> None:
    key = identity(cluster)
    assert refusal(cluster, lambda t: t.auth_publickey("root", key)) == ["publickey"]


@pytest.mark.parametrize("method", ["none", "password"])
def test_other_methods_are_refused(cluster: LoopbackCluster, method: str) -> None:
    arguments = {"none": ("loopback",), "password": ("loopback", "")}[method]
    assert refusal(cluster, lambda t: getattr(t, f"auth_{method}")(*arguments)) == ["publickey"]


def refusal(
    cluster: LoopbackCluster, authenticate: Callable[[paramiko.Transport], object]
) -> list[str]:
    """Fail to authenticate; returns the methods that are said to be accepted."""
    with contextlib.closing(paramiko.Transport(("127.0.0.1", cluster.port("node1")))) as transport:
        transport.start_client(timeout=DEADLINE)
        with pytest.raises(paramiko.AuthenticationException) as caught:
            authenticate(transport)
        assert not transport.is_authenticated()
        transport.close()
        transport.join(DEADLINE)
    allowed: list[str] = getattr(caught.value, "allowed_types", ["publickey"])
    return allowed


def test_no_command_without_authentication(cluster: LoopbackCluster) -> None:
    with contextlib.closing(paramiko.Transport(("127.0.0.1", cluster.port("node1")))) as transport:
        transport.start_client(timeout=DEADLINE)
        with pytest.raises(paramiko.SSHException):
            transport.open_session(timeout=DEADLINE)
        transport.close()
        transport.join(DEADLINE)


def test_connections_from_other_addresses_are_refused(cluster: LoopbackCluster) -> None:
    """Every address of 127.0.0.0/8 is this machine's; only one is let in."""
    address = ("127.0.0.1", cluster.port("node1"))
    with socket.create_connection(address, DEADLINE, ("127.0.0.1", 0)) as allowed:
        assert allowed.recv(4) == b"SSH-"
    try:
        refused = socket.create_connection(address, DEADLINE, ("127.0.0.2", 0))
    except OSError as error:
        pytest.skip(f"this system has no 127.0.0.2: {error}")
    with refused:
        assert refused.recv(4) == b""


# -- commands --


def test_command(cluster: LoopbackCluster) -> None:
    with connected(cluster, "node2") as transport:
        command = "echo $PYCLUSTERSHELL_NODE; echo problem >&2; exit 3"
        assert run(transport, command) == (b"node2\n", b"problem\n", 3)


def test_working_directory(cluster: LoopbackCluster) -> None:
    with connected(cluster, "node2") as transport:
        home = os.path.realpath(cluster.home("node2"))
        assert run(transport, "pwd -P; cd; pwd -P")[0].decode().split() == [home, home]


def test_environment_of_a_login(cluster: LoopbackCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sshd sets it, although this process was started without these variables."""
    for name in ("SHELL", "USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    with connected(cluster) as transport:
        command = 'echo "$SHELL"; echo "$USER"; echo "$LOGNAME"'
        assert run(transport, command)[0].decode().splitlines() == [
            SHELL[0],
            cluster.user,
            cluster.user,
        ]


def test_environment_requests(cluster: LoopbackCluster) -> None:
    with connected(cluster) as transport:
        channel = transport.open_session()
        channel.update_environment({"COLOUR": "gr\xfcn", "PYCLUSTERSHELL_NODE": "mine"})
        channel.exec_command("printf %s $COLOUR$PYCLUSTERSHELL_NODE")
        assert read_all(channel.recv).decode() == "gr\xfcnmine"
        channel.close()


def test_input(cluster: LoopbackCluster) -> None:
    """It arrives unchanged, and so does its end."""
    data = bytes(range(256)) * 4000
    with connected(cluster) as transport:
        channel = execute(transport, "cat")

        def send() -> None:
            channel.sendall(data)
            channel.shutdown_write()

        sender = threading.Thread(target=send)
        sender.start()
        assert read_all(channel.recv) == data
        assert channel.recv_exit_status() == 0
        sender.join(DEADLINE)
        channel.close()


def test_empty_input(cluster: LoopbackCluster) -> None:
    with connected(cluster) as transport:
        channel = execute(transport, "wc -c")
        channel.shutdown_write()
        assert read_all(channel.recv).strip() == b"0"
        channel.close()


def test_input_that_the_command_does_not_read(cluster: LoopbackCluster) -> None:
    with connected(cluster) as transport:
        channel = execute(transport, "exec <&-; exit 4")
        channel.send(b"x" * 100000)
        assert channel.recv_exit_status() == 4
        channel.close()


@pytest.mark.posix_only("its shell is a program that asks for commands")
def test_shell_request(cluster: LoopbackCluster) -> None:
    with connected(cluster) as transport:
        channel = transport.open_session()
        channel.invoke_shell()
        channel.sendall(b"echo $((6 * 7)); exit 5\n")
        assert read_all(channel.recv) == b"42\n"
        assert channel.recv_exit_status() == 5
        channel.close()


def test_one_command_per_channel(cluster: LoopbackCluster) -> None:
    with connected(cluster) as transport:
        channel = execute(transport, "read line")
        with pytest.raises(paramiko.SSHException):
            channel.exec_command("echo second")


def test_status_after_eof(cluster: LoopbackCluster) -> None:
    """Both streams end while the command still runs: EOF comes at once, the status later."""
    with connected(cluster) as transport:
        channel = execute(transport, "exec >&- 2>&-; read line; exit 3")
        assert channel.recv(1) == b""
        assert not channel.exit_status_ready()
        channel.sendall(b"go on\n")
        assert channel.recv_exit_status() == 3
        channel.close()


@pytest.mark.posix_only("its commands are for a POSIX shell")
def test_eof_after_status(cluster: LoopbackCluster) -> None:
    """A child in the background holds the streams: the status comes at once, EOF later."""
    with connected(cluster) as transport:
        channel = execute(transport, "exec 3<&0; (read line <&3; echo late) & exit 4")
        assert channel.recv_exit_status() == 4
        assert not channel.closed
        channel.sendall(b"go on\n")
        assert read_all(channel.recv) == b"late\n"
        channel.close()


@pytest.mark.posix_only("its commands are for a POSIX shell")
def test_much_on_both_streams(cluster: LoopbackCluster) -> None:
    """20 MB on each at once arrive whole."""
    size = 20_000_000
    received = {}

    def drain(name: str, recv: Callable[[int], bytes]) -> None:
        received[name] = sum(map(len, iter(lambda: recv(65536), b"")))

    with connected(cluster) as transport:
        command = f"head -c {size} /dev/zero & head -c {size} /dev/zero >&2; wait"
        channel = execute(transport, command)
        readers = [
            threading.Thread(target=drain, args=("stdout", channel.recv)),
            threading.Thread(target=drain, args=("stderr", channel.recv_stderr)),
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(DEADLINE)
        assert received == {"stdout": size, "stderr": size}
        assert channel.recv_exit_status() == 0
        channel.close()


@pytest.mark.posix_only("its commands are for a POSIX shell")
def test_slow_reader_stops_the_command(cluster: LoopbackCluster) -> None:
    """At no time is more under way than the window, a pipe and a few packets hold."""
    window, block, taken = 65536, 10000, 0
    limit = window + 65536 + 2 * 32768 + block
    progress = Path(cluster.home("node3"), "progress")
    with connected(cluster, "node3") as transport:
        command = f"while head -c {block} /dev/zero; do printf . >> progress; done"
        channel = execute(transport, command, window_size=window)
        while taken < 4_000_000:
            taken += len(channel.recv(8192))
            written = progress.stat().st_size * block if progress.exists() else 0
            assert written <= taken + limit
        assert written > 0


# -- signals --


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1", "KILL"])
def test_signal_reaches_the_whole_process_group(cluster: LoopbackCluster, name: str) -> None:
    """The shell waits for its child, which gets the signal as well (RFC 4254, 6.9)."""
    with connected(cluster) as transport:
        channel = execute(transport, "sleep 600 & echo $!; echo $$; wait; wait")
        child, shell = (int(word) for word in read_lines(channel, 2))
        assert os.getpgid(child) == shell
        send_signal(transport, channel, name)
        # INT is ignored by the background jobs of a shell without job control.
        os.kill(child, signal.SIGKILL if name == "INT" else 0)
        wait_until(lambda: not process_runs(child) and not process_runs(shell))
        channel.close()


def test_unknown_signal_is_ignored(cluster: LoopbackCluster) -> None:
    with connected(cluster) as transport:
        channel = execute(transport, "read line; exit 6")
        send_signal(transport, channel, "WINDY")
        channel.sendall(b"go on\n")
        assert channel.recv_exit_status() == 6
        channel.close()


def send_signal(transport: Any, channel: Any, name: str) -> None:
    """RFC 4254, 6.9; paramiko has no method for it."""
    message = paramiko.Message()
    message.add_byte(b"\x62")  # SSH_MSG_CHANNEL_REQUEST
    message.add_int(channel.remote_chanid)
    message.add_string("signal")
    message.add_boolean(False)
    message.add_string(name)
    transport._send_user_message(message)


def read_lines(channel: paramiko.Channel, count: int) -> list[bytes]:
    data = b""
    while data.count(b"\n") < count:
        data += channel.recv(1000)
    return data.splitlines()


# -- connections --


def test_several_sessions_at_once(cluster: LoopbackCluster) -> None:
    with connected(cluster) as transport:
        channels = [execute(transport, "cat") for _ in range(8)]
        for number, channel in enumerate(channels):
            channel.sendall(b"%d" % number)
            channel.shutdown_write()
        assert [read_all(channel.recv) for channel in channels] == [b"%d" % n for n in range(8)]
        for channel in channels:
            channel.close()


def test_sessions_one_after_another_are_not_kept(cluster: LoopbackCluster) -> None:
    """More than the limit of sessions, but not at once."""
    with connected(cluster) as transport:
        assert [run(transport, f"exit {n}")[2] for n in range(25)] == list(range(25))


def test_limit_of_sessions() -> None:
    """Refused as OpenSSH's sshd refuses them: "open failed: connect failed"."""
    with (
        LoopbackCluster(["a"], max_sessions=2, shell=SHELL) as cluster,
        connected(cluster, "a") as transport,
    ):
        first, _second = transport.open_session(), transport.open_session()
        with pytest.raises(paramiko.ChannelException) as caught:
            transport.open_session()
        assert caught.value.code == 2
        first.close()
        assert run(transport, "echo again")[0] == b"again\n"


def test_other_kinds_of_channels_are_refused(cluster: LoopbackCluster) -> None:
    with connected(cluster) as transport, pytest.raises(paramiko.ChannelException):
        transport.open_channel("direct-tcpip", ("127.0.0.1", 1), ("127.0.0.1", 1))


def test_many_connections_at_once() -> None:
    nodes = [f"node{number}" for number in range(64)]
    everybody_is_in = threading.Barrier(len(nodes), timeout=DEADLINE)

    def visit(crowd: LoopbackCluster, node: str) -> bytes:
        with connected(crowd, node) as transport:
            everybody_is_in.wait()
            output = run(transport, "echo $PYCLUSTERSHELL_NODE")[0]
            everybody_is_in.wait()
            assert crowd.connections == len(nodes)
            everybody_is_in.wait()
        return output

    with LoopbackCluster(nodes, shell=SHELL) as crowd, ThreadPoolExecutor(len(nodes)) as threads:
        outputs = list(threads.map(lambda node: visit(crowd, node), nodes))
        assert outputs == [f"{node}\n".encode() for node in nodes]
        wait_until(lambda: crowd.connections == 0)


def test_lost_client_takes_its_processes_along(cluster: LoopbackCluster) -> None:
    """Also those that ignore SIGHUP."""
    with connected(cluster) as transport:
        plain = execute(transport, "echo $$; exec sleep 600")
        stubborn = execute(transport, "trap '' HUP; echo $$; sleep 600; sleep 600")
        pids = [int(channel.recv(100)) for channel in (plain, stubborn)]
        assert all(map(process_runs, pids))
    wait_until(lambda: not any(map(process_runs, pids)))
    wait_until(lambda: cluster.connections == 0)


def test_stop_kills_background_processes() -> None:
    with LoopbackCluster(["a"], shell=SHELL) as cluster, connected(cluster, "a") as transport:
        output, _, status = run(transport, "sleep 600 >/dev/null 2>&1 & echo $!")
        assert status == 0
        assert process_runs(int(output))
        cluster.stop()
        wait_until(lambda: not process_runs(int(output)))


def test_process_that_left_its_group_does_not_hold_up_stop(no_leaks: None) -> None:
    """It keeps the command's streams open, and nothing can find it."""
    with LoopbackCluster(["a"], shell=SHELL) as cluster, connected(cluster, "a") as transport:
        channel = execute(transport, "setsid sh -c 'echo $$; exec sleep 600' & wait")
        pid = int(channel.recv(100))
        cluster.stop()
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "words", [b"", b"SSH-2.0-client\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 9]
)
def test_clients_that_leave_or_talk_nonsense(
    words: bytes, no_leaks: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """They disturb no other client, and nothing about them reaches standard error."""
    with LoopbackCluster(["a"], shell=SHELL) as cluster:
        with socket.create_connection(("127.0.0.1", cluster.port("a")), DEADLINE) as sock:
            assert sock.recv(4) == b"SSH-"
            sock.sendall(words)
        with connected(cluster, "a") as transport:
            assert run(transport, "echo ok")[0] == b"ok\n"
    assert capfd.readouterr() == ("", "")


def test_mute_client_does_not_hold_up_stop(no_leaks: None) -> None:
    with LoopbackCluster(["a"], shell=SHELL) as cluster:
        sock = socket.create_connection(("127.0.0.1", cluster.port("a")), DEADLINE)
        assert sock.recv(4) == b"SSH-"
    sock.close()


def test_client_that_stops_reading_does_not_hold_up_stop(no_leaks: None) -> None:
    with LoopbackCluster(["a"], shell=SHELL) as cluster, connected(cluster, "a") as transport:
        execute(transport, "cat /dev/zero")
        cluster.stop()


# -- the handler --


def test_handler_replaces_and_refuses_commands() -> None:
    def handler(node: str, command: bytes) -> Any:
        return None if node == "b" else b"echo instead of " + command

    with LoopbackCluster("a,b", handler=handler) as cluster:
        with connected(cluster, "a") as transport:
            assert run(transport, "true")[0] == b"instead of true\n"
        with connected(cluster, "b") as transport, pytest.raises(paramiko.SSHException):
            execute(transport, "true")


# -- SFTP --


@contextlib.contextmanager
def sftp(cluster: LoopbackCluster) -> Iterator[paramiko.SFTPClient]:
    with connected(cluster) as transport:
        client = transport.open_sftp_client()
        assert client is not None
        with client:
            yield client


def test_sftp_put_and_get(cluster: LoopbackCluster, tmp_path: Path) -> None:
    data = bytes(range(256)) * 2000
    (tmp_path / "source").write_bytes(data)
    with sftp(cluster) as client:
        client.put(str(tmp_path / "source"), "relative name")
        assert Path(cluster.home("node1"), "relative name").read_bytes() == data
        client.get(str(Path(cluster.home("node1"), "relative name")), str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == data


def test_sftp_attributes(cluster: LoopbackCluster) -> None:
    path = Path(cluster.home("node1"), "attributes")
    with sftp(cluster) as client:
        with client.open("attributes", "w") as file:
            file.write(b"0123456789")
            file.chmod(0o600)
            file.utime((1000, 2000))
            assert file.stat().st_size == 10
        client.truncate("attributes", 4)
        client.chmod("attributes", 0o640)
        client.utime("attributes", (3000, 4000))
        status = client.stat("attributes")
    assert path.read_bytes() == b"0123"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (status.st_size, status.st_mtime) == (4, 4000)


def test_sftp_append_and_seek(cluster: LoopbackCluster) -> None:
    with sftp(cluster) as client:
        with client.open("both", "w") as file:
            file.write(b"abcdef")
        with client.open("both", "a") as file:
            file.write(b"ghi")
        with client.open("both", "r+") as file:
            file.seek(3)
            file.write(b"D")
        with client.open("both") as file:
            assert file.read() == b"abcDefghi"


def test_sftp_directories_and_links(cluster: LoopbackCluster) -> None:
    with sftp(cluster) as client:
        client.mkdir("directory", 0o750)
        assert stat.S_IMODE(client.stat("directory").st_mode or 0) == 0o750
        for number in range(40):
            client.open(f"directory/{number}", "w").close()
        assert sorted(client.listdir("directory"), key=int) == [str(n) for n in range(40)]
        client.symlink("directory/1", "link")
        assert client.readlink("link") == "directory/1"
        assert stat.S_ISLNK(client.lstat("link").st_mode or 0)
        assert stat.S_ISREG(client.stat("link").st_mode or 0)
        assert client.normalize("link") == os.path.realpath(cluster.home("node1")) + "/directory/1"
        with pytest.raises(OSError, match="Failure"):
            client.rename("directory/1", "directory/2")
        client.posix_rename("directory/1", "directory/2")
        client.rename("directory/2", "directory/new")
        client.remove("directory/new")
        with pytest.raises(OSError, match="Failure"):
            client.rmdir("directory")
        with pytest.raises(FileNotFoundError):
            client.stat("directory/new")
        with pytest.raises(FileNotFoundError):
            client.listdir("absent")


def test_sftp_server_ends_with_its_cluster(no_leaks: None) -> None:
    with LoopbackCluster(["a"], shell=SHELL) as cluster, connected(cluster, "a") as transport:
        client = transport.open_sftp_client()
        assert client is not None
        assert client.listdir() == []
        cluster.stop()
        client.close()


# -- other clients --


def openssh(cluster: LoopbackCluster, *words: str, **kwargs: Any) -> Any:
    return subprocess.run(
        ["ssh", "-F", cluster.ssh_config, *words],
        capture_output=True,
        timeout=DEADLINE,
        check=False,
        **kwargs,
    )


@pytest.mark.needs("ssh")
def test_openssh_client(cluster: LoopbackCluster) -> None:
    """It takes the configuration as it is: no question, no warning."""
    done = openssh(cluster, "node2", "cat; echo $PYCLUSTERSHELL_NODE >&2; exit 9", input=b"\0in")
    assert (done.stdout, done.stderr, done.returncode) == (b"\0in", b"node2\n", 9)


@pytest.mark.needs("ssh")
def test_openssh_client_refuses_another_nodes_key(cluster: LoopbackCluster) -> None:
    done = openssh(cluster, "-o", "HostKeyAlias=node1", "node2", "true", stdin=subprocess.DEVNULL)
    assert done.returncode == 255
    assert b"Host key verification failed" in done.stderr


@pytest.mark.needs("asyncssh")
def test_asyncssh_client(cluster: LoopbackCluster) -> None:
    import asyncssh

    async def talk() -> None:
        async with asyncssh.connect(
            "node3", config=[cluster.ssh_config], known_hosts=cluster.known_hosts
        ) as connection:
            done = await connection.run("printf '\\377'; exit 2", encoding=None)
            assert (done.stdout, done.exit_status) == (b"\xff", 2)
            # Status, EOF and close come from different threads, and still in order.
            for status in range(100):
                assert (await connection.run(f"exit {status}")).exit_status == status
            # RFC 4254, 6.10, for signals sent by the client and by the command to itself.
            process = await connection.create_process("echo ready; exec sleep 600")
            assert await process.stdout.readline() == "ready\n"
            process.send_signal("TERM")
            done = await process.wait()
            assert (done.exit_signal[0], done.returncode) == ("TERM", -signal.SIGTERM)
            assert (await connection.run("kill -9 $$")).exit_signal[0] == "KILL"
            assert (await connection.run("kill -PROF $$")).exit_signal[0] == "SIG@openssh.com"

    asyncio.run(asyncio.wait_for(talk(), DEADLINE))
