"""What a reverse copy writes on this host: files that appear when they are whole, directories."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from secrets import token_hex
from typing import Optional

from ... import platform
from .names import temporary_name

_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


class LocalFile:
    """A file on its way: written under a temporary name in its directory, unless in place.

    Args:
        path: its path.
        mode: what it is made with, less the umask, where it is new.
        inplace: whether to write it under its own name.

    Raises:
        OSError: by every method.
    """

    def __init__(self, path: str, mode: int, inplace: bool) -> None:
        self.path = path
        directory, name = os.path.split(path)
        self._kept_mode = _mode_of(path)
        if inplace:
            self._written = path
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NO_FOLLOW
        else:
            token = token_hex(6)
            self._written = os.path.join(
                directory, os.fsdecode(temporary_name(os.fsencode(name), token))
            )
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._descriptor: Optional[int] = os.open(self._written, flags | _BINARY, mode & 0o777)

    def write(self, offset: int, data: memoryview) -> None:
        """Write a piece of it."""
        descriptor = self._open()
        while data:
            if hasattr(os, "pwrite"):
                written = os.pwrite(descriptor, data, offset)
            else:
                os.lseek(descriptor, offset, os.SEEK_SET)
                written = os.write(descriptor, data)
            offset += written
            data = data[written:]

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"{self.path} has been closed")
        return self._descriptor

    def finish(self, times: Optional[tuple[int, int]], mode: Optional[int]) -> None:
        """It is whole: give it its attributes and its name.

        Args:
            times: access and modification time in seconds; None to leave them.
            mode: its mode; None for that of the file that it replaces, if any.
        """
        if platform.POSIX_FILES:
            kept = self._kept_mode if mode is None else mode
            if kept is not None:
                os.fchmod(self._open(), kept & 0o7777)
        os.close(self._open())
        self._descriptor = None
        if times is not None:
            os.utime(self._written, times)
        if self._written != self.path:
            os.replace(self._written, self.path)
            self._written = self.path

    def discard(self) -> None:
        """It is not whole, and will not be: leave nothing behind. Harmless after :meth:`finish`."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._written != self.path:
            with suppress(OSError):
                os.remove(self._written)
            self._written = self.path


def _mode_of(path: str) -> Optional[int]:
    """The mode of a file that is there; None where there is none, or a link."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_mode if stat.S_ISREG(status.st_mode) else None


def make_directory(path: str, mode: int) -> None:
    """Make a directory where there is none.

    Args:
        path: its path.
        mode: its mode, less the umask, where it is new; its owner may write to it in any case.

    Raises:
        NotADirectoryError: there is something else, such as a link: it would lead out of what is
            written here.
        OSError: it cannot be made.
    """
    try:
        os.mkdir(path, mode & 0o777 | stat.S_IRWXU)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(None, "Not a directory") from None


def make_link(target: str, path: str) -> None:
    """Make a symbolic link, in the place of whatever file or link has its name.

    Raises:
        OSError: it cannot be made.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(
        directory, os.fsdecode(temporary_name(os.fsencode(name), token_hex(6)))
    )
    os.symlink(target, temporary)
    try:
        os.replace(temporary, path)
    except OSError:
        os.remove(temporary)
        raise
