"""The server's side of SFTP: this machine's files, relative names counted from a home directory.

SFTP version 3, draft-ietf-secsh-filexfer-02, over paramiko's SFTPServer.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, ClassVar, TypeVar, Union

import paramiko
from paramiko.sftp import SFTP_FAILURE, SFTP_OK, SFTP_OP_UNSUPPORTED

from ... import platform
from .hooks import ExtensibleSFTPServer, Message

if TYPE_CHECKING:
    from typing_extensions import Buffer

Attributes = paramiko.SFTPAttributes

# The longest packet, read and write that are taken, in bytes: what OpenSSH has. The number of open
# files is not limited here.
_LIMITS = struct.pack(">QQQQ", 256 << 10, 255 << 10, 255 << 10, 0)
Result = TypeVar("Result")

# Windows translates line ends otherwise.
_BINARY = getattr(os, "O_BINARY", 0)


def _attempt(function: Callable[[], Result]) -> Union[Result, int]:
    """The function's result, or the SFTP status of its error."""
    try:
        return function()
    except OSError as error:
        return paramiko.SFTPServer.convert_errno(error.errno or 0)


def _sendable(name: str) -> str:
    """A name as paramiko can send it: it encodes text as UTF-8, which a name need not be."""
    # Its type stubs want text; bytes are sent as they are.
    return os.fsencode(name)  # type: ignore[return-value]


def _status(function: Callable[[], None]) -> int:
    """SFTP_OK, or the SFTP status of the function's error."""
    result = _attempt(function)
    return result if isinstance(result, int) else SFTP_OK


def _change(target: Union[str, int], attributes: Attributes) -> None:
    """Set those attributes that are given, the size first: it changes the times."""
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
    """An open file. One thread uses it: its subsystem's."""

    def __init__(self, descriptor: int, append: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._append = append

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

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
        """Put the file on its disk (fsync@openssh.com)."""
        return _status(lambda: os.fsync(self._descriptor))

    def chattr(self, attr: Attributes) -> int:
        """Change the file's attributes."""
        return _status(lambda: _change(self._descriptor, attr))


class LocalFiles(paramiko.SFTPServerInterface):
    """The files of this machine.

    Args:
        server: the connection, as paramiko wants it.
        home: the directory from which relative names are counted.
    """

    def __init__(self, server: paramiko.ServerInterface, home: str) -> None:
        super().__init__(server)
        self._home = home

    def _path(self, name: str) -> str:
        return os.path.join(self._home, name)

    def canonicalize(self, path: str) -> str:
        """The absolute name, links resolved (SSH_FXP_REALPATH)."""
        return _sendable(os.path.realpath(self._path(path)))

    def list_folder(self, path: str) -> Union[list[Attributes], int]:
        """A directory's entries, with their own attributes where they are links."""

        def entries() -> list[Attributes]:
            with os.scandir(self._path(path)) as found:
                return [
                    Attributes.from_stat(entry.stat(follow_symlinks=False), _sendable(entry.name))
                    for entry in found
                ]

        return _attempt(entries)

    def stat(self, path: str) -> Union[Attributes, int]:
        """The attributes of what a name leads to."""
        return _attempt(lambda: Attributes.from_stat(os.stat(self._path(path))))

    def lstat(self, path: str) -> Union[Attributes, int]:
        """The attributes of a name, links not followed."""
        return _attempt(lambda: Attributes.from_stat(os.lstat(self._path(path))))

    def open(self, path: str, flags: int, attr: Attributes) -> Union[OpenFile, int]:
        """Open a file; a new one gets the mode that was asked for, less the umask."""

        def opened() -> OpenFile:
            mode = 0o666 if attr.st_mode is None else attr.st_mode & 0o7777
            descriptor = os.open(self._path(path), flags | _BINARY, mode)
            return OpenFile(descriptor, append=bool(flags & os.O_APPEND))

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
        """Rename over what may be there (OpenSSH's PROTOCOL file, posix-rename@openssh.com)."""
        return _status(lambda: os.replace(self._path(oldpath), self._path(newpath)))

    def mkdir(self, path: str, attr: Attributes) -> int:
        """Make a directory."""
        mode = 0o777 if attr.st_mode is None else attr.st_mode & 0o7777
        return _status(lambda: os.mkdir(self._path(path), mode))

    def rmdir(self, path: str) -> int:
        """Remove an empty directory."""
        return _status(lambda: os.rmdir(self._path(path)))

    def chattr(self, path: str, attr: Attributes) -> int:
        """Change the attributes of what a name leads to."""
        return _status(lambda: _change(self._path(path), attr))

    def readlink(self, path: str) -> Union[str, int]:
        """Where a link leads to."""
        return _attempt(lambda: _sendable(os.readlink(self._path(path))))

    def space(self, path: str) -> Union[bytes, int]:
        """The file system's size and room, as statvfs@openssh.com wants them."""
        if not platform.POSIX_FILES:
            return SFTP_OP_UNSUPPORTED

        def told() -> bytes:
            found = os.statvfs(self._path(path))
            # The file system's number and flags are of no use to anybody.
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

        return _attempt(told)

    def symlink(self, target_path: str, path: str) -> int:
        """Make a link; the target is taken as it stands."""
        if not hasattr(os, "symlink"):
            return SFTP_OP_UNSUPPORTED
        return _status(lambda: os.symlink(target_path, self._path(path)))


class SFTPSubsystem(ExtensibleSFTPServer):
    """One SFTP session, on a thread of its own, with the extensions that OpenSSH's clients use.

    Args:
        channel: its channel.
        server: the connection.
        files: what is served.
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
        self.daemon = True  # the interpreter must not wait for a client to leave
        self._channel = channel
        self._files = files

    def answer_extension(self, name: str, request: Message) -> Union[bytes, int, None]:
        """Answer what OpenSSH's PROTOCOL file describes; paramiko does posix-rename itself."""
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
