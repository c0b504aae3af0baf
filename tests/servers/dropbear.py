"""A real dropbear of our own, for logins as root.

dropbear reads ``~/.ssh/authorized_keys`` and nothing else. So that root's own file stays as it is,
the server has a mount namespace with another /etc/passwd: root's home is the test's directory
there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Optional, Union

from tests.servers.processes import SEARCH_PATH
from tests.servers.sshd import START_DEADLINE, free_port, is_ssh, make_key
from tests.servers.trees import end_tree

# The shell becomes dropbear: the process that we know is the one to stop.
_START = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'


class Dropbear:
    """One dropbear on 127.0.0.1. A context manager.

    Attributes:
        port: the TCP port, known once started.
        ssh_config: an OpenSSH client configuration file with all that it takes to log in as root,
            for the names node1 and node2.
    """

    def __init__(self, directory: Path) -> None:
        """Make keys and nothing else yet.

        Args:
            directory: an existing, empty directory for keys and log.
        """
        self.port = 0
        self.ssh_config = directory / "ssh_config"
        self._directory = directory
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> Dropbear:
        directory = self._directory
        home = directory / "home"
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        authorized_keys = home / ".ssh" / "authorized_keys"
        authorized_keys.write_text(make_key(directory / "id_ed25519") + "\n")
        authorized_keys.chmod(0o600)
        passwd = directory / "passwd"
        passwd.write_text(f"root:x:0:0:root:{home}:/bin/sh\n")
        program = shutil.which("dropbear", path=SEARCH_PATH)
        keygen = shutil.which("dropbearkey", path=SEARCH_PATH)
        assert program is not None
        assert keygen is not None
        host_key = directory / "host_key"
        told = subprocess.run(
            [keygen, "-t", "ed25519", "-f", host_key], capture_output=True, text=True, check=True
        )
        public = re.search("^ssh-ed25519 [^ \n]+", told.stdout, re.MULTILINE)
        assert public is not None
        self.port = free_port()
        known_hosts = directory / "known_hosts"
        known_hosts.write_text(f"dropbear {public[0]}\n")
        self.ssh_config.write_text(
            f"Host *\n User root\n HostName 127.0.0.1\n Port {self.port}\n HostKeyAlias dropbear\n"
            f" IdentityFile {directory / 'id_ed25519'}\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {known_hosts}\n GlobalKnownHostsFile /dev/null\n"
        )
        server: list[Union[str, Path]] = [
            program,
            "-F",
            "-E",
            "-s",
            "-r",
            host_key,
            "-p",
            f"127.0.0.1:{self.port}",
        ]
        log = directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    "unshare",
                    "-m",
                    "sh",
                    "-c",
                    _START,
                    "sh",
                    passwd,
                    *server,
                    "-P",
                    directory / "pid",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_DEADLINE
        while not is_ssh(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"dropbear does not start: {log.read_text()}")
            time.sleep(0.02)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and every process that it started."""
        process, self._process = self._process, None
        if process is not None:
            end_tree(process)
