"""Programs, packages and rights that some tests need and a machine may lack.

A test names them in a marker, ``@pytest.mark.needs("ssh-keygen")``; a fixture calls
``require("sshd")``. Without them the test is skipped, and the report says what to install. On CI
(the environment has ``CI``) it fails instead: CI installs all of them, so a skip there would hide
that a test has stopped running.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Optional

import pytest

from tests.servers import processes
from tests.servers.processes import SEARCH_PATH
from tests.servers.sshd import ACCOUNT, SFTP_SERVER, find_sshd

#: Programs that are looked for in PATH, and the Debian package of each.
PROGRAMS = {
    "bash": "bash",
    "dropbear": "dropbear-bin",
    "fish": "fish",
    "groff": "groff-base",
    "pdsh": "pdsh",
    "ssh": "openssh-client",
    "ssh-agent": "openssh-client",
    "ssh-keygen": "openssh-client",
    "strace": "strace",
    "zsh": "zsh",
}
MODULES = {"ClusterShell": "ClusterShell", "asyncssh": "asyncssh", "rich": "rich"}
#: CI installs these on Linux only.
ON_LINUX = {"bash", "dropbear", "fish", "groff", "pdsh", "strace", "zsh"}
#: The tests, or the library, start these themselves; the Linux side beside wine is of no use.
NOT_FOR_WINDOWS = {"pdsh", "strace"}
#: Rights that nobody can install.
RIGHTS = {"root", "mounts"}


def require(*needs: str) -> None:
    """Skip the test if something that it needs is missing; on CI, fail.

    Args:
        needs: a program (one of PROGRAMS, "sshd", "sftp-server"), a package (one of MODULES),
            "account" (commands on the OpenSSH server do not run as root), "terminals" (the
            OpenSSH server can give its sessions a terminal), "root" (the tests run as root) or
            "mounts" (they may mount). Without the last two a test is skipped on CI as well.

    Raises:
        KeyError: a name is none of these.
    """
    for need in needs:
        reason = obstacle(need)
        if not reason:
            continue
        installed = need not in RIGHTS and (need not in ON_LINUX or sys.platform == "linux")
        if os.environ.get("CI") and installed and not _cannot_be_had(need):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason, allow_module_level=True)


def obstacle(need: str) -> str:
    """Say why a need of a test is not met and what to do about it; '' if it is met."""
    reason = _cannot_be_had(need)
    if reason:
        return reason
    if need == "sshd":
        if find_sshd() is None:
            return f"no OpenSSH server (sshd) in {SEARCH_PATH}: install openssh-server"
    elif need == "sftp-server":
        if not os.path.exists(SFTP_SERVER):
            return f"no {SFTP_SERVER}: install openssh-sftp-server"
    elif need == "account":
        return _root_without_account()
    elif need == "root":
        root = processes.user_id() == 0
        return "" if root else "only root can do this: run the tests as root"
    elif need == "mounts":
        return _no_mounts()
    elif need == "terminals":
        return _no_terminals()
    elif need in MODULES:
        if importlib.util.find_spec(need) is None:
            return f"{need} is not installed: python -m pip install {MODULES[need]}"
    elif processes.find_program(need) is None:
        return f"no {need} in PATH: install {PROGRAMS[need]}"
    return ""


def _cannot_be_had(need: str) -> str:
    """Say why nobody can install something on this system; '' if one can."""
    if need == "ssh-agent" and processes.WINDOWS:
        return "ssh-agent listens at a Unix socket, and Python for Windows has none"
    if need in NOT_FOR_WINDOWS and processes.WINDOWS:
        return f"not on Windows: there is no {need} for it"
    if need not in MODULES and not processes.POSIX_PROGRAMS:
        return f"not on Windows: {need} of a POSIX system (.ci/windows runs this test)"
    return ""


def _root_without_account() -> str:
    if processes.user_id() != 0 or processes.account_exists(ACCOUNT):
        return ""
    return (
        f"root has no account {ACCOUNT!r} for the OpenSSH server's commands: run "
        f"useradd --system --create-home --shell /bin/dash --password '*' {ACCOUNT}"
    )


def _no_mounts() -> str:
    try:
        processes.run("unshare", "-m", "true")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no mount namespace ({error}): run the tests as root, with CAP_SYS_ADMIN"
    return ""


def _no_terminals() -> str:
    """An sshd without root's rights cannot change the owner of a terminal, and ends the connection.

    It tries to if the group of a new terminal is not "tty" (pty_setowner() in OpenSSH's sshpty.c).
    Containers often mount /dev/pts without ``gid=5``.
    """
    if processes.user_id() == 0:
        return ""
    import grp  # POSIX only

    expected: Optional[int] = None
    try:
        expected = grp.getgrnam("tty").gr_gid
    except KeyError:
        expected = os.getegid()
    ends = os.openpty()
    try:
        group = os.fstat(ends[1]).st_gid
    finally:
        for end in ends:
            os.close(end)
    if group == expected:
        return ""
    return (
        f"new terminals belong to group {group}, not to group 'tty' ({expected}), so an OpenSSH "
        "server without root's rights cannot use them: mount /dev/pts with gid=5, or run as root"
    )
