"""A real OpenSSH server for the tests only, with a port, keys and a configuration of its own.

It listens on every IPv4 address, so that each address of 127.0.0.0/8 is one more host of the
cluster: ``127.0.1.1``, ``127.0.1.2`` and so on. sshd takes at most 16 ``ListenAddress`` lines, so
the addresses cannot be listed; ``AllowUsers`` refuses clients that do not connect over the loopback
interface.

If the tests run as root and the account :data:`ACCOUNT` exists, commands run as that account: its
login shell reads no start-up files, and it has no rights to break anything. Otherwise commands run
as the current user.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Callable, Optional, Union

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.servers import processes
from tests.servers.processes import SEARCH_PATH, Program
from tests.windows import linuxside

Setting = Union[str, int, Path]

ACCOUNT = "pyclustershell"
HOST_KEY_ALIAS = "pyclustershell-tests"
#: OpenSSH's SFTP server as a program: of Debian, Fedora, Arch Linux, macOS; the first one if none.
SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)
SFTP_SERVER = next(filter(os.path.exists, SFTP_SERVERS), SFTP_SERVERS[0])
START_DEADLINE = 10.0
NODES_PER_NET = 250  # 127.0.1.1 - 127.0.1.250, then 127.0.2.1 and so on
TCP_ESTABLISHED = "01"  # "st" column of /proc/net/tcp: TCP_ESTABLISHED of Linux's net/tcp_states.h


class SshdError(Exception):
    """sshd is missing or does not start. The text holds its log."""


def find_sshd() -> Optional[str]:
    """The absolute path of sshd, which it insists on being started by, or None."""
    # OpenSSH for Windows has one; the tests know that of POSIX systems.
    return processes.find_program("sshd") if processes.POSIX_PROGRAMS else None


def node_address(index: int) -> str:
    """The loopback address of the index-th node, counted from 1."""
    net, host = divmod(index - 1, NODES_PER_NET)
    return f"127.0.{net + 1}.{host + 1}"


def make_key(path: Path, *, passphrase: Optional[str] = None) -> str:
    """Write a new Ed25519 key pair to path and path.pub.

    Args:
        path: the file for the private key, in OpenSSH's format and readable by its owner only.
        passphrase: encrypts the private key; None: it is not encrypted.

    Returns:
        The public key as authorized_keys and known_hosts have it: type and base64.
    """
    key = ed25519.Ed25519PrivateKey.generate()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption
    )
    path.touch(mode=0o600)
    path.write_bytes(private)
    if linuxside.reachable():
        processes.set_mode(path, 0o600)  # Windows has no such modes
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path.with_name(path.name + ".pub").write_bytes(public + b"\n")
    return public.decode()


class Sshd:
    """One sshd on one port. A context manager: entering starts it, leaving stops it.

    Attributes:
        port: the TCP port, known once started.
        user: the account to log in as.
        ssh_config: an OpenSSH client configuration file with all that it takes to log in, for
            addresses and for the names node1, node2 and so on.
        key: the client's private key file, which the server accepts.
        known_hosts: a known_hosts file with the server's host key.
        host_key: the server's public host key, type and base64.
    """

    def __init__(
        self,
        directory: Union[str, Path],
        *,
        nodes: int = 250,
        user: Optional[str] = None,
        **settings: Setting,
    ):
        """Make keys and nothing else yet.

        Args:
            directory: an existing, empty directory for keys, configuration and log.
            nodes: how many names node1, node2 ... the client configuration maps to addresses.
            user: the account that can log in; only root may name another one than its own. None for
                the account that the module's docstring names.
            settings: sshd_config(5) keywords that override or add to the default ones here.
        """
        self.directory = Path(directory)
        self.nodes = nodes
        self.settings = settings
        self.port = 0
        self.user = user or _account()
        self.key = self.directory / "id_ed25519"
        self.known_hosts = self.directory / "known_hosts"
        self.ssh_config = self.directory / "ssh_config"
        self._log = self.directory / "sshd.log"
        self._public_key = make_key(self.key)
        self._host_key_file = self.directory / "host_key"
        self._keys_file = self.directory / "authorized_keys"
        self.host_key = make_key(self._host_key_file)
        self._program: Optional[Program] = None
        self._public_directory: Optional[tempfile.TemporaryDirectory[str]] = None

    def __repr__(self) -> str:
        state = "stopped" if self._program is None else f"pid {self._program.pid}"
        return f"<Sshd port {self.port} user {self.user} {state}>"

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start sshd, on the port that it had before if any, and wait until it answers.

        Raises:
            SshdError: there is no sshd, or it does not answer within START_DEADLINE seconds.
        """
        sshd = find_sshd()
        if sshd is None:
            raise SshdError(f"no sshd in {SEARCH_PATH}")
        # A port that was free a moment ago can be taken by the time sshd binds it: try another.
        attempts = 1 if self.port else 5
        for attempt in range(1, attempts + 1):
            port = self.port or free_port()
            try:
                self._start_on(sshd, port)
            except SshdError:
                self.stop()
                if attempt == attempts:
                    raise
            else:
                self.port = port
                self._write_client_files()
                return

    def _start_on(self, sshd: str, port: int) -> None:
        if processes.user_id() == 0:
            # sshd confines its unprivileged half there. Usually, the init script makes it.
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        config = self.directory / "sshd_config"
        config.write_text(_config_lines(self._server_settings(sshd, port), processes.node_path))
        self._log.write_text("")
        self._program = Program(sshd, "-D", "-E", self._log, "-f", config)
        deadline = time.monotonic() + START_DEADLINE
        while not is_ssh(port):
            if not self._program.runs():
                raise SshdError(f"sshd has ended: {self.log()}")
            if time.monotonic() > deadline:
                raise SshdError(f"no answer from sshd in {START_DEADLINE} s: {self.log()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End sshd and every process that it started. Does nothing if sshd does not run."""
        program, self._program = self._program, None
        if program is not None:
            program.end()
        if self._public_directory is not None:
            self._public_directory.cleanup()
            self._public_directory = None

    def log(self) -> str:
        """The log of sshd since its start."""
        return self._log.read_text(errors="replace")

    # -- configuration -----------------------------------------------------------------------------

    def _server_settings(self, sshd: str, port: int) -> dict[str, Setting]:
        settings: dict[str, Setting] = {
            "Port": port,
            "ListenAddress": "0.0.0.0",  # noqa: S104 - AllowUsers lets in the loopback only
            "AllowUsers": f"{self.user}@127.0.0.0/8",
            "HostKey": self._host_key_file,
            "AuthorizedKeysFile": self._authorized_keys(),
            "PidFile": self.directory / "sshd.pid",
            "StrictModes": "no",
            "UseDNS": "no",
            "UsePAM": "no",
            "LogLevel": "ERROR",
            "PrintMotd": "no",
            "PrintLastLog": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "MaxStartups": 10000,
            "MaxSessions": 10000,
            "AcceptEnv": "*",
            # Started by sshd and with SHLVL unset, bash reads the user's ~/.bashrc (its shell.c).
            # That file is the user's own: it may be slow and may print. The tests do without it.
            "SetEnv": "SHLVL=1",
            "Subsystem": "sftp internal-sftp",
        }
        if _version(sshd) >= (9, 8):
            # Some tests fail to log in on purpose; sshd must not delay others for that.
            settings["PerSourcePenalties"] = "no"
        settings.update(self.settings)
        return settings

    def _authorized_keys(self) -> Path:
        """Write authorized_keys to a directory that the account can read, as sshd reads it."""
        directory = self.directory
        if self.user != processes.user_name():
            # Directories of pytest's are closed to other users.
            self._public_directory = tempfile.TemporaryDirectory(prefix="sshd-")
            directory = Path(self._public_directory.name)
            processes.set_mode(directory, 0o755)
        self._keys_file = directory / "authorized_keys"
        self.limit_key("")
        return self._keys_file

    def limit_key(self, options: str) -> None:
        """Set the options of the key in authorized_keys (sshd(8)), for logins from now on."""
        self._keys_file.write_text(f"{options} {self._public_key}".lstrip() + "\n")

    def _write_client_files(self) -> None:
        self.known_hosts.write_text(f"{HOST_KEY_ALIAS},[127.*]:{self.port} {self.host_key}\n")
        self.write_ssh_config(self.ssh_config)

    def write_ssh_config(
        self,
        path: Union[str, Path],
        hosts: Optional[Mapping[str, Mapping[str, Setting]]] = None,
        **options: Setting,
    ) -> Path:
        """Write an OpenSSH client configuration file for this server and, if asked, for others.

        Args:
            path: the file to write.
            hosts: ssh_config(5) keywords by ``Host`` pattern. They come first, hence win.
            options: keywords for all hosts, in the place of the default ones here.

        Returns:
            The path.
        """
        everywhere: dict[str, Setting] = {
            "User": self.user,
            "Port": self.port,
            "IdentityFile": self.key,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": HOST_KEY_ALIAS,
            "StrictHostKeyChecking": "yes",
        }
        everywhere.update(options)
        blocks = dict(hosts or {})
        for index in range(1, self.nodes + 1):
            blocks.setdefault(f"node{index}", {"HostName": node_address(index)})
        blocks["*"] = everywhere
        lines = [f"Host {pattern}\n{_config_lines(block)}" for pattern, block in blocks.items()]
        path = Path(path)
        path.write_text("".join(lines))
        return path

    # -- observation from outside ------------------------------------------------------------------

    def connections(self) -> int:
        """How many TCP connections to the port are established now, as the kernel counts them.

        A connection that the client has closed does not count, even if the server's end is open.

        Raises:
            OSError: the system has no /proc/net/tcp: it is no Linux.
        """
        # Connections change while the kernel lists them, so that a closed one can be in the list
        # together with its successor. A connection in two lists existed between the two readings.
        return len(self._established() & self._established())

    def _established(self) -> set[tuple[str, ...]]:
        """The server's ends of established connections, by their two addresses."""
        port = f":{self.port:04X}"
        with open("/proc/net/tcp", encoding="ascii") as table:
            # Columns: number, local address, remote address, state.
            rows = (line.split(None, 4)[1:4] for line in table)
            return {
                tuple(row) for row in rows if row[2] == TCP_ESTABLISHED and row[0].endswith(port)
            }

    @contextlib.contextmanager
    def watch_connections(self, interval: float = 0.005) -> Iterator[ConnectionWatch]:
        """Count connections in a thread of its own as long as the with block lasts.

        Args:
            interval: seconds between two looks.
        """
        watch = ConnectionWatch(self, interval)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()


class ConnectionWatch:
    """Looks at a server's connections again and again.

    Attributes:
        max_connections: the most that were established at once.
        samples: how many times it looked.
    """

    def __init__(self, sshd: Sshd, interval: float) -> None:
        self.max_connections = 0
        self.samples = 0
        self._sshd = sshd
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connection-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look a last time and end the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            last = self._stop.wait(self._interval)
            self.max_connections = max(self.max_connections, self._sshd.connections())
            self.samples += 1
            if last:
                return


def _account() -> str:
    """The account for the commands: see the module's docstring."""
    if processes.user_id() == 0 and processes.account_exists(ACCOUNT):
        return ACCOUNT
    return processes.user_name()


def _config_lines(
    settings: Mapping[str, Setting], show_path: Callable[[Path], str] = os.fspath
) -> str:
    shown = (
        (keyword, show_path(value) if isinstance(value, Path) else value)
        for keyword, value in settings.items()
    )
    return "".join(f"    {keyword} {value}\n" for keyword, value in shown)


def _version(sshd: str) -> tuple[int, int]:
    """OpenSSH's version. Old ones do not know ``-V``, but their usage message has the version."""
    told = processes.run(sshd, "-V", check=False)
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", told.stderr + told.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def free_port() -> int:
    """A port that was free on 127.0.0.1 a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_ssh(port: int) -> bool:
    """True if an SSH server greets us. Any other answer counts as none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
