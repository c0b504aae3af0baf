"""Copies between this host and nodes over SFTP: a worker's client, and what it is to copy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from ..engine.engine import Engine
from ..transport.sftp.options import CopyOptions
from .remote import RemoteClient

if TYPE_CHECKING:
    from ..transport.sftp.download import Download
    from ..transport.sftp.session import SftpSession
    from ..transport.sftp.upload import Upload

_SEPARATORS = os.sep + (os.altsep or "")


@dataclass(frozen=True)
class CopyRequest:
    """What a worker is to copy.

    Attributes:
        source: a file or directory: of this host, or (in reverse) of each node.
        dest: where to; in reverse, a directory of this host.
        reverse: whether nodes' files are copied to this host.
        options: how.

    Raises:
        ValueError: dest is no directory, in reverse.
    """

    source: str
    dest: str
    reverse: bool
    options: CopyOptions

    def __post_init__(self) -> None:
        if self.reverse and not os.path.isdir(self.dest):
            raise ValueError(
                f"the destination of a reverse copy must be a directory, not {self.dest!r}"
            )

    def target(self, node: str) -> str:
        """Where a reverse copy of one node goes, as ClusterShell has it: ``dest/NAME.NODE``.

        Raises:
            ValueError: the node's name cannot be a part of a file's.
        """
        if any(character in node for character in f"{_SEPARATORS}\0"):
            raise ValueError(f"{node!r} cannot be a part of a file's name")
        name = os.path.basename(self.source.rstrip("/"))
        return os.path.join(self.dest, f"{name}.{node}")


class ScpClient(RemoteClient):
    """One node's copy over SFTP. It has ClusterShell's name; no ``scp`` program is started."""

    def _make_command(self, engine: Engine) -> SftpSession:
        from ..transport.sftp.session import SftpSession

        assignment = self._assignment(engine, copying=True)
        copy = self._worker.copy_request()
        self._worker.bound_task().debug(
            f"SFTP: {assignment.settings!r}: {copy.source!r} to {copy.dest!r}"
        )
        job = self._make_copy(copy)
        # The paths of the files that were there already.
        self._worker.skipped_paths[self._key] = job.skipped
        return SftpSession(assignment, job.run)

    def _make_copy(self, copy: CopyRequest) -> Union[Upload, Download]:
        if copy.reverse:
            from ..transport.sftp.download import Download

            return Download(os.fsencode(copy.source), copy.target(self._key), copy.options)
        from ..transport.sftp.upload import Upload

        return Upload(self._worker.shared_source(), os.fsencode(copy.dest), copy.options)

    def _connect_input(self) -> None:
        # A copy reads none: what is written is dropped, and nobody waits for it.
        self.stdin.clear()
