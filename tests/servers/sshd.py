"""A real OpenSSH server of our own: its port, keys, configuration and processes are nobody else's.

It listens on every IPv4 address, so that each address of 127.0.0.0/8 is one more host of the
cluster: ``127.0.1.1``, ``127.0.1.2`` and so on. sshd takes at most 16 ``ListenAddress`` lines, so
the addresses cannot be listed; ``AllowUsers`` keeps everybody out who does not come over the
loopback interface.

Commands run as the account :data:`ACCOUNT` where the tests run as root and it exists: a login shell
that reads no start-up files, and no rights to break anything. Otherwise they run as the current
user.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional, Union

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

Setting = Union[str, int, Path]

ACCOUNT = "pyclustershell"
HOST_KEY_ALIAS = "pyclustershell-tests"
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
START_DEADLINE = 10.0
STOP_DEADLINE = 5.0
NODES_PER_NET = 250  # 127.0.1.1 - 127.0.1.250, then 127.0.2.1 and so on
TCP_ESTABLISHED = "01"  # "st" column of /proc/net/tcp: TCP_ESTABLISHED of Linux's net/tcp_states.h


class SshdError(Exception):
    """sshd is missing, or does not start; the text holds what it said."""


def find_sshd() -> Optional[str]:
    """The absolute path of sshd, which it insists on being started by, or None."""
    found = shutil.which("sshd", path=SEARCH_PATH)
    return None if found is None else os.path.abspath(found)


def node_address(index: int) -> str:
    """The loopback address of the index-th node, counted from 1."""
    net, host = divmod(index - 1, NODES_PER_NET)
    return f"127.0.{net + 1}.{host + 1}"


def make_key(path: Path, *, passphrase: Optional[str] = None) -> str:
    """Write a new Ed25519 key pair to path and path.pub.

    Args:
        path: where the private key goes, in OpenSSH's format and readable by its owner only.
        passphrase: what the private key is encrypted with, or None.

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

    def __init__(self, directory: Union[str, Path], *, nodes: int = 250, **settings: Setting):
        """Make keys and nothing else yet.

        Args:
            directory: an existing, empty directory for keys, configuration and log.
            nodes: how many names node1, node2 ... the client configuration maps to addresses.
            settings: sshd_config(5) keywords that override or add to the default ones here.
        """
        self.directory = Path(directory)
        self.nodes = nodes
        self.settings = settings
        self.port = 0
        self.user = _account()
        self.key = self.directory / "id_ed25519"
        self.known_hosts = self.directory / "known_hosts"
        self.ssh_config = self.directory / "ssh_config"
        self._log = self.directory / "sshd.log"
        self._public_key = make_key(self.key)
        self._host_key_file = self.directory / "host_key"
        self.host_key = make_key(self._host_key_file)
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._public_directory: Optional[tempfile.TemporaryDirectory[str]] = None

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else f"pid {self._process.pid}"
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
            port = self.port or _free_port()
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
        if os.geteuid() == 0:
            # Where sshd confines its unprivileged half; the init script makes it otherwise.
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        config = self.directory / "sshd_config"
        config.write_text(_config_lines(self._server_settings(sshd, port)))
        self._log.write_text("")
        self._process = subprocess.Popen(
            [sshd, "-D", "-E", str(self._log), "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C in the terminal is for pytest, which stops us in its own time.
            start_new_session=True,
        )
        deadline = time.monotonic() + START_DEADLINE
        while not _answers(port):
            if self._process.poll() is not None:
                raise SshdError(f"sshd ended with {self._process.returncode}: {self.log()}")
            if time.monotonic() > deadline:
                raise SshdError(f"no answer from sshd in {START_DEADLINE} s: {self.log()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End sshd and every process that it started; idle where it does not run."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            # A listener that is stopped cannot start another session while we count the old ones.
            process.send_signal(signal.SIGSTOP)
            sessions = _descendants(process.pid)
            process.kill()
            for pid in sessions:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(STOP_DEADLINE)
            # Killed is not yet gone.
            deadline = time.monotonic() + STOP_DEADLINE
            while any(map(process_runs, sessions)) and time.monotonic() < deadline:
                time.sleep(0.005)
        if self._public_directory is not None:
            self._public_directory.cleanup()
            self._public_directory = None

    def log(self) -> str:
        """What sshd said since it was started."""
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
            "Subsystem": "sftp internal-sftp",
        }
        if _version(sshd) >= (9, 8):
            # Failed logins are what some tests are about; they must not make others wait.
            settings["PerSourcePenalties"] = "no"
        settings.update(self.settings)
        return settings

    def _authorized_keys(self) -> Path:
        """Write authorized_keys where the account can read it: sshd reads it with its rights."""
        directory = self.directory
        if self.user != getpass.getuser():
            # Directories of pytest's are closed to other users.
            self._public_directory = tempfile.TemporaryDirectory(prefix="sshd-")
            directory = Path(self._public_directory.name)
            directory.chmod(0o755)
        authorized_keys = directory / "authorized_keys"
        authorized_keys.write_text(f"{self._public_key}\n")
        return authorized_keys

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
            path: where to write it.
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

    # -- what can be seen from outside -------------------------------------------------------------

    def connections(self) -> int:
        """How many TCP connections to the port are established now, as the kernel counts them.

        One that the client has closed does not count, whatever the server does with it.

        Raises:
            OSError: the system has no /proc/net/tcp: it is no Linux.
        """
        # The kernel does not stand still while it lists its connections, so that one which was
        # closed can be in the list together with the one that took its place. What is in two lists
        # was there at the moment between them.
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


def process_runs(pid: int) -> bool:
    """Whether a process is running: neither gone nor dead and waiting for its parent to look.

    An orphan can stay dead for long where the system's first process does not look, as in
    containers.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    # "pid (name) state ...": the name may hold blanks and parentheses.
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _account() -> str:
    """Whom commands run as: see the module's docstring."""
    import pwd  # POSIX only

    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(ACCOUNT).pw_name
    return pwd.getpwuid(os.geteuid()).pw_name


def _config_lines(settings: Mapping[str, Setting]) -> str:
    return "".join(f"    {keyword} {value}\n" for keyword, value in settings.items())


def _version(sshd: str) -> tuple[int, int]:
    """OpenSSH's version. ``-V`` is an error to old ones, whose usage message names it too."""
    told = subprocess.run([sshd, "-V"], capture_output=True, text=True, check=False)
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", told.stderr + told.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    """Whether an SSH server greets us. Any other answer counts as none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _descendants(ancestor: int) -> list[int]:
    """The processes below one, as far as the system has /proc to tell."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (name) state ppid ...": the name may hold blanks and parentheses.
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(ancestor, []))
    for pid in found:  # grows while we walk it: breadth first
        found += children.get(pid, [])
    return found
