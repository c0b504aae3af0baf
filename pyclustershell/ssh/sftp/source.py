"""The local source of a copy: scanned once and read once for any number of nodes."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, Optional

from ... import platform
from .localpaths import join
from .names import remote_target

# How many bytes of the files are kept for slower nodes. For a node that lags behind further, they
# are read again, mostly from the system's own cache.
_KEPT = 8 << 20

# How many bytes are read beyond a file's stated size, to see whether it has ended.
_BEYOND = 4 << 10

# How many files are kept open at most.
_OPEN_FILES = 32

# O_BINARY: otherwise Windows translates line ends. O_NONBLOCK: a file that has become a pipe since
# the scan must not block.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Kind(Enum):
    """The kind of an entry of a source."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    REFUSED = "refused"


class Entry(NamedTuple):
    """A file, directory or link to copy.

    Attributes:
        kind: its kind.
        local: its path on this host.
        relative: its path relative to the source, with '/'; b'' for the source itself.
        size: in bytes, as the system states it. Files of /proc report 0, files of /sys one page,
            and a log may grow: a file is read to its end.
        mode: its permissions and type.
        atime: access time, in seconds.
        mtime: modification time, in seconds.
        target: the target of a link; or, if the entry is refused, the reason.
        identity: device and inode, to notice that another file has its name.
    """

    kind: Kind
    local: str
    relative: bytes
    size: int = 0
    mode: int = 0
    atime: int = 0
    mtime: int = 0
    target: bytes = b""
    identity: tuple[int, int] = (0, 0)


class SourceError(Exception):
    """A file of the source cannot be read; the text is the reason."""


def _identity(status: os.stat_result) -> tuple[int, int]:
    return (status.st_dev, status.st_ino)


def _reason(error: OSError) -> bytes:
    return (error.strerror or str(error)).encode()


def _read_at(descriptor: int, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


class Source:
    """A file or a directory of this host, for any number of nodes.

    An entry is looked up, or a block read, for the first node that needs it; the others get the
    same. Reading a local file can make the engine wait for the disk: no system avoids that without
    threads.

    Args:
        path: the file or directory.
        follow: True to follow symbolic links; False to copy them as links. The path
            itself is followed in any case, as scp does.
    """

    def __init__(self, path: str, follow: bool = True) -> None:
        self.path = path
        self._follow = follow
        self._entries: list[Entry] = []
        self._scan: Optional[Iterator[Entry]] = None
        self._blocks: OrderedDict[tuple[str, int, int], memoryview] = OrderedDict()
        self._kept = 0
        self._files: OrderedDict[str, int] = OrderedDict()
        # The ends of files that have been read to the end: the same for all nodes.
        self._ends: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Source {self.path!r}: {len(self._entries)} entries, {self._kept} bytes kept>"

    # -- entries --

    def entry(self, index: int) -> Optional[Entry]:
        """Return the index-th entry, None after the last; a directory precedes its contents."""
        if self._scan is None:
            self._scan = self._scan_all()
        while len(self._entries) <= index:
            found = next(self._scan, None)
            if found is None:
                return None
            self._entries.append(found)
        return self._entries[index]

    def _scan_all(self) -> Iterator[Entry]:
        yield from self._look(join("", self.path), b"", ())

    def _look(
        self, path: str, relative: bytes, above: tuple[tuple[int, int], ...]
    ) -> Iterator[Entry]:
        """Yield the entry of a path, and the entries below it.

        Args:
            path: the path.
            relative: the same path, relative to the source.
            above: device and inode of the directories above, to notice links that lead back.
        """
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                if not self._follow and relative:
                    text = remote_target(os.readlink(path), platform.WINDOWS_PATHS)
                    target = os.fsencode(text)
                    yield Entry(Kind.LINK, path, relative, target=target)
                    return
                status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                if identity in above and status.st_ino:
                    yield Entry(
                        Kind.REFUSED,
                        path,
                        relative,
                        target=b"the link leads back to a directory that it is in",
                    )
                    return
                # List it before the yield: a directory that cannot be read is not made on nodes.
                names = sorted(os.listdir(path), key=os.fsencode)
                yield self._entry(Kind.DIRECTORY, path, relative, status)
            elif stat.S_ISREG(status.st_mode):
                yield self._entry(Kind.FILE, path, relative, status)
                return
            else:
                yield Entry(Kind.REFUSED, path, relative, target=b"not a regular file")
                return
        except OSError as error:
            yield Entry(Kind.REFUSED, path, relative, target=_reason(error))
            return
        for name in names:
            below = os.fsencode(name)
            yield from self._look(
                join(path, name),
                relative + b"/" + below if relative else below,
                (*above, identity),
            )

    @staticmethod
    def _entry(kind: Kind, path: str, relative: bytes, status: os.stat_result) -> Entry:
        is_file = kind is Kind.FILE
        return Entry(
            kind,
            path,
            relative,
            status.st_size,
            # Windows guesses from the end of the name whether a file is a program.
            status.st_mode if platform.POSIX_FILES or not is_file else status.st_mode & ~0o111,
            int(status.st_atime),
            int(status.st_mtime),
            identity=_identity(status),
        )

    # -- contents --

    def block(self, entry: Entry, offset: int, size: int) -> memoryview:
        """Return bytes of a file.

        All nodes get the same: a file that grows ends for all at the end that was reached first.

        Args:
            entry: the file.
            offset: of the first byte.
            size: how many bytes at most.

        Returns:
            The bytes; fewer than ``size`` only if the file ends, none at its end.

        Raises:
            SourceError: it cannot be read, or it was replaced or became shorter since it was
                scanned.
        """
        key = (entry.local, offset, size)
        kept = self._blocks.get(key)
        if kept is None:
            size = min(size, self._ends.get(entry.local, offset + size) - offset)
            if size <= 0:
                return memoryview(b"")
            kept = self._blocks[key] = memoryview(self._read(entry, offset, size))
            self._kept += len(kept)
            while self._kept > _KEPT and len(self._blocks) > 1:
                _, oldest = self._blocks.popitem(last=False)
                self._kept -= len(oldest)
        return kept

    def _read(self, entry: Entry, offset: int, size: int) -> bytes:
        try:
            descriptor = self._open(entry)
            # Do not ask for much more than there is: Python allocates as many bytes.
            data = _read_at(descriptor, offset, min(size, max(entry.size - offset, _BEYOND)))
            while len(data) < size:
                # Only an empty answer is the end: /proc answers in pieces.
                more = _read_at(descriptor, offset + len(data), min(size - len(data), _BEYOND))
                if not more:
                    self._check_end(entry, descriptor, offset + len(data))
                    break
                data += more
        except OSError as error:
            raise SourceError(error.strerror or str(error)) from error
        return data

    def _check_end(self, entry: Entry, descriptor: int, end: int) -> None:
        known = self._ends.setdefault(entry.local, end)
        if end < known or (end < entry.size and os.fstat(descriptor).st_size < entry.size):
            raise SourceError("it became shorter while it was copied")

    def _open(self, entry: Entry) -> int:
        descriptor = self._files.get(entry.local)
        if descriptor is not None:
            self._files.move_to_end(entry.local)
            return descriptor
        descriptor = os.open(entry.local, _FLAGS)
        if _identity(os.fstat(descriptor)) != entry.identity:
            os.close(descriptor)
            raise SourceError("another file has its name since the copy began")
        self._files[entry.local] = descriptor
        while len(self._files) > _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        return descriptor

    # -- the end --

    def close(self) -> None:
        """Drop kept blocks and close files: all nodes are done. It can be used again."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        self._ends.clear()
        self._blocks.clear()
        self._kept = 0
