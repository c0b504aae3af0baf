"""The server's side of SFTP: this machine's files; relative names begin at a home directory.

SFTP version 3, draft-ietf-secsh-filexfer-02, over paramiko's SFTPServer.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, ClassVar, Optional, TypeVar, Union

import paramiko
from paramiko.sftp import SFTP_FAILURE, SFTP_OK, SFTP_OP_UNSUPPORTED

from .. import platform
from ..ssh.sftp.names import local_target, remote_target
from .paramiko_hooks import ExtensibleSFTPServer, Message

if TYPE_CHECKING:
    from typing_extensions import Buffer

Attributes = paramiko.SFTPAttributes

# The longest packet, read and write in bytes, as in OpenSSH; then 0: open files are not limited.
_LIMITS = struct.pack(">QQQQ", 256 << 10, 255 << 10, 255 << 10, 0)
Result = TypeVar("Result")

# Without this flag, Windows translates line ends.
_BINARY = getattr(os, "O_BINARY", 0)


def _attempt(function: Callable[[], Result]) -> Union[Result, int]:
    """The result of the function, or the SFTP status of its error."""
    try:
        return function()
    except OSError as error:
        return paramiko.SFTPServer.convert_errno(error.errno or 0)


def _sendable(name: str) -> str:
    """A name in a form that paramiko sends unchanged: it would encode text as UTF-8."""
    # Its type stubs require text, but bytes are sent unchanged.
    return os.fsencode(name)  # type: ignore[return-value]


def _status(function: Callable[[], None]) -> int:
    """SFTP_OK, or the SFTP status of the function's error."""
    result = _attempt(function)
    return result if isinstance(result, int) else SFTP_OK


def _change(target: Union[str, int], attributes: Attributes) -> None:
    """Set the given attributes, the size first, as this changes the times."""
    if attributes.st_size is not None:
        os.truncate(target, attributes.st_size)
    if platform.POSIX_FILES:
        if attributes.st_uid is not None and attributes.st_gid is not None:
            os.chown(target, attributes.st_uid, attributes.st_gid)
        if attributes.st_mode is not None:
            os.chmod(target, attributes.st_mode & 0o7777)
    if attributes.st_atime is not None and attributes.st_mtime is not None:
        os.utime(target, (attributes.st_atime, attributes.st_mtime))


class OpenFile(paramiko.SFTPHandle):
    """An open file, used only on the thread of its subsystem."""

    def __init__(self, path: str, descriptor: int, append: bool) -> None:
        super().__init__()
        self._path = path
        self._descriptor = descriptor
        self._append = append
        # Times to set when the file is closed: see chattr().
        self._times: Optional[tuple[int, int]] = None

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        if self._times is not None:
            os.utime(self._path, self._times)

    def read(self, offset: int, length: int) -> Union[bytes, int]:
        """Up to ``length`` bytes; b'' at the end of the file."""
        return _attempt(lambda: self._read(offset, length))

    def _read(self, offset: int, length: int) -> bytes:
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        return os.read(self._descriptor, length)

    def write(self, offset: int, data: Buffer) -> int:
        """Write all of the data."""
        return _status(lambda: self._write(offset, data))

    def _write(self, offset: int, data: Buffer) -> None:
        if not self._append:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
        pending = memoryview(data)
        while pending:
            pending = pending[os.write(self._descriptor, pending) :]

    def stat(self) -> Union[Attributes, int]:
        """The file's attributes."""
        return _attempt(lambda: Attributes.from_stat(os.fstat(self._descriptor)))

    def sync(self) -> int:
        """Write the file to its disk (fsync@openssh.com)."""
        return _status(lambda: os.fsync(self._descriptor))

    def chattr(self, attr: Attributes) -> int:
        """Change the file's attributes."""
        if os.utime not in os.supports_fd:
            # Windows sets times by the path only, and not those of an open file.
            if attr.st_atime is not None and attr.st_mtime is not None:
                self._times = (attr.st_atime, attr.st_mtime)
            attr.st_atime = attr.st_mtime = None
        return _status(lambda: _change(self._descriptor, attr))


class LocalFiles(paramiko.SFTPServerInterface):
    """The files of this machine.

    Args:
        server: the connection, which paramiko requires.
        home: the directory at which relative names begin.
    """

    def __init__(self, server: paramiko.ServerInterface, home: str) -> None:
        super().__init__(server)
        self._home = home

    def _path(self, name: str) -> str:
        return os.path.join(self._home, name)

    def canonicalize(self, path: str) -> str:
        """The absolute name, with links resolved (SSH_FXP_REALPATH)."""
        found = os.path.realpath(self._path(path))
        return _sendable(remote_target(found, platform.WINDOWS_PATHS))

    def list_folder(self, path: str) -> Union[list[Attributes], int]:
        """The entries of a directory; links have their own attributes."""

        def entries() -> list[Attributes]:
            with os.scandir(self._path(path)) as found:
                return [
                    Attributes.from_stat(entry.stat(follow_symlinks=False), _sendable(entry.name))
                    for entry in found
                ]

        return _attempt(entries)

    def stat(self, path: str) -> Union[Attributes, int]:
        """The attributes of a file; links are followed."""
        return _attempt(lambda: Attributes.from_stat(os.stat(self._path(path))))

    def lstat(self, path: str) -> Union[Attributes, int]:
        """The attributes of a file; links are not followed."""
        return _attempt(lambda: Attributes.from_stat(os.lstat(self._path(path))))

    def open(self, path: str, flags: int, attr: Attributes) -> Union[OpenFile, int]:
        """Open a file; a new one gets the requested mode without the bits of the umask."""

        def opened() -> OpenFile:
            mode = 0o666 if attr.st_mode is None else attr.st_mode & 0o7777
            local = self._path(path)
            descriptor = os.open(local, flags | _BINARY, mode)
            return OpenFile(local, descriptor, append=bool(flags & os.O_APPEND))

        return _attempt(opened)

    def remove(self, path: str) -> int:
        """Remove a file."""
        return _status(lambda: os.remove(self._path(path)))

    def rename(self, oldpath: str, newpath: str) -> int:
        """Rename; an existing target is an error (filexfer-02, 6.5)."""

        def renamed() -> None:
            if os.path.lexists(self._path(newpath)):
                raise FileExistsError
            os.rename(self._path(oldpath), self._path(newpath))

        return _status(renamed)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        """Rename; replace an existing target (posix-rename@openssh.com in OpenSSH's PROTOCOL)."""
        return _status(lambda: os.replace(self._path(oldpath), self._path(newpath)))

    def mkdir(self, path: str, attr: Attributes) -> int:
        """Make a directory."""
        mode = 0o777 if attr.st_mode is None else attr.st_mode & 0o7777
        return _status(lambda: os.mkdir(self._path(path), mode))

    def rmdir(self, path: str) -> int:
        """Remove an empty directory."""
        return _status(lambda: os.rmdir(self._path(path)))

    def chattr(self, path: str, attr: Attributes) -> int:
        """Change the attributes of a file; links are followed."""
        return _status(lambda: _change(self._path(path), attr))

    def readlink(self, path: str) -> Union[str, int]:
        """The target of a link."""

        def target() -> str:
            found = os.readlink(self._path(path))
            return _sendable(remote_target(found, platform.WINDOWS_PATHS))

        return _attempt(target)

    def space(self, path: str) -> Union[bytes, int]:
        """The size and free space of the file system, as fields of statvfs@openssh.com."""
        if not platform.POSIX_FILES:
            return SFTP_OP_UNSUPPORTED

        def fields() -> bytes:
            found = os.statvfs(self._path(path))
            # The number and the flags of the file system (the two zeros) are not given.
            return struct.pack(
                ">11Q",
                found.f_bsize,
                found.f_frsize,
                found.f_blocks,
                found.f_bfree,
                found.f_bavail,
                found.f_files,
                found.f_ffree,
                found.f_favail,
                0,
                0,
                found.f_namemax,
            )

        return _attempt(fields)

    def symlink(self, target_path: str, path: str) -> int:
        """Make a link; the target is used unchanged."""
        if not hasattr(os, "symlink"):
            return SFTP_OP_UNSUPPORTED
        link = self._path(path)
        target = local_target(target_path, platform.WINDOWS_PATHS)
        # On Windows, a link to a directory is of another kind than a link to a file.
        leads_to_directory = os.path.isdir(os.path.join(os.path.dirname(link), target))
        return _status(lambda: os.symlink(target, link, leads_to_directory))


class SFTPSubsystem(ExtensibleSFTPServer):
    """One SFTP session, on a thread of its own, with the extensions that OpenSSH's clients use.

    Args:
        channel: the channel of the session.
        server: the connection.
        files: the files to serve.
    """

    EXTENSIONS: ClassVar[dict[str, str]] = {
        "posix-rename@openssh.com": "1",
        "statvfs@openssh.com": "2",
        "fsync@openssh.com": "1",
        "limits@openssh.com": "1",
    }

    def __init__(
        self, channel: paramiko.Channel, server: paramiko.ServerInterface, files: LocalFiles
    ) -> None:
        super().__init__(channel, "sftp", server, lambda _server: files)  # type: ignore[arg-type]
        self.name = "loopback-sftp"
        self.daemon = True  # the interpreter must not wait for clients to disconnect
        self._channel = channel
        self._files = files

    def answer_extension(self, name: str, request: Message) -> Union[bytes, int, None]:
        """Answer the extensions of OpenSSH's PROTOCOL file; paramiko itself does posix-rename."""
        if name == "limits@openssh.com":
            return _LIMITS
        if name == "statvfs@openssh.com":
            return self._files.space(request.get_text())
        if name == "fsync@openssh.com":
            file = self.open_file(request.get_binary())
            return file.sync() if isinstance(file, OpenFile) else SFTP_FAILURE
        return None

    def begin(self) -> None:
        """Start the thread, once."""
        if self.ident is None:
            self.start()

    def finish_subsystem(self) -> None:
        """Report success as OpenSSH's sftp-server does, then close the channel."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.send_exit_status(0)
        super().finish_subsystem()
