"""Workers over the local ``rsh`` and ``rcp`` programs, or others that are called like them."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any, Optional

from ..transport.state import Exited, Output, Record
from .exec import CommandLine, CopyClient, ExecClient, ExecWorker

# rsh does not tell the command's exit status: the remote shell prints it.
_STATUS_MARK = "XXRETCODE: "
_STATUS = re.compile(rb"XXRETCODE: (\d+)$")


def program(path: str) -> list[str]:
    """The words of a program's path, which may have options: ``~`` is the user's home directory."""
    return [os.path.expanduser(word) for word in shlex.split(path)]


class RshClient(ExecClient):
    """One node's command through ``rsh``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rsh_rc: Optional[int] = None

    def _build_cmd(self) -> CommandLine:
        info = self.worker.bound_task().info
        words = program(info("rsh_path") or "rsh")
        if info("rsh_user"):
            words += ["-l", info("rsh_user")]
        words += shlex.split(info("rsh_options") or "")
        return [*words, self.key, self.command or "", f"; echo {_STATUS_MARK}$?"], None

    def _hand_on(self, record: Record) -> None:
        if isinstance(record, Output):
            lines = self._without_status(record.lines)
            if lines:
                super()._hand_on(Output(record.sname, lines))
        elif isinstance(record, Exited) and record.rc in (0, 1) and self.rsh_rc is not None:
            # 0 and 1 are what rsh itself says; any other code is its own failure, or a signal.
            super()._hand_on(Exited(self.rsh_rc))
        else:
            super()._hand_on(record)

    def _without_status(self, lines: list[bytes]) -> list[bytes]:
        """Take the exit status out of the output."""
        kept = []
        for line in lines:
            match = _STATUS.search(line)
            if match is None:
                kept.append(line)
            else:
                self.rsh_rc = int(match[1])
                if match.start() > 0:
                    # The command's own last line had no newline.
                    kept.append(line[: match.start()])
        return kept


class RcpClient(CopyClient):
    """One node's copy through ``rcp``."""

    def _build_cmd(self) -> CommandLine:
        info = self.worker.bound_task().info
        words = [*program(info("rcp_path") or "rcp"), *self._options()]
        words += shlex.split(info("rcp_options") or info("rsh_options") or "")
        user = info("rsh_user")
        host = f"{user}@{self.key}" if user else self.key
        if self.reverse:
            name = f"{os.path.basename(self.source)}.{self.key}"
            return [*words, f"{host}:{self.source}", os.path.join(self.dest, name)], None
        return [*words, self.source, f"{host}:{self.dest}"], None


class WorkerRsh(ExecWorker):
    """Runs a command, or copies files, through one local ``rsh`` (or ``rcp``) program per node.

    The task's info keys ``rsh_path``, ``rcp_path`` (a program, perhaps with options), ``rsh_user``,
    ``rsh_options`` and ``rcp_options`` say how it is called. There is no ``connect_timeout``.

    rsh does not tell a command's exit status. So the remote shell is asked to print it: a command
    that ends that shell, with ``exit`` for instance, hides it, and its return code is 0.

    Reverse copies arrive in ``dest``, a directory, as ``name.node``.

    Args and errors: as :class:`~.exec.ExecWorker`; ``%`` has no meaning in commands and paths.
    """

    SHELL_CLASS = RshClient
    COPY_CLASS = RcpClient

    def _shares(self) -> list[tuple[Any, Optional[int]]]:
        return [(node, rank) for rank, node in enumerate(self.nodes)]


WORKER_CLASS = WorkerRsh
