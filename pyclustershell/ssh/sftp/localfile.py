"""Files, directories and links that a reverse copy makes on this host."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from secrets import token_hex
from typing import Optional

from ... import platform
from .localpaths import plain
from .names import local_target, temporary_name

_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# A pipe without a reader must not block.
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)

#: The bits of a mode that a copy may have. A stranger's file must not become a set-uid program of
#: this user, so that set-uid, set-gid and sticky bits are dropped, as sftp and scp do.
PERMISSIONS = 0o777


class LocalFile:
    """A file being written: under a temporary name in its directory, unless in place.

    So a file appears under its name when it is complete.

    Args:
        path: its path.
        mode: the mode of a new file, less the umask. A file that is replaced passes on its mode,
            and its owner and group if this user may set them.
        inplace: whether to write it under its own name.

    Raises:
        OSError: from every method.
    """

    def __init__(self, path: str, mode: int, inplace: bool) -> None:
        self.path = path
        directory, name = os.path.split(path)
        kept = _status_of(path)
        self._kept_mode = None if kept is None else kept.st_mode
        self._kept_owner = None if kept is None or inplace else (kept.st_uid, kept.st_gid)
        if not platform.POSIX_FILES:
            # All that Windows keeps of a mode is whether the file is read-only: then the temporary
            # file could be neither renamed nor removed.
            mode = 0o666
            if self._kept_mode is not None and not self._kept_mode & stat.S_IWUSR:
                # Windows refuses to replace it, but only at the end of the copy.
                raise PermissionError(errno.EACCES, "The file is read-only", path)
        special_bits = 0 if self._kept_mode is None else self._kept_mode & 0o7000
        if inplace:
            if not _NO_FOLLOW and os.path.islink(path):
                raise OSError(errno.ELOOP, "It is a symbolic link", path)
            self._written = path
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NO_FOLLOW | _NO_WAITING
        else:
            token = token_hex(6)
            self._written = os.path.join(
                directory, os.fsdecode(temporary_name(os.fsencode(name), token))
            )
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._descriptor: Optional[int] = os.open(self._written, flags | _BINARY, mode & 0o777)
        if inplace and self._kept_mode is not None:
            if special_bits and platform.POSIX_FILES:
                # Before the first byte comes: the copy may stop in the middle. Only the owner may
                # do this; if anybody else writes to the file, the system drops the bits.
                with suppress(PermissionError):
                    os.fchmod(self._descriptor, self._kept_mode & PERMISSIONS)
            self._kept_mode = None  # the file has it

    def write(self, offset: int, data: memoryview) -> None:
        """Write a piece of the file."""
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
        """Give the complete file its attributes and its name.

        Args:
            times: access and modification time in seconds; None to leave them.
            mode: its mode; None for the mode of the file that it replaces, if any. Only its nine
                permission bits are used.
        """
        if platform.POSIX_FILES:
            keeps_group = self._keep_owner()
            if mode is None and self._kept_mode is not None:
                mode = self._kept_mode
                if not keeps_group:
                    # Another group may do no more than everybody.
                    mode &= ~0o070 | (mode & 0o007) << 3
            if mode is not None:
                os.fchmod(self._open(), mode & PERMISSIONS)
        self._close()
        if times is not None:
            os.utime(self._written, times)
        if self._written != self.path:
            os.replace(self._written, self.path)
            self._written = self.path

    def _keep_owner(self) -> bool:
        """Give the file the owner and group of the one that it replaces, as far as permitted.

        Returns:
            False if it has another group than that file.
        """
        if self._kept_owner is None:
            return True
        descriptor = self._open()
        user, group = self._kept_owner
        # Only root may give files away; others may choose among their groups.
        for owner in ((user, group), (-1, group)):
            with suppress(OSError):
                os.fchown(descriptor, *owner)
                return True
        return os.fstat(descriptor).st_gid == group

    def _close(self) -> None:
        """Close the descriptor, once: it is closed also if this raises (disk quotas, NFS)."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def discard(self) -> None:
        """Remove an incomplete file. Harmless after :meth:`finish`."""
        with suppress(OSError):
            self._close()
        if self._written != self.path:
            with suppress(OSError):
                os.remove(self._written)
            self._written = self.path


def _status_of(path: str) -> Optional[os.stat_result]:
    """Return the status of an existing file; None if there is none, or a link."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def make_directory(path: str, mode: int) -> None:
    """Make a directory, unless it exists.

    Args:
        path: its path.
        mode: the mode of a new directory, less the umask; its owner can always write to it.

    Raises:
        NotADirectoryError: the path is something else, such as a link: it could lead out of the
            destination.
        OSError: it cannot be made.
    """
    try:
        os.mkdir(path, mode & 0o777 | stat.S_IRWXU)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(None, "Not a directory") from None


def why_link_leads_out(top: str, directory: str, target: str) -> Optional[str]:
    """Say why a symbolic link must not be made in a copied tree; None if it stays in the tree.

    Its text alone does not tell its target: another link in its path may lead upwards. So a '..' is
    accepted only right after real directories, which no copy ever replaces with links. Then the
    link leads into the tree also if links on its way are made or changed later.

    Args:
        top: the tree.
        directory: the real directory of the link, in the tree.
        target: the link's target, relative.
    """
    place = os.path.normpath(directory)
    beyond = False
    for part in target.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            place = os.path.join(place, part)
            beyond = beyond or not _is_real_directory(place)
        elif beyond:
            return "it goes back ('..') from something else than a directory of the copy"
        elif place == os.path.normpath(top):
            return "it leads out of the copied directory"
        else:
            place = os.path.dirname(place)
    # A link that was there before may lead anywhere. (Windows keeps the prefix of a long path.)
    tree, reached = (plain(os.path.realpath(path)) for path in (top, place))
    if reached != tree and not reached.startswith(os.path.join(tree, "")):
        return "it leads out of the copied directory, through a link"
    return None


def _is_real_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def make_link(target: str, path: str) -> None:
    """Make a symbolic link, which replaces a file or link of the same name.

    Args:
        target: its target, with '/'.
        path: its path.

    Raises:
        OSError: it cannot be made.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(
        directory, os.fsdecode(temporary_name(os.fsencode(name), token_hex(6)))
    )
    # On Windows, a link to a directory is of another kind than a link to a file.
    leads_to_directory = os.path.isdir(os.path.join(directory, target))
    os.symlink(local_target(target, platform.WINDOWS_PATHS), temporary, leads_to_directory)
    try:
        os.replace(temporary, path)
    except OSError:
        os.remove(temporary)
        raise
