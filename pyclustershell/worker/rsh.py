"""Workers over the local ``rsh`` and ``rcp`` programs, or programs with the same arguments."""

from __future__ import annotations

import os
import re
from typing import Any, Optional

from .. import platform
from ..records import Exited, Output, Record
from .exec import CommandLine, CopyClient, ExecClient, ExecWorker

# rsh does not return the exit status of the remote command, so the remote shell prints it.
_STATUS_MARK = "XXRETCODE: "
_STATUS = re.compile(rb"XXRETCODE: (\d+)$")


def program(path: str) -> list[str]:
    """Split a program's path and its options into words; expand ``~`` to the home directory."""
    return [os.path.expanduser(word) for word in platform.split_words(path)]


class RshClient(ExecClient):
    """One node's command through ``rsh``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rsh_rc: Optional[int] = None

    def _build_cmd(self) -> CommandLine:
        self._check_names()
        info = self.worker.context.info
        words = program(info.get("rsh_path") or "rsh")
        if info.get("rsh_user"):
            words += ["-l", info["rsh_user"]]
        words += platform.split_words(info.get("rsh_options") or "")
        return [*words, self.key, self.command or "", f"; echo {_STATUS_MARK}$?"], None

    def _deliver_to_worker(self, record: Record) -> None:
        if isinstance(record, Output):
            lines = self._without_status(record.lines)
            if lines:
                super()._deliver_to_worker(Output(record.sname, lines))
        elif isinstance(record, Exited) and record.rc in (0, 1) and self.rsh_rc is not None:
            # After a command, rsh itself exits with 0 or 1. Any other code is a failure of rsh, or
            # a signal.
            super()._deliver_to_worker(Exited(self.rsh_rc))
        else:
            super()._deliver_to_worker(record)

    def _without_status(self, lines: list[bytes]) -> list[bytes]:
        """Remove the printed exit status from the lines, and store it."""
        kept = []
        for line in lines:
            match = _STATUS.search(line)
            if match is None:
                kept.append(line)
            else:
                self.rsh_rc = int(match[1])
                if match.start() > 0:
                    # The last line of the command had no newline: the mark follows it directly.
                    kept.append(line[: match.start()])
        return kept


class RcpClient(CopyClient):
    """One node's copy through ``rcp``."""

    def _build_cmd(self) -> CommandLine:
        self._check_names()
        info = self.worker.context.info
        words = [*program(info.get("rcp_path") or "rcp"), *self._options()]
        words += platform.split_words(info.get("rcp_options") or info.get("rsh_options") or "")
        user = info.get("rsh_user")
        host = f"{user}@{self.key}" if user else self.key
        if self.reverse:
            name = f"{os.path.basename(self.source)}.{self.key}"
            return [*words, f"{host}:{self.source}", os.path.join(self.dest, name)], None
        return [*words, self.source, f"{host}:{self.dest}"], None


class WorkerRsh(ExecWorker):
    """Runs a command, or copies files, through one local ``rsh`` (or ``rcp``) program per node.

    The task's info keys ``rsh_path``, ``rcp_path`` (a program, perhaps with options), ``rsh_user``,
    ``rsh_options`` and ``rcp_options`` control the call. There is no ``connect_timeout``.

    rsh does not return a command's exit status, so the remote shell prints it after the command. A
    command that ends this shell, for instance with ``exit``, hides the status; its return code is
    then 0.

    Reverse copies are written to the directory ``dest`` as ``NAME.NODE``.

    Arguments and errors are those of :class:`~.exec.ExecWorker`, but ``%`` is not replaced in
    commands and paths.
    """

    SHELL_CLASS = RshClient
    COPY_CLASS = RcpClient

    def _client_keys(self) -> list[tuple[Any, Optional[int]]]:
        return [(node, rank) for rank, node in enumerate(self.nodes)]


WORKER_CLASS = WorkerRsh
