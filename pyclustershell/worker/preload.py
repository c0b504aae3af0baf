"""Loads every module that a run over SSH may need, before its connections take descriptors.

To load a module takes a file descriptor. In the middle of a run there may be none left, and an
import that fails then is no failure of one node: it would end the run.
"""

import encodings.idna  # used by socket.getaddrinfo() for names
import importlib
from contextlib import suppress

from ..local import filelock, shell
from ..ssh import command, manager
from ..ssh.config import resolution, sshconfig
from ..ssh.sftp import download, sftpsession, source, upload
from . import exec as exec_worker
from . import popen

__all__ = [
    "command",
    "download",
    "encodings",
    "exec_worker",
    "filelock",
    "load_platform_modules",
    "manager",
    "popen",
    "resolution",
    "sftpsession",
    "shell",
    "source",
    "sshconfig",
    "upload",
]


def load_platform_modules() -> None:
    """Load the modules that only some systems have: os.path.expanduser() uses them."""
    with suppress(ImportError):
        importlib.import_module("pwd")
