"""The test servers behave as the other tests assume."""

from __future__ import annotations

import base64
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import paramiko
import pytest

from tests.servers import faults
from tests.servers.faults import ScriptedServer, dropping_address, refusing_address
from tests.servers.leaks import no_leaks
from tests.servers.sshd import Sshd, SshdError, make_key, node_address
from tests.servers.trees import process_runs

CLIENT_BANNER = b"SSH-2.0-test\r\n"


def connect(sshd: Sshd, host: str = "127.0.0.1") -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    host_keys = client.get_host_keys()
    key = paramiko.Ed25519Key(data=base64.b64decode(sshd.host_key.split()[1]))
    host_keys.add(f"[{host}]:{sshd.port}", key.get_name(), key)
    client.connect(
        host,
        sshd.port,
        sshd.user,
        key_filename=str(sshd.key),
        allow_agent=False,
        look_for_keys=False,
        timeout=10,
    )
    return client


# -- sshd ------------------------------------------------------------------------------------------


def test_sshd_runs_commands_on_every_loopback_address(sshd: Sshd) -> None:
    for host in ["127.0.0.1", node_address(1), node_address(500)]:
        client = connect(sshd, host)
        _, stdout, stderr = client.exec_command("id -un; exit 3")
        assert stdout.read().decode().strip() == sshd.user
        assert stderr.read() == b""
        assert stdout.channel.recv_exit_status() == 3
        client.close()


def test_connections_are_counted_from_outside(tmp_path: Path, sshd: Sshd) -> None:
    with Sshd(tmp_path) as other, other.watch_connections() as watch:
        assert other.connections() == 0
        first, second = connect(other), connect(other, "127.0.1.2")
        assert other.connections() == 2
        elsewhere = connect(sshd)
        assert other.connections() == 2
        first.close()
        second.close()
        elsewhere.close()
    assert watch.max_connections == 2
    assert watch.samples > 0


def test_stop_ends_sessions_and_their_commands(tmp_path: Path, sshd: Sshd) -> None:
    with Sshd(tmp_path) as other:
        ours, theirs = connect(sshd), connect(other)
        _, ours_out, _ = ours.exec_command("echo $$; exec sleep 60")
        _, theirs_out, _ = theirs.exec_command("echo $$; exec sleep 60")
        keeps, ends = int(ours_out.readline()), int(theirs_out.readline())
        assert process_runs(keeps)
        assert process_runs(ends)
    assert not process_runs(ends)
    assert process_runs(keeps)
    theirs.close()
    ours.exec_command(f"kill {keeps}")[1].channel.recv_exit_status()
    assert ours_out.channel.recv_exit_status() != 0
    ours.close()


def test_it_starts_again_on_the_same_port(tmp_path: Path) -> None:
    server = Sshd(tmp_path)
    server.start()
    port = server.port
    server.stop()
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))
    with server:
        assert server.port == port
        connect(server).close()


def test_settings_reach_the_server_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(SshdError, match="NoSuchKeyword"):
        Sshd(tmp_path, NoSuchKeyword="yes").start()


def test_the_client_configuration_is_what_ssh_understands(sshd: Sshd, tmp_path: Path) -> None:
    config = paramiko.SSHConfig.from_path(str(sshd.ssh_config))
    assert config.lookup("node251")["hostname"] == "127.0.2.1"
    assert config.lookup("127.0.0.9")["port"] == str(sshd.port)
    path = sshd.write_ssh_config(
        tmp_path / "config", {"node2": {"HostName": "127.0.0.1", "Port": 1}}, User="somebody"
    )
    config = paramiko.SSHConfig.from_path(str(path))
    assert config.lookup("node2")["port"] == "1"
    assert config.lookup("node3")["user"] == "somebody"


def test_keys_are_encrypted_when_asked(tmp_path: Path) -> None:
    make_key(tmp_path / "key", passphrase="correct horse")
    with pytest.raises(paramiko.PasswordRequiredException):
        paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "key"))
    paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "key"), password="correct horse")
    if os.name == "posix":
        assert (tmp_path / "key").stat().st_mode & 0o077 == 0


@pytest.mark.posix_only("pytest takes no nul for a configuration file")
def test_without_sshd_tests_skip_and_on_ci_they_fail(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "from tests.conftest import sshd\n"
        "from tests.helpers import needs\n"
        "needs.find_sshd = lambda: None\n"
        "def test_fixture(sshd): pass\n"
        "@pytest.mark.needs('sshd')\n"
        "def test_marker(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    command += ["-p", "tests.conftest", "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)]
    search = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
    environment.pop("CI", None)
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "2 skipped" in outcome.stdout
    assert "install openssh-server" in outcome.stdout
    environment["CI"] = "true"
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "2 errors" in outcome.stdout
    assert outcome.returncode == 1


# -- scripted servers ------------------------------------------------------------------------------


def talk(script: faults.Script, *, say: bytes = CLIENT_BANNER) -> bytes:
    """The bytes that the server sends until it ends the stream."""
    with ScriptedServer(script) as server:
        with socket.create_connection(server.address, timeout=5) as client:
            client.sendall(say)
            heard = b""
            while chunk := client.recv(65536):
                heard += chunk
        assert server.accepted == 1
        return heard


def test_servers_that_close() -> None:
    assert talk(faults.close_at_once) == b""
    assert talk(faults.close_before_banner) == b""
    assert talk(faults.other_protocol).startswith(b"HTTP/1.1 400")
    assert b"SSH-" not in talk(faults.garbage_banner)
    assert talk(faults.close_in_key_exchange).startswith(faults.BANNER)


@pytest.mark.parametrize(
    "script", [faults.reset_at_once, faults.reset_before_banner, faults.reset_in_key_exchange]
)
@pytest.mark.skipif(not faults.RESETS_ARE_SEEN, reason="wine 8 hides resets")
def test_servers_that_reset(script: faults.Script) -> None:
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        talk(script, say=CLIENT_BANNER + bytes(1))


@pytest.mark.parametrize(
    ("script", "size"),
    [
        (faults.hang_before_banner, 0),
        (faults.hang_in_banner, 10),
        (faults.hang_before_key_exchange, len(faults.BANNER)),
        (faults.hang_in_key_exchange, len(faults.BANNER + faults.key_exchange_init())),
    ],
)
def test_servers_that_hang_until_they_are_stopped(script: faults.Script, size: int) -> None:
    server = ScriptedServer(script)
    with server, socket.create_connection(server.address, timeout=5) as client:
        client.sendall(CLIENT_BANNER)
        heard = client.recv(size, socket.MSG_WAITALL) if size else b""
        assert heard[: len(faults.BANNER)] == faults.BANNER[:size]
        assert select.select([client], [], [], 0.1)[0] == []
        server.stop()
        assert client.recv(1) == b""


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (faults.no_common_algorithm, "no acceptable kex algorithm"),
        (faults.old_protocol, "Incompatible version"),
        (faults.disconnect_at_once, "."),
        (faults.garbage_packet, "."),
    ],
)
def test_paramikos_errors_for_bad_key_exchanges(script: faults.Script, problem: str) -> None:
    with ScriptedServer(script) as server:
        sock = socket.create_connection(server.address, timeout=5)
        transport = paramiko.Transport(sock)
        with pytest.raises(Exception, match=problem):  # paramiko raises many kinds
            transport.start_client(timeout=0.5)
        transport.close()
        transport.join(5)


def test_a_script_that_fails_fails_the_test() -> None:
    def broken(connection: socket.socket) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ScriptedServer(broken) as server:
        with socket.create_connection(server.address, timeout=5) as client:
            assert client.recv(1) == b""


def test_an_address_that_refuses() -> None:
    with refusing_address() as address, socket.socket() as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(address)


def test_an_address_that_drops() -> None:
    with dropping_address() as address:
        for _ in range(3):
            with socket.socket() as client:
                client.settimeout(0.2)
                with pytest.raises(TimeoutError if sys.version_info >= (3, 10) else socket.timeout):
                    client.connect(address)


# -- leaks -----------------------------------------------------------------------------------------


def test_leaks_are_told() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    with pytest.raises(AssertionError, match="thread forgotten"), no_leaks(deadline=0.1):
        thread.start()
    stop.set()
    thread.join()

    left = []
    with pytest.raises(AssertionError, match=r"fd -?\d+ -> <?socket"), no_leaks(deadline=0.1):
        left.append(socket.socket())
    left.pop().close()


def test_threads_that_end_in_time_are_no_leak() -> None:
    stop = threading.Event()
    with no_leaks(deadline=5):
        threading.Thread(target=stop.wait).start()
        threading.Timer(0.05, stop.set).start()


def test_scripted_servers_leave_nothing_behind(no_leaks: None) -> None:
    with ScriptedServer(faults.hang_before_banner) as server:
        clients = [socket.create_connection(server.address, timeout=5) for _ in range(20)]
    for client in clients:
        client.close()
