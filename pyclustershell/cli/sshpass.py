"""The modes of clush.conf that run ssh through sshpass: here, a password for the connections.

No ssh program is started here, so neither is sshpass. But its command line says where the password
comes from, and connections can use it.
"""

from __future__ import annotations

import os
import shlex
from typing import Optional

from .program import Failure

_SSHPASS = "sshpass"


def password_of(
    ssh_path: Optional[str], typed: Optional[str]
) -> tuple[Optional[str], Optional[str]]:
    """Tell the password of connections from that of commands (as sudo reads it).

    Args:
        ssh_path: the key of clush.conf, such as ``/usr/bin/sshpass -f FILE /usr/bin/ssh``.
        typed: the password that was typed, or None.

    Returns:
        The password for the connections, and that for the input of the command; each may be None.

    Raises:
        Failure: sshpass would read a password that cannot be read.
    """
    words = shlex.split(ssh_path or "")
    if not words or os.path.basename(words[0]) != _SSHPASS:
        return None, typed
    for word, following in zip(words[1:], [*words[2:], ""]):
        if not word.startswith("-"):
            break
        option, value = word[:2], word[2:] or following
        if option == "-f":
            return _first_line(value), None
        if option == "-p":
            return value, None
        if option == "-e":
            try:
                return os.environ["SSHPASS"], None
            except KeyError:
                raise Failure("sshpass -e: the variable SSHPASS is not set: set it") from None
    return typed, None


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline().rstrip("\n")
    except OSError as error:
        raise Failure(f"sshpass -f {path}: the password cannot be read: {error}") from None
